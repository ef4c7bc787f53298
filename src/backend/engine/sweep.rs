//! Places that no new fact renews: after a change of price, and after listings without news, which
//! write no rows. Renewed in small batches beside the claims, in an order that does not depend on
//! when an origin became known.

use std::ops::ControlFlow;
use std::time::Duration;

use super::ctx::{Ctx, last};
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, scan_prefix};
use super::place::{facts, load, must_load, place_if_moved, will_load};
use super::rows::{SweepRow, decode, encode, to_json};
use crate::backend::Result;
use crate::model::VisitType;
use crate::policy::Lane;

/// Every origin is placed again once within this time.
const ROUND: Duration = Duration::from_secs(14 * 86_400);
/// A claim places so many again, at most; more is left to the next one, or to a sweep.
pub(crate) const AT_ONCE: usize = 1000;
/// A policy is shown so many origins, at most.
const SAMPLE: usize = 1000;

/// A lister has looked again: what it told is stale is placed again, before anything else.
pub(crate) fn look_again(t: &mut dyn KvTxn, lister: u32) -> Result<()> {
    t.put(keys::STALE_DUE, &keys::of_u32(lister), &[])
}

/// Places again up to `limit` origins of those that it is time for. Returns how many that was, and
/// whether that was all.
pub(crate) fn refresh(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, limit: usize) -> Result<(usize, bool)> {
    let (done, finished) = stale(t, ctx, limit)?;
    if !finished {
        return Ok((done, false));
    }
    let (more, finished) = rolling(t, ctx, limit - done)?;
    Ok((done + more, finished))
}

/// The known-stale origins of listers that have looked again.
fn stale(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, limit: usize) -> Result<(usize, bool)> {
    let mut due: Vec<(u32, Vec<u8>)> = Vec::new();
    scan_prefix(t, keys::STALE_DUE, &[], &mut |key, after| {
        due.push((keys::Parts(key).u32(), after.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut done = 0;
    for (lister, after) in due {
        let prefix = keys::of_u32(lister);
        let mut found = Vec::new();
        let from = if after.is_empty() { prefix.to_vec() } else { after };
        let to = super::kv::after_prefix(&prefix);
        t.scan(keys::STALE, &from, to.as_deref(), &mut |key, _| {
            found.push(key.to_vec());
            Ok(if found.len() > limit - done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let next = (found.len() > limit - done).then(|| found.pop()).flatten();
        for key in &found {
            let mut parts = keys::Parts(key);
            parts.u32();
            parts.u64();
            again(t, ctx, parts.u64())?;
        }
        done += found.len();
        match next {
            Some(next) => {
                t.put(keys::STALE_DUE, &prefix, &next)?;
                return Ok((done, false));
            }
            None => t.delete(keys::STALE_DUE, &prefix)?,
        }
    }
    Ok((done, true))
}

/// The next ones of all origins, as many as the time since the last ones asks for.
fn rolling(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, limit: usize) -> Result<(usize, bool)> {
    let stored = t.get(keys::SWEEP, &[])?;
    let mut row: SweepRow = stored.map_or(Ok(SweepRow::default()), |bytes| decode(&bytes))?;
    let Some(since) = row.at else {
        row.at = Some(ctx.now);
        t.put(keys::SWEEP, &[], &encode(&row)?)?;
        return Ok((0, true));
    };
    let all = u128::from(last(t, "origin")?);
    let owed = (all * ctx.now.since(since).min(ROUND).as_micros() / ROUND.as_micros()).min(all);
    let n = usize::try_from(owed).unwrap_or(usize::MAX).min(limit);
    if n == 0 {
        return Ok((0, owed == 0));
    }
    let ids = next_keys(t, &mut row, n)?;
    for id in &ids {
        again(t, ctx, *id)?;
    }
    // What was not owed to the last microsecond is owed the next time.
    let paid =
        Duration::from_micros(u64::try_from(n as u128 * ROUND.as_micros() / all.max(1)).unwrap_or(u64::MAX));
    row.at = Some(since.plus(paid).max(ctx.now.minus(ROUND)));
    t.put(keys::SWEEP, &[], &encode(&row)?)?;
    Ok((ids.len(), u128::from(n as u64) == owed))
}

/// The next `n` origins by the digest of their key, around and around.
fn next_keys(t: &dyn KvRead, row: &mut SweepRow, n: usize) -> Result<Vec<u64>> {
    let mut ids = Vec::with_capacity(n);
    let (mut from, mut wrapped) = (std::mem::take(&mut row.after), false);
    loop {
        let mut found = false;
        let mut end = None;
        t.scan(keys::ORIGIN_KEY, &from, None, &mut |key, _| {
            found = true;
            if ids.len() >= n {
                end = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            let mut parts = keys::Parts(key);
            parts.u64();
            ids.push(parts.u64());
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(end) = end {
            row.after = end;
            return Ok(ids);
        }
        from = Vec::new();
        if ids.len() >= n || wrapped && !found {
            return Ok(ids);
        }
        wrapped = true;
    }
}

/// Places one origin again, with all that is known by now folded in where that moves it.
fn again(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, id: u64) -> Result<()> {
    let Some(mut row) = load(t, id)? else { return Ok(()) };
    place_if_moved(t, ctx, id, &mut row)
}

/// The visit type's number, where its policy wants to see a sample of its origins.
pub(crate) fn unsettled(ctx: &Ctx<'_>, visit_type: &VisitType) -> Option<u16> {
    let kind = ctx.kind_of(visit_type)?;
    (kind.row.waiting > 0 && kind.policy.unsettled(&kind.shared)).then_some(kind.number)
}

/// Shows a policy a sample of the origins that wait, and has all of them placed again.
pub(crate) fn start(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, number: u16) -> Result<()> {
    let ids = match t.sample(number, SAMPLE)? {
        Some(ids) => ids,
        None => sample(t, number)?,
    };
    will_load(t, ids.iter().copied())?;
    let mut sample = Vec::with_capacity(ids.len());
    for id in ids {
        let row = must_load(t, id)?;
        sample.push(facts(t, ctx, id, &row)?);
    }
    let kind = ctx.kind(number)?;
    let mut shared = kind.shared.clone();
    kind.policy.settle(&mut shared, &sample, ctx.now);
    let kept = to_json(&shared.kept)?;
    ctx.edit_kind(number, |row| {
        row.shared = Some(kept);
        row.replace_from = Some(0);
    });
    Ok(())
}

/// Origins that wait, all over the lanes: the first of them, and every so many after it.
fn sample(t: &dyn KvRead, number: u16) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    let prefix = K::new().u16(number);
    scan_prefix(t, keys::QUEUE, &prefix, &mut |key, _| {
        let mut parts = keys::Parts(key);
        parts.u16();
        let lane = Lane(parts.u8());
        parts.i64();
        // Who waits in two lanes is counted in the other one.
        if lane != Lane::GUARD {
            ids.push(parts.u64());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    scan_prefix(t, keys::WAIT, &prefix, &mut |key, _| {
        let mut parts = keys::Parts(key);
        parts.u16();
        parts.i64();
        ids.push(parts.u64());
        Ok(ControlFlow::Continue(()))
    })?;
    let stride = ids.len().div_ceil(SAMPLE).max(1);
    Ok(ids.into_iter().step_by(stride).collect())
}
