//! What a complete listing does with what it no longer names, and when it is not believed.

use std::time::Duration;

/// What to do with the origins that a complete run with coverage `All` did not see.
///
/// ```
/// use lamplighter::backend::{Prune, PruneGuard};
/// let guard = PruneGuard::default();
/// assert!(!guard.holds(100, 20), "a fifth may go at once");
/// assert!(guard.holds(100, 21) && guard.holds(4, 4), "more may not, nor everything");
/// assert_eq!(Prune::from(true), Prune::Guarded(guard));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Prune {
    /// Nothing.
    #[default]
    No,
    /// They are gone, unless so many are missing that the listing is not believed.
    Guarded(PruneGuard),
    /// They are gone, however many they are.
    Force,
}

impl From<bool> for Prune {
    fn from(prune: bool) -> Self {
        if prune { Self::Guarded(PruneGuard::default()) } else { Self::No }
    }
}

/// When a complete listing is not believed: half-empty answers and hosts that are down must retire
/// nothing.
///
/// What was missing and not believed is remembered. It is taken for gone when every complete
/// listing of everything since, over at least [`PruneGuard::confirm_after`], has not named it either.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct PruneGuard {
    /// At most this share of a lister's live origins is retired by one run. A fifth by default.
    pub share: f64,
    /// So many may go whatever their share, as long as anything is left. Three by default.
    pub few: u64,
    /// For so long complete runs must agree before more than that is retired. A week by default.
    pub confirm_after: Duration,
}

impl Default for PruneGuard {
    fn default() -> Self {
        Self { share: 0.2, few: 3, confirm_after: Duration::from_secs(7 * 86_400) }
    }
}

impl PruneGuard {
    /// Another share of live origins that one run may retire.
    #[must_use]
    pub fn with_share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Another number that may go whatever their share.
    #[must_use]
    pub fn with_few(mut self, few: u64) -> Self {
        self.few = few;
        self
    }

    /// Another time over which complete runs must agree.
    #[must_use]
    pub fn with_confirm_after(mut self, confirm_after: Duration) -> Self {
        self.confirm_after = confirm_after;
        self
    }

    /// Whether so many missing ones of so many live ones are too many to be believed.
    #[must_use]
    pub fn holds(&self, live: u64, missing: u64) -> bool {
        // Numbers of origins are far below 2^52.
        #[allow(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let share = missing as f64 > self.share * live as f64;
        missing > 0 && (missing >= live || missing > self.few && share)
    }

    /// Whether a run in which so many detail pages were absent, and so many were read, is too odd to
    /// be believed: more than a few, and more than were read.
    #[must_use]
    pub fn doubts(&self, absent: u64, read: u64) -> bool {
        absent > self.few && absent > read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_may_go_and_all_may_not() {
        let guard = PruneGuard::default();
        for (live, missing, held) in [
            (0, 0, false),
            (1, 1, true),
            (2, 1, false),
            (5, 3, false),
            (5, 4, true),
            (20, 4, false),
            (20, 5, true),
            (1000, 10, false),
            (1000, 500, true),
        ] {
            assert_eq!(guard.holds(live, missing), held, "{missing} of {live}");
        }
        assert!(guard.with_few(4).with_share(0.0).holds(100, 5));
        assert!(!guard.with_few(5).holds(6, 5));
    }

    #[test]
    fn details_are_doubted_where_most_are_absent() {
        let guard = PruneGuard::default();
        for (absent, read, doubted) in [(3, 0, false), (4, 0, true), (4, 4, false), (5, 4, true)] {
            assert_eq!(guard.doubts(absent, read), doubted, "{absent} absent, {read} read");
        }
    }
}
