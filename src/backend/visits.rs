//! What feeders, workers and operators say to a store.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{JsonObject, ListerKey, OriginKey, Timestamp, VisitId, VisitStats, VisitToken, VisitType};
use crate::policy::{GateState, Lane, Reason};

/// A wish for visits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// Of this type.
    pub visit_type: VisitType,
    /// At most so many.
    pub count: usize,
    /// For so long: a visit that is neither completed nor kept alive by then is handed out again.
    pub lease: Duration,
    /// Who asks, as shown.
    pub owner: String,
    /// Only origins that this lister lists.
    pub lister: Option<ListerKey>,
}

impl Claim {
    /// A wish for so many visits, for an hour.
    #[must_use]
    pub fn new(visit_type: VisitType, count: usize) -> Self {
        Self {
            visit_type,
            count,
            lease: Duration::from_secs(3600),
            owner: "anonymous".to_owned(),
            lister: None,
        }
    }

    /// For how long.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Who asks.
    #[must_use]
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }
}

/// A visit to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Visit {
    /// Names it.
    pub visit: VisitId,
    /// The token to give with heartbeats and the outcome.
    pub token: VisitToken,
    /// The origin's URL.
    pub url: String,
    /// How to visit it.
    pub visit_type: VisitType,
    /// A lister that lists it (the first that did).
    pub lister: String,
    /// The instance it is listed on.
    pub instance: String,
    /// What the loader is given besides the URL.
    pub arguments: JsonObject,
    /// When it became due; none where it is not due yet, or always was.
    pub due: Option<Timestamp>,
    /// The name of the lane it waited in.
    pub lane: String,
    /// Why it waited there.
    pub reason: Reason,
    /// When the lease ends; none for a peek.
    pub deadline: Option<Timestamp>,
}

/// What a claim handed out.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Claimed {
    /// The visits, on-demand ones first.
    pub visits: Vec<Visit>,
}

impl Claimed {
    /// What a claim handed out: stores make them.
    #[must_use]
    pub fn new(visits: Vec<Visit>) -> Self {
        Self { visits }
    }
}

/// Why a heartbeat or an outcome is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// No such visit was ever handed out.
    #[error("unknown visit")]
    Unknown,
    /// The lease ended, and the visit is, or will be, somebody else's.
    #[error("stale token: the lease ended and the visit is no longer yours")]
    Stale,
    /// This token's outcome was taken already.
    #[error("this outcome was taken already")]
    Duplicate,
}

/// What an outcome did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Completed {
    /// The origin.
    pub origin: OriginKey,
    /// Whether the visit found a change; none where it is no evidence.
    pub changed: Option<bool>,
    /// Whether a later visit was known already, so that this one was only counted.
    pub out_of_order: bool,
}

impl Completed {
    /// What an outcome did: stores make them.
    #[must_use]
    pub fn new(origin: OriginKey, changed: Option<bool>, out_of_order: bool) -> Self {
        Self { origin, changed, out_of_order }
    }
}

/// A wish for one origin's visit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VisitRequest {
    /// The origin.
    pub origin: OriginKey,
    /// Who asks.
    pub by: String,
}

impl VisitRequest {
    /// Somebody asks for an origin's visit.
    pub fn new(origin: OriginKey, by: impl Into<String>) -> Self {
        Self { origin, by: by.into() }
    }
}

/// What a request for a visit came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Requested {
    /// How many requested visits go before it.
    pub position: u64,
    /// When it may start; none where the origin is not to be visited at all.
    pub due: Option<Timestamp>,
    /// Why it is not to be visited. The request is kept, and counts when that ends.
    pub parked: Option<Reason>,
}

impl Requested {
    /// A place in the queue: stores make them.
    #[must_use]
    pub fn new(position: u64, due: Timestamp) -> Self {
        Self { position, due: Some(due), parked: None }
    }

    /// A request that waits until its origin may be visited: stores make them.
    #[must_use]
    pub fn parked(why: Reason) -> Self {
        Self { position: 0, due: None, parked: Some(why) }
    }
}

/// Outside information: an origin changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hint {
    /// The origin.
    pub origin: OriginKey,
    /// When it changed, as far as the source knows.
    pub changed_at: Timestamp,
    /// Who says so, as shown.
    pub source: String,
}

impl Hint {
    /// Somebody says that an origin changed.
    pub fn new(origin: OriginKey, changed_at: Timestamp, source: impl Into<String>) -> Self {
        Self { origin, changed_at, source: source.into() }
    }
}

/// What came of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hinted {
    /// Whether the origin is known.
    pub known: bool,
    /// Whether it was news, so that the origin was placed anew. Not where a visit or a listing has
    /// told of as late a change.
    pub placed: bool,
}

impl Hinted {
    /// What came of a hint: stores make them.
    #[must_use]
    pub fn new(known: bool, placed: bool) -> Self {
        Self { known, placed }
    }
}

/// A visit under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// Its token.
    pub token: VisitToken,
    /// Whose it is.
    pub owner: String,
    /// When it was handed out.
    pub since: Timestamp,
    /// When the lease ends.
    pub until: Timestamp,
}

impl LeaseInfo {
    /// A lease as shown: stores make them.
    pub fn new(token: VisitToken, owner: impl Into<String>, since: Timestamp, until: Timestamp) -> Self {
        Self { token, owner: owner.into(), since, until }
    }
}

/// Why an origin is visited when it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The origin.
    pub origin: OriginKey,
    /// Every gate, in the order in which they are asked.
    #[serde(skip_deserializing)]
    pub gates: Vec<GateState>,
    /// The lane it waits in; none where it waits for no visit.
    pub lane: Option<String>,
    /// Why it waits there, or does not wait.
    pub reason: Reason,
    /// Origins of the lane that go before it.
    pub ahead: Option<u64>,
    /// The earliest time at which it can be handed out; none where that is never.
    pub earliest: Option<Timestamp>,
    /// The visit under way.
    pub lease: Option<LeaseInfo>,
    /// Who asked for its next visit.
    pub requested_by: Option<String>,
    /// What is known of its visits.
    pub visits: VisitStats,
}

impl Explanation {
    /// An explanation without lane, lease or visits: stores make them.
    #[must_use]
    pub fn new(origin: OriginKey, gates: Vec<GateState>, reason: Reason) -> Self {
        Self {
            origin,
            gates,
            lane: None,
            reason,
            ahead: None,
            earliest: None,
            lease: None,
            requested_by: None,
            visits: VisitStats::default(),
        }
    }
}

/// Counts of one lister's origins of one visit type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// The lister.
    pub lister: String,
    /// The instance.
    pub instance: String,
    /// The visit type.
    pub visit_type: VisitType,
    /// Origins listed, gone ones among them.
    pub known: u64,
    /// Origins that wait for visits.
    pub enabled: u64,
    /// Of them, never visited.
    pub never_visited: u64,
    /// Of them, listed with an update after the last successful visit.
    pub pending_changes: u64,
    /// Origins under a lease.
    pub leased: u64,
    /// Enabled origins whose rank has passed.
    pub overdue: u64,
    /// The oldest last visit of an enabled, visited origin.
    pub oldest_visit: Option<Timestamp>,
}

impl Metrics {
    /// Counts of nothing.
    #[must_use]
    pub fn new(lister: &ListerKey, visit_type: VisitType) -> Self {
        Self {
            lister: lister.name.clone(),
            instance: lister.instance.clone(),
            visit_type,
            known: 0,
            enabled: 0,
            never_visited: 0,
            pending_changes: 0,
            leased: 0,
            overdue: 0,
            oldest_visit: None,
        }
    }
}

/// How much waits in a lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LaneLoad {
    /// The lane.
    pub lane: Lane,
    /// Its name.
    pub name: String,
    /// Its share.
    pub share: f64,
    /// Origins that wait in it.
    pub waiting: u64,
    /// Of them, those whose rank has passed.
    pub due: u64,
}

impl LaneLoad {
    /// A lane's load: stores make them.
    pub fn new(lane: Lane, name: impl Into<String>, share: f64) -> Self {
        Self { lane, name: name.into(), share, waiting: 0, due: 0 }
    }
}
