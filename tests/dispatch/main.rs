//! Visits reach workers, outcomes come back, and nothing is lost in between: feeder and pool under a
//! clock that jumps.
#![cfg(all(
    feature = "dispatch",
    feature = "testing",
    feature = "file",
    feature = "postgres",
    feature = "reqwest"
))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail"
)]

#[path = "../support/postgres.rs"]
mod postgres;

mod defects;
mod doubles;
mod feeder;
mod kill;
mod pool;
mod workers;
