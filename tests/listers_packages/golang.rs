//! The index of Go modules.

use lamplighter::lister::{Incremental, Lister, Mode, PageBatch};
use lamplighter::listers::Golang;
use lamplighter::listers::golang::{GolangCursor, GolangState};
use lamplighter::model::Timestamp;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, build, build_error, follows, read, run, url, urls};

const THEN: &str = "2019-04-18T02:07:41.336899123Z";
const LATER: &str = "2019-04-18T02:07:41.336899124Z";

fn golang() -> Golang {
    Golang::new(&url("https://index.example/index")).with_page_size(3)
}

fn at(since: &str) -> GolangCursor {
    serde_json::from_value(json!({ "since": since })).unwrap()
}

fn start() -> GolangCursor {
    serde_json::from_value(json!({})).unwrap()
}

fn state(of: &Value) -> GolangState {
    serde_json::from_value(of.clone()).unwrap()
}

fn body(lines: &[(&str, &str)]) -> String {
    let line = |(path, seen): &(&str, &str)| {
        format!("{}\n", json!({ "Path": path, "Version": "v1.0.0", "Timestamp": seen }))
    };
    lines.iter().map(line).collect()
}

fn page(cursor: &GolangCursor, lines: &[(&str, &str)]) -> PageBatch {
    read(&golang(), cursor, body(lines)).unwrap()
}

#[test]
fn golang_asks_by_timestamp() {
    assert_eq!(golang().start(&run(Mode::Full)), [start()]);
    let request = golang().request(&start()).unwrap();
    assert_eq!(
        (request.url.as_str(), request.provenance),
        ("https://index.example/index?limit=3", Provenance::Configured)
    );
    let asked = |last_seen: &str| {
        let cursors = golang().resume(&state(&json!({ "last_seen": last_seen })), &run(Mode::Incremental));
        lamplighter::lister::query_param(&golang().request(&cursors[0]).unwrap().url, "since").unwrap()
    };
    assert_eq!(asked(THEN), THEN);
    assert_eq!(asked("2019-04-18T02:07:41.336899+00:00"), "2019-04-18T02:07:41.336899Z");
    assert_eq!(asked("2019-04-18T04:07:41+02:00"), "2019-04-18T02:07:41Z");
    assert_eq!(golang().resume(&GolangState::default(), &run(Mode::Incremental)), [start()]);
}

#[test]
fn golang_goes_on_at_the_last_line() {
    let next = json!({ "since": LATER });
    // A whole page is one of a chain; a shorter one may be the end.
    let whole = page(&start(), &[("a", "2019-01-01T00:00:00Z"), ("b", THEN), ("c", LATER)]);
    assert_eq!(follows(&whole), (vec![&next], vec![]));
    let short = page(&at(THEN), &[("b", THEN), ("c", LATER)]);
    assert_eq!(follows(&short), (vec![], vec![&next]));
    assert_eq!(short.marks, [json!({ "last_seen": LATER })]);
    let end = page(&at(LATER), &[("c", LATER)]);
    assert!(end.follows.is_empty());
    assert_eq!(urls(&end), ["https://pkg.go.dev/c"]);
    // Written otherwise, it is the same moment.
    assert!(page(&at("2019-04-18T02:07:41Z"), &[("c", "2019-04-18T02:07:41.000Z")]).follows.is_empty());
    // An index that begins before what it was asked for.
    let before = page(&at(LATER), &[("a", "2019-01-01T00:00:00Z"), ("b", THEN)]);
    assert_eq!((urls(&before).len(), before.follows.len()), (2, 1));
}

#[test]
fn golang_versions_of_one_moment_are_not_lost() {
    let batch = page(&at(THEN), &[("old", "2019-01-01T00:00:00Z"), ("seen", THEN)]);
    assert_eq!(urls(&batch), ["https://pkg.go.dev/seen"]);
    let batch = page(&at(THEN), &[("seen", THEN), ("missed", THEN)]);
    assert_eq!(urls(&batch), ["https://pkg.go.dev/seen", "https://pkg.go.dev/missed"]);
    assert!(batch.follows.is_empty());
}

#[test]
fn golang_lists_a_path_once() {
    let batch = page(&start(), &[("A.org/b", LATER), ("c", THEN), ("A.org/b", THEN)]);
    assert_eq!(urls(&batch), ["https://pkg.go.dev/A.org/b", "https://pkg.go.dev/c"]);
    let origin = &batch.origins[0].origin;
    assert_eq!(origin.visit_type.as_str(), "golang");
    assert_eq!(origin.last_update, Some(Timestamp::parse("2019-04-18T02:07:41.336899Z").unwrap()));
}

#[test]
fn golang_more_than_a_page_of_one_moment_is_an_error() {
    let same = [("a", THEN), ("b", THEN), ("c", THEN)];
    assert_fails(&golang(), &at(THEN), body(&same), &["at line 3", "does not lead further"]);
    assert_eq!(page(&start(), &same).origins.len(), 3);
}

#[test]
fn golang_states_join_to_the_later() {
    let of = |text: &str| state(&json!({ "last_seen": text }));
    let none = GolangState::default();
    for (early, late) in [
        (of(THEN), of(LATER)),
        (none, of(THEN)),
        (of("2019-04-18T02:00:00+02:00"), of("2019-04-18T01:00:00Z")),
        (of("never"), of(THEN)),
    ] {
        assert_eq!(golang().join(early.clone(), late.clone()), late);
        assert_eq!(golang().join(late.clone(), early), late);
    }
}

#[test]
fn golang_odd_paths_are_counted() {
    for odd in ["", "a b", "/a", "a//b", "../x", "a/./b", "a?b", "\u{fc}.org/a"] {
        let batch = page(&start(), &[(odd, THEN), ("ok.org/x/v2", THEN)]);
        assert_eq!((urls(&batch), batch.skips.len()), (vec!["https://pkg.go.dev/ok.org/x/v2"], 1), "{odd}");
    }
}

#[test]
fn golang_a_broken_body_is_an_error_with_its_place() {
    let of = |body: &str, words: &[&str]| assert_fails(&golang(), &start(), body.to_owned(), words);
    let line = body(&[("a", THEN)]);
    of("", &["ends too early"]);
    of("\n\n", &["ends too early"]);
    of("<html>502</html>", &["at line 1"]);
    of(&format!("{line}{}", &line[..20]), &["ends too early", "at line 2"]);
    of(&format!("{line}{{\"Path\":\"b\"}}"), &["at line 2", "Timestamp"]);
    of(r#"{"Path":"a","Timestamp":"soon"}"#, &["at line 1", "soon"]);
    of(r#"{"message":"no"}"#, &["at line 1", "Path"]);
}

#[test]
fn golang_checks_its_parameters() {
    let built = build("golang", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "golang of golang");
    assert!(built.source.is_incremental());
    let request = built.source.request(&json!({})).unwrap();
    assert_eq!(request.url.as_str(), "https://index.golang.org/index?limit=2000");
    let of =
        json!({ "url": "https://h.example/i", "instance": "mine", "page_size": 7, "incremental": false });
    let other = build("golang", &of).unwrap();
    assert_eq!(other.source.key().to_string(), "golang of mine");
    assert!(!other.source.is_incremental());
    assert_eq!(other.source.request(&json!({})).unwrap().url.as_str(), "https://h.example/i?limit=7");
    for size in [0, 2001] {
        assert!(build_error("golang", &json!({ "page_size": size })).contains("page_size"));
    }
}
