//! The default policy: visit an origin when a visit has become worth its price.
//!
//! Of every origin it is known when it was last good, what its listers told since, and how often it
//! changes, as far as is known. That gives the value of a visit, in days of freshness bought and of
//! age and lag ended ([`Due::value`]), which never falls until a new fact arrives; one price for a
//! whole visit type says what a visit costs at the given budget; and the origin is due when the one
//! reaches the other. `docs/policy.md` has the model, its sources and its limits.

mod price;
#[cfg(test)]
mod tests;
mod value;

use self::price::Price;
use self::value::{Known, Value};
use super::belief::days;
use super::{Facts, Gates, Lane, LaneSpec, Placement, Policy, Reason, Shared};
use crate::model::{Timestamp, VisitStatus};

/// Nobody waits longer than this for being due.
const LONGEST: f64 = 3650.0;
/// What is overdue goes so many days earlier for each e-fold of its value over the price.
const KAPPA: f64 = 30.0;
/// Age counts: against freshness, by so many times the mean time between visits.
const THETA: f64 = 4.0;
/// The hazard falls with this power of the time since the last known change.
const GAMMA: f64 = 0.27;
/// The guard brings every origin back within so many days, where that is cheap.
const GUARD_DAYS: f64 = 1400.0;
/// Cheap is at most this share of all visits.
const GUARD_CHEAP: f64 = 0.05;

/// What matters most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Objective {
    /// As many copies as possible that are as upstream is.
    Fresh,
    /// That, and changes that do not wait long: less lag at a little less freshness.
    #[default]
    Balanced,
    /// Changes that wait as short as possible.
    Lag,
}

impl Objective {
    /// Its name: `fresh`, `balanced`, `lag`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Balanced => "balanced",
            Self::Lag => "lag",
        }
    }

    /// The time, in mean times between visits, by which the lag of changes counts.
    fn theta_lag(self) -> f64 {
        match self {
            Self::Fresh => f64::INFINITY,
            Self::Balanced => 0.25,
            Self::Lag => 0.025,
        }
    }
}

/// How many visits go to the origins that were left alone longest.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Guard {
    /// As many as bring every origin back within 1,400 days; none, and a warning, where that would
    /// be more than one in twenty.
    #[default]
    Rule,
    /// This share.
    Share(f64),
    /// None.
    Off,
}

/// How [`Due`] weighs and how much it may spend.
///
/// ```
/// use lamplighter::policy::{Due, DueOptions, Objective};
/// let options = DueOptions::default().with_objective(Objective::Lag).with_budget(5_000.0);
/// let policy = Due::new(options);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct DueOptions {
    /// What matters most.
    pub objective: Objective,
    /// Visits a day. Learned from the claims where it is not given.
    pub budget: Option<f64>,
    /// How many visits go to those left alone longest.
    pub guard: Guard,
    /// The time, in mean times between visits, by which age counts: the smaller, the more. 4 by
    /// default.
    pub theta: f64,
    /// The power law of the time since the last known change. 0.27 by default; none at 0.
    pub gamma: f64,
}

impl Default for DueOptions {
    fn default() -> Self {
        Self { objective: Objective::Balanced, budget: None, guard: Guard::Rule, theta: THETA, gamma: GAMMA }
    }
}

impl DueOptions {
    /// What matters most.
    #[must_use]
    pub fn with_objective(mut self, objective: Objective) -> Self {
        self.objective = objective;
        self
    }

    /// How many visits a day there are.
    #[must_use]
    pub fn with_budget(mut self, visits_a_day: f64) -> Self {
        self.budget = Some(visits_a_day);
        self
    }

    /// How many visits go to those left alone longest.
    #[must_use]
    pub fn with_guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// How much age counts.
    #[must_use]
    pub fn with_theta(mut self, theta: f64) -> Self {
        self.theta = theta;
        self
    }

    /// The power law of the time since the last known change.
    #[must_use]
    pub fn with_gamma(mut self, gamma: f64) -> Self {
        self.gamma = gamma;
        self
    }
}

/// Visits an origin when a visit has become worth its price.
///
/// A visit is worth the days of freshness that it buys and the days of age and lag that it ends, as
/// far as is known of how often the origin changes and of what its listers told; that never falls until
/// a new fact arrives. One price for a whole visit type says what a visit costs at the given budget.
///
/// ```
/// use lamplighter::backend::{MemoryStore, StoreOptions};
/// use lamplighter::policy::{Due, DueOptions, Policies};
/// let due = Due::new(DueOptions::default().with_budget(20_000.0));
/// let store = MemoryStore::with_policies(Policies::all(due));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Due {
    options: DueOptions,
}

/// The weights of the three terms, in days.
#[derive(Debug, Clone, Copy)]
struct Setting {
    theta: f64,
    theta_lag: f64,
    gamma: f64,
}

impl Due {
    /// A policy with options.
    #[must_use]
    pub fn new(options: DueOptions) -> Self {
        Self { options }
    }

    /// Visits a day: as given, or as learned.
    fn visits_a_day(&self, price: &Price, shared: &Shared) -> f64 {
        self.options.budget.unwrap_or_else(|| price.rate(origins(shared))).max(1e-6)
    }

    fn setting(&self, per_visit: f64) -> Setting {
        Setting {
            theta: (self.options.theta * per_visit).max(1e-3),
            theta_lag: (self.options.objective.theta_lag() * per_visit).max(1e-3),
            gamma: self.options.gamma,
        }
    }

    /// The guard's share, or none with the share that it would take.
    fn guard_share(&self, shared: &Shared) -> Result<f64, f64> {
        match self.options.guard {
            Guard::Off => Ok(0.0),
            Guard::Share(share) => Ok(share.clamp(0.0, 0.95)),
            Guard::Rule => {
                let price = Price::of(shared);
                let share = origins(shared) / (self.visits_a_day(&price, shared) * GUARD_DAYS);
                if share <= GUARD_CHEAP { Ok(share) } else { Err(share) }
            }
        }
    }

    fn worth(&self, facts: &Facts, shared: &Shared) -> (Value, f64) {
        let price = Price::of(shared);
        let per_visit = origins(shared) / self.visits_a_day(&price, shared);
        let setting = self.setting(per_visit);
        let value = Value::new(known(facts), &setting);
        // Before the first claim there is none yet: what an unknown origin is worth at its turn.
        (value, price.level.unwrap_or_else(|| price::first_guess(per_visit)))
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn origins(shared: &Shared) -> f64 {
    shared.origins.max(1) as f64
}

fn day(t: Timestamp) -> f64 {
    days(Timestamp::EPOCH, t)
}

#[allow(clippy::cast_possible_truncation, reason = "clamped to dates by its reader")]
fn micros(day: f64) -> i64 {
    (day * 86_400e6).round() as i64
}

/// The chance that a visit succeeds, after so many that did not.
fn chance(facts: &Facts) -> f64 {
    let each: f64 = match facts.visits.last_status {
        Some(VisitStatus::NotFound) => 0.2,
        _ => 0.5,
    };
    each.powi(i32::try_from(facts.visits.failures_in_a_row.min(6)).unwrap_or(6))
}

fn known(facts: &Facts) -> Known {
    let belief = facts.evidence.now();
    Known {
        a: f64::from(belief.a),
        b: f64::from(belief.b),
        first_seen: day(facts.first_seen),
        last_good: facts.last_good().map(day),
        listed: facts.evidence.listed.map(day),
        last_update: facts.told().map(day),
        last_change: facts.evidence.last_change.map(day),
        first_signal: facts.evidence.first_signal.map(day),
        precision: facts.trust.precision,
        recall: facts.trust.recall,
        scale: facts.weight * chance(facts) / facts.cost.max(1e-9),
    }
}

impl Policy for Due {
    fn name(&self) -> &'static str {
        "due"
    }

    fn form(&self) -> String {
        let o = &self.options;
        format!("due,objective={},theta={},gamma={}", o.objective.as_str(), o.theta, o.gamma)
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(Lane::policy(0), "due", 1.0)]
    }

    fn place(&self, facts: &Facts, shared: &Shared, now: Timestamp) -> Placement {
        let (value, price) = self.worth(facts, shared);
        let interval = Gates::default().minimum_interval;
        let after = facts.visits.last_visit.map(|t| t.plus(interval)).max(facts.hold_until);
        let from = day(after.map_or(now, |t| t.max(now)));
        let due = value.due(from, price, LONGEST, KAPPA);
        let code = match () {
            () if facts.last_good().is_none() => "never_visited",
            () if value.stale() => "known_stale",
            () => "due",
        };
        let text = format!("a visit is worth {:.3} days, and the price is {price:.3}", value.at(day(now)));
        let rank = micros(due).saturating_add(facts.apart());
        Placement::new(Lane::policy(0), rank, Reason::new(code, text))
    }

    fn value(&self, facts: &Facts, shared: &Shared, now: Timestamp) -> f64 {
        self.worth(facts, shared).0.at(day(now))
    }

    fn learn(&self, shared: &mut Shared, taken: &[(Facts, f64)], now: Timestamp) {
        let mut price = Price::of(shared);
        price.observe(taken.len(), now);
        let budget = self.visits_a_day(&price, shared);
        price.vote(taken.iter().map(|(_, value)| *value), budget);
        price.keep(shared);
    }

    fn unsettled(&self, shared: &Shared) -> bool {
        let price = Price::of(shared);
        price.outgrown(shared.origins, self.visits_a_day(&price, shared))
    }

    fn settle(&self, shared: &mut Shared, sample: &[Facts], _: Timestamp) {
        let mut price = Price::of(shared);
        let budget = self.visits_a_day(&price, shared);
        let beliefs = sample.iter().map(|f| f.evidence.now());
        price.start(beliefs, origins(shared), budget);
        price.settled_for(shared.origins, budget);
        price.keep(shared);
    }

    fn budget(&self, shared: &Shared) -> Option<f64> {
        Some(self.visits_a_day(&Price::of(shared), shared))
    }

    fn gates(&self, shared: &Shared) -> Gates {
        let share = self.guard_share(shared).unwrap_or(0.0);
        // Of all visits, where the lanes' shares are against those of the policy.
        Gates { guard_share: share / (1.0 - share), ..Gates::default() }
    }

    fn warnings(&self, shared: &Shared) -> Vec<Reason> {
        let Err(share) = self.guard_share(shared) else { return Vec::new() };
        let text = format!(
            "no guard: to visit every origin within {GUARD_DAYS} days would take {:.0} % of all visits",
            share * 100.0
        );
        vec![Reason::new("no_guard", text)]
    }
}
