//! stagit.
#![cfg(feature = "html")]

use lamplighter::lister::{
    Coverage, Failure, FailureKind, FollowKind, Lister, ListerError, ListerErrorKind, Mode, PageBatch,
    Recovery, Verdict,
};
use lamplighter::listers::Stagit;
use lamplighter::listers::stagit::StagitCursor;
use lamplighter::model::Timestamp;
use serde_json::json;

use super::pages::assert_error;
use super::{
    answer, assert_repeats, assert_stored, build, build_error, first_request, header, origins, read, run,
    url, urls,
};

const INDEX: &str = "https://git.example/";
const REPO: &str = "https://git.example/r/log.html";

fn stagit() -> Stagit {
    Stagit::new(url(INDEX), "git.example")
}

fn index_of(rows: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html><head><title>Repositories</title></head><body><table><tr><td><span class=\"desc\">Repositories\
         </span></td></tr></table><hr/><div id=\"content\"><table id=\"index\"><thead><tr><td><b>Name</b></td><td><b>Description</b>\
         </td><td><b>Last commit</b></td></tr></thead><tbody>{rows}</tbody></table></div></body></html>\n"
    )
}

fn row(href: &str, date: &str) -> String {
    format!("<tr><td><a href=\"{href}\">{href}</a></td><td>what it is</td><td>{date}</td></tr>")
}

fn page_of(address: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html><head><title>Log - r</title></head><body><table><tr><td><h1>r</h1></td></tr>{address}<tr><td></td>\
         <td><a href=\"log.html\">Log</a> | <a href=\"refs.html\">Refs</a></td></tr></table></body></html>\n"
    )
}

fn address(hrefs: &[&str]) -> String {
    let links: Vec<String> = hrefs.iter().map(|h| format!("git clone <a href=\"{h}\">{h}</a>")).collect();
    page_of(&format!("<tr class=\"url\"><td></td><td>{}</td></tr>", links.join(" ")))
}

fn try_index(from: &str, body: String) -> Result<PageBatch, ListerError> {
    read(&stagit(), &StagitCursor::Index, answer(from, body))
}

/// Of each row: its page, its date, its fingerprint.
fn rows(from: &str, body: String) -> Vec<(String, Option<String>, String)> {
    let batch = try_index(from, body).unwrap();
    let one = |f: &lamplighter::lister::Follow| {
        let FollowKind::Item { key, fingerprint } = &f.kind else { panic!("{f:?}") };
        let StagitCursor::Repo { url, updated } = serde_json::from_value(f.cursor.clone()).unwrap() else {
            panic!("{f:?}")
        };
        assert_eq!(&**key, url.as_str());
        (url.to_string(), updated.map(|u| u.to_string()), fingerprint.clone())
    };
    batch.follows.iter().map(one).collect()
}

fn at_repo() -> StagitCursor {
    let cursor = json!({"repo": {"url": REPO, "updated": "2024-01-12T11:00:00Z"}});
    serde_json::from_value(cursor).unwrap()
}

fn repo(body: &str) -> Result<PageBatch, ListerError> {
    read(&stagit(), &at_repo(), answer(REPO, body.to_owned()))
}

#[test]
fn stagit_the_index_is_asked_for_first() {
    assert_eq!(stagit().start(&run(Mode::Full)), [StagitCursor::Index]);
    let request = stagit().request(&StagitCursor::Index).unwrap();
    assert_eq!((request.url.as_str(), header(&request, "accept")), (INDEX, Some("text/html")));
    assert_eq!(stagit().request(&at_repo()).unwrap().url.as_str(), REPO);
    for cursor in [StagitCursor::Index, at_repo()] {
        assert_stored(&stagit(), &cursor);
    }
    assert_eq!((stagit().name(), stagit().coverage(Mode::Full)), ("stagit", Coverage::All));
    let built = build("stagit", &json!({"instance": "git.example"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), INDEX);
    assert!(build_error("stagit", &json!({})).contains("url="));
}

#[test]
fn stagit_rows_lead_to_pages_with_their_dates() {
    let body = index_of(
        &[row("a/log.html", "2024-01-12 11:00"), row("b/log.html", "No commits"), row("c/log.html", "")]
            .concat(),
    );
    let read = rows(INDEX, body.clone());
    let pages: Vec<&str> = read.iter().map(|(url, ..)| url.as_str()).collect();
    assert_eq!(pages, ["a", "b", "c"].map(|r| format!("https://git.example/{r}/log.html")));
    let dates: Vec<Option<&str>> = read.iter().map(|(_, date, _)| date.as_deref()).collect();
    assert_eq!(dates, [Some("2024-01-12T11:00:00Z"), None, None]);
    let later = rows(INDEX, index_of(&row("a/log.html", "2024-01-12 11:01")));
    assert_ne!(later[0].2, read[0].2, "a new commit is asked for");
    assert_eq!(rows(INDEX, body.clone()), read);
    assert_repeats(&stagit(), &StagitCursor::Index, &answer(INDEX, body));
}

#[test]
fn stagit_links_are_below_the_index() {
    for (index, href, page) in [
        ("https://git.example/", "a/log.html", "https://git.example/a/log.html"),
        ("https://git.example/git", "a/log.html", "https://git.example/git/a/log.html"),
        ("https://git.example/git/", "a/log.html", "https://git.example/git/a/log.html"),
        ("https://git.example/git/index.html", "a/log.html", "https://git.example/git/a/log.html"),
        ("https://git.example/git/", "/x/log.html", "https://git.example/x/log.html"),
        ("https://git.example/git/", "https://git.example/y/log.html", "https://git.example/y/log.html"),
        ("https://git.example/", "with space/log.html", "https://git.example/with%20space/log.html"),
        ("https://git.example/", "c++/ü/log.html", "https://git.example/c++/%C3%BC/log.html"),
    ] {
        assert_eq!(rows(index, index_of(&row(href, "")))[0].0, page, "{index} {href}");
    }
}

#[test]
fn stagit_odd_rows_are_counted() {
    let odd = ["https://other.example/a/log.html", "mailto:ada@example.org", "https://h:x/"]
        .map(|href| row(href, ""));
    let batch = try_index(
        INDEX,
        index_of(&[odd.concat(), row("a/log.html", ""), "<tr><td>none</td></tr>".to_owned()].concat()),
    )
    .unwrap();
    assert_eq!((batch.follows.len(), batch.skips.len()), (1, 3));
    assert!(
        batch.skips[0].why.contains("other.example") && batch.skips[1].what.contains("mailto"),
        "{:?}",
        batch.skips
    );
    assert_error(try_index(INDEX, index_of(&odd.concat())), ListerErrorKind::Parse, &["none of the 3 rows"]);
}

#[test]
fn stagit_an_index_without_its_mark_is_read_by_its_links() {
    let body = index_of(
        &[row("a/log.html", "2024-01-12 11:00"), row("about.html", ""), row("b/files.html", "")].concat(),
    );
    let read = rows(INDEX, body.replace(" id=\"index\"", ""));
    let pages: Vec<&str> = read.iter().map(|(url, ..)| url.as_str()).collect();
    assert_eq!(pages, ["https://git.example/a/log.html", "https://git.example/b/files.html"]);
    assert_eq!(read[0].1.as_deref(), Some("2024-01-12T11:00:00Z"));
}

#[test]
fn stagit_the_best_address_is_taken() {
    for (given, taken) in [
        (&["git://h/r"][..], "git://h/r"),
        (&["git://h/r", "http://h/r", "https://h/r"], "https://h/r"),
        (&["git://h/r", "http://h/r"], "http://h/r"),
        (&["ssh://h/r", " git://h/r "], "git://h/r"),
    ] {
        let batch = repo(&address(given)).unwrap();
        assert_eq!(urls(&batch), [taken], "{given:?}");
        let at = Timestamp::parse("2024-01-12T11:00:00Z").unwrap();
        assert_eq!(
            (origins(&batch)[0].last_update, origins(&batch)[0].visit_type.as_str()),
            (Some(at), "git")
        );
    }
}

#[test]
fn stagit_a_repository_without_an_address_is_counted() {
    for body in [page_of(""), address(&["ssh://h/r"]), address(&["r.git"])] {
        let batch = repo(&body).unwrap();
        assert_eq!((batch.origins.len(), batch.skips.len()), (0, 1), "{body}");
        assert_eq!(batch.skips[0].what, REPO);
    }
}

#[test]
fn stagit_what_is_no_page_of_a_stagit_is_an_error() {
    assert_error(repo("<html><title>Down</title></html>"), ListerErrorKind::Parse, &["\"Down\"", "tr.url"]);
    let cut = address(&["https://h/r"]).replace("</html>", "");
    assert_error(repo(&cut), ListerErrorKind::Parse, &["cut"]);
}

#[test]
fn stagit_a_repository_that_is_gone_is_skipped() {
    let status = |of: u16| FailureKind::Status(of.try_into().unwrap());
    let recover = |at: &StagitCursor, kind| stagit().recover(at, &Failure::new(kind, "failed"));
    for gone in [404, 410] {
        assert!(matches!(recover(&at_repo(), status(gone)).verdict, Verdict::Skip(_)));
        assert_eq!(recover(&StagitCursor::Index, status(gone)), Recovery::gap());
    }
    for kind in [status(500), status(403), FailureKind::Parse] {
        assert_eq!(recover(&at_repo(), kind), Recovery::gap(), "{kind:?}");
    }
}

#[test]
fn stagit_an_empty_index_is_no_error() {
    assert!(try_index(INDEX, index_of("")).unwrap().is_empty());
}

#[test]
fn stagit_what_is_no_index_is_an_error() {
    assert_error(
        try_index(INDEX, "<title>Sign in</title></html>".into()),
        ListerErrorKind::Parse,
        &["table#index", "Sign in"],
    );
    assert_error(try_index(INDEX, String::new()), ListerErrorKind::Parse, &["table#index"]);
    let whole = index_of(&row("a/log.html", ""));
    let cut = whole[..whole.len() - 20].to_owned();
    assert_error(try_index(INDEX, cut), ListerErrorKind::Parse, &["cut"]);
}

#[test]
fn stagit_no_cut_or_bent_page_makes_it_panic() {
    let index =
        index_of(&[row("a/log.html", "2024-01-12 11:00"), row("ü/log.html", "2024-13-99 99:99")].concat());
    let page = address(&["https://h/ü", "git://h/r"]);
    for at in (0..index.len()).filter(|at| index.is_char_boundary(*at)) {
        let _ = try_index(INDEX, index[..at].to_owned());
        let _ = try_index(INDEX, index[at..].to_owned());
    }
    for at in (0..page.len()).filter(|at| page.is_char_boundary(*at)) {
        let _ = repo(&page[..at]);
        let _ = repo(&page[at..]);
    }
}
