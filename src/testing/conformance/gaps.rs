//! Gaps: kept, counted, retried, and closed only by what is behind them.

use std::future::Future;
use std::time::Duration;

use super::kit::{Drive, at, page, plan, plan_of, said};
use crate::backend::{
    CursorEnd, Gap, GapKind, GapQuery, RunOutcome, RunStore, SchedulerBackend, gap_retry_after,
};
use crate::lister::Mode;

/// Gaps: opened, retried when due, closed, and never dropped unsaid.
pub async fn gaps<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    a_gap_is_kept_and_retried_ever_later(&make().await).await;
    a_gap_that_is_about_to_be_asked_is_asked_once(&make().await).await;
    each_good_end_closes_a_gap(&make().await).await;
    a_run_with_an_open_gap_is_not_complete(&make().await).await;
    a_full_run_covers_what_it_did_not_meet(&make().await).await;
    a_broken_chain_heals(&make().await).await;
    gaps_of_other_parameters_are_not_asked(&make().await).await;
}

async fn known<B: RunStore>(store: &B) -> Vec<Gap> {
    store.gaps(&GapQuery::default()).await.unwrap()
}

async fn a_gap_is_kept_and_retried_ever_later<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().names(&["a"]).follow(2)).await;
    assert_eq!(drive.fails(2).await.gaps, 1);
    drive.end(RunOutcome::Complete).await;
    let mut now = at(0);
    for attempts in 1..=6 {
        let gaps = known(store).await;
        assert_eq!(gaps.len(), 1);
        let gap = &gaps[0];
        assert_eq!(
            (gap.attempts, gap.since, &gap.cursor, gap.kind),
            (attempts, at(0), &page(2), GapKind::Status)
        );
        assert_eq!(gap.reason, "500 Internal Server Error");
        assert_eq!(gap.retry_at, now.plus(gap_retry_after(attempts)));
        // Not before it is due …
        if gap.retry_at > now {
            let early = Drive::begin(store, plan_of(Mode::Incremental, &[]), now).await;
            assert_eq!(early.pending, 0);
            assert_eq!(early.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Partial);
        }
        // … and then at once.
        now = gap.retry_at.plus(Duration::from_micros(u64::from(gap.retry_at > now)));
        let drive = Drive::begin(store, plan_of(Mode::Incremental, &[]), now).await;
        assert_eq!(drive.pending, 1);
        drive.fails(2).await;
        drive.end(RunOutcome::Complete).await;
    }
    // Asked for on purpose, due or not; `retry_gaps: false` asks for none.
    let mut without = plan_of(Mode::Incremental, &[]);
    without.retry_gaps = false;
    let far = now.plus(Duration::from_secs(86_400 * 30));
    assert_eq!(Drive::begin(store, without, far).await.pending, 0);
    let drive = Drive::begin(store, plan_of(Mode::Gaps, &[]), now).await;
    drive.read(2, said().names(&["b"])).await;
    assert!(known(store).await.is_empty());
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
}

async fn a_gap_that_is_about_to_be_asked_is_asked_once<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.fails(1).await;
    drive.end(RunOutcome::Complete).await;
    // Not due after two failures, and asked all the same: it is where the chain begins.
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    assert_eq!(drive.pending, 1);
    drive.fails(1).await;
    drive.end(RunOutcome::Complete).await;
    assert!(known(store).await[0].retry_at > at(0));
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    assert_eq!(drive.pending, 1);
    drive.read(1, said().names(&["a"]).next(2)).await;
    assert_eq!(drive.pending, 1);
    assert!(known(store).await.is_empty());
}

async fn each_good_end_closes_a_gap<B: SchedulerBackend>(store: &B) {
    let part = super::kit::part_name("p");
    let ends = [
        CursorEnd::Done(said().digest()),
        CursorEnd::Unchanged(part),
        CursorEnd::Replaced,
        CursorEnd::Skipped,
    ];
    for (hour, end) in (0..).zip(ends) {
        let drive = Drive::begin(store, plan(&[1, 2]), at(hour)).await;
        drive.fails(1).await;
        drive.fails(2).await;
        drive.end(RunOutcome::Complete).await;
        assert_eq!(known(store).await.len(), 2);
        let drive = Drive::begin(store, plan_of(Mode::Gaps, &[]), at(hour)).await;
        drive.ends(1, end.clone()).await;
        let left = known(store).await;
        assert_eq!(left.len(), 1, "{end:?} closes its own gap and no other");
        assert_eq!(left[0].cursor, page(2));
        drive.ends(2, end).await;
        drive.end(RunOutcome::Complete).await;
    }
}

async fn a_run_with_an_open_gap_is_not_complete<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().names(&["a"]).next(2)).await;
    drive.fails(2).await;
    let ended = drive.end(RunOutcome::Complete).await;
    assert_eq!((ended.run.outcome, ended.lister.last_finished), (RunOutcome::Partial, None));
    let of_run = GapQuery { run: Some(drive.ticket.run), ..GapQuery::default() };
    assert_eq!(store.gaps(&of_run).await.unwrap().len(), 1);
    let elsewhere = GapQuery { instance: Some("nowhere".to_owned()), ..GapQuery::default() };
    assert!(store.gaps(&elsewhere).await.unwrap().is_empty());
    // An incremental run after it knows the hole too.
    let mut new = plan_of(Mode::Incremental, &[5]);
    new.retry_gaps = false;
    let drive = Drive::begin(store, new, at(1)).await;
    drive.read(5, said().names(&["b"])).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Partial);
}

async fn a_full_run_covers_what_it_did_not_meet<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().names(&["a"]).next(2)).await;
    drive.fails(2).await;
    drive.end(RunOutcome::Complete).await;
    // The pages were cut anew: page 2 is no more, and everything was read.
    let mut full = plan(&[1]);
    full.retry_gaps = false;
    let drive = Drive::begin(store, full, at(1)).await;
    drive.read(1, said().names(&["a", "b"])).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
    assert!(known(store).await.is_empty());
    // But not where the gap is in a part that was not read again.
    let drive = Drive::begin(store, plan(&[1]), at(2)).await;
    drive.read(1, said().part("p").in_part("p", super::kit::origin("a")).next_of("p", 2)).await;
    drive.fails(2).await;
    drive.end(RunOutcome::Complete).await;
    let mut full = plan(&[1]);
    full.retry_gaps = false;
    let drive = Drive::begin(store, full, at(3)).await;
    drive.ends(1, CursorEnd::Unchanged(super::kit::part_name("p"))).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Partial);
    assert_eq!(known(store).await.len(), 1);
}

async fn a_broken_chain_heals<B: SchedulerBackend>(store: &B) {
    let drive = Drive::begin(store, plan(&[1]), at(0)).await;
    drive.read(1, said().names(&["a"]).next(2)).await;
    drive.fails(2).await;
    drive.end(RunOutcome::Complete).await;
    // The chain is asked from its beginning and the gap beside it: the chain meets it, and that is
    // no loop; and what follows the gap is asked once.
    let drive = Drive::begin(store, plan(&[1]), at(1)).await;
    assert_eq!(drive.pending, 2);
    let counts = drive.read(1, said().names(&["a"]).next(2)).await;
    assert_eq!((counts.gaps, counts.followed), (0, 0));
    drive.read(2, said().names(&["b"]).next(3)).await;
    drive.read(3, said().names(&["c"])).await;
    drive.idle().await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
    // A gap of a page that repeats the one before: healed only when it says something else.
    let drive = Drive::begin(store, plan(&[1]), at(2)).await;
    drive.read(1, said().names(&["a"]).next(2)).await;
    assert_eq!(drive.read(2, said().names(&["a"])).await.gaps, 1);
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[1]), at(3)).await;
    let (first, second) = (drive.take(1).await, drive.take(2).await);
    drive.done(&second, said().names(&["a"])).await;
    drive.done(&first, said().names(&["a"]).next(2)).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Partial, "it still repeats");
    let drive = Drive::begin(store, plan(&[1]), at(4)).await;
    let (first, second) = (drive.take(1).await, drive.take(2).await);
    drive.done(&first, said().names(&["a"]).next(2)).await;
    drive.done(&second, said().names(&["b"])).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
}

async fn gaps_of_other_parameters_are_not_asked<B: SchedulerBackend>(store: &B) {
    let mut topic = plan(&[1]);
    topic.parameters.insert("topic".to_owned(), "rust".into());
    let drive = Drive::begin(store, topic.clone(), at(0)).await;
    drive.fails(1).await;
    drive.end(RunOutcome::Complete).await;
    let drive = Drive::begin(store, plan(&[2]), at(1)).await;
    assert_eq!(drive.pending, 1);
    drive.read(2, said().names(&["a"])).await;
    assert_eq!(drive.end(RunOutcome::Complete).await.run.outcome, RunOutcome::Complete);
    assert_eq!(known(store).await.len(), 1, "it stays open for its own runs");
    topic.start = vec![page(3)];
    assert_eq!(Drive::begin(store, topic, at(1)).await.pending, 2);
}
