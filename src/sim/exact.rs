//! The exact greedy: every origin scored at every tick, and the best ones visited. No queue, no price
//! and no store; it is what a policy that keeps a queue is measured against.

use std::time::Duration;

use super::listings::{Listings, date};
use super::run::{Report, Run, SimOptions, ticks};
use super::world::World;
use crate::lister::Coverage;
use crate::model::{Outcome, Timestamp, VisitId, VisitStatus, VisitToken};
use crate::policy::{Facts, Listing, Shared, Signals, Trust, looked_since, observe_listing, observe_visit};

/// No origin twice within this time, as the gates have it.
const INTERVAL: Duration = Duration::from_secs(43_200);

/// Runs through a world by visiting, at every tick, the origins of the highest score. What is known
/// of an origin is what a store would know, folded in at once; `score` is given its number too, so
/// that it can know more than a policy may. What scores no more than zero is left alone.
///
/// Every origin is scored at every tick, so that this takes its time: it says what another order
/// would be worth, and visits nothing in earnest.
///
/// ```
/// use lamplighter::policy::{Due, DueOptions, Policy};
/// use lamplighter::sim::{Generator, SimOptions, exact};
/// let world = Generator::new(50, 7).generate();
/// let due = Due::new(DueOptions::default().with_budget(1.0));
/// let report = exact(&world, &SimOptions::new(1.0), |_, facts, shared, now| due.value(facts, shared, now));
/// assert!(report.fresh > 0.2 && report.fresh < 1.0);
/// ```
#[must_use]
pub fn exact(
    world: &World,
    options: &SimOptions,
    mut score: impl FnMut(usize, &Facts, &Shared, Timestamp) -> f64,
) -> Report {
    let mut run = Run::new(world, options);
    let mut listings = Listings::new(world, &run.visit_type, options);
    let mut known = Known::new(world, &listings, &run.last_success);
    let tick = listings.tick_seconds();
    let mut carry = 0.0;
    for (n, t) in ticks(world, tick) {
        known.listen(&mut listings, n, t);
        let count = options.visits_of_tick(t, tick, &mut carry);
        if count == 0 {
            continue;
        }
        let now = date(t);
        let shared = Shared::new(serde_json::Value::default(), listings.arrived().len() as u64);
        let trust = known.trust(&listings);
        let mut best: Vec<(f64, u32)> = Vec::with_capacity(listings.arrived().len());
        for &i in listings.arrived() {
            let Some(facts) = known.facts.get_mut(i as usize) else { continue };
            let interval = facts.visits.last_visit.map(|at| at.plus(INTERVAL));
            if interval.max(facts.hold_until).is_some_and(|at| at > now) {
                continue;
            }
            facts.trust = trust.get(listings.group_of(i as usize)).copied().unwrap_or_default();
            let score = score(i as usize, facts, &shared, now);
            if score > 0.0 {
                best.push((score, i));
            }
        }
        let order = |a: &(f64, u32), b: &(f64, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if best.len() > count {
            best.select_nth_unstable_by(count, order);
            best.truncate(count);
        }
        best.sort_unstable_by(order);
        for (_, i) in best {
            if let Some((status, changed)) = run.visit(i as usize, "exact", n, t) {
                known.visited(&listings, i as usize, status, changed, now);
            }
        }
    }
    run.report()
}

/// What a store would know.
struct Known<'w> {
    world: &'w World,
    facts: Vec<Facts>,
    /// What visits said of each group's news, and of all groups of a kind.
    of_group: Vec<Signals>,
    of_kind: Vec<Signals>,
}

impl<'w> Known<'w> {
    fn new(world: &'w World, listings: &Listings<'_>, last_success: &[Option<f64>]) -> Self {
        let of = |(i, visited): (usize, &Option<f64>)| {
            let first_seen = world.origins.get(i).map_or(0.0, |o| f64::from(o.first_seen));
            let mut facts = Facts::new(i as u64, date(first_seen));
            if let Some(at) = visited.map(date) {
                facts.visits.last_visit = Some(at);
                facts.visits.last_successful = Some(at);
                facts.visits.last_status = Some(VisitStatus::Successful);
            }
            facts
        };
        Self {
            world,
            facts: last_success.iter().enumerate().map(of).collect(),
            of_group: vec![Signals::default(); listings.groups()],
            of_kind: vec![Signals::default(); world.kinds.len()],
        }
    }

    fn kind(&self, i: usize) -> usize {
        self.world.origins.get(i).map_or(0, |o| usize::from(o.kind))
    }

    fn listen(&mut self, listings: &mut Listings<'_>, n: u32, t: f64) {
        for heard in listings.hear(n, t) {
            let Some((coverage, look)) = heard.run else { continue };
            let at = date(look);
            for (i, update) in heard.seen {
                let update = update.map(|s| date(f64::from(s)));
                if let Some(facts) = self.facts.get_mut(i as usize) {
                    observe_listing(facts, &Listing::new(at, update));
                }
            }
            if coverage != Coverage::Changed {
                continue;
            }
            for &i in listings.members(heard.group) {
                if let Some(facts) = self.facts.get_mut(i as usize)
                    && facts.last_listed < Some(at)
                {
                    observe_listing(facts, &Listing::new(at, None));
                }
            }
        }
    }

    /// How far the news of each group can be trusted.
    fn trust(&self, listings: &Listings<'_>) -> Vec<Trust> {
        let mut trust = vec![Trust::default(); self.of_group.len()];
        for (group, of) in trust.iter_mut().enumerate() {
            let kind = listings.members(group).first().map(|i| self.kind(*i as usize));
            let all = kind.and_then(|kind| self.of_kind.get(kind)).map(|s| s.trust(*of));
            if let (Some(all), Some(signals)) = (all, self.of_group.get(group)) {
                *of = signals.trust(all);
            }
        }
        trust
    }

    fn visited(
        &mut self,
        listings: &Listings<'_>,
        i: usize,
        status: VisitStatus,
        changed: Option<bool>,
        now: Timestamp,
    ) {
        let (kind, group) = (self.kind(i), listings.group_of(i));
        let dated = self.world.kinds.get(kind).is_some_and(|k| k.period > 0.0);
        let Some(facts) = self.facts.get_mut(i) else { return };
        if let (true, Some(good), Some(changed)) = (dated, facts.last_good(), changed) {
            let told = facts.told().is_some_and(|u| u > good);
            let looked = looked_since(facts.evidence.listed, good);
            let of_group = self.of_group.get_mut(group).into_iter();
            for signals in of_group.chain(self.of_kind.get_mut(kind)) {
                signals.count(told, looked, changed);
            }
        }
        let Some(facts) = self.facts.get_mut(i) else { return };
        let outcome = Outcome::new(VisitId(i as u64), VisitToken(1), status, now);
        observe_visit(facts, &outcome, now, changed);
    }
}
