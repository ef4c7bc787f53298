//! Visits reach workers, outcomes come back, and nothing is lost in between.
//!
//! A [`Feeder`] claims visits from a store and gives them to a [`Dispatcher`]; a dispatcher has them
//! made and sees to it that their outcomes are recorded. [`Pool`] is the dispatcher of the same
//! process: it runs a [`Worker`].
//!
//! # What holds
//!
//! - A visit is claimed under a lease *before* it is sent. Whatever dies after that, it is handed out
//!   again when the lease ends.
//! - A visit is sent once in a lease. An answer that says neither yes nor no ([`Ack::Unknown`]) is taken
//!   for "it may be there": its slot counts as taken until the lease ends.
//! - Where the free slots are not known, nothing is claimed.
//! - A visit that is refused, or not begun when the feeder stops, is given back at once: a heartbeat
//!   whose lease is zero long ends a lease.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use lamplighter::backend::{ImportedOrigin, MemoryStore, OriginStore, Visit};
//! use lamplighter::dispatch::{Feed, Feeder, FeederOptions, Pool, PoolOptions, Visited, Worker};
//! use lamplighter::model::{ListerKey, VisitType};
//! use lamplighter::transport::{Clock, SystemClock};
//!
//! struct Glance;
//!
//! #[async_trait::async_trait]
//! impl Worker for Glance {
//!     async fn visit(&self, visit: &Visit) -> Visited {
//!         Visited::successful().with_snapshot(format!("what was seen at {}", visit.url))
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! let store = Arc::new(MemoryStore::new());
//! let clock = Arc::new(SystemClock);
//! let lister = ListerKey::new("gitea", "forge.example");
//! let origin = ImportedOrigin::new(&lister, "https://forge.example/r.git", VisitType::git());
//! store.import(vec![origin], clock.now()).await?;
//!
//! let pool = Arc::new(Pool::new(store.clone(), Arc::new(Glance), clock.clone(), PoolOptions::default()));
//! let feeds = vec![Feed::new(VisitType::git())];
//! let mut feeder = Feeder::new(store.clone(), pool.clone(), clock.clone(), feeds, FeederOptions::default());
//! assert_eq!(feeder.step(clock.now()).await?.taken, 1);
//! pool.drain(Duration::from_secs(10)).await;
//! assert_eq!(pool.counts().recorded, 1);
//! # Ok::<(), lamplighter::backend::BackendError>(())
//! # }).unwrap();
//! ```

mod feeder;
#[cfg(feature = "http")]
pub mod http;
mod plan;
mod pool;
mod recorder;
mod visited;
mod workers;

use std::collections::HashMap;

use async_trait::async_trait;

use crate::backend::{BackendError, BackendErrorKind, Visit};

pub use feeder::{Feeder, FeederCounts, FeederOptions, Stepped};
pub use plan::Feed;
pub use pool::{Pool, PoolCounts, PoolOptions};
pub use visited::{Visited, clean_text};
pub use workers::{ByType, FileHead, LsRemote};

/// What a dispatcher said to one visit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ack {
    /// It has the visit, and an outcome comes.
    Taken,
    /// It surely does not have it: the visit is given back to the store at once.
    Refused(String),
    /// It may or may not have it. Nothing is sent again while the lease lasts.
    Unknown(String),
}

/// How much a dispatcher can take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Room {
    /// So many visits more.
    pub free: usize,
    /// How many it has at each host, where it knows.
    pub at_hosts: HashMap<String, usize>,
    /// How many visits have ended there so far, where it knows.
    pub ended: u64,
}

impl Room {
    /// Room for so many.
    #[must_use]
    pub fn of(free: usize) -> Self {
        Self { free, at_hosts: HashMap::new(), ended: 0 }
    }

    /// With what is under way at each host, and how many visits have ended.
    #[must_use]
    pub fn with_hosts(mut self, at_hosts: impl IntoIterator<Item = (String, usize)>, ended: u64) -> Self {
        (self.at_hosts, self.ended) = (at_hosts.into_iter().collect(), ended);
        self
    }
}

/// Why a dispatcher does not know its room.
#[derive(Debug, thiserror::Error)]
#[error("the dispatcher does not know what it can take: {context}")]
#[non_exhaustive]
pub struct DispatchError {
    /// What was being done.
    pub context: String,
    /// What caused it.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl DispatchError {
    /// An error, with what was being done.
    pub fn new(context: impl Into<String>) -> Self {
        Self { context: context.into(), source: None }
    }

    /// Adds what caused it. Must hold no secret.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Has visits made: by a pool in this process, by a queue, by machines elsewhere.
///
/// # How to implement one
///
/// `room` must be true or an error: a guess that is too large floods whatever is behind it. `send`
/// answers [`Ack::Taken`] only for what will surely come to an outcome or be lost with its lease.
///
/// ```
/// use lamplighter::backend::Visit;
/// use lamplighter::dispatch::{Ack, DispatchError, Dispatcher, Room};
///
/// /// Prints what is to be visited; whoever reads it hands in the outcomes.
/// struct Printed;
///
/// #[async_trait::async_trait]
/// impl Dispatcher for Printed {
///     async fn room(&self) -> Result<Room, DispatchError> {
///         Ok(Room::of(10))
///     }
///     async fn send(&self, visits: Vec<Visit>) -> Vec<Ack> {
///         visits.iter().map(|v| { println!("{} {}", v.token, v.url); Ack::Taken }).collect()
///     }
/// }
/// ```
#[async_trait]
pub trait Dispatcher: Send + Sync {
    /// How much it can take now.
    ///
    /// # Errors
    /// When it does not know: nothing is claimed then.
    async fn room(&self) -> Result<Room, DispatchError>;

    /// Takes visits. One answer for each, in order; what has no answer counts as unknown.
    async fn send(&self, visits: Vec<Visit>) -> Vec<Ack>;

    /// Returns when more visits have ended than when it said `than`, and it has room. One that cannot
    /// tell never returns, and is asked again after the feeder's pause.
    async fn more_room(&self, than: &Room) {
        let _ = than;
        std::future::pending::<()>().await;
    }
}

/// Makes visits.
///
/// # How to implement one
///
/// Look at the origin and say what was seen: a snapshot names the state, so that two visits with equal
/// ones saw no change. What went wrong is an answer too ([`Visited::failed`]); a panic becomes one. The
/// future may be dropped: at the time limit, or when the lease is lost.
#[async_trait]
pub trait Worker: Send + Sync {
    /// Makes a visit.
    async fn visit(&self, visit: &Visit) -> Visited;
}

#[async_trait]
impl<W: Worker + ?Sized> Worker for std::sync::Arc<W> {
    async fn visit(&self, visit: &Visit) -> Visited {
        (**self).visit(visit).await
    }
}

/// Whether an error of the store may pass. A clock that was told too late does: a busy machine may take
/// longer from one to the other than a store allows.
fn may_pass(e: &BackendError) -> bool {
    e.is_retryable() || e.kind() == BackendErrorKind::Clock
}

/// The host that a visit asks; none for a URL without one.
pub(crate) fn host_of(visit: &Visit) -> Option<String> {
    url::Url::parse(&visit.url).ok()?.host_str().map(str::to_ascii_lowercase)
}
