//! GNU's file server.

use lamplighter::lister::{Mode, PageBatch};
use lamplighter::listers::Gnu;
use lamplighter::model::Timestamp;
use serde_json::{Value, json};

use super::{assert_asks_once, assert_fails, build, build_error, gzip, read, run, url, urls};

fn gnu() -> Gnu {
    Gnu::new(&url("https://ftp.example/"))
}

fn file(name: &str, time: i64) -> Value {
    json!({ "type": "file", "name": name, "size": 12, "time": time.to_string() })
}

fn folder(name: &str, contents: &[Value]) -> Value {
    // In the order in which such trees are written.
    serde_json::from_str(&format!(
        r#"{{"type":"directory","name":{},"size":4096,"time":"7","contents":{}}}"#,
        json!(name),
        json!(contents)
    ))
    .unwrap()
}

/// As text: the order of fields counts.
fn text(node: &Value) -> String {
    let Value::Object(fields) = node else { return node.to_string() };
    let part = |name: &str| {
        let value = fields.get(name)?;
        let value = match value {
            Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(",")),
            other => other.to_string(),
        };
        Some(format!("{}:{value}", json!(name)))
    };
    let parts: Vec<String> =
        ["type", "name", "size", "time", "contents"].into_iter().filter_map(part).collect();
    format!("{{{}}}", parts.join(","))
}

fn tree(folders: &[Value]) -> String {
    format!("[{},{}]", text(&folder(".", folders)), json!({ "type": "report", "directories": 3, "files": 4 }))
}

fn page(folders: &[Value]) -> PageBatch {
    read(&gnu(), &(), tree(folders)).unwrap()
}

fn project(files: &[Value]) -> PageBatch {
    page(&[folder("gnu", &[folder("p", files)])])
}

fn filenames(batch: &PageBatch) -> Vec<String> {
    let artifacts = batch.origins[0].origin.extra_loader_arguments["artifacts"].as_array().unwrap();
    artifacts.iter().map(|a| a["filename"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn gnu_asks_once() {
    assert_asks_once(&gnu(), "https://ftp.example/tree.json.gz");
}

#[test]
fn gnu_reads_the_file_packed_and_not() {
    let text = tree(&[folder("gnu", &[folder("p", &[file("p-1.tar.gz", 5)])])]);
    let plain = read(&gnu(), &(), text.clone()).unwrap();
    assert_eq!(plain.origins.len(), 1);
    assert_eq!(read(&gnu(), &(), gzip(&text)).unwrap(), plain);
}

#[test]
fn gnu_gives_artifacts() {
    let mut numeric = file("p 1.1#.zip", 0);
    numeric["time"] = json!(1_070_995_400);
    numeric["size"] = json!("3170889");
    let batch = project(&[
        file("p-1.0.tar.gz", 1_071_079_000),
        file("README", 9_999_999_999),
        folder("deep", &[folder("er", &[numeric])]),
        folder("none", &[]),
    ]);
    let origin = &batch.origins[0].origin;
    assert_eq!((origin.url.as_str(), origin.visit_type.as_str()), ("https://ftp.example/gnu/p/", "tar"));
    assert_eq!(origin.last_update, Some(Timestamp::from_seconds(1_071_079_000)));
    assert_eq!(
        Value::Object(origin.extra_loader_arguments.clone()),
        json!({ "artifacts": [
            { "url": "https://ftp.example/gnu/p/p-1.0.tar.gz", "filename": "p-1.0.tar.gz", "time": "2003-12-10T17:56:40+00:00", "length": 12, "version": "1.0" },
            { "url": "https://ftp.example/gnu/p/deep/er/p%201.1%23.zip", "filename": "p 1.1#.zip", "time": "2003-12-09T18:43:20+00:00", "length": 3_170_889, "version": "p 1.1#" },
        ] })
    );
}

#[test]
fn gnu_lists_projects_of_its_folders() {
    let archive = || file("x-1.zip", 5);
    let folders = [
        folder("gnu", &[folder("a", &[archive()]), archive(), folder("bare", &[file("README", 5)])]),
        folder("old-gnu", &[folder("b", &[archive()])]),
        folder("video", &[folder("c", &[archive()])]),
        archive(),
    ];
    assert_eq!(urls(&page(&folders)), ["https://ftp.example/gnu/a/", "https://ftp.example/old-gnu/b/"]);
    let other = Gnu::new(&url("https://alpha.example/pub")).with_folders(["video"]);
    assert_eq!(urls(&read(&other, &(), tree(&folders)).unwrap()), ["https://alpha.example/pub/video/c/"]);
    assert!(page(&[]).is_empty());
}

#[test]
fn gnu_tells_archives_by_their_names() {
    let archives = [
        "a.tar.gz",
        "a-1.0.TAR.GZ",
        "a-1.tgz",
        "a-1.tbz2",
        "a-1.txz",
        "a-1.0.tar",
        "a.zip",
        "a-1.tar.lz",
        "a-1.tar.Z",
        "a-1.tar.zst",
        "a-1.tar.lzma",
    ];
    let others = [
        "a.tar.sig",
        "a.tar.gz.sig",
        "a.gz",
        "a.diff.gz",
        "tar.gz",
        ".tar.gz",
        ".zip",
        "README",
        "a.tar.gz.asc",
        "a.jar",
        "a.zipx",
    ];
    let all: Vec<Value> = archives.iter().chain(&others).map(|name| file(name, 5)).collect();
    assert_eq!(filenames(&project(&all)), archives);
}

#[test]
fn gnu_reads_versions_off_names() {
    for (name, version) in [
        ("info-2.1.0.tar.gz", "2.1.0"),
        ("sthg.tar.gz", "sthg"),
        ("anubis-latest.tar.bz2", "latest"),
        ("aris-w32-2.2.zip", "w32-2.2"),
        ("autogen.info.tar.gz", "autogen.info"),
        ("crypto-build-demo.tar.gz", "crypto-build-demo"),
        ("clisp-i386-solaris2.6.tar.gz", "i386-solaris2.6"),
        ("clisp-i386-suse53-linux.tar.gz", "linux"),
        ("clisp-hppa2.0-hp-hpux10.20.tar.gz", "hppa2.0-hp-hpux10.20"),
        ("winboard-4_0_0-src.zip", "4_0_0-src"),
        ("gettext-runtime-0.13.1.bin.woe32.zip", "0.13.1.bin.woe32"),
        ("sather-specification-000328.html.tar.gz", "000328.html"),
        ("gleem-1.2.1.jar.zip", "1.2.1"),
        ("mm_win32.zip", "win32"),
        ("something-10.1.0.TAR.XZ", "10.1.0"),
        ("p-1.0~rc1+b:2.tgz", "1.0~rc1+b:2"),
        ("p-sunrise.zip", "p-sunrise"),
        ("größe-1.zip", "1"),
    ] {
        let batch = project(&[file(name, 5)]);
        assert_eq!(
            batch.origins[0].origin.extra_loader_arguments["artifacts"][0]["version"], version,
            "{name}"
        );
    }
}

#[test]
fn gnu_odd_files_are_counted() {
    let mut timeless = file("a-1.zip", 5);
    timeless.as_object_mut().unwrap().remove("time");
    let mut sizeless = file("a-2.zip", 5);
    sizeless["size"] = json!("big");
    let mut negative = file("a-3.zip", 5);
    negative["size"] = json!(-1);
    let batch = project(&[
        timeless,
        sizeless,
        negative,
        file("../a-4.zip", 5),
        folder("..", &[file("a-5.zip", 5)]),
        file("a-6.zip", 5),
    ]);
    assert_eq!(filenames(&batch), ["a-6.zip"]);
    assert_eq!(batch.skips.len(), 5);
    assert_eq!(batch.skips[0].what, "gnu/p/a-1.zip");
    let batch = page(&[folder("gnu", &[folder("a/b", &[file("x-1.zip", 5)])])]);
    assert_eq!((batch.origins.len(), batch.skips.len()), (0, 1));
}

#[test]
fn gnu_a_broken_tree_is_an_error_with_its_place() {
    let fails = |body: Vec<u8>, words: &[&str]| assert_fails(&gnu(), &(), body, words);
    let whole = tree(&[folder(
        "gnu",
        &[folder("p", &[file("p-1.tar.gz", 5)]), folder("q", &[file("q-1.tar.gz", 5)])],
    )]);
    fails(b"<html>502</html>".to_vec(), &["no JSON", "502"]);
    fails(Vec::new(), &["ends too early"]);
    fails(whole.as_bytes()[..whole.len() - 70].to_vec(), &["ends too early"]);
    fails(b"[]".to_vec(), &["there is no root"]);
    fails(b"{}".to_vec(), &["a list with the root of a tree"]);
    fails(b"[{\"type\":\"directory\",\"name\":\".\"}]".to_vec(), &["the root has no contents"]);
    fails(b"[{\"contents\":[],\"contents\":[]}]".to_vec(), &["twice"]);
    fails(b"[{\"contents\":[{\"contents\":[],\"name\":\"gnu\"}]}]".to_vec(), &["before its name"]);
    fails(whole.replace("\"q-1.tar.gz\"", "7").into_bytes(), &["after gnu/p", "invalid type"]);
    let mut deep = "[".to_owned();
    for _ in 0..500 {
        deep.push_str("{\"type\":\"directory\",\"name\":\"gnu\",\"contents\":[");
    }
    fails(deep.into_bytes(), &["recursion limit"]);
    let packed = gzip(&whole);
    fails(packed[..packed.len() - 9].to_vec(), &["tree.json.gz", "gzip ends too early"]);
    fails(gzip(&format!("[{}]", " ".repeat(20 << 20))), &["a bomb?"]);
}

#[test]
fn gnu_takes_its_parameters() {
    let built = build("gnu", &json!({})).unwrap();
    assert_eq!(built.source.key().to_string(), "gnu of GNU");
    let first = built.source.start(&run(Mode::Full)).unwrap();
    assert_eq!(built.source.request(&first[0]).unwrap().url.as_str(), "https://ftp.gnu.org/tree.json.gz");
    let other =
        build("gnu", &json!({ "url": "https://h.example/g/", "instance": "mine", "folders": "a, b" }))
            .unwrap();
    assert_eq!(other.source.key().to_string(), "gnu of mine");
    assert_eq!(other.source.request(&first[0]).unwrap().url.as_str(), "https://h.example/g/tree.json.gz");
    for folders in ["", "a,,b", "a/b", ".."] {
        assert!(
            build_error("gnu", &json!({ "folders": folders })).contains("folders: must be names"),
            "{folders}"
        );
    }
}
