//! Stores behind pointers: `Box<dyn SchedulerBackend>` and `Arc<dyn SchedulerBackend>` are stores.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{
    Begun, Candidate, Change, ChangeToken, Claim, Claimed, Committed, Completed, EndRun, Ended, Explanation,
    Gap, GapQuery, Hint, Hinted, Imported, ImportedOrigin, LaneLoad, Metrics, MetricsStore, OriginPage,
    OriginQuery, OriginStore, PageCommit, PageToken, PendingCursor, Refusal, Requested, Result, RunPlan,
    RunQuery, RunRecord, RunStore, RunTicket, Validator, VisitRequest, VisitStore,
};
use crate::model::{
    ListerKey, ListerRecord, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitToken, VisitType,
};

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        impl<T: RunStore + ?Sized> RunStore for $pointer<T> {
            async fn lister(&self, key: &ListerKey, now: Timestamp) -> Result<ListerRecord> {
                (**self).lister(key, now).await
            }

            async fn begin_run(&self, plan: RunPlan, now: Timestamp) -> Result<Begun> {
                (**self).begin_run(plan, now).await
            }

            async fn claim_cursors(
                &self,
                run: RunTicket,
                limit: usize,
                lease: Duration,
                now: Timestamp,
            ) -> Result<Vec<PendingCursor>> {
                (**self).claim_cursors(run, limit, lease, now).await
            }

            async fn commit_page(&self, commit: PageCommit, now: Timestamp) -> Result<Committed> {
                (**self).commit_page(commit, now).await
            }

            async fn candidate(&self, run: RunTicket) -> Result<Candidate> {
                (**self).candidate(run).await
            }

            async fn validator(&self, lister: &ListerKey, key: &str) -> Result<Option<Validator>> {
                (**self).validator(lister, key).await
            }

            async fn end_run(&self, end: EndRun, now: Timestamp) -> Result<Ended> {
                (**self).end_run(end, now).await
            }

            async fn runs(&self, query: &RunQuery, limit: usize) -> Result<Vec<RunRecord>> {
                (**self).runs(query, limit).await
            }

            async fn gaps(&self, query: &GapQuery) -> Result<Vec<Gap>> {
                (**self).gaps(query).await
            }
        }

        #[async_trait]
        impl<T: OriginStore + ?Sized> OriginStore for $pointer<T> {
            async fn listers(&self) -> Result<Vec<ListerRecord>> {
                (**self).listers().await
            }

            async fn origins(
                &self,
                query: &OriginQuery,
                after: Option<PageToken>,
                limit: usize,
            ) -> Result<OriginPage> {
                (**self).origins(query, after, limit).await
            }

            async fn import(&self, origins: Vec<ImportedOrigin>, now: Timestamp) -> Result<Imported> {
                (**self).import(origins, now).await
            }

            async fn set_disabled(
                &self,
                origins: &[OriginKey],
                reason: Option<&str>,
                now: Timestamp,
            ) -> Result<u64> {
                (**self).set_disabled(origins, reason, now).await
            }

            async fn changes(&self, after: ChangeToken, limit: usize) -> Result<Vec<Change>> {
                (**self).changes(after, limit).await
            }
        }

        #[async_trait]
        impl<T: VisitStore + ?Sized> VisitStore for $pointer<T> {
            async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
                (**self).claim(claim, now).await
            }

            async fn peek(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
                (**self).peek(claim, now).await
            }

            async fn heartbeat(
                &self,
                visits: &[(VisitId, VisitToken)],
                lease: Duration,
                now: Timestamp,
            ) -> Result<Vec<std::result::Result<Timestamp, Refusal>>> {
                (**self).heartbeat(visits, lease, now).await
            }

            async fn complete(
                &self,
                outcomes: &[Outcome],
                now: Timestamp,
            ) -> Result<Vec<std::result::Result<Completed, Refusal>>> {
                (**self).complete(outcomes, now).await
            }

            async fn request(
                &self,
                requests: &[VisitRequest],
                now: Timestamp,
            ) -> Result<Vec<Option<Requested>>> {
                (**self).request(requests, now).await
            }

            async fn hint(&self, hints: &[Hint], now: Timestamp) -> Result<Vec<Hinted>> {
                (**self).hint(hints, now).await
            }

            async fn stats(&self, origins: &[OriginKey]) -> Result<Vec<Option<VisitStats>>> {
                (**self).stats(origins).await
            }

            async fn explain(&self, origin: &OriginKey, now: Timestamp) -> Result<Option<Explanation>> {
                (**self).explain(origin, now).await
            }
        }

        #[async_trait]
        impl<T: MetricsStore + ?Sized> MetricsStore for $pointer<T> {
            async fn metrics(&self, now: Timestamp) -> Result<Vec<Metrics>> {
                (**self).metrics(now).await
            }

            async fn lanes(&self, visit_type: &VisitType, now: Timestamp) -> Result<Vec<LaneLoad>> {
                (**self).lanes(visit_type, now).await
            }
        }
    };
}

forward!(Box);
forward!(Arc);
