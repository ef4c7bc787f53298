//! What a store can do: one small trait for each consumer.
//!
//! [`RunStore`] is the driver's, [`OriginStore`] is for queries, [`VisitStore`] for whoever hands
//! visits to workers, [`MetricsStore`] for operators. A [`SchedulerBackend`] is all four. Every
//! method takes a batch where a batch makes sense, and `now`: a store looks at no clock to decide
//! anything.
//!
//! # How to implement one
//!
//! Implement the four traits; [`SchedulerBackend`] follows by itself. Placement is not yours to
//! invent: call [`crate::policy::schedule`] inside the transaction that changes a fact, and keep
//! its answer in one index. `testing::conformance::backend` is the suite that the stores here pass;
//! run it as a value, a `Box<dyn SchedulerBackend>` and an `Arc<dyn SchedulerBackend>`.
//!
//! # Identity
//!
//! The unit of scheduling is a (URL, visit type). Within one lister of one instance, what an origin
//! *is* is told by the forge's id, where the lister gives one:
//!
//! - **A known id under another URL is a rename** (or a transfer): the same origin, with its visits,
//!   its first sight and its number. The old URL becomes a *former URL*. What failures stopped, or
//!   held, is visited again: they were the old URL's.
//! - **A known URL under another id is another origin.** The one that had the URL is gone (its URL
//!   is another's: [`crate::model::GoneReason::NameReused`]) and keeps its history; when its id is
//!   listed again, under whatever URL, it is back.
//! - An id that appears for an origin that had none is its id from then on. A page that gives no id
//!   erases none.
//! - Within a page, the last URL given for an id counts.
//!
//! A former URL is answered by everything that asks for an origin by its URL
//! ([`OriginQuery::url`], statistics, explanations, requests, hints, what a person stops), as long
//! as no origin bears it now. Listings are never matched by former URLs.
//!
//! **Two listers of one URL** share the unit. When one of them tells of a rename and the other still
//! lists the old URL live, the first one's listing moves on to the new URL with a copy of the history;
//! the other's stays. When the URL that it moves to is listed by another lister already, it joins the
//! unit there, and the histories are put together: the newest of each fact, and of two counts of visits
//! the greater, because they may be the same visits. So two listers that both tell of the rename, one
//! after the other, end with one origin and one history.

mod engine;
mod error;
#[cfg(feature = "file")]
mod file;
mod memory;
mod options;
mod origins;
mod pointer;
#[cfg(feature = "postgres")]
pub mod postgres;
mod prune;
mod runs;
#[cfg(feature = "postgres")]
pub mod swh;
mod visits;

use async_trait::async_trait;

pub use error::{BackendError, BackendErrorKind};
#[cfg(feature = "file")]
pub use file::FileStore;
pub use memory::MemoryStore;
pub use options::StoreOptions;
pub use origins::{
    Change, ChangeKind, ChangeToken, Imported, ImportedOrigin, ImportedVisits, OriginPage, OriginQuery,
    PageToken, UnderWay,
};
pub use prune::{Prune, PruneGuard};
pub use runs::{
    Begun, Candidate, Committed, CursorEnd, CursorId, CursorTicket, EndRun, Ended, Gap, GapKind, GapQuery,
    ListingEnd, NewState, PageCommit, PageDigest, PendingCursor, RunId, RunOutcome, RunPlan, RunQuery,
    RunRecord, RunTicket, Validator, gap_retry_after,
};
pub use visits::{
    Claim, Claimed, Completed, Explanation, Hint, Hinted, LaneLoad, LeaseInfo, Metrics, Refusal, Requested,
    Turn, Visit, VisitRequest,
};

use crate::model::{
    ListerKey, ListerRecord, OriginKey, Outcome, Timestamp, VisitId, VisitStats, VisitToken, VisitType,
};

/// What came of a call to a store.
pub type Result<T, E = BackendError> = std::result::Result<T, E>;

/// What the driver needs: listers, runs, their frontier, and pages committed whole.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// A lister's row; made where there is none.
    ///
    /// # Errors
    /// [`BackendErrorKind::Unavailable`] or [`BackendErrorKind::Corrupt`], as any method.
    async fn lister(&self, key: &ListerKey, now: Timestamp) -> Result<ListerRecord>;

    /// Opens a run, or continues the open one of the same lister, mode and parameters. A pending run
    /// of another form of cursors, an older one than the plan's limit, or any when told to restart,
    /// starts over; what it listed is kept. Whoever ran it before is fenced off: their commits
    /// are refused from now on.
    ///
    /// # Errors
    /// As any method.
    async fn begin_run(&self, plan: RunPlan, now: Timestamp) -> Result<Begun>;

    /// Takes up to `limit` pending cursors, oldest first, for `lease`. Another caller gets them only
    /// after that.
    ///
    /// # Errors
    /// [`BackendErrorKind::Fenced`] when the run is somebody else's by now, or has ended.
    async fn claim_cursors(
        &self,
        run: RunTicket,
        limit: usize,
        lease: std::time::Duration,
        now: Timestamp,
    ) -> Result<Vec<PendingCursor>>;

    /// Commits what a page said, whole or not at all: origins, the cursor's end, the cursors that
    /// follow, parts, validator, candidate state.
    ///
    /// # Errors
    /// [`BackendErrorKind::Fenced`] when the run or the cursor is somebody else's by now;
    /// [`BackendErrorKind::Conflict`] when the candidate changed since it was read.
    async fn commit_page(&self, commit: PageCommit, now: Timestamp) -> Result<Committed>;

    /// The candidate state of a run as it is now.
    ///
    /// # Errors
    /// [`BackendErrorKind::Fenced`] when the run is somebody else's by now, or has ended.
    async fn candidate(&self, run: RunTicket) -> Result<Candidate>;

    /// The validator stored for a URL of a lister. It says to which credential it was given.
    ///
    /// # Errors
    /// As any method.
    async fn validator(&self, lister: &ListerKey, key: &str) -> Result<Option<Validator>>;

    /// Ends a run, or leaves it open: the lister's row and the origins' facts are settled by how it
    /// ended and what it covers.
    ///
    /// # Errors
    /// [`BackendErrorKind::Fenced`] when the run is somebody else's by now;
    /// [`BackendErrorKind::Conflict`] when the lister's row changed since it was read.
    async fn end_run(&self, end: EndRun, now: Timestamp) -> Result<Ended>;

    /// Runs, the newest first, up to `limit`.
    ///
    /// # Errors
    /// As any method.
    async fn runs(&self, query: &RunQuery, limit: usize) -> Result<Vec<RunRecord>>;

    /// Known gaps, the oldest first.
    ///
    /// # Errors
    /// As any method.
    async fn gaps(&self, query: &GapQuery) -> Result<Vec<Gap>>;
}

/// What queries need: listed origins, complete and in a total order, and what changed.
#[async_trait]
pub trait OriginStore: Send + Sync {
    /// All listers, by name and instance.
    ///
    /// # Errors
    /// As any method of a store.
    async fn listers(&self) -> Result<Vec<ListerRecord>>;

    /// Up to `limit` listed origins after a place, in a total order: paging loses nothing and
    /// repeats nothing, whatever is written meanwhile. One row for each lister that lists one.
    ///
    /// # Errors
    /// As any method of a store.
    async fn origins(
        &self,
        query: &OriginQuery,
        after: Option<PageToken>,
        limit: usize,
    ) -> Result<OriginPage>;

    /// Brings origins, and what is known of their visits, from elsewhere. Repeating it changes
    /// nothing.
    ///
    /// # Errors
    /// As any method of a store.
    async fn import(&self, origins: Vec<ImportedOrigin>, now: Timestamp) -> Result<Imported>;

    /// Stops (with a reason) or allows visits by hand. To allow them also takes back what failures
    /// stopped or held, and counts failures anew. Returns how many of the origins are known.
    ///
    /// # Errors
    /// As any method of a store.
    async fn set_disabled(&self, origins: &[OriginKey], reason: Option<&str>, now: Timestamp) -> Result<u64>;

    /// Up to `limit` changes after a place, in the order of their commits.
    ///
    /// # Errors
    /// As any method of a store.
    async fn changes(&self, after: ChangeToken, limit: usize) -> Result<Vec<Change>>;
}

/// What feeders and workers need: exclusive visits, their outcomes, and why.
#[async_trait]
pub trait VisitStore: Send + Sync {
    /// Hands out visits: no origin to two callers at once, each under a lease with a token.
    ///
    /// # Errors
    /// As any method of a store.
    async fn claim(&self, claim: &Claim, now: Timestamp) -> Result<Claimed>;

    /// What `claim` would hand out, without handing it out: tokens are zero, deadlines none.
    ///
    /// # Errors
    /// As any method of a store.
    async fn peek(&self, claim: &Claim, now: Timestamp) -> Result<Claimed>;

    /// Makes leases longer: each ends `lease` after `now`. One answer for each, in order.
    ///
    /// # Errors
    /// As any method of a store; a stale token is an answer, not an error.
    async fn heartbeat(
        &self,
        visits: &[(VisitId, VisitToken)],
        lease: std::time::Duration,
        now: Timestamp,
    ) -> Result<Vec<std::result::Result<Timestamp, Refusal>>>;

    /// Takes outcomes. One answer for each, in order: a stale or repeated one is refused and
    /// changes nothing.
    ///
    /// # Errors
    /// As any method of a store; a refusal is an answer, not an error.
    async fn complete(
        &self,
        outcomes: &[Outcome],
        now: Timestamp,
    ) -> Result<Vec<std::result::Result<Completed, Refusal>>>;

    /// Asks for visits soon. One answer for each, in order: none for an unknown origin. What is asked
    /// for already is one request, and free; over its quota a requester is told when to ask again.
    ///
    /// # Errors
    /// As any method of a store.
    async fn request(&self, requests: &[VisitRequest], now: Timestamp) -> Result<Vec<Option<Requested>>>;

    /// Takes outside information on changes. One answer for each, in order.
    ///
    /// # Errors
    /// As any method of a store.
    async fn hint(&self, hints: &[Hint], now: Timestamp) -> Result<Vec<Hinted>>;

    /// What is known of visits, in bulk: same length and order as asked, none where unknown.
    ///
    /// # Errors
    /// As any method of a store.
    async fn stats(&self, origins: &[OriginKey]) -> Result<Vec<Option<VisitStats>>>;

    /// Every gate in the way of an origin's next visit. None for an unknown origin.
    ///
    /// # Errors
    /// As any method of a store.
    async fn explain(&self, origin: &OriginKey, now: Timestamp) -> Result<Option<Explanation>>;
}

/// What operators need.
#[async_trait]
pub trait MetricsStore: Send + Sync {
    /// Counts by lister, instance and visit type.
    ///
    /// # Errors
    /// As any method of a store.
    async fn metrics(&self, now: Timestamp) -> Result<Vec<Metrics>>;

    /// How much waits in each lane of a visit type.
    ///
    /// # Errors
    /// As any method of a store.
    async fn lanes(&self, visit_type: &VisitType, now: Timestamp) -> Result<Vec<LaneLoad>>;
}

/// A whole store: all four roles. Implemented for everything that has them.
pub trait SchedulerBackend: RunStore + OriginStore + VisitStore + MetricsStore {}

impl<T: RunStore + OriginStore + VisitStore + MetricsStore + ?Sized> SchedulerBackend for T {}
