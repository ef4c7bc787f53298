//! Registries of Julia.

use lamplighter::lister::{Failure, FailureKind, FollowKind, Lister, Mode, PageBatch, Verdict};
use lamplighter::listers::Julia;
use lamplighter::listers::julia::JuliaCursor;
use lamplighter::transport::{Body, Provenance};
use serde_json::json;

use super::{assert_fails, assert_takes_its_url, gzip_bytes, read, run, tar, url, urls};

fn julia() -> Julia {
    Julia::new(&url("https://pkg.example/"))
}

fn uuid(of: &str) -> String {
    format!("{}-0000-0000-0000-000000000000", of.repeat(8))
}

fn line(of: &str, tree: &str) -> String {
    format!("/registry/{}/{}\n", uuid(of), tree.repeat(40))
}

fn list() -> PageBatch {
    let lines = [("a", "0"), ("b", "1")].map(|(uuid, tree)| line(uuid, tree));
    read(&julia(), &JuliaCursor::Registries, lines.join("\n")).unwrap()
}

fn registry() -> JuliaCursor {
    serde_json::from_value(list().follows[0].cursor.clone()).unwrap()
}

fn archive(packages: &[(&str, &str)]) -> Body {
    let mut files: Vec<(&str, &[u8])> = vec![("Registry.toml", b"[packages]\n")];
    files.extend(packages.iter().map(|(path, text)| (*path, text.as_bytes())));
    gzip_bytes(&tar(&files)).into()
}

fn repositories(texts: &[&str]) -> PageBatch {
    let paths: Vec<String> = (0..texts.len()).map(|n| format!("P/P{n}/Package.toml")).collect();
    let packages: Vec<(&str, &str)> = paths.iter().map(String::as_str).zip(texts.iter().copied()).collect();
    read(&julia(), &registry(), archive(&packages)).unwrap()
}

#[test]
fn julia_registries_are_items() {
    assert_eq!(julia().start(&run(Mode::Full)), [JuliaCursor::Registries]);
    let request = julia().request(&JuliaCursor::Registries).unwrap();
    assert_eq!(
        (request.url.as_str(), request.provenance),
        ("https://pkg.example/registries", Provenance::Configured)
    );
    let items: Vec<(String, String)> = list()
        .follows
        .iter()
        .map(|f| match &f.kind {
            FollowKind::Item { key, fingerprint } => (key.to_string(), fingerprint.clone()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        [("a", "0"), ("b", "1")].map(|(of, tree)| (format!("registry {}", uuid(of)), tree.repeat(40)));
    assert_eq!(items, expected);
    let asked = julia().request(&registry()).unwrap().url;
    assert_eq!(asked.as_str(), format!("https://pkg.example/registry/{}/{}", uuid("a"), "0".repeat(40)));
}

#[test]
fn julia_lists_repositories() {
    let batch = repositories(&[
        "name = \"A\"\nuuid = \"x\"\nrepo = \"https://github.com/o/A.jl.git\"\n",
        "repo = \"https://git.example/B.jl.git\"\n",
        "repo = \"https://github.com/o/A.jl\"\nsubdir = \"lib\"\n",
    ]);
    assert_eq!(urls(&batch), ["https://github.com/o/A.jl", "https://git.example/B.jl.git"]);
    assert!(
        batch.origins.iter().all(|s| s.origin.visit_type.as_str() == "git" && s.origin.last_update.is_none())
    );
    assert!(batch.skips.is_empty());
    // Other files, and folders, say nothing.
    let other = [
        ("P/Versions.toml", "repo = \"https://h.example/x\"\n"),
        ("Package.toml", "repo = \"https://h.example/x\"\n"),
    ];
    assert!(read(&julia(), &registry(), archive(&other)).unwrap().is_empty());
}

#[test]
fn julia_reads_texts_of_toml() {
    let batch = repositories(&[
        "repo='https://h.example/a' # x\n",
        "  \"repo\"  =  \"https://h.example/\\u0062\" # \"x\"\r\n",
        "# repo = \"https://h.example/no\"\nrepository = \"https://h.example/no\"\nrepo = \"https://h.example/c=d\"",
        "name = \"x\"\n[table]\nrepo = \"https://h.example/no\"\n",
    ]);
    assert_eq!(urls(&batch), ["https://h.example/a", "https://h.example/b", "https://h.example/c=d"]);
    assert_eq!(batch.skips.len(), 1);
}

#[test]
fn julia_odd_packages_are_counted() {
    let batch = repositories(&[
        "repo = \"https://h.example/a\"\n",
        "repo = \"git@h.example:b\"\n",
        "repo = \"\"\n",
        "repo = 7\n",
        "repo = \"https://h.example/c\n",
        "",
        "\u{0}\u{fffd}",
    ]);
    assert_eq!((urls(&batch), batch.skips.len()), (vec!["https://h.example/a"], 6));
    assert!(batch.skips[0].what.starts_with("P/P1"), "{:?}", batch.skips);
}

#[test]
fn julia_a_broken_body_is_an_error_with_its_place() {
    let at = JuliaCursor::Registries;
    for (body, words) in [
        ("<html>down</html>".to_owned(), "line 1 of registries is none"),
        (line("a", "0") + "/registry/../x\n", "line 2 of registries"),
        // Cut within the last one.
        (line("a", "0") + &line("b", "1")[..60], "line 2 of registries"),
        (String::new(), "after 0 bytes"),
    ] {
        assert_fails(&julia(), &at, body, &[words]);
    }
    let whole = archive(&[("A/A/Package.toml", "repo = \"https://h.example/a\"\n")]).bytes().unwrap();
    assert_fails(
        &julia(),
        &registry(),
        whole[..whole.len() - 12].to_vec(),
        &["the registry", "ends too early"],
    );
    assert_fails(&julia(), &registry(), "<html>", &["no tar archive"]);
    assert_fails(&julia(), &registry(), "", &["Registry.toml is not there"]);
    let bare = gzip_bytes(&tar(&[("A/A/Package.toml", b"repo = \"https://h.example/a\"\n")]));
    assert_fails(&julia(), &registry(), bare, &["Registry.toml is not there"]);
    assert_fails(
        &julia(),
        &registry(),
        archive(&[("A/A/Package.toml", "x")]),
        &["1 packages, 0 repositories"],
    );
    assert_fails(&julia(), &registry(), archive(&[("A/../../Package.toml", "x")]), &["leads out"]);
}

#[test]
fn julia_a_registry_that_went_is_counted() {
    let missing = Failure::new(FailureKind::Status(http::StatusCode::NOT_FOUND), "x");
    assert!(matches!(julia().recover(&registry(), &missing).verdict, Verdict::Skip(_)));
    let sick = Failure::new(FailureKind::Status(http::StatusCode::BAD_GATEWAY), "x");
    assert_eq!(julia().recover(&registry(), &sick).verdict, Verdict::Gap);
    assert_eq!(julia().recover(&JuliaCursor::Registries, &missing).verdict, Verdict::Gap);
}

#[test]
fn julia_takes_its_url() {
    assert_takes_its_url(
        "julia",
        "https://pkg.julialang.org/registries",
        "https://pkg.example/x/",
        "https://pkg.example/x/registries",
    );
    assert!(super::build_error("julia", &json!({ "url": "git@h:x" })).contains("http"));
}
