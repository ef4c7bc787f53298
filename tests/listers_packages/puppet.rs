//! The Puppet Forge.

use lamplighter::lister::{Coverage, Incremental, Lister, Mode, PageBatch, RunInfo};
use lamplighter::listers::Puppet;
use lamplighter::listers::puppet::{PuppetCursor, PuppetState};
use lamplighter::model::Timestamp;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, assert_takes_its_url, follows, read, url, urls};

const NOW: &str = "2026-03-01T10:00:00Z";

fn puppet() -> Puppet {
    Puppet::new(&url("https://forgeapi.example/")).with_web_url(&url("https://forge.example/"))
}

fn cursor(of: &Value) -> PuppetCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn first() -> PuppetCursor {
    cursor(&json!({ "started": NOW }))
}

fn state(of: Value) -> PuppetState {
    serde_json::from_value(of).unwrap()
}

fn page(results: &Value, next: &Value) -> PageBatch {
    read(&puppet(), &first(), json!({ "pagination": { "next": next }, "results": results }).to_string())
        .unwrap()
}

fn release(version: &str, deleted: &Value) -> Value {
    json!({ "version": version, "created_at": "2015-04-09 12:03:13 -0700", "deleted_at": deleted,
        "file_uri": format!("/v3/files/ann-x-{version}.tar.gz"), "file_size": 13289 })
}

fn module(name: &str, releases: &Value) -> Value {
    json!({ "name": name, "owner": { "slug": "ann" }, "updated_at": "2016-12-28 20:00:02 -0800", "deprecated_at": null,
        "current_release": null, "releases": releases })
}

#[test]
fn puppet_asks_by_day() {
    let info = RunInfo::new(Timestamp::parse(NOW).unwrap(), Mode::Full);
    assert_eq!(puppet().start(&info), [first()]);
    let request = puppet().request(&first()).unwrap();
    assert_eq!(
        (request.url.as_str(), request.provenance),
        ("https://forgeapi.example/v3/modules?limit=100", Provenance::Configured)
    );
    let asked = |date: &str| {
        let resumed = puppet().resume(&state(json!({ "last_listing_date": date })), &info);
        puppet().request(&resumed[0]).unwrap().url.query().unwrap().to_owned()
    };
    assert_eq!(asked("2022-09-26T15:00:00+00:00"), "limit=100&with_release_since=2022-09-26");
    assert_eq!(asked("2022-09-26T14:59:59Z"), "limit=100&with_release_since=2022-09-25");
    // As Software Heritage writes it.
    assert_eq!(asked("2022-09-26T15:00:00.506215"), "limit=100&with_release_since=2022-09-26");
    assert_eq!(puppet().resume(&state(json!({})), &info), [first()]);
    assert_eq!(
        (puppet().coverage(Mode::Full), puppet().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn puppet_gives_artifacts() {
    let mut of = module("x", &json!([release("2.0.0", &Value::Null), release("1.0.0", &Value::Null)]));
    of["current_release"] =
        json!({ "version": "2.0.0", "file_md5": "74901a", "file_sha256": "15e973", "readme": "long" });
    let batch = page(&json!([of]), &Value::Null);
    let origin = &batch.origins[0].origin;
    assert_eq!(
        (origin.url.as_str(), origin.visit_type.as_str()),
        ("https://forge.example/modules/ann/x", "puppet")
    );
    assert_eq!(origin.last_update, Some(Timestamp::parse("2016-12-29T04:00:02Z").unwrap()));
    assert_eq!(
        Value::Object(origin.extra_loader_arguments.clone()),
        json!({ "artifacts": [
            { "url": "https://forgeapi.example/v3/files/ann-x-2.0.0.tar.gz", "version": "2.0.0", "filename": "ann-x-2.0.0.tar.gz",
              "last_update": "2015-04-09T12:03:13-07:00", "checksums": { "md5": "74901a", "sha256": "15e973" } },
            { "url": "https://forgeapi.example/v3/files/ann-x-1.0.0.tar.gz", "version": "1.0.0", "filename": "ann-x-1.0.0.tar.gz",
              "last_update": "2015-04-09T12:03:13-07:00", "checksums": { "length": 13289 } },
        ] })
    );
    // A current release of which no sum is told has its length, like any.
    let mut bare = module("x", &json!([release("2.0.0", &Value::Null)]));
    bare["current_release"] = json!({ "version": "2.0.0", "file_md5": null });
    let batch = page(&json!([bare]), &Value::Null);
    assert_eq!(
        batch.origins[0].origin.extra_loader_arguments["artifacts"][0]["checksums"],
        json!({ "length": 13289 })
    );
}

#[test]
fn puppet_follows_the_next_path() {
    let batch = page(&json!([]), &json!("/v3/modules?limit=100&offset=100"));
    let next = json!({ "next": "https://forgeapi.example/v3/modules?limit=100&offset=100", "started": NOW });
    assert_eq!(follows(&batch).0.iter().map(|v| cursor(v)).collect::<Vec<_>>(), [cursor(&next)]);
    let request = puppet().request(&cursor(&next)).unwrap();
    assert_eq!(
        (request.url.query(), request.provenance),
        (Some("limit=100&offset=100"), Provenance::Upstream)
    );
    let away = json!({ "pagination": { "next": "https://evil.example/v3" }, "results": [] }).to_string();
    assert_fails(&puppet(), &first(), away, &["evil.example"]);
    let none = json!({ "pagination": { "next": "http://" }, "results": [] }).to_string();
    assert_fails(&puppet(), &first(), none, &["pagination.next"]);
}

#[test]
fn puppet_the_date_moves_at_the_end() {
    assert!(page(&json!([]), &json!("/v3/modules?limit=100&offset=100")).marks.is_empty());
    let marks = page(&json!([]), &Value::Null).marks;
    let marked = state(marks[0].clone());
    assert_eq!(marked.last_listing_date, Some(Timestamp::parse(NOW).unwrap()));
    let older = state(json!({ "last_listing_date": "2020-01-01T00:00:00" }));
    assert_eq!(puppet().join(older.clone(), marked.clone()), marked);
    assert_eq!(puppet().join(marked.clone(), older), marked);
}

#[test]
fn puppet_deleted_releases_are_no_artifacts() {
    let some = module(
        "some",
        &json!([release("2.0.0", &json!("2016-01-01 00:00:00 -0700")), release("1.0.0", &Value::Null)]),
    );
    let all = module("all", &json!([release("1.0.0", &json!("2016-01-01 00:00:00 -0700"))]));
    let none = module("none", &json!([]));
    let batch = page(&json!([some, all, none]), &Value::Null);
    assert_eq!(
        urls(&batch),
        ["https://forge.example/modules/ann/some", "https://forge.example/modules/ann/none"]
    );
    let artifacts =
        |n: usize| batch.origins[n].origin.extra_loader_arguments["artifacts"].as_array().unwrap().clone();
    assert_eq!((artifacts(0).len(), artifacts(1).len()), (1, 0));
    assert_eq!(artifacts(0)[0]["version"], "1.0.0");
    assert_eq!(
        batch.gone.iter().map(|(k, _)| k.url.as_str()).collect::<Vec<_>>(),
        ["https://forge.example/modules/ann/all"]
    );
}

#[test]
fn puppet_deprecated_modules_are_archived() {
    let mut old = module("old", &json!([]));
    old["deprecated_at"] = json!("2020-01-01 00:00:00 -0800");
    let batch = page(&json!([old, module("new", &json!([]))]), &Value::Null);
    assert_eq!(
        (batch.origins[0].origin.archived, batch.origins[1].origin.archived),
        (Some(true), Some(false))
    );
}

#[test]
fn puppet_odd_modules_are_counted() {
    let mut unowned = module("x", &json!([]));
    unowned["owner"] = Value::Null;
    let mut misdated = module("misdated", &json!([]));
    misdated["updated_at"] = json!("soon");
    let mut fileless = module("fileless", &json!([release("1.0.0", &Value::Null)]));
    fileless["releases"][0]["file_uri"] = json!("/");
    fileless["releases"][0]["created_at"] = json!("soon");
    let batch = page(
        &json!([unowned, module("a/b", &json!([])), module("", &json!([])), misdated, fileless]),
        &Value::Null,
    );
    assert_eq!(
        urls(&batch),
        ["https://forge.example/modules/ann/misdated", "https://forge.example/modules/ann/fileless"]
    );
    assert_eq!(batch.skips.len(), 5);
    assert_eq!(batch.origins[0].origin.last_update, None);
}

#[test]
fn puppet_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| assert_fails(&puppet(), &first(), body.to_owned(), words);
    fails("<html>502</html>", &["no JSON", "502"]);
    fails("", &["ends too early"]);
    fails(r#"{"pagination":{"next":null},"results":[{"na"#, &["ends too early"]);
    fails(r#"{"pagination":{},"results":[]}"#, &["pagination", "next"]);
    fails(r#"{"pagination":{"next":null}}"#, &["results"]);
    fails(r#"{"pagination":{"next":null},"results":[null]}"#, &["results[0]"]);
    fails(
        r#"{"pagination":{"next":null},"results":[{"name":"x","releases":[{"file_uri":"/f"}]}]}"#,
        &["releases[0]", "version"],
    );
    assert!(serde_json::from_value::<PuppetState>(json!({ "last_listing_date": "soon" })).is_err());
}

#[test]
fn puppet_takes_its_urls() {
    assert_takes_its_url(
        "puppet",
        "https://forgeapi.puppet.com/v3/modules?limit=100",
        "https://h.example/p",
        "https://h.example/p/v3/modules?limit=100",
    );
    let public = Puppet::new(&url("https://forgeapi.example/"));
    let body = json!({ "pagination": { "next": null }, "results": [module("x", &json!([]))] }).to_string();
    assert_eq!(urls(&read(&public, &first(), body).unwrap()), ["https://forge.puppet.com/modules/ann/x"]);
}
