//! The schema's versions.

use deadpool_postgres::{Client, Transaction};

use super::db::Schema;
use super::sql::failed;
use crate::backend::{BackendError, BackendErrorKind, Result};

/// What each version does. Only ever added to.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_start.sql")];

/// Two versions of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Versions {
    /// The one that was found; zero where there was no schema.
    pub before: usize,
    /// The one that there is now.
    pub now: usize,
}

/// Brings a schema to the version of this crate: one transaction for each version, so that what is done
/// stays done. Others who try it wait.
pub(super) async fn migrate(client: &mut Client, schema: &Schema, lock: i64) -> Result<Versions> {
    let mut first = None;
    loop {
        let tx = client.transaction().await.map_err(|e| failed("beginning a transaction", e))?;
        tx.query_one("select pg_advisory_xact_lock($1)", &[&lock])
            .await
            .map_err(|e| failed("waiting for whoever changes the schema", e))?;
        let found = version(&tx, schema).await?;
        let before = *first.get_or_insert(found);
        let Some(statements) = MIGRATIONS.get(found) else {
            checked(found, schema)?;
            return Ok(Versions { before, now: found });
        };
        let next = found + 1;
        let doing = format!("bringing schema {} to version {next}", schema.name());
        if found == 0 {
            create(&tx, schema).await?;
        }
        tx.batch_execute(&schema.sql(statements)).await.map_err(|e| failed(&doing, e))?;
        let note = if found == 0 {
            format!("insert into {{s}}.version values ({next})")
        } else {
            format!("update {{s}}.version set version = {next}")
        };
        tx.batch_execute(&schema.sql(&note)).await.map_err(|e| failed(&doing, e))?;
        tx.commit().await.map_err(|e| failed(&doing, e))?;
    }
}

/// Makes the schema, where nobody made it beforehand: that needs a right which its user may lack.
async fn create(tx: &Transaction<'_>, schema: &Schema) -> Result<()> {
    let there = tx.query_opt("select from pg_namespace where nspname = $1", &[&schema.name()]).await;
    if there.map_err(|e| failed("looking for the schema", e))?.is_some() {
        return Ok(());
    }
    tx.batch_execute(&schema.sql("create schema {s}")).await.map_err(|e| {
        failed(&format!("creating schema {} (or let somebody create it who may)", schema.name()), e)
    })
}

/// The version of a schema; zero where there is none.
async fn version(tx: &Transaction<'_>, schema: &Schema) -> Result<usize> {
    let reading = |e| failed("reading the schema's version", e);
    // From the catalogue as it is now: names are looked up in a cache that may be older than the lock
    // that was waited for.
    let sql = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
                where n.nspname = $1 and c.relname = 'version')";
    let there = tx
        .query_one(sql, &[&schema.name()])
        .await
        .and_then(|row| row.try_get::<_, bool>(0))
        .map_err(reading)?;
    if !there {
        return Ok(0);
    }
    let row =
        tx.query_one(&schema.sql("select max(version) from {s}.version"), &[]).await.map_err(reading)?;
    let version: Option<i32> = row.try_get(0).map_err(reading)?;
    usize::try_from(version.unwrap_or(0)).map_err(|e| {
        BackendError::new(BackendErrorKind::Corrupt, "a schema of a negative version").with_source(e)
    })
}

fn checked(version: usize, schema: &Schema) -> Result<()> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    let what =
        format!("schema {} has version {version}, this program knows {}", schema.name(), MIGRATIONS.len());
    let kind =
        if version > MIGRATIONS.len() { BackendErrorKind::Newer } else { BackendErrorKind::Unavailable };
    let more = match version {
        0 => ": it is not there",
        older if older < MIGRATIONS.len() => ": migrate it",
        _ => "",
    };
    Err(BackendError::new(kind, format!("{what}{more}")))
}

/// Tells whether a schema has the version of this crate.
pub(super) async fn check(client: &mut Client, schema: &Schema) -> Result<()> {
    let tx = client.transaction().await.map_err(|e| failed("beginning a transaction", e))?;
    checked(version(&tx, schema).await?, schema)
}

/// Whether there is a schema of any version.
pub(super) async fn is_there(client: &mut Client, schema: &Schema) -> Result<bool> {
    let tx = client.transaction().await.map_err(|e| failed("beginning a transaction", e))?;
    Ok(version(&tx, schema).await? > 0)
}
