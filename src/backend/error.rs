//! What a store could not do.

use std::error::Error as StdError;
use std::fmt;

/// What kind of failure it was, and so what a caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// The store cannot be reached, or is used by another process. Worth another try.
    Unavailable,
    /// The run, or the cursor, is somebody else's by now: stop working on it.
    Fenced,
    /// Something changed since it was read: read it again and repeat.
    Conflict,
    /// The store was written by a newer version: use that one.
    Newer,
    /// The caller's `now` is too far from the store's own clock.
    Clock,
    /// What is stored makes no sense.
    Corrupt,
    /// The disk is full or broken.
    Io,
}

/// A store's error: the kind and what was being done.
pub struct BackendError {
    kind: BackendErrorKind,
    context: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl BackendError {
    /// An error of a kind, with what was being done.
    pub fn new(kind: BackendErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// Whether the same call may work when repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, BackendErrorKind::Unavailable | BackendErrorKind::Conflict)
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            BackendErrorKind::Unavailable => "the store cannot be reached",
            BackendErrorKind::Fenced => "somebody else has taken over",
            BackendErrorKind::Conflict => "it was changed meanwhile",
            BackendErrorKind::Newer => "the store was written by a newer version",
            BackendErrorKind::Clock => "the clocks disagree",
            BackendErrorKind::Corrupt => "the store holds what makes no sense",
            BackendErrorKind::Io => "the store cannot be written or read",
        };
        if self.context.is_empty() { f.write_str(what) } else { write!(f, "{what}: {}", self.context) }
    }
}

impl fmt::Debug for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendError")
            .field("kind", &self.kind)
            .field("context", &self.context)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for BackendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
