//! What `explain` foretells comes true: over random states, the claims to come are made in the store
//! itself until the origin is handed out, at the time that was told and with the gate that was last to
//! open. `SEED=7` repeats one state; `LAMPLIGHTER_EXPLAIN_STATES` says how many there are.
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a test may fail"
)]

#[path = "common/random.rs"]
mod random;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use lamplighter::backend::{
    Claim, Explanation, Hint, ImportedOrigin, MemoryStore, OriginStore, StoreOptions, Turn, VisitRequest,
    VisitStore,
};
use lamplighter::model::{ListerKey, OriginKey, Outcome, Timestamp, VisitStatus, VisitType};
use lamplighter::policy::{AgeClass, Gate, Policies, named};
use random::Random;

const TICK: i64 = 6;
const ORIGINS: u64 = 12;
/// After so many claims it is not waited any longer.
const STEPS: i64 = 80;
const POLICIES: [&str; 6] =
    ["oldest", "round_robin", "swh_default", "nutch", "due,budget=8", "due,budget=2,guard=0.2"];

fn at(hours: i64) -> Timestamp {
    Timestamp::from_seconds(1_770_000_000 + hours * 3600)
}

fn key(n: u64) -> OriginKey {
    OriginKey::new(format!("https://forge.example/{n}"), VisitType::git())
}

/// A store in which things have happened, and the hour of its last claim.
async fn past(rng: &mut Random) -> (MemoryStore, i64, usize) {
    let policy = named(POLICIES[rng.below(POLICIES.len() as u64) as usize]).unwrap();
    let mut options = StoreOptions::default().with_policies(Policies::all(policy));
    if rng.below(3) == 0 {
        let cap = Duration::from_secs(86_400 * (2 + rng.below(9)));
        options = options.with_max_age(AgeClass::new("some", cap).of_instance("1"));
    }
    let store = MemoryStore::with_options(options);
    let origins = (0..ORIGINS).map(|n| {
        let lister = ListerKey::new("random", rng.below(2).to_string());
        let mut origin = ImportedOrigin::new(&lister, key(n).url, VisitType::git());
        origin.first_seen = Some(at(-(rng.below(900) as i64)));
        origin.last_update = (rng.below(3) > 0).then(|| at(-(rng.below(2000) as i64)));
        origin
    });
    store.import(origins.collect(), at(0)).await.unwrap();
    let size = 1 + rng.below(3) as usize;
    let ticks = 3 + rng.below(12) as i64;
    for tick in 1..=ticks {
        let now = at(tick * TICK);
        let lease = Duration::from_secs(3600 * (1 + rng.below(90)));
        let claim = Claim::new(VisitType::git(), size).with_lease(lease);
        let mut outcomes = Vec::new();
        for visit in store.claim(&claim, now).await.unwrap().visits {
            let status = match rng.below(10) {
                0 | 1 => continue,
                2 => VisitStatus::Failed,
                3 => VisitStatus::NotFound,
                4 => VisitStatus::Partial,
                _ => VisitStatus::Successful,
            };
            let outcome = Outcome::new(visit.visit, visit.token, status, now);
            outcomes.push(outcome.with_changed(rng.below(2) == 0));
        }
        store.complete(&outcomes, now).await.unwrap();
        let origin = key(rng.below(ORIGINS));
        match rng.below(8) {
            0 => drop(store.request(&[VisitRequest::new(origin, "somebody")], now).await.unwrap()),
            1 => drop(store.hint(&[Hint::new(origin, now, "events")], now).await.unwrap()),
            2 => drop(store.set_disabled(&[origin], Some("a whim"), now).await.unwrap()),
            _ => {}
        }
    }
    (store, ticks, size)
}

/// The closed gates, in the order in which they are asked.
fn closed(explained: &Explanation) -> Vec<(Gate, Option<Timestamp>)> {
    let gates = explained.gates.iter().filter(|g| !g.open && g.gate != Gate::Lane);
    gates.map(|g| (g.gate, g.opens_at)).collect()
}

/// Returns how many were handed out, and how often each gate was the last one.
async fn foretold(seed: u64) -> HashMap<Gate, u64> {
    let mut rng = Random(seed);
    let (store, ticks, size) = past(&mut rng).await;
    let now = at(ticks * TICK + rng.below(TICK as u64) as i64);
    let mut turns: Vec<Option<Turn>> = Vec::new();
    let mut before = Vec::new();
    for n in 0..ORIGINS {
        let explained = store.explain(&key(n), now).await.unwrap().unwrap();
        before.push(closed(&explained));
        turns.push(explained.turn);
    }
    let mut told = HashMap::new();
    let mut waiting: Vec<u64> = (0..ORIGINS).collect();
    for step in 1..=STEPS {
        let time = at((ticks + step) * TICK);
        // What the gates say now, for whom it is the turn now or at the next claim.
        let mut states = BTreeMap::new();
        for n in &waiting {
            let turn = turns[*n as usize].map(|t| t.at);
            if turn == Some(time) || turn == Some(at((ticks + step + 1) * TICK)) {
                states.insert(*n, closed(&store.explain(&key(*n), time).await.unwrap().unwrap()));
            }
        }
        let claim = Claim::new(VisitType::git(), size).with_lease(Duration::from_secs(1_000_000_000));
        let visits = store.claim(&claim, time).await.unwrap().visits;
        for n in std::mem::take(&mut waiting) {
            let taken = visits.iter().any(|v| v.url == key(n).url);
            let turn = turns[n as usize];
            assert_eq!(
                turn.filter(|t| t.exact).map(|t| t.at) == Some(time),
                taken,
                "SEED={seed}: origin {n} at {time}, told {turn:?}"
            );
            if !taken {
                waiting.push(n);
                continue;
            }
            // What was closed at the last look and is open now; of two that opened together, the first.
            let mut last = (Gate::Lane, None);
            for (gate, opened) in &before[n as usize] {
                if states[&n].iter().all(|(closed, _)| closed != gate) && *opened > last.1 {
                    last = (*gate, *opened);
                }
            }
            let last = last.0;
            assert_eq!(turn.unwrap().gate, last, "SEED={seed}: origin {n}");
            *told.entry(last).or_insert(0) += 1;
        }
        for (n, closed) in states {
            before[n as usize] = closed;
        }
    }
    told
}

#[tokio::test]
async fn what_is_foretold_comes_true() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|s| s.parse().ok()) {
        println!("{:?}", foretold(seed).await);
        return;
    }
    let states =
        std::env::var("LAMPLIGHTER_EXPLAIN_STATES").ok().and_then(|s| s.parse().ok()).unwrap_or(10_000);
    let mut seen: HashMap<Gate, u64> = HashMap::new();
    for seed in 0..u64::div_ceil(states, ORIGINS) {
        for (gate, n) in foretold(seed).await {
            *seen.entry(gate).or_insert(0) += n;
        }
    }
    println!("explain: {} states, handed out after {seen:?}", states.next_multiple_of(ORIGINS));
    // Every gate that opens by itself has been the last one.
    for gate in [Gate::Hold, Gate::MinimumInterval, Gate::Due, Gate::Lease, Gate::Lane] {
        assert!(seen.contains_key(&gate), "{gate:?} never: {seen:?}");
    }
}
