//! What a worker says of a visit.

use crate::backend::Visit;
use crate::model::{Outcome, Timestamp, VisitId, VisitStatus, VisitToken};

/// So much of a text that a worker gives is kept.
const LONGEST: usize = 2000;

/// What a worker says of a visit. Whoever ran it adds which visit it was and when it ended.
///
/// ```
/// use lamplighter::dispatch::Visited;
/// use lamplighter::model::VisitStatus;
/// let visited = Visited::failed("the server answered\0nothing");
/// assert_eq!(visited.status, VisitStatus::Failed);
/// assert_eq!(visited.error.as_deref(), Some("the server answered nothing"));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Visited {
    /// How it ended.
    pub status: VisitStatus,
    /// Names the state that was seen.
    pub snapshot: Option<String>,
    /// Whether there was a change, where the worker can tell.
    pub changed: Option<bool>,
    /// When the newest change was made, where the worker can tell.
    pub changed_at: Option<Timestamp>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Visited {
    /// Nothing but a status.
    #[must_use]
    pub fn new(status: VisitStatus) -> Self {
        Self { status, snapshot: None, changed: None, changed_at: None, error: None }
    }

    /// The whole origin was seen.
    #[must_use]
    pub fn successful() -> Self {
        Self::new(VisitStatus::Successful)
    }

    /// It did not work this time.
    pub fn failed(error: impl AsRef<str>) -> Self {
        Self { error: Some(clean_text(error.as_ref())), ..Self::new(VisitStatus::Failed) }
    }

    /// There is no such origin.
    pub fn not_found(error: impl AsRef<str>) -> Self {
        Self { error: Some(clean_text(error.as_ref())), ..Self::new(VisitStatus::NotFound) }
    }

    /// Names the state that was seen.
    #[must_use]
    pub fn with_snapshot(mut self, snapshot: impl AsRef<str>) -> Self {
        self.snapshot = Some(clean_text(snapshot.as_ref()));
        self
    }

    /// Says whether there was a change.
    #[must_use]
    pub fn with_changed(mut self, changed: bool) -> Self {
        self.changed = Some(changed);
        self
    }

    /// Says when the newest change was made.
    #[must_use]
    pub fn with_changed_at(mut self, at: Timestamp) -> Self {
        self.changed_at = Some(at);
        self
    }

    /// The outcome of a visit that ended at a time.
    #[must_use]
    pub fn outcome(self, visit: &Visit, at: Timestamp) -> Outcome {
        self.outcome_of(visit.visit, visit.token, at)
    }

    pub(super) fn outcome_of(self, visit: VisitId, token: VisitToken, at: Timestamp) -> Outcome {
        let mut outcome = Outcome::new(visit, token, self.status, at);
        outcome.snapshot = self.snapshot.as_deref().map(clean_text);
        outcome.error = self.error.as_deref().map(clean_text);
        outcome.changed = self.changed;
        outcome.changed_at = self.changed_at;
        outcome
    }
}

/// A text from outside in one line of at most 2,000 characters, without control characters, NUL among
/// them: wherever they stand, not only at its ends.
///
/// ```
/// # use lamplighter::dispatch::clean_text;
/// assert_eq!(clean_text("\0fatal:\0 no\r\nsuch\u{1b}[1m repository\0"), "fatal: no such [1m repository");
/// ```
#[must_use]
pub fn clean_text(text: &str) -> String {
    let mut clean = String::new();
    let words = text.split(|c: char| c.is_control()).map(str::trim).filter(|s| !s.is_empty());
    for c in words.flat_map(|word| [" ", word]).skip(1).flat_map(str::chars).take(LONGEST) {
        clean.push(c);
    }
    clean
}
