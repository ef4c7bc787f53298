//! Defects that others had, by name: each is a case that a store without the cure fails.

use std::future::Future;

use super::claims::{concurrent_claims_are_disjoint, outcome, succeed, take, urls};
use super::kit::{Drive, all, at, import_all, key, list, news, one, origin, plan, said, url};
use crate::backend::{
    BackendError, ChangeToken, CursorEnd, EndRun, GapKind, OriginStore, PageCommit, RunOutcome, RunStore,
    SchedulerBackend, VisitStore,
};
use crate::lister::PageBatch;
use crate::model::VisitStatus;

/// Every defect that a store can have.
pub async fn defects<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend + 'static,
    Fut: Future<Output = B>,
{
    d2_a_failed_run_has_not_finished(&make().await).await;
    d4_a_kill_loses_no_page(&make().await).await;
    d6_a_listing_enables_nothing(&make().await).await;
    d9_a_visit_that_was_never_sent_comes_back(&make().await).await;
    d10_no_visit_is_held_twice(make().await).await;
    d14_a_listing_without_news_writes_nothing(&make().await).await;
}

/// D2: a run that crashed, or that met a hole, is not stamped as finished.
pub async fn d2_a_failed_run_has_not_finished<B: RunStore>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().names(&["a"]).next(2)).await;
    let mut end = EndRun::new(drive.ticket, RunOutcome::Aborted);
    end.error = Some("out of tokens".to_owned());
    let ended = store.end_run(end, at(1)).await.expect("an aborted run ends");
    assert_eq!(ended.lister.last_finished, None, "it has not finished");
    let drive = Drive::begin(store, plan(&[1]), at(2)).await;
    let held = drive.take(2).await;
    let hole = CursorEnd::Gap { kind: GapKind::Transport, reason: "timed out".to_owned() };
    let commit = PageCommit::new(drive.ticket, held.ticket, PageBatch::default(), Some(hole));
    store.commit_page(commit, at(2)).await.expect("a gap is committed");
    let ended = drive.end(RunOutcome::Complete).await;
    assert_eq!((ended.run.outcome, ended.lister.last_finished), (RunOutcome::Partial, None));
    let drive = Drive::begin(store, plan(&[1]), at(3)).await;
    drive.read(1, said().names(&["a"])).await;
    drive.read(2, said().names(&["b"])).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.lister.last_finished, Some(at(3)), "this one has");
}

/// D4: killed after any page, the run goes on at the next one.
pub async fn d4_a_kill_loses_no_page<B: RunStore + OriginStore>(store: &B) {
    for n in 1..=20u64 {
        let drive = Drive::begin(store, plan(&[1]), at(0)).await;
        let name = format!("r{n}");
        let page = said().names(&[&name]);
        drive.read(n, if n < 20 { page.next(n + 1) } else { page }).await;
        // Nobody ends the run: the driver was killed.
        assert_eq!(all(store).await.len() as u64, n, "what a page said is there");
    }
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    assert!(drive.resumed && drive.pending == 0, "every page was asked for once");
    assert_eq!(drive.end(RunOutcome::Complete).await.run.pages, 20);
}

/// D6: what a person stopped stays stopped, however often it is listed.
pub async fn d6_a_listing_enables_nothing<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a", "b"])).await;
    store.set_disabled(&[key("a")], Some("broken"), at(0)).await.unwrap();
    for hour in 1..4 {
        let page = said().origin(origin("a").with_last_update(at(hour))).names(&["b"]);
        assert_eq!(list(store, at(hour), page).await.changed, 1);
        let a = one(store, "a").await;
        assert!(a.enabled, "the lister wants it");
        assert_eq!(a.disabled_by_hand.map(|d| (d.at, d.reason)), Some((at(0), "broken".to_owned())));
    }
    assert_eq!(urls(&take(store, 9, at(4)).await), [url("b")]);
}

/// D9: marked as handed out, then lost before it was sent: it is handed out again when its lease
/// ends, not a week later.
pub async fn d9_a_visit_that_was_never_sent_comes_back<B: OriginStore + VisitStore>(store: &B) {
    import_all(store, &["a", "b", "c"], at(0)).await;
    let lost = take(store, 3, at(0)).await;
    assert_eq!(lost.len(), 3);
    // The feeder crashes here, with three visits in its hand.
    let again = take(store, 3, at(1)).await;
    assert_eq!(urls(&again), urls(&lost), "they are back after their lease of an hour");
    succeed(store, &again, at(1)).await;
    let late = store.complete(&[outcome(&lost[0], VisitStatus::Successful, at(1))], at(1)).await.unwrap();
    assert!(late[0].is_err(), "and whoever had them is refused");
}

/// D10: sixteen feeders in a loop, and no visit is ever held by two.
pub async fn d10_no_visit_is_held_twice<B: OriginStore + VisitStore + 'static>(store: B) {
    concurrent_claims_are_disjoint(store).await;
}

/// D14: listed again without news, an origin is seen, and that is all: no change, no new place.
pub async fn d14_a_listing_without_news_writes_nothing<B: SchedulerBackend>(store: &B) {
    let names: Vec<String> = (0..50).map(|n| format!("r{n}")).collect();
    let page = || said().names(&names.iter().map(String::as_str).collect::<Vec<_>>());
    list(store, at(0), page()).await;
    let before = (news(store).await, store.metrics(at(9)).await.unwrap());
    for hour in 1..6 {
        let counts = list(store, at(hour), page()).await;
        assert_eq!((counts.new, counts.changed, counts.unchanged), (0, 0, 50));
    }
    let after: Result<_, BackendError> = store.changes(ChangeToken(50), 10).await;
    assert!(after.unwrap().is_empty());
    assert_eq!((news(store).await, store.metrics(at(9)).await.unwrap()), before);
    let seen = all(store).await;
    assert_eq!(seen.len(), 50);
    assert!(seen.iter().all(|o| o.first_seen == at(0) && o.last_seen == at(5)), "and yet all were seen");
}
