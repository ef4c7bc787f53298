//! What the incumbent did with a listing: an upsert of every row, whatever it had said before.

use std::time::Duration;

use async_trait::async_trait;
use lamplighter::backend::{
    Begun, Candidate, Change, ChangeToken, Claim, Claimed, Committed, Completed, EndRun, Ended, Explanation,
    Gap, GapQuery, Hint, Hinted, Imported, ImportedOrigin, LaneLoad, MemoryStore, Metrics, MetricsStore,
    OriginPage, OriginQuery, OriginStore, PageCommit, PageToken, PendingCursor, Refusal, Requested, Result,
    RunPlan, RunQuery, RunRecord, RunStore, RunTicket, Validator, VisitRequest, VisitStore,
};
use lamplighter::model::{
    ListerKey, ListerRecord, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitToken, VisitType,
};

/// Which of the columns the upsert overwrites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrites {
    /// Whether an origin is enabled.
    Enabled,
    /// When it was last seen.
    LastSeen,
}

/// A store whose pages are upserts.
#[derive(Debug)]
pub(crate) struct Upserting {
    pub(crate) inner: MemoryStore,
    pub(crate) overwrites: Overwrites,
}

#[async_trait]
impl RunStore for Upserting {
    async fn commit_page(&self, mut commit: PageCommit, now: Timestamp) -> Result<Committed> {
        for sighting in &mut commit.batch.origins {
            match self.overwrites {
                Overwrites::Enabled => {
                    self.inner.set_disabled(&[sighting.origin.key()], None, now).await?;
                }
                Overwrites::LastSeen => {
                    let seen = serde_json::Value::from(now.to_string());
                    sighting.origin.extra_loader_arguments.insert("last_seen".to_owned(), seen);
                }
            }
        }
        self.inner.commit_page(commit, now).await
    }

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
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<PendingCursor>> {
        self.inner.claim_cursors(run, limit, lease, now).await
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

#[async_trait]
impl OriginStore for Upserting {
    async fn listers(&self) -> Result<Vec<ListerRecord>> {
        self.inner.listers().await
    }

    async fn origins(
        &self,
        query: &OriginQuery,
        after: Option<PageToken>,
        limit: usize,
    ) -> Result<OriginPage> {
        self.inner.origins(query, after, limit).await
    }

    async fn import(&self, origins: Vec<ImportedOrigin>, now: Timestamp) -> Result<Imported> {
        self.inner.import(origins, now).await
    }

    async fn set_disabled(&self, origins: &[OriginKey], reason: Option<&str>, now: Timestamp) -> Result<u64> {
        self.inner.set_disabled(origins, reason, now).await
    }

    async fn changes(&self, after: ChangeToken, limit: usize) -> Result<Vec<Change>> {
        self.inner.changes(after, limit).await
    }
}

type Answers<T> = Vec<std::result::Result<T, Refusal>>;

#[async_trait]
impl VisitStore for Upserting {
    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        self.inner.claim(claim, now).await
    }

    async fn peek(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        self.inner.peek(claim, now).await
    }

    async fn heartbeat(
        &self,
        visits: &[(VisitId, VisitToken)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Answers<Timestamp>> {
        self.inner.heartbeat(visits, lease, now).await
    }

    async fn complete(&self, outcomes: &[Outcome], now: Timestamp) -> Result<Answers<Completed>> {
        self.inner.complete(outcomes, now).await
    }

    async fn request(&self, requests: &[VisitRequest], now: Timestamp) -> Result<Vec<Option<Requested>>> {
        self.inner.request(requests, now).await
    }

    async fn hint(&self, hints: &[Hint], now: Timestamp) -> Result<Vec<Hinted>> {
        self.inner.hint(hints, now).await
    }

    async fn stats(&self, origins: &[OriginKey]) -> Result<Vec<Option<VisitStats>>> {
        self.inner.stats(origins).await
    }

    async fn explain(&self, origin: &OriginKey, now: Timestamp) -> Result<Option<Explanation>> {
        self.inner.explain(origin, now).await
    }
}

#[async_trait]
impl MetricsStore for Upserting {
    async fn metrics(&self, now: Timestamp) -> Result<Vec<Metrics>> {
        self.inner.metrics(now).await
    }

    async fn lanes(&self, visit_type: &VisitType, now: Timestamp) -> Result<Vec<LaneLoad>> {
        self.inner.lanes(visit_type, now).await
    }
}
