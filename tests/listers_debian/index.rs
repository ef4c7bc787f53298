//! Indexes: paragraphs to origins, in each compression, whole or not.

use std::io::Write;
use std::sync::{Arc, Mutex};

use lamplighter::model::{Artifact, NewOrigin};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NAMES: &[&str] = &["main/source/Sources.xz"];

fn index(body: impl Into<Vec<u8>>) -> Result<PageBatch, ListerError> {
    read(&debian(&[]), &index_at(NAMES, 0, true), answer(body))
}

fn origins(batch: &PageBatch) -> Vec<&NewOrigin> {
    batch.origins.iter().map(|s| &s.origin).collect()
}

const PARAGRAPH: &str = "Package: zlib+x\nVersion: 1:1.2-3~rc1\nDirectory: pool/main/z/zlib+x\nFiles:\n aa 10 z.dsc\n bb 20 z.tar.xz\nChecksums-Sha256:\n cc 10 z.dsc\nChecksums-Sha512:\n dd 10 z.dsc\nChecksums-Sha1:\n ee 20 z.tar.xz\n";

#[test]
fn a_paragraph_is_a_version_with_its_files() {
    let response = answer(PARAGRAPH).with_header("last-modified", "Tue, 24 Nov 2026 02:23:01 GMT");
    let batch = read(&debian(&[]), &index_at(NAMES, 0, true), response).unwrap();
    assert_eq!(batch.parts, ["sid/main".into()]);
    assert_eq!(batch.origins[0].part.as_deref(), Some("sid/main"));
    let origin = origins(&batch)[0];
    assert_eq!((origin.url.as_str(), origin.visit_type.as_str()), ("deb://Debian/packages/zlib+x", "deb"));
    assert_eq!(origin.last_update, Some(Timestamp::parse("2026-11-24T02:23:01Z").unwrap()));
    let file = |name: &str| format!("https://deb.example/debian/pool/main/z/zlib+x/{name}");
    let expected = json!({"name": "zlib+x", "version": "1:1.2-3~rc1", "files": {
        "z.dsc": {"name": "z.dsc", "uri": file("z.dsc"), "size": 10, "md5sum": "aa", "sha256": "cc", "sha512": "dd"},
        "z.tar.xz": {"name": "z.tar.xz", "uri": file("z.tar.xz"), "size": 20, "md5sum": "bb", "sha1": "ee"},
    }});
    assert_eq!(origin.artifacts, [Artifact::in_object("packages", "sid/main/1:1.2-3~rc1", expected)]);
    // Without a date there is none.
    assert_eq!(origins(&index(PARAGRAPH).unwrap())[0].last_update, None);
    let odd = answer(PARAGRAPH).with_header("last-modified", "soon");
    assert_eq!(origins(&read(&debian(&[]), &index_at(NAMES, 0, true), odd).unwrap())[0].last_update, None);
}

#[test]
fn odd_lists_of_files_are_read_as_far_as_they_go() {
    let text = "Package: p\nVersion: 1\nDirectory: /pool/p/\nFiles:\n aa ten p.dsc\n bb 20\n cc 30 p.tar more\n\nPackage: q\nVersion: 1\nDirectory: q\n";
    let batch = index(text).unwrap();
    let files = |i: usize| origins(&batch)[i].artifacts[0].value["files"].clone();
    let uri = |name: &str| format!("https://deb.example/debian/pool/p/{name}");
    assert_eq!(
        files(0),
        json!({
            "p.dsc": {"name": "p.dsc", "uri": uri("p.dsc"), "md5sum": "aa"},
            "p.tar": {"name": "p.tar", "uri": uri("p.tar"), "md5sum": "cc", "size": 30},
        })
    );
    assert_eq!(files(1), json!({}));
}

#[test]
fn each_compression_is_read_whatever_the_name_says() {
    let names = |file: &str| {
        let batch = index(fixture(file)).unwrap();
        origins(&batch).iter().map(|o| o.url.clone()).collect::<Vec<_>>()
    };
    let aptly = ["hello", "hello", "libfoo", "libfoo", "zlib+x", "zlib+x"]
        .map(|n| format!("deb://Debian/packages/{n}"));
    assert_eq!(names("aptly/run-1-trixie-main-source-Sources.bz2"), aptly);
    assert_eq!(names("reprepro/run-1-bookworm-main-source-Sources.xz").len(), 3);
    assert_eq!(names("gone/run-1-bookworm-main-source-Sources.gz").len(), 7);
    assert_eq!(index(PARAGRAPH).unwrap().origins.len(), 1);
    // As a server sends it that compressed it once more, or undid it.
    assert!(index(fixture("empty/run-1-empty-main-source-Sources.xz")).unwrap().origins.is_empty());
    assert!(index("").unwrap().origins.is_empty(), "an empty index is an index");
}

#[test]
fn a_paragraph_that_is_no_source_package_is_left_out() {
    let bad = [
        "Version: 1\nDirectory: d\n",
        "Package: p\nDirectory: d\n",
        "Package: p\nVersion: 1\n",
        "Package: a/b\nVersion: 1\nDirectory: d\n",
        "Package: a b\nVersion: 1\nDirectory: d\n",
    ];
    for text in bad {
        let batch = index(format!("{PARAGRAPH}\n{text}")).unwrap();
        assert_eq!((batch.origins.len(), batch.skips.len()), (1, 1), "{text}");
        assert_eq!(batch.skips[0].what, "the paragraph on line 14 of main/source/Sources.xz");
    }
    let said = parse_error(index(format!("{}\n{}", bad[0], bad[1])));
    assert!(said.contains("main/source/Sources.xz: none of 2 paragraphs is a source package"), "{said}");
}

#[test]
fn what_is_no_index_is_an_error_with_its_place() {
    let html = parse_error(index("<!DOCTYPE html>\n<html><title>502</title></html>\n"));
    assert!(html.contains("main/source/Sources.xz: line 1 is no field"), "{html}");
    let cut = parse_error(index(PARAGRAPH.trim_end().as_bytes().to_vec()));
    assert!(cut.contains("line 12 is cut"), "{cut}");
    let whole = fixture("basic/run-1-bookworm-main-source-Sources.xz");
    let cut = parse_error(index(&whole[..whole.len() / 2]));
    assert!(cut.contains("Sources.xz: the xz ends too early"), "{cut}");
    let mut bent = whole.clone();
    bent[whole.len() / 2] ^= 1;
    assert!(parse_error(index(bent)).contains("Sources.xz: broken xz"), "a bit that was turned");
}

#[test]
fn an_index_is_handed_over_as_it_is_read() {
    let paragraph =
        |n: u32| format!("Package: p{n}\nVersion: 1\nDirectory: pool/p/p{n}\nFiles:\n aa 1 p{n}.dsc\n\n");
    let text: String = (0..5_000).map(paragraph).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&sizes);
    let mut page = Page::new().with_flush(
        100,
        Box::new(move |batch| {
            kept.lock().unwrap().push(batch.origins.len());
            Ok(())
        }),
    );
    debian(&[]).page(&index_at(NAMES, 0, true), answer(gzip.finish().unwrap()), &mut page).unwrap();
    assert_eq!(page.finish().unwrap().origins.len(), 0);
    assert_eq!(*sizes.lock().unwrap(), vec![100; 50]);
    // And no further where the run was stopped.
    let stop = Box::new(|_| Err(ListerError::stopped()));
    let mut page = Page::new().with_flush(100, stop);
    let error = debian(&[]).page(&index_at(NAMES, 0, true), answer(text), &mut page).unwrap_err();
    assert_eq!(error.kind(), ListerErrorKind::Stopped);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_cut_or_bent_file_makes_it_panic(
        which in 0..4usize, at in any::<prop::sample::Index>(), len in 0..40usize, with in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let files = [
            "basic/run-1-bookworm-main-source-Sources.xz", "aptly/run-1-trixie-main-source-Sources.bz2",
            "gone/run-1-bookworm-main-source-Sources.gz", "basic/run-1-bookworm-InRelease",
        ];
        let mut bytes = fixture(files[which]);
        let from = at.index(bytes.len());
        let to = (from + len).min(bytes.len());
        bytes.splice(from..to, with);
        let _ = index(bytes.clone());
        let _ = read(&debian(&[]), &release_at(0), answer(bytes));
    }
}
