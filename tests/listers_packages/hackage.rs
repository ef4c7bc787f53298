//! Hackage.

use http::Method;
use lamplighter::lister::{Coverage, Incremental, Lister, Mode, PageBatch, RunInfo};
use lamplighter::listers::Hackage;
use lamplighter::listers::hackage::{HackageCursor, HackageState};
use lamplighter::model::Timestamp;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, assert_takes_its_url, follows, read, url, urls};

const NOW: &str = "2026-03-01T23:30:00Z";

fn hackage() -> Hackage {
    Hackage::new(&url("https://hackage.example/"))
}

fn cursor(of: &Value) -> HackageCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn at(page: u64, seen: u64) -> HackageCursor {
    cursor(&json!({ "page": page, "seen": seen, "started": NOW }))
}

fn package(name: &str) -> Value {
    json!({ "name": { "display": name, "uri": format!("/package/{name}") }, "lastUpload": "2021-09-09T05:13:30.343509948Z", "tags": [] })
}

fn page(at: &HackageCursor, total: u64, packages: &[Value]) -> PageBatch {
    read(&hackage(), at, json!({ "numberOfResults": total, "pageContents": packages }).to_string()).unwrap()
}

fn asked(at: &HackageCursor) -> Value {
    serde_json::from_slice(&hackage().request(at).unwrap().body.unwrap()).unwrap()
}

#[test]
fn hackage_asks_by_search() {
    let info = RunInfo::new(Timestamp::parse(NOW).unwrap(), Mode::Full);
    assert_eq!(hackage().start(&info), [at(0, 0)]);
    let request = hackage().request(&at(0, 0)).unwrap();
    assert_eq!((&request.method, request.provenance), (&Method::POST, Provenance::Configured));
    assert_eq!(request.url.as_str(), "https://hackage.example/packages/search");
    assert!(request.headers["user-agent"].to_str().unwrap().starts_with("curl/"));
    assert_eq!(
        asked(&at(2, 100)),
        json!({ "page": 2, "sortColumn": "default", "sortDirection": "ascending", "searchQuery": "(deprecated:any)" })
    );
    let state = |of: Value| serde_json::from_value::<HackageState>(of).unwrap();
    let resumed =
        hackage().resume(&state(json!({ "last_listing_date": "2022-08-26T02:27:45.073759+00:00" })), &info);
    assert_eq!(asked(&resumed[0])["searchQuery"], "(deprecated:any)(lastUpload >= 2022-08-26)");
    assert_eq!(hackage().resume(&state(json!({})), &info), [at(0, 0)]);
    assert_eq!(
        (hackage().coverage(Mode::Full), hackage().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn hackage_lists_packages() {
    let mut old = package("3d-old");
    old["tags"] =
        json!([{ "display": "bsd3" }, { "display": "deprecated", "uri": "/packages/tag/deprecated" }]);
    let mut untagged = package("bare");
    untagged.as_object_mut().unwrap().remove("tags");
    let batch = page(&at(0, 0), 3, &[package("Agda"), old, untagged]);
    assert_eq!(
        urls(&batch),
        [
            "https://hackage.example/package/Agda",
            "https://hackage.example/package/3d-old",
            "https://hackage.example/package/bare"
        ]
    );
    let of = |n: usize| &batch.origins[n].origin;
    assert_eq!(of(0).last_update, Some(Timestamp::parse("2021-09-09T05:13:30.343509Z").unwrap()));
    assert_eq!((of(0).archived, of(1).archived, of(2).archived), (Some(false), Some(true), None));
    assert_eq!(of(0).visit_type.as_str(), "hackage");
}

#[test]
fn hackage_goes_on_until_all_have_come() {
    // Pages of two, then of one: the count of packages decides.
    let next = |at: &HackageCursor, total, names: &[&str]| {
        let packages: Vec<Value> = names.iter().map(|n| package(n)).collect();
        let batch = page(at, total, &packages);
        follows(&batch).0.first().map(|v| cursor(v))
    };
    assert_eq!(next(&at(0, 0), 4, &["a", "b"]), Some(at(1, 2)));
    assert_eq!(next(&at(1, 2), 4, &["c"]), Some(at(2, 3)));
    assert_eq!(next(&at(2, 3), 4, &["d"]), None);
    // It became more meanwhile, or less: an empty page is the end.
    assert_eq!(next(&at(2, 3), 9, &["d"]), Some(at(3, 4)));
    assert_eq!(next(&at(3, 4), 9, &[]), None);
    assert_eq!(next(&at(0, 0), 0, &[]), None);
}

#[test]
fn hackage_the_date_moves_at_the_end() {
    assert!(page(&at(0, 0), 2, &[package("a")]).marks.is_empty());
    let marks = page(&at(1, 1), 2, &[package("b")]).marks;
    let marked: HackageState = serde_json::from_value(marks[0].clone()).unwrap();
    assert_eq!(marked.last_listing_date, Some(Timestamp::parse(NOW).unwrap()));
    let older: HackageState =
        serde_json::from_value(json!({ "last_listing_date": "2020-01-01T00:00:00Z" })).unwrap();
    assert_eq!(hackage().join(older.clone(), marked.clone()), marked);
    assert_eq!(hackage().join(marked.clone(), older), marked);
}

#[test]
fn hackage_odd_packages_are_counted() {
    let odd = json!({ "name": { "display": "dated" }, "lastUpload": "soon" });
    let none = json!({ "name": { "display": "undated" }, "lastUpload": null });
    let batch = page(&at(0, 0), 5, &[odd, none, package(""), package("../x"), package("ok")]);
    assert_eq!(batch.origins.len(), 3);
    assert_eq!(batch.origins[0].origin.last_update, None);
    assert_eq!(batch.skips.len(), 4);
    // They count among those that came.
    assert!(batch.follows.is_empty());
}

#[test]
fn hackage_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| assert_fails(&hackage(), &at(0, 0), body.to_owned(), words);
    fails("<html>403</html>", &["no JSON", "403"]);
    fails("", &["ends too early"]);
    fails(r#"{"numberOfResults":3,"pageContents":[{"name"#, &["ends too early"]);
    fails(r#"{"numberOfResults":3}"#, &["pageContents"]);
    fails(r#"{"pageContents":[]}"#, &["numberOfResults"]);
    fails(r#"{"numberOfResults":-1,"pageContents":[]}"#, &["numberOfResults"]);
    fails(r#"{"numberOfResults":3,"pageContents":[null]}"#, &["pageContents[0]"]);
    fails(r#"{"numberOfResults":3,"pageContents":[{"name":"a"}]}"#, &["pageContents[0].name"]);
}

#[test]
fn hackage_takes_its_url() {
    assert_takes_its_url(
        "hackage",
        "https://hackage.haskell.org/packages/search",
        "https://h.example/r",
        "https://h.example/r/packages/search",
    );
}
