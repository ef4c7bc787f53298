//! The laws that every lister obeys, checked on a fixture through the real driver.
//!
//! 1. A fixture shows something: at least three requests (two for a lister of one file, over all its
//!    runs), an origin, and, for a lister with memory, a second run.
//! 2. A replay lists what the fixture's author computed, ends as it says, asks for nothing that is not
//!    recorded, and leaves nothing unasked.
//! 3. Cursors survive storage, and the same bytes give the same page.
//! 4. `join` is commutative, associative and idempotent.
//! 5. A kill at any request and any commit, and the run continued: the same origins, and at most the
//!    page in flight is asked for twice.
//! 6. A failure for good at any request, then a healthy run: the same origins. A lister may find a
//!    way round what failed, if nothing is missing then. While it lasts, a lister that resumes
//!    asks for what is new and the gap only. Items that were read are not asked for
//!    again.
//!
//! ```no_run
//! # // A test is made of it, which no documentation test can run.
//! lamplighter::testing::laws!(pagure_obeys_the_laws, "fixtures/pagure/basic");
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{Case, CaseOrigin, CaseRun, KillPoint, Killer, KillingStore, KillingTransport, VirtualClock};
use crate::backend::{MemoryStore, OriginQuery, OriginStore, RunStore};
use crate::driver::{Driver, RunOptions, RunReport, chain};
use crate::lister::{
    Coverage, Entry, Failure, FollowKind, ListerError, Mode, Page, PageSource, Recovery, Registry, RunInfo,
};
use crate::model::{JsonObject, ListerKey, Timestamp};
use crate::transport::{Body, Clock, Fit, Replay, Request, Response, Transport, TransportError};

/// A law that a lister breaks on a fixture, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{law}: {how}")]
#[non_exhaustive]
pub struct BrokenLaw {
    /// Which law.
    pub law: &'static str,
    /// How it is broken.
    pub how: String,
}

type Checked<T = ()> = Result<T, BrokenLaw>;

/// The fewest requests of a fixture of a lister of one file.
const SINGLE_FILE: usize = 2;

fn broken(law: &'static str, how: impl Into<String>) -> BrokenLaw {
    BrokenLaw { law, how: how.into() }
}

fn ensure(law: &'static str, holds: bool, how: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(broken(law, how())) }
}

/// Makes a test of a fixture folder (relative to the crate that the test is in):
/// `laws!(name, "fixtures/…")`. With `single_file` the fixture may have two requests only, over all its
/// runs; with `registry = …` the lister is of that registry instead of the built-in one.
#[macro_export]
#[doc(hidden)]
macro_rules! __lamplighter_laws {
    ($name:ident, $folder:expr) => {
        $crate::testing::laws!(@test $name, $folder, $crate::lister::Registry::builtin(), 3);
    };
    ($name:ident, $folder:expr, single_file) => {
        $crate::testing::laws!(@test $name, $folder, $crate::lister::Registry::builtin(), 2);
    };
    ($name:ident, $folder:expr, registry = $registry:expr) => {
        $crate::testing::laws!(@test $name, $folder, $registry, 3);
    };
    (@test $name:ident, $folder:expr, $registry:expr, $requests:expr) => {
        #[tokio::test]
        async fn $name() {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join($folder);
            if let Err(law) = $crate::testing::check_laws(&$registry, &folder, $requests).await {
                panic!("{}: {law}", folder.display());
            }
        }
    };
}

/// Checks all laws on a fixture that has at least so many requests.
///
/// # Errors
/// The first [`BrokenLaw`]; also where the fixture cannot be read.
pub async fn check_laws(registry: &Registry, folder: &Path, requests: usize) -> Checked {
    let case = Case::load(folder).map_err(|e| broken("fixture", e.to_string()))?;
    let entry = registry.entry(&case.lister).map_err(|e| broken("fixture", e.to_string()))?;
    let trial = Trial { entry, runs: &case.runs };
    trial.shows_something(requests)?;
    let watched = trial.lists_what_it_says().await?;
    pages_repeat(&watched)?;
    joins(&watched)?;
    for (n, asked) in watched.asked.iter().enumerate() {
        for point in [KillPoint::Answered, KillPoint::BeforeCommit, KillPoint::AfterCommit] {
            for at in sample(*asked) {
                trial.survives_a_kill(n, point, at, *asked).await?;
            }
        }
    }
    for at in sample(watched.asked.first().copied().unwrap_or(0)) {
        trial.recovers_from_a_failure(at).await?;
    }
    Ok(())
}

/// Every number below `n`; 24 of them, evenly spread, where they are many and nobody asks for all by
/// `LAMPLIGHTER_LAWS=all`.
fn sample(n: usize) -> Vec<usize> {
    let all = std::env::var("LAMPLIGHTER_LAWS").is_ok_and(|v| v == "all");
    let step = if all { 1 } else { n.div_ceil(24).max(1) };
    (0..n).step_by(step).collect()
}

struct Trial<'a> {
    entry: &'a Entry,
    runs: &'a [CaseRun],
}

/// What a whole undisturbed replay showed.
#[derive(Default)]
struct Watched {
    /// Requests of each run.
    asked: Vec<usize>,
    pages: Vec<(Arc<dyn PageSource>, Value, Response)>,
    marks: Vec<Value>,
}

impl Trial<'_> {
    fn shows_something(&self, requests: usize) -> Checked {
        const LAW: &str = "a fixture shows something";
        let first = self.runs.first().ok_or_else(|| broken(LAW, "it has no run"))?;
        // A lister of one file asks for it once a run.
        let counted = if requests == SINGLE_FILE { self.runs } else { std::slice::from_ref(first) };
        let asked: usize = counted.iter().map(|run| run.exchanges.len()).sum();
        ensure(LAW, asked >= requests, || format!("its first run has {asked} requests, under {requests}"))?;
        let some = first.origins.as_ref().is_some_and(|o| !o.is_empty());
        ensure(LAW, some, || "its first run lists no origin".to_owned())?;
        let remembers = self.source(first)?.is_incremental();
        ensure(LAW, !remembers || self.runs.len() >= 2, || {
            "the lister has a memory, and there is no second run".to_owned()
        })
    }

    fn source(&self, run: &CaseRun) -> Checked<Arc<dyn PageSource>> {
        let built = self.entry.build(&run.arguments).map_err(|e| broken("fixture", e.to_string()))?;
        Ok(built.source)
    }

    /// The clock of the n-th run: a day after the one before, whatever the fixture says, so that
    /// what a run saw can be told by its date.
    fn clock(&self, n: usize) -> Arc<VirtualClock> {
        let first = self.runs.first().and_then(|r| r.at).unwrap_or(Timestamp::EPOCH);
        let days = u64::try_from(n).unwrap_or(0) + 1;
        Arc::new(VirtualClock::new(first.plus(Duration::from_secs(86_400 * days))))
    }

    fn replay(&self, run: &CaseRun, clock: &Arc<VirtualClock>) -> Arc<Replay> {
        let replay = Replay::new(run.exchanges.iter().cloned(), Arc::clone(clock) as _);
        Arc::new(replay.with_positions(self.entry.positions))
    }

    async fn run(
        &self,
        n: usize,
        store: Arc<dyn RunStore>,
        transport: Arc<dyn Transport>,
        source: Arc<dyn PageSource>,
        clock: Arc<dyn Clock>,
    ) -> Checked<RunReport> {
        let full = self.runs.get(n).is_some_and(|r| r.mode == Some(Mode::Full));
        let options = RunOptions::default().with_concurrency(1).with_full(full);
        let driver = Driver::new(store, transport, clock);
        driver.run(source, options).await.map_err(|e| broken("a run has an outcome", chain(&e)))
    }

    /// The n-th run, undisturbed.
    async fn healthy(
        &self,
        n: usize,
        run: &CaseRun,
        store: &Arc<MemoryStore>,
    ) -> Checked<(RunReport, Arc<Replay>)> {
        let clock = self.clock(n);
        let replay = self.replay(run, &clock);
        let source = self.source(run)?;
        let report = self.run(n, Arc::clone(store) as _, Arc::clone(&replay) as _, source, clock).await?;
        Ok((report, replay))
    }

    /// A store in which the runs before the n-th have been.
    async fn before(&self, n: usize) -> Checked<Arc<MemoryStore>> {
        let store = Arc::new(MemoryStore::new());
        for (i, run) in self.runs.iter().enumerate().take(n) {
            self.healthy(i, run, &store).await?;
        }
        Ok(store)
    }

    async fn lists_what_it_says(&self) -> Checked<Watched> {
        const LAW: &str = "a replay lists what its fixture says";
        let store = Arc::new(MemoryStore::new());
        let mut all = Watched::default();
        for (n, run) in self.runs.iter().enumerate() {
            let clock = self.clock(n);
            let replay = self.replay(run, &clock);
            let watching = Arc::new(Watching::new(self.source(run)?));
            let report = self
                .run(n, Arc::clone(&store) as _, Arc::clone(&replay) as _, Arc::clone(&watching) as _, clock)
                .await?;
            let log = replay.log();
            let missing = log.iter().find(|r| r.answer == Fit::None);
            ensure(LAW, missing.is_none(), || {
                format!("run {} asks for what is not recorded: {missing:?}", n + 1)
            })?;
            ensure(LAW, replay.unused() == 0, || {
                format!("run {} leaves {} recorded answers unasked", n + 1, replay.unused())
            })?;
            let said = run.outcome.as_deref().unwrap_or("complete");
            ensure(LAW, report.outcome.as_str() == said, || {
                let why: Vec<_> = report.gaps.iter().map(|g| &g.reason).collect();
                format!("run {} ends {}, not {said} ({why:?})", n + 1, report.outcome.as_str())
            })?;
            let listed = origins(&store, Some(self.clock(n).now())).await?;
            same(LAW, &format!("run {}", n + 1), &listed, &expected(run))?;
            all.asked.push(log.len());
            let (pages, marks) = watching.taken();
            all.marks.extend(marks);
            let source = self.source(run)?;
            all.pages.extend(pages.into_iter().map(|(c, r)| (Arc::clone(&source), c, r)));
        }
        Ok(all)
    }

    /// Kills the n-th run when it passes a point for the `at`-th time, and continues it.
    async fn survives_a_kill(&self, n: usize, point: KillPoint, at: usize, asked: usize) -> Checked {
        const LAW: &str = "a kill loses nothing";
        let Some(run) = self.runs.get(n) else { return Ok(()) };
        let store = self.before(n).await?;
        let (clock, killer) = (self.clock(n), Killer::new(point, at as u64));
        let replay = self.replay(run, &clock);
        let doomed_store = Arc::new(KillingStore::new(Arc::clone(&store) as _, Arc::clone(&killer)));
        let doomed_transport = Arc::new(KillingTransport::new(Arc::clone(&replay), Arc::clone(&killer)));
        let doomed =
            Box::pin(self.run(n, doomed_store, doomed_transport, self.source(run)?, Arc::clone(&clock) as _));
        let dead = Box::pin(killer.killed());
        if let futures::future::Either::Left((report, _)) = futures::future::select(doomed, dead).await {
            return report.map(|_| ());
        }
        let report =
            self.run(n, Arc::clone(&store) as _, Arc::clone(&replay) as _, self.source(run)?, clock).await?;
        let place = format!("run {}, killed at {point:?} {at}", n + 1);
        let said = run.outcome.as_deref().unwrap_or("complete");
        ensure(LAW, report.outcome.as_str() == said, || {
            format!("{place}: it ends {}", report.outcome.as_str())
        })?;
        let listed = origins(&store, Some(self.clock(n).now())).await?;
        same(LAW, &place, &listed, &expected(run))?;
        let twice = replay.log().len().saturating_sub(asked);
        let allowed = usize::from(point != KillPoint::AfterCommit);
        ensure(LAW, twice <= allowed, || format!("{place}: {twice} pages were asked for twice"))
    }

    /// Lets the `at`-th request of the first run fail for good; the next run is healthy.
    async fn recovers_from_a_failure(&self, at: usize) -> Checked {
        const LAW: &str = "a failure is made good by the next run";
        let Some(run) = self.runs.first() else { return Ok(()) };
        let store = Arc::new(MemoryStore::new());
        let (clock, place) = (self.clock(0), format!("request {} fails for good", at + 1));
        let replay = self.replay(run, &clock);
        let failing = Arc::new(Failing::new(Arc::clone(&replay), at));
        let watching = Arc::new(Watching::new(self.source(run)?));
        let first = self
            .run(0, Arc::clone(&store) as _, Arc::clone(&failing) as _, Arc::clone(&watching) as _, clock)
            .await?;
        if first.outcome.as_str() == "complete" {
            // It found a way round what failed: then nothing may be missing.
            return same(LAW, &place, &origins(&store, None).await?, &expected(run));
        }
        ensure(LAW, !first.gaps.is_empty(), || {
            format!("{place}: and the run ends {} with {} gaps", first.outcome.as_str(), first.gaps.len())
        })?;
        let read = watching.items_read();
        if watching.is_incremental() && resumes(&*watching, &first.state)? {
            let asked = failing.asked();
            let clock = self.clock(1);
            self.run(0, Arc::clone(&store) as _, Arc::clone(&failing) as _, self.source(run)?, clock).await?;
            let more = failing.asked() - asked;
            ensure(LAW, more <= 2, || {
                format!("{place}: while it lasts, the next run makes {more} requests")
            })?;
        }
        let (clock, watching) = (self.clock(2), Arc::new(Watching::new(self.source(run)?)));
        let healed = self.run(0, Arc::clone(&store) as _, replay, Arc::clone(&watching) as _, clock).await?;
        ensure(LAW, healed.outcome.as_str() == run.outcome.as_deref().unwrap_or("complete"), || {
            format!("{place}: healed, the next run ends {} ({:?})", healed.outcome.as_str(), healed.gaps)
        })?;
        same(LAW, &place, &origins(&store, None).await?, &expected(run))?;
        let again: Vec<String> = watching.items_read().intersection(&read).cloned().collect();
        ensure(LAW, again.is_empty(), || format!("{place}: items read before are asked for again: {again:?}"))
    }
}

/// Whether a later run begins elsewhere than the first one did. Where it does not, the lister says
/// that nothing short of a whole listing tells it what is new.
fn resumes(source: &dyn PageSource, state: &JsonObject) -> Checked<bool> {
    let failed = |e: ListerError| broken("a state is read", chain(&e));
    let run = |mode| RunInfo::new(Timestamp::EPOCH, mode);
    let Some(state) = source.read_state(state, source.state_form()).map_err(failed)? else {
        return Ok(false);
    };
    let resumed = source.resume(&state, &run(Mode::Incremental)).map_err(failed)?;
    Ok(resumed != source.start(&run(Mode::Full)).map_err(failed)?)
}

fn pages_repeat(watched: &Watched) -> Checked {
    for (source, cursor, response) in &watched.pages {
        let stored: Value = serde_json::from_str(&cursor.to_string())
            .map_err(|e| broken("cursors survive storage", format!("{cursor}: {e}")))?;
        let request = |cursor: &Value| {
            let request = source.request(cursor).map_err(|e| broken("cursors survive storage", chain(&e)))?;
            Ok((request.method, request.url, request.headers, request.body))
        };
        ensure("cursors survive storage", request(cursor)? == request(&stored)?, || {
            format!("{cursor} gives another request after it was stored")
        })?;
        let page = || {
            let mut page = Page::new();
            let read = source.read(cursor, response.clone(), &mut page);
            (read.map_err(|e| chain(&e)), page.finish().map_err(|e| chain(&e)))
        };
        ensure("the same bytes give the same page", page() == page(), || format!("not so at {cursor}"))?;
    }
    Ok(())
}

fn joins(watched: &Watched) -> Checked {
    const LAW: &str = "join is commutative, associative and idempotent";
    let Some((source, ..)) = watched.pages.first() else { return Ok(()) };
    if !source.is_incremental() {
        return Ok(());
    }
    ensure(LAW, watched.marks.len() >= 2, || "no two pieces of state to join are in the fixture".to_owned())?;
    let join = |a: &Value, b: &Value| source.join(a.clone(), b.clone()).map_err(|e| broken(LAW, chain(&e)));
    let pieces: Vec<&Value> = watched.marks.iter().take(8).collect();
    for a in &pieces {
        let alone = join(a, a)?;
        ensure(LAW, join(&alone, a)? == alone, || format!("{a} with itself gives {alone}"))?;
        for b in &pieces {
            ensure(LAW, join(a, b)? == join(b, a)?, || format!("{a} and {b} depend on their order"))?;
            for c in &pieces {
                let (left, right) = (join(&join(a, b)?, c)?, join(a, &join(b, c)?)?);
                ensure(LAW, left == right, || format!("{a}, {b} and {c}: {left} or {right}"))?;
            }
        }
    }
    Ok(())
}

type Origins = BTreeMap<(String, String), Value>;

fn shown(origin: &CaseOrigin) -> Value {
    serde_json::to_value(origin).unwrap_or_default()
}

fn expected(run: &CaseRun) -> Origins {
    let all = run.origins.iter().flatten();
    all.map(|o| ((o.url.clone(), o.visit_type.clone()), shown(o))).collect()
}

/// The origins of a store, those seen at `since` or later.
async fn origins(store: &MemoryStore, since: Option<Timestamp>) -> Checked<Origins> {
    let mut found = Origins::new();
    let mut after = None;
    loop {
        let page = store
            .origins(&OriginQuery::everything(), after, 1000)
            .await
            .map_err(|e| broken("a store gives its origins", chain(&e)))?;
        for (_, o) in page.origins {
            if since.is_some_and(|since| o.last_seen < since) {
                continue;
            }
            let origin = CaseOrigin {
                url: o.url.clone(),
                visit_type: o.visit_type.to_string(),
                last_update: o.last_update,
                is_fork: o.is_fork,
                forked_from_url: o.forked_from_url,
                enabled: o.enabled,
                extra_loader_arguments: o.extra_loader_arguments,
            };
            found.insert((o.url, o.visit_type.to_string()), shown(&origin));
        }
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

fn same(law: &'static str, place: &str, listed: &Origins, expected: &Origins) -> Checked {
    let only = |a: &Origins, b: &Origins| -> Vec<Value> {
        a.iter().filter(|(k, v)| b.get(*k) != Some(*v)).map(|(_, v)| v.clone()).take(3).collect()
    };
    ensure(law, listed == expected, || {
        format!(
            "{place}: {} origins, {} expected; listed only: {:?}; expected only: {:?}",
            listed.len(),
            expected.len(),
            only(listed, expected),
            only(expected, listed)
        )
    })
}

/// A source that keeps what it was asked to read.
struct Watching {
    inner: Arc<dyn PageSource>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    pages: Vec<(Value, Response)>,
    marks: Vec<Value>,
    items: BTreeSet<String>,
    read: BTreeSet<String>,
}

impl Watching {
    fn new(inner: Arc<dyn PageSource>) -> Self {
        Self { inner, seen: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> (Vec<(Value, Response)>, Vec<Value>) {
        let seen = std::mem::take(&mut *self.lock());
        (seen.pages, seen.marks)
    }

    /// The cursors of items that were read.
    fn items_read(&self) -> BTreeSet<String> {
        let seen = self.lock();
        seen.items.intersection(&seen.read).cloned().collect()
    }
}

#[async_trait]
impl PageSource for Watching {
    fn key(&self) -> ListerKey {
        self.inner.key()
    }

    fn start(&self, run: &RunInfo) -> Result<Vec<Value>, ListerError> {
        self.inner.start(run)
    }

    fn is_incremental(&self) -> bool {
        self.inner.is_incremental()
    }

    fn read_state(&self, state: &JsonObject, form: u32) -> Result<Option<Value>, ListerError> {
        self.inner.read_state(state, form)
    }

    fn resume(&self, state: &Value, run: &RunInfo) -> Result<Vec<Value>, ListerError> {
        self.inner.resume(state, run)
    }

    fn join(&self, ours: Value, stored: Value) -> Result<Value, ListerError> {
        self.inner.join(ours, stored)
    }

    fn request(&self, cursor: &Value) -> Result<Request, ListerError> {
        self.inner.request(cursor)
    }

    fn read(&self, cursor: &Value, response: Response, page: &mut Page<Value>) -> Result<(), ListerError> {
        self.lock().pages.push((cursor.clone(), response.clone()));
        let mut again = Page::new();
        let read = self.inner.read(cursor, response.clone(), &mut again);
        if let (Ok(()), Ok(batch)) = (&read, again.finish()) {
            let mut seen = self.lock();
            seen.read.insert(cursor.to_string());
            seen.marks.extend(batch.marks);
            let items = batch.follows.iter().filter(|f| matches!(f.kind, FollowKind::Item { .. }));
            seen.items.extend(items.map(|f| f.cursor.to_string()));
        }
        self.inner.read(cursor, response, page)
    }

    fn recover(&self, cursor: &Value, failure: &Failure) -> Result<Recovery<Value>, ListerError> {
        self.inner.recover(cursor, failure)
    }

    fn coverage(&self, mode: Mode) -> Coverage {
        self.inner.coverage(mode)
    }

    fn resumable_for(&self) -> Duration {
        self.inner.resumable_for()
    }

    fn cursor_form(&self) -> u32 {
        self.inner.cursor_form()
    }

    fn state_form(&self) -> u32 {
        self.inner.state_form()
    }
}

/// A forge on which one thing that is asked for fails for good: the one that was asked for n-th.
struct Failing {
    inner: Arc<Replay>,
    at: usize,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    count: usize,
    poisoned: Option<String>,
}

impl Failing {
    fn new(inner: Arc<Replay>, at: usize) -> Self {
        Self { inner, at, asked: Mutex::default() }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}

#[async_trait]
impl Transport for Failing {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let this = format!("{} {} {:?}", request.method, request.url, request.body);
        let fails = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.count == self.at && asked.poisoned.is_none() {
                asked.poisoned = Some(this.clone());
            }
            asked.count += 1;
            asked.poisoned.as_ref() == Some(&this)
        };
        let answer = self.inner.send(request).await?;
        if !fails {
            return Ok(answer);
        }
        Ok(Response::new(500, answer.url, Body::from("poison"), answer.received_at))
    }
}
