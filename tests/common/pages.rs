//! What tests of listers on bytes share: an answer in, a page out.
#![allow(dead_code, reason = "each test file uses its own part")]

use lamplighter::lister::{
    Built, ConfigError, Lister, ListerError, ListerErrorKind, Mode, Page, PageBatch, Registry, RunInfo,
};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Response};
use serde_json::Value;
use url::Url;

pub(crate) fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

pub(crate) fn run(mode: Mode) -> RunInfo {
    RunInfo::new(Timestamp::EPOCH, mode)
}

pub(crate) fn answer_from(at: &str, body: impl Into<Body>) -> Response {
    Response::new(200, url(at), body.into(), Timestamp::EPOCH)
}

pub(crate) fn read_answer<L: Lister>(
    lister: &L,
    at: &L::Cursor,
    response: Response,
) -> Result<PageBatch, ListerError> {
    let mut page = Page::new();
    lister.page(at, response, &mut page)?;
    page.finish()
}

pub(crate) fn urls(batch: &PageBatch) -> Vec<&str> {
    batch.origins.iter().map(|s| s.origin.url.as_str()).collect()
}

/// The error of a reading, which must be of this kind and say all of these words.
pub(crate) fn assert_error(read: Result<PageBatch, ListerError>, kind: ListerErrorKind, words: &[&str]) {
    let error = read.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} does not say {word:?}");
    }
}

pub(crate) fn build(lister: &str, of: &Value) -> Result<Built, ConfigError> {
    Registry::builtin().build(lister, of.as_object().unwrap())
}

pub(crate) fn build_error(lister: &str, of: &Value) -> String {
    build(lister, of).unwrap_err().to_string()
}
