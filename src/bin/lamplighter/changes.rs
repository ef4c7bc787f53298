//! The change feed, and the schema it lies in.

use std::time::Duration;

use lamplighter::backend::ChangeToken;
use serde_json::json;

use crate::args::ChangesArgs;
use crate::context::Context;
use crate::failure::{Done, Result};

/// So many changes are read at once.
const PAGE: usize = 1000;

/// How long to wait for further ones.
const WAIT: Duration = Duration::from_secs(1);

/// Prints changes, one a line.
pub(crate) async fn changes(args: &ChangesArgs, context: &mut Context) -> Result<Done> {
    let store = context.filled_store().await?;
    let mut after = ChangeToken(args.after);
    loop {
        let page = store.changes(after, PAGE).await?;
        for change in &page {
            after = change.token;
            context.out.json(change)?;
        }
        if !page.is_empty() {
            continue;
        }
        if !args.follow {
            return Ok(Done::Whole);
        }
        context.out.flush()?;
        context.clock.sleep(WAIT).await;
    }
}

/// Creates or updates the schema.
pub(crate) async fn migrate(context: &mut Context) -> Result<Done> {
    let versions = context.migrate().await?;
    if context.json {
        context.out.json(&json!({ "before": versions.before, "now": versions.now }))?;
    } else if versions.before == versions.now {
        context.out.line(format!("the schema has version {} already", versions.now))?;
    } else {
        context.out.line(format!("from version {} to version {}", versions.before, versions.now))?;
    }
    Ok(Done::Whole)
}
