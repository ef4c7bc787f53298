//! Limits and credentials: which token goes, and how long is waited for none.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lamplighter::model::Timestamp;
use lamplighter::transport::{
    Auth, Clock, CredentialId, Credentials, GateOptions, LaneState, LimitStore, Polite, PoliteOptions,
    Request, Response, Secret, Standing, Transport, TransportError, TransportErrorKind as Kind,
};
use url::Url;

use crate::support::{Forge, START, TestClock, answer, url};

pub(crate) fn tokens(n: usize, base: &Url) -> Arc<Credentials> {
    Arc::new((0..n).fold(Credentials::new(), |all, i| all.with(Secret::token(format!("token-{i}")), [base])))
}

fn base() -> Url {
    url("https://api.forge.example/")
}

fn polite(forge: &Arc<Forge>, clock: &Arc<TestClock>, n: usize) -> Polite<Arc<Forge>> {
    Polite::new(forge.clone(), clock.clone(), tokens(n, &base()), PoliteOptions::default())
}

fn get() -> Request {
    Request::get(base().join("repositories").unwrap()).with_auth(Auth::bearer())
}

fn reset(seconds: i64) -> String {
    (START + seconds).to_string()
}

/// Refuses each token until its second, by GitHub's headers for a spent budget.
fn spent_until(clock: &Arc<TestClock>, until: &'static [i64]) -> Arc<Forge> {
    let clock = clock.clone();
    Forge::new(move |request, _| {
        let until = until[request.credential.map_or(0, |id| id.0)];
        Ok(if clock.elapsed() < until {
            let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset(until))];
            answer(request, 403, &headers, r#"{"message": "API rate limit exceeded for user"}"#)
        } else {
            answer(request, 200, &[], "[]")
        })
    })
}

#[tokio::test]
async fn the_next_token_goes_at_once() {
    let clock = TestClock::new();
    let forge = spent_until(&clock, &[900, 800, 0]);
    let transport = polite(&forge, &clock, 3);
    assert_eq!(transport.send(get()).await.unwrap().status, 200);
    assert_eq!(forge.credentials(), [Some(0), Some(1), Some(2)]);
    assert!(clock.elapsed() < 1, "{:?}", clock.sleeps());
    // And stays the one that goes.
    transport.send(get()).await.unwrap();
    assert_eq!(forge.credentials()[3..], [Some(2)]);
}

#[tokio::test]
async fn a_budget_that_an_answer_says_is_spent_is_not_tried() {
    let clock = TestClock::new();
    let forge = Forge::new(|request, _| {
        let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset(600))];
        Ok(answer(request, 200, &headers, "[]"))
    });
    let transport = polite(&forge, &clock, 2);
    for _ in 0..2 {
        assert_eq!(transport.send(get()).await.unwrap().status, 200);
    }
    assert!(clock.elapsed() < 1);
    transport.send(get()).await.unwrap();
    assert_eq!(forge.credentials(), [Some(0), Some(1), Some(1)]);
    assert_eq!(clock.elapsed(), 601);
}

#[tokio::test]
async fn a_token_that_was_spent_while_one_waited_for_a_place_is_not_used() {
    let clock = TestClock::new();
    let times = Arc::new(Mutex::new(Vec::new()));
    let (at, seen) = (clock.clone(), times.clone());
    let forge = Forge::new(move |request, before| {
        seen.lock().unwrap().push(at.elapsed());
        let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset(600))];
        Ok(answer(request, 200, if before == 0 { &headers } else { &[] }, "[]"))
    });
    let options = PoliteOptions::default().with_gate(GateOptions::default().with_at_once(1));
    let yielding = Yielding(forge.clone());
    let transport = Polite::new(yielding, clock.clone(), tokens(1, &base()), options);
    let (first, second) = futures::join!(transport.send(get()), transport.send(get()));
    assert_eq!((first.unwrap().status.as_u16(), second.unwrap().status.as_u16()), (200, 200));
    assert_eq!(*times.lock().unwrap(), [0, 601]);
}

/// Lets others get on before it answers, so that they wait for its place.
struct Yielding(Arc<Forge>);

#[async_trait::async_trait]
impl Transport for Yielding {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        tokio::task::yield_now().await;
        self.0.send(request).await
    }
}

#[tokio::test]
async fn a_refused_token_is_left_out() {
    let clock = TestClock::new();
    let bad = |bad: &'static [usize]| {
        Forge::new(move |request, _| {
            let id = request.credential.unwrap().0;
            Ok(answer(request, if bad.contains(&id) { 401 } else { 200 }, &[], ""))
        })
    };
    let forge = bad(&[0]);
    let transport = polite(&forge, &clock, 2);
    for _ in 0..2 {
        assert_eq!(transport.send(get()).await.unwrap().status, 200);
    }
    assert_eq!(forge.credentials(), [Some(0), Some(1), Some(1)]);

    // When all are refused the caller learns it, and it is never asked anonymously.
    let forge = bad(&[0, 1]);
    let transport = polite(&forge, &clock, 2);
    assert_eq!(transport.send(get()).await.unwrap().status, 401);
    assert_eq!(transport.send(get()).await.unwrap().status, 401);
    assert_eq!(forge.credentials().len(), 3);
    assert!(forge.credentials().iter().all(Option::is_some));
}

#[tokio::test]
async fn a_request_is_anonymous_where_it_says_so_or_nothing_is_configured() {
    let forge = Forge::new(|request, _| Ok(answer(request, 200, &[], "")));
    let clock = TestClock::new();
    polite(&forge, &clock, 0).send(get()).await.unwrap();
    polite(&forge, &clock, 2).send(get().with_auth(Auth::None)).await.unwrap();
    let elsewhere = Request::get(url("https://other.example/")).with_auth(Auth::bearer());
    polite(&forge, &clock, 2).send(elsewhere).await.unwrap();
    assert_eq!(forge.credentials(), [None, None, None]);
    polite(&forge, &clock, 2).send(get()).await.unwrap();
    assert_eq!(forge.credentials()[3], Some(0));
}

#[tokio::test]
async fn a_secondary_limit_waits_as_long_as_it_says_or_a_minute() {
    for (headers, wait) in [(vec![("retry-after", "30")], 30), (vec![], 60)] {
        let clock = TestClock::new();
        let forge = Forge::new(move |request, before| {
            let body = r#"{"message": "You have exceeded a secondary rate limit and have been blocked."}"#;
            Ok(if before == 0 {
                answer(request, 403, &headers, body)
            } else {
                answer(request, 200, &[], "[]")
            })
        });
        assert_eq!(polite(&forge, &clock, 1).send(get()).await.unwrap().status, 200);
        assert_eq!(clock.elapsed(), wait);
    }
}

#[tokio::test]
async fn a_limit_that_holds_too_long_is_an_error_that_says_until_when() {
    let clock = TestClock::new();
    let forge = spent_until(&clock, &[10_000, 7_300]);
    let transport = polite(&forge, &clock, 2);
    let error = transport.send(get()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Limited);
    assert_eq!(error.wait().map(|w| w.as_secs()), Some(7_300), "the first that is free, and its second");
    let until = Timestamp::from_seconds(START + 7_301);
    assert!(error.to_string().contains(&until.to_string()), "{error}");
    assert!(clock.elapsed() < 1, "it did not wait for nothing");

    let longer = PoliteOptions::default().with_longest_wait(Duration::from_secs(7_302));
    let transport = Polite::new(forge.clone(), clock.clone(), tokens(2, &base()), longer);
    assert_eq!(transport.send(get()).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_limit_that_never_ends_does_not_become_a_loop() {
    for headers in [&[("retry-after", "0")], &[("x-ratelimit-remaining", "0")], &[("x-ratelimit-reset", "0")]]
    {
        let clock = TestClock::new();
        let forge = Forge::new(move |request, _| Ok(answer(request, 429, headers, "")));
        let transport = polite(&forge, &clock, 1);
        assert_eq!(transport.send(get()).await.unwrap_err().kind(), Kind::Limited);
        assert!(clock.elapsed() <= 7200, "{} s", clock.elapsed());
        assert_eq!(transport.attempts(), 7);
    }
}

/// A minute, and twice as long each time: with a token and without, for every way to say so.
#[tokio::test]
async fn a_limit_that_says_nothing_is_waited_out() {
    for (status, body) in [
        (429, ""),
        (403, r#"{"message": "API rate limit exceeded for 192.0.2.1."}"#),
        (403, r#"{"message": "You have exceeded a secondary rate limit."}"#),
    ] {
        for n in [0, 1] {
            let clock = TestClock::new();
            let forge = Forge::new(move |request, before| {
                Ok(if before < 6 {
                    answer(request, status, &[], body)
                } else {
                    answer(request, 200, &[], "")
                })
            });
            let transport = polite(&forge, &clock, n);
            assert_eq!(transport.send(get()).await.unwrap().status, 200, "{status} {n}");
            let waits: Vec<u64> = clock.sleeps().iter().map(Duration::as_secs).filter(|s| *s > 0).collect();
            assert_eq!(waits, [60, 120, 240, 480, 960, 1920], "{status} {n}");

            // One that never ends is an error, not an answer: seven requests in all.
            let clock = TestClock::new();
            let forge = Forge::new(move |request, _| Ok(answer(request, status, &[], body)));
            let transport = polite(&forge, &clock, n);
            let error = transport.send(get()).await.unwrap_err();
            assert_eq!((error.kind(), transport.attempts()), (Kind::Limited, 7), "{status} {n}");
            assert!(error.to_string().contains("https://api.forge.example/repositories"), "{error}");
        }
    }
}

/// The first request after a limit goes alone: whether it is over is not tried by all at once.
#[tokio::test]
async fn after_a_limit_one_request_goes_first() {
    let clock = TestClock::new();
    let forge = Forge::new(|request, before| {
        Ok(answer(request, if before < 4 { 429 } else { 200 }, &[("retry-after", "30")], ""))
    });
    let transport =
        Polite::new(Yielding(forge.clone()), clock.clone(), tokens(1, &base()), PoliteOptions::default());
    let answers = futures::future::join_all((0..4).map(|_| transport.send(get()))).await;
    assert!(answers.iter().all(|a| a.as_ref().is_ok_and(|a| a.status == 200)));
    // How many were sent before the first answer to one that went after the limit is not the same
    // for all; but they were not all of them.
    assert!(forge.credentials().len() < 4 + 4 + 4, "{}", forge.credentials().len());
}

#[tokio::test]
async fn a_plain_refusal_is_an_answer() {
    let clock = TestClock::new();
    let forge = Forge::new(|request, _| {
        let headers = [("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", &reset(600))];
        Ok(answer(request, 403, &headers, r#"{"message": "Repository access blocked"}"#))
    });
    let transport = polite(&forge, &clock, 2);
    let refused = transport.send(get()).await.unwrap();
    assert_eq!((refused.status.as_u16(), transport.attempts()), (403, 1));
    assert_eq!(
        refused.body.bytes().unwrap(),
        r#"{"message": "Repository access blocked"}"#,
        "not taken away"
    );
}

/// Two processes: what one of them meets while the other waits holds for both.
#[tokio::test]
async fn a_limit_that_another_process_met_is_waited_for() {
    let store = Arc::new(lamplighter::backend::MemoryStore::new());
    let clock = TestClock::new();
    let (kept, at) = (store.clone(), clock.clone());
    let secrets = tokens(1, &base());
    let who = secrets.identity(Some(CredentialId(0)));
    let forge = Forge::new(move |request, before| {
        Ok(if before == 0 {
            // The other one meets its limit at the same time.
            let other =
                Standing::new(who.clone(), LaneState::new(at.now().plus(Duration::from_secs(600)), 1));
            let now = at.now();
            futures::executor::block_on(kept.keep_standings("api.forge.example:443", &[other], now)).unwrap();
            answer(request, 429, &[("retry-after", "10")], "")
        } else {
            answer(request, 200, &[], "")
        })
    });
    let options = PoliteOptions::default().with_limit_store(store.clone());
    let transport = Polite::new(forge.clone(), clock.clone(), secrets, options);
    assert_eq!(transport.send(get()).await.unwrap().status, 200);
    assert_eq!((clock.elapsed(), transport.attempts()), (600, 2));
    let left = store.standings("api.forge.example:443", clock.now()).await.unwrap();
    assert!(left.is_empty(), "it is over: {left:?}");
}

/// A store of limits that is broken costs politeness at a start, and no listing.
#[tokio::test]
async fn a_broken_limit_store_stops_nothing() {
    struct Broken;
    #[async_trait::async_trait]
    impl LimitStore for Broken {
        async fn standings(&self, host: &str, _: Timestamp) -> Result<Vec<Standing>, TransportError> {
            Err(TransportError::new(Kind::Other, host))
        }
        async fn keep_standings(
            &self,
            host: &str,
            _: &[Standing],
            _: Timestamp,
        ) -> Result<(), TransportError> {
            Err(TransportError::new(Kind::Other, host))
        }
    }
    let clock = TestClock::new();
    let forge = spent_until(&clock, &[50]);
    let options = PoliteOptions::default().with_limit_store(Arc::new(Broken));
    let transport = Polite::new(forge.clone(), clock.clone(), tokens(1, &base()), options);
    let notes = crate::notes::Notes::take();
    assert_eq!(transport.send(get()).await.unwrap().status, 200);
    let log = notes.text();
    assert!(log.contains("limits cannot be read") && log.contains("limits cannot be kept"), "{log}");
    assert!(log.contains("api.forge.example:443"), "{log}");
}
