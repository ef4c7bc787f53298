//! The HTTP interface, asked over real sockets.
#![cfg(all(feature = "http", feature = "testing", feature = "reqwest"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod document;
mod hooks;
mod security;
mod support;
mod visits;
mod worker;
