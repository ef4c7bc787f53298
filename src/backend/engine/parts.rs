//! Parts of listings: what each says of origins, replaced whole when it has been read whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::commit::{Touch, Work};
use super::ctx::{Ctx, next};
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, keys_of, scan_prefix};
use super::place::{must_load, observe, place, will_load};
use super::rows::{PartRow, PartRunRow, Reading, corrupt, decode, encode};
use super::runs::is_open;
use super::{gaps, rows};
use crate::backend::{ChangeKind, Result};
use crate::model::{JsonObject, digest128};

/// Marks what was put together when a run filled a gap of a part: it is kept apart from what the run
/// itself reads, because the run may still read the whole part from its beginning.
const RETRIED: u64 = 1 << 63;

/// A part's number and row, where it was ever read.
pub(crate) fn find(t: &dyn KvRead, lister: u32, part: &str) -> Result<Option<(u32, PartRow)>> {
    let key = K::new().u32(lister).bytes(&digest128(part.as_bytes()));
    let Some(number) = t.get(keys::PART_ID, &key)?.map(|v| keys::Parts(&v).u32()) else { return Ok(None) };
    Ok(Some((number, row(t, number)?)))
}

/// A part's number, given now where it has none.
pub(crate) fn number(t: &mut dyn KvTxn, lister: u32, part: &str) -> Result<u32> {
    let key = K::new().u32(lister).bytes(&digest128(part.as_bytes()));
    if let Some(known) = t.get(keys::PART_ID, &key)? {
        return Ok(keys::Parts(&known).u32());
    }
    let number = u32::try_from(next(t, "part")?).map_err(|_| corrupt("too many parts"))?;
    t.put(keys::PART_ID, &key, &keys::of_u32(number))?;
    put(t, number, &PartRow { lister, key: part.to_owned(), ..PartRow::default() })?;
    Ok(number)
}

fn row(t: &dyn KvRead, number: u32) -> Result<PartRow> {
    let bytes = t.get(keys::PART, &keys::of_u32(number))?;
    decode(&bytes.ok_or_else(|| corrupt(format!("no part {number}")))?)
}

fn put(t: &mut dyn KvTxn, number: u32, row: &PartRow) -> Result<()> {
    t.put(keys::PART, &keys::of_u32(number), &encode(row)?)
}

/// Changes how far a run has read a part.
pub(crate) fn edit_run(
    t: &mut dyn KvTxn,
    run: u64,
    part: u32,
    change: impl FnOnce(&mut PartRunRow),
) -> Result<()> {
    let key = K::new().u64(run).u32(part);
    let mut row: PartRunRow =
        t.get(keys::PART_RUN, &key)?.map(|b| decode(&b)).transpose()?.unwrap_or_default();
    let before = row.clone();
    change(&mut row);
    if row == before { Ok(()) } else { t.put(keys::PART_RUN, &key, &encode(&row)?) }
}

/// How far a run has read a part.
pub(crate) fn of_run(t: &dyn KvRead, run: u64, part: u32) -> Result<PartRunRow> {
    let row = t.get(keys::PART_RUN, &K::new().u64(run).u32(part))?.map(|b| decode(&b)).transpose()?;
    Ok(row.unwrap_or_default())
}

/// Keeps what a page of a part says of an origin until the part has been read whole. Tells whether
/// that was not known of this run.
pub(crate) fn stage(t: &mut dyn KvTxn, run: u64, part: u32, origin: u64, said: Reading) -> Result<bool> {
    let key = keys::reading(part, run, origin);
    let known: Option<Reading> = t.get(keys::READING, &key)?.map(|b| decode(&b)).transpose()?;
    let mut reading = known.clone().unwrap_or_default();
    reading.add(said);
    if known.as_ref() == Some(&reading) {
        return Ok(false);
    }
    if known.is_none() {
        t.put(keys::PART_OF, &K::new().u64(origin).u32(part), &[])?;
    }
    t.put(keys::READING, &key, &encode(&reading)?)?;
    Ok(true)
}

fn readings(t: &dyn KvRead, part: u32, run: u64) -> Result<BTreeMap<u64, Reading>> {
    let mut found = BTreeMap::new();
    scan_prefix(t, keys::READING, &K::new().u32(part).u64(run), &mut |key, value| {
        let mut parts = keys::Parts(key);
        parts.u32();
        parts.u64();
        found.insert(parts.u64(), decode(value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// The runs that have readings of a part.
fn runs_of(t: &dyn KvRead, part: u32) -> Result<BTreeSet<u64>> {
    let mut runs = BTreeSet::new();
    for key in keys_of(t, keys::READING, &keys::of_u32(part))? {
        let mut parts = keys::Parts(&key);
        parts.u32();
        runs.insert(parts.u64());
    }
    Ok(runs)
}

/// The origins that a part names, as far as it was read.
pub(crate) fn names(t: &dyn KvRead, part: u32) -> Result<Vec<u64>> {
    let row = row(t, part)?;
    let mut origins = BTreeSet::new();
    for run in row.generation.iter().chain(&row.staged) {
        for key in keys_of(t, keys::READING, &K::new().u32(part).u64(*run))? {
            let mut parts = keys::Parts(&key);
            parts.u32();
            parts.u64();
            origins.insert(parts.u64());
        }
    }
    Ok(origins.into_iter().collect())
}

/// The parts of a lister that name an origin.
fn parts_of(t: &dyn KvRead, lister: u32, origin: u64) -> Result<Vec<(u32, PartRow)>> {
    let mut found = Vec::new();
    for key in keys_of(t, keys::PART_OF, &keys::of_u64(origin))? {
        let mut parts = keys::Parts(&key);
        parts.u64();
        let part = parts.u32();
        let row = row(t, part)?;
        if row.lister == lister {
            found.push((part, row));
        }
    }
    Ok(found)
}

/// Moves what a lister's parts say of an origin to another one.
pub(crate) fn move_origin(t: &mut dyn KvTxn, lister: u32, from: u64, to: u64) -> Result<()> {
    for (part, _) in parts_of(t, lister, from)? {
        for run in runs_of(t, part)? {
            let key = keys::reading(part, run, from);
            let Some(said) = t.get(keys::READING, &key)?.map(|b| decode(&b)).transpose()? else { continue };
            t.delete(keys::READING, &key)?;
            stage(t, run, part, to, said)?;
        }
        t.delete(keys::PART_OF, &K::new().u64(from).u32(part))?;
        t.put(keys::PART_OF, &K::new().u64(to).u32(part), &[])?;
    }
    Ok(())
}

/// What all parts of a lister together say of an origin: the newest complete reading of each.
fn whole(t: &dyn KvRead, lister: u32, origin: u64) -> Result<Reading> {
    let mut whole = Reading::default();
    for (part, row) in parts_of(t, lister, origin)? {
        let Some(run) = row.generation else { continue };
        if let Some(bytes) = t.get(keys::READING, &keys::reading(part, run, origin))? {
            whole.add(decode(&bytes)?);
        }
    }
    Ok(whole)
}

/// Tells that what parts say of these origins will be read. Their rows are known.
pub(crate) fn will_read(t: &dyn KvRead, ids: impl IntoIterator<Item = u64>) -> Result<()> {
    if !t.is_far() {
        return Ok(());
    }
    let mut named = Vec::new();
    for origin in ids {
        if !must_load(t, origin)?.listings.iter().any(rows::Listing::in_parts) {
            continue;
        }
        for key in keys_of(t, keys::PART_OF, &keys::of_u64(origin))? {
            let mut parts = keys::Parts(&key);
            parts.u64();
            named.push((parts.u32(), origin));
        }
    }
    t.will_read(keys::PART, &mut named.iter().map(|(part, _)| keys::of_u32(*part).to_vec()))?;
    let mut readings = Vec::new();
    for (part, origin) in named {
        if let Some(run) = row(t, part)?.generation {
            readings.push(keys::reading(part, run, origin).to_vec());
        }
    }
    t.will_read(keys::READING, &mut readings.into_iter())
}

/// The arguments of an origin's loader, as one lister gives them.
pub(crate) fn arguments(t: &dyn KvRead, origin: u64, listing: &rows::Listing) -> Result<JsonObject> {
    let mut arguments = listing.own_arguments()?;
    if listing.in_parts() {
        rows::assemble(&mut arguments, &whole(t, listing.lister, origin)?)?;
    }
    Ok(arguments)
}

/// Whether a part that names an origin has a gap.
pub(crate) fn under_gap(
    t: &dyn KvRead,
    origin: u64,
    listing: &rows::Listing,
    open: &[(Vec<u8>, rows::GapRow)],
) -> Result<bool> {
    if !listing.in_parts() || open.is_empty() {
        return Ok(false);
    }
    Ok(parts_of(t, listing.lister, origin)?.iter().any(|(_, row)| gaps::hide(open, &row.key)))
}

/// Puts a part's reading in force, where this run has read it to its end.
pub(crate) fn finish(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    work: &mut Work,
    part: u32,
    fingerprint: Option<&str>,
) -> Result<()> {
    let run = work.run.record.id.0;
    let progress = of_run(t, run, part)?;
    if progress.pending > 0 || progress.failed || !progress.read {
        return Ok(());
    }
    let mut row = row(t, part)?;
    if !progress.fresh && gaps::hide(&gaps::under(t, &keys::of_u32(work.run.lister))?, &row.key) {
        return Ok(());
    }
    let old = row.generation.map_or(Ok(BTreeMap::new()), |g| readings(t, part, g))?;
    let mut new = readings(t, part, run)?;
    let in_force = if progress.fresh { run } else { run | RETRIED };
    if !progress.fresh {
        // Only what had been missing was read: the rest is what was read then.
        let rest = if row.staged.is_empty() { row.generation.into_iter().collect() } else { row.staged };
        let mut all: BTreeMap<u64, Reading> = BTreeMap::new();
        for earlier in rest.into_iter().filter(|r| *r != run) {
            for (origin, reading) in readings(t, part, earlier)? {
                all.entry(origin).or_default().add(reading);
            }
        }
        for (origin, reading) in new {
            all.entry(origin).or_default().add(reading);
        }
        for (origin, reading) in &all {
            t.put(keys::READING, &keys::reading(part, in_force, *origin), &encode(reading)?)?;
        }
        new = all;
    }
    for other in runs_of(t, part)? {
        // An open run that is still reading the part keeps what it has.
        if other != run && other != in_force && (row.generation == Some(other) || !is_open(t, other)?) {
            t.clear(keys::READING, &K::new().u32(part).u64(other))?;
        }
    }
    for (origin, reading) in &mut new {
        if old.get(origin).is_some_and(|before| reading.keep_date(before)) {
            t.put(keys::READING, &keys::reading(part, in_force, *origin), &encode(reading)?)?;
        }
    }
    let first = row.generation.is_none();
    let mut affected: BTreeSet<u64> = BTreeSet::new();
    let dirty = work.dirty.remove(&part).unwrap_or_default();
    if row.generation == Some(run) {
        affected.extend(dirty);
    }
    for origin in old.keys().filter(|o| !new.contains_key(o)) {
        t.delete(keys::PART_OF, &K::new().u64(*origin).u32(part))?;
        affected.insert(*origin);
    }
    for (origin, reading) in &new {
        let before = old.get(origin);
        if before.is_none() {
            t.put(keys::PART_OF, &K::new().u64(*origin).u32(part), &[])?;
        }
        if before != Some(reading) {
            affected.insert(*origin);
        }
    }
    row.generation = Some(in_force);
    row.staged = Vec::new();
    if let Some(fingerprint) = fingerprint {
        row.fingerprint = Some(fingerprint.to_owned());
    }
    put(t, part, &row)?;
    will_load(t, affected.iter().copied())?;
    for origin in affected {
        refresh(t, ctx, work, origin, first)?;
    }
    Ok(())
}

/// An origin's parts changed: so may its last update, and it is news unless it is new itself.
fn refresh(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, work: &mut Work, origin: u64, first: bool) -> Result<()> {
    let lister = work.run.lister;
    let mut row = must_load(t, origin)?;
    let newest = whole(t, lister, origin)?.last_update;
    let Some(listing) = row.listings.iter_mut().find(|l| l.lister == lister) else { return Ok(()) };
    let new = first && listing.first_seen >= work.run.record.started;
    let update = newest.is_some() && listing.last_update != newest;
    if update {
        listing.last_update = newest;
        ctx.set_dated(t, lister)?;
        observe(t, ctx, lister, origin, &mut row)?;
        place(t, ctx, origin, &mut row)?;
    }
    if !new && work.touched.get(&origin).is_none_or(|t| *t == Touch::Unchanged) {
        work.touched.insert(origin, Touch::Changed);
        work.feed.say(ChangeKind::Changed, origin);
    }
    Ok(())
}

/// Settles the parts that a run has not read to their ends: what it read of them is kept for a
/// retry where the run has ended, and dropped where it starts over.
pub(crate) fn settle(t: &mut dyn KvTxn, run: u64, keep: bool) -> Result<()> {
    let of_run_keys = keys_of(t, keys::PART_RUN, &keys::of_u64(run))?;
    let number = |key: &[u8]| {
        let mut parts = keys::Parts(key);
        parts.u64();
        parts.u32()
    };
    t.will_read(keys::PART, &mut of_run_keys.iter().map(|key| keys::of_u32(number(key)).to_vec()))?;
    for key in of_run_keys {
        let part = number(&key);
        let progress = of_run(t, run, part)?;
        let mut row = row(t, part)?;
        let mine = K::new().u32(part).u64(run);
        if row.generation != Some(run) {
            let any = !keys_of(t, keys::READING, &mine)?.is_empty();
            let spent = row.generation == Some(run | RETRIED) && !progress.fresh;
            if !keep || spent {
                t.clear(keys::READING, &mine)?;
            } else if progress.fresh {
                for old in std::mem::take(&mut row.staged).into_iter().filter(|r| *r != run) {
                    if row.generation != Some(old) {
                        t.clear(keys::READING, &K::new().u32(part).u64(old))?;
                    }
                }
                row.staged = vec![run];
                put(t, part, &row)?;
            } else if any && !row.staged.contains(&run) {
                if row.staged.is_empty() {
                    row.staged.extend(row.generation);
                }
                row.staged.push(run);
                put(t, part, &row)?;
            }
        }
        t.delete(keys::PART_RUN, &key)?;
    }
    Ok(())
}
