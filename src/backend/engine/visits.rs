//! Visits: claimed, kept alive, completed.

use std::ops::ControlFlow;
use std::time::Duration;

use super::choose::{Owed, Taken, choose};
use super::ctx::{Ctx, last, lister_number, next_of, owner_number};
use super::identity::joined;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn};
use super::origins::lister_key;
use super::pace;
use super::parts;
use super::place::{
    absorb, admit, enqueue, facts, key_of, lease, load, must_load, occupy, place, place_back, will_judge,
    will_load,
};
use super::rows::{LeaseRow, OriginRow, decode, encode, to_json};
use super::sweep::{AT_ONCE, refresh};
use crate::backend::{Claim, Claimed, Completed, Refusal, Result, Visit};
use crate::model::{Outcome, Timestamp, VisitId, VisitToken};
use crate::policy::{Evidence, Facts, Memo, looked_since, observe_visit};

/// Hands out visits.
pub(crate) fn claim(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, claim: &Claim) -> Result<Claimed> {
    expire(t, ctx.now)?;
    if ctx.sweeps {
        refresh(t, ctx, AT_ONCE)?;
    }
    let Some(kind) = ctx.kind_of(&claim.visit_type) else { return Ok(Claimed::default()) };
    let (number, policy) = (kind.number, std::sync::Arc::clone(&kind.policy));
    let pace = pace::note(t, number, claim.count, ctx.now)?;
    let mut owed = Owed { credit: kind.row.credit.clone(), guarded: kind.row.guarded, pace };
    let mut shared = kind.shared.clone();
    let lister = match &claim.lister {
        None => None,
        Some(key) => match lister_number(t, key)? {
            None => return Ok(Claimed::default()),
            known => known,
        },
    };
    wake(t, number, ctx.now)?;
    let lanes = policy.gates(&shared).lanes(&*policy);
    let taken = choose(t, ctx, number, &lanes, claim.count, lister, &mut owed)?;
    parts::will_read(t, taken.iter().map(|taken| taken.id))?;
    let owner = owner_number(t, &claim.owner)?;
    let until = ctx.now.plus(claim.lease);
    let first = if taken.is_empty() { 0 } else { next_of(t, "visit", taken.len() as u64)? };
    let mut learnt = Vec::with_capacity(taken.len());
    let mut visits = Vec::with_capacity(taken.len());
    for (token, taken) in (first..).zip(taken) {
        occupy(t, taken.id, &taken.row, &LeaseRow { token, owner, since: ctx.now, until })?;
        visits.push(visit(t, ctx, &taken, claim, VisitToken(token), Some(until))?);
        if taken.lane.is_policy() {
            let value = policy.value(&taken.facts, &shared, ctx.now);
            learnt.push((taken.facts, value));
        }
    }
    let known = shared.kept.clone();
    policy.learn(&mut shared, &learnt, ctx.now);
    let kept = (shared.kept != known).then(|| to_json(&shared.kept)).transpose()?;
    ctx.edit_kind(number, |row| {
        row.credit = owed.credit;
        row.guarded = owed.guarded;
        row.shared = kept.or(row.shared.take());
    });
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
fn expire(t: &mut dyn KvTxn, now: Timestamp) -> Result<()> {
    let mut expired = Vec::new();
    let to = keys::deadline(now.as_micros().saturating_add(1), 0);
    t.scan(keys::DEADLINE, &[], Some(&to), &mut |key, _| {
        expired.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    let id = |key: &[u8]| {
        let mut parts = keys::Parts(key);
        parts.i64();
        parts.u64()
    };
    will_load(t, expired.iter().map(|key| id(key)))?;
    for key in expired {
        let id = id(&key);
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
        ready.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    for (key, places) in ready {
        let mut parts = keys::Parts(&key);
        parts.u16();
        parts.i64();
        let id = parts.u64();
        t.delete(keys::WAIT, &key)?;
        admit(t, visit_type, id, &places)?;
    }
    Ok(())
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
    if t.is_far() {
        let mut known = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            known.extend(load(t, outcome.visit.0)?.map(|_| outcome.visit.0));
        }
        t.settled()?;
        will_judge(t, ctx, known.into_iter())?;
    }
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
    count_news(t, ctx, id, &row, &facts, outcome, changed.filter(|_| !out_of_order))?;
    let before = facts.clone();
    observe_visit(&mut facts, outcome, lease.since, changed);
    let kind = ctx.kind(row.visit_type)?;
    if !out_of_order {
        // The policy is told what was found out, not only what the worker said.
        let told = Outcome { changed, ..outcome.clone() };
        kind.policy.observe(&mut facts, &before, &told, &kind.shared);
    }
    absorb(&mut row, &facts);
    if let Some(visits) = row.visits.as_deref_mut() {
        visits.token = outcome.token.0;
        visits.memo = (facts.memo != Memo::default()).then_some((kind.tag, facts.memo));
    }
    t.delete(keys::LEASE, &keys::of_u64(claimed))?;
    t.delete(keys::DEADLINE, &keys::deadline(lease.until.as_micros(), claimed))?;
    if id == claimed {
        // It was leased, and so in no queue: its old place is not to be looked for.
        place_back(t, ctx, id, &mut row)?;
    } else {
        place(t, ctx, id, &mut row)?;
    }
    Ok(Completed::new(key_of(ctx, &row)?, changed, out_of_order))
}

/// Counts what a visit says of the news that its listers told before it.
fn count_news(
    t: &dyn KvRead,
    ctx: &mut Ctx<'_>,
    id: u64,
    row: &OriginRow,
    facts: &Facts,
    outcome: &Outcome,
    changed: Option<bool>,
) -> Result<()> {
    let (Some(good), Some(changed)) = (facts.last_good(), changed) else { return Ok(()) };
    if !outcome.status.archived_something() {
        return Ok(());
    }
    if let Some(wishes) = row.wishes.as_deref().filter(|w| w.hinted_at > Some(good)) {
        ctx.count_hint(t, wishes.hinted_by, changed)?;
    }
    for listing in row.listings.iter().filter(|l| l.gone().is_none()) {
        if !ctx.dated(t, listing.lister)? {
            continue;
        }
        let looked = ctx.evidence(t, listing.lister, id)?.max(Some(listing.last_seen()));
        let looked = looked.max(facts.evidence.listed.filter(|_| row.listings.len() == 1));
        let told = Evidence::credible(listing.last_update, looked).is_some_and(|u| u > good);
        let looked = looked_since(looked, good);
        ctx.count_news(t, listing.lister, |s| s.count(told, looked, changed))?;
    }
    Ok(())
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
