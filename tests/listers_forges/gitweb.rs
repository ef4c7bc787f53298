//! gitweb.
#![cfg(feature = "html")]

use lamplighter::lister::{
    Coverage, Failure, FailureKind, FollowKind, Lister, ListerError, ListerErrorKind, Mode, PageBatch,
    Recovery, Verdict,
};
use lamplighter::listers::Gitweb;
use lamplighter::listers::gitweb::{GitwebCursor, GitwebIndex};
use lamplighter::model::Timestamp;
use lamplighter::transport::Response;
use serde_json::{Value, json};

use super::pages::assert_error;
use super::{
    answer, assert_repeats, assert_stored, build, build_error, first_request, header, origins, read, run,
    url, urls,
};

const INDEX: &str = "https://git.example/w/";
const NOON: &str = "2026-10-08T12:00:00Z";

fn gitweb() -> Gitweb {
    Gitweb::new(url(INDEX), "git.example")
}

fn at(index: GitwebIndex) -> GitwebCursor {
    GitwebCursor::Index(index)
}

fn repo_cursor(page: &str, project: Option<&str>) -> Value {
    json!({"repo": {"url": page, "project": project, "empty": null, "fork": false}})
}

fn index_of(rows: &str) -> String {
    format!(
        "<!DOCTYPE html [\n<!ENTITY nbsp \"&#xA0;\">\n]>\n<html><head><title>Git</title></head><body><table class=\"project_list\">\
         <tr><th>Project</th><th><a class=\"header\" href=\"/w/?o=descr\">Description</a></th></tr>\
         <tr><td class=\"category\">Tools</td></tr>{rows}</table></body></html>\n"
    )
}

fn row(href: &str, name: &str, age: &str) -> String {
    format!(
        "<tr><td><a class=\"list\" href=\"{href}\">{name}</a></td><td><a class=\"list\" href=\"{href}\">what</a></td>\
         <td class=\"age2\">{age}</td><td class=\"link\"><a href=\"{href}\">summary</a></td></tr>"
    )
}

fn page_of(addresses: &[&str]) -> String {
    let rows: Vec<String> = addresses
        .iter()
        .map(|a| format!("<tr class=\"metadata_url\"><td>URL</td><td>{a}</td></tr>"))
        .collect();
    format!(
        "<html><head><title>Git - r</title></head><body><table class=\"projects_list\"><tr id=\"metadata_desc\"><td>description</td>\
         <td>x</td></tr><tr id=\"metadata_lchange\"><td>last change</td><td><span class=\"datetime\">Thu, 1 Oct 2026 10:20:30 \
         +0200</span> (12:20 +0400)</td></tr>{}</table></body></html>\n",
        rows.concat()
    )
}

fn received(at: &str, body: String) -> Response {
    let mut response = answer(INDEX, body);
    response.received_at = Timestamp::parse(at).unwrap();
    response
}

fn try_index(body: String) -> Result<PageBatch, ListerError> {
    read(&gitweb(), &at(GitwebIndex::Html), received(NOON, body))
}

/// The pages to which an index leads, with their fingerprints.
fn leads(batch: &PageBatch) -> Vec<(Value, Option<String>)> {
    let one = |f: &lamplighter::lister::Follow| match &f.kind {
        FollowKind::Item { fingerprint, .. } => (f.cursor.clone(), Some(fingerprint.clone())),
        other => {
            assert_eq!(*other, FollowKind::Follow);
            (f.cursor.clone(), None)
        }
    };
    batch.follows.iter().map(one).collect()
}

fn pages(batch: &PageBatch) -> Vec<String> {
    let of = |c: &Value| c["repo"]["url"].as_str().map(str::to_owned);
    leads(batch).iter().filter_map(|(cursor, _)| of(cursor)).collect()
}

fn repo_as(lister: &Gitweb, project: Option<&str>, body: String) -> Result<PageBatch, ListerError> {
    let page = "https://git.example/w/?p=r;a=summary";
    let at = serde_json::from_value(repo_cursor(page, project)).unwrap();
    read(lister, &at, answer(page, body))
}

fn repo(addresses: &[&str]) -> PageBatch {
    repo_as(&gitweb(), Some("r"), page_of(addresses)).unwrap()
}

#[test]
fn gitweb_the_index_is_asked_for_first() {
    assert_eq!(gitweb().start(&run(Mode::Full)), [at(GitwebIndex::Html)]);
    let asked = |index| gitweb().request(&at(index)).unwrap();
    let request = asked(GitwebIndex::Html);
    assert_eq!((request.url.as_str(), header(&request, "accept")), (INDEX, Some("text/html")));
    assert_eq!(asked(GitwebIndex::ProjectIndex).url.as_str(), "https://git.example/w/?a=project_index");
    assert_eq!(asked(GitwebIndex::Opml).url.as_str(), "https://git.example/w/?a=opml");
    let repo: GitwebCursor =
        serde_json::from_value(repo_cursor("https://git.example/w/?p=r", Some("r"))).unwrap();
    for cursor in [at(GitwebIndex::Html), GitwebCursor::Forks { url: url(INDEX) }, repo] {
        assert_stored(&gitweb(), &cursor);
    }
    assert_eq!((gitweb().name(), gitweb().coverage(Mode::Full)), ("gitweb", Coverage::All));
    let built = build("gitweb", &json!({"instance": "git.example"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), "https://git.example/");
    assert!(build_error("gitweb", &json!({})).contains("url="));
    assert!(
        build_error("gitweb", &json!({"instance": "h", "base_git_url": "git.example"}))
            .contains("base_git_url")
    );
}

#[test]
fn gitweb_rows_lead_to_pages() {
    let body = index_of(
        &[
            row("/w/?p=a.git;a=summary", "a.git", "2 years ago"),
            row("/w/?p=b%3Bc+d.git;a=summary", "b;c d.git", "No commits"),
            row("/w/e", " e ", "lately"),
        ]
        .concat(),
    );
    let batch = try_index(body.clone()).unwrap();
    let repo = |page: &str, project: &str, empty: Option<bool>| json!({"repo": {"url": format!("https://git.example/w/{page}"), "project": project, "empty": empty, "fork": false}});
    let found = leads(&batch);
    let cursors: Vec<&Value> = found.iter().map(|(cursor, _)| cursor).collect();
    let expected = [
        repo("?p=a.git;a=summary", "a.git", Some(false)),
        repo("?p=b%3Bc+d.git;a=summary", "b;c d.git", Some(true)),
        repo("e", "e", None),
    ];
    assert_eq!(cursors, expected.iter().collect::<Vec<_>>());
    let kept: Vec<bool> = found.iter().map(|(_, print)| print.is_some()).collect();
    assert_eq!(kept, [true, true, false], "without an age it is asked for each time");
    assert!(batch.skips.is_empty());
    assert_repeats(&gitweb(), &at(GitwebIndex::Html), &received(NOON, body));
}

#[test]
fn gitweb_an_age_is_the_time_that_it_names() {
    let print = |now: &str, age: &str| {
        let body = index_of(&row("/w/?p=a;a=summary", "a", age));
        leads(&read(&gitweb(), &at(GitwebIndex::Html), received(now, body)).unwrap())[0].1.clone()
    };
    let same = |(now, age): (&str, &str), (then, aged): (&str, &str)| print(now, age) == print(then, aged);
    // The same commit, seen later.
    assert!(same((NOON, "2 hours ago"), ("2026-10-08T13:00:00Z", "3 hours ago")));
    assert!(same((NOON, "5 days ago"), ("2026-10-10T12:00:00Z", "7 days ago")));
    assert!(same((NOON, "3 years ago"), ("2026-11-08T12:00:00Z", "3 years ago")));
    assert!(same((NOON, "3 months ago"), ("2026-10-09T12:00:00Z", "3 months ago")));
    assert!(same((NOON, "5 weeks ago"), ("2026-10-15T12:00:00Z", "6 weeks ago")));
    // Another one, whatever its age looks like.
    assert!(!same((NOON, "2 hours ago"), ("2026-10-09T12:00:00Z", "2 hours ago")));
    assert!(!same((NOON, "3 min ago"), ("2026-10-08T13:00:00Z", "3 min ago")));
    assert!(!same((NOON, "right now"), ("2026-10-08T12:00:05Z", "right now")));
    assert!(!same((NOON, "3 years ago"), (NOON, "3 months ago")));
    assert!(!same((NOON, "3 years ago"), ("2026-10-09T12:00:00Z", "5 hours ago")));
    assert_eq!(
        (print(NOON, ""), print(NOON, "99999999999999999999 years ago"), print(NOON, "9 eons ago")),
        (None, None, None)
    );
}

#[test]
fn gitweb_links_are_read_by_their_base() {
    let rows = row("?p=a", "a", "")
        + &row("x/b", "b", "")
        + &row("/c", "c", "")
        + &row("https://git.example/d/", "d", "");
    let body = index_of(&rows);
    let w = |page: &str| format!("https://git.example/{page}");
    assert_eq!(pages(&try_index(body.clone()).unwrap()), [w("w/?p=a"), w("w/x/b"), w("c"), w("d/")]);
    let based = body.replace("<title>", "<base href=\"https://git.example/cgi\"><title>");
    assert_eq!(pages(&try_index(based).unwrap()), [w("cgi?p=a"), w("x/b"), w("c"), w("d/")]);
}

#[test]
fn gitweb_forks_are_asked_for() {
    for href in ["/w/?p=a;a=forks", "/w/a/forks"] {
        let plus = format!("<tr><td><a title=\"3 forks\" href=\"{href}\">+</a></td>");
        let body = index_of(&row("/w/?p=a;a=summary", "a", "2 years ago").replace("<tr>", &plus));
        let batch = try_index(body).unwrap();
        let forks = format!("https://git.example{href}");
        assert_eq!(leads(&batch)[0], (json!({"forks": {"url": forks}}), None));
        assert_eq!(pages(&batch), ["https://git.example/w/?p=a;a=summary"]);
        let at = GitwebCursor::Forks { url: url(&forks) };
        assert_eq!(gitweb().request(&at).unwrap().url.as_str(), forks);
        let batch =
            read(&gitweb(), &at, received(NOON, index_of(&row("/w/?p=a/b;a=summary", "a/b", "")))).unwrap();
        let cursor = leads(&batch)[0].0.clone();
        assert_eq!(cursor["repo"]["fork"], true);
        let cursor = serde_json::from_value(cursor).unwrap();
        let read = read(&gitweb(), &cursor, answer(INDEX, page_of(&["git://h/a/b"]))).unwrap();
        assert_eq!(origins(&read)[0].is_fork, Some(true));
    }
    assert_eq!(origins(&repo(&["git://h/a"]))[0].is_fork, None, "that it is none is not said");
}

#[test]
fn gitweb_odd_rows_are_counted() {
    let odd = ["https://other.example/?p=a", "mailto:ada@example.org", INDEX].map(|href| row(href, "a", ""));
    let batch = try_index(index_of(&(odd.concat() + &row("/w/?p=b", "b", "")))).unwrap();
    assert_eq!((batch.follows.len(), batch.skips.len()), (1, 3));
    assert!(batch.skips[0].why.contains("other.example"), "{:?}", batch.skips);
    assert_error(try_index(index_of(&odd.concat())), ListerErrorKind::Parse, &["none of the 3 rows"]);
}

#[test]
fn gitweb_the_best_address_is_taken() {
    for (given, taken) in [
        (&["git://h/r"][..], "git://h/r"),
        (&["git://h/r", "http://h/r", "https://h/r"], "https://h/r"),
        (&["git://h/r", "http://h/r"], "https://h/r"),
        (&["ssh://h/r", "fast: git://h/r "], "git://h/r"),
        (&["git://h/r, https://h/r"], "https://h/r"),
        (&["clone it from https://h/r", "git://h/r"], "https://h/r"),
    ] {
        assert_eq!(urls(&repo(given)), [taken], "{given:?}");
    }
    let plain = Gitweb::new(url("http://git.example/w/"), "git.example");
    let batch = repo_as(&plain, Some("r"), page_of(&["git://h/r", "http://h/r"])).unwrap();
    assert_eq!(urls(&batch), ["http://h/r"], "such a site is not known to have https");
}

#[test]
fn gitweb_names_are_escaped() {
    for (name, written, taken) in [
        ("a b.git", "https://h/g/a b.git", "https://h/g/a%20b.git"),
        ("l/100%.git", "https://h/l/100%.git", "https://h/l/100%25.git"),
        ("ü/日.git", "https://h/ü/日.git", "https://h/%C3%BC/%E6%97%A5.git"),
        ("a?b#c.git", "git://h/a?b#c.git", "git://h/a%3Fb%23c.git"),
        ("a,b.git", "https://h/a,b.git", "https://h/a,b.git"),
        ("c++", "fast: https://h/c++", "https://h/c++"),
        ("other", "https://h/x%20y", "https://h/x%20y"),
    ] {
        let batch = repo_as(&gitweb(), Some(name), page_of(&[written])).unwrap();
        assert_eq!(urls(&batch), [taken], "{written}");
    }
}

#[test]
fn gitweb_a_page_without_an_address_has_the_customary_one() {
    let of = |lister: &Gitweb, project| repo_as(lister, project, page_of(&["ssh://h/r"])).unwrap();
    assert_eq!(urls(&of(&gitweb(), Some("a b/r.git"))), ["git://git.example/a%20b/r.git"]);
    let told = gitweb().with_base_git_url("https://clone.example/git/").unwrap();
    assert_eq!(urls(&of(&told, Some("r.git"))), ["https://clone.example/git/r.git"]);
    let batch = of(&told, None);
    assert_eq!((batch.origins.len(), batch.skips.len()), (0, 1));
    // What the page says comes first.
    assert_eq!(urls(&repo_as(&told, Some("r"), page_of(&["git://h/r"])).unwrap()), ["git://h/r"]);
}

#[test]
fn gitweb_the_date_is_that_of_the_page() {
    let batch = repo(&["https://h/r"]);
    assert_eq!(origins(&batch)[0].last_update, Some(Timestamp::parse("2026-10-01T08:20:30Z").unwrap()));
    assert_eq!((origins(&batch)[0].visit_type.as_str(), origins(&batch)[0].empty), ("git", Some(false)));
    let older = page_of(&["https://h/r"])
        .replace("<span class=\"datetime\">", "")
        .replace("</span> (12:20 +0400)", "");
    let batch = repo_as(&gitweb(), None, older).unwrap();
    assert_eq!(origins(&batch)[0].last_update, Some(Timestamp::parse("2026-10-01T08:20:30Z").unwrap()));
    let none = page_of(&["https://h/r"]).replace("metadata_lchange", "metadata_else");
    let batch = repo_as(&gitweb(), None, none).unwrap();
    assert_eq!((origins(&batch)[0].last_update, origins(&batch)[0].empty), (None, None));
}

#[test]
fn gitweb_without_an_index_the_others_are_asked_for() {
    let status = |of: u16| FailureKind::Status(of.try_into().unwrap());
    let recover = |index, kind| gitweb().recover(&at(index), &Failure::new(kind, "failed"));
    for kind in [status(404), status(403), FailureKind::Parse] {
        let html = recover(GitwebIndex::Html, kind);
        assert_eq!(html, Recovery::replaced(vec![at(GitwebIndex::ProjectIndex)]), "{kind:?}");
        let lines = recover(GitwebIndex::ProjectIndex, kind);
        assert_eq!(lines, Recovery::replaced(vec![at(GitwebIndex::Opml)]), "{kind:?}");
        let feeds = recover(GitwebIndex::Opml, kind);
        assert!(feeds.verdict == Verdict::Gap && feeds.note.unwrap().contains("project_index"));
    }
    assert_eq!(recover(GitwebIndex::Html, status(503)), Recovery::gap(), "it is ill: another day");
}

#[test]
fn gitweb_reads_the_project_index() {
    let lines = |body: &str| read(&gitweb(), &at(GitwebIndex::ProjectIndex), answer(INDEX, body.to_owned()));
    let batch = lines("a.git Ada+L%C3%A4mp\nd/b%3Bc+e.git \nno-owner\n").unwrap();
    let w = |p: &str| format!("https://git.example/w/?p={p};a=summary");
    assert_eq!(pages(&batch), [w("a.git"), w("d/b%3Bc+e.git"), w("no-owner")]);
    assert_eq!(leads(&batch)[1].0["repo"]["project"], "d/b;c e.git");
    for (body, words) in [
        ("", &["empty"][..]),
        ("a.git Ada\nb.gi", &["cut", "14 bytes"]),
        ("a.git Ada\n<html>\n", &["line 2"]),
        ("It does not work now\n", &["line 1"]),
    ] {
        assert_error(lines(body), ListerErrorKind::Parse, words);
    }
}

#[test]
fn gitweb_reads_the_list_of_feeds() {
    let feeds = |body: &str| read(&gitweb(), &at(GitwebIndex::Opml), answer(INDEX, body.to_owned()));
    let body = "<?xml version=\"1.0\"?>\n<opml version=\"1.0\"><body><outline text=\"git RSS feeds\">\n\
                <outline type=\"rss\" text=\"a\" xmlUrl=\"https://git.example/w/?p=a;a=rss\" htmlUrl=\"https://git.example/w/?p=a%26b;a=summary\"/>\n\
                <outline type=\"rss\" htmlUrl=\"https://other.example/?p=c\"/>\n</outline></body></opml>\n";
    let batch = feeds(body).unwrap();
    assert_eq!(pages(&batch), ["https://git.example/w/?p=a%26b;a=summary"]);
    assert_eq!((leads(&batch)[0].0["repo"]["project"].as_str(), batch.skips.len()), (Some("a&b"), 1));
    assert_error(feeds("<html>down</html>"), ListerErrorKind::Parse, &["<html>", "<opml>"]);
    assert_error(feeds(&body[..body.len() - 20]), ListerErrorKind::Parse, &["the list of feeds", "bytes"]);
}

#[test]
fn gitweb_lists_a_directory() {
    let built = build("gitweb", &json!({"url": INDEX, "prefix": "a&b/c/"})).unwrap();
    assert_eq!(built.source.key().to_string(), "gitweb of git.example/prefix=a&b/c");
    assert_eq!(first_request(&built).url.as_str(), "https://git.example/w/?a=project_list;pf=a%26b%2Fc");
    let part = gitweb().with_prefix("x");
    let lines = part.request(&at(GitwebIndex::ProjectIndex)).unwrap();
    assert_eq!(lines.url.as_str(), "https://git.example/w/?a=project_index;pf=x");
    assert!(build_error("gitweb", &json!({"url": INDEX, "prefix": "/"})).contains("prefix"));
}

#[test]
fn gitweb_a_repository_that_is_gone_is_skipped() {
    let status = |of: u16| FailureKind::Status(of.try_into().unwrap());
    let repo: GitwebCursor = serde_json::from_value(repo_cursor(INDEX, None)).unwrap();
    let recover = |at: &GitwebCursor, kind| gitweb().recover(at, &Failure::new(kind, "failed"));
    for gone in [404, 410] {
        assert!(matches!(recover(&repo, status(gone)).verdict, Verdict::Skip(_)));
    }
    for kind in [status(500), status(403), FailureKind::Parse] {
        assert_eq!(recover(&repo, kind), Recovery::gap(), "{kind:?}");
    }
}

#[test]
fn gitweb_what_is_no_gitweb_is_an_error() {
    let sign_in = "<title>Sign in</title></html>";
    assert_error(try_index(sign_in.into()), ListerErrorKind::Parse, &["table.project_list", "Sign in"]);
    assert_error(try_index(String::new()), ListerErrorKind::Parse, &["table.project_list"]);
    let whole = index_of(&row("/w/?p=a", "a", ""));
    assert_error(try_index(whole[..whole.len() - 20].to_owned()), ListerErrorKind::Parse, &["cut"]);
    let repo = |body: String| repo_as(&gitweb(), Some("r"), body);
    assert_error(repo(sign_in.into()), ListerErrorKind::Parse, &["metadata_url", "Sign in"]);
    assert_error(repo(page_of(&["git://h/r"]).replace("</html>", "")), ListerErrorKind::Parse, &["cut"]);
}

#[test]
fn gitweb_no_cut_or_bent_page_makes_it_panic() {
    let index = index_of(&(row("/w/?p=a%", "ü", "2 years ago") + &row("?p=;;&=", "", "-9 days ago")));
    let page = page_of(&["https://h/ü, git://h/%", "://", "git://"]);
    for at in (0..index.len()).filter(|at| index.is_char_boundary(*at)) {
        let _ = try_index(index[..at].to_owned());
        let _ = try_index(index[at..].to_owned());
    }
    for at in (0..page.len()).filter(|at| page.is_char_boundary(*at)) {
        let _ = repo_as(&gitweb(), Some("ü"), page[..at].to_owned());
        let _ = repo_as(&gitweb(), Some("%"), page[at..].to_owned());
    }
}
