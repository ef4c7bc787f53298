//! Gitiles.

use lamplighter::lister::{Coverage, Lister, ListerErrorKind, Mode, PageBatch};
use lamplighter::listers::Gitiles;
use lamplighter::listers::gitiles::GitilesCursor;
use lamplighter::transport::Auth;
use serde_json::{Value, json};

use super::{
    answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, header, origins,
    read, run, url, urls,
};

fn gitiles() -> Gitiles {
    Gitiles::new(url("https://source.example"), "source.example")
}

fn at() -> GitilesCursor {
    serde_json::from_str("{}").unwrap()
}

fn page(body: impl Into<String>) -> PageBatch {
    read(&gitiles(), &at(), answer("https://source.example/?format=JSON", body.into())).unwrap()
}

#[test]
fn gitiles_asks_once_for_json() {
    assert_eq!(gitiles().start(&run(Mode::Full)), [at()]);
    assert_stored(&gitiles(), &at());
    let request = gitiles().request(&at()).unwrap();
    assert_eq!(request.url.as_str(), "https://source.example/?format=JSON");
    assert_eq!((header(&request, "accept"), &request.auth), (Some("application/json"), &Auth::None));
    assert!(request.validate, "an unchanged index need not be sent again");
    for (given, asked) in [
        ("https://h/git/", "https://h/git/?format=JSON"),
        ("https://h/?format=TEXT", "https://h/?format=JSON"),
        ("https://h/?b=main#x", "https://h/?b=main&format=JSON"),
    ] {
        assert_eq!(Gitiles::new(url(given), "h").request(&at()).unwrap().url.as_str(), asked);
    }
    assert_eq!(gitiles().coverage(Mode::Full), Coverage::All);
}

#[test]
fn gitiles_is_made_from_url_or_instance() {
    let built = build("gitiles", &json!({"instance": "source.example"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), "https://source.example/?format=JSON");
    let built = build("gitiles", &json!({"url": "https://source.example:81/"})).unwrap();
    assert_eq!(
        (built.source.key().name.as_str(), built.source.key().instance.as_str()),
        ("gitiles", "source.example:81")
    );
    assert!(build_error("gitiles", &json!({})).contains("url="));
}

#[test]
fn gitiles_reads_the_index_with_and_without_its_guard() {
    let index = json!({
        "platform/art": {"name": "platform/art", "clone_url": "https://source.example/platform/art", "description": "x"},
        "ünï": {"name": "ünï", "clone_url": "https://source.example/%C3%BCn%C3%AF"},
    });
    let expected = ["https://source.example/platform/art", "https://source.example/%C3%BCn%C3%AF"];
    for body in [format!(")]}}'\n{index}\n"), index.to_string()] {
        let batch = page(body);
        assert_eq!(urls(&batch), expected);
        for origin in origins(&batch) {
            assert_eq!((origin.visit_type.as_str(), origin.last_update, origin.is_fork), ("git", None, None));
        }
        assert!(batch.follows.is_empty() && batch.skips.is_empty());
    }
    assert_repeats(&gitiles(), &at(), &answer("https://source.example/", index.to_string()));
}

#[test]
fn gitiles_a_repository_without_an_address_is_counted() {
    let one =
        |clone_url: Value| json!({"good": {"clone_url": "https://h/good"}, "odd": {"clone_url": clone_url}});
    for odd in [json!(null), json!(""), json!("ssh://h/odd"), json!("odd")] {
        let batch = page(one(odd.clone()).to_string());
        assert_eq!(urls(&batch), ["https://h/good"], "{odd}");
        let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
        assert_eq!(skipped, ["odd"], "{odd}");
    }
}

#[test]
fn gitiles_an_index_without_any_address_is_an_error() {
    let body = r#"{"error": {"code": 1}, "more": {}}"#;
    assert_fails(&gitiles(), &at(), body, ListerErrorKind::Parse, &["none of the 2 entries"]);
}

#[test]
fn gitiles_an_empty_index_is_no_error() {
    assert!(page(")]}'\n{}\n").is_empty());
}

#[test]
fn gitiles_a_broken_body_is_an_error_with_its_place() {
    for (body, words) in [
        ("<!DOCTYPE html><title>Sign in</title>", "no JSON"),
        (")]}'\n[]", "invalid type"),
        (")]}'\n{\"a\":{\"clone_url\":1}}", "a.clone_url"),
        (")]}'\n{\"a\":{\"clone_url\":\"https://h", "ends too early"),
        (")]}'\n", "ends too early"),
    ] {
        assert_fails(&gitiles(), &at(), body, ListerErrorKind::Parse, &[words]);
    }
}
