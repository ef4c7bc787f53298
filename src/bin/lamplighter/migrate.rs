//! `migrate`: the schema of a store in PostgreSQL.

use serde_json::json;

use crate::context::Context;
use crate::failure::{Done, Result};

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
