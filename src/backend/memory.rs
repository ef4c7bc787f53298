//! The store in memory.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::engine::mem::MemKv;
use super::engine::{Engine, impl_store};
use super::{
    Begun, Candidate, Change, ChangeToken, Claim, Claimed, Committed, Completed, EndRun, Ended, Explanation,
    Gap, GapQuery, Hint, Hinted, Imported, ImportedOrigin, LaneLoad, Metrics, OriginPage, OriginQuery,
    PageCommit, PageToken, PendingCursor, Refusal, Requested, Result, RunPlan, RunQuery, RunRecord,
    RunTicket, StoreOptions, Validator, VisitRequest,
};
use crate::model::{
    ListerKey, ListerRecord, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitToken, VisitType,
};
use crate::policy::Policies;

/// A store in memory: forgets everything when the last of its clones is dropped. Compact, without a
/// runtime, without a scan for a claim. Clones share what they hold.
///
/// ```
/// use lamplighter::backend::{MemoryStore, OriginStore, ImportedOrigin, VisitStore, Claim};
/// use lamplighter::model::{ListerKey, Timestamp, VisitType};
/// # futures::executor::block_on(async {
/// let store = MemoryStore::new();
/// let now = Timestamp::parse("2026-11-24T10:00:00Z").unwrap();
/// let lister = ListerKey::new("gitea", "forge.example");
/// let origin = ImportedOrigin::new(&lister, "https://forge.example/r.git", VisitType::git());
/// store.import(vec![origin], now).await?;
/// let claimed = store.claim(&Claim::new(VisitType::git(), 10), now).await?;
/// assert_eq!(claimed.visits[0].url, "https://forge.example/r.git");
/// # Ok::<(), lamplighter::backend::BackendError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    engine: Arc<Engine<MemKv>>,
}

impl MemoryStore {
    /// An empty store with the built-in policy.
    #[must_use]
    pub fn new() -> Self {
        Self::with_options(StoreOptions::default())
    }

    /// An empty store with other policies.
    #[must_use]
    pub fn with_policies(policies: Policies) -> Self {
        Self::with_options(StoreOptions { policies, ..StoreOptions::default() })
    }

    /// An empty store with options.
    #[must_use]
    pub fn with_options(options: StoreOptions) -> Self {
        Self { engine: Arc::new(Engine::new(options)) }
    }

    #[allow(clippy::unused_async, reason = "the traits' methods await what every store has to do")]
    async fn run<R>(&self, f: impl FnOnce(&Engine<MemKv>) -> Result<R>) -> Result<R> {
        f(&self.engine)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl_store!(MemoryStore);
