//! The registry of D.

use lamplighter::lister::PageBatch;
use lamplighter::listers::Dlang;
use lamplighter::model::Timestamp;
use serde_json::{Value, json};

use super::{assert_asks_once, assert_fails, assert_takes_its_url, read, url, urls};

fn dlang() -> Dlang {
    Dlang::new(&url("https://dub.example/"))
}

fn page(body: &Value) -> PageBatch {
    read(&dlang(), &(), body.to_string()).unwrap()
}

fn package(kind: &str, owner: &str, project: &str, updated: &str) -> Value {
    json!({ "name": project, "repository": { "kind": kind, "owner": owner, "project": project }, "stats": { "updatedAt": updated }, "versions": [] })
}

const THEN: &str = "2023-07-12T14:42:46.231Z";
const LATER: &str = "2024-07-12T14:42:46.231Z";

#[allow(clippy::unnecessary_wraps, reason = "compared with what may be none")]
fn date(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).ok()
}

#[test]
fn dlang_asks_once() {
    assert_asks_once(&dlang(), "https://dub.example/api/packages/dump");
}

#[test]
fn dlang_lists_repositories() {
    let batch = page(&json!([
        package("github", "Owner", "a", THEN),
        package("gitlab", "group/sub", "b", THEN),
        package("bitbucket", "x", "c", THEN),
    ]));
    assert_eq!(
        urls(&batch),
        ["https://github.com/Owner/a", "https://gitlab.com/group/sub/b", "https://bitbucket.org/x/c"]
    );
    assert!(
        batch
            .origins
            .iter()
            .all(|s| s.origin.visit_type.as_str() == "git" && s.origin.last_update == date(THEN))
    );
}

#[test]
fn dlang_one_repository_has_the_latest_date() {
    let batch = page(&json!([
        package("github", "o", "a", THEN),
        package("github", "o", "b", LATER),
        package("github", "o", "a", LATER),
        package("github", "o", "b", THEN),
        package("github", "o", "c", "?"),
        package("github", "o", "c", THEN),
    ]));
    // What is said last counts.
    let said: Vec<_> = batch
        .origins
        .iter()
        .map(|s| (s.origin.url.rsplit('/').next().unwrap(), s.origin.last_update))
        .collect();
    assert_eq!(
        said,
        [("a", date(THEN)), ("b", date(LATER)), ("a", date(LATER)), ("c", None), ("c", date(THEN))]
    );
}

#[test]
fn dlang_counts_what_it_leaves_out() {
    let batch = page(&json!([
        package("gitea", "o", "far", THEN),
        { "name": "none" },
        { "name": "null", "repository": null },
        { "name": "kindless", "repository": { "owner": "o", "project": "p" } },
        package("github", "", "ownerless", THEN),
        package("github", "..", "up", THEN),
        { "repository": { "kind": "github", "owner": "o", "project": "undated" }, "stats": null },
        package("github", "o", "misdated", "soon"),
    ]));
    assert_eq!(urls(&batch), ["https://github.com/o/undated", "https://github.com/o/misdated"]);
    assert!(batch.origins.iter().all(|s| s.origin.last_update.is_none()));
    let said: Vec<_> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(said, ["far", "none", "null", "kindless", "ownerless", "up", "the date of misdated"]);
    assert!(batch.skips[0].why.contains("gitea"));
}

#[test]
fn dlang_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| assert_fails(&dlang(), &(), body.to_owned(), words);
    fails("<html>502</html>", &["no JSON", "502"]);
    fails("", &["ends too early"]);
    fails(r#"[{"name":"a"},{"na"#, &["ends too early"]);
    fails(r#"[{"name":"a"},null]"#, &["[1]"]);
    fails(r#"[{"repository":"a/b"}]"#, &["[0]"]);
    fails(r#"{"results":[]}"#, &["a list"]);
}

#[test]
fn dlang_takes_its_url() {
    assert_takes_its_url(
        "dlang",
        "https://code.dlang.org/api/packages/dump",
        "https://h.example/d/api/packages/dump",
        "https://h.example/d/api/packages/dump",
    );
}
