//! `list`, `record` and the retry of gaps: a lister's run against a live forge.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use lamplighter::backend::{Gap, MemoryStore, Prune, RunOutcome, RunStore, SchedulerBackend};
use lamplighter::driver::{Driver, RunOptions, RunReport, StopHandle, SystemClock};
use lamplighter::lister::{Built, Entry, Mode, PageSource, Registry, Secret};
use lamplighter::model::{JsonObject, ListerKey};
use lamplighter::testing::seed_state;
use lamplighter::transport::{
    Auth, Clock, LimitStore, RecordedRun, Recording, RecordingInfo, Request, Response, Transport,
    TransportError,
};
use serde_json::{Value, json};

use crate::args::{ListArgs, ListerArgs, PruneArg, RecordArgs};
use crate::client;
use crate::context::Context;
use crate::failure::{Done, Failure, Result, chain, one_line};
use crate::output::{Table, count, for_people, note};
use crate::progress::Progress;

/// A lister as the command line, or the configuration, asks for it, with its credentials.
pub(crate) struct Asked {
    built: Built,
    secrets: Vec<Secret>,
    enable_origins: bool,
    max_pages: Option<u64>,
}

impl Asked {
    fn new(args: &ListerArgs, context: &Context) -> Result<Self> {
        let registry = Registry::builtin();
        let entry = registry.entry(&args.lister)?;
        let (mut enable_origins, mut max_pages) = (true, None);
        let mut given = JsonObject::new();
        for (key, value) in &args.arguments {
            let wrong = |what: &str| Failure::usage(format!("{key}: must be {what}"));
            match key.as_str() {
                "enable_origins" => {
                    enable_origins =
                        value.to_ascii_lowercase().parse().map_err(|_| wrong("true or false"))?;
                }
                "max_pages" => max_pages = Some(value.parse().map_err(|_| wrong("a whole number"))?),
                _ => {
                    if given.insert(key.clone(), value.clone().into()).is_some() {
                        return Err(Failure::usage(format!("{key} is given twice")));
                    }
                }
            }
        }
        let mut asked = Self::of(entry, &given, context)?;
        asked.enable_origins = enable_origins;
        asked.max_pages = max_pages;
        Ok(asked)
    }

    fn of(entry: &Entry, given: &JsonObject, context: &Context) -> Result<Self> {
        let built = entry.build(given)?;
        let mut secrets = built.secrets.clone();
        secrets.extend(context.secrets(&built.source.key()));
        entry.check_credentials(secrets.len())?;
        Ok(Self { built, secrets, enable_origins: true, max_pages: None })
    }

    /// A lister by its name.
    pub(crate) fn named(name: &str, given: &JsonObject, context: &Context) -> Result<Self> {
        Self::of(Registry::builtin().entry(name)?, given, context)
    }

    pub(crate) fn built(&self) -> &Built {
        &self.built
    }

    pub(crate) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    pub(crate) fn source(&self) -> Arc<dyn PageSource> {
        Arc::clone(&self.built.source)
    }

    pub(crate) fn run_options(&self) -> RunOptions {
        self.options(None)
    }

    pub(crate) fn key(&self) -> ListerKey {
        self.built.source.key()
    }

    fn options(&self, max_pages: Option<u64>) -> RunOptions {
        RunOptions::default()
            .with_parameters(self.built.parameters.clone())
            .with_enable_origins(self.enable_origins)
            .with_filters(self.built.filters)
            .with_max_pages(max_pages.or(self.max_pages))
    }
}

pub(crate) async fn list(args: &ListArgs, context: &mut Context) -> Result<Done> {
    let asked = Asked::new(&args.lister, context)?;
    if args.dry_run {
        return dry_run(args, &asked, context).await;
    }
    let (store, limits) = context.store_and_limits().await?;
    let transport = client::polite(&asked.built, &asked.secrets, context, Some(limits))?;
    let options = asked
        .options(args.max_pages)
        .with_full(args.full)
        .with_restart(args.restart)
        .with_prune(match args.prune {
            None => Prune::No,
            Some(PruneArg::Guarded) => Prune::from(true),
            Some(PruneArg::Force) => Prune::Force,
        })
        .with_concurrency(args.concurrency)
        .with_shards(args.shards);
    let driver = Driver::new(store, transport, Arc::clone(&context.clock));
    Ok(run(driver, &asked, options, context).await?.0)
}

pub(crate) async fn record(args: &RecordArgs, context: &mut Context) -> Result<Done> {
    let asked = Asked::new(&args.lister, context)?;
    let secrets = asked.secrets.iter().map(|s| s.secret.clone()).collect();
    let info = RecordingInfo::new(
        &args.lister.lister,
        format!("recorded from {} at {}", asked.key().instance, context.now()),
    )
    .with_arguments(asked.built.parameters.clone())
    .with_secrets(secrets);
    let max_pages = args.max_pages.or(asked.max_pages);
    let at = RecordedRun::new(context.now()).with_mode(Mode::Full.as_str()).with_max_pages(max_pages);
    let recording = Recording::create(client::http(&asked.built, &asked.secrets, context)?, &args.into, info)
        .and_then(|recording| recording.begin_run(at).map(|()| Arc::new(recording)))
        .map_err(|e| Failure::usage(format!("{}; name an empty folder with --into", chain(&e))))?;
    let transport = client::around(Arc::clone(&recording), &asked.built, &asked.secrets, context, None);
    // A store of its own: the recording begins at the beginning, and can be replayed from nothing.
    let driver = Driver::new(Arc::new(MemoryStore::new()), transport, Arc::clone(&context.clock));
    let (done, outcome) = run(driver, &asked, asked.options(max_pages).with_concurrency(1), context).await?;
    recording.end_run(outcome.as_str()).map_err(|e| Failure::work(chain(&e)))?;
    note(format!(
        "recorded into {}; `lamplighter replay {}` lists from it",
        args.into.display(),
        args.into.display()
    ));
    Ok(done)
}

/// Runs a driver to its end and tells how it went.
async fn run(
    driver: Driver,
    asked: &Asked,
    options: RunOptions,
    context: &mut Context,
) -> Result<(Done, RunOutcome)> {
    let progress = Arc::new(Progress::new());
    let driver = driver.observed_by(Arc::clone(&progress) as _);
    let begun = Instant::now();
    let stopped = stop_on_signals(driver.stop_handle(), Arc::clone(&progress));
    let report = driver.run(Arc::clone(&asked.built.source), options).await?;
    let seconds = begun.elapsed();
    if context.json {
        context.out.json(&report_json(&report, seconds.as_secs_f64()))?;
    } else {
        for line in report_lines(&report) {
            context.out.line(line)?;
        }
        context.out.line(format!("took {}", for_people(seconds)))?;
    }
    if report.outcome == RunOutcome::Open {
        let why = if stopped.load(Ordering::SeqCst) { "stopped" } else { "not at its end yet" };
        note(format!(
            "{why}, {} pending; nothing is lost, and the same command goes on from here",
            count(report.pending, "request")
        ));
    }
    Ok((Done::whole_if(report.outcome == RunOutcome::Complete), report.outcome))
}

/// The first signal stops between pages, the second one at once.
fn stop_on_signals(stop: StopHandle, progress: Arc<Progress>) -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stopped);
    tokio::spawn(async move {
        while interrupted().await {
            if told.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            stop.stop();
            progress
                .say("stopping after the current page; once more stops at once (and loses nothing either)");
        }
    });
    stopped
}

/// Waits for a signal to stop; false where none can be waited for.
async fn interrupted() -> bool {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return tokio::signal::ctrl_c().await.is_ok();
        };
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt.is_ok(),
            asked = terminate.recv() => asked.is_some(),
        }
    }
    #[cfg(not(unix))]
    {
        tokio::signal::ctrl_c().await.is_ok()
    }
}

/// A run as scripts see it.
pub(crate) fn report_json(report: &RunReport, seconds: f64) -> Value {
    let gaps: Vec<Value> =
        report.gaps.iter().map(|g| json!({"cursor": g.cursor, "reason": g.reason})).collect();
    json!({
        "lister": report.lister.name,
        "instance": report.lister.instance,
        "run": report.run,
        "mode": report.mode.as_str(),
        "coverage": report.coverage.as_str(),
        "resumed": report.resumed,
        "outcome": report.outcome.as_str(),
        "pending": report.pending,
        "error": report.error,
        "pages": report.pages,
        "requests": report.requests,
        "origins": report.origins(),
        "new": report.counts.new,
        "changed": report.counts.changed,
        "renamed": report.counts.renamed,
        "unchanged": report.counts.unchanged,
        "gone": report.counts.gone,
        "withheld": report.withheld,
        "skipped": report.skipped,
        "filtered": report.filtered,
        "gaps": gaps,
        "state": report.state,
        "started": report.started,
        "finished": report.finished,
        "seconds": seconds,
    })
}

fn report_lines(report: &RunReport) -> Vec<String> {
    let c = &report.counts;
    let mut lines = vec![
        format!("{}: {} ({})", report.lister, report.outcome.as_str(), report.mode.as_str()),
        format!(
            "{} in {} and {}: {} new, {} changed, {} unchanged; {} gone, {} skipped",
            count(report.origins(), "origin"),
            count(report.pages, "page"),
            count(report.requests, "request"),
            c.new,
            c.changed,
            c.unchanged,
            c.gone,
            report.skipped
        ),
    ];
    if c.renamed > 0 {
        lines.push(format!("{} under another URL than before", count(c.renamed, "origin")));
    }
    let filtered = report.filtered.all();
    if filtered > 0 {
        lines.push(format!("{} left out by filters", count(filtered, "origin")));
    }
    if report.withheld > 0 {
        lines.push(format!(
            "{} not seen and kept all the same: so many are not believed to be gone; --prune=force retires them",
            count(report.withheld, "origin")
        ));
    }
    lines.extend(report.error.as_ref().map(|e| format!("error: {}", one_line(e))));
    lines.extend(report.gaps.iter().map(|g| format!("gap: {}", one_line(&g.reason))));
    lines
}

/// The first request and its answer, as they passed.
struct Watched<T> {
    inner: T,
    /// Whether there is a credential to send.
    has_secret: bool,
    first: Mutex<Option<Value>>,
}

#[async_trait]
impl<T: Transport> Transport for Watched<T> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let asked = json!({
            "method": request.method.as_str(),
            "url": request.url,
            "credential": masked(&request.auth).filter(|_| self.has_secret),
        });
        let answer = self.inner.send(request).await;
        let told = match &answer {
            Ok(response) => {
                let mut told = told_by(response);
                told.insert("request".to_owned(), asked);
                told
            }
            Err(e) => {
                JsonObject::from_iter([("request".to_owned(), asked), ("error".to_owned(), chain(e).into())])
            }
        };
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(Value::Object(told));
        answer
    }

    fn attempts(&self) -> u64 {
        self.inner.attempts()
    }
}

/// How a request is authenticated, the secret masked.
fn masked(auth: &Auth) -> Option<String> {
    match auth {
        Auth::Bearer(word) => Some(format!("authorization: {word} ***")),
        Auth::Basic => Some("authorization: Basic ***".to_owned()),
        Auth::Header(name) => Some(format!("{name}: ***")),
        Auth::Form(field) | Auth::Query(field) => Some(format!("{field}=***")),
        _ => None,
    }
}

/// What an answer's head says of limits and of how much there is.
fn told_by(response: &Response) -> JsonObject {
    let names = ["limit", "remaining", "reset", "retry-after"];
    let limits: BTreeMap<String, String> = response
        .headers
        .iter()
        .filter(|(name, _)| name.as_str().contains("ratelimit") || names.contains(&name.as_str()))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let last = response.link("last").ok().flatten();
    let of_link = last.and_then(|url| lamplighter::lister::query_param(&url, "page")?.parse::<u64>().ok());
    let of_header = response.header("x-total-pages").and_then(|n| n.trim().parse::<u64>().ok());
    JsonObject::from_iter([
        ("status".to_owned(), response.status.as_u16().into()),
        ("limits".to_owned(), json!(limits)),
        ("pages_expected".to_owned(), json!(of_header.or(of_link))),
        ("bytes".to_owned(), response.body.len().into()),
    ])
}

async fn dry_run(args: &ListArgs, asked: &Asked, context: &mut Context) -> Result<Done> {
    let key = asked.key();
    let scratch = MemoryStore::new();
    if let Some(store) = context.store_if_any().await? {
        let lister = store.lister(&key, context.now()).await?;
        if !args.full && !lister.current_state.is_empty() {
            seed_state(&scratch, &key, lister.current_state, lister.state_form, context.now()).await?;
        }
    }
    let transport = client::polite(&asked.built, &asked.secrets, context, None)?;
    let watched = Arc::new(Watched {
        inner: transport,
        has_secret: !asked.secrets.is_empty(),
        first: Mutex::new(None),
    });
    let driver = Driver::new(Arc::new(scratch), Arc::clone(&watched) as _, Arc::clone(&context.clock));
    let options = asked.options(Some(1)).with_full(args.full).with_concurrency(1);
    let begun = Instant::now();
    let report = driver.run(Arc::clone(&asked.built.source), options).await?;
    let first = watched.first.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    // One page of many leaves the run open: that is what was asked for.
    let answered = report.pages == 1 && report.error.is_none();
    if context.json {
        let mut told = report_json(&report, begun.elapsed().as_secs_f64());
        if let Value::Object(told) = &mut told {
            told.insert("dry_run".to_owned(), first);
        }
        context.out.json(&told)?;
        return Ok(Done::whole_if(answered));
    }
    let mut table = Table::new(&["", ""]);
    let request = first.get("request");
    let text = |v: Option<&Value>| match v {
        Some(Value::String(s)) => s.clone(),
        Some(v) if !v.is_null() => v.to_string(),
        _ => "unknown".to_owned(),
    };
    let of = |name: &str| text(request.and_then(|r| r.get(name)));
    table.row(["request".to_owned(), format!("{} {}", of("method"), of("url"))]);
    let sent = request.and_then(|r| r.get("credential")?.as_str()).unwrap_or("none");
    table.row(["credential".to_owned(), sent.to_owned()]);
    table.row(["answer".to_owned(), text(first.get("status").or(first.get("error")))]);
    table.row(["limits".to_owned(), text(first.get("limits"))]);
    table.row(["pages expected".to_owned(), text(first.get("pages_expected"))]);
    table.row(["origins on it".to_owned(), report.origins().to_string()]);
    table.row(["follow from it".to_owned(), count(report.pending, "request")]);
    context.out.table(&table)?;
    for line in report_lines(&report).into_iter().skip(2) {
        context.out.line(line)?;
    }
    context.out.line("nothing was stored")?;
    Ok(Done::whole_if(answered))
}

/// Asks for known gaps again: one run for each lister and set of parameters that has some.
pub(crate) async fn retry(
    store: &Arc<dyn SchedulerBackend>,
    limits: &Arc<dyn LimitStore>,
    gaps: &[Gap],
    context: &mut Context,
) -> Result<Done> {
    let runs = store.runs(&lamplighter::backend::RunQuery::default(), usize::MAX).await?;
    let mut wanted: Vec<(ListerKey, JsonObject)> = Vec::new();
    for gap in gaps {
        let parameters =
            runs.iter().find(|r| r.id == gap.run).map(|r| r.parameters.clone()).unwrap_or_default();
        if !wanted.contains(&(gap.lister.clone(), parameters.clone())) {
            wanted.push((gap.lister.clone(), parameters));
        }
    }
    if wanted.is_empty() && !context.json {
        context.out.line("no gaps")?;
    }
    let registry = Registry::builtin();
    let mut whole = true;
    for (key, parameters) in wanted {
        let asked = Asked::of(registry.entry(&key.name)?, &parameters, context)?;
        let transport = client::polite(&asked.built, &asked.secrets, context, Some(Arc::clone(limits)))?;
        let driver = Driver::new(Arc::clone(store) as _, transport, Arc::clone(&context.clock));
        let (done, _) = run(driver, &asked, asked.options(None).with_gaps_only(true), context).await?;
        whole &= done == Done::Whole;
    }
    Ok(Done::whole_if(whole))
}

/// The clock that a client waits on: a forge's limits hold in real time, whatever `--now` says.
pub(crate) fn real_time() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}
