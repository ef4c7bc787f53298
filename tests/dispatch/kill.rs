//! A feeder, or a whole process, that ends at any point: nothing is lost, and nothing is sent twice in
//! one lease.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::task::noop_waker;
use lamplighter::backend::{Claim, MemoryStore, VisitStore};
use lamplighter::dispatch::FeederOptions;
use lamplighter::model::VisitType;
use lamplighter::transport::Clock;

use super::doubles::{LEASE, Sink, Stalling, clock, feeder, fill};

const ORIGINS: usize = 12;

/// Polls a future so often, then drops it. Whether it ended before that.
fn polled<F: Future>(future: F, times: usize) -> bool {
    let mut future = pin!(future);
    let waker = noop_waker();
    let mut context = Context::from_waker(&waker);
    (0..times).any(|_| matches!(future.as_mut().poll(&mut context), Poll::Ready(_)))
}

fn stalling_sink() -> Arc<Sink> {
    let mut sink = Sink::new(5);
    sink.stalls = 2;
    Arc::new(sink)
}

/// Steps until nothing is left to send.
async fn finish(
    feeder: &mut lamplighter::dispatch::Feeder,
    sink: &Sink,
    store: &dyn VisitStore,
    clock: &dyn Clock,
) {
    for _ in 0..20 {
        feeder.step(clock.now()).await.unwrap();
        sink.finish(store, clock.now()).await;
    }
}

#[tokio::test]
async fn a_step_that_is_dropped_at_any_point_loses_nothing_and_sends_nothing_twice() {
    let mut whole = false;
    let mut points = 0;
    while !whole {
        let (store, clock, sink) = (Arc::new(Stalling::new(MemoryStore::new(), 2)), clock(), stalling_sink());
        fill(&store.inner, "a.example", VisitType::git(), ORIGINS).await;
        let options = FeederOptions::default().with_per_host(3, 100);
        let mut feeder = feeder(store.clone(), sink.clone(), &clock, options);
        points += 1;
        whole = polled(feeder.step(clock.now()), points);
        finish(&mut feeder, &sink, &*store, &*clock).await;
        let within = sink.times();
        assert!(within.values().all(|n| *n == 1), "dropped after {points} polls: {within:?}");
        // What was claimed and did not come back from the store is there again when its lease ends.
        clock.advance(LEASE);
        finish(&mut feeder, &sink, &*store, &*clock).await;
        assert_eq!(sink.times().len(), ORIGINS, "dropped after {points} polls");
    }
    assert!(points > 8, "it was dropped at {points} points only");
}

#[tokio::test]
async fn a_feeder_that_dies_at_any_point_loses_nothing() {
    let mut whole = false;
    let mut points = 0;
    while !whole {
        let (store, clock, sink) = (Arc::new(Stalling::new(MemoryStore::new(), 2)), clock(), stalling_sink());
        fill(&store.inner, "a.example", VisitType::git(), ORIGINS).await;
        points += 1;
        let mut dying = feeder(store.clone(), sink.clone(), &clock, FeederOptions::default());
        whole = polled(dying.step(clock.now()), points);
        drop(dying);
        // The dispatcher died with it.
        let before = std::mem::take(&mut *sink.held.lock().unwrap()).len();
        clock.advance(LEASE);
        let mut next = feeder(store.clone(), sink.clone(), &clock, FeederOptions::default());
        sink.sent.lock().unwrap().clear();
        finish(&mut next, &sink, &*store, &*clock).await;
        let times = sink.times();
        assert_eq!(times.len(), ORIGINS, "dead after {points} polls, with {before} visits sent");
        assert!(times.values().all(|n| *n == 1), "dead after {points} polls: {times:?}");
        let left = store.claim(&Claim::new(VisitType::git(), 99), clock.now()).await.unwrap();
        assert_eq!(left.visits, [], "each ended in one outcome");
    }
    assert!(points > 8, "it died at {points} points only");
}
