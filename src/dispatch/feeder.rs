//! The feeder: from the store to a dispatcher.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::select;

use super::plan::{Feed, Memory, Waiting};
use super::{Ack, DispatchError, Dispatcher, Room};
use crate::backend::{BackendError, VisitStore};
use crate::driver::StopHandle;
use crate::model::{Timestamp, VisitId, VisitToken};
use crate::transport::Clock;

/// How a feeder feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeederOptions {
    /// Who claims, as shown.
    pub owner: String,
    /// How many visits are claimed at once at most. 1,000.
    pub batch: usize,
    /// How many visits may be under way at one host; none for any number. It takes a dispatcher that
    /// says how many it has where ([`Room::at_hosts`](super::Room::at_hosts)).
    pub per_host: Option<usize>,
    /// How many claimed visits may wait for their host. With so many waiting, nothing more is claimed. 1,000.
    pub max_waiting: usize,
    /// How long the feeder sleeps where nothing is to be claimed, or something did not work. 5 s.
    pub pause: Duration,
}

impl Default for FeederOptions {
    fn default() -> Self {
        Self {
            owner: "feeder".to_owned(),
            batch: 1000,
            per_host: None,
            max_waiting: 1000,
            pause: Duration::from_secs(5),
        }
    }
}

impl FeederOptions {
    /// Who claims, as shown.
    #[must_use]
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// How many visits are claimed at once at most.
    #[must_use]
    pub fn with_batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// How many visits may be under way at one host, and how many claimed ones may wait for theirs.
    #[must_use]
    pub fn with_per_host(mut self, per_host: usize, max_waiting: usize) -> Self {
        self.per_host = Some(per_host);
        self.max_waiting = max_waiting;
        self
    }

    /// How long the feeder sleeps where nothing is to be claimed.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }
}

/// What a feeder has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct FeederCounts {
    /// Visits claimed.
    pub claimed: u64,
    /// Visits that the dispatcher took.
    pub taken: u64,
    /// Visits that the dispatcher refused.
    pub refused: u64,
    /// Visits of which it is not known whether they arrived.
    pub unknown: u64,
    /// Visits given back to the store: refused ones, and those that waited when the feeder stopped.
    pub given_back: u64,
    /// Visits that were the store's again, because their leases ended while they waited or were in doubt.
    pub expired: u64,
    /// Steps in which the dispatcher did not know its room, and nothing was claimed.
    pub blind: u64,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stepped {
    /// Visits claimed.
    pub claimed: u64,
    /// Visits that the dispatcher took.
    pub taken: u64,
    /// Visits that it refused.
    pub refused: u64,
    /// Whether more could be claimed at once: there is room, and no feed ran dry.
    pub more: bool,
}

/// Claims visits and gives them to a dispatcher. See the [module](super) for what holds.
pub struct Feeder {
    store: Arc<dyn VisitStore>,
    dispatcher: Arc<dyn Dispatcher>,
    clock: Arc<dyn Clock>,
    feeds: Vec<Feed>,
    options: FeederOptions,
    memory: Memory,
    /// What room there was in the last step, where more of it would help.
    room: Option<Room>,
    counts: FeederCounts,
    stop: StopHandle,
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder")
            .field("feeds", &self.feeds)
            .field("options", &self.options)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Feeder {
    /// A feeder of a dispatcher.
    pub fn new(
        store: Arc<dyn VisitStore>,
        dispatcher: Arc<dyn Dispatcher>,
        clock: Arc<dyn Clock>,
        feeds: Vec<Feed>,
        options: FeederOptions,
    ) -> Self {
        let memory = Memory::default();
        let (counts, stop) = (FeederCounts::default(), StopHandle::default());
        Self { store, dispatcher, clock, feeds, options, memory, room: None, counts, stop }
    }

    /// Another handle to stop it by.
    #[must_use]
    pub fn stopped_by(mut self, stop: StopHandle) -> Self {
        self.stop = stop;
        self
    }

    /// The handle that stops it between steps.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> FeederCounts {
        self.counts
    }

    /// One round: asks for room, claims so much, sends it. Dropped half-way it loses nothing: what it
    /// claimed is sent by the next step, or claimed again when its lease ends.
    ///
    /// # Errors
    /// What the store says. A dispatcher's failures are no errors: nothing is claimed, or what was not
    /// taken is given back.
    pub async fn step(&mut self, now: Timestamp) -> Result<Stepped, BackendError> {
        self.room = None;
        self.memory.choose_anew();
        self.counts.expired += self.memory.expire(now);
        self.keep_alive(now).await?;
        let room = match self.dispatcher.room().await {
            Ok(room) => room,
            Err(e) => {
                self.blind(&e);
                return Ok(Stepped::default());
            }
        };
        let mut done = Stepped::default();
        let mut left = self.memory.left(&room, self.options.per_host);
        self.memory.choose(&mut left);
        let mut dry = vec![false; self.feeds.len()];
        let (mut asked, mut spent) = (0, false);
        self.memory.accrue(&self.feeds, now);
        loop {
            let room = left.slots.min(self.options.max_waiting.saturating_sub(self.memory.waiting.len()));
            let want = room.min(self.options.batch.max(1).saturating_sub(asked));
            if want == 0 || dry.iter().all(|dry| *dry) {
                break;
            }
            let shares = self.memory.shares(want, &self.feeds, &dry);
            if shares.iter().all(|count| *count == 0) {
                spent = true;
                break;
            }
            asked += want;
            for (n, count) in shares.into_iter().enumerate() {
                let Some(feed) = self.feeds.get(n).filter(|_| count > 0) else { continue };
                let claimed = self.store.claim(&feed.claim(count, &self.options.owner), now).await?;
                // From here on this feeder answers for them: nothing is awaited in between.
                let visits = claimed.visits;
                if let Some(dry) = dry.get_mut(n) {
                    *dry = visits.len() < count;
                }
                done.claimed += visits.len() as u64;
                self.counts.claimed += visits.len() as u64;
                self.memory.keep(visits, n, now.plus(feed.lease));
            }
            self.memory.choose(&mut left);
        }
        done.more = left.slots > 0 && !spent && dry.iter().any(|dry| !dry);
        done.more &= self.memory.waiting.len() < self.options.max_waiting;
        self.room = (left.slots == 0 || !self.memory.waiting.is_empty()).then_some(room);
        self.send(now, &mut done).await?;
        Ok(done)
    }

    /// Steps until it is stopped, then gives back what waits. It only loops and sleeps.
    ///
    /// # Errors
    /// What the store says, where trying again cannot help.
    pub async fn run(&mut self) -> Result<(), BackendError> {
        let stop = self.stop.clone();
        while !stop.is_stopped() {
            match self.step(self.clock.now()).await {
                Ok(stepped) if stepped.more && stepped.refused == 0 => {}
                Ok(stepped) => self.sleep(&stop, self.room.as_ref().filter(|_| stepped.refused == 0)).await,
                Err(e) if super::may_pass(&e) => {
                    tracing::warn!(error = %e, "the store does not answer; the feeder tries again");
                    self.sleep(&stop, None).await;
                }
                Err(e) => return Err(e),
            }
        }
        self.give_back_waiting(self.clock.now()).await
    }

    /// Until the pause is over, there may be room, or it is stopped.
    async fn sleep(&self, stop: &StopHandle, room: Option<&Room>) {
        let room = match room {
            Some(room) => self.dispatcher.more_room(room),
            None => Box::pin(std::future::pending()),
        };
        let pause = self.clock.sleep(self.options.pause);
        select(pin!(stop.stopped()), select(pause, room)).await;
    }

    fn blind(&mut self, e: &DispatchError) {
        self.counts.blind += 1;
        tracing::warn!(error = %e, "nothing is claimed");
    }

    async fn send(&mut self, now: Timestamp, done: &mut Stepped) -> Result<(), BackendError> {
        let visits = self.memory.take();
        if visits.is_empty() {
            return Ok(());
        }
        let names: Vec<(VisitId, VisitToken)> = visits.iter().map(|v| (v.visit, v.token)).collect();
        let acks = self.dispatcher.send(visits).await;
        let mut known = HashSet::new();
        let mut refused = Vec::new();
        for (n, name) in names.into_iter().enumerate() {
            match acks.get(n) {
                Some(Ack::Taken) => {
                    done.taken += 1;
                    known.insert(name.1);
                }
                Some(Ack::Refused(why)) => {
                    tracing::debug!(visit = %name.0, why = %super::clean_text(why), "a visit was refused");
                    known.insert(name.1);
                    refused.push(name);
                }
                Some(Ack::Unknown(why)) => {
                    tracing::warn!(visit = %name.0, why = %super::clean_text(why), "it is not known whether a visit arrived");
                    self.counts.unknown += 1;
                }
                None => self.counts.unknown += 1,
            }
        }
        self.memory.settle(&known);
        done.refused += refused.len() as u64;
        self.counts.taken += done.taken;
        self.counts.refused += done.refused;
        self.give_back(&refused, now).await
    }

    /// Ends leases now, so that the visits are handed out again.
    async fn give_back(
        &mut self,
        visits: &[(VisitId, VisitToken)],
        now: Timestamp,
    ) -> Result<(), BackendError> {
        if visits.is_empty() {
            return Ok(());
        }
        let answers = self.store.heartbeat(visits, Duration::ZERO, now).await?;
        self.counts.given_back += answers.iter().filter(|a| a.is_ok()).count() as u64;
        Ok(())
    }

    async fn give_back_waiting(&mut self, now: Timestamp) -> Result<(), BackendError> {
        let waiting: Vec<_> = self.memory.waiting.drain(..).map(|w| (w.visit.visit, w.visit.token)).collect();
        self.give_back(&waiting, now).await
    }

    /// Makes the leases of waiting visits longer when half of them has passed.
    async fn keep_alive(&mut self, now: Timestamp) -> Result<(), BackendError> {
        for (n, feed) in self.feeds.iter().enumerate() {
            let short = |w: &Waiting| w.feed == n && w.until.since(now) * 2 <= feed.lease;
            let ending: Vec<_> = self.memory.waiting.iter().filter(|w| short(w)).collect();
            let names: Vec<_> = ending.iter().map(|w| (w.visit.visit, w.visit.token)).collect();
            if names.is_empty() {
                continue;
            }
            let answers = self.store.heartbeat(&names, feed.lease, now).await?;
            let mut answers: HashMap<_, _> = names.iter().map(|n| n.1).zip(answers).collect();
            let before = self.memory.waiting.len();
            self.memory.waiting.retain_mut(|w| match answers.remove(&w.visit.token) {
                Some(Ok(until)) => {
                    w.until = until;
                    w.visit.deadline = Some(until);
                    true
                }
                Some(Err(_)) => false,
                None => true,
            });
            self.counts.expired += (before - self.memory.waiting.len()) as u64;
        }
        Ok(())
    }
}
