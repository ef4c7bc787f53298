//! Who lists: one lister of one instance, and what it remembers between runs.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{JsonObject, Timestamp};

/// Names a lister of an instance: the pair under which its state is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListerKey {
    /// The lister's name, as registered: `github`, `cgit`.
    pub name: String,
    /// The instance: usually a host name, with a scope after it where only a part is listed.
    pub instance: String,
}

impl ListerKey {
    /// A key of a lister's name and an instance's.
    pub fn new(name: impl Into<String>, instance: impl Into<String>) -> Self {
        Self { name: name.into(), instance: instance.into() }
    }

    /// The name of a part of an instance that is listed by itself: `github/org=rust-lang`.
    ///
    /// ```
    /// use lamplighter::model::ListerKey;
    /// let part = ListerKey::scoped_instance("gitlab.example", "group", "tools/web");
    /// assert_eq!(part, "gitlab.example/group=tools/web");
    /// assert_eq!(ListerKey::new("gitlab", part).whole_instance(), "gitlab.example");
    /// ```
    #[must_use]
    pub fn scoped_instance(instance: &str, kind: &str, scope: &str) -> String {
        format!("{instance}/{kind}={scope}")
    }

    /// The instance that this is a part of; the instance itself where it is listed whole.
    #[must_use]
    pub fn whole_instance(&self) -> &str {
        self.instance.split_once('/').map_or(&self.instance, |(whole, _)| whole)
    }

    /// The id of this lister: a version 5 UUID of its name and instance, so that every store, and
    /// every machine, gives the same lister the same id.
    ///
    /// ```
    /// use lamplighter::model::ListerKey;
    /// let id = ListerKey::new("github", "github").id();
    /// assert_eq!(id, ListerKey::new("github", "github").id());
    /// assert_ne!(id, ListerKey::new("gitlab", "github").id());
    /// ```
    #[must_use]
    pub fn id(&self) -> ListerId {
        // The length in front keeps ("a", "b/c") and ("a/b", "c") apart.
        let name = format!("lamplighter:{}:{}/{}", self.name.len(), self.name, self.instance);
        ListerId(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()))
    }
}

impl std::fmt::Display for ListerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.name, self.instance)
    }
}

/// The id of a lister of an instance. See [`ListerKey::id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct ListerId(pub Uuid);

impl std::fmt::Display for ListerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What is stored of a lister.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListerRecord {
    /// Its id.
    pub id: ListerId,
    /// Its name, as registered.
    pub name: String,
    /// The instance that it lists.
    pub instance_name: String,
    /// What it remembers between runs: a JSON object, empty for one that remembers nothing.
    pub current_state: JsonObject,
    /// The form of `current_state` (see `Incremental::state_form`).
    pub state_form: u32,
    /// When it was first seen by the store.
    pub created: Timestamp,
    /// When its row last changed.
    pub updated: Timestamp,
    /// When its last `Complete` run ended. A run that ended otherwise does not move it.
    pub last_finished: Option<Timestamp>,
    /// Start of the last complete run that saw every live origin, or every change (coverage `All`
    /// or `Changed`): up to then, what it listed and has no news is known to be unchanged.
    pub evidence_at: Option<Timestamp>,
    /// Counts the changes of this row; an update names the one it read.
    pub revision: u64,
}

impl ListerRecord {
    /// A lister that has never run.
    #[must_use]
    pub fn new(key: &ListerKey, now: Timestamp) -> Self {
        Self {
            id: key.id(),
            name: key.name.clone(),
            instance_name: key.instance.clone(),
            current_state: JsonObject::new(),
            state_form: 1,
            created: now,
            updated: now,
            last_finished: None,
            evidence_at: None,
            revision: 0,
        }
    }

    /// The key of this lister.
    #[must_use]
    pub fn key(&self) -> ListerKey {
        ListerKey::new(&self.name, &self.instance_name)
    }
}
