//! A GitHub that enforces its limits, under a clock that jumps: who waits when told to, what is
//! granted of what there is, and what is left.
//!
//! It counts for itself. What it says in headers is what it documents: a budget of requests an hour
//! for each token (60 without one), whose window begins with its first use, and a secondary limit of
//! 900 points a minute.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use lamplighter::model::Timestamp;
use lamplighter::testing::VirtualClock;
use lamplighter::transport::{
    Auth, Clock, Credentials, GateOptions, LimitStore, Polite, PoliteOptions, Request, Response, Transport,
    TransportError,
};

use crate::limits::tokens;
use crate::support::{START, answer, url};

const HOUR: i64 = 3_600_000_000;
const MINUTE: i64 = 60_000_000;

/// How it refuses.
#[derive(Debug, Clone, Copy)]
struct Manners {
    /// The status of a refusal: it uses both.
    refusal: u16,
    /// Whether good answers tell what is left.
    tells: bool,
    /// Whether the secondary limit says for how long.
    retry_after: bool,
}

const USUAL: Manners = Manners { refusal: 403, tells: true, retry_after: true };

/// One token's account, in microseconds.
struct Account {
    began: i64,
    left: u64,
    recent: VecDeque<i64>,
    /// From when on it knows that it is to wait, and until when.
    told: (i64, i64),
}

#[derive(Default)]
struct Books {
    accounts: HashMap<Option<usize>, Account>,
    granted: u64,
    refused: u64,
    /// Requests that came while their sender was told to wait.
    early: Vec<(Option<usize>, i64)>,
    /// The least that was left of any budget.
    least: u64,
}

struct GitHub {
    clock: VirtualClock,
    manners: Manners,
    books: Mutex<Books>,
}

impl GitHub {
    fn new(clock: &VirtualClock, manners: Manners) -> Arc<Self> {
        let books = Books { least: u64::MAX, ..Books::default() };
        Arc::new(Self { clock: clock.clone(), manners, books: Mutex::new(books) })
    }

    /// Its answer, and how long until it is there.
    fn decide(&self, request: &Request) -> (Response, Duration) {
        let now = self.clock.now().as_micros();
        let arrives = now + LATENCY;
        let mut books = self.books.lock().unwrap();
        let books = &mut *books;
        let who = request.credential.map(|id| id.0);
        let budget = if who.is_some() { 5000 } else { 60 };
        let fresh = || Account { began: now, left: budget, recent: VecDeque::new(), told: (0, 0) };
        let account = books.accounts.entry(who).or_insert_with(fresh);
        if account.told.0 < now && now < account.told.1 {
            books.early.push((who, now));
        }
        if now >= account.began + HOUR {
            (account.began, account.left) = (now, budget);
        }
        // It tells whole seconds: its window is over when the last of them is.
        let reset = (account.began + HOUR).div_euclid(1_000_000) + 1;
        account.recent.retain(|at| *at > now - MINUTE);
        let budget_said = |left: u64| {
            [("x-ratelimit-remaining", left.to_string()), ("x-ratelimit-reset", reset.to_string())]
        };
        let refusal = |headers: &[(&str, String)], message: &str| {
            let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            answer(request, self.manners.refusal, &headers, &format!("{{\"message\": \"{message}\"}}"))
        };
        let response = if account.recent.len() >= 900 {
            books.refused += 1;
            account.told = (arrives, account.told.1.max(arrives + MINUTE));
            let wait = [("retry-after", "60".to_owned())];
            let said = if self.manners.retry_after { &wait[..] } else { &[] };
            refusal(said, "You have exceeded a secondary rate limit.")
        } else if account.left == 0 {
            books.refused += 1;
            account.told = (arrives, account.began + HOUR);
            refusal(&budget_said(0), "API rate limit exceeded for user ID 1.")
        } else {
            books.granted += 1;
            account.left -= 1;
            account.recent.push_back(now);
            books.least = books.least.min(account.left);
            let said = budget_said(account.left);
            let said: Vec<_> = said.iter().map(|(n, v)| (*n, v.as_str())).collect();
            if self.manners.tells && account.left == 0 {
                account.told = (arrives, account.began + HOUR);
            }
            answer(request, 200, if self.manners.tells { &said } else { &[] }, "[]")
        };
        (response, Duration::from_micros(LATENCY.unsigned_abs()))
    }
}

/// How long an answer takes, in microseconds.
const LATENCY: i64 = 40_000;

#[async_trait]
impl Transport for GitHub {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let (response, latency) = self.decide(&request);
        self.clock.sleep(latency).await;
        Ok(response)
    }
}

/// What came of asking for some hours, as often as one is let.
struct Seen {
    granted: u64,
    refused: u64,
    early: usize,
    least: u64,
}

fn ask(tokens_held: usize, hours: i64, manners: Manners, options: PoliteOptions) -> Seen {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = VirtualClock::new(Timestamp::from_seconds(START));
    let github = GitHub::new(&clock, manners);
    let base = url("https://api.forge.example/");
    let credentials =
        if tokens_held == 0 { Arc::new(Credentials::new()) } else { tokens(tokens_held, &base) };
    let polite = Polite::new(Arc::clone(&github), Arc::new(clock.clone()), credentials, options);
    let end = Timestamp::from_seconds(START + hours * 3600);
    runtime.block_on(async {
        let worker = || async {
            while clock.now() < end {
                let request = Request::get(base.join("repositories").unwrap()).with_auth(Auth::bearer());
                let answer = polite.send(request).await.unwrap();
                assert_eq!(answer.status, 200, "a limit is no answer");
            }
        };
        join_all((0..6).map(|_| worker())).await;
    });
    let books = github.books.lock().unwrap();
    // The requests that were on their way at the end are counted by nobody.
    let (granted, early) = (books.granted, books.early.len());
    Seen { granted, refused: books.refused, early, least: books.least }
}

fn paced(per_second: u32) -> PoliteOptions {
    PoliteOptions::default().with_gate(GateOptions::default().with_per_second(Some(per_second)))
}

#[test]
fn github_grants_nearly_all_that_its_limits_allow() {
    for (tokens, budget, per_second) in [(0, 60, 10), (1, 5000, 10), (3, 15_000, 10), (10, 50_000, 14)] {
        let seen = ask(tokens, 2, USUAL, paced(per_second));
        let allowed = 2 * budget;
        assert!(seen.granted * 100 >= allowed * 95, "{tokens} tokens: {} of {allowed}", seen.granted);
        assert_eq!((seen.early, seen.refused), (0, 0), "{tokens} tokens");
    }
}

/// Whatever its manners, and however fast it is asked.
#[test]
fn github_is_never_asked_while_it_says_wait() {
    for refusal in [403, 429] {
        for tells in [true, false] {
            for retry_after in [true, false] {
                let manners = Manners { refusal, tells, retry_after };
                for tokens in [1, 3] {
                    // 30 a second meet the secondary limit.
                    let seen = ask(tokens, 2, manners, paced(30));
                    let allowed = 2 * 5000 * tokens as u64;
                    let told = format!("{manners:?}, {tokens} tokens");
                    assert_eq!(seen.early, 0, "{told}");
                    assert!(seen.refused > 0, "{told}: the limit was not met");
                    assert!(seen.granted * 100 >= allowed * 95, "{told}: {} of {allowed}", seen.granted);
                }
            }
        }
    }
}

#[test]
fn github_keeps_the_reserve() {
    for (tokens, per_second) in [(1, 10), (3, 10), (10, 14)] {
        let seen = ask(tokens, 2, USUAL, paced(per_second).with_reserve(700));
        let allowed = 2 * 4300 * tokens as u64;
        assert_eq!(seen.least, 700, "{tokens} tokens");
        assert!(seen.granted <= allowed + 4300, "no more windows than there are");
        assert!(seen.granted * 100 >= allowed * 95, "{tokens} tokens: {} of {allowed}", seen.granted);
    }
    // So that the reserve is seen to be one.
    assert_eq!(ask(1, 2, USUAL, paced(10)).least, 0);
}

/// Waits on its host's clock, of which it tells.
fn process(
    github: &Arc<GitHub>,
    tokens: Arc<Credentials>,
    limits: Option<Arc<dyn LimitStore>>,
) -> Polite<Arc<GitHub>> {
    let mut options = paced(30);
    if let Some(limits) = limits {
        options = options.with_limit_store(limits);
    }
    Polite::new(Arc::clone(github), Arc::new(github.clock.clone()), tokens, options)
}

/// How long the second process waits that is begun when the first one is told to.
async fn second_process_waits(store: Option<Arc<dyn LimitStore>>) -> (i64, usize) {
    let clock = VirtualClock::new(Timestamp::from_seconds(START));
    let github = GitHub::new(&clock, USUAL);
    let base = url("https://api.forge.example/");
    let request = || Request::get(base.join("repositories").unwrap()).with_auth(Auth::bearer());
    let first = process(&github, tokens(1, &base), store.clone());
    while github.books.lock().unwrap().refused == 0 {
        // The one that is told to wait is dropped while it waits, with its process.
        let asked = std::pin::pin!(first.send(request()));
        let refused = std::pin::pin!(async {
            while github.books.lock().unwrap().refused == 0 {
                clock.sleep(Duration::from_millis(50)).await;
            }
            clock.sleep(Duration::from_secs(1)).await;
        });
        if let futures::future::Either::Left((answer, _)) = futures::future::select(asked, refused).await {
            answer.unwrap();
        }
    }
    drop(first);
    let killed = clock.now();
    let second = process(&github, tokens(1, &base), store);
    second.send(request()).await.unwrap();
    let waited = (clock.now().as_micros() - killed.as_micros()) / 1_000_000;
    let early = github.books.lock().unwrap().early.len();
    (waited, early)
}

#[tokio::test]
async fn a_limit_outlives_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let memory = Arc::new(lamplighter::backend::MemoryStore::new());
    let (waited, early) = second_process_waits(Some(memory)).await;
    assert!((55..=61).contains(&waited) && early == 0, "{waited} s, {early} too early");
    #[cfg(feature = "file")]
    {
        let file = Arc::new(lamplighter::backend::FileStore::open(folder.path().join("store")).unwrap());
        let (waited, early) = second_process_waits(Some(file)).await;
        assert!((55..=61).contains(&waited) && early == 0, "{waited} s, {early} too early");
    }
    drop(folder);
    // Without a store nobody knows, and GitHub is asked too early.
    assert_eq!(second_process_waits(None).await.1, 1);
}
