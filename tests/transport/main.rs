//! The client against real sockets, and the polite shell on a clock that jumps.
#![cfg(feature = "reqwest")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails says so")]

mod client;
mod defects;
#[cfg(feature = "testing")]
mod echoes;
#[cfg(feature = "testing")]
mod github;
mod guard;
#[cfg(feature = "testing")]
mod hostile;
mod limits;
mod notes;
#[cfg(feature = "testing")]
mod planted;
mod polite;
mod redirects;
mod secrets;
mod support;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "testing")]
mod validators;
