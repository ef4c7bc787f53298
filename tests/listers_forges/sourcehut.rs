//! `SourceHut`.

use lamplighter::lister::{Coverage, Lister, ListerErrorKind, Mode, PageBatch};
use lamplighter::listers::SourceHut;
use lamplighter::listers::sourcehut::SourceHutCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Auth, Request};
use serde_json::{Value, json};

use super::{
    answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, nexts, origins,
    read, run, url, urls,
};

fn ada() -> SourceHut {
    SourceHut::new(url("https://git.hut.example/"), "git.hut.example").with_user("~ada")
}

fn at(cursor: Option<&str>) -> SourceHutCursor {
    serde_json::from_value(json!({"cursor": cursor})).unwrap()
}

fn asked(request: &Request) -> Value {
    assert_eq!(request.method.as_str(), "POST");
    serde_json::from_slice(request.body.as_ref().unwrap()).unwrap()
}

fn body(cursor: Option<&str>, results: &Value) -> String {
    json!({"data": {"user": {"repositories": {"cursor": cursor, "results": results}}}}).to_string()
}

fn page(cursor: Option<&str>, results: &Value) -> PageBatch {
    read(&ada(), &at(None), answer("https://git.hut.example/query", body(cursor, results))).unwrap()
}

#[test]
fn sourcehut_asks_for_repositories() {
    assert_eq!(ada().start(&run(Mode::Full)), [at(None)]);
    let request = ada().request(&at(Some("abc"))).unwrap();
    assert_eq!((request.url.as_str(), &request.auth), ("https://git.hut.example/query", &Auth::bearer()));
    assert!(request.needs.as_ref().is_some_and(|needs| needs.contains("REPOSITORIES")));
    let asks = asked(&request);
    assert_eq!(asks["variables"], json!({"user": "ada", "cursor": "abc"}));
    let query = asks["query"].as_str().unwrap();
    assert!(
        query.contains("user(username: $user)") && query.matches('{').count() == query.matches('}').count()
    );
    let own = SourceHut::new(url("https://git.hut.example/"), "git.hut.example");
    let asks = asked(&own.request(&at(None)).unwrap());
    assert_eq!(asks["variables"], json!({"cursor": null}));
    assert!(!asks["query"].as_str().unwrap().contains("user"));
    assert_stored(&ada(), &at(Some("abc")));
    assert_eq!((ada().name(), ada().instance()), ("sourcehut", "git.hut.example/user=ada"));
    assert_eq!(ada().coverage(Mode::Full), Coverage::All);
}

#[test]
fn sourcehut_goes_on_at_the_cursor() {
    assert_eq!(nexts(&page(Some("abc"), &json!([]))), [&json!({"cursor": "abc"})]);
    assert!(nexts(&page(None, &json!([]))).is_empty());
}

#[test]
fn sourcehut_reads_repositories() {
    let results = json!([
        {"id": 7, "name": "a", "updated": "2021-02-03T04:05:06.789Z", "visibility": "PUBLIC", "owner": {"canonicalName": "~ada"},
         "HEAD": {"name": "refs/heads/main"}},
        {"id": 8, "name": "ü b", "updated": null, "visibility": "PRIVATE", "owner": {"canonicalName": "~ada"}, "HEAD": null},
        {"id": 9, "name": "c", "owner": {"canonicalName": "~ada"}},
    ]);
    let batch = page(None, &results);
    let hut = |name: &str| format!("https://git.hut.example/~ada/{name}");
    assert_eq!(urls(&batch), [hut("a"), hut("%C3%BC%20b"), hut("c")]);
    let [a, b, c] = origins(&batch)[..] else { panic!() };
    assert_eq!(a.last_update, Some(Timestamp::parse("2021-02-03T04:05:06.789Z").unwrap()));
    assert_eq!((a.forge_id.as_deref(), a.visit_type.as_str(), a.enabled), (Some("7"), "git", true));
    assert_eq!((a.empty, b.empty, c.empty), (Some(false), Some(true), None));
    assert_eq!((b.enabled, b.last_update, c.enabled), (false, None, true));
    assert_repeats(&ada(), &at(None), &answer("https://git.hut.example/query", body(None, &results)));
}

#[test]
fn sourcehut_is_made_of_its_arguments() {
    let built = build("sourcehut", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "sourcehut of git.sr.ht");
    assert_eq!(first_request(&built).url.as_str(), "https://git.sr.ht/query");
    let built = build("sourcehut", &json!({"url": "https://hg.sr.ht", "user": "~Ada"})).unwrap();
    assert_eq!(built.source.key().to_string(), "sourcehut of hg.sr.ht/user=ada");
    let hg = SourceHut::new(url("https://hg.sr.ht"), "hg.sr.ht").with_user("ada");
    let results = json!([{"id": 7, "name": "a", "owner": {"canonicalName": "~ada"}}]);
    let batch = read(&hg, &at(None), answer("https://hg.sr.ht/query", body(None, &results))).unwrap();
    assert_eq!(
        (urls(&batch), origins(&batch)[0].visit_type.as_str()),
        (vec!["https://hg.sr.ht/~ada/a"], "hg")
    );
    assert!(build_error("sourcehut", &json!({"user": "/"})).contains("user"));
}

#[test]
fn sourcehut_a_refusal_is_told() {
    let refused = r#"{"data": null, "errors": [{"message": "Authentication required", "path": ["user"]}]}"#;
    assert_fails(&ada(), &at(None), refused, ListerErrorKind::Refused, &["Authentication required"]);
}

#[test]
fn sourcehut_a_user_that_is_not_there_is_an_error() {
    let nobody = r#"{"data": {"user": null}}"#;
    assert_fails(&ada(), &at(None), nobody, ListerErrorKind::Parse, &["data.user", "ada"]);
}

#[test]
fn sourcehut_no_repository_is_no_error() {
    assert!(page(None, &json!([])).is_empty());
}

#[test]
fn sourcehut_a_broken_body_is_an_error_with_its_place() {
    for (body, words) in [
        ("<html>down</html>", "no JSON"),
        ("{}", "data"),
        (r#"{"data": {"user": {"repositories": {"cursor": null}}}}"#, "data.user.repositories"),
        (r#"{"data": {"user": {"repositories": {"results": [{"id": "x"}]}}}}"#, "results[0].id"),
        (r#"{"data": {"#, "ends too early"),
    ] {
        assert_fails(&ada(), &at(None), body, ListerErrorKind::Parse, &[words]);
    }
}
