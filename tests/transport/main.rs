//! The client against real sockets, and the polite shell on a clock that jumps.
#![cfg(feature = "reqwest")]
#![allow(clippy::indexing_slicing, reason = "tests")]

mod client;
mod defects;
mod guard;
mod limits;
mod polite;
mod redirects;
mod secrets;
mod support;
