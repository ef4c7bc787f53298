//! Origins that were handed in.

use lamplighter::lister::{
    Coverage, Failure, FailureKind, FollowKind, Lister, ListerErrorKind, Mode, PageBatch, Verdict,
};
use lamplighter::listers::SaveBulk;
use lamplighter::listers::save_bulk::SaveBulkCursor;
use lamplighter::transport::{Auth, Provenance, Response, TransportErrorKind};
use serde_json::{Value, json};

use super::{answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, header};
use super::{origins, read, run, url, urls};

const LIST: &str = "https://partner.example/origins/";

fn bulk() -> SaveBulk {
    SaveBulk::new(url(LIST), "partner").with_per_page(2)
}

fn origin(of: &str, visit_type: &str) -> SaveBulkCursor {
    serde_json::from_value(json!({"origin": {"url": of, "visit_type": visit_type}})).unwrap()
}

fn page(entries: &Value) -> PageBatch {
    read(&bulk(), &SaveBulkCursor::Page(3), answer(LIST, entries.to_string())).unwrap()
}

/// What the answer to an origin's request says of it.
fn said(of: &str, visit_type: &str, change: impl Fn(Response) -> Response, body: &str) -> PageBatch {
    let at = origin(of, visit_type);
    let asked = bulk().request(&at).unwrap();
    read(&bulk(), &at, change(answer(asked.url.as_str(), body.to_owned()))).unwrap()
}

#[test]
fn save_bulk_asks_until_a_page_is_empty() {
    assert_eq!(bulk().start(&run(Mode::Full)), [SaveBulkCursor::Page(1)]);
    let request = bulk().request(&SaveBulkCursor::Page(4)).unwrap();
    assert_eq!(request.url.as_str(), "https://partner.example/origins/?page=4&per_page=2");
    assert_eq!((&request.auth, request.provenance), (&Auth::bearer(), Provenance::Configured));
    assert_stored(&bulk(), &SaveBulkCursor::Page(4));
    let one = json!([{"origin_url": "https://git.example/a.git", "visit_type": "git"}]);
    let batch = page(&one);
    let next = batch.follows.iter().find(|f| f.kind == FollowKind::Next { part: None }).unwrap();
    assert_eq!(next.cursor, json!({"page": 4}), "a page that is not full is not the last");
    assert!(page(&json!([])).is_empty());
    assert_repeats(&bulk(), &SaveBulkCursor::Page(3), &answer(LIST, one.to_string()));
}

#[test]
fn save_bulk_asks_each_origin_by_its_type() {
    for (of, visit_type, method, asked) in [
        (
            "https://h.example/a.git",
            "git",
            "GET",
            "https://h.example/a.git/info/refs?service=git-upload-pack",
        ),
        (
            "https://h.example/a/",
            "git-checkout",
            "GET",
            "https://h.example/a/info/refs?service=git-upload-pack",
        ),
        ("https://h.example/a", "hg", "GET", "https://h.example/a?cmd=capabilities"),
        ("https://h.example/a/trunk", "svn", "PROPFIND", "https://h.example/a/trunk"),
        ("https://h.example/a/", "bzr", "GET", "https://h.example/a/.bzr/branch-format"),
        ("https://h.example/a.tgz?x=1", "tarball-directory", "HEAD", "https://h.example/a.tgz?x=1"),
    ] {
        let batch = page(&json!([{"origin_url": of, "visit_type": visit_type}]));
        assert_eq!(batch.follows[0].kind, FollowKind::Follow);
        let at: SaveBulkCursor = serde_json::from_value(batch.follows[0].cursor.clone()).unwrap();
        assert_eq!(at, origin(of, visit_type));
        assert_stored(&bulk(), &at);
        let request = bulk().request(&at).unwrap();
        assert_eq!((request.method.as_str(), request.url.as_str()), (method, asked));
        // The list's token is not theirs, and they may not lead to a private address.
        assert_eq!((&request.auth, request.provenance), (&Auth::None, Provenance::Upstream));
        assert_eq!(header(&request, "depth").is_some(), visit_type == "svn");
    }
}

#[test]
fn save_bulk_what_http_cannot_ask_is_unsupported() {
    for (of, visit_type) in [
        ("git://h.example/a.git", "git"),
        ("svn://h.example/a", "svn"),
        ("ftp://h.example/a.tar.gz", "tarball-directory"),
        ("rsync://h.example/cvsroot/a/b", "cvs"),
        ("https://h.example/cvs", "cvs"),
        ("https://h.example/a", "fossil"),
    ] {
        let batch = page(&json!([{"origin_url": of, "visit_type": visit_type}]));
        assert_eq!((batch.follows.len(), batch.skips.len()), (1, 1), "{of}: only the next page");
        let skip = &batch.skips[0];
        assert!(skip.what.contains(of) && skip.why.contains("unsupported"), "{skip:?}");
    }
}

#[test]
fn save_bulk_lists_what_is_there() {
    let typed = |kind: &'static str| move |r: Response| r.with_header("content-type", kind);
    let refs = "95dcfa3633004da0049d3d0fa03f80589cbcaf31\trefs/heads/main\n";
    let multistatus = "<D:multistatus xmlns:S=\"http://subversion.tigris.org/xmlns/svn/\"/>";
    let at_207 = |mut r: Response| {
        r.status = http::StatusCode::MULTI_STATUS;
        r
    };
    let cases = [
        said(
            "https://h.example/a",
            "git",
            typed("application/x-git-upload-pack-advertisement"),
            "001e# service",
        ),
        said("https://h.example/a", "git", typed("text/plain"), refs),
        said("https://h.example/a", "hg", typed("application/mercurial-0.1"), "lookup"),
        said("https://h.example/a", "svn", at_207, multistatus),
        said("https://h.example/a", "bzr", typed("text/plain"), "Bazaar-NG meta directory, format 1\n"),
        said("https://h.example/a", "tarball-directory", typed("application/zip; x=y"), ""),
    ];
    for batch in cases {
        assert_eq!((urls(&batch), batch.skips.len()), (vec!["https://h.example/a"], 0), "{:?}", batch.skips);
        let origin = origins(&batch)[0];
        let archive = origin.visit_type.as_str() == "tarball-directory";
        let arguments = json!({"checksum_layout": "standard", "checksums": {}});
        let arguments = if archive { arguments } else { json!({}) };
        assert_eq!(Value::Object(origin.extra_loader_arguments.clone()), arguments);
        assert_eq!(origin.last_update, None);
    }
    for named in ["a-1.0.tar.gz", "a.ZIP", "a.crate", "get?file=a-1.tar.xz", "a.tgz/download"] {
        let of = format!("https://h.example/{named}");
        assert_eq!(urls(&said(&of, "tarball-directory", typed("text/plain"), "")), [of.as_str()]);
    }
}

#[test]
fn save_bulk_what_is_something_else_is_rejected() {
    let html = "<!DOCTYPE html><html><body>Sign in</body></html>";
    for visit_type in ["git", "hg", "svn", "bzr", "tarball-directory"] {
        let batch =
            said("https://h.example/a", visit_type, |r| r.with_header("content-type", "text/html"), html);
        assert_eq!((batch.origins.len(), batch.skips.len()), (0, 1), "{visit_type}");
        assert!(batch.skips[0].why.contains("it is no "), "{:?}", batch.skips);
    }
    for line in ["zz\trefs/heads/x", "95dcfa3633004da0049d3d0fa03f80589cbcaf31 refs/heads/x", ""] {
        assert_eq!(said("https://h.example/a", "git", |r| r, line).skips.len(), 1, "{line}");
    }
    for named in ["a.tar.sig", ".zip", "a.pdf"] {
        let of = format!("https://h.example/{named}");
        assert_eq!(said(&of, "tarball-directory", |r| r, "").skips.len(), 1, "{named}");
    }
    // Where it led to is told.
    let moved = |mut r: Response| {
        r.url = url("https://other.example/b");
        r
    };
    let batch = said("https://h.example/a", "svn", moved, html);
    assert!(batch.skips[0].why.contains("other.example"), "{:?}", batch.skips);
}

#[test]
fn save_bulk_what_refuses_is_rejected_and_what_is_ill_is_a_gap() {
    let verdict = |at: &SaveBulkCursor, kind| bulk().recover(at, &Failure::new(kind, "x")).verdict;
    let status = |code: u16| FailureKind::Status(http::StatusCode::from_u16(code).unwrap());
    let at = origin("https://h.example/a", "git");
    for code in [401, 403, 404, 410] {
        let Verdict::Skip(why) = verdict(&at, status(code)) else { panic!("{code}") };
        assert!(why.contains(&code.to_string()), "{why}");
        assert_eq!(verdict(&SaveBulkCursor::Page(1), status(code)), Verdict::Gap);
    }
    for kind in [status(429), status(503), FailureKind::Transport(TransportErrorKind::Connect)] {
        assert_eq!(verdict(&at, kind), Verdict::Gap, "{kind:?}");
    }
    let private = FailureKind::Transport(TransportErrorKind::Forbidden);
    assert!(matches!(verdict(&at, private), Verdict::Skip(why) if why.contains("private")));
}

#[test]
fn save_bulk_odd_entries_are_counted() {
    let good = json!({"origin_url": "https://h.example/a", "visit_type": "git", "more": [1]});
    let batch = page(
        &json!([null, {}, 7, {"origin_url": null, "visit_type": "git"}, {"origin_url": "", "visit_type": "git"},
        {"origin_url": "git@h.example:a", "visit_type": "git"}, {"origin_url": "https://h.example/a", "visit_type": "G i t"}, good]),
    );
    assert_eq!((batch.skips.len(), batch.follows.len()), (7, 2), "{:?}", batch.skips);
    assert!(batch.skips[1].what.contains("entry 2 of page 3"), "{:?}", batch.skips);
}

#[test]
fn save_bulk_what_is_no_list_is_an_error() {
    let at = SaveBulkCursor::Page(1);
    for body in ["{\"detail\": \"error\"}", "<html></html>", "[{", ""] {
        assert_fails(&bulk(), &at, body, ListerErrorKind::Parse, &[]);
    }
}

#[test]
fn save_bulk_says_nothing_of_others() {
    assert_eq!(bulk().coverage(Mode::Full), Coverage::New);
    assert_eq!((bulk().name(), bulk().instance()), ("save_bulk", "partner"));
}

#[test]
fn save_bulk_takes_its_parameters() {
    let built = build("save_bulk", &json!({"url": "https://p.example/l?k=v", "instance": "p", "token": "s"}))
        .unwrap();
    assert_eq!(first_request(&built).url.as_str(), "https://p.example/l?k=v&page=1&per_page=1000");
    assert_eq!((built.secrets.len(), built.parameters.contains_key("token")), (1, false));
    assert!(build_error("save_bulk", &json!({"instance": "p"})).contains("url="));
    assert!(build_error("save_bulk", &json!({"url": LIST})).contains("instance="));
    assert!(build_error("save_bulk", &json!({"url": LIST, "instance": " "})).contains("instance="));
    assert!(
        build_error("save_bulk", &json!({"url": LIST, "instance": "p", "per_page": 0}))
            .contains("at least 1")
    );
}
