//! Which origins an order takes, and in which order.

use std::fmt;
use std::str::FromStr;

use crate::policy::Facts;

/// Far below every date: what was never visited sorts before all that was.
const BEFORE_ALL_DATES: i64 = -(1 << 62);

/// Far above every date.
const AFTER_ALL_DATES: i64 = 1 << 62;

/// One of the incumbent's orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Order {
    /// All origins, the one visited longest ago first, never visited ones before all others.
    OldestScheduledFirst,
    /// Origins with a date that were never visited with success, the oldest date first.
    NeverVisitedOldestUpdateFirst,
    /// Origins that changed after their last success, the longest lag first.
    AlreadyVisitedOrderByLag,
    /// Origins without a date, by their place in a queue of its own time.
    OriginsWithoutLastUpdate,
    /// Origins not visited since their listing was last read to the end.
    FirstVisitsAfterListing,
    /// Origins never visited with success: each is visited until that works once.
    StopAfterSuccess,
}

/// A name that is no order's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such order: {0:?}; there are {all}", all = Order::ALL.map(Order::as_str).join(", "))]
pub struct UnknownOrder(String);

impl Order {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::OldestScheduledFirst,
        Self::NeverVisitedOldestUpdateFirst,
        Self::AlreadyVisitedOrderByLag,
        Self::OriginsWithoutLastUpdate,
        Self::FirstVisitsAfterListing,
        Self::StopAfterSuccess,
    ];

    /// Its name, as the incumbent has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OldestScheduledFirst => "oldest_scheduled_first",
            Self::NeverVisitedOldestUpdateFirst => "never_visited_oldest_update_first",
            Self::AlreadyVisitedOrderByLag => "already_visited_order_by_lag",
            Self::OriginsWithoutLastUpdate => "origins_without_last_update",
            Self::FirstVisitsAfterListing => "first_visits_after_listing",
            Self::StopAfterSuccess => "stop_after_success",
        }
    }

    /// Whether it takes origins whatever is known of them: an origin waits in one lane, so that
    /// nothing would be left for the other orders of a mix.
    pub(super) fn takes_all(self) -> bool {
        matches!(self, Self::OldestScheduledFirst | Self::FirstVisitsAfterListing)
    }

    /// The rank of an origin and why, where this order takes it.
    pub(super) fn rank(self, facts: &Facts) -> Option<(i64, String)> {
        let visits = &facts.visits;
        let first_seen = facts.first_seen.as_micros();
        let by_visit = || match visits.last_visit {
            None => (BEFORE_ALL_DATES + first_seen, "never visited".to_owned()),
            Some(last) => (last.as_micros(), format!("last visited {last}")),
        };
        match self {
            Self::OldestScheduledFirst => Some(by_visit()),
            Self::NeverVisitedOldestUpdateFirst => {
                let update = facts.newest_change().filter(|_| visits.last_successful.is_none())?;
                Some((update.as_micros(), format!("never visited, last changed {update}")))
            }
            Self::AlreadyVisitedOrderByLag => {
                let (update, success) = (facts.newest_change()?, visits.last_successful?);
                let lag = update.as_micros().saturating_sub(success.as_micros());
                let why = || format!("changed {update}, after its last success {success}");
                (lag > 0).then(|| (-lag, why()))
            }
            Self::OriginsWithoutLastUpdate => match (facts.last_update, facts.memo.at) {
                (Some(_), _) => None,
                (None, 0) => Some((BEFORE_ALL_DATES + first_seen, "no date, not yet queued".to_owned())),
                // Places are seconds, ranks microseconds: what keeps ranks apart is less than a second.
                (None, at) => Some((at.saturating_mul(1_000_000), format!("no date, queued at {at}"))),
            },
            Self::FirstVisitsAfterListing => {
                let waits = visits.last_visit.is_none() || visits.last_visit < facts.last_finished;
                waits.then(by_visit)
            }
            Self::StopAfterSuccess => {
                let by_date = || match facts.last_update {
                    Some(update) => (update.as_micros(), format!("no success yet, changed {update}")),
                    None => (AFTER_ALL_DATES + first_seen, "no success yet, no date".to_owned()),
                };
                visits.last_successful.is_none().then(by_date)
            }
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Order {
    type Err = UnknownOrder;

    fn from_str(name: &str) -> Result<Self, UnknownOrder> {
        Self::ALL.into_iter().find(|o| o.as_str() == name).ok_or_else(|| UnknownOrder(name.to_owned()))
    }
}
