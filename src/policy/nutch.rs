//! An adaptive interval, as Nutch and StormCrawler have it: a baseline to compare with.

use std::time::Duration;

use super::{Cooldowns, Facts, Gates, Lane, LaneSpec, Memo, Placement, Policy, Reason, Shared};
use crate::model::{Outcome, Timestamp};

const DAY: f64 = 86_400.0;

/// Each origin has an interval: a fifth shorter after a visit that found a change, a fifth longer
/// after one that did not, and at least as long as nothing has changed; due is a fifth of the time
/// without a change earlier. Between six hours and a year, 30 days at first.
///
/// What is due waits in the order of its dates. A claim with room left reads ahead, so that no
/// budget is left unused.
///
/// ```
/// use lamplighter::policy::{Nutch, Policy};
/// assert_eq!(Nutch.name(), "nutch");
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "there is nothing to choose about it")]
pub struct Nutch;

impl Policy for Nutch {
    fn name(&self) -> &'static str {
        "nutch"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(Lane::policy(0), "due", 1.0)]
    }

    fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
        let (rank, why) = match facts.visits.last_successful {
            None => (facts.first_seen, Reason::new("never_visited", "never visited with success")),
            Some(last) => {
                let days = f64::from(interval(facts.memo)) / DAY;
                let due = due(facts.memo, last);
                (due, Reason::new("interval", format!("visited every {days:.1} days, last {last}")))
            }
        };
        Placement::new(Lane::policy(0), rank.as_micros().saturating_add(facts.apart()), why)
    }

    fn observe(&self, facts: &mut Facts, before: &Facts, outcome: &Outcome, _: &Shared) {
        if !outcome.status.archived_something() {
            return;
        }
        let (first, t) = (before.visits.last_successful.is_none(), outcome.at.as_seconds());
        let mut next = f64::from(interval(before.memo));
        let mut modified = before.memo.at;
        match outcome.changed {
            Some(true) if !first => next *= 0.8,
            Some(false) if !first => next *= 1.2,
            _ => {}
        }
        if first || outcome.changed == Some(true) || modified == 0 {
            modified = t;
        }
        let quiet = seconds(t.saturating_sub(modified));
        let next = next.max(quiet).clamp(0.25 * DAY, 365.0 * DAY);
        #[allow(clippy::cast_possible_truncation, reason = "at most a year")]
        let step = next.round() as i32;
        facts.memo = Memo { at: modified, step, count: 0 };
    }

    fn gates(&self, _: &Shared) -> Gates {
        Gates {
            cooldowns: Some(Cooldowns {
                failed: Duration::from_secs(86_400),
                not_found: Duration::from_secs(45 * 86_400),
            }),
            ..Gates::default()
        }
    }
}

/// The interval in seconds.
fn interval(memo: Memo) -> i32 {
    if memo.step == 0 { 30 * 86_400 } else { memo.step }
}

fn due(memo: Memo, last: Timestamp) -> Timestamp {
    let modified = if memo.at == 0 { last.as_seconds() } else { memo.at };
    // A fifth of the time without a change, but never so much that it is due at once.
    let early = last.as_seconds().saturating_sub(modified).max(0) / 5;
    Timestamp::from_seconds(last.as_seconds() - early + i64::from(interval(memo)))
}

#[allow(clippy::cast_precision_loss, reason = "seconds of some years")]
fn seconds(n: i64) -> f64 {
    n.max(0) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{VisitId, VisitStatus, VisitToken};
    use crate::policy::observe_visit;

    fn visit(facts: &mut Facts, day: i64, changed: bool) -> i64 {
        let at = Timestamp::from_seconds(day * 86_400);
        let outcome =
            Outcome::new(VisitId(1), VisitToken(1), VisitStatus::Successful, at).with_changed(changed);
        let before = facts.clone();
        observe_visit(facts, &outcome, at, None);
        Nutch.observe(facts, &before, &outcome, &Shared::default());
        (Nutch.place(facts, &Shared::default(), at).rank - facts.apart()) / 1_000_000 - day * 86_400
    }

    #[test]
    fn the_interval_shrinks_on_change_and_grows_without() {
        let mut facts = Facts::new(1, Timestamp::from_seconds(0));
        assert_eq!(visit(&mut facts, 1000, true), 30 * 86_400);
        assert_eq!(visit(&mut facts, 1030, true), 24 * 86_400);
        // 24 d * 1.2 = 28.8 d, but 40 d are without a change: 40 d, a fifth of them earlier.
        assert_eq!(visit(&mut facts, 1070, false), 32 * 86_400);
        // 40 d * 1.2 = 48 d against 45 d without a change.
        assert_eq!(visit(&mut facts, 1075, false), 39 * 86_400);
        let mut lively = Facts::new(1, Timestamp::from_seconds(0));
        for day in 0..60 {
            visit(&mut lively, 1000 + day, true);
        }
        assert_eq!(visit(&mut lively, 1060, true), 21_600, "never more often than every six hours");
    }
}
