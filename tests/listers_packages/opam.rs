//! Repositories of opam.

use lamplighter::listers::Opam;
use lamplighter::transport::Body;
use serde_json::{Value, json};

use super::{assert_asks_once, assert_fails, build, build_error, gzip_bytes, read, run, tar, url, urls};

fn opam() -> Opam {
    Opam::new(&url("https://opam.example/r/"))
}

fn index(paths: &[&str]) -> Body {
    let files: Vec<(&str, &[u8])> = paths.iter().map(|p| (*p, &b"x"[..])).collect();
    gzip_bytes(&tar(&files)).into()
}

#[test]
fn opam_asks_once() {
    assert_asks_once(&opam(), "https://opam.example/r/index.tar.gz");
}

#[test]
fn opam_lists_packages() {
    let paths = [
        "packages/a/a.1/opam",
        "packages/b/b.1/opam",
        "packages/a/a.2/opam",
        "packages/a/a.2/files/x",
        "repo",
    ];
    let batch = read(&opam().with_root("/srv/o").with_instance("mine"), &(), index(&paths)).unwrap();
    assert_eq!(
        urls(&batch),
        ["opam+https://opam.example/r/packages/a/", "opam+https://opam.example/r/packages/b/"]
    );
    let origin = &batch.origins[0].origin;
    assert_eq!((origin.visit_type.as_str(), origin.last_update), ("opam", None));
    assert_eq!(
        Value::Object(origin.extra_loader_arguments.clone()),
        json!({ "opam_root": "/srv/o", "opam_instance": "mine", "opam_url": "https://opam.example/r", "opam_package": "a" })
    );
}

#[test]
fn opam_names_end_at_the_first_dot() {
    let paths = [
        "packages/a/a.v0.1.0~x/opam",
        "./packages/more/b+c/b+c.1.2/opam",
        "packages/d-e.3/opam",
        "sub/packages/f/f.1/opam",
    ];
    let batch = read(&opam(), &(), index(&paths)).unwrap();
    let names: Vec<&str> = urls(&batch).iter().map(|u| u.rsplit('/').nth(1).unwrap()).collect();
    assert_eq!(names, ["a", "b+c", "d-e", "f"]);
}

#[test]
fn opam_odd_names_are_counted() {
    let paths = [
        "packages/a/a.1/opam",
        "packages/1/1.1/opam",
        "packages/b/b/opam",
        "packages/x/\u{fc}.1/opam",
        "packages/x/.1/opam",
        "other/c/c.1/opam",
    ];
    let batch = read(&opam(), &(), index(&paths)).unwrap();
    assert_eq!((batch.origins.len(), batch.skips.len()), (1, 4));
}

#[test]
fn opam_an_empty_repository_is_one() {
    assert!(read(&opam(), &(), index(&["repo"])).unwrap().is_empty());
}

#[test]
fn opam_a_broken_archive_is_an_error_with_its_place() {
    let whole = index(&["packages/a/a.1/opam", "repo"]).bytes().unwrap();
    assert_fails(&opam(), &(), whole[..whole.len() - 12].to_vec(), &["index.tar.gz", "ends too early"]);
    assert_fails(&opam(), &(), "<html>", &["index.tar.gz", "no tar archive"]);
    assert_fails(&opam(), &(), "", &["no repository", "0 bytes"]);
    assert_fails(&opam(), &(), index(&["README"]), &["no repository"]);
    assert_fails(&opam(), &(), index(&["packages/1/1.1/opam", "repo"]), &["no repository"]);
    assert_fails(&opam(), &(), index(&["packages/a/../../opam"]), &["leads out"]);
}

#[test]
fn opam_takes_its_url() {
    let built = build("opam", &json!({ "url": "https://h.example:8080/x/" })).unwrap();
    assert_eq!(built.source.key().to_string(), "opam of h.example:8080");
    let start = built.source.start(&run(lamplighter::lister::Mode::Full)).unwrap();
    assert_eq!(
        built.source.request(&start[0]).unwrap().url.as_str(),
        "https://h.example:8080/x/index.tar.gz"
    );
    let named =
        build("opam", &json!({ "url": "https://h.example", "instance": "mine", "opam_root": "/o" })).unwrap();
    assert_eq!(named.source.key().to_string(), "opam of mine");
    assert!(build_error("opam", &json!({})).contains("url"));
    assert!(build_error("opam", &json!({ "url": "git+https://h.example/r" })).contains("http"));
}
