//! Go's module index.

use lamplighter::lister::{Coverage, Incremental, Lister, Mode, PageBatch};
use lamplighter::listers::Golang;
use lamplighter::listers::golang::{GolangCursor, GolangState};
use lamplighter::model::Timestamp;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, build, follows, read, run, url, urls};

const THEN: &str = "2026-03-01T10:00:00.123456789Z";
const LATER: &str = "2026-03-01T10:00:00.12345679Z";

fn golang() -> Golang {
    Golang::new(url("https://index.example/index"))
}

fn cursor(of: &Value) -> GolangCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn since(time: &str) -> GolangCursor {
    cursor(&json!({ "since": time }))
}

fn all() -> GolangCursor {
    cursor(&json!({}))
}

fn state(of: &Value) -> GolangState {
    serde_json::from_value(of.clone()).unwrap()
}

fn line(path: &str, time: &str) -> String {
    format!("{}\n", json!({ "Path": path, "Version": "v1.0.0", "Timestamp": time }))
}

fn page(at: &GolangCursor, body: impl Into<String>) -> PageBatch {
    read(&golang(), at, body.into()).unwrap()
}

#[test]
fn golang_asks_by_time() {
    assert_eq!(golang().start(&run(Mode::Full)), [all()]);
    let request = golang().request(&all()).unwrap();
    assert_eq!(
        (request.url.as_str(), request.provenance),
        ("https://index.example/index?limit=2000", Provenance::Configured)
    );
    let asked: Vec<_> = golang().request(&since(THEN)).unwrap().url.query_pairs().into_owned().collect();
    assert_eq!(asked[1], ("since".to_owned(), THEN.to_owned()));
    let resume = |of: &Value| golang().resume(&state(of), &run(Mode::Incremental));
    assert_eq!(resume(&json!({})), [all()]);
    assert_eq!(resume(&json!({ "last_seen": THEN })), [since(THEN)]);
    // As Software Heritage writes it.
    let theirs = json!({ "last_seen": "2026-03-01T10:00:00.123456+00:00" });
    assert_eq!(resume(&theirs), [since("2026-03-01T10:00:00.123456Z")]);
    assert_eq!(resume(&json!({ "last_seen": "2026-03-01T12:00:00+02:00" })), [since("2026-03-01T10:00:00Z")]);
    assert_eq!(
        (golang().coverage(Mode::Full), golang().coverage(Mode::Incremental)),
        (Coverage::New, Coverage::New)
    );
}

#[test]
fn golang_lists_modules_by_their_latest_version() {
    let body =
        [line("example.com/A", THEN), line("golang.org/x/sys", THEN), line("example.com/A", LATER)].concat();
    let batch = page(&all(), body);
    assert_eq!(urls(&batch), ["https://pkg.go.dev/example.com/A", "https://pkg.go.dev/golang.org/x/sys"]);
    let date = |n: usize| batch.origins[n].origin.last_update.unwrap();
    assert_eq!((date(0), date(1)), (Timestamp::parse(LATER).unwrap(), Timestamp::parse(THEN).unwrap()));
    assert_eq!(batch.origins[0].origin.visit_type.as_str(), "golang");
}

#[test]
fn golang_goes_on_at_the_last_time() {
    let batch = page(&all(), [line("a.example/a", THEN), line("a.example/b", LATER)].concat());
    assert_eq!(follows(&batch), (vec![&json!({ "since": LATER })], vec![]));
    assert_eq!(batch.marks, [json!({ "last_seen": LATER })]);
    // The last line again, and no more.
    let end = page(&since(LATER), line("a.example/b", LATER));
    assert!(end.follows.is_empty());
}

#[test]
fn golang_an_older_page_is_refused() {
    // The page before, once more: it neither goes on nor ends.
    for lines in [line("a.example/a", THEN), line("a.example/a", THEN) + &line("a.example/b", LATER)] {
        assert_fails(&golang(), &since(LATER), lines, &["line 1", THEN, "older than what was asked for"]);
    }
    let later = line("a.example/b", LATER) + &line("a.example/a", THEN);
    assert_fails(&golang(), &since(LATER), later, &["line 2", "older than what was asked for"]);
    assert_eq!(urls(&page(&since(LATER), line("a.example/b", LATER))).len(), 1);
}

#[test]
fn golang_nothing_at_the_border_is_lost() {
    let batch = page(&since(THEN), [line("a.example/known", THEN), line("a.example/new", THEN)].concat());
    assert_eq!(urls(&batch), ["https://pkg.go.dev/a.example/known", "https://pkg.go.dev/a.example/new"]);
    assert!(batch.follows.is_empty());
}

#[test]
fn golang_an_empty_answer_is_an_error() {
    assert_fails(&golang(), &since(LATER), "", &["nothing since", LATER]);
    assert_fails(&golang(), &all(), "\n\n", &["nothing since the beginning"]);
}

#[test]
fn golang_more_of_one_time_than_a_page_are_counted() {
    let full: String = (0..2000).map(|n| line(&format!("a.example/{n}"), THEN)).collect();
    let batch = page(&since(THEN), full.clone());
    assert_eq!((batch.origins.len(), batch.skips.len()), (2000, 1));
    assert_eq!(follows(&batch).0, [&json!({ "since": "2026-03-01T10:00:00.123456790Z" })]);
    // Asked for from the beginning, the time itself is asked for first.
    let first = page(&all(), full.clone());
    assert_eq!(follows(&first).0, [&json!({ "since": THEN })]);
    assert!(first.skips.is_empty());
    assert_fails(&golang(), &all(), full + &line("a.example/x", THEN), &["line 2001", "more than the 2000"]);
}

#[test]
fn golang_states_join_to_the_later_time() {
    let joined = |a: &str, b: &str| {
        let of = |text: &str| state(&json!({ "last_seen": text }));
        let joined = golang().join(of(a), of(b));
        assert_eq!(joined, golang().join(of(b), of(a)));
        joined.last_seen.unwrap()
    };
    assert_eq!(joined(THEN, LATER), LATER);
    assert_eq!(joined("2026-03-01T10:00:00Z", "2026-03-01T10:00:00.5Z"), "2026-03-01T10:00:00.5Z");
    assert_eq!(joined("2026-03-01T10:00:00.9+00:00", THEN), "2026-03-01T10:00:00.9+00:00");
    joined("2026-03-01T10:00:00Z", "2026-03-01T10:00:00+00:00");
}

#[test]
fn golang_odd_lines_are_counted() {
    let batch = page(&all(), [line("", THEN), line("a b", THEN), line("a.example/\u{fc}", LATER)].concat());
    assert_eq!(urls(&batch), ["https://pkg.go.dev/a.example/\u{fc}"]);
    assert_eq!(batch.skips.len(), 2);
    assert_eq!(batch.marks, [json!({ "last_seen": LATER })]);
}

#[test]
fn golang_a_broken_line_is_an_error_with_its_number() {
    let good = line("a.example/a", THEN);
    let fails =
        |second: &str, words: &[&str]| assert_fails(&golang(), &all(), format!("{good}{second}"), words);
    fails("<html>", &["line 2", "expected value"]);
    fails("{\"Path\":\"a\",\"Version\":\"v", &["line 2", "EOF"]);
    fails("{\"Path\":\"a\"}", &["line 2", "Timestamp"]);
    fails("null", &["line 2", "null"]);
    fails(&line("a", "yesterday"), &["line 2", "\"yesterday\" is no time"]);
    fails(&"x".repeat(1 << 20), &["line 2", "longer than 1 MiB"]);
    assert_fails(&golang(), &all(), b"{\"Path\":\"\xff\"}".to_vec(), &["line 1", "utf-8"]);
}

#[test]
fn golang_takes_its_url() {
    let built = build("golang", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "golang of golang");
    let first = built.source.start(&run(Mode::Full)).unwrap();
    assert_eq!(
        built.source.request(&first[0]).unwrap().url.as_str(),
        "https://index.golang.org/index?limit=2000"
    );
    let other = build("golang", &json!({ "url": "https://h.example/i", "instance": "mine" })).unwrap();
    assert_eq!(other.source.key().to_string(), "golang of mine");
    assert_eq!(other.source.request(&first[0]).unwrap().url.as_str(), "https://h.example/i?limit=2000");
}
