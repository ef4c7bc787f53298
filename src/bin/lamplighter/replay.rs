//! `replay`: a lister's run from a recording. No request leaves the machine.

use std::sync::Arc;

use lamplighter::backend::{ImportedOrigin, MemoryStore, OriginQuery, OriginStore, RunOutcome};
use lamplighter::driver::{Driver, RunOptions, RunReport};
use lamplighter::lister::{Built, ConfigError, Entry, Mode, Registry};
use lamplighter::model::{Timestamp, VisitType};
use lamplighter::testing::{Case, CaseRun, VirtualClock};
use lamplighter::transport::Replay;
use serde_json::{Value, json};

use crate::args::ReplayArgs;
use crate::client;
use crate::context::Context;
use crate::failure::{Done, Failure, Result, chain};
use crate::list::seed_state;
use crate::output::{Table, count};

/// What the clock shows where a case does not say: any time would do.
const SOME_TIME: i64 = 1_700_000_000;

/// Origins read from the store at once.
const PAGE: usize = 1000;

pub(crate) async fn replay(args: &ReplayArgs, context: &mut Context) -> Result<Done> {
    let case = Case::load(&args.case).map_err(|e| Failure::usage(chain(&e)))?;
    let registry = Registry::builtin();
    let entry = registry.entry(&case.lister)?;
    // Every argument is checked before anything is replayed.
    let built = case.runs.iter().map(|run| build(entry, run)).collect::<Result<Vec<Built>, ConfigError>>()?;
    let mut store = Arc::new(MemoryStore::new());
    let mut runs = Vec::new();
    for (run, built) in case.runs.into_iter().zip(built) {
        // A run that says its state begins with that and nothing else; another one goes on from what
        // the run before left.
        if run.state_before.is_some() {
            store = Arc::new(MemoryStore::new());
        }
        runs.push(replay_run(entry, run, built, &store).await?);
    }
    if context.json {
        context.out.json(&json!({"runs": runs}))?;
        return Ok(Done::Whole);
    }
    let mut table = Table::new(&["RUN", "OUTCOME", "ORIGINS", "REQUESTS", "UNUSED", "GAPS", "ERROR"]);
    let length =
        |run: &Value, key: &str| run.get(key).and_then(Value::as_array).map_or(0, Vec::len).to_string();
    let text = |run: &Value, key: &str| match run.get(key) {
        Some(Value::String(s)) => s.clone(),
        Some(v) if !v.is_null() => v.to_string(),
        _ => String::new(),
    };
    for (n, run) in runs.iter().enumerate() {
        table.row([
            (n + 1).to_string(),
            text(run, "outcome"),
            length(run, "origins"),
            length(run, "requests"),
            text(run, "unused"),
            length(run, "gaps"),
            text(run, "error"),
        ]);
    }
    context.out.line(format!("{}: {}, {}", entry.name, case.about, count(runs.len() as u64, "run")))?;
    context.out.table(&table)?;
    Ok(Done::Whole)
}

/// The lister of a run. A case says its instance and URL apart from the arguments; they are used
/// where no argument says them.
fn build(entry: &Entry, run: &CaseRun) -> Result<Built, ConfigError> {
    let takes = |name: &str| entry.parameters.iter().any(|p| p.name == name);
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

async fn replay_run(entry: &Entry, run: CaseRun, built: Built, store: &Arc<MemoryStore>) -> Result<Value> {
    let at = run.at.unwrap_or_else(|| Timestamp::from_seconds(SOME_TIME));
    let key = built.source.key();
    // What was known before was known earlier: the run's own origins are told by their date.
    let earlier = at.minus(std::time::Duration::from_secs(1));
    let mut known = Vec::new();
    for origin in &run.known_origins {
        let visit_type = VisitType::new(&origin.visit_type).map_err(Failure::usage)?;
        let mut import = ImportedOrigin::new(&key, &origin.url, visit_type);
        import.last_update = origin.last_update;
        known.push(import);
    }
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
    let mut secrets = built.secrets.clone();
    secrets.extend(run.secrets);
    let transport = client::around_on(Arc::clone(&replay), &built, &secrets, Arc::clone(&clock) as _);
    let driver = Driver::new(Arc::clone(store) as _, transport, Arc::clone(&clock) as _);
    let options = RunOptions::default()
        .with_concurrency(1)
        .with_parameters(built.parameters.clone())
        .with_enable_origins(run.enable_origins.unwrap_or(true))
        .with_max_pages(run.max_pages)
        .with_full(run.mode == Some(Mode::Full))
        .with_gaps_only(run.mode == Some(Mode::Gaps));
    let (outcome, error, report) = match driver.run(Arc::clone(&built.source), options).await {
        Ok(report) => {
            // A run that stops where the case says so is not open: nothing is to continue it.
            let (outcome, error) = match report.outcome {
                RunOutcome::Open => (RunOutcome::Partial, Some(stopped(&report))),
                outcome => (outcome, report.error.clone()),
            };
            (outcome, error, Some(report))
        }
        Err(e) => (RunOutcome::Aborted, Some(chain(&e)), None),
    };
    let requests: Vec<Value> = replay
        .log()
        .iter()
        .map(|r| json!({"method": r.method.as_str(), "url": r.url, "answer": r.answer.as_str()}))
        .collect();
    let gaps: Vec<Value> = report
        .iter()
        .flat_map(|r| &r.gaps)
        .map(|g| json!({"cursor": g.cursor, "reason": g.reason}))
        .collect();
    let state = report.map(|r| r.state).unwrap_or_default();
    Ok(json!({
        "outcome": outcome.as_str(),
        "error": error,
        "origins": origins(store, at).await?,
        "state": if state.is_empty() { Value::Null } else { Value::Object(state) },
        "requests": requests,
        "unused": replay.unused(),
        "waits": clock.waits(),
        "gaps": gaps,
    }))
}

fn stopped(report: &RunReport) -> String {
    format!(
        "stopped after {}, as the case says, {} pending",
        count(report.pages, "page"),
        count(report.pending, "request")
    )
}

/// The origins that the run listed.
async fn origins(store: &MemoryStore, at: Timestamp) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = store.origins(&OriginQuery::everything(), after, PAGE).await?;
        for (_, o) in page.origins.into_iter().filter(|(_, o)| o.last_seen >= at) {
            all.push(json!({
                "url": o.url,
                "visit_type": o.visit_type,
                "last_update": o.last_update,
                "is_fork": o.is_fork,
                "forked_from_url": o.forked_from_url,
                "enabled": o.enabled,
                "extra_loader_arguments": o.extra_loader_arguments,
            }));
        }
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}
