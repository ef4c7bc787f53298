//! A clock that jumps.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::Timestamp;
use crate::transport::Clock;

/// A clock on which nobody waits: who sleeps moves it forward.
///
/// Sleepers wake in the order of their deadlines, equal ones in the order in which they lay down;
/// the clock then shows the deadline. A sleeper lets every other task run once before it moves the
/// clock, so that tasks that start together lay down together. What waits for something other than
/// this clock (a socket, a thread) does not hold it up: a time limit raced against a real answer
/// ends at once.
///
/// ```
/// use std::time::Duration;
/// use lamplighter::model::Timestamp;
/// use lamplighter::testing::VirtualClock;
/// use lamplighter::transport::Clock;
///
/// let clock = VirtualClock::new(Timestamp::EPOCH);
/// futures::executor::block_on(clock.sleep(Duration::from_secs(3600)));
/// assert_eq!(clock.now(), Timestamp::from_seconds(3600));
/// assert_eq!(clock.waits(), [3600.0]);
/// ```
#[derive(Clone)]
pub struct VirtualClock {
    state: Arc<Mutex<State>>,
}

struct State {
    now: Timestamp,
    lain_down: u64,
    asleep: BTreeMap<Bed, Option<Waker>>,
    waits: Vec<Duration>,
}

/// A deadline and the number of its sleeper: the order of waking.
type Bed = (Timestamp, u64);

impl VirtualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let state = State { now, lain_down: 0, asleep: BTreeMap::new(), waits: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Moves the clock forward without a sleeper; those whose time has come wake.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.now = state.now.plus(by);
        state.wake_first();
    }

    /// How long every finished sleep was, in seconds, in the order in which they ended. A sleep
    /// that was given up is none.
    #[must_use]
    pub fn waits(&self) -> Vec<f64> {
        self.lock().waits.iter().map(Duration::as_secs_f64).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("VirtualClock")
            .field("now", &state.now)
            .field("asleep", &state.asleep.len())
            .finish_non_exhaustive()
    }
}

impl State {
    /// Lets the sleeper with the first deadline look at the clock.
    fn wake_first(&mut self) {
        if let Some(waker) = self.asleep.first_entry().and_then(|mut first| first.get_mut().take()) {
            waker.wake();
        }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    async fn sleep(&self, duration: Duration) {
        let bed = {
            let mut state = self.lock();
            state.lain_down += 1;
            let bed = (state.now.plus(duration), state.lain_down);
            state.asleep.insert(bed, None);
            bed
        };
        Sleep { clock: self, bed, duration, others_ran: false, done: false }.await;
    }
}

struct Sleep<'a> {
    clock: &'a VirtualClock,
    bed: Bed,
    duration: Duration,
    others_ran: bool,
    done: bool,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock;
        let mut state = clock.lock();
        let is_first = state.asleep.first_key_value().is_some_and(|(bed, _)| *bed == self.bed);
        if !self.others_ran {
            self.others_ran = true;
            context.waker().wake_by_ref();
        } else if is_first {
            state.asleep.remove(&self.bed);
            state.now = state.now.max(self.bed.0);
            state.waits.push(self.duration);
            state.wake_first();
            self.done = true;
            return Poll::Ready(());
        }
        state.asleep.insert(self.bed, Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if !self.done {
            let mut state = self.clock.lock();
            state.asleep.remove(&self.bed);
            state.wake_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Log;

    use futures::future::{Either, join_all, select};

    use super::*;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn sleepers_wake_in_the_order_of_their_deadlines() {
        let clock = VirtualClock::new(Timestamp::from_seconds(100));
        let woken = Log::new(Vec::new());
        let sleeper = |name: &'static str, naps: &'static [u64]| {
            let (clock, woken) = (&clock, &woken);
            async move {
                for nap in naps {
                    clock.sleep(seconds(*nap)).await;
                    woken.lock().unwrap().push((name, clock.now().as_seconds()));
                }
            }
        };
        futures::executor::block_on(join_all([
            sleeper("slow", &[10, 10]),
            sleeper("quick", &[3, 3, 3, 3]),
            sleeper("also", &[3]),
        ]));
        let expected = [
            ("quick", 103),
            ("also", 103),
            ("quick", 106),
            ("quick", 109),
            ("slow", 110),
            ("quick", 112),
            ("slow", 120),
        ];
        assert_eq!(*woken.lock().unwrap(), expected);
        assert_eq!(clock.waits(), [3.0, 3.0, 3.0, 3.0, 10.0, 3.0, 10.0]);
    }

    #[test]
    fn tasks_of_a_runtime_wake_in_order_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let clock = VirtualClock::new(Timestamp::EPOCH);
        let woken = runtime.block_on(async {
            let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
            for nap in [30, 10, 20] {
                let (clock, tell) = (clock.clone(), tell.clone());
                tokio::spawn(async move {
                    clock.sleep(seconds(nap)).await;
                    tell.send(clock.now().as_seconds()).unwrap();
                });
            }
            drop(tell);
            let mut woken = Vec::new();
            while let Some(at) = told.recv().await {
                woken.push(at);
            }
            woken
        });
        assert_eq!(woken, [10, 20, 30]);
    }

    #[test]
    fn a_sleep_given_up_holds_nobody_up_and_is_no_wait() {
        let clock = VirtualClock::new(Timestamp::EPOCH);
        let first = futures::executor::block_on(select(clock.sleep(seconds(5)), clock.sleep(seconds(60))));
        assert!(matches!(first, Either::Left(_)));
        drop(first);
        futures::executor::block_on(clock.sleep(seconds(100)));
        assert_eq!(clock.now(), Timestamp::from_seconds(105));
        assert_eq!(clock.waits(), [5.0, 100.0]);
    }

    #[test]
    fn the_clock_never_goes_back() {
        let clock = VirtualClock::new(Timestamp::EPOCH);
        let overtaken = async { clock.advance(seconds(50)) };
        futures::executor::block_on(futures::future::join(clock.sleep(seconds(5)), overtaken));
        assert_eq!(clock.now(), Timestamp::from_seconds(50));
    }
}
