//! Freshness, age and lag, integrated exactly: at each visit, over the spell that it ends.

use super::generate::to_f64;
use super::world::{DAY, World};

/// What is measured of each origin, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    stale: f64,
    worst: f64,
    first_success: Option<f64>,
}

/// Measures a run.
#[derive(Debug)]
pub(crate) struct Measure<'w> {
    world: &'w World,
    from: f64,
    tallies: Vec<Tally>,
    /// Of all origins: the integral of the age, and the lags.
    age: f64,
    lag: f64,
    changes: u64,
    series: Vec<Bucket>,
    length: f64,
}

/// A piece of time.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    stale: f64,
    age: f64,
}

/// A moment of a run's history.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Point {
    /// The middle of the time it stands for, in days.
    pub day: f64,
    /// The share of origins whose copy was current.
    pub fresh: f64,
    /// The mean age of the oldest change not archived, in days.
    pub age: f64,
}

/// The figures of a run; shares and days.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Figures {
    pub(crate) fresh: f64,
    pub(crate) age: f64,
    pub(crate) lag: f64,
    pub(crate) ttfv: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// So many pieces of time make the history of a run.
const BUCKETS: u16 = 200;

impl<'w> Measure<'w> {
    pub(crate) fn new(world: &'w World, from: f64) -> Self {
        Self {
            world,
            from,
            tallies: vec![Tally::default(); world.len()],
            age: 0.0,
            lag: 0.0,
            changes: 0,
            series: vec![Bucket::default(); BUCKETS.into()],
            length: world.end() / f64::from(BUCKETS),
        }
    }

    /// The first change after `since` up to `t`, as an index.
    fn first_change(&self, origin: usize, since: f64, t: f64) -> Option<usize> {
        let changes = self.world.changes(origin);
        let at = changes.partition_point(|c| f64::from(*c) <= since);
        changes.get(at).filter(|c| f64::from(**c) <= t).map(|_| at)
    }

    /// A visit that archived an origin at `t`, after the one at `before`. Tells whether it found
    /// anything new.
    pub(crate) fn archived(&mut self, origin: usize, before: Option<f64>, t: f64) -> bool {
        match before {
            None => {
                if let Some(tally) = self.tallies.get_mut(origin) {
                    tally.first_success = Some(t);
                }
                let since = self.appeared(origin);
                self.spell(origin, since, 0, t);
                true
            }
            Some(before) => match self.first_change(origin, before, t) {
                None => false,
                Some(at) => {
                    let since = self.world.changes(origin).get(at).map_or(t, |c| f64::from(*c));
                    self.spell(origin, since, at, t);
                    true
                }
            },
        }
    }

    fn appeared(&self, origin: usize) -> f64 {
        self.world.origins.get(origin).map_or(0.0, |o| f64::from(o.first_seen).max(0.0))
    }

    /// A time from `since` to `t` during which the copy was stale, with the changes from `at` on.
    fn spell(&mut self, origin: usize, since: f64, at: usize, t: f64) {
        if t > self.from {
            let shown = since.max(self.from);
            if let Some(tally) = self.tallies.get_mut(origin) {
                tally.worst = tally.worst.max(t - since);
                tally.stale += (t - shown).max(0.0);
            }
            if t > shown {
                self.age += integral(since, shown, t);
            }
        }
        for change in self.world.changes(origin).get(at..).unwrap_or_default() {
            let change = f64::from(*change);
            if change > t {
                break;
            }
            if change >= self.from {
                self.lag += t - change;
                self.changes += 1;
            }
        }
        self.draw(origin, since, t);
    }

    fn draw(&mut self, origin: usize, since: f64, t: f64) {
        if self.world.origins.get(origin).is_none_or(|o| o.dead) {
            return;
        }
        let length = self.length;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "one of 200 pieces")]
        let first = (since.max(0.0) / length) as usize;
        let mut start = to_f64(first) * length;
        for bucket in self.series.iter_mut().skip(first) {
            if start >= t {
                break;
            }
            let (a, b) = (since.max(start).max(0.0), t.min(start + length));
            bucket.stale += (b - a).max(0.0);
            bucket.age += integral(since, a, b.max(a));
            start += length;
        }
    }

    /// Ends the run: what is stale now stays so to the end.
    pub(crate) fn finish(
        mut self,
        last_success: &[Option<f64>],
        cold: bool,
    ) -> (Figures, Vec<Point>, Vec<f64>) {
        let end = self.world.end();
        let live: Vec<usize> = (0..self.world.len())
            .filter(|i| {
                let origin = self.world.origins.get(*i);
                origin.is_some_and(|o| !o.dead && f64::from(o.first_seen) < end)
            })
            .collect();
        for &i in &live {
            match last_success.get(i).copied().flatten() {
                None => self.spell(i, self.appeared(i), 0, end),
                Some(before) => {
                    if let Some(at) = self.first_change(i, before, end) {
                        let since = self.world.changes(i).get(at).map_or(end, |c| f64::from(*c));
                        self.spell(i, since, at, end);
                    }
                }
            }
        }
        let (mut whole, mut stale, mut worst, mut firsts) = (0.0, 0.0, Vec::new(), Vec::new());
        for &i in &live {
            let (appeared, tally) = (self.appeared(i), self.tallies.get(i).copied().unwrap_or_default());
            whole += (end - appeared.max(self.from)).max(0.0);
            stale += tally.stale;
            worst.push(tally.worst / DAY);
            let new = self.world.origins.get(i).is_some_and(|o| o.first_seen >= 0);
            if new || cold {
                firsts.push((tally.first_success.unwrap_or(end).min(end) - appeared) / DAY);
            }
        }
        worst.sort_by(f64::total_cmp);
        let mean = |sum: f64, n: f64| if n > 0.0 { sum / n } else { 0.0 };
        let figures = Figures {
            fresh: 1.0 - mean(stale, whole),
            age: mean(self.age / DAY, whole),
            #[allow(clippy::cast_precision_loss, reason = "a count of changes")]
            lag: mean(self.lag / DAY, self.changes as f64),
            ttfv: mean(firsts.iter().sum(), to_f64(firsts.len())),
            p99: quantile(&worst, 0.99),
            max: worst.last().copied().unwrap_or(0.0),
        };
        let series = self.points(&live);
        (figures, series, worst)
    }

    fn points(&self, live: &[usize]) -> Vec<Point> {
        let mut points = Vec::with_capacity(self.series.len());
        let mut start = 0.0;
        for bucket in &self.series {
            let end = start + self.length;
            let present: f64 = live.iter().map(|&i| (end - self.appeared(i).max(start)).max(0.0)).sum();
            if present > 0.0 {
                points.push(Point {
                    day: f64::midpoint(start, end) / DAY,
                    fresh: 1.0 - bucket.stale / present,
                    age: bucket.age / DAY / present,
                });
            }
            start = end;
        }
        points
    }
}

/// The integral from `a` to `b` of the time since `since`.
fn integral(since: f64, a: f64, b: f64) -> f64 {
    ((b - since).powi(2) - (a - since).powi(2)) / 2.0
}

/// A quantile of sorted numbers, between the two nearest.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * to_f64(sorted.len().saturating_sub(1));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let low = at.floor() as usize;
    let of = |i: usize| sorted.get(i).copied();
    match (of(low), of(low + 1)) {
        (Some(a), Some(b)) => a + (b - a) * at.fract(),
        (a, _) => a.unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{ListerKind, WorldOrigin};

    const D: i32 = 86_400;

    fn days(n: f64) -> f64 {
        n * DAY
    }

    fn world(changes: &[i32], first_seen: i32) -> World {
        let mut world = World::new(100.0, 0.25, 10.0, vec![ListerKind::new(0.0, 0.0, 0.0, 0.0)]);
        let origin = WorldOrigin { kind: 0, phase: 0.0, first_seen, dead: false, spread: 0.0 };
        world.add(origin, changes, &[]).unwrap();
        world
    }

    #[test]
    fn a_spell_counts_from_where_measuring_begins_and_its_age_from_its_change() {
        // Changed on days 5 and 30, visited on day 20 and not again: stale 5..20 and 30..100.
        let world = world(&[5 * D, 30 * D], -D);
        let mut measure = Measure::new(&world, days(10.0));
        assert!(!measure.archived(0, Some(days(-3.0)), days(4.0)));
        assert!(measure.archived(0, Some(days(4.0)), days(20.0)));
        let (figures, points, _) = measure.finish(&[Some(days(20.0))], false);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        near(figures.fresh, 1.0 - (10.0 + 70.0) / 90.0);
        // Age: from 5 to 15 days on 10..20, from 0 to 70 on 30..100.
        near(figures.age, (100.0 + 2450.0) / 90.0);
        near(figures.lag, 70.0);
        near(figures.max, 70.0);
        // The history shows all of it, from the beginning on.
        let stale: f64 = points.iter().map(|p| (1.0 - p.fresh) * 0.5).sum();
        near(stale, 15.0 + 70.0);
        let age: f64 = points.iter().map(|p| p.age * 0.5).sum();
        near(age, 112.5 + 2450.0);
    }

    #[test]
    fn an_origin_never_visited_is_stale_from_the_day_it_appears() {
        let world = world(&[50 * D], 40 * D);
        let mut measure = Measure::new(&world, days(10.0));
        assert!(measure.archived(0, None, days(70.0)), "a first visit always finds something");
        let (figures, _, _) = measure.finish(&[Some(days(70.0))], false);
        assert!((figures.fresh - 0.5).abs() < 1e-9 && (figures.ttfv - 30.0).abs() < 1e-9);
        assert!((figures.lag - 20.0).abs() < 1e-9);
        let never = Measure::new(&world, days(10.0)).finish(&[None], false).0;
        assert!(never.fresh.abs() < 1e-9 && (never.ttfv - 60.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_lie_between_the_two_nearest() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        near(quantile(&[1.0, 2.0], 0.99), 1.99);
        near(quantile(&[], 0.5), 0.0);
    }
}
