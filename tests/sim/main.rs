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

mod frozen;
mod same;

use std::sync::Arc;

use lamplighter::backend::MemoryStore;
use lamplighter::policy::{Policies, Policy, named};
use lamplighter::sim::{Report, SimOptions, World, simulate};

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
