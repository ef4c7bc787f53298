//! Why a run could not be run.

use std::fmt;

use crate::backend::{BackendError, BackendErrorKind};
use crate::lister::ListerError;
use crate::model::ListerKey;

/// What kind of failure ended a run without an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunErrorKind {
    /// The store failed. What was committed is kept; the next run continues.
    Store,
    /// Somebody else has begun the same run: it is theirs now.
    TakenOver,
    /// A stored state cannot be read, or a cursor not stored.
    Lister,
    /// The thread that read a page is gone.
    Reader,
    /// Shards were asked for, and what is listed has no ranges that could be listed beside each other.
    Shards,
}

/// A run that has no outcome, and why.
#[derive(Debug)]
pub struct RunError {
    kind: RunErrorKind,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl RunError {
    pub(crate) fn reader(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: RunErrorKind::Reader, source: source.into() }
    }

    pub(crate) fn no_shards(lister: &ListerKey) -> Self {
        let source = format!("{lister} has no ranges that could be listed beside each other");
        Self { kind: RunErrorKind::Shards, source: source.into() }
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> RunErrorKind {
        self.kind
    }

    /// Whether the run may work when begun again as it is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind == RunErrorKind::Store
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RunErrorKind::Store => "the run stopped at a failure of the store",
            RunErrorKind::TakenOver => "the run was taken over",
            RunErrorKind::Lister => "the run cannot begin or end with what is stored",
            RunErrorKind::Reader => "the run stopped at a failure of a reader",
            RunErrorKind::Shards => "there are no shards",
        })
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

impl From<BackendError> for RunError {
    fn from(e: BackendError) -> Self {
        let kind =
            if e.kind() == BackendErrorKind::Fenced { RunErrorKind::TakenOver } else { RunErrorKind::Store };
        Self { kind, source: Box::new(e) }
    }
}

impl From<ListerError> for RunError {
    fn from(e: ListerError) -> Self {
        Self { kind: RunErrorKind::Lister, source: Box::new(e) }
    }
}
