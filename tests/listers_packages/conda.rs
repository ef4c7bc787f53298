//! Channels of conda.

use std::io::Write;

use lamplighter::lister::{Failure, FailureKind, Lister, Mode, PageBatch, Recovery};
use lamplighter::listers::Conda;
use lamplighter::listers::conda::CondaCursor;
use lamplighter::model::Timestamp;
use lamplighter::transport::{Body, Provenance};
use serde_json::{Value, json};

use super::{assert_fails, build, build_error, gzip, read, run, url, urls};

fn conda() -> Conda {
    Conda::new(&url("https://conda.example/pkgs/"), "main", ["linux-64", "noarch"])
}

fn at(form: usize) -> CondaCursor {
    let mut at = conda().start(&run(Mode::Full)).remove(0);
    at.form = form;
    at
}

fn file(packages: &Value, conda: &Value) -> String {
    json!({ "info": { "subdir": "linux-64" }, "packages": packages, "packages.conda": conda, "removed": ["x"] })
        .to_string()
}

fn list(packages: &Value, of_conda: &Value) -> PageBatch {
    read(&conda(), &at(0), file(packages, of_conda)).unwrap()
}

#[test]
fn conda_asks_each_architecture() {
    let conda = conda();
    let start = conda.start(&run(Mode::Full));
    let requests: Vec<_> = start.iter().map(|at| conda.request(at).unwrap()).collect();
    let asked: Vec<&str> = requests.iter().map(|r| r.url.as_str()).collect();
    assert_eq!(
        asked,
        ["linux-64", "noarch"]
            .map(|arch| format!("https://conda.example/pkgs/main/{arch}/repodata.json.zst"))
    );
    assert!(requests.iter().all(|r| r.validate && r.provenance == Provenance::Configured));
    let batch = list(&json!({}), &json!({}));
    assert_eq!((batch.parts.len(), batch.parts[0].as_ref()), (1, "linux-64"));
}

#[test]
fn conda_the_next_form_is_asked_for_where_one_is_not_there() {
    let status = |code: u16| FailureKind::Status(http::StatusCode::from_u16(code).unwrap());
    let recover = |form, code| conda().recover(&at(form), &Failure::new(status(code), "x"));
    for (form, next) in [(0, 1), (1, 2), (2, 0)] {
        assert_eq!(recover(form, 404), Recovery::replaced(vec![at(next)]));
        assert_eq!(recover(form, 500), Recovery::gap());
    }
    let asked = |form| conda().request(&at(form)).unwrap().url.path().to_owned();
    assert!(asked(1).ends_with("/repodata.json.bz2") && asked(2).ends_with("/repodata.json"));
    assert!(conda().request(&at(3)).is_err());
}

#[test]
fn conda_lists_builds_in_both_forms() {
    let build = |file: &str, more: Value| {
        let mut build =
            json!({ "name": "a.b", "version": "1.0", "build": "py_0", "timestamp": 1_605_110_689_658_i64 });
        build.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ file: build })
    };
    let batch = list(
        &build("a.b-1.0-py_0.tar.bz2", json!({ "md5": "5", "sha256": "6", "depends": ["c"] })),
        &build("a.b-1.0-py_0.conda", json!({ "sha256": "7", "timestamp": 1_605_110_689_000_i64 })),
    );
    assert_eq!(urls(&batch), ["https://anaconda.org/main/a.b"; 2]);
    let origin = &batch.origins[0].origin;
    assert_eq!(
        (origin.visit_type.as_str(), origin.last_update.unwrap().as_micros()),
        ("conda", 1_605_110_689_658_000)
    );
    let piece = &origin.artifacts[0];
    assert_eq!((piece.field.as_str(), piece.key.as_str()), ("artifacts", "linux-64/a.b-1.0-py_0.tar.bz2"));
    assert_eq!(
        piece.value,
        json!({ "filename": "a.b-1.0-py_0.tar.bz2", "version": "linux-64/1.0-py_0",
            "url": "https://conda.example/pkgs/main/linux-64/a.b-1.0-py_0.tar.bz2",
            "checksums": { "md5": "5", "sha256": "6" }, "date": "2020-11-11T16:04:49.658000+00:00" })
    );
    let other = &batch.origins[1].origin.artifacts[0];
    assert_eq!(other.value["date"], "2020-11-11T16:04:49+00:00");
    assert_eq!(
        (&other.value["version"], &other.value["checksums"]),
        (&json!("linux-64/1.0-py_0"), &json!({ "sha256": "7" }))
    );
    assert_ne!(other.key, piece.key);
}

#[test]
fn conda_dates_come_in_several_forms() {
    let dated = |timestamp: Value, date: Value| {
        let build =
            json!({ "name": "a", "version": "1", "build": "0", "timestamp": timestamp, "date": date });
        let origin = list(&json!({ "a-1-0.tar.bz2": build }), &json!({})).origins.remove(0).origin;
        (origin.last_update, origin.artifacts[0].value.get("date").cloned())
    };
    let day = Timestamp::from_seconds(1_394_000_000 / 86_400 * 86_400);
    for (timestamp, date) in [
        (json!(day.as_seconds()), Value::Null),
        (json!(day.as_seconds() * 1000), json!("1999-01-01")),
        (json!(1000.0 * f64::from(i32::try_from(day.as_seconds()).unwrap())), Value::Null),
        (Value::Null, json!("2014-03-05")),
    ] {
        assert_eq!(dated(timestamp, date), (Some(day), Some(json!("2014-03-05T00:00:00+00:00"))));
    }
    assert_eq!(dated(Value::Null, Value::Null), (None, None));
    assert_eq!(dated(json!(0), json!("soon")), (None, None));
}

#[test]
fn conda_reads_each_compression() {
    let text = file(&json!({ "a-1-0.tar.bz2": { "name": "a", "version": "1", "build": "0" } }), &json!({}));
    let mut packed = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    packed.write_all(text.as_bytes()).unwrap();
    let bodies: [Body; 3] = [text.clone().into(), gzip(&text).into(), packed.finish().unwrap().into()];
    for body in bodies {
        assert_eq!(read(&conda(), &at(0), body).unwrap().origins.len(), 1);
    }
}

#[test]
fn conda_odd_entries_are_counted() {
    let odd = json!({
        "a-1-0.conda": { "name": "a", "version": "1", "build": "0" },
        "b-1-0.conda": { "version": "1", "build": "0" },
        "c-1-0.conda": { "name": "", "version": "1", "build": "0" },
        "d-1-0.conda": { "name": "d", "version": null, "build": "0" },
        "e-1-0.conda": { "name": "e", "version": "1" },
        "f-1-0.conda": { "name": "../f", "version": "1", "build": "0" },
        "../g-1-0.conda": { "name": "g", "version": "1", "build": "0" },
    });
    let batch = list(&json!({}), &odd);
    assert_eq!((urls(&batch), batch.skips.len()), (vec!["https://anaconda.org/main/a"], 6));
    // Where nothing can be read, the file is another one than was expected.
    let mut all = odd;
    all.as_object_mut().unwrap().remove("a-1-0.conda");
    assert_fails(&conda(), &at(0), file(&json!({}), &all), &["linux-64", "none of 6 entries"]);
}

#[test]
fn conda_a_broken_file_is_an_error_with_its_place() {
    let whole = file(&json!({ "a-1-0.tar.bz2": { "name": "a", "version": "1", "build": "0" } }), &json!({}));
    let packed = gzip(&whole);
    assert_fails(
        &conda(),
        &at(0),
        packed[..packed.len() - 9].to_vec(),
        &["linux-64/repodata.json", "ends too early"],
    );
    assert_fails(
        &conda(),
        &at(0),
        whole[..whole.len() - 9].to_owned(),
        &["linux-64/repodata.json ends too early"],
    );
    assert_fails(&conda(), &at(0), "<html>down</html>", &["no JSON"]);
    assert_fails(&conda(), &at(0), "{}", &["neither packages nor packages.conda"]);
    assert_fails(&conda(), &at(0), "", &["ends too early"]);
    let wrong = whole.replace("\"1\"", "[1]");
    assert_fails(&conda(), &at(0), wrong, &["at packages[\"a-1-0.tar.bz2\"]"]);
    let twice = whole.replace("packages.conda", "packages");
    assert_fails(&conda(), &at(0), twice, &["there twice"]);
    assert_fails(&conda(), &at(0), gzip(&format!("{{\"x\": \"{}\"}}", "a".repeat(20 << 20))), &["a bomb?"]);
}

#[test]
fn conda_takes_its_channel() {
    for archs in ["noarch", " noarch , linux-64,"] {
        let built = build("conda", &json!({ "channel": "conda-forge/label/dev", "archs": archs })).unwrap();
        assert_eq!(built.source.key().to_string(), "conda of conda-forge/label/dev");
        let start = built.source.start(&run(Mode::Full)).unwrap();
        assert_eq!(
            built.source.request(&start[0]).unwrap().url.as_str(),
            "https://repo.anaconda.com/pkgs/conda-forge/label/dev/noarch/repodata.json.zst"
        );
    }
    let named = build(
        "conda",
        &json!({ "channel": "c", "archs": "noarch", "instance": "mine", "url": "https://h.example" }),
    );
    assert_eq!(named.unwrap().source.key().to_string(), "conda of mine");
    assert!(build_error("conda", &json!({ "archs": "noarch" })).contains("channel"));
    assert!(build_error("conda", &json!({ "channel": "c" })).contains("archs"));
    assert!(build_error("conda", &json!({ "channel": "c", "archs": " , " })).contains("names none"));
    assert!(build_error("conda", &json!({ "channel": "c", "archs": ["noarch"] })).contains("a text"));
    assert!(build_error("conda", &json!({ "channel": "c", "archs": "noarch,../x" })).contains("no name"));
    assert!(build_error("conda", &json!({ "channel": "a/../b", "archs": "x" })).contains("no name"));
}
