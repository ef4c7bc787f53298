//! How often an origin changes, as far as is known: a Gamma belief of two numbers, and the times up
//! to which it was learned.
//!
//! Changes are taken for a Poisson process of unknown rate; the belief over that rate is a Gamma
//! distribution with shape `a` and rate `b` (days). A listing that says *when* upstream last changed
//! is an exact observation: seen at `L` with the last change at `u`, its likelihood is
//! `l e^(-l (L - u))`, so `a` grows by one and `b` by `L - u`; a listing without news adds the quiet
//! time to `b`. A visit over `t` days adds `t` to `b` where it found nothing, and is matched by its
//! first two moments where it found a change.

use crate::model::Timestamp;

/// Before anything is known: half a change in 60 days.
const PRIOR: Belief = Belief { a: 0.5, b: 60.0 };
/// No more evidence than so many changes, so that a change of rate is noticed.
const CAP_CHANGES: f64 = 10.0;
/// And than so many days.
const CAP_DAYS: f64 = 1000.0;
/// A date that lies further than this after the listing that tells it is none.
const FUTURE: std::time::Duration = std::time::Duration::from_secs(86_400);

const MICROS_A_DAY: f64 = 86_400e6;

/// From `from` to `to` in days; negative where `to` is the earlier.
#[allow(clippy::cast_precision_loss, reason = "microseconds of centuries, in days: exact to a microsecond")]
pub(crate) fn days(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_micros() as f64 - from.as_micros() as f64) / MICROS_A_DAY
}

/// A Gamma belief over a rate of change: `a` changes in `b` days.
///
/// ```
/// use lamplighter::policy::Belief;
/// let prior = Belief::default();
/// assert!(prior.unchanged(100.0).rate() < prior.rate());
/// assert!(prior.changed(1.0).rate() > prior.rate());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Belief {
    /// The shape: how many changes it is worth.
    pub a: f32,
    /// The rate, in days: how much time it is worth.
    pub b: f32,
}

impl Default for Belief {
    fn default() -> Self {
        PRIOR
    }
}

impl Belief {
    /// A belief worth `a` changes in `b` days.
    #[must_use]
    pub fn new(a: f32, b: f32) -> Self {
        Self { a, b }
    }

    /// The mean rate, in changes a day.
    #[must_use]
    pub fn rate(self) -> f64 {
        f64::from(self.a) / f64::from(self.b)
    }

    /// After so many days without a change.
    #[must_use]
    pub fn unchanged(self, days: f64) -> Self {
        Self::capped(f64::from(self.a), f64::from(self.b) + days.max(0.0))
    }

    /// After the last change was seen to be so many days ago, and newer than all that was known.
    #[must_use]
    pub fn last_changed(self, days: f64) -> Self {
        Self::capped(f64::from(self.a) + 1.0, f64::from(self.b) + days.max(0.0))
    }

    /// After so many days with at least one change: the first two moments of the exact posterior.
    #[must_use]
    pub fn changed(self, days: f64) -> Self {
        if days <= 0.0 {
            return self;
        }
        let (a, b) = gamma_changed(f64::from(self.a), f64::from(self.b), days);
        Self::capped(a, b)
    }

    /// Bounds the memory: evidence is scaled down, the prior kept.
    #[allow(clippy::cast_possible_truncation, reason = "two numbers of single precision are kept")]
    fn capped(a: f64, b: f64) -> Self {
        let (a0, b0) = (f64::from(PRIOR.a), f64::from(PRIOR.b));
        let keep = |evidence: f64, cap: f64| if evidence > cap { cap / evidence } else { 1.0 };
        let keep = keep(a - a0, CAP_CHANGES).min(keep(b - b0, CAP_DAYS));
        if keep < 1.0 {
            return Self { a: (a0 + (a - a0) * keep) as f32, b: (b0 + (b - b0) * keep) as f32 };
        }
        Self { a: a as f32, b: b as f32 }
    }
}

/// The Gamma with the mean and variance of the posterior `l^(a-1) e^(-b l) (1 - e^(-l t))`.
fn gamma_changed(a: f64, b: f64, t: f64) -> (f64, f64) {
    let log_r = -(t / b).ln_1p();
    let some = |k: f64| -((a + k) * log_r).exp_m1();
    let (d0, d1, d2) = (some(0.0), some(1.0), some(2.0));
    if d0 <= 0.0 {
        // So short that the change is all there is to learn.
        return (a + 1.0, b);
    }
    let m1 = a / b * d1 / d0;
    let m2 = a * (a + 1.0) / (b * b) * d2 / d0;
    let variance = m2 - m1 * m1;
    // Without digits left in the difference: the limit for a time of zero.
    if variance <= 1e-12 * m1 * m1 { (a + 1.0, b) } else { (m1 * m1 / variance, m1 / variance) }
}

/// A belief and up to when it was learned. Quiet time since then is not folded in, only measured:
/// k listings without news are one, at the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Evidence {
    /// The belief as of `folded`.
    pub belief: Belief,
    /// Up to when the belief has what was seen.
    pub folded: Option<Timestamp>,
    /// Up to when a lister that tells dates has looked.
    pub listed: Option<Timestamp>,
    /// The last known change.
    pub last_change: Option<Timestamp>,
    /// The first change that was told since the last good visit.
    pub first_signal: Option<Timestamp>,
}

impl Evidence {
    /// Up to when upstream was observed.
    #[must_use]
    pub fn observed(&self) -> Option<Timestamp> {
        self.folded.max(self.listed)
    }

    /// The belief with the quiet time since `folded`.
    #[must_use]
    pub fn now(&self) -> Belief {
        match (self.folded, self.observed()) {
            (Some(from), Some(to)) if to > from => self.belief.unchanged(days(from, to)),
            _ => self.belief,
        }
    }

    /// A date as far as it can be one: nothing changes long after the listing that tells of it.
    #[must_use]
    pub fn credible(update: Option<Timestamp>, at: Option<Timestamp>) -> Option<Timestamp> {
        update.filter(|u| at.is_none_or(|at| *u <= at.plus(FUTURE)))
    }

    /// Folds in that a lister looked at `at`, and what it knew of the last change.
    pub(crate) fn listing(&mut self, at: Timestamp, update: Option<Timestamp>, last_good: Option<Timestamp>) {
        let update = Self::credible(update, Some(at));
        let observed = self.observed();
        let first = self.listed.is_none();
        let news = update.filter(|u| Some(*u) > self.last_change);
        if let Some(u) = update.filter(|_| first || self.last_change.is_none()) {
            // The first date of all: the age of the last change alone tells a rate, whenever it was.
            self.belief = self.now().last_changed(days(u, at).clamp(0.0, CAP_DAYS));
            self.folded = observed.max(Some(at));
        } else if let Some(u) = news.filter(|u| Some(*u) > observed) {
            self.belief = self.now().last_changed(days(u, at));
            self.folded = observed.max(Some(at));
        } else if first {
            self.folded = observed.max(Some(at));
        }
        if let Some(u) = news {
            self.last_change = news;
            self.signal(u, last_good);
        }
        self.listed = self.listed.max(Some(at));
    }

    /// Notes that a change was told, where nothing was since the last good visit.
    pub(crate) fn signal(&mut self, at: Timestamp, last_good: Option<Timestamp>) {
        if last_good.is_some_and(|good| at > good) && self.first_signal.is_none() {
            self.first_signal = Some(at);
        }
    }

    /// Folds in a visit that archived something at `at`. `told` is the newest change that listers told
    /// of before it, `hinted` one that somebody else did: it counts only now that a visit bears it
    /// out.
    pub(crate) fn visit(
        &mut self,
        at: Timestamp,
        last_good: Option<Timestamp>,
        changed: Option<bool>,
        told: Option<Timestamp>,
        hinted: Option<Timestamp>,
    ) {
        let observed = self.observed();
        self.belief = self.now();
        if let Some(good) = last_good {
            let start = observed.max(last_good).unwrap_or(good);
            let quiet = days(start, at);
            let known = told.is_some_and(|u| u > good);
            let hinted = Self::credible(hinted, Some(at)).filter(|u| Some(*u) > observed);
            match (changed, hinted) {
                (Some(false), _) if quiet > 0.0 => self.belief = self.belief.unchanged(quiet),
                (Some(true), Some(u)) => self.belief = self.belief.last_changed(days(u, at)),
                (Some(true), None) if quiet > 0.0 && !known => self.belief = self.belief.changed(quiet),
                _ => {}
            }
            if changed == Some(true) {
                let unseen = self.last_change.is_none_or(|c| c < good);
                let middle = good.as_micros() + (at.as_micros() - good.as_micros()) / 2;
                self.last_change =
                    hinted.or(unseen.then(|| Timestamp::from_micros(middle))).max(self.last_change);
            }
        }
        self.folded = observed.max(Some(at));
        self.first_signal = None;
    }
}
