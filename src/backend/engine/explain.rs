//! Why, how many, and when: requests, explanations, statistics.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::ctx::{Ctx, lister_row, owner_name, owner_number};
use super::identity::answering;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, scan_prefix};
use super::place::{absorb, edit_wishes, facts, key_of, lease, place, placement, stats};
use super::rows::{OriginRow, Place, decode, encode};
use super::visits::leased;
use crate::backend::{
    Explanation, Hint, Hinted, LaneLoad, LeaseInfo, Metrics, Requested, Result, VisitRequest,
};
use crate::model::{OriginKey, Timestamp, VisitStats, VisitToken, VisitType, digest128};
use crate::policy::{AgeLimit, CLASSES, Gate, GateState, Lane, Schedule, gates, observe_hint, schedule};

/// How many go before an origin is counted so far.
const COUNTED: u64 = 100_000;

/// Origins of a lane that go before a place.
fn ahead(t: &dyn KvRead, visit_type: u16, id: u64, place: Place) -> Result<u64> {
    let from = K::new().u16(visit_type).u8(place.lane);
    let to = keys::queue(visit_type, place.lane, place.rank, id);
    t.count(keys::QUEUE, &from, &to, COUNTED)
}

/// Asks for visits soon. The first wish counts; repeating it changes nothing.
pub(crate) fn request(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    requests: &[VisitRequest],
) -> Result<Vec<Option<Requested>>> {
    let mut answers = Vec::with_capacity(requests.len());
    for VisitRequest { origin, by } in requests {
        let Some((id, mut row)) = answering(t, ctx, origin)? else {
            answers.push(None);
            continue;
        };
        let now = ctx.now;
        if row.wishes.as_deref().is_none_or(|w| w.requested_at.is_none()) {
            if let Err(again_at) = admit(t, ctx, by)? {
                answers.push(Some(Requested::refused(again_at)));
                continue;
            }
            edit_wishes(&mut row, |w| {
                w.requested_at = Some(now);
                w.requested_by = Some(by.clone());
            });
            place(t, ctx, id, &mut row)?;
        }
        let answer = match (earliest(t, ctx, id, &row)?, row.place) {
            (Some(due), Some(place)) => Requested::new(ahead(t, row.visit_type, id, place)?, due),
            _ => Requested::parked(placement(t, ctx, id, &row)?.0.why().clone()),
        };
        answers.push(Some(answer));
    }
    Ok(answers)
}

/// Counts a request against its requester's quota.
fn admit(t: &mut dyn KvTxn, ctx: &Ctx<'_>, by: &str) -> Result<std::result::Result<(), Timestamp>> {
    let Some(quota) = ctx.options.quota else { return Ok(Ok(())) };
    let key = K::new().bytes(&digest128(by.as_bytes()));
    let spent = t.get(keys::QUOTA, &key)?.map(|bytes| decode(&bytes)).transpose()?;
    Ok(match quota.admit(spent, ctx.now) {
        Ok(paid) => Ok(t.put(keys::QUOTA, &key, &encode(&paid)?)?),
        Err(again_at) => Err(again_at),
    })
}

/// Takes outside information on changes. The newest counts; what is known already changes nothing.
pub(crate) fn hint(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, hints: &[Hint]) -> Result<Vec<Hinted>> {
    let mut answers = Vec::with_capacity(hints.len());
    for hint in hints {
        let Some((id, mut row)) = answering(t, ctx, &hint.origin)? else {
            answers.push(Hinted::default());
            continue;
        };
        let mut facts = facts(t, ctx, id, &row)?;
        let news = observe_hint(&mut facts, hint.changed_at, ctx.now);
        if news {
            absorb(&mut row, &facts);
            let source = owner_number(t, &hint.source)?;
            edit_wishes(&mut row, |w| w.hinted_by = source);
            place(t, ctx, id, &mut row)?;
        }
        answers.push(Hinted::new(true, news));
    }
    Ok(answers)
}

/// The earliest time at which an origin can be handed out.
fn earliest(t: &dyn KvRead, ctx: &mut Ctx<'_>, id: u64, row: &OriginRow) -> Result<Option<Timestamp>> {
    let until = lease(t, id)?.map(|l| l.until);
    let facts = facts(t, ctx, id, row)?;
    let kind = ctx.kind(row.visit_type)?;
    Ok(match schedule(&*kind.policy, &facts, &kind.shared, ctx.now) {
        Schedule::Parked(_) => None,
        Schedule::Waiting { not_before, .. } => {
            Some(not_before.max(ctx.now).max(until.unwrap_or(not_before)))
        }
    })
}

/// The gates of an origin as they stand, but for its turn.
pub(crate) fn states(t: &dyn KvRead, ctx: &mut Ctx<'_>, id: u64, row: &OriginRow) -> Result<Vec<GateState>> {
    let facts = facts(t, ctx, id, row)?;
    let kind = ctx.kind(row.visit_type)?;
    let mut states = gates(&*kind.policy, &facts, &kind.shared, ctx.now);
    states.push(match lease(t, id)? {
        Some(l) if l.until > ctx.now => GateState::new(
            Gate::Lease,
            false,
            Some(l.until),
            format!("a visit is under way until {}", l.until),
        ),
        _ => GateState::new(Gate::Lease, true, None, "no visit is under way"),
    });
    Ok(states)
}

/// Every gate in the way of an origin's next visit.
pub(crate) fn explain(t: &dyn KvRead, ctx: &mut Ctx<'_>, origin: &OriginKey) -> Result<Option<Explanation>> {
    let Some((id, row)) = answering(t, ctx, origin)? else { return Ok(None) };
    let facts = facts(t, ctx, id, &row)?;
    let lease = lease(t, id)?;
    let states = states(t, ctx, id, &row)?;
    let kind = ctx.kind(row.visit_type)?;
    let plan = schedule(&*kind.policy, &facts, &kind.shared, ctx.now);
    let lanes = kind.policy.gates(&kind.shared).lanes(&*kind.policy);
    let mut explanation = Explanation::new(key_of(ctx, &row)?, states, plan.why().clone());
    explanation.visits = stats(&row);
    explanation.must_by = facts.must_by();
    explanation.requested_by = facts.requested_by;
    if let (Schedule::Waiting { .. }, Some(place)) = (&plan, row.place) {
        let name = lanes.into_iter().find(|l| l.lane == Lane(place.lane)).map(|l| l.name);
        let name = name.unwrap_or_else(|| format!("lane {}", place.lane));
        let ahead = ahead(t, row.visit_type, id, place)?;
        let text = format!("{ahead} before it in lane {name}");
        explanation.gates.push(GateState::new(Gate::Lane, ahead == 0, None, text));
        explanation.lane = Some(name);
        explanation.ahead = Some(ahead);
    }
    explanation.earliest = earliest(t, ctx, id, &row)?;
    if let Some(lease) = lease {
        let owner = owner_name(t, lease.owner)?;
        explanation.lease = Some(LeaseInfo::new(VisitToken(lease.token), owner, lease.since, lease.until));
    }
    Ok(Some(explanation))
}

/// What is known of visits, in bulk.
pub(crate) fn statistics(
    t: &dyn KvRead,
    ctx: &Ctx<'_>,
    origins: &[OriginKey],
) -> Result<Vec<Option<VisitStats>>> {
    origins.iter().map(|key| Ok(answering(t, ctx, key)?.map(|(_, row)| stats(&row)))).collect()
}

/// Counts by lister and visit type.
pub(crate) fn metrics(t: &dyn KvRead, ctx: &Ctx<'_>) -> Result<Vec<Metrics>> {
    let leased = leased(t)?;
    let mut counts: BTreeMap<(u32, u16), Metrics> = BTreeMap::new();
    scan_prefix(t, keys::ORIGIN, &[], &mut |key, value| {
        let row: OriginRow = decode(value)?;
        let leased = leased.contains(&keys::first_u64(key));
        for listing in &row.listings {
            let of = match counts.entry((listing.lister, row.visit_type)) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    let lister = lister_row(t, listing.lister)?.key();
                    free.insert(Metrics::new(&lister, ctx.kind(row.visit_type)?.visit_type()?))
                }
            };
            of.known += 1;
            of.leased += u64::from(leased);
            let waits = row.place.filter(|_| listing.enabled() && listing.gone().is_none());
            if let Some(place) = waits {
                count(of, &row, listing.last_update, place, ctx.now);
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut found: Vec<Metrics> = counts.into_values().collect();
    found.sort_by(|a, b| {
        (&a.lister, &a.instance, a.visit_type.as_str()).cmp(&(&b.lister, &b.instance, b.visit_type.as_str()))
    });
    Ok(found)
}

fn count(of: &mut Metrics, row: &OriginRow, last_update: Option<Timestamp>, place: Place, now: Timestamp) {
    let visits = stats(row);
    of.enabled += 1;
    of.overdue += u64::from(place.rank <= now.as_micros());
    match visits.last_visit {
        None => of.never_visited += 1,
        Some(last) => of.oldest_visit = Some(of.oldest_visit.map_or(last, |oldest| oldest.min(last))),
    }
    let pending = visits.last_successful.is_some_and(|seen| last_update.is_some_and(|update| update > seen));
    of.pending_changes += u64::from(pending);
}

/// How much waits in each lane of a visit type.
pub(crate) fn lanes(t: &dyn KvRead, ctx: &Ctx<'_>, visit_type: &VisitType) -> Result<Vec<LaneLoad>> {
    let Some(kind) = ctx.kind_of(visit_type) else { return Ok(Vec::new()) };
    let mut loads: Vec<LaneLoad> = kind
        .policy
        .gates(&kind.shared)
        .lanes(&*kind.policy)
        .into_iter()
        .map(|spec| LaneLoad::new(spec.lane, spec.name, spec.share))
        .collect();
    for (i, class) in ctx.options.max_ages.iter().take(CLASSES).enumerate() {
        let limit = AgeLimit { class: u8::try_from(i).unwrap_or(u8::MAX), cap: class.cap };
        loads.push(LaneLoad::new(limit.lane(), format!("max age of {}", class.name), 0.0));
    }
    let mut count = |lane: u8, rank: i64| {
        if let Some(load) = loads.iter_mut().find(|l| l.lane == Lane(lane)) {
            load.waiting += 1;
            load.due += u64::from(rank <= ctx.now.as_micros());
        }
    };
    let of_type = K::new().u16(kind.number);
    scan_prefix(t, keys::QUEUE, &of_type, &mut |key, _| {
        let mut parts = keys::Parts(key);
        parts.u16();
        count(parts.u8(), parts.i64());
        Ok(ControlFlow::Continue(()))
    })?;
    scan_prefix(t, keys::WAIT, &of_type, &mut |_, value| {
        let mut parts = keys::Parts(value);
        while !parts.0.is_empty() {
            count(parts.u8(), parts.i64());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(loads)
}
