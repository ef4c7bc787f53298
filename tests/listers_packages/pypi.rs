//! PyPI.

use http::{Method, StatusCode};
use lamplighter::lister::{
    Coverage, Failure, FailureKind, Incremental, Lister, ListerErrorKind, Mode, PageBatch, Verdict,
};
use lamplighter::listers::PyPi;
use lamplighter::listers::pypi::{PyPiCursor, PyPiState};
use lamplighter::model::{GoneReason, Timestamp};
use lamplighter::transport::{Provenance, TransportErrorKind};
use serde_json::{Value, json};

use super::{assert_error, assert_fails, build, build_error, follows, read, run, url, urls};

fn pypi() -> PyPi {
    PyPi::new(&url("https://registry.example/pypi"))
}

fn at(of: &Value) -> PyPiCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn list() -> PyPiCursor {
    at(&json!({ "list": {} }))
}

fn changes() -> PyPiCursor {
    at(&json!({ "changes": { "since": 7 } }))
}

fn page_of_changes() -> PyPiCursor {
    at(&json!({ "changes": { "since": 7, "until": 12 } }))
}

fn answer(value: &str) -> String {
    format!("<?xml version='1.0'?><methodResponse><params><param>{value}</param></params></methodResponse>")
}

fn number(n: i64) -> String {
    answer(&format!("<value><int>{n}</int></value>"))
}

/// Rows: name, version, date, action, serial.
fn rows(of: &[(&str, Option<&str>, i64, &str, i64)]) -> String {
    let row = |(name, version, date, action, serial): &(&str, Option<&str>, i64, &str, i64)| {
        let version = version.map_or("<nil/>".to_owned(), |v| format!("<string>{v}</string>"));
        format!(
            "<value><array><data><value><string>{name}</string></value><value>{version}</value><value><int>{date}</int></value>\
             <value><string>{action}</string></value><value><int>{serial}</int></value></data></array></value>"
        )
    };
    let rows: String = of.iter().map(row).collect();
    answer(&format!("<value><array><data>{rows}</data></array></value>"))
}

fn page(of: &[(&str, Option<&str>, i64, &str, i64)]) -> PageBatch {
    read(&pypi(), &page_of_changes(), rows(of)).unwrap()
}

fn body(at: &PyPiCursor) -> String {
    let request = pypi().request(at).unwrap();
    assert_eq!((&request.method, request.url.as_str()), (&Method::POST, "https://registry.example/pypi"));
    assert_eq!(request.provenance, Provenance::Configured);
    assert_eq!(request.headers["content-type"], "text/xml");
    String::from_utf8(request.body.unwrap().to_vec()).unwrap()
}

#[test]
fn pypi_asks_for_the_list_and_then_for_changes() {
    assert_eq!(pypi().start(&run(Mode::Full)), [list()]);
    let request = pypi().request(&list()).unwrap();
    // What is read by a condition is a part, and has no dates but its own.
    assert_eq!((request.url.as_str(), request.validate), ("https://registry.example/simple/", false));
    assert_eq!(request.headers["accept"], "application/vnd.pypi.simple.v1+json");
    let projects =
        json!([{ "name": "Django", "_last-serial": 9 }, { "name": "zope.interface", "_last-serial": 7 }]);
    let of = json!({ "meta": { "_last-serial": 42 }, "projects": projects }).to_string();
    let batch = read(&pypi(), &list(), of.clone()).unwrap();
    assert_eq!(
        urls(&batch),
        ["https://registry.example/project/Django/", "https://registry.example/project/zope.interface/"]
    );
    let origin = &batch.origins[0].origin;
    assert_eq!((origin.visit_type.as_str(), origin.last_update), ("pypi", None));
    assert_eq!(batch.marks, [json!({ "last_serial": 42 })]);
    // Of a mirror that says no serials.
    let bare = json!({ "meta": {}, "projects": [{ "name": "a" }] }).to_string();
    let batch = read(&pypi(), &at(&json!({ "list": { "since": 7 } })), bare).unwrap();
    assert_eq!((batch.origins.len(), batch.marks.len()), (1, 0));
    // In the place of the log, what is new.
    let batch = read(&pypi(), &at(&json!({ "list": { "since": 7, "instead": true } })), of).unwrap();
    assert_eq!(urls(&batch), ["https://registry.example/project/Django/"]);
    let state: PyPiState = serde_json::from_value(json!({ "last_serial": 7 })).unwrap();
    assert_eq!(pypi().resume(&state, &run(Mode::Incremental)), [changes()]);
    assert_eq!(pypi().resume(&PyPiState::default(), &run(Mode::Incremental)), [list()]);
    assert_eq!(
        (pypi().coverage(Mode::Full), pypi().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn pypi_reads_the_log_up_to_its_end() {
    assert!(body(&changes()).contains("<methodName>changelog_last_serial</methodName><params></params>"));
    let batch = read(&pypi(), &changes(), number(12)).unwrap();
    assert_eq!(follows(&batch), (vec![&json!({ "changes": { "since": 7, "until": 12 } })], vec![]));
    assert!(read(&pypi(), &changes(), number(7)).unwrap().is_empty());
    let asked = body(&page_of_changes());
    assert!(asked.contains("<methodName>changelog_since_serial</methodName>"), "{asked}");
    assert!(asked.contains("<param><value><int>7</int></value></param>"), "{asked}");
    let batch = page(&[("a", None, 5, "create", 8), ("b", None, 5, "create", 10)]);
    assert_eq!(follows(&batch), (vec![&json!({ "changes": { "since": 10, "until": 12 } })], vec![]));
    assert_eq!(batch.marks, [json!({ "last_serial": 10 })]);
    for last in [12, 19] {
        let batch = page(&[("a", None, 5, "create", last)]);
        assert!(batch.follows.is_empty());
        assert_eq!(batch.marks, [json!({ "last_serial": last })]);
    }
}

#[test]
fn pypi_gives_the_last_date() {
    let batch = page(&[
        ("a", Some("1"), 100, "new release", 8),
        ("b", None, 7, "create", 9),
        ("a", Some("1"), 90, "x", 12),
    ]);
    assert_eq!(urls(&batch), ["https://registry.example/project/a/", "https://registry.example/project/b/"]);
    let dates: Vec<_> = batch.origins.iter().map(|s| s.origin.last_update).collect();
    assert_eq!(dates, [Some(Timestamp::from_seconds(100)), Some(Timestamp::from_seconds(7))]);
}

#[test]
fn pypi_deleted_projects_are_gone() {
    let batch = page(&[
        ("a", None, 5, "create", 8),
        ("a", None, 6, "remove project", 9),
        ("b", None, 6, "remove", 9),
        ("b", None, 7, "create", 10),
        ("c", Some("1.0"), 7, "remove", 11),
        ("d", None, 7, "remove Owner somebody", 12),
    ]);
    let of = |name: &str| format!("https://registry.example/project/{name}/");
    assert_eq!(urls(&batch), [of("b"), of("c"), of("d")]);
    let gone: Vec<_> = batch.gone.iter().map(|(key, why)| (key.url.clone(), *why)).collect();
    assert_eq!(gone, [(of("a"), GoneReason::Deleted)]);
}

#[test]
fn pypi_spellings_are_one_project() {
    let batch = page(&[("Zope.Interface", None, 5, "create", 8), ("zope__interface", None, 4, "x", 12)]);
    assert_eq!(urls(&batch), ["https://registry.example/project/zope__interface/"]);
    assert_eq!(batch.origins[0].origin.last_update, Some(Timestamp::from_seconds(5)));
    assert_eq!(batch.origins[0].origin.forge_id.as_deref(), Some("zope-interface"));
    let projects = json!([{ "name": "Zope-._-Interface" }]);
    let listed = read(&pypi(), &list(), json!({ "meta": {}, "projects": projects }).to_string()).unwrap();
    assert_eq!(listed.origins[0].origin.forge_id.as_deref(), Some("zope-interface"));
}

#[test]
fn pypi_the_list_and_the_log_stand_for_each_other() {
    let recover = |at: &PyPiCursor, kind| {
        let recovery = pypi().recover(at, &Failure::new(kind, ""));
        (recovery.verdict, recovery.follow)
    };
    let instead_of_list = at(&json!({ "changes": { "since": -1, "instead": true } }));
    let instead_of_log = at(&json!({ "list": { "since": 7, "instead": true } }));
    for kind in
        [FailureKind::Status(StatusCode::NOT_FOUND), FailureKind::Transport(TransportErrorKind::NotRecorded)]
    {
        assert_eq!(recover(&list(), kind), (Verdict::Replaced, vec![instead_of_list.clone()]));
        assert_eq!(recover(&changes(), kind), (Verdict::Replaced, vec![instead_of_log.clone()]));
        // Nothing stands for what stands for something: the gap is where the next run goes on.
        for at in [&instead_of_list, &instead_of_log, &page_of_changes()] {
            assert_eq!(recover(at, kind), (Verdict::Gap, vec![]));
        }
    }
    for kind in [FailureKind::Refused, FailureKind::Parse, FailureKind::Status(StatusCode::FORBIDDEN)] {
        for at in [&list(), &changes(), &instead_of_list, &instead_of_log] {
            assert_eq!(recover(at, kind), (Verdict::Gap, vec![]));
        }
    }
    let batch = read(&pypi(), &instead_of_list, number(3)).unwrap();
    assert_eq!(follows(&batch).0, [&json!({ "changes": { "since": -1, "until": 3 } })]);
}

#[test]
fn pypi_a_log_that_lacks_rows_is_not_believed() {
    assert_fails(&pypi(), &page_of_changes(), rows(&[]), &["nothing after 7", "reach 12"]);
    assert_fails(&pypi(), &page_of_changes(), rows(&[("a", None, 5, "create", 7)]), &["nothing after 7"]);
    let batch = read(&pypi(), &changes(), number(3)).unwrap();
    assert_eq!(follows(&batch), (vec![], vec![&json!({ "list": { "instead": true } })]));
}

#[test]
fn pypi_odd_names_are_counted() {
    let long = "x".repeat(300);
    for odd in ["", "a b", "a/b", "..", "\u{fc}", "-", &long] {
        let batch = page(&[(odd, None, 5, "create", 8), ("ok", None, 5, "create", 12)]);
        assert_eq!((batch.origins.len(), batch.skips.len()), (1, 1), "{odd}");
        let of = json!({ "meta": {}, "projects": [{ "name": odd }] }).to_string();
        let batch = read(&pypi(), &list(), of).unwrap();
        assert_eq!((batch.origins.len(), batch.skips.len()), (0, 1), "{odd}");
        assert!(batch.skips[0].what.len() < 100);
    }
}

#[test]
fn pypi_states_join_to_the_later() {
    let state = |of: Value| serde_json::from_value::<PyPiState>(of).unwrap();
    let (none, early, late) = (
        state(json!({ "last_serial": null })),
        state(json!({ "last_serial": 7 })),
        state(json!({ "last_serial": 12 })),
    );
    for (a, b, joined) in [(&early, &late, &late), (&late, &early, &late), (&none, &early, &early)] {
        assert_eq!(pypi().join(a.clone(), b.clone()), *joined);
    }
}

#[test]
fn pypi_a_broken_body_is_an_error_with_its_place() {
    let of = |at: &PyPiCursor, body: &str, words: &[&str]| assert_fails(&pypi(), at, body.to_owned(), words);
    of(&list(), "<html>502</html>", &["no JSON", "502"]);
    of(&list(), r#"{"projects":[{"name":"a"},"#, &["ends too early"]);
    of(&list(), r#"{"projects":[{"name":"a"},{}]}"#, &["projects[1]"]);
    of(&list(), r#"{"message":"no"}"#, &["there is no \"projects\""]);
    of(&changes(), "<html>502</html>", &["the change log", "<html> where only"]);
    of(&changes(), "", &["ends too early"]);
    of(&changes(), &rows(&[]), &["the change log"]);
    of(&page_of_changes(), &number(3), &["in no row"]);
    let cut = rows(&[("a", None, 5, "create", 8)]);
    of(&page_of_changes(), cut.split("<string>create").next().unwrap(), &["ends too early"]);
    let fault = "<methodResponse><fault><value><struct><member><name>faultString</name><value><string>too many</string></value></member></struct></value></fault></methodResponse>";
    assert_error(read(&pypi(), &changes(), fault), ListerErrorKind::Refused, &["too many"]);
}

#[test]
fn pypi_needs_its_url() {
    assert!(build_error("pypi", &json!({})).contains("url"));
    for base in ["https://h.example/x/pypi", "https://h.example/x/pypi/", "https://h.example/x"] {
        let built = build("pypi", &json!({ "url": base })).unwrap();
        assert_eq!(built.source.key().to_string(), "pypi of pypi");
        let request = |cursor: Value| built.source.request(&cursor).unwrap().url.to_string();
        assert_eq!(request(json!({ "list": {} })), "https://h.example/x/simple/");
        assert_eq!(request(json!({ "changes": { "since": 1 } })), "https://h.example/x/pypi");
    }
    let named = build("pypi", &json!({ "url": "https://h.example", "instance": "mine" })).unwrap();
    assert_eq!(named.source.key().to_string(), "pypi of mine");
}
