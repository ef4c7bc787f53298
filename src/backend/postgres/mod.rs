//! The store in PostgreSQL: for many processes, and for more origins than fit in memory.
//!
//! What is written is decided by the engine of the other stores, in the transaction that writes it: the
//! engine says what it needs to know, that is fetched in whole batches, and rows that are to be written
//! are locked and compared with what the engine was told before anything is. So the three stores cannot
//! drift apart, and no rule of scheduling exists in SQL.
//!
//! What people ask for lies in columns (origins, listers, runs, gaps, leases, changes); what only runs
//! need (cursors, parts, fingerprints, validators, artifacts, sets of who was seen) is one table of
//! entries, in the form that all stores share.
//!
//! # Concurrency
//!
//! - Pages of one lister are committed one after the other, those of different listers at once.
//! - A claim holds a lock of its visit type while it picks and leases. It writes no origin's row; the
//!   lease's key is what keeps an origin from being handed out twice.
//! - Whoever finds that a row is no longer what it was told starts over, with the row locked.
//! - Changes get their tokens as the last thing in a transaction, so that their order is that of the
//!   commits.
//! - Serialization failures, deadlocks and lost connections are tried again, up to a bound. The one
//!   exception is a connection lost while committing: then nobody can know, and the error says so.

mod claim;
mod db;
mod fetch;
mod known;
mod learn;
mod metrics;
mod migrate;
mod origin;
pub(super) mod pool;
mod queued;
mod rows;
mod save;
mod seen;
pub(super) mod sql;
mod store;
mod table;
mod work;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

pub use deadpool_postgres::Pool;
pub use migrate::Versions;

use self::db::{Db, Schema};
use super::{BackendError, BackendErrorKind, Result, StoreOptions};
use crate::backend::engine::rows::TypeRow;

/// How a store in PostgreSQL is opened.
///
/// ```
/// use lamplighter::backend::postgres::PostgresOptions;
/// let options = PostgresOptions::default().with_schema("archive").with_connections(4);
/// assert_eq!(options.schema, "archive");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PostgresOptions {
    /// What every store is told.
    pub store: StoreOptions,
    /// The schema in which the tables are: `a-z`, `0-9` and `_`. `lamplighter` by default.
    pub schema: String,
    /// The most connections that are open at once, where the pool is made here. Eight by default.
    pub connections: usize,
    /// What is done where the schema is not there, or not of this crate's version.
    pub migration: Migration,
}

/// What is done about a schema that is not there, or not of this crate's version. One of a newer
/// version is always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Migration {
    /// Nothing: it is refused.
    Never,
    /// Created where it is not there; one of an older version is refused.
    #[default]
    Create,
    /// Created, or brought to this crate's version.
    Update,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            store: StoreOptions::default(),
            schema: "lamplighter".to_owned(),
            connections: 8,
            migration: Migration::default(),
        }
    }
}

impl PostgresOptions {
    /// Policies, and whatever else every store is told.
    #[must_use]
    pub fn with_store(mut self, store: StoreOptions) -> Self {
        self.store = store;
        self
    }

    /// Another schema.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// More or fewer connections.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Says what to do where the schema is not there, or not of this crate's version.
    #[must_use]
    pub fn with_migration(mut self, migration: Migration) -> Self {
        self.migration = migration;
        self
    }
}

/// A store in a schema of a PostgreSQL database (14 or later). Clones share it.
///
/// ```no_run
/// use lamplighter::backend::OriginStore;
/// use lamplighter::backend::postgres::{PostgresOptions, PostgresStore};
/// # async fn run() -> Result<(), lamplighter::backend::BackendError> {
/// let store = PostgresStore::connect("postgres://me@localhost/archive", PostgresOptions::default()).await?;
/// println!("{} listers", store.listers().await?.len());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool,
    schema: Schema,
    options: StoreOptions,
    /// The listers of runs.
    runs: Arc<Mutex<HashMap<u64, uuid::Uuid>>>,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("schema", &self.schema.name()).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Opens the store in the database of a URL: `postgres://user:password@host:port/database`, with
    /// `?schema=NAME` for another schema than the options'.
    ///
    /// # Errors
    /// [`BackendErrorKind::Unavailable`] when the URL is none, the server cannot be reached or refuses,
    /// or the schema is of an older version and is not to be migrated; [`BackendErrorKind::Newer`] when
    /// a newer version made the schema.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self> {
        let (pool, options) = pool::of_url(url, options)?;
        Self::open(pool, options).await
    }

    /// Opens the store over connections of the caller's.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    ///
    /// ```no_run
    /// use lamplighter::backend::postgres::{Pool, PostgresOptions, PostgresStore};
    /// # async fn run(pool: Pool) -> Result<(), lamplighter::backend::BackendError> {
    /// let store = PostgresStore::open(pool, PostgresOptions::default().with_schema("crawler")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(pool: Pool, options: PostgresOptions) -> Result<Self> {
        let store = Self::over(pool, &options)?;
        let mut client = store.client().await?;
        match options.migration {
            Migration::Never => migrate::check(&mut client, &store.schema).await?,
            Migration::Create if migrate::is_there(&mut client, &store.schema).await? => {
                migrate::check(&mut client, &store.schema).await?;
            }
            Migration::Create | Migration::Update => {
                migrate::migrate(&mut client, &store.schema, store.lock("schema", "")).await?;
            }
        }
        drop(client);
        store.compare_policies().await?;
        Ok(store)
    }

    /// Creates the schema, or brings it to the version of this crate, and tells both versions.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    pub async fn migrate(url: &str, options: &PostgresOptions) -> Result<Versions> {
        let (pool, options) = pool::of_url(url, options.clone())?;
        let store = Self::over(pool, &options)?;
        migrate::migrate(&mut store.client().await?, &store.schema, store.lock("schema", "")).await
    }

    fn over(pool: Pool, options: &PostgresOptions) -> Result<Self> {
        let name = &options.schema;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
            let what = format!("a schema is named by up to 63 of a-z, 0-9 and _, not {name:?}");
            return Err(BackendError::new(BackendErrorKind::Unavailable, what));
        }
        Ok(Self { pool, schema: Schema::new(name), options: options.store.clone(), runs: Arc::default() })
    }

    /// Notes which visit types were placed by a policy of another name, or with other options.
    async fn compare_policies(&self) -> Result<()> {
        let mut client = self.client().await?;
        let tx = client.transaction().await.map_err(|e| sql::failed("beginning a transaction", e))?;
        let db = Db { tx: &tx, schema: &self.schema };
        let columns = table::of("t", rows::Type::COLUMNS);
        let sql = format!("select {columns} from {{s}}.visit_type t order by id for update");
        for row in db.rows(&sql, &[]).await? {
            let row = rows::Type::read(&row).map_err(|e| sql::failed("reading visit types", e))?;
            let number = row.id;
            let TypeRow { name, policy, form, .. } = row.row();
            let now = self.options.policies.of(&name);
            if now.name() != policy {
                let sql = "update {s}.visit_type set policy = $2, form = $3, replace_from = 0, credit = '{}',
                             shared = null where id = $1";
                db.run(sql, &[&number, &now.name(), &now.form()]).await?;
            } else if now.form() != form {
                let sql = "update {s}.visit_type set form = $2, replace_from = 0 where id = $1";
                db.run(sql, &[&number, &now.form()]).await?;
            }
        }
        tx.commit().await.map_err(|e| sql::failed("committing", e))
    }
}
