//! The built-in policy: never visited first, then oldest visit.

use super::{Facts, Gates, Lane, LaneSpec, Placement, Policy, Reason, Shared};
use crate::model::Timestamp;

/// Never visited first (the one seen first before the others), then the oldest visit. One lane: a
/// strict order, as plain as can be.
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "there is nothing to choose about it")]
pub struct Oldest;

/// Far below every date: origins never visited sort before all visited ones.
const BEFORE_ALL_DATES: i64 = -(1 << 62);

impl Policy for Oldest {
    fn name(&self) -> &'static str {
        "oldest"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(Lane::policy(0), "oldest", 1.0)]
    }

    fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
        let (rank, why) = match facts.visits.last_visit {
            None => {
                let text = format!("never visited, known since {}", facts.first_seen);
                (BEFORE_ALL_DATES + facts.first_seen.as_micros(), Reason::new("never_visited", text))
            }
            Some(last) => {
                // The minimum interval is in the rank, so that a rank is the time when a visit may
                // be; it is the same for all and changes no order.
                let due = last.plus(Gates::default().minimum_interval);
                (due.as_micros(), Reason::new("oldest_visit", format!("last visited {last}")))
            }
        };
        Placement::new(Lane::policy(0), rank, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_visited_come_first_and_then_the_oldest_visit() {
        let at = |s| Timestamp::from_seconds(s);
        let mut facts =
            [Facts::new(1, at(500)), Facts::new(2, at(100)), Facts::new(3, at(0)), Facts::new(4, at(0))];
        facts[2].visits.last_visit = Some(at(90));
        facts[3].visits.last_visit = Some(at(80));
        let mut order: Vec<(i64, u64)> =
            facts.iter().map(|f| (Oldest.place(f, &Shared::default(), at(999)).rank, f.seed)).collect();
        order.sort_unstable();
        assert_eq!(order.iter().map(|o| o.1).collect::<Vec<_>>(), [2, 1, 4, 3]);
    }
}
