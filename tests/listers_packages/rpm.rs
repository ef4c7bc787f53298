//! Distributions that use RPM.

use bzip2::write::BzEncoder;
use lamplighter::lister::{Failure, FailureKind, FollowKind, Lister, Mode, PageBatch, Verdict};
use lamplighter::listers::Rpm;
use lamplighter::listers::rpm::{RpmBlock, RpmCursor};
use lamplighter::model::Timestamp;
use serde_json::{Value, json};
use sha2::Digest;

use super::{assert_fails, build, build_error, gzip, read, run, urls};

const DIR: &str = "https://rpm.example/linux/41/Everything/source/";

fn rpm() -> Rpm {
    let templates = ["$base_url/$release/$component/source", "$base_url/$release/$component/source/"];
    Rpm::new(
        "Tests",
        &[RpmBlock::new("https://rpm.example/linux/", ["41", "42"], ["Everything", "x"], templates)],
    )
    .unwrap()
}

fn repository() -> RpmCursor {
    rpm().start(&run(Mode::Full)).remove(0)
}

fn repomd(href: &str, kind: &str, sum: &str, size: usize) -> String {
    format!(
        "<?xml version='1.0'?><repomd xmlns='http://linux.duke.edu/metadata/repo'><revision>1</revision>\
         <data type='filelists'><checksum type='sha256'>0</checksum><location href='repodata/f.xml.gz'/></data>\
         <data type='primary'><checksum type='{kind}'>{sum}</checksum><location href='{href}'/><size>{size}</size></data>\
         <data type='other'><checksum type='sha256'>0</checksum><location href='repodata/o.xml.gz'/></data></repomd>"
    )
}

fn item(batch: &PageBatch) -> (String, String, RpmCursor) {
    let FollowKind::Item { key, fingerprint } = &batch.follows[0].kind else { panic!("no item") };
    (key.to_string(), fingerprint.clone(), serde_json::from_value(batch.follows[0].cursor.clone()).unwrap())
}

/// At a file of packages, whose checksum is not verified.
fn packages() -> RpmCursor {
    item(&read(&rpm(), &repository(), repomd("repodata/p.xml", "sha", "1", 1)).unwrap()).2
}

fn package(name: &str, evr: (&str, &str, &str), more: &str) -> String {
    let (epoch, ver, rel) = evr;
    format!(
        "<package type='rpm'><name>{name}</name><arch>src</arch><version epoch='{epoch}' ver='{ver}' rel='{rel}'/>\
         <checksum type='sha256' pkgid='YES'>abc</checksum><description>a &lt;b&gt;</description><time file='1' build='1600000000'/>\
         <location href='Packages/{name}.src.rpm'/><format><rpm:entry name='other' ver='9'/><name>inner</name></format>{more}</package>"
    )
}

fn metadata(packages: &[String]) -> String {
    format!(
        "<metadata xmlns='http://linux.duke.edu/metadata/common' xmlns:rpm='r' packages='1'>{}</metadata>",
        packages.concat()
    )
}

fn versions(evrs: &[(&str, &str, &str)]) -> Vec<String> {
    let all: Vec<String> = evrs.iter().map(|evr| package("a", *evr, "")).collect();
    let batch = read(&rpm(), &packages(), metadata(&all)).unwrap();
    batch.origins.iter().map(|s| s.origin.artifacts[0].key.clone()).collect()
}

#[test]
fn rpm_asks_every_repository_once() {
    let asked: Vec<String> =
        rpm().start(&run(Mode::Full)).iter().map(|at| rpm().request(at).unwrap().url.to_string()).collect();
    let at = |path: &str| format!("https://rpm.example/linux/{path}/source/repodata/repomd.xml");
    assert_eq!(asked, ["41/Everything", "41/x", "42/Everything", "42/x"].map(at));
    assert_eq!(rpm().request(&packages()).unwrap().url.as_str(), format!("{DIR}repodata/p.xml"));
    // A block without components has one.
    let nameless =
        Rpm::new("T", &[RpmBlock::new("https://h.example", ["7"], [""; 0], ["$base_url/$release/SRPMS"])])
            .unwrap();
    let start = nameless.start(&run(Mode::Full));
    assert_eq!(
        nameless.request(&start[0]).unwrap().url.as_str(),
        "https://h.example/7/SRPMS/repodata/repomd.xml"
    );
    assert!(matches!(&start[0], RpmCursor::Repository { part, .. } if part == "7"));
}

#[test]
fn rpm_the_file_of_packages_is_an_item() {
    let said = |sum: &str| {
        item(&read(&rpm(), &repository(), repomd("repodata/p.xml.gz", "sha256", sum, 7)).unwrap())
    };
    let (key, print, _) = said("ab");
    assert_eq!(key, format!("41/Everything {DIR}"));
    assert_eq!(said("AB").1, print);
    assert_ne!(said("ac").1, print);
}

#[test]
fn rpm_what_is_no_repository_is_left_out() {
    let verdict = |at: &RpmCursor, status: u16| {
        let kind = FailureKind::Status(http::StatusCode::from_u16(status).unwrap());
        rpm().recover(at, &Failure::new(kind, "x")).verdict
    };
    assert!(matches!(verdict(&repository(), 404), Verdict::Skip(_)));
    assert_eq!(verdict(&repository(), 500), Verdict::Gap);
    assert_eq!(verdict(&repository(), 403), Verdict::Gap);
    assert_eq!(verdict(&packages(), 404), Verdict::Gap);
}

#[test]
fn rpm_lists_source_packages() {
    let binary = package("b", ("0", "1", "1"), "").replace("<arch>src", "<arch>x86_64");
    let based =
        package("c", ("0", "1", "1"), "").replace("href='Pack", "xml:base='https://o.example/x/' href='Pack");
    let batch =
        read(&rpm(), &packages(), metadata(&[package("a", ("0", "1.0", "3.fc41"), ""), binary, based]))
            .unwrap();
    assert_eq!(urls(&batch), ["rpm://Tests/packages/a", "rpm://Tests/packages/c"]);
    let origin = &batch.origins[0].origin;
    assert_eq!(
        (origin.visit_type.as_str(), origin.last_update),
        ("rpm", Some(Timestamp::from_seconds(1_600_000_000)))
    );
    let piece = &origin.artifacts[0];
    assert_eq!((piece.field.as_str(), piece.key.as_str()), ("packages", "41/Everything/1.0-3"));
    assert_eq!(
        piece.value,
        json!({ "name": "a", "version": "1.0-3", "url": format!("{DIR}Packages/a.src.rpm"),
            "build_time": "2020-09-13T12:26:40+00:00", "checksums": { "sha256": "abc" } })
    );
    assert_eq!(batch.origins[1].origin.artifacts[0].value["url"], "https://o.example/x/Packages/c.src.rpm");
}

#[test]
fn rpm_versions_stay_apart() {
    let said = versions(&[
        ("0", "1", "0.1.rc1.fc36"),
        ("0", "1", "0.3.beta2.fc36"),
        ("", "1", "4.el7.centos"),
        ("2", "1", "1.module_el8.1"),
        ("0", "1", "1160.el7_9.2"),
        ("0", "1", "lp154.1.2"),
        ("0", "1", "1.feature"),
        ("0", "1", "5.eln120.eln"),
        ("0", "1", "fc36"),
    ]);
    let keys = [
        "1-0.1.rc1",
        "1-0.3.beta2",
        "1-4",
        "2:1-1.module_el8.1",
        "1-1160",
        "1-lp154.1.2",
        "1-1.feature",
        "1-5.eln120",
        "1-fc36",
    ];
    assert_eq!(said, keys.map(|k| format!("41/Everything/{k}")));
}

#[test]
fn rpm_reads_every_compression() {
    use std::io::Write;
    let text = metadata(&[package("a", ("0", "1", "1"), "")]);
    let plain = read(&rpm(), &packages(), text.clone()).unwrap();
    assert_eq!(plain.origins.len(), 1);
    assert_eq!(read(&rpm(), &packages(), gzip(&text)).unwrap(), plain);
    let mut packed = BzEncoder::new(Vec::new(), bzip2::Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    assert_eq!(read(&rpm(), &packages(), packed.finish().unwrap()).unwrap(), plain);
    // One block of zstd as it is: "raw", the last one.
    let size = u32::try_from(text.len()).unwrap();
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    zstd.extend(size.to_le_bytes());
    zstd.extend(&((size << 3) | 1).to_le_bytes()[..3]);
    zstd.extend(text.as_bytes());
    assert_eq!(read(&rpm(), &packages(), zstd).unwrap(), plain);
}

#[test]
fn rpm_verifies_the_checksum() {
    let text = metadata(&[package("a", ("0", "1", "1"), "")]);
    let at = |kind: &str, sum: &str, size: usize| {
        item(&read(&rpm(), &repository(), repomd("repodata/p.xml", kind, sum, size)).unwrap()).2
    };
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect::<String>();
    for (kind, sum) in
        [("sha256", hex(&sha2::Sha256::digest(&text))), ("sha512", hex(&sha2::Sha512::digest(&text)))]
    {
        let read = read(&rpm(), &at(kind, &sum, text.len()), text.clone()).unwrap();
        assert_eq!((read.origins.len(), read.skips.len()), (1, 0));
    }
    let zeros = "0".repeat(64);
    assert_fails(&rpm(), &at("sha256", &zeros, text.len()), text.clone(), &["its sha256 is", &zeros]);
    // Another size: another version of the file, where it is whole.
    let other = read(&rpm(), &at("sha256", &zeros, 7), text.clone()).unwrap();
    assert_eq!((other.origins.len(), other.skips.len()), (1, 1));
    assert_fails(
        &rpm(),
        &at("sha256", &zeros, 7),
        text[..text.len() - 11].to_owned(),
        &["in /metadata after", "ends too early"],
    );
    assert_fails(&rpm(), &at("sha256", &zeros, 7), "", &["after 0 bytes"]);
}

#[test]
fn rpm_odd_packages_are_counted() {
    let mut bare = package("bare", ("0", "1", "1"), "");
    bare = bare.replace(" build='1600000000'", "").replace("type='sha256' pkgid='YES'>abc", ">");
    let placeless = package("x", ("0", "1", "1"), "").replace(" href='Packages/x.src.rpm'", "");
    let odd = [
        package("", ("0", "1", "1"), ""),
        package("a/b", ("0", "1", "1"), ""),
        package("c", ("0", "", "1"), ""),
        package("c", ("0", "1", ""), ""),
        placeless,
        bare,
    ];
    let batch = read(&rpm(), &packages(), metadata(&odd)).unwrap();
    assert_eq!((urls(&batch), batch.skips.len()), (vec!["rpm://Tests/packages/bare"], 5));
    let origin = &batch.origins[0].origin;
    assert_eq!(origin.last_update, None);
    let value = &origin.artifacts[0].value;
    assert_eq!((&value["build_time"], &value["checksums"]), (&Value::Null, &json!({})));
}

#[test]
fn rpm_a_file_elsewhere_is_refused() {
    for href in ["https://other.example/p.xml", "//other.example/p.xml"] {
        assert_fails(&rpm(), &repository(), repomd(href, "sha256", "1", 1), &["other.example"]);
    }
    let inside = read(&rpm(), &repository(), repomd("/p.xml", "sha256", "1", 1)).unwrap();
    assert_eq!(rpm().request(&item(&inside).2).unwrap().url.as_str(), "https://rpm.example/p.xml");
}

#[test]
fn rpm_a_broken_body_is_an_error_with_its_place() {
    let whole = repomd("p", "sha256", "1", 1);
    for (body, words) in [
        (whole[..whole.len() - 9].to_owned(), "after"),
        ("<html>down</html>".to_owned(), "<html> where only <repomd>"),
        (String::new(), "ends too early"),
        (whole.replace("primary", "secondary"), "no file of packages"),
        (repomd("", "sha256", "1", 1), "no location"),
        (
            whole.replace("<?xml version='1.0'?>", "<!DOCTYPE repomd [<!ENTITY a SYSTEM 'file:///x'>]>"),
            "document type",
        ),
    ] {
        assert_fails(&rpm(), &repository(), body, &["repomd.xml", words]);
    }
    let text = metadata(&[package("a", ("0", "1", "1"), ""), package("b", ("0", "1", "1"), "")]);
    let packed = gzip(&text);
    assert_fails(&rpm(), &packages(), packed[..packed.len() - 9].to_vec(), &["the gzip ends too early"]);
    assert_fails(
        &rpm(),
        &packages(),
        text[..text.len() - 12].to_owned(),
        &["the file of packages", "broken XML after"],
    );
    assert_fails(&rpm(), &packages(), "<html>", &["<html> where only <metadata>"]);
    assert_fails(&rpm(), &packages(), gzip(&format!("<metadata>{}", "<a/>".repeat(5 << 20))), &["a bomb?"]);
}

#[test]
fn rpm_takes_its_repositories() {
    let data = json!([{ "base_url": "https://h.example", "releases": ["1"], "components": ["c"], "index_url_templates": ["$base_url/$release/$component"] }]);
    for given in [data.clone(), Value::from(data.to_string())] {
        let built =
            build("rpm", &json!({ "url": "https://h.example", "instance": "Mine", "rpm_src_data": given }))
                .unwrap();
        assert_eq!(built.source.key().to_string(), "rpm of Mine");
        let start = built.source.start(&run(Mode::Full)).unwrap();
        assert_eq!(
            built.source.request(&start[0]).unwrap().url.as_str(),
            "https://h.example/1/c/repodata/repomd.xml"
        );
    }
    let error = |given: Value| build_error("rpm", &json!({ "instance": "Mine", "rpm_src_data": given }));
    assert!(error(json!([])).contains("no repository"));
    assert!(error(json!([{ "base_url": "x" }])).contains("releases"));
    assert!(
        error(json!([{ "base_url": "x", "releases": ["1"], "index_url_templates": ["$base_url"] }]))
            .contains("no http or https URL")
    );
    assert!(build_error("rpm", &json!({ "rpm_src_data": data })).contains("instance"));
    assert!(build_error("rpm", &json!({ "rpm_src_data": data, "instance": "a/b" })).contains("a name"));
}
