//! How near to the optimum, over generated worlds: means over seeds.

use lamplighter::model::Timestamp;
use std::sync::Mutex;

use lamplighter::policy::{Due, DueOptions, Facts, Policy, Shared, named};
use lamplighter::sim::{Bounds, Generator, Report, SimOptions, World, exact};

use crate::{mean, run, run_with};

const BUDGETS: [f64; 3] = [0.05, 0.2, 1.0];

fn days(from: Timestamp, to: Timestamp) -> f64 {
    to.since(from).as_secs_f64() / 86_400.0
}

/// The fresh days that a visit buys where the rate is known and nobody tells of changes.
fn known_rate(world: &World) -> impl Fn(usize, &Facts, &Shared, Timestamp) -> f64 {
    let rates = world.rates().unwrap().to_vec();
    move |i, facts, _, now| {
        let rate = rates[i];
        match facts.visits.last_successful {
            Some(good) => {
                let x = rate * days(good, now);
                // A dead origin is worth less each time.
                let chance = 0.2f64.powi(facts.visits.failures_in_a_row.min(6).try_into().unwrap());
                chance * (1.0 - (-x).exp() * (1.0 + x)) / rate
            }
            None => 0.2f64.powi(facts.visits.failures_in_a_row.min(6).try_into().unwrap()) / rate,
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes long: scripts/test runs it, with code that is optimised")]
fn known_rates_reach_the_continuous_optimum() {
    let mut missed = Vec::new();
    for (budget, bar) in BUDGETS.into_iter().zip([0.95, 0.985, 0.985]) {
        let of = |world: &World| {
            let visits = budget * world.volume_per_day;
            let report = exact(world, &SimOptions::new(visits), known_rate(world));
            report.fresh / Bounds::of(world, visits).oracle
        };
        let (share, each) = mean(of, Generator::new);
        println!("known rates at {budget}: {share:.4} of the optimum, {each:.4?}");
        if share < bar {
            missed.push((budget, share));
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// An exact greedy by the value of `due`.
fn greedy(world: &World, budget: f64, options: &SimOptions) -> Report {
    let due = Due::new(DueOptions::default().with_budget(budget * world.volume_per_day));
    exact(world, options, |_, facts, shared, now| due.value(facts, shared, now))
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes long: scripts/test runs it, with code that is optimised")]
fn due_loses_little_against_the_exact_greedy() {
    let mut missed = Vec::new();
    for budget in BUDGETS {
        let of = |world: &World| {
            let options = SimOptions::new(budget * world.volume_per_day);
            run(world, "due", budget).fresh / greedy(world, budget, &options).fresh
        };
        let (share, each) = mean(of, Generator::new);
        println!("due at {budget}: {share:.4} of the exact greedy, {each:.4?}");
        if share < 0.985 {
            missed.push((budget, share));
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
}

/// Nothing was ever visited, at half a visit a change: current sooner than the incumbent's mix, and
/// new origins wait less.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long: scripts/test runs it, with code that is optimised")]
fn a_cold_start_is_faster_than_the_incumbents() {
    let first = Mutex::new((0.0, 0.0));
    let of = |world: &World| {
        let visits = 0.5 * world.volume_per_day;
        let options = SimOptions::new(visits).cold();
        let due = run_with(world, named(&format!("due,budget={visits}")).unwrap(), &options);
        let swh = run_with(world, named("swh_default").unwrap(), &options);
        let mut first = first.lock().unwrap();
        *first = (first.0 + due.ttfv, first.1 + swh.ttfv);
        due.fresh / swh.fresh
    };
    let (share, each) = mean(of, Generator::new);
    let (due, swh) = *first.lock().unwrap();
    println!(
        "cold start: {share:.4} of the incumbent's, {each:.4?}; first visits {:.3} of its time",
        due / swh
    );
    assert!(share >= 1.02, "{share}");
    assert!(due < swh, "{due} {swh}");
}

/// The budget is cut to a quarter, and later raised sixteen-fold.
#[test]
#[cfg_attr(debug_assertions, ignore = "takes long: scripts/test runs it, with code that is optimised")]
fn steps_of_the_budget_are_followed() {
    for told in [true, false] {
        let of = |world: &World| {
            let visits = 0.2 * world.volume_per_day;
            let options = SimOptions::new(visits).with_steps(vec![(250.0, 0.25), (500.0, 4.0)]);
            let policy = if told { format!("due,budget={visits}") } else { "due".to_owned() };
            let due = run_with(world, named(&policy).unwrap(), &options);
            let greedy = greedy(world, 0.2, &options);
            due.fresh / greedy.fresh
        };
        let (share, each) = mean(of, Generator::new);
        println!("steps, told {told}: {share:.4} of the exact greedy, {each:.4?}");
        assert!(share >= 0.985, "{share}");
    }
}
