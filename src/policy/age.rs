//! Maximum age: no origin of a class waits longer than its cap, as far as the visits suffice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Lane;
use super::belief::days;
use crate::model::{ListerKey, Timestamp};

/// A named selection of origins, and the longest time that they may be without a visit. What is not
/// named selects all: a class of nothing but a name has every origin.
///
/// Classes are given in order, up to 50 of them. An origin belongs to the first that has it, and where visits do not
/// suffice for all, the last class misses first: the first one's cap is met as long as it can be.
///
/// ```
/// use std::time::Duration;
/// use lamplighter::backend::StoreOptions;
/// use lamplighter::policy::AgeClass;
/// let month = Duration::from_secs(30 * 86_400);
/// let releases = AgeClass::new("releases", month / 30).of_type("pypi");
/// let own = AgeClass::new("own forge", month).of_lister("gitea").of_instance("forge.example");
/// let options = StoreOptions::default().with_max_age(releases).with_max_age(own);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgeClass {
    /// Its name, as shown.
    pub name: String,
    /// No origin of it is without a visit for longer.
    pub cap: Duration,
    /// Only origins visited so.
    pub visit_type: Option<String>,
    /// Only origins that a lister of this name lists.
    pub lister: Option<String>,
    /// Only origins listed on this instance.
    pub instance: Option<String>,
}

impl AgeClass {
    /// A class of all origins.
    pub fn new(name: impl Into<String>, cap: Duration) -> Self {
        Self { name: name.into(), cap, visit_type: None, lister: None, instance: None }
    }

    /// Only origins visited so.
    #[must_use]
    pub fn of_type(mut self, visit_type: impl Into<String>) -> Self {
        self.visit_type = Some(visit_type.into());
        self
    }

    /// Only origins that a lister of this name lists.
    #[must_use]
    pub fn of_lister(mut self, lister: impl Into<String>) -> Self {
        self.lister = Some(lister.into());
        self
    }

    /// Only origins listed on this instance.
    #[must_use]
    pub fn of_instance(mut self, instance: impl Into<String>) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// Whether it has an origin that is visited so and listed by one of these listers.
    pub fn has<'l>(&self, visit_type: &str, listers: impl IntoIterator<Item = &'l ListerKey>) -> bool {
        let is = |wanted: &Option<String>, it: &str| wanted.as_ref().is_none_or(|w| w == it);
        is(&self.visit_type, visit_type)
            && listers.into_iter().any(|l| is(&self.lister, &l.name) && is(&self.instance, &l.instance))
    }
}

/// The class of an origin, as its facts have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a place and a length")]
pub struct AgeLimit {
    /// The class's place among all of them: the smaller, the longer it is met.
    pub class: u8,
    /// No visit later than this after the last one.
    pub cap: Duration,
}

/// So many classes there can be, each with a lane of its own; what comes after them is no class.
pub(crate) const CLASSES: usize = 50;

impl AgeLimit {
    /// The lane in which its origins wait for their latest moment.
    #[must_use]
    pub fn lane(self) -> Lane {
        Lane(Lane::FIRST_AGED.0.saturating_add(self.class).min(Lane::PARKED.0 - 1))
    }
}

/// How fast visits are claimed, as far as claims have shown: their size and the time between them,
/// averaged over about a day. Claims of one moment are one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pace {
    /// The last claim.
    pub at: Option<Timestamp>,
    /// Visits asked for at that moment so far.
    pub now: f64,
    /// Visits of a claim.
    pub size: f64,
    /// Days from one claim to the next.
    pub every: f64,
}

impl Pace {
    /// Notes that so many visits were asked for.
    pub fn observe(&mut self, asked: usize, now: Timestamp) {
        #[allow(clippy::cast_precision_loss, reason = "a claim has far fewer than 2^52 visits")]
        let asked = asked as f64;
        let Some(at) = self.at.filter(|at| *at < now) else {
            self.now += asked;
            self.at = self.at.max(Some(now));
            return;
        };
        let gap = days(at, now);
        let weight = if self.every > 0.0 { gap.clamp(0.01, 0.5) } else { 1.0 };
        self.size += (self.now - self.size) * weight;
        self.every += (gap - self.every) * weight;
        (self.at, self.now) = (Some(now), asked);
    }

    /// Visits a day, where two claims have shown it.
    #[must_use]
    pub fn per_day(&self) -> Option<f64> {
        (self.every > 0.0).then(|| self.size / self.every)
    }
}

/// How many visits each class needs from this claim, `most` in all, the first class first. `classes` are
/// (cap, days until each deadline in ascending order); `pace` tells how long it is to the next claim.
///
/// A class is served at the rate that its cap asks for, its origins over its cap, and needs as many now
/// as leave every later deadline within reach at that rate. So all caps are kept at once where the
/// visits suffice for the sum of these rates, whether the deadlines lie apart or all at one time; what
/// is not needed is left to the policy, unless the rates take nearly all; and where visits do not
/// suffice, the last class misses first.
///
/// ```
/// use lamplighter::model::Timestamp;
/// use lamplighter::policy::{Pace, needed};
/// let mut pace = Pace::default();
/// for day in 0..3 {
///     pace.observe(9, Timestamp::from_seconds(day * 86_400));
/// }
/// // Three origins, to be visited every three days, claims once a day: one a day, the oldest.
/// assert_eq!(needed(&[(3.0, vec![0.0, 1.0, 2.0])], &pace, 9), [1]);
/// assert_eq!(needed(&[(3.0, vec![1.0, 2.0, 3.0])], &pace, 9), [0]);
/// ```
#[must_use]
pub fn needed(classes: &[(f64, Vec<f64>)], pace: &Pace, most: usize) -> Vec<usize> {
    let mut left = most;
    let mut rates = 0.0;
    let mut counts = Vec::with_capacity(classes.len());
    let mut needs = Vec::with_capacity(classes.len());
    for (cap, deadlines) in classes {
        let rate = to_f64(deadlines.len()) / cap.max(1e-3);
        // What later claims can bring by a time from now, at the class's own rate.
        let later = |by: f64| {
            let by = if pace.every > 0.0 { (by / pace.every + 1e-6).floor() * pace.every } else { by };
            by.max(0.0) * rate
        };
        let need = (1u32..).zip(deadlines).map(|(n, due)| f64::from(n) - later(*due));
        let need = need.fold(f64::NEG_INFINITY, f64::max);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and bounded"
        )]
        let whole = (need + 0.01).floor().max(0.0) as usize;
        // What the next claim would be too late for goes now, whatever the rate.
        let last_chance = deadlines.partition_point(|due| *due < pace.every);
        let count = whole.max(last_chance).min(deadlines.len()).min(left);
        left -= count;
        rates += rate;
        counts.push(count);
        needs.push(need);
    }
    if pace.per_day().is_none_or(|all| rates < NEARLY_ALL * all) {
        return counts;
    }
    // Whatever went to others now would be missed later.
    while left > 0 {
        let open = counts.iter_mut().zip(classes).zip(&needs).filter(|((n, (_, all)), _)| **n < all.len());
        let lacks = open.map(|((n, _), need)| (need - to_f64(*n), n));
        let Some((_, count)) = lacks.reduce(|best, next| if next.0 > best.0 { next } else { best }) else {
            break;
        };
        *count += 1;
        left -= 1;
    }
    counts
}

/// From this share of all visits on, classes get all of them.
const NEARLY_ALL: f64 = 0.8;

#[allow(clippy::cast_precision_loss, reason = "counts of origins")]
fn to_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily(size: f64) -> Pace {
        Pace { size, every: 1.0, ..Pace::default() }
    }

    #[test]
    fn a_class_takes_what_its_cap_asks_for_and_no_more() {
        let one = |deadlines: &[f64]| needed(&[(4.0, deadlines.to_vec())], &daily(9.0), 9)[0];
        assert_eq!(one(&[4.0, 4.0, 4.0, 4.0]), 0, "all at once, and time for one a day");
        assert_eq!(one(&[3.0, 3.0, 3.0, 3.0]), 1);
        assert_eq!(one(&[0.5, 0.9, 3.0, 4.0]), 2, "the next claim is too late");
        assert_eq!(one(&[-3.0, 2.0, 3.0, 4.0]), 1, "too late already");
        assert_eq!(one(&[]), 0);
        assert_eq!(
            needed(&[(9.0, vec![0.5])], &Pace::default(), 9),
            [0],
            "claims at any time: half a day is left"
        );
        assert_eq!(needed(&[(9.0, vec![0.0])], &Pace::default(), 9), [1]);
    }

    #[test]
    fn a_worse_class_gives_way_and_never_the_other_way_round() {
        let late = vec![0.0, 0.0];
        assert_eq!(needed(&[(9.0, late.clone()), (9.0, late.clone())], &daily(9.0), 9), [2, 2]);
        assert_eq!(needed(&[(9.0, late.clone()), (9.0, late.clone())], &daily(9.0), 3), [2, 1]);
        assert_eq!(needed(&[(9.0, late.clone()), (9.0, late)], &daily(9.0), 1), [1, 0]);
    }

    #[test]
    fn where_caps_take_nearly_all_the_rest_of_a_claim_is_theirs() {
        let classes = [(4.0, vec![4.0, 4.0, 4.0, 4.0]), (2.0, vec![2.0, 2.0, 2.0])];
        assert_eq!(needed(&classes, &daily(4.0), 3), [0, 0]);
        assert_eq!(needed(&classes, &daily(2.5), 3), [2, 1]);
    }

    #[test]
    fn a_steady_pace_is_learned_exactly_and_claims_of_one_moment_are_one() {
        let mut learned = Pace::default();
        let at = |hour: i64| Timestamp::from_seconds(hour * 3600);
        assert_eq!(learned.per_day(), None);
        for hour in 0..100 {
            learned.observe(2, at(hour * 6));
            learned.observe(1, at(hour * 6));
        }
        assert_eq!((learned.size, learned.every, learned.per_day()), (3.0, 0.25, Some(12.0)));
    }

    #[test]
    fn a_class_has_what_it_names() {
        let cap = Duration::from_secs(1);
        let listers = [ListerKey::new("gitea", "a.example"), ListerKey::new("cgit", "b.example")];
        let has = |class: &AgeClass| class.has("git", &listers);
        assert!(has(&AgeClass::new("all", cap)));
        assert!(has(&AgeClass::new("x", cap).of_type("git").of_lister("cgit")));
        assert!(!has(&AgeClass::new("x", cap).of_type("hg")));
        assert!(
            !has(&AgeClass::new("x", cap).of_lister("cgit").of_instance("a.example")),
            "one lister has both"
        );
    }
}
