//! NuGet.

use http::StatusCode;
use lamplighter::lister::{
    Coverage, Failure, FailureKind, FollowKind, Incremental, Lister, Mode, PageBatch, Verdict,
};
use lamplighter::listers::NuGet;
use lamplighter::listers::nuget::{NuGetCursor, NuGetState};
use lamplighter::model::Timestamp;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, build, follows, read, run, url, urls};

const INDEX: &str = "https://nuget.example/v3/catalog0/index.json";
const THEN: &str = "2022-09-23T08:18:58.8986871Z";
const LATER: &str = "2022-09-23T08:18:58.8986872Z";

fn nuget() -> NuGet {
    NuGet::new(url(INDEX), &url("https://packages.example/flat"))
}

fn at(of: &Value) -> NuGetCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn index() -> NuGetCursor {
    at(&json!({ "index": {} }))
}

fn catalog() -> NuGetCursor {
    at(&json!({ "catalog": { "url": "https://nuget.example/v3/catalog0/p.json", "until": LATER } }))
}

fn nuspec(id: &str, version: &str) -> NuGetCursor {
    at(&json!({ "nuspec": { "id": id, "version": version, "at": THEN } }))
}

fn page(at: &NuGetCursor, body: &Value) -> PageBatch {
    read(&nuget(), at, body.to_string()).unwrap()
}

fn item(page: &str, time: &str) -> Value {
    json!({ "@id": format!("https://nuget.example/v3/catalog0/{page}.json"), "commitTimeStamp": time, "count": 1 })
}

fn event(kind: &str, id: &str, version: &str, time: &str) -> Value {
    json!({ "@id": "x", "@type": format!("nuget:Package{kind}"), "commitTimeStamp": time, "nuget:id": id, "nuget:version": version })
}

/// Keys, fingerprints and versions of the items of a page.
fn items(batch: &PageBatch) -> Vec<(&str, &str, &str)> {
    let of = |follow: &'_ lamplighter::lister::Follow| match &follow.kind {
        FollowKind::Item { key, fingerprint } => (key.to_string(), fingerprint.clone()),
        other => panic!("{other:?}"),
    };
    let leak = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    batch
        .follows
        .iter()
        .map(|f| (leak(of(f).0), leak(of(f).1), f.cursor["nuspec"]["version"].as_str().unwrap()))
        .collect()
}

fn repository(attributes: &str) -> PageBatch {
    let body = format!(
        "<package xmlns='http://x'><metadata><id>a</id><repository {attributes}/></metadata></package>"
    );
    read(&nuget(), &nuspec("a", "1"), body).unwrap()
}

#[test]
fn nuget_asks_for_newer_pages() {
    assert_eq!(nuget().start(&run(Mode::Full)), [index()]);
    let request = nuget().request(&index()).unwrap();
    assert_eq!((request.url.as_str(), request.provenance), (INDEX, Provenance::Configured));
    let body = json!({ "commitTimeStamp": LATER, "items": [item("b", LATER), item("a", THEN)] });
    let catalog = |page: &str, since: Option<&str>| {
        let mut of =
            json!({ "url": format!("https://nuget.example/v3/catalog0/{page}.json"), "until": LATER });
        if let Some(since) = since {
            of["since"] = json!(since);
        }
        json!({ "catalog": of })
    };
    let all = page(&index(), &body);
    assert_eq!(follows(&all), (vec![], vec![&catalog("a", None), &catalog("b", None)]));
    assert_eq!(all.marks, [json!({ "last_listing_date": LATER })]);
    let state: NuGetState = serde_json::from_value(json!({ "last_listing_date": THEN })).unwrap();
    let resumed = nuget().resume(&state, &run(Mode::Incremental));
    let newer = page(&resumed[0], &body);
    assert_eq!(follows(&newer).1, [&catalog("b", Some(THEN))]);
    let request = nuget().request(&at(&catalog("b", None))).unwrap();
    assert_eq!(request.url.as_str(), "https://nuget.example/v3/catalog0/b.json");
    assert_eq!(nuget().resume(&NuGetState::default(), &run(Mode::Incremental)), [index()]);
    assert_eq!(
        (nuget().coverage(Mode::Full), nuget().coverage(Mode::Incremental)),
        (Coverage::All, Coverage::New)
    );
}

#[test]
fn nuget_pages_stay_on_their_host() {
    let of =
        |page: &str| json!({ "commitTimeStamp": THEN, "items": [{ "@id": page, "commitTimeStamp": THEN }] });
    let away = of("https://evil.example/v3/p.json").to_string();
    assert_fails(&nuget(), &index(), away, &["evil.example"]);
    assert_fails(&nuget(), &index(), of(INDEX).to_string(), &["items[0].@id", "no page of it"]);
    let batch = page(&index(), &of("page1.json"));
    assert_eq!(batch.follows[0].cursor["catalog"]["url"], "https://nuget.example/v3/catalog0/page1.json");
}

#[test]
fn nuget_the_newest_event_counts() {
    let early = "2020-01-01T00:00:00Z";
    let all = [
        event("Details", "A", "2.0.0", THEN),
        event("Details", "b", "1.0.0", early),
        event("Details", "a", "1.0.0", early),
        event("Details", "B", "1.1.0", early),
        event("Details", "c", "1.0.0", LATER),
        event("Details", "d", "1.0.0", "2022-09-23T08:18:58.8986873Z"),
    ];
    let body = json!({ "items": all });
    let batch = page(&catalog(), &body);
    assert_eq!(
        items(&batch),
        [("a 2.0.0", THEN, "2.0.0"), ("b 1.1.0", early, "1.1.0"), ("c 1.0.0", LATER, "1.0.0")]
    );
    let since = json!({ "catalog": { "url": INDEX, "since": THEN, "until": LATER } });
    assert_eq!(items(&page(&at(&since), &body)), [("c 1.0.0", LATER, "1.0.0")]);
    let origin = repository("type='git' url='https://github.com/o/n'").origins.remove(0).origin;
    assert_eq!(origin.last_update, Some(Timestamp::parse("2022-09-23T08:18:58.898687Z").unwrap()));
}

#[test]
fn nuget_a_deleted_version_names_nothing() {
    let all = [
        event("Delete", "A", "1.0.0.0", THEN),
        event("Details", "a", "2.0.0", THEN),
        event("Else", "e", "1", THEN),
    ];
    let batch = page(&catalog(), &json!({ "items": all }));
    let parts: Vec<&str> = batch.parts.iter().map(AsRef::as_ref).collect();
    assert_eq!(parts, ["a 1.0.0"]);
    assert_eq!(items(&batch), [("a 2.0.0", THEN, "2.0.0")]);
    assert_eq!((batch.origins.len(), batch.skips.len()), (0, 1));
}

#[test]
fn nuget_asks_for_normal_versions() {
    for (version, normal) in [
        ("1.0", "1.0.0"),
        ("1.0.0.0", "1.0.0"),
        ("1.0.0.5", "1.0.0.5"),
        ("01.002.0", "1.2.0"),
        ("1.0.0-Beta.01+build.7", "1.0.0-beta.01"),
        ("2", "2.0.0"),
        ("odd", "odd"),
    ] {
        let request = nuget().request(&nuspec("Some.Id", version)).unwrap();
        let expected = format!("https://packages.example/flat/some.id/{normal}/some.id.nuspec");
        assert_eq!(request.url.as_str(), expected, "{version}");
    }
}

#[test]
fn nuget_repositories_have_one_form() {
    let of = |attributes: &str| {
        let batch = repository(attributes);
        assert_eq!(batch.skips.is_empty(), !batch.origins.is_empty());
        batch.origins.first().map(|s| (s.origin.url.clone(), s.origin.visit_type.to_string()))
    };
    let some = |url: &str, kind: &str| Some((url.to_owned(), kind.to_owned()));
    assert_eq!(of("type='git' url='git@github.com:O/n.git'"), some("https://github.com/O/n", "git"));
    assert_eq!(
        of("type='GitHub' url='https://github.com/O/n/tree/x'"),
        some("https://github.com/O/n", "git")
    );
    assert_eq!(of("url='https://github.com/O/n'"), some("https://github.com/O/n", "git"));
    assert_eq!(of("url='https://h.example/n.git'"), some("https://h.example/n.git", "git"));
    assert_eq!(of("type='svn' url='https://h.example/n'"), some("https://h.example/n", "svn"));
    assert_eq!(of("url='https://h.example/n'"), None);
    assert_eq!(of("type='tfs' url='https://h.example/n'"), None);
    assert_eq!(of("type='git' url='ssh://git@h.example/n'"), None);
    assert_eq!(of("type='git' url=''"), None);
    assert_eq!(of("type='git'"), None);
    let two = "<package><metadata><repository type='git' url='https://h.example/1'/><repository type='git' url='https://h.example/2'/></metadata></package>";
    assert_eq!(urls(&read(&nuget(), &nuspec("a", "1"), two).unwrap()), ["https://h.example/1"]);
    let none =
        read(&nuget(), &nuspec("a", "1"), "<package><metadata><id>a</id></metadata></package>").unwrap();
    assert_eq!((none.origins.len(), none.skips.len()), (0, 1));
}

#[test]
fn nuget_a_version_that_went_is_counted() {
    let verdict = |at: &NuGetCursor, status| {
        nuget().recover(at, &Failure::new(FailureKind::Status(status), "")).verdict
    };
    let again = at(&json!({ "nuspec": { "id": "a", "version": "1", "at": THEN, "again": true } }));
    let first =
        nuget().recover(&nuspec("a", "1"), &Failure::new(FailureKind::Status(StatusCode::NOT_FOUND), ""));
    assert_eq!((first.verdict, first.follow), (Verdict::Replaced, vec![again.clone()]));
    assert!(matches!(verdict(&again, StatusCode::NOT_FOUND), Verdict::Skip(_)));
    assert_eq!(nuget().request(&again).unwrap().url, nuget().request(&nuspec("a", "1")).unwrap().url);
    assert_eq!(verdict(&nuspec("a", "1"), StatusCode::FORBIDDEN), Verdict::Gap);
    assert_eq!(verdict(&index(), StatusCode::NOT_FOUND), Verdict::Gap);
    assert_eq!(verdict(&catalog(), StatusCode::NOT_FOUND), Verdict::Gap);
}

#[test]
fn nuget_odd_ids_are_counted() {
    for (id, version) in
        [("", "1.0"), ("a/b", "1.0"), ("..", "1.0"), ("a..b", "1"), ("a b", "1"), ("a", ""), ("a", "1/2")]
    {
        let all = [event("Details", id, version, THEN), event("Details", "\u{dc}ber.Ok", "1.0", THEN)];
        let batch = page(&catalog(), &json!({ "items": all }));
        assert_eq!(
            (items(&batch), batch.skips.len()),
            (vec![("\u{fc}ber.ok 1.0.0", THEN, "1.0")], 1),
            "{id} {version}"
        );
    }
}

#[test]
fn nuget_states_join_to_the_later() {
    let of = |text: &str| serde_json::from_value::<NuGetState>(json!({ "last_listing_date": text })).unwrap();
    for (early, late) in [
        (of(THEN), of(LATER)),
        (NuGetState::default(), of(THEN)),
        (of("2022-09-23T08:18:58.898687+00:00"), of(THEN)),
        (of("never"), of(THEN)),
    ] {
        assert_eq!(nuget().join(early.clone(), late.clone()), late);
        assert_eq!(nuget().join(late.clone(), early), late);
    }
}

#[test]
fn nuget_a_broken_body_is_an_error_with_its_place() {
    let of =
        |at: &NuGetCursor, body: &str, words: &[&str]| assert_fails(&nuget(), at, body.to_owned(), words);
    for at in [&index(), &catalog()] {
        of(at, "<html>502</html>", &["no JSON", "502"]);
        of(at, r#"{"commitTimeStamp":"2022-09-23T08:18:58Z","items":[{"#, &["ends too early"]);
        of(at, r#"{"message":"no"}"#, &["there is no \"items\""]);
        of(at, r#"{"items":[{"commitTimeStamp":"2022-09-23T08:18:58Z"}]}"#, &["items[0]"]);
    }
    of(&index(), r#"{"items":[]}"#, &["at commitTimeStamp"]);
    of(
        &index(),
        &json!({ "commitTimeStamp": THEN, "items": [item("a", "soon")] }).to_string(),
        &["items[0].commitTimeStamp", "soon"],
    );
    of(
        &catalog(),
        &json!({ "items": [event("Details", "a", "1", "soon")] }).to_string(),
        &["items[0].commitTimeStamp", "soon"],
    );
    let nuspec = nuspec("a", "1");
    of(&nuspec, "", &["the nuspec", "ends too early"]);
    of(&nuspec, "<html>502</html>", &["<html> where only <package>"]);
    of(&nuspec, "<package><metadata><repository type='git'", &["the nuspec"]);
    of(&nuspec, "<!DOCTYPE package [<!ENTITY a 'b'>]><package/>", &["document type"]);
}

#[test]
fn nuget_takes_its_urls() {
    let built = build("nuget", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "nuget of nuget");
    let request = |cursor: Value| built.source.request(&cursor).unwrap().url.to_string();
    assert_eq!(request(json!({ "index": {} })), "https://api.nuget.org/v3/catalog0/index.json");
    let nuspec = json!({ "nuspec": { "id": "A", "version": "1.0.0", "at": THEN } });
    assert_eq!(request(nuspec.clone()), "https://api.nuget.org/v3-flatcontainer/a/1.0.0/a.nuspec");
    let of = json!({ "url": "https://h.example/i.json", "packages_url": "https://p.example/x", "instance": "mine" });
    let other = build("nuget", &of).unwrap();
    assert_eq!(other.source.key().to_string(), "nuget of mine");
    assert_eq!(other.source.request(&nuspec).unwrap().url.as_str(), "https://p.example/x/a/1.0.0/a.nuspec");
}
