//! Package registries: bytes in, page out. No driver, no network.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail")]

#[cfg(all(feature = "archives", feature = "html"))]
mod arch;
#[cfg(feature = "compression")]
mod aur;
#[cfg(all(feature = "compression", feature = "html"))]
mod bioconductor;
mod bower;
mod cocoapods;
#[cfg(feature = "compression")]
mod conda;
mod cpan;
#[cfg(feature = "compression")]
mod cran;
#[cfg(feature = "archives")]
mod crates;
mod dlang;
mod elm;
#[cfg(feature = "compression")]
mod gnu;
mod golang;
mod hackage;
mod hex;
mod homebrew;
#[cfg(feature = "archives")]
mod julia;
mod nixguix;
mod npm;
#[cfg(feature = "xml")]
mod nuget;
#[cfg(feature = "archives")]
mod opam;
#[path = "../common/pages.rs"]
mod pages;
mod pubdev;
mod puppet;
#[cfg(feature = "xml")]
mod pypi;
#[cfg(all(feature = "compression", feature = "xml"))]
mod rpm;
#[cfg(all(feature = "archives", feature = "xml"))]
mod rubygems;

#[cfg(feature = "compression")]
use std::io::Write;

use lamplighter::lister::{Coverage, FollowKind, Lister, ListerError, ListerErrorKind, Mode, PageBatch};
use lamplighter::transport::{Body, Provenance, Response};
use serde_json::{Value, json};

use pages::{answer_from, assert_error, build, build_error, read_answer, run, url, urls};

fn answer(body: impl Into<Body>) -> Response {
    answer_from("https://registry.example/p", body)
}

fn read<L: Lister>(lister: &L, at: &L::Cursor, body: impl Into<Body>) -> Result<PageBatch, ListerError> {
    read_answer(lister, at, answer(body))
}

/// The cursors that follow, those of the chain apart from those that stand alone.
fn follows(batch: &PageBatch) -> (Vec<&Value>, Vec<&Value>) {
    let of = |chain: bool| {
        let kind = |k: &FollowKind| matches!(k, FollowKind::Next { .. }) == chain;
        batch.follows.iter().filter(|f| kind(&f.kind)).map(|f| &f.cursor).collect()
    };
    (of(true), of(false))
}

/// It begins with one request, for a file that is configured, asked for conditionally and says all.
fn assert_asks_once<L: Lister<Cursor = ()>>(lister: &L, of: &str) {
    assert_eq!(lister.start(&run(Mode::Full)), [()]);
    let request = lister.request(&()).unwrap();
    assert_eq!((request.url.as_str(), request.provenance), (of, Provenance::Configured));
    assert!(request.validate);
    assert_eq!(lister.coverage(Mode::Full), Coverage::All);
}

/// A lister is called after itself and asks its public address first; with `url` and `instance` it is
/// called so, and asks there.
fn assert_takes_its_url(name: &str, public: &str, url: &str, first_there: &str) {
    let built = build(name, &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), format!("{name} of {name}"));
    let start = built.source.start(&run(Mode::Full)).unwrap();
    assert_eq!(built.source.request(&start[0]).unwrap().url.as_str(), public);
    let other = build(name, &json!({ "url": url, "instance": "mine" })).unwrap();
    assert_eq!(other.source.key().to_string(), format!("{name} of mine"));
    assert_eq!(other.source.request(&start[0]).unwrap().url.as_str(), first_there);
}

#[cfg(feature = "compression")]
fn gzip(text: &str) -> Vec<u8> {
    gzip_bytes(text.as_bytes())
}

#[cfg(feature = "compression")]
fn gzip_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// A tar archive of ordinary files, by the format's description (POSIX ustar).
#[cfg(feature = "archives")]
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, contents) in files {
        let mut block = [0_u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[148..156].copy_from_slice(b"        ");
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(block);
        out.extend(*contents);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend([0; 1024]);
    out
}

/// What is wrong with a page, which must say all of these words.
fn assert_fails<L: Lister>(lister: &L, at: &L::Cursor, body: impl Into<Body>, words: &[&str]) {
    assert_error(read(lister, at, body), ListerErrorKind::Parse, words);
}
