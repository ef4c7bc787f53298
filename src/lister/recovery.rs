//! What became of a cursor that failed for good.

use std::fmt;

use http::StatusCode;

use crate::transport::TransportErrorKind;

/// How a cursor failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// An answer with a status that is neither 2xx nor 304.
    Status(StatusCode),
    /// No answer.
    Transport(TransportErrorKind),
    /// An answer that could not be read.
    Parse,
    /// An answer that refuses in its body.
    Refused,
    /// The chain came back to where it had been.
    Loop,
}

/// A cursor's failure, after all retries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// How it failed.
    pub kind: FailureKind,
    /// In words, with the place; no secrets.
    pub message: String,
}

impl Failure {
    /// A failure of a kind, in words.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The status, where there was an answer with one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self.kind {
            FailureKind::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Whether the forge says that there is no such thing: 404 or 410.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self.status(), Some(StatusCode::NOT_FOUND | StatusCode::GONE))
    }

    /// Whether there is no such thing, as [`Failure::is_absent`], or a replay that never asked for
    /// it: what a lister tries that need not be there.
    pub(crate) fn is_not_there(&self) -> bool {
        self.is_absent() || self.kind == FailureKind::Transport(TransportErrorKind::NotRecorded)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What a failed cursor is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The followed cursors stand for it: nothing is missing.
    Replaced,
    /// Nothing is missing; it is counted as skipped, with the reason.
    Skip(String),
    /// A part of the listing is missing: a gap is kept, shown and retried.
    Gap,
    /// The listing starts over (a scroll on the server ran out); what was listed is kept.
    Restart,
    /// The run cannot go on. Nothing moves, and its frontier is kept.
    Abort,
}

/// What to do about a failed cursor: where to go on, and what it is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery<C> {
    /// Cursors to ask instead, or besides.
    pub follow: Vec<C>,
    /// What the failed cursor is taken for.
    pub verdict: Verdict,
    /// What the lister knows of the cause, and what may help: shown with the failure's own message.
    pub note: Option<String>,
}

impl<C> Recovery<C> {
    /// A part of the listing is missing. The default.
    #[must_use]
    pub fn gap() -> Self {
        Self { follow: Vec::new(), verdict: Verdict::Gap, note: None }
    }

    /// A part is missing, and the listing goes on at these.
    #[must_use]
    pub fn gap_and(follow: Vec<C>) -> Self {
        Self { follow, verdict: Verdict::Gap, note: None }
    }

    /// Nothing is missing; counted as skipped.
    pub fn skip(why: impl Into<String>) -> Self {
        Self { follow: Vec::new(), verdict: Verdict::Skip(why.into()), note: None }
    }

    /// These cursors stand for the failed one.
    #[must_use]
    pub fn replaced(by: Vec<C>) -> Self {
        Self { follow: by, verdict: Verdict::Replaced, note: None }
    }

    /// The listing starts over.
    #[must_use]
    pub fn restart() -> Self {
        Self { follow: Vec::new(), verdict: Verdict::Restart, note: None }
    }

    /// Adds what the lister knows of the cause, and what may help.
    #[must_use]
    pub fn because(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The run cannot go on.
    #[must_use]
    pub fn abort() -> Self {
        Self { follow: Vec::new(), verdict: Verdict::Abort, note: None }
    }
}
