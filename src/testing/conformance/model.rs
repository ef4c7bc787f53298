//! Random operations on a store beside a model of a few lines.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use super::claims::outcome;
use super::kit::{Drive, all, at, key, lister, news, plan, said, url};
use crate::backend::{Claim, ImportedOrigin, Refusal, SchedulerBackend, Visit};
use crate::model::{Timestamp, VisitStatus, VisitType};

/// What the model knows of an origin.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The order in which origins were made: of equals, the older first.
    made: usize,
    first_seen: i64,
    last_visit: Option<i64>,
    visits: u64,
    listed: bool,
    stopped: bool,
    /// Token and end of the lease.
    lease: Option<(u64, i64)>,
    completed: u64,
}

/// A generator as small as can be: the same seed, the same operations.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides.max(1)
    }
}

const HOUR: i64 = 3_600_000_000;

/// The names to claim next, in order: never visited first, then the oldest visit that is 12 hours
/// old.
fn expected(model: &BTreeMap<String, Known>, now: i64, count: usize) -> Vec<String> {
    let free = |k: &Known| k.listed && !k.stopped && k.lease.is_none_or(|l| l.1 <= now);
    let ready = |k: &Known| k.last_visit.is_none_or(|v| v + 12 * HOUR <= now);
    let mut wait: Vec<_> = model.iter().filter(|(_, k)| free(k) && ready(k)).collect();
    wait.sort_by_key(|(_, k)| (k.last_visit.is_some(), k.last_visit.unwrap_or(k.first_seen), k.made));
    wait.into_iter().take(count).map(|(name, _)| url(name)).collect()
}

fn name_of(url: &str) -> String {
    url.trim_end_matches(".git").rsplit('/').next().unwrap_or_default().to_owned()
}

/// Random listings, claims, outcomes, heartbeats, late and repeated outcomes, and hands that stop
/// and allow, 400 of them: the store and the model say the same. A failure names the seed.
pub async fn model<B, Fut>(make: impl Fn() -> Fut, seed: u64)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    let store = &make().await;
    let mut dice = Dice(seed);
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut out: Vec<Visit> = Vec::new();
    let mut now = at(0).as_micros();
    for step in 0..400 {
        now += i64::try_from(dice.roll(u64::try_from(HOUR).unwrap())).unwrap();
        let time = Timestamp::from_micros(now);
        let context = || format!("SEED={seed} step {step}");
        match dice.roll(10) {
            0 => {
                let name = format!("r{}", dice.roll(40));
                let origin = ImportedOrigin::new(&lister(), url(&name), VisitType::git());
                let new = store.import(vec![origin], time).await.unwrap().new;
                assert_eq!(new == 1, !known.contains_key(&name), "{}", context());
                let order = known.len();
                known.entry(name).or_insert(Known {
                    made: order,
                    first_seen: now,
                    listed: true,
                    ..Known::default()
                });
            }
            1 => list_some(store, &mut known, &mut dice, time, &context()).await,
            2..=4 => {
                let count = usize::try_from(dice.roll(6)).unwrap();
                let lease = 1 + dice.roll(5);
                let claim = Claim::new(VisitType::git(), count).with_lease(Duration::from_secs(3600 * lease));
                let wanted = expected(&known, now, count);
                let visits = store.claim(&claim, time).await.unwrap().visits;
                assert_eq!(visits.iter().map(|v| v.url.clone()).collect::<Vec<_>>(), wanted, "{}", context());
                for k in known.values_mut() {
                    // Whoever claims sweeps: what has expired is nobody's any more.
                    k.lease = k.lease.filter(|l| l.1 > now);
                }
                for visit in visits {
                    let until = now + i64::try_from(lease).unwrap() * HOUR;
                    known.get_mut(&name_of(&visit.url)).unwrap().lease = Some((visit.token.0, until));
                    out.push(visit);
                }
            }
            5..=6 if !out.is_empty() => {
                let i = usize::try_from(dice.roll(out.len() as u64)).unwrap();
                let visit = out[i].clone();
                let k = known.get_mut(&name_of(&visit.url)).unwrap();
                let report = outcome(&visit, VisitStatus::Successful, time);
                let got = store.complete(&[report], time).await.unwrap()[0].clone();
                let expected = if k.lease.is_some_and(|l| l.0 == visit.token.0) {
                    (k.lease, k.last_visit, k.completed) = (None, Some(now), visit.token.0);
                    k.visits += 1;
                    None
                } else if k.completed == visit.token.0 {
                    Some(Refusal::Duplicate)
                } else {
                    Some(Refusal::Stale)
                };
                assert_eq!(got.err(), expected, "{}", context());
            }
            7 if !out.is_empty() => {
                let i = usize::try_from(dice.roll(out.len() as u64)).unwrap();
                let visit = &out[i];
                let k = known.get_mut(&name_of(&visit.url)).unwrap();
                let beat = (visit.visit, visit.token);
                let got = store.heartbeat(&[beat], Duration::from_secs(7200), time).await.unwrap()[0];
                let alive = k.lease.filter(|l| l.0 == visit.token.0);
                assert_eq!(got.is_ok(), alive.is_some(), "{}", context());
                if let Some((token, _)) = alive {
                    k.lease = Some((token, now + 2 * HOUR));
                }
            }
            _ => {
                let name = format!("r{}", dice.roll(40));
                let stop = dice.roll(2) == 0;
                let reason = stop.then_some("by hand");
                let n = store.set_disabled(&[key(&name)], reason, time).await.unwrap();
                assert_eq!(n == 1, known.contains_key(&name), "{}", context());
                if let Some(k) = known.get_mut(&name) {
                    k.stopped = stop;
                }
            }
        }
    }
    let names: Vec<_> = known.keys().cloned().collect();
    let asked: Vec<_> = names.iter().map(|n| key(n)).collect();
    for (name, stats) in names.iter().zip(store.stats(&asked).await.unwrap()) {
        let (stats, k) = (stats.unwrap(), &known[name]);
        assert_eq!(stats.visits, k.visits, "SEED={seed} {name}");
        assert_eq!(stats.last_visit.map(Timestamp::as_micros), k.last_visit, "SEED={seed} {name}");
    }
    let listed = all(store).await;
    assert_eq!(listed.len(), known.len(), "SEED={seed}");
    for origin in listed {
        let k = &known[&name_of(&origin.url)];
        assert_eq!(origin.gone.is_none(), k.listed, "SEED={seed} {}", origin.url);
        assert_eq!(origin.first_seen.as_micros(), k.first_seen, "SEED={seed} {}", origin.url);
    }
    assert_eq!(news(store).await.iter().filter(|n| n.starts_with("New")).count(), known.len(), "SEED={seed}");
}

/// A complete listing of some of the names: the others are gone.
async fn list_some<B: SchedulerBackend>(
    store: &B,
    known: &mut BTreeMap<String, Known>,
    dice: &mut Dice,
    now: Timestamp,
    context: &str,
) {
    let names: Vec<String> = (0..40).filter(|_| dice.roll(4) > 0).map(|n| format!("r{n}")).collect();
    let drive = Drive::begin(store, plan(&[1]), now).await;
    let counts = drive.read(1, said().names(&names.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let gone = drive.prune().await.gone;
    let mut expected = (0u64, 0u64, 0u64);
    for name in &names {
        let made = known.len();
        match known.get_mut(name) {
            None => {
                let first_seen = now.as_micros();
                known.insert(name.clone(), Known { made, first_seen, listed: true, ..Known::default() });
                expected.0 += 1;
            }
            Some(k) if k.listed => expected.2 += 1,
            Some(k) => {
                k.listed = true;
                expected.1 += 1;
            }
        }
    }
    assert_eq!((counts.new, counts.changed, counts.unchanged), expected, "{context}");
    let mut left = 0;
    for (name, k) in known.iter_mut() {
        if k.listed && !names.contains(name) {
            k.listed = false;
            left += 1;
        }
    }
    assert_eq!(gone, left, "{context}");
}
