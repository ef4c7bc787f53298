//! npm.

use http::{Method, StatusCode};
use lamplighter::lister::{
    Coverage, Failure, FailureKind, Incremental, Lister, Mode, PageBatch, Registry, Verdict,
};
use lamplighter::listers::Npm;
use lamplighter::listers::npm::{NpmCursor, NpmSequence, NpmState};
use lamplighter::model::GoneReason;
use lamplighter::transport::{Auth, Provenance, TransportErrorKind};
use serde_json::{Value, json};

use super::{assert_fails, build, build_error, follows, read, run, url, urls};

fn npm() -> Npm {
    Npm::new(url("https://replicate.example/_changes"), &url("https://www.example/")).unwrap()
}

fn cursor(of: &Value) -> NpmCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn state(of: &Value) -> NpmState {
    serde_json::from_value(of.clone()).unwrap()
}

fn since(seq: u64) -> NpmCursor {
    cursor(&json!({ "changes": { "since": seq } }))
}

fn page(at: &NpmCursor, body: &Value) -> PageBatch {
    read(&npm(), at, body.to_string()).unwrap()
}

fn changes(results: &Value) -> PageBatch {
    page(&since(7), &json!({ "results": results, "last_seq": 9 }))
}

fn asked(at: &NpmCursor) -> String {
    npm().request(at).unwrap().url.to_string()
}

#[test]
fn npm_asks_the_feed_by_sequence() {
    let start = npm().start(&run(Mode::Full));
    assert_eq!(start, [cursor(&json!({ "changes": {} }))]);
    let request = npm().request(&start[0]).unwrap();
    assert_eq!(request.method, Method::GET);
    assert_eq!(request.url.as_str(), "https://replicate.example/_changes?limit=10000&since=0");
    assert_eq!((request.auth, request.provenance), (Auth::None, Provenance::Configured));
    assert_eq!(asked(&since(8)), "https://replicate.example/_changes?limit=10000&since=8");
    for (size, limit) in [(3, "limit=3&"), (0, "limit=1&")] {
        let url = npm().with_page_size(size).request(&since(8)).unwrap().url;
        assert!(url.query().unwrap().starts_with(limit), "{url}");
    }
    assert_eq!(asked(&cursor(&json!({ "database": { "since": 8 } }))), "https://replicate.example/");
    assert_eq!(
        (npm().coverage(Mode::Full), npm().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn npm_resumes_after_the_last_sequence() {
    let resume = |of: &Value| npm().resume(&state(of), &run(Mode::Incremental));
    assert_eq!(resume(&json!({ "last_seq": 41 })), [since(41)]);
    assert_eq!(resume(&json!({ "last_seq": null })), npm().start(&run(Mode::Full)));
    let anew = json!({ "changes": { "since": 41, "resets": 2 } });
    assert_eq!(resume(&json!({ "last_seq": 41, "resets": 2 })), [cursor(&anew)]);
    // A state is stored as it was read, without what is not there.
    assert_eq!(serde_json::to_value(state(&json!({ "last_seq": 41 }))).unwrap(), json!({ "last_seq": 41 }));
    let batch = changes(&json!([{ "seq": 8, "id": "a" }, { "seq": 9, "id": "b" }]));
    assert_eq!(batch.marks, [json!({ "last_seq": 9 })]);
}

#[test]
fn npm_a_short_page_is_no_end() {
    let batch = changes(&json!([{ "seq": 12, "id": "a", "changes": [{ "rev": "1-x" }] }]));
    assert_eq!(follows(&batch), (vec![&json!({ "changes": { "since": 12 } })], vec![]));
    let empty = changes(&json!([]));
    assert_eq!(follows(&empty), (vec![], vec![&json!({ "database": { "since": 7 } })]));
    assert!(empty.marks.is_empty() && empty.origins.is_empty());
    // Nothing was ever in it: nothing can be behind.
    let nothing = page(&cursor(&json!({ "changes": {} })), &json!({ "results": [], "last_seq": 0 }));
    assert!(nothing.is_empty());
}

#[test]
fn npm_nothing_pending_is_the_end() {
    let pending = |n: u64| {
        let body = json!({ "results": [{ "seq": 12, "id": "a" }], "last_seq": 12, "pending": n });
        let batch = page(&since(7), &body);
        let (chain, alone) = follows(&batch);
        (chain.len(), alone.first().map(|c| (*c).clone()))
    };
    assert_eq!(pending(1), (1, None));
    assert_eq!(pending(0), (0, Some(json!({ "database": { "since": 12 } }))));
}

#[test]
fn npm_lists_packages_by_name() {
    let batch = changes(&json!([
        { "seq": 8, "id": "left-pad", "changes": [{ "rev": "3-e" }] },
        { "seq": 9, "id": "@Scope/x.y", "deleted": false },
        { "seq": 10, "id": "ünïcode ~'%2F" },
    ]));
    assert_eq!(
        urls(&batch),
        [
            "https://www.example/package/left-pad",
            "https://www.example/package/@Scope/x.y",
            "https://www.example/package/ünïcode ~'%2F"
        ]
    );
    assert!(batch.origins.iter().all(|s| s.origin.visit_type.as_str() == "npm" && s.origin.enabled));
    assert!(batch.origins.iter().all(|s| s.origin.extra_loader_arguments.is_empty()));
    assert!(batch.skips.is_empty());
}

#[test]
fn npm_deleted_packages_are_gone() {
    let batch = changes(&json!([
        { "seq": 8, "id": "kept" },
        { "seq": 9, "id": "@s/deleted", "deleted": true },
    ]));
    assert_eq!(urls(&batch), ["https://www.example/package/kept"]);
    let [(gone, GoneReason::Deleted)] = &batch.gone[..] else { panic!("{:?}", batch.gone) };
    assert_eq!(gone.to_string(), "https://www.example/package/@s/deleted (npm)");
}

#[test]
fn npm_the_last_word_counts() {
    let batch = changes(&json!([
        { "seq": 8, "id": "came-back", "deleted": true },
        { "seq": 9, "id": "went" },
        { "seq": 10, "id": "came-back" },
        { "seq": 11, "id": "went", "deleted": true },
    ]));
    assert_eq!(urls(&batch), ["https://www.example/package/came-back"]);
    assert_eq!(
        batch.gone.iter().map(|(k, _)| k.url.as_str()).collect::<Vec<_>>(),
        ["https://www.example/package/went"]
    );
}

#[test]
fn npm_design_documents_are_counted() {
    let batch = changes(&json!([{ "seq": 8, "id": "_design/app" }, { "seq": 9, "id": "design" }]));
    assert_eq!(urls(&batch), ["https://www.example/package/design"]);
    assert_eq!(batch.skips.len(), 1);
    assert_eq!(batch.skips[0].what, "_design/app");
    assert_eq!(batch.marks, [json!({ "last_seq": 9 })]);
}

#[test]
fn npm_gives_no_date() {
    let batch = changes(&json!([{ "seq": 8, "id": "a", "changes": [{ "rev": "1-x" }] }]));
    assert_eq!(batch.origins[0].origin.last_update, None);
}

#[test]
fn npm_sequences_may_be_texts() {
    let text = "28-g1AAAACbeJzLYWBg+/=";
    let batch = page(
        &cursor(&json!({ "changes": { "since": "7-abc" } })),
        &json!({ "results": [{ "seq": text, "id": "a" }], "last_seq": text }),
    );
    let next = json!({ "changes": { "since": text } });
    assert_eq!(follows(&batch), (vec![&next], vec![]));
    assert_eq!(batch.marks, [json!({ "last_seq": text })]);
    assert_eq!(
        asked(&cursor(&next)),
        "https://replicate.example/_changes?limit=10000&since=28-g1AAAACbeJzLYWBg%2B%2F%3D"
    );
}

#[test]
fn npm_states_join_to_the_latest() {
    let joined = |a: Value, b: Value| {
        let (a, b) = (state(&a), state(&b));
        let joined = npm().join(a.clone(), b.clone());
        assert_eq!(joined, npm().join(b, a));
        serde_json::to_value(joined).unwrap()
    };
    assert_eq!(joined(json!({ "last_seq": 9 }), json!({ "last_seq": 10 })), json!({ "last_seq": 10 }));
    assert_eq!(joined(json!({ "last_seq": null }), json!({ "last_seq": 1 })), json!({ "last_seq": 1 }));
    let (nine, ten) = (json!({ "last_seq": "9-zz" }), json!({ "last_seq": "10-aa" }));
    assert_eq!(joined(nine, ten.clone()), ten);
    let anew = json!({ "last_seq": 3, "resets": 1 });
    assert_eq!(joined(json!({ "last_seq": 900 }), anew.clone()), anew);
    // The same number in two forms: one of them, whichever, but always the same.
    joined(json!({ "last_seq": "9-zz" }), json!({ "last_seq": "9-aa" }));
    joined(json!({ "last_seq": "9" }), json!({ "last_seq": 9 }));
}

#[test]
fn npm_a_database_made_anew_is_listed_again() {
    let at = cursor(&json!({ "database": { "since": 100, "resets": 1 } }));
    let ahead = |seq: Value| page(&at, &json!({ "db_name": "registry", "update_seq": seq }));
    for seq in [json!(100), json!(101), json!("100-x"), json!("2000-y"), json!("no number")] {
        assert!(ahead(seq.clone()).is_empty(), "{seq}");
    }
    for seq in [json!(99), json!(0), json!("20-x")] {
        let batch = ahead(seq);
        assert_eq!(batch.marks, [json!({ "last_seq": null, "resets": 2 })]);
        let first = json!({ "changes": { "resets": 2 } });
        assert_eq!(follows(&batch), (vec![], vec![&first]));
        assert!(asked(&cursor(&first)).ends_with("since=0"));
    }
    // Its pages keep the count, so that their states count for more than the old one.
    let batch = page(
        &cursor(&json!({ "changes": { "resets": 2 } })),
        &json!({ "results": [{ "seq": 1, "id": "a" }] }),
    );
    assert_eq!(batch.marks, [json!({ "last_seq": 1, "resets": 2 })]);
    assert_eq!(follows(&batch).0, [&json!({ "changes": { "since": 1, "resets": 2 } })]);
    // Texts without a number cannot be compared.
    let unknown = cursor(&json!({ "database": { "since": "abc" } }));
    assert!(page(&unknown, &json!({ "update_seq": 1 })).is_empty());
}

#[test]
fn npm_a_database_that_says_nothing_is_let_be() {
    let verdict = |at: &NpmCursor, kind| npm().recover(at, &Failure::new(kind, "")).verdict;
    let database = NpmCursor::Database { since: NpmSequence::Number(8), resets: 0 };
    let (absent, gone) = (StatusCode::NOT_FOUND, StatusCode::GONE);
    for kind in [
        FailureKind::Status(absent),
        FailureKind::Status(gone),
        FailureKind::Transport(TransportErrorKind::NotRecorded),
    ] {
        assert!(matches!(verdict(&database, kind), Verdict::Skip(_)), "{kind:?}");
        assert_eq!(verdict(&since(8), kind), Verdict::Gap, "{kind:?}");
    }
    for kind in [
        FailureKind::Status(StatusCode::INTERNAL_SERVER_ERROR),
        FailureKind::Transport(TransportErrorKind::Timeout),
        FailureKind::Parse,
    ] {
        assert_eq!(verdict(&database, kind), Verdict::Gap, "{kind:?}");
    }
}

#[test]
fn npm_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| assert_fails(&npm(), &since(7), body.to_owned(), words);
    fails("<html>502 Bad Gateway</html>", &["no JSON", "502 Bad Gateway"]);
    fails("", &["ends too early"]);
    fails(r#"{"results":[{"seq":8,"id":"a"#, &["ends too early"]);
    fails(r#"{"last_seq":8}"#, &["results"]);
    fails(r#"{"error":"unknown_error","reason":"undefined"}"#, &["results"]);
    fails(r#"{"results":null}"#, &["results"]);
    fails(r#"{"results":[{"seq":8,"id":"a"},null]}"#, &["results[1]"]);
    fails(r#"{"results":[{"seq":8,"id":"a"},{"seq":9}]}"#, &["results[1]", "id"]);
    fails(r#"{"results":[{"seq":-8,"id":"a"}]}"#, &["results[0].seq"]);
    fails(r#"{"results":[{"id":"a"}]}"#, &["results[0]", "seq"]);
    fails(r#"{"results":[{"seq":8,"id":7}]}"#, &["results[0].id"]);
    let database = cursor(&json!({ "database": { "since": 8 } }));
    assert_fails(&npm(), &database, "{\"db_name\":\"registry\"}", &["update_seq"]);
    assert_fails(&npm(), &database, "ok", &["no JSON"]);
}

#[test]
fn npm_needs_both_urls() {
    let both = json!({ "url": "https://replicate.example/_changes", "web_url": "https://www.example" });
    let built = build("npm", &both).unwrap();
    assert_eq!(built.source.key().to_string(), "npm of npm");
    assert!(built.source.is_incremental());
    for missing in ["url", "web_url"] {
        let mut some = both.clone();
        some.as_object_mut().unwrap().remove(missing);
        let error = build_error("npm", &some);
        assert!(error.contains(&format!("npm needs {missing}=")), "{error}");
    }
    let with = |name: &str, value: Value| {
        let mut more = both.clone();
        more[name] = value;
        more
    };
    let named = build("npm", &with("instance", json!("mirror"))).unwrap();
    assert_eq!(named.source.key().to_string(), "npm of mirror");
    let small = build("npm", &with("page_size", json!("2"))).unwrap();
    let first = small.source.start(&run(Mode::Full)).unwrap();
    assert_eq!(small.source.request(&first[0]).unwrap().url.query(), Some("limit=2&since=0"));
    assert!(build_error("npm", &with("page_size", json!(0))).contains("page_size"));
    assert_eq!(Registry::builtin().entry("npm").unwrap().positions, ["since"]);
}

#[test]
fn npm_the_url_may_be_the_database() {
    for (given, feed, database) in [
        ("https://h.example", "https://h.example/_changes", "https://h.example/"),
        ("https://h.example/_changes/", "https://h.example/_changes", "https://h.example/"),
        (
            "http://h.example:81/r/registry/?x#y",
            "http://h.example:81/r/registry/_changes",
            "http://h.example:81/r/registry/",
        ),
        (
            "https://h.example/registry/_changes",
            "https://h.example/registry/_changes",
            "https://h.example/registry/",
        ),
    ] {
        let lister = Npm::new(url(given), &url("https://www.example/site/")).unwrap();
        let asked = |at: &NpmCursor| lister.request(at).unwrap().url;
        let mut changes = asked(&since(1));
        changes.set_query(None);
        assert_eq!(changes.as_str(), feed);
        assert_eq!(asked(&cursor(&json!({ "database": { "since": 1 } }))).as_str(), database);
    }
    let below = Npm::new(url("https://h.example/"), &url("https://www.example/site/")).unwrap();
    let batch = read(&below, &since(1), r#"{"results":[{"seq":2,"id":"a"}]}"#).unwrap();
    assert_eq!(urls(&batch), ["https://www.example/site/package/a"]);
}
