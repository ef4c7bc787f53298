//! Defects that listers are known for, each with a double that does it as it is known to be
//! done: the double must fail the scenario, or the scenario shows nothing.

use std::sync::Arc;

use async_trait::async_trait;
use lamplighter::model::Timestamp;
use lamplighter::transport::{
    Auth, Clock, CredentialId, Polite, PoliteOptions, Request, Response, Transport, TransportError,
};

use crate::limits::tokens;
use crate::support::{Forge, START, TestClock, answer, url};

fn get() -> Request {
    Request::get(url("https://api.forge.example/repositories")).with_auth(Auth::bearer())
}

fn ours(forge: &Arc<Forge>, clock: &Arc<TestClock>, n: usize) -> Box<dyn Transport> {
    let credentials = tokens(n, &url("https://api.forge.example/"));
    Box::new(Polite::new(forge.clone(), clock.clone(), credentials, PoliteOptions::default()))
}

fn naive(forge: &Arc<Forge>, clock: &Arc<TestClock>, n: usize) -> Box<dyn Transport> {
    Box::new(Naive { forge: forge.clone(), clock: clock.clone(), tokens: n })
}

/// Knows one limit by its words, and waits until no token has one.
struct Naive {
    forge: Arc<Forge>,
    clock: Arc<TestClock>,
    tokens: usize,
}

#[async_trait]
impl Transport for Naive {
    async fn send(&self, mut request: Request) -> Result<Response, TransportError> {
        loop {
            let mut latest = Timestamp::EPOCH;
            for token in 0..self.tokens {
                request.credential = Some(CredentialId(token));
                let answer = self.forge.send(request.clone()).await?;
                if !String::from_utf8_lossy(&answer.body.bytes().unwrap()).contains("API rate limit exceeded")
                {
                    return Ok(answer);
                }
                let reset: i64 = answer.header("x-ratelimit-reset").unwrap().parse().unwrap();
                latest = latest.max(Timestamp::from_seconds(reset + 1));
            }
            self.clock.sleep(latest.since(self.clock.now())).await;
        }
    }
}

type Make = fn(&Arc<Forge>, &Arc<TestClock>, usize) -> Box<dyn Transport>;

/// D1: a secondary limit is met on the second page. Whoever takes it for an answer stops there.
async fn secondary_limit(make: Make) -> Result<(), String> {
    let clock = TestClock::new();
    let now = clock.clone();
    let forge = Forge::new(move |request, before| {
        Ok(if before > 0 && now.elapsed() < 90 {
            let body =
                r#"{"message": "You have exceeded a secondary rate limit. Please wait a few minutes."}"#;
            answer(request, 403, &[("retry-after", "90")], body)
        } else {
            answer(request, 200, &[], "[1]")
        })
    });
    let transport = make(&forge, &clock, 1);
    for page in 1..=3 {
        let status = transport.send(get()).await.map_err(|e| e.to_string())?.status;
        if status != 200 {
            return Err(format!("page {page}: {status}"));
        }
    }
    if clock.elapsed() == 90 { Ok(()) } else { Err(format!("{} s", clock.elapsed())) }
}

#[tokio::test]
async fn d1_a_secondary_limit_is_waited_out() {
    assert_eq!(secondary_limit(ours).await, Ok(()));
    assert_eq!(secondary_limit(naive).await, Err("page 2: 403 Forbidden".to_owned()));
}

/// D12: three tokens; all are spent, and the second is free first.
async fn three_spent_tokens(make: Make) -> Result<(), String> {
    let clock = TestClock::new();
    let now = clock.clone();
    let forge = Forge::new(move |request, _| {
        let until = [1800, 300, 3500][request.credential.unwrap().0];
        Ok(if now.elapsed() < until {
            let reset = (START + until).to_string();
            let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset.as_str())];
            answer(request, 403, &headers, r#"{"message": "API rate limit exceeded"}"#)
        } else {
            answer(request, 200, &[], "[1]")
        })
    });
    let answer = make(&forge, &clock, 3).send(get()).await.map_err(|e| e.to_string())?;
    match (answer.status.as_u16(), clock.elapsed()) {
        (200, 300..=302) => Ok(()),
        (status, waited) => Err(format!("{status} after {waited} s")),
    }
}

#[tokio::test]
async fn d12_the_first_token_that_is_free_goes() {
    assert_eq!(three_spent_tokens(ours).await, Ok(()));
    assert_eq!(three_spent_tokens(naive).await, Err("200 after 3501 s".to_owned()));
}

/// D3: a forge answers 500 for two minutes. Whoever does not wait asks for ever, and leaves pages out.
async fn a_forge_that_is_down(make: Make) -> Result<(), String> {
    let clock = TestClock::new();
    let now = clock.clone();
    let forge = Forge::new(move |request, _| {
        Ok(if now.elapsed() < 120 { answer(request, 500, &[], "") } else { answer(request, 200, &[], "[1]") })
    });
    let first = get();
    let answer = make(&forge, &clock, 1).send(first.clone()).await.map_err(|e| e.to_string())?;
    let asked = forge.seen.lock().unwrap();
    match answer.status.as_u16() {
        _ if asked.len() > 5 => Err(format!("{} requests in {} s", asked.len(), clock.elapsed())),
        200 if asked.iter().all(|r| r.url == first.url) => Ok(()),
        status => Err(format!("{status} from another page")),
    }
}

/// Takes a server's error for a page to be left out, and goes on at once.
struct Skipping(Arc<Forge>);

#[async_trait]
impl Transport for Skipping {
    async fn send(&self, mut request: Request) -> Result<Response, TransportError> {
        for page in 1.. {
            let answer = self.0.send(request.clone()).await?;
            if answer.status != 500 || page == 900 {
                return Ok(answer);
            }
            request.url.set_query(Some(&format!("id_after={}", page * 100)));
        }
        unreachable!()
    }
}

#[tokio::test]
async fn d3_a_forge_that_is_down_is_asked_a_few_times_and_waited_for() {
    assert_eq!(a_forge_that_is_down(ours).await, Ok(()));
    let skipping: Make = |forge, _, _| Box::new(Skipping(forge.clone()));
    assert_eq!(a_forge_that_is_down(skipping).await, Err("900 requests in 0 s".to_owned()));
}
