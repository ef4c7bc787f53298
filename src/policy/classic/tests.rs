use super::*;
use crate::model::{VisitId, VisitStatus, VisitToken};
use crate::policy::{Schedule, observe_visit, schedule};

fn at(day: i64) -> Timestamp {
    Timestamp::from_seconds(1_600_000_000 + day * 86_400)
}

fn visit(policy: &Classic, facts: &mut Facts, status: VisitStatus, day: i64) {
    let mut outcome = Outcome::new(VisitId(1), VisitToken(1), status, at(day));
    outcome.changed = status.archived_something().then_some(true);
    let before = facts.clone();
    observe_visit(facts, &outcome, at(day), None);
    policy.observe(facts, &before, &outcome, &Shared::default());
}

fn lane(policy: &Classic, facts: &Facts) -> Option<(String, i64)> {
    match schedule(policy, facts, &Shared::default(), at(100)) {
        Schedule::Parked(_) => None,
        Schedule::Waiting { place, .. } => Some((place.why.code, place.rank - facts.apart())),
    }
}

#[test]
fn each_visit_type_has_the_mix_that_the_incumbent_ships() {
    let shares = |t| Classic::of(t).lanes().iter().map(|l| l.share).collect::<Vec<_>>();
    for dvcs in ["git", "hg", "svn", "cvs", "bzr"] {
        assert_eq!(shares(dvcs), [49.0, 49.0, 2.0], "{dvcs}");
    }
    assert_eq!(shares("pypi"), [40.0, 40.0, 20.0]);
}

#[test]
fn the_shipped_mix_puts_each_origin_where_the_incumbent_looks_for_it() {
    let policy = Classic::swh_default();
    let mut facts = Facts::new(1, at(0));
    assert_eq!(lane(&policy, &facts).unwrap().0, "origins_without_last_update");
    facts.last_update = Some(at(5));
    let (order, rank) = lane(&policy, &facts).unwrap();
    assert_eq!((order.as_str(), rank), ("never_visited_oldest_update_first", at(5).as_micros()));
    visit(&policy, &mut facts, VisitStatus::Successful, 10);
    assert_eq!(lane(&policy, &facts), None, "nothing new since its visit");
    facts.last_update = Some(at(13));
    let (order, rank) = lane(&policy, &facts).unwrap();
    assert_eq!((order.as_str(), rank), ("already_visited_order_by_lag", -3 * 86_400_000_000));
}

#[test]
fn the_longest_lag_and_the_oldest_date_go_first() {
    let policy = Classic::swh_default();
    let rank = |update: i64, success: Option<i64>| {
        let mut facts = Facts::new(1, at(0));
        facts.last_update = Some(at(update));
        facts.visits.last_successful = success.map(at);
        facts.visits.last_visit = facts.visits.last_successful;
        lane(&policy, &facts).unwrap().1
    };
    assert!(rank(30, Some(10)) < rank(30, Some(20)));
    assert!(rank(5, None) < rank(6, None));
}

#[test]
fn failures_hold_for_fixed_times_and_the_third_equal_one_stops() {
    let policy = Classic::swh_default();
    let not_before = |facts: &Facts| match schedule(&policy, facts, &Shared::default(), at(100)) {
        Schedule::Waiting { not_before, .. } => not_before,
        Schedule::Parked(why) => panic!("{why}"),
    };
    let mut facts = Facts::new(1, at(0));
    visit(&policy, &mut facts, VisitStatus::Failed, 10);
    assert_eq!(not_before(&facts), at(24));
    visit(&policy, &mut facts, VisitStatus::Failed, 30);
    assert_eq!(not_before(&facts), at(44));
    visit(&policy, &mut facts, VisitStatus::NotFound, 50);
    assert_eq!(not_before(&facts), at(81));
    visit(&policy, &mut facts, VisitStatus::NotFound, 90);
    assert!(facts.disabled_by_failures.is_none(), "two failed, two not found: no three equal ones");
    visit(&policy, &mut facts, VisitStatus::NotFound, 130);
    assert!(facts.disabled_by_failures.as_ref().unwrap().reason.contains("not_found"));
    // A success in between starts the count again.
    let mut lucky = Facts::new(1, at(0));
    for (day, status) in [(1, VisitStatus::Failed), (20, VisitStatus::Failed), (40, VisitStatus::Successful)]
    {
        visit(&policy, &mut lucky, status, day);
    }
    visit(&policy, &mut lucky, VisitStatus::Failed, 60);
    assert!(lucky.disabled_by_failures.is_none());
}

#[test]
fn what_was_never_queued_starts_where_the_queue_is() {
    let policy = Classic::swh_default();
    let mut shared = Shared::default();
    let mut queued = Facts::new(1, at(0));
    queued.memo.at = 9_000_000;
    let mut dated = queued.clone();
    dated.last_update = Some(at(3));
    dated.memo.at = 99_000_000;
    policy.learn(&mut shared, &[(queued, 0.0), (dated, 0.0)], at(1));
    let mut facts = Facts::new(2, at(0));
    let outcome = Outcome::new(VisitId(1), VisitToken(1), VisitStatus::Successful, at(1)).with_changed(true);
    let before = facts.clone();
    observe_visit(&mut facts, &outcome, at(1), None);
    policy.observe(&mut facts, &before, &outcome, &shared);
    let step = facts.memo.at - 9_000_000;
    assert!((155_520..=190_080).contains(&step), "two days, within a tenth: {step}");
}

#[test]
fn a_listing_read_to_its_end_makes_its_origins_wait_again() {
    let policy = Classic::only(Order::FirstVisitsAfterListing);
    assert!(policy.follows_listings() && !Classic::swh_default().follows_listings());
    let mut facts = Facts::new(1, at(0));
    assert!(lane(&policy, &facts).is_some());
    visit(&policy, &mut facts, VisitStatus::Successful, 10);
    facts.last_finished = Some(at(9));
    assert_eq!(lane(&policy, &facts), None);
    facts.last_finished = Some(at(11));
    assert_eq!(lane(&policy, &facts).unwrap().1, at(10).as_micros());
}

#[test]
fn one_shot_types_stop_after_a_success() {
    let policy = Classic::only(Order::StopAfterSuccess);
    let mut facts = Facts::new(1, at(0));
    visit(&policy, &mut facts, VisitStatus::Failed, 10);
    assert!(lane(&policy, &facts).is_some());
    visit(&policy, &mut facts, VisitStatus::Successful, 30);
    facts.last_update = Some(at(60));
    assert_eq!(lane(&policy, &facts), None);
}

#[test]
fn orders_that_take_everything_stand_alone() {
    for all in [Order::OldestScheduledFirst, Order::FirstVisitsAfterListing] {
        let mix = |other| Classic::mix(vec![(other, 1.0), (all, 1.0)]);
        for other in Order::ALL.into_iter().filter(|o| *o != all && !o.takes_all()) {
            assert_eq!(mix(other), Err(ClassicError::Overlaps(all)), "{other}");
        }
        assert!(Classic::mix(vec![(all, 1.0)]).is_ok());
    }
    let rest = Order::ALL.into_iter().filter(|o| !o.takes_all()).map(|o| (o, 1.0)).collect();
    assert_eq!(Classic::mix(rest).unwrap().lanes().len(), 4);
    let lag = Order::AlreadyVisitedOrderByLag;
    assert_eq!(Classic::mix(vec![]), Err(ClassicError::Empty));
    assert_eq!(Classic::mix(vec![(lag, 1.0), (lag, 2.0)]), Err(ClassicError::Twice(lag)));
    assert_eq!(Classic::mix(vec![(lag, f64::NAN)]), Err(ClassicError::Share(lag)));
}

#[test]
fn an_order_is_known_by_its_name() {
    for order in Order::ALL {
        assert_eq!(order.as_str().parse::<Order>().unwrap(), order);
    }
    assert!("newest_first".parse::<Order>().unwrap_err().to_string().contains("stop_after_success"));
}
