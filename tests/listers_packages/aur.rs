//! The Arch User Repository.

use lamplighter::lister::PageBatch;
use lamplighter::listers::Aur;
use lamplighter::model::Timestamp;
use serde_json::{Value, json};

use super::{assert_asks_once, assert_fails, assert_takes_its_url, gzip, read, url, urls};

fn aur() -> Aur {
    Aur::new(&url("https://aur.example/"))
}

fn package(name: &str, base: &str, version: &str) -> Value {
    json!({ "ID": 1, "Name": name, "PackageBaseID": 2, "PackageBase": base, "Version": version, "Description": null,
        "URL": format!("https://{name}.example/"), "NumVotes": 1, "Popularity": 0.5, "OutOfDate": null, "Maintainer": null,
        "FirstSubmitted": 1_460_795_753, "LastModified": 1_599_251_812, "URLPath": "/x" })
}

fn page(body: &Value) -> PageBatch {
    read(&aur(), &(), body.to_string()).unwrap()
}

#[test]
fn aur_asks_once() {
    assert_asks_once(&aur(), "https://aur.example/packages-meta-v1.json.gz");
}

#[test]
fn aur_reads_the_file_packed_and_not() {
    let text = json!([package("a", "a", "1-1"), package("b", "b", "1-1")]).to_string();
    let plain = read(&aur(), &(), text.clone()).unwrap();
    assert_eq!(plain.origins.len(), 4);
    assert_eq!(read(&aur(), &(), gzip(&text)).unwrap(), plain);
}

#[test]
fn aur_lists_a_base_twice() {
    let batch = page(&json!([package("tealdeer-git", "tealdeer-git", "r255.30b7c5f-1")]));
    let (ours, git) = (&batch.origins[0].origin, &batch.origins[1].origin);
    assert_eq!(
        (ours.url.as_str(), ours.visit_type.as_str()),
        ("https://aur.example/packages/tealdeer-git", "aur")
    );
    assert_eq!((git.url.as_str(), git.visit_type.as_str()), ("https://aur.example/tealdeer-git.git", "git"));
    let then = Some(Timestamp::from_seconds(1_599_251_812));
    assert_eq!((ours.last_update, git.last_update), (then, then));
    assert!(git.extra_loader_arguments.is_empty());
    assert_eq!(
        Value::Object(ours.extra_loader_arguments.clone()),
        json!({
            "artifacts": [{ "filename": "tealdeer-git.tar.gz", "url": "https://aur.example/cgit/aur.git/snapshot/tealdeer-git.tar.gz", "version": "r255.30b7c5f-1" }],
            "aur_metadata": [{ "version": "r255.30b7c5f-1", "project_url": "https://tealdeer-git.example/", "last_update": "2020-09-04T20:36:52+00:00", "pkgname": "tealdeer-git" }],
        })
    );
}

#[test]
fn aur_a_base_of_other_names_is_listed() {
    let said = |packages: &Value| {
        let batch = page(packages);
        let of = |s: &lamplighter::lister::Sighting| {
            s.origin.extra_loader_arguments["aur_metadata"][0]["project_url"].clone()
        };
        batch.origins.iter().filter(|s| s.origin.visit_type.as_str() == "aur").map(of).collect::<Vec<_>>()
    };
    let (a, b, own) =
        (package("foo-a", "foo", "1-1"), package("foo-b", "foo", "1-1"), package("foo", "foo", "1-1"));
    assert_eq!(said(&json!([a, b])), ["https://foo-a.example/"]);
    // What is said last of an origin counts.
    assert_eq!(said(&json!([a, own, b])), ["https://foo-a.example/", "https://foo.example/"]);
    assert_eq!(said(&json!([own, a, b, own])), ["https://foo.example/"]);
}

#[test]
fn aur_odd_packages_are_counted() {
    let mut bare = package("bare", "bare", "1-1");
    bare["URL"] = Value::Null;
    bare["LastModified"] = Value::Null;
    let batch = page(&json!([
        package("x", "", "1"),
        package("x", "a/b", "1"),
        package("x", "..", "1"),
        package("x", "\u{fc}", "1"),
        package("c++@2.0", "c++@2.0", "1"),
        bare,
    ]));
    assert_eq!(
        urls(&batch)[..2],
        ["https://aur.example/packages/c++@2.0", "https://aur.example/c++@2.0.git"]
    );
    assert_eq!(batch.skips.len(), 4);
    let bare = &batch.origins[2].origin;
    assert_eq!(bare.last_update, None);
    let metadata = &bare.extra_loader_arguments["aur_metadata"][0];
    assert_eq!((&metadata["project_url"], &metadata["last_update"]), (&Value::Null, &Value::Null));
}

#[test]
fn aur_a_broken_body_is_an_error_with_its_place() {
    let fails = |body: Vec<u8>, words: &[&str]| assert_fails(&aur(), &(), body, words);
    let text = json!([package("a", "a", "1-1"), package("b", "b", "1-1")]).to_string();
    fails(b"<html>502</html>".to_vec(), &["no JSON", "502"]);
    fails(Vec::new(), &["ends too early"]);
    fails(text.as_bytes()[..text.len() - 9].to_vec(), &["ends too early"]);
    fails(b"[{\"Name\":\"a\"}]".to_vec(), &["[0]", "PackageBase"]);
    fails(b"[null]".to_vec(), &["[0]"]);
    fails(b"{}".to_vec(), &["a list"]);
    let packed = gzip(&text);
    fails(packed[..packed.len() - 9].to_vec(), &["packages-meta-v1.json.gz", "gzip ends too early"]);
    fails(gzip("<html>"), &["no JSON"]);
    fails(gzip(&format!("[{}]", " ".repeat(20 << 20))), &["a bomb?"]);
}

#[test]
fn aur_takes_its_url() {
    assert_takes_its_url(
        "aur",
        "https://aur.archlinux.org/packages-meta-v1.json.gz",
        "https://h.example/aur/",
        "https://h.example/aur/packages-meta-v1.json.gz",
    );
    let below = Aur::new(&url("https://h.example/aur/"));
    let batch = read(&below, &(), json!([package("a", "a", "1")]).to_string()).unwrap();
    assert_eq!(urls(&batch), ["https://h.example/aur/packages/a", "https://h.example/aur/a.git"]);
}
