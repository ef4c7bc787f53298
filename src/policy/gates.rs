//! The gates around every policy, and the one function that stores, `explain` and the simulator
//! read.

use std::time::Duration;

use serde::Serialize;

use super::{Facts, Lane, LaneSpec, Placement, Policy, Reason, Shared};
use crate::model::{Timestamp, VisitStatus};

/// How wide the gates are.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Gates {
    /// No origin is visited again sooner than this after its last visit. 12 hours by default.
    pub minimum_interval: Duration,
    /// The share, against the sum of the policy's, of visits that go to those left alone longest,
    /// whatever the policy thinks of them. None by default.
    pub guard_share: f64,
    /// The on-demand lane's share, against the sum of the policy's: the others keep a floor.
    pub requested_share: f64,
    /// Fixed holds after failures in place of those that grow ([`super::hold_after`]). None by
    /// default.
    pub cooldowns: Option<Cooldowns>,
}

/// For how long an origin is left alone after a visit that archived nothing, however often that
/// happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "one for each way to fail")]
pub struct Cooldowns {
    /// After a failure.
    pub failed: Duration,
    /// Where there is no such origin.
    pub not_found: Duration,
}

impl Gates {
    /// The end of the hold after failures.
    fn hold(&self, facts: &Facts) -> Option<Timestamp> {
        let Some(cooldowns) = self.cooldowns else { return facts.hold_until };
        let length = match facts.visits.last_status? {
            VisitStatus::Failed => cooldowns.failed,
            VisitStatus::NotFound => cooldowns.not_found,
            VisitStatus::Successful | VisitStatus::Partial => return None,
        };
        facts.visits.last_visit.map(|t| t.plus(length))
    }
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            minimum_interval: Duration::from_secs(12 * 3600),
            guard_share: 0.0,
            requested_share: 4.0,
            cooldowns: None,
        }
    }
}

impl Gates {
    /// All lanes of a visit type and their shares: the on-demand one, the guard, the policy's.
    #[must_use]
    pub fn lanes(&self, policy: &dyn Policy) -> Vec<LaneSpec> {
        let own = policy.lanes();
        let sum: f64 = own.iter().map(|l| l.share).sum();
        let mut lanes = vec![LaneSpec::new(Lane::REQUESTED, "requested", self.requested_share * sum)];
        if self.guard_share > 0.0 {
            lanes.push(LaneSpec::new(Lane::GUARD, "guard", self.guard_share * sum));
        }
        lanes.extend(own);
        lanes
    }
}

/// Whether an origin waits for a visit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Schedule {
    /// It is not to be visited.
    Parked(Reason),
    /// It waits in a lane, and no visit may start before a time.
    Waiting {
        /// Where it waits.
        place: Placement,
        /// A lane, and the rank there, in which it waits as well: whichever comes first.
        also: Option<(Lane, i64)>,
        /// No visit before this.
        not_before: Timestamp,
    },
}

impl Schedule {
    /// Why it waits there, or does not wait at all.
    #[must_use]
    pub fn why(&self) -> &Reason {
        match self {
            Self::Parked(why) => why,
            Self::Waiting { place, .. } => &place.why,
        }
    }
}

/// Something in the way of a visit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Gate {
    /// At least one lister lists it.
    Listed,
    /// Its listers want it visited, and neither failures nor a person stopped it.
    Enabled,
    /// The hold after failures.
    Hold,
    /// The least time between two visits.
    MinimumInterval,
    /// Its place in its lane.
    Due,
    /// A visit of it is under way.
    Lease,
}

/// One gate as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GateState {
    /// Which gate.
    pub gate: Gate,
    /// Whether it is open now.
    pub open: bool,
    /// When it opens by itself, where it does.
    pub opens_at: Option<Timestamp>,
    /// In words.
    pub text: String,
}

impl GateState {
    /// A gate, open or not.
    pub fn new(gate: Gate, open: bool, opens_at: Option<Timestamp>, text: impl Into<String>) -> Self {
        Self { gate, open, opens_at, text: text.into() }
    }
}

fn parked(facts: &Facts) -> Option<Reason> {
    if let Some(gone) = facts.gone {
        let text = format!("gone upstream since {}", gone.at);
        return Some(Reason::new("gone", text));
    }
    if let Some(by_hand) = &facts.disabled_by_hand {
        return Some(Reason::new("disabled_by_hand", format!("disabled by hand: {}", by_hand.reason)));
    }
    if let Some(failed) = &facts.disabled_by_failures {
        return Some(Reason::new("disabled_by_failures", format!("disabled: {}", failed.reason)));
    }
    (!facts.enabled).then(|| Reason::new("not_enabled", "no lister wants it visited"))
}

fn not_before(facts: &Facts, gates: &Gates) -> Timestamp {
    let interval_ends = facts.visits.last_visit.map(|t| t.plus(gates.minimum_interval));
    // A request overrules the hold after failures: somebody knows better. Not the interval.
    let hold = gates.hold(facts).filter(|_| facts.requested_at.is_none());
    interval_ends.max(hold).unwrap_or(facts.first_seen)
}

/// Where an origin waits: the gates first, then the policy. Pure, and the only place where this
/// is decided.
///
/// ```
/// use lamplighter::model::Timestamp;
/// use lamplighter::policy::{Facts, Oldest, Schedule, Shared, schedule};
/// let facts = Facts::new(7, Timestamp::EPOCH);
/// let s = schedule(&Oldest, &facts, &Shared::default(), Timestamp::EPOCH);
/// assert_eq!(s.why().code, "never_visited");
/// ```
#[must_use]
pub fn schedule(policy: &dyn Policy, facts: &Facts, shared: &Shared, now: Timestamp) -> Schedule {
    if let Some(why) = parked(facts) {
        return Schedule::Parked(why);
    }
    let gates = policy.gates(shared);
    let not_before = not_before(facts, &gates);
    let also = guard(facts, &gates);
    if let Some(asked) = facts.requested_at {
        let by = facts.requested_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        let why = Reason::new("requested", format!("asked for at {asked}{by}"));
        let place = Placement::new(Lane::REQUESTED, asked.as_micros(), why);
        return Schedule::Waiting { place, also, not_before };
    }
    let mut place = policy.place(facts, shared, now);
    if place.lane == Lane::PARKED {
        let Some((lane, rank)) = also else { return Schedule::Parked(place.why) };
        let why = Reason::new("guard", format!("left to the guard: {}", place.why.text));
        return Schedule::Waiting { place: Placement::new(lane, rank, why), also: None, not_before };
    }
    // With fixed cooldowns the rank is the policy's own to the end: it need not be a time.
    let hold = facts.hold_until.filter(|h| gates.cooldowns.is_none() && h.as_micros() > place.rank);
    if let Some(hold) = hold {
        let n = facts.visits.failures_in_a_row;
        let status = facts.visits.last_status.map_or("failed", |s| s.as_str());
        place.rank = hold.as_micros();
        place.why = Reason::new("hold", format!("left alone until {hold}, {status} {n} times in a row"));
    }
    Schedule::Waiting { place, also, not_before }
}

/// A place in the guard's lane: the longer without a visit, the sooner.
fn guard(facts: &Facts, gates: &Gates) -> Option<(Lane, i64)> {
    let last = facts.visits.last_visit.filter(|_| gates.guard_share > 0.0)?;
    Some((Lane::GUARD, last.as_micros().saturating_add(facts.apart())))
}

/// Every gate in the way of an origin's next visit, as it stands: what `explain` shows. The lease
/// is the store's to add.
#[must_use]
pub fn gates(policy: &dyn Policy, facts: &Facts, shared: &Shared, now: Timestamp) -> Vec<GateState> {
    let gates = policy.gates(shared);
    let mut states = Vec::new();
    let listed = facts.gone.map_or_else(
        || GateState::new(Gate::Listed, true, None, "listed"),
        |g| GateState::new(Gate::Listed, false, None, format!("gone upstream since {}", g.at)),
    );
    states.push(listed);
    let stopped = parked(facts).filter(|_| facts.gone.is_none());
    states.push(match stopped {
        Some(why) => GateState::new(Gate::Enabled, false, None, why.text),
        None => GateState::new(Gate::Enabled, facts.gone.is_none(), None, "enabled"),
    });
    let hold = gates.hold(facts).filter(|_| facts.requested_at.is_none());
    states.push(match hold.filter(|&h| h > now) {
        Some(h) => GateState::new(Gate::Hold, false, Some(h), "left alone after failures"),
        None => GateState::new(Gate::Hold, true, None, "no hold"),
    });
    let interval = facts.visits.last_visit.map(|t| t.plus(gates.minimum_interval));
    states.push(match interval.filter(|&t| t > now) {
        Some(t) => GateState::new(Gate::MinimumInterval, false, Some(t), "visited a short time ago"),
        None => GateState::new(Gate::MinimumInterval, true, None, "long enough since the last visit"),
    });
    if let Schedule::Waiting { place, .. } = schedule(policy, facts, shared, now) {
        let due = Timestamp::from_micros(place.rank);
        let open = due <= now;
        states.push(GateState::new(Gate::Due, open, (!open).then_some(due), place.why.to_string()));
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Disabled, Gone, GoneReason, Outcome, VisitId, VisitStatus, VisitToken};
    use crate::policy::{Oldest, observe_visit};

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_seconds(hour * 3600)
    }

    fn place(facts: &Facts, now: Timestamp) -> Schedule {
        schedule(&Oldest, facts, &Shared::default(), now)
    }

    #[test]
    fn each_gate_parks_with_its_own_reason() {
        let open = Facts::new(1, at(0));
        assert!(matches!(place(&open, at(0)), Schedule::Waiting { .. }));
        let with = |change: fn(&mut Facts)| {
            let mut f = open.clone();
            change(&mut f);
            place(&f, at(0)).why().code.clone()
        };
        assert_eq!(with(|f| f.gone = Some(Gone::new(at(0), GoneReason::Deleted))), "gone");
        assert_eq!(with(|f| f.disabled_by_hand = Some(Disabled::new(at(0), "x"))), "disabled_by_hand");
        assert_eq!(
            with(|f| f.disabled_by_failures = Some(Disabled::new(at(0), "x"))),
            "disabled_by_failures"
        );
        assert_eq!(with(|f| f.enabled = false), "not_enabled");
        assert_eq!(with(|f| f.requested_at = Some(at(0))), "requested");
    }

    #[test]
    fn a_request_overrules_a_hold_and_not_the_interval() {
        let mut facts = Facts::new(1, at(0));
        let failed = Outcome::new(VisitId(1), VisitToken(1), VisitStatus::Failed, at(10));
        observe_visit(&mut facts, &failed, at(9), None);
        let Schedule::Waiting { place: held, not_before, .. } = place(&facts, at(11)) else { panic!() };
        assert_eq!((held.why.code.as_str(), not_before), ("hold", facts.hold_until.unwrap()));
        facts.requested_at = Some(at(11));
        let Schedule::Waiting { place, not_before, .. } = place(&facts, at(11)) else { panic!() };
        assert_eq!((place.lane, not_before), (Lane::REQUESTED, at(22)));
    }

    #[derive(Debug)]
    struct Never;
    impl Policy for Never {
        fn name(&self) -> &'static str {
            "never"
        }
        fn lanes(&self) -> Vec<LaneSpec> {
            vec![LaneSpec::new(Lane::policy(0), "all", 1.0)]
        }
        fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
            let why = Reason::new("never", "never");
            if facts.enabled && facts.last_update.is_some() {
                return Placement::parked(why);
            }
            Placement::new(Lane::policy(0), i64::MAX, why)
        }
        fn gates(&self, _: &Shared) -> Gates {
            Gates { guard_share: 0.25, ..Gates::default() }
        }
    }

    #[test]
    fn the_guard_waits_for_what_its_policy_would_leave() {
        let mut facts = Facts::new(17, at(0));
        let wait = |facts: &Facts| match schedule(&Never, facts, &Shared::default(), at(11)) {
            Schedule::Waiting { place, also, .. } => (place.lane, also),
            Schedule::Parked(why) => panic!("{why}"),
        };
        assert_eq!(wait(&facts), (Lane::policy(0), None), "never visited: not the guard's");
        let ok = Outcome::new(VisitId(1), VisitToken(1), VisitStatus::Successful, at(10));
        observe_visit(&mut facts, &ok, at(9), None);
        let last = at(10).as_micros() + 17;
        assert_eq!(wait(&facts), (Lane::policy(0), Some((Lane::GUARD, last))));
        facts.last_update = Some(at(1));
        assert_eq!(wait(&facts), (Lane::GUARD, None), "what the policy parks is the guard's alone");
        assert!((Never.gates(&Shared::default()).lanes(&Never)[1].share - 0.25).abs() < 1e-12);
    }
}
