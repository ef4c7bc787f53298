//! Grokmirror.
#![cfg(feature = "compression")]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use lamplighter::lister::{
    Coverage, Failure, FailureKind, Lister, ListerErrorKind, Mode, PageBatch, Recovery,
};
use lamplighter::listers::Grokmirror;
use lamplighter::listers::grokmirror::GrokmirrorCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Response};
use serde_json::{Value, json};

use super::pages::assert_error;
use super::{
    arguments, assert_repeats, assert_stored, build, build_error, first_request, origins, read, run, url,
    urls,
};

fn site(base: &str) -> Grokmirror {
    Grokmirror::new(url(base), "git.example")
}

fn at(name: &str) -> GrokmirrorCursor {
    serde_json::from_value(json!({"name": name})).unwrap()
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn answer(body: impl Into<Vec<u8>>) -> Response {
    Response::new(200, url("https://git.example/manifest.js.gz"), Body::from(body.into()), Timestamp::EPOCH)
}

fn page(base: &str, manifest: &Value) -> PageBatch {
    read(&site(base), &at("manifest.js.gz"), answer(manifest.to_string())).unwrap()
}

fn asked(lister: &Grokmirror) -> String {
    lister.request(&lister.start(&run(Mode::Full))[0]).unwrap().url.into()
}

#[test]
fn grokmirror_asks_below_its_url() {
    let lister = site("https://git.example");
    assert_eq!(lister.start(&run(Mode::Full)), [at("manifest.js.gz")]);
    assert_stored(&lister, &at("manifest"));
    let request = lister.request(&at("manifest.js.gz")).unwrap();
    assert!(request.validate, "an unchanged manifest need not be sent again");
    for (base, manifest) in [
        ("https://git.example", "https://git.example/manifest.js.gz"),
        ("https://git.example/", "https://git.example/manifest.js.gz"),
        ("https://git.example/mirror", "https://git.example/mirror/manifest.js.gz"),
        ("https://git.example/mirror/?x#y", "https://git.example/mirror/manifest.js.gz"),
    ] {
        assert_eq!(asked(&site(base)), manifest);
    }
    let built = build("grokmirror", &json!({"instance": "git.example"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), "https://git.example/manifest.js.gz");
    assert!(build_error("grokmirror", &json!({})).contains("url="));
    assert_eq!(lister.coverage(Mode::Full), Coverage::All);
}

#[test]
fn grokmirror_the_url_may_name_the_manifest() {
    for name in ["manifest.js.gz", "manifest.js", "manifest", "other.js.gz"] {
        let lister = site(&format!("https://git.example/m/{name}"));
        assert_eq!(asked(&lister), format!("https://git.example/m/{name}"));
        let batch = read(&lister, &at(name), answer(r#"{"/a.git": {}}"#)).unwrap();
        assert_eq!(urls(&batch), ["https://git.example/m/a.git"]);
        let absent = Failure::new(FailureKind::Status(http::StatusCode::NOT_FOUND), "404");
        assert_eq!(lister.recover(&at(name), &absent), Recovery::gap());
    }
}

#[test]
fn grokmirror_looks_for_other_names_of_a_manifest_that_is_not_there() {
    let lister = site("https://git.example");
    let failed = |name, status: u16| {
        let kind = FailureKind::Status(status.try_into().unwrap());
        lister.recover(&at(name), &Failure::new(kind, "failed"))
    };
    assert_eq!(failed("manifest.js.gz", 404), Recovery::replaced(vec![at("manifest.js")]));
    assert_eq!(failed("manifest.js", 410), Recovery::replaced(vec![at("manifest")]));
    assert_eq!(failed("manifest", 404), Recovery::gap());
    for ill in [403, 500, 503] {
        assert_eq!(failed("manifest.js.gz", ill), Recovery::gap(), "{ill}");
    }
    let cut = lister.recover(&at("manifest.js.gz"), &Failure::new(FailureKind::Parse, "cut"));
    assert_eq!(cut, Recovery::gap());
}

#[test]
fn grokmirror_reads_it_compressed_or_not() {
    let manifest = r#"{"/a.git": {"modified": 1, "reference": null}}"#;
    for body in [gz(manifest), manifest.as_bytes().to_vec()] {
        let batch = read(&site("https://git.example"), &at("manifest.js.gz"), answer(body)).unwrap();
        assert_eq!(urls(&batch), ["https://git.example/a.git"]);
    }
    assert_repeats(&site("https://git.example"), &at("manifest.js.gz"), &answer(gz(manifest)));
}

#[test]
fn grokmirror_addresses_are_below_the_url() {
    let manifest = json!({"/pub/a b.git": {}, "/ünï.git": {}, "/c++.git": {}, "/100%#?.git": {}});
    let expected = |base: &str| {
        ["100%25%23%3F.git", "c++.git", "pub/a%20b.git", "%C3%BCn%C3%AF.git"].map(|p| format!("{base}/{p}"))
    };
    assert_eq!(urls(&page("https://git.example/", &manifest)), expected("https://git.example"));
    assert_eq!(urls(&page("https://git.example/m", &manifest)), expected("https://git.example/m"));
}

#[test]
fn grokmirror_dates_are_seconds() {
    let manifest = json!({
        "/a": {"modified": 1_700_000_000, "fingerprint": "x"}, "/b": {"modified": "1700000000"}, "/c": {"modified": 1_700_000_000.5},
        "/d": {"modified": null}, "/e": {}, "/f": {"modified": "soon"}, "/g": {"modified": {}},
    });
    let batch = page("https://git.example", &manifest);
    let dates: Vec<Option<i64>> =
        origins(&batch).iter().map(|o| o.last_update.map(Timestamp::as_micros)).collect();
    let day = Some(1_700_000_000_000_000);
    assert_eq!(dates, [day, day, day.map(|d| d + 500_000), None, None, None, None]);
    let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(skipped, ["the date of /f", "the date of /g"]);
}

#[test]
fn grokmirror_what_shares_objects_is_a_fork() {
    let manifest = json!({
        "/base.git": {"modified": 1, "reference": null}, "/fork.git": {"modified": 2, "reference": "/base.git"},
        "/other.git": {"modified": 3, "reference": "/hidden.git"}, "/third.git": {"reference": "/hidden.git"},
        "/plain.git": {"reference": ""},
    });
    let batch = page("https://git.example/m", &manifest);
    let forks: Vec<(&str, Option<bool>, Option<&str>)> = origins(&batch)
        .iter()
        .map(|o| (&o.url["https://git.example/m/".len()..], o.is_fork, o.forked_from_url.as_deref()))
        .collect();
    let (base, hidden) = (Some("https://git.example/m/base.git"), Some("https://git.example/m/hidden.git"));
    assert_eq!(
        forks,
        [
            ("base.git", None, None),
            ("fork.git", Some(true), base),
            ("other.git", Some(true), hidden),
            ("plain.git", None, None),
            ("third.git", Some(true), hidden),
            ("hidden.git", None, None),
        ]
    );
    assert_eq!(origins(&batch)[5].last_update, None);
}

#[test]
fn grokmirror_other_names_are_listed() {
    let manifest = json!({
        "/a.git": {"modified": 5, "symlinks": ["/old/a.git", "/b.git"], "reference": "/x.git"}, "/c.git": {"symlinks": null}
    });
    let batch = page("https://git.example", &manifest);
    let named = ["a.git", "old/a.git", "b.git", "c.git", "x.git"].map(|n| format!("https://git.example/{n}"));
    assert_eq!(urls(&batch), named);
    for origin in &origins(&batch)[..3] {
        assert_eq!(origin.last_update.map(Timestamp::as_seconds), Some(5));
        assert_eq!(
            (origin.is_fork, origin.forked_from_url.as_deref()),
            (Some(true), Some("https://git.example/x.git"))
        );
    }
}

#[test]
fn grokmirror_odd_paths_are_counted() {
    let manifest = json!({"/a.git": {"symlinks": ["/../up.git"]}, "": {}, "/": {}, "/x//y": {}, "error": {}, "/b": {"reference": "/./c"}});
    let batch = page("https://git.example", &manifest);
    assert_eq!(urls(&batch), ["https://git.example/a.git", "https://git.example/b"]);
    let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(skipped, ["", "/", "/../up.git", "/x//y", "error", "/./c"]);
    assert_eq!((origins(&batch)[1].is_fork, &origins(&batch)[1].forked_from_url), (None, &None));
}

#[test]
fn grokmirror_an_empty_manifest_is_no_error() {
    assert!(page("https://git.example", &json!({})).is_empty());
}

#[test]
fn grokmirror_a_broken_manifest_is_an_error_with_its_place() {
    let whole = gz(r#"{"/a.git": {"modified": 1}}"#);
    let cut = whole[..whole.len() - 9].to_vec();
    for (body, words) in [
        (cut, "manifest.js.gz"),
        (gz(r#"{"/a.git": {"modif"#), "ends too early"),
        (gz("[]"), "invalid type"),
        (gz(r#"{"/a.git": {"symlinks": "x"}}"#), "symlinks"),
        (gz(r#"{"error": {"code": 500}}"#), "none of the 1 paths"),
        (b"<html>down</html>".to_vec(), "no JSON"),
        (Vec::new(), "ends too early"),
    ] {
        let read = read(&site("https://git.example"), &at("manifest.js.gz"), answer(body));
        assert_error(read, ListerErrorKind::Parse, &[words]);
    }
}

#[test]
fn grokmirror_a_stored_state_is_no_obstacle() {
    let source = build("grokmirror", &json!({"url": "https://git.example/"})).unwrap().source;
    let state = arguments(&json!({"last_listing_date": "2026-01-30T09:49:45.000000+00:00"}));
    assert!(source.read_state(&state, 1).is_ok());
    assert!(!source.is_incremental());
    assert_eq!(source.start(&run(Mode::Full)).unwrap().len(), 1);
}
