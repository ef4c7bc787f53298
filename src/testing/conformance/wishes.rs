//! What people and others say of an origin: requests, hints, stops.

use std::future::Future;

use super::claims::{outcome, succeed, take, urls};
use super::kit::{at, import_all, key, list, one, origin, said, url};
use crate::backend::{Hint, Hinted, Requested, SchedulerBackend, VisitRequest};
use crate::model::{GoneReason, Timestamp, VisitStatus};

/// Requests, hints, and visits stopped and allowed by hand.
pub async fn wishes<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    a_request_knows_who_asked(&make().await).await;
    a_request_of_what_is_stopped_has_no_date(&make().await).await;
    a_hint_is_taken_where_it_is_news(&make().await).await;
    a_false_hint_costs_one_visit(&make().await).await;
    to_enable_counts_failures_anew(&make().await).await;
    a_thousand_equal_requests_are_one_visit(&make().await).await;
    who_asks_too_often_is_told_when_to_ask_again(&make().await).await;
    requests_leave_the_others_their_share(&make().await).await;
}

async fn ask<B: SchedulerBackend>(store: &B, name: &str, by: &str, hour: i64) -> Requested {
    let wish = VisitRequest::new(key(name), by);
    store.request(&[wish], at(hour)).await.unwrap().remove(0).expect("it is known")
}

async fn a_request_knows_who_asked<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b"], at(0)).await;
    ask(store, "b", "the front desk", 1).await;
    ask(store, "b", "somebody later", 2).await;
    let by = async || store.explain(&key("b"), at(2)).await.unwrap().unwrap().requested_by;
    assert_eq!(by().await.as_deref(), Some("the front desk"), "the first wish counts");
    let visits = take(store, 1, at(3)).await;
    assert!(visits[0].reason.text.contains("the front desk"), "{}", visits[0].reason.text);
    succeed(store, &visits, at(3)).await;
    assert_eq!(by().await, None, "fulfilled");
}

async fn a_request_of_what_is_stopped_has_no_date<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a", "b"]).origin(origin("off").with_enabled(false))).await;
    let mut gone = said().names(&["a"]).origin(origin("off").with_enabled(false));
    gone.0.gone.push((key("b"), GoneReason::Deleted));
    list(store, at(1), gone).await;
    store.set_disabled(&[key("a")], Some("asked to"), at(1)).await.unwrap();
    for (name, why) in [("a", "disabled_by_hand"), ("b", "gone"), ("off", "not_enabled")] {
        let answer = ask(store, name, "me", 2).await;
        let parked = answer.parked.clone().map(|r| r.code);
        assert_eq!((answer.due, parked.as_deref(), answer.position), (None, Some(why), 0), "{name}");
    }
    assert!(take(store, 9, at(3)).await.is_empty());
    // The wish is kept, and counts when the stop ends.
    store.set_disabled(&[key("a")], None, at(4)).await.unwrap();
    let visits = take(store, 9, at(4)).await;
    assert_eq!((urls(&visits), visits[0].lane.as_str()), (vec![url("a").as_str()], "requested"));
    assert_eq!(
        (ask(store, "a", "me", 4).await.due, ask(store, "a", "me", 4).await.parked),
        (Some(at(5)), None)
    );
}

async fn a_hint_is_taken_where_it_is_news<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().origin(origin("a").with_last_update(at(-5))).names(&["b"])).await;
    let visits = take(store, 2, at(1)).await;
    succeed(store, &visits, at(1)).await;
    let hint = |name: &str, hour| Hint::new(key(name), at(hour), "events");
    let hints = [hint("a", 3), hint("unheard-of", 3), hint("b", 1), hint("a", 2), hint("b", 4)];
    let answers = store.hint(&hints, at(5)).await.unwrap();
    let expected = [(true, true), (false, false), (true, false), (true, false), (true, true)];
    assert_eq!(answers, expected.map(|(known, placed)| Hinted::new(known, placed)));
    assert!(store.hint(&[], at(5)).await.unwrap().is_empty());
    // A listing that tells of the same change later is believed too, and nothing is undone.
    list(store, at(6), said().origin(origin("a").with_last_update(at(3))).names(&["b"])).await;
    assert_eq!(one(store, "a").await.last_update, Some(at(3)), "what the lister says is the lister's");
    assert_eq!(store.hint(&[hint("a", 3)], at(6)).await.unwrap(), [Hinted::new(true, false)]);
}

async fn a_false_hint_costs_one_visit<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().origin(origin("a").with_last_update(at(-5))).names(&["b", "c"])).await;
    let visits = take(store, 3, at(1)).await;
    succeed(store, &visits, at(1)).await;
    let hint = |name: &str| Hint::new(key(name), at(2), "events");
    assert_eq!(store.hint(&[hint("a")], at(3)).await.unwrap(), [Hinted::new(true, true)]);
    for n in 0..1000 {
        assert_eq!(store.hint(&[hint("a")], at(3)).await.unwrap(), [Hinted::new(true, false)], "{n}");
    }
    let visits = take(store, 9, at(20)).await;
    let counted = visits.iter().filter(|v| v.url == url("a")).count();
    assert_eq!(counted, 1, "one visit, however often it is told");
    let outcomes: Vec<_> =
        visits.iter().map(|v| outcome(v, VisitStatus::Successful, at(20)).with_changed(false)).collect();
    for answer in store.complete(&outcomes, at(20)).await.unwrap() {
        answer.unwrap();
    }
    // It was false: nothing is left of it, and told again it is no news.
    assert_eq!(store.hint(&[hint("a")], at(21)).await.unwrap(), [Hinted::new(true, false)]);
    assert!(take(store, 9, at(21)).await.is_empty());
    assert_eq!(one(store, "a").await.last_update, Some(at(-5)));
}

async fn a_thousand_equal_requests_are_one_visit<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b"], at(0)).await;
    let wish = VisitRequest::new(key("b"), "an eager one");
    let answers = store.request(&vec![wish.clone(); 500], at(1)).await.unwrap();
    let mut positions: Vec<_> = answers.into_iter().flatten().map(|a| (a.position, a.again_at)).collect();
    for n in 0..500 {
        let by = VisitRequest::new(key("b"), format!("caller {}", n % 7));
        let answer = store.request(&[by], at(1)).await.unwrap().remove(0).unwrap();
        positions.push((answer.position, answer.again_at));
    }
    assert_eq!(positions, vec![(0, None); 1000]);
    let visits = take(store, 1, at(2)).await;
    assert_eq!((urls(&visits), visits[0].lane.as_str()), (vec![url("b").as_str()], "requested"));
    succeed(store, &visits, at(2)).await;
    let lanes: Vec<_> = take(store, 9, at(20)).await.into_iter().map(|v| v.lane).collect();
    assert_eq!(lanes, ["oldest", "oldest"], "none of them is left");
}

/// A store allows a requester a thousand new requests a day, if it is not told otherwise.
async fn who_asks_too_often_is_told_when_to_ask_again<B: SchedulerBackend>(store: &B) {
    let names: Vec<String> = (0..1003).map(|n| format!("r{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    import_all(store, &names, at(0)).await;
    let wishes: Vec<_> = names.iter().map(|n| VisitRequest::new(key(n), "mallory")).collect();
    let answers = store.request(&wishes[..1000], at(1)).await.unwrap();
    assert!(answers.iter().flatten().all(|a| a.again_at.is_none() && a.due.is_some()));
    // The thousandth part of a day later there is room for one.
    let again = Timestamp::from_micros(at(1).as_micros() + 86_400_000);
    let refused = async |n: usize, now| {
        let answer = store.request(&wishes[n..=n], now).await.unwrap().remove(0).unwrap();
        answer.again_at
    };
    assert_eq!(refused(1000, at(1)).await, Some(again));
    assert_eq!(refused(3, at(1)).await, None, "what was asked for is no new request");
    let other = VisitRequest::new(key("r1001"), "alice");
    assert_eq!(store.request(&[other], at(1)).await.unwrap()[0].as_ref().unwrap().again_at, None);
    assert_eq!(refused(1000, again).await, None);
    assert_eq!(refused(1002, again).await, Some(Timestamp::from_micros(again.as_micros() + 86_400_000)));
    let why = store.explain(&key("r1002"), again).await.unwrap().unwrap();
    assert_eq!(why.requested_by, None, "a refused request leaves nothing");
    assert_eq!(refused(1002, at(25)).await, None);
}

/// Nine origins of ten are requested, and more than can be visited: the others get a fifth of every
/// claim, give or take one.
async fn requests_leave_the_others_their_share<B: SchedulerBackend>(store: &B) {
    let names: Vec<String> = (0..900).map(|n| format!("r{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    import_all(store, &names, at(0)).await;
    let wish = |n: usize| VisitRequest::new(key(names[n]), format!("caller {}", n % 3));
    let wishes: Vec<_> = (0..900).filter(|n| n % 10 != 0).map(wish).collect();
    store.request(&wishes, at(1)).await.unwrap();
    let (mut others, mut all) = (0usize, 0usize);
    for size in [1, 7, 10, 64, 1, 1, 1, 2, 3, 100, 33, 9] {
        let visits = take(store, size, at(2)).await;
        let background = visits.iter().filter(|v| v.lane != "requested").count();
        assert!((5 * background).abs_diff(size) <= 5, "{background} of {size}");
        (others, all) = (others + background, all + visits.len());
    }
    assert!((5 * others).abs_diff(all) <= 5, "{others} of {all}");
}

async fn to_enable_counts_failures_anew<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let visits = take(store, 1, at(1)).await;
    store.complete(&[outcome(&visits[0], VisitStatus::Failed, at(1))], at(1)).await.unwrap()[0]
        .clone()
        .unwrap();
    assert!(take(store, 1, at(14)).await.is_empty(), "held");
    store.set_disabled(&[key("a")], Some("broken"), at(14)).await.unwrap();
    assert_eq!(store.set_disabled(&[key("a")], None, at(14)).await.unwrap(), 1);
    let stats = store.stats(&[key("a")]).await.unwrap().remove(0).unwrap();
    assert_eq!((stats.failures_in_a_row, stats.visits), (0, 1));
    assert_eq!(take(store, 1, at(14)).await.len(), 1, "who allows it does not want it held");
}
