//! What the incumbent did with visits, in a few lines: select what is next, then mark it, in two
//! steps and without a lock; what is marked is not looked at again for a week, sent or not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use lamplighter::backend::{
    Change, ChangeToken, Claim, Claimed, Completed, Explanation, Hint, Hinted, Imported, ImportedOrigin,
    MemoryStore, OriginPage, OriginQuery, OriginStore, PageToken, Refusal, Requested, Result, VisitRequest,
    VisitStore,
};
use lamplighter::model::{
    ListerRecord, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitToken, VisitType,
};

const COOLDOWN: Duration = Duration::from_secs(7 * 86_400);

/// Origins and visits as the incumbent kept them.
#[derive(Debug, Default)]
pub(crate) struct Naive {
    origins: MemoryStore,
    /// When an origin was last marked as scheduled.
    marked: Mutex<HashMap<VisitId, Timestamp>>,
}

#[async_trait]
impl VisitStore for Naive {
    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        let everything = Claim::new(VisitType::git(), 10_000);
        let free = |marked: Option<&Timestamp>| marked.is_none_or(|at| at.plus(COOLDOWN) <= now);
        let mut selected = self.origins.peek(&everything, now).await?.visits;
        selected.retain(|v| free(self.marked.lock().unwrap().get(&v.visit)));
        selected.truncate(claim.count);
        // The query is over; whoever else asks now selects the same.
        tokio::task::yield_now().await;
        for visit in &selected {
            self.marked.lock().unwrap().insert(visit.visit, now);
        }
        Ok(Claimed::new(selected))
    }

    async fn peek(&self, claim: &Claim, now: Timestamp) -> Result<Claimed> {
        self.origins.peek(claim, now).await
    }

    async fn heartbeat(
        &self,
        visits: &[(VisitId, VisitToken)],
        _: Duration,
        now: Timestamp,
    ) -> Result<Vec<std::result::Result<Timestamp, Refusal>>> {
        Ok(visits.iter().map(|_| Ok(now)).collect())
    }

    async fn complete(
        &self,
        outcomes: &[Outcome],
        _: Timestamp,
    ) -> Result<Vec<std::result::Result<Completed, Refusal>>> {
        let mut marked = self.marked.lock().unwrap();
        let answers = outcomes.iter().map(|o| {
            marked.remove(&o.visit);
            Ok(Completed::new(OriginKey::new("https://forge.example/", VisitType::git()), None, false))
        });
        Ok(answers.collect())
    }

    async fn request(&self, requests: &[VisitRequest], now: Timestamp) -> Result<Vec<Option<Requested>>> {
        self.origins.request(requests, now).await
    }

    async fn hint(&self, hints: &[Hint], now: Timestamp) -> Result<Vec<Hinted>> {
        self.origins.hint(hints, now).await
    }

    async fn stats(&self, origins: &[OriginKey]) -> Result<Vec<Option<VisitStats>>> {
        self.origins.stats(origins).await
    }

    async fn explain(&self, origin: &OriginKey, now: Timestamp) -> Result<Option<Explanation>> {
        self.origins.explain(origin, now).await
    }
}

#[async_trait]
impl OriginStore for Naive {
    async fn listers(&self) -> Result<Vec<ListerRecord>> {
        self.origins.listers().await
    }

    async fn origins(
        &self,
        query: &OriginQuery,
        after: Option<PageToken>,
        limit: usize,
    ) -> Result<OriginPage> {
        self.origins.origins(query, after, limit).await
    }

    async fn import(&self, origins: Vec<ImportedOrigin>, now: Timestamp) -> Result<Imported> {
        self.origins.import(origins, now).await
    }

    async fn set_disabled(&self, origins: &[OriginKey], reason: Option<&str>, now: Timestamp) -> Result<u64> {
        self.origins.set_disabled(origins, reason, now).await
    }

    async fn changes(&self, after: ChangeToken, limit: usize) -> Result<Vec<Change>> {
        self.origins.changes(after, limit).await
    }
}
