//! Defects of the incumbent that a listing must not have, each shown on a naive double too: the
//! double has to fail the scenario, or the scenario shows nothing.
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unnecessary_literal_bound,
    clippy::unnecessary_wraps,
    reason = "a test may fail"
)]

mod common;
#[path = "naive/listing.rs"]
mod naive;

use std::sync::Arc;

use common::{Chain, answer, chain_pages, driver, expected_urls, serve, since, start, urls};
use lamplighter::backend::{MemoryStore, RunOutcome, RunStore};
use lamplighter::driver::{Driver, RunOptions};
use lamplighter::lister::Source;
use lamplighter::model::ListerKey;
use lamplighter::testing::{Answering, KillPoint, Killer, KillingStore, KillingTransport, VirtualClock};
use lamplighter::transport::{Request, Response, TransportError, TransportErrorKind};

const SECONDARY: &str = r#"{"message":"You have exceeded a secondary rate limit. Please wait."}"#;

/// The third page says that a secondary limit is exceeded.
fn limited(r: &Request) -> Result<Response, TransportError> {
    match since(r) {
        20 => answer(r, 403, SECONDARY),
        _ => serve(&chain_pages(100, 10), r),
    }
}

async fn finished(store: &MemoryStore) -> bool {
    let key = ListerKey::new("chain", "forge.example");
    store.lister(&key, start()).await.unwrap().last_finished.is_some()
}

/// D1: a secondary limit ended the run, and the run called itself finished.
#[tokio::test]
async fn d1_a_secondary_limit_is_no_end_of_a_listing() {
    let store = Arc::new(MemoryStore::new());
    let source = Arc::new(Source::incremental(Chain));
    let report =
        driver(&store, Answering::new(limited)).run(source.clone(), RunOptions::default()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Partial);
    assert!(report.gaps[0].reason.contains("secondary rate limit"), "{}", report.gaps[0].reason);
    assert!(!finished(&store).await);

    let mut row = naive::Row::default();
    naive::list(&mut row, &Answering::new(limited)).await;
    assert!(row.finished && row.origins.len() < 100, "the double calls a fifth of the forge finished");

    // The twin: without the limit both list everything.
    let healthy = |r: &Request| serve(&chain_pages(100, 10), r);
    let report = driver(&store, Answering::new(healthy)).run(source, RunOptions::default()).await.unwrap();
    assert_eq!(report.outcome, RunOutcome::Complete);
    assert!(finished(&store).await);
    assert_eq!(urls(&*store).await, expected_urls(1..=100));
    let mut row = naive::Row::default();
    naive::list(&mut row, &Answering::new(healthy)).await;
    assert_eq!(row.origins.len(), 100);
}

/// D2: a run that crashed was stamped finished too.
#[tokio::test]
async fn d2_a_run_that_breaks_off_is_not_finished() {
    let crash = |r: &Request| match since(r) {
        30 => Err(TransportError::new(TransportErrorKind::Connect, "forge.example")),
        _ => serve(&chain_pages(100, 10), r),
    };
    let store = Arc::new(MemoryStore::new());
    let source = Arc::new(Source::incremental(Chain));
    let report = driver(&store, Answering::new(crash)).run(source, RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.counts.new), (RunOutcome::Partial, 30));
    assert!(!finished(&store).await);

    let mut row = naive::Row::default();
    naive::list(&mut row, &Answering::new(crash)).await;
    assert!(row.finished, "the double is finished");
}

/// D7: no listing ever marked an origin as gone.
#[tokio::test]
async fn d7_what_is_no_longer_listed_is_gone() {
    let forge = |count| Answering::new(move |r: &Request| serve(&chain_pages(count, 10), r));
    let store = Arc::new(MemoryStore::new());
    let options = RunOptions::default().with_full(true).with_prune(true);
    let mut row = naive::Row::default();
    for (count, gone) in [(100, 0), (98, 2), (98, 0)] {
        let source = Arc::new(Source::incremental(Chain));
        let report = driver(&store, forge(count)).run(source, options.clone()).await.unwrap();
        assert_eq!((report.outcome, report.counts.gone), (RunOutcome::Complete, gone));
        row.last = 0;
        naive::list(&mut row, &forge(count)).await;
    }
    assert_eq!(row.origins.len(), 100, "the double knows them for ever");
}

/// D4: the cursor was stored once, at the end of a run: a kill lost all progress.
#[tokio::test]
async fn d4_a_kill_loses_no_progress() {
    let healthy = |r: &Request| serve(&chain_pages(500, 10), r);
    let store = Arc::new(MemoryStore::new());
    let source = Arc::new(Source::incremental(Chain));
    let killer = Killer::new(KillPoint::Answered, 40);
    let doomed = Driver::new(
        Arc::new(KillingStore::new(Arc::clone(&store) as _, Arc::clone(&killer))),
        Arc::new(KillingTransport::new(Answering::new(healthy), Arc::clone(&killer))),
        Arc::new(VirtualClock::new(start())),
    );
    let options = RunOptions::default().with_concurrency(1);
    tokio::select! {
        biased;
        _ = doomed.run(source.clone(), options.clone()) => panic!("it was to be killed"),
        () = killer.killed() => {}
    }
    assert_eq!(urls(&*store).await, expected_urls(1..=400));
    let forge = Arc::new(Answering::new(healthy));
    let report = driver(&store, Arc::clone(&forge)).run(source, options).await.unwrap();
    assert_eq!((report.outcome, forge.asked().len()), (RunOutcome::Complete, 10));
    assert_eq!(urls(&*store).await, expected_urls(1..=500));

    let mut row = naive::Row::default();
    let killer = Killer::new(KillPoint::Answered, 40);
    let doomed = KillingTransport::new(Answering::new(healthy), Arc::clone(&killer));
    tokio::select! {
        biased;
        () = naive::list(&mut row, &doomed) => panic!("it was to be killed"),
        () = killer.killed() => {}
    }
    assert_eq!(row.last, 0, "the double has forgotten where it was");
}
