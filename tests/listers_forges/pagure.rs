//! Pagure.

use http::Method;
use lamplighter::lister::{Coverage, Lister, ListerErrorKind, Mode, PageBatch, Registry};
use lamplighter::listers::Pagure;
use lamplighter::transport::{Auth, Response};
use serde_json::{Value, json};
use url::Url;

use super::{
    answer, assert_fails, assert_repeats, assert_stored, build, build_error, first_request, header, nexts,
    origins, query, read, run, url, urls,
};

fn pagure() -> Pagure {
    Pagure::new(&url("https://pagure.example"))
}

fn pagure_at() -> Url {
    url("https://pagure.example/api/0/projects?per_page=100&page=2")
}

fn project(fullname: &str, date: &Value, parent: &Value) -> Value {
    json!({ "id": 9, "fullname": fullname, "date_modified": date, "parent": parent,
        "full_url": format!("http://internal.example/{fullname}") })
}

fn pagure_answer(projects: &Value, next: &Value) -> Response {
    let body =
        json!({ "projects": projects, "pagination": { "next": next, "page": 2 }, "total_projects": 1 });
    answer(pagure_at().as_str(), body.to_string())
}

fn pagure_page(projects: &Value) -> PageBatch {
    read(&pagure(), &pagure_at(), pagure_answer(projects, &Value::Null)).unwrap()
}

#[test]
fn pagure_asks_for_pages_of_the_size_set() {
    let [first] = &pagure().with_per_page(7).start(&run(Mode::Full))[..] else { panic!() };
    let request = pagure().request(first).unwrap();
    assert_eq!(request.method, Method::GET);
    assert_eq!(request.url.as_str(), "https://pagure.example/api/0/projects?per_page=7");
    assert_eq!(header(&request, "accept"), Some("application/json"));
    assert_eq!(request.auth, Auth::None);
    assert_eq!(request.body, None);
    assert_eq!(query(&pagure().request(&pagure().start(&run(Mode::Full))[0]).unwrap())["per_page"], "100");
    for (wished, asked) in [(0, "1"), (1, "1"), (100, "100"), (1000, "100")] {
        let first = &pagure().with_per_page(wished).start(&run(Mode::Full))[0];
        assert_eq!(query(&pagure().request(first).unwrap())["per_page"], asked);
    }
    let below = Pagure::new(&url("http://h.example:81/forge/?x=1#y"));
    assert_eq!(below.start(&run(Mode::Full))[0].path(), "/forge/api/0/projects");
    assert_eq!((below.name(), below.instance()), ("pagure", "h.example:81"));
}

#[test]
fn pagure_follows_next_until_it_is_null() {
    let next = "https://pagure.example/api/0/projects?per_page=100&page=3";
    let one = json!([project("p", &json!("1"), &Value::Null)]);
    let batch = read(&pagure(), &pagure_at(), pagure_answer(&one, &json!(next))).unwrap();
    assert_eq!(nexts(&batch), [&json!(next)]);
    assert_eq!(pagure().request(&url(next)).unwrap().url.as_str(), next);
    let empty = read(&pagure(), &pagure_at(), pagure_answer(&json!([]), &json!(next))).unwrap();
    assert_eq!(nexts(&empty), [&json!(next)]);
    let relative = read(&pagure(), &pagure_at(), pagure_answer(&one, &json!("?page=4"))).unwrap();
    assert_eq!(nexts(&relative), [&json!("https://pagure.example/api/0/projects?page=4")]);
    let batch = pagure_page(&one);
    assert_eq!((batch.origins.len(), batch.follows.len(), batch.marks.len()), (1, 0, 0));
}

#[test]
fn pagure_keeps_its_scheme() {
    let page = |lister: &Pagure, next: &str| {
        read(lister, &pagure_at(), pagure_answer(&json!([]), &json!(next))).unwrap()
    };
    let batch = page(&pagure(), "http://pagure.example/api/0/projects?page=3");
    assert_eq!(nexts(&batch), [&json!("https://pagure.example/api/0/projects?page=3")]);
    let plain = Pagure::new(&url("http://pagure.example:5000"));
    let batch = page(&plain, "http://pagure.example:5000/api/0/projects?page=3");
    assert_eq!(nexts(&batch), [&json!("http://pagure.example:5000/api/0/projects?page=3")]);
}

#[test]
fn pagure_a_next_page_elsewhere_is_an_error() {
    for next in ["https://evil.example/p?page=3", "http://pagure.example:5000/p?page=3", "http://127.0.0.1/p"]
    {
        let error = read(&pagure(), &pagure_at(), pagure_answer(&json!([]), &json!(next))).unwrap_err();
        assert_eq!(error.kind(), ListerErrorKind::Parse);
        assert!(error.to_string().contains(next.split('/').nth(2).unwrap()), "{error}");
    }
    let error = read(&pagure(), &pagure_at(), pagure_answer(&json!([]), &json!("http://["))).unwrap_err();
    assert!(error.to_string().contains("pagination.next"), "{error}");
    let mail = read(&pagure(), &pagure_at(), pagure_answer(&json!([]), &json!("mailto:x@y"))).unwrap_err();
    assert_eq!(mail.kind(), ListerErrorKind::Parse);
}

#[test]
fn pagure_dates_are_utc() {
    for (date, expected) in [
        (json!("1565348955"), "2019-08-09T11:09:15Z"),
        (json!(1_565_348_955), "2019-08-09T11:09:15Z"),
        (json!("1565348955.25"), "2019-08-09T11:09:15.250Z"),
        (json!(1_565_348_955.5), "2019-08-09T11:09:15.500Z"),
    ] {
        let batch = pagure_page(&json!([project("p", &date, &Value::Null)]));
        assert_eq!(origins(&batch)[0].last_update.unwrap().to_string(), expected);
        assert!(batch.skips.is_empty());
    }
    let batch = pagure_page(&json!([project("p", &Value::Null, &Value::Null), { "fullname": "q" }]));
    assert!(origins(&batch).iter().all(|o| o.last_update.is_none()));
    assert!(batch.skips.is_empty());
}

#[test]
fn pagure_a_broken_date_costs_only_itself() {
    let batch = pagure_page(&json!([
        project("bad", &json!("soon"), &Value::Null),
        project("good", &json!("5"), &Value::Null)
    ]));
    assert_eq!(urls(&batch), ["https://pagure.example/bad", "https://pagure.example/good"]);
    let dates: Vec<bool> = origins(&batch).iter().map(|o| o.last_update.is_some()).collect();
    assert_eq!(dates, [false, true]);
    assert_eq!(batch.skips.len(), 1);
    assert!(batch.skips[0].what.contains("bad") && batch.skips[0].why.contains("soon"));
}

#[test]
fn pagure_forks_name_their_parent() {
    let date = json!("5");
    let batch = pagure_page(&json!([
        project("ns/c++ é", &date, &Value::Null),
        project(
            "forks/ann/ns/p",
            &date,
            &json!({ "fullname": "ns/p", "full_url": "http://internal.example/ns/p" })
        ),
        project("forks/bob/q", &date, &json!({ "fullname": null, "full_url": "https://pagure.example/q" })),
        project("forks/cec/r", &date, &Value::Null),
        project("s", &date, &json!({})),
    ]));
    let told: Vec<_> =
        origins(&batch).iter().map(|o| (o.url.as_str(), o.is_fork, o.forked_from_url.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("https://pagure.example/ns/c++ é", Some(false), None),
            ("https://pagure.example/forks/ann/ns/p", Some(true), Some("https://pagure.example/ns/p")),
            ("https://pagure.example/forks/bob/q", Some(true), Some("https://pagure.example/q")),
            ("https://pagure.example/forks/cec/r", Some(true), None),
            ("https://pagure.example/s", Some(true), None),
        ]
    );
    assert_eq!(origins(&batch)[0].forge_id.as_deref(), Some("9"));
    assert_eq!(origins(&batch)[0].visit_type.as_str(), "git");
    let bare = pagure_page(&json!([{ "fullname": "p" }]));
    assert_eq!((origins(&bare)[0].forge_id.clone(), origins(&bare)[0].is_fork), (None, Some(false)));
    let below = Pagure::new(&url("https://h.example/forge/"));
    let batch =
        read(&below, &pagure_at(), pagure_answer(&json!([{ "fullname": "p" }]), &Value::Null)).unwrap();
    assert_eq!(urls(&batch), ["https://h.example/forge/p"]);
}

#[test]
fn pagure_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: &str, words: &[&str]| {
        assert_fails(&pagure(), &pagure_at(), body, ListerErrorKind::Parse, words);
    };
    fails("<html>Fedora maintenance</html>", &["no JSON", "maintenance"]);
    fails("", &["ends too early"]);
    fails(r#"{"projects":[{"fullname":"p"#, &["ends too early"]);
    fails(r#"{"pagination":{"next":null}}"#, &["projects"]);
    fails(r#"{"projects":null,"pagination":{"next":null}}"#, &["projects"]);
    fails(r#"{"projects":[]}"#, &["pagination"]);
    fails(r#"{"projects":[],"pagination":{"page":1}}"#, &["pagination", "next"]);
    fails(
        r#"{"projects":[{"fullname":"p"},{"id":7}],"pagination":{"next":null}}"#,
        &["projects[1]", "fullname"],
    );
    fails(
        r#"{"projects":[{"fullname":"p","date_modified":[1]}],"pagination":{"next":null}}"#,
        &["projects[0].date_modified"],
    );
    fails(
        r#"{"projects":[{"fullname":"p","parent":"q"}],"pagination":{"next":null}}"#,
        &["projects[0].parent"],
    );
}

#[test]
fn pagure_arguments_are_checked() {
    let by_url = build("pagure", &json!({ "url": "https://p.example/" })).unwrap();
    let by_host = build("pagure", &json!({ "instance": "p.example", "per_page": "2" })).unwrap();
    assert_eq!(by_url.source.key().to_string(), "pagure of p.example");
    assert_eq!(by_host.source.key().to_string(), "pagure of p.example");
    assert_eq!(first_request(&by_url).url.as_str(), "https://p.example/api/0/projects?per_page=100");
    assert_eq!(first_request(&by_host).url.as_str(), "https://p.example/api/0/projects?per_page=2");
    let named = build("pagure", &json!({ "url": "https://p.example", "instance": "fedora" })).unwrap();
    assert_eq!(named.source.key().to_string(), "pagure of fedora");
    assert!(!named.source.is_incremental());
    assert_eq!(named.source.coverage(Mode::Full), Coverage::All);
    for size in [1, 100] {
        assert!(build("pagure", &json!({ "url": "https://p.example", "per_page": size })).is_ok());
    }
    for size in [0, 101] {
        let error = build_error("pagure", &json!({ "url": "https://p.example", "per_page": size }));
        assert!(error.contains("per_page") && error.contains("100"), "{error}");
    }
    assert!(build_error("pagure", &json!({})).contains("url="));
    assert_eq!(Registry::builtin().entry("pagure").unwrap().positions, ["page"]);
}

#[test]
fn pagure_cursors_and_pages_repeat() {
    assert_stored(&pagure(), &pagure_at());
    let one = json!([project("p", &json!("1"), &Value::Null)]);
    assert_repeats(&pagure(), &pagure_at(), &pagure_answer(&one, &Value::Null));
}

#[test]
fn pagure_a_fork_has_an_id_of_its_own() {
    let parent = json!({ "id": 9, "fullname": "ns/p" });
    let projects =
        json!([project("ns/p", &json!("1"), &Value::Null), project("forks/ann/ns/p", &json!("1"), &parent),]);
    let batch = pagure_page(&projects);
    let ids: Vec<_> = origins(&batch).iter().map(|o| o.forge_id.clone().unwrap()).collect();
    assert_eq!(ids, ["9", "fork:9"]);
}
