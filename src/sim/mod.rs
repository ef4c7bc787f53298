//! A simulator: a whole archive's years in seconds, to compare policies before trusting one.
//!
//! A [`World`] says when each of its origins changes and what its lister sees of that. [`simulate`]
//! runs a store through it: the real one, through the same traits that drivers and workers use,
//! only that the clock is the simulation's. Freshness, age and lag are integrated exactly; a digest
//! of the sequence of visits tells two runs apart. [`Bounds`] say what no policy could beat.
//!
//! Worlds are read from files ([`World::read`]) or made from a seed ([`Generator`]).

mod bounds;
mod generate;
mod listings;
mod measure;
mod page;
mod rng;
mod run;
mod world;

pub use bounds::Bounds;
pub use generate::Generator;
pub use measure::Point;
pub use page::{Named, Page, PageError, SweepPoint};
pub use run::{Report, SimError, SimOptions, Spent, simulate};
pub use world::{ListerKind, World, WorldError, WorldOrigin};
