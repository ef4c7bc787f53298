//! The loop: listings, claims and outcomes through a store's own traits, under a clock of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::generate::to_f64;
use super::listings::{Listings, date, number};
use super::measure::{Measure, Point};
use super::rng::Rng;
use super::world::{DAY, World, WorldOrigin};
use crate::backend::{BackendError, Claim, OriginStore, RunStore, VisitStore};
use crate::model::{Outcome, VisitStatus, VisitType, hex};

/// History known before the start is at most so many days old, less one.
const OLDEST: f64 = 1500.0;

/// How a world is run through.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SimOptions {
    /// Visits a day.
    pub visits_per_day: f64,
    /// From each day on, that many times as many.
    pub steps: Vec<(f64, f64)>,
    /// The share of visits that fail although the origin is there. None by default.
    pub failing: f64,
    /// The share of visits whose worker dies without a word. None by default.
    pub lost: f64,
    /// The seed of these.
    pub seed: u64,
    /// Nothing was ever visited before the start, and measuring begins with it.
    pub cold: bool,
    /// Bring the origins in the reverse order: nothing may depend on it.
    pub reversed: bool,
    /// Every listing names all of its origins, and changes something of each that says nothing of
    /// upstream: all of them are written and placed anew.
    pub renewing: bool,
    /// Claim at most so many at a time; a tick's whole budget by default.
    pub claim_size: Option<usize>,
}

impl SimOptions {
    /// So many visits a day, and defaults for the rest.
    #[must_use]
    pub fn new(visits_per_day: f64) -> Self {
        Self {
            visits_per_day,
            steps: Vec::new(),
            failing: 0.0,
            lost: 0.0,
            seed: 1,
            cold: false,
            reversed: false,
            renewing: false,
            claim_size: None,
        }
    }

    /// From each of these days on, that many times the budget.
    #[must_use]
    pub fn with_steps(mut self, steps: Vec<(f64, f64)>) -> Self {
        self.steps = steps;
        self
    }

    /// Shares of visits that fail, and whose worker dies, by a seed.
    #[must_use]
    pub fn with_failures(mut self, failing: f64, lost: f64, seed: u64) -> Self {
        (self.failing, self.lost, self.seed) = (failing, lost, seed);
        self
    }

    /// Begins with nothing visited.
    #[must_use]
    pub fn cold(mut self) -> Self {
        self.cold = true;
        self
    }

    /// Brings the origins in the reverse order.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.reversed = true;
        self
    }

    /// Has every listing write and place all of its origins anew.
    #[must_use]
    pub fn renewing(mut self) -> Self {
        self.renewing = true;
        self
    }

    /// Claims at most so many at a time.
    #[must_use]
    pub fn with_claim_size(mut self, size: usize) -> Self {
        self.claim_size = Some(size.max(1));
        self
    }

    /// Visits of a tick that ends at `t`, in seconds; what is no whole visit is carried over.
    pub(super) fn visits_of_tick(&self, t: f64, tick: f64, carry: &mut f64) -> usize {
        let day = t / DAY;
        let factor =
            self.steps.iter().rev().find(|(from, _)| day >= *from).map_or(1.0, |(_, factor)| *factor);
        *carry += self.visits_per_day * factor * tick / DAY;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "visits of a tick")]
        let visits = carry.max(0.0) as usize;
        *carry -= to_f64(visits);
        visits
    }
}

/// Why a simulation could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The store refused.
    #[error("the store refused")]
    Store(#[from] BackendError),
    /// The store handed out what is not in the world.
    #[error("{0} is not of this world")]
    Stranger(String),
}

/// Where visits went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Spent {
    /// Visits that found something new.
    pub useful: u64,
    /// Visits that found nothing new.
    pub useless: u64,
    /// Visits that archived nothing.
    pub failed: u64,
}

impl Spent {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.useful + self.useless + self.failed
    }
}

/// What came of a simulation. Shares, and days; counted from where the world says on.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The mean share of origins whose copy was current.
    pub fresh: f64,
    /// The mean age of the oldest change not archived.
    pub age: f64,
    /// The mean time from a change to its being archived.
    pub lag: f64,
    /// The share of visits that found nothing new.
    pub useless: f64,
    /// The share of visits that archived nothing.
    pub failed: f64,
    /// The mean time to the first visit of a new origin.
    pub ttfv: f64,
    /// The worst time without a current copy, of the worst origin but one in a hundred.
    pub p99: f64,
    /// The worst time without a current copy.
    pub max: f64,
    /// Visits counted.
    pub visits: u64,
    /// A digest of the whole sequence of visits, from the first on: equal for equal sequences.
    pub sequence_sha256: String,
    /// How freshness and age went.
    pub history: Vec<Point>,
    /// The worst time without a current copy of each live origin, in order.
    pub worst: Vec<f64>,
    /// Where visits went, by kind of lister.
    pub by_kind: Vec<Spent>,
    /// Where visits went, by lane.
    pub by_lane: BTreeMap<String, Spent>,
    /// The longest time that a live origin went without any visit.
    pub longest_unvisited: f64,
}

/// Days of a full round at so many visits a day.
pub(crate) fn round(origins: usize, visits_per_day: f64) -> f64 {
    if visits_per_day > 0.0 { to_f64(origins) / visits_per_day } else { f64::INFINITY }
}

/// When an origin that was always there was visited before the start, in a steady round of so many
/// days.
pub(crate) fn visited_before(origin: &WorldOrigin, round: f64) -> f64 {
    -origin.spread * round.min(OLDEST - 1.0) * DAY
}

/// Runs a store through a world: its listings are committed, its claims are answered by what the
/// world says, at times that the simulation tells it. The store decides, with whatever policy it
/// has; the world only answers.
///
/// ```
/// use lamplighter::backend::MemoryStore;
/// use lamplighter::sim::{Generator, SimOptions, simulate};
/// # futures::executor::block_on(async {
/// let world = Generator::new(50, 7).generate();
/// let report = simulate(&world, &MemoryStore::new(), &SimOptions::new(1.0)).await?;
/// assert!(report.fresh > 0.2 && report.fresh < 1.0);
/// # Ok::<(), lamplighter::sim::SimError>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// [`SimError::Store`] where the store refuses, [`SimError::Stranger`] where it hands out what it
/// was not given: it must be empty at the beginning, and without a bound on its clock.
pub async fn simulate<S: RunStore + OriginStore + VisitStore>(
    world: &World,
    store: &S,
    options: &SimOptions,
) -> Result<Report, SimError> {
    let mut run = Run::new(world, options);
    let mut listings = Listings::new(world, &run.visit_type, options);
    listings.begin(store, &run.last_success).await?;
    let tick = listings.tick_seconds();
    let mut carry = 0.0;
    for (n, t) in ticks(world, tick) {
        listings.tick(store, n, t).await?;
        let mut left = options.visits_of_tick(t, tick, &mut carry);
        while left > 0 {
            let ask = options.claim_size.unwrap_or(left).min(left);
            let done = run.visits(store, n, t, ask).await?;
            left -= done.min(left);
            if done < ask {
                // Nothing else may be visited now; what is not spent is lost.
                break;
            }
        }
    }
    Ok(run.report())
}

/// The ticks of a run, from 1 on, each with its time in seconds.
pub(super) fn ticks(world: &World, seconds: f64) -> impl Iterator<Item = (u32, f64)> {
    let end = world.end() + 0.5;
    (1u32..).map(move |n| (n, f64::from(n) * seconds)).take_while(move |(_, t)| *t <= end)
}

/// A run under way.
pub(super) struct Run<'w> {
    world: &'w World,
    options: &'w SimOptions,
    pub(super) visit_type: VisitType,
    measure: Measure<'w>,
    from: f64,
    pub(super) last_success: Vec<Option<f64>>,
    last_visit: Vec<f64>,
    longest: f64,
    rng: Rng,
    sequence: Sha256,
    by_kind: Vec<Spent>,
    by_lane: BTreeMap<String, Spent>,
}

impl<'w> Run<'w> {
    pub(super) fn new(world: &'w World, options: &'w SimOptions) -> Self {
        let from = if options.cold { 0.0 } else { world.measure_from * DAY };
        let round = round(world.len(), options.visits_per_day);
        let visited = |o: &WorldOrigin| (o.first_seen < 0 && !options.cold).then(|| visited_before(o, round));
        let last_success: Vec<_> = world.origins.iter().map(visited).collect();
        let first =
            |(o, visited): (&WorldOrigin, &Option<f64>)| visited.unwrap_or(f64::from(o.first_seen).max(0.0));
        Self {
            world,
            options,
            visit_type: VisitType::git(),
            measure: Measure::new(world, from),
            from,
            last_visit: world.origins.iter().zip(&last_success).map(first).collect(),
            last_success,
            longest: 0.0,
            rng: Rng::new(options.seed),
            sequence: Sha256::new(),
            by_kind: vec![Spent::default(); world.kinds.len()],
            by_lane: BTreeMap::new(),
        }
    }

    /// Claims visits and makes them. Returns how many there were.
    async fn visits<S: RunStore + OriginStore + VisitStore>(
        &mut self,
        store: &S,
        n: u32,
        t: f64,
        count: usize,
    ) -> Result<usize, SimError> {
        let now = date(t);
        // A lost visit is handed out again at the next tick, and not at the next claim.
        let lease = Duration::from_secs_f64((self.world.tick * DAY / 2.0).max(1.0));
        let claim = Claim::new(self.visit_type.clone(), count).with_lease(lease).with_owner("simulator");
        let claimed = store.claim(&claim, now).await?;
        let mut outcomes = Vec::with_capacity(claimed.visits.len());
        for visit in &claimed.visits {
            let i = number(&visit.url).filter(|i| *i < self.world.len());
            let i = i.ok_or_else(|| SimError::Stranger(visit.url.clone()))?;
            let answer = self.visit(i, &visit.lane, n, t);
            outcomes.extend(answer.map(|(status, changed)| {
                let outcome = Outcome::new(visit.visit, visit.token, status, now);
                match changed {
                    Some(changed) => outcome.with_changed(changed),
                    None => outcome,
                }
            }));
        }
        if let Some(refusal) = store.complete(&outcomes, now).await?.into_iter().find_map(Result::err) {
            return Err(SimError::Stranger(format!("an outcome: {refusal}; it")));
        }
        Ok(claimed.visits.len())
    }

    /// Makes a visit: how it ended, and whether anything was new. None where its worker dies.
    pub(super) fn visit(
        &mut self,
        i: usize,
        lane: &str,
        n: u32,
        t: f64,
    ) -> Option<(VisitStatus, Option<bool>)> {
        self.sequence.update(n.to_le_bytes());
        self.sequence.update(u32::try_from(i).unwrap_or(u32::MAX).to_le_bytes());
        let origin = self.world.origins.get(i)?;
        if self.options.lost > 0.0 && self.rng.chance(self.options.lost) {
            return None;
        }
        let fails = self.options.failing > 0.0 && self.rng.chance(self.options.failing);
        let mut spent = Spent::default();
        let answer = if origin.dead || fails {
            spent.failed = 1;
            (if origin.dead { VisitStatus::NotFound } else { VisitStatus::Failed }, None)
        } else {
            let before = self.last_success.get_mut(i)?;
            let changed = self.measure.archived(i, *before, t);
            *before = Some(t);
            if changed {
                spent.useful = 1;
            } else {
                spent.useless = 1;
            }
            (VisitStatus::Successful, Some(changed))
        };
        let last = self.last_visit.get_mut(i)?;
        if !origin.dead && t > self.from {
            self.longest = self.longest.max(t - *last);
        }
        *last = t;
        if t > self.from {
            let kind = self.by_kind.get_mut(usize::from(origin.kind))?;
            let lane = self.by_lane.entry(lane.to_owned()).or_default();
            for sum in [kind, lane] {
                sum.useful += spent.useful;
                sum.useless += spent.useless;
                sum.failed += spent.failed;
            }
        }
        Some(answer)
    }

    pub(super) fn report(self) -> Report {
        let end = self.world.end();
        let live = self.world.origins.iter().zip(&self.last_visit);
        let live = live.filter(|(o, _)| !o.dead && f64::from(o.first_seen) < end);
        let longest = live.map(|(_, last)| end - last).fold(self.longest, f64::max);
        let (figures, history, worst) = self.measure.finish(&self.last_success, self.options.cold);
        let mut all = Spent::default();
        for spent in &self.by_kind {
            all.useful += spent.useful;
            all.useless += spent.useless;
            all.failed += spent.failed;
        }
        #[allow(clippy::cast_precision_loss, reason = "counts of visits")]
        let share = |n: u64| if all.all() == 0 { 0.0 } else { n as f64 / all.all() as f64 };
        let sequence = hex(&self.sequence.finalize());
        Report {
            fresh: figures.fresh,
            age: figures.age,
            lag: figures.lag,
            useless: share(all.useless),
            failed: share(all.failed),
            ttfv: figures.ttfv,
            p99: figures.p99,
            max: figures.max,
            visits: all.all(),
            sequence_sha256: sequence,
            history,
            worst,
            by_kind: self.by_kind,
            by_lane: self.by_lane,
            longest_unvisited: longest / DAY,
        }
    }
}
