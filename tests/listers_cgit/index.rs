//! Pages of the index, requests, and what is said of failures.

use std::collections::BTreeSet;

use http::StatusCode;
use lamplighter::lister::{Failure, FailureKind, Lister, Mode, Registry, RunInfo, Verdict};
use lamplighter::listers::CGit;
use lamplighter::listers::cgit::CGitCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Provenance, TransportErrorKind};
use serde_json::{Value, json};

use super::*;

#[test]
fn requests_ask_for_html_and_say_where_their_url_is_from() {
    let start = cgit().start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
    assert_eq!(start, [at_index(INDEX)]);
    let ask = |at: &CGitCursor| cgit().request(at).unwrap();
    let first = ask(&start[0]);
    assert_eq!((first.method.as_str(), first.url.as_str()), ("GET", INDEX));
    assert_eq!(first.headers["accept"], "text/html");
    assert_eq!(first.provenance, Provenance::Configured);
    assert!(!first.validate);
    assert_eq!(ask(&at_repo(REPO)).provenance, Provenance::Configured);
    for elsewhere in
        ["https://other.example/r", "https://cgit.example:8443/cgit/r", "http://cgit.example/cgit/r"]
    {
        assert_eq!(ask(&at_repo(elsewhere)).provenance, Provenance::Upstream, "{elsewhere}");
    }
}

#[test]
fn cursors_keep_their_names() {
    let updated = Timestamp::parse("2020-01-01T00:00:00Z").ok();
    let at = CGitCursor::Repo { url: url("https://h/r"), updated, hop: true };
    let stored = json!({"repo": {"url": "https://h/r", "updated": "2020-01-01T00:00:00Z", "hop": true}});
    assert_eq!(serde_json::to_value(&at).unwrap(), stored);
    assert_eq!(
        serde_json::to_value(at_index("https://h/")).unwrap(),
        json!({"index": {"url": "https://h/"}})
    );
}

#[test]
fn the_catalogue_makes_it() {
    let build = |given: Value| Registry::builtin().build("cgit", given.as_object().unwrap());
    let made = build(json!({"url": INDEX, "base_git_url": "https://clone.example/"})).unwrap();
    assert_eq!(made.source.key().to_string(), build(json!({"url": INDEX})).unwrap().source.key().to_string());
    assert!(made.bases.contains(&url(INDEX)));
    assert!(build(json!({"instance": "cgit.example"})).is_ok());
    assert!(build(json!({})).unwrap_err().to_string().contains("url="));
    let error = build(json!({"url": INDEX, "base_git_url": "clone.example"})).unwrap_err();
    assert!(error.to_string().starts_with("base_git_url: "), "{error}");
}

#[test]
fn a_real_index_gives_its_rows_and_the_next_page() {
    let batch = read(&cgit(), &at_index(INDEX), recorded("live/run-1-index-1.html")).unwrap();
    let items = items(&batch);
    assert_eq!((items.len(), batch.follows.len(), batch.skips.len()), (20, 21, 0));
    // Without the slash, escapes as they stand: the first link of a row (the second is not escaped).
    let keys: Vec<&str> = items.iter().map(|(key, _, _)| key.as_str()).collect();
    for path in [
        "empty.git",
        "two%20more%20%20spaces.git",
        "deep/a/b/c/nested.git",
        "libs/it%27s%20100%25.git",
        "libs/%c3%bcn%c3%afcode.git",
        "libs/c++parser.git",
    ] {
        assert!(keys.contains(&format!("{INDEX}{path}").as_str()), "{path} is not in {keys:?}");
    }
    let dated = CGitCursor::Repo {
        url: url("https://cgit.example/cgit/linux+tilde~x.git"),
        updated: Timestamp::parse("2023-11-17T00:15:22Z").ok(),
        hop: false,
    };
    let cursors: Vec<&CGitCursor> = items.iter().map(|(_, _, cursor)| cursor).collect();
    assert!(cursors.contains(&&dated));
    assert!(cursors.contains(&&at_repo("https://cgit.example/cgit/empty.git")), "it has no date");
    assert_eq!(nexts(&batch), [at_index("https://cgit.example/cgit/?ofs=20")]);
}

#[test]
fn a_row_without_a_link_is_left_out_and_one_of_a_theme_is_not() {
    let rows = row("/cgit/r/", "")
        + "<tr><td>no link</td></tr><tr class='odd'><td class='sublevel-repo'><a href='t/'>t</a></td></tr>\
           <tr class='nohover-highlight'><td class='reposection'><a href='/cgit/section/'>s</a></td></tr>";
    let batch = read_index(&rows, "").unwrap();
    let keys: Vec<String> = items(&batch).into_iter().map(|(key, _, _)| key).collect();
    assert_eq!(keys, ["https://cgit.example/cgit/r", "https://cgit.example/cgit/t"]);
    assert_eq!(batch.skips[0].what, "the row \"no link\"");
    assert_eq!(skips(&batch), ["has no link to a page"]);
}

#[test]
fn the_last_page_and_a_page_past_the_end_end_the_chain() {
    let last = read(&cgit(), &at_index(INDEX), recorded("live/run-1-index-4.html")).unwrap();
    assert_eq!((items(&last).len(), nexts(&last).len()), (7, 0));
    // As a real cgit answers past the end: the table without rows, no page marked.
    let pager = "<ul class='pager'><li><a href='/cgit/'>[1]</a></li><li><a href='?ofs=50'>[2]</a></li></ul>";
    assert!(read_index("", pager).unwrap().is_empty());
}

#[test]
fn the_pager_is_read_in_each_of_its_shapes() {
    let next = |pager: &str| nexts(&read_index(&row("/cgit/r/", ""), pager).unwrap());
    for pager in [
        "<ul class='pager'><li><a class='current' href='/cgit/'>[1]</a></li><li><a href='/cgit/?ofs=50'>[2]</a></li></ul>",
        "<ul class='pager'><li class='current'>[1]</li><li><a href='/cgit/?ofs=50'>[2]</a></li></ul>",
        "<div class='pager'><a class='current' href='/cgit/'>[1]</a> <a href='/cgit/?ofs=50'>[2]</a></div>",
    ] {
        assert_eq!(next(pager), [at_index("https://cgit.example/cgit/?ofs=50")], "{pager}");
    }
    for pager in [
        "",
        "<ul class='pager'><li><a class='current' href='/cgit/'>[1]</a></li></ul>",
        "<ul class='pager'><li><a href='/cgit/'>[1]</a></li><li><a class='current' href='?ofs=50'>[2]</a></li></ul>",
        "<ul class='pager'><li><a class='current' href='/cgit/'>[1]</a></li><li>…</li></ul>",
    ] {
        assert_eq!(next(pager), [], "{pager}");
    }
}

#[test]
fn a_pager_that_leaves_the_host_or_marks_no_page_is_an_error() {
    let error = |pager: &str| parse_error(read_index(&row("/cgit/r/", ""), pager));
    let elsewhere = "<ul class='pager'><li><a class='current' href='/'>[1]</a></li>\
                     <li><a href='https://elsewhere.example/'>[2]</a></li></ul>";
    assert!(error(elsewhere).contains("elsewhere.example"));
    let unmarked =
        "<ul class='pager'><li><a href='/cgit/'>[1]</a></li><li><a href='?ofs=50'>[2]</a></li></ul>";
    assert!(error(unmarked).contains("a.current"));
}

#[test]
fn dates_are_read_where_they_say_one_instant() {
    for (title, instant) in [
        ("2023-11-17 00:15:22 +0000", Some("2023-11-17T00:15:22Z")),
        ("2020-01-17 23:52:00 +0130", Some("2020-01-17T22:22:00Z")),
        ("2020-01-17 23:52:00 -0800", Some("2020-01-18T07:52:00Z")),
        ("2013-12-02 00:22:14 (GMT)", Some("2013-12-02T00:22:14Z")),
        ("2013-12-02 00:22:14 (UTC)", Some("2013-12-02T00:22:14Z")),
        ("2013-07-02 00:22:14 (CEST)", Some("2013-07-01T22:22:14Z")),
        ("2013-12-02 00:22:14 (CET)", Some("2013-12-01T23:22:14Z")),
        ("2013-07-02 00:22:14 (EDT)", Some("2013-07-02T04:22:14Z")),
        ("2013-12-02 00:22:14 (+0300)", Some("2013-12-01T21:22:14Z")),
        // China or Chicago; Sydney or New York; Dublin, Delhi or Tel Aviv.
        ("2013-12-02 00:22:14 (CST)", None),
        ("2013-12-02 00:22:14 (EST)", None),
        ("2013-12-02 00:22:14 (IST)", None),
        ("2013-12-02 00:22:14", None),
        ("2013-13-02 00:22:14 +0000", None),
        ("2013-12-02 00:22:14 +é00", None),
        ("yesterday", None),
        ("", None),
    ] {
        let batch = read_index(&row("/cgit/r/", title), "").unwrap();
        let instant = instant.map(|i| Timestamp::parse(i).unwrap());
        let expected = CGitCursor::Repo { url: url(REPO), updated: instant, hop: false };
        assert_eq!(items(&batch)[0].2, expected, "{title}");
    }
}

#[test]
fn the_fingerprint_is_the_instant_and_nothing_else() {
    let print = |row: &str| items(&read_index(row, "").unwrap()).remove(0).1;
    let plain = print(&row("/cgit/r/", "2023-07-01 12:00:00 +0000"));
    let same =
        row("/cgit/r/", "2023-07-01 14:00:00 +0200").replace("3 years", "4 years").replace("name", "other");
    assert_eq!(print(&same), plain);
    assert_ne!(print(&row("/cgit/r/", "2023-07-01 12:00:01 +0000")), plain);
    // A date that cannot be placed still tells that something changed.
    let unplaced = print(&row("/cgit/r/", "2023-07-01 12:00:00 (CST)"));
    assert_eq!(print(&row("/cgit/r/", "2023-07-01 12:00:00 (CST)")), unplaced);
    assert_ne!(print(&row("/cgit/r/", "2023-07-01 12:00:01 (CST)")), unplaced);
    let undated = |owner: &str| {
        format!("<tr><td class='toplevel-repo'><a href='/cgit/r/'>r</a></td><td>{owner}</td><td></td></tr>")
    };
    assert_eq!(print(&undated("ada")), print(&undated("root")));
}

#[test]
fn rows_that_leave_the_host_are_left_out() {
    let rows = row("https://elsewhere.example/r/", "")
        + &row("/cgit/r/", "")
        + &row("mailto:a@b", "")
        + &row("/cgit/s//#top", "");
    let batch = read_index(&rows, "").unwrap();
    let keys: Vec<String> = items(&batch).into_iter().map(|(key, _, _)| key).collect();
    assert_eq!(keys, [REPO, "https://cgit.example/cgit/s"]);
    assert_eq!(skips(&batch), ["leads to another host (elsewhere.example)", "has no link to a page"]);
    let all = parse_error(read_index(&row("//elsewhere.example/r/", ""), ""));
    assert!(all.contains("none of the 1 rows") && all.contains("elsewhere.example"), "{all}");
    // A site that redirects to its new host is followed there.
    let page = index_page(&row("r/", ""), "");
    let moved = read_from(&cgit(), &at_index(INDEX), "https://new.example/git/", page).unwrap();
    assert_eq!(items(&moved)[0].0, "https://new.example/git/r");
}

#[test]
fn an_empty_index_is_no_error() {
    assert!(read(&cgit(), &at_index(INDEX), recorded("empty/index.html")).unwrap().is_empty());
}

#[test]
fn what_is_no_cgit_page_is_an_error_that_says_what_is_missing() {
    let maintenance = recorded("broken/maintenance.html");
    let error = parse_error(read(&cgit(), &at_index(INDEX), maintenance.as_str()));
    assert!(error.contains("repository list") && error.contains("Down for maintenance"), "{error}");
    let error = parse_error(read(&cgit(), &at_repo(REPO), maintenance.as_str()));
    assert!(error.contains("vcs-git") && error.contains("table.tabs"), "{error}");
    for body in ["", "{\"json\": true}", "<html><title>Making sure you're not a bot!</title></html>"] {
        parse_error(read(&cgit(), &at_index(INDEX), body));
        parse_error(read(&cgit(), &at_repo(REPO), body));
    }
    // A page of a repository is no index.
    parse_error(read(&cgit(), &at_index(INDEX), recorded("live/repo-empty.html")));
}

#[test]
fn a_cut_page_is_an_error() {
    let cut = recorded("broken/index-2-cut.html");
    assert!(cut.contains("sublevel-repo"), "it has rows");
    assert!(parse_error(read(&cgit(), &at_index(INDEX), cut)).contains("cut"));
    let page = recorded("live/repo-empty.html");
    let (head, _) = page.split_once("<a rel='vcs-git'").unwrap();
    assert!(parse_error(read(&cgit(), &at_repo(REPO), head)).contains("cut"));
    // A site's own footer may end the page in its own way.
    let (embedded, _) = page.split_once("<div class='footer'>").unwrap();
    assert!(read(&cgit(), &at_repo(REPO), embedded).is_ok());
}

#[test]
fn base_git_url_maps_paths() {
    let mapped_at = |answered: &str, index: &str, base: &str, href: &str| {
        let lister = CGit::new(url(index), "i").with_base_git_url(base).unwrap();
        let page = index_page(&row(href, ""), "");
        let batch = read_from(&lister, &at_index(index), answered, page).unwrap();
        assert!(batch.follows.is_empty());
        batch.origins[0].origin.url.clone()
    };
    let mapped = |index: &str, base: &str, href: &str| mapped_at(INDEX, index, base, href);
    for index in
        [INDEX, "https://cgit.example/cgit", "http://cgit.example/cgit", "HTTPS://CGIT.example/CGit/"]
    {
        for base in ["https://clone.example/r", "git://clone.example/r"] {
            for slash in ["", "/"] {
                let got = mapped(index, &format!("{base}{slash}"), "/cgit/libs/c++.git/");
                assert_eq!(got, format!("{base}/libs/c++.git"), "{index}");
                // Where the server does not redirect either.
                let got = mapped_at(index, index, &format!("{base}{slash}"), "/cgit/libs/c++.git/");
                assert_eq!(got, format!("{base}/libs/c++.git"), "{index}");
            }
        }
    }
    assert_eq!(mapped("https://cgit.example/", "https://h", "/a%20b/"), "https://h/a%20b");
    // A site that moved is mapped from where it is now.
    assert_eq!(mapped("https://old.example/git/", "https://h", "/cgit/r/"), "https://h/r");
    for base in ["", "relative/path", "ssh://h/", "git@h:r", "https://h/?q=1"] {
        let error = cgit().with_base_git_url(base).unwrap_err().to_string();
        assert!(error.starts_with("base_git_url: "), "{error}");
    }
}

#[test]
fn base_git_url_asks_for_no_page_of_a_repository() {
    let lister = cgit().with_base_git_url("https://clone.example/r").unwrap();
    let batch = read(&lister, &at_index(INDEX), recorded("live/run-1-index-1.html")).unwrap();
    assert_eq!((batch.origins.len(), batch.follows.len(), nexts(&batch).len()), (20, 1, 1));
    let dated: BTreeSet<Timestamp> = batch.origins.iter().filter_map(|s| s.origin.last_update).collect();
    assert_eq!(dated.len(), 17, "empty.git, libs/undated.git and tools/tool-05.git have no date");
}

#[test]
fn a_row_outside_the_base_is_left_out_and_a_wrong_base_is_an_error() {
    let lister = cgit().with_base_git_url("https://clone.example").unwrap();
    let rows = row("/cgitother/r/", "")
        + &row("/cgit/r/", "")
        + &row("/cgit/", "")
        + &row("/cgit/x?url=r", "")
        + &row("https://old.example/cgit/r", "");
    let batch = read(&lister, &at_index(INDEX), index_page(&rows, "")).unwrap();
    assert_eq!(origins(&batch), ["https://clone.example/r"]);
    let (elsewhere, outside) = (skips(&batch).pop(), skips(&batch)[..3].to_vec());
    assert_eq!(outside, ["is not below cgit.example/cgit/"; 3]);
    assert_eq!(elsewhere, Some("leads to another host (old.example)"));
    let error = parse_error(read(&lister, &at_index(INDEX), index_page(&row("/other/r/", ""), "")));
    assert!(error.contains("not below"), "{error}");
}

#[test]
fn only_a_repository_that_is_gone_is_skipped() {
    let hop = CGitCursor::Repo { url: url(REPO), updated: None, hop: true };
    let verdict = |at: &CGitCursor, kind| {
        let recovery = cgit().recover(at, &Failure::new(kind, "failed"));
        assert_eq!(recovery.follow, []);
        recovery.verdict
    };
    let status = |s| FailureKind::Status(StatusCode::from_u16(s).unwrap());
    let gone = Verdict::Skip("gone since the index was read".to_owned());
    assert_eq!(verdict(&at_repo(REPO), status(404)), gone);
    assert_eq!(verdict(&at_repo(REPO), status(410)), gone);
    let others = [
        status(500),
        status(403),
        FailureKind::Parse,
        FailureKind::Loop,
        FailureKind::Transport(TransportErrorKind::Timeout),
    ];
    for kind in others {
        assert_eq!(verdict(&at_repo(REPO), kind), Verdict::Gap, "{kind:?}");
    }
    assert_eq!(verdict(&at_index(INDEX), status(404)), Verdict::Gap);
    assert_eq!(verdict(&hop, status(404)), Verdict::Gap);
}
