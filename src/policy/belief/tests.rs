//! The belief against quadrature, and the laws by which evidence is folded.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::policy::{Due, DueOptions, Facts, Listing, Shared, observe_listing, schedule};

fn at(day: f64) -> Timestamp {
    Timestamp::EPOCH.plus(Duration::from_secs_f64(day * 86_400.0))
}

fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * a.abs().max(b.abs())
}

/// Mean and variance of `l^(a-1) e^(-b l) (1 - e^(-l t))`, by the trapezoid rule over the logarithm of
/// `l`, where the integrand is smooth and falls to nothing on both sides.
#[allow(clippy::many_single_char_names, reason = "as in the formula")]
fn moments(a: f64, b: f64, t: f64) -> (f64, f64) {
    let centre = (a / b).ln();
    let low = -60.0 / (a + 1.0) - 40.0 / (a + 1.0).sqrt();
    let high = (1.0 + (60.0 + 12.0 * a.sqrt()) / a).ln();
    let points = 40_000;
    let step = (high - low) / f64::from(points);
    let peak = a * centre - a;
    let (mut m0, mut m1, mut m2) = (0.0, 0.0, 0.0);
    for i in 0..=points {
        let u = centre + low + step * f64::from(i);
        let l = u.exp();
        let density = (a * u - b * l - peak).exp() * -(-l * t).exp_m1();
        m0 += density;
        m1 += l * density;
        m2 += l * l * density;
    }
    let mean = m1 / m0;
    (mean, m2 / m0 - mean * mean)
}

proptest! {
    #[test]
    fn a_change_within_some_time_matches_the_moments_of_the_posterior(
        exponent in -1.3f64..4.0, mean in 0.01f64..1e4, share in -4.0f64..2.0,
    ) {
        let a = 10f64.powf(exponent);
        let (b, t) = (a * mean, a * mean * 10f64.powf(share));
        let (expected, variance) = moments(a, b, t);
        let (a1, b1) = gamma_changed(a, b, t);
        prop_assert!(close(a1 / b1, expected, 1e-7), "mean a={a} b={b} t={t}: {} {expected}", a1 / b1);
        prop_assert!(close(a1 / b1 / b1, variance, 1e-5), "variance a={a} b={b} t={t}");
    }

    #[test]
    fn exact_evidence_is_independent_of_its_order(
        seen in prop::collection::vec((any::<bool>(), 0.01f64..90.0), 0..9), seed in any::<u64>(),
    ) {
        let fold = |seen: &[(bool, f64)]| {
            seen.iter().fold(Belief::default(), |belief, (changed, days)| match changed {
                true => belief.last_changed(*days),
                false => belief.unchanged(*days),
            })
        };
        let mut other = seen.clone();
        other.sort_by_key(|(_, days)| days.to_bits().wrapping_mul(seed | 1));
        let (one, two) = (fold(&seen), fold(&other));
        prop_assert!(close(one.a.into(), two.a.into(), 1e-5) && close(one.b.into(), two.b.into(), 1e-5));
    }

    /// One by one, with the cap applied once at the end, is as one.
    #[test]
    fn quiet_listings_are_one_at_the_last_of_them(
        changed in 0.0f64..50.0,
        gaps in prop::collection::vec(0.1f64..400.0, 1..12),
        visited in prop::option::of(1.0f64..40.0),
    ) {
        let mut facts = Facts::new(7, at(0.0));
        observe_listing(&mut facts, &Listing::new(at(51.0), Some(at(changed))));
        if let Some(back) = visited {
            facts.visits.last_visit = Some(at(51.0 - back));
            facts.visits.last_successful = facts.visits.last_visit;
        }
        let known = facts.evidence.now();
        let (mut one_by_one, mut at_once) = (facts.clone(), facts);
        let mut day = 51.0;
        let mut sum = f64::from(known.b);
        for gap in &gaps {
            day += gap;
            sum += gap;
            observe_listing(&mut one_by_one, &Listing::new(at(day), None));
        }
        observe_listing(&mut at_once, &Listing::new(at(day), None));
        prop_assert_eq!(&one_by_one, &at_once);
        // The sum, and then the cap: evidence of a thousand days, the prior of 60 kept.
        let (a, b) = (f64::from(known.a), sum);
        let keep = (1000.0 / (b - 60.0)).min(10.0 / (a - 0.5)).min(1.0);
        let now = one_by_one.evidence.now();
        prop_assert!(close(now.a.into(), 0.5 + (a - 0.5) * keep, 1e-5), "{now:?} {a} {keep}");
        prop_assert!(close(now.b.into(), 60.0 + (b - 60.0) * keep, 1e-5), "{now:?} {b} {keep}");
        let due = Due::new(DueOptions::default().with_budget(2.0));
        let place = |facts: &Facts, day: f64| {
            schedule(&due, facts, &Shared::new(serde_json::Value::Null, 100), at(day))
        };
        for later in [0.0, 3.0, 200.0] {
            prop_assert_eq!(place(&one_by_one, day + later), place(&at_once, day + later));
        }
    }
}

#[test]
fn memory_is_bounded_and_keeps_the_prior() {
    let mut belief = Belief::default();
    for _ in 0..200 {
        belief = belief.last_changed(0.5);
    }
    assert!((belief.a - 10.5).abs() < 1e-3 && belief.b < 60.0 + 6.0, "{belief:?}");
    for _ in 0..50 {
        belief = belief.unchanged(500.0);
    }
    assert!((belief.b - 1060.0).abs() < 1e-1 && belief.a > 0.5 && belief.a < 0.6, "{belief:?}");
}
