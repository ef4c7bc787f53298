//! A lister in one trait impl (`shelf.rs`), run against a forge of two pages.
use std::sync::Arc;

use lamplighter::backend::{MemoryStore, RunOutcome};
use lamplighter::driver::{Driver, RunOptions, SystemClock};
use lamplighter::lister::Source;
use lamplighter::model::Timestamp;
use lamplighter::testing::Answering;
use lamplighter::transport::{Body, Request, Response};
use url::Url;

mod shelf;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let forge = Answering::new(|request: &Request| {
        let body = if request.url.query() == Some("page=1") {
            r#"{"repositories": [{"clone_url": "https://shelf.example/a.git", "updated": "2026-11-01T12:00:00Z"},
                                 {"clone_url": "https://shelf.example/b.git", "updated": null}], "next": 2}"#
        } else {
            r#"{"repositories": [{"clone_url": "https://shelf.example/c.git", "updated": null}], "next": null}"#
        };
        Ok(Response::new(200, request.url.clone(), Body::from(body), Timestamp::EPOCH))
    });
    let shelf = shelf::Shelf { base: Url::parse("https://shelf.example/repositories")? };
    let driver = Driver::new(Arc::new(MemoryStore::new()), Arc::new(forge), Arc::new(SystemClock));
    let report = driver.run(Arc::new(Source::stateless(shelf)), RunOptions::default()).await?;
    assert_eq!((report.outcome, report.counts.new, report.pages), (RunOutcome::Complete, 3, 2));
    Ok(())
}
