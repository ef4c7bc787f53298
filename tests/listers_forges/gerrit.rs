//! Gerrit.

use std::collections::BTreeSet;

use lamplighter::lister::{
    Coverage, Failure, FailureKind, Lister, ListerErrorKind, Mode, PageBatch, Recovery, Verdict,
};
use lamplighter::listers::Gerrit;
use lamplighter::listers::gerrit::GerritCursor;
use lamplighter::transport::TransportErrorKind;
use serde_json::{Value, json};

use super::{
    answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, header, nexts,
    origins, query, read, run, url, urls,
};

fn gerrit() -> Gerrit {
    Gerrit::new(url("https://review.example/r"), "review.example")
}

fn at(start: u64, after: Option<&str>, clones: Option<&str>) -> GerritCursor {
    let cursor = json!({"projects": {"start": start, "limit": 500, "after": after, "clones": clones}});
    serde_json::from_value(cursor).unwrap()
}

fn first() -> GerritCursor {
    at(0, None, None)
}

fn guarded(body: &Value) -> String {
    format!(")]}}'\n{body}\n")
}

/// Reads a page; projects get the id that they always have.
fn page(lister: &Gerrit, cursor: &GerritCursor, body: &Value) -> PageBatch {
    let mut body = body.clone();
    if *cursor == GerritCursor::Server {
        body["gerrit"] = json!({"all_projects": "All-Projects"});
    } else {
        body.as_object_mut().unwrap().iter_mut().for_each(|(name, project)| project["id"] = json!(name));
    }
    read(lister, cursor, answer("https://review.example/r/projects/", guarded(&body))).unwrap()
}

/// The page after the server's description of itself.
fn after_server(info: &Value) -> Value {
    let batch = page(&gerrit(), &GerritCursor::Server, info);
    assert!(batch.origins.is_empty());
    let [next] = nexts(&batch)[..] else { panic!("{:?}", batch.follows) };
    next["projects"].clone()
}

fn schemes(of: &Value) -> Value {
    json!({"download": {"schemes": of, "archives": ["tgz"]}})
}

fn failed(lister: &Gerrit, cursor: &GerritCursor, kind: FailureKind) -> Recovery<GerritCursor> {
    lister.recover(cursor, &Failure::new(kind, "failed"))
}

fn status(of: u16) -> FailureKind {
    FailureKind::Status(of.try_into().unwrap())
}

#[test]
fn gerrit_asks_the_server_and_then_for_pages() {
    let lister = gerrit();
    let start = lister.start(&run(Mode::Full));
    assert_eq!(start, [GerritCursor::Server]);
    let request = lister.request(&start[0]).unwrap();
    assert_eq!(request.url.as_str(), "https://review.example/r/config/server/info");
    assert_eq!(header(&request, "accept"), Some("application/json"));
    let request = lister.request(&first()).unwrap();
    assert_eq!(request.url.as_str(), "https://review.example/r/projects/?type=CODE&limit=500");
    let request = lister.request(&at(499, Some("x"), None)).unwrap();
    assert_eq!(request.url.as_str(), "https://review.example/r/projects/?type=CODE&limit=500&start=499");
    assert_eq!(after_server(&json!({})), json!({"start": 0, "limit": 500, "after": null, "clones": null}));
    for cursor in [GerritCursor::Server, first(), at(7, Some("ü"), Some("https://h/${project}"))] {
        assert_stored(&lister, &cursor);
    }
    assert_eq!((lister.name(), lister.instance()), ("gerrit", "review.example"));
    assert_eq!((lister.coverage(Mode::Full), lister.coverage(Mode::Gaps)), (Coverage::All, Coverage::New));
    let built = build("gerrit", &json!({"instance": "review.example"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), "https://review.example/config/server/info");
    assert!(build_error("gerrit", &json!({})).contains("url="));
}

#[test]
fn gerrit_chooses_an_address_that_anybody_may_use() {
    let open = |url: &str| json!({"url": url, "is_auth_supported": true, "commands": {}});
    let closed = |url: &str| json!({"url": url, "is_auth_required": true});
    let ssh = open("ssh://review.example:29418/${project}");
    for (given, chosen) in [
        (
            json!({"anonymous http": open("https://git.example/${project}"), "ssh": ssh}),
            Some("https://git.example/${project}"),
        ),
        (
            json!({"a": open("http://git.example/${project}"), "b": open("https://git.example/p/${project}")}),
            Some("https://git.example/p/${project}"),
        ),
        (
            json!({"git": open("git://git.example/${project}"), "http": closed("https://git.example/a/${project}")}),
            Some("git://git.example/${project}"),
        ),
        (json!({"repo": open("https://git.example/manifest"), "ssh": ssh}), None),
        (json!({"http": closed("https://git.example/a/${project}"), "x": {"url": null}}), None),
        (json!({}), None),
    ] {
        assert_eq!(after_server(&schemes(&given))["clones"], json!(chosen), "{given}");
    }
    // It is put in for the name, wherever that stands.
    let names = json!({"plugins/x": {}});
    for (clones, expected) in [
        ("https://git.example/p/${project}", "https://git.example/p/plugins/x"),
        ("https://git.example/${project}.git", "https://git.example/plugins/x.git"),
    ] {
        assert_eq!(urls(&page(&gerrit(), &at(0, None, Some(clones)), &names)), [expected]);
    }
    assert_eq!(urls(&page(&gerrit(), &first(), &names)), ["https://review.example/r/plugins/x"]);
}

#[test]
fn gerrit_without_server_info_is_a_gap() {
    let not_there = [401, 403, 404, 410, 500, 503].map(status);
    for kind in not_there.into_iter().chain([FailureKind::Parse]) {
        let recovery = failed(&gerrit(), &GerritCursor::Server, kind);
        assert_eq!((&recovery.verdict, recovery.follow.len()), (&Verdict::Gap, 0), "{kind:?}");
        assert!(recovery.note.is_some_and(|note| note.contains("base_git_url=")), "{kind:?}");
    }
    // Of a recording nobody can say more.
    let not_recorded = FailureKind::Transport(TransportErrorKind::NotRecorded);
    let recovery = failed(&gerrit(), &GerritCursor::Server, not_recorded);
    assert_eq!(recovery, Recovery::replaced(vec![first()]));
}

#[test]
fn gerrit_may_be_told_where_clones_are() {
    for base in ["https://git.example/p", "https://git.example/p/"] {
        let lister = gerrit().with_base_git_url(base).unwrap();
        let start = lister.start(&run(Mode::Full));
        assert_eq!(start, [at(0, None, Some("https://git.example/p/${project}"))]);
        assert_eq!(urls(&page(&lister, &start[0], &json!({"a/b c": {}}))), ["https://git.example/p/a/b%20c"]);
    }
    let arguments = json!({"url": "https://review.example/", "base_git_url": "https://git.example"});
    let first = first_request(&build("gerrit", &arguments).unwrap());
    assert_eq!(first.url.as_str(), "https://review.example/projects/?type=CODE&limit=500");
    let wrong = build_error("gerrit", &json!({"instance": "h", "base_git_url": "ssh://h/"}));
    assert!(wrong.contains("base_git_url"), "{wrong}");
}

#[test]
fn gerrit_escapes_names() {
    let names = json!({"a b/c++": {}, "ünï#1?": {}, "100%": {}});
    let expected = [
        "https://review.example/r/100%25",
        "https://review.example/r/a%20b/c++",
        "https://review.example/r/%C3%BCn%C3%AF%231%3F",
    ];
    assert_eq!(urls(&page(&gerrit(), &first(), &names)), expected);
}

#[test]
fn gerrit_goes_on_while_there_are_more() {
    let clones = "https://git.example/${project}";
    let more = json!({"a": {}, "b": {}, "c": {"_more_projects": true}});
    let batch = page(&gerrit(), &at(0, None, Some(clones)), &more);
    let next = json!({"projects": {"start": 2, "limit": 500, "after": "c", "clones": clones}});
    assert_eq!(nexts(&batch), [&next]);
    let batch = page(&gerrit(), &at(2, Some("c"), None), &json!({"c": {}, "d": {"_more_projects": true}}));
    assert_eq!(nexts(&batch)[0]["projects"]["start"], 3);
    assert_eq!(urls(&batch), ["https://review.example/r/c", "https://review.example/r/d"]);
    // One at a time leaves none to begin the next page with.
    let batch = page(&gerrit(), &first(), &json!({"a": {"_more_projects": true}}));
    assert_eq!(
        nexts(&batch)[0]["projects"],
        json!({"start": 1, "limit": 500, "after": null, "clones": null})
    );
    let batch = page(&gerrit(), &at(2, Some("c"), None), &json!({"c": {}, "d": {}}));
    assert_eq!((batch.origins.len(), batch.follows.len()), (2, 0));
    let more = json!({"a": {"id": "a"}, "b": {"id": "b", "_more_projects": true}});
    let response = answer("https://review.example/r/projects/", guarded(&more));
    assert_repeats(&gerrit(), &first(), &response);
}

#[test]
fn gerrit_goes_back_where_projects_moved_up() {
    // "m" ended the page before, and something before it is gone.
    let moved = json!({"n": {}, "o": {"_more_projects": true}});
    let batch = page(&gerrit(), &at(900, Some("m"), None), &moved);
    assert_eq!(
        nexts(&batch)[0]["projects"],
        json!({"start": 898, "limit": 500, "after": "m", "clones": null})
    );
    assert_eq!(urls(&batch).len(), 2);
    let nothing = page(&gerrit(), &at(300, Some("m"), None), &json!({}));
    assert_eq!(nexts(&nothing)[0]["projects"]["start"], 0);
    // "m" itself is gone, and nothing moved past it; or there is nothing before the page.
    let batch = page(&gerrit(), &at(900, Some("m"), None), &json!({"l": {}, "o": {"_more_projects": true}}));
    assert_eq!(nexts(&batch)[0]["projects"]["start"], 901);
    let batch = page(&gerrit(), &at(0, Some("m"), None), &json!({"n": {}}));
    assert_eq!(nexts(&batch), [&Value::Null; 0]);
}

#[test]
fn gerrit_asks_for_smaller_pages_where_a_size_is_refused() {
    let mut cursor = at(9, Some("x"), None);
    for size in [100, 10, 1] {
        let recovery = failed(&gerrit(), &cursor, status(400));
        assert_eq!((&recovery.verdict, recovery.follow.len()), (&Verdict::Replaced, 1));
        cursor = recovery.follow[0].clone();
        let asked = query(&gerrit().request(&cursor).unwrap());
        assert_eq!((asked["limit"].as_str(), asked["start"].as_str()), (size.to_string().as_str(), "9"));
    }
    assert_eq!(failed(&gerrit(), &cursor, status(400)), Recovery::gap());
    for kind in [status(404), status(503), FailureKind::Parse] {
        assert_eq!(failed(&gerrit(), &first(), kind), Recovery::gap(), "{kind:?}");
    }
}

#[test]
fn gerrit_reads_the_state_of_a_project() {
    let projects =
        json!({"a": {"state": "ACTIVE"}, "b": {"state": "READ_ONLY"}, "c": {"state": null}, "d": {}});
    let batch = page(&gerrit(), &first(), &projects);
    let archived: Vec<Option<bool>> = origins(&batch).iter().map(|o| o.archived).collect();
    assert_eq!(archived, [Some(false), Some(true), None, None]);
    for origin in origins(&batch) {
        assert_eq!((origin.last_update, origin.is_fork, &origin.forge_id), (None, None, &None));
        assert_eq!(origin.visit_type.as_str(), "git");
    }
}

#[test]
fn gerrit_an_empty_server_is_no_error() {
    assert!(page(&gerrit(), &first(), &json!({})).is_empty());
}

#[test]
fn gerrit_a_broken_body_is_an_error_with_its_place() {
    for (body, words) in [
        ("all option is disabled\n", "no JSON"),
        ("<html>Sign in</html>", "<html>Sign in"),
        (")]}'\n[]", "invalid type"),
        (")]}'\n{\"a\":{\"id\":\"a\",\"_more_projects\":1}}", "a._more_projects"),
        ("{\"error\":{\"code\":500}}", "id"),
        (")]}'\n{\"a\":{\"state\":\"AC", "ends too early"),
        ("", "ends too early"),
    ] {
        assert_fails(&gerrit(), &first(), body, ListerErrorKind::Parse, &[words]);
    }
    let list = r#"{"gerrit":{},"download":{"schemes":[]}}"#;
    assert_fails(&gerrit(), &GerritCursor::Server, list, ListerErrorKind::Parse, &["download.schemes"]);
    assert_fails(
        &gerrit(),
        &GerritCursor::Server,
        "{\"message\":\"x\"}",
        ListerErrorKind::Parse,
        &["gerrit"],
    );
}

#[test]
fn gerrit_lists_a_prefix() {
    let built = build("gerrit", &json!({"url": "https://review.example/", "prefix": "Plugins/"})).unwrap();
    assert_eq!(built.source.key().instance, "review.example/prefix=Plugins/");
    let lister = gerrit().with_prefix("Plugins/");
    assert_eq!(query(&lister.request(&first()).unwrap())["p"], "Plugins/");
    assert_eq!(query(&gerrit().request(&first()).unwrap()).get("p"), None);
    assert!(build_error("gerrit", &json!({"instance": "h", "prefix": ""})).contains("prefix"));
}

/// A server that gives at most `cap` projects a page, and loses and gains some at each request.
#[test]
fn gerrit_lists_what_stays_while_others_go() {
    for (cap, edits) in [(37, 3), (50, 60), (499, 1), (4, 1)] {
        let name = |n: usize| format!("group-{:02}/project-{n:04}", n / 50);
        let mut there: BTreeSet<String> = (0..1000).map(name).collect();
        // One in seven may go.
        let mut leaving = (0..1000).filter(|n| n % 7 == 3).map(name);
        let stays: BTreeSet<String> = (0..1000).filter(|n| n % 7 != 3).map(name).collect();
        let lister = gerrit();
        let (mut cursor, mut seen, mut requests) = (Some(first()), BTreeSet::new(), 0);
        while let Some(at) = cursor.take() {
            requests += 1;
            assert!(requests < 5000, "no end with pages of {cap}");
            let asked = query(&lister.request(&at).unwrap());
            let start: usize = asked.get("start").map_or(0, |s| s.parse().unwrap());
            let given: Vec<&String> = there.iter().skip(start).take(cap).collect();
            let last =
                (start + given.len() < there.len()).then(|| given.last().map(|l| (*l).clone())).flatten();
            let body: serde_json::Map<String, Value> = given
                .into_iter()
                .map(|n| {
                    (
                        n.clone(),
                        if last.as_ref() == Some(n) { json!({"_more_projects": true}) } else { json!({}) },
                    )
                })
                .collect();
            let batch = page(&lister, &at, &Value::Object(body));
            seen.extend(urls(&batch).into_iter().map(|u| u["https://review.example/r/".len()..].to_owned()));
            cursor = nexts(&batch).first().map(|c| serde_json::from_value((*c).clone()).unwrap());
            for gone in leaving.by_ref().take(edits) {
                there.remove(&gone);
            }
            there.insert(format!("group-{:02}/new-{requests}", requests % 20));
        }
        let missed: Vec<&String> = stays.difference(&seen).collect();
        assert!(missed.is_empty(), "pages of {cap}: {missed:?}");
    }
}
