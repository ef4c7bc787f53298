//! The role traits, once for every store that runs the engine.

use crate::backend::BackendError;
use crate::transport::{TransportError, TransportErrorKind};

/// A store's error as the transport's.
pub(crate) fn unkept(what: &str, host: &str, error: BackendError) -> TransportError {
    let context = format!("the limits of {host} could not be {what}");
    TransportError::new(TransportErrorKind::Other, context).with_source(error)
}

/// Implements all four roles, and the keeping of limits, for a store with `async fn run(&self, FnOnce(&Engine) -> Result<R>)`.
macro_rules! impl_store {
    ($store:ty) => {
        #[async_trait::async_trait]
        impl crate::backend::RunStore for $store {
            async fn lister(&self, key: &ListerKey, now: Timestamp) -> Result<ListerRecord> {
                let key = key.clone();
                self.run(move |e| e.lister(&key, now)).await
            }

            async fn begin_run(&self, plan: RunPlan, now: Timestamp) -> Result<Begun> {
                self.run(move |e| e.begin_run(&plan, now)).await
            }

            async fn claim_cursors(
                &self,
                run: RunTicket,
                limit: usize,
                lease: Duration,
                now: Timestamp,
            ) -> Result<Vec<PendingCursor>> {
                self.run(move |e| e.claim_cursors(run, limit, lease, now)).await
            }

            async fn commit_page(&self, commit: PageCommit, now: Timestamp) -> Result<Committed> {
                self.run(move |e| e.commit_page(commit, now)).await
            }

            async fn candidate(&self, run: RunTicket) -> Result<Candidate> {
                self.run(move |e| e.candidate(run)).await
            }

            async fn validator(&self, lister: &ListerKey, key: &str) -> Result<Option<Validator>> {
                let (lister, key) = (lister.clone(), key.to_owned());
                self.run(move |e| e.validator(&lister, &key)).await
            }

            async fn end_run(&self, end: EndRun, now: Timestamp) -> Result<Ended> {
                self.run(move |e| e.end_run(end, now)).await
            }

            async fn runs(&self, query: &RunQuery, limit: usize) -> Result<Vec<RunRecord>> {
                let query = query.clone();
                self.run(move |e| e.runs(&query, limit)).await
            }

            async fn gaps(&self, query: &GapQuery) -> Result<Vec<Gap>> {
                let query = query.clone();
                self.run(move |e| e.gaps(&query)).await
            }
        }

        #[async_trait::async_trait]
        impl crate::transport::LimitStore for $store {
            async fn standings(
                &self,
                host: &str,
                now: Timestamp,
            ) -> std::result::Result<Vec<crate::transport::Standing>, crate::transport::TransportError> {
                let name = host.to_owned();
                let found = self.run(move |e| e.standings(&name, now)).await;
                found.map_err(|e| crate::backend::engine::unkept("read", host, e))
            }

            async fn keep_standings(
                &self,
                host: &str,
                standings: &[crate::transport::Standing],
                now: Timestamp,
            ) -> std::result::Result<(), crate::transport::TransportError> {
                let (name, news) = (host.to_owned(), standings.to_vec());
                let kept = self.run(move |e| e.keep_standings(&name, &news, now)).await;
                kept.map_err(|e| crate::backend::engine::unkept("kept", host, e))
            }
        }

        #[async_trait::async_trait]
        impl crate::backend::OriginStore for $store {
            async fn listers(&self) -> Result<Vec<ListerRecord>> {
                self.run(|e| e.listers()).await
            }

            async fn origins(
                &self,
                query: &OriginQuery,
                after: Option<PageToken>,
                limit: usize,
            ) -> Result<OriginPage> {
                let query = query.clone();
                self.run(move |e| e.origins(&query, after.as_ref(), limit)).await
            }

            async fn import(&self, origins: Vec<ImportedOrigin>, now: Timestamp) -> Result<Imported> {
                self.run(move |e| e.import(origins, now)).await
            }

            async fn set_disabled(
                &self,
                origins: &[OriginKey],
                reason: Option<&str>,
                now: Timestamp,
            ) -> Result<u64> {
                let (origins, reason) = (origins.to_vec(), reason.map(str::to_owned));
                self.run(move |e| e.set_disabled(&origins, reason.as_deref(), now)).await
            }

            async fn changes(&self, after: ChangeToken, limit: usize) -> Result<Vec<Change>> {
                self.run(move |e| e.changes(after, limit)).await
            }
        }

        #[async_trait::async_trait]
        impl crate::backend::VisitStore for $store {
            async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
                let claim = claim.clone();
                self.run(move |e| e.claim(&claim, now)).await
            }

            async fn peek(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
                let claim = claim.clone();
                self.run(move |e| e.peek(&claim, now)).await
            }

            async fn heartbeat(
                &self,
                visits: &[(VisitId, VisitToken)],
                lease: Duration,
                now: Timestamp,
            ) -> Result<Vec<std::result::Result<Timestamp, Refusal>>> {
                let visits = visits.to_vec();
                self.run(move |e| e.heartbeat(&visits, lease, now)).await
            }

            async fn complete(
                &self,
                outcomes: &[Outcome],
                now: Timestamp,
            ) -> Result<Vec<std::result::Result<Completed, Refusal>>> {
                let outcomes = outcomes.to_vec();
                self.run(move |e| e.complete(&outcomes, now)).await
            }

            async fn request(
                &self,
                requests: &[VisitRequest],
                now: Timestamp,
            ) -> Result<Vec<Option<Requested>>> {
                let requests = requests.to_vec();
                self.run(move |e| e.request(&requests, now)).await
            }

            async fn hint(&self, hints: &[Hint], now: Timestamp) -> Result<Vec<Hinted>> {
                let hints = hints.to_vec();
                self.run(move |e| e.hint(&hints, now)).await
            }

            async fn stats(&self, origins: &[OriginKey]) -> Result<Vec<Option<VisitStats>>> {
                let origins = origins.to_vec();
                self.run(move |e| e.stats(&origins)).await
            }

            async fn explain(&self, origin: &OriginKey, now: Timestamp) -> Result<Option<Explanation>> {
                let origin = origin.clone();
                self.run(move |e| e.explain(&origin, now)).await
            }
        }

        #[async_trait::async_trait]
        impl crate::backend::MetricsStore for $store {
            async fn metrics(&self, now: Timestamp) -> Result<Vec<Metrics>> {
                self.run(move |e| e.metrics(now)).await
            }

            async fn lanes(&self, visit_type: &VisitType, now: Timestamp) -> Result<Vec<LaneLoad>> {
                let visit_type = visit_type.clone();
                self.run(move |e| e.lanes(&visit_type, now)).await
            }
        }
    };
}

pub(crate) use impl_store;
