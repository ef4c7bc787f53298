//! Defects of the incumbent's scheduler that ours must not have, each shown on a naive double too.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::executor::block_on;
use lamplighter::backend::{Claim, ImportedOrigin, MemoryStore, OriginStore, VisitStore};
use lamplighter::model::{ListerKey, Outcome, Timestamp, VisitStatus, VisitType};
use lamplighter::policy::{Policies, named};
use lamplighter::sim::World;

use crate::run;

const URL: &str = "https://forge.example/repository";

/// Failures counted, and visits stopped, by URL alone.
#[derive(Default)]
struct ByUrl {
    failures: HashMap<String, u32>,
    stopped: HashSet<String>,
}

impl ByUrl {
    fn failed(&mut self, url: &str) {
        let failures = self.failures.entry(url.to_owned()).or_default();
        *failures += 1;
        if *failures >= 3 {
            self.stopped.insert(url.to_owned());
        }
    }
}

/// D5: three failed visits of one type stopped the visits of every type.
#[test]
fn d5_failures_of_one_visit_type_stop_no_other() {
    let types = [VisitType::new("hg").unwrap(), VisitType::git()];
    let store = MemoryStore::with_policies(Policies::all(named("swh_default").unwrap()));
    let mut double = ByUrl::default();
    let mut now = Timestamp::from_seconds(1_600_000_000);
    let lister = ListerKey::new("forge", "forge.example");
    let origin = |t: &VisitType| ImportedOrigin::new(&lister, URL, t.clone());
    block_on(store.import(types.iter().map(origin).collect(), now)).unwrap();
    let mut failed = 0;
    // Long enough for every hold; the fourth time there is nothing left to fail.
    for _ in 0..4 {
        now = now.plus(Duration::from_secs(40 * 86_400));
        for visit in block_on(store.claim(&Claim::new(types[0].clone(), 1), now)).unwrap().visits {
            failed += 1;
            double.failed(&visit.url);
            let outcome = Outcome::new(visit.visit, visit.token, VisitStatus::Failed, now);
            block_on(store.complete(&[outcome], now)).unwrap()[0].as_ref().unwrap();
        }
    }
    assert_eq!(failed, 3, "three failures stop the visits of their own type");
    let other = block_on(store.claim(&Claim::new(types[1].clone(), 1), now)).unwrap().visits;
    assert_eq!(other.iter().map(|v| v.url.as_str()).collect::<Vec<_>>(), [URL]);
    assert!(double.stopped.contains(URL), "the double stops them all");
}

/// Days from one visit to the next, after so many that found nothing new.
fn naive_gap(uneventful: u32) -> f64 {
    match (4 + uneventful).min(10) {
        0 | 1 => 1.0,
        2..=4 => 2.0,
        offset => 4f64.powi(i32::try_from(offset).unwrap() - 4),
    }
}

/// D13: who never changed was left alone for eleven years.
#[test]
fn d13_who_never_changes_is_visited_again() {
    let kinds = r#"{"0":[0,0,0,0]}"#;
    let mut text = format!(
        r#"{{"n":20,"T_days":5000,"tick_days":1,"measure_from":0,"volume_per_day":0.5,"kinds":{kinds}}}"#
    );
    for i in 0..20 {
        let spread = f64::from(i) / 20.0;
        let origin = format!(r#"{{"k":0,"ph":{spread},"fs":-86400,"dead":0,"u":{spread},"ev":[],"sg":[]}}"#);
        text = format!("{text}\n{origin}");
    }
    let world = World::read(text.as_bytes()).unwrap();
    let longest = run(&world, "due", 1.0).longest_unvisited;
    assert!(longest > 0.0 && longest <= 1.1 * 1400.0, "{longest}");
    let mut day = 0.0;
    let mut gaps = Vec::new();
    while day < 5000.0 {
        gaps.push(naive_gap(u32::try_from(gaps.len()).unwrap()));
        day += gaps.last().unwrap();
    }
    assert_eq!(gaps, [2.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0], "the double waits for eleven years");
}
