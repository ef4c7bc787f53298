//! Hex.

use http::Method;
use lamplighter::lister::{Coverage, Incremental, Lister, Mode, PageBatch};
use lamplighter::listers::Hex;
use lamplighter::listers::hex::{HexCursor, HexState};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Auth, Provenance};
use serde_json::{Value, json};

use super::{assert_fails, build, build_error, follows, read, run, url, urls};

const FIRST: &str = "0001-01-01T00:00:00.000000Z";
const THEN: &str = "2026-03-01T10:00:00.123456Z";
const LATER: &str = "2026-03-02T10:00:00.000001Z";

fn hex() -> Hex {
    Hex::new(&url("https://hex.example/api/")).with_page_size(3)
}

fn at(since: &str, page: u64) -> HexCursor {
    serde_json::from_value(json!({ "since": since, "page": page })).unwrap()
}

fn state(of: &Value) -> HexState {
    serde_json::from_value(of.clone()).unwrap()
}

fn package(name: &str, updated: &str) -> Value {
    json!({ "name": name, "html_url": format!("https://hex.example/packages/{name}"), "updated_at": updated, "releases": [] })
}

fn page(cursor: &HexCursor, body: &Value) -> PageBatch {
    read(&hex(), cursor, body.to_string()).unwrap()
}

fn search(cursor: &HexCursor) -> Vec<(String, String)> {
    hex().request(cursor).unwrap().url.query_pairs().into_owned().collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn hex_asks_by_date() {
    assert_eq!(hex().start(&run(Mode::Full)), [at(FIRST, 1)]);
    let request = hex().request(&at(FIRST, 1)).unwrap();
    assert_eq!((&request.method, request.provenance), (&Method::GET, Provenance::Configured));
    assert_eq!(request.auth, Auth::Header("authorization"));
    assert_eq!(request.url.path(), "/api/packages/");
    let first = pair("search", &format!("updated_after:{FIRST}"));
    assert_eq!(search(&at(FIRST, 1)), [first.clone(), pair("per_page", "3")]);
    assert_eq!(search(&at(FIRST, 4)), [first, pair("per_page", "3"), pair("page", "4")]);
    let resume = |of: &Value| hex().resume(&state(of), &run(Mode::Incremental));
    assert_eq!(resume(&json!({ "page_updated_at": THEN })), [at(THEN, 1)]);
    assert_eq!(resume(&json!({})), [at(FIRST, 1)]);
    assert_eq!(
        (hex().coverage(Mode::Full), hex().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn hex_gives_releases() {
    let body = json!([{
        "name": "plug", "html_url": "https://hex.example/packages/plug", "updated_at": THEN, "meta": {},
        "releases": [
            { "version": "2.0.0-rc.1", "url": "https://hex.example/api/packages/plug/releases/2.0.0-rc.1", "inserted_at": "2026-01-01T00:00:00Z", "has_docs": true },
            { "version": "1.0.0", "url": "https://hex.example/api/packages/plug/releases/1.0.0", "inserted_at": null },
        ],
    }]);
    let batch = page(&at(FIRST, 1), &body);
    let origin = &batch.origins[0].origin;
    assert_eq!(
        (origin.url.as_str(), origin.visit_type.as_str()),
        ("https://hex.example/packages/plug", "hex")
    );
    assert_eq!(origin.last_update, Some(Timestamp::parse(THEN).unwrap()));
    assert_eq!(
        Value::Object(origin.extra_loader_arguments.clone()),
        json!({ "releases": {
            "1.0.0": { "name": "plug", "release_url": "https://hex.example/api/packages/plug/releases/1.0.0",
                "tarball_url": "https://repo.hex.pm/tarballs/plug-1.0.0.tar", "inserted_at": null },
            "2.0.0-rc.1": { "name": "plug", "release_url": "https://hex.example/api/packages/plug/releases/2.0.0-rc.1",
                "tarball_url": "https://repo.hex.pm/tarballs/plug-2.0.0-rc.1.tar", "inserted_at": "2026-01-01T00:00:00Z" },
        } })
    );
}

#[test]
fn hex_goes_on_at_the_last_date() {
    let full = json!([package("a", THEN), package("b", THEN), package("c", LATER)]);
    let batch = page(&at(FIRST, 1), &full);
    assert_eq!(follows(&batch), (vec![&json!({ "since": LATER, "page": 1 })], vec![]));
    assert_eq!(batch.marks, [json!({ "page_updated_at": LATER })]);
    let short = page(&at(THEN, 1), &json!([package("a", THEN), package("b", LATER)]));
    assert!(short.follows.is_empty());
    assert_eq!(short.marks, [json!({ "page_updated_at": LATER })]);
    assert!(page(&at(THEN, 1), &json!([])).is_empty());
}

#[test]
fn hex_many_packages_of_one_date_are_no_loop() {
    let same = json!([package("a", THEN), package("b", THEN), package("c", THEN)]);
    assert_eq!(follows(&page(&at(THEN, 1), &same)).0, [&json!({ "since": THEN, "page": 2 })]);
    assert_eq!(follows(&page(&at(THEN, 2), &same)).0, [&json!({ "since": THEN, "page": 3 })]);
    let on = json!([package("d", THEN), package("e", THEN), package("f", LATER)]);
    assert_eq!(follows(&page(&at(THEN, 3), &on)).0, [&json!({ "since": LATER, "page": 1 })]);
}

#[test]
fn hex_states_join_to_the_later_date() {
    let joined = |a: &str, b: &str| {
        let of = |text: &str| state(&json!({ "page_updated_at": text }));
        let joined = hex().join(of(a), of(b));
        assert_eq!(joined, hex().join(of(b), of(a)));
        joined.page_updated_at.unwrap()
    };
    assert_eq!(joined(THEN, LATER), LATER);
    // As texts these would be the other way round.
    assert_eq!(joined("2026-03-01T10:00:00Z", "2026-03-01T10:00:00.5Z"), "2026-03-01T10:00:00.5Z");
    joined("2026-03-01T10:00:00Z", "2026-03-01T10:00:00.000Z");
    assert_eq!(
        hex().join(state(&json!({})), state(&json!({ "page_updated_at": THEN }))).page_updated_at.unwrap(),
        THEN
    );
}

#[test]
fn hex_odd_packages_are_counted() {
    let body = json!([
        { "name": "none", "html_url": null, "updated_at": THEN, "releases": null },
        { "name": "empty", "html_url": "", "updated_at": THEN },
        { "name": "bare", "html_url": "https://hex.example/packages/bare", "updated_at": LATER },
    ]);
    let batch = page(&at(FIRST, 1), &body);
    assert_eq!(urls(&batch), ["https://hex.example/packages/bare"]);
    assert_eq!(batch.origins[0].origin.extra_loader_arguments["releases"], json!({}));
    assert_eq!(batch.skips.iter().map(|s| s.what.as_str()).collect::<Vec<_>>(), ["none", "empty"]);
}

#[test]
fn hex_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| assert_fails(&hex(), &at(THEN, 1), body.to_owned(), words);
    fails("<html>502</html>", &["no JSON", "502"]);
    fails("", &["ends too early"]);
    fails(r#"[{"name":"a","updated_at":"2026"#, &["ends too early"]);
    fails(r#"{"status": 200}"#, &["map"]);
    fails("[null]", &["[0]"]);
    fails(r#"[{"html_url":"u","updated_at":"2026-03-01T10:00:00Z"}]"#, &["[0]", "name"]);
    fails(r#"[{"name":"a","html_url":"u","updated_at":"yesterday"}]"#, &["[0].updated_at", "\"yesterday\""]);
    fails(
        r#"[{"name":"a","html_url":"u","updated_at":"2026-03-01T10:00:00Z","releases":[{"url":"u"}]}]"#,
        &["releases[0]", "version"],
    );
}

#[test]
fn hex_checks_its_parameters() {
    let built = build("hex", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "hex of hex");
    let first = built.source.start(&run(Mode::Full)).unwrap();
    let asked = built.source.request(&first[0]).unwrap().url;
    assert!(asked.as_str().starts_with("https://hex.pm/api/packages/?search="), "{asked}");
    let other =
        build("hex", &json!({ "url": "https://h.example/api", "instance": "mine", "page_size": 7 })).unwrap();
    assert_eq!(other.source.key().to_string(), "hex of mine");
    let asked = other.source.request(&first[0]).unwrap().url;
    assert!(
        asked.as_str().starts_with("https://h.example/api/packages/?")
            && asked.as_str().ends_with("per_page=7"),
        "{asked}"
    );
    for size in [0, 101] {
        assert!(build_error("hex", &json!({ "page_size": size })).contains("page_size: must be 1 to 100"));
    }
}
