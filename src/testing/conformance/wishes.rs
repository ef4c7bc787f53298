//! What people and others say of an origin: requests, hints, stops.

use std::future::Future;

use super::claims::{outcome, succeed, take, urls};
use super::kit::{at, import_all, key, list, one, origin, said, url};
use crate::backend::{Hint, Hinted, Requested, SchedulerBackend, VisitRequest};
use crate::model::{GoneReason, VisitStatus};

/// Requests, hints, and visits stopped and allowed by hand.
pub async fn wishes<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    a_request_knows_who_asked(&make().await).await;
    a_request_of_what_is_stopped_has_no_date(&make().await).await;
    a_hint_is_taken_where_it_is_news(&make().await).await;
    to_enable_counts_failures_anew(&make().await).await;
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
