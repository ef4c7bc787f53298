//! Ranges of ids that are listed beside each other.

use std::num::NonZeroU32;

/// The ids up to the greatest that is known in so many equal ranges, none of less than a page: after which id
/// each begins, and its last. The last range has no end: there may be more than is known.
pub(super) fn ranges(
    greatest: u64,
    wanted: NonZeroU32,
    per_page: u64,
) -> impl Iterator<Item = (u64, Option<u64>)> {
    let width = greatest.div_ceil(u64::from(wanted.get())).max(per_page).max(1);
    let count = greatest.div_ceil(width).max(1);
    (0..count).map(move |n| {
        let last = n.saturating_add(1).saturating_mul(width);
        (n.saturating_mul(width), (n.saturating_add(1) < count).then_some(last))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_equal_and_none_is_less_than_a_page() {
        let of = |greatest, wanted, per_page| -> Vec<_> {
            ranges(greatest, NonZeroU32::new(wanted).unwrap(), per_page).collect()
        };
        assert_eq!(of(1000, 4, 100), [(0, Some(250)), (250, Some(500)), (500, Some(750)), (750, None)]);
        assert_eq!(of(301, 2, 100), [(0, Some(151)), (151, None)]);
        assert_eq!(of(150, 4, 100), [(0, Some(100)), (100, None)]);
        assert_eq!((of(0, 4, 100), of(0, 4, 0)), (vec![(0, None)], vec![(0, None)]));
    }

    proptest! {
        #[test]
        fn ranges_cover_every_id_once(greatest: u64, wanted in 1_u32..2000, per_page in 0_u64..200) {
            let wanted = NonZeroU32::new(wanted).unwrap();
            let all: Vec<_> = ranges(greatest, wanted, per_page).collect();
            prop_assert!(all.len() as u64 <= u64::from(wanted.get()));
            prop_assert_eq!((all[0].0, all[all.len() - 1].1), (0, None));
            for pair in all.windows(2) {
                prop_assert_eq!(pair[0].1, Some(pair[1].0));
                prop_assert!(pair[1].0 - pair[0].0 >= per_page);
            }
        }
    }
}
