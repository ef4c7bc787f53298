//! Whole listings: each fixture's runs, and what they cost.
#![cfg(feature = "testing")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lamplighter::backend::{MemoryStore, OriginQuery, OriginStore};
use lamplighter::driver::{Driver, RunOptions};
use lamplighter::lister::Registry;
use lamplighter::model::Timestamp;
use lamplighter::testing::{Case, Shown, VirtualClock, check_fixture};
use lamplighter::transport::{Body, Replay, Request, Response, Transport, TransportError};

/// What a run came to.
#[derive(Debug, PartialEq)]
struct Came {
    requests: usize,
    skipped: u64,
    gaps: usize,
}

fn came(requests: usize, skipped: u64, gaps: usize) -> Came {
    Came { requests, skipped, gaps }
}

/// Replays a fixture's runs: each lists what the fixture says, and asks for all that was recorded.
async fn replay(case: &str) -> Vec<Came> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cgit").join(case);
    let Shown { requests, gaps, skipped, .. } =
        check_fixture(&Registry::builtin(), &folder).await.unwrap_or_else(|law| panic!("{case}: {law}"));
    let runs = requests.into_iter().zip(skipped).zip(gaps);
    runs.map(|((requests, skipped), gaps)| came(requests, skipped, gaps)).collect()
}

#[tokio::test]
async fn a_second_listing_costs_the_index_and_what_changed() {
    // 67 repositories on 4 pages; nothing changed; two changed and one is new.
    assert_eq!(replay("live").await, [came(4 + 67, 0, 0), came(4, 0, 0), came(4 + 3, 0, 0)]);
}

#[tokio::test]
async fn odd_sites_are_listed_to_their_end() {
    assert_eq!(replay("noroot").await, [came(3 + 7, 6, 0)]);
    assert_eq!(replay("empty").await, [came(1, 0, 0)]);
    assert_eq!(replay("none").await, [came(1, 0, 1)]);
    assert_eq!(replay("gone").await, [came(3 + 7, 1, 0)]);
    assert_eq!(replay("base_git_url").await, [came(3, 0, 0)]);
    assert_eq!(replay("tabs").await, [came(3 + 7 + 2, 1, 0)]);
}

#[tokio::test]
async fn a_broken_page_is_a_gap_and_healed_by_the_next_listing() {
    // Page 2 of the index is cut, a repository's page is a proxy's. What was read is not asked again.
    assert_eq!(replay("broken").await, [came(2 + 3, 0, 2), came(3 + 5, 0, 0)]);
}

/// Answers from a recording, but so many repositories' pages with 404.
struct Lacking {
    replay: Replay,
    absent: AtomicU64,
}

#[async_trait::async_trait]
impl Transport for Lacking {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let one_less = |left: u64| left.checked_sub(1);
        if request.url.path() != "/cgit/"
            && self.absent.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
        {
            return Ok(Response::new(404, request.url, Body::from(""), Timestamp::EPOCH));
        }
        self.replay.send(request).await
    }
}

/// A site whose index is well, and whose repositories all answer 404 (moved, or behind another server): each
/// of them is left out, and none is taken for gone.
#[tokio::test]
async fn repositories_that_are_all_absent_are_not_believed_to_be_gone() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cgit/live");
    let case = Case::load(&folder).unwrap();
    let store = Arc::new(MemoryStore::new());
    let mut day = case.runs[0].at.unwrap();
    for (absent, gone) in [(0, 0), (67, 0), (67, 0), (3, 3), (0, 0)] {
        day = day.plus(std::time::Duration::from_secs(86_400));
        let clock = Arc::new(VirtualClock::new(day));
        let replay = Replay::new(case.runs[0].exchanges.iter().cloned(), clock.clone());
        let forge = Lacking { replay, absent: AtomicU64::new(absent) };
        let source = Registry::builtin().build("cgit", &case.runs[0].arguments).unwrap().source;
        let driver = Driver::new(Arc::clone(&store) as _, Arc::new(forge), clock);
        let options = RunOptions::default().with_full(true).with_concurrency(1).with_prune(true);
        let report = driver.run(source, options).await.unwrap();
        assert_eq!((report.outcome.as_str(), report.counts.gone), ("complete", gone), "{absent} absent");
        assert_eq!(report.skipped, absent);
    }
    let all = store.origins(&OriginQuery::everything(), None, 100).await.unwrap().origins;
    assert_eq!(
        (all.len(), all.iter().filter(|(_, o)| o.gone.is_some()).count()),
        (67, 0),
        "and three came back"
    );
}
