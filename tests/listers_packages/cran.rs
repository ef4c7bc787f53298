//! CRAN. The files are written by the description of R's serialisation ("R Internals", 1.8).

use lamplighter::lister::PageBatch;
use lamplighter::listers::Cran;
use lamplighter::model::Timestamp;
use serde_json::{Value, json};

use super::{assert_asks_once, assert_fails, assert_takes_its_url, gzip_bytes, read, url, urls};

fn cran() -> Cran {
    Cran::new(&url("https://cran.example/"))
}

fn word(n: i32) -> Vec<u8> {
    n.to_be_bytes().to_vec()
}

fn text(of: &str) -> Vec<u8> {
    [word(9 | 64 << 12), word(i32::try_from(of.len()).unwrap()), of.as_bytes().to_vec()].concat()
}

fn texts(of: &[&str]) -> Vec<u8> {
    let all: Vec<u8> = of.iter().flat_map(|t| text(t)).collect();
    [word(16), word(i32::try_from(of.len()).unwrap()), all].concat()
}

fn reals(of: &[f64]) -> Vec<u8> {
    let all: Vec<u8> = of.iter().flat_map(|n| n.to_be_bytes()).collect();
    [word(14), word(i32::try_from(of.len()).unwrap()), all].concat()
}

fn integers(of: &[i32]) -> Vec<u8> {
    let all: Vec<u8> = of.iter().flat_map(|n| n.to_be_bytes()).collect();
    [word(13), word(i32::try_from(of.len()).unwrap()), all].concat()
}

fn pair(tag: &str, value: &[u8]) -> Vec<u8> {
    [&word(2 | 1 << 10)[..], &word(1), &text(tag), value].concat()
}

const NIL: i32 = 254;

/// A frame of columns, and its attributes in this order.
fn frame(head: &[u8], columns: &[Vec<u8>], attributes: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs: Vec<u8> = attributes.iter().flat_map(|(tag, value)| pair(tag, value)).collect();
    let count = word(i32::try_from(columns.len()).unwrap());
    [head, &word(0x13 | 1 << 8 | 1 << 9), &count, &columns.concat(), &pairs, &word(NIL)].concat()
}

fn head(version: i32) -> Vec<u8> {
    let head = [b"X\n".to_vec(), word(version), word(0x0004_0301), word(0x0002_0300)].concat();
    if version == 3 { [head, word(5), b"UTF-8".to_vec()].concat() } else { head }
}

fn path(file: &str) -> String {
    format!("/srv/ftp/pub/R/src/contrib/{file}")
}

fn file(rows: &[(&str, f64, f64)]) -> Vec<u8> {
    let paths: Vec<String> = rows.iter().map(|(file, ..)| path(file)).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let sizes: Vec<f64> = rows.iter().map(|(_, size, _)| *size).collect();
    let times: Vec<f64> = rows.iter().map(|(.., time)| *time).collect();
    frame(
        &head(2),
        &[reals(&sizes), reals(&times)],
        &[
            ("names", texts(&["size", "mtime"])),
            ("class", texts(&["data.frame"])),
            ("row.names", texts(&paths)),
        ],
    )
}

fn list(rows: &[(&str, f64, f64)]) -> PageBatch {
    read(&cran(), &(), gzip_bytes(&file(rows))).unwrap()
}

#[test]
fn cran_asks_once() {
    assert_asks_once(&cran(), "https://cran.example/web/dbs/cran_info_db.rds");
}

#[test]
fn cran_lists_packages() {
    let batch = list(&[
        ("Archive/a.b/a.b_0.1.tar.gz", 7.0, 1_600_000_000.5),
        ("a.b_0.2-1.tar.gz", 8.0, 1_500_000_000.0),
        ("c_1.tar.gz", f64::NAN, f64::NAN),
    ]);
    let at = |name: &str| format!("https://cran.example/package={name}");
    assert_eq!(urls(&batch), [at("a.b"), at("a.b"), at("c")]);
    assert!(batch.origins.iter().all(|s| s.part.as_deref() == Some("files")));
    let origin = &batch.origins[0].origin;
    assert_eq!(
        (origin.visit_type.as_str(), origin.last_update),
        ("cran", Some(Timestamp::from_micros(1_600_000_000_500_000)))
    );
    let pieces: Vec<&Value> = batch.origins.iter().map(|s| &s.origin.artifacts[0].value).collect();
    let place = "https://cran.example/src/contrib";
    assert_eq!(
        pieces,
        [
            &json!({ "url": format!("{place}/Archive/a.b/a.b_0.1.tar.gz"), "version": "0.1", "package": "a.b", "checksums": { "length": 7 } }),
            &json!({ "url": format!("{place}/a.b_0.2-1.tar.gz"), "version": "0.2-1", "package": "a.b", "checksums": { "length": 8 } }),
            &json!({ "url": format!("{place}/c_1.tar.gz"), "version": "1", "package": "c", "checksums": { "length": null } }),
        ]
    );
    assert_eq!(batch.origins[2].origin.last_update, None);
}

#[test]
fn cran_versions_are_in_order() {
    let files = ["a_1.10.tar.gz", "a_1.9.tar.gz", "Archive/a/a_1.9.tar.gz", "a_1.9-2.tar.gz"];
    let batch = list(&files.map(|file| (file, 1.0, 1.0)));
    let mut keys: Vec<(&str, &Value)> = batch
        .origins
        .iter()
        .map(|s| (s.origin.artifacts[0].key.as_str(), &s.origin.artifacts[0].value["version"]))
        .collect();
    // Two files of one version have one key: the later one counts.
    assert_eq!(keys[1].0, keys[2].0);
    keys.sort_by_key(|(key, _)| *key);
    let versions: Vec<&Value> = keys.iter().map(|(_, version)| *version).collect();
    assert_eq!(versions, ["1.9", "1.9", "1.9-2", "1.10"]);
}

#[test]
fn cran_names_end_before_the_version() {
    let files = ["a.b_1.0-2.tar.gz", "old-name-0.1-2.tar.gz", "x-1.tar.gz"];
    let batch = list(&files.map(|file| (file, 1.0, 1.0)));
    let said: Vec<(&str, &str)> = batch
        .origins
        .iter()
        .map(|s| {
            let value = &s.origin.artifacts[0].value;
            (value["package"].as_str().unwrap(), value["version"].as_str().unwrap())
        })
        .collect();
    assert_eq!(said, [("a.b", "1.0-2"), ("old-name", "0.1-2"), ("x", "1")]);
}

#[test]
fn cran_reads_what_r_writes() {
    let plain = read(&cran(), &(), file(&[("a_1.tar.gz", 3.0, 4.0)])).unwrap();
    assert_eq!(plain.origins.len(), 1);
    let rows = [path("a_1.tar.gz")];
    let names = texts(&rows.each_ref().map(String::as_str));
    // A class, as wrapped vectors have it: symbols and a number in a list without tags.
    let class = |name: &str| {
        [word(2), word(1), text(name), word(2), word(1), text("base"), word(2), integers(&[14]), word(NIL)]
            .concat()
    };
    let wrapped = |name: &str, inner: &[u8]| {
        [&word(238)[..], &class(name), &word(2), inner, &integers(&[0, 0]), &word(NIL)].concat()
    };
    let classed = |column: Vec<u8>, class: &str| {
        let mut column = column;
        column[2] |= 2;
        [column, pair("class", &texts(&[class])), word(NIL)].concat()
    };
    let sequence = [word(238), class("compact_realseq"), reals(&[1.0, 3.0, 1.0]), word(NIL)].concat();
    let long = [&word(14)[..], &word(-1), &word(0), &word(1), &3.0_f64.to_be_bytes()].concat();
    // An environment, a namespace and a reference to a symbol, where no one looks.
    let odd = [word(4), word(0), word(253), word(NIL), word(NIL), word(NIL)].concat();
    let space = [word(249), word(0), word(1), text("base")].concat();
    let sizes = [reals(&[3.0]), integers(&[3]), wrapped("wrap_real", &reals(&[3.0])), sequence, long];
    for (version, size) in [2, 3, 2, 3, 2].into_iter().zip(sizes) {
        let columns = [
            texts(&["x"]),
            classed(reals(&[4.0]), "POSIXct"),
            size,
            [word(19), word(2), odd.clone(), space.clone()].concat(),
        ];
        let attributes = [
            ("row.names", wrapped("wrap_string", &names)),
            ("names", texts(&["uname", "mtime", "size", "more"])),
            ("other", [word(255 | 1 << 8)].concat()),
        ];
        let read = read(&cran(), &(), frame(&head(version), &columns, &attributes)).unwrap();
        assert_eq!(read, plain, "version {version}");
    }
}

#[test]
fn cran_other_files_are_counted() {
    let files = [
        "a_1.tar.gz",
        "Old/bootstrap.tar.gz",
        "PACKAGES.gz",
        "a_1.zip",
        "_1.tar.gz",
        "b_.tar.gz",
        "x/../b_1.tar.gz",
        "b\u{fc}_1.tar.gz",
    ];
    let batch = list(&files.map(|file| (file, 1.0, 1.0)));
    assert_eq!((batch.origins.len(), batch.skips.len()), (1, 7));
}

#[test]
fn cran_a_broken_file_is_an_error_with_its_place() {
    const WHAT: &str = "cran_info_db.rds";
    let whole = file(&[("a_1.tar.gz", 3.0, 4.0), ("b_1.tar.gz", 3.0, 4.0)]);
    for at in 0..whole.len() {
        assert_fails(&cran(), &(), whole[..at].to_vec(), &[WHAT, "it ends too early"]);
    }
    let packed = gzip_bytes(&whole);
    assert_fails(&cran(), &(), packed[..packed.len() - 9].to_vec(), &[WHAT, "the gzip ends too early"]);
    assert_fails(&cran(), &(), [&whole[..], b"x"].concat(), &[WHAT, "more after"]);
    assert_fails(&cran(), &(), "<html>down</html>", &[WHAT, "no file of R"]);
    assert_fails(&cran(), &(), [head(4), vec![0; 99]].concat(), &["version 4"]);
    assert_fails(&cran(), &(), [head(2), texts(&["x"])].concat(), &["no data frame"]);
    let names = |names: &[&str]| ("names", texts(names));
    let rows = |n: usize| ("row.names", texts(&vec!["/src/contrib/a_1.tar.gz"; n]));
    let columns = [reals(&[1.0]), reals(&[1.0])];
    let of = |attributes: &[_]| frame(&head(2), &columns, attributes);
    assert_fails(&cran(), &(), of(&[names(&["size", "x"]), rows(1)]), &["no column mtime"]);
    assert_fails(&cran(), &(), of(&[names(&["size", "mtime"])]), &["rows of the data frame have no names"]);
    assert_fails(&cran(), &(), of(&[names(&["size", "mtime"]), rows(2)]), &["has 1 values for 2 rows"]);
    assert_fails(
        &cran(),
        &(),
        of(&[names(&["mtime", "size"]), ("row.names", texts(&["x"]))]),
        &["none of 1 rows"],
    );
    let deep = [word(19), word(1)].concat().repeat(100_000);
    assert_fails(&cran(), &(), [head(2), deep].concat(), &["too deep"]);
    let count = [word(19), word(1), word(14), word(i32::MAX)].concat();
    assert_fails(&cran(), &(), [head(2), count].concat(), &["ends too early"]);
    let negative = [word(19), word(1), word(14), word(-2)].concat();
    assert_fails(&cran(), &(), [head(2), negative].concat(), &["negative length"]);
    let text = [word(19), word(1), word(9), word(i32::MAX)].concat();
    assert_fails(&cran(), &(), [head(2), text].concat(), &["text that is too long"]);
    let nowhere = [word(19), word(1), word(255 | 7 << 8)].concat();
    assert_fails(&cran(), &(), [head(2), nowhere].concat(), &["symbol 7, which is not there"]);
    let code = [word(19), word(1), word(21)].concat();
    assert_fails(&cran(), &(), [head(2), code].concat(), &["kind 21"]);
    assert_fails(&cran(), &(), [head(2), word(19), word(1_000_000)].concat(), &["1000000 columns"]);
    let endless =
        [word(238), word(2), word(1), text_of("compact_realseq"), word(NIL), reals(&[1e300, 1.0, 1.0])]
            .concat();
    let endless = frame(&head(2), &[endless, reals(&[1.0])], &[names(&["size", "mtime"]), rows(1)]);
    assert_fails(&cran(), &(), endless, &[WHAT]);
    assert_fails(&cran(), &(), gzip_bytes(&vec![0; 20 << 20]), &[WHAT]);
}

fn text_of(of: &str) -> Vec<u8> {
    text(of)
}

#[test]
fn cran_takes_its_url() {
    assert_takes_its_url(
        "cran",
        "https://cran.r-project.org/web/dbs/cran_info_db.rds",
        "https://mirror.example/CRAN/",
        "https://mirror.example/CRAN/web/dbs/cran_info_db.rds",
    );
}
