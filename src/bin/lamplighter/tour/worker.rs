//! A pretend worker: makes no visit, and says what one could have come to.

use std::time::Duration;

use lamplighter::backend::Visit;
use lamplighter::model::{Outcome, Timestamp, VisitStatus};

/// Visits that are made at a time.
const AT_A_TIME: usize = 4;

/// What a visit is said to have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pretended {
    Changed,
    Unchanged,
    Failed,
    NotFound,
}

impl Pretended {
    pub(super) const ALL: [Self; 4] = [Self::Changed, Self::Unchanged, Self::Failed, Self::NotFound];

    /// Of the n-th visit: most are unchanged, a third has changed, a few do not work.
    fn of(n: usize) -> Self {
        match n {
            n if n % 13 == 5 => Self::Failed,
            n if n % 17 == 9 => Self::NotFound,
            n if n.is_multiple_of(3) => Self::Changed,
            _ => Self::Unchanged,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
            Self::NotFound => "not_found",
        }
    }

    /// A visit that finds something takes longer, and one that fails waits for its time limit.
    fn takes(self) -> Duration {
        Duration::from_secs(match self {
            Self::Changed => 360,
            Self::Unchanged => 60,
            Self::Failed => 600,
            Self::NotFound => 30,
        })
    }

    fn outcome(self, visit: &Visit, at: Timestamp) -> Outcome {
        let of = |status| Outcome::new(visit.visit, visit.token, status, at);
        match self {
            Self::Changed => of(VisitStatus::Successful).with_changed(true),
            Self::Unchanged => of(VisitStatus::Successful).with_changed(false),
            Self::Failed => of(VisitStatus::Failed).with_error("the server did not answer in time"),
            Self::NotFound => of(VisitStatus::NotFound),
        }
    }
}

/// "Visits" them, four at a time: what came of each, in the order in which they end.
pub(super) fn visit(visits: &[Visit], from: Timestamp) -> Vec<(Pretended, Outcome)> {
    let mut free = [from; AT_A_TIME];
    let mut made: Vec<(Pretended, Outcome)> = visits
        .iter()
        .enumerate()
        .map(|(n, visit)| {
            let pretended = Pretended::of(n);
            // The first worker that is free takes the next visit.
            let mut end = from;
            if let Some(worker) = free.iter_mut().min() {
                *worker = worker.plus(pretended.takes());
                end = *worker;
            }
            (pretended, pretended.outcome(visit, end))
        })
        .collect();
    made.sort_by_key(|(_, outcome)| outcome.at);
    made
}
