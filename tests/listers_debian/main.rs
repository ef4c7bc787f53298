//! The Debian lister: release files and indexes as bytes, and whole listings through the driver.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]
#![cfg(all(feature = "compression", feature = "testing"))]

mod index;
mod parts;
mod release;
mod whole;

use lamplighter::lister::{FollowKind, Lister, ListerError, ListerErrorKind, Page, PageBatch};
use lamplighter::listers::Debian;
use lamplighter::listers::debian::DebianCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Response};
use url::Url;

const ARCHIVE: &str = "https://deb.example/debian";

fn debian(components: &[&str]) -> Debian {
    Debian::new(ARCHIVE.parse().unwrap(), "Debian", ["sid"], components.iter().copied())
}

fn release_at(at: usize) -> DebianCursor {
    DebianCursor::Release { suite: "sid".into(), at }
}

fn index_at(names: &[&str], at: usize, listed: bool) -> DebianCursor {
    let names = names.iter().map(ToString::to_string).collect();
    DebianCursor::Index { suite: "sid".into(), component: "main".into(), names, at, listed }
}

fn answer(body: impl Into<Vec<u8>>) -> Response {
    let url = Url::parse("https://deb.example/debian/dists/sid/x").unwrap();
    Response::new(200, url, Body::from(body.into()), Timestamp::EPOCH)
}

fn read(lister: &Debian, at: &DebianCursor, response: Response) -> Result<PageBatch, ListerError> {
    let mut page = Page::new();
    lister.page(at, response, &mut page)?;
    page.finish()
}

fn parse_error(result: Result<PageBatch, ListerError>) -> String {
    let error = result.expect_err("this cannot be read");
    assert_eq!(error.kind(), ListerErrorKind::Parse);
    error.to_string()
}

/// (key, fingerprint, cursor) of each item.
fn items(batch: &PageBatch) -> Vec<(String, String, DebianCursor)> {
    let item = |f: &lamplighter::lister::Follow| match &f.kind {
        FollowKind::Item { key, fingerprint } => {
            (key.to_string(), fingerprint.clone(), serde_json::from_value(f.cursor.clone()).unwrap())
        }
        other => panic!("{other:?}"),
    };
    batch.follows.iter().map(item).collect()
}

fn fixture(file: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/debian").join(file);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
