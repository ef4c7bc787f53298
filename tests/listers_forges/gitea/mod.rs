//! Gitea, Forgejo and Gogs.

#[cfg(feature = "testing")]
mod poisoned;

use http::{Method, StatusCode};
use lamplighter::lister::{
    Coverage, Failure, FailureKind, Incremental, Lister, ListerErrorKind, Mode, Recovery, Registry,
};
use lamplighter::listers::Gitea;
use lamplighter::listers::gitea::{GiteaCursor, GiteaState};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Auth, Provenance, Response};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    answer, arguments, assert_fails, assert_repeats, assert_stored, build, build_error, first_request,
    header, map, nexts, origins, query, read, run, url, urls,
};

const LIST: &str = "https://gitea.example/api/v1/repos/search";

fn gitea() -> Gitea {
    Gitea::new(&url("https://gitea.example"))
}

fn cursor(of: &Value) -> GiteaCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn page(number: u64) -> GiteaCursor {
    cursor(&json!({ "page": number }))
}

fn repository(id: u64) -> Value {
    json!({ "id": id, "full_name": format!("o/r{id}"), "clone_url": format!("https://gitea.example/o/r{id}.git"),
        "updated_at": "2024-05-06T07:08:09Z", "fork": false, "private": false })
}

fn list(entries: &Value) -> Response {
    answer(LIST, json!({ "ok": true, "data": entries }).to_string())
}

fn linked(response: Response, query: &str) -> Response {
    response.with_header("link", &format!("<{LIST}?{query}>; rel=\"next\",<{LIST}?{query}>; rel=\"last\""))
}

#[test]
fn gitea_asks_by_id() {
    let request = gitea().with_page_size(7).request(&page(3)).unwrap();
    assert_eq!(request.method, Method::GET);
    assert_eq!(request.url.as_str().split('?').next(), Some(LIST));
    let expected = map(&[("sort", "id"), ("order", "asc"), ("limit", "7"), ("page", "3")]);
    assert_eq!(query(&request), expected);
    assert_eq!(header(&request, "accept"), Some("application/json"));
    assert_eq!((request.auth, request.provenance), (Auth::Bearer("token"), Provenance::Configured));
    assert!(!request.validate, "a 304 need not carry the link that goes on");

    assert_eq!(gitea().start(&run(Mode::Full)), [cursor(&json!({ "page": 1, "walk": "all" }))]);
    let first = query(&gitea().request(&page(1)).unwrap());
    assert_eq!((first["limit"].as_str(), first["page"].as_str()), ("50", "1"));
    for (walk, sort) in
        [(json!({ "new": 9 }), "id"), (json!({ "updated": "2024-05-06T00:00:00Z" }), "updated")]
    {
        let request = gitea().request(&cursor(&json!({ "page": 2, "walk": walk }))).unwrap();
        let expected = map(&[("sort", sort), ("order", "desc"), ("limit", "50"), ("page", "2")]);
        assert_eq!(query(&request), expected);
    }
}

#[test]
fn gogs_asks_by_pattern() {
    let gogs = Gitea::gogs(&url("https://gogs.example/api/v1/"));
    let request = gogs.request(&page(2)).unwrap();
    assert_eq!(request.url.as_str(), "https://gogs.example/api/v1/repos/search?q=_&limit=50&page=2");
}

#[test]
fn gitea_is_where_its_url_says() {
    for (given, list, instance) in [
        ("https://gitea.example/", LIST, "gitea.example"),
        ("https://gitea.example/api/v1", LIST, "gitea.example"),
        ("http://h.example:81/git/", "http://h.example:81/git/api/v1/repos/search", "h.example:81"),
    ] {
        let lister = Gitea::new(&url(given));
        let request = lister.request(&page(1)).unwrap();
        assert_eq!(request.url.as_str().split('?').next(), Some(list), "{given}");
        assert_eq!(lister.instance(), instance);
    }
}

#[test]
fn forgejo_is_gitea_by_another_name() {
    let forgejo = Gitea::forgejo(&url("https://gitea.example"));
    assert_eq!((gitea().name(), forgejo.name()), ("gitea", "forgejo"));
    for at in [json!({ "page": 2 }), json!({ "page": 1, "walk": { "new": 5 } })] {
        let at = cursor(&at);
        assert_eq!(forgejo.request(&at).unwrap().url, gitea().request(&at).unwrap().url);
        let answered = || linked(list(&json!([repository(4)])), "limit=50&page=3");
        assert_eq!(read(&forgejo, &at, answered()).unwrap(), read(&gitea(), &at, answered()).unwrap());
    }
    let registry = Registry::builtin();
    let remembers = |name| registry.entry(name).unwrap().incremental;
    assert_eq!(["gitea", "forgejo", "gogs"].map(remembers), [true, true, false]);
}

#[test]
fn gogs_has_no_memory() {
    let of = |name: &str| build(name, &json!({ "instance": "h.example" })).unwrap().source;
    assert!(of("gitea").is_incremental() && of("forgejo").is_incremental());
    let gogs = of("gogs");
    assert!(!gogs.is_incremental());
    // As Software Heritage stores it.
    let link = "https://h.example/api/v1/repos/search?q=_&page=3&limit=3";
    let row = arguments(&json!({ "last_seen_repo_id": 339, "last_seen_next_link": link }));
    assert_eq!(gogs.read_state(&row, 1).unwrap(), None);
    // Nor where it is made one that has.
    let state: GiteaState =
        serde_json::from_value(json!({ "last_seen_repo_id": 5, "listed_until": "2024-05-06T00:00:00Z" }))
            .unwrap();
    let gogs = Gitea::gogs(&url("https://gogs.example"));
    assert_eq!(gogs.resume(&state, &run(Mode::Incremental)), gogs.start(&run(Mode::Full)));
}

#[test]
fn gitea_follows_the_link() {
    let answered = linked(list(&json!([repository(7), repository(9)])), "limit=50&page=4");
    let batch = read(&gitea(), &page(3), answered).unwrap();
    assert_eq!(urls(&batch), ["https://gitea.example/o/r7.git", "https://gitea.example/o/r9.git"]);
    assert_eq!(nexts(&batch), [&json!({ "page": 4, "walk": "all" })]);
    // An empty page is no end, and one without a link is; so is a link without a relation.
    let empty = linked(list(&json!([])), "limit=50&page=5");
    assert_eq!(nexts(&read(&gitea(), &page(4), empty).unwrap()), [&json!({ "page": 5, "walk": "all" })]);
    assert!(nexts(&read(&gitea(), &page(4), list(&json!([repository(7)]))).unwrap()).is_empty());
    let unnamed = list(&json!([repository(7)])).with_header("link", &format!("<{LIST}?page=2>; rel=\"\""));
    assert!(nexts(&read(&gitea(), &page(1), unnamed).unwrap()).is_empty());
}

#[test]
fn gitea_without_links_it_goes_by_the_count() {
    let entries = json!([repository(1), repository(2)]);
    let counted = |n: &str| list(&entries).with_header("x-total-count", n);
    let lister = gitea().with_page_size(2);
    let goes_on =
        |at: u64, response: Response| !nexts(&read(&lister, &page(at), response).unwrap()).is_empty();
    assert!(goes_on(2, counted("5")) && !goes_on(2, counted("4")) && !goes_on(3, counted("5")));
    assert!(!goes_on(1, counted("many")));
    // A forge that links knows better.
    let last = counted("5").with_header("link", &format!("<{LIST}?page=1>; rel=\"first\""));
    assert!(!goes_on(2, last));
    let none = list(&json!([])).with_header("x-total-count", "5");
    assert!(!goes_on(1, none));
}

#[test]
fn gitea_takes_the_size_that_the_forge_gives() {
    let next = |at: &Value, entries: Value, query: &str| {
        let batch = read(&gitea(), &cursor(at), linked(list(&entries), query)).unwrap();
        nexts(&batch)[0].clone()
    };
    let two = || json!([repository(7), repository(9)]);
    // It says so, or gives fewer on a first page that is not the last.
    let expected = json!({ "page": 2, "limit": 30, "walk": "all" });
    assert_eq!(next(&json!({ "page": 1 }), two(), "limit=30&page=2"), expected);
    let expected = json!({ "page": 2, "limit": 2, "walk": "all" });
    assert_eq!(next(&json!({ "page": 1 }), two(), "limit=50&page=2"), expected);
    // Kept from page to page; a later short page says nothing.
    let expected = json!({ "page": 3, "limit": 2, "walk": "all" });
    assert_eq!(next(&json!({ "page": 2, "limit": 2 }), json!([repository(1)]), "limit=2&page=3"), expected);
    let expected = json!({ "page": 3, "walk": "all" });
    assert_eq!(next(&json!({ "page": 2 }), two(), "limit=50&page=3"), expected);
    let request = gitea().request(&cursor(&json!({ "page": 3, "limit": 2 }))).unwrap();
    assert_eq!(query(&request)["limit"], "2");
}

#[test]
fn gitea_a_link_that_leads_astray_is_an_error() {
    let one = || list(&json!([repository(7)]));
    let elsewhere =
        one().with_header("link", "<https://evil.example/api/v1/repos/search?page=2>; rel=\"next\"");
    let error = read(&gitea(), &page(1), elsewhere).unwrap_err();
    assert!(error.to_string().contains("evil.example"), "{error}");
    for without in ["limit=50", "page=x", "page=0", "page=-1"] {
        let error = read(&gitea(), &page(1), linked(one(), without)).unwrap_err();
        assert_eq!(error.kind(), ListerErrorKind::Parse);
        assert!(error.to_string().contains("no number"), "{error}");
    }
}

#[test]
fn gitea_reads_what_is_there() {
    let entries = json!([
        { "id": 1_u64 << 60, "clone_url": "https://gitea.example/a/all.git", "full_name": "a/é🦀",
          "updated_at": "2024-02-29T23:59:59+02:00", "fork": true, "archived": true, "mirror": true, "empty": true,
          "private": false, "internal": false, "parent": { "id": 3, "clone_url": "https://gitea.example/b/all.git" } },
        { "id": 2, "clone_url": "https://gitea.example/a/nulls.git", "updated_at": null, "fork": null,
          "archived": null, "mirror": null, "empty": null, "private": null, "internal": null, "parent": null },
        { "id": 3, "clone_url": "https://gitea.example/a/bare.git" },
        { "id": 4, "clone_url": "https://gitea.example/a/no.git", "fork": false, "archived": false,
          "mirror": false, "empty": false, "parent": null },
        { "id": 5, "clone_url": "https://gitea.example/a/orphan.git", "fork": true, "parent": { "clone_url": "" } },
    ]);
    let batch = read(&gitea(), &page(1), list(&entries)).unwrap();
    let [all, nulls, bare, no, orphan] = origins(&batch)[..] else { panic!("{:?}", urls(&batch)) };
    assert_eq!(all.visit_type.as_str(), "git");
    assert_eq!(all.last_update, Some(Timestamp::parse("2024-02-29T21:59:59Z").unwrap()));
    assert_eq!((all.archived, all.empty, all.mirror), (Some(true), Some(true), Some(true)));
    assert_eq!(all.is_fork, Some(true));
    assert_eq!(all.forked_from_url.as_deref(), Some("https://gitea.example/b/all.git"));
    assert_eq!(all.forge_id.as_deref(), Some("1152921504606846976"));
    for unknown in [nulls, bare] {
        assert_eq!((unknown.last_update, unknown.is_fork, &unknown.forked_from_url), (None, None, &None));
        assert_eq!((unknown.archived, unknown.empty, unknown.mirror), (None, None, None));
    }
    let known = (no.is_fork, no.archived, no.empty, no.mirror);
    assert_eq!(known, (Some(false), Some(false), Some(false), Some(false)));
    assert_eq!((orphan.is_fork, &orphan.forked_from_url), (Some(true), &None));
    assert!(origins(&batch).iter().all(|o| o.enabled));
}

#[test]
fn gitea_a_zero_date_is_none() {
    let of = |date: &str| {
        let mut entry = repository(1);
        entry["updated_at"] = json!(date);
        read(&gitea(), &page(1), list(&json!([entry]))).unwrap().origins[0].origin.last_update
    };
    assert_eq!(of("0001-01-01T00:00:00Z"), None);
    assert_eq!(of("1970-01-01T00:00:00Z"), None);
    assert_eq!(of("1970-01-01T00:00:01Z"), Some(Timestamp::from_seconds(1)));
}

#[test]
fn gitea_private_ones_are_not_enabled() {
    for field in ["private", "internal"] {
        let mut entry = repository(1);
        entry[field] = json!(true);
        let batch = read(&gitea(), &page(1), list(&json!([entry, repository(2)]))).unwrap();
        let enabled: Vec<bool> = origins(&batch).iter().map(|o| o.enabled).collect();
        assert_eq!(enabled, [false, true], "{field}");
    }
}

#[test]
fn gitea_without_an_address_it_is_skipped() {
    for nothing in [json!(null), json!("")] {
        let mut entry = repository(1);
        entry["clone_url"] = nothing;
        let batch = read(&gitea(), &page(1), list(&json!([entry, repository(2)]))).unwrap();
        assert_eq!(urls(&batch), ["https://gitea.example/o/r2.git"]);
        assert_eq!((batch.skips.len(), batch.skips[0].what.as_str()), (1, "o/r1"));
    }
}

#[test]
fn gitea_an_empty_list_may_be_null() {
    let batch = read(&gitea(), &page(2), list(&Value::Null)).unwrap();
    assert!(batch.is_empty(), "{batch:?}");
    let error = read(&gitea(), &page(2), answer(LIST, r#"{"ok":true}"#)).unwrap_err();
    assert!(error.to_string().contains("data"), "{error}");
}

#[test]
fn gitea_a_refusal_in_the_body_is_an_error() {
    let body = r#"{"ok":false,"error":"Invalid sort mode: \"id\""}"#;
    assert_fails(&gitea(), &page(1), body, ListerErrorKind::Refused, &["Invalid sort mode"]);
    assert_fails(&gitea(), &page(1), r#"{"ok":false,"data":[]}"#, ListerErrorKind::Refused, &["no reason"]);
}

#[test]
fn gitea_marks_when_it_began_and_where_it_ended() {
    let began = "2024-05-06T00:00:00Z";
    let marks = |at: &Value, ids: &[u64], more: bool| {
        let mut answered = list(&ids.iter().map(|id| repository(*id)).collect());
        answered.received_at = Timestamp::parse(began).unwrap();
        let answered = if more { linked(answered, "limit=50&page=9") } else { answered };
        read(&gitea(), &cursor(at), answered).unwrap().marks
    };
    let all = |page: u64| json!({ "page": page });
    let both = json!({ "last_seen_repo_id": 8, "listed_until": began });
    assert_eq!(marks(&all(1), &[3, 8], true), [json!({ "last_seen_repo_id": 0, "listed_until": began })]);
    // Only the end says that all smaller ids are known.
    assert!(marks(&all(2), &[3, 8], true).is_empty());
    assert_eq!(marks(&all(3), &[8, 3], false), [json!({ "last_seen_repo_id": 8 })]);
    assert_eq!(marks(&all(1), &[3, 8], false), [both]);
    assert!(marks(&all(3), &[], false).is_empty());
    // The newest: the first page has the greatest, and whether it changed lately is not said.
    let new = |page: u64| json!({ "page": page, "walk": { "new": 5 } });
    assert_eq!(marks(&new(1), &[8, 7], true), [json!({ "last_seen_repo_id": 8 })]);
    let updated = |page: u64| json!({ "page": page, "walk": { "updated": "2024-05-01T00:00:00Z" } });
    assert_eq!(marks(&updated(1), &[8], true), [json!({ "last_seen_repo_id": 0, "listed_until": began })]);
    assert!(marks(&updated(2), &[8], false).is_empty());
    // A repository read by itself says nothing.
    let alone = json!({ "page": 1, "piece": { "offset": 0, "size": 1, "alone": true } });
    assert!(marks(&alone, &[8], false).is_empty());
}

#[test]
fn gitea_resumes_with_the_newest() {
    let of = json!({ "last_seen_repo_id": 9, "listed_until": "2024-05-06T01:30:00Z" });
    let state: GiteaState = serde_json::from_value(of.clone()).unwrap();
    assert_eq!(serde_json::to_value(state).unwrap(), of);
    // Clocks may differ by an hour.
    let expected = json!([
        { "page": 1, "walk": { "new": 9 } },
        { "page": 1, "walk": { "updated": "2024-05-06T00:30:00Z" } },
    ]);
    let resumed = gitea().resume(&state, &run(Mode::Incremental));
    assert_eq!(serde_json::to_value(resumed).unwrap(), expected);
    let modes = [Mode::Full, Mode::Incremental, Mode::Gaps];
    assert_eq!(modes.map(|m| gitea().coverage(m)), [Coverage::All, Coverage::New, Coverage::New]);
}

#[test]
fn gitea_after_a_foreign_row_it_lists_everything() {
    let source = build("gitea", &json!({ "instance": "gitea.example" })).unwrap().source;
    let link = "https://gitea.example/api/v1/repos/search?limit=3&page=2";
    for row in [
        json!({ "last_seen_repo_id": 5046, "last_seen_next_link": link }),
        json!({ "last_seen_repo_id": null, "last_seen_next_link": null }),
        // Ours, of a listing that did not come to its end.
        json!({ "last_seen_repo_id": 0, "listed_until": "2024-05-06T01:30:00Z" }),
    ] {
        let state = source.read_state(&arguments(&row), 1).unwrap().unwrap();
        let resumed = source.resume(&state, &run(Mode::Incremental)).unwrap();
        assert_eq!(resumed, source.start(&run(Mode::Full)).unwrap(), "{row}");
    }
}

#[test]
fn gitea_the_newest_end_at_a_known_one() {
    let at = cursor(&json!({ "page": 1, "walk": { "new": 7 } }));
    let goes_on = |ids: &[u64]| {
        let entries: Value = ids.iter().map(|id| repository(*id)).collect();
        let batch = read(&gitea(), &at, linked(list(&entries), "limit=50&page=2")).unwrap();
        assert_eq!(batch.origins.len(), ids.len(), "what a page tells is true, known or not");
        !nexts(&batch).is_empty()
    };
    assert!(goes_on(&[9, 8]) && !goes_on(&[8, 7]) && !goes_on(&[8, 6]));
}

#[test]
fn gitea_updates_end_at_known_ones() {
    let goes_on = |since: &str, entry: Value| {
        let at = cursor(&json!({ "page": 1, "walk": { "updated": since } }));
        !nexts(&read(&gitea(), &at, linked(list(&json!([entry])), "limit=50&page=2")).unwrap()).is_empty()
    };
    // Updated at 07:08:09: at the very second it may be a later one.
    assert!(
        goes_on("2024-05-06T07:08:09Z", repository(1)) && !goes_on("2024-05-06T07:08:10Z", repository(1))
    );
    let mut undated = repository(1);
    undated["updated_at"] = Value::Null;
    assert!(goes_on("2024-05-06T07:08:10Z", undated));
}

#[test]
fn gitea_lists_an_organization_or_a_user() {
    for (name, kind, path) in [
        ("gitea", "org", "orgs"),
        ("forgejo", "user", "users"),
        ("gogs", "org", "orgs"),
        ("gogs", "user", "users"),
    ] {
        let built = build(name, &json!({ "instance": "h.example", kind: "Ann ü" })).unwrap();
        assert_eq!(built.source.key().to_string(), format!("{name} of h.example/{kind}=ann ü"));
        assert!(!built.source.is_incremental());
        assert_eq!(built.source.coverage(Mode::Full), Coverage::All);
        let request = first_request(&built);
        assert_eq!(request.url.path(), format!("/api/v1/{path}/Ann%20%C3%BC/repos"));
        assert_eq!(query(&request), map(&[("limit", "50"), ("page", "1")]));
    }
    let lister = gitea().with_organization("o");
    let bare = json!([repository(7)]).to_string();
    let answered = linked(answer("https://gitea.example/api/v1/orgs/o/repos", bare), "limit=50&page=2");
    let batch = read(&lister, &page(1), answered).unwrap();
    assert_eq!((batch.origins.len(), batch.marks.len()), (1, 0));
    assert_eq!(nexts(&batch), [&json!({ "page": 2, "limit": 1, "walk": "all" })]);
    assert_fails(&lister, &page(1), r#"{"data":[]}"#, ListerErrorKind::Parse, &["no JSON"]);
    let state = json!({ "last_seen_repo_id": 9, "listed_until": "2024-05-06T01:30:00Z" });
    let state: GiteaState = serde_json::from_value(state).unwrap();
    assert_eq!(lister.resume(&state, &run(Mode::Incremental)), lister.start(&run(Mode::Full)));
    assert_eq!(gitea().with_user("u").with_instance("mine").instance(), "mine/user=u");
}

#[test]
fn gitea_a_refusal_names_the_credential() {
    for (lister, scope) in [
        (gitea(), "read:repository"),
        (gitea().with_organization("o"), "read:organization"),
        (gitea().with_user("u"), "read:user"),
    ] {
        let needs = lister.request(&page(2)).unwrap().needs.unwrap();
        assert!(needs.contains(scope) && needs.contains("credential"), "{needs}");
    }
    for status in [401, 403, 404, 429, 502] {
        let status = StatusCode::from_u16(status).unwrap();
        let failed = Failure::new(FailureKind::Status(status), "as told");
        assert_eq!(gitea().recover(&page(2), &failed), Recovery::gap(), "{status}");
    }
}

#[test]
fn gitea_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| {
        assert_fails(&gitea(), &page(1), body, ListerErrorKind::Parse, words);
    };
    fails("<!DOCTYPE html><title>Forbidden</title>", &["no JSON", "Forbidden"]);
    fails("", &["ends too early", "0 bytes"]);
    fails(r#"{"ok":true,"data":[{"id":1"#, &["ends too early"]);
    fails("[]", &["[]"]);
    fails(r#"{"message":"x"}"#, &["data"]);
    fails(r#"{"data":[{"id":1},{"id":"2"}]}"#, &["data[1].id"]);
    fails(r#"{"data":[null]}"#, &["data[0]"]);
    fails(r#"{"data":[{"id":1,"updated_at":"soon"}]}"#, &["data[0].updated_at"]);
    fails(r#"{"data":[{"clone_url":"https://h/r"}]}"#, &["data[0]", "id"]);
}

#[test]
fn gitea_arguments_are_checked() {
    let given = json!({ "url": "http://127.0.0.1:9/api/v1/", "instance": "mine", "page_size": "3", "api_token": "s" });
    let built = build("gitea", &given).unwrap();
    assert_eq!(built.source.key().to_string(), "gitea of mine");
    let first = first_request(&built);
    assert_eq!(first.url.as_str(), "http://127.0.0.1:9/api/v1/repos/search?sort=id&order=asc&limit=3&page=1");
    assert_eq!(built.secrets.len(), 1);
    assert!(!built.parameters.contains_key("api_token"));
    for (given, word) in [
        (json!({}), "url="),
        (json!({ "instance": "h.example", "page_size": 0 }), "page_size"),
        (json!({ "instance": "h.example", "org": "" }), "org"),
        (json!({ "instance": "h.example", "org": "a", "user": "b" }), "org="),
        (json!({ "instance": "h.example", "group": "a" }), "group"),
    ] {
        let error = build_error("forgejo", &given);
        assert!(error.contains(word), "{given}: {error}");
    }
    let registry = Registry::builtin();
    for name in ["gitea", "forgejo", "gogs"] {
        let entry = registry.entry(name).unwrap();
        assert!(entry.check_credentials(0).is_ok());
        assert_eq!(entry.positions, ["page", "limit"]);
    }
}

proptest! {
    #[test]
    fn gitea_states_join(a: (u32, Option<u32>), b: (u32, Option<u32>), c: (u32, Option<u32>)) {
        let gitea = gitea();
        let state = |(id, at): (u32, Option<u32>)| -> GiteaState {
            let at = at.map(|at| Timestamp::from_seconds(at.into()));
            serde_json::from_value(json!({ "last_seen_repo_id": id, "listed_until": at })).unwrap()
        };
        let (a, b, c) = (state(a), state(b), state(c));
        prop_assert_eq!(gitea.join(a, b), gitea.join(b, a));
        prop_assert_eq!(gitea.join(a, gitea.join(b, c)), gitea.join(gitea.join(a, b), c));
        prop_assert_eq!(gitea.join(a, a), a);
        prop_assert_eq!(gitea.join(a, GiteaState::default()), a);
        prop_assert!(gitea.join(a, b).last_seen_repo_id >= a.last_seen_repo_id);
    }

    /// Whatever a stored cursor says, there is a request, a page and a way to recover.
    #[test]
    fn gitea_any_cursor_is_read(
        page: u64, limit: Option<u64>, offset: u64, size in 0_u64..5000, bad: Option<u64>, past: bool, behind: Option<u64>, alone: bool,
    ) {
        let piece = json!({ "offset": offset, "size": size, "fails_before": bad, "past": behind, "alone": alone });
        for piece in [Value::Null, piece] {
            let at = cursor(&json!({ "page": page, "limit": limit.map(|l| l % 5000), "piece": piece, "past": past }));
            assert_stored(&gitea(), &at);
            gitea().request(&at).unwrap();
            let answered = linked(list(&json!([repository(1)])), "limit=50&page=3");
            read(&gitea(), &at, answered).unwrap();
            for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_GATEWAY] {
                gitea().recover(&at, &Failure::new(FailureKind::Status(status), "as told"));
            }
        }
    }
}

#[test]
fn gitea_cursors_and_pages_repeat() {
    assert_stored(&gitea(), &page(u64::MAX));
    assert_repeats(&gitea(), &page(1), &list(&json!([repository(2)])));
}
