//! The shell around a client: retries, limits, and which credential goes.
//!
//! # Behaviours
//!
//! Each with the test in `tests/transport` that fails without it:
//!
//! - of several credentials the first one that is free goes: `d12_the_first_token_that_is_free_goes`
//! - a secondary limit is no answer: `d1_a_secondary_limit_is_waited_out`
//! - a limit that says nothing of its end is waited out, longer each time, also without a credential:
//!   `a_limit_that_says_nothing_is_waited_out`, `a_limit_that_never_ends_does_not_become_a_loop`
//! - nearly all that the limits allow is asked for: `github_grants_nearly_all_that_its_limits_allow`
//! - of each budget a reserve is left: `github_keeps_the_reserve`
//! - nobody asks while told to wait: `github_is_never_asked_while_it_says_wait`
//! - a limit holds for the next process too: `a_limit_outlives_the_process`
//! - a credential that the forge refuses is left out, and named by its place:
//!   `a_refused_token_is_left_out`, `logs_tell_each_attempt_and_no_secret`
//! - a validator goes with the credential that it was given to: `a_validator_goes_with_its_credential_only`,
//!   `a_validator_of_a_limited_credential_is_left_out`, `a_run_asks_conditionally_as_whom_it_last_asked`
//! - a bot wall is an error, and never a page: `a_bot_wall_is_an_error_that_says_what_it_is`,
//!   `a_bot_wall_is_never_an_empty_list`
//! - where a redirect leads, the gate of that host holds: `a_redirect_waits_at_the_other_hosts_gate`,
//!   `hosts_that_redirect_to_each_other_do_not_lock`
//! - what another host says is not held against a credential:
//!   `what_is_said_elsewhere_is_not_held_against_a_credential`
//! - a forge that is down is asked a few times: `d3_a_forge_that_is_down_is_asked_a_few_times_and_waited_for`

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tracing::Instrument;
use url::Url;

use super::challenge::challenge;
use super::guard::Site;
use super::hosts::{Flying, Host, Hosts, lock};
use super::limit::{PREFIX, retry_after};
use super::pool::wait_for;
use super::request::Hops;
use super::{
    Body, Choice, Clock, CredentialId, CredentialPool, Credentials, GateOptions, Limit, LimitStore, Request,
    Response, RetryOptions, RetryPlan, Transport, TransportError, TransportErrorKind, classify,
};
use crate::model::Timestamp;

/// So often one request meets a limit of one credential: then the limit is none that ends.
const LIMITS_IN_A_ROW: u32 = 6;

/// How [`Polite`] behaves.
#[derive(Clone)]
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
    /// How many requests of each credential's budget are left to others who use it. 0.
    pub reserve: u64,
    /// Where limits are kept beyond this process. Nowhere.
    pub limits: Option<Arc<dyn LimitStore>>,
}

impl Default for PoliteOptions {
    fn default() -> Self {
        Self {
            retry: RetryOptions::default(),
            gate: GateOptions::default(),
            longest_wait: Duration::from_secs(7200),
            bases: Vec::new(),
            reserve: 0,
            limits: None,
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

    /// Sets how many requests of each credential's budget are left to others who use it.
    #[must_use]
    pub fn with_reserve(mut self, reserve: u64) -> Self {
        self.reserve = reserve;
        self
    }

    /// Sets where limits are kept beyond this process.
    #[must_use]
    pub fn with_limit_store(mut self, limits: Arc<dyn LimitStore>) -> Self {
        self.limits = Some(limits);
        self
    }
}

impl fmt::Debug for PoliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A configured URL may hold a secret in its query.
        let bases: Vec<_> = self.bases.iter().map(super::request::place).collect();
        f.debug_struct("PoliteOptions")
            .field("retry", &self.retry)
            .field("gate", &self.gate)
            .field("longest_wait", &self.longest_wait)
            .field("bases", &bases)
            .field("reserve", &self.reserve)
            .field("limits", &self.limits.is_some())
            .finish()
    }
}

/// Puts retries, limits per host and the choice of a credential around a transport.
///
/// An answer that may pass (5xx but 501, 408, and errors of the network) is asked for again a few
/// times; the last answer or error is what the caller gets. A limit (see [`classify`]) is never
/// given to the caller as an answer: the host's next credential goes at once, and when there is none
/// the request waits for the first that is free, up to a bound, and then fails as
/// [`Limited`](TransportErrorKind::Limited). A bot wall (see [`challenge()`](super::challenge())) is an
/// error of its own.
///
/// The credential is chosen here, whatever the request says, and before it is sent: a validator goes
/// only with the credential that it was given to, which is preferred. Where a redirect leads, the gate
/// of the host there holds. A request may be dropped at any time.
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
    hosts: Arc<Hosts>,
    attempts: AtomicU64,
}

/// One request on its way.
struct Journey<'a> {
    host: &'a Host,
    plan: RetryPlan,
    place: String,
    attempt: u32,
    /// How long it has waited for limits so far.
    waited: Duration,
    /// How many limits it met, for each credential and for where redirects led.
    limits: Vec<(Met, u32)>,
}

/// Whose limit was met.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Met {
    Credential(Option<CredentialId>),
    Elsewhere,
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
        Self { inner, hosts: Arc::new(Hosts::new(clock, credentials, options)), attempts: AtomicU64::new(0) }
    }

    /// How many requests were sent so far, each attempt counted.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Ordering::Relaxed)
    }

    async fn travel(&self, mut request: Request, host: &Arc<Host>) -> Result<Response, TransportError> {
        let place = request.place();
        let plan = RetryPlan::new(
            self.hosts.options.retry,
            format!("{place}?{}", request.url.query().unwrap_or_default()),
        );
        let mut journey =
            Journey { host, plan, place, attempt: 0, waited: Duration::ZERO, limits: Vec::new() };
        let pool = host.pool(&request.auth);
        self.hosts.load(host).await;
        let preferred = self.holder(&request);
        loop {
            let id = match self.choose(host, pool, preferred).await {
                Ok(id) => id,
                Err(first) => {
                    self.wait_for_limit(&mut journey, first).await?;
                    self.hosts.reload(host).await;
                    continue;
                }
            };
            let way = self.hosts.enter(host).await;
            // While it waited for its turn, another's answer may have closed this way.
            let Some(flight) = host.take_off(pool, id, self.now()) else { continue };
            request.credential = id;
            if request.condition.is_some() {
                request.ask_as(&self.hosts.credentials.identity(id));
            }
            request.hops = Hops(Some(way.clone()));
            journey.attempt += 1;
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let answer = self.inner.send(request.clone()).await;
            way.end();
            let answer = answer.map(|response| self.signed(response, id, request.validate));
            let next = self.judge(&mut journey, flight, id, answer);
            self.hosts.keep(host).await;
            match next {
                Next::Break(result) => return result,
                Next::Continue(wait) if wait.is_zero() => {}
                Next::Continue(wait) => self.hosts.clock.sleep(wait).await,
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.hosts.clock.now()
    }

    /// The credential whose validator the request carries.
    fn holder(&self, request: &Request) -> Option<CredentialId> {
        let condition = request.condition.as_ref().filter(|c| !c.identity.is_anonymous())?;
        let credentials = &self.hosts.credentials;
        let ids = credentials.for_url(&request.url).into_iter();
        ids.into_iter().find(|id| credentials.identity(Some(*id)) == condition.identity)
    }

    /// The credential that goes next, or when the first of them is free again.
    async fn choose(
        &self,
        host: &Host,
        pool: &Mutex<CredentialPool>,
        preferred: Option<CredentialId>,
    ) -> Result<Option<CredentialId>, Timestamp> {
        let mut chosen = Choice::WaitForAnswer;
        host.while_so(|| {
            let now = self.now();
            let mut pool = lock(pool);
            chosen = match preferred {
                Some(id) if pool.is_open(Some(id), now) => Choice::Use(Some(id)),
                _ => pool.choose(now),
            };
            chosen == Choice::WaitForAnswer
        })
        .await;
        match chosen {
            Choice::Use(id) => Ok(id),
            Choice::WaitUntil(first) => Err(first),
            Choice::WaitForAnswer => Err(self.now()),
        }
    }

    /// Says in an answer who asked for it.
    fn signed(&self, mut response: Response, id: Option<CredentialId>, validate: bool) -> Response {
        let credentials = &self.hosts.credentials;
        response.credential = id.filter(|id| credentials.may_go(*id, &response.url));
        if validate {
            response.identity = credentials.identity(response.credential);
        }
        response
    }

    /// Waits until a limit has passed, if that is not too long.
    async fn wait_for_limit(
        &self,
        journey: &mut Journey<'_>,
        until: Timestamp,
    ) -> Result<(), TransportError> {
        let wait = until.since(self.now());
        journey.may_wait(wait, until, self.hosts.options.longest_wait)?;
        tracing::info!(url = journey.place, wait_ms = millis(wait), "waits for a limit");
        self.hosts.clock.sleep(wait).await;
        Ok(())
    }

    /// What to make of an attempt's outcome.
    fn judge(
        &self,
        journey: &mut Journey<'_>,
        flight: Flying<'_>,
        id: Option<CredentialId>,
        answer: Result<Response, TransportError>,
    ) -> Next {
        let now = self.now();
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
        if let Some(name) = challenge(response.status, &response.headers, beginning(&response)) {
            tracing::warn!(url = journey.place, attempt, wall = name, "a bot wall");
            return Next::Break(Err(walled(&journey.place, name)));
        }
        let elsewhere = Site::of(&response.url).is_some_and(|site| site != journey.host.site);
        let status = response.status.as_u16();
        let limit = {
            let prefix = beginning(&response);
            classify(now, response.status, &response.headers, prefix.get(..PREFIX).unwrap_or(prefix))
        };
        if let Some(limit) = limit {
            let whose = if elsewhere { Met::Elsewhere } else { Met::Credential(id) };
            let until = if elsewhere {
                self.limited_elsewhere(&response.url, now, limit, journey.met(&whose))
            } else {
                flight.landed(|pool, flight| pool.limited(flight, now, limit)).unwrap_or(now)
            };
            let wait_ms = millis(until.since(now));
            tracing::info!(
                url = journey.place,
                status,
                attempt,
                limit = limit.kind.as_str(),
                credential = id.map(|id| id.0),
                wait_ms,
                "limited"
            );
            return journey.limited(whose, until, now, self.hosts.options.longest_wait);
        }
        if elsewhere {
            // It says nothing of the host that was asked first.
            drop(flight);
        } else if let (StatusCode::UNAUTHORIZED, Some(credential)) = (response.status, id) {
            tracing::warn!(
                url = journey.place,
                attempt,
                credential = credential.0,
                "the forge refuses a credential: it is left out while there is another"
            );
            let another = flight.landed(CredentialPool::refused);
            return match another {
                Some(true) => Next::Continue(Duration::ZERO),
                _ => Next::Break(Ok(response)),
            };
        } else {
            flight.landed(|pool, flight| {
                if response.status.is_server_error() {
                    pool.lost(flight);
                } else {
                    pool.answered(flight, now, &response.headers);
                }
            });
        }
        let wait = journey.plan.answered(now, response.status, &response.headers);
        tracing::debug!(url = journey.place, status, attempt, wait_ms = wait.map(millis), "answered");
        let Some(wait) = wait else { return Next::Break(Ok(response)) };
        if retry_after(now, &response.headers).is_some() {
            self.block(&response.url, now.plus(wait));
        }
        Next::Continue(wait)
    }

    /// A limit of a host to which a redirect led: nobody is led there until it is over.
    fn limited_elsewhere(&self, url: &Url, now: Timestamp, limit: Limit, met: u32) -> Timestamp {
        let until = now.plus(wait_for(limit, met));
        self.block(url, until);
        until
    }

    /// Lets nobody through to a URL's host before then.
    fn block(&self, url: &Url, until: Timestamp) {
        if let Some(host) = self.hosts.host(url) {
            lock(&host.gate).block_until(until);
        }
    }
}

impl Journey<'_> {
    fn met(&self, whose: &Met) -> u32 {
        self.limits.iter().find(|(met, _)| met == whose).map_or(0, |(_, n)| *n)
    }

    /// Counts a limit. The next round finds another credential or waits for the first that is free;
    /// a limit elsewhere is waited for here, as no choice of a credential does it.
    fn limited(&mut self, whose: Met, until: Timestamp, now: Timestamp, longest: Duration) -> Next {
        let n = self.met(&whose) + 1;
        self.limits.retain(|(met, _)| *met != whose);
        let elsewhere = whose == Met::Elsewhere;
        self.limits.push((whose, n));
        if n > LIMITS_IN_A_ROW {
            let context = format!("{}: {n} limits in a row, the last one until {until}", self.place);
            let error = TransportError::new(TransportErrorKind::Limited, context).with_wait(until.since(now));
            return Next::Break(Err(error));
        }
        let wait = if elsewhere { until.since(now) } else { Duration::ZERO };
        match self.may_wait(wait, until, longest) {
            Ok(()) => Next::Continue(wait),
            Err(error) => Next::Break(Err(error)),
        }
    }

    /// Adds to what it has waited for limits, if that is not too long.
    fn may_wait(
        &mut self,
        wait: Duration,
        until: Timestamp,
        longest: Duration,
    ) -> Result<(), TransportError> {
        let waited = self.waited.saturating_add(wait);
        if waited > longest {
            let context = format!("{}: free again at {until}", self.place);
            return Err(TransportError::new(TransportErrorKind::Limited, context).with_wait(wait));
        }
        self.waited = waited;
        Ok(())
    }
}

#[async_trait]
impl<T: Transport> Transport for Polite<T> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let Some(host) = self.hosts.host(&request.url) else {
            // Not to be sent; the client says so.
            return self.inner.send(request).await;
        };
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

/// The beginning of a body, which is looked at and not taken. A large one says nothing of limits.
fn beginning(response: &Response) -> &[u8] {
    match &response.body {
        Body::Bytes(bytes) => bytes,
        Body::Spooled { .. } => &[],
    }
}

fn walled(place: &str, name: &str) -> TransportError {
    let context = format!(
        "{place}: {name} wants a browser to prove itself; ask whoever runs the forge to let this crawler's User-Agent or address through"
    );
    TransportError::new(TransportErrorKind::Challenge, context)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
