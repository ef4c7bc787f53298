//! `listers`, `origins`, `runs`, `gaps`: what there is.

use lamplighter::backend::{Gap, GapQuery, OriginQuery, RunQuery, RunRecord};
use lamplighter::dispatch::http::origin as origin_json;
use lamplighter::lister::Registry;
use lamplighter::model::ListedOrigin;
use serde_json::{Value, json};

use crate::args::{GapsArgs, OriginsArgs, RunsArgs};
use crate::context::Context;
use crate::failure::{Done, Result};
use crate::output::{Table, count};

/// Rows that are read, and aligned, at a time.
const PAGE: usize = 1000;

pub(crate) fn listers(context: &mut Context) -> Result<Done> {
    let registry = Registry::builtin();
    if context.json {
        let all: Vec<Value> = registry
            .entries()
            .iter()
            .map(|e| {
                let parameters: Vec<Value> = e
                    .all_parameters()
                    .map(|p| {
                        json!({
                            "name": p.name,
                            "type": p.kind.as_str(),
                            "default": p.default,
                            "required": p.required,
                            "about": p.about,
                        })
                    })
                    .collect();
                json!({
                    "name": e.name,
                    "upstream": e.upstream,
                    "visit_types": e.visit_types,
                    "incremental": e.incremental,
                    "parameters": parameters,
                })
            })
            .collect();
        context.out.json(&all)?;
        return Ok(Done::Whole);
    }
    for (i, entry) in registry.entries().iter().enumerate() {
        if i > 0 {
            context.out.line("")?;
        }
        let memory = if entry.incremental { "; later runs ask only for what is new" } else { "" };
        context.out.line(format!(
            "{}: {} ({}){memory}",
            entry.name,
            entry.upstream,
            entry.visit_types.join(", ")
        ))?;
        let mut table = Table::new(&["", "", "", ""]).indented(2);
        for p in entry.all_parameters() {
            let default = match (p.required, p.default) {
                (true, _) => "required".to_owned(),
                (false, Some(default)) => format!("[{default}]"),
                (false, None) => String::new(),
            };
            table.row([format!("{}=", p.name), p.kind.as_str().to_owned(), p.about.to_owned(), default]);
        }
        context.out.table(&table)?;
    }
    Ok(Done::Whole)
}

pub(crate) async fn origins(args: &OriginsArgs, context: &mut Context) -> Result<Done> {
    let store = context.filled_store().await?;
    let mut query = OriginQuery::default();
    query.lister.clone_from(&args.lister);
    query.instance.clone_from(&args.instance);
    query.visit_type.clone_from(&args.visit_type);
    query.url_prefix.clone_from(&args.url);
    query.all = args.all;
    let mut after = None;
    loop {
        let page = store.origins(&query, after, PAGE).await?;
        if context.json {
            for (lister, origin) in &page.origins {
                context.out.json(&origin_json(lister, origin))?;
            }
        } else {
            let mut table = Table::new(&["URL", "TYPE", "LISTER", "INSTANCE", "LAST UPDATE", ""]);
            for (lister, o) in &page.origins {
                table.row([
                    o.url.clone(),
                    o.visit_type.to_string(),
                    lister.name.clone(),
                    lister.instance.clone(),
                    o.last_update.map(|t| t.to_string()).unwrap_or_default(),
                    remark(o),
                ]);
            }
            if !table.is_empty() {
                context.out.table(&table)?;
            }
        }
        // What is read is written before more is read: a reader that has gone ends the command.
        context.out.flush()?;
        after = page.next;
        if after.is_none() {
            return Ok(Done::Whole);
        }
    }
}

fn remark(origin: &ListedOrigin) -> String {
    let marks = [
        (origin.gone.is_some(), "gone"),
        (!origin.enabled, "not enabled"),
        (origin.disabled_by_failures.is_some(), "disabled by failures"),
        (origin.disabled_by_hand.is_some(), "disabled by hand"),
        (origin.is_fork == Some(true), "fork"),
        (origin.archived == Some(true), "archived"),
        (origin.mirror == Some(true), "mirror"),
        (origin.empty == Some(true), "empty"),
    ];
    marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect::<Vec<_>>().join(", ")
}

pub(crate) async fn runs(args: &RunsArgs, context: &mut Context) -> Result<Done> {
    let store = context.filled_store().await?;
    let mut query = RunQuery::default();
    query.lister.clone_from(&args.lister);
    query.instance.clone_from(&args.instance);
    let runs = store.runs(&query, usize::MAX).await?;
    if context.json {
        for run in &runs {
            context.out.json(&run_json(run))?;
        }
        return Ok(Done::Whole);
    }
    let mut table = Table::new(&[
        "RUN", "LISTER", "INSTANCE", "MODE", "OUTCOME", "STARTED", "PAGES", "ORIGINS", "GAPS", "",
    ]);
    for run in &runs {
        table.row([
            run.id.0.to_string(),
            run.lister.name.clone(),
            run.lister.instance.clone(),
            run.mode.as_str().to_owned(),
            run.outcome.as_str().to_owned(),
            run.started.to_string(),
            run.pages.to_string(),
            origins_of(run).to_string(),
            run.counts.gaps.to_string(),
            run.error.clone().unwrap_or_default(),
        ]);
    }
    if table.is_empty() {
        context.out.line("no run yet")?;
    } else {
        context.out.table(&table)?;
    }
    Ok(Done::Whole)
}

fn origins_of(run: &RunRecord) -> u64 {
    run.counts.new + run.counts.changed + run.counts.unchanged
}

fn run_json(run: &RunRecord) -> Value {
    json!({
        "run": run.id,
        "lister": run.lister.name,
        "instance": run.lister.instance,
        "mode": run.mode.as_str(),
        "coverage": run.coverage.as_str(),
        "parameters": run.parameters,
        "outcome": run.outcome.as_str(),
        "started": run.started,
        "finished": run.finished,
        "pages": run.pages,
        "requests": run.requests,
        "origins": origins_of(run),
        "new": run.counts.new,
        "changed": run.counts.changed,
        "renamed": run.counts.renamed,
        "unchanged": run.counts.unchanged,
        "gone": run.counts.gone,
        "withheld": run.withheld,
        "skipped": run.skipped,
        "filtered": run.filtered,
        "gaps": run.counts.gaps,
        "error": run.error,
    })
}

pub(crate) async fn gaps(args: &GapsArgs, context: &mut Context) -> Result<Done> {
    let (store, limits) = context.filled_store_and_limits().await?;
    let gaps = store.gaps(&GapQuery::default()).await?;
    if args.retry {
        return crate::list::retry(&store, &limits, &gaps, context).await;
    }
    if context.json {
        for gap in &gaps {
            context.out.json(&gap_json(gap))?;
        }
        return Ok(Done::Whole);
    }
    let mut table = Table::new(&["LISTER", "INSTANCE", "SINCE", "ASKED", "AGAIN AT", "WHY"]);
    for gap in &gaps {
        table.row([
            gap.lister.name.clone(),
            gap.lister.instance.clone(),
            gap.since.to_string(),
            gap.attempts.to_string(),
            gap.retry_at.to_string(),
            gap.reason.clone(),
        ]);
    }
    if table.is_empty() {
        context.out.line("no gaps: nothing that was to be listed is known to be missing")?;
    } else {
        context.out.table(&table)?;
        context.out.line(format!(
            "{}; `lamplighter gaps --retry` asks for all of them now",
            count(gaps.len() as u64, "gap")
        ))?;
    }
    Ok(Done::Whole)
}

fn gap_json(gap: &Gap) -> Value {
    json!({
        "lister": gap.lister.name,
        "instance": gap.lister.instance,
        "run": gap.run,
        "cursor": gap.cursor,
        "part": gap.part,
        "kind": gap.kind,
        "reason": gap.reason,
        "since": gap.since,
        "attempts": gap.attempts,
        "retry_at": gap.retry_at,
    })
}
