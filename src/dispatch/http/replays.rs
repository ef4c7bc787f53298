//! What was delivered before.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::model::Timestamp;

/// So many deliveries are remembered, and for so long.
const MOST: usize = 100_000;
const FOR: Duration = Duration::from_secs(86_400);

/// Digests of deliveries. In memory: after a restart a replay is worth a hint without news, which costs
/// one visit at most, and none where the delivery is dated.
#[derive(Debug, Default)]
pub(super) struct Replays {
    seen: HashSet<[u8; 16]>,
    order: VecDeque<([u8; 16], Timestamp)>,
}

impl Replays {
    /// Whether a delivery is new; it is not, the next time.
    pub(super) fn is_new(&mut self, digest: [u8; 16], now: Timestamp) -> bool {
        while self.order.front().is_some_and(|(_, at)| at.plus(FOR) <= now || self.order.len() >= MOST) {
            if let Some((old, _)) = self.order.pop_front() {
                self.seen.remove(&old);
            }
        }
        let new = self.seen.insert(digest);
        if new {
            self.order.push_back((digest, now));
        }
        new
    }

    /// What could not be taken may be delivered again.
    pub(super) fn forget(&mut self, digest: [u8; 16]) {
        if self.seen.remove(&digest) {
            self.order.retain(|(seen, _)| *seen != digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_new_once_unless_it_is_forgotten() {
        let at = |hours: u64| Timestamp::EPOCH.plus(Duration::from_secs(3600 * hours));
        let mut replays = Replays::default();
        assert!(replays.is_new([1; 16], at(0)));
        assert!(!replays.is_new([1; 16], at(23)));
        assert!(replays.is_new([2; 16], at(23)));
        assert!(replays.is_new([1; 16], at(24)));
        replays.forget([2; 16]);
        assert!(replays.is_new([2; 16], at(24)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut replays = Replays::default();
        for n in 0..(MOST as u128 + 50) {
            assert!(replays.is_new(n.to_le_bytes(), Timestamp::EPOCH));
        }
        assert_eq!((replays.seen.len(), replays.order.len()), (MOST, MOST));
    }
}
