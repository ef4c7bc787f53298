//! What a claim hands out: the heads of the lanes, in their stored order.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::ControlFlow;

use super::ctx::Ctx;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, after_prefix, scan_prefix};
use super::place::{facts, must_load, place, place_if_moved, will_judge, will_load};
use super::rows::OriginRow;
use crate::backend::Result;
use crate::model::Timestamp;
use crate::policy::{
    AgeLimit, CLASSES, Facts, Lane, LaneSpec, Pace, Reason, Schedule, allocate, days, needed, schedule,
};

/// A claim looks at so many origins of a lane whose rank has not come, at most.
const AHEAD: usize = 1000;

/// An origin that may be handed out.
struct Candidate {
    rank: i64,
    id: u64,
}

/// A candidate as it is handed out.
pub(crate) struct Taken {
    pub(crate) id: u64,
    pub(crate) row: OriginRow,
    pub(crate) rank: i64,
    pub(crate) lane: Lane,
    pub(crate) lane_name: String,
    pub(crate) facts: Facts,
    pub(crate) why: Reason,
}

/// What lanes are owed from earlier claims.
pub(crate) struct Owed {
    /// The policy's lanes, in visits, in their order.
    pub(crate) credit: Vec<f64>,
    /// The guard's lane, in visits.
    pub(crate) guarded: f64,
    /// How fast visits are claimed: what later claims can still do.
    pub(crate) pace: Pace,
}

/// A claim as it is being put together.
struct Claiming {
    /// The visit type.
    number: u16,
    /// Only what this lister lists.
    lister: Option<u32>,
    chosen: HashSet<u64>,
    taken: Vec<Taken>,
}

/// The part of a lane whose rank has come, as far as it was read.
struct Head<'l> {
    lane: &'l LaneSpec,
    /// Where reading goes on.
    from: Vec<u8>,
    ready: VecDeque<Candidate>,
}

impl<'l> Head<'l> {
    fn of(number: u16, lane: &'l LaneSpec) -> Self {
        Self { lane, from: K::new().u16(number).u8(lane.lane.0).to_vec(), ready: VecDeque::new() }
    }
}

/// Chooses what to hand out: what is due, shared out between the lanes, and then, as far as that
/// does not suffice, what may be visited before it is due.
///
/// The order is the stored one. Only what by now is no longer due is not handed out but placed
/// again: a listing without news writes no places, so that some are too early.
pub(crate) fn choose(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    number: u16,
    lanes: &[LaneSpec],
    count: usize,
    lister: Option<u32>,
    owed: &mut Owed,
) -> Result<Vec<Taken>> {
    let mut claiming = Claiming { number, lister, chosen: HashSet::new(), taken: Vec::new() };
    claiming.before_their_latest(t, ctx, count, &owed.pace)?;
    let all = count;
    let count = all - claiming.taken.len();
    let (guard, lanes): (Vec<&LaneSpec>, Vec<&LaneSpec>) = lanes.iter().partition(|l| l.lane == Lane::GUARD);
    // The guard's lane is never empty: it gets its share and no more, unless there is nothing else.
    let shares: f64 = lanes.iter().filter(|l| l.lane.is_policy()).map(|l| l.share).sum();
    let guard = guard.first().copied();
    owed.guarded += guard.map_or(0.0, |g| to_f64(count) * g.share / (g.share + shares));
    let count = count - whole(owed.guarded).min(count);
    let aged = claiming.taken.len();
    let mut heads: Vec<Head<'_>> = lanes.iter().map(|lane| Head::of(number, lane)).collect();
    let mut patience = count.saturating_mul(4).saturating_add(AHEAD);
    while claiming.taken.len() < aged + count {
        let need = aged + count - claiming.taken.len();
        for head in &mut heads {
            fill(t, number, head, ctx.now.as_micros(), need, lister)?;
        }
        t.settled()?;
        let offers: Vec<_> = heads.iter().map(|h| (h.lane.share, h.ready.len())).collect();
        let shares = allocate(need, &offers, &mut owed.credit);
        let all = heads.iter().zip(&shares).flat_map(|(head, share)| head.ready.iter().take(*share));
        t.will_number("visit", (claiming.taken.len() + need) as u64);
        will_look(t, ctx, all)?;
        let mut moved = 0;
        for (head, share) in heads.iter_mut().zip(shares) {
            for candidate in head.ready.drain(..share) {
                if !claiming.chosen.insert(candidate.id) {
                    // It waited in two lanes, and the other one was first.
                    moved += 1;
                    continue;
                }
                match take(t, ctx, head.lane, &candidate, patience > moved)? {
                    Some(visit) => claiming.taken.push(visit),
                    None => {
                        moved += 1;
                        claiming.chosen.remove(&candidate.id);
                        let mut row = must_load(t, candidate.id)?;
                        place(t, ctx, candidate.id, &mut row)?;
                    }
                }
            }
        }
        if moved == 0 {
            break;
        }
        patience = patience.saturating_sub(moved);
    }
    let left = (aged + count).saturating_sub(claiming.taken.len());
    if left > 0 {
        claiming.look_ahead(t, ctx, &lanes, left)?;
    }
    if let Some(lane) = guard {
        let before = claiming.taken.len();
        claiming.longest_alone(t, ctx, lane, all - before)?;
        owed.guarded = (owed.guarded - to_f64(claiming.taken.len() - before)).clamp(-1.0, 1.0);
    }
    Ok(claiming.taken)
}

#[allow(clippy::cast_precision_loss, reason = "a claim has far fewer than 2^52 visits")]
fn to_f64(n: usize) -> f64 {
    n as f64
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded down, of few")]
fn whole(x: f64) -> usize {
    x.max(0.0) as usize
}

impl Claiming {
    /// Adds the origins of classes with a maximum age that must go now, so that all others of them can
    /// be visited in time as well.
    fn before_their_latest(
        &mut self,
        t: &dyn KvRead,
        ctx: &mut Ctx<'_>,
        count: usize,
        pace: &Pace,
    ) -> Result<()> {
        if ctx.options.max_ages.is_empty() || count == 0 {
            return Ok(());
        }
        // Those that rest after a visit count too, though they may not go now.
        let mut resting = Vec::new();
        scan_prefix(t, keys::WAIT, &K::new().u16(self.number), &mut |_, places| {
            let mut places = keys::Parts(places);
            while !places.0.is_empty() {
                resting.push((places.u8(), places.i64()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let now = ctx.now;
        let left = |rank: i64| days(now, Timestamp::from_micros(rank));
        let mut lanes = Vec::new();
        let mut classes = Vec::new();
        for (i, class) in ctx.options.max_ages.iter().take(CLASSES).enumerate() {
            let limit = AgeLimit { class: u8::try_from(i).unwrap_or(u8::MAX), cap: class.cap };
            let lane = LaneSpec::new(limit.lane(), format!("max age of {}", class.name), 0.0);
            let prefix = K::new().u16(self.number).u8(lane.lane.0);
            let mut waiting = Vec::new();
            scan_prefix(t, keys::QUEUE, &prefix, &mut |key, _| {
                let candidate = candidate(key);
                if listed_by(t, candidate.id, self.lister)? {
                    waiting.push(candidate);
                }
                Ok(ControlFlow::Continue(()))
            })?;
            let resting = resting.iter().filter(|(of, _)| *of == lane.lane.0).map(|(_, rank)| *rank);
            let mut until: Vec<f64> = waiting.iter().map(|c| c.rank).chain(resting).map(left).collect();
            until.sort_by(f64::total_cmp);
            classes.push((class.cap.as_secs_f64() / 86_400.0, until));
            lanes.push((lane, waiting));
        }
        let needed = needed(&classes, pace, count);
        t.settled()?;
        will_look(
            t,
            ctx,
            lanes.iter().zip(&needed).flat_map(|((_, waiting), n)| waiting.iter().take(n * 2 + 64)),
        )?;
        for ((lane, waiting), needed) in lanes.iter().zip(needed) {
            let until = self.taken.len() + needed;
            for candidate in waiting {
                if self.taken.len() >= until {
                    break;
                }
                if let Some(visit) = take(t, ctx, lane, candidate, false)? {
                    self.chosen.insert(candidate.id);
                    self.taken.push(visit);
                }
            }
        }
        Ok(())
    }

    /// Adds those left alone longest, from the guard's lane.
    fn longest_alone(
        &mut self,
        t: &dyn KvRead,
        ctx: &mut Ctx<'_>,
        lane: &LaneSpec,
        count: usize,
    ) -> Result<()> {
        let mut head = Head::of(self.number, lane);
        let until = self.taken.len() + count;
        while self.taken.len() < until {
            fill(t, self.number, &mut head, ctx.now.as_micros(), until - self.taken.len(), self.lister)?;
            if head.ready.is_empty() {
                break;
            }
            t.settled()?;
            will_look(t, ctx, head.ready.iter())?;
            while let Some(candidate) = head.ready.pop_front() {
                if self.chosen.insert(candidate.id) {
                    self.taken.extend(take(t, ctx, lane, &candidate, false)?);
                }
            }
        }
        Ok(())
    }

    /// Adds what comes next: everything due is taken, and nobody is owed anything for what is read
    /// ahead.
    fn look_ahead(
        &mut self,
        t: &mut dyn KvTxn,
        ctx: &mut Ctx<'_>,
        lanes: &[&LaneSpec],
        left: usize,
    ) -> Result<()> {
        let mut ahead = Vec::with_capacity(lanes.len());
        for lane in lanes {
            ahead.push(self.soonest(t, ctx, lane, left)?);
        }
        let offers: Vec<_> = lanes.iter().zip(&ahead).map(|(l, c)| (l.share, c.len())).collect();
        for (ready, share) in ahead.into_iter().zip(allocate(left, &offers, &mut Vec::new())) {
            self.taken.extend(ready.into_iter().take(share));
        }
        Ok(())
    }

    /// The first of a lane whose rank is still to come. Stored ranks may be too early, so each that
    /// comes first is looked at again, and goes only if it still does.
    fn soonest(
        &mut self,
        t: &mut dyn KvTxn,
        ctx: &mut Ctx<'_>,
        lane: &LaneSpec,
        left: usize,
    ) -> Result<Vec<Taken>> {
        let mut stored = tail(t, self.number, lane.lane, ctx.now.as_micros(), self.lister)?;
        stored.retain(|c| !self.chosen.contains(&c.id));
        t.settled()?;
        will_look(t, ctx, stored.iter())?;
        let mut stored = stored.into_iter().peekable();
        let mut fresh: BTreeMap<(i64, u64), Taken> = BTreeMap::new();
        let mut ready = Vec::new();
        while ready.len() < left {
            let first = fresh.first_key_value().map(|(key, _)| *key);
            if let Some(next) = stored.next_if(|c| first.is_none_or(|first| (c.rank, c.id) < first)) {
                if let Some((rank, visit)) = look(t, ctx, lane, &next)? {
                    fresh.insert((rank, next.id), visit);
                }
                continue;
            }
            let Some((_, visit)) = fresh.pop_first() else { break };
            self.chosen.insert(visit.id);
            ready.push(visit);
        }
        for (id, mut visit) in fresh.into_iter().map(|((_, id), visit)| (id, visit)) {
            place_if_moved(t, ctx, id, &mut visit.row)?;
        }
        Ok(ready)
    }
}

/// Tells that these will be looked at.
fn will_look<'c>(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    candidates: impl Iterator<Item = &'c Candidate> + Clone,
) -> Result<()> {
    will_load(t, candidates.clone().map(|c| c.id))?;
    will_judge(t, ctx, candidates.map(|c| c.id))
}

fn listed_by(t: &dyn KvRead, id: u64, lister: Option<u32>) -> Result<bool> {
    let Some(lister) = lister else { return Ok(true) };
    let row = must_load(t, id)?;
    Ok(row.listings.iter().any(|l| l.lister == lister && l.gone().is_none()))
}

fn candidate(key: &[u8]) -> Candidate {
    let mut parts = keys::Parts(key);
    parts.u16();
    parts.u8();
    Candidate { rank: parts.i64(), id: parts.u64() }
}

/// Reads on in a lane until so many origins whose rank has come are at hand.
fn fill(
    t: &dyn KvRead,
    number: u16,
    head: &mut Head<'_>,
    now: i64,
    need: usize,
    lister: Option<u32>,
) -> Result<()> {
    if head.ready.len() >= need {
        return Ok(());
    }
    let to = keys::queue(number, head.lane.lane.0, now.saturating_add(1), 0);
    let from = std::mem::replace(&mut head.from, to.to_vec());
    t.scan(keys::QUEUE, &from, Some(&to), &mut |key, _| {
        if head.ready.len() >= need {
            head.from = key.to_vec();
            return Ok(ControlFlow::Break(()));
        }
        let candidate = candidate(key);
        if listed_by(t, candidate.id, lister)? {
            head.ready.push_back(candidate);
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// The first origins of a lane whose rank is still to come.
fn tail(t: &dyn KvRead, number: u16, lane: Lane, now: i64, lister: Option<u32>) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    let mut looked = 0;
    let from = keys::queue(number, lane.0, now.saturating_add(1), 0);
    let to = after_prefix(&K::new().u16(number).u8(lane.0));
    t.scan(keys::QUEUE, &from, to.as_deref(), &mut |key, _| {
        looked += 1;
        let candidate = candidate(key);
        if listed_by(t, candidate.id, lister)? {
            found.push(candidate);
        }
        Ok(if looked >= AHEAD { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found)
}

/// A candidate as handed out; none where it may not be visited now, or, if that is asked for, is not
/// due any more.
fn take(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    lane: &LaneSpec,
    candidate: &Candidate,
    due: bool,
) -> Result<Option<Taken>> {
    let found = look(t, ctx, lane, candidate)?;
    Ok(found.filter(|(rank, _)| !due || *rank <= ctx.now.as_micros()).map(|(_, visit)| visit))
}

/// A candidate as handed out, and its rank by what is known now; none where it may not be visited now.
fn look(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    lane: &LaneSpec,
    candidate: &Candidate,
) -> Result<Option<(i64, Taken)>> {
    let row = must_load(t, candidate.id)?;
    let facts = facts(t, ctx, candidate.id, &row)?;
    let kind = ctx.kind(row.visit_type)?;
    let schedule = schedule(&*kind.policy, &facts, &kind.shared, ctx.now);
    let Schedule::Waiting { mut place, also, not_before } = schedule else { return Ok(None) };
    if not_before > ctx.now {
        return Ok(None);
    }
    let also = also.filter(|(other, _)| *other == lane.lane && place.lane != lane.lane);
    let rank = also.map_or(place.rank, |(_, rank)| rank);
    if also.is_some() {
        let last = facts.visits.last_visit.map_or("never".to_owned(), |t| t.to_string());
        place.why = match facts.must_by().filter(|_| lane.lane.is_aged()) {
            Some(by) => Reason::new("max_age", format!("to be visited by {by}: last visited {last}")),
            None => Reason::new(&lane.name, format!("left alone for long: last visited {last}")),
        };
    }
    let visit = Taken {
        id: candidate.id,
        row,
        rank: candidate.rank,
        lane: lane.lane,
        lane_name: lane.name.clone(),
        facts,
        why: place.why,
    };
    Ok(Some((rank, visit)))
}
