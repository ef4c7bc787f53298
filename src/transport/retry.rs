//! Whether a request is sent again, and after how long.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::TransportError;
use super::limit::retry_after;
use crate::model::{Timestamp, digest128};

/// How often and how patiently a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryOptions {
    /// How often it is sent in all. 5.
    pub attempts: u32,
    /// The wait after the first failure. 1 s.
    pub first_wait: Duration,
    /// The wait before the last attempt. 5 min.
    pub last_wait: Duration,
    /// The longest `Retry-After` that is waited for; a longer one is not worth it. 2 h.
    pub longest_wait: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            last_wait: Duration::from_secs(300),
            longest_wait: Duration::from_secs(7200),
        }
    }
}

impl RetryOptions {
    /// Sets how often a request is sent in all; at least once.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Sets the first wait and the last.
    #[must_use]
    pub fn with_waits(mut self, first: Duration, last: Duration) -> Self {
        self.first_wait = first;
        self.last_wait = last.max(first);
        self
    }

    /// Sets the longest `Retry-After` that is waited for.
    #[must_use]
    pub fn with_longest_wait(mut self, longest: Duration) -> Self {
        self.longest_wait = longest;
        self
    }
}

/// One request's attempts: fed with each outcome, it says how long to wait before the next one.
///
/// Waits grow from the first to the last by a constant factor, give or take a quarter, which is
/// drawn from a hash: many requests that fail together do not come back together, and a run can be
/// repeated. What the server says in `Retry-After` goes before that.
///
/// ```
/// use lamplighter::model::Timestamp;
/// use lamplighter::transport::{RetryOptions, RetryPlan};
/// let mut plan = RetryPlan::new(RetryOptions::default(), "GET https://forge.example/api");
/// let wait = plan.answered(Timestamp::EPOCH, http::StatusCode::BAD_GATEWAY, &http::HeaderMap::new());
/// assert!(wait.is_some(), "worth another attempt");
/// let wait = plan.answered(Timestamp::EPOCH, http::StatusCode::NOT_FOUND, &http::HeaderMap::new());
/// assert!(wait.is_none(), "an answer like any other");
/// ```
#[derive(Debug, Clone)]
pub struct RetryPlan {
    options: RetryOptions,
    seed: String,
    made: u32,
}

impl RetryPlan {
    /// A plan for one request. Plans of different seeds wait differently.
    pub fn new(options: RetryOptions, seed: impl Into<String>) -> Self {
        Self { options, seed: seed.into(), made: 0 }
    }

    /// Takes note of an answer: how long to wait before the next attempt, or none when this answer
    /// is the last word.
    pub fn answered(&mut self, now: Timestamp, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        self.made = self.made.saturating_add(1);
        if self.is_spent() || !is_retryable(status) {
            return None;
        }
        self.wait(retry_after(now, headers))
    }

    /// Takes note of an error: how long to wait before the next attempt, or none when this error
    /// is the last word.
    pub fn failed(&mut self, error: &TransportError) -> Option<Duration> {
        self.made = self.made.saturating_add(1);
        if self.is_spent() || !error.is_retryable() {
            return None;
        }
        self.wait(error.wait())
    }

    fn is_spent(&self) -> bool {
        self.made >= self.options.attempts
    }

    fn wait(&self, said: Option<Duration>) -> Option<Duration> {
        match said {
            Some(said) if said > self.options.longest_wait => None,
            // A server that says "at once" is still given the first wait.
            Some(said) => Some(said.max(self.options.first_wait)),
            None => Some(self.planned()),
        }
    }

    /// The wait after the attempts made so far.
    fn planned(&self) -> Duration {
        let RetryOptions { attempts, first_wait, last_wait, .. } = self.options;
        let (first, last) = (first_wait.as_secs_f64(), last_wait.as_secs_f64());
        let steps = attempts.saturating_sub(2);
        let step = self.made.saturating_sub(1);
        let part = if steps == 0 { 0.0 } else { f64::from(step) / f64::from(steps) };
        let planned = if first > 0.0 { first * (last / first).powf(part) } else { last * part };
        let spread = 0.75 + 0.5 * draw(&self.seed, self.made);
        Duration::try_from_secs_f64((planned * spread).clamp(first, last.max(first))).unwrap_or(last_wait)
    }
}

/// A number from 0 to 1 that seed and attempt fix.
fn draw(seed: &str, attempt: u32) -> f64 {
    let hash = digest128(format!("{attempt} {seed}").as_bytes());
    let sixteen = hash.first_chunk().map_or(0, |two| u16::from_le_bytes(*two));
    f64::from(sixteen) / f64::from(u16::MAX)
}

/// Whether the same request may get another answer soon.
fn is_retryable(status: StatusCode) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::NOT_IMPLEMENTED => false,
        other => other.is_server_error(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::TransportErrorKind as Kind;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn status(code: u16) -> StatusCode {
        StatusCode::from_u16(code).unwrap()
    }

    fn retry_after_is(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::header::RETRY_AFTER, value.parse().unwrap())])
    }

    fn plan() -> RetryPlan {
        RetryPlan::new(RetryOptions::default(), "seed")
    }

    #[test]
    fn the_fifth_failure_is_the_last_word() {
        let mut plan = plan();
        let waits: Vec<_> = (0..5).map(|_| plan.answered(NOW, status(500), &HeaderMap::new())).collect();
        assert_eq!(waits.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, true, false]);
    }

    #[test]
    fn only_what_may_pass_is_sent_again() {
        for (code, again) in [
            (408, true),
            (429, true),
            (500, true),
            (502, true),
            (503, true),
            (504, true),
            (599, true),
            (200, false),
            (304, false),
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (410, false),
            (422, false),
            (501, false),
        ] {
            let wait = plan().answered(NOW, status(code), &HeaderMap::new());
            assert_eq!(wait.is_some(), again, "{code}");
        }
        for (kind, again) in [
            (Kind::Connect, true),
            (Kind::Timeout, true),
            (Kind::Body, true),
            (Kind::TooLarge, false),
            (Kind::Redirect, false),
            (Kind::Forbidden, false),
            (Kind::Request, false),
            (Kind::Other, false),
        ] {
            let wait = plan().failed(&TransportError::new(kind, ""));
            assert_eq!(wait.is_some(), again, "{kind:?}");
        }
    }

    #[test]
    fn the_server_knows_best_when() {
        let wait = |value: &str| plan().answered(NOW, status(503), &retry_after_is(value));
        assert_eq!(wait("42"), Some(Duration::from_secs(42)));
        assert_eq!(wait("Thu, 01 Jan 1970 00:02:00 GMT"), Some(Duration::from_secs(120)));
        assert_eq!(wait("0"), Some(Duration::from_secs(1)), "never at once");
        assert_eq!(wait("7200"), Some(Duration::from_secs(7200)));
        assert_eq!(wait("7201"), None, "not worth the wait");
        assert!(wait("soon").is_some_and(|w| w <= Duration::from_secs(2)), "as if it were not there");
    }

    #[test]
    fn requests_that_fail_together_come_back_apart() {
        let waits: std::collections::HashSet<_> = (0..32)
            .map(|i| {
                let mut plan = RetryPlan::new(RetryOptions::default(), format!("GET https://h/{i}"));
                plan.answered(NOW, status(500), &HeaderMap::new());
                plan.answered(NOW, status(500), &HeaderMap::new())
            })
            .collect();
        assert!(waits.len() > 16, "{waits:?}");
    }

    proptest! {
        #[test]
        fn waits_grow_within_their_bounds_and_can_be_repeated(
            seed in ".{0,20}", attempts in 1u32..12, first in 0u64..5_000, more in 0u64..900_000,
        ) {
            let (first, last) = (Duration::from_millis(first), Duration::from_millis(first + more));
            let options = RetryOptions::default().with_attempts(attempts).with_waits(first, last);
            let run = || {
                let mut plan = RetryPlan::new(options, seed.clone());
                std::iter::from_fn(move || plan.answered(NOW, status(502), &HeaderMap::new()))
                    .take(100)
                    .collect::<Vec<_>>()
            };
            let waits = run();
            prop_assert_eq!(u32::try_from(waits.len()), Ok(attempts - 1));
            prop_assert_eq!(&waits, &run());
            for wait in waits {
                prop_assert!(first <= wait && wait <= last, "{:?}", wait);
            }
        }
    }
}
