//! Bitbucket.

use lamplighter::lister::{
    Coverage, Failure, FailureKind, Incremental, Lister, ListerErrorKind, Mode, PageBatch, Recovery, Verdict,
};
use lamplighter::listers::Bitbucket;
use lamplighter::listers::bitbucket::{BitbucketCursor, BitbucketState};
use lamplighter::model::Timestamp;
use lamplighter::transport::Auth;
use serde_json::{Value, json};

use super::{
    answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, header, map,
    nexts, origins, query, read, run, url, urls,
};

fn cloud() -> Bitbucket {
    Bitbucket::cloud().unwrap()
}

fn server() -> Bitbucket {
    Bitbucket::server(url("https://git.example/stash/"), "git.example")
}

fn stored(url: &str, workspace: Option<&str>, newest: Option<&str>, wanted: &str) -> BitbucketCursor {
    let cursor = json!({"repositories": {"url": url, "workspace": workspace, "newest": newest, "wanted": wanted, "first": newest.is_none()}});
    serde_json::from_value(cursor).unwrap()
}

fn all() -> BitbucketCursor {
    stored("https://api.bitbucket.org/2.0/repositories?pagelen=100&after=1970-01-01", None, None, "whole")
}

fn one(workspace: &str) -> BitbucketCursor {
    let url = format!("https://api.bitbucket.org/2.0/repositories/{workspace}?pagelen=100&sort=-updated_on");
    stored(&url, Some(workspace), None, "whole")
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn page_of(lister: &Bitbucket, at: &BitbucketCursor, body: &Value) -> PageBatch {
    read(lister, at, answer("https://api.bitbucket.org/2.0/", body.to_string())).unwrap()
}

fn repo(name: &str) -> Value {
    json!({
        "uuid": format!("{{{name}}}"), "scm": "git", "is_private": false, "parent": null,
        "created_on": "2020-01-02T03:04:05.000006+00:00", "updated_on": "2021-01-02T03:04:05.000006+00:00",
        "links": {"clone": [
            {"name": "ssh", "href": format!("git@bitbucket.org:w/{name}.git")},
            {"name": "https", "href": format!("https://bitbucket.org/w/{name}.git")},
        ]},
    })
}

fn with(mut of: Value, field: &str, value: Value) -> Value {
    of[field] = value;
    of
}

fn status(of: u16) -> FailureKind {
    FailureKind::Status(of.try_into().unwrap())
}

fn recover(at: &BitbucketCursor, kind: FailureKind) -> Recovery<BitbucketCursor> {
    cloud().recover(at, &Failure::new(kind, "failed"))
}

#[test]
fn bitbucket_asks_for_everything_by_creation() {
    assert_eq!(cloud().start(&run(Mode::Full)), [all()]);
    let request = cloud().request(&all()).unwrap();
    let fields = "next,values.uuid,values.is_private,values.scm,values.links.clone,values.updated_on,\
                  values.created_on,values.parent.full_name";
    assert_eq!(query(&request), map(&[("pagelen", "100"), ("after", "1970-01-01"), ("fields", fields)]));
    assert_eq!((header(&request, "accept"), &request.auth), (Some("application/json"), &Auth::Basic));
    assert!(request.needs.is_some_and(|needs| needs.contains("read:repository:bitbucket")));
    assert_stored(&cloud(), &all());
    assert_eq!((cloud().name(), cloud().instance()), ("bitbucket", "bitbucket.org"));
    assert_eq!(
        (cloud().coverage(Mode::Full), cloud().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn bitbucket_asks_for_each_workspace() {
    let two = cloud().with_part(" Zoo,acme,zoo,");
    assert_eq!(two.start(&run(Mode::Full)), [one("acme"), one("zoo")]);
    assert_eq!(two.instance(), "bitbucket.org/workspace=acme,zoo");
    let request = two.request(&one("acme")).unwrap();
    assert_eq!((request.url.path(), &*query(&request)["sort"]), ("/2.0/repositories/acme", "-updated_on"));
    assert_eq!(two.coverage(Mode::Incremental), Coverage::Changed);
}

#[test]
fn bitbucket_goes_on_where_the_body_says() {
    let next = "https://api.bitbucket.org/2.0/repositories?pagelen=100&fields=next&after=2011-09-03T12%3A33%3A16%2B00%3A00";
    let batch = page_of(&cloud(), &all(), &json!({"values": [repo("a")], "next": next}));
    let cursor: BitbucketCursor = serde_json::from_value(nexts(&batch)[0].clone()).unwrap();
    let request = cloud().request(&cursor).unwrap();
    assert_eq!(query(&request)["after"], "2011-09-03T12:33:16+00:00");
    assert!(query(&request)["fields"].contains("values.scm"), "what is asked for is ours to say");
    assert!(nexts(&page_of(&cloud(), &all(), &json!({"values": [repo("a")]}))).is_empty());
    let itself = "https://api.bitbucket.org/2.0/repositories?pagelen=100&after=1970-01-01&fields=next";
    for elsewhere in ["https://elsewhere.example/2.0/repositories", "nowhere", itself] {
        let body = json!({"values": [], "next": elsewhere}).to_string();
        assert_fails(&cloud(), &all(), &body, ListerErrorKind::Parse, &["next"]);
    }
}

#[test]
fn bitbucket_without_the_list_of_everything_workspaces_are_listed() {
    let user = url("https://api.bitbucket.org/2.0/user/workspaces?pagelen=100");
    let found = BitbucketCursor::Workspaces { url: user.clone() };
    for gone in [404, 410] {
        assert_eq!(recover(&all(), status(gone)), Recovery::replaced(vec![found.clone()]));
        assert_eq!(recover(&one("acme"), status(gone)), Recovery::gap());
        let second = serde_json::from_value(json!({"repositories": {
            "url": "https://api.bitbucket.org/2.0/repositories?after=2020-01-01", "workspace": null, "newest": null,
            "wanted": "whole", "first": false,
        }}));
        assert_eq!(
            recover(&second.unwrap(), status(gone)).verdict,
            Verdict::Gap,
            "it was there a moment ago"
        );
    }
    let closed = recover(&found, status(401));
    assert!(closed.verdict == Verdict::Gap && closed.note.unwrap().contains("workspace="));
    let request = cloud().request(&found).unwrap();
    assert_eq!(request.url, user);
    assert!(request.needs.is_some_and(|needs| needs.contains("read:workspace:bitbucket")));
    let body = json!({
        "values": [{"workspace": {"slug": "acme"}}, {"slug": "zoo"}, {"workspace": {"slug": null}}],
        "next": "https://api.bitbucket.org/2.0/user/workspaces?pagelen=100&page=2",
    });
    let batch = page_of(&cloud(), &found, &body);
    let cursors: Vec<BitbucketCursor> =
        batch.follows.iter().map(|f| serde_json::from_value(f.cursor.clone()).unwrap()).collect();
    let second = BitbucketCursor::Workspaces {
        url: url("https://api.bitbucket.org/2.0/user/workspaces?pagelen=100&page=2"),
    };
    assert_eq!(cursors, [one("acme"), one("zoo"), second]);
    assert_eq!(batch.skips.len(), 1);
}

#[test]
fn bitbucket_goes_on_behind_a_broken_page() {
    let page = "https://api.bitbucket.org/2.0/repositories/w?page=2";
    let at = |wanted: &str, newest: Option<&str>| -> BitbucketCursor {
        serde_json::from_value(json!({"repositories": {
            "url": page, "workspace": "w", "newest": newest, "wanted": wanted, "first": false,
        }}))
        .unwrap()
    };
    let halves = Recovery::replaced(vec![at("alone", None), at("next", None)]);
    assert_eq!(recover(&at("whole", Some("2021-01-01T00:00:00Z")), status(500)), halves);
    for half in ["alone", "next"] {
        assert_eq!(recover(&at(half, None), status(500)), Recovery::gap(), "{half}");
    }
    assert_eq!(recover(&at("whole", None), status(403)), Recovery::gap());
    assert_eq!(recover(&all(), status(500)), Recovery::gap(), "that list is resumed where it broke off");
    let asked = |wanted| query(&cloud().request(&at(wanted, None)).unwrap())["fields"].clone();
    assert_eq!((asked("next").as_str(), asked("alone")), ("next", asked("whole")));
    let part = cloud().with_part("w");
    let next = "https://api.bitbucket.org/2.0/repositories/w?page=3";
    let batch = page_of(&part, &at("next", None), &json!({"next": next}));
    let third: BitbucketCursor = serde_json::from_value(nexts(&batch)[0].clone()).unwrap();
    // At the end nothing is known of the page that was passed: it is asked for again.
    let batch = page_of(&part, &third, &json!({"values": [repo("c")]}));
    assert_eq!((batch.origins.len(), batch.marks.len()), (1, 0));
    // What came to be had later is listed without what is behind it.
    let batch = page_of(&part, &at("alone", None), &json!({"values": [repo("a")], "next": next}));
    assert_eq!((batch.origins.len(), batch.follows.len(), batch.marks.len()), (1, 0, 0));
}

#[test]
fn bitbucket_reads_a_repository() {
    let fork = with(repo("fork"), "parent", json!({"full_name": "up/stream"}));
    let closed = with(with(repo("closed"), "is_private", json!(true)), "scm", json!("hg"));
    let mut unasked = repo("unasked");
    unasked.as_object_mut().unwrap().remove("parent");
    let body = json!({"values": [repo("a"), fork, closed, unasked]});
    let batch = page_of(&cloud(), &all(), &body);
    let [plain, fork, closed, unasked] = origins(&batch)[..] else { panic!() };
    assert_eq!(plain.url, "https://bitbucket.org/w/a.git");
    assert_eq!((plain.visit_type.as_str(), plain.forge_id.as_deref()), ("git", Some("{a}")));
    assert_eq!(plain.last_update, Some(time("2021-01-02T03:04:05.000006Z")));
    assert_eq!((plain.is_fork, plain.enabled, plain.archived), (Some(false), true, None));
    assert_eq!(
        (fork.is_fork, fork.forked_from_url.as_deref()),
        (Some(true), Some("https://bitbucket.org/up/stream.git"))
    );
    assert_eq!((closed.enabled, closed.visit_type.as_str()), (false, "hg"));
    let late = with(repo("a"), "updated_on", json!("tomorrow"));
    let undated = page_of(&cloud(), &all(), &json!({"values": [late]}));
    assert_eq!((origins(&undated)[0].last_update, undated.skips.len()), (None, 1));
    assert_eq!(unasked.is_fork, None, "a recording that did not ask says nothing");
    assert_repeats(&cloud(), &all(), &answer("https://api.bitbucket.org/2.0/", body.to_string()));
}

#[test]
fn bitbucket_addresses_are_for_anybody() {
    let clone = |hrefs: &[&str]| {
        let links: Vec<Value> = hrefs.iter().map(|href| json!({"name": "x", "href": href})).collect();
        with(repo("a"), "links", json!({"clone": links}))
    };
    let listed = |of: Value| {
        let batch = page_of(&cloud(), &all(), &json!({"values": [of]}));
        (urls(&batch).iter().map(|url| (*url).to_owned()).collect::<Vec<_>>(), batch.skips)
    };
    assert_eq!(listed(clone(&["https://ada:pw@bitbucket.org/w/a.git"])).0, ["https://bitbucket.org/w/a.git"]);
    assert_eq!(listed(clone(&["http://h/a.git", "https://h/a.git"])).0, ["https://h/a.git"]);
    for none in [
        clone(&["git@bitbucket.org:w/a.git", "ssh://git@h/a"]),
        clone(&[]),
        with(repo("a"), "links", json!(null)),
    ] {
        let (listed, skips) = listed(none);
        assert!(listed.is_empty() && skips[0].what == "{a}", "{skips:?}");
    }
    let odd = with(repo("a"), "scm", json!("Fossil!"));
    assert_eq!(listed(odd).1.len(), 1);
}

#[test]
fn bitbucket_resumes() {
    let state: BitbucketState =
        serde_json::from_value(json!({"last_repo_cdate": "2011-09-29T23:36:49.719055+00:00"})).unwrap();
    let resumed = cloud().resume(&state, &run(Mode::Incremental));
    let request = cloud().request(&resumed[0]).unwrap();
    assert_eq!(query(&request)["after"], "2011-09-29T23:36:49.719055+00:00");
    let state: BitbucketState =
        serde_json::from_value(json!({"workspaces": {"acme": "2021-01-02T03:04:05Z"}})).unwrap();
    let part = cloud().with_part("acme,zoo");
    let resumed = part.resume(&state, &run(Mode::Incremental));
    assert_eq!(query(&part.request(&resumed[0]).unwrap())["q"], "updated_on>=2021-01-02T03:04:05+00:00");
    assert_eq!(resumed[1], one("zoo"), "one that is new is listed whole");
    assert_eq!(cloud().resume(&BitbucketState::default(), &run(Mode::Incremental)), [all()]);
    assert_eq!(server().resume(&state, &run(Mode::Incremental)), [BitbucketCursor::Server { start: 0 }]);
}

#[test]
fn bitbucket_the_state_of_a_workspace_is_of_its_end() {
    let part = cloud().with_part("acme");
    let later = with(repo("b"), "updated_on", json!("2022-01-02T03:04:05+00:00"));
    let next = "https://api.bitbucket.org/2.0/repositories/acme?page=2";
    let first = page_of(&part, &one("acme"), &json!({"values": [later, repo("a")], "next": next}));
    assert!(first.marks.is_empty());
    let second: BitbucketCursor = serde_json::from_value(nexts(&first)[0].clone()).unwrap();
    let last = page_of(&part, &second, &json!({"values": [repo("c")]}));
    assert_eq!(
        last.marks,
        [json!({"last_repo_cdate": null, "workspaces": {"acme": "2022-01-02T03:04:05Z"}})]
    );
    // One that nobody named is listed whole each time.
    assert!(page_of(&cloud(), &second, &json!({"values": [repo("c")]})).marks.is_empty());
    // The list of everything has the latest at its end.
    let batch = page_of(&cloud(), &all(), &json!({"values": [repo("a")], "next": next}));
    assert_eq!(batch.marks, [json!({"last_repo_cdate": "2020-01-02T03:04:05.000006Z"})]);
}

#[test]
fn bitbucket_states_are_joined() {
    let state = |of: Value| serde_json::from_value::<BitbucketState>(of).unwrap();
    let (early, late) = ("2021-01-01T00:00:00Z", "2022-01-01T00:00:00Z");
    let a = state(json!({"last_repo_cdate": early, "workspaces": {"a": late, "b": early}}));
    let b = state(json!({"last_repo_cdate": late, "workspaces": {"a": early, "c": early}}));
    let both = state(json!({"last_repo_cdate": late, "workspaces": {"a": late, "b": early, "c": early}}));
    assert_eq!(cloud().join(a.clone(), b.clone()), both);
    assert_eq!(cloud().join(b, a), both);
}

#[test]
fn bitbucket_server_goes_on_where_it_says() {
    assert_eq!(server().start(&run(Mode::Full)), [BitbucketCursor::Server { start: 0 }]);
    let asked = |lister: &Bitbucket, start| {
        lister.request(&BitbucketCursor::Server { start }).unwrap().url.to_string()
    };
    assert_eq!(asked(&server(), 25), "https://git.example/stash/rest/api/1.0/repos?limit=1000&start=25");
    let part = server().with_part("~ADA");
    assert_eq!(
        asked(&part, 0),
        "https://git.example/stash/rest/api/1.0/projects/~ADA/repos?limit=1000&start=0"
    );
    assert_eq!(part.instance(), "git.example/project=~ada");
    let at = BitbucketCursor::Server { start: 25 };
    let page = |last: Value, next: Value| json!({"values": [], "isLastPage": last, "nextPageStart": next});
    assert_eq!(
        nexts(&page_of(&server(), &at, &page(json!(false), json!(28)))),
        [&json!({"server": {"start": 28}})]
    );
    for end in [page(json!(true), json!(null)), page(json!(true), json!(50)), json!({"values": []})] {
        assert!(nexts(&page_of(&server(), &at, &end)).is_empty(), "{end}");
    }
    let back = page(json!(false), json!(25)).to_string();
    assert_fails(&server(), &at, &back, ListerErrorKind::Parse, &["nextPageStart: 25"]);
}

#[test]
fn bitbucket_server_reads_a_repository() {
    let repo = |id: u64, slug: &str| {
        json!({"id": id, "slug": slug, "scmId": "git", "public": true, "archived": false, "links": {"clone": [
            {"name": "ssh", "href": format!("ssh://git@git.example/p/{slug}.git")},
            {"name": "http", "href": format!("https://git.example/scm/p/{slug}.git")}]}})
    };
    let fork = with(with(repo(2, "fork"), "origin", repo(1, "a")), "archived", json!(true));
    let old = json!({"slug": "old", "links": {"clone": [{"href": "http://git.example/scm/p/old.git"}]}});
    let keyed = json!({"slug": "keyed", "links": {"clone": [{"href": "ssh://git@git.example/p/k.git"}]}});
    let body =
        json!({"values": [repo(1, "a"), fork, with(repo(3, "c"), "public", json!(false)), old, keyed]});
    let batch = page_of(&server(), &BitbucketCursor::Server { start: 0 }, &body);
    let [plain, fork, closed, old] = origins(&batch)[..] else { panic!() };
    assert_eq!(
        (plain.url.as_str(), plain.forge_id.as_deref()),
        ("https://git.example/scm/p/a.git", Some("1"))
    );
    assert_eq!(
        (plain.is_fork, plain.archived, plain.enabled, plain.last_update),
        (None, Some(false), true, None)
    );
    assert_eq!((fork.is_fork, fork.archived), (Some(true), Some(true)));
    assert_eq!(fork.forked_from_url.as_deref(), Some("https://git.example/scm/p/a.git"));
    assert!(!closed.enabled);
    assert_eq!((old.forge_id.as_deref(), old.enabled, old.archived), (None, true, None));
    assert_eq!(batch.skips[0].what, "keyed");
}

#[test]
fn bitbucket_is_made_of_its_arguments() {
    let key = |of: Value| build("bitbucket", &of).unwrap().source.key().to_string();
    for of in [
        json!({}),
        json!({"instance": "bitbucket"}),
        json!({"url": "https://bitbucket.org/"}),
        json!({"instance": ""}),
    ] {
        assert_eq!(key(of), "bitbucket of bitbucket.org");
    }
    assert_eq!(key(json!({"workspace": "Acme"})), "bitbucket of bitbucket.org/workspace=acme");
    assert_eq!(key(json!({"instance": "git.example"})), "bitbucket of git.example");
    assert_eq!(
        key(json!({"url": "https://git.example/", "project": "P"})),
        "bitbucket of git.example/project=p"
    );
    let built = build("bitbucket", &json!({"page_size": 10})).unwrap();
    assert_eq!(query(&first_request(&built))["pagelen"], "10");
    assert!(built.source.is_incremental());
    assert!(!build("bitbucket", &json!({"incremental": false})).unwrap().source.is_incremental());
    assert!(!build("bitbucket", &json!({"instance": "git.example"})).unwrap().source.is_incremental());
    let large = build("bitbucket", &json!({"page_size": 1000})).unwrap();
    assert_eq!(query(&first_request(&large))["pagelen"], "100");
    for (of, words) in [
        (json!({"project": "P"}), "is for a Bitbucket Server"),
        (json!({"instance": "h", "workspace": "w"}), "is for Bitbucket Cloud"),
        (json!({"workspace": " , "}), "must be a name"),
        (json!({"workspace": "a/b"}), "must be a name"),
    ] {
        assert!(build_error("bitbucket", &of).contains(words), "{of}");
    }
}

#[test]
fn bitbucket_an_empty_page_is_no_error() {
    assert!(page_of(&cloud(), &all(), &json!({"values": []})).is_empty());
    let server_page = json!({"values": [], "isLastPage": true, "size": 0});
    assert!(page_of(&server(), &BitbucketCursor::Server { start: 0 }, &server_page).is_empty());
}

#[test]
fn bitbucket_a_broken_body_is_an_error_with_its_place() {
    for (body, words) in [
        ("{}", "values"),
        ("{\"message\": \"x\"}", "values"),
        ("<html>down</html>", "no JSON"),
        ("{\"values\": [{\"scm\": 7}]}", "values[0].scm"),
        ("{\"values\": [{\"updated_on\": 7}]}", "values[0].updated_on"),
        ("{\"values\": [", "ends too early"),
    ] {
        assert_fails(&cloud(), &all(), body, ListerErrorKind::Parse, &[words]);
    }
    let server_at = BitbucketCursor::Server { start: 0 };
    assert_fails(&server(), &server_at, "{\"errors\": []}", ListerErrorKind::Parse, &["values"]);
}
