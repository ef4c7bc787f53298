//! Homebrew.

use lamplighter::lister::PageBatch;
use lamplighter::listers::Homebrew;
use serde_json::{Value, json};

use super::{assert_asks_once, assert_fails, assert_takes_its_url, read, url, urls};

const SUM: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn homebrew() -> Homebrew {
    Homebrew::new(&url("https://brew.example/"))
}

fn list(formulae: &[Value]) -> PageBatch {
    read(&homebrew(), &(), json!(formulae).to_string()).unwrap()
}

fn stable(url: &str) -> Value {
    json!({ "name": "a", "urls": { "stable": { "url": url, "tag": null, "using": null, "checksum": SUM } } })
}

/// What each of the addresses is: its type.
fn types(download: &str, urls: &[(&str, Option<&str>)]) -> Vec<String> {
    let formulae: Vec<Value> = urls
        .iter()
        .map(|(url, using)| json!({ "name": "a", "urls": { download: { "url": url, "using": using, "checksum": SUM } } }))
        .collect();
    list(&formulae).origins.iter().map(|s| s.origin.visit_type.to_string()).collect()
}

#[test]
fn homebrew_asks_once() {
    assert_asks_once(&homebrew(), "https://brew.example/api/formula.json");
}

#[test]
fn homebrew_lists_archives_and_files() {
    let mut upper = stable("https://h.example/b.pl");
    upper["urls"]["stable"]["checksum"] = json!(SUM.to_uppercase());
    let batch = list(&[stable("https://h.example/a-1.0.tar.gz"), upper]);
    assert_eq!(urls(&batch), ["https://h.example/a-1.0.tar.gz", "https://h.example/b.pl"]);
    for (sighting, visit_type) in batch.origins.iter().zip(["tarball-directory", "content"]) {
        let origin = &sighting.origin;
        assert_eq!((origin.visit_type.as_str(), origin.last_update), (visit_type, None));
        assert_eq!(
            Value::Object(origin.extra_loader_arguments.clone()),
            json!({ "checksums": { "sha256": SUM }, "checksum_layout": "standard", "fallback_urls": [] })
        );
    }
}

#[test]
fn homebrew_lists_repositories() {
    let both = json!({ "name": "a", "urls": {
        "stable": { "url": "https://github.com/o/a.git", "tag": "v1", "revision": "0" },
        "head": { "url": "https://github.com/o/a", "branch": "main" } } });
    let batch = list(&[
        both.clone(),
        both,
        json!({ "name": "b", "urls": { "head": { "url": "https://h.example/b" } } }),
    ]);
    assert_eq!(urls(&batch), ["https://github.com/o/a", "https://h.example/b"]);
    assert!(batch.origins.iter().all(|s| s.origin.visit_type.as_str() == "git"));
    assert!(batch.origins.iter().all(|s| s.origin.extra_loader_arguments.is_empty()));
}

#[test]
fn homebrew_tells_repositories_by_their_address() {
    let said = types(
        "stable",
        &[
            ("https://h.example/a", Some("hg")),
            ("https://h.example/b", Some(":svn")),
            ("https://h.example/c.git", None),
            ("git://h.example/d", None),
            ("svn://h.example/e", None),
            ("svn+https://h.example/f", None),
            ("https://git.sr.ht/~u/g", None),
            ("https://svn.apache.org/repos/asf/h/tags/1", None),
            ("https://h.example/i.tar.gz", Some("homebrew_curl")),
        ],
    );
    assert_eq!(said, ["hg", "svn", "git", "git", "svn", "svn", "git", "svn", "tarball-directory"]);
    assert_eq!(
        types("head", &[("https://h.example/a", None), ("https://h.example/b", Some("hg"))]),
        ["git", "hg"]
    );
}

#[test]
fn homebrew_deprecated_formulae_are_archived() {
    let archived = |more: Value| {
        let mut formula = stable("https://h.example/a.zip");
        formula.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        formula["urls"]["head"] = json!({ "url": "https://h.example/a.git" });
        let batch = list(&[formula]);
        assert_eq!(batch.origins[1].origin.archived, None);
        batch.origins[0].origin.archived
    };
    assert_eq!(archived(json!({})), Some(false));
    assert_eq!(archived(json!({ "deprecated": false, "disabled": false })), Some(false));
    assert_eq!(archived(json!({ "deprecated": true })), Some(true));
    assert_eq!(archived(json!({ "disabled": true })), Some(true));
}

#[test]
fn homebrew_odd_formulae_are_counted() {
    let without = |sum: Value| {
        let mut formula = stable("https://h.example/a.zip");
        formula["urls"]["stable"]["checksum"] = sum;
        formula
    };
    let odd = [
        json!({}),
        json!({ "name": "a", "urls": {} }),
        json!({ "name": "a", "urls": { "stable": { "url": null } } }),
        stable(""),
        stable("no url"),
        stable("file:///a.zip"),
        stable("https://h.example/download/1.0"),
        without(Value::Null),
        without(json!("abc")),
        json!({ "name": "a", "urls": { "head": { "url": "git@h.example:a.git" } } }),
        json!({ "name": "a", "urls": { "head": { "url": "none" } } }),
    ];
    let batch = list(&odd);
    assert_eq!((batch.origins.len(), batch.skips.len()), (0, odd.len()), "{:?}", batch.skips);
    let both = list(&[&odd[..], &[stable("https://h.example/a.zip")]].concat());
    assert_eq!(urls(&both), ["https://h.example/a.zip"]);
}

#[test]
fn homebrew_a_broken_list_is_an_error_with_its_place() {
    let whole = json!([stable("https://h.example/a.zip"), stable("https://h.example/b.zip")]).to_string();
    for (body, words) in [
        (whole[..whole.len() - 3].to_owned(), "ends too early"),
        ("<html>down</html>".to_owned(), "no JSON"),
        ("{}".to_owned(), "a list"),
        (String::new(), "ends too early"),
        (r#"[{"name": 7}]"#.to_owned(), "at [0]"),
    ] {
        assert_fails(&homebrew(), &(), body, &[words]);
    }
}

#[test]
fn homebrew_takes_its_url() {
    assert_takes_its_url(
        "homebrew",
        "https://formulae.brew.sh/api/formula.json",
        "https://mirror.example/brew",
        "https://mirror.example/brew/api/formula.json",
    );
}
