//! What a feeder decides, apart from what it does: nothing here waits for anything.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::host_of;
use crate::backend::{Claim, Visit};
use crate::model::{ListerKey, Timestamp, VisitToken, VisitType};
use crate::policy::allocate;

/// What a feeder feeds its dispatcher with: visits of one type, and which share of the slots.
///
/// Within a type the store shares a claim out between the policy's lanes, requested visits first.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Feed {
    /// The type.
    pub visit_type: VisitType,
    /// Its share against the other feeds. What one cannot fill goes to the others.
    pub share: f64,
    /// For how long a visit is claimed. Heartbeats make it longer.
    pub lease: Duration,
    /// Only origins that this lister lists.
    pub lister: Option<ListerKey>,
    /// So many visits a day at most, none for as many as there is room for. What was not used is kept for
    /// an hour.
    pub per_day: Option<f64>,
}

impl Feed {
    /// All visits of a type, for an hour each.
    #[must_use]
    pub fn new(visit_type: VisitType) -> Self {
        Self { visit_type, share: 1.0, lease: Duration::from_secs(3600), lister: None, per_day: None }
    }

    /// Its share against the other feeds.
    #[must_use]
    pub fn with_share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// For how long a visit is claimed.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Only origins that this lister lists.
    #[must_use]
    pub fn with_lister(mut self, lister: ListerKey) -> Self {
        self.lister = Some(lister);
        self
    }

    /// So many visits a day at most.
    #[must_use]
    pub fn with_per_day(mut self, visits: f64) -> Self {
        self.per_day = Some(visits);
        self
    }

    pub(super) fn claim(&self, count: usize, owner: &str) -> Claim {
        let mut claim = Claim::new(self.visit_type.clone(), count).with_lease(self.lease).with_owner(owner);
        claim.lister.clone_from(&self.lister);
        claim
    }
}

/// A claimed visit that is not sent yet, because its host has its fill.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) visit: Visit,
    pub(super) host: Option<String>,
    /// The feed that it was claimed by.
    pub(super) feed: usize,
    /// When its lease ends.
    pub(super) until: Timestamp,
}

/// A visit that was sent, and of which nobody knows whether it arrived.
#[derive(Debug)]
pub(super) struct Doubtful {
    pub(super) token: VisitToken,
    pub(super) host: Option<String>,
    pub(super) until: Timestamp,
}

/// What a feeder remembers between steps.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What each feed is owed.
    credit: Vec<f64>,
    /// What is left of each feed's visits a day, and as of when.
    budgets: Vec<(f64, Timestamp)>,
    pub(super) waiting: VecDeque<Waiting>,
    /// What is sent next.
    ready: Vec<Waiting>,
    pub(super) doubtful: Vec<Doubtful>,
}

/// How many slots are left in a step, and how many visits each host has.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) slots: usize,
    hosts: HashMap<String, usize>,
    per_host: usize,
}

impl Memory {
    /// Forgets what is the store's again because its lease ended. Returns how many visits that were.
    pub(super) fn expire(&mut self, now: Timestamp) -> u64 {
        let before = self.waiting.len() + self.doubtful.len();
        self.waiting.retain(|w| w.until > now);
        self.doubtful.retain(|d| d.until > now);
        (before - self.waiting.len() - self.doubtful.len()) as u64
    }

    /// What is left of a dispatcher's room: what may have arrived there takes a slot.
    pub(super) fn left(&self, room: &super::Room, per_host: Option<usize>) -> Left {
        let mut hosts = room.at_hosts.clone();
        for host in self.doubtful.iter().filter_map(|d| d.host.clone()) {
            *hosts.entry(host).or_default() += 1;
        }
        let slots = room.free.saturating_sub(self.doubtful.len());
        Left { slots, hosts, per_host: per_host.unwrap_or(usize::MAX) }
    }

    /// Chooses what may be sent, the longest waiting first.
    pub(super) fn choose(&mut self, left: &mut Left) {
        let (chosen, others): (Vec<Waiting>, Vec<Waiting>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|w| left.admit(w.host.as_deref()));
        self.ready.extend(chosen);
        self.waiting.extend(others);
    }

    /// What a step that was given up had chosen and not sent waits again.
    pub(super) fn choose_anew(&mut self) {
        for waiting in std::mem::take(&mut self.ready).into_iter().rev() {
            self.waiting.push_front(waiting);
        }
    }

    /// Takes what was chosen. From here on each may have arrived, so a step that is given up while it
    /// sends leaves nothing that is sent twice.
    pub(super) fn take(&mut self) -> Vec<Visit> {
        let ready = std::mem::take(&mut self.ready);
        ready
            .into_iter()
            .map(|Waiting { visit, host, until, .. }| {
                self.doubtful.push(Doubtful { token: visit.token, host, until });
                visit
            })
            .collect()
    }

    /// Gives each feed what it may visit of its day since it was last asked; one visit at first.
    pub(super) fn accrue(&mut self, feeds: &[Feed], now: Timestamp) {
        self.budgets.resize(feeds.len(), (1.0, now));
        for ((left, at), feed) in self.budgets.iter_mut().zip(feeds) {
            let per_day = feed.per_day.unwrap_or(0.0).max(0.0);
            let accrued = now.since(*at).as_secs_f64() / 86_400.0 * per_day;
            *left = (*left + accrued).min((per_day / 24.0).max(1.0));
            *at = now;
        }
    }

    /// How many visits each feed is asked for: shares of the slots, within its budget.
    pub(super) fn shares(&mut self, slots: usize, feeds: &[Feed], dry: &[bool]) -> Vec<usize> {
        let may = |(n, feed): (usize, &Feed)| match (dry.get(n), feed.per_day) {
            (Some(false), None) => slots,
            (Some(false), Some(_)) => self.budgets.get(n).map_or(0, |(left, _)| whole(*left).min(slots)),
            _ => 0,
        };
        let lanes: Vec<(f64, usize)> =
            feeds.iter().enumerate().map(|(n, feed)| (feed.share, may((n, feed)))).collect();
        allocate(slots, &lanes, &mut self.credit)
    }

    /// Keeps what was claimed.
    pub(super) fn keep(&mut self, visits: Vec<Visit>, feed: usize, lease_ends: Timestamp) {
        if let Some((left, _)) = self.budgets.get_mut(feed) {
            *left -= visits.iter().map(|_| 1.0).sum::<f64>();
        }
        self.waiting.extend(visits.into_iter().map(|visit| Waiting {
            host: host_of(&visit),
            feed,
            until: visit.deadline.unwrap_or(lease_ends),
            visit,
        }));
    }

    /// Whether these arrived is known now.
    pub(super) fn settle(&mut self, known: &HashSet<VisitToken>) {
        self.doubtful.retain(|d| !known.contains(&d.token));
    }
}

impl Left {
    fn admit(&mut self, host: Option<&str>) -> bool {
        if self.slots == 0 {
            return false;
        }
        if let Some(host) = host {
            let here = self.hosts.entry(host.to_owned()).or_default();
            if *here >= self.per_host {
                return false;
            }
            *here += 1;
        }
        self.slots -= 1;
        true
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floored, not negative, saturating"
)]
fn whole(x: f64) -> usize {
    x.max(0.0).floor() as usize
}
