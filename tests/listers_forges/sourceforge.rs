//! SourceForge.
#![cfg(all(feature = "html", feature = "xml"))]

use std::collections::BTreeMap;

use lamplighter::lister::{
    Coverage, Failure, FailureKind, FollowKind, Incremental, Lister, ListerErrorKind, Mode, PageBatch,
    Verdict,
};
use lamplighter::listers::SourceForge;
use lamplighter::listers::sourceforge::{SourceForgeCursor, SourceForgeState};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Response};
use serde_json::{Value, json};

use super::pages::assert_error;
use super::{
    answer, assert_repeats, assert_stored, build, build_error, first_request, origins, read, run, url, urls,
};

const INDEX: &str = "https://sourceforge.net/allura_sitemap/sitemap.xml";
const MAP: &str = "https://sourceforge.net/allura_sitemap/sitemap-0.xml";

fn forge() -> SourceForge {
    SourceForge::new(&url("https://sourceforge.net/"), "main")
}

fn cursor(of: Value) -> SourceForgeCursor {
    serde_json::from_value(of).unwrap()
}

fn at_index() -> SourceForgeCursor {
    cursor(json!({"index": {"known": {}}}))
}

fn project(path: &str) -> Value {
    json!({"path": path, "updated": "2020-02-29T00:00:00Z", "id": "5139", "archived": false})
}

fn index(of: &[(&str, &str)]) -> String {
    let entry =
        |(loc, day): &(&str, &str)| format!("<sitemap><loc>{loc}</loc><lastmod>{day}</lastmod></sitemap>");
    let entries: String = of.iter().map(entry).collect();
    format!("<sitemapindex xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">{entries}</sitemapindex>")
}

fn sitemap(of: &[(&str, &str)]) -> String {
    let entry = |(path, day): &(&str, &str)| {
        format!("<url><loc>https://sourceforge.net/{path}</loc><lastmod>{day}</lastmod></url>")
    };
    format!("<urlset>{}</urlset>", of.iter().map(entry).collect::<String>())
}

/// What a sitemap of a day says, read at a time.
fn page_of(entries: &[(&str, &str)], lastmod: Option<&str>, now: &str) -> PageBatch {
    let now = Timestamp::parse(now).unwrap();
    let response = Response::new(200, url(MAP), Body::from(sitemap(entries)), now);
    read(&forge(), &cursor(json!({"sitemap": {"url": MAP, "lastmod": lastmod}})), response).unwrap()
}

const LATER: &str = "2026-10-08T09:00:00Z";

/// Of each project: its path, its date and its fingerprint.
fn projects(batch: &PageBatch) -> Vec<(String, Option<String>, String)> {
    let one = |f: &lamplighter::lister::Follow| {
        let FollowKind::Item { key, fingerprint } = &f.kind else { panic!("{f:?}") };
        let SourceForgeCursor::Project(project) = cursor(f.cursor.clone()) else { panic!("{f:?}") };
        assert_eq!(**key, project.path);
        (project.path, project.updated.map(|d| d.to_string()), fingerprint.clone())
    };
    batch.follows.iter().map(one).collect()
}

fn tools(path: &str, body: &Value) -> PageBatch {
    let at = cursor(json!({"project": {"path": path, "updated": "2020-02-29T00:00:00Z"}}));
    read(&forge(), &at, answer("https://sourceforge.net/rest/x", body.to_string())).unwrap()
}

fn state(of: &[(&str, &str)]) -> SourceForgeState {
    let dates: BTreeMap<_, _> = of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    serde_json::from_value(json!({ "subsitemap_last_modified": dates })).unwrap()
}

#[test]
fn sourceforge_asks_for_the_index_first() {
    assert_eq!(forge().start(&run(Mode::Full)), [at_index()]);
    for (at, asked) in [
        (at_index(), INDEX),
        (cursor(json!({"sitemap": {"url": MAP, "lastmod": "2020-01-01"}})), MAP),
        (cursor(json!({"project": project("p/a/sub")})), "https://sourceforge.net/rest/p/a/sub"),
        (cursor(json!({"cvs": project("p/aaron")})), "http://aaron.cvs.sourceforge.net/"),
        (cursor(json!({"bzr": project("p/aaron")})), "http://aaron.bzr.sourceforge.net/bzr/aaron"),
    ] {
        assert_stored(&forge(), &at);
        assert_eq!(forge().request(&at).unwrap().url.as_str(), asked);
    }
    assert_eq!((forge().name(), forge().coverage(Mode::Full)), ("sourceforge", Coverage::All));
    assert_eq!(forge().coverage(Mode::Incremental), Coverage::New);
}

#[test]
fn sourceforge_reads_sitemaps_that_changed() {
    let [a, b, c] = ["a", "b", "c"].map(|n| format!("https://sourceforge.net/allura_sitemap/{n}.xml"));
    let body = index(&[(&a, "2026-01-02"), (&b, "2026-01-03"), (&c, "")]);
    let asked = |known: &SourceForgeState| -> Vec<String> {
        let [at] = &forge().resume(known, &run(Mode::Incremental))[..] else { panic!() };
        let batch = read(&forge(), at, answer(INDEX, body.clone())).unwrap();
        assert!(batch.follows.iter().all(|f| f.kind == FollowKind::Follow));
        let url = |f: &lamplighter::lister::Follow| f.cursor["sitemap"]["url"].as_str().unwrap().to_owned();
        batch.follows.iter().map(url).collect()
    };
    assert_eq!(asked(&state(&[])), [a.clone(), b.clone(), c.clone()]);
    assert_eq!(
        asked(&state(&[(&a, "2026-01-02"), (&b, "2026-01-02")])),
        [b, c],
        "one without a date is read"
    );
    assert_repeats(&forge(), &at_index(), &answer(INDEX, body));
}

#[test]
fn sourceforge_a_stored_state_is_read() {
    let row = json!({
        "subsitemap_last_modified": {MAP: "2021-03-18"},
        "empty_projects": {"https://sourceforge.net/rest/p/aaron": "2013-03-07"},
    });
    let known: SourceForgeState = serde_json::from_value(row).unwrap();
    assert_eq!(known, state(&[(MAP, "2021-03-18")]));
    let at = &forge().resume(&known, &run(Mode::Incremental))[0];
    let batch = read(&forge(), at, answer(INDEX, index(&[(MAP, "2021-03-18")]))).unwrap();
    assert!(batch.is_empty(), "{batch:?}");
    // As Software Heritage leaves it.
    assert_eq!(serde_json::from_value::<SourceForgeState>(json!({})).unwrap(), SourceForgeState::default());
}

#[test]
fn sourceforge_a_sitemap_is_marked_when_it_was_read() {
    let entries = [("p/a/home/", "2026-10-01")];
    let marks = |lastmod, now| page_of(&entries, lastmod, now).marks;
    let marked = json!({"subsitemap_last_modified": {MAP: "2026-10-06"}});
    assert_eq!(marks(Some("2026-10-06"), LATER), [marked]);
    assert!(marks(Some("2026-10-08"), LATER).is_empty(), "that day is not over");
    assert!(marks(Some("2026-10-07"), LATER).is_empty(), "nor is it everywhere");
    assert!(marks(None, LATER).is_empty());
    let batch = read(&forge(), &at_index(), answer(INDEX, index(&[(MAP, "2020-01-01")]))).unwrap();
    assert!(batch.marks.is_empty(), "the index has read no sitemap");
}

#[test]
fn sourceforge_pages_lead_to_projects() {
    let day = "2021-02-11";
    let batch = page_of(
        &[
            ("projects/a/files/", "2021-02-13"),
            ("p/a/home/", day),
            ("p/a/tickets/", "2021-02-12"),
            ("p/a/site/home/", day),
            ("adobe/a/wiki/", day),
            ("p/b/wiki", day),
        ],
        None,
        LATER,
    );
    let of = |path: &str, day: &str| (path.to_owned(), Some(format!("{day}T00:00:00Z")), day.to_owned());
    assert_eq!(
        projects(&batch),
        [of("adobe/a", day), of("p/a", "2021-02-12"), of("p/a/site", day), of("p/b", day)]
    );
    assert!(batch.skips.is_empty(), "{:?}", batch.skips);
}

#[test]
fn sourceforge_odd_addresses_are_counted() {
    let day = "2021-02-11";
    let batch =
        page_of(&[("p/a/home/", day), ("about", day), ("p/%C3%BC/home/", day), ("p/", day)], None, LATER);
    assert_eq!((projects(&batch).len(), batch.skips.len()), (1, 3), "{:?}", batch.skips);
    let at = cursor(json!({"sitemap": {"url": MAP, "lastmod": null}}));
    let elsewhere = sitemap(&[("about", day)]).replace("sourceforge.net", "elsewhere.example");
    assert_error(
        read(&forge(), &at, answer(MAP, elsewhere)),
        ListerErrorKind::Parse,
        &["none of 1", "another host"],
    );
}

#[test]
fn sourceforge_a_day_that_is_not_over_is_no_fingerprint() {
    let print = |now| projects(&page_of(&[("p/a/home/", "2026-10-08")], None, now))[0].2.clone();
    let (morning, evening, later) =
        (print(LATER), print("2026-10-08T23:00:00Z"), print("2026-10-11T00:00:00Z"));
    assert_eq!(morning, evening, "it is not asked for all day long");
    assert_ne!(evening, later, "what was pushed that evening is seen later");
    assert_eq!(later, print("2026-11-11T00:00:00Z"));
    // Without a date there is nothing to go by.
    let print = |now| projects(&page_of(&[("p/a/home/", "")], None, now))[0].2.clone();
    assert_ne!(print(LATER), print("2026-10-09T09:00:00Z"));
}

#[test]
fn sourceforge_tools_are_origins() {
    let body = json!({"_id": "5139", "status": "moved", "moved_to_url": "https://x.example/", "tools": [
        {"name": "wiki", "mount_point": "wiki"},
        {"name": "git", "mount_point": "code"},
        {"name": "git", "mount_point": "second_one"},
        {"name": "svn", "mount_point": "svn"},
        {"name": "hg", "mount_point": "hg"},
        {"name": "git", "mount_point": "../up"},
        {"name": null, "mount_point": null},
    ]});
    let batch = tools("p/a/sub", &body);
    assert_eq!(
        urls(&batch),
        [
            "https://git.code.sf.net/p/a/sub/code",
            "https://git.code.sf.net/p/a/sub/second_one",
            "https://svn.code.sf.net/p/a/sub/svn",
            "http://hg.code.sf.net/p/a/sub/hg",
        ]
    );
    let types: Vec<_> = origins(&batch).iter().map(|o| o.visit_type.as_str().to_owned()).collect();
    assert_eq!(types, ["git", "git", "svn", "hg"]);
    for origin in origins(&batch) {
        assert_eq!(origin.last_update.unwrap().to_string(), "2020-02-29T00:00:00Z");
        assert_eq!(origin.archived, Some(true), "it moved");
    }
    assert_eq!(origins(&batch)[1].forge_id.as_deref(), Some("5139/second_one"));
    assert_eq!((batch.skips.len(), batch.follows.len()), (1, 0), "{:?}", batch.skips);
    for (status, archived) in [("active", Some(false)), ("abandoned", Some(true)), ("inactive", None)] {
        let body = json!({"status": status, "tools": [{"name": "git", "mount_point": "g"}]});
        assert_eq!(origins(&tools("p/a", &body))[0].archived, archived, "{status}");
    }
    assert!(tools("p/a", &json!({"shortname": "a"})).is_empty(), "a project may have no tools");
}

#[test]
fn sourceforge_modules_of_cvs_are_origins() {
    let body = json!({"tools": [{"name": "cvs", "mount_point": "cvs"}, {"name": "bzr", "mount_point": "b"}]});
    let batch = tools("p/aaron", &body);
    let kinds: Vec<_> =
        batch.follows.iter().map(|f| f.cursor.as_object().unwrap().keys().next().unwrap()).collect();
    assert_eq!(kinds, ["cvs", "bzr"]);
    let batch = tools("p/aaron/sub", &body);
    assert_eq!((batch.skips.len(), batch.follows.len()), (2, 0), "a subproject has no host");

    let at = cursor(json!({"cvs": project("p/aaron")}));
    let checkout = |m: &str| {
        format!("<li><b>cvs -z3 -d:pserver:anonymous@a.cvs.sourceforge.net:/cvsroot/aaron co -P {m}</b></li>")
    };
    let html = format!(
        "<html><body>{}{}{}{}",
        checkout("aaron"),
        checkout("www data"),
        checkout("Attic"),
        checkout("x").replace("/aaron", "/other")
    );
    let whole = format!("{html}<li><b>rsync -a a.cvs.sourceforge.net::cvsroot/aaron/</b></li>");
    let there = "http://aaron.cvs.sourceforge.net/";
    let batch = read(&forge(), &at, answer(there, whole.clone())).unwrap();
    assert_eq!(
        urls(&batch),
        [
            "rsync://a.cvs.sourceforge.net/cvsroot/aaron/aaron",
            "rsync://a.cvs.sourceforge.net/cvsroot/aaron/www%20data"
        ]
    );
    assert_repeats(&forge(), &at, &answer(there, whole));
    assert_error(read(&forge(), &at, answer(there, html)), ListerErrorKind::Parse, &["cut", "::cvsroot/"]);
}

#[test]
fn sourceforge_branches_of_bazaar_are_origins() {
    let at = cursor(json!({"bzr": project("p/old")}));
    let there = "http://old.bzr.sourceforge.net/bzr/old";
    let page = |html: &str| read(&forge(), &at, answer(there, format!("<html><body>{html}</body></html>")));
    let one =
        page("<div id=\"branch-info\">To get this branch, use:<br/><code>bzr branch x</code></div>").unwrap();
    assert_eq!(urls(&one), [there]);
    let row = |kind: &str, name: &str| {
        format!(
            "<tr><td><a><img alt=\"{kind}\"/></a></td><td class=\"autcell\"><a href=\"{name}/files\">{name}</a></td></tr>"
        )
    };
    let table = |rows: &str| {
        format!("<table id=\"logentries\"><tr><td><img src=\"up.gif\"/></td></tr>{rows}</table>")
    };
    let many =
        page(&table(&[row("Branch", "trunk"), row("Folder", "old"), row("Branch", "2 0")].concat())).unwrap();
    assert_eq!(urls(&many), [format!("{there}/trunk"), format!("{there}/2%200")]);
    assert_eq!(many.skips.len(), 1, "{:?}", many.skips);
    assert!(page(&table("")).unwrap().is_empty());
    assert_error(page("<p>Sign in</p>"), ListerErrorKind::Parse, &["#branch-info", "logentries"]);
    let cut = answer(there, format!("<html>{}", table(&row("Branch", "x"))));
    assert_error(read(&forge(), &at, cut), ListerErrorKind::Parse, &["cut"]);
}

#[test]
fn sourceforge_a_page_that_leads_elsewhere_is_counted() {
    for at in ["cvs", "bzr"] {
        let at = cursor(json!({at: project("p/aaron")}));
        let batch =
            read(&forge(), &at, answer("https://sourceforge.net/p/aaron/git/", "<html></html>")).unwrap();
        assert_eq!((batch.origins.len(), batch.skips.len()), (0, 1));
        assert!(batch.skips[0].why.contains("sourceforge.net"), "{:?}", batch.skips);
    }
}

#[test]
fn sourceforge_what_is_gone_is_skipped() {
    let verdict = |at: Value, status: u16| {
        let status = http::StatusCode::from_u16(status).unwrap();
        forge().recover(&cursor(at), &Failure::new(FailureKind::Status(status), "x")).verdict
    };
    for at in ["project", "cvs", "bzr"] {
        assert!(matches!(verdict(json!({at: project("p/a")}), 404), Verdict::Skip(_)), "{at}");
        for ill in [403, 500] {
            assert_eq!(verdict(json!({at: project("p/a")}), ill), Verdict::Gap, "{at} {ill}");
        }
    }
    assert_eq!(verdict(json!({"sitemap": {"url": MAP, "lastmod": null}}), 404), Verdict::Gap);
    assert_eq!(verdict(json!({"index": {"known": {}}}), 404), Verdict::Gap);
}

#[test]
fn sourceforge_a_sitemap_elsewhere_is_refused() {
    let body = index(&[("https://elsewhere.example/sitemap.xml", "2020-01-01")]);
    let words = ["elsewhere.example"];
    assert_error(read(&forge(), &at_index(), answer(INDEX, body)), ListerErrorKind::Parse, &words);
}

#[test]
fn sourceforge_a_broken_body_is_an_error_with_its_place() {
    let whole = index(&[(MAP, "2020-01-01")]);
    let cut = whole[..whole.len() - 20].to_owned();
    assert_error(read(&forge(), &at_index(), answer(INDEX, cut)), ListerErrorKind::Parse, &["sitemap"]);
    let map = cursor(json!({"sitemap": {"url": MAP, "lastmod": null}}));
    assert_error(read(&forge(), &map, answer(MAP, whole)), ListerErrorKind::Parse, &["sitemapindex"]);
    let at = cursor(json!({"project": project("p/a")}));
    let body = "{\"tools\": [{\"name\": 1}]}";
    assert_error(read(&forge(), &at, answer(MAP, body)), ListerErrorKind::Parse, &["tools[0].name"]);
}

#[test]
fn sourceforge_joins_to_the_later_days() {
    let (a, b) = (
        state(&[("x", "2020-01-01"), ("y", "2020-05-01")]),
        state(&[("x", "2020-02-01"), ("z", "2019-01-01")]),
    );
    let both = state(&[("x", "2020-02-01"), ("y", "2020-05-01"), ("z", "2019-01-01")]);
    assert_eq!(forge().join(a.clone(), b.clone()), both);
    assert_eq!(forge().join(b, a), both);
    assert_eq!(forge().join(both.clone(), both.clone()), both);
}

#[test]
fn sourceforge_takes_its_parameters() {
    let built = build("sourceforge", &json!({})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), INDEX);
    assert!(built.source.is_incremental());
    assert_eq!(built.source.key().instance, "main");
    let built =
        build("sourceforge", &json!({"url": "http://127.0.0.1:81/sf/", "incremental": "false"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), "http://127.0.0.1:81/sf/allura_sitemap/sitemap.xml");
    assert!(!built.source.is_incremental());
    assert!(build_error("sourceforge", &json!({"incremental": "sometimes"})).contains("true or false"));
}
