//! Classes with a maximum age: met while visits suffice, and missed in the declared order.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use super::kit::{at, url};
use crate::backend::{Claim, ImportedOrigin, SchedulerBackend, StoreOptions};
use crate::model::{ListerKey, Outcome, Timestamp, VisitStatus, VisitType};
use crate::policy::{AgeClass, Policies, RoundRobin};

const DAY: u64 = 86_400;

/// (Class, cap in days, origins); the last one is no class.
const CLASSES: [(&str, u64, usize); 4] =
    [("first", 10, 60), ("second", 20, 80), ("third", 30, 90), ("others", 100_000, 200)];

/// Classes with a maximum age, in fresh stores that are made with options.
pub async fn ages<B, Fut>(make: impl Fn(StoreOptions) -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    // 6 + 4 + 3 visits a day keep all caps.
    for (hours, visits, spread) in
        [(24, 13, 1), (6, 13, 4), (6, 15, 4), (6, 17, 4), (6, 26, 4), (1, 14, 24), (1, 24, 24)]
    {
        let missed = run(&make(options()).await, hours, (visits, spread)).await;
        assert_eq!(missed, BTreeMap::new(), "{visits} a day, every {hours} hours: enough for all");
    }
    // Half of that, and a little less: only the worse classes are missed, the last one first.
    let missed = run(&make(options()).await, 6, (7, 4)).await;
    assert!(missed.contains_key("third"), "{missed:?}");
    assert!(!missed.contains_key("first"), "{missed:?}");
    let missed = run(&make(options()).await, 24, (10, 1)).await;
    assert_eq!(missed.keys().collect::<Vec<_>>(), ["third"], "enough for two classes: {missed:?}");
    // The twin: without classes the same visits miss the caps of all.
    let plain = StoreOptions::default().with_policies(Policies::all(RoundRobin));
    let missed = run(&make(plain).await, 6, (13, 4)).await;
    assert!(missed.contains_key("first"), "{missed:?}");
}

fn options() -> StoreOptions {
    let classes = CLASSES.iter().take(3).map(|(name, days, _)| {
        AgeClass::new(*name, Duration::from_secs(days * DAY)).of_instance(*name).of_type("git")
    });
    let options = StoreOptions::default().with_policies(Policies::all(RoundRobin));
    classes.fold(options, StoreOptions::with_max_age)
}

/// Half a year of claims, so many a day in so many pieces. Returns the worst age of each class that
/// was older than its cap, in hours.
async fn run<B: SchedulerBackend>(store: &B, hours: i64, per_day: (usize, usize)) -> BTreeMap<String, u64> {
    let mut last: BTreeMap<String, (usize, Timestamp)> = BTreeMap::new();
    for (class, (name, _, count)) in CLASSES.iter().enumerate() {
        let lister = ListerKey::new("conformance", *name);
        let names = (0..*count).map(|n| url(&format!("{name}/{n}")));
        let origins: Vec<_> = names.map(|u| ImportedOrigin::new(&lister, u, VisitType::git())).collect();
        last.extend(origins.iter().map(|o| (o.url.clone(), (class, at(0)))));
        store.import(origins, at(0)).await.unwrap();
    }
    let mut missed = BTreeMap::new();
    let mut judge = |class: usize, age: Duration| {
        let (name, days, _) = CLASSES[class];
        if age > Duration::from_secs(days * DAY) {
            let worst = missed.entry(name.to_owned()).or_insert(0);
            *worst = age.as_secs().div_ceil(3600).max(*worst);
        }
    };
    let (visits, pieces) = per_day;
    let mut now = at(0);
    for piece in 1..=(180 * 24 / usize::try_from(hours).unwrap()) {
        now = at(i64::try_from(piece).unwrap() * hours);
        let count = visits * piece / pieces - visits * (piece - 1) / pieces;
        let claim = Claim::new(VisitType::git(), count).with_lease(Duration::from_secs(60));
        let mut outcomes = Vec::new();
        for visit in store.claim(&claim, now).await.unwrap().visits {
            let (class, before) = last[&visit.url];
            judge(class, now.since(before));
            last.insert(visit.url, (class, now));
            outcomes.push(Outcome::new(visit.visit, visit.token, VisitStatus::Successful, now));
        }
        store.complete(&outcomes, now).await.unwrap();
    }
    for (class, before) in last.values() {
        judge(*class, now.since(*before));
    }
    missed
}
