//! Runs a lister to its end: frontier, concurrency, commits, outcomes.
//!
//! The driver holds no listing in memory. It takes pending cursors from the store, has the
//! transport answer them, lets the source read each answer, and commits each page whole. Killed at
//! any point, the next run goes on from the last commit.
//!
//! ```
//! use std::sync::Arc;
//! use lamplighter::backend::{MemoryStore, RunOutcome};
//! use lamplighter::driver::{Driver, RunOptions, SystemClock};
//! # use lamplighter::lister::{Lister, ListerError, Page, RunInfo};
//! use lamplighter::lister::Source;
//! # use lamplighter::model::{NewOrigin, Timestamp, VisitType};
//! # use lamplighter::transport::{Body, Request, Response, Transport, TransportError};
//! # struct One;
//! # impl Lister for One {
//! #     type Cursor = u32;
//! #     fn name(&self) -> &'static str { "one" }
//! #     fn instance(&self) -> &str { "forge.example" }
//! #     fn start(&self, _: &RunInfo) -> Vec<u32> { vec![1] }
//! #     fn request(&self, _: &u32) -> Result<Request, ListerError> {
//! #         Ok(Request::get("https://forge.example/".parse().map_err(|_| ListerError::cursor(""))?))
//! #     }
//! #     fn page(&self, _: &u32, _: Response, page: &mut Page<u32>) -> Result<(), ListerError> {
//! #         page.origin(NewOrigin::new("https://forge.example/r.git", VisitType::git()))
//! #     }
//! # }
//! # struct Empty;
//! # #[async_trait::async_trait]
//! # impl Transport for Empty {
//! #     async fn send(&self, r: Request) -> Result<Response, TransportError> {
//! #         Ok(Response::new(200, r.url, Body::from(""), Timestamp::EPOCH))
//! #     }
//! # }
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let driver = Driver::new(store, Arc::new(Empty), Arc::new(SystemClock));
//! let report = driver.run(Arc::new(Source::stateless(One)), RunOptions::default()).await?;
//! assert_eq!((report.outcome, report.counts.new), (RunOutcome::Complete, 1));
//! # Ok::<(), lamplighter::driver::RunError>(())
//! # }).unwrap();
//! ```

mod error;
mod events;
mod options;
mod page;
mod report;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, TryFutureExt};
use tracing::Instrument;

pub use crate::transport::SystemClock;
pub use error::{RunError, RunErrorKind};
pub use events::{Event, Observer, StopHandle};
pub use options::RunOptions;
#[cfg(any(feature = "dispatch", feature = "testing"))]
pub(crate) use page::chain;
pub use report::RunReport;
pub use stream::{Listed, listing};

use crate::backend::{
    BackendErrorKind, Begun, Candidate, EndRun, GapQuery, NewState, PendingCursor, RunOutcome, RunPlan,
    RunStore,
};
use crate::lister::{Mode, PageSource, RunInfo};
use crate::model::{JsonObject, ListerRecord};
use crate::transport::{Clock, Transport};
use page::{PageEnd, Run};

/// Runs listers against a store and a transport.
#[derive(Clone)]
pub struct Driver {
    store: Arc<dyn RunStore>,
    transport: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    stop: StopHandle,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("stop", &self.stop).finish_non_exhaustive()
    }
}

/// How often a run that ended by another's change of the lister's row is ended again.
const END_ATTEMPTS: u32 = 10;

impl Driver {
    /// A driver of a store, a transport and a clock.
    pub fn new(store: Arc<dyn RunStore>, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self { store, transport, clock, observer: Arc::new(()), stop: StopHandle::default() }
    }

    /// Tells an observer what happens.
    #[must_use]
    pub fn observed_by(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Another handle to stop its runs by.
    #[must_use]
    pub fn stopped_by(mut self, stop: StopHandle) -> Self {
        self.stop = stop;
        self
    }

    /// The handle that stops this driver's runs between pages.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Runs a source to its end: complete, partial or aborted; or leaves the run open when it was
    /// stopped or has read `max_pages`.
    ///
    /// # Errors
    /// [`RunErrorKind::Store`] when the store fails, [`RunErrorKind::TakenOver`] when somebody else
    /// has begun the same run, [`RunErrorKind::Lister`] when the stored state cannot be read,
    /// [`RunErrorKind::Shards`] when shards are asked for of a lister that has none.
    /// Whatever was committed is kept. A forge's failures are no errors: they are in the report.
    pub async fn run(&self, source: Arc<dyn PageSource>, options: RunOptions) -> Result<RunReport, RunError> {
        let key = source.key();
        let span = tracing::info_span!("run", lister = %key.name, instance = %key.instance);
        self.run_in_span(source, options).instrument(span).await
    }

    async fn run_in_span(
        &self,
        source: Arc<dyn PageSource>,
        options: RunOptions,
    ) -> Result<RunReport, RunError> {
        let sent_before = self.transport.attempts();
        let lister = self.store.lister(&source.key(), self.clock.now()).await?;
        let mut begun = self.begin(&*source, &options, &lister, options.restart).await?;
        let mut tally = Tally::default();
        let (run, error) = loop {
            self.observer.event(&Event::Started {
                run: begun.run.id,
                mode: begun.run.mode,
                resumed: begun.resumed,
                pending: begun.pending,
            });
            let run = self.open(&source, &options, &begun).await?;
            match self.read_pages(&run, &options, &mut tally).await? {
                Ending::Drained => break (run, None),
                Ending::Aborted(why) => break (run, Some(why)),
                Ending::Restart if !tally.restarted => {
                    tally.restarted = true;
                    begun = self.begin(&*source, &options, &lister, true).await?;
                }
                Ending::Restart => {
                    break (run, Some("the listing had to start over a second time".to_owned()));
                }
            }
        };
        tally.requests = match self.transport.attempts().saturating_sub(sent_before) {
            0 => tally.asked,
            attempts => attempts,
        };
        self.end(&run, &options, begun, error, tally).await
    }

    async fn begin(
        &self,
        source: &dyn PageSource,
        options: &RunOptions,
        lister: &ListerRecord,
        restart: bool,
    ) -> Result<Begun, RunError> {
        let now = self.clock.now();
        let state = source.read_state(&lister.current_state, lister.state_form)?;
        let mode = match (&state, options.gaps_only) {
            (_, true) => Mode::Gaps,
            (Some(_), false) if source.is_incremental() && !options.full => Mode::Incremental,
            _ => Mode::Full,
        };
        let info = RunInfo::new(now, mode);
        let start = match (&state, mode) {
            (Some(state), Mode::Incremental) => source.resume(state, &info)?,
            (_, Mode::Gaps) => Vec::new(),
            _ => match options.shards {
                None => source.start(&info)?,
                Some(shards) => source
                    .start_in_shards(&info, shards)?
                    .ok_or_else(|| RunError::no_shards(&source.key()))?,
            },
        };
        let mut plan = RunPlan::new(source.key(), mode, start);
        plan.parameters.clone_from(&options.parameters);
        plan.coverage = source.coverage(mode);
        plan.cursor_form = source.cursor_form();
        plan.resumable_for = source.resumable_for();
        plan.restart = restart;
        plan.ignore_fingerprints = options.full;
        Ok(self.store.begin_run(plan, now).await?)
    }

    async fn open(
        &self,
        source: &Arc<dyn PageSource>,
        options: &RunOptions,
        begun: &Begun,
    ) -> Result<Run, RunError> {
        let candidate = self.store.candidate(begun.ticket).await?;
        Ok(Run {
            store: Arc::clone(&self.store),
            transport: Arc::clone(&self.transport),
            clock: Arc::clone(&self.clock),
            source: Arc::clone(source),
            ticket: begun.ticket,
            candidate: tokio::sync::Mutex::new(candidate),
            enable_origins: options.enable_origins,
            filters: options.filters,
            flush_at: options.flush_at.max(1),
        })
    }

    /// Reads pages until none is pending, or it is told to stop. While some are committed and cursors
    /// are claimed, others are asked for.
    async fn read_pages(
        &self,
        run: &Run,
        options: &RunOptions,
        tally: &mut Tally,
    ) -> Result<Ending, RunError> {
        let mut under_way = FuturesUnordered::new();
        let (mut pages, mut claiming) = (0, false);
        // Whether there may be cursors that no claim has looked for.
        let mut unclaimed = true;
        let mut ending = Ending::Drained;
        loop {
            let room = options.concurrency.max(1).saturating_sub(pages);
            let budget = options.max_pages.map_or(u64::MAX, |max| max.saturating_sub(tally.asked));
            let want = room.min(usize::try_from(budget).unwrap_or(usize::MAX));
            let goes_on = matches!(ending, Ending::Drained) && !self.stop.is_stopped();
            if want > 0 && unclaimed && !claiming && goes_on {
                (claiming, unclaimed) = (true, false);
                under_way.push(self.claim(run, want, options.cursor_lease).left_future());
            }
            let Some(step) = under_way.next().await else { return Ok(ending) };
            match step? {
                Step::Claimed { wanted, cursors } => {
                    claiming = false;
                    unclaimed |= cursors.len() == wanted;
                    pages += cursors.len();
                    tally.asked += cursors.len() as u64;
                    under_way
                        .extend(cursors.into_iter().map(|c| run.page(c).map_ok(Step::Page).right_future()));
                }
                Step::Page(end) => {
                    pages = pages.saturating_sub(1);
                    unclaimed = true;
                    match end {
                        PageEnd::Committed { end, committed, aside, place } => {
                            tally.add(&end, &committed, aside);
                            self.observer.event(&Event::Page {
                                place,
                                gap: end.gap_reason().map(str::to_owned),
                                committed,
                                pages: tally.pages,
                            });
                        }
                        PageEnd::Restart => ending = Ending::Restart,
                        PageEnd::Abort(why) => ending = Ending::Aborted(why),
                    }
                }
            }
        }
    }

    async fn claim(&self, run: &Run, wanted: usize, lease: Duration) -> Result<Step, RunError> {
        let cursors = self.store.claim_cursors(run.ticket, wanted, lease, self.clock.now()).await?;
        Ok(Step::Claimed { wanted, cursors })
    }

    async fn end(
        &self,
        run: &Run,
        options: &RunOptions,
        begun: Begun,
        error: Option<String>,
        tally: Tally,
    ) -> Result<RunReport, RunError> {
        // The store says `Open` where cursors are still pending, and `Partial` where a gap is open.
        let outcome = if error.is_some() { RunOutcome::Aborted } else { RunOutcome::Complete };
        let mut end = EndRun::new(begun.ticket, outcome);
        end.error.clone_from(&error);
        end.prune = options.prune;
        end.requests = tally.requests;
        let candidate = self.store.candidate(begun.ticket).await?;
        let mut attempts = 0;
        let ended = loop {
            let lister = self.store.lister(&begun.run.lister, self.clock.now()).await?;
            end.state =
                if error.is_none() { new_state(&*run.source, &lister, candidate.clone())? } else { None };
            match self.store.end_run(end.clone(), self.clock.now()).await {
                Err(e) if e.kind() == BackendErrorKind::Conflict && attempts < END_ATTEMPTS => attempts += 1,
                other => break other?,
            }
        };
        let query = GapQuery {
            lister: Some(begun.run.lister.name.clone()),
            instance: Some(begun.run.lister.instance.clone()),
            run: None,
        };
        let gaps = self.store.gaps(&query).await?;
        let mut counts = tally.counts;
        counts.gone += ended.gone;
        let report = RunReport {
            run: begun.run.id,
            lister: begun.run.lister,
            mode: begun.run.mode,
            coverage: begun.run.coverage,
            resumed: begun.resumed,
            outcome: ended.run.outcome,
            pending: ended.pending,
            error,
            pages: tally.pages,
            requests: tally.requests,
            counts,
            skipped: tally.aside.skipped,
            filtered: tally.aside.filtered,
            withheld: ended.withheld,
            gaps,
            state: ended.lister.current_state,
            started: begun.run.started,
            finished: ended.run.finished,
        };
        self.observer.event(&Event::Ended { outcome: report.outcome });
        Ok(report)
    }
}

/// The state that a run leaves: its candidate joined into what is stored.
fn new_state(
    source: &dyn PageSource,
    lister: &ListerRecord,
    candidate: Candidate,
) -> Result<Option<NewState>, RunError> {
    let Some(ours) = candidate.state.filter(|_| source.is_incremental()) else { return Ok(None) };
    let joined = match source.read_state(&lister.current_state, lister.state_form)? {
        Some(stored) => source.join(ours, stored)?,
        None => ours,
    };
    let state = joined.as_object().cloned().unwrap_or_else(JsonObject::new);
    Ok(Some(NewState::new(state, source.state_form(), lister.revision)))
}

/// One of the things under way has come to its end.
enum Step {
    Claimed { wanted: usize, cursors: Vec<PendingCursor> },
    Page(PageEnd),
}

/// How the reading of pages ended.
enum Ending {
    Drained,
    Restart,
    Aborted(String),
}

/// What this driver did in a run.
#[derive(Default)]
struct Tally {
    asked: u64,
    requests: u64,
    pages: u64,
    aside: page::Aside,
    counts: crate::backend::Committed,
    restarted: bool,
}

impl Tally {
    fn add(&mut self, end: &page::HowEnded, committed: &crate::backend::Committed, aside: page::Aside) {
        self.pages += u64::from(end.is_page());
        self.aside.skipped += aside.skipped;
        self.aside.filtered.add(aside.filtered);
        self.counts.add(*committed);
    }
}
