//! What every store does: the suite that the stores of this crate pass, for yours to pass too.
//!
//! [`backend`] runs everything on fresh stores; each topic can be run alone. A failure is a panic
//! that names the case. Run it inside a tokio runtime, best one with several threads:
//!
//! ```
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! use lamplighter::backend::MemoryStore;
//! use lamplighter::testing::conformance;
//! conformance::pages(|| async { MemoryStore::new() }).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Four topics need more than a fresh store: [`shares`] and [`classic`] one with other policies, [`ages`] one with
//! classes that have a maximum age, and [`reopened`] a
//! store that outlives its handle.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a suite of tests: its answer is a panic"
)]

mod ages;
mod claims;
mod classic;
mod defects;
mod gaps;
mod identity;
mod kit;
mod model;
mod outcomes;
mod pages;
mod parts;
mod pruning;
mod queries;
mod renames;
mod runs;
mod wishes;

use std::future::Future;

pub use ages::ages;
pub use claims::{claims, shares};
pub use classic::classic;
pub use defects::{
    d2_a_failed_run_has_not_finished, d4_a_kill_loses_no_page, d6_a_listing_enables_nothing,
    d9_a_visit_that_was_never_sent_comes_back, d10_no_visit_is_held_twice,
    d14_a_listing_without_news_writes_nothing, defects,
};
pub use gaps::gaps;
pub use identity::identity;
pub use model::model;
pub use outcomes::outcomes;
pub use pages::pages;
pub use parts::parts;
pub use pruning::pruning;
pub use queries::{import, paging, queries};
pub use renames::renames;
pub use runs::{reopened, runs};
pub use wishes::wishes;

use crate::backend::SchedulerBackend;

/// Runs every topic that needs no more than fresh stores.
pub async fn backend<B, Fut>(make: impl Fn() -> Fut)
where
    B: SchedulerBackend + 'static,
    Fut: Future<Output = B>,
{
    runs(&make).await;
    pages(&make).await;
    parts(&make).await;
    gaps(&make).await;
    wishes(&make).await;
    identity(&make).await;
    pruning(&make).await;
    claims(&make).await;
    outcomes(&make).await;
    paging(&make).await;
    import(&make).await;
    queries(&make).await;
    defects(&make).await;
    for seed in 1..=3 {
        model(&make, seed).await;
    }
}
