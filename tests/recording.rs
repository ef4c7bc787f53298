//! Recordings of a real server, and that server.
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use http::{HeaderName, HeaderValue};
use lamplighter::lister::Mode;
use lamplighter::model::{JsonObject, Timestamp};
use lamplighter::testing::{Case, Loopback, LoopbackAnswer, LoopbackRequest, VirtualClock};
use lamplighter::transport::{
    Answer, Answered, Auth, Body, Clock, Exchange, Fit, RecordedRun, Recording, RecordingError,
    RecordingInfo, Replay, Request, Response, Transport, TransportError, TransportErrorKind,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(VirtualClock::new(Timestamp::from_seconds(1_000_000)))
}

fn replay(exchanges: impl IntoIterator<Item = Exchange>) -> Replay {
    Replay::new(exchanges, clock())
}

fn fits(replay: &Replay) -> Vec<Fit> {
    replay.log().into_iter().map(|r| r.answer).collect()
}

/// A client of a few lines: puts the secret in last, as the real one does, and counts its answers.
struct Client {
    secret: SecretString,
    clock: VirtualClock,
    spooled: bool,
}

impl Client {
    fn new(secret: &str, clock: &VirtualClock) -> Self {
        Self { secret: secret.into(), clock: clock.clone(), spooled: false }
    }

    fn exchange(&self, mut request: Request) -> std::io::Result<Response> {
        let secret = self.secret.expose_secret();
        match request.auth {
            Auth::Bearer(word) => {
                let value = HeaderValue::from_str(&format!("{word} {secret}")).unwrap();
                request.headers.insert("authorization", value);
            }
            Auth::Query(key) => {
                request.url.query_pairs_mut().append_pair(key, secret);
            }
            Auth::Form(field) => {
                let form = String::from_utf8(request.body.unwrap().to_vec()).unwrap();
                let form = format!("{form}&{field}={secret}");
                request.body = Some(form.into());
            }
            _ => {}
        }
        let url = &request.url;
        let mut socket = std::net::TcpStream::connect((url.host_str().unwrap(), url.port().unwrap()))?;
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let body = request.body.clone().unwrap_or_default();
        write!(socket, "{} {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n", request.method)?;
        for (name, value) in &request.headers {
            write!(socket, "{name}: {}\r\n", value.to_str().unwrap())?;
        }
        write!(socket, "content-length: {}\r\n\r\n", body.len())?;
        socket.write_all(&body)?;
        let mut all = Vec::new();
        socket.read_to_end(&mut all)?;
        let end = all.windows(4).position(|w| w == b"\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let content = &all[end + 4..];
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response::new(status, request.url.clone(), self.body(content)?, self.clock.now());
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            // The date is the system's, and says nothing of the forge.
            if name != "date" {
                response.headers.append(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
            }
        }
        let announced = response.header("content-length").and_then(|n| n.parse().ok());
        if announced.is_some_and(|n: usize| n != content.len()) {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(response)
    }

    fn body(&self, content: &[u8]) -> std::io::Result<Body> {
        if !self.spooled {
            return Ok(Body::from(content.to_vec()));
        }
        let mut file = tempfile::tempfile()?;
        file.write_all(content)?;
        Ok(Body::Spooled { file: Arc::new(file), len: content.len() as u64 })
    }
}

#[async_trait::async_trait]
impl Transport for Client {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let place = request.place();
        self.clock.advance(std::time::Duration::from_secs(1));
        self.exchange(request).map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::ConnectionRefused {
                TransportErrorKind::Connect
            } else {
                TransportErrorKind::Body
            };
            TransportError::new(kind, place).with_source(e)
        })
    }
}

const SECRET: &str = "planted-s3cret/1";

/// A forge that gives its secret away wherever it can: cookies, links, headers and pages.
fn careless(request: &LoopbackRequest) -> LoopbackAnswer {
    let path = request.target.split('?').next().unwrap();
    match path {
        "/page" => LoopbackAnswer::json(&json!({"repositories": ["ä", "b"]}))
            .with_header("set-cookie", "session=planted-s3cret/1")
            .with_header("etag", "\"one\"")
            .with_header("x-twice", "1")
            .with_header("x-twice", "2")
            .with_header("link", "</page?page=2&key=planted-s3cret%2F1>; rel=\"next\""),
        "/echo" => {
            let sent = String::from_utf8_lossy(&request.body);
            let auth = request.headers.get("authorization").map_or("", |v| v.to_str().unwrap());
            LoopbackAnswer::new(200, format!("<p>{} {sent} {auth}</p>", request.target))
                .with_header("content-type", "text/html; charset=utf-8")
                .with_header("authorization", auth)
        }
        "/binary" => LoopbackAnswer::new(200, vec![0, 159, 146, 150, b'\r', b'\n', 0])
            .with_header("content-type", "application/gzip"),
        "/cut" => LoopbackAnswer::new(200, "a body that breaks off").cut_after(6),
        "/closed" => LoopbackAnswer::close(),
        _ => LoopbackAnswer::new(404, ""),
    }
}

fn asked(server: &Loopback) -> Vec<Request> {
    let get = |path: &str| Request::get(server.url(path));
    vec![
        get("/page?page=1").with_auth(Auth::Query("key")),
        get("/page?page=2").with_auth(Auth::bearer()).with_header("if-none-match", "\"zero\""),
        get("/echo?a=b").with_auth(Auth::bearer()),
        get("/echo?page=1").with_auth(Auth::Query("key")),
        Request::post_form(server.url("/echo"), [("order", "oldest")]).with_auth(Auth::Form("api.token")),
        get("/binary"),
        get("/missing"),
        get("/cut"),
        get("/closed"),
    ]
}

fn info() -> RecordingInfo {
    RecordingInfo::new("gitea", "a careless forge").with_secrets(vec![SECRET.into()])
}

fn start() -> RecordedRun {
    RecordedRun::new(Timestamp::from_seconds(1_000)).with_mode("full")
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(p).unwrap())).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

/// Records all that `asked` asks; gives the answers as the client saw them.
fn record(folder: &Path, server: &Loopback, spooled: bool) -> Vec<Result<Response, TransportErrorKind>> {
    let clock = VirtualClock::new(Timestamp::from_seconds(1_000));
    let client = Client { spooled, ..Client::new(SECRET, &clock) };
    // Around what is only known as some transport.
    let client: Box<dyn Transport> = Box::new(client);
    let recording = Recording::create(client, folder, info()).unwrap();
    recording.begin_run(start()).unwrap();
    let answers = asked(server).into_iter().map(|r| block_on(recording.send(r)).map_err(|e| e.kind()));
    let answers = answers.collect();
    recording.end_run("complete").unwrap();
    answers
}

#[test]
fn a_recording_replays_what_was_answered_and_holds_no_secret() {
    for spooled in [false, true] {
        let server = Loopback::start(careless).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let answers = record(folder.path(), &server, spooled);
        // The secret was sent and given away: else there is nothing to find.
        let log = server.log();
        assert!(log[0].target.contains("planted-s3cret%2F1"));
        assert_eq!(log[2].headers["authorization"], format!("Bearer {SECRET}"));
        assert!(holds(&log[4].body, SECRET));
        assert!(holds(&answers[2].as_ref().unwrap().body.bytes().unwrap(), SECRET));
        for (name, bytes) in files(folder.path()) {
            assert!(!holds(&bytes, "planted") && !holds(&bytes, "s3cret"), "{name}");
        }

        let case = Case::load(folder.path()).unwrap();
        let run = &case.runs[0];
        assert_eq!((case.lister.as_str(), run.outcome.as_deref()), ("gitea", Some("complete")));
        assert_eq!((run.mode, run.at), (Some(Mode::Full), Some(Timestamp::from_seconds(1_000))));
        assert_eq!(run.secrets.len(), 1);
        let replay = replay(run.exchanges.clone());
        for (request, answer) in asked(&server).into_iter().zip(&answers) {
            let place = request.place();
            let auth = request.auth.clone();
            let replayed = block_on(replay.send(request)).map_err(|e| e.kind());
            let (Ok(replayed), Ok(answer)) = (&replayed, answer) else {
                assert_eq!(replayed.unwrap_err(), *answer.as_ref().unwrap_err(), "{place}");
                continue;
            };
            assert_eq!(replayed.status, answer.status, "{place}");
            assert_eq!(replayed.received_at, answer.received_at, "{place}");
            assert_eq!(replayed.url.path(), answer.url.path(), "{place}");
            let without =
                |text: &str| text.replace("planted-s3cret%2F1", "redacted-1").replace(SECRET, "redacted-1");
            if !place.contains("/echo") {
                assert_eq!(replayed.body.bytes().unwrap(), answer.body.bytes().unwrap(), "{place}");
            }
            assert_eq!(
                replayed.body.bytes().unwrap(),
                match answer.text() {
                    Ok(text) if !place.contains("/binary") => without(&text).into_bytes(),
                    _ => answer.body.bytes().unwrap().to_vec(),
                }
            );
            let mut expected = answer.headers.clone();
            expected.remove("set-cookie");
            expected.remove("authorization");
            for value in expected.values_mut() {
                *value = without(value.to_str().unwrap()).parse().unwrap();
            }
            assert_eq!(replayed.headers, expected, "{place} {auth:?}");
        }
        assert_eq!(fits(&replay), vec![Fit::Exact; 9]);
        assert_eq!(replay.unused(), 0);
    }
}

#[test]
fn the_field_of_a_secret_is_dropped_where_the_secret_is_not_known() {
    let server = Loopback::start(|_| LoopbackAnswer::new(204, "")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = VirtualClock::new(Timestamp::EPOCH);
    let info = RecordingInfo::new("gitea", "no secret told");
    let recording = Recording::create(Client::new(SECRET, &clock), folder.path(), info).unwrap();
    recording.begin_run(start()).unwrap();
    let request = Request::get(server.url("/page?page=1")).with_auth(Auth::Query("key"));
    let response = block_on(recording.send(request)).unwrap();
    assert!(response.url.query().unwrap().contains("planted"));
    assert!(!holds(&files(folder.path())["fixture.json"], "planted"));
}

#[test]
fn body_files_are_raw_and_named_after_their_content() {
    let server = Loopback::start(careless).unwrap();
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &server, false);
    let files = files(folder.path());
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "fixture.json",
        "run-1-0001.json",
        "run-1-0002.json",
        "run-1-0003.html",
        "run-1-0004.html",
        "run-1-0005.html",
        "run-1-0006.bin",
    ];
    assert_eq!(names, expected);
    assert_eq!(files["run-1-0006.bin"], [0, 159, 146, 150, b'\r', b'\n', 0]);
    // A header on one line, so that a diff can be read.
    assert!(holds(&files["fixture.json"], "\n            [\"etag\", \"\\\"one\\\"\"],\n"));
}

#[test]
fn a_recording_that_is_cut_off_is_a_shorter_recording() {
    let server = Loopback::start(careless).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = VirtualClock::new(Timestamp::from_seconds(1_000));
    let recording = Recording::create(Client::new(SECRET, &clock), folder.path(), info()).unwrap();
    recording.begin_run(start()).unwrap();
    let exchanges = || Case::load(folder.path()).unwrap().runs[0].exchanges.clone();
    assert_eq!(exchanges().len(), 0);
    for (n, request) in asked(&server).into_iter().enumerate() {
        let at = request.url.path().to_owned();
        let _ = block_on(recording.send(request));
        let kept = exchanges();
        assert_eq!((kept.len(), kept[n].url.path()), (n + 1, at.as_str()));
    }
    drop(recording);
    // Each was added, and nothing written anew.
    let lines = fs::read_to_string(folder.path().join("fixture.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 9);
    assert!(!holds(&files(folder.path())["fixture.json"], "exchanges\": [\n          {"));
    let whole: Vec<_> = exchanges().iter().map(|e| e.url.clone()).collect();
    // A kill in the middle of a line costs that line.
    let cut = lines.len() - 40;
    fs::write(folder.path().join("fixture.jsonl"), &lines[..cut]).unwrap();
    assert_eq!(exchanges().iter().map(|e| e.url.clone()).collect::<Vec<_>>(), whole[..8]);
    fs::write(folder.path().join("fixture.jsonl"), &lines).unwrap();
    // What a kill leaves half written is not looked at, and written over by the next run.
    fs::write(folder.path().join("fixture.json.new"), "{\"form\"").unwrap();
    fs::write(folder.path().join("run-2-0001.json"), "half").unwrap();
    assert_eq!(Case::load(folder.path()).unwrap().runs[0].outcome, None);
    let again = Recording::create(Client::new(SECRET, &clock), folder.path(), info()).unwrap();
    let state: JsonObject = [("page".to_owned(), Value::from(2))].into_iter().collect();
    again.begin_run(start().with_state(state.clone()).with_max_pages(3)).unwrap();
    // A kill before the journal is removed adds nothing twice.
    assert!(!folder.path().join("fixture.jsonl").exists());
    fs::write(folder.path().join("fixture.jsonl"), &lines).unwrap();
    assert_eq!(exchanges().len(), 9);
    block_on(again.send(asked(&server).remove(0))).unwrap();
    let runs = Case::load(folder.path()).unwrap().runs;
    assert_eq!(runs.iter().map(|r| r.exchanges.len()).collect::<Vec<_>>(), [9, 1]);
    assert_eq!((&runs[0].state_before, &runs[1].state_before), (&None, &Some(state)));
    assert_eq!(runs[1].max_pages, Some(3));
    let Answered::Answer(answer) = &runs[1].exchanges[0].answered else { panic!("an answer") };
    assert_eq!(answer.body.bytes().unwrap(), json!({"repositories": ["ä", "b"]}).to_string());
}

#[test]
fn a_recording_never_mixes_listers_or_goes_without_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let create = |info| Recording::create(replay([]), folder.path(), info);
    let recording = create(info()).unwrap();
    assert!(matches!(recording.end_run("complete"), Err(RecordingError::NoRun)));
    let at = url("https://h.example/");
    let exchange = Exchange::get(at.clone(), Answer::new(200, ""));
    let early = Recording::create(replay([exchange]), folder.path(), info()).unwrap();
    let unrecorded = block_on(early.send(Request::get(at))).unwrap_err();
    assert_eq!(unrecorded.kind(), TransportErrorKind::Other);
    recording.begin_run(start()).unwrap();
    assert!(create(info()).is_ok());
    let other = RecordingInfo::new("gogs", "another");
    assert!(matches!(create(other).unwrap_err(), RecordingError::Taken { .. }));
    let arguments = [("url".to_owned(), Value::from("https://h.example/"))].into_iter().collect();
    let elsewhere = info().with_arguments(arguments);
    assert!(matches!(create(elsewhere).unwrap_err(), RecordingError::Taken { .. }));
    fs::write(folder.path().join("fixture.json"), "[]").unwrap();
    assert!(matches!(create(info()).unwrap_err(), RecordingError::Manifest { .. }));
}

// The loopback server.

#[test]
fn the_log_is_what_was_asked() {
    let server = Loopback::start(careless).unwrap();
    let client = Client::new(SECRET, &VirtualClock::new(Timestamp::EPOCH));
    let post =
        Request::post_form(server.url("/echo?x=%20"), [("order", "oldest")]).with_header("x-test", "1");
    assert_eq!(client.exchange(post).unwrap().text().unwrap(), "<p>/echo?x=%20 order=oldest </p>");
    client.exchange(Request::get(server.url("/page"))).unwrap();
    let log = server.log();
    let seen: Vec<(usize, &str, &str, &[u8])> =
        log.iter().map(|r| (r.base, r.method.as_str(), r.target.as_str(), &*r.body)).collect();
    assert_eq!(seen, [(0, "POST", "/echo?x=%20", &b"order=oldest"[..]), (0, "GET", "/page", b"")]);
    assert_eq!(log[0].headers["x-test"], "1");
}

#[test]
fn answers_can_be_cut_closed_or_withheld() {
    let server = Loopback::start(|request| match request.target.as_str() {
        "/cut" => LoopbackAnswer::new(200, "0123456789").cut_after(4),
        "/close" => LoopbackAnswer::close(),
        _ => LoopbackAnswer::never(),
    })
    .unwrap();
    let ask = |path: &str| {
        let mut socket = std::net::TcpStream::connect(server.address()).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        socket
    };
    let all = |mut socket: std::net::TcpStream| {
        let mut answer = Vec::new();
        // A reset is as good an end as a closed connection.
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    let cut = all(ask("/cut"));
    assert!(cut.contains("content-length: 10\r\n") && cut.ends_with("\r\n\r\n0123"), "{cut}");
    assert_eq!(all(ask("/close")), "");
    let waiting = ask("/never");
    while server.log().len() < 3 {
        std::thread::yield_now();
    }
    waiting.set_nonblocking(true).unwrap();
    let nothing_yet = (&waiting).read(&mut [0]).unwrap_err();
    assert_eq!(nothing_yet.kind(), std::io::ErrorKind::WouldBlock);
    waiting.set_nonblocking(false).unwrap();
    let address = server.address();
    drop(server);
    assert_eq!(all(waiting), "");
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn recorded_pages_lead_to_pages_that_are_here() {
    let api = "https://forge.example/api";
    let exchanges = || {
        [
            Exchange::get(
                url(&format!("{api}/repos?page=1")),
                Answer::new(200, r#"["https://forge.example/a.git", "https:\/\/cdn.example\/b"]"#)
                    .with_header("content-type", "application/json")
                    .with_header("content-length", "1")
                    .with_header("link", &format!("<{api}/repos?page=2>; rel=\"next\"")),
            ),
            Exchange::get(url(&format!("{api}/repos?page=2")), Answer::new(200, "[]")),
            Exchange::get(url("https://cdn.example/b"), Answer::new(200, vec![255, 0])),
            Exchange::failed(url("https://cdn.example/c"), TransportErrorKind::Connect),
        ]
    };
    let forge = Loopback::of_exchanges(exchanges(), &["page"], |_, body| body).unwrap();
    let client = Client::new("", &VirtualClock::new(Timestamp::EPOCH));
    let get = |url: Url| client.exchange(Request::get(url));
    let here = |text: &str| forge.url_of(&url(text)).unwrap();
    let base = |text: &str| here(text).as_str().trim_end_matches('/').to_owned();
    let (forge_base, cdn_base) = (base("https://forge.example"), base("https://cdn.example"));
    assert_ne!(forge_base, cdn_base);
    // Another page size is similar, as in a replay.
    let first = get(here(&format!("{api}/repos?page=1&limit=5"))).unwrap();
    let escaped = cdn_base.replace('/', "\\/");
    assert_eq!(first.text().unwrap(), format!(r#"["{forge_base}/a.git", "{escaped}\/b"]"#));
    let next = first.link("next").unwrap().unwrap();
    assert_eq!(next, here(&format!("{api}/repos?page=2")));
    assert_eq!(get(next).unwrap().text().unwrap(), "[]");
    assert_eq!(&*get(here("https://cdn.example/b")).unwrap().body.bytes().unwrap(), [255, 0]);
    assert!(get(here("https://cdn.example/c")).is_err());
    assert_eq!(get(here("https://cdn.example/d")).unwrap().status, 404);
    assert_eq!(forge.url_of(&url("https://unknown.example/")), None);
    assert_eq!(forge.log().iter().map(|r| r.base).collect::<Vec<_>>(), [0, 0, 1, 1, 1]);

    let without_a = Loopback::of_exchanges(exchanges(), &["page"], |at, body| {
        assert!(at.host_str().unwrap().ends_with(".example"));
        let repos: Result<Vec<String>, _> = serde_json::from_slice(&body);
        let left = repos.map(|r| r.into_iter().filter(|r| !r.ends_with("/a.git")).collect::<Vec<_>>());
        left.map_or(body, |left| serde_json::to_vec(&left).unwrap().into())
    })
    .unwrap();
    let first = get(without_a.url_of(&url(&format!("{api}/repos?page=1"))).unwrap()).unwrap();
    assert_eq!(first.json::<Vec<String>>().unwrap().len(), 1);
}
