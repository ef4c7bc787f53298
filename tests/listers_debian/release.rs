//! Release files, requests, the catalogue, and what is done where something is not there.

use std::time::Duration;

use http::StatusCode;
use lamplighter::lister::{Coverage, Failure, FailureKind, Mode, Recovery, Registry, RunInfo, Verdict};
use lamplighter::model::JsonObject;
use lamplighter::transport::{Provenance, TransportErrorKind};
use serde_json::json;

use super::*;

fn names(cursor: &DebianCursor) -> (&str, &[String]) {
    match cursor {
        DebianCursor::Index { component, names, at: 0, listed: true, .. } => (component, names),
        other => panic!("{other:?}"),
    }
}

fn release(files: &str) -> String {
    format!("Suite: sid\nDate: Tue, 01 Sep 2026 00:13:05 UTC\nSHA256:\n{files}")
}

fn error(body: &str) -> String {
    parse_error(read(&debian(&[]), &release_at(0), answer(body)))
}

#[test]
fn a_suite_is_asked_for_its_release_file_first() {
    let lister = Debian::new(ARCHIVE.parse().unwrap(), "Debian", ["sid", "buster/updates"], ["main"]);
    let start = lister.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full));
    let asked: Vec<String> = start.iter().map(|c| lister.request(c).unwrap().url.to_string()).collect();
    assert_eq!(
        asked,
        [
            "https://deb.example/debian/dists/sid/InRelease",
            "https://deb.example/debian/dists/buster/updates/InRelease"
        ]
    );
    let first = lister.request(&start[0]).unwrap();
    assert_eq!((first.validate, first.provenance), (false, Provenance::Configured));
    let index = lister.request(&index_at(&["a", "main/source/Sources.gz"], 1, true)).unwrap();
    assert_eq!(index.url.as_str(), "https://deb.example/debian/dists/sid/main/source/Sources.gz");
    assert_eq!((index.validate, index.provenance), (true, Provenance::Configured));
    assert!(!lister.request(&index_at(&["a"], 0, false)).unwrap().validate);
    assert!(lister.request(&index_at(&["a"], 1, true)).is_err(), "a cursor that tries no place");
    assert_eq!(lister.coverage(Mode::Full), Coverage::All);
}

#[test]
fn cursors_keep_their_names() {
    let stored = [
        (json!({"release": {"suite": "sid", "at": 2}}), release_at(2)),
        (
            json!({"index": {"suite": "sid", "component": "main", "names": ["x", "y"], "at": 1, "listed": false}}),
            index_at(&["x", "y"], 1, false),
        ),
    ];
    for (json, cursor) in stored {
        assert_eq!(serde_json::to_value(&cursor).unwrap(), json);
        assert_eq!(serde_json::from_value::<DebianCursor>(json).unwrap(), cursor);
    }
}

#[test]
fn the_catalogue_makes_it_and_has_no_archive_of_its_own() {
    let build = |given: serde_json::Value| {
        let given: JsonObject = serde_json::from_value(given).unwrap();
        Registry::builtin().build("debian", &given).map(|b| b.source).map_err(|e| e.to_string())
    };
    let source = build(json!({"url": "https://deb.example/d/", "suites": " sid , trixie"})).unwrap();
    assert_eq!(source.key().to_string(), "debian of Debian");
    let start = source.start(&RunInfo::new(Timestamp::EPOCH, Mode::Full)).unwrap();
    let asked: Vec<String> = start.iter().map(|c| source.request(c).unwrap().url.to_string()).collect();
    assert_eq!(
        asked,
        ["https://deb.example/d/dists/sid/InRelease", "https://deb.example/d/dists/trixie/InRelease"]
    );
    let refused = |given| build(given).map(|_| ()).unwrap_err();
    assert!(refused(json!({"suites": "sid"})).contains("url"));
    assert!(refused(json!({"url": "https://deb.example"})).contains("suites"));
    assert!(refused(json!({"url": "https://deb.example", "suites": " , "})).contains("suites="));
    for suite in ["../x", "a//b", "a b", "/sid", "sid?x"] {
        let said = refused(json!({"url": "https://deb.example", "suites": suite}));
        assert!(said.starts_with("suites: ") && said.contains("is no name"), "{said}");
    }
    let said = refused(json!({"url": "https://deb.example", "suites": "sid", "components": "main,.."}));
    assert!(said.starts_with("components: "), "{said}");
    let said = refused(json!({"url": "https://deb.example", "suites": "sid", "instance": "a/b"}));
    assert!(said.starts_with("instance: "), "{said}");
}

#[test]
fn a_signed_release_file_names_the_smallest_form_of_each_index() {
    let body = fixture("basic/run-1-bookworm-InRelease");
    let text = String::from_utf8(body.clone()).unwrap();
    let plain = |component: &str| {
        let sums = text.split("SHA256:").nth(1).unwrap();
        let line = sums.lines().find(|l| l.ends_with(&format!(" {component}/source/Sources"))).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    let batch = read(&debian(&[]), &release_at(0), answer(body)).unwrap();
    let items = items(&batch);
    assert_eq!(items.len(), 2);
    let (key, print, cursor) = &items[0];
    assert_eq!(key, "sid/main");
    assert_eq!(print, &format!("{} Tue, 01 Sep 2026 00:13:05 UTC 0", plain("main")));
    // Archives name the plain file and do not serve it.
    let both = ["main/source/Sources.xz", "main/source/Sources.gz"].map(String::from);
    assert_eq!(names(cursor), ("main", &both[..]));
    assert_eq!(items[1].0, "sid/contrib");
    assert_eq!(names(&items[1].2), ("contrib", &["contrib/source/Sources.gz".to_owned()][..]));
    assert!(batch.skips.is_empty());
}

#[test]
fn an_index_is_read_again_when_it_the_release_file_or_the_week_changed() {
    let print = |sum: char, date: &str, at: Timestamp| {
        let sum = sum.to_string().repeat(64);
        let body = release(&format!(" {sum} 9 main/source/Sources\n")).replace("01 Sep", date);
        let mut response = answer(body);
        response.received_at = at;
        items(&read(&debian(&[]), &release_at(0), response).unwrap()).remove(0).1
    };
    let monday = Timestamp::from_seconds(1_700_000_000 / (7 * 86_400) * (7 * 86_400));
    let sunday = monday.plus(Duration::from_secs(7 * 86_400 - 1));
    assert_eq!(print('a', "01 Sep", monday), print('a', "01 Sep", sunday));
    assert_ne!(print('a', "01 Sep", monday), print('b', "01 Sep", monday));
    assert_ne!(print('a', "01 Sep", monday), print('a', "02 Sep", monday));
    assert_ne!(print('a', "01 Sep", sunday), print('a', "01 Sep", sunday.plus(Duration::from_secs(1))));
}

#[test]
fn release_files_come_in_several_shapes() {
    let found = |lister: &Debian, at, body: String| {
        let batch = read(lister, &release_at(at), answer(body)).unwrap();
        items(&batch).into_iter().map(|(key, _, cursor)| (key, names(&cursor).1.to_vec())).collect::<Vec<_>>()
    };
    let all = debian(&[]);
    let one = |name: &str| vec![("sid/main".to_owned(), vec![name.to_owned()])];
    // Only old sums; only the plain file; in the folder of security archives.
    let old = "Suite: sid\nMD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 main/source/Sources.bz2\n";
    assert_eq!(found(&all, 1, old.to_owned()), one("main/source/Sources.bz2"));
    assert_eq!(found(&all, 1, release(" ab 1 main/source/Sources\n")), one("main/source/Sources"));
    assert_eq!(
        found(&all, 2, release(" ab 1 main/source/Sources.gz\n")),
        one("updates/main/source/Sources.gz")
    );
    // A component may have slashes; a name that leads out of the archive is none.
    let odd =
        " ab 1 a/b/source/Sources.gz\n ab 1 ../../x/source/Sources.gz\n ab 1 /y/source/Sources.gz\n bad\n";
    let expected = vec![("sid/a/b".to_owned(), vec!["a/b/source/Sources.gz".to_owned()])];
    assert_eq!(found(&all, 0, release(odd)), expected);
    // A signed text escapes lines that begin with a dash.
    let signed = format!(
        "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n- {}-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n",
        release(" ab 1 main/source/Sources.gz\n")
    );
    assert_eq!(found(&all, 0, signed), one("main/source/Sources.gz"));
}

#[test]
fn a_component_that_a_suite_has_not_is_left_out_and_all_of_them_are_an_error() {
    let body = release(" ab 1 main/source/Sources.gz\n ab 1 contrib/source/Sources.gz\n");
    let batch = read(&debian(&["tales", "contrib"]), &release_at(0), answer(body.clone())).unwrap();
    assert_eq!(items(&batch).iter().map(|i| i.0.as_str()).collect::<Vec<_>>(), ["sid/contrib"]);
    assert_eq!(batch.skips[0].what, "sid/tales");
    // What it may have said before it says no longer.
    assert_eq!(batch.parts, ["sid/tales".into()]);
    let said = parse_error(read(&debian(&["tales"]), &release_at(0), answer(body)));
    assert!(said.contains("sid has none of the components wanted; it has main, contrib"), "{said}");
}

#[test]
fn what_is_no_release_file_is_an_error_that_says_why() {
    assert!(error("<!DOCTYPE html>\n<html></html>\n").contains("no release file: line 1 is no field"));
    assert!(error("").contains("without anything in it"));
    assert!(error("Suite: sid\n").contains("lists no files (SHA256, SHA1 or MD5Sum)"));
    let none = release(" ab 1 main/binary-amd64/Packages.gz\n");
    assert!(error(&none).contains("names no source index"));
    let whole = String::from_utf8(fixture("basic/run-1-bookworm-InRelease")).unwrap();
    for cut in [whole.len() / 2, whole.len() - 30] {
        assert!(error(&whole[..cut]).contains("cut: its signature has no end"), "{cut}");
    }
}

fn status(code: u16) -> Failure {
    Failure::new(FailureKind::Status(StatusCode::from_u16(code).unwrap()), code.to_string())
}

fn recover(at: &DebianCursor, failure: &Failure) -> Recovery<DebianCursor> {
    debian(&["main"]).recover(at, failure)
}

#[test]
fn what_is_not_there_is_looked_for_elsewhere_in_turn() {
    let mut asked = Vec::new();
    let mut at = release_at(0);
    loop {
        asked.push(debian(&["main"]).request(&at).unwrap().url.path().to_owned());
        let recovery = recover(&at, &status(404));
        assert_eq!((&recovery.verdict, recovery.follow.len()), (&Verdict::Replaced, 1));
        at = recovery.follow.into_iter().next().unwrap();
        let path = debian(&["main"]).request(&at).unwrap().url.path().to_owned();
        if asked.contains(&path) {
            // The search begins anew: the store calls that a gap.
            assert_eq!(path, "/debian/dists/sid/main/source/Sources.xz");
            break;
        }
    }
    let sources = |folder: &str| ["xz", "bz2", "gz"].map(|e| format!("{folder}main/source/Sources.{e}"));
    let mut expected =
        ["InRelease", "Release", "updates/InRelease", "updates/Release"].map(String::from).to_vec();
    expected.extend(sources(""));
    expected.push("main/source/Sources".into());
    expected.extend(sources("updates/"));
    expected.push("updates/main/source/Sources".into());
    let expected: Vec<String> = expected.iter().map(|e| format!("/debian/dists/sid/{e}")).collect();
    assert_eq!(asked, expected);
    // Without components, those that every archive had.
    let guessed = debian(&[]).recover(&release_at(3), &status(410)).follow;
    let components: Vec<String> = guessed
        .iter()
        .map(|c| match c {
            DebianCursor::Index { component, .. } => component.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(components, ["main", "contrib", "non-free"]);
}

#[test]
fn what_fails_otherwise_is_a_gap() {
    let listed = |at| index_at(&["a.xz", "a.gz"], at, true);
    let failures = [
        status(500),
        status(403),
        Failure::new(FailureKind::Parse, "x"),
        Failure::new(FailureKind::Transport(TransportErrorKind::Connect), "x"),
    ];
    for failure in &failures {
        for cursor in [release_at(0), listed(0), index_at(&["a", "b"], 0, false)] {
            assert_eq!(recover(&cursor, failure), Recovery::gap(), "{failure} at {cursor:?}");
        }
    }
    assert_eq!(recover(&listed(0), &status(404)).follow, [listed(1)]);
    let last = recover(&listed(1), &status(404));
    assert_eq!((last.verdict, last.follow.len()), (Verdict::Gap, 0));
    assert_eq!(last.note.as_deref(), Some("the release file names it"));
    let unknown = Failure::new(FailureKind::Transport(TransportErrorKind::NotRecorded), "x");
    assert_eq!(recover(&release_at(0), &unknown).follow, [release_at(1)]);
}
