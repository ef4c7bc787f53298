//! A list of URLs.

use std::sync::{Arc, Mutex};

use lamplighter::lister::{
    Coverage, Failure, FailureKind, Lister, ListerErrorKind, Mode, Page, PageBatch, Recovery,
};
use lamplighter::listers::Urls;
use lamplighter::listers::urls::UrlsCursor;
use lamplighter::model::{NewOrigin, Timestamp, VisitType};
use lamplighter::transport::Auth;
use serde_json::json;

use super::{
    answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, origins, read,
    run, url, urls,
};

/// As many bytes as a line may have, with its end.
const LONGEST: usize = 64 << 10;
const LIST: &str = "https://lists.example/ours.txt?v=1";

fn list() -> Urls {
    Urls::new(url(LIST), "ours")
}

fn at() -> UrlsCursor {
    serde_json::from_str("{}").unwrap()
}

fn page(body: impl Into<String>) -> PageBatch {
    read(&list(), &at(), answer(LIST, body.into())).unwrap()
}

fn kinds(batch: &PageBatch) -> Vec<&str> {
    origins(batch).iter().map(|o| o.visit_type.as_str()).collect()
}

#[test]
fn urls_needs_an_address_and_a_name() {
    let built = build("urls", &json!({"url": LIST, "instance": "ours"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), LIST);
    assert_eq!(built.source.key().instance, "ours");
    assert!(build_error("urls", &json!({"url": LIST})).contains("instance"));
    assert!(build_error("urls", &json!({"url": LIST, "instance": " "})).contains("instance="));
    assert!(build_error("urls", &json!({"instance": "ours"})).contains("url"));
    let wrong = build_error("urls", &json!({"url": LIST, "instance": "ours", "visit_type": "No type"}));
    assert!(wrong.contains("visit_type"), "{wrong}");
    let hg = list().with_visit_type(VisitType::new("hg").unwrap());
    let batch =
        read(&hg, &at(), answer(LIST, "https://h/a\nhttps://h/b svn\n{\"url\":\"https://h/c\"}\n")).unwrap();
    assert_eq!(kinds(&batch), ["hg", "svn", "hg"]);
}

#[test]
fn urls_asks_once() {
    assert_eq!(list().start(&run(Mode::Full)), [at()]);
    assert_stored(&list(), &at());
    let request = list().request(&at()).unwrap();
    assert_eq!((request.url.as_str(), request.validate, &request.auth), (LIST, true, &Auth::bearer()));
    assert_eq!((list().name(), list().coverage(Mode::Full)), ("urls", Coverage::All));
    let absent = Failure::new(FailureKind::Status(http::StatusCode::NOT_FOUND), "404");
    assert_eq!(list().recover(&at(), &absent), Recovery::gap());
}

#[test]
fn urls_reads_plain_lines() {
    let batch = page(
        "https://h/a.git\nhttps://h/b c hg\nhttps://h/b\thg  \n  svn://h/trunk svn\nhttps://h/ü?x=1#y\n",
    );
    assert_eq!(urls(&batch), ["https://h/a.git", "https://h/b", "svn://h/trunk", "https://h/ü?x=1#y"]);
    assert_eq!(kinds(&batch), ["git", "hg", "svn", "git"]);
    assert_eq!(batch.skips.len(), 1);
    assert!(batch.follows.is_empty() && batch.parts.is_empty());
    assert_repeats(&list(), &at(), &answer(LIST, "https://h/a\nx\n"));
}

#[test]
fn urls_reads_json_lines() {
    let batch = page(concat!(
        r#"{"url": "https://h/a", "visit_type": "hg", "last_update": "2026-01-02T03:04:05+01:00", "is_fork": true, "#,
        r#""forked_from_url": "https://h/p", "archived": true, "mirror": false, "empty": false, "more": [1]}"#,
        "\nhttps://h/b\n{\"origin_url\":\"https://h/c\",\"visit_type\":null,\"last_update\":null}\n"
    ));
    let expected = NewOrigin::new("https://h/a", VisitType::new("hg").unwrap())
        .with_last_update(Timestamp::parse("2026-01-02T02:04:05Z").unwrap())
        .with_fork(true)
        .with_forked_from("https://h/p")
        .with_archived(true)
        .with_mirror(false)
        .with_empty(false);
    assert_eq!(origins(&batch)[0], &expected);
    assert_eq!(origins(&batch)[1], &NewOrigin::new("https://h/b", VisitType::git()));
    assert_eq!(origins(&batch)[2], &NewOrigin::new("https://h/c", VisitType::git()));
}

#[test]
fn urls_reads_lists_of_any_editor() {
    for body in [
        "\u{feff}# ours\r\n\r\nhttps://h/a\r\nhttps://h/b\r\n",
        "#\n  # x\nhttps://h/a\n\n\t\nhttps://h/b\n\n",
    ] {
        let batch = page(body);
        assert_eq!(urls(&batch), ["https://h/a", "https://h/b"], "{body:?}");
        assert!(batch.skips.is_empty(), "{body:?}: {:?}", batch.skips);
    }
}

#[test]
fn urls_odd_lines_are_counted() {
    let batch = page(concat!(
        "https://h/a\nnot a URL\ngit@h:r.git\nssh://h/r\nrelative/path\nhttps://h/x GIT\n{\"url\": 5}\n{\"url\": \"\"}\n",
        "{\"url\": \"https://h/y\", \"last_update\": \"soon\"}\n{\"url\": \"https://h/cut\n\nhttps://h/b\n"
    ));
    assert_eq!(urls(&batch), ["https://h/a", "https://h/b"]);
    let lines: Vec<&str> = batch.skips.iter().map(|s| s.what.split(" (").next().unwrap()).collect();
    assert_eq!(lines, (2..=10).map(|n| format!("line {n}")).collect::<Vec<_>>());
    let latin = b"https://h/a\nhttps://h/\xfc\n".to_vec();
    let batch = read(&list(), &at(), super::pages::answer_from(LIST, latin)).unwrap();
    assert_eq!(batch.origins.len() + batch.skips.len(), 2);
}

#[test]
fn urls_a_line_that_is_too_long_is_counted() {
    for end in ["\nhttps://h/b\n", "\r\nhttps://h/b\r\n"] {
        let batch = page(format!("https://h/a\nhttps://h/{}{end}", "x".repeat(200_000)));
        assert_eq!(urls(&batch), ["https://h/a", "https://h/b"]);
        assert_eq!(batch.skips.len(), 1);
        assert!(
            batch.skips[0].what.starts_with("line 2 ") && batch.skips[0].what.len() < 200,
            "{:?}",
            batch.skips
        );
    }
}

#[test]
fn urls_an_empty_list_is_no_error() {
    for body in ["\n", "# nothing yet\n"] {
        assert!(page(body).is_empty(), "{body:?}");
    }
}

#[test]
fn urls_what_is_no_list_is_an_error() {
    for body in
        ["<html>\n<title>Sign in</title>\n</html>", "[\"https://h/a\"]", "{\"error\": \"no such list\"}"]
    {
        assert_fails(&list(), &at(), body, ListerErrorKind::Parse, &["none of"]);
    }
}

#[test]
fn urls_a_list_that_is_cut_is_an_error() {
    let words = ["no end of a line"];
    for body in ["", "https://h/a\nhttps://h/b", "https://h/a\nhttps://h/b\r", "# ours"] {
        assert_fails(&list(), &at(), body, ListerErrorKind::Parse, &words);
    }
    let endless = format!("https://h/a\nhttps://h/{}", "x".repeat(LONGEST));
    assert_fails(&list(), &at(), &endless, ListerErrorKind::Parse, &words);
}

#[test]
fn urls_a_long_list_is_flushed_as_it_is_read() {
    let body = (0..10_000).map(|n| format!("https://h/r{n}\n")).collect::<Vec<_>>().concat();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&sizes);
    let mut page = Page::new().with_flush(
        1000,
        Box::new(move |batch| {
            seen.lock().unwrap().push(batch.origins.len());
            Ok(())
        }),
    );
    list().page(&at(), answer(LIST, body), &mut page).unwrap();
    assert_eq!(*sizes.lock().unwrap(), [1000; 10]);
    assert!(page.finish().unwrap().origins.is_empty());
}
