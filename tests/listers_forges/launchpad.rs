//! Launchpad.

use lamplighter::lister::{Coverage, Incremental, Lister, ListerErrorKind, Mode, PageBatch};
use lamplighter::listers::Launchpad;
use lamplighter::listers::launchpad::{LaunchpadCursor, LaunchpadState};
use lamplighter::model::Timestamp;
use serde_json::{Value, json};

use super::{
    answer, arguments, assert_fails, assert_repeats, assert_stored, build, header, map, nexts, origins,
    query, read, run, url, urls,
};

const API: &str = "https://api.launchpad.example/devel/branches?ws.op=getBranches";

fn launchpad() -> Launchpad {
    Launchpad::new(&url("https://launchpad.example/"), "launchpad")
}

fn at(kind: &str) -> LaunchpadCursor {
    serde_json::from_value(json!({"since": {"kind": kind, "since": null}})).unwrap()
}

fn page(kind: &str, entries: &Value) -> PageBatch {
    let body = json!({"start": 0, "total_size": 1, "entries": entries});
    read(&launchpad(), &at(kind), answer(API, body.to_string())).unwrap()
}

fn stored(git: Option<&str>, bzr: Option<&str>) -> LaunchpadState {
    serde_json::from_value(json!({"git_date_last_modified": git, "bzr_date_last_modified": bzr})).unwrap()
}

fn queries(cursors: &[LaunchpadCursor]) -> Vec<(String, std::collections::BTreeMap<String, String>)> {
    let requests = cursors.iter().map(|c| launchpad().request(c).unwrap());
    requests.map(|r| (r.url.path().to_owned(), query(&r))).collect()
}

const GIT: [(&str, &str); 2] = [("ws.op", "getRepositories"), ("order_by", "most neglected first")];
const BZR: [(&str, &str); 2] = [("ws.op", "getBranches"), ("order_by", "most neglected first")];

#[test]
fn launchpad_asks_for_both_kinds_oldest_first() {
    let start = launchpad().start(&run(Mode::Full));
    assert_eq!(start, [at("git"), at("bzr")]);
    let expected =
        [("/devel/git_repositories".to_owned(), map(&GIT)), ("/devel/branches".to_owned(), map(&BZR))];
    assert_eq!(queries(&start), expected);
    let request = launchpad().request(&start[0]).unwrap();
    assert_eq!(
        (request.url.host_str(), header(&request, "accept")),
        (Some("api.launchpad.example"), Some("application/json"))
    );
    for cursor in &start {
        assert_stored(&launchpad(), cursor);
    }
    let built = build("launchpad", &json!({})).unwrap();
    assert_eq!(
        (built.source.key().name.as_str(), built.source.key().instance.as_str()),
        ("launchpad", "launchpad")
    );
    let cursors = built.source.start(&run(Mode::Full)).unwrap();
    assert_eq!(built.source.request(&cursors[1]).unwrap().url.host_str(), Some("api.launchpad.net"));
    let own = build("launchpad", &json!({"url": "https://api.lp.example/", "instance": "own"})).unwrap();
    assert_eq!(own.source.request(&cursors[1]).unwrap().url.host_str(), Some("api.lp.example"));
    assert_eq!(
        (launchpad().coverage(Mode::Full), launchpad().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn launchpad_asks_for_what_changed_since() {
    let state = stored(Some("2026-01-02T03:04:05.678901+00:00"), None);
    let cursors = launchpad().resume(&state, &run(Mode::Incremental));
    let mut git = map(&GIT);
    git.insert("modified_since_date".to_owned(), "\"2026-01-02T03:04:05.678901Z\"".to_owned());
    let expected = [("/devel/git_repositories".to_owned(), git), ("/devel/branches".to_owned(), map(&BZR))];
    assert_eq!(queries(&cursors), expected);
    assert_stored(&launchpad(), &cursors[0]);
}

#[test]
fn launchpad_reads_a_stored_state() {
    let source = build("launchpad", &json!({})).unwrap().source;
    assert!(source.is_incremental());
    let state =
        json!({"git_date_last_modified": "2026-01-02T03:04:05.678901+02:00", "bzr_date_last_modified": null});
    let state = source.read_state(&arguments(&state), 1).unwrap().unwrap();
    let cursors = source.resume(&state, &run(Mode::Incremental)).unwrap();
    assert_eq!(cursors[0]["since"]["since"], "2026-01-02T01:04:05.678901Z");
    assert_eq!(cursors[1]["since"]["since"], Value::Null);
}

#[test]
fn launchpad_follows_the_next_link() {
    let body = |next: &Value| json!({"entries": [], "next_collection_link": next}).to_string();
    let batch = |next: &Value| read(&launchpad(), &at("bzr"), answer(API, body(next)));
    let next =
        "https://api.launchpad.example/devel/branches?ws.op=getBranches&ws.size=75&memo=75&ws.start=75";
    let given = batch(&json!(next)).unwrap();
    assert_eq!(nexts(&given), [&json!({"next": {"kind": "bzr", "since": null, "url": next}})]);
    let cursor: LaunchpadCursor = serde_json::from_value(nexts(&given)[0].clone()).unwrap();
    assert_eq!(launchpad().request(&cursor).unwrap().url.as_str(), next);
    let plain = batch(&json!(next.replace("https:", "http:"))).unwrap();
    assert_eq!(nexts(&plain)[0]["next"]["url"], next);
    assert!(batch(&Value::Null).unwrap().follows.is_empty());
    for elsewhere in ["https://evil.example/devel/branches", "https://h:x/"] {
        assert_eq!(batch(&json!(elsewhere)).unwrap_err().kind(), ListerErrorKind::Parse, "{elsewhere}");
    }
}

#[test]
fn launchpad_goes_on_at_the_last_date() {
    let next =
        "https://api.launchpad.example/devel/branches?ws.op=getBranches&ws.size=75&memo=75&ws.start=75";
    let entry = |date: &str| json!({"web_link": format!("https://code/{date}"), "date_last_modified": date});
    let (early, late) = ("2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z");
    let follow = |since: Option<&str>, dates: &[&str], next: Option<&str>| {
        let cursor = serde_json::from_value(json!({"since": {"kind": "bzr", "since": since}})).unwrap();
        let entries: Vec<Value> = dates.iter().map(|date| entry(date)).collect();
        let body = json!({"entries": entries, "next_collection_link": next}).to_string();
        let batch = read(&launchpad(), &cursor, answer(API, body)).unwrap();
        nexts(&batch).into_iter().cloned().collect::<Vec<_>>()
    };
    let since = |date: &str| json!({"since": {"kind": "bzr", "since": date}});
    let link = json!({"next": {"kind": "bzr", "since": late, "url": next}});
    assert_eq!(follow(None, &[early, late], Some(next)), [since(late)]);
    assert_eq!(follow(Some(early), &[early, late], Some(next)), [since(late)]);
    assert_eq!(
        follow(Some(late), &[late, late], Some(next)),
        std::slice::from_ref(&link),
        "a page of one date"
    );
    assert!(follow(Some(early), &[early, late], None).is_empty());
    // A second page of that date leads to a third, not back.
    let cursor = serde_json::from_value(link).unwrap();
    let third = next.replace("75", "150");
    let body = json!({"entries": [entry(late)], "next_collection_link": third}).to_string();
    let batch = read(&launchpad(), &cursor, answer(API, body)).unwrap();
    assert_eq!(nexts(&batch)[0]["next"]["url"], third);
}

#[test]
fn launchpad_reads_repositories_and_branches() {
    let batch = page(
        "git",
        &json!([
            {"unique_name": "~a/p/+git/r", "git_https_url": "https://git.launchpad.example/~a/p/+git/r", "web_link": "https://code/x",
             "date_last_modified": "2020-10-03T15:27:02.123456+00:00", "repository_type": "Hosted"},
            {"unique_name": "~a/+git/i", "git_https_url": "https://git.launchpad.example/~a/+git/i", "date_last_modified": "2020-10-04T00:00:00+01:00",
             "repository_type": "Imported"},
        ]),
    );
    assert_eq!(
        urls(&batch),
        ["https://git.launchpad.example/~a/p/+git/r", "https://git.launchpad.example/~a/+git/i"]
    );
    let facts: Vec<_> =
        origins(&batch).iter().map(|o| (o.visit_type.as_str(), o.mirror, o.last_update)).collect();
    let date = |text| Some(Timestamp::parse(text).unwrap());
    assert_eq!(
        facts,
        [
            ("git", Some(false), date("2020-10-03T15:27:02.123456Z")),
            ("git", Some(true), date("2020-10-03T23:00:00Z"))
        ]
    );
    assert_eq!(
        batch.marks,
        [json!({"git_date_last_modified": "2020-10-03T23:00:00Z", "bzr_date_last_modified": null})]
    );
    let batch = page(
        "bzr",
        &json!([{"unique_name": "~b/p/trunk", "web_link": "https://code.launchpad.example/~b/p/trunk", "branch_type": "Mirrored",
                 "date_last_modified": "2011-01-01T00:00:00+00:00", "git_https_url": null}]),
    );
    assert_eq!(urls(&batch), ["https://code.launchpad.example/~b/p/trunk"]);
    assert_eq!((origins(&batch)[0].visit_type.as_str(), origins(&batch)[0].mirror), ("bzr", Some(true)));
    assert_eq!(
        batch.marks,
        [json!({"git_date_last_modified": null, "bzr_date_last_modified": "2011-01-01T00:00:00Z"})]
    );
    assert_repeats(
        &launchpad(),
        &at("git"),
        &answer(API, json!({"entries": [{"unique_name": "x"}]}).to_string()),
    );
}

#[test]
fn launchpad_what_cannot_be_had_is_counted() {
    let redacted = "tag:launchpad.net:2008:redacted";
    let batch = page(
        "git",
        &json!([
            {"unique_name": "null", "git_https_url": null, "web_link": "https://code/x"}, {"unique_name": redacted, "git_https_url": redacted},
            {"unique_name": "plain", "git_https_url": "http://git/x"}, {"web_link": "https://code/y"},
            {"unique_name": "late", "git_https_url": "https://git/late", "date_last_modified": "tomorrow"},
        ]),
    );
    assert_eq!((urls(&batch), origins(&batch)[0].last_update), (vec!["https://git/late"], None));
    let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(skipped, ["null", redacted, "plain", "https://code/y", "the date of late"]);
    let branches = json!([
        {"unique_name": "remote", "web_link": "https://code/remote", "branch_type": "Remote"},
        {"unique_name": "here", "web_link": "https://code/here", "branch_type": "Hosted"},
    ]);
    let batch = page("bzr", &branches);
    assert_eq!((urls(&batch), batch.skips.len()), (vec!["https://code/here"], 1));
}

#[test]
fn launchpad_a_missing_date_moves_nothing() {
    let one =
        |date: Value| page("git", &json!([{"git_https_url": "https://git/x", "date_last_modified": date}]));
    for date in [Value::Null, json!("tomorrow")] {
        let batch = one(date);
        assert_eq!((batch.origins.len(), batch.marks.len()), (1, 0));
    }
    assert_eq!(one(json!("2020-01-01T00:00:00Z")).marks.len(), 1);
}

#[test]
fn launchpad_joins_to_the_later_dates() {
    let (early, late) = (Some("2020-01-01T00:00:00Z"), Some("2020-01-02T00:00:00Z"));
    for (ours, theirs, joined) in [
        (stored(early, late), stored(late, early), stored(late, late)),
        (stored(early, None), stored(None, early), stored(early, early)),
        (stored(None, None), stored(None, None), stored(None, None)),
    ] {
        assert_eq!(launchpad().join(ours.clone(), theirs.clone()), joined);
        assert_eq!(launchpad().join(theirs, ours), joined);
    }
}

#[test]
fn launchpad_an_empty_collection_is_no_error() {
    assert!(page("git", &json!([])).is_empty());
}

#[test]
fn launchpad_a_broken_body_is_an_error_with_its_place() {
    for (body, words) in [
        ("<html>Please try again</html>", "no JSON"),
        ("[]", "invalid"),
        (r#"{"entries":[{"git_https_url":"h"#, "ends too early"),
        (r#"{"entries":[{"git_https_url":7}]}"#, "entries[0].git_https_url"),
        (r#"{"message":"x"}"#, "entries"),
    ] {
        assert_fails(&launchpad(), &at("git"), body, ListerErrorKind::Parse, &[words]);
    }
}
