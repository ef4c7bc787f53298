//! What tests of listers, stores and drivers need, here and downstream: a clock that jumps, a
//! loopback server, recorded cases, and the suite for stores.

mod case;
mod clock;
pub mod conformance;
mod corpus;
mod faults;
mod fixture;
mod laws;
mod loopback;
pub mod mutate;
mod replaying;
mod served;
mod walk;

pub use case::{Case, CaseError, CaseOrigin, CaseRun};
pub use clock::VirtualClock;
pub use faults::{Answering, KillPoint, Killer, KillingStore, KillingTransport};
pub use fixture::{Shown, check_fixture};
pub use laws::{BrokenLaw, check_laws};
pub use loopback::{Loopback, LoopbackAnswer, LoopbackRequest};
pub use replaying::{ReplayError, Replayed, replay, seed_state};
pub use walk::{Failed, Step, walk};

#[doc(inline)]
pub use crate::__lamplighter_laws as laws;
