//! pub.dev.

use http::StatusCode;
use lamplighter::lister::{Coverage, Failure, FailureKind, Lister, Mode, PageBatch, Verdict};
use lamplighter::listers::PubDev;
use lamplighter::listers::pubdev::PubDevCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Provenance, TransportErrorKind};
use serde_json::{Value, json};

use super::{assert_fails, assert_takes_its_url, follows, read, run, url, urls};

fn pubdev() -> PubDev {
    PubDev::new(&url("https://pub.example/"))
}

fn names() -> PubDevCursor {
    PubDevCursor::Names(None)
}

fn package(name: &str) -> PubDevCursor {
    PubDevCursor::Package(name.to_owned())
}

fn page(at: &PubDevCursor, body: &Value) -> PageBatch {
    read(&pubdev(), at, body.to_string()).unwrap()
}

#[test]
fn pubdev_asks_for_names_and_packages() {
    assert_eq!(pubdev().start(&run(Mode::Full)), [names()]);
    let request = pubdev().request(&names()).unwrap();
    assert_eq!(
        (request.url.as_str(), request.provenance),
        ("https://pub.example/api/package-names", Provenance::Configured)
    );
    let batch = page(&names(), &json!({ "packages": ["http", "Babylon"], "nextUrl": null }));
    assert_eq!(
        follows(&batch),
        (vec![], vec![&json!({ "package": "http" }), &json!({ "package": "Babylon" })])
    );
    assert!(batch.origins.is_empty());
    let request = pubdev().request(&package("http")).unwrap();
    assert_eq!((request.url.as_str(), request.validate), ("https://pub.example/api/packages/http", true));
    assert_eq!(pubdev().coverage(Mode::Full), Coverage::All);
}

#[test]
fn pubdev_follows_the_next_url() {
    for next in ["https://pub.example/api/package-names?page=2", "/api/package-names?page=2"] {
        // The answer came from the registry's own host.
        let body = json!({ "packages": ["a"], "nextUrl": next }).to_string();
        let answer = super::pages::answer_from("https://pub.example/api/package-names", body);
        let batch = super::pages::read_answer(&pubdev(), &names(), answer).unwrap();
        let next = json!({ "names": "https://pub.example/api/package-names?page=2" });
        assert_eq!(follows(&batch).0, [&next]);
        let at: PubDevCursor = serde_json::from_value(next).unwrap();
        assert_eq!(pubdev().request(&at).unwrap().url.query(), Some("page=2"));
    }
    assert!(page(&names(), &json!({ "packages": [] })).is_empty());
    let away = json!({ "packages": [], "nextUrl": "https://evil.example/x" }).to_string();
    assert_fails(&pubdev(), &names(), away, &["evil.example"]);
    assert_fails(&pubdev(), &names(), json!({ "packages": [], "nextUrl": 7 }).to_string(), &["nextUrl"]);
    assert_fails(
        &pubdev(),
        &names(),
        json!({ "packages": [], "nextUrl": "http://" }).to_string(),
        &["nextUrl"],
    );
}

#[test]
fn pubdev_gives_the_latest_date() {
    let body = json!({ "name": "http", "versions": [
        { "version": "2.0.0", "published": "2014-12-24T22:34:02.534090Z" },
        { "version": "1.0.1", "published": "2016-06-01T19:15:38.052Z", "retracted": true },
        { "version": "1.0.0", "published": "2013-06-01T19:15:38Z" },
    ] });
    let batch = page(&package("http"), &body);
    assert_eq!(urls(&batch), ["https://pub.example/packages/http"]);
    let origin = &batch.origins[0].origin;
    assert_eq!(origin.last_update, Some(Timestamp::parse("2016-06-01T19:15:38.052Z").unwrap()));
    assert_eq!(origin.visit_type.as_str(), "pubdev");
    assert!(origin.extra_loader_arguments.is_empty());
}

#[test]
fn pubdev_a_package_that_went_is_counted() {
    let verdict = |at: &PubDevCursor, kind| pubdev().recover(at, &Failure::new(kind, "")).verdict;
    for status in [StatusCode::NOT_FOUND, StatusCode::GONE] {
        assert!(matches!(verdict(&package("a"), FailureKind::Status(status)), Verdict::Skip(_)));
        assert_eq!(verdict(&names(), FailureKind::Status(status)), Verdict::Gap);
    }
    for kind in [
        FailureKind::Status(StatusCode::BAD_GATEWAY),
        FailureKind::Transport(TransportErrorKind::Timeout),
        FailureKind::Parse,
    ] {
        assert_eq!(verdict(&package("a"), kind), Verdict::Gap);
    }
}

#[test]
fn pubdev_a_package_may_have_no_date() {
    for versions in
        [json!([]), json!([{ "version": "1.0.0" }]), json!([{ "version": "1.0.0", "published": null }])]
    {
        let batch = page(&package("a"), &json!({ "name": "a", "versions": versions }));
        assert_eq!(batch.origins[0].origin.last_update, None);
    }
}

#[test]
fn pubdev_discontinued_packages_are_archived() {
    let archived = |body: Value| page(&package("a"), &body).origins[0].origin.archived;
    assert_eq!(archived(json!({ "versions": [], "isDiscontinued": true, "replacedBy": "b" })), Some(true));
    assert_eq!(archived(json!({ "versions": [], "isDiscontinued": false })), Some(false));
    assert_eq!(archived(json!({ "versions": [] })), Some(false));
}

#[test]
fn pubdev_odd_names_are_counted() {
    let batch = page(&names(), &json!({ "packages": ["", "a/b", "..", "\u{fc}", "a b", "ok_1"] }));
    assert_eq!(follows(&batch).1, [&json!({ "package": "ok_1" })]);
    assert_eq!(batch.skips.len(), 5);
}

#[test]
fn pubdev_a_broken_body_is_an_error_with_its_place() {
    let of_names = |body: &str, words: &[&str]| assert_fails(&pubdev(), &names(), body.to_owned(), words);
    of_names("<html>502</html>", &["no JSON", "502"]);
    of_names("", &["ends too early"]);
    of_names(r#"{"packages":["a","b"#, &["ends too early"]);
    of_names(r#"{"packages":["a",null]}"#, &["packages[1]"]);
    of_names(r#"{"nextUrl":null}"#, &["there is no \"packages\""]);
    let of_package =
        |body: &str, words: &[&str]| assert_fails(&pubdev(), &package("a"), body.to_owned(), words);
    of_package("<html>502</html>", &["no JSON", "502"]);
    of_package(r#"{"versions":[{"published":"2013-06-"#, &["ends too early"]);
    of_package(r#"{"name":"a"}"#, &["versions"]);
    of_package(r#"{"versions":[null]}"#, &["versions[0]"]);
    of_package(r#"{"versions":[{"published":"soon"}]}"#, &["versions[0].published", "soon"]);
}

#[test]
fn pubdev_takes_its_url() {
    assert_takes_its_url(
        "pubdev",
        "https://pub.dev/api/package-names",
        "https://h.example/p",
        "https://h.example/p/api/package-names",
    );
}
