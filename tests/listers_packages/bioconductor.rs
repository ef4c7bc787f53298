//! Bioconductor.

use lamplighter::lister::{Failure, FailureKind, Lister, Mode, PageBatch, Recovery, Verdict};
use lamplighter::listers::Bioconductor;
use lamplighter::listers::bioconductor::BioconductorCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, assert_takes_its_url, build, build_error, follows, read, run, url, urls};

fn bioconductor() -> Bioconductor {
    Bioconductor::new(&url("https://bioc.example/"))
}

fn of(release: &str) -> Vec<BioconductorCursor> {
    bioconductor().with_releases([release]).start(&run(Mode::Full))
}

fn asked(release: &str) -> Vec<String> {
    let request = |at: &BioconductorCursor| bioconductor().request(at).unwrap();
    assert!(of(release).iter().all(|at| request(at).validate));
    of(release).iter().map(|at| request(at).url.path().to_owned()).collect()
}

fn row(release: &str, announced: &str) -> String {
    format!("<tr><td> {release} </td><td>May</td><td>{announced}</td></tr>")
}

fn table(rows: &[String]) -> String {
    format!("<html><title>R</title><table><tbody>{}</tbody></table></html>", rows.concat())
}

const LINK: &str = "<a href='/news'>9</a>";

fn package(more: &Value) -> Value {
    let mut package = json!({ "Package": "a", "Version": "1.2", "source.ver": "src/contrib/a_1.2.tar.gz" });
    package.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    package
}

fn list(index: &Value) -> PageBatch {
    read(&bioconductor(), &of("3.17")[0], index.to_string()).unwrap()
}

#[test]
fn bioconductor_asks_for_its_releases() {
    let bioconductor = bioconductor();
    assert_eq!(bioconductor.start(&run(Mode::Full)), [BioconductorCursor::Releases]);
    let request = bioconductor.request(&BioconductorCursor::Releases).unwrap();
    assert_eq!(request.url.as_str(), "https://bioc.example/about/release-announcements");
    assert_eq!(request.provenance, Provenance::Configured);
    let rows =
        [row("3.18", "soon"), row("3.17", LINK), row("x", LINK), "<tr></tr>".to_owned(), row("1.7", LINK)];
    let batch = read(&bioconductor, &BioconductorCursor::Releases, table(&rows)).unwrap();
    let expected: Vec<Value> =
        [of("1.7"), of("3.17")].concat().iter().map(|at| serde_json::to_value(at).unwrap()).collect();
    assert_eq!(follows(&batch), (vec![], expected.iter().collect()));
    assert_eq!(batch.skips.len(), 2);
}

#[test]
fn bioconductor_indexes_are_those_of_their_time() {
    assert_eq!(asked("1.7"), ["/packages/bioc/1.7/src/contrib/PACKAGES"]);
    let old = |release: &str| {
        ["bioc", "data/annotation", "data/experiment"]
            .map(|category| format!("/packages/{release}/{category}/src/contrib/PACKAGES"))
    };
    assert_eq!(asked("1.8"), old("1.8"));
    assert_eq!(asked("2.4"), old("2.4"));
    for release in ["2.5", "2.10", "3.17"] {
        let new = ["bioc", "workflows", "data/annotation", "data/experiment"]
            .map(|category| format!("/packages/json/{release}/{category}/packages.json"));
        assert_eq!(asked(release), new);
    }
}

#[test]
fn bioconductor_lists_packages() {
    let batch = list(&json!({
        "a": package(&json!({ "MD5sum": "5", "Date/Publication": "2023-06-30", "Depends": ["R"],
            "git_url": "https://git.bioc.example/packages/a", "git_last_commit_date": "2023-06-28" })),
        "b": package(&json!({ "Date/Publication": "2023-06-30 01:02:03 UTC" })),
        "c": package(&json!({ "Date/Publication": "soon" })),
    }));
    let at = |name: &str| format!("https://bioc.example/packages/{name}");
    assert_eq!(urls(&batch), [&at("a"), "https://git.bioc.example/packages/a", &at("b"), &at("c")]);
    let dates: Vec<_> =
        batch.origins.iter().map(|s| s.origin.last_update.map(Timestamp::as_seconds)).collect();
    assert_eq!(dates, [Some(1_688_083_200), Some(1_687_910_400), Some(1_688_083_200 + 3723), None]);
    let types: Vec<&str> = batch.origins.iter().map(|s| s.origin.visit_type.as_str()).collect();
    assert_eq!(types, ["bioconductor", "git", "bioconductor", "bioconductor"]);
    assert!(batch.origins.iter().all(|s| s.part.as_deref() == Some("3.17/bioc")));
    let piece = &batch.origins[0].origin.artifacts[0];
    assert_eq!((piece.field.as_str(), piece.key.as_str()), ("packages", "3.17/bioc/1.2"));
    let tar = "https://bioc.example/packages/3.17/bioc/src/contrib/a_1.2.tar.gz";
    assert_eq!(
        piece.value,
        json!({ "package": "a", "release": "3.17", "category": "bioc", "version": "1.2", "tar_url": tar,
            "checksums": { "md5": "5" }, "last_update_date": "2023-06-30" })
    );
    assert_eq!(batch.origins[3].origin.artifacts[0].value["last_update_date"], "soon");
}

#[test]
fn bioconductor_reads_old_indexes() {
    let index = "Package: a\nVersion: 1.2\nDepends: R,\n x\nMD5sum: 5\n\nPackage: b.c\nVersion: 0.1-2\n";
    let tars = |release: &str| -> Vec<Value> {
        let batch = read(&bioconductor(), &of(release)[0], index).unwrap();
        assert_eq!(batch.origins[0].origin.artifacts[0].value["checksums"], json!({ "md5": "5" }));
        assert_eq!(batch.origins[1].origin.artifacts[0].key, format!("{release}/bioc/0.1-2"));
        batch.origins.iter().map(|s| s.origin.artifacts[0].value["tar_url"].clone()).collect()
    };
    let at = |path: &str| format!("https://bioc.example/packages/{path}");
    assert_eq!(
        tars("1.7"),
        [at("bioc/1.7/src/contrib/Source/a_1.2.tar.gz"), at("bioc/1.7/src/contrib/Source/b.c_0.1-2.tar.gz")]
    );
    assert_eq!(
        tars("1.8"),
        [at("1.8/bioc/src/contrib/a_1.2.tar.gz"), at("1.8/bioc/src/contrib/b.c_0.1-2.tar.gz")]
    );
}

#[test]
fn bioconductor_a_release_may_lack_a_category() {
    let verdict = |at: &BioconductorCursor, status: u16| {
        let kind = FailureKind::Status(http::StatusCode::from_u16(status).unwrap());
        bioconductor().recover(at, &Failure::new(kind, "x"))
    };
    let indexes = of("3.17");
    assert!(matches!(verdict(&indexes[1], 404).verdict, Verdict::Skip(_)));
    for (at, status) in
        [(&indexes[0], 404), (&indexes[1], 500), (&indexes[1], 403), (&BioconductorCursor::Releases, 404)]
    {
        assert_eq!(verdict(at, status), Recovery::gap());
    }
}

#[test]
fn bioconductor_odd_packages_are_counted() {
    let batch = list(&json!({
        "a": package(&json!({ "git_url": "git@host.example:a.git" })),
        "b": package(&json!({ "Version": null })),
        "c": package(&json!({ "source.ver": ["x"] })),
        "../d": package(&json!({})),
        "e": package(&json!({ "source.ver": "../e.tar.gz" })),
        "f": package(&json!({ "Version": "1/2" })),
    }));
    assert_eq!((urls(&batch), batch.skips.len()), (vec!["https://bioc.example/packages/a"], 6));
    let old = read(
        &bioconductor(),
        &of("1.7")[0],
        "Package: a\nVersion: 1\n\nPackage: b\n\nPackage: a/b\nVersion: 1\n",
    );
    let old = old.unwrap();
    assert_eq!((old.origins.len(), old.skips.len()), (1, 2));
}

#[test]
fn bioconductor_a_broken_body_is_an_error_with_its_place() {
    let (lister, table_at) = (bioconductor(), BioconductorCursor::Releases);
    let whole = table(&[row("3.17", LINK)]);
    assert_fails(&lister, &table_at, whole[..whole.len() - 8].to_owned(), &["table of releases is cut"]);
    assert_fails(
        &lister,
        &table_at,
        table(&[row("3.17", "soon")]),
        &["no release that was announced", "\"R\""],
    );
    let index = &of("3.17")[0];
    let body = json!({ "a": package(&json!({})) }).to_string();
    assert_fails(
        &lister,
        index,
        body[..body.len() - 3].to_owned(),
        &["the index of 3.17/bioc ends too early"],
    );
    assert_fails(&lister, index, "<html>down</html>", &["no JSON"]);
    assert_fails(&lister, index, r#"{"a": 7}"#, &["3.17/bioc: at [\"a\"]"]);
    let old = &of("1.7")[0];
    assert_fails(&lister, old, "<html>down</html>\n", &["1.7/bioc", "line 1"]);
    assert_fails(&lister, old, "Package: a\nVersion: 1", &["line 2", "cut"]);
    assert_fails(&lister, old, "", &["none of 0 paragraphs"]);
    assert_fails(&lister, old, "Package: a\n\n", &["none of 1 paragraphs"]);
}

#[test]
fn bioconductor_takes_its_releases() {
    assert_takes_its_url(
        "bioconductor",
        "https://www.bioconductor.org/about/release-announcements",
        "https://mirror.example/bioc",
        "https://mirror.example/bioc/about/release-announcements",
    );
    let given = json!({ "releases": "3.8", "categories": "data/annotation,", "incremental": true });
    let built = build("bioconductor", &given).unwrap();
    let start = built.source.start(&run(Mode::Full)).unwrap();
    assert_eq!(start, [json!({ "index": { "release": "3.8", "category": "data/annotation" } })]);
    for bad in ["devel", "3", "3.x", "+3.1", "../1.2"] {
        assert!(build_error("bioconductor", &json!({ "releases": bad })).contains("no release"), "{bad}");
    }
    assert!(build_error("bioconductor", &json!({ "categories": "bioc,a/../b" })).contains("no category"));
}
