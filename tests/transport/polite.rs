//! Retries and the gate, on a clock that jumps.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use lamplighter::transport::{
    Clock, Credentials, GateOptions, Http, HttpOptions, Polite, PoliteOptions, Request, Response,
    RetryOptions, Transport, TransportError, TransportErrorKind as Kind,
};

use crate::support::{Forge, HeldClock, RawServer, Reply, TestClock, answer, http, url};

fn polite<T: Transport>(inner: T, clock: &Arc<TestClock>, options: PoliteOptions) -> Polite<T> {
    Polite::new(inner, clock.clone(), Arc::new(Credentials::new()), options)
}

fn get() -> Request {
    Request::get(url("https://forge.example/api?page=2"))
}

#[tokio::test]
async fn a_request_is_sent_again_when_the_server_says() {
    let server = RawServer::start(|_, before| {
        Reply::Bytes(match before {
            0 => http("503 Busy", "Retry-After: 7\r\n", b""),
            1 => http("503 Busy", "Retry-After: Thu, 01 Jan 2026 00:01:07 GMT\r\n", b""),
            // Breaks off.
            2 => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe".to_vec(),
            _ => http("200 OK", "", b"hello"),
        })
    });
    let clock = TestClock::new();
    let client = Http::new(HttpOptions::new("").with_bases([server.base.clone()])).unwrap();
    let polite = polite(client, &clock, PoliteOptions::default().with_bases([server.base.clone()]));
    let answer = polite.send(Request::get(server.at("x"))).await.unwrap();
    assert_eq!(answer.body.bytes().unwrap(), "hello");
    assert_eq!((polite.attempts(), Transport::attempts(&polite), server.log().len()), (4, 4, 4));
    let sleeps = clock.sleeps();
    assert_eq!(sleeps[..2], [Duration::from_secs(7), Duration::from_secs(60)]);
    assert_eq!(sleeps.len(), 3);
}

#[tokio::test]
async fn the_last_answer_or_error_is_what_the_caller_gets() {
    let clock = TestClock::new();
    let forge = Forge::new(|request, before| Ok(answer(request, 500, &[], &before.to_string())));
    let transport = polite(forge.clone(), &clock, PoliteOptions::default());
    let last = transport.send(get()).await.unwrap();
    assert_eq!((last.status.as_u16(), last.body.bytes().unwrap()), (500, "4".into()));
    assert_eq!(transport.attempts(), 5);
    // 1 s, 6.7 s, 44.8 s, 300 s, each give or take a quarter; and 100 ms at most for its turn.
    for (slept, planned) in clock.sleeps().iter().zip([1.0, 6.69, 44.8, 300.0]) {
        let slept = slept.as_secs_f64();
        assert!((0.74 * planned..=1.26 * planned).contains(&slept), "{slept} for {planned}");
    }
    assert_eq!(clock.sleeps().len(), 4);

    let forge = Forge::new(|_, before| Err(TransportError::new(Kind::Timeout, before.to_string())));
    let error = polite(forge, &clock, PoliteOptions::default()).send(get()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (Kind::Timeout, "timed out: 4".to_owned()));
}

#[tokio::test]
async fn what_will_not_change_is_not_sent_again() {
    for status in [200, 304, 400, 401, 403, 404, 410, 501] {
        let clock = TestClock::new();
        let forge = Forge::new(move |request, _| Ok(answer(request, status, &[], "")));
        let transport = polite(forge, &clock, PoliteOptions::default());
        assert_eq!(transport.send(get()).await.unwrap().status, status);
        assert_eq!((transport.attempts(), clock.sleeps().len()), (1, 0), "{status}");
    }
    for kind in [Kind::TooLarge, Kind::Redirect, Kind::Forbidden, Kind::Request, Kind::NotRecorded] {
        let forge = Forge::new(move |_, _| Err(TransportError::new(kind, "")));
        let transport = polite(forge, &TestClock::new(), PoliteOptions::default());
        assert_eq!(transport.send(get()).await.unwrap_err().kind(), kind);
        assert_eq!(transport.attempts(), 1);
    }
}

#[tokio::test]
async fn a_retry_after_that_is_too_long_is_not_waited_for() {
    let clock = TestClock::new();
    let forge = Forge::new(|request, _| Ok(answer(request, 503, &[("retry-after", "86400")], "")));
    let transport = polite(forge, &clock, PoliteOptions::default());
    assert_eq!(transport.send(get()).await.unwrap().status, 503);
    assert_eq!((transport.attempts(), clock.elapsed()), (1, 0));
}

/// The first request is told to come back later. Whether a second one, to this URL, is sent before.
async fn others_are_sent(status: u16, headers: &'static [(&str, &str)], second: &str) -> bool {
    let clock = HeldClock::new();
    let forge = Forge::new(move |request, before| {
        Ok(if before == 0 { answer(request, status, headers, "") } else { answer(request, 200, &[], "") })
    });
    let credentials = Arc::new(Credentials::new());
    let transport = Polite::new(forge.clone(), clock.clone(), credentials, PoliteOptions::default());
    let (mut first, mut second) = (transport.send(get()), transport.send(Request::get(url(second))));
    assert!(futures::poll!(&mut first).is_pending());
    // The gate's own space between two requests is over.
    clock.advance(1);
    let sent = futures::poll!(&mut second).is_ready();
    assert_eq!(forge.seen.lock().unwrap().len(), if sent { 2 } else { 1 });
    clock.advance(1000);
    for _ in 0..100 {
        if futures::poll!(&mut first).is_ready() {
            return sent;
        }
        clock.advance(1);
    }
    panic!("the first request is never sent again");
}

#[tokio::test]
async fn a_host_that_says_when_is_left_alone_by_all_until_then() {
    let here = "https://forge.example/other";
    assert!(!others_are_sent(503, &[("retry-after", "100")], here).await);
    assert!(!others_are_sent(429, &[("retry-after", "100")], here).await);
    assert!(!others_are_sent(403, &[("retry-after", "100")], here).await);
    assert!(!others_are_sent(429, &[("ratelimit-reset", "100")], here).await);
    // A failure is this request's own, and another host is another host.
    assert!(others_are_sent(503, &[], here).await);
    assert!(others_are_sent(503, &[("retry-after", "100")], "https://elsewhere.example/").await);
}

/// A 429 that says nothing holds for a minute, for all who ask so; then one goes first.
#[tokio::test]
async fn a_429_that_says_nothing_holds_for_all() {
    let clock = HeldClock::new();
    let forge = Forge::new(|request, _| Ok(answer(request, 429, &[], "")));
    let credentials = Arc::new(Credentials::new());
    let transport = Polite::new(forge.clone(), clock.clone(), credentials, PoliteOptions::default());
    let (mut first, mut second) = (transport.send(get()), transport.send(get()));
    assert!(futures::poll!(&mut first).is_pending());
    clock.advance(59);
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(forge.seen.lock().unwrap().len(), 1);
    clock.advance(2);
    assert!(futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut first).is_pending());
    assert_eq!(forge.seen.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_host_is_asked_ten_times_a_second_at_most() {
    let clock = TestClock::new();
    let times = Arc::new(Mutex::new(Vec::new()));
    let (at, seen) = (clock.clone(), times.clone());
    let forge = Forge::new(move |request, _| {
        seen.lock().unwrap().push(at.now().as_micros());
        Ok(answer(request, 200, &[], ""))
    });
    let transport = polite(forge, &clock, PoliteOptions::default());
    join_all((0..35).map(|_| transport.send(get()))).await;
    let times = times.lock().unwrap();
    assert_eq!(times.len(), 35);
    for (i, start) in times.iter().enumerate() {
        let within = times[i..].iter().filter(|t| **t < start + 1_000_000).count();
        assert!(within <= 10, "{within} in a second");
    }
}

#[tokio::test]
async fn only_a_configured_loopback_host_has_no_rate() {
    let slept_for = |bases: &'static [&str], asked: &'static str| async move {
        let clock = TestClock::new();
        let forge = Forge::new(|request, _| Ok(answer(request, 200, &[], "")));
        let options = PoliteOptions::default().with_bases(bases.iter().map(|b| url(b)));
        let transport = polite(forge, &clock, options);
        for _ in 0..20 {
            transport.send(Request::get(url(asked))).await.unwrap();
        }
        clock.sleeps().len()
    };
    assert_eq!(slept_for(&["http://127.0.0.1:81/"], "http://127.0.0.1:81/x").await, 0);
    assert_eq!(slept_for(&["http://localhost:81/a"], "http://localhost:81/x").await, 0);
    assert_eq!(slept_for(&["http://127.0.0.1:81/"], "http://127.0.0.1:82/x").await, 19);
    assert_eq!(slept_for(&[], "http://127.0.0.1:81/x").await, 19);
    assert_eq!(slept_for(&["https://forge.example/"], "https://forge.example/x").await, 19);
}

/// The most requests that a server has had in hand at once, when only `places` at once get an
/// answer: with fewer it would answer nobody.
async fn most_at_once(places: usize, gate: GateOptions) -> usize {
    let (inside, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let (barrier, kept) = (Barrier::new(places), most.clone());
    let server = RawServer::start(move |_, _| {
        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
        kept.fetch_max(now, Ordering::SeqCst);
        barrier.wait();
        inside.fetch_sub(1, Ordering::SeqCst);
        Reply::Bytes(http("200 OK", "", b""))
    });
    let bases = [server.base.clone()];
    let client = Http::new(HttpOptions::new("").with_bases(bases.clone())).unwrap();
    let options = PoliteOptions::default().with_bases(bases).with_gate(gate);
    let transport = polite(client, &TestClock::new(), options);
    let answers = join_all((0..places * 6).map(|_| transport.send(Request::get(server.at("x"))))).await;
    assert!(answers.into_iter().all(|a| a.is_ok_and(|a| a.status == 200)));
    most.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_host_is_asked_four_things_at_once_at_most() {
    assert_eq!(most_at_once(4, GateOptions::default()).await, 4);
    // So that the count is seen to count.
    assert_eq!(most_at_once(6, GateOptions::default().with_at_once(6)).await, 6);
}

/// Never answers the first request.
struct Stuck(AtomicUsize);

#[async_trait]
impl Transport for Stuck {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if self.0.fetch_add(1, Ordering::SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        Ok(answer(&request, 200, &[], ""))
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_gives_its_place_back() {
    let options = PoliteOptions::default().with_gate(GateOptions::default().with_at_once(1));
    let transport = polite(Stuck(AtomicUsize::new(0)), &TestClock::new(), options);
    let mut stuck = Box::pin(transport.send(get()));
    assert!(futures::poll!(&mut stuck).is_pending());
    let mut second = Box::pin(transport.send(get()));
    assert!(futures::poll!(&mut second).is_pending(), "there is one place");
    let mut third = Box::pin(transport.send(get()));
    assert!(futures::poll!(&mut third).is_pending());
    drop(stuck);
    // The second was woken, but goes away too: the third must not wait for it.
    drop(second);
    assert_eq!(third.await.unwrap().status, 200);
}

#[tokio::test]
async fn attempts_can_be_fewer() {
    let forge = Forge::new(|request, _| Ok(answer(request, 502, &[], "")));
    let options = PoliteOptions::default().with_retry(RetryOptions::default().with_attempts(1));
    let transport = polite(forge, &TestClock::new(), options);
    assert_eq!(transport.send(get()).await.unwrap().status, 502);
    assert_eq!(transport.attempts(), 1);
}
