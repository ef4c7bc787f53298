//! A dispatcher that keeps what it gets, a store that stalls, workers of all kinds.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter::backend::{
    BackendError, BackendErrorKind, Claim, Claimed, Completed, Explanation, Hint, Hinted, ImportedOrigin,
    OriginStore, Refusal, Requested, Result, Visit, VisitRequest, VisitStore,
};
use lamplighter::dispatch::{Ack, DispatchError, Dispatcher, Feed, Feeder, FeederOptions, Room};
use lamplighter::model::{
    ListerKey, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitStatus, VisitToken, VisitType,
};
use lamplighter::testing::VirtualClock;

pub(crate) const LEASE: Duration = Duration::from_secs(600);

pub(crate) fn start() -> Timestamp {
    Timestamp::parse("2026-03-01T00:00:00Z").unwrap()
}

pub(crate) fn clock() -> Arc<VirtualClock> {
    Arc::new(VirtualClock::new(start()))
}

pub(crate) fn url(host: &str, n: usize) -> String {
    format!("https://{host}/r{n}.git")
}

pub(crate) fn hg() -> VisitType {
    VisitType::new("hg").unwrap()
}

/// Origins of a host that were never visited.
pub(crate) async fn fill(store: &dyn OriginStore, host: &str, visit_type: VisitType, count: usize) {
    fill_with(store, (0..count).map(|n| (url(host, n), visit_type.clone())).collect()).await;
}

pub(crate) async fn fill_with(store: &dyn OriginStore, origins: Vec<(String, VisitType)>) {
    let lister = ListerKey::new("forge", "forge.example");
    let origins = origins.into_iter().map(|(url, of)| ImportedOrigin::new(&lister, url, of));
    store.import(origins.collect(), start()).await.unwrap();
}

pub(crate) fn feeder(
    store: Arc<dyn VisitStore>,
    dispatcher: Arc<dyn Dispatcher>,
    clock: &Arc<VirtualClock>,
    options: FeederOptions,
) -> Feeder {
    let feeds = vec![Feed::new(VisitType::git()).with_lease(LEASE)];
    Feeder::new(store, dispatcher, clock.clone(), feeds, options)
}

/// What a dispatcher says to the visits that it gets.
pub(crate) type Answers = Box<dyn Fn(&Visit) -> Ack + Send + Sync>;

/// Keeps what it gets until it is told to let go, in a bounded number of places.
pub(crate) struct Sink {
    pub(crate) places: usize,
    pub(crate) blind: AtomicBool,
    pub(crate) answers: Answers,
    /// What it has.
    pub(crate) held: Mutex<Vec<Visit>>,
    /// All that was ever sent.
    pub(crate) sent: Mutex<Vec<Visit>>,
    /// The most that it had at one host.
    pub(crate) most_at_a_host: AtomicUsize,
    /// How often it lets others run before it answers.
    pub(crate) stalls: usize,
}

impl Sink {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places,
            blind: AtomicBool::new(false),
            answers: Box::new(|_| Ack::Taken),
            held: Mutex::default(),
            sent: Mutex::default(),
            most_at_a_host: AtomicUsize::new(0),
            stalls: 0,
        }
    }

    fn at_hosts(&self) -> HashMap<String, usize> {
        let mut hosts = HashMap::new();
        for visit in self.held.lock().unwrap().iter() {
            let host = visit.url.split('/').nth(2).unwrap().to_owned();
            *hosts.entry(host).or_default() += 1;
        }
        hosts
    }

    /// How often each URL was sent.
    pub(crate) fn times(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for visit in self.sent.lock().unwrap().iter() {
            *times.entry(visit.url.clone()).or_default() += 1;
        }
        times
    }

    /// All visits that it has are made.
    pub(crate) async fn finish(&self, store: &dyn VisitStore, now: Timestamp) -> usize {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let outcome = |v: &Visit| Outcome::new(v.visit, v.token, VisitStatus::Successful, now);
        let outcomes: Vec<Outcome> = held.iter().map(outcome).collect();
        let answers = store.complete(&outcomes, now).await.unwrap();
        answers.iter().filter(|a| a.is_ok()).count()
    }
}

#[async_trait]
impl Dispatcher for Sink {
    async fn room(&self) -> std::result::Result<Room, DispatchError> {
        for _ in 0..self.stalls {
            tokio::task::yield_now().await;
        }
        if self.blind.load(Ordering::SeqCst) {
            return Err(DispatchError::new("the queue's length is not known"));
        }
        let held = self.held.lock().unwrap().len();
        Ok(Room::of(self.places - held.min(self.places)).with_hosts(self.at_hosts(), 0))
    }

    async fn send(&self, visits: Vec<Visit>) -> Vec<Ack> {
        let acks: Vec<Ack> = visits.iter().map(&self.answers).collect();
        for (visit, ack) in visits.into_iter().zip(&acks) {
            if *ack == Ack::Taken {
                self.held.lock().unwrap().push(visit.clone());
            }
            self.sent.lock().unwrap().push(visit);
        }
        let most = self.at_hosts().into_values().max().unwrap_or(0);
        self.most_at_a_host.fetch_max(most, Ordering::SeqCst);
        for _ in 0..self.stalls {
            tokio::task::yield_now().await;
        }
        acks
    }
}

/// A store that lets others run before and after each call, and does not answer while it is `down`.
pub(crate) struct Stalling<S> {
    pub(crate) inner: S,
    pub(crate) stalls: usize,
    pub(crate) down: AtomicBool,
}

impl<S> Stalling<S> {
    pub(crate) fn new(inner: S, stalls: usize) -> Self {
        Self { inner, stalls, down: AtomicBool::new(false) }
    }

    async fn stall(&self) -> Result<()> {
        for _ in 0..self.stalls {
            tokio::task::yield_now().await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(BackendError::new(BackendErrorKind::Unavailable, "told to be down"));
        }
        Ok(())
    }
}

#[async_trait]
impl<S: VisitStore> VisitStore for Stalling<S> {
    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        self.stall().await?;
        let claimed = self.inner.claim(claim, now).await;
        self.stall().await?;
        claimed
    }

    async fn peek(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        self.inner.peek(claim, now).await
    }

    async fn heartbeat(
        &self,
        visits: &[(VisitId, VisitToken)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<std::result::Result<Timestamp, Refusal>>> {
        self.stall().await?;
        self.inner.heartbeat(visits, lease, now).await
    }

    async fn complete(
        &self,
        outcomes: &[Outcome],
        now: Timestamp,
    ) -> Result<Vec<std::result::Result<Completed, Refusal>>> {
        self.stall().await?;
        self.inner.complete(outcomes, now).await
    }

    async fn request(&self, requests: &[VisitRequest], now: Timestamp) -> Result<Vec<Option<Requested>>> {
        self.inner.request(requests, now).await
    }

    async fn hint(&self, hints: &[Hint], now: Timestamp) -> Result<Vec<Hinted>> {
        self.inner.hint(hints, now).await
    }

    async fn stats(&self, origins: &[OriginKey]) -> Result<Vec<Option<VisitStats>>> {
        self.inner.stats(origins).await
    }

    async fn explain(&self, origin: &OriginKey, now: Timestamp) -> Result<Option<Explanation>> {
        self.inner.explain(origin, now).await
    }
}
