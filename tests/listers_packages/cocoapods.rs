//! CocoaPods.

use lamplighter::lister::{Failure, FailureKind, FollowKind, Lister, Mode, PageBatch, Verdict};
use lamplighter::listers::CocoaPods;
use lamplighter::listers::cocoapods::CocoaPodsCursor;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_fails, assert_takes_its_url, follows, read, run, url, urls};

fn pods() -> CocoaPods {
    CocoaPods::new(&url("https://cdn.example/"))
}

fn divisions(settings: &str) -> Vec<CocoaPodsCursor> {
    let batch = read(&pods(), &CocoaPodsCursor::Settings, settings.to_owned()).unwrap();
    follows(&batch).1.into_iter().map(|at| serde_json::from_value(at.clone()).unwrap()).collect()
}

fn division() -> CocoaPodsCursor {
    divisions("min: 1.0\nprefix_lengths:\n- 1\n- 1\n").remove(10)
}

fn list(lines: &str) -> PageBatch {
    read(&pods(), &division(), lines.to_owned()).unwrap()
}

fn pod() -> CocoaPodsCursor {
    serde_json::from_value(list("A/1.0\n").follows[0].cursor.clone()).unwrap()
}

fn asked(at: &CocoaPodsCursor) -> String {
    pods().request(at).unwrap().url.path().to_owned()
}

#[test]
fn cocoapods_asks_for_each_division() {
    assert_eq!(pods().start(&run(Mode::Full)), [CocoaPodsCursor::Settings]);
    let request = pods().request(&CocoaPodsCursor::Settings).unwrap();
    assert_eq!(request.url.as_str(), "https://cdn.example/CocoaPods-version.yml");
    assert_eq!(request.provenance, Provenance::Configured);
    for settings in
        ["---\nmin: 1\nprefix_lengths:\n- 1\n- 1\n- 1\nlast: 2\n", "prefix_lengths: [1, 1,1]\n- 7\n"]
    {
        // What follows an inline list is not of it.
        let settings = settings.replace("\n- 7", "\nother: 7");
        let all: Vec<String> = divisions(&settings).iter().map(asked).collect();
        assert_eq!(all.len(), 4096);
        assert_eq!(
            (all[0].as_str(), all[4095].as_str()),
            ("/all_pods_versions_0_0_0.txt", "/all_pods_versions_f_f_f.txt")
        );
    }
    let pairs: Vec<String> = divisions("min: 1\nprefix_lengths:\n  - 2\n").iter().map(asked).collect();
    assert_eq!((pairs.len(), pairs[10].as_str()), (256, "/all_pods_versions_0a.txt"));
    let whole: Vec<String> = divisions("min: 1.0\n").iter().map(asked).collect();
    assert_eq!(whole, ["/all_pods_versions.txt"]);
}

#[test]
fn cocoapods_pods_are_items() {
    let batch = list("A/1.9/1.10/1.2\n\nB+C/2.0-beta.1/1.0\nD/1.0-rc1/1.0-rc2\n");
    let latest: Vec<String> =
        batch.follows.iter().map(|f| asked(&serde_json::from_value(f.cursor.clone()).unwrap())).collect();
    assert_eq!(
        latest,
        [
            "/Specs/0/a/A/1.10/A.podspec.json",
            "/Specs/0/a/B+C/1.0/B+C.podspec.json",
            "/Specs/0/a/D/1.0-rc2/D.podspec.json"
        ]
    );
    let item = |lines: &str| {
        let FollowKind::Item { key, fingerprint } = list(lines).follows.remove(0).kind else {
            panic!("no item")
        };
        (key.to_string(), fingerprint)
    };
    assert_eq!(item("A/1.0\n").0, "pod A");
    assert_eq!(item("A/1.0\n"), item("\nA/1.0 \n"));
    assert_ne!(item("A/1.0\n"), item("A/1.0/0.9\n"));
}

#[test]
fn cocoapods_lists_sources() {
    let sum = "E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (source, url, visit_type) in [
        (json!({ "git": "https://github.com/o/a.git", "tag": "1" }), "https://github.com/o/a", "git"),
        (json!({ "git": "git@github.com:o/a.git" }), "https://github.com/o/a", "git"),
        (json!({ "hg": "https://h.example/a" }), "https://h.example/a", "hg"),
        (json!({ "svn": "https://h.example/a/" }), "https://h.example/a", "svn"),
        (
            json!({ "http": "https://h.example/a.zip", "sha256": sum }),
            "https://h.example/a.zip",
            "tarball-directory",
        ),
        (json!({ "http": "https://h.example/a", "sha256": sum }), "https://h.example/a", "tarball-directory"),
    ] {
        let body = json!({ "name": "A", "version": "1.0", "source": source }).to_string();
        let batch = read(&pods(), &pod(), body).unwrap();
        assert_eq!(urls(&batch), [url]);
        let origin = &batch.origins[0].origin;
        assert_eq!(origin.visit_type.as_str(), visit_type);
        let arguments = Value::Object(origin.extra_loader_arguments.clone());
        if visit_type == "tarball-directory" {
            let sums = json!({ "sha256": sum.to_lowercase() });
            assert_eq!(
                arguments,
                json!({ "checksums": sums, "checksum_layout": "standard", "fallback_urls": [] })
            );
        } else {
            assert_eq!(arguments, json!({}));
        }
    }
}

#[test]
fn cocoapods_what_is_not_there() {
    let verdict = |at: &CocoaPodsCursor, status: u16| {
        let kind = FailureKind::Status(http::StatusCode::from_u16(status).unwrap());
        pods().recover(at, &Failure::new(kind, "x")).verdict
    };
    assert!(matches!(verdict(&division(), 404), Verdict::Skip(_)));
    assert!(matches!(verdict(&pod(), 404), Verdict::Skip(_)));
    for at in [division(), pod(), CocoaPodsCursor::Settings] {
        assert_eq!(verdict(&at, 500), Verdict::Gap);
    }
    assert_eq!(verdict(&CocoaPodsCursor::Settings, 404), Verdict::Gap);
    // The only one there is has to be there.
    assert_eq!(verdict(&divisions("min: 1\n")[0], 404), Verdict::Gap);
}

#[test]
fn cocoapods_odd_pods_are_counted() {
    let batch = list("A/1.0\nB\n/1.0\n../1.0\nC/..\nD/1 0\nE/1.0/\n\u{fc}/1\n");
    assert_eq!((batch.follows.len(), batch.skips.len()), (1, 7));
    for source in [
        json!({}),
        json!(null),
        json!("x"),
        json!({ "git": "" }),
        json!({ "git": "git@h.example:a.git" }),
        json!({ "git": 7 }),
        json!({ "http": "https://h.example/a.zip" }),
        json!({ "http": "https://h.example/a.zip", "sha256": "x" }),
        json!({ "http": "no url", "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }),
        json!({ "http": "https://h.example/a.m", "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }),
    ] {
        let batch = read(&pods(), &pod(), json!({ "name": "A", "source": source }).to_string()).unwrap();
        assert_eq!((batch.origins.len(), batch.skips.len()), (0, 1), "{source}");
    }
}

#[test]
fn cocoapods_a_broken_body_is_an_error_with_its_place() {
    let settings = CocoaPodsCursor::Settings;
    for (body, words) in [
        ("<html>down</html>", "no settings"),
        ("", "after 0 bytes"),
        ("min: 1\nprefix_lengths: [1, x]\n", "in prefix_lengths"),
        ("min: 1\nprefix_lengths: [2, 2]\n", "in prefix_lengths"),
        ("min: 1\nprefix_lengths: [0]\n", "in prefix_lengths"),
        ("min: 1\nprefix_lengths: [99999999999999999999]\n", "in prefix_lengths"),
    ] {
        assert_fails(&pods(), &settings, body, &["CocoaPods-version.yml", words]);
    }
    assert_fails(&pods(), &division(), "A/1.0\nB/1.", &["the pods of 0_a", "line 2 is cut"]);
    assert_fails(&pods(), &division(), "<html>down</html>\n", &["none of 1 lines"]);
    assert_fails(&pods(), &division(), "", &["none of 0 lines", "after 0 bytes"]);
    assert_fails(&pods(), &pod(), "{\"source\": {", &["ends too early"]);
    assert_fails(&pods(), &pod(), r#"{"name": "B", "source": {}}"#, &["at name", "\"B\""]);
    assert_fails(&pods(), &pod(), r#"{"message": "x"}"#, &["name"]);
    assert_fails(&pods(), &pod(), "<html>down</html>", &["no JSON"]);
}

#[test]
fn cocoapods_takes_its_url() {
    assert_takes_its_url(
        "cocoapods",
        "https://cdn.cocoapods.org/CocoaPods-version.yml",
        "https://cdn.example/mine/",
        "https://cdn.example/mine/CocoaPods-version.yml",
    );
}
