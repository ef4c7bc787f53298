//! Arch Linux.

use lamplighter::lister::{FollowKind, Lister, Mode, PageBatch};
use lamplighter::listers::Arch;
use lamplighter::listers::arch::ArchCursor;
use lamplighter::model::Timestamp;
use serde_json::{Value, json};

use super::{assert_fails, build, build_error, gzip_bytes, read, run, tar, url, urls};

fn arch() -> Arch {
    Arch::new(&url("https://arch.example"))
}

fn at(flavour: &str, repo: &str) -> ArchCursor {
    serde_json::from_value(json!({ "repository": { "flavour": flavour, "arch": "aarch64", "repo": repo } }))
        .unwrap()
}

fn desc(name: &str, version: &str, more: &str) -> String {
    format!(
        "%FILENAME%\n{name}-{version}-any.pkg.tar.zst\n\n%NAME%\n{name}\n\n%VERSION%\n{version}\n\n%ARCH%\nany\n\n{more}\n\n"
    )
}

fn files(packages: &[(&str, String)]) -> Vec<u8> {
    let members: Vec<(String, &[u8])> =
        packages.iter().map(|(folder, desc)| (format!("{folder}/desc"), desc.as_bytes())).collect();
    gzip_bytes(&tar(&members.iter().map(|(p, d)| (p.as_str(), *d)).collect::<Vec<_>>()))
}

fn items(batch: &PageBatch) -> Vec<(String, String, ArchCursor)> {
    let item = |f: &lamplighter::lister::Follow| match &f.kind {
        FollowKind::Item { key, fingerprint } => {
            (key.to_string(), fingerprint.clone(), serde_json::from_value(f.cursor.clone()).unwrap())
        }
        other => panic!("{other:?}"),
    };
    batch.follows.iter().map(item).collect()
}

const BUILT: &str = "%BUILDDATE%\n1650000000\n\n%SHA256SUM%\nabc";

fn package(name: &str, version: &str) -> ArchCursor {
    let batch = read(&arch(), &at("official", "core"), files(&[("x", desc(name, version, BUILT))])).unwrap();
    items(&batch)[0].2.clone()
}

fn links(of: &[&str]) -> String {
    let links: Vec<String> = of
        .iter()
        .map(|href| format!("<a href=\"{href}\">{}..&gt;</a>  13-Feb-2019 08:36   78K\n", &href[..3]))
        .collect();
    format!("<html><title>Index of x</title><pre><a href=../>../</a>\n{}</pre></html>", links.concat())
}

#[test]
fn arch_asks_for_every_repository() {
    let asked: Vec<String> = arch()
        .start(&run(Mode::Full))
        .iter()
        .map(|at| {
            let request = arch().request(at).unwrap();
            // Only what leads to no items may be left unread.
            assert_eq!(request.validate, request.url.as_str().contains("arm"));
            request.url.to_string()
        })
        .collect();
    let official =
        |repo: &str| format!("https://archive.archlinux.org/repos/last/{repo}/os/x86_64/{repo}.files.tar.gz");
    let arm = |arch: &str, repo: &str| {
        format!("https://uk.mirror.archlinuxarm.org/{arch}/{repo}/{repo}.files.tar.gz")
    };
    let mut expected: Vec<String> = ["core", "extra", "multilib", "community"].map(official).to_vec();
    for name in ["armv7h", "aarch64"] {
        expected.extend(["core", "extra", "community"].map(|repo| arm(name, repo)));
    }
    assert_eq!(asked, expected);
    assert_eq!(
        arch().request(&package("lib++x", "1-1")).unwrap().url.as_str(),
        "https://archive.archlinux.org/packages/l/lib++x"
    );
}

#[test]
fn arch_packages_are_items() {
    let said = |desc: String| {
        let batch = read(&arch(), &at("official", "extra"), files(&[("x", desc)])).unwrap();
        assert!(batch.origins.is_empty());
        let (key, print, _) = items(&batch).remove(0);
        (key, print)
    };
    let (key, print) = said(desc("a", "1:2-1", BUILT));
    assert_eq!(key, "https://arch.example/packages/extra/any/a");
    assert_eq!(said(desc("a", "1:2-1", &format!("{BUILT}\n\n%DESC%\nother"))).1, print);
    for other in [
        desc("a", "1:2-2", BUILT),
        desc("a", "1:2-1", "%BUILDDATE%\n1\n\n%SHA256SUM%\nabc"),
        desc("a", "1:2-1", "%BUILDDATE%\n1650000000\n\n%SHA256SUM%\nabd"),
    ] {
        assert_ne!(said(other).1, print);
    }
}

#[test]
fn arch_lists_a_folder_of_versions() {
    let body =
        links(&["a-0.9-1-i686.pkg.tar.xz", "a-0.9-1-i686.pkg.tar.xz.sig", "a-1%3A2-1-any.pkg.tar.zst"]);
    let batch = read(&arch(), &package("a", "1:2-1"), body).unwrap();
    assert_eq!(urls(&batch), ["https://arch.example/packages/core/any/a"]);
    let origin = &batch.origins[0].origin;
    assert_eq!(origin.last_update, Some(Timestamp::from_seconds(1_650_000_000)));
    assert_eq!(
        Value::Object(origin.extra_loader_arguments.clone()),
        json!({
            "artifacts": [
                { "version": "0.9-1", "filename": "a-0.9-1-i686.pkg.tar.xz", "checksums": {},
                  "url": "https://archive.archlinux.org/packages/a/a/a-0.9-1-i686.pkg.tar.xz" },
                { "version": "1:2-1", "filename": "a-1:2-1-any.pkg.tar.zst", "checksums": { "sha256": "abc" },
                  "url": "https://archive.archlinux.org/packages/a/a/a-1:2-1-any.pkg.tar.zst" },
            ],
            "arch_metadata": [
                { "version": "0.9-1", "name": "a", "arch": "i686", "repo": "core", "last_modified": "2019-02-13T08:36:00" },
                { "version": "1:2-1", "name": "a", "arch": "any", "repo": "core", "last_modified": "2019-02-13T08:36:00" },
            ],
        })
    );
}

#[test]
fn arch_other_links_make_no_version() {
    let good = "a-1-1-any.pkg.tar.zst";
    let odd = [
        "a-b-1-1-any.pkg.tar.zst",
        "a-1-any.pkg.tar.xz",
        "a-1-1-ppc.pkg.tar.xz",
        "b-1-1-any.pkg.tar.xz",
        "a.tar.xz",
    ];
    // The first link as well as those after a good one.
    let all: Vec<&str> = odd[..1].iter().chain([&good]).chain(&odd[1..]).copied().collect();
    let batch = read(&arch(), &package("a", "2-1"), links(&all)).unwrap();
    assert_eq!(batch.skips.len(), odd.len());
    let artifacts = &batch.origins[0].origin.extra_loader_arguments["artifacts"];
    assert_eq!(artifacts.as_array().unwrap().len(), 1);
    assert_eq!(artifacts[0]["checksums"], json!({}));
    let ignored = links(&["a-1-1-any.pkg.tar.zst.sig", "x.txt", good]);
    assert_eq!(read(&arch(), &package("a", "2-1"), ignored).unwrap().skips.len(), 0);
}

#[test]
fn arch_lists_arm_from_its_file() {
    let batch = read(
        &arch(),
        &at("arm", "core"),
        files(&[("x", desc("a", "1-1", &format!("{BUILT}\n\n%MD5SUM%\nd41d")))]),
    )
    .unwrap();
    assert!(batch.follows.is_empty());
    let origin = &batch.origins[0].origin;
    assert_eq!(origin.url, "https://archlinuxarm.org/packages/any/a");
    assert_eq!(origin.last_update, Some(Timestamp::from_seconds(1_650_000_000)));
    let said: Vec<(&str, &Value)> = origin.artifacts.iter().map(|a| (a.field.as_str(), &a.value)).collect();
    let artifact = json!({ "version": "1-1", "filename": "a-1-1-any.pkg.tar.zst", "checksums": { "md5": "d41d", "sha256": "abc" },
        "url": "https://uk.mirror.archlinuxarm.org/aarch64/core/a-1-1-any.pkg.tar.zst" });
    let metadata = json!({ "version": "1-1", "name": "a", "arch": "any", "repo": "core", "last_modified": "2022-04-15T05:20:00" });
    assert_eq!(said, [("artifacts", &artifact), ("arch_metadata", &metadata)]);
}

#[test]
fn arch_odd_packages_are_counted() {
    let bare = desc("bare", "1-1", "%DEPENDS%\nglibc\nsh>=1\n\n%BUILDDATE%\nsoon");
    let packages = [
        ("a", desc("a/b", "1-1", "")),
        ("b", desc("..", "1-1", "")),
        ("c", "%NAME%\nc\n".to_owned()),
        ("d", String::new()),
        ("bare", bare),
    ];
    let batch = read(&arch(), &at("arm", "core"), files(&packages)).unwrap();
    assert_eq!((urls(&batch), batch.skips.len()), (vec!["https://archlinuxarm.org/packages/any/bare"], 4));
    let origin = &batch.origins[0].origin;
    assert_eq!(origin.last_update, None);
    assert_eq!(origin.artifacts[0].value["checksums"], json!({}));
    assert_eq!(origin.artifacts[1].value["last_modified"], Value::Null);
    assert!(read(&arch(), &at("arm", "core"), files(&[])).unwrap().is_empty());
}

#[test]
fn arch_a_repository_that_has_gone() {
    use lamplighter::lister::{Failure, FailureKind, Verdict};
    let verdict = |at: &ArchCursor, status: u16| {
        let kind = FailureKind::Status(http::StatusCode::from_u16(status).unwrap());
        arch().recover(at, &Failure::new(kind, "x")).verdict
    };
    assert!(matches!(verdict(&at("official", "community"), 404), Verdict::Skip(_)));
    assert_eq!(verdict(&at("official", "community"), 500), Verdict::Gap);
    assert_eq!(verdict(&at("official", "core"), 404), Verdict::Gap);
    assert_eq!(verdict(&package("a", "1-1"), 404), Verdict::Gap);
}

#[test]
fn arch_a_broken_body_is_an_error_with_its_place() {
    let file = at("official", "core");
    let whole = files(&[("x", desc("a", "1-1", BUILT))]);
    assert_fails(
        &arch(),
        &file,
        whole[..whole.len() - 20].to_vec(),
        &["core.files.tar.gz", "ends too early"],
    );
    assert_fails(&arch(), &file, "<html>502</html>", &["core.files.tar.gz", "no tar archive"]);
    assert_fails(&arch(), &file, Vec::new(), &["core.files.tar.gz"]);
    assert_fails(&arch(), &file, files(&[("x", "none".to_owned())]), &["none of 1 packages"]);
    assert_fails(&arch(), &file, gzip_bytes(&tar(&[("../x/desc", b"x")])), &["leads out"]);
    let folder = package("a", "1-1");
    let page = links(&["a-1-1-any.pkg.tar.zst"]);
    assert_fails(&arch(), &folder, page[..page.len() - 20].to_owned(), &["breaks off", "Index of x"]);
    assert_fails(&arch(), &folder, links(&[]), &["no version of the package"]);
    assert_fails(&arch(), &folder, "", &["breaks off"]);
}

#[test]
fn arch_takes_its_flavours() {
    let flavours = json!({ "official": { "repos": ["core"], "base_info_url": "https://i.example/", "base_archive_url": "https://a.example/x/" } });
    for given in [flavours.clone(), Value::from(flavours.to_string())] {
        let built = build("arch", &json!({ "flavours": given, "instance": "mine" })).unwrap();
        assert_eq!(built.source.key().to_string(), "arch of mine");
        let start = built.source.start(&run(Mode::Full)).unwrap();
        assert_eq!(start.len(), 1);
        let asked = built.source.request(&start[0]).unwrap();
        assert_eq!(asked.url.as_str(), "https://a.example/x/repos/last/core/os/x86_64/core.files.tar.gz");
    }
    let whole = build("arch", &json!({})).unwrap();
    assert_eq!(whole.source.key().to_string(), "arch of arch");
    assert_eq!(whole.source.start(&run(Mode::Full)).unwrap().len(), 10);
    for (wrong, words) in [
        (json!("x"), "in JSON"),
        (json!({}), "no flavour"),
        (json!({ "risc": {} }), "neither official nor arm"),
        (json!({ "arm": { "repos": ["../x"] } }), "no name"),
        (json!({ "arm": { "base_mirror_url": "x" } }), "no URL"),
        (json!({ "arm": { "mirror": "x" } }), "unknown field"),
    ] {
        let error = build_error("arch", &json!({ "flavours": wrong }));
        assert!(error.contains(words), "{error}");
    }
}
