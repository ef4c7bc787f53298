//! Ways to break a run: a transport of a closure, and a killer that stops a run dead at a chosen
//! point.

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::backend::{
    Begun, Candidate, Committed, EndRun, Ended, Gap, GapQuery, PageCommit, PendingCursor, Result, RunPlan,
    RunQuery, RunRecord, RunStore, RunTicket, Validator,
};
use crate::model::{ListerKey, ListerRecord, Timestamp};
use crate::transport::{Request, Response, Transport, TransportError};

/// A transport whose answers a closure gives, with a log of what it was asked.
///
/// ```
/// use lamplighter::model::Timestamp;
/// use lamplighter::testing::Answering;
/// use lamplighter::transport::{Body, Response};
/// let forge = Answering::new(|r| Ok(Response::new(404, r.url.clone(), Body::from(""), Timestamp::EPOCH)));
/// assert_eq!(forge.asked().len(), 0);
/// ```
pub struct Answering<F> {
    answer: F,
    asked: Mutex<Vec<String>>,
}

impl<F> Answering<F>
where
    F: Fn(&Request) -> std::result::Result<Response, TransportError> + Send + Sync,
{
    /// A transport that answers so.
    pub fn new(answer: F) -> Self {
        Self { answer, asked: Mutex::default() }
    }

    /// Method and URL of every request so far, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<F> fmt::Debug for Answering<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").field("asked", &self.asked).finish_non_exhaustive()
    }
}

#[async_trait]
impl<F> Transport for Answering<F>
where
    F: Fn(&Request) -> std::result::Result<Response, TransportError> + Send + Sync,
{
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{} {}", request.method, request.url));
        (self.answer)(&request)
    }
}

/// Where a run is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KillPoint {
    /// A request was answered, and its page is not committed.
    Answered,
    /// A page is about to be committed.
    BeforeCommit,
    /// A page is committed, and the driver does not know it.
    AfterCommit,
}

/// Stops a run dead at the n-th time that it passes a point: what passes there never comes back, and
/// [`Killer::killed`] tells the test to drop the run, as the end of a process would.
#[derive(Debug)]
pub struct Killer {
    point: KillPoint,
    after: u64,
    passed: AtomicU64,
    dead: Notify,
}

impl Killer {
    /// Kills at the (n + 1)-th time that a point is passed.
    #[must_use]
    pub fn new(point: KillPoint, n: u64) -> Arc<Self> {
        Arc::new(Self { point, after: n, passed: AtomicU64::new(0), dead: Notify::new() })
    }

    /// Waits until it has killed.
    pub async fn killed(&self) {
        self.dead.notified().await;
    }

    async fn pass(&self, point: KillPoint) {
        if point == self.point && self.passed.fetch_add(1, Ordering::SeqCst) == self.after {
            self.dead.notify_one();
            pending::<()>().await;
        }
    }
}

/// A transport with a [`Killer`] behind each answer.
pub struct KillingTransport<T> {
    inner: T,
    killer: Arc<Killer>,
}

impl<T: Transport> KillingTransport<T> {
    /// Puts a killer behind a transport.
    pub fn new(inner: T, killer: Arc<Killer>) -> Self {
        Self { inner, killer }
    }
}

impl<T> fmt::Debug for KillingTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillingTransport").field("killer", &self.killer).finish_non_exhaustive()
    }
}

#[async_trait]
impl<T: Transport> Transport for KillingTransport<T> {
    async fn send(&self, request: Request) -> std::result::Result<Response, TransportError> {
        let answer = self.inner.send(request).await;
        self.killer.pass(KillPoint::Answered).await;
        answer
    }
}

/// A store with a [`Killer`] around each commit.
pub struct KillingStore {
    inner: Arc<dyn RunStore>,
    killer: Arc<Killer>,
}

impl KillingStore {
    /// Puts a killer around a store's commits.
    pub fn new(inner: Arc<dyn RunStore>, killer: Arc<Killer>) -> Self {
        Self { inner, killer }
    }
}

impl fmt::Debug for KillingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillingStore").field("killer", &self.killer).finish_non_exhaustive()
    }
}

#[async_trait]
impl RunStore for KillingStore {
    async fn lister(&self, key: &ListerKey, now: Timestamp) -> Result<ListerRecord> {
        self.inner.lister(key, now).await
    }

    async fn begin_run(&self, plan: RunPlan, now: Timestamp) -> Result<Begun> {
        self.inner.begin_run(plan, now).await
    }

    async fn claim_cursors(
        &self,
        run: RunTicket,
        limit: usize,
        lease: std::time::Duration,
        now: Timestamp,
    ) -> Result<Vec<PendingCursor>> {
        self.inner.claim_cursors(run, limit, lease, now).await
    }

    async fn commit_page(&self, commit: PageCommit, now: Timestamp) -> Result<Committed> {
        self.killer.pass(KillPoint::BeforeCommit).await;
        let committed = self.inner.commit_page(commit, now).await;
        self.killer.pass(KillPoint::AfterCommit).await;
        committed
    }

    async fn candidate(&self, run: RunTicket) -> Result<Candidate> {
        self.inner.candidate(run).await
    }

    async fn validator(&self, lister: &ListerKey, key: &str) -> Result<Option<Validator>> {
        self.inner.validator(lister, key).await
    }

    async fn end_run(&self, end: EndRun, now: Timestamp) -> Result<Ended> {
        self.inner.end_run(end, now).await
    }

    async fn runs(&self, query: &RunQuery, limit: usize) -> Result<Vec<RunRecord>> {
        self.inner.runs(query, limit).await
    }

    async fn gaps(&self, query: &GapQuery) -> Result<Vec<Gap>> {
        self.inner.gaps(query).await
    }
}
