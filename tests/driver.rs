//! The driver against a forge in memory: honest endings, loops, gaps, kills, states.
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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Chain, ChainPage, answer, chain_pages, driver, expected_urls, serve, since, start, urls};
use futures::StreamExt;
use lamplighter::backend::{GapKind, MemoryStore, RunOutcome, RunStore};
use lamplighter::driver::{Driver, Listed, RunOptions, listing};
use lamplighter::lister::{Lister, ListerError, Mode, Page, RunInfo, Source};
use lamplighter::model::{NewOrigin, VisitType};
use lamplighter::testing::{Answering, KillPoint, Killer, KillingStore, KillingTransport, VirtualClock};
use lamplighter::transport::{Body, CredentialId, Request, Response, TransportError, TransportErrorKind};

fn chain() -> Arc<Source<Chain, lamplighter::lister::WithMemory>> {
    Arc::new(Source::incremental(Chain))
}

#[tokio::test]
async fn a_chain_without_faults_is_complete_with_every_origin() {
    let pages = chain_pages(100, 10);
    let store = Arc::new(MemoryStore::new());
    let report = driver(&store, Answering::new(move |r| serve(&pages, r)))
        .run(chain(), RunOptions::default())
        .await
        .unwrap();
    assert_eq!(report.outcome, RunOutcome::Complete);
    assert_eq!((report.mode, report.pages, report.requests, report.counts.new), (Mode::Full, 10, 10, 100));
    assert!(report.gaps.is_empty() && report.pending == 0 && report.error.is_none());
    assert_eq!(urls(&*store).await, expected_urls(1..=100));
    assert_eq!(report.state["last"], 100);
    let lister = &store.lister(&report.lister, start()).await.unwrap();
    assert!(lister.last_finished.is_some());
}

/// The fifth of ten pages is broken in some way: what was before it is kept, and the run says that
/// a part is missing.
async fn broken_fifth(
    fifth: impl Fn(&Request, &ChainPage) -> Result<Response, TransportError> + Send + Sync + 'static,
) -> (lamplighter::driver::RunReport, Vec<String>) {
    let pages = chain_pages(100, 10);
    let store = Arc::new(MemoryStore::new());
    let forge = Answering::new(move |r: &Request| match since(r) {
        40 => fifth(r, &pages[&30]),
        _ => serve(&pages, r),
    });
    let report = driver(&store, forge).run(chain(), RunOptions::default()).await.unwrap();
    let lister = store.lister(&report.lister, start()).await.unwrap();
    assert_eq!(lister.last_finished, None, "only a complete run sets the finished date");
    (report, urls(&*store).await)
}

#[tokio::test]
async fn a_page_that_is_not_found_makes_the_run_partial() {
    let (report, urls) = broken_fifth(|r, _| answer(r, 404, "no such page")).await;
    assert_eq!((report.outcome, report.gaps.len()), (RunOutcome::Partial, 1));
    assert_eq!(report.gaps[0].kind, GapKind::Status);
    assert!(report.gaps[0].reason.contains("404") && report.gaps[0].reason.contains("no such page"));
    assert_eq!(report.gaps[0].cursor, 40);
    assert_eq!(urls, expected_urls(1..=40));
    assert_eq!(report.state["last"], 40, "the state moves up to the hole and not past it");
}

#[tokio::test]
async fn a_page_that_links_to_itself_is_a_gap_that_says_loop() {
    let (report, urls) = broken_fifth(|r, _| answer(r, 200, r#"{"repos":[41,42],"next":40}"#)).await;
    assert_eq!((report.outcome, report.gaps.len()), (RunOutcome::Partial, 1));
    assert_eq!(report.gaps[0].kind, GapKind::Loop);
    assert!(report.gaps[0].reason.contains("loop"), "{}", report.gaps[0].reason);
    assert_eq!(urls, expected_urls(1..=42));
}

#[tokio::test]
async fn a_page_that_repeats_its_predecessor_is_a_gap_that_says_loop() {
    // The same repositories under another next link: a server that ignores its page parameter.
    let (report, urls) = broken_fifth(|r, before| {
        let page = ChainPage { repos: before.repos.clone(), next: Some(50) };
        answer(r, 200, serde_json::to_string(&page).unwrap())
    })
    .await;
    assert_eq!((report.outcome, report.gaps.len()), (RunOutcome::Partial, 1));
    assert_eq!(report.gaps[0].kind, GapKind::Loop);
    assert!(report.gaps[0].reason.contains("loop"), "{}", report.gaps[0].reason);
    assert_eq!(urls, expected_urls(1..=40));
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_a_gap_that_names_the_place() {
    let (report, urls) = broken_fifth(|r, _| answer(r, 200, r#"{"repos":[41,"x"],"next":50}"#)).await;
    assert_eq!((report.outcome, report.gaps[0].kind), (RunOutcome::Partial, GapKind::Body));
    assert!(report.gaps[0].reason.contains("repos[1]"), "{}", report.gaps[0].reason);
    assert_eq!(urls, expected_urls(1..=40));
}

#[tokio::test]
async fn a_page_without_an_answer_is_a_gap() {
    let (report, _) =
        broken_fifth(|_, _| Err(TransportError::new(TransportErrorKind::Timeout, "forge.example"))).await;
    assert_eq!((report.outcome, report.gaps[0].kind), (RunOutcome::Partial, GapKind::Transport));
}

#[tokio::test]
async fn empty_pages_with_a_next_link_do_not_end_a_listing() {
    let mut pages = chain_pages(30, 10);
    pages.insert(10, ChainPage { repos: vec![], next: Some(11) });
    pages.insert(11, ChainPage { repos: vec![], next: Some(12) });
    pages.insert(12, ChainPage { repos: (11..=20).collect(), next: Some(20) });
    let store = Arc::new(MemoryStore::new());
    let report = driver(&store, Answering::new(move |r| serve(&pages, r)))
        .run(chain(), RunOptions::default())
        .await
        .unwrap();
    assert_eq!(report.outcome, RunOutcome::Complete);
    assert_eq!(urls(&*store).await, expected_urls(1..=30));
}

#[tokio::test]
async fn a_forge_that_answers_the_same_empty_page_for_ever_is_stopped() {
    let store = Arc::new(MemoryStore::new());
    let forge = Answering::new(|r: &Request| answer(r, 200, r#"{"repos":[],"next":7}"#));
    let report = driver(&store, forge).run(chain(), RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.gaps[0].kind), (RunOutcome::Partial, GapKind::Loop));
    assert!(report.requests <= 3);
}

#[tokio::test]
async fn a_page_that_fails_for_ever_costs_two_requests_a_run_and_closes_when_it_heals() {
    let pages = Arc::new(chain_pages(300, 100));
    let healed = Arc::new(AtomicBool::new(false));
    let store = Arc::new(MemoryStore::new());
    let forge = {
        let (pages, healed) = (Arc::clone(&pages), Arc::clone(&healed));
        Arc::new(Answering::new(move |r: &Request| match since(r) {
            100 if !healed.load(Ordering::SeqCst) => answer(r, 500, "poison"),
            _ => serve(&pages, r),
        }))
    };
    let driver = driver(&store, Arc::clone(&forge));
    let first = driver.run(chain(), RunOptions::default()).await.unwrap();
    assert_eq!((first.outcome, first.gaps.len(), first.mode), (RunOutcome::Partial, 1, Mode::Full));
    let before = forge.asked().len();
    let second = driver.run(chain(), RunOptions::default()).await.unwrap();
    assert_eq!((second.outcome, second.gaps.len(), second.mode), (RunOutcome::Partial, 1, Mode::Incremental));
    // The gap equals the cursor about to be asked: one request, well under 2 + log2(100).
    assert_eq!(forge.asked().len() - before, 1);
    assert_eq!((second.gaps[0].attempts, second.gaps[0].since), (2, first.gaps[0].since));
    healed.store(true, Ordering::SeqCst);
    let third = driver.run(chain(), RunOptions::default()).await.unwrap();
    assert_eq!((third.outcome, third.gaps.len()), (RunOutcome::Complete, 0));
    assert_eq!(urls(&*store).await, expected_urls(1..=300));
}

#[tokio::test]
async fn a_second_run_asks_only_for_what_is_new() {
    let n = Arc::new(AtomicU64::new(50));
    let store = Arc::new(MemoryStore::new());
    let forge = {
        let n = Arc::clone(&n);
        Arc::new(Answering::new(move |r: &Request| serve(&chain_pages(n.load(Ordering::SeqCst), 10), r)))
    };
    let driver = driver(&store, Arc::clone(&forge));
    driver.run(chain(), RunOptions::default()).await.unwrap();
    n.store(55, Ordering::SeqCst);
    let report = driver.run(chain(), RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.counts.new, report.requests), (RunOutcome::Complete, 5, 1));
    assert_eq!(forge.asked().last().unwrap(), "GET https://forge.example/repos?since=50");
    // Told to, it lists everything again.
    let full = driver.run(chain(), RunOptions::default().with_full(true)).await.unwrap();
    assert_eq!((full.mode, full.counts.new, full.counts.unchanged), (Mode::Full, 0, 55));
}

#[tokio::test]
async fn max_pages_leaves_the_run_open_and_the_next_one_continues_it() {
    let pages = chain_pages(100, 10);
    let store = Arc::new(MemoryStore::new());
    let forge = Arc::new(Answering::new(move |r| serve(&pages, r)));
    let driver = driver(&store, Arc::clone(&forge));
    let first = driver.run(chain(), RunOptions::default().with_max_pages(3)).await.unwrap();
    assert_eq!((first.outcome, first.pages, first.pending), (RunOutcome::Open, 3, 1));
    assert!(first.state.is_empty(), "an open run moves no state");
    let second = driver.run(chain(), RunOptions::default()).await.unwrap();
    assert!(second.resumed);
    assert_eq!((second.outcome, second.pages, second.run), (RunOutcome::Complete, 7, first.run));
    assert_eq!(forge.asked().len(), 10, "no page was asked for twice");
    assert_eq!(second.state["last"], 100);
}

#[tokio::test]
async fn a_run_is_stopped_between_pages() {
    let pages = chain_pages(100, 10);
    let store = Arc::new(MemoryStore::new());
    let stop = Arc::new(std::sync::OnceLock::<lamplighter::driver::StopHandle>::new());
    let forge = {
        let stop = Arc::clone(&stop);
        Answering::new(move |r: &Request| {
            if since(r) == 40 {
                stop.get().unwrap().stop();
            }
            serve(&pages, r)
        })
    };
    let first = driver(&store, forge);
    stop.set(first.stop_handle()).unwrap();
    let report = first.run(chain(), RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.pages), (RunOutcome::Open, 5), "the page being read is kept");
    assert_eq!(urls(&*store).await, expected_urls(1..=50));
}

/// Kills a run at every time it passes a point, resumes it, and compares with an undisturbed run.
async fn kill_everywhere(point: KillPoint, asked_twice: u64) {
    for n in 0.. {
        let pages = Arc::new(chain_pages(60, 10));
        let store = Arc::new(MemoryStore::new());
        let forge = {
            let pages = Arc::clone(&pages);
            Arc::new(Answering::new(move |r: &Request| serve(&pages, r)))
        };
        let killer = Killer::new(point, n);
        let clock = Arc::new(VirtualClock::new(start()));
        let doomed = Driver::new(
            Arc::new(KillingStore::new(Arc::clone(&store) as _, Arc::clone(&killer))),
            Arc::new(KillingTransport::new(Arc::clone(&forge), Arc::clone(&killer))),
            clock,
        );
        let options = RunOptions::default().with_concurrency(1);
        let died = tokio::select! {
            biased;
            report = doomed.run(chain(), options.clone()) => { report.unwrap(); false }
            () = killer.killed() => true,
        };
        let report = driver(&store, Arc::clone(&forge)).run(chain(), options).await.unwrap();
        assert_eq!(report.outcome, RunOutcome::Complete);
        assert_eq!(urls(&*store).await, expected_urls(1..=60), "killed at {point:?} {n}");
        let asked = forge.asked().len() as u64;
        if !died {
            assert_eq!((n, asked), (6, 6 + 1), "six pages, and one that looks for news");
            return;
        }
        assert_eq!(asked, 6 + asked_twice, "killed at {point:?} {n}");
    }
}

#[tokio::test]
async fn a_kill_between_answer_and_commit_costs_one_page() {
    kill_everywhere(KillPoint::Answered, 1).await;
    kill_everywhere(KillPoint::BeforeCommit, 1).await;
}

#[tokio::test]
async fn a_kill_after_a_commit_costs_nothing() {
    kill_everywhere(KillPoint::AfterCommit, 0).await;
}

/// One page with a validator, in which a part of the origins is listed.
struct Index;

impl Lister for Index {
    type Cursor = ();
    fn name(&self) -> &'static str {
        "index"
    }
    fn instance(&self) -> &str {
        "index.example"
    }
    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }
    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(Request::get("https://index.example/all".parse().unwrap()).validated())
    }
    fn page(&self, (): &(), response: Response, page: &mut Page<()>) -> Result<(), ListerError> {
        for id in response.json::<Vec<u64>>()? {
            page.origin(NewOrigin::new(common::repo_url(id), VisitType::git()))?;
        }
        Ok(())
    }
}

/// Answers 304 where the validator is the present one.
fn index(r: &Request) -> Result<Response, TransportError> {
    if r.headers.get("if-none-match").is_some_and(|v| v == "\"v1\"") {
        return answer(r, 304, "");
    }
    answer(r, 200, "[1,2,3]").map(|r| r.with_header("etag", "\"v1\""))
}

#[tokio::test]
async fn a_kill_between_answer_and_commit_and_then_a_304_loses_nothing() {
    let store = Arc::new(MemoryStore::new());
    let killer = Killer::new(KillPoint::BeforeCommit, 0);
    let doomed = Driver::new(
        Arc::new(KillingStore::new(Arc::clone(&store) as _, Arc::clone(&killer))),
        Arc::new(Answering::new(index)),
        Arc::new(VirtualClock::new(start())),
    );
    let source = Arc::new(Source::stateless(Index));
    tokio::select! {
        biased;
        _ = doomed.run(Arc::clone(&source) as _, RunOptions::default()) => panic!("it was to be killed"),
        () = killer.killed() => {}
    }
    assert!(urls(&*store).await.is_empty());
    let healthy = driver(&store, Answering::new(index));
    let report = healthy.run(Arc::clone(&source) as _, RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.counts.new), (RunOutcome::Complete, 3));
    // The twin: with the page committed, the 304 says that all three are as they were.
    let forge = Arc::new(Answering::new(index));
    let report =
        driver(&store, Arc::clone(&forge)).run(source, RunOptions::default().with_prune(true)).await.unwrap();
    assert_eq!((report.outcome, report.counts.unchanged, report.counts.gone), (RunOutcome::Complete, 3, 0));
    assert_eq!(urls(&*store).await, expected_urls(1..=3));
}

#[tokio::test]
async fn a_spooled_page_is_committed_in_pieces_and_counts_once() {
    let n = 2500;
    let body = serde_json::to_vec(&ChainPage { repos: (1..=n).collect(), next: None }).unwrap();
    let spooled = move |r: &Request| {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &body).unwrap();
        answer(r, 200, Body::Spooled { file: Arc::new(file), len: body.len() as u64 })
    };
    let store = Arc::new(MemoryStore::new());
    let report = driver(&store, Answering::new(spooled)).run(chain(), RunOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.counts.new, report.pages), (RunOutcome::Complete, n, 1));
    assert_eq!(urls(&*store).await, expected_urls(1..=n));
    assert_eq!(report.state["last"], n, "marks are kept to the last piece");
}

#[tokio::test]
async fn urls_that_are_no_origins_are_counted_and_not_stored() {
    struct Odd;
    impl Lister for Odd {
        type Cursor = u8;
        fn name(&self) -> &'static str {
            "odd"
        }
        fn instance(&self) -> &str {
            "odd.example"
        }
        fn start(&self, _: &RunInfo) -> Vec<u8> {
            vec![0]
        }
        fn request(&self, _: &u8) -> Result<Request, ListerError> {
            Ok(Request::get("https://odd.example/".parse().unwrap()))
        }
        fn page(&self, _: &u8, _: Response, page: &mut Page<u8>) -> Result<(), ListerError> {
            for url in ["https://odd.example/r", "git@odd.example:r", "ssh://odd.example/r", ""] {
                page.origin(NewOrigin::new(url, VisitType::git()))?;
            }
            Ok(())
        }
    }
    let store = Arc::new(MemoryStore::new());
    let forge = Answering::new(|r: &Request| answer(r, 200, ""));
    let report = driver(&store, forge)
        .run(Arc::new(Source::stateless(Odd)), RunOptions::default().with_enable_origins(false))
        .await
        .unwrap();
    assert_eq!((report.outcome, report.counts.new, report.skipped), (RunOutcome::Complete, 1, 3));
    assert_eq!(urls(&*store).await, ["https://odd.example/r"]);
}

#[tokio::test]
async fn a_listing_without_a_store_is_a_stream() {
    let pages = chain_pages(25, 10);
    let forge = Arc::new(Answering::new(move |r: &Request| serve(&pages, r)));
    let mut found = Vec::new();
    let mut ends = 0;
    let mut listing =
        Box::pin(listing(chain(), forge, Arc::new(VirtualClock::new(start())), None, RunOptions::default()));
    while let Some(item) = listing.next().await {
        match item {
            Listed::Origin(origin) => found.push(origin.url),
            Listed::End(report) => {
                let report = report.unwrap();
                assert_eq!((report.outcome, report.counts.new), (RunOutcome::Complete, 25));
                assert_eq!(report.state["last"], 25);
                ends += 1;
            }
            Listed::Progress { pages } => assert!(pages > 0 && pages <= 3),
            other => panic!("unexpected {other:?}"),
        }
    }
    found.sort();
    assert_eq!((found, ends), (expected_urls(1..=25), 1));
}

#[tokio::test]
async fn a_stream_goes_on_from_a_state_and_tells_its_gaps() {
    let pages = chain_pages(25, 10);
    let forge = Arc::new(Answering::new(move |r: &Request| match since(r) {
        20 => answer(r, 500, ""),
        _ => serve(&pages, r),
    }));
    let state = serde_json::json!({"last": 10}).as_object().cloned();
    let clock = Arc::new(VirtualClock::new(start()));
    let items: Vec<Listed> = listing(chain(), forge, clock, state, RunOptions::default()).collect().await;
    let origins = items.iter().filter(|i| matches!(i, Listed::Origin(_))).count();
    let gaps: Vec<_> =
        items.iter().filter_map(|i| if let Listed::Gap(why) = i { Some(why) } else { None }).collect();
    assert_eq!((origins, gaps.len()), (10, 1));
    assert!(gaps[0].contains("500"));
    let Some(Listed::End(Ok(report))) = items.last() else { panic!("it ends with its end") };
    assert_eq!(report.outcome, RunOutcome::Partial);
}

/// One page that needs a token.
struct Closed;

impl Lister for Closed {
    type Cursor = ();
    fn name(&self) -> &'static str {
        "closed"
    }
    fn instance(&self) -> &str {
        "closed.example"
    }
    fn start(&self, _: &RunInfo) -> Vec<()> {
        vec![()]
    }
    fn request(&self, (): &()) -> Result<Request, ListerError> {
        Ok(Request::get("https://closed.example/all".parse().unwrap())
            .needing("a token (Preferences, Tokens)"))
    }
    fn page(&self, (): &(), _: Response, _: &mut Page<()>) -> Result<(), ListerError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_refusal_says_what_is_wanted_and_where_it_is_made() {
    let reason = async |status: u16, header: (&'static str, &'static str), credential: Option<usize>| {
        let forge = Answering::new(move |r: &Request| {
            answer(r, status, "no").map(|mut answer| {
                answer.credential = credential.map(CredentialId);
                answer.with_header(header.0, header.1)
            })
        });
        let store = Arc::new(MemoryStore::new());
        let source = Arc::new(Source::stateless(Closed));
        driver(&store, forge).run(source, RunOptions::default()).await.unwrap().gaps.remove(0).reason
    };
    let told = reason(401, ("www-authenticate", "Bearer realm=\"x\", scope=\"read_api api\""), None).await;
    for said in ["status 401", "without a credential", "\"read_api api\"", "a token (Preferences, Tokens)"] {
        assert!(told.contains(said), "{said} in {told}");
    }
    let told = reason(403, ("x-accepted-oauth-scopes", "repo"), Some(2)).await;
    for said in ["status 403", "with credential 2", "\"repo\"", "a token (Preferences, Tokens)"] {
        assert!(told.contains(said), "{said} in {told}");
    }
    // No scope is no word on a scope, and another status is another matter.
    let told = reason(403, ("x-accepted-oauth-scopes", ""), None).await;
    assert!(!told.contains("scope"), "{told}");
    let told = reason(404, ("x-accepted-oauth-scopes", "repo"), None).await;
    assert!(!told.contains("repo") && !told.contains("credential") && !told.contains("token"), "{told}");
}
