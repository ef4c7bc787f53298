//! GitLab and Heptapod.

#[cfg(feature = "testing")]
mod poisoned;
#[cfg(feature = "testing")]
mod shards;

use http::{Method, StatusCode};
use lamplighter::lister::{
    Coverage, Failure, FailureKind, FollowKind, Incremental, Lister, ListerErrorKind, Mode, Recovery,
    Registry, Verdict,
};
use lamplighter::listers::GitLab;
use lamplighter::listers::gitlab::{GitLabCursor, GitLabState};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Auth, Provenance, Response};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    answer, arguments, assert_fails, assert_repeats, assert_stored, build, build_error, first_request,
    header, map, nexts, origins, query, read, run, url, urls,
};

const LIST: &str = "https://gitlab.example/api/v4/projects";

fn gitlab() -> GitLab {
    GitLab::new(&url("https://gitlab.example"))
}

fn cursor(of: &Value) -> GitLabCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn after(id: u64) -> GitLabCursor {
    cursor(&json!({ "after": id }))
}

/// A project as an anonymous request is told of it.
fn project(id: u64) -> Value {
    json!({ "id": id, "path_with_namespace": format!("o/r{id}"),
        "http_url_to_repo": format!("https://gitlab.example/o/r{id}.git"),
        "last_activity_at": "2024-05-06T07:08:09.123Z" })
}

fn list(entries: &Value) -> Response {
    answer(LIST, entries.to_string())
}

fn linked(response: Response, to: &str) -> Response {
    response.with_header("link", &format!("<{to}>; rel=\"next\", <{LIST}?id_after=0>; rel=\"first\""))
}

#[test]
fn gitlab_asks_by_id() {
    let fixed = [("pagination", "keyset"), ("order_by", "id"), ("sort", "asc")];
    let with = |more: &[(&str, &str)]| map(&[&fixed, more].concat());
    let request = gitlab().request(&after(42)).unwrap();
    assert_eq!(request.method, Method::GET);
    assert_eq!(request.url.as_str().split('?').next(), Some(LIST));
    assert_eq!(query(&request), with(&[("per_page", "100"), ("id_after", "42")]));
    assert_eq!(header(&request, "accept"), Some("application/json"));
    assert_eq!((request.auth, request.provenance), (Auth::bearer(), Provenance::Configured));
    assert!(!request.validate, "a 304 need not carry the link that goes on");

    let short = gitlab().with_simple(true).with_per_page(7);
    assert_eq!(short.start(&run(Mode::Full)), [after(0)]);
    let request = short.request(&after(0)).unwrap();
    assert_eq!(query(&request), with(&[("per_page", "7"), ("simple", "true")]));
    let active = cursor(&json!({ "after": 5, "active": "2024-05-06T00:00:00Z" }));
    let request = gitlab().request(&active).unwrap();
    let since = ("last_activity_after", "2024-05-06T00:00:00Z");
    assert_eq!(query(&request), with(&[("per_page", "100"), since, ("id_after", "5")]));
}

#[test]
fn gitlab_is_where_its_url_says() {
    for (given, list, instance) in [
        ("https://gitlab.example", LIST, "gitlab.example"),
        ("https://gitlab.example/api/v4/", LIST, "gitlab.example"),
        ("https://gitlab.example/api/v4?x=y", LIST, "gitlab.example"),
        ("http://h.example:81/git/", "http://h.example:81/git/api/v4/projects", "h.example:81"),
    ] {
        let lister = GitLab::new(&url(given));
        let request = lister.request(&after(1)).unwrap();
        assert_eq!(request.url.as_str().split('?').next(), Some(list), "{given}");
        assert_eq!((lister.instance(), lister.name()), (instance, "gitlab"), "{given}");
    }
    assert_eq!(GitLab::heptapod(&url("https://hg.example")).name(), "heptapod");
}

#[test]
fn gitlab_follows_the_link() {
    // Two of a hundred: what a page holds does not say that it is the last.
    let page = linked(list(&json!([project(7), project(9)])), &format!("{LIST}?id_after=15&per_page=20"));
    let batch = read(&gitlab(), &after(5), page).unwrap();
    assert_eq!(urls(&batch), ["https://gitlab.example/o/r7.git", "https://gitlab.example/o/r9.git"]);
    // The same cursor as a later run's first, so that a gap and its start are asked once.
    assert_eq!(nexts(&batch), [&json!({ "after": 15 })]);
    let last = read(&gitlab(), &after(15), list(&json!([project(16)]))).unwrap();
    assert!(nexts(&last).is_empty());
    // A forge behind a proxy says http; the active ones stay the active ones.
    let active = cursor(&json!({ "after": 5, "active": "2024-05-06T00:00:00Z" }));
    let plain = LIST.replace("https", "http");
    let batch = read(&gitlab(), &active, linked(list(&json!([])), &format!("{plain}?id_after=9"))).unwrap();
    assert_eq!(nexts(&batch), [&json!({ "after": 9, "active": "2024-05-06T00:00:00Z" })]);
}

#[test]
fn gitlab_a_link_that_does_not_advance_is_an_error() {
    for id in [5, 4, 0] {
        let page = linked(list(&json!([project(7)])), &format!("{LIST}?id_after={id}"));
        let error = read(&gitlab(), &after(5), page).unwrap_err();
        assert_eq!(error.kind(), ListerErrorKind::Parse);
        assert!(error.to_string().contains("after id"), "{error}");
    }
}

#[test]
fn gitlab_a_link_to_another_host_is_an_error() {
    let page = linked(list(&json!([project(7)])), "https://evil.example/api/v4/projects?id_after=9");
    let error = read(&gitlab(), &after(5), page).unwrap_err();
    assert!(error.to_string().contains("evil.example"), "{error}");
}

#[test]
fn gitlab_an_unknown_link_is_followed_as_it_is() {
    let link = format!("{LIST}?page=2&per_page=100");
    let batch = read(&gitlab(), &after(0), linked(list(&json!([project(7)])), &link)).unwrap();
    assert_eq!(nexts(&batch), [&json!({ "after": 0, "url": link })]);
    let at = cursor(nexts(&batch)[0]);
    let request = gitlab().request(&at).unwrap();
    assert_eq!((request.url.as_str(), request.provenance), (link.as_str(), Provenance::Upstream));
    assert_eq!(request.auth, Auth::bearer());
    assert_stored(&gitlab(), &at);
}

#[test]
fn gitlab_reads_what_is_there() {
    let entries = json!([
        { "id": 1_u64 << 60, "http_url_to_repo": "https://gitlab.example/a/all.git", "name": "é🦀",
          "path_with_namespace": "a/all", "last_activity_at": "2024-02-29T23:59:59.5+02:00", "archived": true,
          "empty_repo": true, "mirror": true, "visibility": "public", "repository_access_level": "enabled",
          "forked_from_project": { "id": 3, "http_url_to_repo": "https://gitlab.example/b/all.git" } },
        { "id": 2, "http_url_to_repo": "https://gitlab.example/a/nulls.git", "path_with_namespace": "a/nulls",
          "last_activity_at": null, "archived": null, "empty_repo": null, "mirror": null, "visibility": null,
          "forked_from_project": null },
        { "id": 3, "http_url_to_repo": "https://gitlab.example/a/bare.git" },
        { "id": 4, "http_url_to_repo": "https://gitlab.example/a/no.git", "archived": false, "empty_repo": false,
          "mirror": false, "forked_from_project": {} },
    ]);
    let batch = read(&gitlab(), &after(0), list(&entries)).unwrap();
    let [all, nulls, bare, no] = origins(&batch)[..] else { panic!("{:?}", urls(&batch)) };
    assert_eq!(all.visit_type.as_str(), "git");
    assert_eq!(all.last_update, Some(Timestamp::parse("2024-02-29T21:59:59.5Z").unwrap()));
    assert_eq!((all.archived, all.empty, all.mirror), (Some(true), Some(true), Some(true)));
    assert_eq!(all.is_fork, Some(true));
    assert_eq!(all.forked_from_url.as_deref(), Some("https://gitlab.example/b/all.git"));
    assert_eq!(all.forge_id.as_deref(), Some("1152921504606846976"));
    for unknown in [nulls, bare] {
        assert_eq!((unknown.last_update, unknown.archived, unknown.empty), (None, None, None));
        assert_eq!((unknown.mirror, unknown.is_fork, &unknown.forked_from_url), (None, None, &None));
    }
    assert_eq!((no.archived, no.empty, no.mirror), (Some(false), Some(false), Some(false)));
    // The parent is there, but not to be seen.
    assert_eq!((no.is_fork, &no.forked_from_url), (Some(true), &None));
    assert!([all, nulls, bare, no].iter().all(|o| o.enabled));
    assert!(batch.skips.is_empty());
}

#[test]
fn gitlab_what_is_not_public_is_not_enabled() {
    let of = |field: &str, value: &str| {
        let mut entry = project(7);
        entry[field] = json!(value);
        read(&gitlab(), &after(0), list(&json!([entry]))).unwrap().origins[0].origin.enabled
    };
    assert!(of("visibility", "public") && of("repository_access_level", "enabled"));
    assert!(!of("visibility", "private") && !of("visibility", "internal"));
    assert!(!of("repository_access_level", "private"));
}

#[test]
fn gitlab_what_cannot_be_cloned_is_skipped() {
    let of = |field: &str, value: Value| {
        let mut entry = project(7);
        entry[field] = value;
        let batch = read(&gitlab(), &after(0), list(&json!([entry, project(8)]))).unwrap();
        assert_eq!(urls(&batch), ["https://gitlab.example/o/r8.git"]);
        assert_eq!((batch.skips.len(), batch.skips[0].what.as_str()), (1, "o/r7"));
        batch.skips[0].why.clone()
    };
    assert!(of("http_url_to_repo", Value::Null).contains("HTTP"));
    assert!(of("http_url_to_repo", json!("")).contains("HTTP"));
    assert!(of("repository_access_level", json!("disabled")).contains("turned off"));
}

#[test]
fn gitlab_a_broken_date_costs_only_itself() {
    let mut entry = project(7);
    entry["last_activity_at"] = json!("yesterday");
    let batch = read(&gitlab(), &after(0), list(&json!([entry]))).unwrap();
    assert_eq!((batch.origins.len(), batch.origins[0].origin.last_update), (1, None));
    assert!(batch.skips[0].what.contains("o/r7") && batch.skips[0].why.contains("yesterday"));
}

#[test]
fn gitlab_ignores_prefixes() {
    let lister = gitlab().with_ignored_prefixes(["o/r7", "mirrors/"]);
    let batch = read(&lister, &after(0), list(&json!([project(7), project(8), project(77)]))).unwrap();
    assert_eq!(urls(&batch), ["https://gitlab.example/o/r8.git"]);
    assert_eq!(batch.skips.len(), 2);
    assert!(batch.skips.iter().all(|s| s.why.contains("ignored_project_prefixes") && s.why.contains("o/r7")));
    let given = json!({ "instance": "h.example", "ignored_project_prefixes": "o/r7, ,o/x" });
    let built = build("gitlab", &given).unwrap();
    let mut page = lamplighter::lister::Page::new();
    let at = json!({ "after": 0 });
    built.source.read(&at, list(&json!([project(7), project(8)])), &mut page).unwrap();
    assert_eq!(page.finish().unwrap().origins.len(), 1);
}

#[test]
fn heptapod_kinds() {
    let of = |kind: Value| {
        let mut entry = project(7);
        entry["vcs_type"] = kind;
        let lister = GitLab::heptapod(&url("https://gitlab.example"));
        let batch = read(&lister, &after(0), list(&json!([entry]))).unwrap();
        batch.origins.first().map_or(batch.skips.len().to_string(), |s| s.origin.visit_type.to_string())
    };
    assert_eq!(["hg", "git", "hg_git"].map(|kind| of(json!(kind))), ["hg", "git", "hg"]);
    assert_eq!(of(Value::Null), "git");
    assert_eq!(of(json!("Ünknown")), "1", "skipped and counted");
    let registry = Registry::builtin();
    assert_eq!(registry.entry("heptapod").unwrap().visit_types, ["git", "hg"]);
    assert_eq!(registry.entry("gitlab").unwrap().visit_types, ["git"]);
}

#[test]
fn gitlab_reads_states() {
    let state = |of: Value| -> GitLabState { serde_json::from_value(of).unwrap() };
    let link = "https://gitlab.example/api/v4/projects?pagination=keyset&order_by=id&sort=asc&simple=true&per_page=100&id_after=7001";
    // As written by Software Heritage: the link of the last page.
    assert_eq!(state(json!({ "last_seen_next_link": link })).last_seen_id, 7001);
    for nothing in [json!({}), json!({ "last_seen_next_link": null }), json!({ "last_seen_next_link": "x" })]
    {
        assert_eq!(state(nothing), GitLabState::default());
    }
    let ours = json!({ "last_seen_id": 9, "active_until": "2024-05-06T00:00:00Z" });
    assert_eq!(serde_json::to_value(state(ours.clone())).unwrap(), ours);

    let built = build("gitlab", &json!({ "instance": "gitlab.example" })).unwrap();
    let stored = arguments(&json!({ "last_seen_next_link": link }));
    let stored = built.source.read_state(&stored, 1).unwrap().unwrap();
    assert_eq!(built.source.resume(&stored, &run(Mode::Incremental)).unwrap(), [json!({ "after": 7001 })]);
}

#[test]
fn gitlab_resumes_with_new_and_active_projects() {
    let state = json!({ "last_seen_id": 9, "active_until": "2024-05-06T01:30:00Z" });
    let state: GitLabState = serde_json::from_value(state).unwrap();
    let resumed = gitlab().resume(&state, &run(Mode::Incremental));
    // Activity is noted up to an hour late.
    let expected = json!([{ "after": 9 }, { "after": 0, "active": "2024-05-06T00:30:00Z" }]);
    assert_eq!(serde_json::to_value(resumed).unwrap(), expected);
    let modes = [Mode::Full, Mode::Incremental, Mode::Gaps];
    assert_eq!(modes.map(|m| gitlab().coverage(m)), [Coverage::All, Coverage::New, Coverage::New]);
}

#[test]
fn gitlab_marks_when_a_listing_began() {
    let marks = |at: &Value, entries: &Value| {
        let mut page = list(entries);
        page.received_at = Timestamp::parse("2024-05-06T00:00:00Z").unwrap();
        let page = linked(page, &format!("{LIST}?id_after=900"));
        read(&gitlab(), &cursor(at), page).unwrap().marks
    };
    let two = json!([project(30), project(5)]);
    let began = "2024-05-06T00:00:00Z";
    assert_eq!(marks(&json!({ "after": 0 }), &two), [json!({ "last_seen_id": 30, "active_until": began })]);
    assert_eq!(marks(&json!({ "after": 4 }), &two), [json!({ "last_seen_id": 30 })]);
    // Among the active ones may be new ones, but not all.
    let active = json!({ "after": 0, "active": "2024-05-01T00:00:00Z" });
    assert_eq!(marks(&active, &two), [json!({ "last_seen_id": 0, "active_until": began })]);
    let window = json!({ "after": 0, "hunt": { "window": { "before": 50, "fails": false } } });
    assert_eq!(marks(&window, &two), [json!({ "last_seen_id": 30 })]);
    assert!(marks(&json!({ "after": 4 }), &json!([])).is_empty());
}

#[test]
fn gitlab_without_memory() {
    let of = |given: &Value| build("gitlab", given).unwrap().source.is_incremental();
    assert!(of(&json!({ "instance": "h.example" })));
    assert!(!of(&json!({ "instance": "h.example", "incremental": "false" })));
    assert!(!of(&json!({ "instance": "h.example", "group": "a/b" })));
}

#[test]
fn gitlab_lists_a_group_or_a_user() {
    let group = json!({ "instance": "gitlab.example", "group": "/Tools/web ü/", "per_page": 20 });
    let built = build("gitlab", &group).unwrap();
    assert_eq!(built.source.key().to_string(), "gitlab of gitlab.example/group=tools/web ü");
    assert_eq!(built.source.coverage(Mode::Full), Coverage::All);
    let request = first_request(&built);
    assert_eq!(request.url.path(), "/api/v4/groups/Tools%2Fweb%20%C3%BC/projects");
    let fixed = [("order_by", "id"), ("sort", "asc"), ("per_page", "20")];
    let own = [("include_subgroups", "true"), ("with_shared", "false")];
    assert_eq!(query(&request), map(&[&fixed[..], &own].concat()));

    let user =
        build("gitlab", &json!({ "instance": "gitlab.example", "user": "ann", "per_page": 20 })).unwrap();
    assert_eq!(user.source.key().to_string(), "gitlab of gitlab.example/user=ann");
    let request = first_request(&user);
    assert_eq!((request.url.path(), query(&request)), ("/api/v4/users/ann/projects", map(&fixed)));

    // The same pages, followed by the link, without a state.
    let lister = gitlab().with_group("tools");
    let [at] = &lister.start(&run(Mode::Full))[..] else { panic!() };
    let link = "https://gitlab.example/api/v4/groups/tools/projects?page=2&per_page=100";
    let batch = read(&lister, at, linked(list(&json!([project(7)])), link)).unwrap();
    assert_eq!((batch.origins.len(), batch.marks.len()), (1, 0));
    let next = cursor(nexts(&batch)[0]);
    assert_eq!(lister.request(&next).unwrap().url.as_str(), link);
    assert_eq!(lister.resume(&GitLabState::default(), &run(Mode::Incremental)), std::slice::from_ref(at));
    let named = gitlab().with_group("tools").with_instance("mine");
    assert_eq!(named.instance(), "mine/group=tools");
    // GitLab ends lists by pages at 50,000.
    let ended = Failure::new(FailureKind::Status(StatusCode::METHOD_NOT_ALLOWED), "as told");
    let recovery = lister.recover(&next, &ended);
    assert_eq!(recovery.verdict, Verdict::Gap);
    assert!(recovery.note.unwrap().contains("50,000"));
    let failed = Failure::new(FailureKind::Status(StatusCode::INTERNAL_SERVER_ERROR), "as told");
    assert_eq!(lister.recover(&next, &failed), Recovery::gap());
}

#[test]
fn gitlab_a_refusal_names_the_credential() {
    let needs = gitlab().request(&after(5)).unwrap().needs.unwrap();
    assert!(needs.contains("read_api") && needs.contains("credential"), "{needs}");
    let recover = |kind| gitlab().recover(&after(5), &Failure::new(kind, "as told"));
    for status in [401, 403, 404, 429, 502] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(recover(FailureKind::Status(status)), Recovery::gap(), "{status}");
    }
    assert_eq!(recover(FailureKind::Loop), Recovery::gap());
}

#[test]
fn gitlab_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| {
        assert_fails(&gitlab(), &after(5), body, ListerErrorKind::Parse, words);
    };
    fails("<!DOCTYPE html><title>Sign in</title>", &["no JSON", "Sign in"]);
    fails("", &["ends too early", "0 bytes"]);
    fails("null", &["null"]);
    fails(r#"{"message":"500 Internal Server Error"}"#, &["no JSON", "500 Internal"]);
    fails(r#"[{"id":1},{"id":"2"}]"#, &["[1].id"]);
    fails(r#"[{"http_url_to_repo":"https://h/r.git"}]"#, &["[0]", "id"]);
    fails(r#"[{"id":1,"http_url_to_repo":["x"]}]"#, &["[0].http_url_to_repo"]);
    fails("[null]", &["[0]"]);
    fails(r#"[{"id":1,"archived":"no"}]"#, &["[0].archived"]);
}

#[test]
fn gitlab_arguments_are_checked() {
    let built =
        build("heptapod", &json!({ "url": "http://127.0.0.1:9/api/v4", "instance": "mine" })).unwrap();
    assert_eq!(built.source.key().to_string(), "heptapod of mine");
    assert_eq!(
        first_request(&built).url.as_str().split('?').next(),
        Some("http://127.0.0.1:9/api/v4/projects")
    );
    let simple = json!({ "instance": "h.example", "simple": true, "per_page": "30" });
    let first = query(&first_request(&build("gitlab", &simple).unwrap()));
    assert_eq!((first["simple"].as_str(), first["per_page"].as_str()), ("true", "30"));

    for (given, word) in [
        (json!({}), "url="),
        (json!({ "instance": "h.example", "per_page": 0 }), "per_page"),
        (json!({ "instance": "h.example", "per_page": 101 }), "per_page"),
        (json!({ "instance": "h.example", "group": "/" }), "group"),
        (json!({ "instance": "h.example", "group": "a", "user": "b" }), "group="),
        (json!({ "instance": "h.example", "org": "a" }), "org"),
    ] {
        let error = build_error("gitlab", &given);
        assert!(error.contains(word), "{given}: {error}");
    }
    assert!(build("gitlab", &json!({ "instance": "h.example", "per_page": 100 })).is_ok());
    let registry = Registry::builtin();
    for name in ["gitlab", "heptapod"] {
        let entry = registry.entry(name).unwrap();
        assert!(entry.check_credentials(0).is_ok() && entry.incremental);
        assert_eq!(entry.positions, ["id_after", "id_before", "last_activity_after", "page"]);
    }
}

proptest! {
    #[test]
    fn gitlab_states_join(a: (u32, Option<u32>), b: (u32, Option<u32>), c: (u32, Option<u32>)) {
        let gitlab = gitlab();
        let state = |(id, at): (u32, Option<u32>)| -> GitLabState {
            let at = at.map(|at| Timestamp::from_seconds(at.into()));
            serde_json::from_value(json!({ "last_seen_id": id, "active_until": at })).unwrap()
        };
        let (a, b, c) = (state(a), state(b), state(c));
        prop_assert_eq!(gitlab.join(a, b), gitlab.join(b, a));
        prop_assert_eq!(gitlab.join(a, gitlab.join(b, c)), gitlab.join(gitlab.join(a, b), c));
        prop_assert_eq!(gitlab.join(a, a), a);
        prop_assert_eq!(gitlab.join(a, GitLabState::default()), a);
        prop_assert!(gitlab.join(a, b).last_seen_id >= a.last_seen_id);
    }

    /// Whatever a stored cursor says, there is a request, a page and a way to recover.
    #[test]
    fn gitlab_any_cursor_is_read(id: u64, left: u64, before: u64, fails: bool, link: u64, failed: bool) {
        let hunts = [
            Value::Null,
            json!({ "within": left }),
            json!({ "past": left }),
            json!({ "window": { "before": before, "fails": fails } }),
        ];
        for hunt in hunts {
            let at = cursor(&json!({ "after": id, "hunt": hunt }));
            assert_stored(&gitlab(), &at);
            gitlab().request(&at).unwrap();
            let page = linked(list(&json!([project(1)])), &format!("{LIST}?id_after={link}"));
            prop_assert_eq!(read(&gitlab(), &at, page).is_ok(), link > id);
            let status = if failed { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::BAD_GATEWAY };
            gitlab().recover(&at, &Failure::new(FailureKind::Status(status), "as told"));
        }
    }
}

#[test]
fn gitlab_cursors_and_pages_repeat() {
    assert_stored(&gitlab(), &after(u64::MAX));
    assert_repeats(&gitlab(), &after(0), &list(&json!([project(2)])));
    let past = cursor(&json!({ "after": 9, "hunt": { "past": 8 } }));
    let batch = read(&gitlab(), &past, list(&json!([project(12)]))).unwrap();
    let [window] = &batch.follows[..] else { panic!("{:?}", batch.follows) };
    assert_eq!(window.kind, FollowKind::Follow);
    let expected = json!({ "after": 8, "hunt": { "window": { "before": 10, "fails": true } } });
    assert_eq!(window.cursor, expected);
    // Past what fails the chain says where it came from, so that a retry of it is no loop of another;
    // what is left behind is the same wherever it was met.
    let again = cursor(&json!({ "after": 9, "past": 3, "hunt": { "past": 8 } }));
    let page = linked(list(&json!([project(12)])), &format!("{LIST}?id_after=12"));
    let follows = read(&gitlab(), &again, page).unwrap().follows;
    assert_eq!(follows[0].cursor, expected);
    assert_eq!(follows[1].cursor, json!({ "after": 12, "past": 8 }));
}
