//! What a visit now is worth, in days: fresh days bought, and days of age and of lag avoided.
//! Non-decreasing in time between two facts, so that the first time at which it is worth the price
//! can be found by bisection.

use super::Setting;

/// Known-stale origins are worth the fresh days bought within so many days.
const HORIZON: f64 = 730.0;
/// The gap law: the hazard falls with the time since the last known change.
const GAP_OFFSET: f64 = 0.3;
const GAP_SCALE: f64 = 25.0;
const GAP_FACTOR: (f64, f64) = (0.3, 5.0);

/// What the value depends on, in days (of any epoch).
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) a: f64,
    pub(super) b: f64,
    pub(super) first_seen: f64,
    pub(super) last_good: Option<f64>,
    pub(super) listed: Option<f64>,
    pub(super) last_update: Option<f64>,
    pub(super) last_change: Option<f64>,
    pub(super) first_signal: Option<f64>,
    pub(super) precision: f64,
    pub(super) recall: f64,
    /// Weight by chance of success over cost.
    pub(super) scale: f64,
}

/// The chance of no change within `s` days.
fn survival(a: f64, b: f64, s: f64) -> f64 {
    (-a * (s / b).ln_1p()).exp()
}

/// The integral of the survival from 0 to `s`.
pub(super) fn fresh_days(a: f64, b: f64, s: f64) -> f64 {
    let c = 1.0 - a;
    let log = (s / b).ln_1p();
    // At a = 1 the closed form is 0 / 0: its expansion there.
    if (c * log).abs() < 1e-6 { b * log * (1.0 + c * log / 2.0) } else { b * (c * log).exp_m1() / c }
}

/// The freshness that a visit buys, `t` days after the origin was last known fresh.
pub(super) fn freshness(a: f64, b: f64, t: f64) -> f64 {
    // Both terms are close to t where a change is unlikely; the series has the digits then.
    let x = t / b;
    if x * (a + 1.0) < 1e-3 {
        let first = a * t * x / 2.0;
        return first * (1.0 - 2.0 * (a + 1.0) * x / 3.0 + (a + 1.0) * (a + 2.0) * x * x / 4.0);
    }
    fresh_days(a, b, t) - t * survival(a, b, t)
}

/// The age that a visit ends, `t` days after the origin was last known fresh: the integral of
/// `s F(s)`, for F the chance of a change.
pub(super) fn age(a: f64, b: f64, t: f64) -> f64 {
    let x = t / b;
    if x * (a + 1.0) < 1e-2 {
        // The integral of a (s^2/b - (a+1) s^3 / (2 b^2) + (a+1)(a+2) s^4 / (6 b^3) - ..).
        let (a1, a2, a3) = (a + 1.0, a + 2.0, a + 3.0);
        let terms = 1.0 / 3.0 - a1 * x / 8.0 + a1 * a2 * x * x / 30.0 - a1 * a2 * a3 * x * x * x / 144.0;
        return a * t * t * x * terms;
    }
    t * t / 2.0 - b * (fresh_days(a - 1.0, b, t) - fresh_days(a, b, t))
}

/// By how much the hazard differs from the belief's rate: high in a burst, low long after the last
/// change. Constant between two facts.
pub(super) fn gap_factor(known: &Known, gamma: f64) -> f64 {
    let Some(change) = known.last_change else { return 1.0 };
    let looked = known.listed.into_iter().chain(known.last_good).fold(f64::NEG_INFINITY, f64::max);
    let gap = (looked - change).max(0.0);
    let factor = (-gamma * ((gap + GAP_OFFSET) / GAP_SCALE).ln()).exp();
    factor.clamp(GAP_FACTOR.0, GAP_FACTOR.1)
}

/// The value of a visit as a function of time, with all that does not change with time worked out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    known: Known,
    /// The belief's time with the gap factor in it.
    b_gap: f64,
    theta: f64,
    theta_lag: f64,
    bought: f64,
    stale: bool,
    clean: bool,
}

impl Value {
    pub(super) fn new(known: Known, setting: &Setting) -> Self {
        let b_gap = match known.last_good {
            None => known.b,
            Some(_) => known.b / gap_factor(&known, setting.gamma),
        };
        let after = |t: Option<f64>| known.last_good.is_some_and(|good| t.is_some_and(|t| t > good));
        let stale = after(known.last_update);
        Self {
            known,
            b_gap,
            theta: setting.theta,
            theta_lag: setting.theta_lag,
            bought: fresh_days(known.a, b_gap, HORIZON),
            stale,
            clean: !stale && after(known.listed),
        }
    }

    /// Whether a change was told that is not archived.
    pub(super) fn stale(&self) -> bool {
        self.stale
    }

    /// What a visit at `t` is worth.
    pub(super) fn at(&self, t: f64) -> f64 {
        let k = &self.known;
        let rate = k.a / k.b;
        let Some(good) = k.last_good else {
            let waited = (t - k.first_seen).max(0.0);
            let square = waited * waited / 2.0;
            return k.scale * (self.bought + square / self.theta + rate * square / self.theta_lag);
        };
        let waited = (t - good).max(0.0);
        let unknown = match (self.clean, k.listed) {
            (true, Some(listed)) => (t - listed).max(0.0) + (1.0 - k.recall) * (listed - good),
            _ => waited,
        };
        let q = if self.stale { k.precision } else { 0.0 };
        let fresh = (1.0 - q) * freshness(k.a, self.b_gap, unknown) + q * self.bought;
        let signalled = k.first_signal.map_or(0.0, |at| (at - good).max(0.0)).min(waited);
        let older = (waited * waited - signalled * signalled) / 2.0;
        let aged = (1.0 - q) * age(k.a, self.b_gap, unknown) + q * older;
        let since = waited - signalled;
        let changes = rate * ((1.0 - q) * unknown * unknown + q * since * since) / 2.0;
        k.scale * (fresh + aged / self.theta + changes / self.theta_lag)
    }

    /// The first time from `from` on at which the value reaches `price`, up to `longest` later. What
    /// is worth more already is ranked among its like by the logarithm of its value: `kappa` days
    /// earlier for each e-fold.
    pub(super) fn due(&self, from: f64, price: f64, longest: f64, kappa: f64) -> f64 {
        let value = self.at(from);
        if value >= price {
            return from - kappa * (value / price).ln();
        }
        let (mut low, mut high) = (from, from + longest);
        if self.at(high) < price {
            return high;
        }
        for _ in 0..22 {
            let middle = f64::midpoint(low, high);
            if self.at(middle) < price { low = middle } else { high = middle }
        }
        high
    }
}
