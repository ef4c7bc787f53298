//! Defects of the incumbent that a feeder must not have, each shown on a naive double too.

#[path = "../naive/feeder.rs"]
mod naive;
#[path = "../naive/visits.rs"]
#[allow(dead_code, reason = "other tests need the rest")]
mod naive_store;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use lamplighter::backend::{Claim, FileStore, MemoryStore, OriginStore, SchedulerBackend, Visit, VisitStore};
use lamplighter::dispatch::{Dispatcher, FeederOptions, Pool, PoolOptions, Visited, Worker, clean_text};
use lamplighter::model::{OriginKey, VisitStatus, VisitType};
use lamplighter::transport::Clock;

use super::doubles::{LEASE, Sink, clock, feeder, fill, start, url};

/// D8: NULs were taken off the ends only, and what was left in the middle broke the listener.
#[tokio::test]
async fn d8_a_nul_anywhere_in_what_a_worker_says_breaks_nothing() {
    struct Nul;
    #[async_trait]
    impl Worker for Nul {
        async fn visit(&self, _: &Visit) -> Visited {
            let mut visited = Visited::failed("\0fatal\0: bad object\r\n\0");
            visited.snapshot = Some("a\0b".to_owned());
            visited
        }
    }
    let text = "\0fatal\0: bad object\0";
    assert!(naive::strip_nul(text).contains('\0'), "the double leaves the one in the middle");
    assert!(!clean_text(text).contains('\0'));

    let room = tempfile::tempdir().unwrap();
    let mut stores: Vec<Arc<dyn SchedulerBackend>> =
        vec![Arc::new(MemoryStore::new()), Arc::new(FileStore::open(room.path().join("store")).unwrap())];
    let schemas = super::postgres::Schemas::new("d8");
    if let Some(schemas) = &schemas {
        stores.push(Arc::new(schemas.fresh().await));
    }
    for store in stores {
        let clock = clock();
        let origins: &dyn OriginStore = &*store;
        fill(origins, "a.example", VisitType::git(), 1).await;
        let visits: Arc<dyn VisitStore> = store.clone();
        let pool = Arc::new(Pool::new(visits.clone(), Arc::new(Nul), clock.clone(), PoolOptions::default()));
        feeder(visits, pool.clone(), &clock, FeederOptions::default()).step(start()).await.unwrap();
        // The store may answer in its own time: the virtual clock would not wait for it.
        while pool.counts().recorded == 0 {
            assert_eq!(pool.counts().unrecorded + pool.counts().refused, 0);
            tokio::task::yield_now().await;
        }
        let key = OriginKey::new(url("a.example", 0), VisitType::git());
        let stats = store.stats(&[key]).await.unwrap().remove(0).unwrap();
        assert_eq!((stats.last_status, stats.visits), (Some(VisitStatus::Failed), 1));
        assert_eq!(stats.last_snapshot.as_deref(), Some("a b"));
    }
    if let Some(schemas) = schemas {
        schemas.done().await;
    }
}

/// D9: marked as scheduled, then sent: a crash between the two hid the visits for a week.
#[tokio::test]
async fn d9_a_crash_between_claim_and_send_hides_a_visit_no_longer_than_its_lease() {
    /// Dies while it takes them.
    struct Dying;
    #[async_trait]
    impl Dispatcher for Dying {
        async fn room(&self) -> Result<lamplighter::dispatch::Room, lamplighter::dispatch::DispatchError> {
            Ok(lamplighter::dispatch::Room::of(5))
        }
        async fn send(&self, _: Vec<Visit>) -> Vec<lamplighter::dispatch::Ack> {
            std::future::pending().await
        }
    }
    async fn comes_back_after_the_lease(store: Arc<dyn VisitStore>) -> usize {
        let clock = clock();
        {
            let mut dying = feeder(store.clone(), Arc::new(Dying), &clock, FeederOptions::default());
            let step = pin!(dying.step(clock.now()));
            futures::future::select(step, pin!(clock.sleep(Duration::from_secs(1)))).await;
        }
        let claim = Claim::new(VisitType::git(), 9);
        let hidden = store.claim(&claim, clock.now()).await.unwrap().visits;
        assert_eq!(hidden, [], "the crashed feeder has them");
        clock.advance(LEASE);
        store.claim(&claim, clock.now()).await.unwrap().visits.len()
    }
    let store = Arc::new(MemoryStore::new());
    fill(&*store, "a.example", VisitType::git(), 5).await;
    assert_eq!(comes_back_after_the_lease(store).await, 5);
    let double = Arc::new(naive_store::Naive::default());
    fill(&*double, "a.example", VisitType::git(), 5).await;
    assert_eq!(comes_back_after_the_lease(double).await, 0, "the double hides them for a week");
}

/// D11: the length of the queue was not known, and everything was scheduled.
#[tokio::test]
async fn d11_where_the_room_is_not_known_nothing_is_claimed() {
    let (store, clock, sink) = (Arc::new(MemoryStore::new()), clock(), Arc::new(Sink::new(3)));
    fill(&*store, "a.example", VisitType::git(), 20).await;
    sink.blind.store(true, Ordering::SeqCst);
    let mut feeder = feeder(store.clone(), sink.clone(), &clock, FeederOptions::default());
    let stepped = feeder.step(start()).await.unwrap();
    assert_eq!((stepped.claimed, feeder.counts().blind), (0, 1));
    assert_eq!(store.peek(&Claim::new(VisitType::git(), 99), start()).await.unwrap().visits.len(), 20);

    sink.blind.store(false, Ordering::SeqCst);
    assert_eq!(feeder.step(start()).await.unwrap().taken, 3, "it is known again");

    let (store, sink) = (MemoryStore::new(), Sink::new(3));
    fill(&store, "a.example", VisitType::git(), 20).await;
    sink.blind.store(true, Ordering::SeqCst);
    naive::step(&store, &sink, start()).await;
    assert_eq!(sink.sent.lock().unwrap().len(), 20, "the double sends all there is");
}
