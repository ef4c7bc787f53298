//! RubyGems.

use http::StatusCode;
use lamplighter::lister::{
    Coverage, Failure, FailureKind, Lister, ListerErrorKind, Mode, PageBatch, Verdict,
};
use lamplighter::listers::RubyGems;
use lamplighter::listers::rubygems::RubyGemsCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::Provenance;
use serde_json::{Value, json};

use super::{assert_error, assert_fails, build, follows, gzip, gzip_bytes, read, run, tar, url, urls};

const MEMBER: &str = "public_postgresql/databases/PostgreSQL.sql.gz";
/// Of 32 zeros.
const SUM: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn rubygems() -> RubyGems {
    RubyGems::new(&url("https://dumps.example/b"), &url("https://gems.example/"))
}

fn at(of: &Value) -> RubyGemsCursor {
    serde_json::from_value(of.clone()).unwrap()
}

fn first() -> RubyGemsCursor {
    at(&json!({ "files": {} }))
}

fn dump() -> RubyGemsCursor {
    at(&json!({ "dump": "production/public_postgresql/d/public_postgresql.tar" }))
}

fn list(more: bool, keys: &[&str]) -> String {
    let contents: Vec<String> = keys
        .iter()
        .map(|key| format!("<Contents><Key>{key}</Key><ETag>&quot;e-{key}&quot;</ETag></Contents>"))
        .collect();
    format!(
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>{more}</IsTruncated>{}</ListBucketResult>",
        contents.concat()
    )
}

fn gems(rows: &str) -> String {
    format!("COPY public.rubygems (id, name, updated_at) FROM stdin;\n{rows}\\.\n")
}

/// Rows: gem, number, full name, built, pushed, yanked, checksum, size.
fn versions(rows: &str) -> String {
    let columns = "rubygem_id, number, full_name, built_at, created_at, yanked_at, sha256, size";
    format!("COPY public.versions ({columns}) FROM stdin;\n{rows}\\.\n")
}

fn version(gem: u64, number: &str, full_name: &str) -> String {
    format!("{gem}\t{number}\t{full_name}\t2020-01-01 00:00:00\t2020-01-02 03:04:05.5\t\\N\t{SUM}\t512\n")
}

fn packed(sql: &str) -> Vec<u8> {
    tar(&[("public_postgresql/other.sql.gz", b"x"), (MEMBER, &gzip(sql))])
}

fn page(sql: &str) -> PageBatch {
    read(&rubygems(), &dump(), packed(sql)).unwrap()
}

fn argument<'a>(batch: &'a PageBatch, n: usize, name: &str) -> &'a Value {
    &batch.origins[n].origin.extra_loader_arguments[name]
}

#[test]
fn rubygems_asks_for_the_last_dump() {
    assert_eq!(rubygems().start(&run(Mode::Full)), [first()]);
    let request = rubygems().request(&first()).unwrap();
    assert_eq!(request.url.as_str(), "https://dumps.example/b?prefix=production%2Fpublic_postgresql");
    assert_eq!(request.provenance, Provenance::Configured);
    let key = |day: &str| format!("production/public_postgresql/{day}/public_postgresql.tar");
    let (a, b, c) = (key("2026.01.01"), key("2026.01.08"), key("2026.01.15"));
    let batch = read(&rubygems(), &first(), list(true, &[&a, &b])).unwrap();
    let next = json!({ "files": { "after": b, "last": [b, format!("\"e-{b}\"")] } });
    assert_eq!(follows(&batch), (vec![&next], vec![]));
    let request = rubygems().request(&at(&next)).unwrap();
    assert_eq!(lamplighter::lister::query_param(&request.url, "marker"), Some(b.clone()));
    // The last by its name, whatever else is there and however it is ordered.
    for keys in [
        vec![c.as_str(), &a],
        vec![&a, &c, "production/public_postgresql/z/other", "z/../public_postgresql.tar"],
    ] {
        let batch = read(&rubygems(), &at(&next), list(false, &keys)).unwrap();
        assert_eq!(follows(&batch), (vec![], vec![&json!({ "dump": c })]), "{keys:?}");
    }
    let batch = read(&rubygems(), &at(&next), list(false, &[&a])).unwrap();
    assert_eq!(follows(&batch).1, [&json!({ "dump": b })]);
    let request = rubygems().request(&at(&json!({ "dump": b }))).unwrap();
    assert_eq!(request.url.as_str(), format!("https://dumps.example/b/{b}"));
    assert_eq!(rubygems().coverage(Mode::Full), Coverage::All);
}

#[test]
fn rubygems_joins_versions_to_gems() {
    let rows = [version(1, "1.0", "a-1.0"), version(2, "3", "b-3"), version(1, "0.9", "a-0.9-java")].concat();
    let bare = "2\t4\tb-4\t\\N\t\\N\t\\N\t\\N\t\\N\n";
    let batch = page(&(gems("2\tb\t\\N\n1\ta\t\\N\n") + &versions(&(rows + bare))));
    assert_eq!(urls(&batch), ["https://gems.example/gems/a", "https://gems.example/gems/b"]);
    assert_eq!(batch.origins[0].origin.visit_type.as_str(), "rubygems");
    let artifact = |full: &str, number: &str, sums: Value, length: Value| {
        json!({ "version": number, "filename": format!("{full}.gem"), "url": format!("https://gems.example/downloads/{full}.gem"),
                "checksums": sums, "length": length })
    };
    let sums = json!({ "sha256": "0".repeat(64) });
    // In the order of the dump.
    assert_eq!(
        argument(&batch, 0, "artifacts"),
        &json!([
            artifact("a-1.0", "1.0", sums.clone(), json!(512)),
            artifact("a-0.9-java", "0.9", sums.clone(), json!(512))
        ])
    );
    assert_eq!(
        argument(&batch, 1, "artifacts"),
        &json!([artifact("b-3", "3", sums, json!(512)), artifact("b-4", "4", json!({}), Value::Null)])
    );
    let metadata = |name: &str, number: &str, date: Value| {
        json!({ "version": number, "date": date,
                "extrinsic_metadata_url": format!("https://gems.example/api/v2/rubygems/{name}/versions/{number}.json") })
    };
    assert_eq!(
        argument(&batch, 1, "rubygem_metadata"),
        &json!([metadata("b", "3", json!("2020-01-01T00:00:00+00:00")), metadata("b", "4", Value::Null)])
    );
    assert!(batch.skips.is_empty());
}

#[test]
fn rubygems_gives_the_date_of_the_push() {
    let dated = |built: &str, pushed: &str| format!("1\t1\ta-1\t{built}\t{pushed}\t\\N\t{SUM}\t1\n");
    let date = |rows: &str| page(&(gems("1\ta\t\\N\n") + &versions(rows))).origins[0].origin.last_update;
    let of = |text: &str| Some(Timestamp::parse(text).unwrap());
    let pushed = dated("2099-01-01 00:00:00", "2020-01-02 03:04:05.5")
        + &dated("1980-01-01 00:00:00", "2019-01-01 00:00:00");
    assert_eq!(date(&pushed), of("2020-01-02T03:04:05.5Z"));
    assert_eq!(date(&dated("2018-01-01 00:00:00", "\\N")), of("2018-01-01T00:00:00Z"));
    assert_eq!(date(&dated("\\N", "\\N")), None);
    assert_eq!(date(&dated("0044-03-15 00:00:00 BC", "2020-01-01 00:00:00")), of("2020-01-01T00:00:00Z"));
}

#[test]
fn rubygems_yanked_versions_are_left_out() {
    let yanked = "1\t2\ta-2\t2020-01-01 00:00:00\t2026-01-01 00:00:00\t2026-02-01 00:00:00\t\\N\t1\n";
    let only = "2\t2\tb-2\t2020-01-01 00:00:00\t2026-01-01 00:00:00\t2026-02-01 00:00:00\t\\N\t1\n";
    let rows = format!("{yanked}{}{only}", version(1, "1", "a-1"));
    let batch = page(&(gems("1\ta\t\\N\n2\tb\t\\N\n3\tc\t\\N\n") + &versions(&rows)));
    assert_eq!(urls(&batch), ["https://gems.example/gems/a"]);
    assert_eq!(argument(&batch, 0, "artifacts").as_array().unwrap().len(), 1);
    assert_eq!(
        batch.origins[0].origin.last_update,
        Some(Timestamp::parse("2020-01-02T03:04:05.5Z").unwrap())
    );
    let skipped: Vec<&str> = batch.skips.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(skipped, ["b", "c"]);
}

#[test]
fn rubygems_tables_and_columns_in_any_order() {
    let rows = [
        version(1, "1.0", "a-1.0"),
        version(2, "3", "b-3"),
        version(1, "0.9", "a-0.9"),
        version(9, "1", "x-1"),
    ]
    .concat();
    let all = gems("2\tb\t\\N\n1\ta\t\\N\n");
    let (ordered, turned) = (page(&(all.clone() + &versions(&rows))), page(&(versions(&rows) + &all)));
    assert_eq!(ordered, turned);
    assert_eq!((ordered.origins.len(), ordered.skips.len()), (2, 1));
    let other = "COPY public.versions (full_name, x, created_at, size, rubygem_id, sha256, number, yanked_at, built_at) FROM stdin;\n\
                 a-1.0\tz\t2020-01-02 03:04:05.5\t512\t1\t\\N\t1.0\t\\N\t2020-01-01 00:00:00\n\\.\n";
    let batch = page(&("COPY rubygems (\"name\", id) FROM stdin;\na\t1\n\\.\n".to_owned() + other));
    assert_eq!(argument(&batch, 0, "artifacts")[0]["filename"], "a-1.0.gem");
}

#[test]
fn rubygems_many_versions_are_read_in_turns() {
    let rows: Vec<String> = (0..40)
        .map(|n| format!("{}\t{n}\tg{}-{n}\t2020-01-01 00:00:00\t\\N\t\\N\t\\N\t1\n", n % 7, n % 7))
        .collect();
    let names: Vec<String> = (0..8).map(|n| format!("{n}\tg{n}\t\\N\n")).collect();
    for sql in
        [gems(&names.concat()) + &versions(&rows.concat()), versions(&rows.concat()) + &gems(&names.concat())]
    {
        let at_once = read(&rubygems(), &dump(), packed(&sql)).unwrap();
        let in_turns = read(&rubygems().with_versions_at_once(9), &dump(), packed(&sql)).unwrap();
        assert_eq!(at_once.origins, in_turns.origins);
        assert_eq!((at_once.origins.len(), at_once.skips.len(), in_turns.skips.len()), (7, 1, 1));
    }
    let sql = gems("0\tg0\t\\N\n") + &versions(&rows.concat());
    let error = read(&rubygems().with_versions_at_once(5), &dump(), packed(&sql)).unwrap_err();
    assert!(error.to_string().contains("too many versions of gem 0"), "{error}");
}

#[test]
fn rubygems_odd_names_are_counted() {
    let rows = [
        version(1, "1", "a-1"),
        version(1, "1/2", "a-1"),
        version(1, "1", "../x"),
        version(1, "", "a-1"),
        version(2, "1", "b-1"),
        "1\t1\ta-1\t\\N\t\\N\t\\N\tAAAA\t1\n".to_owned(),
    ];
    let batch = page(&(gems("1\ta\t\\N\n2\tb c\t\\N\n3\t\\N\t\\N\n") + &versions(&rows.concat())));
    assert_eq!(urls(&batch), ["https://gems.example/gems/a"]);
    assert_eq!(argument(&batch, 0, "artifacts").as_array().unwrap().len(), 1);
    // Two gems, four versions; and one of a gem that is not listed.
    assert_eq!(batch.skips.len(), 7, "{:?}", batch.skips);
}

#[test]
fn rubygems_a_dump_that_went_is_looked_for_anew() {
    let recover =
        |at: &RubyGemsCursor, status| rubygems().recover(at, &Failure::new(FailureKind::Status(status), ""));
    let gone = recover(&dump(), StatusCode::NOT_FOUND);
    assert_eq!((gone.verdict, gone.follow), (Verdict::Replaced, vec![first()]));
    assert_eq!(recover(&dump(), StatusCode::FORBIDDEN).verdict, Verdict::Gap);
    assert_eq!(recover(&first(), StatusCode::NOT_FOUND).verdict, Verdict::Gap);
}

#[test]
fn rubygems_a_hostile_dump_is_an_error_with_its_place() {
    let sql = gems("1\ta\t\\N\n") + &versions(&version(1, "1", "a-1"));
    let fails = |body: Vec<u8>, words: &[&str]| {
        let read = read(&rubygems(), &dump(), body);
        assert_error(read, ListerErrorKind::Parse, words);
    };
    let whole = packed(&sql);
    assert_eq!(page(&sql).origins.len(), 1);
    assert_eq!(read(&rubygems(), &dump(), gzip_bytes(&whole)).unwrap().origins.len(), 1);
    fails(Vec::new(), &["public_postgresql.tar"]);
    fails(b"<html>down</html>".to_vec(), &["public_postgresql.tar"]);
    fails(whole[..whole.len() - 1500].to_vec(), &["public_postgresql.tar"]);
    let inner = gzip(&sql);
    fails(tar(&[(MEMBER, &inner[..inner.len() - 9])]), &["PostgreSQL.sql.gz", "ends too early"]);
    fails(tar(&[(MEMBER, &gzip_bytes(&vec![b'\n'; 17 << 20]))]), &["a bomb?"]);
    fails(tar(&[("other", &inner)]), &["there is no PostgreSQL.sql.gz"]);
    fails(tar(&[(MEMBER, &inner), (MEMBER, &inner)]), &["there twice"]);
    fails(tar(&[("../PostgreSQL.sql.gz", &inner)]), &["leads out"]);
    fails(packed(&gems("1\ta\t\\N\n")), &["no table \"versions\""]);
    fails(packed(&versions("")), &["no table \"rubygems\""]);
    fails(packed(&(gems("1\ta\t\\N\n1\tb\t\\N\n") + &versions(""))), &["the id 1 is there twice"]);
    fails(packed(&(gems("") + &gems("") + &versions(""))), &["the table rubygems is there twice"]);
    fails(packed(&gems("x\ta\t\\N\n")), &["line 2: rubygems: id"]);
    fails(packed(&gems("1\ta\n")), &["line 2: rubygems: 2 fields for 3 columns"]);
    fails(packed("COPY public.rubygems (id, name) FROM stdin;\n1\ta\n"), &["line 3: it ends within a table"]);
}

#[test]
fn rubygems_a_broken_list_is_an_error_with_its_place() {
    let of = |body: &str, words: &[&str]| assert_fails(&rubygems(), &first(), body.to_owned(), words);
    of("", &["ends too early"]);
    of("<html>502</html>", &["<html> where only"]);
    of("{\"message\":\"no\"}", &["no XML"]);
    of(&list(false, &[]), &["there is no dump"]);
    of(&list(false, &["production/x"]), &["there is no dump"]);
    of(&list(true, &[]), &["says not where"]);
    of("<ListBucketResult><Contents><Key>a", &["ends too early"]);
}

#[test]
fn rubygems_takes_its_urls() {
    let built = build("rubygems", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "rubygems of rubygems");
    let request = built.source.request(&json!({ "files": {} })).unwrap();
    assert!(request.url.as_str().starts_with("https://s3-us-west-2.amazonaws.com/rubygems-dumps?prefix="));
    let of = json!({ "url": "https://h.example/d/", "web_url": "https://w.example", "instance": "mine" });
    let other = build("rubygems", &of).unwrap();
    assert_eq!(other.source.key().to_string(), "rubygems of mine");
    let request = other.source.request(&json!({ "dump": "a/b" })).unwrap();
    assert_eq!(request.url.as_str(), "https://h.example/d/a/b");
}
