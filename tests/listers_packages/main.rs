//! Package registries: bytes in, page out. No driver, no network.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

#[cfg(feature = "compression")]
mod aur;
mod bower;
#[cfg(feature = "archives")]
mod crates;
mod dlang;
mod elm;
#[cfg(feature = "compression")]
mod gnu;
mod hackage;
mod hex;
mod npm;
#[path = "../common/pages.rs"]
mod pages;
mod pubdev;
mod puppet;

use lamplighter::lister::{FollowKind, Lister, ListerError, ListerErrorKind, PageBatch};
use lamplighter::transport::{Body, Response};
use serde_json::Value;

use pages::{answer_from, assert_error, build, build_error, read_answer, run, url, urls};

fn answer(body: impl Into<Body>) -> Response {
    answer_from("https://registry.example/p", body)
}

fn read<L: Lister>(lister: &L, at: &L::Cursor, body: impl Into<Body>) -> Result<PageBatch, ListerError> {
    read_answer(lister, at, answer(body))
}

/// The cursors that follow, those of the chain apart from those that stand alone.
fn follows(batch: &PageBatch) -> (Vec<&Value>, Vec<&Value>) {
    let of = |chain: bool| {
        let kind = |k: &FollowKind| matches!(k, FollowKind::Next { .. }) == chain;
        batch.follows.iter().filter(|f| kind(&f.kind)).map(|f| &f.cursor).collect()
    };
    (of(true), of(false))
}

/// What is wrong with a page, which must say all of these words.
fn assert_fails<L: Lister>(lister: &L, at: &L::Cursor, body: impl Into<Body>, words: &[&str]) {
    assert_error(read(lister, at, body), ListerErrorKind::Parse, words);
}
