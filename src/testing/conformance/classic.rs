//! The incumbent's orders in a store: first visits after a listing, and three strikes.

use std::future::Future;

use super::claims::{outcome, succeed, take, urls};
use super::kit::{at, key, list, lister, said, url};
use crate::backend::{Claim, ImportedOrigin, SchedulerBackend};
use crate::model::{ListerKey, OriginKey, VisitStatus, VisitType};
use crate::policy::{Classic, Order, Policies};

/// The incumbent's orders, in fresh stores that are made with policies.
pub async fn classic<B, Fut>(make: impl Fn(Policies) -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    let first = || Policies::all(Classic::only(Order::FirstVisitsAfterListing));
    a_listing_that_ends_makes_its_origins_wait_again(&make(first()).await).await;
    three_strikes_stop_one_way_of_visiting(&make(Policies::all(Classic::swh_dvcs())).await).await;
}

/// More origins than are placed again at once, so that it takes several batches.
async fn a_listing_that_ends_makes_its_origins_wait_again<B: SchedulerBackend>(store: &B) {
    let names: Vec<String> = (0..1500).map(|n| format!("r{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    list(store, at(0), said().names(&names)).await;
    let theirs = ListerKey::new("conformance", "mirror.example");
    let mirrored = ImportedOrigin::new(&theirs, url("theirs"), VisitType::git());
    store.import(vec![mirrored], at(0)).await.unwrap();
    let visits = take(store, 2000, at(1)).await;
    assert_eq!(visits.len(), 1501);
    succeed(store, &visits, at(1)).await;
    assert!(take(store, 2000, at(20)).await.is_empty(), "visited since the listing");
    list(store, at(21), said().names(&names)).await;
    // Claims name the lister: the other one's listing has not ended again.
    let claim = |of: ListerKey| {
        let mut claim = Claim::new(VisitType::git(), 2000);
        claim.lister = Some(of);
        claim
    };
    assert!(store.claim(&claim(theirs), at(22)).await.unwrap().visits.is_empty());
    let again = store.claim(&claim(lister()), at(22)).await.unwrap().visits;
    assert_eq!(again.len(), 1500);
    assert!(again.iter().all(|v| v.lane == "first_visits_after_listing" && v.instance == "forge.example"));
    succeed(store, &again, at(22)).await;
    assert!(take(store, 2000, at(40)).await.is_empty());
}

async fn three_strikes_stop_one_way_of_visiting<B: SchedulerBackend>(store: &B) {
    let hg = VisitType::new("hg").unwrap();
    let both = [VisitType::git(), hg.clone()].map(|t| ImportedOrigin::new(&lister(), url("a"), t));
    store.import(both.to_vec(), at(0)).await.unwrap();
    for (n, day) in [1i64, 20, 40].into_iter().enumerate() {
        let visits = take(store, 1, at(day * 24)).await;
        assert_eq!(urls(&visits), [url("a")], "failure {n}");
        let failed = outcome(&visits[0], VisitStatus::Failed, at(day * 24));
        store.complete(&[failed], at(day * 24)).await.unwrap()[0].clone().unwrap();
    }
    assert!(take(store, 1, at(5000)).await.is_empty());
    let why = async |key: &OriginKey| store.explain(key, at(5000)).await.unwrap().unwrap().reason.code;
    assert_eq!(why(&key("a")).await, "disabled_by_failures");
    let other = OriginKey::new(url("a"), hg.clone());
    assert_ne!(why(&other).await, "disabled_by_failures", "the other way is not stopped");
    assert_eq!(store.claim(&Claim::new(hg, 1), at(5000)).await.unwrap().visits.len(), 1);
    // Listed again, it stays stopped; allowed again, it is visited.
    list(store, at(5001), said().names(&["a"])).await;
    assert!(take(store, 1, at(5002)).await.is_empty());
    store.set_disabled(&[key("a")], None, at(5003)).await.unwrap();
    assert_eq!(take(store, 1, at(5003)).await.len(), 1);
}
