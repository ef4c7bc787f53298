//! Package registries: bytes in, page out. No driver, no network.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

#[cfg(feature = "archives")]
mod crates;
mod npm;

use lamplighter::lister::{
    Built, ConfigError, FollowKind, Lister, ListerError, ListerErrorKind, Mode, Page, PageBatch, Registry,
    RunInfo,
};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Response};
use serde_json::Value;
use url::Url;

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

fn run(mode: Mode) -> RunInfo {
    RunInfo::new(Timestamp::EPOCH, mode)
}

fn answer(body: impl Into<Body>) -> Response {
    Response::new(200, url("https://registry.example/p"), body.into(), Timestamp::EPOCH)
}

fn read<L: Lister>(lister: &L, at: &L::Cursor, body: impl Into<Body>) -> Result<PageBatch, ListerError> {
    let mut page = Page::new();
    lister.page(at, answer(body), &mut page)?;
    page.finish()
}

fn urls(batch: &PageBatch) -> Vec<&str> {
    batch.origins.iter().map(|s| s.origin.url.as_str()).collect()
}

/// The cursors that follow, those of the chain apart from those that stand alone.
fn follows(batch: &PageBatch) -> (Vec<&Value>, Vec<&Value>) {
    let of = |chain: bool| {
        let kind = |k: &FollowKind| matches!(k, FollowKind::Next { .. }) == chain;
        batch.follows.iter().filter(|f| kind(&f.kind)).map(|f| &f.cursor).collect()
    };
    (of(true), of(false))
}

/// What is wrong with a page, which must be of this kind and say all of these words.
fn assert_fails<L: Lister>(lister: &L, at: &L::Cursor, body: impl Into<Body>, words: &[&str]) {
    let error = read(lister, at, body).unwrap_err();
    assert_eq!(error.kind(), ListerErrorKind::Parse, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} does not say {word:?}");
    }
}

fn build(lister: &str, of: &Value) -> Result<Built, ConfigError> {
    Registry::builtin().build(lister, of.as_object().unwrap())
}

fn build_error(lister: &str, of: &Value) -> String {
    build(lister, of).unwrap_err().to_string()
}
