//! Sources of Nix and Guix.

use http::Method;
use lamplighter::lister::{Failure, FailureKind, FollowKind, Lister, Mode, PageBatch, Recovery, Verdict};
use lamplighter::listers::NixGuix;
use lamplighter::listers::nixguix::NixGuixCursor;
use lamplighter::transport::{Auth, Provenance, Response, TransportErrorKind};
use serde_json::{Value, json};

use super::pages::{answer_from, read_answer};
use super::{assert_fails, build, build_error, read, run, url, urls};

const HASH: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn guix() -> NixGuix {
    NixGuix::new(&url("https://guix.example/sources.json/"), "https://git.example/guix.git/")
}

fn list(sources: &[Value]) -> PageBatch {
    let body = json!({ "version": "1", "sources": sources, "revision": "0" }).to_string();
    read(&guix(), &NixGuixCursor::Manifest, body).unwrap()
}

/// What an entry says, besides the distribution's own repository: URL, type and arguments.
fn said(source: Value) -> Vec<(String, String, Value)> {
    let batch = list(&[source]);
    assert_eq!((batch.skips.len(), batch.follows.len()), (0, 0), "{batch:?}");
    let rest = batch.origins.into_iter().skip(1).map(|s| s.origin);
    rest.map(|o| (o.url, o.visit_type.to_string(), Value::Object(o.extra_loader_arguments))).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "what is added is written where it is given")]
fn file(urls: &[&str], more: Value) -> Value {
    let mut file = json!({ "type": "url", "urls": urls, "integrity": HASH });
    file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    file
}

/// The item that an entry leads to: key, fingerprint, cursor.
fn item(source: Value) -> (String, String, NixGuixCursor) {
    let batch = list(&[source]);
    assert_eq!((batch.skips.len(), batch.follows.len(), batch.origins.len()), (0, 1, 1), "{batch:?}");
    let FollowKind::Item { key, fingerprint } = &batch.follows[0].kind else { panic!("no item") };
    (key.to_string(), fingerprint.clone(), serde_json::from_value(batch.follows[0].cursor.clone()).unwrap())
}

fn probed(at: &NixGuixCursor, response: Response) -> PageBatch {
    read_answer(&guix(), at, response).unwrap()
}

#[test]
fn nixguix_asks_for_the_manifest() {
    assert_eq!(guix().start(&run(Mode::Full)), [NixGuixCursor::Manifest]);
    let request = guix().request(&NixGuixCursor::Manifest).unwrap();
    assert_eq!(
        (request.url.as_str(), request.provenance),
        ("https://guix.example/sources.json", Provenance::Configured)
    );
    // Its follows would be lost with a 304.
    assert!(!request.validate);
    let batch = list(&[]);
    assert_eq!(urls(&batch), ["https://git.example/guix.git/"]);
}

#[test]
fn nixguix_lists_archives_and_files() {
    let archive = file(&["https://h.example/a.tar.gz", "https://m.example/a.tar.gz"], json!({}));
    assert_eq!(
        said(archive.clone()),
        [(
            "https://h.example/a.tar.gz".to_owned(),
            "tarball-directory".to_owned(),
            json!({ "checksums": { "sha256": HEX }, "checksum_layout": "standard",
                "fallback_urls": ["https://m.example/a.tar.gz"], "extrinsic_metadata": archive })
        )]
    );
    for (urls, visit_type) in [
        (&["h.example/a.zip"][..], "tarball-directory"),
        (&["https://h.example/a.c"], "content"),
        (&["ftp://h.example/x", "https://h.example/a.tgz"], "tarball-directory"),
    ] {
        let found = said(file(urls, json!({})));
        assert_eq!(found[0].1, visit_type);
    }
    assert_eq!(said(file(&["h.example/a.zip"], json!({})))[0].0, "http://h.example/a.zip");
}

#[test]
fn nixguix_lists_repositories_and_checkouts() {
    let plain = |source: Value| {
        let found = said(source);
        assert_eq!((found.len(), &found[0].2), (1, &json!({})));
        (found[0].0.clone(), found[0].1.clone())
    };
    let is = |url: &str, kind: &str| (url.to_owned(), kind.to_owned());
    assert_eq!(
        plain(json!({ "type": "git", "git_url": "https://h.example/r", "git_ref": "1" })),
        is("https://h.example/r", "git")
    );
    assert_eq!(plain(file(&["svn://h.example/t"], json!({}))), is("svn://h.example/t", "svn"));
    assert_eq!(plain(file(&["https://h.example/r.git"], json!({}))), is("https://h.example/r.git", "git"));
    let checked = |kind: &str, address: &str, revision: &str, more: Value| {
        let mut source = json!({ "type": kind, address: "https://h.example/r/", revision: "7",
            "outputHashMode": "recursive", "integrity": HASH });
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        said(source).remove(0)
    };
    let nar = |more: Value| {
        let mut all = json!({ "checksums": { "sha256": HEX }, "checksum_layout": "nar", "fallback_urls": [], "ref": "7" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    let git = checked("git", "git_url", "git_ref", json!({ "submodule": true }));
    let there = "https://h.example/r/".to_owned();
    assert_eq!(git, (there.clone(), "git-checkout".to_owned(), nar(json!({ "submodules": true }))));
    let hg = checked("hg", "hg_url", "hg_changeset", json!({ "submodule": false }));
    assert_eq!(hg, (there.clone(), "hg-checkout".to_owned(), nar(json!({}))));
    let svn = checked("svn", "svn_url", "svn_revision", json!({ "svn_revision": 7 }));
    assert_eq!(svn, (there.clone(), "svn-export".to_owned(), nar(json!({ "ref": 7 }))));
    let trees = checked("svn", "svn_url", "svn_revision", json!({ "svn_files": ["a/"] }));
    assert_eq!(
        trees,
        (
            format!("{there}?nar={HASH}"),
            "svn-export".to_owned(),
            nar(json!({ "svn_url": there, "svn_paths": ["a/"] }))
        )
    );
    // Each repository once.
    let source = json!({ "type": "git", "git_url": "https://h.example/r", "git_ref": "1" });
    assert_eq!(list(&[source.clone(), source]).origins.len(), 2);
}

#[test]
fn nixguix_asks_what_a_file_is() {
    let source = file(&["https://h.example/x", "ftp://h.example/x", "https://m.example/v1.0"], json!({}));
    let (key, print, at) = item(source.clone());
    assert_eq!(key, "file https://h.example/x");
    let mut changed = source.clone();
    changed["integrity"] = json!("sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    assert_eq!(item(changed.clone()).0, key);
    assert_ne!(item(changed).1, print);
    let request = guix().request(&at).unwrap();
    assert_eq!((request.method, request.url.as_str()), (Method::HEAD, "https://h.example/x"));
    assert_eq!(request.provenance, Provenance::Upstream);

    let answer = |name: &str, value: &str| answer_from("https://h.example/x", "").with_header(name, value);
    for (response, visit_type) in [
        (answer_from("https://cdn.example/x-1.tar.gz", ""), "tarball-directory"),
        (answer("content-disposition", "attachment; name=a; filename=x-1.zip; b=c"), "tarball-directory"),
        (answer("content-disposition", "attachment; FILENAME=\"x.patch\""), "content"),
        (answer("content-type", "application/gzip; charset=x"), "tarball-directory"),
        (answer("content-type", "Application/X-XZ"), "tarball-directory"),
        (answer("content-type", "text/plain"), "content"),
        (answer("content-type", "application/json"), "content"),
    ] {
        let origin = probed(&at, response).origins.remove(0).origin;
        assert_eq!((origin.url.as_str(), origin.visit_type.as_str()), ("https://h.example/x", visit_type));
        assert_eq!(origin.extra_loader_arguments["extrinsic_metadata"], source);
        assert_eq!(origin.extra_loader_arguments["fallback_urls"].as_array().unwrap().len(), 2);
    }
    // Nothing told: the next one that can be asked, and then no more.
    let next = probed(&at, answer("content-type", "application/octet-stream"));
    assert!(matches!(next.follows[0].kind, FollowKind::Next { .. }));
    let next: NixGuixCursor = serde_json::from_value(next.follows[0].cursor.clone()).unwrap();
    assert_eq!(guix().request(&next).unwrap().url.as_str(), "https://m.example/v1.0");
    let last = probed(&next, answer_from("https://m.example/v1.0", ""));
    assert_eq!((last.origins.len(), last.follows.len(), last.skips.len()), (0, 0, 1));
    // Nobody can be asked.
    assert_eq!(list(&[file(&["ftp://h.example/x"], json!({}))]).skips.len(), 1);
}

#[test]
fn nixguix_a_probe_may_fail() {
    let (.., at) = item(file(&["https://h.example/x", "https://m.example/x"], json!({})));
    let status = |code: u16| FailureKind::Status(http::StatusCode::from_u16(code).unwrap());
    let recover = |at: &NixGuixCursor, kind| guix().recover(at, &Failure::new(kind, "x"));
    for kind in [status(404), status(403), status(405), FailureKind::Transport(TransportErrorKind::Other)] {
        let Recovery { follow, verdict, .. } = recover(&at, kind);
        assert_eq!((follow.len(), &verdict), (1, &Verdict::Replaced));
        assert_eq!(guix().request(&follow[0]).unwrap().url.as_str(), "https://m.example/x");
        assert!(matches!(recover(&follow[0], kind).verdict, Verdict::Skip(_)));
    }
    for kind in [status(500), status(429), FailureKind::Parse] {
        assert_eq!(recover(&at, kind), Recovery::gap());
    }
    assert_eq!(recover(&NixGuixCursor::Manifest, status(404)), Recovery::gap());
}

#[test]
fn nixguix_asks_github_for_names() {
    let source = |url: &str| json!({ "type": "git", "git_url": url, "git_ref": "1" });
    let (key, _, at) = item(source("git://github.com/Owner/Name.git"));
    assert_eq!(key, "github owner/name");
    let request = guix().request(&at).unwrap();
    assert_eq!(request.url.as_str(), "https://api.github.com/repos/owner/name");
    assert_eq!((request.auth, request.provenance), (Auth::bearer(), Provenance::Upstream));
    let batch = read(&guix(), &at, r#"{"id": 1, "html_url": "https://github.com/New/name"}"#).unwrap();
    assert_eq!(urls(&batch), ["https://github.com/New/name"]);
    assert_fails(&guix(), &at, r#"{"html_url": "https://h.example/New/name"}"#, &["at html_url"]);
    assert_fails(&guix(), &at, "{}", &["html_url"]);
    let verdict = |code: u16| {
        let kind = FailureKind::Status(http::StatusCode::from_u16(code).unwrap());
        guix().recover(&at, &Failure::new(kind, "x")).verdict
    };
    assert!(matches!((verdict(404), verdict(451)), (Verdict::Skip(_), Verdict::Skip(_))));
    assert!(matches!((verdict(403), verdict(500), verdict(401)), (Verdict::Gap, Verdict::Gap, Verdict::Gap)));
    // Asked again when a month is over.
    let period = |at: i64| {
        let mut answer = answer_from(
            "https://guix.example/",
            json!({ "sources": [source("https://github.com/a/b")] }).to_string(),
        );
        answer.received_at = lamplighter::model::Timestamp::from_seconds(at);
        let batch = read_answer(&guix(), &NixGuixCursor::Manifest, answer).unwrap();
        let FollowKind::Item { fingerprint, .. } = &batch.follows[0].kind else { panic!("no item") };
        fingerprint.clone()
    };
    assert_eq!(period(0), period(29 * 86_400));
    assert_ne!(period(0), period(30 * 86_400));
    let lister = guix().with_canonical_names(false);
    let body = json!({ "sources": [source("https://github.com/Owner/Name.git")] }).to_string();
    let batch = read(&lister, &NixGuixCursor::Manifest, body).unwrap();
    assert_eq!(urls(&batch)[1..], ["https://github.com/Owner/Name.git"]);
}

#[test]
fn nixguix_lists_files_of_a_cache() {
    let cached = |info: &str, name: &str| {
        let source = file(
            &[&format!("https://h.example/{name}"), "https://m.example/x"],
            json!({ "narinfo": info, "outputHashMode": "recursive", "last_modified": "Wed, 15 Jul 2020 14:03:29 GMT" }),
        );
        list(&[source]).origins.remove(1).origin
    };
    let origin = cached("StorePath: /nix/store/x\nURL: nar/1.nar.xz\n", "a.txt");
    assert_eq!(origin.url, "https://cache.nixos.org/nar/1.nar.xz");
    assert_eq!(origin.visit_type.as_str(), "tarball-directory");
    assert_eq!(origin.last_update.unwrap().to_string(), "2020-07-15T14:03:29Z");
    let arguments = &origin.extra_loader_arguments;
    assert_eq!((&arguments["fallback_urls"], &arguments["checksum_layout"]), (&json!([]), &json!("nar")));
    assert_eq!(
        arguments["extrinsic_metadata"]["narinfo"],
        json!({ "StorePath": "/nix/store/x", "URL": "nar/1.nar.xz" })
    );
    for info in ["404", "StorePath: /nix/store/x\n", ""] {
        let origin = cached(info, "a.zip");
        assert_eq!((origin.url.as_str(), origin.last_update), ("https://h.example/a.zip", None), "{info:?}");
    }
}

#[test]
fn nixguix_reads_hashes() {
    let sums = |more: Value| {
        let mut source = file(&["https://h.example/a.zip"], more);
        source.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let found = said(source).remove(0).2;
        (found["checksums"].clone(), found["checksum_layout"].clone())
    };
    let expected = |layout: &str| (json!({ "sha256": HEX }), json!(layout));
    let bare = |hash: &str, mode: &str| {
        sums(
            json!({ "integrity": null, "outputHash": hash, "outputHashAlgo": "sha256", "outputHashMode": mode }),
        )
    };
    assert_eq!(sums(json!({ "outputHashMode": "flat" })), expected("standard"));
    assert_eq!(sums(json!({ "outputHashMode": "recursive" })), expected("nar"));
    assert_eq!(sums(json!({ "integrity": HASH.trim_end_matches('=') })), expected("standard"));
    assert_eq!(bare("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73", "nar"), expected("nar"));
    assert_eq!(bare(HEX, "flat"), expected("standard"));
    assert_eq!(bare(&format!("sha256:{HEX}"), "flat"), expected("standard"));
}

#[test]
fn nixguix_odd_entries_are_counted() {
    let bare = |source: Value| source;
    let url = |url: &str| file(&[url], json!({}));
    let odd = [
        bare(json!(7)),
        bare(json!({ "urls": ["https://h.example/a.zip"] })),
        bare(json!({ "type": false })),
        bare(json!({ "type": "no-origin" })),
        bare(json!({ "type": "url", "urls": [], "integrity": HASH })),
        bare(json!({ "type": "url", "urls": [7], "integrity": HASH })),
        bare(json!({ "type": "url", "urls": ["https://h.example/a.zip"] })),
        bare(json!({ "type": "git", "git_ref": "1" })),
        file(&["https://h.example/a.zip"], json!({ "integrity": "what" })),
        file(&["https://h.example/a.zip"], json!({ "outputHashMode": "text" })),
        file(&["https://h.example/a.txt"], json!({ "outputHashMode": "recursive" })),
        url("https://h.example/a.iso"),
        url("https://h.example/a.deb?x"),
        url("https://h.example/get?file=a.exe"),
        url("https://www.nuget.org/api/v2/package/x/1.zip"),
        url("unknown://h.example/a.zip"),
        url("ssh://git@h.example/a.zip"),
        url("git@h.example:a/b"),
    ];
    let batch = list(&odd);
    assert_eq!((batch.origins.len(), batch.skips.len()), (1, odd.len()), "{:?}", batch.skips);
    let both = list(&[odd.to_vec(), vec![url("https://h.example/good.zip")]].concat());
    assert_eq!(urls(&both)[1..], ["https://h.example/good.zip"]);
    // A checkout whose hash is none, of a repository that is one.
    let half = json!({ "type": "hg", "hg_url": "https://h.example/r", "hg_changeset": "1", "integrity": "x", "outputHashMode": "recursive" });
    let half = list(&[half]);
    assert_eq!((half.origins.len(), half.skips.len()), (2, 1));
    let ours = guix().without([".foobar"]);
    let body = json!({ "sources": [url("https://h.example/a.foobar")] }).to_string();
    assert_eq!(read(&ours, &NixGuixCursor::Manifest, body).unwrap().skips.len(), 1);
}

#[test]
fn nixguix_a_broken_manifest_is_an_error_with_its_place() {
    let whole = json!({ "sources": [file(&["https://h.example/a.zip"], json!({}))] }).to_string();
    for (body, words) in [
        (whole[..whole.len() - 3].to_owned(), "ends too early"),
        ("<html>down</html>".to_owned(), "no JSON"),
        ("{}".to_owned(), "there is no \"sources\""),
        (whole.replace('[', "{").replace(']', "}"), "list"),
        (String::new(), "ends too early"),
    ] {
        assert_fails(&guix(), &NixGuixCursor::Manifest, body, &[words]);
    }
    let broken = NixGuixCursor::Probe { entry: "{".to_owned(), at: 0 };
    assert!(guix().request(&broken).is_err());
}

#[test]
fn nixguix_takes_its_manifest() {
    let given = json!({ "url": "https://guix.example/sources.json", "origin_upstream": "https://git.example/guix.git" });
    let built = build("nixguix", &given).unwrap();
    assert_eq!(built.source.key().to_string(), "nixguix of guix.example");
    let mut named = given.clone();
    named["instance"] = json!("mine");
    named["extensions_to_ignore"] = json!(".x, .y");
    named["nixos_cache_url"] = json!("https://cache.example/");
    assert_eq!(build("nixguix", &named).unwrap().source.key().to_string(), "nixguix of mine");
    assert!(
        build_error("nixguix", &json!({ "url": "https://guix.example/sources.json" }))
            .contains("origin_upstream")
    );
    named["origin_upstream"] = json!("git@h:x");
    assert!(build_error("nixguix", &named).contains("origin_upstream"));
}
