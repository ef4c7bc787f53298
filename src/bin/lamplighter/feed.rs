//! `changes`, `metrics`: what happened, and how much there is.

use std::time::Duration;

use lamplighter::backend::{Change, ChangeToken, Metrics};
use lamplighter::dispatch::http::{change as change_json, prometheus};
use serde_json::{Value, json};

use crate::args::{ChangesArgs, MetricsArgs};
use crate::context::Context;
use crate::failure::{Done, Result};
use crate::output::Table;

/// Changes that are read at a time.
const PAGE: usize = 1000;

/// How often whoever follows looks again.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

/// How often whoever watches looks again.
const WATCH_EVERY: Duration = Duration::from_secs(5);

pub(crate) async fn changes(args: &ChangesArgs, context: &mut Context) -> Result<Done> {
    let mut after = ChangeToken(args.after);
    loop {
        let store = if args.follow { context.glance().await? } else { Some(context.filled_store().await?) };
        if let Some(store) = store {
            loop {
                let page = store.changes(after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.token;
                show(&page, context)?;
            }
        }
        if !args.follow {
            return Ok(Done::Whole);
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

fn show(changes: &[Change], context: &mut Context) -> Result<()> {
    let mut table = Table::new(&["", "", "", "", "", "", ""]);
    for c in changes {
        let kind = serde_json::to_value(c.kind)?;
        if context.json {
            context.out.json(&change_json(c))?;
            continue;
        }
        let before = c.old_url.as_ref().map(|old| format!("was {old}")).unwrap_or_default();
        table.row([
            c.token.0.to_string(),
            c.at.to_string(),
            kind.as_str().unwrap_or_default().to_owned(),
            c.visit_type.to_string(),
            format!("{} of {}", c.lister, c.instance),
            c.url.clone(),
            before,
        ]);
    }
    if !table.is_empty() {
        context.out.table(&table)?;
    }
    // What is read is written before more is read: whoever follows sees it at once.
    context.out.flush()
}

pub(crate) async fn metrics(args: &MetricsArgs, context: &mut Context) -> Result<Done> {
    loop {
        let store = if args.watch { context.glance().await? } else { Some(context.filled_store().await?) };
        if let Some(store) = store {
            let metrics = store.metrics(context.now()).await?;
            drop(store);
            if args.prometheus {
                context.out.line(prometheus(&metrics).trim_end())?;
            } else if context.json {
                context.out.json(&metrics.iter().map(metrics_json).collect::<Vec<_>>())?;
            } else {
                context.out.table(&metrics_table(&metrics))?;
            }
            context.out.flush()?;
        }
        if !args.watch {
            return Ok(Done::Whole);
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn metrics_json(m: &Metrics) -> Value {
    json!({
        "lister": m.lister,
        "instance": m.instance,
        "visit_type": m.visit_type,
        "known": m.known,
        "enabled": m.enabled,
        "never_visited": m.never_visited,
        "pending_changes": m.pending_changes,
        "leased": m.leased,
        "overdue": m.overdue,
        "oldest": m.oldest_visit,
    })
}

fn metrics_table(metrics: &[Metrics]) -> Table {
    let mut table = Table::new(&[
        "LISTER", "INSTANCE", "TYPE", "KNOWN", "ENABLED", "NEVER", "CHANGED", "LEASED", "OVERDUE", "OLDEST",
    ]);
    for m in metrics {
        let numbers = [m.known, m.enabled, m.never_visited, m.pending_changes, m.leased, m.overdue];
        let names = [m.lister.clone(), m.instance.clone(), m.visit_type.to_string()];
        let oldest = m.oldest_visit.map(|t| t.to_string()).unwrap_or_default();
        table.row(names.into_iter().chain(numbers.map(|n| n.to_string())).chain([oldest]));
    }
    table
}
