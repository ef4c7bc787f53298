//! Packagist.

use http::StatusCode;
use lamplighter::lister::{Coverage, Failure, FailureKind, Incremental, Lister, Mode, PageBatch, Verdict};
use lamplighter::listers::Packagist;
use lamplighter::listers::packagist::{PackagistCursor, PackagistState};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Provenance, TransportErrorKind};
use serde_json::{Value, json};

use super::{assert_fails, build, follows, read, run, url, urls};

const LIST: &str = "https://packagist.example/packages/list.json";

fn packagist() -> Packagist {
    Packagist::new(url(LIST), &url("https://repo.example")).unwrap()
}

fn at(of: &Value) -> PackagistCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn names() -> PackagistCursor {
    at(&json!({ "names": { "timestamp": 7 } }))
}

fn changes() -> PackagistCursor {
    at(&json!({ "changes": { "since": 17_000_000_000_000_u64 } }))
}

fn package() -> PackagistCursor {
    at(&json!({ "package": "a/b" }))
}

fn branches(instead: bool) -> PackagistCursor {
    at(&json!({ "branches": { "name": "a/b", "instead": instead } }))
}

fn page(at: &PackagistCursor, body: &Value) -> PageBatch {
    read(&packagist(), at, body.to_string()).unwrap()
}

/// The page of a package with these versions, shortened or not.
fn versions(of: &Value, minified: bool) -> PageBatch {
    let mut body = json!({ "packages": { "a/b": of } });
    if minified {
        body["minified"] = json!("composer/2.0");
    }
    page(&package(), &body)
}

fn version(url: &str, time: &str) -> Value {
    json!({ "source": { "type": "git", "url": url, "reference": "0" }, "time": time })
}

fn asked(at: &PackagistCursor) -> String {
    packagist().request(at).unwrap().url.to_string()
}

#[test]
fn packagist_asks_for_names_and_packages() {
    let start = packagist().start(&run(Mode::Full));
    assert_eq!(start, [at(&json!({ "changes": { "since": 16_000_000_000_000_u64 } }))]);
    // Whatever it says of changes, it is all that is wanted.
    let first =
        page(&start[0], &json!({ "actions": [{ "type": "update", "package": "a/b" }], "timestamp": 7 }));
    assert_eq!(follows(&first), (vec![], vec![&json!({ "names": { "timestamp": 7 } })]));
    let request = packagist().request(&names()).unwrap();
    assert_eq!((request.url.as_str(), request.provenance), (LIST, Provenance::Configured));
    assert!(!request.validate);
    assert!(page(&at(&json!({ "names": {} })), &json!({ "packageNames": [] })).marks.is_empty());
    let batch = page(&names(), &json!({ "packageNames": ["a/b", "C.d/e_f-1"] }));
    assert_eq!(
        follows(&batch),
        (vec![], vec![&json!({ "package": "a/b" }), &json!({ "package": "C.d/e_f-1" })])
    );
    assert_eq!(batch.marks, [json!({ "timestamp": 7 })]);
    let request = packagist().request(&package()).unwrap();
    assert_eq!((request.url.as_str(), request.validate), ("https://repo.example/p2/a/b.json", true));
    let request = packagist().request(&branches(true)).unwrap();
    assert_eq!((request.url.as_str(), request.validate), ("https://repo.example/p2/a/b~dev.json", true));
    assert_eq!(packagist().coverage(Mode::Full), Coverage::All);
}

#[test]
fn packagist_asks_for_what_changed() {
    let state: PackagistState =
        serde_json::from_value(json!({ "timestamp": 17_000_000_000_000_u64 })).unwrap();
    assert_eq!(packagist().resume(&state, &run(Mode::Incremental)), [changes()]);
    assert_eq!(asked(&changes()), "https://packagist.example/metadata/changes.json?since=17000000000000");
    let action = |kind: &str, package: &str| json!({ "type": kind, "package": package, "time": 1 });
    let actions = [
        action("update", "a/b"),
        action("update", "a/c~dev"),
        action("update", "a/b"),
        action("update", "a/gone"),
        action("delete", "a/gone"),
        action("rename", "a/x"),
        action("update", "../x"),
    ];
    let batch = page(&changes(), &json!({ "actions": actions, "timestamp": 9 }));
    let dev = json!({ "branches": { "name": "a/c", "instead": false } });
    assert_eq!(follows(&batch), (vec![], vec![&json!({ "package": "a/b" }), &dev]));
    assert_eq!(batch.marks, [json!({ "timestamp": 9 })]);
    let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(skipped, ["a/gone", "a change of the kind \"rename\"", "\"../x\""]);
    assert_eq!(packagist().coverage(Mode::Incremental), Coverage::New);
}

#[test]
fn packagist_lists_all_where_the_feed_does_not_reach() {
    let actions = json!([{ "type": "resync", "package": "*" }, { "type": "update", "package": "a/b" }]);
    let batch = page(&changes(), &json!({ "actions": actions, "timestamp": 9 }));
    assert_eq!(follows(&batch), (vec![], vec![&json!({ "names": { "timestamp": 9 } })]));
    // The list itself says when it was read.
    assert!(batch.marks.is_empty());
    let recover = |kind| packagist().recover(&changes(), &Failure::new(kind, ""));
    let absent = recover(FailureKind::Status(StatusCode::NOT_FOUND));
    assert_eq!((absent.verdict, absent.follow), (Verdict::Replaced, vec![at(&json!({ "names": {} }))]));
    let first = &packagist().start(&run(Mode::Full))[0];
    let bad = Failure::new(FailureKind::Status(StatusCode::BAD_REQUEST), "");
    assert_eq!(packagist().recover(first, &bad).verdict, Verdict::Replaced);
    assert_eq!(packagist().recover(&changes(), &bad).verdict, Verdict::Gap);
    for kind in [FailureKind::Parse, FailureKind::Status(StatusCode::BAD_GATEWAY)] {
        assert_eq!(recover(kind).verdict, Verdict::Gap);
    }
    assert_eq!(packagist().resume(&PackagistState::default(), &run(Mode::Incremental)), [first.clone()]);
}

#[test]
fn packagist_branches_stand_for_releases() {
    let branches_next = json!({ "branches": { "name": "a/b", "instead": true } });
    for body in [
        json!({ "packages": { "a/b": [] } }),
        json!({ "packages": {} }),
        json!({ "packages": { "x/y": [version("https://h.example/x", "")] } }),
    ] {
        let batch = page(&package(), &body);
        assert_eq!(follows(&batch), (vec![&branches_next], vec![]), "{body}");
        assert!(batch.origins.is_empty() && batch.skips.is_empty());
        assert_eq!(page(&branches(true), &body).skips.len(), 1);
        assert!(page(&branches(false), &body).is_empty());
    }
    // With a release there is no more to ask, whatever that says.
    assert!(follows(&versions(&json!([version("", "")]), false)).0.is_empty());
    let body =
        json!({ "packages": { "a/b": [version("https://h.example/x", "2020-01-01T00:00:00+00:00")] } });
    assert_eq!(urls(&page(&branches(true), &body)), ["https://h.example/x"]);
}

#[test]
fn packagist_the_newest_version_counts() {
    let old = version("https://h.example/old", "2019-01-01T00:00:00+00:00");
    let new = version("https://h.example/new", "2020-01-01T01:00:00+01:00");
    let bare = json!({ "source": null, "time": "2021-01-01T00:00:00+00:00" });
    for all in [json!([old, bare, new]), json!([new, old, bare]), json!({ "1": old, "2": new, "3": bare })] {
        let batch = versions(&all, false);
        assert_eq!(urls(&batch), ["https://h.example/new"], "{all}");
        let latest = Timestamp::parse("2021-01-01T00:00:00Z").unwrap();
        assert_eq!(batch.origins[0].origin.last_update, Some(latest));
    }
    let same =
        versions(&json!([version("https://h.example/1", "soon"), version("https://h.example/2", "")]), false);
    assert_eq!(urls(&same), ["https://h.example/1"]);
    assert_eq!((same.origins[0].origin.last_update, same.skips.len()), (None, 2));
}

#[test]
fn packagist_expands_shortened_versions() {
    let first = version("https://h.example/a", "2020-01-01T00:00:00+00:00");
    let moved = json!({ "source": "__unset", "time": "2022-01-01T00:00:00+00:00" });
    // The second has the first one's source, the third none, the fourth none either.
    let all = json!([first, { "time": "2021-01-01T00:00:00+00:00" }, moved, {}]);
    assert_eq!(urls(&versions(&all, true)), ["https://h.example/a"]);
    let only = json!([{ "source": "__unset" }, version("https://h.example/b", "2020-01-01T00:00:00+00:00"), { "source": { "type": "git", "url": "https://h.example/c" } , "time": "__unset" }, { "time": "2023-01-01T00:00:00+00:00" }]);
    let batch = versions(&only, true);
    assert_eq!(urls(&batch), ["https://h.example/c"]);
    assert!(batch.skips.is_empty());
    // Not shortened, nothing is taken over.
    assert_eq!(urls(&versions(&only, false)), ["https://h.example/b"]);
}

#[test]
fn packagist_repositories_have_one_form() {
    let of = |kind: &str, url: &str| {
        let source = json!({ "type": kind, "url": url });
        let batch = versions(&json!([{ "source": source }]), false);
        let origin = batch.origins.first().map(|s| (s.origin.url.clone(), s.origin.visit_type.to_string()));
        assert_eq!(batch.skips.is_empty(), origin.is_some());
        origin
    };
    let some = |url: &str, kind: &str| Some((url.to_owned(), kind.to_owned()));
    assert_eq!(of("git", "git@github.com:O/n.git"), some("https://github.com/O/n", "git"));
    assert_eq!(of("Git", "https://h.example/n.git"), some("https://h.example/n.git", "git"));
    assert_eq!(of("hg", "https://h.example/n"), some("https://h.example/n", "hg"));
    assert_eq!(of("svn", "svn://h.example/n"), some("svn://h.example/n", "svn"));
    assert_eq!(of("fossil", "https://h.example/n"), some("https://h.example/n", "fossil"));
    assert_eq!(of("hg", "https://bitbucket.org/o/n"), None);
    assert_eq!(of("git", "git@h.example:n.git"), None);
    assert_eq!(of("perforce", "h.example:1666"), None);
    assert_eq!(of("git", "n/a"), None);
    assert_eq!(of("git", ""), None);
}

#[test]
fn packagist_a_package_that_went_is_counted() {
    let recover = |at: &PackagistCursor, kind| packagist().recover(at, &Failure::new(kind, ""));
    for kind in [
        FailureKind::Status(StatusCode::NOT_FOUND),
        FailureKind::Status(StatusCode::GONE),
        FailureKind::Transport(TransportErrorKind::NotRecorded),
    ] {
        let package = recover(&self::package(), kind);
        let again = at(&json!({ "again": "a/b" }));
        assert_eq!((package.verdict, package.follow), (Verdict::Replaced, vec![again.clone()]));
        assert_eq!(asked(&again), asked(&self::package()));
        let twice = recover(&again, kind);
        assert_eq!((twice.verdict, twice.follow), (Verdict::Replaced, vec![branches(true)]));
        assert_eq!(recover(&branches(false), kind).follow, [branches(true)]);
        assert!(matches!(recover(&branches(true), kind).verdict, Verdict::Skip(_)));
        assert_eq!(recover(&names(), kind).verdict, Verdict::Gap);
    }
    for kind in [FailureKind::Status(StatusCode::FORBIDDEN), FailureKind::Parse] {
        assert_eq!(recover(&package(), kind).verdict, Verdict::Gap);
        assert_eq!(recover(&branches(false), kind).verdict, Verdict::Gap);
    }
}

#[test]
fn packagist_odd_names_are_counted() {
    let long = format!("a/{}", "b".repeat(300));
    let odd = ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a b/c", "a/\u{fc}", "a/b?c", &long];
    let batch = page(&names(), &json!({ "packageNames": odd }));
    assert_eq!((batch.follows.len(), batch.skips.len()), (0, odd.len()));
    assert!(batch.skips.iter().all(|s| s.what.len() < 100));
}

#[test]
fn packagist_states_join_to_the_later() {
    let state = |of: Value| serde_json::from_value::<PackagistState>(of).unwrap();
    let (none, early, late) = (
        state(json!({ "last_listing_date": "2026-09-27T02:27:14+00:00" })),
        state(json!({ "timestamp": 7 })),
        state(json!({ "timestamp": 12 })),
    );
    assert_eq!(none, PackagistState::default());
    for (a, b, joined) in [(&early, &late, &late), (&late, &early, &late), (&none, &early, &early)] {
        assert_eq!(packagist().join(a.clone(), b.clone()), *joined);
    }
}

#[test]
fn packagist_a_broken_body_is_an_error_with_its_place() {
    let of = |at: &PackagistCursor, body: &str, words: &[&str]| {
        assert_fails(&packagist(), at, body.to_owned(), words)
    };
    of(&names(), "<html>502</html>", &["no JSON", "502"]);
    of(&names(), r#"{"packageNames":["a/b","#, &["ends too early"]);
    of(&names(), r#"{"packageNames":["a/b",null]}"#, &["packageNames[1]"]);
    of(&names(), r#"{"message":"no"}"#, &["there is no \"packageNames\""]);
    of(&changes(), r#"{"actions":[]}"#, &["timestamp"]);
    of(&changes(), r#"{"actions":[{"package":"a/b"}],"timestamp":1}"#, &["actions[0]", "type"]);
    of(&changes(), r#"{"error":"no since","timestamp":1}"#, &["there is no \"actions\""]);
    of(&package(), "", &["ends too early"]);
    of(&package(), r#"{"message":"no"}"#, &["packages"]);
    of(&package(), r#"{"packages":{"a/b":7}}"#, &["packages.a/b"]);
}

#[test]
fn packagist_takes_its_urls() {
    let built = build("packagist", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "packagist of packagist");
    let request = |cursor: Value| built.source.request(&cursor).unwrap().url.to_string();
    assert_eq!(request(json!({ "names": {} })), "https://packagist.org/packages/list.json");
    assert_eq!(request(json!({ "package": "a/b" })), "https://repo.packagist.org/p2/a/b.json");
    let of = json!({ "url": "https://h.example/x/packages/list.json", "metadata_url": "https://m.example/y", "instance": "mine" });
    let other = build("packagist", &of).unwrap();
    assert_eq!(other.source.key().to_string(), "packagist of mine");
    let request = |cursor: Value| other.source.request(&cursor).unwrap().url.to_string();
    assert_eq!(
        request(json!({ "changes": { "since": 1 } })),
        "https://h.example/x/metadata/changes.json?since=1"
    );
    assert_eq!(request(json!({ "package": "a/b" })), "https://m.example/y/p2/a/b.json");
}
