//! Lists every origin of code forges and registries, and decides which to visit next.
pub mod backend;
#[cfg(feature = "driver")]
pub mod driver;
pub mod lister;
pub mod listers;
pub mod model;
pub mod policy;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;
