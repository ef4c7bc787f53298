//! Maximum age: no origin of a class waits longer than its cap, as far as the visits suffice.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Lane;
use super::belief::days;
use crate::model::{ListerKey, Timestamp};

/// A named selection of origins, and the longest time that they may be without a visit. What is not
/// named selects all: a class of nothing but a name has every origin.
///
/// Classes are given in order. An origin belongs to the first that has it, and where visits do not
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

/// So many classes have a lane of their own; the rest share the last one.
const LANES: u8 = 50;

impl AgeLimit {
    /// The lane in which its origins wait for their latest moment.
    #[must_use]
    pub fn lane(self) -> Lane {
        Lane(Lane::FIRST_AGED.0 + self.class.min(LANES - 1))
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

/// How many visits each class needs from this claim: as few as leave every later deadline within
/// reach. `classes` are (cap, days until each deadline in ascending order), the first class first;
/// `pace` says what later claims will bring. A class is reckoned with all that better ones will
/// take, and with nothing that worse ones would: so the last one misses first.
#[must_use]
pub fn needed(classes: &[(f64, Vec<f64>)], pace: &Pace, most: usize) -> Vec<usize> {
    // Visits that later claims can have made by a time from now.
    let later = |by: f64| {
        if pace.every > 0.0 { (by / pace.every + 1e-6).floor().max(0.0) * pace.size } else { 0.0 }
    };
    let mut left = most;
    let mut before = 0.0f64;
    let mut counts = Vec::with_capacity(classes.len());
    for (i, (_, own)) in classes.iter().enumerate() {
        let horizon = own.last().copied().unwrap_or(0.0);
        let mut all: Vec<f64> = own.clone();
        for (cap, better) in classes.iter().take(i) {
            for first in better {
                let mut due = first.max(0.0);
                while due <= horizon {
                    all.push(due);
                    due += cap.max(pace.every).max(1e-3);
                }
            }
        }
        all.sort_by(f64::total_cmp);
        let mut need = before;
        for (n, due) in (1u32..).zip(&all) {
            need = need.max(f64::from(n) - later(*due));
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most `most`, not negative")]
        let count = (need - before).ceil().max(0.0).min(own.len() as f64).min(left as f64) as usize;
        before = need;
        left -= count;
        counts.push(count);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(size: f64, every: f64) -> Pace {
        Pace { size, every, ..Pace::default() }
    }

    #[test]
    fn nothing_is_needed_while_later_claims_suffice() {
        let daily = pace(2.0, 1.0);
        assert_eq!(needed(&[(10.0, vec![1.0, 1.0, 2.0, 2.0])], &daily, 9), [0]);
        assert_eq!(needed(&[(10.0, vec![1.0, 1.0, 1.0, 2.0])], &daily, 9), [1]);
        assert_eq!(needed(&[(10.0, vec![0.5, 0.9])], &daily, 9), [2], "the next claim is too late");
        assert_eq!(needed(&[(10.0, vec![-3.0, 5.0])], &daily, 9), [1], "too late already");
        assert_eq!(needed(&[(10.0, vec![5.0])], &Pace::default(), 9), [1], "nobody knows of later claims");
    }

    #[test]
    fn a_worse_class_gives_way_and_never_the_other_way_round() {
        let daily = pace(1.0, 1.0);
        let first = vec![1.0, 2.0, 3.0];
        // The later claims are the first class's, so the second one needs this one.
        assert_eq!(needed(&[(9.0, first.clone()), (9.0, vec![3.0])], &daily, 1), [0, 1]);
        assert_eq!(needed(&[(9.0, vec![0.0, 0.0]), (9.0, vec![0.0])], &daily, 2), [2, 0]);
        // Those of a short cap come back within the time of a long one.
        assert_eq!(needed(&[(1.0, vec![1.0]), (9.0, vec![3.0])], &daily, 1), [0, 1]);
        assert_eq!(needed(&[(3.0, vec![1.0]), (9.0, vec![3.0])], &daily, 1), [0, 0]);
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
        assert!(!has(&AgeClass::new("x", cap).of_lister("cgit").of_instance("a.example")), "one lister has both");
    }
}
