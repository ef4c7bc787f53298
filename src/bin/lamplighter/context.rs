//! What every command works with: output, clock, configuration, the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::postgres::{Migration, PostgresOptions, PostgresStore, Versions};
use lamplighter::backend::{
    BackendError, BackendErrorKind, FileStore, MemoryStore, SchedulerBackend, StoreOptions,
};
use lamplighter::driver::SystemClock;
use lamplighter::lister::Secret;
use lamplighter::model::{ListerKey, Timestamp};
use lamplighter::testing::VirtualClock;
use lamplighter::transport::{Clock, LimitStore};

use crate::args::Common;
use crate::config::Config;
use crate::failure::{Failure, Result, chain};
use crate::output::Output;

/// Where the store is when nobody says.
const DEFAULT_STORE: &str = "file:./lamplighter.db";

/// How far the time that is told to the store may be from its own clock.
const CLOCK_BOUND: Duration = Duration::from_secs(5);

/// What every command works with.
pub(crate) struct Context {
    pub(crate) out: Output,
    pub(crate) json: bool,
    pub(crate) config: Config,
    /// What the store and the driver take for now.
    pub(crate) clock: Arc<dyn Clock>,
    /// What `--now` says.
    now: Option<Timestamp>,
    store: String,
}

impl Context {
    pub(crate) fn new(common: &Common) -> Result<Self> {
        let config = Config::read(common.config.as_deref())?;
        let clock: Arc<dyn Clock> = match common.now {
            Some(now) => Arc::new(VirtualClock::new(now.0)),
            None => Arc::new(SystemClock),
        };
        let store = common.store.clone().or_else(|| config.store.clone());
        Ok(Self {
            out: Output::new(),
            json: common.json,
            config,
            clock,
            now: common.now.map(|now| now.0),
            store: store.unwrap_or_else(|| DEFAULT_STORE.to_owned()),
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What `--now` says, where it is given.
    pub(crate) fn given_now(&self) -> Option<Timestamp> {
        self.now
    }

    /// The credentials of a lister's instance, from the configuration and the environment.
    pub(crate) fn secrets(&self, of: &ListerKey) -> Vec<Secret> {
        self.config.secrets(of, |name| std::env::var(name).ok())
    }

    /// The store, made where there is none yet.
    pub(crate) async fn store(&self) -> Result<Arc<dyn SchedulerBackend>> {
        Ok(self.store_and_limits().await?.0)
    }

    /// The store, made where there is none yet, and where it keeps forges' limits.
    pub(crate) async fn store_and_limits(&self) -> Result<Opened> {
        match named(&self.store)? {
            Place::Memory => Ok(both(MemoryStore::with_options(self.options()?))),
            Place::File(path) => self.open_file(&path),
            Place::Postgres(url) => self.open_postgres(&url, Migration::Create).await,
        }
    }

    /// As [`Context::store_and_limits`], in a place that outlives this process.
    pub(crate) async fn lasting_store_and_limits(&self) -> Result<Opened> {
        match named(&self.store)? {
            Place::Memory => Err(Failure::usage(
                "--store memory forgets everything at exit; name a file or a server: --store file:PATH",
            )),
            _ => self.store_and_limits().await,
        }
    }

    /// The store, for a command that needs what earlier ones stored.
    pub(crate) async fn filled_store(&self) -> Result<Arc<dyn SchedulerBackend>> {
        Ok(self.filled_store_and_limits().await?.0)
    }

    /// As [`Context::filled_store`], and where it keeps forges' limits.
    pub(crate) async fn filled_store_and_limits(&self) -> Result<Opened> {
        match named(&self.store)? {
            Place::Memory => Err(Failure::usage(
                "--store memory forgets everything at exit, so it never holds what an earlier command stored; \
                 name a file for both commands: --store file:PATH",
            )),
            Place::File(path) if !path.exists() => Err(Failure::usage(format!(
                "there is no store at {}; list or import something first, or name another one: --store file:PATH",
                path.display()
            ))),
            Place::File(path) => self.open_file(&path),
            Place::Postgres(url) => self.open_postgres(&url, Migration::Never).await,
        }
    }

    /// A store to look at and not to change: the one named where it is there, else an empty one.
    pub(crate) async fn store_if_any(&self) -> Result<Option<Arc<dyn SchedulerBackend>>> {
        match named(&self.store)? {
            Place::File(path) if path.exists() => Ok(Some(self.open_file(&path)?.0)),
            Place::Postgres(url) => Ok(Some(self.open_postgres(&url, Migration::Never).await?.0)),
            _ => Ok(None),
        }
    }

    /// The filled store, for one look: a file serves one process at a time, so whoever follows it lets
    /// go in between. None while another process has it.
    pub(crate) async fn glance(&self) -> Result<Option<Arc<dyn SchedulerBackend>>> {
        match named(&self.store)? {
            Place::File(path) if path.exists() => match FileStore::with_options(&path, self.options()?) {
                Err(e) if e.kind() == BackendErrorKind::Unavailable => Ok(None),
                store => Ok(Some(Arc::new(store.map_err(without)?))),
            },
            _ => self.filled_store().await.map(Some),
        }
    }

    /// Creates the schema of a PostgreSQL store, or brings it up to date.
    pub(crate) async fn migrate(&self) -> Result<Versions> {
        match named(&self.store)? {
            Place::Postgres(url) => PostgresStore::migrate(&url, &self.postgres(Migration::Update)?)
                .await
                .map_err(|e| no_server(&e)),
            Place::Memory | Place::File(_) => Err(Failure::usage(
                "only a PostgreSQL store has a schema to migrate: --store postgres://USER@HOST/DATABASE",
            )),
        }
    }

    fn options(&self) -> Result<StoreOptions> {
        let options = self.config.store_options()?;
        Ok(if self.now.is_none() { options.with_clock_bound(CLOCK_BOUND) } else { options })
    }

    fn postgres(&self, migration: Migration) -> Result<PostgresOptions> {
        Ok(PostgresOptions::default().with_store(self.options()?).with_migration(migration))
    }

    async fn open_postgres(&self, url: &str, migration: Migration) -> Result<Opened> {
        Ok(both(PostgresStore::connect(url, self.postgres(migration)?).await.map_err(|e| no_server(&e))?))
    }

    fn open_file(&self, path: &Path) -> Result<Opened> {
        Ok(both(FileStore::with_options(path, self.options()?).map_err(without)?))
    }
}

/// A store, and where it keeps forges' limits.
pub(crate) type Opened = (Arc<dyn SchedulerBackend>, Arc<dyn LimitStore>);

fn both(store: impl SchedulerBackend + LimitStore + 'static) -> Opened {
    let store = Arc::new(store);
    (Arc::clone(&store) as _, store)
}

/// A server, unlike a file, is not waited for.
fn no_server(e: &BackendError) -> Failure {
    let next = match e.kind() {
        BackendErrorKind::Unavailable => {
            "; see that the server runs and lets you in, or run `lamplighter migrate`"
        }
        _ => "",
    };
    Failure::Usage(format!("{}{next}", chain(e)))
}

/// Whatever is wrong with a store: without one nothing can be done.
fn without(e: BackendError) -> Failure {
    match Failure::from(e) {
        Failure::Work(message) => Failure::Usage(message),
        other => other,
    }
}

enum Place {
    Memory,
    File(PathBuf),
    Postgres(String),
}

fn named(store: &str) -> Result<Place> {
    if store == "memory" {
        return Ok(Place::Memory);
    }
    if let Some(path) = store.strip_prefix("file:").filter(|p| !p.is_empty()) {
        return Ok(Place::File(path.into()));
    }
    if store.starts_with("postgres://") || store.starts_with("postgresql://") {
        return Ok(Place::Postgres(store.to_owned()));
    }
    Err(Failure::usage(
        "a store is written file:PATH, postgres://USER@HOST/DATABASE or memory, as in --store file:./lamplighter.db",
    ))
}
