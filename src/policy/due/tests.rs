//! The vectors and the identities of the model: expectations come from the formulas by other means.

use proptest::prelude::*;

use super::value::{age, fresh_days, freshness, gap_factor};
use super::*;

const SETTING: Setting = Setting { theta: 160.0, theta_lag: 10.0, gamma: GAMMA };

fn known_at(a: f64, b: f64) -> Known {
    Known {
        a,
        b,
        first_seen: 40.0,
        last_good: None,
        listed: None,
        last_update: None,
        last_change: None,
        first_signal: None,
        precision: 0.95,
        recall: 0.95,
        scale: 1.0,
    }
}

struct Vector {
    known: Known,
    factor: f64,
    value: f64,
    due: f64,
}

/// Worked out apart from this code, by the reference that the model was chosen with.
fn vectors() -> Vec<Vector> {
    let of = |ab: (f64, f64), times: [Option<f64>; 5], (factor, value, due)| {
        let [last_good, listed, last_update, last_change, first_signal] = times;
        let known =
            Known { last_good, listed, last_update, last_change, first_signal, ..known_at(ab.0, ab.1) };
        Vector { known, factor, value, due }
    };
    let s = Some;
    vec![
        of((1.5, 90.0), [None, s(99.0), s(60.0), s(60.0), None], (f64::NAN, 134.616_976, 24.8639)),
        of((2.0, 120.0), [s(80.0), None, None, s(72.0), None], (1.346_768, 3.625_494, 118.2304)),
        of((0.5, 160.0), [s(80.0), None, None, None, None], (1.0, 0.666_275, 163.0115)),
        of((4.5, 200.0), [s(50.0), s(98.0), s(97.5), s(97.5), s(60.0)], (2.532_850, 31.349_115, 68.5813)),
        of((4.5, 240.0), [s(50.0), s(98.0), s(58.0), s(58.0), s(55.0)], (0.879_046, 83.310_655, 39.2596)),
        of((3.0, 150.0), [s(70.0), s(99.0), s(65.0), s(65.0), None], (0.918_152, 0.059_521, 136.3320)),
        of((10.5, 75.0), [s(90.0), s(99.0), s(98.9), s(98.9), s(91.0)], (3.054_131, 3.447_351, 119.4922)),
    ]
}

#[test]
fn the_vectors_come_out() {
    for (i, v) in vectors().into_iter().enumerate() {
        let value = Value::new(v.known, &SETTING);
        let now = value.at(100.0);
        // The table has six decimals.
        assert!((now - v.value).abs() <= 1e-6 * v.value + 5e-7, "row {i}: {now}, not {}", v.value);
        let lo = v.known.last_good.map_or(100.0, |good| (good + 0.5).max(100.0));
        let due = value.due(lo, 11.0, LONGEST, KAPPA);
        assert!((due - v.due).abs() <= 0.002, "row {i}: due {due}, not {}", v.due);
        if v.factor.is_finite() {
            let factor = gap_factor(&v.known, GAMMA);
            assert!((factor - v.factor).abs() <= 1e-6 * v.factor, "row {i}: factor {factor}");
        }
    }
}

/// The integral of `f` from 0 to `t`: Gauss-Legendre of five points on many pieces.
fn integral(t: f64, f: impl Fn(f64) -> f64) -> f64 {
    const NODES: [(f64, f64); 5] = [
        (0.0, 0.568_888_888_888_888_9),
        (0.538_469_310_105_683_1, 0.478_628_670_499_366_5),
        (-0.538_469_310_105_683_1, 0.478_628_670_499_366_5),
        (0.906_179_845_938_664, 0.236_926_885_056_189_1),
        (-0.906_179_845_938_664, 0.236_926_885_056_189_1),
    ];
    let pieces = 400;
    let width = t / f64::from(pieces);
    (0..pieces)
        .map(|i| {
            let middle = width * (f64::from(i) + 0.5);
            NODES.iter().map(|(x, w)| w * f(middle + x * width / 2.0)).sum::<f64>() * width / 2.0
        })
        .sum()
}

fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * a.abs().max(b.abs())
}

proptest! {
    #[test]
    fn freshness_and_age_are_their_integrals(
        exponent in -1.3f64..4.0,
        near in prop::sample::select(vec![0.0, 1.0, 2.0, 1.0 + 1e-9, 2.0 - 1e-7]),
        mean in 0.01f64..1e4,
        share in -4.0f64..1.5,
    ) {
        let a = if near > 0.0 { near } else { 10f64.powf(exponent) };
        let b = a * mean;
        let t = mean * 10f64.powf(share);
        // Written with 1 - S in full digits: the chance of a change.
        let change = |s: f64| -(-a * (s / b).ln_1p()).exp_m1();
        let density = |s: f64| s * a / b * (-(a + 1.0) * (s / b).ln_1p()).exp();
        prop_assert!(close(freshness(a, b, t), integral(t, density), 1e-6), "V_f a={a} b={b} t={t}");
        prop_assert!(close(age(a, b, t), integral(t, |s| s * change(s)), 1e-6), "V_a a={a} b={b} t={t}");
        prop_assert!(close(fresh_days(a, b, t), integral(t, |s| 1.0 - change(s)), 1e-6));
    }

    #[test]
    fn a_certain_rate_gives_the_formula_of_a_known_one(rate in 1e-3f64..10.0, x in 0.05f64..5.0) {
        let t = x / rate;
        let (a, b) = (1e8, 1e8 / rate);
        let cho = (1.0 - (-x).exp()) / rate - t * (-x).exp();
        prop_assert!(close(freshness(a, b, t), cho, 1e-5));
    }
}
