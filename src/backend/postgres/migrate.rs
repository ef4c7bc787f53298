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
    to_the_last(client, schema, lock, &MIGRATIONS).await
}

async fn to_the_last(
    client: &mut Client,
    schema: &Schema,
    lock: i64,
    migrations: &[&str],
) -> Result<Versions> {
    let mut first = None;
    loop {
        let tx = client.transaction().await.map_err(|e| failed("beginning a transaction", e))?;
        tx.query_one("select pg_advisory_xact_lock($1)", &[&lock])
            .await
            .map_err(|e| failed("waiting for whoever changes the schema", e))?;
        let found = version(&tx, schema).await?;
        let before = *first.get_or_insert(found);
        let Some(statements) = migrations.get(found) else {
            checked(found, migrations.len(), schema)?;
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

fn checked(version: usize, known: usize, schema: &Schema) -> Result<()> {
    if version == known {
        return Ok(());
    }
    let what = format!("schema {} has version {version}, this program knows {known}", schema.name());
    let kind = if version > known { BackendErrorKind::Newer } else { BackendErrorKind::Unavailable };
    let more = match version {
        0 => ": it is not there",
        older if older < known => ": migrate it",
        _ => "",
    };
    Err(BackendError::new(kind, format!("{what}{more}")))
}

/// Tells whether a schema has the version of this crate.
pub(super) async fn check(client: &mut Client, schema: &Schema) -> Result<()> {
    let tx = client.transaction().await.map_err(|e| failed("beginning a transaction", e))?;
    checked(version(&tx, schema).await?, MIGRATIONS.len(), schema)
}

/// Whether there is a schema of any version.
pub(super) async fn is_there(client: &mut Client, schema: &Schema) -> Result<bool> {
    let tx = client.transaction().await.map_err(|e| failed("beginning a transaction", e))?;
    Ok(version(&tx, schema).await? > 0)
}

#[cfg(test)]
mod tests {
    use deadpool_postgres::{Manager, Pool};

    use super::*;

    /// Connections to the server that `LAMPLIGHTER_TEST_PG` names; none where it names none.
    fn server() -> Option<Pool> {
        let Some(url) = std::env::var("LAMPLIGHTER_TEST_PG").ok().filter(|url| !url.is_empty()) else {
            assert!(std::env::var_os("CI").is_none(), "in CI, LAMPLIGHTER_TEST_PG must name a server");
            return None;
        };
        let manager = Manager::new(url.parse().unwrap(), tokio_postgres::NoTls);
        Some(Pool::builder(manager).max_size(2).build().unwrap())
    }

    #[tokio::test]
    async fn a_later_migration_goes_on_where_an_earlier_one_ended() {
        let Some(pool) = server() else { return };
        let mut client = pool.get().await.unwrap();
        let schema = Schema::new(&format!("test_{}_migrations", std::process::id()));
        let [first] = MIGRATIONS;
        let made = to_the_last(&mut client, &schema, 7, &[first]).await.unwrap();
        assert_eq!((made.before, made.now), (0, 1));
        let sound = "alter table {s}.origin add stars int";
        // The third one fails half way: what the second one did stays, and of the third one nothing.
        let fails = [first, sound, "create table {s}.half (n int); select no_such_column"];
        to_the_last(&mut client, &schema, 7, &fails).await.unwrap_err();
        let tx = client.transaction().await.unwrap();
        assert_eq!(version(&tx, &schema).await.unwrap(), 2);
        drop(tx);
        let works = [first, sound, "create table {s}.half (n int)"];
        let done = to_the_last(&mut client, &schema, 7, &works).await.unwrap();
        assert_eq!((done.before, done.now), (2, 3));
        client
            .batch_execute(&schema.sql("select stars from {s}.origin; select n from {s}.half"))
            .await
            .unwrap();
        // And whoever knows fewer of them keeps away.
        let old = to_the_last(&mut client, &schema, 7, &[first]).await.unwrap_err();
        assert_eq!(old.kind(), BackendErrorKind::Newer);
        client.batch_execute(&schema.sql("drop schema {s} cascade")).await.unwrap();
    }
}
