//! The hgweb lister on bytes: pages of a real hgweb in each of its styles, and short ones that say one thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]
#![cfg(feature = "html")]

mod html;
mod json;
#[cfg(feature = "testing")]
mod whole;

use lamplighter::lister::{FollowKind, Lister, ListerError, ListerErrorKind, Page, PageBatch};
use lamplighter::listers::HgWeb;
use lamplighter::listers::hgweb::HgWebCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Response};
use url::Url;

const ROOT: &str = "https://hg.example/hg/";

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn hgweb() -> HgWeb {
    HgWeb::new(url(ROOT), "hg.example")
}

fn json_at(page: &str) -> HgWebCursor {
    HgWebCursor::Json { url: url(page) }
}

fn html_at(page: &str) -> HgWebCursor {
    HgWebCursor::Html { url: url(page) }
}

/// Reads an answer that came from this URL.
fn read(at: &HgWebCursor, from: &str, body: impl Into<Vec<u8>>) -> Result<PageBatch, ListerError> {
    let response = Response::new(200, url(from), Body::from(body.into()), Timestamp::EPOCH);
    let mut page = Page::new();
    hgweb().page(at, response, &mut page)?;
    page.finish()
}

fn parse_error(result: Result<PageBatch, ListerError>) -> String {
    let error = result.expect_err("this cannot be read");
    assert_eq!(error.kind(), ListerErrorKind::Parse);
    error.to_string()
}

fn origins(batch: &PageBatch) -> Vec<&str> {
    assert!(batch.origins.iter().all(|s| s.origin.visit_type.as_str() == "hg" && s.part.is_none()));
    batch.origins.iter().map(|s| s.origin.url.as_str()).collect()
}

fn follows(batch: &PageBatch) -> Vec<HgWebCursor> {
    assert!(batch.follows.iter().all(|f| f.kind == FollowKind::Follow));
    batch.follows.iter().map(|f| serde_json::from_value(f.cursor.clone()).unwrap()).collect()
}

fn skips(batch: &PageBatch) -> Vec<&str> {
    batch.skips.iter().map(|s| s.why.as_str()).collect()
}
