//! What a forge, or what stands before it, may do to whoever asks: an error that names the request,
//! after few requests, and each with a twin that does no harm.

use std::sync::Arc;
use std::time::Duration;

use lamplighter::backend::{MemoryStore, RunOutcome};
use lamplighter::driver::{Driver, RunOptions};
use lamplighter::lister::Registry;
use lamplighter::model::JsonObject;
use lamplighter::testing::{Answering, VirtualClock};
use lamplighter::transport::{
    Auth, Credentials, GateOptions, Http, HttpOptions, Polite, PoliteOptions, Request, Response,
    RetryOptions, Transport, TransportError, TransportErrorKind as Kind,
};

use crate::limits::tokens;
use crate::support::{Forge, RawServer, Reply, TestClock, answer, http, url};

const ANUBIS: &str =
    "<!doctype html><html><head><title>Making sure you&#39;re not a bot!</title></head></html>";

/// What a polite client makes of a server, and after how many requests.
async fn ask(
    server: &RawServer,
    path: &str,
    options: HttpOptions,
) -> (Result<Response, TransportError>, u64) {
    let clock = TestClock::new();
    let client = Http::new(options.with_bases([server.base.clone()]).with_clock(clock.clone())).unwrap();
    let polite_options = PoliteOptions::default().with_bases([server.base.clone()]);
    let polite = Polite::new(client, clock, Arc::new(Credentials::new()), polite_options);
    let answer = polite.send(Request::get(server.at(path))).await;
    (answer, polite.attempts())
}

fn options() -> HttpOptions {
    HttpOptions::new("")
}

/// It fails so, names the request and nothing of its query, and is bounded.
async fn fails(server: &RawServer, path: &str, options: HttpOptions, kind: Kind) -> String {
    let (answer, attempts) = ask(server, path, options).await;
    let error = answer.unwrap_err();
    let said = error.to_string();
    assert_eq!(error.kind(), kind, "{said}");
    let place = path.split('?').next().unwrap();
    let place: String = place.chars().take(200).collect();
    assert!(said.contains(&format!("GET {}{place}", server.base)), "{said}");
    assert!(!said.contains("s3cret") && said.len() < 1000, "{said}");
    assert!(attempts <= 5, "{attempts} attempts");
    assert!(server.log().len() <= 5 * 11, "{} requests", server.log().len());
    said
}

#[tokio::test]
async fn a_bot_wall_is_an_error_that_says_what_it_is() {
    for (status, headers, body, name) in [
        ("200 OK", "Content-Type: text/html\r\n", ANUBIS, "Anubis"),
        ("403 Forbidden", "cf-mitigated: challenge\r\nRetry-After: 5\r\n", "", "Cloudflare"),
        ("503 Busy", "", "<html><title>Just a moment...</title>", "Cloudflare"),
        ("429 Slow", "", "<html><title>Checking your browser</title>", "a challenge page"),
    ] {
        let server = RawServer::always(status, headers, body);
        let said = fails(&server, "list?token=s3cret", options(), Kind::Challenge).await;
        assert!(said.contains(name), "{said}");
        assert_eq!(server.log().len(), 1, "a browser's proof is not made by asking again");
    }
    let plain =
        RawServer::always("200 OK", "Content-Type: text/html\r\n", "<html><title>Repositories</title>");
    assert_eq!(ask(&plain, "list", options()).await.0.unwrap().status, 200);
}

/// A wall before an index of HTML is no index without repositories.
#[tokio::test]
async fn a_bot_wall_is_never_an_empty_list() {
    let registry = Registry::builtin();
    let entry = registry.entry("github").unwrap();
    let run = async |body: &'static str| {
        let mut arguments = JsonObject::new();
        arguments.insert("url".to_owned(), "https://api.forge.example/".into());
        let built = entry.build(&arguments).unwrap();
        let clock = Arc::new(VirtualClock::new(lamplighter::model::Timestamp::from_seconds(0)));
        let forge = Answering::new(move |r: &Request| Ok(answer(r, 200, &[], body)));
        let polite =
            Polite::new(forge, clock.clone(), Arc::new(Credentials::new()), PoliteOptions::default());
        let driver = Driver::new(Arc::new(MemoryStore::new()), Arc::new(polite), clock);
        driver.run(built.source, RunOptions::default()).await.unwrap()
    };
    let report = run(ANUBIS).await;
    assert_ne!(report.outcome, RunOutcome::Complete);
    assert!(report.gaps[0].reason.contains("Anubis"), "{}", report.gaps[0].reason);
    assert_eq!(run("[]").await.outcome, RunOutcome::Complete);
}

#[tokio::test]
async fn redirects_that_go_nowhere_end() {
    let circle = RawServer::start(|_, before| {
        let to = if before % 2 == 0 { "/b?k=s3cret" } else { "/a?k=s3cret" };
        Reply::Bytes(http("302 Found", &format!("Location: {to}\r\n"), b""))
    });
    fails(&circle, "a?k=s3cret", options(), Kind::Redirect).await;
    let endless = RawServer::start(|_, before| {
        Reply::Bytes(http("302 Found", &format!("Location: /a?k={before}\r\n"), b""))
    });
    fails(&endless, "a?k=s3cret", options(), Kind::Redirect).await;
    assert_eq!(endless.log().len(), 11);
    let once = RawServer::start(|_, before| {
        Reply::Bytes(if before == 0 {
            http("302 Found", "Location: /b\r\n", b"")
        } else {
            http("200 OK", "", b"x")
        })
    });
    assert_eq!(ask(&once, "a", options()).await.0.unwrap().status, 200);
}

#[tokio::test]
async fn a_redirect_into_the_network_is_refused() {
    let inside = RawServer::always("200 OK", "", "internal");
    let to = inside.at("meta-data").to_string();
    let server =
        RawServer::start(move |_, _| Reply::Bytes(http("302 Found", &format!("Location: {to}\r\n"), b"")));
    let (answer, attempts) = ask(&server, "a", options()).await;
    let error = answer.unwrap_err();
    assert_eq!((error.kind(), attempts), (Kind::Forbidden, 1));
    assert!(error.to_string().contains(inside.at("meta-data").as_str()), "{error}");
    assert!(inside.log().is_empty());
    let (answer, _) = ask(&server, "a", options().with_private_allowed(true)).await;
    assert_eq!(answer.unwrap().body.bytes().unwrap(), "internal");
}

#[tokio::test]
async fn a_server_that_gives_a_byte_at_a_time_is_left() {
    // Each byte comes in time; all of them do not.
    let drip = |bytes: usize| {
        RawServer::start(move |_, _| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
            Reply::Drip(head.into_bytes(), vec![b'x'; bytes])
        })
    };
    let patient = Duration::from_secs(3600);
    let short = || options().with_idle(patient, patient).with_total(Duration::from_millis(30));
    fails(&drip(1_000_000), "a?k=s3cret", short(), Kind::Timeout).await;
    let patient = options().with_idle(patient, patient).with_total(patient);
    assert_eq!(ask(&drip(40), "a", patient).await.0.unwrap().body.len(), 40);
}

#[tokio::test]
async fn a_silent_server_is_left_after_a_few_attempts() {
    let mute = RawServer::start(|_, _| Reply::Hang(Vec::new()));
    let idle = options().with_idle(Duration::from_secs(3600), Duration::from_millis(10));
    fails(&mute, "a?k=s3cret", idle.clone(), Kind::Timeout).await;
    // Counted here: the server may get to know of an attempt only when it is over.
    assert_eq!(ask(&mute, "a", idle).await.1, 5);
}

#[tokio::test]
async fn a_bomb_does_not_go_off() {
    // 40 bytes that would be a megabyte of zeros: they come as they are, or not at all.
    let bomb: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for encoding in ["gzip", "deflate", "br", "gzip, gzip", "zz-unknown"] {
        let encoded = bomb.to_vec();
        let headers = format!("Content-Encoding: {encoding}\r\n");
        let server = RawServer::start(move |_, _| Reply::Bytes(http("200 OK", &headers, &encoded)));
        let said = fails(&server, "list.json?k=s3cret", options(), Kind::Encoding).await;
        assert!(said.contains(encoding), "{said}");
        assert_eq!(server.log().len(), 1);
    }
    let large = RawServer::always("200 OK", "", vec![b'x'; 2000]);
    fails(&large, "a?k=s3cret", options().with_body(10, 1000), Kind::TooLarge).await;
    assert_eq!(ask(&large, "a", options().with_body(10, 2000)).await.0.unwrap().body.len(), 2000);
}

/// Some servers announce what a file is as what was done to it.
#[tokio::test]
async fn a_compressed_file_comes_as_the_file_it_is() {
    let file: &[u8] = &[0x1f, 0x8b, 8, 0, 1, 2, 3, 0xff];
    for (path, headers) in [
        ("db/dump.tar.gz", "Content-Encoding: gzip\r\n"),
        ("Packages.GZ?x=1", "Content-Encoding: x-gzip\r\nContent-Type: application/octet-stream\r\n"),
        ("Packages.xz", "Content-Encoding: xz\r\n"),
        ("Packages.bz2", "Content-Encoding: x-bzip2\r\n"),
        ("download", "Content-Encoding: gzip\r\nContent-Type: application/gzip\r\n"),
    ] {
        let server = RawServer::always("200 OK", headers, file);
        let (answer, _) = ask(&server, path, options()).await;
        assert_eq!(answer.unwrap().body.bytes().unwrap(), file, "{path}");
    }
    // Another encoding than the file's own is one.
    let server = RawServer::always("200 OK", "Content-Encoding: gzip\r\n", file);
    fails(&server, "Packages.xz", options(), Kind::Encoding).await;
    fails(&server, "gz", options(), Kind::Encoding).await;
}

#[tokio::test]
async fn a_url_of_ten_megabytes_is_not_sent() {
    let server = RawServer::always("200 OK", "", "here");
    let long = "x".repeat(10_000_000);
    let said = fails(&server, &long, options(), Kind::Request).await;
    assert!(said.contains("bytes") && server.log().is_empty(), "{said}");
    fails(&server, &format!("a?k=s3cret{long}"), options(), Kind::Request).await;
    // Also where a redirect leads there.
    let to = format!("/{}", "y".repeat(20_000));
    let redirects =
        RawServer::start(move |_, _| Reply::Bytes(http("302 F", &format!("Location: {to}\r\n"), b"")));
    let (answer, _) = ask(&redirects, "a", options()).await;
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), Kind::Request);
    assert!(error.to_string().contains("/yyy") && error.to_string().len() < 1000, "{error}");
    assert_eq!(redirects.log().len(), 1);
    let (answer, _) = ask(&server, &"x".repeat(10_000), options()).await;
    assert_eq!(answer.unwrap().status, 200);
}

/// Asks for twelve pages, each of which redirects to another host. The seconds that it takes.
async fn twelve_redirects(to: &RawServer, gate: GateOptions) -> i64 {
    let there = to.at("b").to_string();
    let first = RawServer::start(move |_, before| {
        Reply::Bytes(http("302 F", &format!("Location: {there}{before}\r\n"), b""))
    });
    let clock = TestClock::new();
    let bases = [first.base.clone(), to.base.clone()];
    let client = Http::new(HttpOptions::new("").with_bases(bases)).unwrap();
    // The first host has no rate, as it is this machine and configured.
    let options = PoliteOptions::default().with_bases([first.base.clone()]).with_gate(gate);
    let polite = Polite::new(client, clock.clone(), Arc::new(Credentials::new()), options);
    for page in 0..12 {
        let answer = polite.send(Request::get(first.at(&page.to_string()))).await.unwrap();
        assert_eq!(answer.url.port(), to.base.port());
    }
    clock.elapsed()
}

#[tokio::test]
async fn a_redirect_waits_at_the_other_hosts_gate() {
    let second = RawServer::always("200 OK", "", "here");
    assert_eq!(twelve_redirects(&second, GateOptions::default().with_per_second(Some(1))).await, 11);
    assert_eq!(twelve_redirects(&second, GateOptions::default().with_per_second(None)).await, 0);
}

/// With one place at each host, those that redirect to each other do not wait for ever.
#[tokio::test]
async fn hosts_that_redirect_to_each_other_do_not_lock() {
    let slots: [Arc<std::sync::OnceLock<String>>; 2] = [Arc::default(), Arc::default()];
    let server = |slot: &Arc<std::sync::OnceLock<String>>| {
        let to = Arc::clone(slot);
        RawServer::start(move |request, _| {
            Reply::Bytes(if request.starts_with("GET /a") {
                http("302 F", &format!("Location: {}\r\n", to.get().unwrap()), b"")
            } else {
                http("200 OK", "", b"here")
            })
        })
    };
    let (one, two) = (server(&slots[0]), server(&slots[1]));
    slots[0].set(two.at("b").to_string()).unwrap();
    slots[1].set(one.at("b").to_string()).unwrap();
    let bases = [one.base.clone(), two.base.clone()];
    let client =
        Http::new(HttpOptions::new("").with_bases(bases.clone()).with_total(Duration::from_secs(5))).unwrap();
    let options = PoliteOptions::default()
        .with_bases(bases)
        .with_gate(GateOptions::default().with_at_once(1))
        .with_retry(RetryOptions::default().with_attempts(1));
    let polite = Polite::new(client, TestClock::new(), Arc::new(Credentials::new()), options);
    let asked =
        (0..10).map(|n| polite.send(Request::get(if n % 2 == 0 { one.at("a") } else { two.at("a") })));
    let answers = futures::future::join_all(asked).await;
    assert!(answers.into_iter().all(|a| a.is_ok_and(|a| a.status == 200)));
}

/// What another host says to a request that was led there is no word on this one's credentials.
#[tokio::test]
async fn what_is_said_elsewhere_is_not_held_against_a_credential() {
    let base = url("https://api.forge.example/");
    let elsewhere = url("https://cdn.example/x");
    for (status, headers, waited) in [(401, &[][..], 0), (429, &[("retry-after", "50")][..], 50)] {
        let clock = TestClock::new();
        let away = elsewhere.clone();
        let forge = Forge::new(move |request, before| {
            let mut said = answer(request, if before == 0 { status } else { 200 }, headers, "");
            if request.url.path() == "/away" {
                said.url = away.clone();
            }
            Ok(said)
        });
        let polite = Polite::new(forge.clone(), clock.clone(), tokens(2, &base), PoliteOptions::default());
        let get = |path| polite.send(Request::get(base.join(path).unwrap()).with_auth(Auth::bearer()));
        let first = get("away").await.unwrap();
        assert_eq!(first.status, if status == 401 { 401 } else { 200 });
        assert_eq!(first.credential, None, "it did not go along");
        assert_eq!(clock.elapsed(), waited);
        let own = get("own").await.unwrap();
        assert_eq!(own.credential.map(|id| id.0), Some(0));
        assert!(forge.credentials().iter().all(|id| *id == Some(0)), "{:?}", forge.credentials());
    }
}
