//! Claims: exclusive, in order, fair between lanes, and back when nobody answers.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use super::kit::{Drive, HOUR, all, at, import_all, key, list, lister, origin, plan_of, said, url};
use crate::backend::{
    Claim, ImportedOrigin, ImportedVisits, OriginStore, Refusal, RunOutcome, SchedulerBackend, Visit,
    VisitRequest, VisitStore,
};
use crate::lister::{Coverage, Mode};
use crate::model::{ListerKey, Outcome, Timestamp, VisitStatus, VisitToken, VisitType};
use crate::policy::{Facts, Gate, Gates, Lane, LaneSpec, Placement, Policies, Policy, Reason, Shared};

/// Claims: leases, order, lanes, on-demand visits.
pub async fn claims<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend + 'static,
    Fut: Future<Output = B>,
{
    a_claim_hands_out_each_origin_once(&make().await).await;
    the_order_is_the_policy_s(&make().await).await;
    a_peek_shows_the_next_claim_and_takes_nothing(&make().await).await;
    a_lease_that_ends_gives_the_visit_back(&make().await).await;
    an_old_deadline_ends_no_later_lease(&make().await).await;
    a_heartbeat_keeps_a_visit(&make().await).await;
    no_visit_before_the_minimum_interval(&make().await).await;
    a_claim_may_ask_for_one_lister_s(&make().await).await;
    requested_visits_go_first(&make().await).await;
    a_request_during_a_visit_survives_it(&make().await).await;
    what_is_stopped_is_not_handed_out(&make().await).await;
    concurrent_claims_are_disjoint(make().await).await;
}

pub(super) async fn take<B: VisitStore>(store: &B, count: usize, now: Timestamp) -> Vec<Visit> {
    let claim = Claim::new(VisitType::git(), count).with_owner("suite");
    store.claim(&claim, now).await.expect("a claim").visits
}

pub(super) fn urls(visits: &[Visit]) -> Vec<&str> {
    visits.iter().map(|v| v.url.as_str()).collect()
}

pub(super) fn outcome(visit: &Visit, status: VisitStatus, at: Timestamp) -> Outcome {
    Outcome::new(visit.visit, visit.token, status, at)
}

pub(super) async fn succeed<B: VisitStore>(store: &B, visits: &[Visit], now: Timestamp) {
    let outcomes: Vec<_> = visits.iter().map(|v| outcome(v, VisitStatus::Successful, now)).collect();
    for answer in store.complete(&outcomes, now).await.expect("outcomes are taken") {
        answer.expect("an outcome is taken");
    }
}

async fn a_claim_hands_out_each_origin_once<B: SchedulerBackend>(store: &B) {
    let first = origin("a").with_argument("x", json!([1])).with_last_update(at(0));
    list(store, at(0), said().origin(first)).await;
    import_all(store, &["b", "c"], at(1)).await;
    // Listed by a second lister, it is still one visit.
    let theirs = ListerKey::new("conformance", "mirror.example");
    let mirrored = ImportedOrigin::new(&theirs, url("b"), VisitType::git());
    store.import(vec![mirrored], at(1)).await.unwrap();
    let visits = take(store, 2, at(2)).await;
    assert_eq!(visits.len(), 2, "no more than asked for");
    let first = &visits[0];
    assert_eq!((first.url.as_str(), first.visit_type.as_str()), (url("a").as_str(), "git"));
    assert_eq!((first.lister.as_str(), first.instance.as_str()), ("conformance", "forge.example"));
    assert_eq!(first.arguments.get("x"), Some(&json!([1])));
    assert_eq!(first.deadline, Some(at(3)), "a lease of an hour");
    assert_eq!((first.due, first.reason.code.as_str()), (None, "never_visited"));
    let rest = take(store, 10, at(2)).await;
    assert_eq!(rest.len(), 1);
    let distinct: HashSet<_> = visits.iter().chain(&rest).map(|v| &v.url).collect();
    let tokens: HashSet<_> = visits.iter().chain(&rest).map(|v| v.token).collect();
    assert_eq!((distinct.len(), tokens.len()), (3, 3));
    assert!(take(store, 10, at(2)).await.is_empty());
    assert!(take(store, 0, at(2)).await.is_empty());
    let hg = Claim::new(VisitType::new("hg").unwrap(), 5);
    assert!(store.claim(&hg, at(2)).await.unwrap().visits.is_empty(), "another type");
}

fn visited(name: &str, last: Timestamp) -> ImportedOrigin {
    let mut origin = ImportedOrigin::new(&lister(), url(name), VisitType::git());
    origin.visits = Some(ImportedVisits {
        last_visit: Some(last),
        last_successful: Some(last),
        status: Some(VisitStatus::Successful),
        last_snapshot: None,
        ..ImportedVisits::default()
    });
    origin
}

async fn the_order_is_the_policy_s<B: SchedulerBackend>(store: &B) {
    store.import(vec![visited("old", at(-100)), visited("older", at(-200))], at(0)).await.unwrap();
    import_all(store, &["second"], at(5)).await;
    import_all(store, &["first"], at(4)).await;
    let visits = take(store, 10, at(10)).await;
    assert_eq!(urls(&visits), ["first", "second", "older", "old"].map(url));
    assert_eq!(visits[2].due, Some(at(-200 + 12)), "when the minimum interval had passed");
    assert_eq!((visits[2].reason.code.as_str(), visits[2].lane.as_str()), ("oldest_visit", "oldest"));
}

async fn a_peek_shows_the_next_claim_and_takes_nothing<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b", "c"], at(0)).await;
    let claim = Claim::new(VisitType::git(), 2);
    let peeked = store.peek(&claim, at(1)).await.unwrap();
    assert_eq!(store.peek(&claim, at(1)).await.unwrap(), peeked);
    assert!(peeked.visits.iter().all(|v| v.token == VisitToken(0) && v.deadline.is_none()));
    let claimed = store.claim(&claim, at(1)).await.unwrap();
    assert_eq!(urls(&peeked.visits), urls(&claimed.visits));
    assert_eq!(store.peek(&claim, at(1)).await.unwrap().visits.len(), 1);
}

async fn a_lease_that_ends_gives_the_visit_back<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let first = take(store, 1, at(0)).await;
    let just_before = Timestamp::from_micros(at(1).as_micros() - 1);
    assert!(take(store, 1, just_before).await.is_empty());
    let second = take(store, 1, at(1)).await;
    assert_eq!(urls(&second), urls(&first));
    assert_eq!(second[0].visit, first[0].visit, "the visit keeps its number");
    assert!(second[0].token > first[0].token, "the token grows");
    let late = store.complete(&[outcome(&first[0], VisitStatus::Successful, at(1))], at(1)).await.unwrap();
    assert_eq!(late, [Err(Refusal::Stale)]);
    let stats = store.stats(&[key("a")]).await.unwrap();
    assert_eq!(stats[0].as_ref().unwrap().visits, 0, "refused, it changes nothing");
    succeed(store, &second, at(1)).await;
    assert!(take(store, 1, at(3)).await.is_empty(), "the first lease's end brings nothing back again");
}

async fn an_old_deadline_ends_no_later_lease<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let claim = |hours| Claim::new(VisitType::git(), 1).with_lease(HOUR * hours);
    let first = store.claim(&claim(20), at(0)).await.unwrap().visits;
    succeed(store, &first, at(1)).await;
    let second = store.claim(&claim(30), at(13)).await.unwrap().visits;
    assert_eq!(second.len(), 1);
    // The first lease would have ended now; the second one has not.
    assert!(take(store, 1, at(21)).await.is_empty());
    succeed(store, &second, at(21)).await;
}

async fn a_heartbeat_keeps_a_visit<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b"], at(0)).await;
    let visits = take(store, 2, at(0)).await;
    let (a, b) = (&visits[0], &visits[1]);
    let unheard = (a.visit, VisitToken(b.token.0 + 100));
    let answers = store.heartbeat(&[(a.visit, a.token), unheard], HOUR * 3, at(0)).await.unwrap();
    assert_eq!(answers, [Ok(at(3)), Err(Refusal::Unknown)]);
    let back = take(store, 2, at(2)).await;
    assert_eq!(urls(&back), [url("b")], "only what nobody kept alive");
    let stale = store.heartbeat(&[(b.visit, b.token)], HOUR, at(2)).await.unwrap();
    assert_eq!(stale, [Err(Refusal::Stale)]);
    succeed(store, &visits[..1], at(2)).await;
}

async fn no_visit_before_the_minimum_interval<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let visits = take(store, 1, at(0)).await;
    succeed(store, &visits, at(1)).await;
    assert!(take(store, 1, at(12)).await.is_empty(), "read ahead, but not handed out");
    let again = take(store, 1, at(13)).await;
    assert_eq!((again.len(), again[0].due), (1, Some(at(13))));
}

async fn a_claim_may_ask_for_one_lister_s<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b"], at(0)).await;
    let theirs = ListerKey::new("conformance", "mirror.example");
    let names = ["b", "c"].map(|n| ImportedOrigin::new(&theirs, url(n), VisitType::git()));
    store.import(names.to_vec(), at(0)).await.unwrap();
    let mut claim = Claim::new(VisitType::git(), 1);
    claim.lister = Some(ListerKey::new("conformance", "nowhere.example"));
    assert!(store.claim(&claim, at(1)).await.unwrap().visits.is_empty());
    claim.lister = Some(theirs);
    assert_eq!(urls(&store.claim(&claim, at(1)).await.unwrap().visits), [url("b")]);
    claim.count = 9;
    assert_eq!(urls(&store.claim(&claim, at(1)).await.unwrap().visits), [url("c")]);
    assert_eq!(urls(&take(store, 9, at(1)).await), [url("a")]);
}

async fn requested_visits_go_first<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b", "c", "d", "e"], at(0)).await;
    let ask = async |name: &str, now| {
        let wish = VisitRequest::new(key(name), "somebody");
        store.request(&[wish], now).await.unwrap()[0].clone()
    };
    assert_eq!(ask("unheard-of", at(1)).await, None);
    let first = ask("d", at(1)).await.unwrap();
    assert_eq!((first.position, first.due), (0, Some(at(1))));
    assert_eq!(ask("b", at(2)).await.unwrap().position, 1);
    assert_eq!(ask("d", at(3)).await.unwrap().position, 0, "asked for again, it keeps its place");
    let visits = take(store, 3, at(4)).await;
    assert_eq!(urls(&visits), ["d", "b", "a"].map(url));
    assert_eq!((visits[0].lane.as_str(), visits[0].reason.code.as_str()), ("requested", "requested"));
    // Fulfilled: nothing is requested any more. And the hold after a failure yields to a request.
    let done: Vec<_> = visits.iter().map(|v| outcome(v, VisitStatus::Failed, at(4))).collect();
    store.complete(&done, at(4)).await.unwrap();
    let explained = store.explain(&key("d"), at(4)).await.unwrap().unwrap();
    assert!(explained.earliest > Some(at(4 + 20)), "held after a failure");
    ask("d", at(5)).await.unwrap();
    assert!(!urls(&take(store, 9, at(15)).await).contains(&url("d").as_str()), "not before the interval");
    assert_eq!(urls(&take(store, 1, at(16)).await), [url("d")]);
}

async fn a_request_during_a_visit_survives_it<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a"], at(0)).await;
    let visits = take(store, 1, at(0)).await;
    let later = |micros| Timestamp::from_micros(at(0).as_micros() + micros);
    store.request(&[VisitRequest::new(key("a"), "somebody")], later(5)).await.unwrap();
    assert!(take(store, 1, later(6)).await.is_empty(), "a request does not break a lease");
    succeed(store, &visits, later(9)).await;
    let again = take(store, 1, at(13)).await;
    assert_eq!((again.len(), again[0].reason.code.as_str()), (1, "requested"));
    succeed(store, &again, at(13)).await;
    assert_eq!(take(store, 1, at(30)).await[0].reason.code, "oldest_visit");
}

async fn what_is_stopped_is_not_handed_out<B: SchedulerBackend>(store: &B) {
    list(store, at(0), said().names(&["a", "b"]).origin(origin("off").with_enabled(false))).await;
    let stopped = store.set_disabled(&[key("a"), key("unheard-of")], Some("asked to"), at(1)).await.unwrap();
    assert_eq!(stopped, 1);
    assert_eq!(urls(&take(store, 9, at(2)).await), [url("b")]);
    let why = store.explain(&key("a"), at(2)).await.unwrap().unwrap();
    assert_eq!((why.reason.code.as_str(), why.lane, why.earliest), ("disabled_by_hand", None, None));
    assert!(why.gates.iter().any(|g| g.gate == Gate::Enabled && !g.open));
    let told = |d: &crate::model::Disabled| d.reason == "asked to";
    assert!(all(store).await.iter().any(|o| o.disabled_by_hand.as_ref().is_some_and(told)));
    // A leased one that is stopped does not come back.
    assert_eq!(store.set_disabled(&[key("b")], Some("too"), at(2)).await.unwrap(), 1);
    assert!(take(store, 9, at(5)).await.is_empty());
    store.set_disabled(&[key("a"), key("b")], None, at(6)).await.unwrap();
    assert_eq!(take(store, 9, at(6)).await.len(), 2);
}

/// Sixteen tasks claim and complete in a loop, under a clock that runs on: no visit is ever held
/// twice, and every outcome of a live lease is taken.
pub(super) async fn concurrent_claims_are_disjoint<B: OriginStore + VisitStore + 'static>(store: B) {
    const TASKS: usize = 16;
    const ROUNDS: i64 = 20;
    const EACH: usize = 9;
    let names: Vec<String> = (0..200).map(|n| format!("r{n}")).collect();
    import_all(&store, &names.iter().map(String::as_str).collect::<Vec<_>>(), at(0)).await;
    let store = Arc::new(store);
    let held: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let barrier = Arc::new(tokio::sync::Barrier::new(TASKS));
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (store, held, barrier) = (Arc::clone(&store), Arc::clone(&held), Arc::clone(&barrier));
        tasks.push(tokio::spawn(async move {
            let (mut count, mut twice, mut failures) = (0, 0, 0);
            for round in 1..=ROUNDS {
                barrier.wait().await;
                // A day a round: all is due again, and no lease of the round before is left.
                let now = at(24 * round);
                let claim = Claim::new(VisitType::git(), EACH).with_lease(HOUR * 12);
                // A panic here would leave the others waiting at the barrier: failures are counted.
                let claimed = store.claim(&claim, now).await;
                failures += usize::from(claimed.is_err());
                let visits = claimed.unwrap_or_default().visits;
                for visit in &visits {
                    let other = held.lock().unwrap().insert(visit.url.clone(), task);
                    twice += usize::from(other.is_some());
                }
                // Everybody holds what they have before anybody gives it back.
                barrier.wait().await;
                for visit in &visits {
                    held.lock().unwrap().remove(&visit.url);
                }
                barrier.wait().await;
                count += visits.len();
                let outcomes: Vec<_> =
                    visits.iter().map(|v| outcome(v, VisitStatus::Successful, now)).collect();
                let answers = store.complete(&outcomes, now).await.unwrap_or_default();
                failures += visits.len() - answers.iter().filter(|a| a.is_ok()).count();
            }
            (count, twice, failures)
        }));
    }
    let (mut claimed, mut twice, mut failures) = (0, 0, 0);
    for task in tasks {
        let (count, doubly, failed) = task.await.expect("no task fails");
        claimed += count;
        twice += doubly;
        failures += failed;
    }
    assert_eq!((twice, failures), (0, 0), "visits held twice, calls refused");
    assert_eq!(claimed, TASKS * EACH * usize::try_from(ROUNDS).unwrap(), "there was enough for everybody");
}

/// A policy of three lanes, by a hash.
#[derive(Debug)]
struct Three;

const SHARES: [(&str, f64); 3] = [("most", 0.6), ("some", 0.3), ("few", 0.1)];

impl Policy for Three {
    fn name(&self) -> &'static str {
        "three"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        (0u8..).zip(SHARES).map(|(n, (name, share))| LaneSpec::new(Lane::policy(n), name, share)).collect()
    }

    fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
        let lane = u8::try_from(facts.seed % 3).unwrap_or(0);
        let rank = facts.visits.last_visit.map_or(0, Timestamp::as_micros);
        Placement::new(Lane::policy(lane), rank, Reason::new("three", "by hash"))
    }

    fn gates(&self, _: &Shared) -> Gates {
        Gates { minimum_interval: Duration::ZERO, ..Gates::default() }
    }
}

/// Lanes are served by their shares, even by claims of one. `make` gives a fresh store with the
/// policies it is given.
pub async fn shares<B, Fut>(make: impl Fn(Policies) -> Fut)
where
    B: SchedulerBackend,
    Fut: Future<Output = B>,
{
    lanes_are_served_by_their_shares(&make(Policies::all(Three)).await).await;
    a_rank_in_the_past_does_not_block_what_must_wait(&make(Policies::all(Eager)).await).await;
    a_policy_is_told_when_an_origin_was_last_listed(&make(Policies::all(Telling)).await).await;
    what_a_policy_learns_is_kept(&make(Policies::all(Counting)).await).await;
}

async fn lanes_are_served_by_their_shares<B: SchedulerBackend>(store: &B) {
    let names: Vec<String> = (0..300).map(|n| format!("r{n}")).collect();
    import_all(store, &names.iter().map(String::as_str).collect::<Vec<_>>(), at(0)).await;
    let mut served: HashMap<String, u32> = HashMap::new();
    for n in 0..500 {
        let now = Timestamp::from_micros(at(1).as_micros() + n);
        let visits = take(store, 1, now).await;
        assert_eq!(visits.len(), 1);
        *served.entry(visits[0].lane.clone()).or_default() += 1;
        succeed(store, &visits, now).await;
    }
    for (name, share) in SHARES {
        let got = f64::from(served.get(name).copied().unwrap_or(0));
        assert!((got - 500.0 * share).abs() <= 1.5, "{name} was served {got} times of 500: {served:?}");
    }
    let loads = store.lanes(&VisitType::git(), at(2)).await.unwrap();
    let names: Vec<_> = loads.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["requested", "most", "some", "few"]);
    assert_eq!(loads.iter().map(|l| l.waiting).sum::<u64>(), 300);
    // A request is served beside them, and at once.
    store.request(&[VisitRequest::new(key("r7"), "somebody")], at(2)).await.unwrap();
    assert_eq!(urls(&take(store, 2, at(2)).await)[0], url("r7"));
}

/// A policy whose ranks know nothing of intervals.
#[derive(Debug)]
struct Eager;

impl Policy for Eager {
    fn name(&self) -> &'static str {
        "eager"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(Lane::policy(0), "all", 1.0)]
    }

    fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
        let rank = -i64::try_from(facts.seed % 1000).unwrap_or(0);
        Placement::new(Lane::policy(0), rank, Reason::new("eager", "always due"))
    }
}

async fn a_rank_in_the_past_does_not_block_what_must_wait<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b", "c"], at(0)).await;
    let first = take(store, 1, at(1)).await;
    succeed(store, &first, at(1)).await;
    let others = take(store, 3, at(2)).await;
    assert_eq!(others.len(), 2, "the first must wait, the others need not");
    assert!(others.iter().all(|v| v.url != first[0].url && v.due.is_none()));
    succeed(store, &others, at(2)).await;
    assert!(take(store, 3, at(12)).await.is_empty());
    let again = take(store, 3, at(13)).await;
    assert_eq!(urls(&again), urls(&first));
    succeed(store, &again, at(13)).await;
    assert_eq!(take(store, 3, at(14)).await.len(), 2);
}

/// A policy that says when an origin was last listed.
#[derive(Debug)]
struct Telling;

impl Policy for Telling {
    fn name(&self) -> &'static str {
        "telling"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(Lane::policy(0), "all", 1.0)]
    }

    fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
        let told = facts.last_listed.map_or("never".to_owned(), |t| t.to_string());
        Placement::new(Lane::policy(0), 0, Reason::new("telling", told))
    }
}

async fn a_policy_is_told_when_an_origin_was_last_listed<B: SchedulerBackend>(store: &B) {
    let told = async |name: &str, now| store.explain(&key(name), now).await.unwrap().unwrap().reason.text;
    list(store, at(0), said().names(&["a", "b"])).await;
    assert_eq!(told("a", at(1)).await, at(0).to_string());
    // Everything was listed and there was no news: known without a row being written.
    list(store, at(5), said().names(&["a"])).await;
    assert_eq!(told("a", at(6)).await, at(5).to_string());
    assert_eq!(told("b", at(6)).await, at(0).to_string(), "that listing left it out");
    // Ordered by change: what was not there has not changed.
    let mut changes = plan_of(Mode::Incremental, &[1]);
    changes.coverage = Coverage::Changed;
    let drive = Drive::begin(store, changes, at(7)).await;
    drive.read(1, said()).await;
    drive.end(RunOutcome::Complete).await;
    for name in ["a", "b"] {
        assert_eq!(told(name, at(8)).await, at(7).to_string());
    }
    // A run that says nothing of what it does not see.
    let drive = Drive::begin(store, plan_of(Mode::Incremental, &[1]), at(9)).await;
    drive.read(1, said()).await;
    drive.end(RunOutcome::Complete).await;
    assert_eq!(told("a", at(10)).await, at(7).to_string());
}

/// A policy that learns how many visits were taken, and says so in its reason.
#[derive(Debug)]
struct Counting;

impl Policy for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        vec![LaneSpec::new(Lane::policy(0), "all", 1.0)]
    }

    fn place(&self, _: &Facts, shared: &Shared, _: Timestamp) -> Placement {
        Placement::new(Lane::policy(0), 0, Reason::new("counting", shared.kept.to_string()))
    }

    fn value(&self, _: &Facts, _: &Shared, _: Timestamp) -> f64 {
        2.0
    }

    fn learn(&self, shared: &mut Shared, taken: &[(Facts, f64)], _: Timestamp) {
        let before = shared.kept.as_f64().unwrap_or(0.0);
        shared.kept = json!(before + taken.iter().map(|t| t.1).sum::<f64>());
    }
}

async fn what_a_policy_learns_is_kept<B: SchedulerBackend>(store: &B) {
    import_all(store, &["a", "b", "c", "d"], at(0)).await;
    let reasons = |visits: &[Visit]| visits.iter().map(|v| v.reason.text.clone()).collect::<Vec<_>>();
    assert_eq!(reasons(&take(store, 2, at(1)).await), ["null", "null"]);
    let claim = Claim::new(VisitType::git(), 1);
    for _ in 0..2 {
        let peeked = store.peek(&claim, at(1)).await.unwrap().visits;
        assert_eq!(reasons(&peeked), ["4.0"], "a peek teaches nothing");
    }
    assert_eq!(reasons(&take(store, 1, at(1)).await), ["4.0"]);
    assert_eq!(reasons(&take(store, 1, at(1)).await), ["6.0"]);
}
