//! Tuleap.

use lamplighter::lister::{
    Failure, FailureKind, FollowKind, Lister, ListerErrorKind, Mode, PageBatch, Recovery, Verdict,
};
use lamplighter::listers::Tuleap;
use lamplighter::listers::tuleap::TuleapCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Auth, Response, TransportErrorKind};
use serde_json::{Value, json};

use super::{
    answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, header, nexts,
    origins, read, run, url, urls,
};

fn tuleap() -> Tuleap {
    Tuleap::new(url("https://tuleap.example/"), "tuleap.example")
}

fn projects_at(offset: u64) -> TuleapCursor {
    serde_json::from_value(json!({"projects": {"offset": offset}})).unwrap()
}

fn stored(project: u64, service: &str, offset: u64) -> Value {
    json!({"repositories": {"project": project, "service": service, "archived": false, "offset": offset}})
}

fn service_at(service: &str) -> TuleapCursor {
    serde_json::from_value(stored(7, service, 0)).unwrap()
}

fn paged(body: &Value, limit: &str, size: &str) -> Response {
    answer("https://tuleap.example/api/", body.to_string())
        .with_header("x-pagination-limit", limit)
        .with_header("x-pagination-size", size)
}

fn page(at: &TuleapCursor, body: &Value) -> PageBatch {
    read(&tuleap(), at, paged(body, "50", "1")).unwrap()
}

fn next_of(at: &TuleapCursor, response: Response) -> Option<u64> {
    let batch = read(&tuleap(), at, response).unwrap();
    let next = batch.follows.iter().find(|f| matches!(f.kind, FollowKind::Next { .. }))?;
    next.cursor.as_object().unwrap().values().next().unwrap()["offset"].as_u64()
}

fn asked(lister: &Tuleap, at: &TuleapCursor) -> String {
    lister.request(at).unwrap().url.into()
}

#[test]
fn tuleap_asks_for_pages_of_projects() {
    assert_eq!(tuleap().start(&run(Mode::Full)), [projects_at(0)]);
    let request = tuleap().request(&projects_at(0)).unwrap();
    assert_eq!(request.url.as_str(), "https://tuleap.example/api/projects/?limit=50");
    assert_eq!(
        (header(&request, "accept"), &request.auth),
        (Some("application/json"), &Auth::Header("x-auth-accesskey"))
    );
    assert!(request.needs.is_some_and(|needs| needs.contains("REST")));
    assert_eq!(asked(&tuleap(), &projects_at(50)), "https://tuleap.example/api/projects/?limit=50&offset=50");
    assert_eq!(asked(&tuleap(), &service_at("svn")), "https://tuleap.example/api/projects/7/svn?limit=50");
    for cursor in [projects_at(9), service_at("git"), service_at("svn")] {
        assert_stored(&tuleap(), &cursor);
    }
    let built = build("tuleap", &json!({"instance": "tuleap.example"})).unwrap();
    assert_eq!(first_request(&built).url.as_str(), "https://tuleap.example/api/projects/?limit=50");
    assert!(build_error("tuleap", &json!({})).contains("url="));
}

#[test]
fn tuleap_may_lie_under_a_path() {
    for base in ["https://h.example/forge", "https://h.example/forge/", "https://h.example/forge/api/"] {
        let lister = Tuleap::new(url(base), "h");
        assert_eq!(asked(&lister, &projects_at(0)), "https://h.example/forge/api/projects/?limit=50");
        let one = json!({"repositories": [{"id": 1, "path": "p/r.git"}]});
        let batch = read(&lister, &service_at("git"), paged(&one, "50", "1")).unwrap();
        assert_eq!(urls(&batch), ["https://h.example/forge/plugins/git/p/r.git"]);
    }
}

#[test]
fn tuleap_asks_for_the_services_of_a_project() {
    let of = |kinds: &[&str]| kinds.iter().map(|k| json!({"type": k, "uri": "x"})).collect::<Vec<_>>();
    let batch = page(
        &projects_at(0),
        &json!([
            {"id": 1, "status": "active", "resources": of(&["trackers", "svn", "git"])},
            {"id": 2, "status": "archived", "resources": of(&["git"])},
            {"id": 3, "status": "active", "resources": of(&["docman"])},
            {"id": 4, "status": null, "resources": null},
        ]),
    );
    assert!(batch.follows.iter().all(|f| f.kind == FollowKind::Follow));
    let of = |p: u64, s: &str, a: Option<bool>| json!({"repositories": {"project": p, "service": s, "archived": a, "offset": 0}});
    let followed: Vec<&Value> = batch.follows.iter().map(|f| &f.cursor).collect();
    let expected =
        [of(1, "git", Some(false)), of(1, "svn", Some(false)), of(2, "git", Some(true)), of(4, "git", None)];
    assert_eq!(followed, expected.iter().collect::<Vec<_>>());
}

#[test]
fn tuleap_goes_on_as_the_headers_say() {
    let one = json!([{"id": 1, "resources": []}]);
    for (offset, limit, size, next) in [
        (0, "50", "51", Some(50)),
        (50, "50", "51", None),
        (0, "10", "51", Some(10)),
        (0, "50", "50", None),
        (0, "0", "0", None),
    ] {
        assert_eq!(next_of(&projects_at(offset), paged(&one, limit, size)), next, "{offset} {limit} {size}");
    }
    // Also where nothing on the page may be seen.
    assert_eq!(next_of(&projects_at(0), paged(&json!([]), "50", "120")), Some(50));
    let git = serde_json::from_value(stored(7, "git", 50)).unwrap();
    let batch = read(&tuleap(), &git, paged(&json!({"repositories": []}), "50", "101")).unwrap();
    assert_eq!(nexts(&batch), [&stored(7, "git", 100)]);
    for (limit, size, words) in [
        ("0", "51", "x-pagination-limit"),
        ("x", "51", "x-pagination-limit"),
        ("50", "-1", "x-pagination-size"),
    ] {
        let error = read(&tuleap(), &projects_at(0), paged(&one, limit, size)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn tuleap_goes_on_without_headers_until_a_page_is_empty() {
    let page = |body: &Value| next_of(&projects_at(10), answer("https://tuleap.example/", body.to_string()));
    assert_eq!(page(&json!([{"id": 1}, {"id": 2}])), Some(12));
    assert_eq!(page(&json!([])), None);
}

#[test]
fn tuleap_reads_git_repositories() {
    let body = json!({"repositories": [
        {"id": 295, "uri": "git/295", "name": "docs", "path": "memo/docs.git", "last_update_date": "2020-10-03T15:27:02+02:00"},
        {"id": 296, "name": "ü/x", "path": "memo/ü x#1.git", "last_update_date": null},
        {"id": 297, "name": "z", "path": "/memo/z.git", "last_update_date": ""},
    ]});
    let batch = page(&service_at("git"), &body);
    let git = |path: &str| format!("https://tuleap.example/plugins/git/memo/{path}");
    assert_eq!(urls(&batch), [git("docs.git"), git("%C3%BC%20x%231.git"), git("z.git")]);
    let [docs, other, _] = origins(&batch)[..] else { panic!() };
    assert_eq!(docs.last_update, Some(Timestamp::parse("2020-10-03T13:27:02Z").unwrap()));
    assert_eq!(
        (docs.visit_type.as_str(), docs.forge_id.as_deref(), docs.archived),
        ("git", Some("295"), Some(false))
    );
    assert_eq!((other.last_update, other.is_fork), (None, None));
    assert!(batch.skips.is_empty());
    assert_repeats(&tuleap(), &service_at("git"), &paged(&body, "50", "3"));
}

#[test]
fn tuleap_reads_subversion_repositories() {
    let body = json!({"repositories": [
        {"id": 5, "uri": "svn/5", "name": "core", "svn_url": "https://tuleap.example/svnplugin/memo/core"}
    ]});
    let batch = page(&service_at("svn"), &body);
    let [origin] = origins(&batch)[..] else { panic!() };
    assert_eq!(origin.url, "https://tuleap.example/svnplugin/memo/core");
    assert_eq!(
        (origin.visit_type.as_str(), origin.forge_id.as_deref(), origin.last_update),
        ("svn", Some("5"), None)
    );
}

#[test]
fn tuleap_odd_repositories_are_counted() {
    let body = json!({"repositories": [
        {"id": 1, "name": "no path", "path": null}, {"id": 2, "path": "/"},
        {"id": 3, "name": "late", "path": "p/late.git", "last_update_date": "tomorrow"},
    ]});
    let batch = page(&service_at("git"), &body);
    assert_eq!(urls(&batch), ["https://tuleap.example/plugins/git/p/late.git"]);
    assert_eq!(origins(&batch)[0].last_update, None);
    let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(skipped, ["no path", "git 2", "the date of late"]);
    let body =
        json!({"repositories": [{"id": 4, "name": "a"}, {"id": 5, "name": "b", "svn_url": "svn+ssh"}]});
    let batch = page(&service_at("svn"), &body);
    assert_eq!((batch.origins.len(), batch.skips.len()), (0, 2));
}

#[test]
fn tuleap_a_closed_project_is_skipped() {
    let status = |of: u16| FailureKind::Status(of.try_into().unwrap());
    let recover = |at: &TuleapCursor, kind| tuleap().recover(at, &Failure::new(kind, "failed"));
    let not_recorded = FailureKind::Transport(TransportErrorKind::NotRecorded);
    for kind in [status(404), status(410), status(403), not_recorded] {
        let recovery = recover(&service_at("svn"), kind);
        let Verdict::Skip(why) = recovery.verdict else { panic!("{kind:?}: {recovery:?}") };
        assert!(why.contains('7') && why.contains("svn"), "{why}");
        assert_eq!(recover(&projects_at(50), kind), Recovery::gap());
    }
    for kind in
        [status(401), status(500), FailureKind::Parse, FailureKind::Transport(TransportErrorKind::Challenge)]
    {
        assert_eq!(recover(&service_at("git"), kind), Recovery::gap(), "{kind:?}");
    }
}

#[test]
fn tuleap_an_empty_forge_is_no_error() {
    assert!(read(&tuleap(), &projects_at(0), paged(&json!([]), "50", "0")).unwrap().is_empty());
}

#[test]
fn tuleap_a_broken_body_is_an_error_with_its_place() {
    for (body, words) in [
        (r#"{"error":{"code":500,"message":"Internal Server Error"}}"#, "invalid type"),
        ("<html>down</html>", "no JSON"),
        (r#"[{"id":1},{"id":"#, "ends too early"),
        (r#"[{"id":1},{"label":"x"}]"#, "[1]"),
    ] {
        assert_fails(&tuleap(), &projects_at(0), body, ListerErrorKind::Parse, &[words]);
    }
    let git = r#"{"repositories":[{"id":null}]}"#;
    assert_fails(&tuleap(), &service_at("git"), git, ListerErrorKind::Parse, &["repositories[0].id"]);
    assert_fails(&tuleap(), &service_at("git"), "{}", ListerErrorKind::Parse, &["repositories"]);
}
