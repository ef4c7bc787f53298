//! The simulator and what it says of policies: over frozen worlds against the figures of a reference
//! simulator, and over worlds of its own against bounds.
#![cfg(feature = "sim")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod bars;
#[cfg(feature = "cli")]
mod command;
mod defects;
mod frozen;
mod lazy;
mod optimum;
mod same;

use std::sync::Arc;

use lamplighter::backend::MemoryStore;
use lamplighter::policy::{Policies, Policy, named};
use lamplighter::sim::{Generator, Report, SimOptions, World, simulate};

/// Runs a policy through a world, in a store of its own.
pub(crate) fn run_with(world: &World, policy: Arc<dyn Policy>, options: &SimOptions) -> Report {
    let store = MemoryStore::with_policies(Policies::all(policy));
    futures::executor::block_on(simulate(world, &store, options)).unwrap()
}

/// Runs a named policy through a world at a budget, as a share of the changes.
pub(crate) fn run(world: &World, policy: &str, budget: f64) -> Report {
    let visits = budget * world.volume_per_day;
    let policy =
        if policy.starts_with("due") { format!("{policy},budget={visits}") } else { policy.to_owned() };
    run_with(world, named(&policy).unwrap(), &SimOptions::new(visits))
}

/// How many origins a generated world has, and how many seeds there are: small ones unless
/// `LAMPLIGHTER_SIM_ORIGINS` and `LAMPLIGHTER_SIM_SEEDS` say otherwise, as `scripts/soak policy` does.
pub(crate) fn size() -> (usize, u64) {
    let of = |name: &str, small: u64| {
        std::env::var(name)
            .map_or(small, |n| n.parse().unwrap_or_else(|_| panic!("{name} is no number: {n}")))
    };
    let origins = usize::try_from(of("LAMPLIGHTER_SIM_ORIGINS", 1000)).unwrap();
    (origins, of("LAMPLIGHTER_SIM_SEEDS", 2))
}

/// The mean over generated worlds, one of each seed, and each of the values it is of.
pub(crate) fn mean(
    of: impl Fn(&World) -> f64,
    generator: impl Fn(usize, u64) -> Generator,
) -> (f64, Vec<f64>) {
    let (origins, seeds) = size();
    let all: Vec<f64> = (0..seeds).map(|seed| of(&generator(origins, 11 + seed).generate())).collect();
    #[allow(clippy::cast_precision_loss, reason = "a few seeds")]
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    (mean, all)
}
