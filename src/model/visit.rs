//! Visits: what came of them, and what is kept of all past ones.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Names the visit that a claim handed out. Stays the same for one origin's visits; the
/// [`VisitToken`] tells one claim from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct VisitId(pub u64);

/// The fencing token of a claim: grows with every claim, and only the newest one of a visit may
/// heartbeat or complete it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct VisitToken(pub u64);

impl std::fmt::Display for VisitId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for VisitToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How a visit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VisitStatus {
    /// The whole origin was archived.
    Successful,
    /// A part of it was.
    Partial,
    /// Nothing was; it may work another time.
    Failed,
    /// Upstream says that there is no such origin.
    NotFound,
}

impl VisitStatus {
    /// Whether the visit archived at least a part.
    #[must_use]
    pub fn archived_something(self) -> bool {
        matches!(self, Self::Successful | Self::Partial)
    }

    /// As in JSON: `successful`, `partial`, `failed`, `not_found`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Successful => "successful",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::NotFound => "not_found",
        }
    }
}

/// What a worker reports of a visit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// Which visit.
    pub visit: VisitId,
    /// The token of the claim it answers.
    pub token: VisitToken,
    /// How it ended.
    pub status: VisitStatus,
    /// When it ended.
    pub at: Timestamp,
    /// Names the state of the origin that was seen: two visits with equal snapshots saw no change.
    #[serde(default)]
    pub snapshot: Option<String>,
    /// Whether the worker found a change, where it can tell. Otherwise the snapshot decides, and
    /// without either the visit is no evidence of change or its absence.
    #[serde(default)]
    pub changed: Option<bool>,
    /// When the newest change was made upstream, where the worker can tell.
    #[serde(default)]
    pub changed_at: Option<Timestamp>,
    /// What went wrong.
    #[serde(default)]
    pub error: Option<String>,
}

impl Outcome {
    /// A report with nothing but a status.
    #[must_use]
    pub fn new(visit: VisitId, token: VisitToken, status: VisitStatus, at: Timestamp) -> Self {
        Self { visit, token, status, at, snapshot: None, changed: None, changed_at: None, error: None }
    }

    /// Names the state of the origin that was seen.
    #[must_use]
    pub fn with_snapshot(mut self, snapshot: impl Into<String>) -> Self {
        self.snapshot = Some(snapshot.into());
        self
    }

    /// Says whether there was a change.
    #[must_use]
    pub fn with_changed(mut self, changed: bool) -> Self {
        self.changed = Some(changed);
        self
    }

    /// Says what went wrong.
    #[must_use]
    pub fn with_error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }
}

/// What is known of all visits of one (url, visit type).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VisitStats {
    /// When the last visit ended, however it did.
    pub last_visit: Option<Timestamp>,
    /// When the last visit ended that archived the whole origin.
    pub last_successful: Option<Timestamp>,
    /// How the last visit ended.
    pub last_status: Option<VisitStatus>,
    /// The last snapshot that a visit named.
    pub last_snapshot: Option<String>,
    /// Visits failed or not found in a row since one archived something.
    pub failures_in_a_row: u32,
    /// Visits counted in all.
    pub visits: u64,
}
