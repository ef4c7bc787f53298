//! The price of a visit: one number for a visit type, found on a sample and then kept right by the
//! visits that are taken.

use serde::{Deserialize, Serialize};

use super::super::belief::{Belief, days};
use super::Shared;
use super::value::freshness;
use crate::model::Timestamp;

/// How far the price may move within a quarter of a day's visits.
const ETA: f64 = 0.05;
const SPAN: f64 = 0.25;
/// The two votes: in balance where one visit in five is worth less than the price.
const UP: f64 = 0.25;
const DOWN: f64 = -1.0;
const BOUNDS: (f64, f64) = (1e-6, 1e9);
/// The pace of claims is averaged over so many days.
const MEMORY: f64 = 14.0;
/// Before that: every origin once in so many days,
const FIRST_PACE: f64 = 30.0;
/// until claims of so many days were seen.
const ENOUGH: f64 = 0.5;
/// The longest and the shortest interval that the first price reckons with.
const LONGEST: f64 = 3650.0;
const SHORTEST: f64 = 0.5;

/// What is kept for a visit type.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Price {
    /// None before the first claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<f64>,
    /// How many origins there were when the price was found on a sample, and the budget then.
    found_for: u64,
    found_at: f64,
    /// Visits claimed, and the days in which they were: older ones count less.
    claimed: f64,
    days: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    claimed_at: Option<i64>,
}

impl Price {
    pub(super) fn of(shared: &Shared) -> Self {
        Self::deserialize(&shared.kept).unwrap_or_default()
    }

    pub(super) fn keep(&self, shared: &mut Shared) {
        // Numbers always can be written.
        shared.kept = serde_json::to_value(self).unwrap_or_default();
    }

    /// Visits a day as claimed, or a first guess.
    pub(super) fn rate(&self, origins: f64) -> f64 {
        if self.days < ENOUGH { origins / FIRST_PACE } else { self.claimed / self.days }
    }

    /// Notes a claim of so many.
    #[allow(clippy::cast_precision_loss, reason = "a claim has far fewer than 2^52 visits")]
    pub(super) fn observe(&mut self, taken: usize, now: Timestamp) {
        // The first one says nothing: it is not known of how long a time it is the share.
        if let Some(at) = self.claimed_at {
            let kept = (-days(Timestamp::from_micros(at), now).max(0.0) / MEMORY).exp();
            self.claimed = self.claimed * kept + taken as f64;
            self.days = self.days * kept + MEMORY * (1.0 - kept);
        }
        self.claimed_at = Some(now.as_micros());
    }

    /// Each visit taken votes on the price, so that claims of one and of a thousand move it alike.
    #[allow(clippy::cast_precision_loss, reason = "a claim has far fewer than 2^52 visits")]
    pub(super) fn vote(&mut self, values: impl ExactSizeIterator<Item = f64>, budget: f64) {
        let (Some(price), n) = (self.level, values.len() as f64) else { return };
        if n == 0.0 {
            return;
        }
        let votes: f64 = values.map(|v| if v >= price { UP } else { DOWN }).sum();
        let step = ETA * (n / (budget * SPAN)).min(1.0) * votes / n;
        self.level = Some((price * step.exp()).clamp(BOUNDS.0, BOUNDS.1));
    }

    /// Whether the price was found for so different a store, or budget, that it is no start.
    pub(super) fn outgrown(&self, origins: u64, budget: f64) -> bool {
        let (n, then) = (origins.max(1), self.found_for.max(1));
        self.level.is_none()
            || n >= then.saturating_mul(2)
            || then >= n.saturating_mul(2)
            || budget > 2.0 * self.found_at
            || self.found_at > 2.0 * budget
    }

    pub(super) fn settled_for(&mut self, origins: u64, budget: f64) {
        self.found_for = origins;
        self.found_at = budget;
    }

    /// The price at which a sample of `origins` would ask for the budget, if nothing told of changes.
    #[allow(clippy::cast_precision_loss, reason = "a sample has far fewer than 2^52 origins")]
    pub(super) fn start(&mut self, sample: impl Iterator<Item = Belief>, origins: f64, budget: f64) {
        let sample: Vec<(f64, f64)> = sample.map(|b| (f64::from(b.a), f64::from(b.b))).collect();
        if sample.is_empty() {
            return;
        }
        let (mut low, mut high) = (1e-3f64, 3000f64);
        for _ in 0..40 {
            let middle = (low * high).sqrt();
            let visits: f64 = sample.iter().map(|(a, b)| 1.0 / interval(*a, *b, middle)).sum();
            if visits / sample.len() as f64 * origins > budget { low = middle } else { high = middle }
        }
        self.level = Some(high);
    }
}

/// The time after which a visit is worth the price, where nothing tells of changes.
fn interval(a: f64, b: f64, price: f64) -> f64 {
    if freshness(a, b, LONGEST) < price {
        return LONGEST;
    }
    let (mut low, mut high) = (0.0, LONGEST);
    for _ in 0..24 {
        let middle = f64::midpoint(low, high);
        if freshness(a, b, middle) < price { low = middle } else { high = middle }
    }
    high.max(SHORTEST)
}

/// What an origin of which nothing is known is worth at its turn.
pub(super) fn first_guess(per_visit: f64) -> f64 {
    let belief = Belief::default();
    freshness(f64::from(belief.a), f64::from(belief.b), per_visit).max(BOUNDS.0)
}
