//! GitHub.

#[cfg(feature = "testing")]
mod poisoned;
#[cfg(feature = "testing")]
mod shards;

use http::{Method, StatusCode};
use lamplighter::lister::{
    Coverage, Failure, FailureKind, Incremental, Lister, ListerErrorKind, Mode, Recovery, Registry,
};
use lamplighter::listers::GitHub;
use lamplighter::listers::github::{GitHubCursor, GitHubState};
use lamplighter::model::Timestamp;
use lamplighter::transport::{Auth, Provenance, Response};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    answer, arguments, assert_fails, assert_repeats, assert_stored, build, build_error, first_request,
    header, map, nexts, origins, query, read, run, url, urls,
};

const LIST: &str = "https://api.github.com/repositories";

fn github() -> GitHub {
    GitHub::new(url(LIST))
}

fn since(id: u64) -> GitHubCursor {
    serde_json::from_value(json!({ "since": id })).unwrap()
}

fn repository(id: u64) -> Value {
    json!({ "id": id, "html_url": format!("https://github.com/o/r{id}"), "fork": false })
}

fn github_answer(entries: &Value) -> Response {
    answer(LIST, entries.to_string())
}

#[test]
fn github_asks_by_since_with_a_token() {
    let request = github().with_per_page(7).request(&since(42)).unwrap();
    assert_eq!(request.method, Method::GET);
    assert_eq!(request.url.as_str().split('?').next(), Some(LIST));
    assert_eq!(query(&request), map(&[("since", "42"), ("per_page", "7")]));
    assert_eq!(header(&request, "accept"), Some("application/vnd.github+json"));
    assert_eq!(request.auth, Auth::Bearer("token"));
    assert_eq!(request.provenance, Provenance::Configured);
    // A 304 need not carry the link that goes on.
    assert!(!request.validate);
    assert_eq!(request.body, None);
}

#[test]
fn github_starts_at_the_first_id_and_asks_for_a_hundred() {
    for mode in [Mode::Full, Mode::Incremental] {
        assert_eq!(github().start(&run(mode)), [since(0)]);
    }
    let request = github().request(&since(0)).unwrap();
    assert_eq!(query(&request), map(&[("since", "0"), ("per_page", "100")]));
}

#[test]
fn github_finds_the_list_of_an_enterprise() {
    for (given, list, instance) in [
        ("https://api.github.com", LIST, "github"),
        ("https://api.github.com/repositories/", LIST, "github"),
        ("https://ghe.example/api/v3/", "https://ghe.example/api/v3/repositories", "ghe.example"),
        ("http://127.0.0.1:81/api/v3", "http://127.0.0.1:81/api/v3/repositories", "127.0.0.1:81"),
    ] {
        let lister = GitHub::new(url(given));
        let request = lister.request(&since(1)).unwrap();
        assert_eq!(request.url.as_str().split('?').next(), Some(list), "{given}");
        assert_eq!(lister.instance(), instance, "{given}");
        assert_eq!(lister.name(), "github");
    }
    // What an administrator adds to the address stays.
    let all = GitHub::new(url("https://ghe.example/repositories?visibility=all"));
    let request = all.request(&since(3)).unwrap();
    assert_eq!(query(&request), map(&[("visibility", "all"), ("since", "3"), ("per_page", "100")]));
}

#[test]
fn github_follows_the_link() {
    // Two of a hundred: short pages have a next one too, and it is not after the last id seen.
    let response = github_answer(&json!([repository(7), repository(9)]))
        .with_header("link", &format!("<{LIST}?since=15>; rel=\"next\", <{LIST}{{?since}}>; rel=\"first\""));
    let batch = read(&github(), &since(5), response).unwrap();
    assert_eq!(urls(&batch), ["https://github.com/o/r7", "https://github.com/o/r9"]);
    // The same cursor as a later run's first, so that a gap and its start are asked once.
    assert_eq!(nexts(&batch), [&json!({ "since": 15 })]);

    let last = read(&github(), &since(15), github_answer(&json!([repository(16)]))).unwrap();
    assert!(nexts(&last).is_empty());
    let only_first = github_answer(&json!([])).with_header("link", &format!("<{LIST}>; rel=\"first\""));
    assert!(nexts(&read(&github(), &since(16), only_first).unwrap()).is_empty());
}

#[test]
fn github_an_empty_page_with_a_link_goes_on() {
    let empty = github_answer(&json!([])).with_header("link", &format!("<{LIST}?since=900>; rel=\"next\""));
    let batch = read(&github(), &since(5), empty).unwrap();
    assert_eq!(nexts(&batch), [&json!({ "since": 900 })]);
    assert_eq!((batch.origins.len(), batch.skips.len(), batch.marks.len()), (0, 0, 0));
    assert!(read(&github(), &since(5), github_answer(&json!([]))).unwrap().is_empty());
}

#[test]
fn github_an_unknown_link_is_followed_as_it_is() {
    let link = format!("{LIST}?after=Y3Vyc29y");
    let with_link = |r: Response| r.with_header("link", &format!("<{link}>; rel=\"next\""));
    let batch = read(&github(), &since(5), with_link(github_answer(&json!([repository(8)])))).unwrap();
    assert_eq!(nexts(&batch), [&json!({ "since": 8, "url": link })]);
    // Its place is the last id known: the one that it came from where the page was empty.
    let batch = read(&github(), &since(5), with_link(github_answer(&json!([null])))).unwrap();
    assert_eq!(nexts(&batch), [&json!({ "since": 5, "url": link })]);

    let at: GitHubCursor = serde_json::from_value(nexts(&batch)[0].clone()).unwrap();
    let request = github().request(&at).unwrap();
    assert_eq!(request.url.as_str(), link);
    assert_eq!(request.provenance, Provenance::Upstream);
    assert_eq!(header(&request, "accept"), Some("application/vnd.github+json"));
    assert_eq!(request.auth, Auth::Bearer("token"));
}

#[test]
fn github_a_link_to_another_host_is_an_error() {
    for elsewhere in ["https://evil.example/repositories?since=9", "https://api.github.com:8443/r?since=9"] {
        let response = github_answer(&json!([repository(8)]))
            .with_header("link", &format!("<{elsewhere}>; rel=\"next\""));
        let error = read(&github(), &since(5), response).unwrap_err();
        assert_eq!(error.kind(), ListerErrorKind::Parse);
        let location = elsewhere.split('/').nth(2).unwrap();
        assert!(error.to_string().contains(location), "{error}");
    }
}

#[test]
fn github_null_entries_are_counted() {
    let batch = read(&github(), &since(5), github_answer(&json!([null, repository(7), null]))).unwrap();
    assert_eq!(urls(&batch), ["https://github.com/o/r7"]);
    let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(skipped, ["a repository after id 5", "a repository after id 7"]);
    // The last entry of a page is no safe place to read the state from.
    assert_eq!(batch.marks, [json!({ "last_seen_id": 7 })]);
}

#[test]
fn github_an_address_twice_on_a_page_is_listed_once() {
    let mut again = repository(9);
    again["html_url"] = json!("https://github.com/o/r7");
    let batch = read(&github(), &since(5), github_answer(&json!([repository(7), again]))).unwrap();
    assert_eq!(urls(&batch), ["https://github.com/o/r7"]);
    assert_eq!(batch.skips.len(), 1);
    assert!(batch.skips[0].what.contains('9'));
    assert_eq!(batch.marks, [json!({ "last_seen_id": 9 })]);
}

#[test]
fn github_reads_what_is_there() {
    let entries = json!([
        { "id": 1_u64 << 40, "html_url": "https://github.com/o/all", "fork": true, "archived": true,
          "pushed_at": "2024-02-29T23:59:59+02:00", "name": "é🦀", "description": null },
        { "id": 2, "html_url": "https://github.com/o/nulls", "fork": null, "archived": null, "pushed_at": null },
        { "id": 3, "html_url": "https://github.com/o/bare" },
        { "id": 4, "html_url": "https://github.com/o/no", "fork": false, "archived": false },
    ]);
    let batch = read(&github(), &since(0), github_answer(&entries)).unwrap();
    let [all, nulls, bare, no] = origins(&batch)[..] else { panic!("{:?}", urls(&batch)) };
    assert_eq!(all.visit_type.as_str(), "git");
    assert_eq!(all.last_update, Some(Timestamp::parse("2024-02-29T21:59:59Z").unwrap()));
    assert_eq!((all.is_fork, all.archived), (Some(true), Some(true)));
    assert_eq!(all.forge_id.as_deref(), Some("1099511627776"));
    assert_eq!(all.forked_from_url, None);
    assert!(all.enabled);
    for unknown in [nulls, bare] {
        assert_eq!((unknown.last_update, unknown.is_fork, unknown.archived), (None, None, None));
    }
    assert_eq!((no.is_fork, no.archived), (Some(false), Some(false)));
    assert_eq!(bare.forge_id.as_deref(), Some("3"));
}

#[test]
fn github_marks_the_greatest_id() {
    let batch =
        read(&github(), &since(0), github_answer(&json!([repository(5), repository(30), repository(20)])));
    assert_eq!(batch.unwrap().marks, [json!({ "last_seen_id": 30 })]);
    // Nothing is known of a page without repositories.
    assert!(read(&github(), &since(4), github_answer(&json!([null]))).unwrap().marks.is_empty());
}

#[test]
fn github_resumes_after_the_last_id() {
    let state: GitHubState = serde_json::from_value(json!({ "last_seen_id": 2000, "future": 1 })).unwrap();
    assert_eq!(github().resume(&state, &run(Mode::Incremental)), [since(2000)]);
    // As written by Software Heritage before a first run.
    let empty: GitHubState = serde_json::from_value(json!({})).unwrap();
    assert_eq!(github().resume(&empty, &run(Mode::Incremental)), [since(0)]);
    assert_eq!(serde_json::to_value(state).unwrap(), json!({ "last_seen_id": 2000 }));

    let built = build("github", &json!({})).unwrap();
    assert!(built.source.is_incremental());
    let stored = built.source.read_state(&arguments(&json!({ "last_seen_id": 7 })), 1).unwrap().unwrap();
    assert_eq!(built.source.resume(&stored, &run(Mode::Incremental)).unwrap(), [json!({ "since": 7 })]);
}

#[test]
fn github_says_what_a_run_covers() {
    let lister = github();
    let modes = [Mode::Full, Mode::Incremental, Mode::Gaps];
    assert_eq!(modes.map(|m| lister.coverage(m)), [Coverage::All, Coverage::New, Coverage::New]);
}

#[test]
fn github_a_range_ends_at_its_last_id() {
    let lister = github().with_range(Some(100), Some(300));
    let [first] = &lister.start(&run(Mode::Full))[..] else { panic!() };
    assert_eq!(query(&lister.request(first).unwrap())["since"], "100");
    for (next, goes_on) in [(299, true), (300, false), (301, false)] {
        let response = github_answer(&json!([repository(250)]))
            .with_header("link", &format!("<{LIST}?since={next}>; rel=\"next\""));
        let batch = read(&lister, first, response).unwrap();
        // A page is never cut: what it tells is true.
        assert_eq!(batch.origins.len(), 1);
        let expected = json!({ "since": next, "last": 300 });
        assert_eq!(nexts(&batch), if goes_on { vec![&expected] } else { vec![] }, "{next}");
    }
    // Without a first id it starts where the last run ended.
    let open = github().with_range(None, Some(300));
    let state: GitHubState = serde_json::from_value(json!({ "last_seen_id": 50 })).unwrap();
    let resumed = open.resume(&state, &run(Mode::Incremental));
    assert_eq!(serde_json::to_value(resumed).unwrap(), json!([{ "since": 50, "last": 300 }]));
    assert_eq!(
        serde_json::to_value(lister.resume(&state, &run(Mode::Incremental))).unwrap(),
        json!([{ "since": 100, "last": 300 }])
    );
}

#[test]
fn github_a_range_leaves_the_state_alone() {
    let page = || github_answer(&json!([repository(250)]));
    for (first, last) in [(Some(100), Some(300)), (None, Some(300)), (Some(100), None)] {
        let lister = github().with_range(first, last);
        let [at] = &lister.start(&run(Mode::Full))[..] else { panic!() };
        assert!(read(&lister, at, page()).unwrap().marks.is_empty(), "{first:?} {last:?}");
        assert_eq!(lister.coverage(Mode::Full), Coverage::New, "{first:?} {last:?}");
        // Also where a later run, of everything, retries a gap of it.
        let retried = read(&github(), at, page()).unwrap();
        assert_eq!(retried.marks.is_empty(), last.is_some());
    }
    assert_eq!(read(&github(), &since(100), page()).unwrap().marks.len(), 1);
}

#[test]
fn github_a_refusal_names_the_credential() {
    let needs = github().request(&since(5)).unwrap().needs.unwrap();
    assert!(needs.contains("token") && needs.contains("scope") && needs.contains("credential"), "{needs}");
    for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND] {
        let refused = Failure::new(FailureKind::Status(status), "as told");
        assert_eq!(github().recover(&since(5), &refused), Recovery::gap(), "{status}");
    }
}

#[test]
fn github_lists_an_organization_or_a_user() {
    let pages = [("sort", "created"), ("direction", "asc"), ("per_page", "30")];
    for (kind, owners, which) in [("org", "orgs", "public"), ("user", "users", "owner")] {
        let built = build("github", &json!({ "per_page": 30, kind: "A b" })).unwrap();
        let request = first_request(&built);
        assert_eq!(request.url.host_str(), Some("api.github.com"));
        assert_eq!(request.url.path(), format!("/{owners}/A%20b/repos"));
        assert_eq!(query(&request), map(&[&[("type", which)], &pages[..]].concat()));
        assert_eq!(request.auth, Auth::Bearer("token"));
        assert!(!built.source.is_incremental());
        assert_eq!(built.source.coverage(Mode::Full), Coverage::All);
    }
    // The same pages; the link leads on as it is, and nothing is marked.
    let lister = GitHub::new(url("https://ghe.example/api/v3")).with_organization("o");
    let [first] = &lister.start(&run(Mode::Full))[..] else { panic!() };
    let address = lister.request(first).unwrap().url;
    assert_eq!(address.path(), "/api/v3/orgs/o/repos");
    let link = "https://ghe.example/api/v3/organizations/7/repos?page=2";
    let mut entry = repository(8);
    entry["pushed_at"] = json!("2024-05-06T07:08:09Z");
    entry["mirror_url"] = json!("https://elsewhere.example/r.git");
    let page = answer(address.as_str(), json!([entry, repository(9)]).to_string())
        .with_header("link", &format!("<{link}>; rel=\"next\""));
    let batch = read(&lister, first, page).unwrap();
    assert_eq!((batch.origins.len(), batch.marks.len()), (2, 0));
    let facts: Vec<_> = origins(&batch).iter().map(|o| (o.last_update.is_some(), o.mirror)).collect();
    assert_eq!(facts, [(true, Some(true)), (false, None)]);
    let next: GitHubCursor = serde_json::from_value(nexts(&batch)[0].clone()).unwrap();
    assert_eq!(lister.request(&next).unwrap().url.as_str(), link);
    let known: GitHubState = serde_json::from_value(json!({ "last_seen_id": 7 })).unwrap();
    assert_eq!(lister.resume(&known, &run(Mode::Incremental)), lister.start(&run(Mode::Full)));
}

#[test]
fn github_scopes_have_a_key_of_their_own() {
    let key = |given: Value| build("github", &given).unwrap().source.key().to_string();
    assert_eq!(key(json!({ "org": "Rust-Lang" })), "github of github/org=rust-lang");
    assert_eq!(key(json!({ "user": "ann", "instance": "mine" })), "github of mine/user=ann");
    let ghe = json!({ "url": "https://ghe.example/api/v3", "org": "o" });
    assert_eq!(key(ghe), "github of ghe.example/org=o");
    let named = GitHub::new(url(LIST)).with_user("ann").with_instance("mine");
    assert_eq!(named.instance(), "mine/user=ann");
    for (given, word) in [
        (json!({ "org": "a", "user": "b" }), "org="),
        (json!({ "org": "" }), "org"),
        (json!({ "org": "a\nb" }), "org"),
        (json!({ "org": "a", "first_id": 5 }), "first_id"),
    ] {
        let error = build_error("github", &given);
        assert!(error.contains(word), "{given}: {error}");
    }
}

#[test]
fn github_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| {
        assert_fails(&github(), &since(5), body, ListerErrorKind::Parse, words);
    };
    fails("<!DOCTYPE html><title>Unicorn!</title>", &["no JSON", "Unicorn"]);
    fails("", &["ends too early", "0 bytes"]);
    fails(r#"[{"id":1,"html_url":"https://github.com/o/r"},{"id":2,"html"#, &["ends too early"]);
    fails("null", &["null"]);
    fails(r#"{"message":"Server Error"}"#, &["no JSON", "Server Error"]);
    fails(r#"[{"id":"1","html_url":"https://github.com/o/r"}]"#, &["[0].id"]);
    fails(r#"[null,{"id":1}]"#, &["[1]", "html_url"]);
    fails(r#"[{"html_url":"https://github.com/o/r"}]"#, &["[0]", "id"]);
    fails(r#"[{"id":1,"html_url":["x"]}]"#, &["[0].html_url"]);
    fails(r#"[{"id":1,"html_url":"https://github.com/o/r","pushed_at":"yesterday"}]"#, &["[0].pushed_at"]);
    fails(r#"[{"id":1,"html_url":"https://github.com/o/r","fork":"no"}]"#, &["[0].fork"]);
    fails(r#"[{"id":-1,"html_url":"https://github.com/o/r"}]"#, &["[0].id"]);
}

#[test]
fn github_arguments_are_checked() {
    let built = build("github", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "github of github");
    assert!(!built.bases.is_empty() && built.bases.iter().all(|b| *b == url(LIST)), "{:?}", built.bases);
    assert_eq!(
        first_request(&built).url.as_str(),
        "https://api.github.com/repositories?since=0&per_page=100"
    );

    let given = json!({ "url": "http://127.0.0.1:9/", "per_page": "30", "first_id": 5, "last_id": "6" });
    let built = build("github", &given).unwrap();
    assert_eq!(built.source.key().to_string(), "github of 127.0.0.1:9");
    assert_eq!(first_request(&built).url.as_str(), "http://127.0.0.1:9/repositories?since=5&per_page=30");
    let named = build("github", &json!({ "instance": "mine" })).unwrap();
    assert_eq!(named.source.key().to_string(), "github of mine");
    assert_eq!(first_request(&named).url.host_str(), Some("api.github.com"));

    assert!(build("github", &json!({ "per_page": 1, "last_id": 1 })).is_ok());
    assert!(build_error("github", &json!({ "per_page": 0 })).contains("per_page"));
    assert!(build_error("github", &json!({ "first_id": 5, "last_id": 5 })).contains("last_id"));
    assert!(build_error("github", &json!({ "last_id": 0 })).contains("last_id"));
    assert!(build_error("github", &json!({ "page_size": 5 })).contains("page_size"));
    let registry = Registry::builtin();
    let entry = registry.entry("github").unwrap();
    assert_eq!((entry.positions, entry.incremental), (&["since", "page"][..], true));
    assert!(entry.check_credentials(0).is_ok(), "GitHub can be listed without a token");
}

proptest! {
    #[test]
    fn github_states_join_to_the_greatest(a: u64, b: u64, c: u64) {
        let github = github();
        let state = |id: u64| -> GitHubState { serde_json::from_value(json!({ "last_seen_id": id })).unwrap() };
        let (a, b, c) = (state(a), state(b), state(c));
        prop_assert_eq!(github.join(a, b), github.join(b, a));
        prop_assert_eq!(github.join(a, github.join(b, c)), github.join(github.join(a, b), c));
        prop_assert_eq!(github.join(a, a), a);
        prop_assert_eq!(github.join(a, GitHubState::default()), a);
        prop_assert!(github.join(a, b).last_seen_id >= a.last_seen_id);
    }

    #[test]
    fn github_lists_each_address_of_any_page_once(ids in prop::collection::vec(prop::option::of(1_u64..50), 0..40)) {
        let entries: Vec<Value> = ids.iter().map(|id| id.map_or(Value::Null, repository)).collect();
        let batch = read(&github(), &since(0), github_answer(&Value::from(entries))).unwrap();
        let mut known: Vec<u64> = ids.iter().flatten().copied().collect();
        let greatest = known.iter().copied().max();
        known.sort_unstable();
        known.dedup();
        let mut listed: Vec<u64> = origins(&batch).iter().map(|o| o.forge_id.as_ref().unwrap().parse().unwrap()).collect();
        listed.sort_unstable();
        prop_assert_eq!(listed, known);
        prop_assert_eq!(batch.origins.len() + batch.skips.len(), ids.len());
        let marks: Vec<Value> = greatest.map(|id| json!({ "last_seen_id": id })).into_iter().collect();
        prop_assert_eq!(batch.marks, marks);
    }
}

#[test]
fn github_a_link_to_its_own_page_leads_to_that_page() {
    let own = format!("{LIST}?after=x");
    let at: GitHubCursor = serde_json::from_value(json!({ "since": 3, "url": own })).unwrap();
    let linked = |to: &str| {
        let page =
            github_answer(&json!([repository(8)])).with_header("link", &format!("<{to}>; rel=\"next\""));
        nexts(&read(&github(), &at, page).unwrap()).into_iter().cloned().collect::<Vec<_>>()
    };
    // The cursor that was asked, so that the run sees a loop at once; the next one begins there anew.
    assert_eq!(linked(&own), [json!({ "since": 3, "url": own })]);
    let other = format!("{LIST}?after=y");
    assert_eq!(linked(&other), [json!({ "since": 8, "url": other })]);
}

#[test]
fn github_cursors_and_pages_repeat() {
    assert_stored(&github(), &since(u64::MAX));
    let whole = json!({ "since": 3, "last": 9, "url": "https://api.github.com/r?after=x" });
    let cursor: GitHubCursor = serde_json::from_value(whole.clone()).unwrap();
    assert_stored(&github(), &cursor);
    assert_eq!(serde_json::to_value(&cursor).unwrap(), whole);
    assert_repeats(&github(), &since(0), &github_answer(&json!([repository(2), null])));
}
