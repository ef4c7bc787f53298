//! `run`: the service. Lists on intervals, feeds visits to workers, takes outcomes.

use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::{Prune, RunOutcome, RunQuery, SchedulerBackend, VisitStore};
use lamplighter::dispatch::http::{Api, Serving};
use lamplighter::dispatch::{ByType, Feeder, FileHead, LsRemote, Pool, PoolCounts, Worker};
use lamplighter::driver::{Driver, StopHandle};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Clock, LimitStore, Transport};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use crate::args::Common;
use crate::client;
use crate::context::Context;
use crate::failure::{Done, Failure, Result, chain};
use crate::list::Asked;
use crate::output::note;
use crate::service::WorkerKind;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Stop,
    Reload,
}

pub(crate) async fn run(common: &Common, context: &mut Context) -> Result<Done> {
    if context.given_now().is_some() {
        return Err(Failure::usage("run works in real time: leave --now away"));
    }
    let mut signals = signals()?;
    let mut reloaded = false;
    loop {
        let service = if reloaded { reopened(context).await? } else { Service::open(context).await? };
        match service.run(common, &mut signals).await? {
            Some(configured) => (*context, reloaded) = (*configured, true),
            None => return Ok(Done::Whole),
        }
    }
}

/// How long is waited for what the service had open before it read its configuration again.
const CLOSING: Duration = Duration::from_secs(10);

/// A file is let go of by its thread, and an address by its last connection, a moment after the service
/// has ended.
async fn reopened(context: &Context) -> Result<Service<'_>> {
    let until = context.clock.now().plus(CLOSING);
    loop {
        match Service::open(context).await {
            Err(Failure::Usage(_)) if context.clock.now() < until => {
                context.clock.sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

/// All of it under one configuration.
struct Service<'c> {
    context: &'c Context,
    store: Arc<dyn SchedulerBackend>,
    limits: Arc<dyn LimitStore>,
    listers: Vec<Asked>,
    pool: Option<(Arc<Pool>, Feeder)>,
    serving: Option<Serving>,
    stop: StopHandle,
}

impl<'c> Service<'c> {
    async fn open(context: &'c Context) -> Result<Self> {
        let listers = listers(context)?;
        let (store, limits) = context.lasting_store_and_limits().await?;
        let stop = StopHandle::default();
        let pool = match &context.config.feed[..] {
            [] => None,
            _ => Some(pool(context, &listers, &store, &stop)?),
        };
        let serving = match &context.config.http {
            None => None,
            Some(interface) => {
                let counts = pool.as_ref().map(|(pool, _)| Arc::clone(pool));
                let more = counts.map(|pool| Box::new(move || prometheus(pool.counts())) as _);
                let options = interface.options()?;
                let clock = Arc::clone(&context.clock);
                let api = Api::with_metrics(Arc::clone(&store), clock, options, more.into_iter().collect());
                Some(api.listen(interface.listen).await.map_err(|e| Failure::usage(chain(&e)))?)
            }
        };
        if listers.is_empty() && pool.is_none() && serving.is_none() {
            return Err(Failure::usage(
                "there is nothing to run: --config FILE.toml with a [[lister]], a [[feed]] or [http]",
            ));
        }
        Ok(Self { context, store, limits, listers, pool, serving, stop })
    }

    /// Runs until a signal: the new configuration where one is to be used, none to stop.
    async fn run(
        mut self,
        common: &Common,
        signals: &mut UnboundedReceiver<Signal>,
    ) -> Result<Option<Box<Context>>> {
        let mut tasks = JoinSet::new();
        for (n, asked) in std::mem::take(&mut self.listers).into_iter().enumerate() {
            let Some(listing) = self.context.config.lister.get(n) else { continue };
            let secrets = asked.secrets();
            let transport =
                client::polite(asked.built(), secrets, self.context, Some(Arc::clone(&self.limits)))?;
            let prune = if listing.prune { Prune::from(true) } else { Prune::No };
            let options = asked.run_options().with_prune(prune).with_concurrency(listing.concurrency);
            let driver =
                Driver::new(Arc::clone(&self.store) as _, transport, Arc::clone(&self.context.clock));
            let driver = driver.stopped_by(self.stop.clone());
            let key = asked.key();
            let times = Times { every: listing.every(&key.instance), after_failure: listing.after_failure() };
            let (store, clock, stop) =
                (Arc::clone(&self.store), Arc::clone(&self.context.clock), self.stop.clone());
            tasks.spawn(async move {
                list_on_and_on(&driver, &asked, &options, times, &*store, &*clock, &stop).await;
                Ok(())
            });
        }
        if let Some(serving) = self.serving.take() {
            note(format!("listening on {}", serving.address()));
            let stop = self.stop.clone();
            tasks.spawn(async move {
                serving.run(stop).await;
                Ok(())
            });
        }
        let pool = self.pool.take().map(|(pool, mut feeder)| {
            tasks.spawn(async move { feeder.run().await.map_err(Failure::from) });
            pool
        });
        note("running; SIGHUP reads the configuration again, SIGTERM ends it");
        let ending = loop {
            tokio::select! {
                signal = signals.recv() => match signal {
                    Some(Signal::Reload) => match reloaded(common) {
                        Ok(context) => break Ok(Some(Box::new(context))),
                        Err(Failure::Usage(why) | Failure::Work(why)) => {
                            note(format!("the configuration stays as it was: {why}"));
                        }
                        Err(e) => break Err(e),
                    },
                    Some(Signal::Stop) | None => break Ok(None),
                },
                Some(ended) = tasks.join_next() => match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => break Err(e),
                    Err(e) => break Err(Failure::work(format!("a part of the service broke down: {e}"))),
                },
            }
        };
        note("ending: what is under way is finished");
        self.stop.stop();
        if let Some(pool) = pool {
            let limit = Duration::from_secs(self.context.config.pool.drain_seconds);
            let broken_off = pool.drain(limit).await;
            if broken_off > 0 {
                note(format!("{broken_off} visits took too long and are given back"));
            }
        }
        while tasks.join_next().await.is_some() {}
        ending
    }
}

/// The listers of the configuration, each told with its line where it is wrong.
fn listers(context: &Context) -> Result<Vec<Asked>> {
    let of = |listing: &crate::service::Listing| {
        let asked = Asked::named(listing.name.get_ref(), &listing.parameters, context);
        asked.map_err(|e| match e {
            Failure::Usage(why) => {
                let place = context.config.place(listing.name.span().start);
                Failure::Usage(format!("{place} [[lister]] {}: {why}", listing.name.get_ref()))
            }
            e => e,
        })
    };
    context.config.lister.iter().map(of).collect()
}

fn reloaded(common: &Common) -> Result<Context> {
    let context = Context::new(common)?;
    listers(&context)?;
    if let Some(interface) = &context.config.http {
        interface.options()?;
    }
    Ok(context)
}

fn pool(
    context: &Context,
    listers: &[Asked],
    store: &Arc<dyn SchedulerBackend>,
    stop: &StopHandle,
) -> Result<(Arc<Pool>, Feeder)> {
    let bases = listers.iter().flat_map(|asked| asked.built().bases.iter().cloned()).collect();
    let transport: Arc<dyn Transport> = client::for_visits(bases, context)?;
    let mut workers = ByType::new();
    for feeding in &context.config.feed {
        let worker: Arc<dyn Worker> = match feeding.worker {
            WorkerKind::LsRemote => Arc::new(LsRemote::new(Arc::clone(&transport))),
            WorkerKind::Head => Arc::new(FileHead::new(Arc::clone(&transport))),
        };
        workers = workers.with(feeding.visit_type.clone(), worker);
    }
    let (settings, clock) = (&context.config.pool, Arc::clone(&context.clock));
    let visits: Arc<dyn VisitStore> = Arc::clone(store) as _;
    let pool =
        Arc::new(Pool::new(Arc::clone(&visits), Arc::new(workers), Arc::clone(&clock), settings.pool()));
    let feeds = context.config.feed.iter().map(|feeding| settings.feed(feeding)).collect();
    let owner = format!("run {}", std::process::id());
    let feeder = Feeder::new(visits, Arc::clone(&pool) as _, clock, feeds, settings.feeder(&owner));
    Ok((pool, feeder.stopped_by(stop.clone())))
}

/// When a lister is run.
#[derive(Clone, Copy)]
struct Times {
    every: Duration,
    after_failure: Duration,
}

/// Runs a lister, and again, until it is stopped.
async fn list_on_and_on(
    driver: &Driver,
    asked: &Asked,
    options: &lamplighter::driver::RunOptions,
    times: Times,
    store: &dyn SchedulerBackend,
    clock: &dyn Clock,
    stop: &StopHandle,
) {
    let key = asked.key();
    let mut query = RunQuery::default();
    query.lister = Some(key.name.clone());
    query.instance = Some(key.instance.clone());
    let mut failed_at: Option<Timestamp> = None;
    while !stop.is_stopped() {
        let at = match (failed_at, store.runs(&query, 1).await) {
            (Some(failed), _) => Some(failed.plus(times.after_failure)),
            (None, Ok(runs)) => {
                let last = runs.first().filter(|run| run.outcome != RunOutcome::Open);
                last.map(|run| run.started.plus(times.every))
            }
            (None, Err(e)) => {
                note(format!("{key}: {}", chain(&e)));
                Some(clock.now().plus(times.after_failure))
            }
        };
        let wait = at.map_or(Duration::ZERO, |at| at.since(clock.now()));
        if !wait.is_zero() {
            tokio::select! {
                () = clock.sleep(wait) => {}
                () = stop.stopped() => return,
            }
        }
        failed_at = match driver.run(asked.source(), options.clone()).await {
            Ok(report) => {
                let c = &report.counts;
                note(format!(
                    "{key}: {}, {} origins, {} new, {} changed, {} gone{}",
                    report.outcome.as_str(),
                    report.origins(),
                    c.new,
                    c.changed,
                    c.gone,
                    report.error.as_ref().map(|e| format!("; {e}")).unwrap_or_default(),
                ));
                (report.outcome == RunOutcome::Aborted).then(|| clock.now())
            }
            Err(e) => {
                note(format!("{key}: {}", chain(&e)));
                Some(clock.now())
            }
        };
    }
}

/// The counts of the pool, as Prometheus reads them.
fn prometheus(counts: PoolCounts) -> String {
    let PoolCounts { recorded, refused, unrecorded, lost, given_back, under_way, .. } = counts;
    let ends = [
        ("recorded", recorded),
        ("refused", refused),
        ("unrecorded", unrecorded),
        ("lost", lost),
        ("given_back", given_back),
    ];
    let lines = ends.map(|(end, n)| format!("lamplighter_visits_total{{end=\"{end}\"}} {n}\n")).concat();
    format!(
        "# HELP lamplighter_visits_total Visits that this process made, by how they ended.\n\
         # TYPE lamplighter_visits_total counter\n{lines}\
         # HELP lamplighter_visits_under_way Visits that this process is making.\n\
         # TYPE lamplighter_visits_under_way gauge\nlamplighter_visits_under_way {under_way}\n"
    )
}

/// Signals as they come. A second one to stop ends the process at once.
fn signals() -> Result<UnboundedReceiver<Signal>> {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let listen =
            |kind| signal(kind).map_err(|e| Failure::work(format!("signals cannot be waited for: {e}")));
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut hang_up = listen(SignalKind::hangup())?;
        tokio::spawn(async move {
            let mut stopping = false;
            loop {
                let signal = tokio::select! {
                    _ = terminate.recv() => Signal::Stop,
                    _ = interrupt.recv() => Signal::Stop,
                    _ = hang_up.recv() => Signal::Reload,
                };
                if signal == Signal::Stop && stopping {
                    std::process::exit(130);
                }
                stopping |= signal == Signal::Stop;
                // Nobody waits for it any more: the service ends.
                let _ = tell.send(signal);
            }
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            let _ = tell.send(Signal::Stop);
        }
    });
    Ok(told)
}
