//! The cgit lister on bytes: pages of a real cgit (`fixtures/cgit`), and short ones that say one thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::similar_names,
    reason = "a test may fail"
)]
#![cfg(feature = "html")]

mod hostile;
mod index;
mod repository;
mod whole;

use std::path::PathBuf;

use lamplighter::lister::{Follow, FollowKind, Lister, ListerError, ListerErrorKind, Page, PageBatch};
use lamplighter::listers::CGit;
use lamplighter::listers::cgit::CGitCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Response};
use url::Url;

const INDEX: &str = "https://cgit.example/cgit/";
const REPO: &str = "https://cgit.example/cgit/r";

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn cgit() -> CGit {
    CGit::new(url(INDEX), "cgit.example")
}

fn at_index(page: &str) -> CGitCursor {
    CGitCursor::Index { url: url(page) }
}

fn at_repo(page: &str) -> CGitCursor {
    CGitCursor::Repo { url: url(page), updated: None, hop: false }
}

/// Reads an answer that came from another URL than the cursor's.
fn read_from(
    lister: &CGit,
    at: &CGitCursor,
    answered: &str,
    body: impl Into<Vec<u8>>,
) -> Result<PageBatch, ListerError> {
    let response = Response::new(200, url(answered), Body::from(body.into()), Timestamp::EPOCH);
    let mut page = Page::new();
    lister.page(at, response, &mut page)?;
    page.finish()
}

fn read(lister: &CGit, at: &CGitCursor, body: impl Into<Vec<u8>>) -> Result<PageBatch, ListerError> {
    let asked = lister.request(at)?.url;
    read_from(lister, at, asked.as_str(), body)
}

/// Reads an index page of these rows and this pager.
fn read_index(rows: &str, pager: &str) -> Result<PageBatch, ListerError> {
    read(&cgit(), &at_index(INDEX), index_page(rows, pager))
}

/// Reads a repository's page with this summary tab and these clone links.
fn read_repo(summary: &str, hrefs: &[&str]) -> PageBatch {
    read(&cgit(), &at_repo(REPO), repo_page(summary, hrefs)).unwrap()
}

fn parse_error(result: Result<PageBatch, ListerError>) -> String {
    let error = result.expect_err("this cannot be read");
    assert_eq!(error.kind(), ListerErrorKind::Parse);
    error.to_string()
}

fn recorded(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cgit").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn row(href: &str, date: &str) -> String {
    format!(
        "<tr><td class='toplevel-repo'><a href='{href}'>name</a></td>\
         <td><span class='age-years' title='{date}'>3 years</span></td></tr>"
    )
}

fn index_page(rows: &str, pager: &str) -> String {
    format!(
        "<html><head><title>Example Git</title></head><body><div id='cgit'><div class='content'>\
         <table summary='repository list' class='list nowrap'>\
         <tr class='nohover'><th><a href='/cgit/?s=name'>Name</a></th></tr>{rows}</table>{pager}\
         </div> <!-- class=content --></div></body></html>"
    )
}

fn repo_page(summary: &str, hrefs: &[&str]) -> String {
    let link = |h: &&str| format!("<tr><td><a rel='vcs-git' href='{h}'>{h}</a></td></tr>");
    let links: String = hrefs.iter().map(link).collect();
    format!(
        "<html><head><title>r</title></head><body><div id='cgit'><table class='tabs'><tr><td>\
         <a href='{summary}'>summary</a><a href='/cgit/r/log/'>log</a></td></tr></table>\
         <div class='content'><table class='list'>{links}</table></div> <!-- class=content --></div></body></html>"
    )
}

fn origins(batch: &PageBatch) -> Vec<&str> {
    batch.origins.iter().map(|s| s.origin.url.as_str()).collect()
}

fn skips(batch: &PageBatch) -> Vec<&str> {
    batch.skips.iter().map(|s| s.why.as_str()).collect()
}

fn cursor(follow: &Follow) -> CGitCursor {
    serde_json::from_value(follow.cursor.clone()).unwrap()
}

/// (key, fingerprint, cursor) of each item.
fn items(batch: &PageBatch) -> Vec<(String, String, CGitCursor)> {
    let item = |f: &Follow| match &f.kind {
        FollowKind::Item { key, fingerprint } => Some((key.to_string(), fingerprint.clone(), cursor(f))),
        _ => None,
    };
    batch.follows.iter().filter_map(item).collect()
}

fn nexts(batch: &PageBatch) -> Vec<CGitCursor> {
    batch.follows.iter().filter(|f| matches!(f.kind, FollowKind::Next { .. })).map(cursor).collect()
}
