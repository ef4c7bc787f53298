//! Runs of a fixture, in health and with a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::{Built, Entry, FollowKind, Mode, PageSource, RunInfo};
use lamplighter::model::Timestamp;
use lamplighter::testing::{Case, CaseRun, Step, VirtualClock, walk};
use lamplighter::transport::{Clock, Credentials, Exchange, Polite, PoliteOptions, Replay, Transport};
use serde_json::Value;

use crate::expected::{Health, Origins};
use crate::fault::Spoilt;
use crate::forge::{Asked, Forge, How, key};

/// A run of a fixture that ends complete.
pub(crate) struct Trial<'a> {
    pub(crate) name: String,
    entry: &'a Entry,
    case: &'a Case,
    n: usize,
    pub(crate) source: Arc<dyn PageSource>,
    pub(crate) start: Vec<Value>,
    pub(crate) steps: Vec<Step>,
    known: BTreeMap<String, String>,
    /// What the runs before it listed, and no longer do.
    pub(crate) before: Origins,
}

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) report: RunReport,
    pub(crate) log: Vec<Asked>,
    pub(crate) origins: Origins,
}

const DAY: u64 = 86_400;

/// Searches that halve nothing: the lister, what its search may take, and why.
const PLACES: &[(&str, usize, &str)] = &[(
    "debian",
    4 + 3 * 8,
    "an archive without a release file is one that keeps its indexes in one of eight places a component",
)];

impl<'a> Trial<'a> {
    /// The trials of a fixture: each of its runs that is healthy, up to the first one that is not.
    pub(crate) async fn of(entry: &'a Entry, case: &'a Case, folder: &Path) -> Vec<Trial<'a>> {
        let fixture = folder.file_name().unwrap().to_string_lossy();
        let mut trials = Vec::new();
        let mut known = BTreeMap::new();
        for n in 0..case.runs.len() {
            let run = &case.runs[n];
            let name = format!("{}/{fixture}, run {}", entry.name, n + 1);
            // What a 304 stands for is the store's to know.
            let unchanged = run.exchanges.iter().any(
                |e| matches!(&e.answered, lamplighter::transport::Answered::Answer(a) if a.status == 304),
            );
            if run.outcome.as_deref() != Some("complete") || unchanged || run.state_before.is_some() {
                break;
            }
            let mut trial = Trial {
                name,
                entry,
                case,
                n,
                source: build(entry, run).source,
                start: Vec::new(),
                steps: Vec::new(),
                known: known.clone(),
                before: Origins::new(),
            };
            let store = trial.prepared().await;
            trial.before = listed(&store).await;
            trial.start = trial.start(&store).await;
            let replay = trial.replay(n, &trial.clock(0));
            trial.steps = walk(&*trial.source, trial.start.clone(), &replay, &trial.known).await.unwrap();
            // A run that is complete only by the transport's doing is another test's.
            if trial.steps.iter().any(Step::is_gap) {
                break;
            }
            for step in &trial.steps {
                let Ok(batch) = &step.said else { continue };
                for follow in &batch.follows {
                    if let FollowKind::Item { key, fingerprint } = &follow.kind {
                        known.insert(key.to_string(), fingerprint.clone());
                    }
                }
            }
            trials.push(trial);
        }
        trials
    }

    pub(crate) fn health(&self) -> Health<'_> {
        Health { source: &*self.source, start: &self.start, steps: &self.steps, known: &self.known }
    }

    pub(crate) fn run_of_case(&self) -> &CaseRun {
        &self.case.runs[self.n]
    }

    /// Whether a run of it, or what has to be run before it, takes long.
    pub(crate) fn is_long(&self) -> bool {
        let before = self.case.runs.iter().take(self.n).map(|run| run.exchanges.len()).sum::<usize>();
        self.steps.len() > 20 || before > 20
    }

    /// The steps at which things go wrong: all of a few; of many the first, the middle and the last
    /// one, and one of each kind of cursor.
    pub(crate) fn points(&self, whole: bool) -> BTreeSet<usize> {
        let n = self.steps.len();
        if whole || n <= 5 {
            return (0..n).collect();
        }
        let mut kinds = BTreeMap::new();
        for (i, step) in self.steps.iter().enumerate() {
            let kind = match &step.cursor {
                Value::Object(fields) => fields.keys().cloned().collect::<Vec<_>>().join(" "),
                other => std::mem::discriminant(other).hash_of(),
            };
            kinds.entry((kind, step.said.is_ok())).or_insert(i);
        }
        kinds.into_values().chain([0, n / 2, n - 1]).collect()
    }

    /// How many requests a search may take: log2(page) to halve a page down to what is wrong with it.
    pub(crate) fn search(&self) -> usize {
        if let Some((_, places, _)) = PLACES.iter().find(|(name, ..)| *name == self.entry.name) {
            return *places;
        }
        let parameters = build(self.entry, self.run_of_case()).parameters;
        let sizes =
            parameters.iter().filter(|(name, _)| name.contains("page")).filter_map(|(_, v)| v.as_u64());
        let named = self.steps.iter().filter_map(|s| s.said.as_ref().ok()).map(|b| b.origins.len() as u64);
        sizes.chain(named).max().unwrap_or(1).max(1).ilog2() as usize + 1
    }

    /// Two days for each run, so that what a run saw and when it asks again can be told apart.
    pub(crate) fn clock(&self, later: u64) -> Arc<VirtualClock> {
        self.clock_of(self.n, later)
    }

    fn clock_of(&self, n: usize, later: u64) -> Arc<VirtualClock> {
        let first = self.case.runs[0].at.unwrap_or(Timestamp::EPOCH);
        Arc::new(VirtualClock::new(first.plus(Duration::from_secs(DAY * (4 * (n as u64 + 1) + later)))))
    }

    fn replay(&self, n: usize, clock: &Arc<VirtualClock>) -> Replay {
        let mut exchanges: Vec<Exchange> = self.case.runs[n].exchanges.clone();
        let own: BTreeSet<_> = exchanges.iter().map(|e| (e.method.clone(), e.url.clone())).collect();
        // What is asked for only by a later run says what is after the end.
        let later = self.case.runs.iter().skip(n + 1).flat_map(|run| run.exchanges.iter());
        exchanges.extend(later.filter(|e| !own.contains(&(e.method.clone(), e.url.clone()))).cloned());
        Replay::new(exchanges, Arc::clone(clock) as _).with_positions(self.entry.positions)
    }

    /// A store in which the runs before this one have been.
    pub(crate) async fn prepared(&self) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        for n in 0..self.n {
            let clock = self.clock_of(n, 0);
            let run = &self.case.runs[n];
            let replay = Replay::new(run.exchanges.iter().cloned(), Arc::clone(&clock) as _);
            let replay = replay.with_positions(self.entry.positions);
            self.drive(&store, run, Arc::new(replay), clock).await;
        }
        store
    }

    async fn start(&self, store: &MemoryStore) -> Vec<Value> {
        use lamplighter::backend::RunStore;
        let now = self.clock(0).now();
        let lister = store.lister(&self.source.key(), now).await.unwrap();
        let state = self.source.read_state(&lister.current_state, lister.state_form).unwrap();
        let full = self.run_of_case().mode == Some(Mode::Full);
        match state.filter(|_| self.source.is_incremental() && !full) {
            Some(state) => self.source.resume(&state, &RunInfo::new(now, Mode::Incremental)).unwrap(),
            None => self.source.start(&RunInfo::new(now, Mode::Full)).unwrap(),
        }
    }

    pub(crate) async fn drive(
        &self,
        store: &Arc<MemoryStore>,
        run: &CaseRun,
        transport: Arc<dyn Transport>,
        clock: Arc<VirtualClock>,
    ) -> RunReport {
        let Built { source, bases, .. } = build(self.entry, run);
        let secrets = run.secrets.iter().cloned();
        let credentials = secrets.fold(Credentials::new(), |c, s| c.with(s, bases.iter()));
        let options = PoliteOptions::default().with_bases(bases);
        let polite = Polite::new(transport, Arc::clone(&clock) as _, Arc::new(credentials), options);
        let options = RunOptions::default().with_concurrency(1).with_full(run.mode == Some(Mode::Full));
        let driver = Driver::new(Arc::clone(store) as _, Arc::new(polite), clock);
        driver.run(source, options).await.unwrap()
    }

    /// A store as this run finds it, and this run on it with one request going wrong.
    pub(crate) async fn run(&self, at: usize, answer: Spoilt, how: How) -> (Arc<MemoryStore>, Ran) {
        let store = self.prepared().await;
        let ran = self.run_on(&store, at, answer, how, 0).await;
        (store, ran)
    }

    /// This run once more, some days later, in health.
    pub(crate) async fn again(&self, store: &Arc<MemoryStore>) -> Ran {
        self.run_on(store, 0, Err(lamplighter::transport::TransportErrorKind::Other), How::Never, 2).await
    }

    async fn run_on(&self, store: &Arc<MemoryStore>, at: usize, answer: Spoilt, how: How, later: u64) -> Ran {
        let clock = self.clock(later);
        let known = self.steps.iter().map(|s| key(&s.request)).collect();
        let replay = self.replay(self.n, &clock);
        let forge = Arc::new(Forge::new(replay, known, &self.steps[at].request, answer, how));
        let report = self.drive(store, self.run_of_case(), Arc::clone(&forge) as _, clock).await;
        Ran { report, log: forge.log(), origins: listed(store).await }
    }
}

trait HashOf {
    fn hash_of(&self) -> String;
}

impl HashOf for std::mem::Discriminant<Value> {
    fn hash_of(&self) -> String {
        format!("{self:?}")
    }
}

fn build(entry: &Entry, run: &CaseRun) -> Built {
    entry.build(&run.arguments).unwrap()
}

/// All origins of a store that are not gone.
pub(crate) async fn listed(store: &MemoryStore) -> Origins {
    let (mut found, mut after) = (Origins::new(), None);
    loop {
        let page = store.origins(&OriginQuery::everything(), after, 1000).await.unwrap();
        found.extend(page.origins.into_iter().map(|(_, o)| (o.url, o.visit_type.to_string())));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}
