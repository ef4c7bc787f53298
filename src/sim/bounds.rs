//! What no policy can beat.

use super::generate::to_f64;
use super::world::{DAY, World};

/// Bounds beside a simulation's figures.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Bounds {
    /// The best freshness with known rates and without signals, were all changes Poisson: the
    /// optimum of the continuous relaxation. A policy that hears signals can pass it.
    pub oracle: f64,
    /// The best freshness in hindsight: each visit right at a change, the longest gaps first.
    /// Nothing passes it, and nobody can reach it.
    pub clairvoyant: f64,
}

impl Bounds {
    /// The bounds of a world at so many visits a day, after the visits that were made before it.
    #[must_use]
    pub fn of(world: &World, visits_per_day: f64) -> Self {
        let rates = rates(world);
        let oracle = oracle(&rates, visits_per_day).unwrap_or(0.0);
        Self { oracle, clairvoyant: clairvoyant(world, visits_per_day) }
    }
}

/// The rates of live origins: true ones, or counted over all that is known.
fn rates(world: &World) -> Vec<f64> {
    let from = (0..world.len()).filter_map(|i| world.changes(i).first().copied()).min().unwrap_or(0);
    let whole = world.days + f64::from(-from.min(0)) / DAY;
    let live = world.origins.iter().enumerate().filter(|(_, o)| !o.dead);
    live.map(|(i, _)| match world.rates.as_ref().and_then(|r| r.get(i)) {
        Some(rate) => *rate,
        None => to_f64(world.changes(i).len()).max(0.3) / whole,
    })
    .collect()
}

/// The intervals (as `rate * interval`) that are worth a price, by bisection: the value of a visit
/// after `x / rate` days is `(1 - e^-x - x e^-x) / rate`.
fn interval(price_times_rate: f64) -> f64 {
    if price_times_rate >= 1.0 {
        return f64::INFINITY;
    }
    let (mut low, mut high) = (0.0, 700.0);
    for _ in 0..60 {
        let x = f64::midpoint(low, high);
        if -(-x).exp_m1() - x * (-x).exp() < price_times_rate {
            low = x;
        } else {
            high = x;
        }
    }
    high
}

/// The freshness of the optimum at so many visits a day, by the price that spends exactly these.
/// None without origins.
pub(crate) fn oracle(rates: &[f64], visits_per_day: f64) -> Option<f64> {
    if rates.is_empty() || visits_per_day <= 0.0 {
        return None;
    }
    let visits = |price: f64| rates.iter().map(|l| l / interval(price * l)).sum::<f64>();
    let (mut low, mut high): (f64, f64) = (1e-6, 1e5);
    for _ in 0..60 {
        let price = (low * high).sqrt();
        if visits(price) > visits_per_day { low = price } else { high = price }
    }
    let fresh = rates.iter().map(|l| {
        let x = interval(high * l).min(1e9 * l);
        if x <= 0.0 {
            1.0
        } else if x.is_finite() {
            -(-x).exp_m1() / x
        } else {
            0.0
        }
    });
    Some(fresh.sum::<f64>() / to_f64(rates.len()))
}

/// The share of time that the longest gaps between changes can buy. What was archived before the
/// start is fresh for nothing up to its first change.
fn clairvoyant(world: &World, visits_per_day: f64) -> f64 {
    let (from, end) = (world.measure_from * DAY, world.end());
    let round = super::run::round(world.len(), visits_per_day);
    let (mut free, mut whole, mut gaps) = (0.0, 0.0, Vec::new());
    for (i, origin) in world.origins.iter().enumerate() {
        let first_seen = f64::from(origin.first_seen).max(0.0);
        if origin.dead || f64::from(origin.first_seen) >= end {
            continue;
        }
        let start = first_seen.max(from);
        whole += end - start;
        let changes = world.changes(i).iter().map(|t| f64::from(*t)).filter(|t| *t < end);
        let mut points: Vec<f64> = if origin.first_seen < 0 {
            let visited = super::run::visited_before(origin, round);
            changes.filter(|t| *t > visited).collect()
        } else {
            std::iter::once(first_seen).chain(changes.filter(|t| *t > first_seen)).collect()
        };
        if origin.first_seen < 0 {
            free += (points.first().copied().unwrap_or(end) - start).max(0.0);
        }
        points.push(end);
        for (this, next) in points.iter().zip(points.iter().skip(1)) {
            let gap = next - this.max(start).max(0.0);
            if gap > 0.0 {
                gaps.push(gap);
            }
        }
    }
    gaps.sort_by(|a, b| b.total_cmp(a));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of visits")]
    let visits = (visits_per_day * world.days).max(0.0) as usize;
    if whole <= 0.0 { 0.0 } else { (free + gaps.iter().take(visits).sum::<f64>()) / whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{ListerKind, WorldOrigin};

    #[test]
    fn the_optimum_of_equal_rates_is_to_visit_all_alike() {
        // One visit an origin in 1/rate days: (1 - e^-1) of the time fresh.
        let fresh = oracle(&[0.1; 50], 5.0).unwrap();
        assert!((fresh - (1.0 - (-1f64).exp())).abs() < 1e-6, "{fresh}");
    }

    #[test]
    fn a_hopeless_origin_is_given_up_for_a_quiet_one() {
        let both = oracle(&[1000.0, 0.01], 0.01).unwrap();
        let quiet = oracle(&[0.01], 0.01).unwrap();
        assert!((both - quiet / 2.0).abs() < 1e-3, "{both} {quiet}");
    }

    #[test]
    fn hindsight_takes_the_longest_gaps() {
        let mut world = World::new(10.0, 0.25, 0.0, vec![ListerKind::new(0.0, 0.0, 0.0, 0.0)]);
        let day = 86_400;
        let origin = WorldOrigin { kind: 0, phase: 0.0, first_seen: -day, dead: false, spread: 0.0 };
        // Fresh until day 1, then gaps of 1, 5 and 3 days.
        world.add(origin, &[day, 2 * day, 7 * day], &[]).unwrap();
        for (per_day, expected) in [(0.0, 0.1), (0.1, 0.6), (0.2, 0.9), (0.3, 1.0)] {
            assert!((clairvoyant(&world, per_day) - expected).abs() < 1e-9, "{per_day}");
        }
    }
}
