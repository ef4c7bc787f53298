//! CPAN, by MetaCPAN's search.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter::lister::{Failure, FailureKind, Lister, Mode, PageBatch, Recovery};
use lamplighter::listers::Cpan;
use lamplighter::listers::cpan::CpanCursor;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, assert_takes_its_url, follows, read, run, url, urls};

fn cpan() -> Cpan {
    Cpan::new(&url("https://api.example/v1/"))
}

fn first() -> CpanCursor {
    cpan().start(&run(Mode::Full)).remove(0)
}

fn answer(hits: &[Value], scroll: Option<&str>) -> String {
    let hits: Vec<Value> = hits.iter().map(|h| json!({ "_id": "x", "_source": h })).collect();
    let mut answer = json!({ "took": 1, "hits": { "total": 9, "hits": hits } });
    if let Some(scroll) = scroll {
        answer["_scroll_id"] = json!(scroll);
    }
    answer.to_string()
}

fn authors(hits: &[Value]) -> PageBatch {
    read(&cpan(), &first(), answer(hits, None)).unwrap()
}

fn cursor(value: &Value) -> CpanCursor {
    serde_json::from_value(value.clone()).unwrap()
}

/// At the releases of one author.
fn releases() -> CpanCursor {
    cursor(follows(&authors(&[json!({ "pauseid": "ME", "name": "M", "email": "m@x" })])).1[0])
}

fn release(more: &Value) -> Value {
    let mut release = json!({ "distribution": "A-B", "name": "A-B-1.0", "version": "1.0", "author": "ME",
        "date": "2018-10-27T00:20:13", "download_url": "https://cpan.example/M/ME/A-B-1.0.tar.gz",
        "checksum_sha256": "5", "stat": { "size": 7 } });
    release.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    release
}

fn list(hits: &[Value]) -> PageBatch {
    read(&cpan(), &releases(), answer(hits, Some("s"))).unwrap()
}

fn metadata(hit: Value) -> Value {
    let batch = list(&[hit]);
    assert_eq!(batch.skips.len(), 0, "{:?}", batch.skips);
    batch.origins[0].origin.artifacts[1].value.clone()
}

#[test]
fn cpan_asks_for_authors() {
    let request = cpan().request(&first()).unwrap();
    assert_eq!(
        (request.url.as_str(), request.provenance),
        (
            "https://api.example/v1/author/_search?_source=pauseid&_source=name&_source=email&size=1000&scroll=1m",
            Provenance::Configured
        )
    );
    let batch = read(&cpan(), &first(), answer(&[json!({ "pauseid": "A" })], Some("s=1"))).unwrap();
    let (next, others) = follows(&batch);
    assert_eq!((next.len(), others.len()), (1, 0));
    let asked = cpan().request(&cursor(next[0])).unwrap().url;
    assert_eq!(asked.as_str(), "https://api.example/v1/_search/scroll?scroll=1m&scroll_id=s%3D1");
    // The same place again is another page.
    let again = read(&cpan(), &cursor(next[0]), answer(&[json!({ "pauseid": "B" })], Some("s=1"))).unwrap();
    assert_ne!(follows(&again).0, next);
    // No place, or nobody: the end.
    for (hits, scroll) in [(&[json!({ "pauseid": "B" })][..], None), (&[], Some("s=2")), (&[], Some(""))] {
        let batch = read(&cpan(), &cursor(next[0]), answer(hits, scroll)).unwrap();
        let CpanCursor::Releases { names, .. } = cursor(follows(&batch).1[0]) else { panic!("no releases") };
        assert_eq!(names.len(), 1 + hits.len());
    }
}

#[test]
fn cpan_asks_for_releases_by_groups() {
    let of = |n: usize| -> Vec<Value> {
        (0..n).map(|n| json!({ "pauseid": format!("A{n}"), "name": "x" })).collect()
    };
    let batch = authors(&of(200));
    let (_, all) = follows(&batch);
    assert_eq!(all.len(), 1);
    let asked = cpan().request(&cursor(all[0])).unwrap().url;
    assert!(
        asked.as_str().starts_with("https://api.example/v1/release/_search?_source=download_url&_source=")
    );
    assert!(asked.as_str().ends_with("&_source=stat.size&_source=name&size=1000&scroll=1m"), "{asked}");

    // Each author in one group, which is the same whoever else there is.
    let groups = |authors_of: &[Value]| -> BTreeMap<String, u8> {
        let batch = authors(authors_of);
        let mut found = BTreeMap::new();
        for at in follows(&batch).1 {
            let CpanCursor::Releases { group: Some(group), names, .. } = cursor(at) else {
                panic!("no group")
            };
            for id in names.into_keys() {
                assert_eq!(found.insert(id, group), None);
            }
        }
        found
    };
    let many = groups(&of(2000));
    assert_eq!(many.len(), 2000);
    let sizes = many.values().collect::<BTreeSet<_>>().len();
    assert_eq!(sizes, 128);
    let fewer = groups(&of(2000)[300..1900]);
    assert!(fewer.iter().all(|(id, group)| many[id] == *group));

    let batch = authors(&of(201));
    let at = cursor(follows(&batch).1[0]);
    let CpanCursor::Releases { group, names, .. } = &at else { panic!("no group") };
    let ids: Vec<&str> = names.keys().map(String::as_str).collect();
    let query = cpan().request(&at).unwrap().url;
    let said: Vec<String> =
        query.query_pairs().filter(|(k, _)| k == "q").map(|(_, v)| v.into_owned()).collect();
    assert_eq!(said, [format!("author:({})", ids.join(" OR "))]);
    let read = read(&cpan(), &at, answer(&[release(&json!({}))], Some("s"))).unwrap();
    assert_eq!(read.origins[0].part.as_deref(), Some(format!("releases {}", group.unwrap()).as_str()));
}

#[test]
fn cpan_lists_releases() {
    let later = release(
        &json!({ "name": "A-B-1.10", "version": "1.10", "date": "2019-01-01T00:00:00", "author": "YOU", "stat.size": 9, "stat": null }),
    );
    let batch = list(&[
        later,
        release(&json!({})),
        release(&json!({ "date": null, "name": "A-B-0.9", "version": "0.9" })),
    ]);
    assert_eq!(urls(&batch), ["https://metacpan.org/dist/A-B"; 3]);
    let origin = &batch.origins[1].origin;
    assert_eq!(
        (origin.visit_type.as_str(), origin.last_update.unwrap().to_string().as_str()),
        ("cpan", "2018-10-27T00:20:13Z")
    );
    assert_eq!(origin.extra_loader_arguments["api_base_url"], "https://api.example/v1");
    let [artifact, module] = &origin.artifacts[..] else { panic!("two pieces") };
    assert_eq!((artifact.field.as_str(), module.field.as_str()), ("artifacts", "module_metadata"));
    assert_eq!(
        artifact.value,
        json!({ "url": "https://cpan.example/M/ME/A-B-1.0.tar.gz", "filename": "A-B-1.0.tar.gz",
            "checksums": { "sha256": "5" }, "version": "1.0", "length": 7 })
    );
    assert_eq!(
        module.value,
        json!({ "name": "A-B", "version": "1.0", "cpan_author": "ME", "author": "M <m@x>",
            "date": "2018-10-27T00:20:13", "release_name": "A-B-1.0" })
    );
    let keys: Vec<&str> = batch.origins.iter().map(|s| s.origin.artifacts[0].key.as_str()).collect();
    assert!(keys[2] < keys[1] && keys[1] < keys[0], "{keys:?}");
    assert_eq!(batch.origins[0].origin.artifacts[0].value["length"], 9);
    assert_eq!(batch.origins[2].origin.last_update, None);
    assert!(batch.origins.iter().all(|s| s.part.as_deref() == Some("releases")));
}

#[test]
fn cpan_goes_on_until_a_page_is_empty() {
    let batch = list(&[release(&json!({}))]);
    let (next, _) = follows(&batch);
    let asked = cpan().request(&cursor(next[0])).unwrap().url;
    assert_eq!(asked.as_str(), "https://api.example/v1/_search/scroll?scroll=1m&scroll_id=s");
    // Also a page of which nothing is listed goes on.
    assert_eq!(follows(&list(&[json!({ "pauseid": "X" })])).0.len(), 1);
    let end = read(&cpan(), &cursor(next[0]), answer(&[], Some("s"))).unwrap();
    assert_eq!((end.follows.len(), end.parts.len()), (0, 1));
    assert_fails(&cpan(), &releases(), answer(&[release(&json!({}))], None), &["at _scroll_id"]);
}

#[test]
fn cpan_finds_versions() {
    for (version, name, expected) in [
        (json!("1.0"), "A-B-1.0", "1.0"),
        (json!(0), "A-B-a3", "a3"),
        (json!(0), "A-B", "0"),
        (json!(0), "Other-a3", "0"),
        (json!(0.0), "A-B-x-1", "x-1"),
        (json!(0.01), "A-B-0.01", "0.01"),
        (json!(["2.0", "3.0"]), "A-B-2.0", "2.0"),
        (json!("0"), "A-B-0", "0"),
    ] {
        let found = metadata(release(&json!({ "version": version, "name": name })));
        assert_eq!(found["version"], expected, "{version} {name}");
    }
}

#[test]
fn cpan_names_authors() {
    let name = |hit: Value| {
        let batch = authors(&[hit]);
        let CpanCursor::Releases { names, .. } = cursor(follows(&batch).1[0]) else { panic!("no releases") };
        names["ME"].clone()
    };
    for (hit, expected) in [
        (json!({ "pauseid": "ME", "name": "M N", "email": "m@x" }), "M N <m@x>"),
        (json!({ "pauseid": "ME", "name": "M N", "email": ["m@x", "n@x"] }), "M N <m@x>"),
        (json!({ "pauseid": "ME", "name": ["M N"], "email": [] }), "M N"),
        (json!({ "pauseid": "ME", "name": null, "email": "m@x" }), "ME"),
        (json!({ "pauseid": "ME" }), "ME"),
    ] {
        assert_eq!(name(hit), expected);
    }
    assert_eq!(metadata(release(&json!({ "author": "STRANGER" })))["author"], "STRANGER");
    assert_eq!(
        authors(&[json!({ "pauseid": "ME" }), json!({ "pauseid": "A) OR (B" }), json!({})]).skips.len(),
        2
    );
}

#[test]
fn cpan_a_lost_scroll_begins_again() {
    let lost = Failure::new(FailureKind::Status(http::StatusCode::NOT_FOUND), "x");
    let next = read(&cpan(), &first(), answer(&[json!({ "pauseid": "A" })], Some("s"))).unwrap();
    let next = cursor(follows(&next).0[0]);
    assert_eq!(cpan().recover(&next, &lost), Recovery::replaced(vec![first()]));
    assert_eq!(cpan().recover(&first(), &lost), Recovery::gap());
    let next = cursor(follows(&list(&[release(&json!({}))])).0[0]);
    assert_eq!(cpan().recover(&next, &lost), Recovery::replaced(vec![releases()]));
    assert_eq!(cpan().recover(&releases(), &lost), Recovery::gap());
}

#[test]
fn cpan_odd_hits_are_counted() {
    let without = |field: &str| {
        let mut release = release(&json!({}));
        release.as_object_mut().unwrap().remove(field);
        release
    };
    let mut odd: Vec<Value> =
        ["download_url", "checksum_sha256", "distribution", "version", "name", "author"].map(without).into();
    odd.push(release(&json!({ "distribution": "a/../b" })));
    odd.push(release(&json!({ "version": true })));
    odd.push(json!({}));
    let batch = list(&odd);
    assert_eq!((batch.origins.len(), batch.skips.len()), (0, odd.len()));
    odd.push(release(&json!({})));
    assert_eq!(list(&odd).origins.len(), 1);
}

#[test]
fn cpan_a_broken_body_is_an_error_with_its_place() {
    let whole = answer(&[release(&json!({}))], Some("s"));
    for at in [first(), releases()] {
        assert_fails(&cpan(), &at, whole[..whole.len() - 3].to_owned(), &["ends too early"]);
        assert_fails(&cpan(), &at, "<html>down</html>", &["no JSON"]);
        assert_fails(&cpan(), &at, "{}", &["hits"]);
        assert_fails(&cpan(), &at, r#"{"hits": {"hits": [{"_source": 7}]}}"#, &["at hits.hits[0]._source"]);
    }
    assert_fails(&cpan(), &first(), answer(&[], None), &["no authors"]);
}

#[test]
fn cpan_takes_its_url() {
    let fields = "?_source=pauseid&_source=name&_source=email&size=1000&scroll=1m";
    assert_takes_its_url(
        "cpan",
        &format!("https://fastapi.metacpan.org/v1/author/_search{fields}"),
        "https://api.example/v2/",
        &format!("https://api.example/v2/author/_search{fields}"),
    );
}
