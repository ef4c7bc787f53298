//! Replays, and the cases that they are made of.
#![cfg(feature = "testing")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::executor::block_on;
use http::Method;
use lamplighter::lister::Mode;
use lamplighter::model::Timestamp;
use lamplighter::testing::{Case, CaseError, CaseRun, VirtualClock};
use lamplighter::transport::{
    Answer, Answered, Auth, Clock, Exchange, Fit, Replay, Request, Transport, TransportError,
    TransportErrorKind,
};
use secrecy::ExposeSecret;
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

fn body(replay: &Replay, request: Request) -> String {
    block_on(replay.send(request)).unwrap().text().unwrap()
}

fn fits(replay: &Replay) -> Vec<Fit> {
    replay.log().into_iter().map(|r| r.answer).collect()
}

fn error(replay: &Replay, request: Request) -> TransportError {
    block_on(replay.send(request)).unwrap_err()
}

// What fits what.

#[test]
fn an_exact_answer_goes_before_a_similar_one_and_nothing_else_fits() {
    let replay = replay([
        Exchange::get(url("https://h.example/r?page=1&size=100"), Answer::new(200, "similar")),
        Exchange::get(url("https://h.example/r?size=50&page=1"), Answer::new(200, "exact")),
        Exchange::get(url("https://h.example/r?page=2&size=100"), Answer::new(200, "second")),
    ])
    .with_positions(&["page"]);
    let ask = |path: &str| Request::get(url(path));
    assert_eq!(body(&replay, ask("HTTPS://H.example/r?page=1&size=50")), "exact");
    assert_eq!(body(&replay, ask("https://h.example/r?page=2&size=50&sort=id")), "second");
    for other in [
        "https://h.example/r?page=3&size=100",
        "https://h.example/r?size=100",
        "https://h.example/R?page=1",
        "https://other.example/r?page=1",
        "https://h.example:444/r?page=1",
    ] {
        assert_eq!(error(&replay, ask(other)).kind(), TransportErrorKind::NotRecorded, "{other}");
    }
    let mut head = ask("https://h.example/r?page=1&size=100");
    head.method = Method::HEAD;
    assert!(!error(&replay, head).is_retryable());
    let expected: Vec<Fit> =
        [Fit::Exact, Fit::Similar].into_iter().chain(std::iter::repeat_n(Fit::None, 6)).collect();
    assert_eq!(fits(&replay), expected);
    assert_eq!(replay.unused(), 1);
    assert_eq!(replay.log()[1].url, url("https://h.example/r?page=2&size=50&sort=id"));
}

#[test]
fn a_position_absent_in_both_is_the_same_position() {
    let first = Exchange::get(url("https://h.example/r?size=100"), Answer::new(200, "first"));
    let replay = replay([first]).with_positions(&["since"]);
    assert_eq!(body(&replay, Request::get(url("https://h.example/r"))), "first");
    assert_eq!(fits(&replay), [Fit::Similar]);
}

#[test]
fn answers_of_one_request_come_in_order_and_the_last_one_again_and_again() {
    let at = || url("https://h.example/r?page=1");
    let replay = replay([
        Exchange::failed(at(), TransportErrorKind::Connect),
        Exchange::get(at(), Answer::new(503, "wait")),
        Exchange::get(url("https://h.example/other"), Answer::new(200, "")),
        Exchange::get(at(), Answer::new(200, "ok")),
    ])
    .with_positions(&["page"]);
    let failed = error(&replay, Request::get(at()));
    assert_eq!((failed.kind(), failed.is_retryable()), (TransportErrorKind::Connect, true));
    assert_eq!(body(&replay, Request::get(at())), "wait");
    // One that only looks like it takes its turn too.
    assert_eq!(body(&replay, Request::get(url("https://h.example/r?page=1&x=y"))), "ok");
    assert_eq!(body(&replay, Request::get(at())), "ok");
    assert_eq!(body(&replay, Request::get(at())), "ok");
    assert_eq!(replay.unused(), 1);
}

#[test]
fn a_304_answers_only_a_condition() {
    let at = || url("https://h.example/index");
    let not_modified = || Exchange::get(at(), Answer::new(304, "").with_header("etag", "\"1\""));
    let page = || Exchange::get(at(), Answer::new(200, "page"));
    let conditional = |name: &'static str| Request::get(at()).with_header(name, "\"1\"");
    for order in [[not_modified(), page()], [page(), not_modified()]] {
        let replay = replay(order);
        assert_eq!(block_on(replay.send(Request::get(at()))).unwrap().status, 200);
        for name in ["if-none-match", "if-modified-since"] {
            assert_eq!(block_on(replay.send(conditional(name))).unwrap().status, 304);
        }
        assert_eq!(block_on(replay.send(Request::get(at()))).unwrap().status, 200);
    }
    let only_304 = replay([not_modified()]);
    assert_eq!(error(&only_304, Request::get(at())).kind(), TransportErrorKind::NotRecorded);
    assert_eq!(block_on(only_304.send(conditional("if-none-match"))).unwrap().status, 304);
    let only_page = replay([page()]);
    assert_eq!(body(&only_page, conditional("if-none-match")), "page");
    assert_eq!(fits(&only_page), [Fit::Exact]);
}

#[test]
fn posts_are_told_apart_by_what_they_say() {
    let at = || url("https://h.example/api");
    let replay = replay([
        Exchange::post(at(), "order=oldest&after=7", Answer::new(200, "form")),
        Exchange::post(at(), r#"{"page": 1, "query": "x"}"#, Answer::new(200, "json")),
    ])
    .with_positions(&["after", "page"]);
    assert_eq!(body(&replay, Request::post_form(at(), [("after", "7"), ("order", "oldest")])), "form");
    assert_eq!(body(&replay, Request::post_json(at(), &json!({"query": "x", "page": 1}))), "json");
    assert_eq!(body(&replay, Request::post_json(at(), &json!({"page": 1, "query": "y"}))), "json");
    assert!(block_on(replay.send(Request::post_json(at(), &json!({"page": 2})))).is_err());
    assert_eq!(fits(&replay), [Fit::Exact, Fit::Exact, Fit::Similar, Fit::None]);
}

#[test]
fn the_field_of_a_secret_is_left_out_of_both_sides() {
    let form = || url("https://h.example/api");
    let query = || url("https://h.example/list?key=redacted-1&page=1");
    let recorded = || {
        [
            Exchange::post(form(), "api.token=redacted-1&order=oldest", Answer::new(200, "form")),
            Exchange::get(query(), Answer::new(200, "query")),
        ]
    };
    let with = replay(recorded());
    let post = |auth| Request::post_form(form(), [("order", "oldest")]).with_auth(auth);
    let get = |auth| Request::get(url("https://h.example/list?page=1")).with_auth(auth);
    assert_eq!(body(&with, post(Auth::Form("api.token"))), "form");
    assert_eq!(body(&with, get(Auth::Query("key"))), "query");
    assert_eq!(fits(&with), [Fit::Exact, Fit::Exact]);
    // Another field is no secret: what differs in it is another request, if a similar one.
    let without = replay(recorded());
    body(&without, post(Auth::None));
    body(&without, get(Auth::Query("page")));
    assert_eq!(fits(&without), [Fit::Similar, Fit::Similar]);
}

#[test]
fn redirects_are_followed_where_their_targets_are_recorded() {
    let moved = |to: &str| Answer::new(301, "").with_header("location", to);
    let replay = replay([
        Exchange::get(url("https://h.example/old"), moved("/new?page=1")),
        Exchange::get(url("https://h.example/new?page=1"), Answer::new(200, "here")),
        Exchange::get(url("https://h.example/away"), moved("https://elsewhere.example/")),
        Exchange::get(url("https://h.example/loop"), moved("/loop")),
        Exchange::post(url("https://h.example/form"), "a=b", moved("/new?page=1")),
    ])
    .with_positions(&["page"]);
    let response = block_on(replay.send(Request::get(url("https://h.example/old")))).unwrap();
    assert_eq!((response.status.as_u16(), response.url.as_str()), (200, "https://h.example/new?page=1"));
    assert_eq!(fits(&replay), [Fit::Exact, Fit::Exact]);
    let left = block_on(replay.send(Request::get(url("https://h.example/away")))).unwrap();
    assert_eq!((left.status.as_u16(), left.url.as_str()), (301, "https://h.example/away"));
    let circle = error(&replay, Request::get(url("https://h.example/loop")));
    assert_eq!(circle.kind(), TransportErrorKind::Redirect);
    assert_eq!(body(&replay, Request::post_form(url("https://h.example/form"), [("a", "b")])), "here");
}

#[test]
fn what_is_not_recorded_says_what_is_near_and_no_secret() {
    let page = |n: u32| {
        let at = url(&format!("https://h.example/api/repos?key=hidden&page={n}"));
        Exchange::get(at, Answer::new(200, ""))
    };
    let replay = replay([
        Exchange::get(url("https://other.example/api/repos"), Answer::new(200, "")),
        Exchange::get(url("https://h.example/about"), Answer::new(200, "")),
        page(1),
        page(2),
    ])
    .with_positions(&["page"]);
    let asked = url("https://me:opensesame@h.example/api/repos?page=3&key=hidden");
    let error = error(&replay, Request::get(asked));
    assert_eq!(
        error.to_string(),
        "not recorded: GET https://h.example/api/repos (nearest: GET https://h.example/api/repos at page=1, \
         GET https://h.example/api/repos at page=2, GET https://h.example/about)"
    );
    let nothing = block_on(replay.send(Request::get(url("https://new.example/")))).unwrap_err();
    assert!(nothing.to_string().contains("nothing of this host"), "{nothing}");
    assert!(!format!("{:?}", replay.log()).contains("opensesame"));
}

#[test]
fn an_answer_came_when_it_was_recorded_or_else_now() {
    let mut answer = Answer::new(200, "");
    let clock = VirtualClock::new(Timestamp::from_seconds(50));
    let plain = Exchange::get(url("https://h.example/now"), answer.clone());
    answer.received_at = Some(Timestamp::from_seconds(7));
    answer.url = Some(url("https://h.example/final"));
    let kept = Exchange::get(url("https://h.example/then"), answer);
    let replay = Replay::new([plain, kept], Arc::new(clock.clone()));
    block_on(clock.sleep(std::time::Duration::from_secs(5)));
    let now = block_on(replay.send(Request::get(url("https://h.example/now")))).unwrap();
    assert_eq!(now.received_at, Timestamp::from_seconds(55));
    let then = block_on(replay.send(Request::get(url("https://h.example/then")))).unwrap();
    assert_eq!(
        (then.received_at, then.url.as_str()),
        (Timestamp::from_seconds(7), "https://h.example/final")
    );
}

// Fixtures by hand.

fn fixture(exchange: &Value) -> (tempfile::TempDir, Value) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = json!({
        "form": 1, "lister": "gitea", "about": "by hand", "arguments": {"url": "https://h.example/"},
        "credentials": 2,
        "runs": [{"at": "2026-01-01T00:00:00Z", "mode": null, "exchanges": [exchange],
                  "outcome": "complete", "origins": "run-1.origins.json"}],
    });
    fs::write(folder.path().join("fixture.json"), manifest.to_string()).unwrap();
    fs::write(folder.path().join("page.json"), "[1]").unwrap();
    let origins = json!([{"url": "https://h.example/r.git", "visit_type": "git", "last_update": null,
        "is_fork": true, "forked_from_url": null, "enabled": true, "extra_loader_arguments": {"a": [1]}}]);
    fs::write(folder.path().join("run-1.origins.json"), origins.to_string()).unwrap();
    (folder, origins)
}

#[test]
fn a_fixture_by_hand_is_read_whole() {
    let (folder, origins) = fixture(&json!({"method": "POST", "url": "https://h.example/p", "body": "a=1",
        "status": 203, "headers": [["x-a", "1"], ["X-A", "2"]], "body_file": "page.json"}));
    for path in [folder.path().to_owned(), folder.path().join("fixture.json")] {
        let case = Case::load(path).unwrap();
        let run = &case.runs[0];
        assert_eq!(run.arguments["url"], "https://h.example/");
        assert_eq!((run.secrets.len(), run.mode), (2, None));
        assert_eq!(serde_json::to_value(&run.origins).unwrap(), origins);
        let exchange = &run.exchanges[0];
        assert_eq!((exchange.method.as_str(), exchange.request_body.as_deref()), ("POST", Some(&b"a=1"[..])));
        let Answered::Answer(answer) = &exchange.answered else { panic!("an answer") };
        assert_eq!((answer.status.as_u16(), &*answer.body.bytes().unwrap()), (203, &b"[1]"[..]));
        assert_eq!(answer.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}

#[test]
fn what_is_wrong_with_a_fixture_is_said() {
    let problem = |exchange: Value| {
        let (folder, _) = fixture(&exchange);
        Case::load(folder.path()).unwrap_err()
    };
    let with = |more: Value| {
        let mut exchange = json!({"method": "GET", "url": "https://h.example/p"});
        exchange.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        problem(exchange)
    };
    for (exchange, said) in [
        (json!({}), "either a status or an error"),
        (json!({"status": 200, "error": "body"}), "either a status or an error"),
        (json!({"error": "weather"}), "no kind of error"),
        (json!({"status": 200, "url": "/p"}), "relative URL"),
        (json!({"status": 200, "method": "G T"}), "method"),
        (json!({"status": 200, "headers": [["a b", "c"]]}), "cannot be a header"),
        (json!({"status": 200, "body_file": "../page.json"}), "no name of a file beside it"),
    ] {
        let error = with(exchange);
        assert!(matches!(&error, CaseError::Content { .. }) && error.to_string().contains(said), "{error}");
    }
    let missing = with(json!({"status": 200, "body_file": "nowhere.json"}));
    assert!(matches!(&missing, CaseError::Io { path, .. } if path.ends_with("nowhere.json")));
    let unknown = with(json!({"status": 200, "bodyfile": "page.json"}));
    assert!(matches!(&unknown, CaseError::Json { place, .. } if place.starts_with("runs[0].exchanges[0]")));
}

#[test]
fn a_corpus_case_becomes_arguments_secrets_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let case = json!({"lister": "save-bulk", "test": "by_hand", "outcome": "passed", "runs": [{
        "lister_name": "save-bulk",
        "args": {
            "url": "https://h.example/", "api_token": "redacted-0", "archs": ["a", "b"], "deep": [{"k": 1}],
            "per_page": 2, "nothing": null, "incremental": false, "max_pages": 3, "enable_origins": false,
            "record_batch_size": 1, "max_origins_per_page": 9, "first_visits_queue_prefix": "q",
            "credentials": {"save-bulk": {"h": [{"username": "u", "password": "redacted-1"},
                                                {"username": "v", "token": "redacted-2"}]}},
        },
        "instance": "h", "url": "https://h.example/", "ran_at": "2026-01-01T00:00:00+00:00",
        "state_before": {"a": 1, "b": 1}, "state_in_memory_before": {"b": 2},
        "known_origins_before": [{"url": "https://h.example/r", "visit_type": "git"}],
        "exchanges": [
            {"method": "GET", "url": "https://h.example/x", "status": 200, "reason": "OK", "body_base64": "AP8=",
             "headers": {"X-A": ["1", "2"], "X-B": "3"}, "request_headers": {}, "request_body": null},
            {"method": "HEAD", "url": "https://h.example/y", "request_body": null,
             "error": {"type": "ReadTimeout", "module": "m", "message": ""}},
            {"method": "GET", "url": "https://", "status": 200, "body": "", "headers": {}},
        ],
    }]});
    let path = folder.path().join("case.json");
    fs::write(&path, case.to_string()).unwrap();
    let case = Case::load(&path).unwrap();
    let run = &case.runs[0];
    assert_eq!(case.lister, "save_bulk");
    let expected = json!({"url": "https://h.example/", "api_token": "redacted-0", "archs": "a,b",
        "deep": "[{\"k\":1}]", "per_page": 2});
    assert_eq!(Value::Object(run.arguments.clone()), expected);
    let secrets: Vec<(Option<&str>, &str)> =
        run.secrets.iter().map(|s| (s.user.as_deref(), s.secret.expose_secret())).collect();
    assert_eq!(secrets, [(Some("u"), "redacted-1"), (Some("v"), "redacted-2")]);
    assert_eq!((run.mode, run.max_pages, run.enable_origins), (Some(Mode::Full), Some(3), Some(false)));
    assert_eq!(Value::Object(run.state_before.clone().unwrap()), json!({"a": 1, "b": 2}));
    assert_eq!(run.at, Some(Timestamp::parse("2026-01-01T00:00:00Z").unwrap()));
    assert_eq!(run.known_origins[0].url, "https://h.example/r");
    assert_eq!((run.instance.as_deref(), run.exchanges.len()), (Some("h"), 2));
    let Answered::Answer(answer) = &run.exchanges[0].answered else { panic!("an answer") };
    assert_eq!(&*answer.body.bytes().unwrap(), [0, 255]);
    assert_eq!(answer.headers.get_all("x-a").iter().count(), 2);
    assert!(matches!(run.exchanges[1].answered, Answered::Error(TransportErrorKind::Timeout)));
}

/// The shared material, where this machine has it.
fn shared(what: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LAMPLIGHTER_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join(what);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is absent; LAMPLIGHTER_SHARED names the folder it is in", path.display());
    None
}

/// Every case of the corpus, counted apart from the loader, loads and answers what it recorded.
#[test]
fn every_case_of_the_corpus_loads_and_answers_its_own_requests() {
    let Some(corpus) = shared("corpus") else { return };
    let mut cases = 0;
    for folder in fs::read_dir(&corpus).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        let files = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
        for file in files.filter(|p| p.extension().is_some_and(|e| e == "json")) {
            cases += 1;
            let name = file.display().to_string();
            let case = Case::load(&file).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            let raw: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
            assert_eq!(case.lister, folder.file_name().unwrap().to_str().unwrap(), "{name}");
            let runs = raw["runs"].as_array().unwrap();
            assert_eq!(case.runs.len(), runs.len(), "{name}");
            for (run, raw) in case.runs.iter().zip(runs) {
                answers_its_own(&name, run, raw);
            }
        }
    }
    assert!(cases > 0, "no case in {}", corpus.display());
}

fn answers_its_own(name: &str, run: &CaseRun, raw: &Value) {
    let raw_exchanges = raw["exchanges"].as_array().unwrap();
    assert_eq!(run.exchanges.len(), raw_exchanges.len(), "{name}");
    assert_eq!(run.origins.as_ref().unwrap().len(), raw["origins"].as_array().unwrap().len(), "{name}");
    let replay = replay(run.exchanges.clone());
    for (exchange, raw) in run.exchanges.iter().zip(raw_exchanges) {
        let mut request = Request::get(exchange.url.clone());
        request.method = exchange.method.clone();
        request.body.clone_from(&exchange.request_body);
        if raw["status"] == 304 {
            request = request.with_header("if-modified-since", "then");
        }
        let answer = block_on(replay.send(request));
        match (answer, raw["status"].as_u64()) {
            (Ok(response), Some(status)) => {
                assert_eq!(u64::from(response.status.as_u16()), status, "{name}");
                if let Some(file) = raw["body_file"].as_str() {
                    let kept = fs::read(Path::new(name).parent().unwrap().join(file)).unwrap();
                    assert!(response.body.bytes().unwrap() == kept, "{name}: {file}");
                }
            }
            (Err(_), None) => {}
            (answer, _) => panic!("{name}: {} gave {answer:?}", exchange.url),
        }
    }
    assert!(fits(&replay).iter().all(|f| *f == Fit::Exact), "{name}");
    assert_eq!(replay.unused(), 0, "{name}");
}
