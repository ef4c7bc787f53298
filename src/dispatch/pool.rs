//! Workers in this process.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{Either, select};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument;

use super::recorder::{Handed, Recorded, recorder};
use super::{Ack, DispatchError, Dispatcher, Room, Visited, Worker, host_of};
use crate::backend::{Visit, VisitStore};
use crate::model::{VisitId, VisitToken};
use crate::transport::Clock;

/// How a pool works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Visits made at a time. 8.
    pub at_once: usize,
    /// Visits that may wait in the pool for their turn besides. None: a visit is claimed when it can begin.
    pub queue: usize,
    /// How long a visit may take. 30 min. After that it has failed.
    pub time_limit: Duration,
    /// How long a heartbeat makes a lease; one is sent for all visits each third of it, so
    /// the feeds' leases may not be shorter than that. 10 min.
    pub lease: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { at_once: 8, queue: 0, time_limit: Duration::from_secs(1800), lease: Duration::from_secs(600) }
    }
}

impl PoolOptions {
    /// Visits made at a time, and visits that may wait for their turn besides.
    #[must_use]
    pub fn with_room(mut self, at_once: usize, queue: usize) -> Self {
        (self.at_once, self.queue) = (at_once, queue);
        self
    }

    /// How long a visit may take.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How long a heartbeat makes a lease.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }
}

/// What a pool has done so far. Every visit that it took ends in one of `recorded`, `refused`,
/// `unrecorded`, `lost` or `given_back`, or is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct PoolCounts {
    /// Visits taken.
    pub taken: u64,
    /// Outcomes that the store took.
    pub recorded: u64,
    /// Outcomes that the store refused: somebody else has, or had, the visit.
    pub refused: u64,
    /// Outcomes that the store could not record for another reason. The visits are handed out again.
    pub unrecorded: u64,
    /// Visits broken off because the lease was lost.
    pub lost: u64,
    /// Visits broken off at the end of a drain, and given back.
    pub given_back: u64,
    /// Visits whose worker panicked: recorded as failed.
    pub panicked: u64,
    /// Visits that took too long: recorded as failed.
    pub timed_out: u64,
    /// Visits under way.
    pub under_way: u64,
}

/// Runs a [`Worker`] in this process, for a bounded number of visits at a time.
///
/// A panic, or a visit that takes too long, is a failed visit. Leases are kept alive while visits last.
/// A slot is free again when its outcome is recorded: a store that cannot be reached stops the pool, and
/// loses nothing. Dropping the pool breaks its visits off; they are handed out again when their
/// leases end. It must be made within a tokio runtime.
pub struct Pool {
    shared: Arc<Shared>,
    worker: Arc<dyn Worker>,
    hand_in: UnboundedSender<Handed<Slot>>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    store: Arc<dyn VisitStore>,
    clock: Arc<dyn Clock>,
    options: PoolOptions,
    turns: Semaphore,
    held: Mutex<HeldVisits>,
    /// Wakes whoever waits for room, for visits to keep alive, for the last visit to end.
    changed: Notify,
    recorded: Arc<Recorded>,
    taken: AtomicU64,
    lost: AtomicU64,
    given_back: AtomicU64,
    panicked: AtomicU64,
    timed_out: AtomicU64,
}

#[derive(Default)]
struct HeldVisits {
    visits: HashMap<VisitToken, Held>,
    at_hosts: HashMap<String, usize>,
    ended: u64,
    closed: bool,
}

/// A visit under way.
struct Held {
    visit: VisitId,
    /// None until its task has begun.
    task: Option<AbortHandle>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In its turn, or before it.
    Made,
    /// It has ended, and its outcome is to be recorded.
    Ended,
    /// It is broken off, and has no outcome.
    BrokenOff,
}

/// A visit's place in the pool; free when it is dropped.
struct Slot {
    shared: Arc<Shared>,
    token: VisitToken,
    host: Option<String>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("options", &self.shared.options)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of a worker, whose outcomes go to a store.
    pub fn new(
        store: Arc<dyn VisitStore>,
        worker: Arc<dyn Worker>,
        clock: Arc<dyn Clock>,
        options: PoolOptions,
    ) -> Self {
        let recorded = Arc::<Recorded>::default();
        let (hand_in, record) = recorder(Arc::clone(&store), Arc::clone(&clock), Arc::clone(&recorded));
        let shared = Arc::new(Shared {
            store,
            clock,
            turns: Semaphore::new(options.at_once.max(1)),
            options,
            held: Mutex::default(),
            changed: Notify::new(),
            recorded,
            taken: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            given_back: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(record);
        tasks.spawn(keep_alive(Arc::clone(&shared)));
        Self { shared, worker, hand_in, tasks: Mutex::new(tasks) }
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        PoolCounts {
            taken: of(&shared.taken),
            recorded: of(&shared.recorded.taken),
            refused: of(&shared.recorded.refused),
            unrecorded: of(&shared.recorded.failed),
            lost: of(&shared.lost),
            given_back: of(&shared.given_back),
            panicked: of(&shared.panicked),
            timed_out: of(&shared.timed_out),
            under_way: shared.lock().visits.len() as u64,
        }
    }

    /// Takes no more visits, and waits for those under way to end and be recorded. Those that last
    /// longer than `limit` are broken off and given back. Returns how many that were.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.shared.lock().closed = true;
        let ended = self.shared.until(|held| held.visits.is_empty());
        if let Either::Left(_) = select(std::pin::pin!(ended), self.shared.clock.sleep(limit)).await {
            return 0;
        }
        let broken_off = self.shared.break_off(|_| true);
        self.shared.given_back.fetch_add(broken_off.len() as u64, Ordering::Relaxed);
        // Where the store does not answer, the leases end by themselves.
        if let Err(e) =
            self.shared.store.heartbeat(&broken_off, Duration::ZERO, self.shared.clock.now()).await
        {
            tracing::warn!(error = %e, "visits that were broken off could not be given back");
        }
        broken_off.len()
    }

    fn begin(&self, visit: Visit) -> Ack {
        let slot = {
            let mut held = self.shared.lock();
            if held.closed {
                return Ack::Refused("the pool takes no more visits".to_owned());
            }
            if held.visits.len() >= self.shared.options.capacity() {
                return Ack::Refused("the pool is full".to_owned());
            }
            let host = host_of(&visit);
            if let Some(host) = &host {
                *held.at_hosts.entry(host.clone()).or_default() += 1;
            }
            held.visits.insert(visit.token, Held { visit: visit.visit, task: None, state: State::Made });
            Slot { shared: Arc::clone(&self.shared), token: visit.token, host }
        };
        self.shared.taken.fetch_add(1, Ordering::Relaxed);
        let token = visit.token;
        let span = tracing::info_span!("visit", visit = %visit.visit, url = %super::clean_text(&visit.url));
        let task = make(visit, Arc::clone(&self.worker), slot, self.hand_in.clone()).instrument(span);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        let task = tasks.spawn(task);
        if let Some(held) = self.shared.lock().visits.get_mut(&token) {
            held.task = Some(task);
        }
        Ack::Taken
    }
}

impl PoolOptions {
    fn capacity(&self) -> usize {
        self.at_once.max(1).saturating_add(self.queue)
    }
}

#[async_trait]
impl Dispatcher for Pool {
    async fn room(&self) -> Result<Room, DispatchError> {
        let held = self.shared.lock();
        if held.closed {
            return Ok(Room::of(0));
        }
        let free = self.shared.options.capacity().saturating_sub(held.visits.len());
        Ok(Room::of(free).with_hosts(held.at_hosts.clone(), held.ended))
    }

    async fn send(&self, visits: Vec<Visit>) -> Vec<Ack> {
        let acks = visits.into_iter().map(|visit| self.begin(visit)).collect();
        self.shared.changed.notify_waiters();
        acks
    }

    async fn more_room(&self, than: &Room) {
        let PoolOptions { queue, .. } = self.shared.options;
        let capacity = self.shared.options.capacity();
        // Half of the queue at least, so that it is not filled one by one.
        let has_room = |held: &HeldVisits| capacity.saturating_sub(held.visits.len()) > queue / 2;
        self.shared.until(|held| !held.closed && held.ended > than.ended && has_room(held)).await;
    }
}

/// Makes one visit and hands in what came of it.
async fn make(visit: Visit, worker: Arc<dyn Worker>, slot: Slot, hand_in: UnboundedSender<Handed<Slot>>) {
    let shared = Arc::clone(&slot.shared);
    // It is never closed.
    let Ok(_turn) = shared.turns.acquire().await else { return };
    let work = std::pin::pin!(AssertUnwindSafe(worker.visit(&visit)).catch_unwind());
    let limit = shared.options.time_limit;
    let visited = match select(work, shared.clock.sleep(limit)).await {
        Either::Left((Ok(visited), _)) => visited,
        Either::Left((Err(panic), _)) => {
            shared.panicked.fetch_add(1, Ordering::Relaxed);
            let what = panic.downcast_ref::<&str>().copied();
            let what = what.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Visited::failed(format!("the worker panicked: {}", what.unwrap_or("it does not say why")))
        }
        Either::Right(_) => {
            shared.timed_out.fetch_add(1, Ordering::Relaxed);
            Visited::failed(format!("the visit took longer than {} s", limit.as_secs_f64()))
        }
    };
    // A lease that is lost from here on refuses the outcome; there is nothing to break off any more.
    match shared.lock().visits.get_mut(&slot.token) {
        Some(held) if held.state == State::Made => held.state = State::Ended,
        _ => return,
    }
    let outcome = visited.outcome(&visit, shared.clock.now());
    // The recorder lives as long as the pool, and this task does not live longer.
    let _ = hand_in.send((outcome, slot));
}

/// Makes leases longer while there are any, and breaks off the visits whose leases are lost.
async fn keep_alive(shared: Arc<Shared>) {
    loop {
        shared.until(|held| !held.visits.is_empty()).await;
        shared.clock.sleep(shared.options.lease / 3).await;
        let names: Vec<(VisitId, VisitToken)> =
            shared.lock().visits.iter().map(|(token, held)| (held.visit, *token)).collect();
        if names.is_empty() {
            continue;
        }
        match shared.store.heartbeat(&names, shared.options.lease, shared.clock.now()).await {
            Ok(answers) => {
                let lost = names.iter().zip(answers).filter(|(_, answer)| answer.is_err());
                let lost: HashSet<VisitToken> = lost.map(|(name, _)| name.1).collect();
                for (visit, token) in shared.break_off(|token| lost.contains(&token)) {
                    shared.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%visit, %token, "a lease was lost, its visit is broken off");
                }
            }
            // The next one may come in time; if not, the outcome is refused.
            Err(e) => tracing::warn!(error = %e, "leases could not be made longer"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HeldVisits> {
        // No change is half done when something panics.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until(&self, holds: impl Fn(&HeldVisits) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if holds(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Breaks off visits that have not ended: no outcome comes of them.
    fn break_off(&self, which: impl Fn(VisitToken) -> bool) -> Vec<(VisitId, VisitToken)> {
        let mut broken_off = Vec::new();
        let mut tasks = Vec::new();
        for (token, held) in &mut self.lock().visits {
            if held.state == State::Made && which(*token) {
                held.state = State::BrokenOff;
                tasks.extend(held.task.clone());
                broken_off.push((held.visit, *token));
            }
        }
        // A task that is ended here takes the lock.
        for task in tasks {
            task.abort();
        }
        broken_off
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut held = self.shared.lock();
            held.visits.remove(&self.token);
            held.ended += 1;
            let here = self.host.as_ref().and_then(|host| held.at_hosts.get_mut(host));
            if let Some(here) = here {
                *here = here.saturating_sub(1);
            }
            if let Some(host) = self.host.as_ref().filter(|h| held.at_hosts.get(*h) == Some(&0)) {
                held.at_hosts.remove(host);
            }
        }
        self.shared.changed.notify_waiters();
    }
}
