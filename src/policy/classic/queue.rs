//! The queue of origins without dates: a virtual time of its own, in which each visit moves an
//! origin on by a step that grows while nothing changes.

use crate::model::Outcome;
use crate::policy::facts::unit;
use crate::policy::{Facts, Memo, Queued};

/// Steps are kept relative to the one that origins begin with.
const FIRST: i32 = 4;
const LAST: i32 = 10;

/// Where an origin queues after a visit: `at` in seconds of the queue's time, `step` its step.
pub(super) fn step(before: &Facts, outcome: &Outcome, position: i64) -> Memo {
    let Memo { at, step, count } = before.memo;
    // A first visit says nothing of change; one without evidence neither.
    let moved = match outcome.changed.filter(|_| outcome.status.archived_something()) {
        _ if before.visits.last_visit.is_none() => step,
        Some(true) => step - 2,
        None if outcome.status.archived_something() => step,
        Some(false) | None => step + 1,
    };
    let step = moved.clamp(-FIRST, LAST - FIRST);
    let jitter = 0.9 + 0.2 * unit(before.seed, before.visits.visits + 1);
    #[allow(clippy::cast_possible_truncation, reason = "at most 4,506 days")]
    let seconds = (days(step + FIRST) * 86_400.0 * jitter).round() as i64;
    let from = if at == 0 { position } else { at };
    Memo { at: from.saturating_add(seconds), step, count }
}

/// Where an origin of the incumbent's queue is, and its step. Zero is the place of one that was never
/// queued.
pub(super) fn place_of(queued: &Queued) -> (i64, i32) {
    let at = queued.at.map_or(0, |at| at.max(1));
    (at, queued.step.clamp(0, LAST) - FIRST)
}

/// The length of a step in days.
fn days(step: i32) -> f64 {
    match step {
        ..=1 => 1.0,
        2..=4 => 2.0,
        more => 4f64.powi(more - 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, VisitId, VisitStatus, VisitToken};

    #[test]
    fn steps_grow_while_nothing_changes_and_shrink_when_it_does() {
        let at = Timestamp::from_seconds(1_000_000_000);
        let visit = |changed| {
            Outcome::new(VisitId(1), VisitToken(1), VisitStatus::Successful, at).with_changed(changed)
        };
        let mut facts = Facts::new(7, at);
        facts.memo = step(&facts, &visit(true), 5_000);
        assert_eq!(facts.memo.step, 0, "a first visit is no evidence");
        // Two days after where the queue is, within a tenth.
        let moved = facts.memo.at - 5_000;
        assert!((155_520..=190_080).contains(&moved), "{moved}");
        facts.visits.last_visit = Some(at);
        // The lengths, in days, of the steps from four on.
        for days in [4i64, 16, 64, 256, 1024, 4096, 4096, 4096] {
            let before = facts.memo.at;
            facts.memo = step(&facts, &visit(false), 0);
            facts.visits.visits += 1;
            let moved = facts.memo.at - before;
            assert!((days * 77_760..=days * 95_040).contains(&moved), "{days}: {moved}");
        }
        for expected in [8, 6, 4, 2, 0, 0] {
            facts.memo = step(&facts, &visit(true), 0);
            assert_eq!(facts.memo.step + FIRST, expected);
        }
    }

    #[test]
    fn a_failure_counts_as_no_change_and_missing_evidence_as_nothing() {
        let at = Timestamp::from_seconds(1_000_000_000);
        let mut facts = Facts::new(7, at);
        facts.visits.last_visit = Some(at);
        let ended = |status| Outcome::new(VisitId(1), VisitToken(1), status, at);
        assert_eq!(step(&facts, &ended(VisitStatus::Failed), 0).step, 1);
        assert_eq!(step(&facts, &ended(VisitStatus::Successful), 0).step, 0);
    }
}
