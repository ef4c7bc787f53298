//! The Rust registry.

use http::{Method, StatusCode};
use lamplighter::lister::{
    Coverage, Failure, FailureKind, Incremental, Lister, ListerError, ListerErrorKind, Mode, Page, PageBatch,
    Verdict,
};
use lamplighter::listers::Crates;
use lamplighter::listers::crates::{CratesCursor, CratesState};
use lamplighter::transport::{Auth, Provenance};
use serde_json::{Value, json};

use super::{answer, build, build_error, read, run, url, urls};

const METADATA: &str = r#"{"timestamp": "2026-10-04T02:00:27.645191645Z", "crates_io_commit": "0"}"#;
const MADE: &str = "2026-10-04T02:00:27.645191Z";
const SUM: &str = "0123456789abcdefABCDEF00000000000000000000000000000000000000ff00";
const HEAD: &str = "checksum,crate_id,num,updated_at,yanked";

fn crates() -> Crates {
    Crates::new(&url("https://www.example/"), &url("https://static.example"))
}

fn cursor(of: &Value) -> CratesCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn since(date: &str) -> CratesCursor {
    cursor(&json!({ "since": date }))
}

fn all() -> CratesCursor {
    cursor(&json!({}))
}

/// A member of an archive after the format's description (POSIX ustar): path, type, contents.
fn member(path: &str, kind: u8, contents: &str) -> Vec<u8> {
    let mut block = vec![0_u8; 512];
    block[..path.len()].copy_from_slice(path.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[124..136].copy_from_slice(format!("{:011o}\0", contents.len()).as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[148..156].copy_from_slice(b"        ");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend(contents.as_bytes());
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

/// The members of a dump in their usual order.
fn parts(crates: &str, versions: &str) -> [Vec<u8>; 3] {
    [
        member("./2026-10-04-020027/metadata.json", b'0', METADATA),
        member("./2026-10-04-020027/data/crates.csv", b'0', crates),
        member("./2026-10-04-020027/data/versions.csv", b'0', versions),
    ]
}

fn tables(crates: &[&str], versions: &[&str]) -> Vec<u8> {
    let table = |head: &str, rows: &[&str]| format!("{head}\n{}\n", rows.join("\n"));
    archive(&parts(&table("id,name,updated_at", crates), &table(HEAD, versions)))
}

fn list(at: &CratesCursor, dump: Vec<u8>) -> PageBatch {
    read(&crates(), at, dump).unwrap()
}

fn artifacts(batch: &PageBatch, n: usize) -> &Vec<Value> {
    batch.origins[n].origin.extra_loader_arguments["artifacts"].as_array().unwrap()
}

fn numbers(batch: &PageBatch, n: usize) -> Vec<&str> {
    artifacts(batch, n).iter().map(|a| a["version"].as_str().unwrap()).collect()
}

fn dates(batch: &PageBatch) -> Vec<Option<String>> {
    batch.origins.iter().map(|s| s.origin.last_update.map(|d| d.to_string())).collect()
}

fn error(dump: Vec<u8>) -> ListerError {
    let error = read(&crates(), &all(), dump).unwrap_err();
    assert_eq!(error.kind(), ListerErrorKind::Parse, "{error}");
    error
}

#[test]
fn crates_asks_for_the_dump() {
    let [first] = &crates().start(&run(Mode::Full))[..] else { panic!() };
    assert_eq!(*first, all());
    let request = crates().request(first).unwrap();
    assert_eq!(request.method, Method::GET);
    assert_eq!(request.url.as_str(), "https://static.example/db-dump.tar.gz");
    assert_eq!((request.auth, request.provenance), (Auth::None, Provenance::Configured));
    assert!(request.headers.is_empty() && !request.validate);
    let below = Crates::new(&url("https://h.example/site/?x#y"), &url("http://h.example:81/files/?x#y"));
    let asked = below.request(first).unwrap().url;
    assert_eq!(asked.as_str(), "http://h.example:81/files/db-dump.tar.gz");
    let batch = read(&below, first, tables(&["1,a,"], &[&format!("{SUM},1,1.0.0,,f")])).unwrap();
    assert_eq!(urls(&batch), ["https://h.example/site/crates/a"]);
    assert_eq!(artifacts(&batch, 0)[0]["url"], "http://h.example:81/files/crates/a/a-1.0.0.crate");
    assert_eq!(crates().coverage(Mode::Full), Coverage::All);
    assert_eq!(crates().coverage(Mode::Incremental), Coverage::New);
}

#[test]
fn crates_an_unchanged_dump_costs_a_condition() {
    let state: CratesState =
        serde_json::from_value(json!({ "index_last_update": MADE, "etag": "\"abc-1\"" })).unwrap();
    let [again] = &crates().resume(&state, &run(Mode::Incremental))[..] else { panic!() };
    let request = crates().request(again).unwrap();
    assert_eq!(request.headers.get("if-none-match").unwrap(), "\"abc-1\"");
    let verdict = |status| crates().recover(again, &Failure::new(FailureKind::Status(status), "")).verdict;
    assert!(matches!(verdict(StatusCode::NOT_MODIFIED), Verdict::Skip(_)));
    for status in [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN, StatusCode::INTERNAL_SERVER_ERROR] {
        assert_eq!(verdict(status), Verdict::Gap);
    }
    // The validator of the dump that was read is kept with its time.
    let mut page = Page::new();
    let response = answer(tables(&[], &[])).with_header("etag", "W/\"def\"");
    crates().page(&all(), response, &mut page).unwrap();
    let marks = page.finish().unwrap().marks;
    assert_eq!(marks, [json!({ "index_last_update": MADE, "etag": "W/\"def\"" })]);
}

#[test]
fn crates_joins_versions_to_crates() {
    let dump = tables(
        &["7,left_pad,2026-01-02 03:04:05.6+00", "3,serde,2026-02-02 00:00:00+00"],
        &[
            &format!("{SUM},3,1.0.0,2025-01-01 00:00:00+00,f"),
            &format!("{SUM},7,0.1.0,2025-01-01 00:00:00+00,t"),
            &format!("{SUM},3,1.0.1,2025-01-02 00:00:00+00,f"),
        ],
    );
    let batch = list(&all(), dump);
    assert_eq!(urls(&batch), ["https://www.example/crates/serde", "https://www.example/crates/left_pad"]);
    let origin = &batch.origins[1].origin;
    assert_eq!(origin.visit_type.as_str(), "crates");
    assert_eq!(origin.forge_id.as_deref(), Some("7"));
    assert_eq!(
        Value::Object(origin.extra_loader_arguments.clone()),
        json!({ "artifacts": [{
            "version": "0.1.0",
            "filename": "left_pad-0.1.0.crate",
            "url": "https://static.example/crates/left_pad/left_pad-0.1.0.crate",
            "checksums": { "sha256": SUM.to_ascii_lowercase() },
        }] })
    );
    assert_eq!(numbers(&batch, 0), ["1.0.0", "1.0.1"]);
    assert!(batch.skips.is_empty() && batch.follows.is_empty());
}

#[test]
fn crates_sorts_versions() {
    let sorted = ["0.1.2", "0.1.10", "0.2.0-alpha", "1.0.0", "1.0.0-rc.1", "1.0.1+build.5", "10.0.0"];
    let rows: Vec<String> = sorted.iter().rev().map(|num| format!("{SUM},1,{num},,f")).collect();
    let batch = list(&all(), tables(&["1,a,"], &rows.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(numbers(&batch, 0), sorted);
    assert_eq!(artifacts(&batch, 0)[5]["url"], "https://static.example/crates/a/a-1.0.1+build.5.crate");
}

#[test]
fn crates_gives_the_latest_date() {
    let dump = tables(
        &["1,a,2026-01-01 00:00:00", "2,b,2026-01-01 00:00:00", "3,c,", "4,d,"],
        &[
            &format!("{SUM},1,0.1.0,2020-01-01 00:00:00,f"),
            &format!("{SUM},2,0.1.0,2026-03-01 00:00:00,f"),
            &format!("{SUM},2,0.2.0,2026-02-01 00:00:00,f"),
            &format!("{SUM},3,0.2.0,2019-02-01 00:00:00,f"),
            &format!("{SUM},4,0.2.0,,f"),
        ],
    );
    let expected = [
        Some("2026-01-01T00:00:00Z".to_owned()),
        Some("2026-03-01T00:00:00Z".to_owned()),
        Some("2019-02-01T00:00:00Z".to_owned()),
        None,
    ];
    assert_eq!(dates(&list(&all(), dump)), expected);
}

#[test]
fn crates_reads_either_checksum() {
    let with = |head: &str, sum: &str| {
        let versions = format!("{head},crate_id,num,updated_at\n{sum},1,1.0.0,\n");
        let batch = list(&all(), archive(&parts("id,name,updated_at\n1,a,\n", &versions)));
        artifacts(&batch, 0)[0]["checksums"].clone()
    };
    let known = json!({ "sha256": SUM.to_ascii_lowercase() });
    assert_eq!(with("checksum", SUM), known);
    assert_eq!(with("tar_sha256", &format!("\\x{SUM}")), known);
    assert_eq!(with("tar_sha256", SUM), known);
    assert_eq!(with("checksum", ""), json!({}));
    assert_eq!(with("license", "MIT"), json!({}));
}

#[test]
fn crates_members_and_columns_in_any_order() {
    let crates = "readme,updated_at,name,max_upload_size,id\n\
                  \"# A \"\"crate\"\"\nof two lines, and a comma\",2026-01-01 00:00:00,a,,1\n\
                  💡,2026-01-01 00:00:00,b,9,2\n";
    let versions = format!(
        "yanked,updated_at,features,num,crate_id,checksum\n\
         f,2025-01-01 00:00:00,\"{{\"\"std\"\": [\"\"x\"\"]}}\",0.1.0,2,{SUM}\n\
         f,2025-01-01 00:00:00,{{}},0.2.0,1,{SUM}\n"
    );
    let [metadata, crates, versions] = parts(crates, &versions);
    let other = member("2026-10-04-020027/data/badges.csv", b'0', "nothing \"that, is\nread");
    let folder = member("2026-10-04-020027/", b'5', "");
    let orders = [
        vec![&folder, &metadata, &crates, &other, &versions],
        vec![&versions, &crates, &metadata, &folder],
        vec![&crates, &versions, &other, &metadata],
    ];
    for order in orders {
        let members: Vec<Vec<u8>> = order.into_iter().cloned().collect();
        let batch = list(&all(), archive(&members));
        assert_eq!(urls(&batch), ["https://www.example/crates/a", "https://www.example/crates/b"]);
        assert_eq!((numbers(&batch, 0), numbers(&batch, 1)), (vec!["0.2.0"], vec!["0.1.0"]));
        assert!(batch.skips.is_empty());
    }
}

#[test]
fn crates_lists_what_changed_since() {
    let rows = [
        "1,old,2026-09-30 23:59:59.999999+00",
        "2,same,2026-10-01 00:00:00+00",
        "3,new,2026-10-01 00:00:00.000001+00",
        "4,undated,",
    ];
    let versions: Vec<String> = (1..5).map(|id| format!("{SUM},{id},1.0.0,2020-01-01 00:00:00,f")).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let batch = list(&since("2026-10-01T00:00:00Z"), tables(&rows, &versions));
    assert_eq!(urls(&batch), ["https://www.example/crates/new", "https://www.example/crates/undated"]);
    assert_eq!(list(&all(), tables(&rows, &versions)).origins.len(), 4);
}

#[test]
fn crates_a_yanked_version_is_a_change() {
    let dump = || {
        tables(
            &["1,yanked,2020-01-01 00:00:00", "2,old,2020-01-01 00:00:00", "3,new,2026-10-02 00:00:00"],
            &[
                &format!("{SUM},1,0.1.0,2020-01-01 00:00:00,f"),
                &format!("{SUM},1,0.2.0,2026-10-03 00:00:00,t"),
                &format!("{SUM},2,0.1.0,2020-01-01 00:00:00,f"),
                &format!("{SUM},3,0.1.0,2026-10-02 00:00:00,f"),
                &format!("{SUM},1,0.3.0,2020-01-01 00:00:00,f"),
            ],
        )
    };
    let batch = list(&since("2026-10-01T00:00:00Z"), dump());
    assert_eq!(urls(&batch), ["https://www.example/crates/new", "https://www.example/crates/yanked"]);
    // With all its versions, those too that did not change.
    assert_eq!(numbers(&batch, 1), ["0.1.0", "0.2.0", "0.3.0"]);
    assert_eq!(dates(&batch)[1].as_deref(), Some("2026-10-03T00:00:00Z"));
    assert_eq!(list(&since("2026-10-02T12:00:00Z"), dump()).origins.len(), 1);
}

#[test]
fn crates_an_older_dump_says_nothing() {
    let dump = || tables(&["1,a,2026-10-05 00:00:00"], &[&format!("{SUM},1,0.1.0,2026-10-05 00:00:00,f")]);
    for at in [MADE, "2026-10-04T02:00:28Z"] {
        let batch = list(&since(at), dump());
        assert!(batch.origins.is_empty());
        assert_eq!(batch.marks, [json!({ "index_last_update": MADE })]);
    }
    assert_eq!(list(&since("2026-10-04T02:00:27Z"), dump()).origins.len(), 1);
}

#[test]
fn crates_marks_the_time_of_the_dump() {
    assert_eq!(list(&all(), tables(&[], &[])).marks, [json!({ "index_last_update": MADE })]);
    let state = |date: &str, etag: Value| -> CratesState {
        serde_json::from_value(json!({ "index_last_update": date, "etag": etag })).unwrap()
    };
    let (a, b) = (state(MADE, json!("x")), state("2026-10-05T00:00:00Z", Value::Null));
    assert_eq!(crates().join(a.clone(), b.clone()), b);
    assert_eq!(crates().join(b.clone(), a.clone()), b);
    assert_eq!(crates().join(a.clone(), CratesState::default()), a);
}

#[test]
fn crates_reads_dates_without_offset() {
    for text in
        ["2022-08-08T02:00:27.645191+00:00", "2022-08-08T02:00:27.645191", "2022-08-08 02:00:27.645191"]
    {
        let state: CratesState = serde_json::from_value(json!({ "index_last_update": text })).unwrap();
        let [again] = &crates().resume(&state, &run(Mode::Incremental))[..] else { panic!() };
        assert_eq!(*again, since("2022-08-08T02:00:27.645191Z"), "{text}");
    }
    assert!(serde_json::from_value::<CratesState>(json!({ "index_last_update": "soon" })).is_err());
    let none: CratesState = serde_json::from_value(json!({ "index_last_update": null })).unwrap();
    assert_eq!(crates().resume(&none, &run(Mode::Incremental)), [all()]);
}

#[test]
fn crates_what_cannot_be_listed_is_counted() {
    let batch = list(
        &all(),
        tables(
            &["1,good,", "2,reserved,", "3,../../evil,", "4,ünï,", "5,,"],
            &[
                &format!("{SUM},1,1.0.0,,f"),
                &format!("{SUM},1,../1.0.0,,f"),
                "beef,1,1.0.1,,f",
                &format!("{SUM},99,1.0.0,,f"),
                &format!("{SUM},3,1.0.0,,f"),
            ],
        ),
    );
    assert_eq!(urls(&batch), ["https://www.example/crates/good"]);
    assert_eq!(numbers(&batch, 0), ["1.0.0"]);
    let skips: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    for what in
        ["reserved", "../../evil", "ünï", "crate 5", "\"../1.0.0\" of crate 1", "\"1.0.1\" of crate 1"]
    {
        assert_eq!(skips.iter().filter(|s| s.contains(what)).count(), 1, "{what} in {skips:?}");
    }
    // Of a crate that is not there, and of one whose name can be none.
    assert!(skips.contains(&"2 versions"), "{skips:?}");
    assert_eq!(skips.len(), 7);
    // There may be more of it than can be told.
    let rows: Vec<String> = (1..=1500).map(|n| format!("{n},c{n},")).collect();
    let many = list(&all(), tables(&rows.iter().map(String::as_str).collect::<Vec<_>>(), &[]));
    assert_eq!(many.skips.len(), 1001);
    assert_eq!(many.skips[1000].what, "500 more");
}

#[test]
fn crates_many_versions_are_read_in_turns() {
    let names: Vec<String> = (1..=40).map(|n| format!("{n},c{n},2026-01-01 00:00:00")).collect();
    let mut versions: Vec<String> = Vec::new();
    for k in 0..7 {
        // In no order of crates, one of them with a broken number.
        versions.extend((1..=40).map(|n| format!("{SUM},{},0.{k}.0,,f", (n * 17 + k) % 40 + 1)));
    }
    versions.push(format!("{SUM},5,1/0,,f"));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let [metadata, table, rows] = parts(
        &format!("id,name,updated_at\n{}\n", names.join("\n")),
        &format!("{HEAD}\n{}\n", versions.join("\n")),
    );
    let whole = list(&all(), tables(&names, &versions));
    assert_eq!(whole.origins.len(), 40);
    assert!((0..40).all(|n| numbers(&whole, n).len() == 7));
    for at_once in [7, 8, 13, 50, 279, 280] {
        let lister = crates().with_versions_at_once(at_once);
        for order in [[&metadata, &table, &rows], [&rows, &table, &metadata]] {
            let dump = archive(&order.map(Clone::clone));
            assert_eq!(read(&lister, &all(), dump).unwrap(), whole, "{at_once}");
        }
    }
    let few = crates().with_versions_at_once(6);
    let error = read(&few, &all(), tables(&names, &versions)).unwrap_err().to_string();
    assert!(error.contains("too many versions of crate"), "{error}");
}

#[test]
fn crates_a_hostile_dump_is_an_error_with_its_place() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/crates");
    let kept = |name: &str| std::fs::read(format!("{folder}/{name}")).unwrap();
    let said = |dump: Vec<u8>| error(dump).to_string();
    assert!(said(kept("bomb/dump.tar.gz")).contains("a bomb?"));
    let whole = kept("gone/dump-1.tar.gz");
    for at in (20..whole.len()).step_by(23) {
        let cut = said(whole[..at].to_vec());
        assert!(cut.contains("db-dump.tar.gz") && cut.contains("gzip"), "{at}: {cut}");
    }
    let [metadata, table, rows] = parts("id,name,updated_at\n1,a,\n", &format!("{HEAD}\n{SUM},1,1.0.0,,f\n"));
    let without =
        |members: &[&Vec<u8>]| said(archive(&members.iter().map(|m| (*m).clone()).collect::<Vec<_>>()));
    assert!(without(&[&table, &rows]).contains("there is no metadata.json in it"));
    assert!(without(&[&metadata, &rows]).contains("there is no data/crates.csv in it"));
    assert!(without(&[&metadata, &table]).contains("there is no data/versions.csv in it"));
    assert!(without(&[]).contains("there is no metadata.json in it"));
    for twice in [&metadata, &table, &rows] {
        let said = without(&[&metadata, &table, &rows, twice]);
        assert!(said.contains("is in it twice"), "{said}");
    }
    let elsewhere = member("other/data/crates.csv", b'0', "id,name,updated_at\n2,b,\n");
    assert!(without(&[&metadata, &table, &rows, &elsewhere]).contains("data/crates.csv is in it twice"));
    let evil = member("../../etc/cron.d/x", b'0', "x");
    assert!(without(&[&metadata, &table, &rows, &evil]).contains("leads out of the archive"));
    for kind in [b'1', b'2', b'5'] {
        let link = member("2026-10-04-020027/data/crates.csv", kind, "");
        assert!(without(&[&metadata, &link, &rows]).contains("data/crates.csv is no file"));
    }
    let whole = archive(&[metadata, table, rows]);
    for at in [3000, 2048 + 30, 700, 5] {
        assert!(said(whole[..at].to_vec()).contains("db-dump.tar.gz"), "{at}");
    }
    for body in ["<html>down</html>", "", "not found"] {
        assert!(said(body.as_bytes().to_vec()).contains("db-dump.tar.gz"), "{body:?}");
    }
}

#[test]
fn crates_a_broken_table_is_an_error_with_its_line() {
    let fails = |crates: &str, versions: &str, words: &[&str]| {
        let said = error(archive(&parts(crates, versions))).to_string();
        for word in words {
            assert!(said.contains(word), "{said} does not say {word:?}");
        }
    };
    let (good, none) = ("id,name,updated_at\n1,a,\n", "crate_id,num,updated_at\n");
    fails("id,name\n1,a\n", none, &["data/crates.csv", "no column \"updated_at\""]);
    fails(good, "crate_id,updated_at\n", &["data/versions.csv", "no column \"num\""]);
    fails("", none, &["data/crates.csv", "no column \"id\""]);
    fails(
        "id,name,updated_at\n1,a,\n\"x\ny\",b,\n",
        none,
        &["data/crates.csv, line 3", "id", "is no number"],
    );
    fails("id,name,updated_at\n-1,a,\n", none, &["line 2", "\"-1\" is no number"]);
    fails("id,name,updated_at\n99999999999999999999,a,\n", none, &["line 2", "is no number"]);
    fails("id,name,updated_at\n1,a,yesterday\n", none, &["line 2", "updated_at", "is no date"]);
    fails("id,name,updated_at\n1,a\n", none, &["data/crates.csv", "line: 2"]);
    fails("id,name,updated_at\n1,a,\n1,b,\n", none, &["data/crates.csv", "the id 1 is there twice"]);
    fails(good, "crate_id,num,updated_at\nx,1.0.0,\n", &["data/versions.csv, line 2", "crate_id"]);
    let mut bent = parts("id,name,updated_at\n1,axx,\n", none);
    let at = 512 + "id,name,updated_at\n1,a".len();
    bent[1][at..at + 2].copy_from_slice(&[0xff, 0xfe]);
    assert!(error(archive(&bent)).to_string().contains("data/crates.csv, line 2: name: invalid utf-8"));
    for metadata in
        ["{}", "{\"timestamp\": 7}", "{\"timestamp\": \"soon\"}", "no JSON", "{\"timestamp\": null}"]
    {
        let mut dump = parts(good, none);
        dump[0] = member("d/metadata.json", b'0', metadata);
        let said = error(archive(&dump)).to_string();
        assert!(said.contains("metadata.json") || said.contains("it has no time"), "{metadata}: {said}");
    }
}

#[test]
fn crates_needs_both_urls() {
    let both = json!({ "url": "https://www.example", "static_url": "https://static.example" });
    let built = build("crates", &both).unwrap();
    assert_eq!(built.source.key().to_string(), "crates of crates");
    assert!(built.source.is_incremental());
    for missing in ["url", "static_url"] {
        let mut some = both.clone();
        some.as_object_mut().unwrap().remove(missing);
        let error = build_error("crates", &some);
        assert!(error.contains(&format!("crates needs {missing}=")), "{error}");
    }
    let mut named = both;
    named["instance"] = json!("mirror");
    assert_eq!(build("crates", &named).unwrap().source.key().to_string(), "crates of mirror");
}
