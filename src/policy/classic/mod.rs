//! The orders of Software Heritage's scheduler, as lanes and ranks: to move over without changing
//! behaviour, and to compare with.
//!
//! Written from a description of what they do. Kept: the six orders, the mixes for each visit type,
//! the cooldowns (half a day after any visit, 14 days after a failure, 31 where there was nothing),
//! the queue of origins without dates with its growing steps, and that three equal failures in a
//! row stop an origin. Different, on purpose: failures count for one (url, visit type) and not for
//! all of a URL, a listing does not undo what they stopped (who allows visits again does), and a
//! share that an order cannot fill goes to the others at once, by credit instead of by chance.

mod order;
mod queue;

use std::time::Duration;

use serde_json::json;

use super::{Cooldowns, Facts, Gates, Lane, LaneSpec, Memo, Placement, Policy, Queued, Reason, Shared};
use crate::model::{Disabled, Outcome, Timestamp};

pub use order::{Order, UnknownOrder};

const DAY: u64 = 86_400;

/// So many equal failures in a row stop an origin.
const STRIKES: u32 = 3;

/// A mix of the incumbent's orders.
///
/// ```
/// use lamplighter::policy::{Classic, Order, Policy};
/// assert_eq!(Classic::of("git").lanes().len(), 3);
/// // Two orders that would hand out the same origins cannot be mixed.
/// let refused = Classic::mix(vec![
///     (Order::OldestScheduledFirst, 50.0),
///     (Order::AlreadyVisitedOrderByLag, 50.0),
/// ]);
/// assert!(refused.unwrap_err().to_string().contains("every origin"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Classic {
    name: String,
    orders: Vec<(Order, f64)>,
}

/// Why orders cannot be mixed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClassicError {
    /// No order at all.
    #[error("a mix needs at least one order")]
    Empty,
    /// The same order twice.
    #[error("{0} is named twice: give it the sum of its shares once")]
    Twice(Order),
    /// An order that takes what all others take.
    #[error(
        "{0} takes every origin that the other orders of the mix take, so that their shares would \
         mean nothing: it can only be the one order of a visit type"
    )]
    Overlaps(Order),
    /// A share that is no share.
    #[error("the share of {0} is not a positive number")]
    Share(Order),
}

impl Classic {
    /// The mix that the incumbent ships for a visit type.
    #[must_use]
    pub fn of(visit_type: &str) -> Self {
        match visit_type {
            "git" | "hg" | "svn" | "cvs" | "bzr" => Self::swh_dvcs(),
            _ => Self::swh_default(),
        }
    }

    /// Its mix for all types but version control: 40 % by lag, 40 % never visited, 20 % without
    /// dates.
    #[must_use]
    pub fn swh_default() -> Self {
        Self::shipped("swh_default", 40.0, 20.0)
    }

    /// Its mix for version control: 49 % by lag, 49 % never visited, 2 % without dates.
    #[must_use]
    pub fn swh_dvcs() -> Self {
        Self::shipped("swh_dvcs", 49.0, 2.0)
    }

    fn shipped(name: &str, dated: f64, undated: f64) -> Self {
        let orders = vec![
            (Order::AlreadyVisitedOrderByLag, dated),
            (Order::NeverVisitedOldestUpdateFirst, dated),
            (Order::OriginsWithoutLastUpdate, undated),
        ];
        Self { name: name.to_owned(), orders }
    }

    /// One order alone.
    #[must_use]
    pub fn only(order: Order) -> Self {
        Self { name: format!("classic:{order}"), orders: vec![(order, 1.0)] }
    }

    /// A mix of orders and their shares. An origin that several would take waits in the first.
    ///
    /// # Errors
    /// [`ClassicError`] where no order is named, one is named twice or has no share, or one takes
    /// every origin that the others take.
    pub fn mix(orders: Vec<(Order, f64)>) -> Result<Self, ClassicError> {
        if orders.is_empty() {
            return Err(ClassicError::Empty);
        }
        let mut known = Vec::with_capacity(orders.len());
        for (order, share) in &orders {
            if known.contains(order) {
                return Err(ClassicError::Twice(*order));
            }
            if !share.is_finite() || *share <= 0.0 {
                return Err(ClassicError::Share(*order));
            }
            if orders.len() > 1 && order.takes_all() {
                return Err(ClassicError::Overlaps(*order));
            }
            known.push(*order);
        }
        let parts: Vec<String> = orders.iter().map(|(order, share)| format!("{order}={share}")).collect();
        Ok(Self { name: format!("classic:{}", parts.join(",")), orders })
    }

    fn has(&self, order: Order) -> bool {
        self.orders.iter().any(|(o, _)| *o == order)
    }
}

impl Policy for Classic {
    fn name(&self) -> &str {
        &self.name
    }

    fn lanes(&self) -> Vec<LaneSpec> {
        let lane =
            |(i, (order, share)): (usize, &(Order, f64))| LaneSpec::new(lane_of(i), order.as_str(), *share);
        self.orders.iter().enumerate().map(lane).collect()
    }

    fn place(&self, facts: &Facts, _: &Shared, _: Timestamp) -> Placement {
        for (i, (order, _)) in self.orders.iter().enumerate() {
            if let Some((rank, why)) = order.rank(facts) {
                let rank = rank.saturating_add(facts.apart());
                return Placement::new(lane_of(i), rank, Reason::new(order.as_str(), why));
            }
        }
        let why = if self.has(Order::FirstVisitsAfterListing) {
            "visited since its listing was last read to the end"
        } else if facts.visits.last_successful.is_none() {
            "no order of the mix takes origins that were never visited with success"
        } else {
            "visited since its last known change, and none of the orders takes such origins"
        };
        Placement::parked(Reason::new("no_order", why))
    }

    fn learn(&self, shared: &mut Shared, taken: &[(Facts, f64)], _: Timestamp) {
        if !self.has(Order::OriginsWithoutLastUpdate) {
            return;
        }
        let known = position(shared);
        let queued = taken.iter().map(|(facts, _)| facts).filter(|f| f.last_update.is_none());
        let reached = queued.map(|f| f.memo.at).max().unwrap_or(0);
        if reached > known {
            shared.kept = json!({ "position": reached });
        }
    }

    fn observe(&self, facts: &mut Facts, before: &Facts, outcome: &Outcome, shared: &Shared) {
        let status = outcome.status;
        let again = before.visits.last_status == Some(status);
        facts.memo = if self.has(Order::OriginsWithoutLastUpdate) {
            queue::step(before, outcome, position(shared))
        } else {
            Memo::default()
        };
        facts.memo.count =
            if status.archived_something() { 0 } else { 1 + if again { before.memo.count } else { 0 } };
        if facts.memo.count >= STRIKES && facts.disabled_by_failures.is_none() {
            let reason = format!("{STRIKES} visits in a row ended {}", status.as_str());
            facts.disabled_by_failures = Some(Disabled::new(outcome.at, reason));
            facts.memo.count = 0;
        }
    }

    fn adopt(&self, facts: &mut Facts, queued: &Queued, shared: &mut Shared) {
        let failed = facts.visits.last_status.is_some_and(|status| !status.archived_something());
        facts.memo.count = if failed { queued.equal.min(STRIKES - 1) } else { 0 };
        if self.has(Order::OriginsWithoutLastUpdate) {
            (facts.memo.at, facts.memo.step) = queue::place_of(queued);
            if queued.reached > position(shared) {
                shared.kept = json!({ "position": queued.reached });
            }
        }
    }

    fn follows_listings(&self) -> bool {
        self.has(Order::FirstVisitsAfterListing)
    }

    fn gates(&self, _: &Shared) -> Gates {
        Gates {
            cooldowns: Some(Cooldowns {
                failed: Duration::from_secs(14 * DAY),
                not_found: Duration::from_secs(31 * DAY),
            }),
            ..Gates::default()
        }
    }
}

/// How far the queue of origins without dates has come.
fn position(shared: &Shared) -> i64 {
    shared.kept.get("position").and_then(serde_json::Value::as_i64).unwrap_or(0)
}

fn lane_of(i: usize) -> Lane {
    Lane::policy(u8::try_from(i).unwrap_or(u8::MAX))
}

#[cfg(test)]
mod tests;
