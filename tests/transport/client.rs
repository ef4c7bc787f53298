//! One request, one answer: what is sent, what comes back, and every way of not coming back.

use std::time::Duration;

use lamplighter::model::Timestamp;
use lamplighter::transport::{Clock, Http, HttpOptions, Request, Transport, TransportErrorKind as Kind};

use crate::support::{RawServer, Reply, START, TestClock, http, url};

fn options(server: &RawServer) -> HttpOptions {
    HttpOptions::new("ops@archive.example").with_bases([server.base.clone()])
}

async fn get(server: &RawServer, options: HttpOptions) -> Result<lamplighter::transport::Response, Kind> {
    let client = Http::new(options).unwrap();
    client.send(Request::get(server.at("x"))).await.map_err(|e| e.kind())
}

#[tokio::test]
async fn a_request_arrives_as_it_is_and_its_answer_comes_back() {
    let server = RawServer::always("404 Not Found", "X-Note: n\r\n", "gone");
    let clock = TestClock::new();
    clock.sleep(Duration::from_secs(77)).await;
    let request = Request::post_form(server.at("api?q=1"), [("a", "1 2"), ("b", "&")])
        .with_header("accept", "text/x")
        .with_header("accept-encoding", "gzip");
    let client = Http::new(options(&server).with_clock(clock.clone())).unwrap();
    let answer = client.send(request).await.unwrap();

    assert_eq!(answer.status, 404, "a status is an answer");
    assert_eq!(answer.header("x-note"), Some("n"));
    assert_eq!(answer.body.bytes().unwrap(), "gone");
    assert_eq!(answer.url, server.at("api?q=1"));
    assert_eq!(answer.received_at, Timestamp::from_seconds(START + 77));

    let log = server.log().concat();
    let (head, body) = log.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api?q=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, "a=1+2&b=%26");
    let agent = format!("user-agent: lamplighter/{} (ops@archive.example)", env!("CARGO_PKG_VERSION"));
    for line in [agent.as_str(), "accept: text/x", "content-type: application/x-www-form-urlencoded"] {
        assert!(head.lines().any(|l| l == line), "{line} in {head}");
    }
    assert!(!head.contains("accept-encoding"), "what is not asked for need not be undone");
}

#[tokio::test]
async fn a_contact_that_no_header_can_carry_is_refused() {
    assert_eq!(Http::new(HttpOptions::new("a\nb")).unwrap_err().kind(), Kind::Request);
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let mute = RawServer::start(|_, _| Reply::Hang(Vec::new()));
    let patient = Duration::from_secs(3600);
    let idle = options(&mute).with_idle(patient, Duration::from_millis(20)).with_total(patient);
    assert_eq!(get(&mute, idle).await.unwrap_err(), Kind::Timeout);
    let total = options(&mute).with_idle(patient, patient).with_total(Duration::from_millis(20));
    assert_eq!(get(&mute, total).await.unwrap_err(), Kind::Timeout);

    // Also in the middle of a body.
    let stops =
        RawServer::start(|_, _| Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()));
    let idle = options(&stops).with_idle(patient, Duration::from_millis(20)).with_total(patient);
    assert_eq!(get(&stops, idle).await.unwrap_err(), Kind::Timeout);
    let total = options(&stops).with_idle(patient, patient).with_total(Duration::from_millis(20));
    assert_eq!(get(&stops, total).await.unwrap_err(), Kind::Timeout);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let broken: [&[u8]; 6] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcdefghi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    for bytes in broken {
        let server = RawServer::start(move |_, _| Reply::Bytes(bytes.to_vec()));
        let error =
            Http::new(options(&server)).unwrap().send(Request::get(server.at("x"))).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Body, "{error}");
        assert!(error.is_retryable());
    }
    let whole: [&[u8]; 2] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcdefghi",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n6\r\ndefghi\r\n0\r\n\r\n",
    ];
    for bytes in whole {
        let server = RawServer::start(move |_, _| Reply::Bytes(bytes.to_vec()));
        assert_eq!(get(&server, options(&server)).await.unwrap().body.bytes().unwrap(), "abcdefghi");
    }
}

#[tokio::test]
async fn a_closed_port_is_no_connection() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = Http::new(HttpOptions::new("")).unwrap();
    let request = Request::get(url(&format!("http://127.0.0.1:{port}/p?token=q"))).configured();
    let error = client.send(request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Connect);
    assert!(error.is_retryable());
    let said = error.to_string();
    assert!(said.contains(&format!("http://127.0.0.1:{port}/p:")) && !said.contains('?'), "{said}");
}

#[tokio::test]
async fn a_large_body_goes_to_a_file_and_is_the_same() {
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let server = RawServer::always("200 OK", "", bytes.clone());
    let body = get(&server, options(&server).with_body(100_000, 3_000_000)).await.unwrap().body;
    assert!(body.is_spooled());
    assert_eq!(body.len(), 3_000_000);
    assert!(body.bytes().unwrap() == bytes);
    assert!(body.bytes().unwrap() == bytes, "and again from its beginning");

    let body = get(&server, options(&server).with_body(3_000_000, 3_000_000)).await.unwrap().body;
    assert!(!body.is_spooled() && body.bytes().unwrap() == bytes);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let announced = RawServer::always("200 OK", "", vec![b'x'; 1001]);
    // Without a length, and without an end.
    let endless = RawServer::start(|_, _| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        bytes.extend(
            b"64\r\n".iter().chain(&[b'x'; 100]).chain(b"\r\n").copied().collect::<Vec<u8>>().repeat(11),
        );
        Reply::Hang(bytes)
    });
    for (server, spool_over) in [(&announced, 5000), (&announced, 10), (&endless, 5000), (&endless, 10)] {
        let error = get(server, options(server).with_body(spool_over, 1000)).await.unwrap_err();
        assert_eq!(error, Kind::TooLarge);
    }
    assert_eq!(get(&announced, options(&announced).with_body(10, 1001)).await.unwrap().body.len(), 1001);
    let large = RawServer::always("200 OK", "X-Large: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", "");
    let few = options(&large).with_max_header_bytes(60);
    assert_eq!(get(&large, few).await.unwrap_err(), Kind::TooLarge);
    assert_eq!(get(&large, options(&large)).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_encoding_that_nobody_asked_for_is_not_taken_for_the_body() {
    let encoded = RawServer::always("200 OK", "Content-Encoding: gzip\r\n", "\u{1f}");
    let error = Http::new(options(&encoded)).unwrap().send(Request::get(encoded.at("x"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Encoding);
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("gzip") && error.to_string().contains("GET http://127"), "{error}");

    let plain = RawServer::always("200 OK", "Content-Encoding: identity\r\n", "abc");
    assert_eq!(get(&plain, options(&plain)).await.unwrap().body.bytes().unwrap(), "abc");
    let unchanged =
        RawServer::start(|_, _| Reply::Bytes(b"HTTP/1.1 304 N\r\nContent-Encoding: gzip\r\n\r\n".to_vec()));
    assert_eq!(get(&unchanged, options(&unchanged)).await.unwrap().status, 304);
    let gone = RawServer::always("404 Not Found", "Content-Encoding: gzip\r\n", "\u{1f}");
    let answer = get(&gone, options(&gone)).await.unwrap();
    assert!(answer.status == 404 && answer.body.is_empty(), "the status is what matters");
}

#[tokio::test]
async fn a_url_that_cannot_be_asked_is_an_error_at_once() {
    let server = RawServer::start(|_, _| Reply::Bytes(http("200 OK", "", b"")));
    let client = Http::new(options(&server)).unwrap();
    let mut with_user = server.at("x");
    with_user.set_username("ann").unwrap();
    for bad in [url("ftp://forge.example/x"), url("data:text/plain,x"), with_user] {
        assert_eq!(client.send(Request::get(bad)).await.unwrap_err().kind(), Kind::Request);
    }
    assert!(server.log().is_empty());
}
