//! Which origin next, and why. **Pure**: no clock, no store, no randomness; `now` is an argument.
//!
//! What is known of an origin ([`Facts`]) becomes a place in a queue: which lane it waits in, and
//! its rank there. The store calls [`schedule`] whenever a fact changes and keeps the answer in one
//! index; a claim is the head of that index. `explain` reads the same function, so that the reason
//! given is the reason used.
//!
//! # How to implement one
//!
//! A [`Policy`] answers only *when* and *how urgent*: [`schedule`] applies the gates (gone,
//! disabled, requested, hold, minimum interval, guard) around it. Ranks are microseconds: a time
//! at which the visit is due sorts as it should.
//!
//! ```
//! use lamplighter::model::Timestamp;
//! use lamplighter::policy::{Facts, Lane, LaneSpec, Placement, Policy, Reason, Shared};
//!
//! /// The origin that changed last goes first.
//! #[derive(Debug)]
//! struct Newest;
//!
//! impl Policy for Newest {
//!     fn name(&self) -> &str { "newest" }
//!     fn lanes(&self) -> Vec<LaneSpec> { vec![LaneSpec::new(Lane::policy(0), "all", 1.0)] }
//!     fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
//!         let rank = facts.last_update.map_or(0, |t| -t.as_micros());
//!         Placement::new(Lane::policy(0), rank, Reason::new("newest", "changed most recently"))
//!     }
//! }
//! ```

mod age;
mod belief;
mod classic;
mod due;
mod facts;
mod gates;
mod mix;
mod named;
mod nutch;
mod oldest;
mod quota;
mod round_robin;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use age::CLASSES;
pub use age::{AgeClass, AgeLimit, Pace, needed};
pub(crate) use belief::days;
pub use belief::{Belief, Evidence};
pub use classic::{Classic, ClassicError, Order, UnknownOrder};
pub use due::{Due, DueOptions, Guard, Objective};
pub(crate) use facts::looked_since;
pub use facts::{
    Facts, Listing, Memo, Queued, Signals, Trust, hold_after, observe_hint, observe_listing, observe_visit,
};
pub use gates::{Cooldowns, Gate, GateState, Gates, Schedule, gates, schedule};
pub use mix::allocate;
pub use named::{PolicyError, named};
pub use nutch::Nutch;
pub use oldest::Oldest;
pub use quota::Quota;
pub use round_robin::RoundRobin;

use crate::model::{Outcome, Timestamp};

/// A queue of its own within a visit type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
#[allow(clippy::exhaustive_structs, reason = "a name for a value, and nothing else")]
pub struct Lane(pub u8);

impl Lane {
    /// Visits asked for on demand.
    pub const REQUESTED: Self = Self(0);
    /// The origins left alone longest.
    pub const GUARD: Self = Self(1);

    /// Origins whose class has a maximum age: the first class's, and those of the others after it.
    pub const FIRST_AGED: Self = Self(203);

    /// Whether it is one of a policy's own.
    #[must_use]
    pub const fn is_policy(self) -> bool {
        self.0 >= 2 && self.0 <= 202
    }

    /// No lane: the origin waits for no visit until something new is known of it.
    pub const PARKED: Self = Self(u8::MAX);

    /// Whether it is the lane of a class with a maximum age.
    #[must_use]
    pub const fn is_aged(self) -> bool {
        self.0 >= Self::FIRST_AGED.0 && self.0 != Self::PARKED.0
    }

    /// A policy's own lane: `0`, `1`, … (up to 200).
    #[must_use]
    pub const fn policy(n: u8) -> Self {
        Self(if n > 200 { 202 } else { n + 2 })
    }
}

/// A lane as its policy declares it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LaneSpec {
    /// Which lane.
    pub lane: Lane,
    /// Its name, as shown.
    pub name: String,
    /// Its share of the visits, against the sum of the shares of all lanes that hold something.
    pub share: f64,
}

impl LaneSpec {
    /// A lane with a name and a share.
    pub fn new(lane: Lane, name: impl Into<String>, share: f64) -> Self {
        Self { lane, name: name.into(), share }
    }
}

/// A reason: a word for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Reason {
    /// A word that does not change: `never_visited`.
    pub code: String,
    /// A sentence.
    pub text: String,
}

impl Reason {
    /// A reason of a word and a sentence.
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

/// Where an origin waits: its lane, its rank there (microseconds; lower first), and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placement {
    /// The lane.
    pub lane: Lane,
    /// The rank in it: the lower, the sooner. Where it is a time, microseconds since the epoch.
    pub rank: i64,
    /// Why there.
    pub why: Reason,
}

impl Placement {
    /// No place: no visit until something new is known of the origin. The guard's and requests' lanes
    /// take it all the same.
    #[must_use]
    pub fn parked(why: Reason) -> Self {
        Self { lane: Lane::PARKED, rank: i64::MAX, why }
    }

    /// A place in a lane.
    #[must_use]
    pub fn new(lane: Lane, rank: i64, why: Reason) -> Self {
        Self { lane, rank, why }
    }
}

/// What there is for a whole visit type: what its policy keeps (a price, for one), and how many
/// origins wait.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Shared {
    /// What the policy keeps: a JSON value, null at first.
    pub kept: Value,
    /// Origins that wait for visits. Counted by the store.
    pub origins: u64,
}

impl Shared {
    /// What there is where so many origins wait and the policy keeps a value.
    #[must_use]
    pub fn new(kept: Value, origins: u64) -> Self {
        Self { kept, origins }
    }
}

/// Decides when an origin is to be visited, and how urgent that is. See the [module](self) for how
/// to implement one.
pub trait Policy: Send + Sync + fmt::Debug {
    /// Its name, as stored: rows placed by a policy of another name are placed again.
    fn name(&self) -> &str;

    /// Its lanes and their shares.
    fn lanes(&self) -> Vec<LaneSpec>;

    /// Where an origin waits, as far as this policy goes. The gates are not its business.
    fn place(&self, facts: &Facts, shared: &Shared, now: Timestamp) -> Placement;

    /// What a visit now is worth. Read after a claim, never to order it. Zero by default.
    fn value(&self, facts: &Facts, shared: &Shared, now: Timestamp) -> f64 {
        let _ = (facts, shared, now);
        0.0
    }

    /// Learns from the visits of a claim that waited in the policy's own lanes, and their values.
    /// Nothing by default.
    fn learn(&self, shared: &mut Shared, taken: &[(Facts, f64)], now: Timestamp) {
        let _ = (shared, taken, now);
    }

    /// Folds a visit into what this policy keeps of the origin for itself, after
    /// [`observe_visit`] has folded it into `facts`; `before` is what was known until then. May
    /// write [`Facts::memo`] and [`Facts::disabled_by_failures`], and nothing else of it is kept.
    /// Nothing by default.
    fn observe(&self, facts: &mut Facts, before: &Facts, outcome: &Outcome, shared: &Shared) {
        let _ = (facts, before, outcome, shared);
    }

    /// Takes over an origin's place in another scheduler's queue, and how far that queue has come. Only
    /// [`Facts::memo`] is kept. Nothing by default.
    fn adopt(&self, facts: &mut Facts, queued: &Queued, shared: &mut Shared) {
        let _ = (facts, queued, shared);
    }

    /// Whether [`Facts::last_finished`] matters to it: then all origins are placed again when a
    /// listing has been read to its end. No by default.
    fn follows_listings(&self) -> bool {
        false
    }

    /// The gates around it.
    fn gates(&self, shared: &Shared) -> Gates {
        let _ = shared;
        Gates::default()
    }

    /// Its name and the options that matter for a place: where it differs from the stored one, all
    /// origins are placed again, and what the policy keeps is kept. The name by default.
    fn form(&self) -> String {
        self.name().to_owned()
    }

    /// Whether it wants to see a sample of the origins before the next claim. Never by default.
    fn unsettled(&self, shared: &Shared) -> bool {
        let _ = shared;
        false
    }

    /// Looks at a sample of the origins that wait. All of them are placed again after that. Must end
    /// with the policy no longer [unsettled](Policy::unsettled).
    fn settle(&self, shared: &mut Shared, sample: &[Facts], now: Timestamp) {
        let _ = (shared, sample, now);
    }

    /// Visits a day that it reckons with, where it does.
    fn budget(&self, shared: &Shared) -> Option<f64> {
        let _ = shared;
        None
    }

    /// What an operator should know: a promise that the budget cannot keep, for one.
    fn warnings(&self, shared: &Shared) -> Vec<Reason> {
        let _ = shared;
        Vec::new()
    }
}

/// A policy shared between visit types, or chosen at run time.
impl<P: Policy + ?Sized> Policy for Arc<P> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn lanes(&self) -> Vec<LaneSpec> {
        (**self).lanes()
    }
    fn place(&self, facts: &Facts, shared: &Shared, now: Timestamp) -> Placement {
        (**self).place(facts, shared, now)
    }
    fn value(&self, facts: &Facts, shared: &Shared, now: Timestamp) -> f64 {
        (**self).value(facts, shared, now)
    }
    fn learn(&self, shared: &mut Shared, taken: &[(Facts, f64)], now: Timestamp) {
        (**self).learn(shared, taken, now);
    }
    fn observe(&self, facts: &mut Facts, before: &Facts, outcome: &Outcome, shared: &Shared) {
        (**self).observe(facts, before, outcome, shared);
    }
    fn adopt(&self, facts: &mut Facts, queued: &Queued, shared: &mut Shared) {
        (**self).adopt(facts, queued, shared);
    }
    fn follows_listings(&self) -> bool {
        (**self).follows_listings()
    }
    fn gates(&self, shared: &Shared) -> Gates {
        (**self).gates(shared)
    }
    fn form(&self) -> String {
        (**self).form()
    }
    fn unsettled(&self, shared: &Shared) -> bool {
        (**self).unsettled(shared)
    }
    fn settle(&self, shared: &mut Shared, sample: &[Facts], now: Timestamp) {
        (**self).settle(shared, sample, now);
    }
    fn budget(&self, shared: &Shared) -> Option<f64> {
        (**self).budget(shared)
    }
    fn warnings(&self, shared: &Shared) -> Vec<Reason> {
        (**self).warnings(shared)
    }
}

/// The policy of each visit type.
#[derive(Debug, Clone)]
pub struct Policies {
    default: Arc<dyn Policy>,
    by_type: Vec<(String, Arc<dyn Policy>)>,
}

impl Default for Policies {
    fn default() -> Self {
        Self::all(Oldest)
    }
}

impl Policies {
    /// One policy for all visit types.
    pub fn all(policy: impl Policy + 'static) -> Self {
        Self { default: Arc::new(policy), by_type: Vec::new() }
    }

    /// Another policy for one visit type. An `Arc<dyn Policy>`, as [`named`] gives, is one too.
    #[must_use]
    pub fn with(mut self, visit_type: impl Into<String>, policy: impl Policy + 'static) -> Self {
        self.by_type.push((visit_type.into(), Arc::new(policy)));
        self
    }

    /// The policy of a visit type.
    #[must_use]
    pub fn of(&self, visit_type: &str) -> &Arc<dyn Policy> {
        self.by_type.iter().rev().find(|(t, _)| t == visit_type).map_or(&self.default, |(_, p)| p)
    }
}

/// The examples of the page about policies run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/policy.md")]
struct Page;
