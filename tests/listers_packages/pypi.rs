//! Python's registry.

use http::{Method, StatusCode};
use lamplighter::lister::{
    Coverage, Failure, FailureKind, Incremental, Lister, ListerErrorKind, Mode, PageBatch, Verdict,
};
use lamplighter::listers::PyPi;
use lamplighter::listers::pypi::{PyPiCursor, PyPiState};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Provenance, TransportErrorKind};
use serde_json::{Value, json};

use super::{answer, assert_fails, build, build_error, follows, pages, read, run, url, urls};

fn pypi() -> PyPi {
    PyPi::new(&url("https://registry.example/pypi"))
}

fn cursor(of: &Value) -> PyPiCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn all() -> PyPiCursor {
    cursor(&json!({ "simple": {} }))
}

fn changes(since: i64, to: i64) -> PyPiCursor {
    cursor(&json!({ "changes": { "since": since, "to": to } }))
}

fn last_serial(since: i64) -> PyPiCursor {
    cursor(&json!({ "last_serial": { "since": since } }))
}

fn state(of: &Value) -> PyPiState {
    serde_json::from_value(of.clone()).unwrap()
}

fn response(value: &str) -> String {
    format!(
        "<?xml version='1.0'?>\n<methodResponse><params><param><value>{value}</value></param></params></methodResponse>"
    )
}

/// Name, version, seconds, action, serial.
type Row<'a> = (&'a str, Option<&'a str>, i64, &'a str, i64);

fn log(rows: &[Row<'_>]) -> String {
    let row = |(name, version, at, action, serial): &Row<'_>| {
        let version = version.map_or("<nil/>".to_owned(), |v| format!("<string>{v}</string>"));
        format!(
            "<value><array><data><value><string>{name}</string></value><value>{version}</value>\
             <value><int>{at}</int></value><value>{action}</value><value><i4>{serial}</i4></value></data></array></value>"
        )
    };
    response(&format!("<array><data>{}</data></array>", rows.iter().map(row).collect::<String>()))
}

fn page(at: &PyPiCursor, body: impl Into<String>) -> PageBatch {
    read(&pypi(), at, body.into()).unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

#[test]
fn pypi_lists_the_index() {
    let start = pypi().start(&run(Mode::Full));
    assert_eq!(start, [all()]);
    let request = pypi().request(&start[0]).unwrap();
    assert_eq!((request.method, request.provenance), (Method::GET, Provenance::Configured));
    assert_eq!(request.url.as_str(), "https://registry.example/simple/");
    assert_eq!(request.headers["accept"], "application/vnd.pypi.simple.v1+json");
    let batch = page(
        &all(),
        r#"{"meta": {"api-version": "1.1", "_last-serial": 77}, "projects": [{"name": "a", "_last-serial": 7}, {"name": "B.c", "_last-serial": 77, "new": 1}]}"#,
    );
    assert_eq!(
        urls(&batch),
        ["https://registry.example/project/a/", "https://registry.example/project/B.c/"]
    );
    assert!(
        batch
            .origins
            .iter()
            .all(|s| s.origin.last_update.is_none() && s.origin.visit_type.as_str() == "pypi")
    );
    assert_eq!(batch.marks, [json!({ "last_serial": 77 })]);
    assert!(batch.follows.is_empty());
    assert_eq!(
        (pypi().coverage(Mode::Full), pypi().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn pypi_takes_the_serial_of_the_header() {
    let index = r#"{"meta": {"api-version": "1.0"}, "projects": [{"name": "a"}]}"#;
    let with = answer(index).with_header("x-pypi-last-serial", "12");
    assert_eq!(pages::read_answer(&pypi(), &all(), with).unwrap().marks, [json!({ "last_serial": 12 })]);
    // Without any there is nothing to go on from: the next run is a full one.
    assert!(page(&all(), index).marks.is_empty());
    assert_eq!(pypi().resume(&state(&json!({})), &run(Mode::Incremental)), [all()]);
}

#[test]
fn pypi_reads_the_change_log() {
    let resume = pypi().resume(&state(&json!({ "last_serial": 70 })), &run(Mode::Incremental));
    assert_eq!(resume, [last_serial(70)]);
    let request = pypi().request(&resume[0]).unwrap();
    assert_eq!((request.method, request.url.as_str()), (Method::POST, "https://registry.example/pypi"));
    assert!(
        std::str::from_utf8(&request.body.unwrap()).unwrap().contains("<methodName>changelog_last_serial<")
    );
    let batch = page(&resume[0], response("<int>75</int>"));
    let next = json!({ "changes": { "since": 70, "to": 75 } });
    assert_eq!(follows(&batch), (vec![], vec![&next]));
    for reached in ["<int>70</int>", "<int>3</int>"] {
        assert!(page(&last_serial(70), response(reached)).is_empty());
    }
    let body = pypi().request(&cursor(&next)).unwrap().body.unwrap();
    let body = std::str::from_utf8(&body).unwrap();
    assert!(body.contains("changelog_since_serial") && body.contains("<int>70</int>"), "{body}");
    let batch = page(
        &changes(70, 75),
        log(&[("a", Some("1"), 100, "new release", 71), ("b", None, 90, "create", 73)]),
    );
    assert_eq!(urls(&batch), ["https://registry.example/project/a/", "https://registry.example/project/b/"]);
    assert_eq!(batch.marks, [json!({ "last_serial": 73 })]);
    assert_eq!(follows(&batch).0, [&json!({ "changes": { "since": 73, "to": 75 } })]);
    let batch =
        page(&changes(73, 75), log(&[("a", None, 100, "create", 80), ("a", None, 100, "create", 79)]));
    assert_eq!(batch.marks, [json!({ "last_serial": 80 })]);
    assert!(batch.follows.is_empty());
    let joined = pypi().join(state(&json!({ "last_serial": 9 })), state(&json!({ "last_serial": 10 })));
    assert_eq!(joined, state(&json!({ "last_serial": 10 })));
}

#[test]
fn pypi_dates_are_of_the_latest_change() {
    let batch = page(
        &changes(1, 9),
        log(&[
            ("a", Some("1"), 100, "new release", 2),
            ("b", None, 100, "add Owner ann", 3),
            ("a", Some("1"), 300, "add source file a-1.tar.gz", 4),
            ("a", Some("1"), 200, "update classifiers", 5),
            ("a", None, 400, "remove Maintainer bob", 6),
            ("c", Some("1"), 500, "yank release", 9),
        ]),
    );
    let dates: Vec<_> = batch.origins.iter().map(|s| s.origin.last_update).collect();
    assert_eq!(dates, [Some(at(300)), None, Some(at(500))]);
}

#[test]
fn pypi_removed_projects_are_gone() {
    let batch = page(
        &changes(1, 9),
        log(&[
            ("went", Some("1"), 100, "new release", 2),
            ("went", None, 100, "remove project", 3),
            ("old", None, 100, "remove", 4),
            ("back", None, 100, "remove project", 5),
            ("back", None, 101, "create", 6),
            ("file", Some("1"), 100, "remove file file-1.tar.gz", 7),
            ("release", Some("1"), 100, "remove", 8),
            ("release2", Some("1"), 100, "remove release", 9),
        ]),
    );
    let gone: Vec<_> = batch.gone.iter().map(|(key, _)| key.url.as_str()).collect();
    assert_eq!(gone, ["https://registry.example/project/went/", "https://registry.example/project/old/"]);
    assert_eq!(urls(&batch).len(), 4);
}

#[test]
fn pypi_spellings_are_one_project() {
    let batch =
        page(&changes(1, 9), log(&[("A_b", None, 100, "create", 2), ("a--B", None, 90, "create", 3)]));
    assert_eq!(urls(&batch), ["https://registry.example/project/a--B/"]);
    assert_eq!(batch.origins[0].origin.forge_id.as_deref(), Some("a-b"));
    assert_eq!(batch.origins[0].origin.last_update, Some(at(100)));
    let index = page(&all(), r#"{"projects": [{"name": "A._.b"}]}"#);
    assert_eq!(index.origins[0].origin.forge_id.as_deref(), Some("a-b"));
}

#[test]
fn pypi_a_change_log_that_stops_is_no_loop() {
    assert!(page(&changes(70, 75), log(&[])).is_empty());
    assert_fails(
        &pypi(),
        &changes(70, 75),
        log(&[("a", None, 1, "create", 70)]),
        &["after serial 70", "up to 70"],
    );
}

#[test]
fn pypi_each_stands_in_for_the_other() {
    let recover = |at: &PyPiCursor, kind| pypi().recover(at, &Failure::new(kind, ""));
    for kind in [
        FailureKind::Status(StatusCode::NOT_FOUND),
        FailureKind::Status(StatusCode::GONE),
        FailureKind::Status(StatusCode::FORBIDDEN),
        FailureKind::Status(StatusCode::METHOD_NOT_ALLOWED),
        FailureKind::Status(StatusCode::NOT_ACCEPTABLE),
        FailureKind::Refused,
        FailureKind::Transport(TransportErrorKind::NotRecorded),
    ] {
        let instead = recover(&all(), kind);
        assert_eq!((instead.verdict, instead.follow), (Verdict::Replaced, vec![last_serial(-1)]), "{kind:?}");
        for at in [last_serial(70), changes(70, 75)] {
            let instead = recover(&at, kind);
            let simple = cursor(&json!({ "simple": { "since": 70 } }));
            assert_eq!(
                (instead.verdict, instead.follow),
                (Verdict::Replaced, vec![simple.clone()]),
                "{kind:?}"
            );
            // One for the other, and no more.
            assert_eq!(recover(&simple, kind).verdict, Verdict::Gap);
        }
    }
    for kind in [
        FailureKind::Status(StatusCode::BAD_GATEWAY),
        FailureKind::Transport(TransportErrorKind::Timeout),
        FailureKind::Parse,
    ] {
        for at in [all(), last_serial(70), changes(70, 75)] {
            assert_eq!(recover(&at, kind).verdict, Verdict::Gap, "{kind:?}");
        }
    }
    let index = r#"{"meta": {"_last-serial": 77}, "projects": [{"name": "old", "_last-serial": 70}, {"name": "new", "_last-serial": 71}, {"name": "unknown"}]}"#;
    let batch = page(&cursor(&json!({ "simple": { "since": 70 } })), index);
    assert_eq!(
        urls(&batch),
        ["https://registry.example/project/new/", "https://registry.example/project/unknown/"]
    );
    assert_eq!(batch.marks, [json!({ "last_serial": 77 })]);
}

#[test]
fn pypi_a_fault_is_told() {
    let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>-32500</int></value></member>\
        <member><name>faultString</name><value><string>HTTPTooManyRequests: slow down</string></value></member></struct></value></fault></methodResponse>";
    for at in [last_serial(1), changes(1, 2)] {
        let error = read(&pypi(), &at, fault).unwrap_err();
        assert_eq!(error.kind(), ListerErrorKind::Refused);
        assert!(error.to_string().contains("fault -32500: HTTPTooManyRequests: slow down"), "{error}");
    }
    let odd = "<methodResponse><fault><value>no</value></fault></methodResponse>";
    assert_eq!(read(&pypi(), &last_serial(1), odd).unwrap_err().kind(), ListerErrorKind::Refused);
}

#[test]
fn pypi_names_that_are_none_are_counted() {
    let long = "a".repeat(256);
    let index = json!({ "projects": [{ "name": "" }, { "name": "a/b" }, { "name": "é" }, { "name": "..." }, { "name": "ok" }, { "name": long }] });
    let batch = page(&all(), index.to_string());
    assert_eq!(urls(&batch), ["https://registry.example/project/ok/"]);
    assert_eq!(batch.skips.len(), 5);
    let batch =
        page(&changes(1, 9), log(&[("a b", None, 1, "create", 2), ("c d", None, 1, "remove project", 3)]));
    assert_eq!((batch.skips.len(), batch.origins.len(), batch.gone.len()), (2, 0, 0));
}

#[test]
fn pypi_a_broken_answer_is_an_error_with_its_place() {
    let index = |body: &str, words: &[&str]| assert_fails(&pypi(), &all(), body.to_owned(), words);
    index("<!DOCTYPE html><html>", &["no JSON", "<!DOCTYPE html>"]);
    index("", &["ends too early"]);
    index(r#"{"projects": [{"name": "a"}, {"name": "#, &["ends too early"]);
    index(r#"{"projects": [{"name": "a"}, {"name": null}]}"#, &["projects[1]"]);
    index(r#"{"projects": [{"name": "a"}], "projects": []}"#, &["twice"]);
    index(r#"{"projects": null}"#, &["a list \"projects\""]);
    index(r#"{"meta": {}}"#, &["there is no \"projects\""]);
    index("[]", &["an object with a list"]);
    let log_of = |body: &str, words: &[&str]| assert_fails(&pypi(), &changes(1, 9), body.to_owned(), words);
    log_of("", &["ends too early"]);
    log_of("<html><body>Down</body></html>", &["<html> where only <methodResponse>"]);
    log_of("<methodCall></methodCall>", &["<methodCall> where only"]);
    log_of("<methodResponse></methodResponse>", &["has no value"]);
    log_of(&response("<int>9</int>"), &["no list of events"]);
    log_of(&response("<array><data><value><int>9</int></value></data></array>"), &["event 0", "Number(9)"]);
    log_of(&log(&[("a", None, 1, "create", 2)]).replace("<i4>2</i4>", "<string>2</string>"), &["event 0"]);
    log_of(&log(&[("a", None, 1, "create", 2)]).replace("<i4>2</i4>", "<i4>two</i4>"), &["no whole number"]);
    let whole = log(&[("a", None, 1, "create", 2)]);
    log_of(whole.split("</array>").next().unwrap(), &["ends too early"]);
    log_of(&whole[..whole.len() - 60], &["broken XML after 2", "not closed"]);
    let entities = format!("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>{}", response("&e;"));
    log_of(&entities, &["document type"]);
    assert_fails(&pypi(), &last_serial(1), response("<string>9</string>"), &["no serial", "Text(\"9\")"]);
    assert_fails(&pypi(), &last_serial(1), response("<int>99999999999999999999</int>"), &["no whole number"]);
    let many = response(&format!("<array><data>{}</data></array>", "<value/>".repeat(1_000_001)));
    log_of(&many, &["more than 1000000 values"]);
}

#[test]
fn pypi_needs_its_url() {
    assert!(build_error("pypi", &json!({})).contains("pypi needs url="));
    let built =
        build("pypi", &json!({ "url": "https://registry.example/pypi", "instance": "mirror" })).unwrap();
    assert_eq!(built.source.key().to_string(), "pypi of mirror");
    assert!(built.source.is_incremental());
    for (given, simple, project) in [
        ("https://h.example", "https://h.example/simple/", "https://h.example/project/a/"),
        ("https://h.example/pypi/", "https://h.example/simple/", "https://h.example/project/a/"),
        (
            "http://h.example:81/r/pypi?x#y",
            "http://h.example:81/r/simple/",
            "http://h.example:81/r/project/a/",
        ),
    ] {
        let lister = PyPi::new(&url(given));
        assert_eq!(lister.request(&all()).unwrap().url.as_str(), simple);
        let batch = read(&lister, &all(), r#"{"projects": [{"name": "a"}]}"#).unwrap();
        assert_eq!(urls(&batch), [project]);
        let endpoint = lister.request(&last_serial(1)).unwrap().url;
        assert_eq!(endpoint.as_str(), simple.replace("simple/", "pypi"));
    }
}
