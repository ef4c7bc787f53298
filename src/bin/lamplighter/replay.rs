//! `replay`: a lister's run from a recording. No request leaves the machine.

use lamplighter::backend::RunOutcome;
use lamplighter::driver::RunReport;
use lamplighter::lister::Registry;
use lamplighter::model::{JsonObject, ListedOrigin};
use lamplighter::testing::{Case, ReplayError, Replayed};
use serde_json::{Value, json};

use crate::args::ReplayArgs;
use crate::context::Context;
use crate::failure::{Done, Failure, Result, chain};
use crate::output::{Table, count};

pub(crate) async fn replay(args: &ReplayArgs, context: &mut Context) -> Result<Done> {
    let case = Case::load(&args.case).map_err(|e| Failure::usage(chain(&e)))?;
    let heading = format!("{}: {}, {}", case.lister, case.about, count(case.runs.len() as u64, "run"));
    let runs = lamplighter::testing::replay(&Registry::builtin(), case).await.map_err(|e| match e {
        ReplayError::Store(e) => e.into(),
        e => Failure::usage(chain(&e)),
    })?;
    let runs: Vec<Value> = runs.into_iter().map(run_json).collect();
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
    context.out.line(heading)?;
    context.out.table(&table)?;
    Ok(Done::Whole)
}

/// A replayed run as scripts see it.
fn run_json(run: Replayed) -> Value {
    let (outcome, error, gaps, state) = match run.report {
        Ok(report) => {
            // A run that stops where the case says so is not open: nothing is to continue it.
            let (outcome, error) = match report.outcome {
                RunOutcome::Open => (RunOutcome::Partial, Some(stopped(&report))),
                outcome => (outcome, report.error),
            };
            (outcome, error, report.gaps, report.state)
        }
        Err(e) => (RunOutcome::Aborted, Some(chain(&e)), Vec::new(), JsonObject::new()),
    };
    let requests: Vec<Value> = run
        .requests
        .iter()
        .map(|r| json!({"method": r.method.as_str(), "url": r.url, "answer": r.answer.as_str()}))
        .collect();
    let gaps: Vec<Value> = gaps.iter().map(|g| json!({"cursor": g.cursor, "reason": g.reason})).collect();
    json!({
        "outcome": outcome.as_str(),
        "error": error,
        "origins": run.origins.iter().map(origin_json).collect::<Vec<Value>>(),
        "state": if state.is_empty() { Value::Null } else { Value::Object(state) },
        "requests": requests,
        "unused": run.unused,
        "waits": run.waits,
        "gaps": gaps,
    })
}

fn stopped(report: &RunReport) -> String {
    format!(
        "stopped after {}, as the case says, {} pending",
        count(report.pages, "page"),
        count(report.pending, "request")
    )
}

fn origin_json(o: &ListedOrigin) -> Value {
    json!({
        "url": o.url,
        "visit_type": o.visit_type,
        "last_update": o.last_update,
        "is_fork": o.is_fork,
        "forked_from_url": o.forked_from_url,
        "enabled": o.enabled,
        "extra_loader_arguments": o.extra_loader_arguments,
    })
}
