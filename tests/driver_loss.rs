//! What a run does with what is missing: pages split down to the record that cannot be read, filters,
//! and origins that are no longer listed.
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::unnecessary_literal_bound,
    clippy::unnecessary_wraps,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Chain, ChainPage, answer, chain_pages, driver, expected_urls, repo_url, serve, urls};
use lamplighter::backend::{
    FileStore, MemoryStore, OriginQuery, OriginStore, Prune, RunOutcome, RunStore, SchedulerBackend,
};
use lamplighter::driver::{Driver, Filters, Keep, RunOptions};
use lamplighter::lister::{Failure, Lister, ListerError, Page, Recovery, RunInfo, Source, query_param};
use lamplighter::model::{NewOrigin, VisitType};
use lamplighter::testing::{Answering, VirtualClock};
use lamplighter::transport::{Request, Response, TransportError};
use serde::{Deserialize, Serialize};
use url::Url;

const PER_PAGE: u64 = 100;

/// A stretch of a listing by offset. Where a page failed, the first record that cannot be read is looked
/// for by halves: it is known to be in this stretch, or in the `bad` records after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Stretch {
    from: u64,
    len: u64,
    bad: u64,
    /// Records after those, of which nothing is known.
    rest: u64,
}

/// Lists by offset and limit, and splits what fails.
struct Splitting {
    splits: bool,
}

impl Splitting {
    /// The first half of records of which one is known to be bad.
    fn probe(from: u64, known: u64, rest: u64) -> Stretch {
        let len = known.div_ceil(2);
        Stretch { from, len, bad: known - len, rest }
    }

    /// What comes after a record that is given up.
    fn after(from: u64, rest: u64) -> Stretch {
        let len = if rest > 0 { rest } else { PER_PAGE };
        Stretch { from, len, bad: 0, rest: 0 }
    }
}

impl Lister for Splitting {
    type Cursor = Stretch;

    fn name(&self) -> &'static str {
        "splitting"
    }

    fn instance(&self) -> &str {
        "forge.example"
    }

    fn start(&self, _: &RunInfo) -> Vec<Stretch> {
        vec![Self::after(0, 0)]
    }

    fn request(&self, at: &Stretch) -> Result<Request, ListerError> {
        let url = format!("https://forge.example/repos?from={}&len={}", at.from, at.len);
        Ok(Request::get(Url::parse(&url).unwrap()))
    }

    fn page(&self, at: &Stretch, response: Response, page: &mut Page<Stretch>) -> Result<(), ListerError> {
        let answer: ChainPage = response.json()?;
        for id in &answer.repos {
            page.origin(NewOrigin::new(repo_url(*id), VisitType::git()).with_forge_id(id))?;
        }
        let next = at.from + at.len;
        match at.bad {
            0 if at.rest > 0 => page.next(Self::after(next, at.rest)),
            0 if answer.next.is_some() => page.next(Self::after(next, 0)),
            0 => {}
            known => page.next(Self::probe(next, known, at.rest)),
        }
        Ok(())
    }

    fn recover(&self, at: &Stretch, _: &Failure) -> Recovery<Stretch> {
        let rest = at.bad + at.rest;
        match (self.splits, at.len) {
            (false, _) => Recovery::gap_and(vec![Self::after(at.from + at.len, rest)]),
            (true, 1) => Recovery::gap_and(vec![Self::after(at.from + 1, rest)]),
            (true, len) => Recovery::replaced(vec![Self::probe(at.from, len, rest)]),
        }
    }
}

/// A forge of so many repositories, of which some make every answer with them fail.
fn forge(count: u64, poison: &[u64]) -> impl Fn(&Request) -> Result<Response, TransportError> + use<> {
    let poison: BTreeSet<u64> = poison.iter().copied().collect();
    move |r: &Request| {
        let number = |name| query_param(&r.url, name).and_then(|n| n.parse::<u64>().ok()).unwrap();
        let (from, len) = (number("from"), number("len"));
        let ids: Vec<u64> = (from + 1..=(from + len).min(count)).collect();
        if ids.iter().any(|id| poison.contains(id)) {
            return answer(r, 500, "cannot read a record");
        }
        let next = (from + len < count).then_some(from + len);
        answer(r, 200, serde_json::to_vec(&ChainPage { repos: ids, next }).unwrap())
    }
}

fn without(count: u64, poison: &[u64]) -> BTreeSet<String> {
    (1..=count).filter(|id| !poison.contains(id)).map(repo_url).collect()
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_its_page_s_logarithm() {
    let faultless = Arc::new(Answering::new(forge(1000, &[])));
    let store = Arc::new(MemoryStore::new());
    let source = || Arc::new(Source::stateless(Splitting { splits: true }));
    let report = driver(&store, Arc::clone(&faultless)).run(source(), RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, faultless.asked().len()), (RunOutcome::Complete, 10));
    // Every place in a page, alone; then several at once.
    let several = vec![vec![7, 8], vec![100, 101, 500], vec![1, 1000], (40..44).collect()];
    for poison in (301..=400).map(|id| vec![id]).chain(several) {
        let store = Arc::new(MemoryStore::new());
        let spoilt = Arc::new(Answering::new(forge(1000, &poison)));
        let report = driver(&store, Arc::clone(&spoilt)).run(source(), RunOptions::default()).await.unwrap();
        assert_eq!(report.outcome, RunOutcome::Partial);
        let listed: BTreeSet<String> = urls(&*store).await.into_iter().collect();
        assert_eq!(listed, without(1000, &poison), "{poison:?}: all that can be read");
        let holes: Vec<_> =
            report.gaps.iter().map(|g| (g.cursor["from"].clone(), g.cursor["len"].clone())).collect();
        let expected: Vec<_> = poison.iter().map(|id| ((id - 1).into(), 1.into())).collect();
        assert_eq!(holes, expected, "{poison:?}: and a gap for each that cannot");
        // Seven halvings of a hundred; the record itself, and what comes after it on its page.
        let more = spoilt.asked().len() - 10;
        assert!(more <= poison.len() * 9, "{poison:?}: {more} requests more");
    }
}

#[tokio::test]
async fn a_gap_of_a_page_is_split_when_it_is_retried() {
    let store = Arc::new(MemoryStore::new());
    let spoilt = || Answering::new(forge(300, &[150]));
    let blunt = Arc::new(Source::stateless(Splitting { splits: false }));
    let report = driver(&store, spoilt()).run(blunt, RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.counts.new, report.gaps.len()), (RunOutcome::Partial, 200, 1));
    let source = || Arc::new(Source::stateless(Splitting { splits: true }));
    let gaps = || RunOptions::default().with_gaps_only(true);
    let report = driver(&store, spoilt()).run(source(), gaps()).await.unwrap();
    assert_eq!((report.outcome, report.counts.new), (RunOutcome::Partial, 99));
    assert_eq!(report.gaps.len(), 1);
    assert_eq!((&report.gaps[0].cursor["from"], &report.gaps[0].cursor["len"]), (&149.into(), &1.into()));
    // Retried again, it costs the record and what comes after it; mended, it is whole.
    let still = Arc::new(spoilt());
    let report = driver(&store, Arc::clone(&still)).run(source(), gaps()).await.unwrap();
    assert!(report.outcome == RunOutcome::Partial && still.asked().len() <= 3, "{:?}", still.asked());
    let report = driver(&store, Answering::new(forge(300, &[]))).run(source(), gaps()).await.unwrap();
    assert_eq!((report.outcome, report.counts.new, report.gaps.len()), (RunOutcome::Complete, 1, 0));
    assert_eq!(urls(&*store).await, expected_urls(1..=300));
}

/// A forge that says less than there is, or nothing, and one that is down: three runs of each.
#[tokio::test]
async fn what_is_not_believed_retires_nothing_and_what_is_truly_gone_goes() {
    let folder = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn SchedulerBackend>; 2] =
        [Arc::new(MemoryStore::new()), Arc::new(FileStore::open(folder.path().join("one.db")).unwrap())];
    for store in stores {
        let clock = Arc::new(VirtualClock::new(common::start()));
        let live = Arc::new(AtomicU64::new(1000));
        let up = Arc::new(AtomicU64::new(1));
        let (count, is_up) = (Arc::clone(&live), Arc::clone(&up));
        let forge = Arc::new(Answering::new(move |r: &Request| {
            if is_up.load(Ordering::SeqCst) == 0 {
                return answer(r, 503, "down");
            }
            serve(&chain_pages(count.load(Ordering::SeqCst), 100), r)
        }));
        let run = async |count: u64| {
            live.store(count, Ordering::SeqCst);
            clock.advance(std::time::Duration::from_secs(86_400));
            let driver = Driver::new(
                Arc::clone(&store) as Arc<dyn RunStore>,
                Arc::clone(&forge) as _,
                Arc::clone(&clock) as _,
            );
            let options = RunOptions::default().with_full(true).with_prune(true);
            driver.run(Arc::new(Source::stateless(Chain)), options).await.unwrap()
        };
        assert_eq!(run(1000).await.counts.new, 1000);
        for count in [500, 500, 100, 1000] {
            let report = run(count).await;
            assert_eq!((report.outcome, report.counts.gone), (RunOutcome::Complete, 0));
            assert_eq!(report.withheld, 1000 - count);
        }
        up.store(0, Ordering::SeqCst);
        let report = run(1000).await;
        assert_eq!((report.counts.gone, report.withheld), (0, 0));
        assert_ne!(report.outcome, RunOutcome::Complete);
        up.store(1, Ordering::SeqCst);
        let retired = run(990).await.counts.gone + run(990).await.counts.gone;
        assert_eq!(retired, 10, "the one percent that is truly gone, within two runs");
        assert_eq!(run(990).await.counts.gone, 0);
        let changes = store.changes(lamplighter::backend::ChangeToken(0), 5000).await.unwrap();
        assert_eq!(changes.len(), 1010, "nothing flapped");
    }
}

#[tokio::test]
async fn pruning_can_be_forced() {
    let store = Arc::new(MemoryStore::new());
    let of = |count| Answering::new(move |r: &Request| serve(&chain_pages(count, 100), r));
    let options = RunOptions::default().with_full(true);
    let source = || Arc::new(Source::stateless(Chain));
    driver(&store, of(1000)).run(source(), options.clone()).await.unwrap();
    let report = driver(&store, of(300)).run(source(), options.with_prune(Prune::Force)).await.unwrap();
    assert_eq!((report.counts.gone, report.withheld), (700, 0));
}

/// Repositories 1 to 8; bit 0 of the id: a fork, bit 1: archived; bit 2: nothing known.
struct Varied;

impl Lister for Varied {
    type Cursor = u8;

    fn name(&self) -> &'static str {
        "varied"
    }

    fn instance(&self) -> &str {
        "forge.example"
    }

    fn start(&self, _: &RunInfo) -> Vec<u8> {
        vec![0]
    }

    fn request(&self, _: &u8) -> Result<Request, ListerError> {
        Ok(Request::get(Url::parse("https://forge.example/").unwrap()))
    }

    fn page(&self, _: &u8, _: Response, page: &mut Page<u8>) -> Result<(), ListerError> {
        for id in 0..8u64 {
            let known = |bit: u64| (id & 4 == 0).then_some(id & bit != 0);
            let origin = NewOrigin::new(repo_url(id), VisitType::git()).with_fork(known(1));
            page.origin(origin.with_archived(known(2)))?;
        }
        Ok(())
    }
}

/// The URLs of the origins that wait for visits.
async fn to_visit(store: &MemoryStore) -> Vec<String> {
    let page = store.origins(&OriginQuery::default(), None, 100).await.unwrap();
    let mut urls: Vec<String> = page.origins.into_iter().map(|(_, o)| o.url).collect();
    urls.sort();
    urls
}

#[tokio::test]
async fn filters_leave_out_count_and_retire_nothing() {
    let run = async |store: &Arc<MemoryStore>, filters: Filters, prune: bool| {
        let forge = Answering::new(|r: &Request| answer(r, 200, ""));
        let options = RunOptions::default().with_filters(filters).with_prune(prune);
        driver(store, forge).run(Arc::new(Source::stateless(Varied)), options).await.unwrap()
    };
    let mut filters = Filters::default();
    filters.forks = Keep::Exclude;
    filters.archived = Keep::Exclude;
    let store = Arc::new(MemoryStore::new());
    let report = run(&store, filters, true).await;
    assert_eq!((report.filtered.forks, report.filtered.archived, report.filtered.all()), (2, 1, 3));
    assert_eq!((report.outcome, report.counts.new, report.skipped), (RunOutcome::Complete, 5, 0));
    assert_eq!(urls(&*store).await, [0, 4, 5, 6, 7].map(repo_url));
    // What was listed before the filter came is kept, not visited and not gone.
    let store = Arc::new(MemoryStore::new());
    assert_eq!(run(&store, Filters::default(), false).await.counts.new, 8);
    let mut only = Filters::default();
    only.forks = Keep::Only;
    let report = run(&store, only, true).await;
    assert_eq!((report.filtered.forks, report.counts.gone, report.withheld), (6, 0, 0));
    assert_eq!(to_visit(&store).await, [1, 3].map(repo_url), "those that are to be visited");
    assert_eq!(run(&store, Filters::default(), true).await.counts.gone, 0);
    assert_eq!(to_visit(&store).await.len(), 8);
}
