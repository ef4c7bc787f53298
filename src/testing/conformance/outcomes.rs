//! Outcomes: late, repeated, out of order, and what they say of a change.

use std::future::Future;

use super::claims::{outcome, succeed, take, urls};
use super::kit::{at, import_all, key, list, one, origin, said};
use crate::backend::{Refusal, SchedulerBackend};
use crate::model::{Outcome, Timestamp, VisitId, VisitStatus, VisitToken};

/// Outcomes: taken once, from the right holder, and harmless in any order.
pub async fn outcomes<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    an_outcome_is_taken_once(&make().await).await;
    a_late_outcome_counts_while_nobody_else_has_the_visit(&make().await).await;
    a_late_report_of_an_old_visit_is_only_counted(&make().await).await;
    a_change_is_told_or_seen(&make().await).await;
    failures_are_held_longer_each_time(&make().await).await;
    what_was_not_found_is_visited_again_when_listed_again(&make().await).await;
}

async fn an_outcome_is_taken_once<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b"], at(0)).await;
    let visits = take(store, 2, at(0)).await;
    // A token newer than the visit's own is another visit's, and no right to this one.
    let newer = Outcome::new(visits[0].visit, visits[1].token, VisitStatus::Successful, at(1));
    assert_eq!(store.complete(&[newer], at(1)).await.unwrap(), [Err(Refusal::Unknown)]);
    let first = outcome(&visits[0], VisitStatus::Successful, at(1));
    let unknown_visit = Outcome::new(VisitId(987_654), visits[0].token, VisitStatus::Successful, at(1));
    let unheard_token = Outcome::new(visits[1].visit, VisitToken(987_654), VisitStatus::Successful, at(1));
    let no_token = Outcome::new(visits[1].visit, VisitToken(0), VisitStatus::Successful, at(1));
    let batch = [first.clone(), first.clone(), unknown_visit, unheard_token, no_token];
    let answers = store.complete(&batch, at(1)).await.unwrap();
    assert_eq!(answers[0].as_ref().unwrap().origin, key("a"));
    assert_eq!(
        answers[1..],
        [Err(Refusal::Duplicate), Err(Refusal::Unknown), Err(Refusal::Unknown), Err(Refusal::Unknown)]
    );
    // Another visit's token is no right to this one.
    let crossed = Outcome::new(visits[1].visit, visits[0].token, VisitStatus::Successful, at(1));
    store.complete(&[crossed], at(1)).await.unwrap()[0].clone().unwrap_err();
    let stats = store.stats(&[key("a"), key("b")]).await.unwrap();
    assert_eq!(stats[0].as_ref().unwrap().visits, 1);
    assert_eq!(stats[1].as_ref().unwrap().visits, 0);
    succeed(store, &visits[1..], at(1)).await;
}

async fn a_late_outcome_counts_while_nobody_else_has_the_visit<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let visits = take(store, 1, at(0)).await;
    // The lease ended hours ago, but nothing was claimed since.
    succeed(store, &visits, at(5)).await;
    assert!(take(store, 1, at(5)).await.is_empty(), "it was visited, not given back");
}

async fn a_late_report_of_an_old_visit_is_only_counted<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let visits = take(store, 1, at(0)).await;
    let micro = Timestamp::from_micros(at(10).as_micros() + 1);
    let newest = outcome(&visits[0], VisitStatus::Successful, micro).with_snapshot("s2");
    store.complete(&[newest], at(10)).await.unwrap()[0].clone().unwrap();
    let visits = take(store, 1, at(30)).await;
    let old = outcome(&visits[0], VisitStatus::Failed, at(3)).with_snapshot("s1");
    let answer = store.complete(&[old], at(30)).await.unwrap()[0].clone().unwrap();
    assert!(answer.out_of_order && answer.changed.is_none());
    let stats = store.stats(&[key("a")]).await.unwrap()[0].clone().unwrap();
    assert_eq!((stats.visits, stats.last_visit, stats.last_successful), (2, Some(micro), Some(micro)));
    assert_eq!((stats.last_status, stats.failures_in_a_row), (Some(VisitStatus::Successful), 0));
    assert_eq!(stats.last_snapshot.as_deref(), Some("s2"));
}

async fn a_change_is_told_or_seen<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let cases: [(Option<&str>, Option<bool>, Option<bool>); 7] = [
        (None, None, None),
        (Some("s1"), None, None),
        (Some("s1"), None, Some(false)),
        (Some("s2"), None, Some(true)),
        (Some("s2"), Some(true), Some(true)),
        (Some("s3"), Some(false), Some(false)),
        (None, None, None),
    ];
    for (day, (snapshot, told, expected)) in (1..).zip(cases) {
        let now = at(day * 24);
        let visits = take(store, 1, now).await;
        let mut report = outcome(&visits[0], VisitStatus::Successful, now);
        report.snapshot = snapshot.map(str::to_owned);
        report.changed = told;
        let answer = store.complete(&[report], now).await.unwrap()[0].clone().unwrap();
        assert_eq!(answer.changed, expected, "day {day}");
    }
}

async fn failures_are_held_longer_each_time<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let mut now = at(0);
    for (days, n) in [(1i64, 1u32), (2, 2), (4, 3)] {
        let visits = take(store, 1, now).await;
        assert_eq!(visits.len(), 1);
        store.complete(&[outcome(&visits[0], VisitStatus::Failed, now)], now).await.unwrap()[0]
            .clone()
            .unwrap();
        let stats = store.stats(&[key("a")]).await.unwrap()[0].clone().unwrap();
        assert_eq!((stats.failures_in_a_row, stats.last_successful), (n, None));
        // Within ten percent of so many days, and not a moment before.
        let why = store.explain(&key("a"), now).await.unwrap().unwrap();
        let until = why.earliest.unwrap();
        let days_held = until.since(now).as_secs_f64() / 86_400.0;
        #[allow(clippy::cast_precision_loss, reason = "a few days")]
        let expected = days as f64;
        assert!((0.9 * expected..=1.1 * expected).contains(&days_held), "{days_held} days");
        assert_eq!(why.reason.code, "hold");
        assert!(take(store, 1, Timestamp::from_micros(until.as_micros() - 1)).await.is_empty());
        now = until;
    }
    let visits = take(store, 1, now).await;
    succeed(store, &visits, now).await;
    let stats = store.stats(&[key("a")]).await.unwrap()[0].clone().unwrap();
    assert_eq!((stats.failures_in_a_row, stats.visits), (0, 4));
}

async fn what_was_not_found_is_visited_again_when_listed_again<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a"])).await;
    let visits = take(store, 1, at(1)).await;
    store.complete(&[outcome(&visits[0], VisitStatus::NotFound, at(1))], at(1)).await.unwrap()[0]
        .clone()
        .unwrap();
    assert!(take(store, 1, at(100)).await.is_empty(), "left alone for about a week");
    // Listed just as before: no news for the feed, and yet the hold is over.
    let counts = list(store, at(100), said().names(&["a"])).await;
    assert_eq!((counts.changed, counts.unchanged), (0, 1));
    assert_eq!(urls(&take(store, 1, at(100)).await).len(), 1);
    assert!(one(store, "a").await.enabled && origin("a").enabled);
}
