//! What is known of an origin, and the pure folds that keep it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::belief::days;
use super::{AgeLimit, Evidence};
use crate::model::{Disabled, Gone, Outcome, Timestamp, VisitStats, VisitStatus};

/// What is known of one (url, visit type): listing facts over all its listers, visit history,
/// wishes. Stores fold it with [`observe_listing`] and [`observe_visit`]; policies read it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Facts {
    /// A hash of URL and visit type: the seed of all jitter.
    pub seed: u64,
    /// Whether at least one lister lists it, does not say gone, and wants it visited.
    pub enabled: bool,
    /// Set when all its listers say that it is gone.
    pub gone: Option<Gone>,
    /// Set when visits were stopped by failures.
    pub disabled_by_failures: Option<Disabled>,
    /// Set when a person stopped its visits.
    pub disabled_by_hand: Option<Disabled>,
    /// When the first lister first listed it.
    pub first_seen: Timestamp,
    /// When upstream last changed, as listed: the newest over its listers.
    pub last_update: Option<Timestamp>,
    /// Up to when its listers would have told of a change.
    pub last_listed: Option<Timestamp>,
    /// Its visits so far.
    pub visits: VisitStats,
    /// Set when a visit was asked for, until one that was claimed later has ended.
    pub requested_at: Option<Timestamp>,
    /// Who asked for it.
    pub requested_by: Option<String>,
    /// No visit before this, because of failures.
    pub hold_until: Option<Timestamp>,
    /// A change that somebody told of, and that no good visit has looked for yet.
    pub hinted_at: Option<Timestamp>,
    /// How often it changes, as far as is known.
    pub evidence: Evidence,
    /// How far its listers, or whoever hinted at a change, can be trusted.
    pub trust: Trust,
    /// The class of origins with a maximum age that it belongs to.
    pub class: Option<AgeLimit>,
    /// How much a fresh copy of it matters, against others.
    pub weight: f64,
    /// What a visit of it takes, against others.
    pub cost: f64,
    /// When one of its listers last read its listing to the end.
    pub last_finished: Option<Timestamp>,
    /// What its policy keeps for itself.
    pub memo: Memo,
}

/// How far news of changes can be trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Trust {
    /// Of the changes told, the share that visits found.
    pub precision: f64,
    /// Of the changes that visits found, the share that had been told.
    pub recall: f64,
}

/// Counts are begun with so many that were right, and one in twenty of them wrong.
const PSEUDO: f64 = 20.0;
const PRIOR_TRUST: f64 = 0.95;
/// Nobody is taken to tell of every change.
const MOST_RECALL: f64 = 0.98;

impl Default for Trust {
    fn default() -> Self {
        Self { precision: PRIOR_TRUST, recall: PRIOR_TRUST }
    }
}

/// What visits said of the news that came before them: a lister's, or anybody's who hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Signals {
    /// Visits after a change was told.
    pub told: u64,
    /// Of them, those that found one.
    pub borne_out: u64,
    /// Visits that found a change, where it could have been told.
    pub found: u64,
    /// Of them, those of a change that had been told.
    pub foretold: u64,
}

impl Signals {
    /// Counts one visit: whether a change had been told since the last good one, whether the lister
    /// looked long enough after that one, and what the visit found.
    pub fn count(&mut self, told: bool, looked: bool, changed: bool) {
        self.told += u64::from(told);
        self.borne_out += u64::from(told && changed);
        self.found += u64::from(changed && looked);
        self.foretold += u64::from(changed && looked && told);
    }

    /// What the counts say, with pseudo-counts by what was to be expected.
    #[must_use]
    pub fn trust(&self, expected: Trust) -> Trust {
        #[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let share = |of: u64, all: u64, prior: f64| (of as f64 + PSEUDO * prior) / (all as f64 + PSEUDO);
        Trust {
            precision: share(self.borne_out, self.told, expected.precision),
            recall: share(self.foretold, self.found, expected.recall).min(MOST_RECALL),
        }
    }
}

/// Whether a lister has looked so long after a good visit that it would have told of a change by now.
pub(crate) fn looked_since(listed: Option<Timestamp>, good: Timestamp) -> bool {
    listed.is_some_and(|listed| days(good, listed) > 1.0)
}

/// What one policy keeps of an origin for itself: written by [`super::Policy::observe`] alone, zero
/// at first and again when another policy takes over. What the numbers mean is the policy's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs, reason = "room for numbers, and nothing else")]
pub struct Memo {
    /// A time, a length of time or a position.
    pub at: i64,
    /// A step up or down.
    pub step: i32,
    /// A count.
    pub count: u32,
}

/// A place in another scheduler's queue of origins without dates: what an import knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Queued {
    /// Its place, in seconds of the queue's own time; none where it was never queued.
    pub at: Option<i64>,
    /// The number of its step: 4 at first, larger while nothing changes.
    pub step: i32,
    /// How many visits in a row ended as the last one did.
    pub equal: u32,
    /// How far the queue has come.
    pub reached: i64,
}

impl Facts {
    /// A new origin, listed and enabled.
    #[must_use]
    pub fn new(seed: u64, first_seen: Timestamp) -> Self {
        Self {
            seed,
            enabled: true,
            gone: None,
            disabled_by_failures: None,
            disabled_by_hand: None,
            first_seen,
            last_update: None,
            last_listed: None,
            visits: VisitStats::default(),
            requested_at: None,
            requested_by: None,
            hold_until: None,
            hinted_at: None,
            evidence: Evidence::default(),
            trust: Trust::default(),
            class: None,
            weight: 1.0,
            cost: 1.0,
            last_finished: None,
            memo: Memo::default(),
        }
    }

    /// Less than a second by hash, in microseconds, to add to a rank: no two origins wait at one, and
    /// which of them goes first does not depend on which became known first.
    #[must_use]
    pub fn apart(&self) -> i64 {
        i64::try_from(self.seed % 1_000_000).unwrap_or(0)
    }

    /// When it was last known to be archived as it is upstream: the last good visit, or one that
    /// archived a part if that was the last of all.
    #[must_use]
    pub fn last_good(&self) -> Option<Timestamp> {
        let part = self.visits.last_visit.filter(|_| self.visits.last_status == Some(VisitStatus::Partial));
        self.visits.last_successful.max(part)
    }

    /// The newest change that was told, as far as its date is credible.
    #[must_use]
    pub fn told(&self) -> Option<Timestamp> {
        Evidence::credible(self.last_update, self.evidence.listed).max(self.hinted_at)
    }

    /// The newest change that listers or others told of, as they date it.
    #[must_use]
    pub fn newest_change(&self) -> Option<Timestamp> {
        self.last_update.max(self.hinted_at)
    }

    /// When it must have been visited, where its class has a maximum age.
    #[must_use]
    pub fn must_by(&self) -> Option<Timestamp> {
        let since = self.visits.last_visit.unwrap_or(self.first_seen);
        self.class.map(|class| since.plus(class.cap))
    }

    /// Whether a change was told that no good visit has looked for yet.
    #[must_use]
    pub fn known_stale(&self) -> bool {
        self.last_good().is_some_and(|good| self.told().is_some_and(|u| u > good))
    }
}

/// What one listing said of an origin.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Listing {
    /// When the lister looked.
    pub at: Timestamp,
    /// When upstream last changed, where the listing says so.
    pub last_update: Option<Timestamp>,
    /// Whether the lister wants it visited.
    pub enabled: bool,
    /// Set when upstream says that it is gone.
    pub gone: Option<Gone>,
    /// Whether the lister tells when upstream changed, so that its silence says something too.
    pub dated: bool,
}

impl Listing {
    /// A listing that saw it live at `at`.
    #[must_use]
    pub fn new(at: Timestamp, last_update: Option<Timestamp>) -> Self {
        Self { at, last_update, enabled: true, gone: None, dated: true }
    }

    /// Says whether the lister wants it visited.
    #[must_use]
    pub fn with_enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Says whether the lister tells when upstream changed.
    #[must_use]
    pub fn with_dates(mut self, dated: bool) -> Self {
        self.dated = dated;
        self
    }

    /// Says that it is gone.
    #[must_use]
    pub fn with_gone(mut self, gone: Option<Gone>) -> Self {
        self.gone = gone;
        self
    }
}

/// Folds a listing in. What failures or a person disabled stays disabled: a listing writes only
/// what listers say (defect D6). An origin that was not found and is listed again may be visited
/// at once.
pub fn observe_listing(facts: &mut Facts, listing: &Listing) {
    facts.last_update = facts.last_update.max(listing.last_update);
    facts.last_listed = facts.last_listed.max(Some(listing.at));
    facts.enabled = listing.enabled && listing.gone.is_none();
    facts.gone = listing.gone;
    if listing.dated {
        let good = facts.last_good();
        facts.evidence.listing(listing.at, listing.last_update, good);
    }
    let reappeared = facts.visits.last_status == Some(VisitStatus::NotFound)
        && facts.visits.last_visit < Some(listing.at)
        && listing.gone.is_none();
    if reappeared {
        facts.hold_until = None;
    }
}

/// Folds in that somebody told of a change at `changed_at`. It makes the origin known stale until the
/// next good visit; what is believed of its rate waits for that visit to bear it out, so that a
/// false hint costs one visit at most. False where it is no news.
pub fn observe_hint(facts: &mut Facts, changed_at: Timestamp, now: Timestamp) -> bool {
    let changed_at = changed_at.min(now);
    let good = facts.last_good();
    let known = facts.told().max(good).max(facts.evidence.last_change);
    if known.is_some_and(|known| known >= changed_at) {
        return false;
    }
    facts.hinted_at = Some(changed_at);
    facts.evidence.signal(changed_at, good);
    true
}

/// Folds a visit in. One that ended before the last known one is only counted: its status is news
/// no more. A request made after the visit was claimed survives it. `changed` is whether the visit
/// found a change, where that is known; a first visit's says nothing.
pub fn observe_visit(facts: &mut Facts, outcome: &Outcome, claimed_at: Timestamp, changed: Option<bool>) {
    let good = facts.last_good();
    let visits = &mut facts.visits;
    visits.visits = visits.visits.saturating_add(1);
    if outcome.status == VisitStatus::Successful {
        visits.last_successful = visits.last_successful.max(Some(outcome.at));
    }
    if facts.requested_at.is_some_and(|asked| asked <= claimed_at) {
        facts.requested_at = None;
        facts.requested_by = None;
    }
    if visits.last_visit.is_some_and(|last| last > outcome.at) {
        return;
    }
    visits.last_visit = Some(outcome.at);
    visits.last_status = Some(outcome.status);
    if outcome.snapshot.is_some() {
        visits.last_snapshot.clone_from(&outcome.snapshot);
    }
    if outcome.status.archived_something() {
        visits.failures_in_a_row = 0;
        facts.hold_until = None;
    } else {
        visits.failures_in_a_row = visits.failures_in_a_row.saturating_add(1);
        let hold = hold_after(outcome.status, visits.failures_in_a_row, facts.seed);
        facts.hold_until = Some(outcome.at.plus(hold));
    }
    if outcome.status.archived_something() && good < Some(outcome.at) {
        let told = Evidence::credible(facts.last_update, facts.evidence.listed);
        facts.evidence.visit(outcome.at, good, changed, told, facts.hinted_at);
        facts.hinted_at = facts.hinted_at.filter(|hint| *hint > outcome.at);
    }
}

/// For how long to leave an origin alone after so many failures in a row: a day, doubled each time
/// up to 30, after a failure; a week, times four up to 180 days, where there is no such origin.
/// Within ten percent either way, by a hash of `seed` and the count (`policy.md`, section 5).
#[must_use]
pub fn hold_after(status: VisitStatus, failures: u32, seed: u64) -> Duration {
    const DAY: f64 = 86_400.0;
    let again = f64::from(failures.saturating_sub(1).min(16));
    let days = match status {
        VisitStatus::NotFound => (7.0 * 4f64.powf(again)).min(180.0),
        VisitStatus::Failed => 2f64.powf(again).min(30.0),
        VisitStatus::Successful | VisitStatus::Partial => return Duration::ZERO,
    };
    Duration::from_secs_f64((days * DAY * (0.9 + 0.2 * unit(seed, failures.into()))).round())
}

/// A number in [0, 1) by a hash of a seed and a count: jitter that comes out the same every time.
pub(crate) fn unit(seed: u64, count: u64) -> f64 {
    let spread = mix64(seed ^ count.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    // 53 bits: an exact f64.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    let unit = (spread >> 11) as f64 / (1u64 << 53) as f64;
    unit
}

/// `SplitMix64`'s finaliser: spreads a seed over all 64 bits.
fn mix64(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{GoneReason, VisitId, VisitToken};

    fn at(day: i64) -> Timestamp {
        Timestamp::from_seconds(day * 86_400)
    }

    fn outcome(status: VisitStatus, day: i64) -> Outcome {
        Outcome::new(VisitId(1), VisitToken(1), status, at(day))
    }

    #[test]
    fn a_late_outcome_is_counted_and_changes_nothing_else() {
        let mut facts = Facts::new(1, at(0));
        observe_visit(&mut facts, &outcome(VisitStatus::Successful, 9), at(8), None);
        let before = facts.clone();
        observe_visit(&mut facts, &outcome(VisitStatus::Failed, 5), at(4), None);
        assert_eq!(facts.visits.visits, 2);
        facts.visits.visits = 1;
        assert_eq!(facts, before);
    }

    #[test]
    fn a_request_during_a_visit_survives_it() {
        let mut facts = Facts::new(1, at(0));
        facts.requested_at = Some(at(5));
        observe_visit(&mut facts, &outcome(VisitStatus::Successful, 6), at(4), None);
        assert_eq!(facts.requested_at, Some(at(5)), "asked after the claim");
        observe_visit(&mut facts, &outcome(VisitStatus::Successful, 8), at(7), None);
        assert_eq!(facts.requested_at, None);
    }

    #[test]
    fn a_listing_does_not_enable_what_failures_or_people_disabled() {
        let mut facts = Facts::new(1, at(0));
        facts.disabled_by_failures = Some(Disabled::new(at(1), "three failures"));
        facts.disabled_by_hand = Some(Disabled::new(at(1), "asked to"));
        let before = facts.clone();
        observe_listing(&mut facts, &Listing::new(at(2), None));
        assert_eq!(facts.disabled_by_failures, before.disabled_by_failures);
        assert_eq!(facts.disabled_by_hand, before.disabled_by_hand);
    }

    #[test]
    fn what_is_listed_again_after_not_found_waits_no_longer() {
        let mut facts = Facts::new(1, at(0));
        observe_visit(&mut facts, &outcome(VisitStatus::NotFound, 3), at(3), None);
        assert!(facts.hold_until > Some(at(9)));
        observe_listing(&mut facts, &Listing::new(at(2), None));
        assert!(facts.hold_until.is_some(), "an older listing is no news");
        observe_listing(
            &mut facts,
            &Listing::new(at(4), None).with_gone(Some(Gone::new(at(4), GoneReason::Deleted))),
        );
        assert!(facts.hold_until.is_some() && !facts.enabled);
        observe_listing(&mut facts, &Listing::new(at(5), None));
        assert!(facts.hold_until.is_none() && facts.enabled && facts.gone.is_none());
    }

    #[test]
    fn holds_grow_to_their_cap_and_never_past_it() {
        let day = 86_400.0;
        for n in 1..40 {
            for seed in [0, 1, u64::MAX, 42] {
                let failed = hold_after(VisitStatus::Failed, n, seed).as_secs_f64() / day;
                let expected = 2f64.powi(i32::try_from(n).unwrap() - 1).min(30.0);
                assert!((0.9 * expected..=1.1 * expected).contains(&failed), "{n} {failed}");
                let absent = hold_after(VisitStatus::NotFound, n, seed).as_secs_f64() / day;
                assert!((0.9 * 7.0..=1.1 * 180.0).contains(&absent));
            }
        }
        assert_ne!(hold_after(VisitStatus::Failed, 1, 1), hold_after(VisitStatus::Failed, 1, 2));
    }
}
