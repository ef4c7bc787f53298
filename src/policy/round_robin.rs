//! Everyone in turn: a baseline to compare with.

use super::{Facts, Lane, LaneSpec, Placement, Policy, Reason, Shared};
use crate::model::Timestamp;

/// Everyone in turn, whatever is known of them: the one whose last visit is longest ago, a new
/// origin as if it had been visited when it was first seen.
///
/// ```
/// use lamplighter::policy::{Policy, RoundRobin};
/// assert_eq!(RoundRobin.name(), "round_robin");
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[allow(clippy::exhaustive_structs, reason = "there is nothing to choose about it")]
pub struct RoundRobin;

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        "round_robin"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(Lane::policy(0), "in turn", 1.0)]
    }

    fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
        let since = facts.visits.last_visit.unwrap_or(facts.first_seen);
        let why = Reason::new("in_turn", format!("waits its turn since {since}"));
        Placement::new(Lane::policy(0), since.as_micros().saturating_add(facts.apart()), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_origin_queues_behind_those_that_have_waited_longer() {
        let at = Timestamp::from_seconds;
        let rank = |f: &Facts| RoundRobin.place(f, &Shared::default(), at(999)).rank;
        let new = Facts::new(1, at(100));
        let mut waited = Facts::new(2, at(0));
        waited.visits.last_visit = Some(at(90));
        let mut visited = waited.clone();
        visited.visits.last_visit = Some(at(110));
        assert!(rank(&waited) < rank(&new) && rank(&new) < rank(&visited));
    }
}
