//! Origins: what a lister says of one, and what a store keeps.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::{JsonObject, ListerId, Timestamp};

/// The kind of visit an origin wants: `git`, `hg`, `pypi` … as Software Heritage names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VisitType(String);

/// A visit type that is empty, too long, or holds other characters than `a-z 0-9 - _ +`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a visit type: {0:?} (1 to 32 of a-z, 0-9, '-', '_', '+')")]
pub struct VisitTypeError(String);

impl VisitType {
    /// Checks and makes a visit type.
    ///
    /// # Errors
    /// [`VisitTypeError`] when it is empty, over 32 bytes, or not in `a-z 0-9 - _ +`.
    pub fn new(name: impl Into<String>) -> Result<Self, VisitTypeError> {
        let name = name.into();
        let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_+".contains(&b);
        if name.is_empty() || name.len() > 32 || !name.bytes().all(ok) {
            return Err(VisitTypeError(name.chars().take(64).collect()));
        }
        Ok(Self(name))
    }

    /// The type of nearly every forge: `git`.
    #[must_use]
    pub fn git() -> Self {
        Self("git".to_owned())
    }

    /// A type that a lister of this crate knows by name.
    pub(crate) fn known(name: &'static str) -> Self {
        debug_assert!(Self::new(name).is_ok(), "{name:?}");
        Self(name.to_owned())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VisitType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for VisitType {
    type Error = VisitTypeError;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        Self::new(s)
    }
}

impl std::str::FromStr for VisitType {
    type Err = VisitTypeError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

impl From<VisitType> for String {
    fn from(v: VisitType) -> Self {
        v.0
    }
}

/// The unit of scheduling: one URL, visited in one way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OriginKey {
    /// The origin's URL, exactly as listed.
    pub url: String,
    /// How it is visited.
    pub visit_type: VisitType,
}

impl OriginKey {
    /// A key of a URL and a visit type.
    pub fn new(url: impl Into<String>, visit_type: VisitType) -> Self {
        Self { url: url.into(), visit_type }
    }
}

impl fmt::Display for OriginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.url, self.visit_type)
    }
}

/// What a lister says of one origin on one page.
///
/// ```
/// use lamplighter::model::{NewOrigin, VisitType};
/// let o = NewOrigin::new("https://example.org/r.git", VisitType::git()).with_fork(true);
/// assert!(o.enabled && o.is_fork == Some(true));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewOrigin {
    /// Its URL, exactly as a visit is to use it.
    pub url: String,
    /// How it is visited.
    pub visit_type: VisitType,
    /// When upstream last changed, where the page says so. Never "now".
    pub last_update: Option<Timestamp>,
    /// What the loader is given besides the URL.
    pub extra_loader_arguments: JsonObject,
    /// Pieces of arguments whose whole is spread over several parts of the listing.
    pub artifacts: Vec<Artifact>,
    /// Whether it is a fork, where known.
    pub is_fork: Option<bool>,
    /// What it was forked from, where known.
    pub forked_from_url: Option<String>,
    /// The forge's own id of it, which survives renames: one for each origin of a visit type, and
    /// always written in the same form. What is listed under a known id is that origin, whatever its
    /// URL; what is listed under a known URL with another id is another origin.
    pub forge_id: Option<String>,
    /// Whether upstream calls it archived (read-only), where known.
    pub archived: Option<bool>,
    /// Whether upstream copies it from elsewhere, where known.
    pub mirror: Option<bool>,
    /// Whether nothing was ever pushed to it, where known.
    pub empty: Option<bool>,
    /// Whether the lister wants it visited.
    pub enabled: bool,
}

impl NewOrigin {
    /// An enabled origin of which nothing more is known.
    pub fn new(url: impl Into<String>, visit_type: VisitType) -> Self {
        Self {
            url: url.into(),
            visit_type,
            last_update: None,
            extra_loader_arguments: JsonObject::new(),
            artifacts: Vec::new(),
            is_fork: None,
            forked_from_url: None,
            forge_id: None,
            archived: None,
            mirror: None,
            empty: None,
            enabled: true,
        }
    }

    /// Says when upstream last changed.
    #[must_use]
    pub fn with_last_update(mut self, at: impl Into<Option<Timestamp>>) -> Self {
        self.last_update = at.into();
        self
    }

    /// Says whether it is a fork.
    #[must_use]
    pub fn with_fork(mut self, is_fork: impl Into<Option<bool>>) -> Self {
        self.is_fork = is_fork.into();
        self
    }

    /// Says what it was forked from; that makes it a fork.
    #[must_use]
    pub fn with_forked_from(mut self, url: impl Into<String>) -> Self {
        self.forked_from_url = Some(url.into());
        self.is_fork = Some(true);
        self
    }

    /// Gives the forge's own id.
    #[must_use]
    pub fn with_forge_id(mut self, id: impl fmt::Display) -> Self {
        self.forge_id = Some(id.to_string());
        self
    }

    /// Says whether upstream calls it archived.
    #[must_use]
    pub fn with_archived(mut self, archived: impl Into<Option<bool>>) -> Self {
        self.archived = archived.into();
        self
    }

    /// Says whether upstream copies it from elsewhere.
    #[must_use]
    pub fn with_mirror(mut self, mirror: impl Into<Option<bool>>) -> Self {
        self.mirror = mirror.into();
        self
    }

    /// Says whether nothing was ever pushed to it.
    #[must_use]
    pub fn with_empty(mut self, empty: impl Into<Option<bool>>) -> Self {
        self.empty = empty.into();
        self
    }

    /// Adds one loader argument.
    #[must_use]
    pub fn with_argument(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra_loader_arguments.insert(name.into(), value.into());
        self
    }

    /// Adds a piece of a loader argument that is put together over several parts of the listing.
    #[must_use]
    pub fn with_artifact(mut self, artifact: Artifact) -> Self {
        self.artifacts.push(artifact);
        self
    }

    /// Says whether the lister wants it visited.
    #[must_use]
    pub fn with_enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// The key of this origin.
    #[must_use]
    pub fn key(&self) -> OriginKey {
        OriginKey::new(&self.url, self.visit_type.clone())
    }
}

/// One piece of a loader argument: the argument `field` is an object or a list of all pieces with
/// that field, over every part of the listing that names the origin, in the order of their keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Artifact {
    /// The argument's name.
    pub field: String,
    /// The piece's key: unique in the field, and its place in the order.
    pub key: String,
    /// The piece.
    pub value: Value,
    /// The shape of the whole argument.
    pub shape: ArtifactShape,
}

/// The shape of an argument that is put together from pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ArtifactShape {
    /// An object: key to value.
    Object,
    /// A list of the values in the order of their keys.
    List,
}

impl Artifact {
    /// A piece of an argument that is an object.
    pub fn in_object(field: impl Into<String>, key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { field: field.into(), key: key.into(), value: value.into(), shape: ArtifactShape::Object }
    }

    /// A piece of an argument that is a list.
    pub fn in_list(field: impl Into<String>, key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { field: field.into(), key: key.into(), value: value.into(), shape: ArtifactShape::List }
    }
}

/// Why an origin is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GoneReason {
    /// Upstream says that it was deleted.
    Deleted,
    /// A complete listing of everything no longer names it.
    NotListed,
    /// Upstream says that it is no longer public.
    Private,
    /// Upstream blocked it.
    Blocked,
    /// Its URL is another's now, and nothing was listed under its own id since.
    NameReused,
}

/// When and why a lister said that an origin is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Gone {
    /// When it was found to be gone.
    pub at: Timestamp,
    /// Why.
    pub reason: GoneReason,
}

impl Gone {
    /// Gone since `at` for `reason`.
    #[must_use]
    pub fn new(at: Timestamp, reason: GoneReason) -> Self {
        Self { at, reason }
    }
}

/// When and why visits of an origin were stopped by something other than its lister.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Disabled {
    /// Since when.
    pub at: Timestamp,
    /// Why, as told.
    pub reason: String,
}

impl Disabled {
    /// Disabled since `at` for `reason`.
    pub fn new(at: Timestamp, reason: impl Into<String>) -> Self {
        Self { at, reason: reason.into() }
    }
}

/// What a store keeps of one origin, as one lister lists it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedOrigin {
    /// Who lists it.
    pub lister: ListerId,
    /// Its URL.
    pub url: String,
    /// The URLs that it had before, the oldest first.
    pub former_urls: Vec<String>,
    /// How it is visited.
    pub visit_type: VisitType,
    /// What the loader is given besides the URL: own arguments and artifacts put together.
    pub extra_loader_arguments: JsonObject,
    /// When upstream last changed, as listed: the newest over its parts.
    pub last_update: Option<Timestamp>,
    /// What the lister says, and nobody else writes.
    pub enabled: bool,
    /// Set when failures stopped its visits, for every lister of this (url, visit type) alike.
    pub disabled_by_failures: Option<Disabled>,
    /// Set when a person stopped its visits.
    pub disabled_by_hand: Option<Disabled>,
    /// When this lister first listed it.
    pub first_seen: Timestamp,
    /// When this lister last listed it.
    pub last_seen: Timestamp,
    /// Whether it is a fork, where known.
    pub is_fork: Option<bool>,
    /// What it was forked from, where known.
    pub forked_from_url: Option<String>,
    /// The forge's own id of it, which survives renames.
    pub forge_id: Option<String>,
    /// Whether upstream calls it archived, where known.
    pub archived: Option<bool>,
    /// Whether upstream copies it from elsewhere, where known.
    pub mirror: Option<bool>,
    /// Whether nothing was ever pushed to it, where known.
    pub empty: Option<bool>,
    /// Set when it is gone upstream.
    pub gone: Option<Gone>,
}

impl ListedOrigin {
    /// An origin as a lister first saw it at `now`.
    #[must_use]
    pub fn new(lister: ListerId, origin: NewOrigin, now: Timestamp) -> Self {
        Self {
            lister,
            url: origin.url,
            former_urls: Vec::new(),
            visit_type: origin.visit_type,
            extra_loader_arguments: origin.extra_loader_arguments,
            last_update: origin.last_update,
            enabled: origin.enabled,
            disabled_by_failures: None,
            disabled_by_hand: None,
            first_seen: now,
            last_seen: now,
            is_fork: origin.is_fork,
            forked_from_url: origin.forked_from_url,
            forge_id: origin.forge_id,
            archived: origin.archived,
            mirror: origin.mirror,
            empty: origin.empty,
            gone: None,
        }
    }

    /// The key of this origin.
    #[must_use]
    pub fn key(&self) -> OriginKey {
        OriginKey::new(&self.url, self.visit_type.clone())
    }
}

/// Why a URL is no origin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum UrlProblem {
    /// Nothing there.
    #[error("the URL is empty")]
    Empty,
    /// Longer than 4 KiB.
    #[error("the URL is over 4096 bytes long")]
    TooLong,
    /// A control character or NUL in it.
    #[error("the URL holds a control character")]
    Control,
    /// Not an absolute URL with a host: relative, or `git@host:path`.
    #[error("the URL has no host")]
    NoHost,
    /// `ssh:` cannot be visited without a secret.
    #[error("ssh URLs cannot be visited")]
    Ssh,
}

/// Tells whether a URL can be an origin's: absolute, with a host, no `ssh`, at most 4 KiB, no
/// control characters. Nothing is changed in it: an origin is stored as its lister gave it.
///
/// # Errors
/// The [`UrlProblem`].
///
/// ```
/// use lamplighter::model::{UrlProblem, check_origin_url};
/// assert!(check_origin_url("https://example.org/c++ .git").is_ok());
/// assert_eq!(check_origin_url("git@example.org:r.git"), Err(UrlProblem::NoHost));
/// ```
pub fn check_origin_url(url: &str) -> Result<(), UrlProblem> {
    if url.is_empty() {
        return Err(UrlProblem::Empty);
    }
    if url.len() > 4096 {
        return Err(UrlProblem::TooLong);
    }
    if url.chars().any(char::is_control) {
        return Err(UrlProblem::Control);
    }
    match Url::parse(url) {
        Ok(u) if u.scheme() == "ssh" => Err(UrlProblem::Ssh),
        Ok(u) if u.host_str().is_some_and(|h| !h.is_empty()) => Ok(()),
        _ => Err(UrlProblem::NoHost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_no_origins_are_named() {
        for (url, problem) in [
            ("", UrlProblem::Empty),
            ("/relative", UrlProblem::NoHost),
            ("git@host:path", UrlProblem::NoHost),
            ("ssh://host/path", UrlProblem::Ssh),
            ("https://host/\0", UrlProblem::Control),
            ("mailto:a@b", UrlProblem::NoHost),
        ] {
            assert_eq!(check_origin_url(url), Err(problem), "{url}");
        }
        assert_eq!(check_origin_url(&format!("https://h/{}", "x".repeat(5000))), Err(UrlProblem::TooLong));
        for url in ["https://h/ü", "git://h/r", "rsync://h/m", "opam+https://h/", "ftp://u:p@h/x"] {
            assert_eq!(check_origin_url(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn visit_types_are_plain_words() {
        assert!(VisitType::new("git-checkout").is_ok());
        assert!(VisitType::new("Git").is_err());
        assert!(VisitType::new("").is_err());
        assert!(serde_json::from_str::<VisitType>("\"a b\"").is_err());
    }
}
