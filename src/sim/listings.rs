//! The listings of a world: who is listed when, and what is news.

use super::generate::to_f64;
use super::world::{DAY, World};
use crate::backend::{
    CursorEnd, EndRun, ImportedOrigin, ImportedVisits, OriginStore, PageCommit, PageDigest, RunOutcome,
    RunPlan, RunStore,
};
use crate::lister::{Coverage, Mode, PageBatch, Sighting};
use crate::model::{ListerKey, NewOrigin, Timestamp, VisitStatus, VisitType};

use super::run::SimError;

/// The start of every simulation. Any date would do; one that looks like a date is easier to read.
pub(crate) const START: i64 = 1_600_000_000;

/// A time of the simulation as a date.
#[allow(clippy::cast_possible_truncation, reason = "microseconds of some years")]
pub(crate) fn date(seconds: f64) -> Timestamp {
    Timestamp::from_micros(START * 1_000_000 + (seconds * 1e6).round() as i64)
}

/// Origins that are listed together: of one kind, at the same ticks.
struct Group {
    key: ListerKey,
    origins: Vec<u32>,
    /// Ticks between two listings; zero for one that is of no use after the first time.
    every: u32,
    /// The first tick of its own.
    offset: u32,
    /// How late it is, in seconds.
    lag: f64,
}

/// All listings of a world.
pub(crate) struct Listings<'w> {
    world: &'w World,
    visit_type: VisitType,
    groups: Vec<Group>,
    /// The group of each origin.
    group_of: Vec<u32>,
    /// How many signals of each origin were told.
    told: Vec<u32>,
    /// Origins by when they appear, and how many have.
    arrivals: Vec<u32>,
    arrived: usize,
    tick: f64,
}

impl<'w> Listings<'w> {
    pub(crate) fn new(world: &'w World, visit_type: &VisitType, reversed: bool) -> Self {
        let tick = world.tick * DAY;
        let mut groups: Vec<Group> = Vec::new();
        let mut first_of_kind = Vec::new();
        for (kind, k) in world.kinds.iter().enumerate() {
            first_of_kind.push(groups.len());
            let every = whole(k.period / world.tick);
            for slot in 0..every.max(1) {
                // An origin is listed when `t / period + phase` passes a whole number.
                let phase = (to_f64(slot as usize) + 0.5) / to_f64(every.max(1) as usize);
                groups.push(Group {
                    key: ListerKey::new(format!("kind-{kind}"), format!("slot-{slot}")),
                    origins: Vec::new(),
                    every,
                    offset: if every == 0 { 0 } else { (every - slot) % every },
                    lag: k.lag * (0.5 + 0.5 * phase) * DAY,
                });
            }
        }
        let mut group_of = Vec::with_capacity(world.len());
        for origin in &world.origins {
            let first = first_of_kind.get(usize::from(origin.kind)).copied().unwrap_or(0);
            let every = groups.get(first).map_or(0, |g| g.every);
            let slot = whole_below(origin.phase * to_f64(every as usize), every);
            group_of.push(u32::try_from(first).unwrap_or(0) + slot);
        }
        let mut arrivals: Vec<u32> = (0..).take(world.len()).collect();
        arrivals.sort_by_key(|i| world.origins.get(*i as usize).map(|o| o.first_seen));
        let mut this = Self {
            world,
            visit_type: visit_type.clone(),
            groups,
            group_of,
            told: vec![0; world.len()],
            arrivals,
            arrived: 0,
            tick,
        };
        if reversed {
            this.arrivals.reverse();
            this.arrivals.sort_by_key(|i| world.origins.get(*i as usize).map(|o| o.first_seen));
        }
        this
    }

    /// What the archive knows before the first tick: origins that were always there, and when each
    /// was last visited.
    pub(crate) async fn begin<S: OriginStore>(
        &mut self,
        store: &S,
        last_success: &[Option<f64>],
    ) -> Result<(), SimError> {
        let known =
            self.arrivals.iter().copied().take_while(|i| self.first_seen(*i) < 0.0).collect::<Vec<_>>();
        for batch in known.chunks(1000) {
            let origins = batch.iter().filter_map(|i| self.imported(*i, last_success)).collect();
            store.import(origins, date(-DAY)).await?;
        }
        Ok(())
    }

    fn first_seen(&self, i: u32) -> f64 {
        self.world.origins.get(i as usize).map_or(f64::INFINITY, |o| f64::from(o.first_seen))
    }

    fn group(&self, i: u32) -> Option<&Group> {
        self.groups.get(*self.group_of.get(i as usize)? as usize)
    }

    fn imported(&self, i: u32, last_success: &[Option<f64>]) -> Option<ImportedOrigin> {
        let url = url(i as usize);
        let mut origin = ImportedOrigin::new(&self.group(i)?.key, url, self.visit_type.clone());
        origin.first_seen = Some(date(self.first_seen(i)));
        let visited = last_success.get(i as usize).copied().flatten().map(date);
        origin.visits = visited.map(|at| ImportedVisits {
            last_visit: Some(at),
            last_successful: Some(at),
            status: Some(VisitStatus::Successful),
            ..ImportedVisits::default()
        });
        Some(origin)
    }

    /// The listings of a tick that ends at `t`. A lister looks at what was visible some time
    /// before, and its run is dated so; what did not change is not on its page.
    pub(crate) async fn tick<S: RunStore + OriginStore>(
        &mut self,
        store: &S,
        n: u32,
        t: f64,
    ) -> Result<(), SimError> {
        let start = self.arrived;
        while self.arrivals.get(self.arrived).is_some_and(|i| self.first_seen(*i) <= t) {
            self.arrived += 1;
        }
        let mut news = self.arrivals.get(start..self.arrived).unwrap_or_default().to_vec();
        news.sort_by_key(|i| self.group_of.get(*i as usize).copied());
        let mut news = news.into_iter().peekable();
        for g in 0..self.groups.len() {
            let mut first = Vec::new();
            while let Some(i) =
                news.next_if(|i| self.group_of.get(*i as usize).map(|g| *g as usize) == Some(g))
            {
                first.push(i);
            }
            self.list(store, g, n, t, first).await?;
        }
        Ok(())
    }

    async fn list<S: RunStore + OriginStore>(
        &mut self,
        store: &S,
        g: usize,
        n: u32,
        t: f64,
        first: Vec<u32>,
    ) -> Result<(), SimError> {
        let Some(group) = self.groups.get_mut(g) else { return Ok(()) };
        let turn = group.every > 0 && n % group.every == group.offset;
        if group.every == 0 {
            // Named once, without a date.
            for batch in first.chunks(1000) {
                let new = batch.iter().copied().filter(|i| self.first_seen(*i) >= 0.0);
                let origins = new.filter_map(|i| self.imported(i, &[])).collect::<Vec<_>>();
                if !origins.is_empty() {
                    store.import(origins, date(t)).await?;
                }
            }
            return Ok(());
        }
        if !turn && first.is_empty() {
            return Ok(());
        }
        let look = t - group.lag;
        let mut seen = first.clone();
        if turn {
            seen.extend(group.origins.iter().copied());
        }
        // On the very first tick everything is listed, whoever's turn it is.
        let coverage = if turn || n == 1 { Coverage::Changed } else { Coverage::New };
        group.origins.extend(&first);
        let key = group.key.clone();
        let mut page = PageBatch::default();
        for (at, i) in seen.into_iter().enumerate() {
            let signals = self.world.signals(i as usize);
            let known = self.told.get(i as usize).map_or(0, |n| *n as usize);
            let unseen = signals.get(known..).unwrap_or_default();
            let now = known + unseen.partition_point(|s| f64::from(*s) <= look);
            if now == known && at >= first.len() {
                continue;
            }
            if let Some(told) = self.told.get_mut(i as usize) {
                *told = u32::try_from(now).unwrap_or(u32::MAX);
            }
            let url = url(i as usize);
            let mut origin = NewOrigin::new(url, self.visit_type.clone());
            let last = now.checked_sub(1).and_then(|last| signals.get(last));
            origin.last_update = last.map(|s| date(f64::from(*s)));
            page.origins.push(Sighting::new(origin));
        }
        run(store, key, coverage, page, date(look)).await
    }

    pub(crate) fn tick_seconds(&self) -> f64 {
        self.tick
    }
}

/// One run with one page.
async fn run<S: RunStore>(
    store: &S,
    key: ListerKey,
    coverage: Coverage,
    page: PageBatch,
    at: Timestamp,
) -> Result<(), SimError> {
    let mut plan = RunPlan::new(key, Mode::Full, vec![serde_json::Value::from(0)]);
    plan.coverage = coverage;
    let begun = store.begin_run(plan, at).await?;
    let lease = std::time::Duration::from_secs(3600);
    for cursor in store.claim_cursors(begun.ticket, 1, lease, at).await? {
        let content = (!page.origins.is_empty()).then_some([1; 16]);
        let end = CursorEnd::Done(PageDigest::new([0; 16], content));
        store.commit_page(PageCommit::new(begun.ticket, cursor.ticket, page.clone(), Some(end)), at).await?;
    }
    store.end_run(EndRun::new(begun.ticket, RunOutcome::Complete), at).await?;
    Ok(())
}

/// The nearest whole number, in ticks.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ticks of some years")]
fn whole(n: f64) -> u32 {
    n.round().max(0.0) as u32
}

/// The whole number below, and below an end.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a few thousand")]
fn whole_below(n: f64, end: u32) -> u32 {
    (n.max(0.0) as u32).min(end.saturating_sub(1))
}

/// The URL of an origin: its number is its own.
pub(crate) fn url(i: usize) -> String {
    format!("https://world.example/{i}")
}

/// The number in an URL.
pub(crate) fn number(url: &str) -> Option<usize> {
    url.rsplit_once('/')?.1.parse().ok()
}
