//! Elm's registry.

use lamplighter::lister::{Coverage, Incremental, Lister, Mode};
use lamplighter::listers::Elm;
use lamplighter::listers::elm::{ElmCursor, ElmState};
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, assert_takes_its_url, read, run, url, urls};

fn elm() -> Elm {
    Elm::new(&url("https://elm.example/"))
}

fn since(n: u64) -> ElmCursor {
    serde_json::from_value(json!({ "since": n })).unwrap()
}

fn state(of: Value) -> ElmState {
    serde_json::from_value(of).unwrap()
}

#[test]
fn elm_asks_by_count() {
    assert_eq!(elm().start(&run(Mode::Full)), [since(0)]);
    let request = elm().request(&since(17)).unwrap();
    assert_eq!(
        (request.url.as_str(), request.provenance),
        ("https://elm.example/all-packages/since/17", Provenance::Configured)
    );
    let resume = |of| elm().resume(&state(of), &run(Mode::Incremental));
    assert_eq!(resume(json!({ "all_packages_count": 3 })), [since(3)]);
    assert_eq!(resume(json!({ "all_packages_count": null })), [since(0)]);
    assert_eq!(
        (elm().coverage(Mode::Full), elm().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn elm_lists_repositories() {
    let body = r#"["elm/core@1.0.5", "Owner/Name.x@1.0.0", "elm/core@1.0.4"]"#;
    let batch = read(&elm(), &since(0), body).unwrap();
    assert_eq!(urls(&batch), ["https://github.com/elm/core", "https://github.com/Owner/Name.x"]);
    assert!(
        batch.origins.iter().all(|s| s.origin.last_update.is_none() && s.origin.visit_type.as_str() == "git")
    );
    assert!(batch.follows.is_empty());
}

#[test]
fn elm_counts_releases() {
    let marks = |n, body: &'static str| read(&elm(), &since(n), body).unwrap().marks;
    assert_eq!(marks(0, r#"["a/b@1.0.0", "a/b@2.0.0", "c/d@1.0.0"]"#), [json!({ "all_packages_count": 3 })]);
    assert_eq!(marks(3, r#"["e/f@1.0.0"]"#), [json!({ "all_packages_count": 4 })]);
    assert_eq!(marks(4, "[]"), [json!({ "all_packages_count": 4 })]);
    let (three, four) =
        (state(json!({ "all_packages_count": 3 })), state(json!({ "all_packages_count": 4 })));
    assert_eq!(elm().join(three.clone(), four.clone()), four);
    assert_eq!(elm().join(four.clone(), state(json!({}))), four);
}

#[test]
fn elm_odd_releases_are_counted() {
    let body = json!([
        "",
        "a/b",
        "a@1.0.0",
        "a/b@",
        "/b@1.0.0",
        "a/b/c@1.0.0",
        "a/../b@1",
        "\u{fc}/b@1.0.0",
        "ok/ok@1.0.0"
    ]);
    let batch = read(&elm(), &since(0), body.to_string()).unwrap();
    assert_eq!(urls(&batch), ["https://github.com/ok/ok"]);
    assert_eq!(batch.skips.len(), 8);
    assert_eq!(batch.marks, [json!({ "all_packages_count": 9 })]);
}

#[test]
fn elm_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| assert_fails(&elm(), &since(0), body.to_owned(), words);
    fails("<html>502</html>", &["no JSON", "502"]);
    fails("", &["ends too early"]);
    fails(r#"["a/b@1.0.0", "a/"#, &["ends too early"]);
    fails(r#"["a/b@1.0.0", null]"#, &["[1]"]);
    fails(r#"{"a/b": ["1.0.0"]}"#, &["a list"]);
    fails("[] []", &["trailing"]);
}

#[test]
fn elm_takes_its_url() {
    assert_takes_its_url(
        "elm",
        "https://package.elm-lang.org/all-packages/since/0",
        "https://h.example/e",
        "https://h.example/e/all-packages/since/0",
    );
}
