//! The shell around a client: retries, limits, and which credential goes.

use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::sync::Notify;
use tracing::Instrument;
use url::Url;

use super::guard::Site;
use super::limit::{PREFIX, retry_after};
use super::{
    Auth, Body, Choice, Clock, CredentialId, CredentialPool, Credentials, GateOptions, HostGate, Limit,
    Request, Response, RetryOptions, RetryPlan, Transport, TransportError, TransportErrorKind, classify,
};
use crate::model::Timestamp;

/// Where a limit does not say how long it holds.
const UNSAID: Duration = Duration::from_secs(60);

/// How [`Polite`] behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoliteOptions {
    /// How often and how patiently a request is sent again.
    pub retry: RetryOptions,
    /// How much one host is asked.
    pub gate: GateOptions,
    /// How long one request waits for limits in all, before it gives up. 2 h.
    pub longest_wait: Duration,
    /// URLs that the configuration names: those of them on this machine are asked at any rate.
    pub bases: Vec<Url>,
}

impl Default for PoliteOptions {
    fn default() -> Self {
        Self {
            retry: RetryOptions::default(),
            gate: GateOptions::default(),
            longest_wait: Duration::from_secs(7200),
            bases: Vec::new(),
        }
    }
}

impl PoliteOptions {
    /// Sets how often and how patiently a request is sent again.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryOptions) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how much one host is asked.
    #[must_use]
    pub fn with_gate(mut self, gate: GateOptions) -> Self {
        self.gate = gate;
        self
    }

    /// Sets how long one request waits for limits in all.
    #[must_use]
    pub fn with_longest_wait(mut self, longest: Duration) -> Self {
        self.longest_wait = longest;
        self
    }

    /// Adds URLs that the configuration names.
    #[must_use]
    pub fn with_bases(mut self, bases: impl IntoIterator<Item = Url>) -> Self {
        self.bases.extend(bases);
        self
    }
}

/// What is known of one host.
struct HostState {
    gate: Mutex<HostGate>,
    /// Tells one who waits for a place that there may be one.
    left: Notify,
    /// For requests that say where a credential goes, and for those that say "nowhere".
    credentials: Mutex<CredentialPool>,
    anonymous: Mutex<CredentialPool>,
}

/// A place in a host's gate; given back when dropped, also when its request was cancelled.
struct Place<'h>(&'h HostState);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.0.gate).leave();
        self.0.left.notify_one();
    }
}

impl HostState {
    async fn enter(&self) -> Place<'_> {
        loop {
            // One that leaves between the two lines leaves a permit behind: nobody waits in vain.
            if lock(&self.gate).enter() {
                return Place(self);
            }
            self.left.notified().await;
        }
    }

    fn pool(&self, auth: &Auth) -> &Mutex<CredentialPool> {
        if *auth == Auth::None { &self.anonymous } else { &self.credentials }
    }
}

/// Puts retries, limits per host and the choice of a credential around a transport.
///
/// An answer that may pass (5xx but 501, 408, and errors of the network) is asked for again a few
/// times; the last answer or error is what the caller gets. A limit (see [`classify`]) is not given
/// to the caller as an answer: the host's next credential goes at once, and when there is none the
/// request waits for the first that is free, up to a bound. Only an anonymous 429 that does not say
/// how long it holds counts as an answer that may pass.
///
/// The credential is chosen here, whatever the request says. A request may be dropped at any time.
///
/// ```
/// use std::sync::Arc;
/// use lamplighter::transport::{Credentials, Polite, PoliteOptions, Request, SystemClock, Transport};
/// # use lamplighter::transport::{Body, Response, TransportError};
/// # struct Forge;
/// # #[async_trait::async_trait]
/// # impl Transport for Forge {
/// #     async fn send(&self, r: Request) -> Result<Response, TransportError> {
/// #         Ok(Response::new(200, r.url, Body::from("[]"), lamplighter::model::Timestamp::EPOCH))
/// #     }
/// # }
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// let polite = Polite::new(Forge, Arc::new(SystemClock), Arc::new(Credentials::new()), PoliteOptions::default());
/// let answer = polite.send(Request::get("https://forge.example/api".parse()?)).await?;
/// assert_eq!((answer.status.as_u16(), polite.attempts()), (200, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Polite<T> {
    inner: T,
    clock: Arc<dyn Clock>,
    credentials: Arc<Credentials>,
    options: PoliteOptions,
    unrated: Vec<Site>,
    hosts: Mutex<HashMap<Site, Arc<HostState>>>,
    attempts: AtomicU64,
}

/// One request on its way.
struct Journey<'a> {
    host: &'a HostState,
    plan: RetryPlan,
    place: String,
    attempt: u32,
    /// How long it has waited for limits so far, and for how many.
    waited: Duration,
    limits: u32,
}

/// What an attempt leads to: the end, or another attempt after a while.
type Next = ControlFlow<Result<Response, TransportError>, Duration>;

impl<T: Transport> Polite<T> {
    /// A polite transport around another one.
    pub fn new(
        inner: T,
        clock: Arc<dyn Clock>,
        credentials: Arc<Credentials>,
        options: PoliteOptions,
    ) -> Self {
        let unrated = options.bases.iter().filter_map(Site::of).filter(Site::is_loopback).collect();
        Self {
            inner,
            clock,
            credentials,
            options,
            unrated,
            hosts: Mutex::default(),
            attempts: AtomicU64::new(0),
        }
    }

    /// How many requests were sent so far, each attempt counted.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    fn host(&self, site: Site, url: &Url) -> Arc<HostState> {
        let unrated = self.unrated.contains(&site);
        let new = || {
            let gate = if unrated { self.options.gate.with_per_second(None) } else { self.options.gate };
            Arc::new(HostState {
                gate: Mutex::new(HostGate::new(gate)),
                left: Notify::new(),
                credentials: Mutex::new(CredentialPool::new(self.credentials.for_url(url))),
                anonymous: Mutex::new(CredentialPool::new([])),
            })
        };
        Arc::clone(lock(&self.hosts).entry(site).or_insert_with(new))
    }

    async fn travel(&self, mut request: Request, host: &HostState) -> Result<Response, TransportError> {
        let place = request.place();
        let plan = RetryPlan::new(
            self.options.retry,
            format!("{place}?{}", request.url.query().unwrap_or_default()),
        );
        let mut journey = Journey { host, plan, place, attempt: 0, waited: Duration::ZERO, limits: 0 };
        let pool = host.pool(&request.auth);
        loop {
            let chosen = lock(pool).choose(self.clock.now());
            let id = match chosen {
                Choice::Use(id) => id,
                Choice::WaitUntil(first) => {
                    self.wait_for_limit(&mut journey, first).await?;
                    continue;
                }
            };
            let taken = host.enter().await;
            while let Some(wait) = self.turn(host) {
                self.clock.sleep(wait).await;
            }
            // While it waited for its turn, another's answer may have closed this way.
            if !lock(pool).is_open(id, self.clock.now()) {
                continue;
            }
            request.credential = id;
            journey.attempt += 1;
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let answer = self.inner.send(request.clone()).await;
            drop(taken);
            match self.judge(&mut journey, pool, id, answer) {
                Next::Break(result) => return result,
                Next::Continue(wait) if wait.is_zero() => {}
                Next::Continue(wait) => self.clock.sleep(wait).await,
            }
        }
    }

    fn turn(&self, host: &HostState) -> Option<Duration> {
        lock(&host.gate).turn(self.clock.now())
    }

    /// Waits until a limit has passed, if that is not too long.
    async fn wait_for_limit(
        &self,
        journey: &mut Journey<'_>,
        until: Timestamp,
    ) -> Result<(), TransportError> {
        let wait = until.since(self.clock.now());
        let waited = journey.waited.saturating_add(wait);
        if waited > self.options.longest_wait {
            let context = format!("{}: free again at {until}", journey.place);
            return Err(TransportError::new(TransportErrorKind::Limited, context).with_wait(wait));
        }
        journey.waited = waited;
        tracing::info!(url = journey.place, wait_ms = millis(wait), "waits for a limit");
        self.clock.sleep(wait).await;
        Ok(())
    }

    /// What to make of an attempt's outcome.
    fn judge(
        &self,
        journey: &mut Journey<'_>,
        pool: &Mutex<CredentialPool>,
        id: Option<CredentialId>,
        answer: Result<Response, TransportError>,
    ) -> Next {
        let now = self.clock.now();
        let attempt = journey.attempt;
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                let wait = journey.plan.failed(&error);
                let wait_ms = wait.map(millis);
                tracing::debug!(url = journey.place, attempt, wait_ms, %error, "no answer");
                return wait.map_or(Next::Break(Err(error)), Next::Continue);
            }
        };
        let status = response.status.as_u16();
        let limit = limit_of(now, &response);
        if let Some(limit) = limit.filter(|limit| limit.wait.is_some() || id.is_some()) {
            let until = now.plus(journey.limited(limit));
            tracing::info!(
                url = journey.place,
                status,
                attempt,
                limit = limit.kind.as_str(),
                credential = id.map(|id| id.0),
                wait_ms = millis(until.since(now)),
                "limited"
            );
            lock(pool).limited(id, until);
            // The next round finds another credential, or waits for the first that is free.
            return Next::Continue(Duration::ZERO);
        }
        if let (StatusCode::UNAUTHORIZED, Some(credential)) = (response.status, id) {
            tracing::warn!(
                url = journey.place,
                attempt,
                credential = credential.0,
                "the forge refuses a credential"
            );
            let another = lock(pool).refused(id);
            return if another { Next::Continue(Duration::ZERO) } else { Next::Break(Ok(response)) };
        }
        let wait = journey.plan.answered(now, response.status, &response.headers);
        tracing::debug!(url = journey.place, status, attempt, wait_ms = wait.map(millis), "answered");
        let Some(wait) = wait else {
            lock(pool).answered(id, now, &response.headers);
            return Next::Break(Ok(response));
        };
        if limit.is_some() {
            // A 429 that does not say how long is met with patience, by all who ask so.
            lock(pool).limited(id, now.plus(wait));
        } else if retry_after(now, &response.headers).is_some() {
            lock(&journey.host.gate).block_until(now.plus(wait));
        }
        Next::Continue(wait)
    }
}

impl Journey<'_> {
    /// How long a limit holds: what it says, and longer each time it is met again, so that one
    /// which says "at once" for ever does not become a loop.
    fn limited(&mut self, limit: Limit) -> Duration {
        let least = Duration::from_secs(1 << self.limits.min(6));
        self.limits += 1;
        limit.wait.unwrap_or(UNSAID).max(least)
    }
}

#[async_trait]
impl<T: Transport> Transport for Polite<T> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let Some(site) = Site::of(&request.url) else {
            // Not to be sent; the client says so.
            return self.inner.send(request).await;
        };
        let host = self.host(site, &request.url);
        let span = tracing::debug_span!("request", method = %request.method, url = super::request::place(&request.url));
        self.travel(request, &host).instrument(span).await
    }

    fn attempts(&self) -> u64 {
        Self::attempts(self)
    }
}

impl<T: fmt::Debug> fmt::Debug for Polite<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polite").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Whether an answer is a limit. Its body is looked at, not taken.
fn limit_of(now: Timestamp, response: &Response) -> Option<Limit> {
    let prefix = match &response.body {
        Body::Bytes(bytes) => bytes.get(..PREFIX).unwrap_or(bytes),
        Body::Spooled { .. } => &[],
    };
    classify(now, response.status, &response.headers, prefix)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A lock that a panic elsewhere does not take away: what it guards is whole between any two calls.
fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
