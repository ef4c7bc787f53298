//! Own worlds, from a seed.

use super::rng::Rng;
use super::world::{DAY, ListerKind, World, WorldOrigin};

/// Makes worlds from a seed: the same one from the same seed, everywhere.
///
/// A quarter of the origins lie dormant (a change in 3,000 days); the others have log-normal rates
/// (median one in 200 days, deviation 1.8 in the logarithm, at most ten a day). A share of them
/// changes in bursts: a tenth of the time at ten times the rate. Listers are of four kinds: 30 %
/// tell no dates, 40 % are read weekly and good, 20 % daily and better, 10 % monthly and bad.
///
/// ```
/// use lamplighter::sim::Generator;
/// let world = Generator::new(100, 7).generate();
/// assert_eq!(world, Generator::new(100, 7).generate());
/// assert_ne!(world, Generator::new(100, 8).generate());
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Generator {
    /// How many origins.
    pub origins: usize,
    /// The seed.
    pub seed: u64,
    /// Days simulated.
    pub days: f64,
    /// Days of changes before the start.
    pub history: f64,
    /// Days between two rounds.
    pub tick: f64,
    /// Days before measuring begins.
    pub measure_from: f64,
    /// The share of origins that changes in bursts.
    pub bursty: f64,
    /// The share of origins that appear during the simulation.
    pub new: f64,
    /// The share of origins that are not there when visited.
    pub dead: f64,
    /// The kinds of listers and the share of origins of each.
    pub kinds: Vec<(ListerKind, f64)>,
}

impl Generator {
    /// So many origins from a seed, for two years after four years of history, measured after half
    /// a year.
    #[must_use]
    pub fn new(origins: usize, seed: u64) -> Self {
        Self {
            origins,
            seed,
            days: 730.0,
            history: 1500.0,
            tick: 0.25,
            measure_from: 180.0,
            bursty: 0.0,
            new: 0.10,
            dead: 0.03,
            kinds: vec![
                (ListerKind::new(0.0, 0.0, 0.0, 0.0), 0.3),
                (ListerKind::new(7.0, 0.97, 0.05, 0.5), 0.4),
                (ListerKind::new(1.0, 0.99, 0.02, 0.1), 0.2),
                (ListerKind::new(30.0, 0.70, 0.50, 2.0), 0.1),
            ],
        }
    }

    /// Every origin changes in bursts, as real ones do.
    #[must_use]
    pub fn real_like(mut self) -> Self {
        self.bursty = 1.0;
        self
    }

    /// The world.
    #[must_use]
    pub fn generate(&self) -> World {
        let mut rng = Rng::new(self.seed);
        let kinds = self.kinds.iter().map(|(kind, _)| *kind).collect();
        let mut world = World::new(self.days, self.tick, self.measure_from, kinds);
        let mut rates = Vec::with_capacity(self.origins);
        let (mut times, mut seen, mut false_ones) = (Vec::new(), Vec::new(), Vec::new());
        let mut changes = 0.0;
        for _ in 0..self.origins {
            let rate = if rng.chance(0.25) {
                1.0 / 3000.0
            } else {
                (1.8 * rng.normal() - 200f64.ln()).exp().min(10.0)
            };
            times.clear();
            if rng.chance(self.bursty) {
                self.bursts(&mut rng, rate, &mut times);
            } else {
                rng.process(rate, -self.history, self.days, &mut times);
            }
            changes += to_f64(times.iter().filter(|t| **t >= 0.0).count());
            let origin = self.origin(&mut rng);
            seen.clear();
            if let Some((kind, _)) = self.kinds.get(usize::from(origin.kind)).filter(|(k, _)| k.period > 0.0)
            {
                seen.extend(times.iter().copied().filter(|_| rng.chance(kind.recall)));
                false_ones.clear();
                let whole = self.days + self.history;
                let rate = kind.false_share * to_f64(times.len()).max(0.2) / whole;
                rng.process(rate, -self.history, self.days, &mut false_ones);
                seen.extend(&false_ones);
                seen.sort_by(f64::total_cmp);
            }
            rates.push(rate);
            // The generator keeps what `add` asks for: kinds that exist, shares, order.
            let added = world.add(origin, &seconds(&times), &seconds(&seen));
            debug_assert!(added.is_ok(), "{added:?}");
        }
        world.volume_per_day = changes / self.days;
        // A bursty origin's mean rate is the same, but no Poisson process has it.
        world.rates = (self.bursty == 0.0).then_some(rates);
        world
    }

    fn origin(&self, rng: &mut Rng) -> WorldOrigin {
        let mut kind = 0;
        let mut left = rng.unit() * self.kinds.iter().map(|(_, share)| share).sum::<f64>();
        for (n, (_, share)) in (0u8..).zip(&self.kinds) {
            kind = n;
            left -= share;
            if left < 0.0 {
                break;
            }
        }
        let appears = rng.between(0.0, 0.95 * self.days);
        let first_seen = if rng.chance(self.new) { to_seconds(appears) } else { -86_400 };
        WorldOrigin { kind, phase: rng.unit(), first_seen, dead: rng.chance(self.dead), spread: rng.unit() }
    }

    /// A tenth of the time ten times the rate, nine tenths nothing.
    fn bursts(&self, rng: &mut Rng, rate: f64, times: &mut Vec<f64>) {
        let on = (2.0 / (10.0 * rate)).max(3.0);
        let mut t = -self.history;
        let mut lively = rng.chance(0.1);
        while t < self.days {
            let end = t + rng.exponential(if lively { on } else { 9.0 * on });
            if lively {
                rng.process(10.0 * rate, t, end.min(self.days), times);
            }
            t = end;
            lively = !lively;
        }
    }
}

fn to_seconds(days: f64) -> i32 {
    #[allow(clippy::cast_possible_truncation, reason = "some years; far ones saturate")]
    let seconds = (days * DAY).round() as i32;
    seconds
}

fn seconds(days: &[f64]) -> Vec<i32> {
    days.iter().map(|d| to_seconds(*d)).collect()
}

#[allow(clippy::cast_precision_loss, reason = "counts of changes")]
pub(crate) fn to_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_has_the_shares_and_rates_that_were_asked_for() {
        let world = Generator::new(20_000, 5).generate();
        let share = |f: &dyn Fn(&WorldOrigin) -> bool| {
            to_f64(world.origins().iter().filter(|o| f(o)).count()) / 20_000.0
        };
        for (kind, expected) in [(0, 0.3), (1, 0.4), (2, 0.2), (3, 0.1)] {
            assert!((share(&|o| o.kind == kind) - expected).abs() < 0.01);
        }
        assert!((share(&|o| o.dead) - 0.03).abs() < 0.005);
        assert!((share(&|o| o.first_seen >= 0) - 0.10).abs() < 0.01);
        // Mean of the rates: a quarter at 1/3000; of the log-normal ones, e^(1.8^2/2)/200 less the
        // cap's share (about 1 %).
        let expected = 20_000.0 * (0.25 / 3000.0 + 0.75 * (1.62f64).exp() / 200.0);
        assert!((world.volume_per_day / expected - 1.0).abs() < 0.1, "{}", world.volume_per_day);
    }

    #[test]
    fn listers_miss_changes_and_see_false_ones_at_their_rates() {
        let world = Generator::new(5_000, 6).generate();
        let (mut true_ones, mut seen, mut all) = (0, 0, 0);
        for i in 0..world.len() {
            match world.origins()[i].kind {
                0 => assert!(world.signals(i).is_empty()),
                3 => {
                    all += world.changes(i).len();
                    seen += world.signals(i).len();
                    let known = world.changes(i);
                    true_ones += world.signals(i).iter().filter(|t| known.binary_search(t).is_ok()).count();
                }
                _ => {}
            }
        }
        assert!((to_f64(true_ones) / to_f64(all) - 0.7).abs() < 0.02);
        assert!((to_f64(seen - true_ones) / to_f64(all) - 0.5).abs() < 0.03);
    }

    #[test]
    fn bursts_keep_the_volume_and_bunch_the_changes() {
        let short = |g: Generator| {
            let world = g.generate();
            let mut gaps = Vec::new();
            for i in 0..world.len() {
                gaps.extend(world.changes(i).windows(2).map(|w| w[1] - w[0]));
            }
            gaps.sort_unstable();
            (world.volume_per_day, gaps[gaps.len() / 2])
        };
        let (plain, plain_gap) = short(Generator::new(3_000, 9));
        let (bursty, bursty_gap) = short(Generator::new(3_000, 9).real_like());
        assert!((bursty / plain - 1.0).abs() < 0.25, "{bursty} {plain}");
        assert!(bursty_gap * 4 < plain_gap, "{bursty_gap} {plain_gap}");
    }
}
