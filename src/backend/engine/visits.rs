//! Visits: claimed, kept alive, completed.

use std::ops::ControlFlow;
use std::time::Duration;

use super::ctx::{Ctx, last, lister_number, next_of, owner_number};
use super::identity::joined;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, after_prefix};
use super::origins::lister_key;
use super::parts;
use super::place::{absorb, enqueue, facts, key_of, lease, load, must_load, place};
use super::rows::{LeaseRow, OriginRow, TypeRow, decode, encode, to_json};
use crate::backend::{Claim, Claimed, Completed, Refusal, Result, Visit};
use crate::model::{Outcome, Timestamp, VisitId, VisitToken};
use crate::policy::{Facts, Lane, LaneSpec, Reason, Schedule, allocate, observe_visit, schedule};

/// A claim looks at so many origins of a lane whose rank has not come, at most.
const AHEAD: usize = 1000;

/// An origin that may be handed out.
struct Candidate {
    rank: i64,
    id: u64,
}

/// A candidate as it is handed out.
struct Taken {
    id: u64,
    row: OriginRow,
    rank: i64,
    lane: Lane,
    lane_name: String,
    facts: Facts,
    why: Reason,
}

/// Hands out visits.
pub(crate) fn claim(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, claim: &Claim) -> Result<Claimed> {
    sweep(t, ctx.now)?;
    let Some(kind) = ctx.kind_of(&claim.visit_type) else { return Ok(Claimed::default()) };
    let (number, policy) = (kind.number, std::sync::Arc::clone(&kind.policy));
    let (mut type_row, mut shared) = (kind.row.clone(), kind.shared.clone());
    let before = type_row.clone();
    let lister = match &claim.lister {
        None => None,
        Some(key) => match lister_number(t, key)? {
            None => return Ok(Claimed::default()),
            known => known,
        },
    };
    wake(t, number, ctx.now)?;
    let lanes = policy.gates().lanes(&*policy);
    let taken = choose(t, ctx, number, &lanes, claim.count, lister, &mut type_row)?;
    let owner = owner_number(t, &claim.owner)?;
    let until = ctx.now.plus(claim.lease);
    let first = if taken.is_empty() { 0 } else { next_of(t, "visit", taken.len() as u64)? };
    let mut learnt = Vec::with_capacity(taken.len());
    let mut visits = Vec::with_capacity(taken.len());
    for (token, taken) in (first..).zip(taken) {
        let row = LeaseRow { token, owner, since: ctx.now, until };
        t.delete(keys::QUEUE, &keys::queue(number, taken.lane.0, taken.rank, taken.id))?;
        t.put(keys::LEASE, &keys::of_u64(taken.id), &encode(&row)?)?;
        t.put(keys::DEADLINE, &keys::deadline(until.as_micros(), taken.id), &[])?;
        let value = policy.value(&taken.facts, &shared, ctx.now);
        visits.push(visit(t, ctx, &taken, claim, VisitToken(token), Some(until))?);
        learnt.push((taken.facts, value));
    }
    let known = shared.clone();
    policy.learn(&mut shared, &learnt, ctx.now);
    if shared != known {
        type_row.shared = Some(to_json(&shared)?);
    }
    if type_row != before {
        t.put(keys::TYPE, &K::new().u16(number), &encode(&type_row)?)?;
    }
    Ok(Claimed::new(visits))
}

/// What a claim would hand out: the claim is made, shown and taken back.
pub(crate) fn shown(mut claimed: Claimed) -> Claimed {
    for visit in &mut claimed.visits {
        visit.token = VisitToken(0);
        visit.deadline = None;
    }
    claimed
}

/// Puts back into the queue what no longer is anybody's.
fn sweep(t: &mut dyn KvTxn, now: Timestamp) -> Result<()> {
    let mut expired = Vec::new();
    let to = keys::deadline(now.as_micros().saturating_add(1), 0);
    t.scan(keys::DEADLINE, &[], Some(&to), &mut |key, _| {
        expired.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    for key in expired {
        let mut parts = keys::Parts(&key);
        parts.i64();
        let id = parts.u64();
        t.delete(keys::DEADLINE, &key)?;
        t.delete(keys::LEASE, &keys::of_u64(id))?;
        let row = must_load(t, id)?;
        enqueue(t, id, &row)?;
    }
    Ok(())
}

/// Lets into their lanes the origins whose time has come.
fn wake(t: &mut dyn KvTxn, visit_type: u16, now: Timestamp) -> Result<()> {
    let mut ready = Vec::new();
    let to = keys::wait(visit_type, now.as_micros().saturating_add(1), 0);
    t.scan(keys::WAIT, &K::new().u16(visit_type), Some(&to), &mut |key, value| {
        let mut place = keys::Parts(value);
        ready.push((key.to_vec(), place.u8(), place.i64()));
        Ok(ControlFlow::Continue(()))
    })?;
    for (key, lane, rank) in ready {
        let mut parts = keys::Parts(&key);
        parts.u16();
        parts.i64();
        let id = parts.u64();
        t.delete(keys::WAIT, &key)?;
        t.put(keys::QUEUE, &keys::queue(visit_type, lane, rank, id), &[])?;
    }
    Ok(())
}

/// Chooses what to hand out: what is due, shared out between the lanes, and then, as far as that
/// does not suffice, what may be visited before it is due.
fn choose(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    number: u16,
    lanes: &[LaneSpec],
    count: usize,
    lister: Option<u32>,
    type_row: &mut TypeRow,
) -> Result<Vec<Taken>> {
    let mut taken = Vec::new();
    let mut due = Vec::with_capacity(lanes.len());
    for lane in lanes {
        due.push(head(t, number, lane.lane, ctx.now, count, lister)?);
    }
    let offers: Vec<_> = lanes.iter().zip(&due).map(|(l, c)| (l.share, c.len())).collect();
    let shares = allocate(count, &offers, &mut type_row.credit);
    for ((lane, candidates), share) in lanes.iter().zip(due).zip(shares) {
        for candidate in candidates.into_iter().take(share) {
            taken.extend(take(t, ctx, lane, &candidate)?);
        }
    }
    let mut left = count.saturating_sub(taken.len());
    if left == 0 {
        return Ok(taken);
    }
    // Everything due is taken; nobody is owed anything for what is read ahead.
    let mut ahead = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let mut ready = Vec::new();
        for candidate in tail(t, number, lane.lane, ctx.now, lister)? {
            if ready.len() >= left {
                break;
            }
            ready.extend(take(t, ctx, lane, &candidate)?);
        }
        ahead.push(ready);
    }
    let offers: Vec<_> = lanes.iter().zip(&ahead).map(|(l, c)| (l.share, c.len())).collect();
    for (ready, share) in ahead.into_iter().zip(allocate(left, &offers, &mut Vec::new())) {
        left -= share.min(left);
        taken.extend(ready.into_iter().take(share));
    }
    Ok(taken)
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

/// The first origins of a lane whose rank has come.
fn head(
    t: &dyn KvRead,
    number: u16,
    lane: Lane,
    now: Timestamp,
    count: usize,
    lister: Option<u32>,
) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    if count == 0 {
        return Ok(found);
    }
    let from = K::new().u16(number).u8(lane.0);
    let to = keys::queue(number, lane.0, now.as_micros().saturating_add(1), 0);
    t.scan(keys::QUEUE, &from, Some(&to), &mut |key, _| {
        let candidate = candidate(key);
        if listed_by(t, candidate.id, lister)? {
            found.push(candidate);
        }
        Ok(if found.len() >= count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(found)
}

/// The first origins of a lane whose rank is still to come.
fn tail(
    t: &dyn KvRead,
    number: u16,
    lane: Lane,
    now: Timestamp,
    lister: Option<u32>,
) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    let mut looked = 0;
    let from = keys::queue(number, lane.0, now.as_micros().saturating_add(1), 0);
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

/// A candidate as handed out; none where its time has not come.
fn take(t: &dyn KvRead, ctx: &mut Ctx<'_>, lane: &LaneSpec, candidate: &Candidate) -> Result<Option<Taken>> {
    let row = must_load(t, candidate.id)?;
    let facts = facts(t, ctx, candidate.id, &row)?;
    let kind = ctx.kind(row.visit_type)?;
    match schedule(&*kind.policy, &facts, &kind.shared, ctx.now) {
        Schedule::Waiting { place, not_before } if not_before <= ctx.now => Ok(Some(Taken {
            id: candidate.id,
            row,
            rank: candidate.rank,
            lane: lane.lane,
            lane_name: lane.name.clone(),
            facts,
            why: place.why,
        })),
        _ => Ok(None),
    }
}

/// A rank as a date, where it is one.
pub(crate) fn date_of(rank: i64) -> Option<Timestamp> {
    // 1980 to 9999: a policy that ranks by something else has smaller numbers, or far larger ones.
    let at = Timestamp::from_micros(rank);
    (at.as_micros() == rank && rank >= 315_532_800_000_000).then_some(at)
}

fn visit(
    t: &dyn KvRead,
    ctx: &Ctx<'_>,
    taken: &Taken,
    claim: &Claim,
    token: VisitToken,
    deadline: Option<Timestamp>,
) -> Result<Visit> {
    let live = || taken.row.listings.iter().filter(|l| l.gone().is_none());
    let wanted = live().find(|l| l.enabled()).or_else(|| live().next()).or(taken.row.listings.first());
    let (lister, arguments) = match wanted {
        Some(listing) => (lister_key(t, listing.lister)?, parts::arguments(t, taken.id, listing)?),
        None => return Err(super::rows::corrupt(format!("origin {} has no lister", taken.id))),
    };
    Ok(Visit {
        visit: VisitId(taken.id),
        token,
        url: taken.row.url.clone(),
        visit_type: claim.visit_type.clone(),
        lister: lister.name,
        instance: lister.instance,
        arguments,
        due: date_of(taken.rank).filter(|due| *due <= ctx.now),
        lane: taken.lane_name.clone(),
        reason: taken.why.clone(),
        deadline,
    })
}

/// The lease of a visit, where a token still is the right one.
fn rightful(
    t: &dyn KvRead,
    visit: VisitId,
    token: VisitToken,
) -> Result<std::result::Result<(LeaseRow, OriginRow), Refusal>> {
    let Some(row) = load(t, visit.0)? else { return Ok(Err(Refusal::Unknown)) };
    if token.0 == 0 || token.0 > last(t, "visit")? {
        return Ok(Err(Refusal::Unknown));
    }
    if let Some(lease) = lease(t, visit.0)? {
        if lease.token == token.0 {
            return Ok(Ok((lease, row)));
        }
        if lease.token < token.0 {
            // Newer than any claim of this visit: another visit's token.
            return Ok(Err(Refusal::Unknown));
        }
    }
    let done = row.visits.as_deref().is_some_and(|v| v.token == token.0);
    Ok(Err(if done { Refusal::Duplicate } else { Refusal::Stale }))
}

/// Makes leases longer.
pub(crate) fn heartbeat(
    t: &mut dyn KvTxn,
    visits: &[(VisitId, VisitToken)],
    length: Duration,
    now: Timestamp,
) -> Result<Vec<std::result::Result<Timestamp, Refusal>>> {
    let mut answers = Vec::with_capacity(visits.len());
    for (visit, token) in visits {
        let answer = match rightful(t, *visit, *token)? {
            Err(refusal) => Err(refusal),
            Ok((mut lease, _)) => {
                t.delete(keys::DEADLINE, &keys::deadline(lease.until.as_micros(), visit.0))?;
                lease.until = now.plus(length);
                t.put(keys::DEADLINE, &keys::deadline(lease.until.as_micros(), visit.0), &[])?;
                t.put(keys::LEASE, &keys::of_u64(visit.0), &encode(&lease)?)?;
                Ok(lease.until)
            }
        };
        answers.push(answer);
    }
    Ok(answers)
}

/// Takes outcomes.
pub(crate) fn complete(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    outcomes: &[Outcome],
) -> Result<Vec<std::result::Result<Completed, Refusal>>> {
    let mut answers = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        let answer = match rightful(t, outcome.visit, outcome.token)? {
            Err(refusal) => Err(refusal),
            Ok((lease, row)) => Ok(take_outcome(t, ctx, outcome, &lease, row)?),
        };
        answers.push(answer);
    }
    Ok(answers)
}

fn take_outcome(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    outcome: &Outcome,
    lease: &LeaseRow,
    mut row: OriginRow,
) -> Result<Completed> {
    let claimed = outcome.visit.0;
    let id = joined(t, claimed)?;
    if id != claimed {
        row = must_load(t, id)?;
    }
    let mut facts = facts(t, ctx, id, &row)?;
    let out_of_order = facts.visits.last_visit.is_some_and(|last| last > outcome.at);
    let differs = match (&outcome.snapshot, &facts.visits.last_snapshot) {
        (Some(new), Some(old)) if !out_of_order => Some(new != old),
        _ => None,
    };
    let changed = outcome.changed.or(differs);
    observe_visit(&mut facts, outcome, lease.since);
    absorb(&mut row, &facts);
    if let Some(visits) = row.visits.as_deref_mut() {
        visits.token = outcome.token.0;
    }
    t.delete(keys::LEASE, &keys::of_u64(claimed))?;
    t.delete(keys::DEADLINE, &keys::deadline(lease.until.as_micros(), claimed))?;
    if id == claimed {
        // It was leased, and so in no queue: its old place is not to be looked for.
        row.place = None;
    }
    place(t, ctx, id, &mut row)?;
    Ok(Completed::new(key_of(ctx, &row)?, changed, out_of_order))
}

/// The lease rows, by origin.
pub(crate) fn leased(t: &dyn KvRead) -> Result<std::collections::HashSet<u64>> {
    let mut found = std::collections::HashSet::new();
    super::kv::scan_prefix(t, keys::LEASE, &[], &mut |key, value| {
        decode::<LeaseRow>(value)?;
        found.insert(keys::first_u64(key));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}
