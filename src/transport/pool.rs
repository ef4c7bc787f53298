//! Which of a host's credentials goes next.

use std::time::Duration;

use http::HeaderMap;

use super::limit::{remaining, reset};
use super::{CredentialId, Limit};
use crate::model::Timestamp;

/// Where a limit does not say how long it holds: GitHub asks for at least a minute, and for longer
/// each time that it is met again.
const UNSAID: Duration = Duration::from_secs(60);

/// So often that wait is doubled: 64 minutes.
const DOUBLED: u32 = 6;

/// Resets that are no further apart are those of one window: forges round.
const SAME_WINDOW: Duration = Duration::from_secs(2);

/// For how long nobody is to ask after a limit that was met after so many others in a row. A wait that
/// is said counts too when it ends at once, so that a limit which says so for ever does not become a
/// loop.
pub(super) fn wait_for(limit: Limit, before: u32) -> Duration {
    let doubled = |first: Duration| first.saturating_mul(1 << before.min(DOUBLED));
    match limit.wait {
        Some(said) => said.max(doubled(Duration::from_secs(1))),
        None => doubled(UNSAID),
    }
}

/// What a pool says when asked for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// This one; none for an anonymous request.
    Use(Option<CredentialId>),
    /// All are limited; the first is free again then.
    WaitUntil(Timestamp),
    /// What is left may be spent by requests that are on their way: ask again when one is back.
    WaitForAnswer,
}

/// A request on its way, as the pool counts it: give it back with what came of it.
#[derive(Debug)]
#[must_use = "a request that never comes back holds a place"]
pub struct Flight {
    id: Option<CredentialId>,
    /// How many limits the credential had met when it left: the answers of requests that were on
    /// their way together are one piece of news.
    limits: u64,
}

/// What there is to remember of a credential between two processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneState {
    /// Not before then.
    pub closed_until: Timestamp,
    /// How many limits it met in a row.
    pub strikes: u32,
}

impl LaneState {
    /// Closed until then, after so many limits in a row.
    #[must_use]
    pub fn new(closed_until: Timestamp, strikes: u32) -> Self {
        Self { closed_until, strikes }
    }
}

/// How much of a budget is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Not known before the first answer, nor once a window is over.
    Unknown,
    /// The forge does not say.
    Unsaid,
    /// So many requests, until the budget is full again.
    Known { left: u64, until: Timestamp },
}

/// One credential's standing.
#[derive(Debug, Clone)]
struct Lane {
    id: Option<CredentialId>,
    /// Not before then.
    closed_until: Timestamp,
    refused: bool,
    /// Limits met, ever and in a row.
    limits: u64,
    strikes: u32,
    left: Left,
    in_flight: u64,
}

impl Lane {
    fn left(&self, now: Timestamp) -> Left {
        match self.left {
            Left::Known { until, .. } if until <= now => Left::Unknown,
            left => left,
        }
    }

    /// When it is open again, by limits and by what is left; the past where it is open.
    fn opens(&self, now: Timestamp, reserve: u64) -> Timestamp {
        match self.left(now) {
            Left::Known { left, until } if left <= reserve => self.closed_until.max(until),
            _ => self.closed_until,
        }
    }

    /// Whether one more may go, with those that are on their way.
    fn has_room(&self, now: Timestamp, reserve: u64) -> bool {
        let alone = self.in_flight == 0;
        match self.left(now) {
            // After a limit one goes first, to see whether it is over.
            _ if self.strikes > 0 => alone,
            // Each could be the one that touches the reserve.
            Left::Unknown => alone || reserve == 0,
            Left::Unsaid => true,
            Left::Known { left, .. } => left > reserve.saturating_add(self.in_flight),
        }
    }

    /// Takes in what an answer says of the budget.
    fn learn(&mut self, now: Timestamp, headers: &HeaderMap) {
        // An absurd date is no reason to stop asking a forge that answers.
        let said = reset(now, headers).filter(|reset| reset.believed);
        let news = match (remaining(headers), said) {
            (Some(left), Some(reset)) => Left::Known { left, until: reset.at },
            _ => Left::Unsaid,
        };
        self.left = match (self.left(now), news) {
            (Left::Known { left, until }, Left::Known { left: new, until: end }) => {
                if end > until.plus(SAME_WINDOW) {
                    news
                } else if end.plus(SAME_WINDOW) < until {
                    // Of the window before: it was overtaken.
                    Left::Known { left, until }
                } else {
                    // Answers may overtake each other: the lower one is the later one.
                    Left::Known { left: left.min(new), until }
                }
            }
            (known @ Left::Known { .. }, Left::Unsaid) => known,
            (_, news) => news,
        };
    }
}

/// The credentials that a host knows, and which of them it answers now.
///
/// One is used until it is limited, then the next: a window often starts at its first use. When
/// all are limited, the wait is for the *first* that is free again. One that the host refuses (401)
/// is left out while there is another; when all are refused they are tried nevertheless, so that
/// the caller sees the 401 and a forge that refused by mistake is found well again. Anonymous only
/// when there is no credential at all.
///
/// - A limit that does not say how long it holds is a minute's, and doubled each time it is met
///   again; after any limit one request goes alone, to see whether it is over.
/// - What an answer says is left of a budget (`X-RateLimit-Remaining`) is spent down to a reserve,
///   those that are on their way counted: so the forge need not refuse, and who else uses the
///   credential is not shut out.
///
/// ```
/// use http::HeaderMap;
/// use lamplighter::model::Timestamp;
/// use lamplighter::transport::{Choice, CredentialId, CredentialPool, Limit, LimitKind, classify};
/// let (one, two) = (CredentialId(1), CredentialId(2));
/// let mut pool = CredentialPool::new([one, two]);
/// let now = Timestamp::EPOCH;
/// let until = |seconds: u64| {
///     let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, seconds.into())]);
///     classify(now, http::StatusCode::TOO_MANY_REQUESTS, &headers, b"").ok_or("no limit")
/// };
/// let flight = pool.sent(Some(one));
/// pool.limited(flight, now, until(60)?);
/// assert_eq!(pool.choose(now), Choice::Use(Some(two)));
/// let flight = pool.sent(Some(two));
/// pool.limited(flight, now, until(90)?);
/// assert_eq!(pool.choose(now), Choice::WaitUntil(Timestamp::from_seconds(60)));
/// # Ok::<(), &str>(())
/// ```
#[derive(Debug, Clone)]
pub struct CredentialPool {
    lanes: Vec<Lane>,
    current: usize,
    reserve: u64,
}

impl CredentialPool {
    /// A pool of these; of anonymous requests when there are none.
    pub fn new(ids: impl IntoIterator<Item = CredentialId>) -> Self {
        let lane = |id| Lane {
            id,
            closed_until: Timestamp::EPOCH,
            refused: false,
            limits: 0,
            strikes: 0,
            left: Left::Unknown,
            in_flight: 0,
        };
        let mut lanes: Vec<Lane> = ids.into_iter().map(|id| lane(Some(id))).collect();
        if lanes.is_empty() {
            lanes.push(lane(None));
        }
        Self { lanes, current: 0, reserve: 0 }
    }

    /// Sets how many requests of each budget are left to others.
    #[must_use]
    pub fn with_reserve(mut self, reserve: u64) -> Self {
        self.reserve = reserve;
        self
    }

    /// The credential that goes next.
    pub fn choose(&mut self, now: Timestamp) -> Choice {
        let all_refused = self.all_refused();
        let usable = |lane: &Lane| all_refused || !lane.refused;
        let from_current = self.lanes.iter().enumerate().cycle().skip(self.current).take(self.lanes.len());
        let mut first_free = None::<Timestamp>;
        let mut on_their_way = false;
        for (index, lane) in from_current.filter(|(_, lane)| usable(lane)) {
            let opens = lane.opens(now, self.reserve);
            if opens > now {
                first_free = Some(first_free.map_or(opens, |first| first.min(opens)));
            } else if lane.has_room(now, self.reserve) {
                self.current = index;
                return Choice::Use(lane.id);
            } else {
                on_their_way = true;
            }
        }
        if on_their_way { Choice::WaitForAnswer } else { Choice::WaitUntil(first_free.unwrap_or(now)) }
    }

    /// Whether this one may be used now, whatever [`CredentialPool::choose`] would say.
    #[must_use]
    pub fn is_open(&self, id: Option<CredentialId>, now: Timestamp) -> bool {
        let all_refused = self.all_refused();
        self.lanes.iter().any(|lane| {
            lane.id == id
                && (all_refused || !lane.refused)
                && lane.opens(now, self.reserve) <= now
                && lane.has_room(now, self.reserve)
        })
    }

    /// Takes note that a request leaves with this one. Give what comes back to one of
    /// [`answered`](Self::answered), [`limited`](Self::limited), [`refused`](Self::refused) and
    /// [`lost`](Self::lost).
    pub fn sent(&mut self, id: Option<CredentialId>) -> Flight {
        let limits = self.lane(id).map_or(0, |lane| {
            lane.in_flight += 1;
            lane.limits
        });
        Flight { id, limits }
    }

    /// Takes note of an answer that was none of limit and refusal: it shows that the credential is
    /// good, and its headers say what is left of the budget.
    pub fn answered(&mut self, flight: Flight, now: Timestamp, headers: &HeaderMap) {
        self.landed(flight, |lane, news| {
            lane.refused = false;
            if news {
                lane.strikes = 0;
            }
            lane.learn(now, headers);
        });
    }

    /// Leaves this one out because it met a limit. Returns until when.
    pub fn limited(&mut self, flight: Flight, now: Timestamp, limit: Limit) -> Timestamp {
        let closed = self.landed(flight, |lane, news| {
            if news {
                lane.limits += 1;
                lane.strikes = lane.strikes.saturating_add(1);
                lane.left = Left::Unknown;
            }
            let wait = wait_for(limit, lane.strikes.saturating_sub(1));
            lane.closed_until = lane.closed_until.max(now.plus(wait));
            lane.closed_until
        });
        closed.unwrap_or(now)
    }

    /// Leaves this one out because the host refuses it. Whether there is another to try.
    pub fn refused(&mut self, flight: Flight) -> bool {
        self.landed(flight, |lane, _| lane.refused = true);
        !self.all_refused()
    }

    /// Takes note that a request had no answer, or one that says nothing of the credential.
    pub fn lost(&mut self, flight: Flight) {
        self.landed(flight, |_, _| ());
    }

    /// What there is to remember of each: those that are closed now.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Vec<(Option<CredentialId>, LaneState)> {
        let state = |lane: &Lane| LaneState::new(lane.opens(now, self.reserve), lane.strikes);
        let closed = self.lanes.iter().map(|lane| (lane.id, state(lane)));
        closed.filter(|(_, state)| state.closed_until > now).collect()
    }

    /// Takes in what was remembered of one, here or elsewhere.
    pub fn remember(&mut self, id: Option<CredentialId>, state: LaneState) {
        if let Some(lane) = self.lane(id).filter(|lane| lane.closed_until < state.closed_until) {
            lane.closed_until = state.closed_until;
            lane.strikes = lane.strikes.max(state.strikes);
        }
    }

    fn all_refused(&self) -> bool {
        self.lanes.iter().all(|lane| lane.refused)
    }

    /// What comes back, and whether it is news: nothing was said to the credential since it left.
    #[expect(clippy::needless_pass_by_value, reason = "it lands once")]
    fn landed<R>(&mut self, flight: Flight, take: impl FnOnce(&mut Lane, bool) -> R) -> Option<R> {
        let Flight { id, limits } = flight;
        self.lane(id).map(|lane| {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            let news = lane.limits == limits;
            take(lane, news)
        })
    }

    fn lane(&mut self, id: Option<CredentialId>) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::LimitKind;
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

    fn limit(wait: Option<u64>) -> Limit {
        Limit { kind: LimitKind::Secondary, wait: wait.map(Duration::from_secs) }
    }

    fn answered(pool: &mut CredentialPool, n: usize, now: Timestamp, headers: &HeaderMap) {
        let flight = pool.sent(id(n));
        pool.answered(flight, now, headers);
    }

    fn limited(pool: &mut CredentialPool, n: usize, now: Timestamp, wait: Option<u64>) -> Timestamp {
        let flight = pool.sent(id(n));
        pool.limited(flight, now, limit(wait))
    }

    fn refused(pool: &mut CredentialPool, n: usize) -> bool {
        let flight = pool.sent(id(n));
        pool.refused(flight)
    }

    #[test]
    fn one_is_used_until_it_is_spent() {
        let now = at(2_000_000_000);
        let mut pool = pool(2);
        for left in [2, 1] {
            assert_eq!(pool.choose(now), Choice::Use(id(0)));
            answered(&mut pool, 0, now, &budget(left, 2_000_000_600));
        }
        assert_eq!(pool.choose(now), Choice::Use(id(0)));
        answered(&mut pool, 0, now, &budget(0, 2_000_000_600));
        assert_eq!(pool.choose(now), Choice::Use(id(1)), "before it is refused");
        assert!(!pool.is_open(id(0), now) && pool.is_open(id(1), now));
        // The second stays the current one after the first is back.
        assert_eq!(pool.choose(at(2_000_000_700)), Choice::Use(id(1)));
    }

    #[test]
    fn an_absurd_reset_does_not_close_a_forge_that_answers() {
        let now = at(2_000_000_000);
        let mut pool = pool(1);
        answered(&mut pool, 0, now, &budget(0, 3_000_000_000));
        assert_eq!(pool.choose(now), Choice::Use(id(0)));
    }

    #[test]
    fn a_refused_credential_is_left_out_while_there_is_another() {
        let now = at(0);
        let mut pool = pool(2);
        assert!(refused(&mut pool, 0));
        assert_eq!(pool.choose(now), Choice::Use(id(1)));
        assert!(!pool.is_open(id(0), now));
        limited(&mut pool, 1, now, Some(50));
        assert_eq!(pool.choose(now), Choice::WaitUntil(at(50)), "waiting beats a bad token");
        assert!(!refused(&mut pool, 1));
        assert_eq!(pool.choose(now), Choice::Use(id(0)), "the caller shall see the refusal");
        assert!(pool.is_open(id(0), now));
        answered(&mut pool, 0, now, &HeaderMap::new());
        assert_eq!(pool.choose(now), Choice::Use(id(0)));
        assert!(refused(&mut pool, 1), "the first is good again");
    }

    #[test]
    fn anonymous_only_without_any_credential() {
        assert_eq!(pool(0).choose(at(0)), Choice::Use(None));
        let mut one = pool(1);
        limited(&mut one, 0, at(0), Some(9));
        assert_eq!(one.choose(at(0)), Choice::WaitUntil(at(9)));
    }

    #[test]
    fn what_is_not_said_is_a_minute_and_doubled_each_time() {
        let mut pool = pool(1);
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let until = limited(&mut pool, 0, now, None);
            waits.push(until.since(now).as_secs());
            now = until;
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1920, 3840, 3840]);
        // A good answer starts over.
        answered(&mut pool, 0, now, &HeaderMap::new());
        assert_eq!(limited(&mut pool, 0, now, None), now.plus(Duration::from_secs(60)));
        // One that says "at once" for ever is not a loop.
        let next = now.plus(Duration::from_secs(60));
        assert_eq!(limited(&mut pool, 0, next, Some(0)), next.plus(Duration::from_secs(2)));
    }

    #[test]
    fn requests_that_were_on_their_way_together_meet_one_limit() {
        let mut pool = pool(1);
        let flights: Vec<_> = (0..4).map(|_| pool.sent(id(0))).collect();
        let late = pool.sent(id(0));
        for (n, flight) in (0..).zip(flights) {
            assert_eq!(pool.limited(flight, at(n), limit(None)), at(60 + n), "a minute after the last one");
        }
        // An answer that left before the limit does not end it.
        pool.answered(late, at(4), &HeaderMap::new());
        assert_eq!(pool.choose(at(4)), Choice::WaitUntil(at(63)));
        assert_eq!(limited(&mut pool, 0, at(63), None), at(183), "the second in a row");
    }

    #[test]
    fn after_a_limit_one_goes_first() {
        let mut pool = pool(1);
        limited(&mut pool, 0, at(0), None);
        assert_eq!(pool.choose(at(60)), Choice::Use(id(0)));
        let first = pool.sent(id(0));
        assert_eq!(pool.choose(at(60)), Choice::WaitForAnswer);
        assert!(!pool.is_open(id(0), at(60)));
        pool.answered(first, at(61), &HeaderMap::new());
        let _second = pool.sent(id(0));
        assert_eq!(pool.choose(at(61)), Choice::Use(id(0)), "and then all");
    }

    #[test]
    fn one_that_is_lost_gives_its_place_back() {
        let mut pool = pool(1).with_reserve(5);
        let first = pool.sent(id(0));
        assert_eq!(pool.choose(at(0)), Choice::WaitForAnswer, "nobody knows yet what is left");
        pool.lost(first);
        assert_eq!(pool.choose(at(0)), Choice::Use(id(0)));
    }

    #[test]
    fn the_reserve_is_left_also_by_those_on_their_way() {
        let now = at(2_000_000_000);
        let mut pool = pool(1).with_reserve(10);
        answered(&mut pool, 0, now, &budget(12, 2_000_000_600));
        let first = pool.sent(id(0));
        let second = pool.sent(id(0));
        assert_eq!(pool.choose(now), Choice::WaitForAnswer, "a third would be the eleventh");
        pool.answered(second, now, &budget(10, 2_000_000_600));
        pool.answered(first, now, &budget(11, 2_000_000_600));
        assert_eq!(pool.choose(now), Choice::WaitUntil(at(2_000_000_601)), "the lower one is the later one");
        assert_eq!(pool.choose(at(2_000_000_601)), Choice::Use(id(0)), "a new window");
    }

    #[test]
    fn an_answer_of_the_window_before_says_nothing_of_this_one() {
        let now = at(2_000_000_000);
        let mut pool = pool(1);
        let old = pool.sent(id(0));
        answered(&mut pool, 0, now, &budget(50, 2_000_003_600));
        pool.answered(old, now, &budget(0, 2_000_000_010));
        assert_eq!(pool.choose(now), Choice::Use(id(0)));
        // A later window is another one.
        answered(&mut pool, 0, now, &budget(0, 2_000_007_200));
        assert_eq!(pool.choose(now), Choice::WaitUntil(at(2_000_007_201)));
    }

    #[test]
    fn what_is_closed_is_remembered_elsewhere() {
        let mut pool = pool(3);
        limited(&mut pool, 0, at(0), None);
        limited(&mut pool, 0, at(60), None);
        let kept = pool.closed(at(61));
        assert_eq!(kept, [(id(0), LaneState::new(at(180), 2))]);
        assert_eq!(pool.closed(at(180)), []);

        let mut other = super::tests::pool(1);
        other.remember(id(0), kept[0].1);
        assert_eq!(other.choose(at(61)), Choice::WaitUntil(at(180)));
        other.remember(id(0), LaneState::new(at(100), 0));
        assert_eq!(other.choose(at(61)), Choice::WaitUntil(at(180)), "never earlier");
        assert_eq!(limited(&mut other, 0, at(180), None), at(180 + 240), "the third in a row");
    }

    proptest! {
        /// Never a closed one, never a wait while one is open, and always the first to be free.
        #[test]
        fn the_choice_is_open_or_the_first_to_be(
            until in proptest::collection::vec(1i64..100, 1..6), now in 0i64..100, before in 0i64..100,
        ) {
            let mut pool = pool(until.len());
            for (n, until) in until.iter().enumerate() {
                limited(&mut pool, n, at(0), Some(until.unsigned_abs()));
            }
            pool.choose(at(before));
            match pool.choose(at(now)) {
                Choice::Use(Some(CredentialId(n))) => prop_assert!(until[n] <= now),
                Choice::WaitUntil(first) => {
                    prop_assert!(until.iter().all(|u| *u > now));
                    prop_assert_eq!(first, at(*until.iter().min().unwrap()));
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }

        /// Whoever comes back when: no more are sent than a budget has beyond the reserve, and none
        /// of it is left while somebody asks.
        #[test]
        fn a_budget_is_spent_down_to_the_reserve(
            full in 0u64..40, reserve in 0u64..20, steps in proptest::collection::vec(any::<bool>(), 200),
        ) {
            let now = at(2_000_000_000);
            let mut pool = pool(1).with_reserve(reserve);
            // A forge that counts when a request leaves, as the worst case.
            answered(&mut pool, 0, now, &budget(full, 2_000_000_600));
            let mut left = full;
            let mut flights = Vec::new();
            for sends in steps {
                if sends && pool.choose(now) == Choice::Use(id(0)) {
                    prop_assert!(left > reserve);
                    left -= 1;
                    flights.push((pool.sent(id(0)), left));
                } else if let Some((flight, said)) = flights.pop() {
                    pool.answered(flight, now, &budget(said, 2_000_000_600));
                }
            }
            for (flight, said) in flights {
                pool.answered(flight, now, &budget(said, 2_000_000_600));
            }
            while pool.choose(now) == Choice::Use(id(0)) {
                prop_assert!(left > reserve);
                left -= 1;
                answered(&mut pool, 0, now, &budget(left, 2_000_000_600));
            }
            prop_assert_eq!(left, full.min(reserve));
        }
    }
}
