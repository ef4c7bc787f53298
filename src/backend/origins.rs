//! What queries and imports say to a store.

use serde::{Deserialize, Serialize};

use crate::model::{JsonObject, ListedOrigin, ListerKey, Timestamp, VisitStatus, VisitType};
use crate::policy::Queued;

/// Which listed origins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OriginQuery {
    /// Of this lister.
    pub lister: Option<String>,
    /// Of this instance.
    pub instance: Option<String>,
    /// Of this visit type.
    pub visit_type: Option<VisitType>,
    /// With this URL. A former one finds the origin that bears another one now, as long as nobody
    /// else bears it.
    pub url: Option<String>,
    /// Whose URL begins so, or a former one of its.
    pub url_prefix: Option<String>,
    /// Gone and disabled ones too.
    pub all: bool,
}

impl OriginQuery {
    /// Everything, gone and disabled ones too.
    #[must_use]
    pub fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }
}

/// A place in the order of origins. Opaque: give back what a page gave.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct PageToken(pub Vec<u8>);

/// A page of listed origins.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OriginPage {
    /// The origins, each with the key of its lister.
    pub origins: Vec<(ListerKey, ListedOrigin)>,
    /// Where the next page begins; none after the last one.
    pub next: Option<PageToken>,
}

impl OriginPage {
    /// A page: stores make them.
    #[must_use]
    pub fn new(origins: Vec<(ListerKey, ListedOrigin)>, next: Option<PageToken>) -> Self {
        Self { origins, next }
    }
}

/// An origin brought from elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImportedOrigin {
    /// Who listed it.
    pub lister: String,
    /// The instance it was listed on.
    pub instance: String,
    /// Its URL.
    pub url: String,
    /// How it is visited.
    pub visit_type: VisitType,
    /// When upstream last changed, where known.
    #[serde(default)]
    pub last_update: Option<Timestamp>,
    /// When it was first listed; now where unknown.
    #[serde(default)]
    pub first_seen: Option<Timestamp>,
    /// When it was last listed; when it was first, where unknown. This and what follows are taken where
    /// its lister does not list it here yet: what a lister says itself is newer.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
    /// Whether its lister wants it visited.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether it is a fork, where known.
    #[serde(default)]
    pub is_fork: Option<bool>,
    /// The URL of what it is a fork of, where known.
    #[serde(default)]
    pub forked_from_url: Option<String>,
    /// What its loader is given besides the URL.
    #[serde(default)]
    pub extra_loader_arguments: JsonObject,
    /// What the archive knows of its visits.
    #[serde(default)]
    pub visits: Option<ImportedVisits>,
}

fn yes() -> bool {
    true
}

impl ImportedOrigin {
    /// An origin of which nothing more is known.
    pub fn new(lister: &ListerKey, url: impl Into<String>, visit_type: VisitType) -> Self {
        Self {
            lister: lister.name.clone(),
            instance: lister.instance.clone(),
            url: url.into(),
            visit_type,
            last_update: None,
            first_seen: None,
            last_seen: None,
            enabled: true,
            is_fork: None,
            forked_from_url: None,
            extra_loader_arguments: JsonObject::new(),
            visits: None,
        }
    }
}

/// What the archive knows of an origin's visits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct ImportedVisits {
    /// When the last visit ended, however it did.
    pub last_visit: Option<Timestamp>,
    /// When the last visit ended that archived the whole origin.
    pub last_successful: Option<Timestamp>,
    /// How the last visit ended.
    pub status: Option<VisitStatus>,
    /// The last snapshot.
    pub last_snapshot: Option<String>,
    /// The visit that was sent to somebody elsewhere and is not known to have ended.
    pub under_way: Option<UnderWay>,
    /// Its place in another scheduler's queue of origins without dates: for policies with such a queue.
    pub queued: Option<Queued>,
}

/// A visit that somebody elsewhere makes: nobody here gets it until that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnderWay {
    /// Who makes it, as shown.
    pub owner: String,
    /// When it was sent.
    pub since: Timestamp,
    /// When it is given up.
    pub until: Timestamp,
}

impl UnderWay {
    /// A visit sent at a time, and given up at another.
    pub fn new(owner: impl Into<String>, since: Timestamp, until: Timestamp) -> Self {
        Self { owner: owner.into(), since, until }
    }
}

/// What an import changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Imported {
    /// Origins not known before.
    pub new: u64,
    /// Known origins of which something changed.
    pub changed: u64,
    /// Known origins of which nothing did.
    pub unchanged: u64,
    /// Origins whose URL is no origin's.
    pub refused: u64,
}

impl Imported {
    /// Adds another import's counts.
    pub fn add(&mut self, other: Self) {
        self.new += other.new;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.refused += other.refused;
    }
}

/// A place in the order of changes; zero is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct ChangeToken(pub u64);

/// What kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeKind {
    /// Listed for the first time.
    New,
    /// Something that its lister says of it changed.
    Changed,
    /// Gone upstream.
    Gone,
    /// Listed again after it was gone, under the same URL or another.
    Back,
    /// Listed under another URL.
    Renamed,
}

/// A change of a listed origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Change {
    /// Its place in the order.
    pub token: ChangeToken,
    /// When it was committed.
    pub at: Timestamp,
    /// What kind.
    pub kind: ChangeKind,
    /// Who lists it.
    pub lister: String,
    /// The instance it is listed on.
    pub instance: String,
    /// Its URL after the change.
    pub url: String,
    /// The URL that it had before, where the change gave it another one.
    #[serde(default)]
    pub old_url: Option<String>,
    /// How it is visited.
    pub visit_type: VisitType,
}
