//! The forges that answer JSON: bytes in, page out. No network; a driver only where a forge of the
//! test's own makes pages fail.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

mod bitbucket;
mod fossil;
mod gerrit;
mod gitea;
mod github;
mod gitiles;
mod gitlab;
mod gitweb;
mod grokmirror;
mod launchpad;
#[path = "../common/pages.rs"]
mod pages;
mod pagure;
mod phabricator;
mod save_bulk;
mod sourceforge;
mod sourcehut;
mod stagit;
#[cfg(feature = "testing")]
mod trial;
mod tuleap;
mod urls;

use std::collections::BTreeMap;

use lamplighter::lister::{Built, FollowKind, Lister, ListerErrorKind, Mode, PageBatch};
use lamplighter::model::{JsonObject, NewOrigin};
use lamplighter::transport::{Request, Response};
use serde_json::Value;

use pages::{answer_from as answer, assert_error, build, build_error, read_answer as read, run, url, urls};

fn origins(batch: &PageBatch) -> Vec<&NewOrigin> {
    batch.origins.iter().map(|s| &s.origin).collect()
}

/// The cursors that continue the chain; fails where a page follows in another way.
fn nexts(batch: &PageBatch) -> Vec<&Value> {
    assert!(batch.follows.iter().all(|f| f.kind == FollowKind::Next { part: None }), "{:?}", batch.follows);
    batch.follows.iter().map(|f| &f.cursor).collect()
}

/// The error of a page, which must be of this kind and say all of these words.
fn assert_fails<L: Lister>(lister: &L, at: &L::Cursor, body: &str, kind: ListerErrorKind, words: &[&str]) {
    assert_error(read(lister, at, answer("https://forge.example/p", body.to_owned())), kind, words);
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request.headers.get(name).map(|v| v.to_str().unwrap())
}

fn query(request: &Request) -> BTreeMap<String, String> {
    request.url.query_pairs().into_owned().collect()
}

fn map(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn arguments(of: &Value) -> JsonObject {
    of.as_object().unwrap().clone()
}

/// The first request of a built lister, after its cursor went through its stored form.
fn first_request(built: &Built) -> Request {
    let cursors = built.source.start(&run(Mode::Full)).unwrap();
    assert_eq!(cursors.len(), 1);
    built.source.request(&cursors[0]).unwrap()
}

/// A cursor is the same after it was stored.
fn assert_stored<L: Lister>(_: &L, cursor: &L::Cursor) {
    let stored = serde_json::to_string(cursor).unwrap();
    assert_eq!(&serde_json::from_str::<L::Cursor>(&stored).unwrap(), cursor, "{stored}");
}

/// The same bytes give the same page.
fn assert_repeats<L: Lister>(lister: &L, at: &L::Cursor, response: &Response) {
    let once = read(lister, at, response.clone()).unwrap();
    assert_eq!(once, read(lister, at, response.clone()).unwrap());
    assert!(!once.is_empty());
}
