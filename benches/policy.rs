//! What the default policy costs: a placement, and the whole of 90 days with many origins.
//!
//! `scripts/bench policy` runs it. `BENCH_ORIGINS` (1,000,000), `BENCH_DAYS` (90) and `BENCH_BUDGET`
//! (0.2 visits a change) say how large; what it prints is one line.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a measurement, run by hand"
)]

use std::time::{Duration, Instant};

use lamplighter::backend::MemoryStore;
use lamplighter::model::Timestamp;
use lamplighter::policy::{Facts, Listing, Policies, Policy, Shared, named, observe_listing, schedule};
use lamplighter::sim::{Generator, SimOptions, simulate};

fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// One placement of an origin that a lister knows, a million times.
fn a_placement(policy: &dyn Policy) -> Duration {
    let at = |day: i64| Timestamp::from_seconds(1_600_000_000 + day * 86_400);
    let mut facts: Vec<Facts> = (0..1000).map(|seed| Facts::new(seed * 7919, at(0))).collect();
    for (i, origin) in (0i64..).zip(&mut facts) {
        observe_listing(origin, &Listing::new(at(10), Some(at(i % 9))));
        origin.visits.last_visit = Some(at(i % 12));
        origin.visits.last_successful = origin.visits.last_visit;
    }
    let shared = Shared::default();
    let begin = Instant::now();
    let mut sum = 0u64;
    for round in 0..1000 {
        for origin in &facts {
            let placed = schedule(policy, origin, &shared, at(20 + round % 7));
            sum = sum.wrapping_add(std::hint::black_box(placed).why().code.len() as u64);
        }
    }
    std::hint::black_box(sum);
    begin.elapsed() / 1_000_000
}

fn main() {
    let origins = setting("BENCH_ORIGINS", 1_000_000usize);
    let (days, budget) = (setting("BENCH_DAYS", 90.0f64), setting("BENCH_BUDGET", 0.2f64));
    let mut generator = Generator::new(origins, 1);
    generator.days = days;
    generator.measure_from = days / 3.0;
    let begin = Instant::now();
    let world = generator.generate();
    eprintln!("a world of {origins} origins: {:.1} s", begin.elapsed().as_secs_f64());
    let visits = budget * world.volume_per_day;
    let policy = named(&format!("due,budget={visits}")).unwrap();
    let placement = a_placement(&*policy);
    eprintln!("a placement: {} ns", placement.as_nanos());
    let store = MemoryStore::with_policies(Policies::all(policy));
    let begin = Instant::now();
    let report = futures::executor::block_on(simulate(&world, &store, &SimOptions::new(visits))).unwrap();
    let took = begin.elapsed().as_secs_f64();
    println!(
        "{origins} origins over {days} days at {budget} visits a change: {took:.1} s on one core for {:.0} visits \
         a day, {:.1} % current; a placement {:.2} us",
        visits,
        100.0 * report.fresh,
        placement.as_nanos() as f64 / 1000.0,
    );
    // The bars of the full size.
    let slow = origins >= 1_000_000 && took > 60.0 * (days / 90.0);
    if slow || placement > Duration::from_micros(2) {
        eprintln!("missed: 60 s for a million origins over 90 days, 2 us for a placement");
        std::process::exit(1);
    }
}
