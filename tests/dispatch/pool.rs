//! Workers in this process.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use lamplighter::backend::{Claim, MemoryStore, Visit, VisitStore};
use lamplighter::dispatch::{
    Ack, Dispatcher, Feed, Feeder, FeederOptions, Pool, PoolOptions, Visited, Worker,
};
use lamplighter::model::{OriginKey, VisitStats, VisitStatus, VisitType};
use lamplighter::testing::VirtualClock;
use lamplighter::transport::Clock;

use super::doubles::{LEASE, Stalling, clock, feeder, fill, start, url};

type Does = Box<dyn Fn(&str) -> (Duration, Visited) + Send + Sync>;

/// Takes as long as it is told, and says what it is told.
struct Told {
    clock: Arc<VirtualClock>,
    does: Does,
    at_once: AtomicUsize,
    most: AtomicUsize,
    begun: Mutex<BTreeMap<String, usize>>,
}

impl Told {
    fn new(
        clock: &Arc<VirtualClock>,
        does: impl Fn(&str) -> (Duration, Visited) + Send + Sync + 'static,
    ) -> Self {
        Self {
            clock: clock.clone(),
            does: Box::new(does),
            at_once: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            begun: Mutex::default(),
        }
    }
}

#[async_trait]
impl Worker for Told {
    async fn visit(&self, visit: &Visit) -> Visited {
        *self.begun.lock().unwrap().entry(visit.url.clone()).or_default() += 1;
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let (takes, visited) = (self.does)(&visit.url);
        self.clock.sleep(takes).await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        visited
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn options() -> PoolOptions {
    PoolOptions::default().with_room(3, 0).with_lease(LEASE)
}

async fn stats(store: &dyn VisitStore, n: usize) -> VisitStats {
    let key = OriginKey::new(url("a.example", n), VisitType::git());
    store.stats(&[key]).await.unwrap().remove(0).unwrap()
}

/// Feeds until the pool has made so many visits, then stops and drains.
async fn until_made(feeder: &mut Feeder, pool: &Pool, made: u64) {
    let stop = feeder.stop_handle();
    let watching = async {
        while pool.counts().recorded + pool.counts().refused < made {
            tokio::task::yield_now().await;
        }
        stop.stop();
    };
    futures::future::join(feeder.run(), watching).await.0.unwrap();
    assert_eq!(pool.drain(seconds(3600)).await, 0);
}

#[tokio::test]
async fn every_visit_is_made_once_and_recorded_and_no_more_at_a_time_than_told() {
    let (store, clock) = (Arc::new(MemoryStore::new()), clock());
    fill(&*store, "a.example", VisitType::git(), 40).await;
    let worker = Arc::new(Told::new(&clock, |url| {
        let n = url.len() as u64 + url.bytes().map(u64::from).sum::<u64>() % 7;
        (seconds(n), Visited::successful().with_snapshot(url))
    }));
    let pool = Arc::new(Pool::new(store.clone(), worker.clone(), clock.clone(), options()));
    let mut feeder = feeder(store.clone(), pool.clone(), &clock, FeederOptions::default());
    until_made(&mut feeder, &pool, 40).await;
    assert_eq!(worker.most.load(Ordering::SeqCst), 3);
    let begun = worker.begun.lock().unwrap().clone();
    assert!(begun.len() == 40 && begun.values().all(|n| *n == 1), "{begun:?}");
    let counts = pool.counts();
    assert_eq!((counts.taken, counts.recorded, counts.under_way), (40, 40, 0));
    for n in 0..40 {
        let stats = stats(&*store, n).await;
        assert_eq!((stats.visits, stats.last_snapshot), (1, Some(url("a.example", n))));
    }
}

#[tokio::test]
async fn a_panic_and_a_visit_that_takes_too_long_are_failed_visits() {
    let (store, clock) = (Arc::new(MemoryStore::new()), clock());
    fill(&*store, "a.example", VisitType::git(), 4).await;
    let worker = Told::new(&clock, |url| match url {
        url if url.contains("r1") => panic!("told to: {url}"),
        url if url.contains("r2") => (seconds(101), Visited::successful()),
        url if url.contains("r3") => (seconds(99), Visited::successful()),
        _ => (seconds(1), Visited::not_found("no such repository")),
    });
    let options = options().with_time_limit(seconds(100));
    let pool = Arc::new(Pool::new(store.clone(), Arc::new(worker), clock.clone(), options));
    let mut feeder = feeder(store.clone(), pool.clone(), &clock, FeederOptions::default());
    until_made(&mut feeder, &pool, 4).await;
    let mut statuses = Vec::new();
    for n in 0..4 {
        statuses.push(stats(&*store, n).await.last_status.unwrap());
    }
    let [failed, fine] = [VisitStatus::Failed, VisitStatus::Successful];
    assert_eq!(statuses, [VisitStatus::NotFound, failed, failed, fine]);
    let counts = pool.counts();
    assert_eq!((counts.panicked, counts.timed_out, counts.recorded), (1, 1, 4));
}

#[tokio::test]
async fn a_long_visit_keeps_its_lease() {
    let (store, clock) = (Arc::new(MemoryStore::new()), clock());
    fill(&*store, "a.example", VisitType::git(), 1).await;
    let worker = Told::new(&clock, |_| (LEASE * 5, Visited::successful()));
    let options = options().with_time_limit(LEASE * 10);
    let pool = Arc::new(Pool::new(store.clone(), Arc::new(worker), clock.clone(), options));
    let mut feeder = feeder(store.clone(), pool.clone(), &clock, FeederOptions::default());
    feeder.step(start()).await.unwrap();
    // Somebody else asks all the time.
    while pool.counts().recorded == 0 {
        clock.sleep(seconds(60)).await;
        let claimed = store.claim(&Claim::new(VisitType::git(), 9), clock.now()).await.unwrap();
        assert_eq!(claimed.visits, [], "at {}", clock.now());
    }
    assert!(clock.now() >= start().plus(LEASE * 5));
}

#[tokio::test]
async fn a_visit_whose_lease_is_lost_is_broken_off_and_made_by_whom_has_it() {
    let (store, clock) = (Arc::new(Stalling::new(MemoryStore::new(), 0)), clock());
    fill(&store.inner, "a.example", VisitType::git(), 1).await;
    let worker = Told::new(&clock, |_| (LEASE * 5, Visited::successful()));
    let options = options().with_time_limit(LEASE * 10);
    let pool = Arc::new(Pool::new(store.clone(), Arc::new(worker), clock.clone(), options));
    feeder(store.clone(), pool.clone(), &clock, FeederOptions::default()).step(start()).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    clock.sleep(LEASE * 2).await;
    assert_eq!(pool.counts().under_way, 1, "a store that is away takes nothing from it");
    store.down.store(false, Ordering::SeqCst);
    let other =
        store.claim(&Claim::new(VisitType::git(), 9).with_lease(LEASE * 9), clock.now()).await.unwrap();
    assert_eq!(other.visits.len(), 1, "its lease has ended");
    clock.sleep(LEASE).await;
    let counts = pool.counts();
    assert_eq!((counts.lost, counts.under_way, counts.recorded), (1, 0, 0));
}

#[tokio::test]
async fn outcomes_wait_for_a_store_that_is_away_and_the_pool_takes_no_more_meanwhile() {
    let (store, clock) = (Arc::new(Stalling::new(MemoryStore::new(), 0)), clock());
    fill(&store.inner, "a.example", VisitType::git(), 9).await;
    let worker = Told::new(&clock, |_| (seconds(1), Visited::successful()));
    let pool = Arc::new(Pool::new(store.clone(), Arc::new(worker), clock.clone(), options()));
    let mut feeder = feeder(store.clone(), pool.clone(), &clock, FeederOptions::default());
    feeder.step(start()).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    clock.sleep(seconds(400)).await;
    assert_eq!((pool.counts().recorded, pool.counts().under_way), (0, 3));
    assert_eq!(pool.room().await.unwrap().free, 0);
    store.down.store(false, Ordering::SeqCst);
    clock.sleep(seconds(60)).await;
    assert_eq!((pool.counts().recorded, pool.counts().under_way), (3, 0));
    assert_eq!(pool.room().await.unwrap().free, 3);
}

#[tokio::test]
async fn a_drain_waits_for_visits_and_gives_back_what_takes_too_long() {
    let (store, clock) = (Arc::new(MemoryStore::new()), clock());
    fill(&*store, "a.example", VisitType::git(), 3).await;
    let worker = Told::new(&clock, |url| {
        let long = url.contains("r2");
        (seconds(if long { 500 } else { 20 }), Visited::successful())
    });
    let pool = Arc::new(Pool::new(store.clone(), Arc::new(worker), clock.clone(), options()));
    feeder(store.clone(), pool.clone(), &clock, FeederOptions::default()).step(start()).await.unwrap();
    assert_eq!(pool.drain(seconds(60)).await, 1);
    let counts = pool.counts();
    assert_eq!((counts.recorded, counts.given_back), (2, 1));
    assert_eq!(clock.now(), start().plus(seconds(60)));
    let again = store.claim(&Claim::new(VisitType::git(), 9), clock.now()).await.unwrap().visits;
    assert_eq!(again.iter().map(|v| v.url.clone()).collect::<Vec<_>>(), [url("a.example", 2)]);
    let acks = pool.send(again).await;
    assert!(matches!(&acks[..], [Ack::Refused(_)]), "it takes no more: {acks:?}");
}

#[tokio::test]
async fn the_pool_takes_no_more_than_it_has_room_for() {
    let (store, clock) = (Arc::new(MemoryStore::new()), clock());
    fill(&*store, "a.example", VisitType::git(), 9).await;
    let visits = store.claim(&Claim::new(VisitType::git(), 9), start()).await.unwrap().visits;
    let worker = Told::new(&clock, |_| (seconds(9), Visited::successful()));
    let options = options().with_room(2, 4);
    let pool = Pool::new(store, Arc::new(worker), clock, options);
    let acks = pool.send(visits).await;
    let taken = acks.iter().filter(|a| **a == Ack::Taken).count();
    assert_eq!((taken, pool.counts().under_way), (6, 6));
    assert!(acks[6..].iter().all(|a| matches!(a, Ack::Refused(_))), "{acks:?}");
}

/// A pool that is dropped with all that is under way: the process that dies.
#[tokio::test]
async fn what_a_dead_process_had_under_way_is_made_by_the_next() {
    let (store, clock) = (Arc::new(MemoryStore::new()), clock());
    fill(&*store, "a.example", VisitType::git(), 30).await;
    let mut recorded = 0;
    for life in 0..20 {
        let worker = Arc::new(Told::new(&clock, |_| (seconds(7), Visited::successful())));
        let pool = Arc::new(Pool::new(store.clone(), worker, clock.clone(), options()));
        let feeds = vec![Feed::new(VisitType::git()).with_lease(LEASE)];
        let mut feeder =
            Feeder::new(store.clone(), pool.clone(), clock.clone(), feeds, FeederOptions::default());
        let mut life_time = std::pin::pin!(clock.sleep(seconds(5 + 3 * life)));
        futures::future::select(std::pin::pin!(feeder.run()), life_time.as_mut()).await;
        recorded += pool.counts().recorded;
        drop((feeder, pool));
        clock.sleep(LEASE).await;
    }
    assert_eq!(recorded, 30);
    for n in 0..30 {
        assert_eq!(stats(&*store, n).await.visits, 1, "{n}");
    }
}
