//! Which of a host's credentials goes next.

use http::HeaderMap;

use super::CredentialId;
use super::limit::{remaining, reset};
use crate::model::Timestamp;

/// What a pool says when asked for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// This one; none for an anonymous request.
    Use(Option<CredentialId>),
    /// All are limited; the first is free again then.
    WaitUntil(Timestamp),
}

/// One credential's standing.
#[derive(Debug, Clone)]
struct Lane {
    id: Option<CredentialId>,
    /// Not before then.
    closed_until: Timestamp,
    refused: bool,
}

/// The credentials that a host knows, and which of them it answers now.
///
/// One is used until it is limited, then the next: a window often starts at its first use. When
/// all are limited, the wait is for the *first* that is free again. One that the host refuses (401)
/// is left out while there is another; when all are refused they are tried nevertheless, so that
/// the caller sees the 401 and a forge that refused by mistake is found well again. Anonymous only
/// when there is no credential at all.
///
/// ```
/// use lamplighter::model::Timestamp;
/// use lamplighter::transport::{Choice, CredentialId, CredentialPool};
/// let (one, two) = (CredentialId(1), CredentialId(2));
/// let mut pool = CredentialPool::new([one, two]);
/// let now = Timestamp::EPOCH;
/// pool.limited(Some(one), Timestamp::from_seconds(60));
/// assert_eq!(pool.choose(now), Choice::Use(Some(two)));
/// pool.limited(Some(two), Timestamp::from_seconds(90));
/// assert_eq!(pool.choose(now), Choice::WaitUntil(Timestamp::from_seconds(60)));
/// ```
#[derive(Debug, Clone)]
pub struct CredentialPool {
    lanes: Vec<Lane>,
    current: usize,
}

impl CredentialPool {
    /// A pool of these; of anonymous requests when there are none.
    pub fn new(ids: impl IntoIterator<Item = CredentialId>) -> Self {
        let lane = |id| Lane { id, closed_until: Timestamp::EPOCH, refused: false };
        let mut lanes: Vec<Lane> = ids.into_iter().map(|id| lane(Some(id))).collect();
        if lanes.is_empty() {
            lanes.push(lane(None));
        }
        Self { lanes, current: 0 }
    }

    /// The credential that goes next.
    pub fn choose(&mut self, now: Timestamp) -> Choice {
        let all_refused = self.lanes.iter().all(|lane| lane.refused);
        let usable = |lane: &Lane| all_refused || !lane.refused;
        let from_current = self.lanes.iter().enumerate().cycle().skip(self.current).take(self.lanes.len());
        let mut first_free = None::<Timestamp>;
        for (index, lane) in from_current.filter(|(_, lane)| usable(lane)) {
            if lane.closed_until <= now {
                self.current = index;
                return Choice::Use(lane.id);
            }
            first_free = Some(first_free.map_or(lane.closed_until, |first| first.min(lane.closed_until)));
        }
        Choice::WaitUntil(first_free.unwrap_or(now))
    }

    /// Whether this one may still be used, after a wait for something else.
    #[must_use]
    pub fn is_open(&self, id: Option<CredentialId>, now: Timestamp) -> bool {
        self.lanes.iter().any(|lane| lane.id == id && lane.closed_until <= now)
    }

    /// Takes note of an answer that was none of limit and refusal: it shows that the credential is
    /// good, and its headers may say that the budget is now spent.
    pub fn answered(&mut self, id: Option<CredentialId>, now: Timestamp, headers: &HeaderMap) {
        let spent_until = reset(now, headers)
            // An absurd date is no reason to stop asking a forge that answers.
            .filter(|reset| reset.believed && remaining(headers) == Some(0))
            .map(|reset| reset.at);
        if let Some(lane) = self.lane(id) {
            lane.refused = false;
            lane.closed_until = lane.closed_until.max(spent_until.unwrap_or(Timestamp::EPOCH));
        }
    }

    /// Leaves this one out until then.
    pub fn limited(&mut self, id: Option<CredentialId>, until: Timestamp) {
        if let Some(lane) = self.lane(id) {
            lane.closed_until = lane.closed_until.max(until);
        }
    }

    /// Leaves this one out because the host refuses it. Whether there is another to try.
    pub fn refused(&mut self, id: Option<CredentialId>) -> bool {
        if let Some(lane) = self.lane(id) {
            lane.refused = true;
        }
        self.lanes.iter().any(|lane| !lane.refused)
    }

    fn lane(&mut self, id: Option<CredentialId>) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[allow(clippy::unnecessary_wraps, reason = "the pool speaks of optional credentials")]
    fn id(n: usize) -> Option<CredentialId> {
        Some(CredentialId(n))
    }

    fn pool(n: usize) -> CredentialPool {
        CredentialPool::new((0..n).map(CredentialId))
    }

    fn budget(remaining: u64, reset: i64) -> HeaderMap {
        [("x-ratelimit-remaining", remaining.to_string()), ("x-ratelimit-reset", reset.to_string())]
            .into_iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(&v).unwrap()))
            .collect()
    }

    #[test]
    fn one_is_used_until_it_is_spent() {
        let now = at(2_000_000_000);
        let mut pool = pool(2);
        for left in [2, 1] {
            assert_eq!(pool.choose(now), Choice::Use(id(0)));
            pool.answered(id(0), now, &budget(left, 2_000_000_600));
        }
        assert_eq!(pool.choose(now), Choice::Use(id(0)));
        pool.answered(id(0), now, &budget(0, 2_000_000_600));
        assert_eq!(pool.choose(now), Choice::Use(id(1)), "before it is refused");
        assert!(!pool.is_open(id(0), now) && pool.is_open(id(1), now));
        // The second stays the current one after the first is back.
        assert_eq!(pool.choose(at(2_000_000_700)), Choice::Use(id(1)));
    }

    #[test]
    fn an_absurd_reset_does_not_close_a_forge_that_answers() {
        let now = at(2_000_000_000);
        let mut pool = pool(1);
        pool.answered(id(0), now, &budget(0, 3_000_000_000));
        assert_eq!(pool.choose(now), Choice::Use(id(0)));
    }

    #[test]
    fn a_refused_credential_is_left_out_while_there_is_another() {
        let now = at(0);
        let mut pool = pool(2);
        assert!(pool.refused(id(0)));
        assert_eq!(pool.choose(now), Choice::Use(id(1)));
        pool.limited(id(1), at(50));
        assert_eq!(pool.choose(now), Choice::WaitUntil(at(50)), "waiting beats a bad token");
        assert!(!pool.refused(id(1)));
        assert_eq!(pool.choose(now), Choice::Use(id(0)), "the caller shall see the refusal");
        pool.answered(id(0), now, &HeaderMap::new());
        assert_eq!(pool.choose(now), Choice::Use(id(0)));
        assert!(pool.refused(id(1)), "the first is good again");
    }

    #[test]
    fn anonymous_only_without_any_credential() {
        assert_eq!(pool(0).choose(at(0)), Choice::Use(None));
        let mut one = pool(1);
        one.limited(id(0), at(9));
        assert_eq!(one.choose(at(0)), Choice::WaitUntil(at(9)));
    }

    proptest! {
        /// Never a closed one, never a wait while one is open, and always the first to be free.
        #[test]
        fn the_choice_is_open_or_the_first_to_be(
            until in proptest::collection::vec(0i64..100, 1..6), now in 0i64..100, before in 0i64..100,
        ) {
            let mut pool = pool(until.len());
            for (n, until) in until.iter().enumerate() {
                pool.limited(id(n), at(*until));
            }
            pool.choose(at(before));
            match pool.choose(at(now)) {
                Choice::Use(Some(CredentialId(n))) => prop_assert!(until[n] <= now),
                Choice::Use(None) => prop_assert!(false, "anonymous"),
                Choice::WaitUntil(first) => {
                    prop_assert!(until.iter().all(|u| *u > now));
                    prop_assert_eq!(first, at(*until.iter().min().unwrap()));
                }
            }
        }
    }
}
