#![doc = include_str!("../README.md")]

pub mod backend;
#[cfg(feature = "dispatch")]
pub mod dispatch;
#[cfg(feature = "driver")]
pub mod driver;
pub mod lister;
pub mod listers;
pub mod model;
pub mod policy;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transport;
