//! What every command works with: output, clock, configuration, the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::{FileStore, MemoryStore, SchedulerBackend, StoreOptions};
use lamplighter::driver::SystemClock;
use lamplighter::lister::Secret;
use lamplighter::model::{ListerKey, Timestamp};
use lamplighter::testing::VirtualClock;
use lamplighter::transport::{Clock, LimitStore};

use crate::args::Common;
use crate::config::Config;
use crate::failure::{Failure, Result};
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
    pub(crate) fn store(&self) -> Result<Arc<dyn SchedulerBackend>> {
        match named(&self.store)? {
            Place::Memory => Ok(Arc::new(MemoryStore::new())),
            Place::File(path) => self.open(&path),
        }
    }

    /// The store, made where there is none yet, and where it keeps forges' limits.
    pub(crate) fn store_and_limits(&self) -> Result<(Arc<dyn SchedulerBackend>, Arc<dyn LimitStore>)> {
        match named(&self.store)? {
            Place::Memory => {
                let store = Arc::new(MemoryStore::new());
                Ok((Arc::clone(&store) as _, store))
            }
            Place::File(path) => {
                let store = self.open_file(&path)?;
                Ok((Arc::clone(&store) as _, store))
            }
        }
    }

    /// The store, for a command that needs what earlier ones stored.
    pub(crate) fn filled_store(&self) -> Result<Arc<dyn SchedulerBackend>> {
        Ok(self.filled_store_and_limits()?.0)
    }

    /// As [`Context::filled_store`], and where it keeps forges' limits.
    pub(crate) fn filled_store_and_limits(&self) -> Result<(Arc<dyn SchedulerBackend>, Arc<dyn LimitStore>)> {
        match named(&self.store)? {
            Place::Memory => Err(Failure::usage(
                "--store memory forgets everything at exit, so it never holds what an earlier command stored; \
                 name a file for both commands: --store file:PATH",
            )),
            Place::File(path) if !path.exists() => Err(Failure::usage(format!(
                "there is no store at {}; list or import something first, or name another one: --store file:PATH",
                path.display()
            ))),
            Place::File(path) => {
                let store = self.open_file(&path)?;
                Ok((Arc::clone(&store) as _, store))
            }
        }
    }

    /// A store to look at and not to change: the one named where it is there, else an empty one.
    pub(crate) fn store_if_any(&self) -> Result<Option<Arc<dyn SchedulerBackend>>> {
        match named(&self.store)? {
            Place::File(path) if path.exists() => self.open(&path).map(Some),
            _ => Ok(None),
        }
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn SchedulerBackend>> {
        Ok(self.open_file(path)?)
    }

    fn open_file(&self, path: &Path) -> Result<Arc<FileStore>> {
        let mut options = StoreOptions::default();
        if self.now.is_none() {
            options = options.with_clock_bound(CLOCK_BOUND);
        }
        let store = FileStore::with_options(path, options).map_err(|e| match Failure::from(e) {
            // Whatever is wrong with it: without a store nothing can be done.
            Failure::Work(message) => Failure::Usage(message),
            other => other,
        })?;
        Ok(Arc::new(store))
    }
}

enum Place {
    Memory,
    File(PathBuf),
}

fn named(store: &str) -> Result<Place> {
    if store == "memory" {
        return Ok(Place::Memory);
    }
    if let Some(path) = store.strip_prefix("file:").filter(|p| !p.is_empty()) {
        return Ok(Place::File(path.into()));
    }
    if store.starts_with("postgres://") || store.starts_with("postgresql://") {
        // The URL may hold a password: it is not repeated.
        return Err(Failure::usage("this command is built without PostgreSQL; use --store file:PATH"));
    }
    Err(Failure::usage("a store is written file:PATH or memory, as in --store file:./lamplighter.db"))
}
