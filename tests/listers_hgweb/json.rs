//! Requests, the catalogue, indexes in JSON, and what becomes of failures.

use http::StatusCode;
use lamplighter::lister::{Failure, FailureKind, Mode, Recovery, Registry, RunInfo};
use lamplighter::model::JsonObject;
use lamplighter::transport::{Provenance, TransportErrorKind};
use serde_json::{Value, json};

use super::*;

fn start(lister: &HgWeb) -> Vec<HgWebCursor> {
    lister.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full))
}

fn index(entries: &Value) -> Result<PageBatch, ListerError> {
    read(&json_at(ROOT), ROOT, json!({ "entries": entries }).to_string())
}

#[test]
fn json_is_asked_for_first() {
    assert_eq!(start(&hgweb()), [json_at(ROOT)]);
    assert_eq!(start(&hgweb().with_api(false)), [html_at(ROOT)]);
    // There it leaves directories out.
    for host in ["https://hg.mozilla.org/", "https://hg-edge.mozilla.org/"] {
        assert_eq!(start(&HgWeb::new(url(host), "m")), [html_at(host)]);
    }
    let other = "https://hg.notmozilla.org/";
    assert_eq!(start(&HgWeb::new(url(other), "m")), [json_at(other)]);
}

#[test]
fn requests_say_what_they_want_and_where_their_url_is_from() {
    let ask = |at: &HgWebCursor| hgweb().request(at).unwrap();
    let first = ask(&json_at(ROOT));
    assert_eq!((first.method.as_str(), first.url.as_str()), ("GET", "https://hg.example/hg/?style=json"));
    assert_eq!((first.headers["accept"].to_str().unwrap(), first.validate), ("application/json", false));
    // What else is in the query stays; one style is enough.
    let query = ask(&json_at("https://hg.example/hg/?a=b%20c&style=paper&d"));
    assert_eq!(query.url.as_str(), "https://hg.example/hg/?a=b+c&d=&style=json");
    let html = ask(&html_at("https://hg.example/hg/x?style=paper"));
    assert_eq!(html.url.as_str(), "https://hg.example/hg/x?style=paper");
    assert_eq!(html.headers["accept"], "text/html");
    assert_eq!(html.provenance, Provenance::Configured);
    for elsewhere in ["http://hg.example/hg/x", "https://hg.example:8443/hg/x"] {
        assert_eq!(ask(&html_at(elsewhere)).provenance, Provenance::Upstream, "{elsewhere}");
    }
}

#[test]
fn the_catalogue_makes_it() {
    let build = |given: Value| {
        let given: JsonObject = serde_json::from_value(given).unwrap();
        Registry::builtin().build("hgweb", &given).map(|b| b.source)
    };
    let first = |given: Value| {
        let source = build(given).unwrap();
        let cursor = source.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full)).unwrap().remove(0);
        (source.key().to_string(), source.request(&cursor).unwrap().url.to_string())
    };
    let of = |instance: &str, url: &str| (format!("hgweb of {instance}"), url.to_owned());
    assert_eq!(first(json!({"url": "https://h:81/b"})), of("h:81", "https://h:81/b?style=json"));
    assert_eq!(first(json!({"instance": "h"})), of("h", "https://h/?style=json"));
    assert_eq!(first(json!({"url": ROOT, "enable_api": false, "instance": "x"})), of("x", ROOT));
    assert!(build(json!({})).is_err());
}

#[test]
fn cursors_keep_their_names() {
    for (stored, cursor) in [("json", json_at(ROOT)), ("html", html_at(ROOT))] {
        let stored = json!({ stored: { "url": ROOT } });
        assert_eq!(serde_json::to_value(&cursor).unwrap(), stored);
        assert_eq!(serde_json::from_value::<HgWebCursor>(stored).unwrap(), cursor);
    }
}

#[test]
fn json_gives_repositories_and_directories() {
    let batch = index(&json!([
        {"name": "r", "url": "/hg/r/", "lastchange": [1_594_818_209, -3600], "isdirectory": false, "labels": []},
        {"name": "d/", "url": "/hg/d/", "lastchange": [1_594_818_209, -3600], "isdirectory": true},
        // Without its kind, a slash tells.
        {"name": "e/", "url": "/hg/e/", "lastchange": null},
        {"name": "s", "url": "/hg/s/", "isdirectory": null},
        // The kind counts more than the slash.
        {"name": "t/", "url": "/hg/t/", "isdirectory": false},
        {"name": null, "url": "u/?style=json#x"},
    ]))
    .unwrap();
    assert_eq!(origins(&batch), ["r", "s", "t", "u"].map(|n| format!("{ROOT}{n}/")));
    assert_eq!(follows(&batch), [json_at("https://hg.example/hg/d/"), json_at("https://hg.example/hg/e/")]);
    assert_eq!(batch.origins[0].origin.last_update.unwrap().to_string(), "2020-07-15T13:03:29Z");
    assert!(batch.skips.is_empty());
}

#[test]
fn dates_in_json_may_be_missing() {
    let date = |lastchange: Value| {
        let batch = index(&json!([{"name": "r", "url": "/hg/r/", "lastchange": lastchange}])).unwrap();
        batch.origins[0].origin.last_update.map(Timestamp::as_seconds)
    };
    assert_eq!(date(json!([1_594_818_209, -3600])), Some(1_594_818_209));
    assert_eq!(date(json!([0, 0])), Some(0));
    assert_eq!(date(json!([12.75, 0])), Some(12));
    for none in [
        json!(null),
        json!([]),
        json!(["x"]),
        json!([null, 0]),
        json!("x"),
        json!({}),
        json!([1e300]),
        json!([i64::MAX]),
    ] {
        assert_eq!(date(none.clone()), None, "{none}");
    }
}

#[test]
fn json_without_addresses_leads_to_html_for_this_directory() {
    let here = "https://hg.example/hg/d/";
    let read = |body: &str| read(&json_at(here), here, body).unwrap();
    for body in [
        r#"{"entries": []}"#,
        r#"{"entries": [{"name": "r", "lastchange": [1, 0], "labels": []}]}"#,
        r#"{"entries": [{"name": "r", "url": "/hg/d/r/"}, {"name": "s"}]}"#,
    ] {
        let batch = read(body);
        assert_eq!((origins(&batch).len(), follows(&batch)), (0, vec![html_at(here)]), "{body}");
    }
}

fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, "x")
}

#[test]
fn what_is_no_json_leads_to_html() {
    let here = "https://hg.example/hg/d/";
    for body in
        ["<html></html>", "", r#"{"error": "x"}"#, r#"{"entries": null}"#, "[]", r#"{"entries": [7]}"#]
    {
        assert!(!parse_error(read(&json_at(here), here, body)).is_empty(), "{body}");
    }
    let parse = failure(FailureKind::Parse);
    assert_eq!(hgweb().recover(&json_at(here), &parse), Recovery::replaced(vec![html_at(here)]));
    assert_eq!(hgweb().recover(&html_at(here), &parse), Recovery::gap());
}

#[test]
fn failures_are_gaps_but_for_json_that_is_not_there() {
    let status = |code| failure(FailureKind::Status(StatusCode::from_u16(code).unwrap()));
    for code in [400, 404, 406, 410] {
        assert_eq!(hgweb().recover(&json_at(ROOT), &status(code)), Recovery::replaced(vec![html_at(ROOT)]));
        assert_eq!(hgweb().recover(&html_at(ROOT), &status(code)), Recovery::gap(), "{code}");
    }
    for code in [401, 403, 429, 500, 503] {
        assert_eq!(hgweb().recover(&json_at(ROOT), &status(code)), Recovery::gap(), "{code}");
    }
    let silent = failure(FailureKind::Transport(TransportErrorKind::Timeout));
    assert_eq!(hgweb().recover(&json_at(ROOT), &silent), Recovery::gap());
}
