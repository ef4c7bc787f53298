//! How often one requester may ask.

use std::time::Duration;

use crate::model::Timestamp;

/// So many requests in so long a time, for each requester: all of them at once, if need be, and
/// then one whenever the share of one has passed. Requests for what is asked for already are free.
///
/// ```
/// use std::time::Duration;
/// use lamplighter::model::Timestamp;
/// use lamplighter::policy::Quota;
/// let quota = Quota::new(2, Duration::from_secs(60));
/// let now = Timestamp::from_seconds(1_000);
/// let one = quota.admit(None, now).unwrap();
/// let two = quota.admit(Some(one), now).unwrap();
/// assert_eq!(quota.admit(Some(two), now), Err(now.plus(Duration::from_secs(30))));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quota {
    /// So many requests,
    pub requests: u32,
    /// in so long a time.
    pub per: Duration,
}

impl Default for Quota {
    /// A thousand a day.
    fn default() -> Self {
        Self::new(1000, Duration::from_secs(86_400))
    }
}

impl Quota {
    /// So many requests in so long a time.
    #[must_use]
    pub fn new(requests: u32, per: Duration) -> Self {
        Self { requests, per }
    }

    /// One more request, of one whose earlier ones are paid for by `spent`: until when they are then.
    ///
    /// # Errors
    /// The time when there will be room for it again.
    pub fn admit(&self, spent: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, Timestamp> {
        if self.requests == 0 {
            return Err(Timestamp::from_micros(i64::MAX));
        }
        let paid = spent.map_or(now, |spent| spent.max(now)).plus(self.per / self.requests);
        let room = paid.minus(self.per);
        if room <= now { Ok(paid) } else { Err(room) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_seconds(1_600_000_000 + second)
    }

    #[test]
    fn a_refusal_names_the_first_moment_that_is_not_refused() {
        let quota = Quota::new(7, Duration::from_secs(1000));
        let mut spent = None;
        for _ in 0..7 {
            spent = Some(quota.admit(spent, at(0)).unwrap());
        }
        let again = quota.admit(spent, at(0)).unwrap_err();
        let before = Timestamp::from_micros(again.as_micros() - 1);
        assert_eq!(quota.admit(spent, before), Err(again));
        assert!(quota.admit(spent, again).is_ok());
        // In any time, no more than its share beyond the seven at once.
        let mut admitted = 0;
        for second in 0..10_000 {
            while let Ok(paid) = quota.admit(spent, at(second)) {
                (spent, admitted) = (Some(paid), admitted + 1);
            }
        }
        assert!((69..=70).contains(&admitted), "{admitted}");
    }

    #[test]
    fn what_was_not_asked_for_long_is_not_saved_up() {
        let quota = Quota::new(2, Duration::from_secs(10));
        let long_ago = Some(at(-1_000_000));
        let one = quota.admit(long_ago, at(0)).unwrap();
        let two = quota.admit(Some(one), at(0)).unwrap();
        assert_eq!(quota.admit(Some(two), at(0)), Err(at(5)));
        assert!(Quota::new(0, Duration::from_secs(10)).admit(None, at(0)).is_err());
    }
}
