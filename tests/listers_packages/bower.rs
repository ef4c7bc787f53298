//! Bower's registry.

use lamplighter::lister::PageBatch;
use lamplighter::listers::Bower;
use serde_json::{Value, json};

use super::{assert_asks_once, assert_fails, assert_takes_its_url, read, url, urls};

fn bower() -> Bower {
    Bower::new(url("https://bower.example/packages"))
}

fn page(body: &Value) -> PageBatch {
    read(&bower(), &(), body.to_string()).unwrap()
}

#[test]
fn bower_asks_once() {
    assert_asks_once(&bower(), "https://bower.example/packages");
}

#[test]
fn bower_lists_repositories() {
    let batch = page(&json!([
        { "name": "a", "url": "git://github.com/Owner/a.git" },
        { "name": "a-again", "url": "https://github.com/Owner/a" },
        { "name": "b", "url": "https://git.example/b.git", "hits": 3 },
        { "name": "c", "url": "git@bitbucket.org:x/c.git" },
    ]));
    assert_eq!(
        urls(&batch),
        ["https://github.com/Owner/a", "https://git.example/b.git", "https://bitbucket.org/x/c"]
    );
    assert!(
        batch.origins.iter().all(|s| s.origin.visit_type.as_str() == "git" && s.origin.last_update.is_none())
    );
    assert!(batch.follows.is_empty() && batch.skips.is_empty());
}

#[test]
fn bower_tells_kinds_apart() {
    let batch = page(&json!([
        { "name": "s", "url": "svn+http://svn.example/trunk" },
        { "name": "t", "url": "svn://svn.example/other" },
        { "name": "h", "url": "hg+https://hg.example/r" },
    ]));
    let kinds: Vec<_> =
        batch.origins.iter().map(|s| (s.origin.url.as_str(), s.origin.visit_type.as_str())).collect();
    assert_eq!(
        kinds,
        [
            ("http://svn.example/trunk", "svn"),
            ("svn://svn.example/other", "svn"),
            ("https://hg.example/r", "hg")
        ]
    );
}

#[test]
fn bower_counts_what_it_leaves_out() {
    let batch = page(&json!([
        { "name": "none" },
        { "name": "null", "url": null },
        { "url": "" },
        { "name": "private", "url": "git@git.example:a.git" },
        { "name": "file", "url": "file:///a" },
    ]));
    assert!(batch.origins.is_empty());
    let said: Vec<_> = batch
        .skips
        .iter()
        .map(|s| (s.what.as_str(), s.why.contains("names no repository that can be visited")))
        .collect();
    assert_eq!(
        said,
        [
            ("none", false),
            ("null", false),
            ("a package without a name", false),
            ("private", true),
            ("file", true)
        ]
    );
}

#[test]
fn bower_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| assert_fails(&bower(), &(), body.to_owned(), words);
    fails("<html>502</html>", &["no JSON", "502"]);
    fails("", &["ends too early"]);
    fails(r#"[{"name":"a","url":"https://git.example/a"},{"na"#, &["ends too early"]);
    fails(r#"[{"name":"a","url":"https://git.example/a"},null]"#, &["[1]"]);
    fails(r#"[{"name":"a","url":7}]"#, &["[0]"]);
    fails(r#"{"packages":[]}"#, &["a list"]);
}

#[test]
fn bower_takes_its_url() {
    assert_takes_its_url(
        "bower",
        "https://registry.bower.io/packages",
        "https://h.example/p",
        "https://h.example/p",
    );
}
