//! A store made of another: it keeps a journal of what was handed out and what came back, and leaves
//! the rest to the store inside. The public suite then says whether it still is a store.
use std::sync::atomic::{AtomicU64, Ordering};
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
use lamplighter::testing::conformance;

#[derive(Default)]
struct Counted {
    inner: MemoryStore,
    handed_out: AtomicU64,
    taken_back: AtomicU64,
}

#[async_trait]
impl RunStore for Counted {
    async fn lister(&self, key: &ListerKey, now: Timestamp) -> Result<ListerRecord> {
        self.inner.lister(key, now).await
    }
    async fn begin_run(&self, plan: RunPlan, now: Timestamp) -> Result<Begun> {
        self.inner.begin_run(plan, now).await
    }
    async fn claim_cursors(
        &self,
        run: RunTicket,
        n: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<PendingCursor>> {
        self.inner.claim_cursors(run, n, lease, now).await
    }
    async fn commit_page(&self, commit: PageCommit, now: Timestamp) -> Result<Committed> {
        self.inner.commit_page(commit, now).await
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
impl OriginStore for Counted {
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
impl VisitStore for Counted {
    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        let claimed = self.inner.claim(claim, now).await?;
        self.handed_out.fetch_add(claimed.visits.len() as u64, Ordering::Relaxed);
        Ok(claimed)
    }
    async fn complete(&self, outcomes: &[Outcome], now: Timestamp) -> Result<Answers<Completed>> {
        let answers = self.inner.complete(outcomes, now).await?;
        let taken = answers.iter().filter(|a| a.is_ok()).count();
        self.taken_back.fetch_add(taken as u64, Ordering::Relaxed);
        Ok(answers)
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
impl MetricsStore for Counted {
    async fn metrics(&self, now: Timestamp) -> Result<Vec<Metrics>> {
        self.inner.metrics(now).await
    }
    async fn lanes(&self, visit_type: &VisitType, now: Timestamp) -> Result<Vec<LaneLoad>> {
        self.inner.lanes(visit_type, now).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    conformance::backend(|| async { Counted::default() }).await;

    let store = Counted::default();
    let lister = ListerKey::new("shelf", "shelf.example");
    let origin = ImportedOrigin::new(&lister, "https://shelf.example/a.git", VisitType::git());
    store.import(vec![origin], Timestamp::EPOCH).await?;
    store.claim(&Claim::new(VisitType::git(), 10), Timestamp::EPOCH).await?;
    assert_eq!((store.handed_out.into_inner(), store.taken_back.into_inner()), (1, 0));
    Ok(())
}
