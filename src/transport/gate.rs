//! One host's turnstile: how many requests at once, how many a second, and not before when.

use std::time::Duration;

use crate::model::Timestamp;

/// How much one host is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateOptions {
    /// Requests in flight at a time. 4.
    pub at_once: u32,
    /// Requests a second, evenly spaced; none for no such limit. 10.
    pub per_second: Option<u32>,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self { at_once: 4, per_second: Some(10) }
    }
}

impl GateOptions {
    /// Sets how many requests are in flight at a time; at least one.
    #[must_use]
    pub fn with_at_once(mut self, at_once: u32) -> Self {
        self.at_once = at_once.max(1);
        self
    }

    /// Sets how many requests are sent a second; none for as many as there are.
    #[must_use]
    pub fn with_per_second(mut self, per_second: Option<u32>) -> Self {
        self.per_second = per_second.filter(|n| *n > 0);
        self
    }
}

/// Decides when a host is asked. A request first enters (there are few places), then asks for its
/// turn until it has it, and leaves when it was answered.
///
/// The rate is a token bucket that holds one token: in no second are there more requests than
/// allowed, also after a pause.
///
/// ```
/// use std::time::Duration;
/// use lamplighter::model::Timestamp;
/// use lamplighter::transport::{GateOptions, HostGate};
/// let mut gate = HostGate::new(GateOptions::default().with_at_once(1));
/// assert!(gate.enter());
/// assert!(!gate.enter(), "there is one place");
/// assert_eq!(gate.turn(Timestamp::EPOCH), None, "at once");
/// gate.leave();
/// assert!(gate.enter());
/// assert_eq!(gate.turn(Timestamp::EPOCH), Some(Duration::from_millis(100)));
/// ```
#[derive(Debug, Clone)]
pub struct HostGate {
    at_once: u32,
    spacing: Duration,
    in_flight: u32,
    next: Timestamp,
    blocked_until: Timestamp,
}

impl HostGate {
    /// An open gate.
    #[must_use]
    pub fn new(options: GateOptions) -> Self {
        let spacing =
            options.per_second.and_then(|n| Duration::from_secs(1).checked_div(n)).unwrap_or_default();
        Self {
            at_once: options.at_once.max(1),
            spacing,
            in_flight: 0,
            next: Timestamp::EPOCH,
            blocked_until: Timestamp::EPOCH,
        }
    }

    /// Takes a place, if there is one.
    pub fn enter(&mut self) -> bool {
        let free = self.in_flight < self.at_once;
        if free {
            self.in_flight += 1;
        }
        free
    }

    /// Gives a place back.
    pub fn leave(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Takes a turn: none when it is now, else how long to wait before asking again.
    pub fn turn(&mut self, now: Timestamp) -> Option<Duration> {
        // A turn is never further away than one space, unless the clock was put back.
        let next = self.next.min(now.plus(self.spacing));
        let at = next.max(self.blocked_until);
        if at > now {
            return Some(at.since(now));
        }
        self.next = now.plus(self.spacing);
        None
    }

    /// Lets nobody through before then.
    pub fn block_until(&mut self, until: Timestamp) {
        self.blocked_until = self.blocked_until.max(until);
    }

    /// For how long nobody is let through.
    #[must_use]
    pub fn blocked_for(&self, now: Timestamp) -> Duration {
        self.blocked_until.since(now)
    }

    /// How many are in.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    #[test]
    fn a_blocked_host_is_not_asked_before_its_time() {
        let mut gate = HostGate::new(GateOptions::default().with_per_second(None));
        assert_eq!(gate.turn(at(0)), None);
        gate.block_until(at(5000));
        gate.block_until(at(3000));
        assert_eq!(gate.turn(at(1000)), Some(Duration::from_secs(4)));
        assert_eq!((gate.blocked_for(at(1000)).as_secs(), gate.blocked_for(at(9000)).as_secs()), (4, 0));
        assert_eq!(gate.turn(at(5000)), None);
        assert_eq!(gate.turn(at(5000)), None, "no rate");
    }

    #[test]
    fn a_clock_put_back_does_not_close_the_gate() {
        let mut gate = HostGate::new(GateOptions::default());
        assert_eq!(gate.turn(at(10_000_000)), None);
        assert_eq!(gate.turn(at(0)), Some(Duration::from_millis(100)));
        assert_eq!(gate.turn(at(100)), Some(Duration::from_millis(100)), "asked again, still from now");
    }

    proptest! {
        /// Whoever comes when: no window of a second holds more than the rate, and nobody who
        /// waits as told waits in vain.
        #[test]
        fn no_second_holds_more_than_the_rate(
            rate in 1u32..50, arrivals in proptest::collection::vec(0i64..400_000, 1..200),
        ) {
            let mut gate = HostGate::new(GateOptions::default().with_per_second(Some(rate)));
            let mut now = at(0);
            let mut through = Vec::new();
            for pause in arrivals {
                now = now.plus(Duration::from_micros(pause.unsigned_abs()));
                if let Some(wait) = gate.turn(now) {
                    now = now.plus(wait);
                    prop_assert_eq!(gate.turn(now), None);
                }
                through.push(now.as_micros());
            }
            for (i, start) in through.iter().enumerate() {
                let held = through.iter().skip(i).take_while(|t| **t < start + 1_000_000).count();
                // Spaces are whole microseconds, rounded down: one more fits at most then.
                prop_assert!(held <= rate as usize + usize::from(1_000_000 % rate != 0), "{} in a second", held);
            }
        }

        #[test]
        fn there_are_never_more_in_than_places(places in 1u32..9, steps in proptest::collection::vec(any::<bool>(), 0..200)) {
            let mut gate = HostGate::new(GateOptions::default().with_at_once(places));
            let mut inside = 0;
            for enters in steps {
                if enters {
                    let let_in = gate.enter();
                    prop_assert_eq!(let_in, inside < places);
                    inside += u32::from(let_in);
                } else if inside > 0 {
                    gate.leave();
                    inside -= 1;
                }
                prop_assert_eq!(gate.in_flight(), inside);
            }
        }
    }
}
