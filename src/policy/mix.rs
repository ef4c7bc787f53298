//! How a claim is shared out between lanes.

/// Shares out `k` visits between lanes, and keeps what each is owed for the next claim, so that
/// claims of one are as fair as claims of a thousand.
///
/// Each lane that holds something gets `k` times its share as credit; whole credits are paid first,
/// then the largest remainders; what a lane cannot fill goes to the others. A lane that holds
/// nothing loses its credit: it may not save up for a flood.
///
/// `lanes` are (share, how many it could give now); `credit` has one entry a lane and is updated.
/// Returns how many visits each lane gives: their sum is the smaller of `k` and all there is.
///
/// ```
/// use lamplighter::policy::allocate;
/// let mut credit = vec![0.0; 2];
/// let mut served = [0, 0];
/// for _ in 0..10 {
///     let take = allocate(1, &[(0.8, 99), (0.2, 99)], &mut credit);
///     served[0] += take[0];
///     served[1] += take[1];
/// }
/// assert_eq!(served, [8, 2]);
/// ```
#[must_use]
pub fn allocate(k: usize, lanes: &[(f64, usize)], credit: &mut Vec<f64>) -> Vec<usize> {
    credit.resize(lanes.len(), 0.0);
    let sum: f64 = lanes.iter().filter(|l| l.1 > 0).map(|l| l.0.max(0.0)).sum();
    let all: usize = lanes.iter().fold(0, |n, l| n.saturating_add(l.1));
    let mut left = k.min(all);
    let mut take = vec![0; lanes.len()];
    for (owed, lane) in credit.iter_mut().zip(lanes) {
        if lane.1 == 0 {
            *owed = 0.0;
        } else if sum > 0.0 {
            *owed += to_f64(left) * lane.0.max(0.0) / sum;
        }
    }
    // Whole credits first, the largest first.
    let mut order: Vec<usize> = (0..lanes.len()).collect();
    let by_credit = |credit: &[f64], a: &usize, b: &usize| {
        let of = |i: &usize| credit.get(*i).copied().unwrap_or(0.0);
        of(b).total_cmp(&of(a)).then(a.cmp(b))
    };
    order.sort_by(|a, b| by_credit(credit, a, b));
    for i in &order {
        let (Some(owed), Some((_, available)), Some(taken)) =
            (credit.get_mut(*i), lanes.get(*i), take.get_mut(*i))
        else {
            continue;
        };
        let whole = to_usize(owed.floor()).min(*available).min(left);
        *taken += whole;
        *owed -= to_f64(whole);
        left -= whole;
    }
    // Then the largest remainders, and at last whatever anybody can still give.
    while left > 0 {
        order.sort_by(|a, b| by_credit(credit, a, b));
        let before = left;
        for i in &order {
            let (Some(owed), Some((_, available)), Some(taken)) =
                (credit.get_mut(*i), lanes.get(*i), take.get_mut(*i))
            else {
                continue;
            };
            if left > 0 && *taken < *available {
                *taken += 1;
                *owed -= 1.0;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    for owed in credit.iter_mut() {
        *owed = owed.clamp(-1.0, 1.0);
    }
    take
}

#[allow(clippy::cast_precision_loss, reason = "a claim has far fewer than 2^52 visits")]
fn to_f64(n: usize) -> f64 {
    n as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "floored, clamped, saturating")]
fn to_usize(x: f64) -> usize {
    x.max(0.0) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn claims_of_one_serve_every_lane_by_its_share() {
        let shares = [0.49, 0.49, 0.02];
        let mut credit = Vec::new();
        let mut served = [0usize; 3];
        for _ in 0..1000 {
            let take = allocate(1, &shares.map(|s| (s, usize::MAX)), &mut credit);
            assert_eq!(take.iter().sum::<usize>(), 1);
            for (s, t) in served.iter_mut().zip(take) {
                *s += t;
            }
        }
        for (s, share) in served.iter().zip(shares) {
            assert!((to_f64(*s) - 1000.0 * share).abs() <= 1.0, "{served:?}");
        }
    }

    #[test]
    fn an_empty_lane_saves_nothing_up() {
        let mut credit = Vec::new();
        for _ in 0..100 {
            assert_eq!(allocate(10, &[(0.5, 0), (0.5, 99)], &mut credit), [0, 10]);
        }
        assert_eq!(allocate(10, &[(0.5, 99), (0.5, 99)], &mut credit), [5, 5]);
    }

    proptest! {
        #[test]
        fn nothing_is_handed_out_that_is_not_there_and_nothing_is_left(
            k in 0usize..500,
            lanes in prop::collection::vec((0.0f64..10.0, 0usize..300), 0..6),
        ) {
            let mut credit = Vec::new();
            for _ in 0..3 {
                let take = allocate(k, &lanes, &mut credit);
                prop_assert!(take.iter().zip(&lanes).all(|(t, l)| *t <= l.1));
                let all: usize = lanes.iter().map(|l| l.1).sum();
                prop_assert_eq!(take.iter().sum::<usize>(), k.min(all));
            }
        }
    }
}
