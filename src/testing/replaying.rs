//! Recorded cases run through everything that a live listing runs through: driver, politeness, store.

use std::sync::Arc;
use std::time::Duration;

use super::{Case, CaseOrigin, CaseRun, VirtualClock};
use crate::backend::{
    BackendError, EndRun, ImportedOrigin, MemoryStore, NewState, OriginQuery, OriginStore, RunOutcome,
    RunPlan, RunStore,
};
use crate::driver::{Driver, RunError, RunOptions, RunReport};
use crate::lister::{Built, ConfigError, Entry, Mode, Registry};
use crate::model::{JsonObject, ListedOrigin, ListerKey, Timestamp, VisitType};
use crate::transport::{Credentials, GateOptions, Polite, PoliteOptions, Replay, ReplayedRequest};

/// What the clock shows where a case does not say: any time would do.
const SOME_TIME: i64 = 1_700_000_000;

/// How long is waited for a limit where waiting takes no time: more than any limit lasts.
const NO_TIME_AT_ALL: Duration = Duration::from_secs(365 * 86_400);

/// Origins read from the store at once.
const PAGE: usize = 1000;

/// A run of a case, as it was replayed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Replayed {
    /// How it went; an error where there was no run to report of.
    pub report: Result<RunReport, RunError>,
    /// The origins that it listed, in no particular order.
    pub origins: Vec<ListedOrigin>,
    /// What was asked, and how well recorded answers fitted.
    pub requests: Vec<ReplayedRequest>,
    /// How many recorded exchanges were never asked for.
    pub unused: usize,
    /// For how many seconds it would have waited, each time.
    pub waits: Vec<f64>,
}

/// Why a case could not be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// Its lister cannot be made.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An origin that it says was known cannot be.
    #[error("a known origin: {0}")]
    Known(String),
    /// The store failed.
    #[error("the store")]
    Store(#[from] BackendError),
}

/// Replays a case's runs one after another, as they would have gone on the network: limits and retries
/// included, on a virtual clock.
///
/// A run that says its state begins with that and nothing else; another one goes on from what the run
/// before left.
///
/// # Errors
/// [`ReplayError::Config`] when the lister is not in the registry, or an argument of a run is not one;
/// nothing is replayed then. [`ReplayError::Known`] and [`ReplayError::Store`] while it is set up. How a
/// replayed listing ends is no error.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use lamplighter::lister::Registry;
/// use lamplighter::testing::{Case, replay};
/// for run in replay(&Registry::builtin(), Case::load("fixtures/gitea/basic")?).await? {
///     println!("{} origins in {} requests", run.origins.len(), run.requests.len());
/// }
/// # Ok(())
/// # }
/// ```
pub async fn replay(registry: &Registry, case: Case) -> Result<Vec<Replayed>, ReplayError> {
    let entry = registry.entry(&case.lister)?;
    // Every argument is checked before anything is replayed.
    let built = case.runs.iter().map(|run| build(entry, run)).collect::<Result<Vec<Built>, _>>()?;
    let mut store = Arc::new(MemoryStore::new());
    let mut runs = Vec::new();
    for (run, built) in case.runs.into_iter().zip(built) {
        if run.state_before.is_some() {
            store = Arc::new(MemoryStore::new());
        }
        runs.push(replay_run(entry, run, &built, &store).await?);
    }
    Ok(runs)
}

/// The lister of a run. A case says its instance and URL apart from the arguments; they are used
/// where no argument says them.
fn build(entry: &Entry, run: &CaseRun) -> Result<Built, ConfigError> {
    let takes = |name: &str| entry.all_parameters().any(|p| p.name == name);
    let mut arguments = run.arguments.clone();
    let has_base = arguments.contains_key("url") || arguments.contains_key("instance");
    if let (Some(url), true, false) = (&run.url, takes("url"), has_base) {
        arguments.insert("url".to_owned(), url.clone().into());
    }
    if let (Some(instance), true, true) = (&run.instance, takes("instance"), arguments.contains_key("url")) {
        arguments.entry("instance").or_insert_with(|| instance.clone().into());
    }
    entry.build(&arguments)
}

async fn replay_run(
    entry: &Entry,
    run: CaseRun,
    built: &Built,
    store: &Arc<MemoryStore>,
) -> Result<Replayed, ReplayError> {
    let at = run.at.unwrap_or_else(|| Timestamp::from_seconds(SOME_TIME));
    let key = built.source.key();
    // What was known before was known earlier: the run's own origins are told by their date.
    let earlier = at.minus(Duration::from_secs(1));
    let known = run.known_origins.iter().map(|o| known(&key, o)).collect::<Result<Vec<_>, _>>()?;
    if !known.is_empty() {
        store.import(known, earlier).await?;
    }
    let before = run.state_before.unwrap_or_default();
    if !before.is_empty() {
        seed_state(&**store, &key, before, built.source.state_form(), earlier).await?;
    }
    let clock = Arc::new(VirtualClock::new(at));
    let replay =
        Arc::new(Replay::new(run.exchanges, Arc::clone(&clock) as _).with_positions(entry.positions));
    let secrets = built.secrets.iter().cloned().chain(run.secrets);
    let credentials = secrets.fold(Credentials::new(), |all, s| all.with(s, &built.bases));
    // Where nobody is asked, nobody has to be spared: only what the answers say is waited for.
    let polite = PoliteOptions::default()
        .with_bases(built.bases.iter().cloned())
        .with_gate(GateOptions::default().with_per_second(None))
        .with_longest_wait(NO_TIME_AT_ALL);
    let transport = Polite::new(Arc::clone(&replay), Arc::clone(&clock) as _, Arc::new(credentials), polite);
    let driver = Driver::new(Arc::clone(store) as _, Arc::new(transport), Arc::clone(&clock) as _);
    let options = RunOptions::default()
        .with_concurrency(1)
        .with_parameters(built.parameters.clone())
        .with_filters(built.filters)
        .with_enable_origins(run.enable_origins.unwrap_or(true))
        .with_max_pages(run.max_pages)
        .with_full(run.mode == Some(Mode::Full))
        .with_gaps_only(run.mode == Some(Mode::Gaps));
    let report = driver.run(Arc::clone(&built.source), options).await;
    Ok(Replayed {
        report,
        origins: listed(store, at).await?,
        requests: replay.log(),
        unused: replay.unused(),
        waits: clock.waits(),
    })
}

fn known(key: &ListerKey, origin: &CaseOrigin) -> Result<ImportedOrigin, ReplayError> {
    let visit_type =
        VisitType::new(&origin.visit_type).map_err(|e| ReplayError::Known(format!("{}: {e}", origin.url)))?;
    let mut import = ImportedOrigin::new(key, &origin.url, visit_type);
    import.last_update = origin.last_update;
    Ok(import)
}

/// The origins that were listed at a time or later.
async fn listed(store: &MemoryStore, since: Timestamp) -> Result<Vec<ListedOrigin>, ReplayError> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.origins(&OriginQuery::everything(), after, PAGE).await?;
        all.extend(page.origins.into_iter().map(|(_, o)| o).filter(|o| o.last_seen >= since));
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Gives a store the state that a lister has, as if a run had left it.
///
/// # Errors
/// The store's.
pub async fn seed_state(
    store: &dyn RunStore,
    key: &ListerKey,
    state: JsonObject,
    form: u32,
    now: Timestamp,
) -> Result<(), BackendError> {
    let lister = store.lister(key, now).await?;
    let begun = store.begin_run(RunPlan::new(key.clone(), Mode::Full, Vec::new()), now).await?;
    let mut end = EndRun::new(begun.ticket, RunOutcome::Complete);
    end.state = Some(NewState::new(state, form, lister.revision));
    store.end_run(end, now).await.map(|_| ())
}
