//! Pages: committed whole or not at all.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::ctx::{Ctx, ORIGINS, fenced, last};
use super::feed::Feed;
use super::identity::{self, Meant};
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn};
use super::place::{create, find_key, listing_lifts_hold, must_load, observe, place};
use super::rows::{
    CursorRow, CursorState, Listing, OriginRow, PendingRow, Piece, Reading, RunRow, assemble, decode, to_json,
};
use super::sets::{self, Additions};
use super::{frontier, gaps, parts, runs};
use crate::backend::{ChangeKind, Committed, CursorEnd, GapKind, PageCommit, Result};
use crate::lister::{PageBatch, Sighting};
use crate::model::{Gone, GoneReason, NewOrigin, OriginKey, VisitType};

/// What a page did to an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Touch {
    New,
    Changed,
    Unchanged,
}

/// A commit under way.
pub(crate) struct Work {
    pub(crate) run: RunRow,
    pub(crate) counts: Committed,
    pub(crate) touched: HashMap<u64, Touch>,
    pub(crate) seen: Additions,
    pub(crate) listed: Additions,
    pub(crate) feed: Feed,
    /// Origins of which a part said something new in this commit.
    pub(crate) dirty: HashMap<u32, BTreeSet<u64>>,
    /// Origins listed again to which nobody else said that their hold is over.
    lifted: Vec<u64>,
}

/// All that a page says of one origin.
struct Sight {
    origin: NewOrigin,
    readings: Vec<(u32, Reading)>,
    outside: bool,
    left_out: bool,
}

/// Commits a page, or the beginning of one.
pub(crate) fn commit(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, commit: &PageCommit) -> Result<Committed> {
    let PageCommit { run: ticket, cursor: right, candidate, validator, place, .. } = commit;
    let run = runs::fence(t, *ticket)?;
    let (of, id) = (ticket.run.0, right.cursor.0);
    let pending: Option<PendingRow> =
        t.get(keys::PENDING, &keys::pair(of, id))?.map(|b| decode(&b)).transpose()?;
    if pending.is_none_or(|p| p.token != right.token) {
        return Err(fenced(format!("cursor {id} of run {of} is somebody else's, or was ended")));
    }
    let mut cursor = frontier::cursor(t, of, id)?;
    let mut work = Work {
        counts: Committed::default(),
        touched: HashMap::new(),
        seen: Additions::default(),
        listed: Additions::default(),
        feed: Feed::new(run.lister),
        dirty: HashMap::new(),
        lifted: Vec::new(),
        run,
    };
    let mut empty = 0;
    let mut end = commit.end.as_ref();
    let mut batch = &commit.batch;
    let (a_loop, only_parts);
    if let Some(CursorEnd::Done(page)) = end {
        match frontier::judge(t, of, &cursor, page)? {
            Ok(n) => empty = n,
            Err(reason) => {
                let reason = frontier::at_place(place.as_deref(), reason);
                a_loop = CursorEnd::Gap { kind: GapKind::Loop, reason };
                only_parts = PageBatch { parts: batch.parts.clone(), ..PageBatch::default() };
                (end, batch) = (Some(&a_loop), &only_parts);
            }
        }
    }
    // A page that repeats another one has no say in the state either.
    let looped = matches!(end, Some(CursorEnd::Gap { kind: GapKind::Loop, .. }));
    if let Some(candidate) = candidate.as_ref().filter(|_| !looped) {
        runs::swap_candidate(t, of, candidate)?;
    }
    let said = read_parts(t, &mut work, id, &mut cursor, batch, end)?;
    let lister = work.run.lister;
    if batch.origins.iter().any(|s| s.origin.last_update.is_some()) {
        ctx.set_dated(t, lister)?;
    }
    let (sights, left_out) = sights(t, lister, &batch.origins)?;
    work.run.record.skipped += left_out;
    if t.is_far() {
        let mut new = 0;
        for sight in &sights {
            new += u64::from(identity::will_mean(t, ctx, lister, &sight.origin)?);
        }
        t.settled()?;
        will_make(t, ctx, lister, new)?;
    }
    for sight in sights {
        see(t, ctx, &mut work, sight)?;
    }
    for (key, reason) in &batch.gone {
        vanish(t, ctx, &mut work, key, *reason)?;
    }
    work.run.record.skipped += batch.skips.len() as u64;
    work.run.record.filtered.add(batch.filtered);
    let asked = frontier::Asked { id, row: &cursor, end, place: place.as_deref() };
    for follow in &batch.follows {
        frontier::follow(t, ctx, &mut work, &asked, follow)?;
    }
    if let Some(end) = end {
        finish(t, ctx, &mut work, id, &mut cursor, end, empty, &said)?;
        if let (Some((key, validator)), true) = (validator, matches!(end, CursorEnd::Done(_))) {
            runs::store_validator(t, lister, key, validator.clone())?;
        }
    }
    close(t, ctx, work)
}

/// Tells that so many origins will be made: what that reads is read first.
fn will_make(t: &dyn KvRead, ctx: &mut Ctx<'_>, lister: u32, count: u64) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    t.will_number(ORIGINS, count);
    ctx.dated(t, lister)?;
    ctx.trust(t, lister)?;
    t.settled()?;
    let first = last(t, ORIGINS)? + 1;
    for chunk in sets::split(first).0..=sets::split(first + count - 1).0 {
        t.get(keys::LISTED, &K::new().u32(lister).u64(chunk))?;
    }
    t.settled()
}

/// Writes what was gathered, and counts.
fn close(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, mut work: Work) -> Result<Committed> {
    for id in std::mem::take(&mut work.lifted) {
        let mut row = must_load(t, id)?;
        observe(t, ctx, work.run.lister, id, &mut row)?;
        place(t, ctx, id, &mut row)?;
    }
    for touch in work.touched.values() {
        match touch {
            Touch::New => work.counts.new += 1,
            Touch::Changed => work.counts.changed += 1,
            Touch::Unchanged => work.counts.unchanged += 1,
        }
    }
    let lister = K::new().u32(work.run.lister);
    t.add_members(keys::LISTED, &lister, work.listed)?;
    t.add_members(keys::SEEN, &lister.u64(work.run.record.id.0), work.seen)?;
    work.feed.write(t, ctx.now)?;
    work.run.record.counts.add(work.counts);
    runs::store(t, &work.run)?;
    Ok(work.counts)
}

/// Notes which parts a page reads: all that it and what was flushed of it says. A part that a
/// flush began counts as pending until the page ends.
fn read_parts(
    t: &mut dyn KvTxn,
    work: &mut Work,
    id: u64,
    cursor: &mut CursorRow,
    batch: &PageBatch,
    end: Option<&CursorEnd>,
) -> Result<BTreeSet<u32>> {
    let run = work.run.record.id.0;
    let mut said: BTreeSet<u32> = cursor.flushed.iter().copied().collect();
    let own = cursor.part.as_deref().map(|p| parts::number(t, work.run.lister, p)).transpose()?;
    said.extend(own);
    let in_origins = batch.origins.iter().filter_map(|s| s.part.as_ref());
    let names: BTreeSet<&str> = batch.parts.iter().chain(in_origins).map(AsRef::as_ref).collect();
    for name in names {
        said.insert(parts::number(t, work.run.lister, name)?);
    }
    if !matches!(end, None | Some(CursorEnd::Done(_))) {
        return Ok(said);
    }
    let mut grew = false;
    for part in &said {
        let began = end.is_none() && own != Some(*part) && !cursor.flushed.contains(part);
        let fresh = own != Some(*part) || !cursor.retry || cursor.begins_part;
        parts::edit_run(t, run, *part, |p| {
            p.read = true;
            p.fresh |= fresh;
            p.pending += u32::from(began);
        })?;
        if began {
            cursor.flushed.push(*part);
            grew = true;
        }
    }
    if grew {
        frontier::store(t, run, id, cursor)?;
    }
    Ok(said)
}

/// Puts together what a page says of each origin, in the order of first sight: of own facts the
/// last counts, pieces of parts add up. Of two URLs of one forge id the last counts; the other one
/// is left out, and told of.
fn sights(t: &mut dyn KvTxn, lister: u32, seen: &[Sighting]) -> Result<(Vec<Sight>, u64)> {
    let mut places: HashMap<(&str, &VisitType), usize> = HashMap::with_capacity(seen.len());
    let mut sights: Vec<Sight> = Vec::with_capacity(seen.len());
    for Sighting { origin: said, part, left_out } in seen {
        let pieces = said.artifacts.iter().map(Piece::new).collect::<Result<Vec<_>>>()?;
        let mut reading = Reading { last_update: said.last_update, artifacts: Vec::new() };
        reading.add(Reading { last_update: None, artifacts: pieces });
        let part = part.as_deref().map(|part| parts::number(t, lister, part)).transpose()?;
        let mut origin = said.clone();
        if part.is_none() {
            assemble(&mut origin.extra_loader_arguments, &reading)?;
        }
        let at = *places.entry((&said.url, &said.visit_type)).or_insert(sights.len());
        let known = sights.get_mut(at);
        let earlier = known.as_ref().filter(|sight| sight.outside).and_then(|s| s.origin.last_update);
        origin.last_update = origin.last_update.filter(|_| part.is_none()).or(earlier);
        let outside = part.is_none();
        let Some(sight) = known else {
            let readings = part.map(|part| (part, reading)).into_iter().collect();
            sights.push(Sight { origin, readings, outside, left_out: *left_out });
            continue;
        };
        if let Some(part) = part {
            match sight.readings.iter_mut().find(|(p, _)| *p == part) {
                Some((_, known)) => known.add(reading),
                None => sight.readings.push((part, reading)),
            }
        }
        sight.outside |= outside;
        sight.origin = origin;
        sight.left_out = *left_out;
    }
    let ids: HashSet<_> = sights.iter().filter_map(|s| id_of(&s.origin)).collect();
    if ids.len() == sights.iter().filter(|s| s.origin.forge_id.is_some()).count() {
        return Ok((sights, 0));
    }
    let of_page = sights.len();
    let mut kept: Vec<Sight> = Vec::with_capacity(of_page);
    for mut sight in sights.into_iter().rev() {
        let id = id_of(&sight.origin);
        let last = id.and_then(|id| kept.iter_mut().find(|k| id_of(&k.origin) == Some(id)));
        match last {
            Some(last) => last.readings.append(&mut sight.readings),
            None => kept.push(sight),
        }
    }
    kept.reverse();
    let left_out = (of_page - kept.len()) as u64;
    Ok((kept, left_out))
}

/// What tells an origin from the others of its lister, whatever its URL.
fn id_of(origin: &NewOrigin) -> Option<(&str, &VisitType)> {
    origin.forge_id.as_deref().map(|id| (id, &origin.visit_type))
}

/// Writes what a lister says of an origin into its listing. What it does not know it does not erase.
pub(crate) fn tell(listing: &mut Listing, origin: &NewOrigin) -> Result<()> {
    listing.set_enabled(origin.enabled);
    if origin.is_fork.is_some() {
        listing.set_fork(origin.is_fork);
    }
    if origin.archived.is_some() {
        listing.set_archived(origin.archived);
    }
    if origin.mirror.is_some() {
        listing.set_mirror(origin.mirror);
    }
    if origin.empty.is_some() {
        listing.set_empty(origin.empty);
    }
    if !listing.in_parts() && origin.last_update.is_some() {
        listing.last_update = origin.last_update;
    }
    let arguments = &origin.extra_loader_arguments;
    let arguments = (!arguments.is_empty()).then(|| to_json(arguments)).transpose()?;
    listing.edit(|more| {
        more.arguments = arguments;
        more.gone = None;
        if origin.is_fork == Some(false) {
            more.forked_from = None;
        }
        if origin.forked_from_url.is_some() {
            more.forked_from.clone_from(&origin.forked_from_url);
        }
        if origin.forge_id.is_some() {
            more.forge_id.clone_from(&origin.forge_id);
        }
    });
    Ok(())
}

/// Folds one origin of a page in.
fn see(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, work: &mut Work, sight: Sight) -> Result<()> {
    let Sight { mut origin, readings, left_out, .. } = sight;
    let lister = work.run.lister;
    let Meant { known, renamed } = identity::meant(t, ctx, work, &origin)?;
    let listed = |row: &OriginRow| row.listings.iter().any(|l| l.lister == lister);
    if left_out {
        if !known.as_ref().is_some_and(|(_, row)| listed(row)) {
            return Ok(());
        }
        origin.enabled = false;
    }
    let fresh = |origin: &NewOrigin| -> Result<Listing> {
        let mut listing = Listing::new(lister, ctx.now);
        tell(&mut listing, origin)?;
        if !readings.is_empty() {
            listing.set_in_parts();
        }
        Ok(listing)
    };
    let mut identified = origin.forge_id.is_some();
    let (id, mut row, touch) = match known {
        None => {
            let listing = fresh(&origin)?;
            let (id, row) = create(t, ctx, &origin.url, &origin.visit_type, listing)?;
            (id, row, Touch::New)
        }
        Some((id, mut row)) => {
            let touch = match row.listings.iter_mut().find(|l| l.lister == lister) {
                None => {
                    let listing = fresh(&origin)?;
                    row.listings.push(listing);
                    Touch::New
                }
                Some(listing) => {
                    let before = listing.clone();
                    tell(listing, &origin)?;
                    identified &= before.forge_id() != origin.forge_id.as_deref();
                    let changed = renamed || *listing != before;
                    if changed {
                        work.feed.say(what_happened(&before, renamed), id);
                    }
                    // Whether parts speak of it is no news.
                    if !readings.is_empty() && !listing.in_parts() {
                        listing.set_in_parts();
                        super::place::write(t, id, &row)?;
                    }
                    if changed { Touch::Changed } else { Touch::Unchanged }
                }
            };
            (id, row, touch)
        }
    };
    if touch == Touch::New {
        work.listed.add(id);
        work.feed.say(ChangeKind::New, id);
    }
    if identified {
        identity::index(t, lister, &origin, id)?;
    }
    work.counts.renamed += u64::from(renamed);
    work.seen.add(id);
    work.touched.insert(id, touch);
    if touch != Touch::Unchanged || listing_lifts_hold(&row, ctx) {
        observe(t, ctx, lister, id, &mut row)?;
        place(t, ctx, id, &mut row)?;
    }
    for (part, reading) in readings {
        if parts::stage(t, work.run.record.id.0, part, id, reading)? {
            work.dirty.entry(part).or_default().insert(id);
        }
    }
    Ok(())
}

/// What a listing that says something else than before tells of an origin.
fn what_happened(before: &Listing, renamed: bool) -> ChangeKind {
    match (before.gone(), renamed) {
        (Some(_), _) => ChangeKind::Back,
        (None, true) => ChangeKind::Renamed,
        (None, false) => ChangeKind::Changed,
    }
}

/// An origin of a part that is as it was: listed again, and so no longer held for not being there.
pub(crate) fn seen_again(t: &dyn KvRead, ctx: &Ctx<'_>, work: &mut Work, origin: u64) -> Result<()> {
    if listing_lifts_hold(&must_load(t, origin)?, ctx) {
        work.lifted.push(origin);
    }
    Ok(())
}

/// Upstream says that an origin is gone.
fn vanish(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    work: &mut Work,
    key: &OriginKey,
    reason: GoneReason,
) -> Result<()> {
    let Some((id, row)) = find_key(t, ctx, key)? else { return Ok(()) };
    work.counts.gone += u64::from(retire(t, ctx, work.run.lister, id, row, reason, &mut work.feed)?);
    Ok(())
}

/// Takes one lister's origin for gone. False where it is already, or the lister does not list it.
pub(crate) fn retire(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    lister: u32,
    id: u64,
    mut row: OriginRow,
    reason: GoneReason,
    feed: &mut Feed,
) -> Result<bool> {
    let Some(listing) = row.listings.iter_mut().find(|l| l.lister == lister) else { return Ok(false) };
    if listing.gone().is_some() {
        return Ok(false);
    }
    let gone = Gone::new(ctx.now, reason);
    listing.edit(|more| more.gone = Some(gone));
    place(t, ctx, id, &mut row)?;
    feed.say(ChangeKind::Gone, id);
    Ok(true)
}

/// Ends a page's cursor.
#[allow(clippy::too_many_arguments, reason = "the pieces of one commit")]
fn finish(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    work: &mut Work,
    id: u64,
    cursor: &mut CursorRow,
    end: &CursorEnd,
    empty: u32,
    said: &BTreeSet<u32>,
) -> Result<()> {
    let run = work.run.record.id.0;
    t.delete(keys::PENDING, &keys::pair(run, id))?;
    let own = cursor.part.as_deref().map(|p| parts::number(t, work.run.lister, p)).transpose()?;
    for part in own.iter().chain(&cursor.flushed) {
        parts::edit_run(t, run, *part, |p| p.pending = p.pending.saturating_sub(1))?;
    }
    if let Some(part) = own.filter(|_| !cursor.retry && !matches!(end, CursorEnd::Unchanged(_))) {
        // Asked from its beginning, whatever came of it: what it said before is no longer the base
        // of a retry.
        parts::edit_run(t, run, part, |p| p.fresh = true)?;
    }
    cursor.end = CursorState::Ended;
    if cursor.detail {
        work.run.details += u64::from(matches!(end, CursorEnd::Done(_) | CursorEnd::Unchanged(_)));
        work.run.absent += u64::from(matches!(end, CursorEnd::Skipped));
    }
    match end {
        CursorEnd::Done(digest) => {
            cursor.end = CursorState::Done(*digest, empty);
            work.run.record.pages += 1;
        }
        CursorEnd::Unchanged(part) => {
            work.run.record.pages += 1;
            if let Some((part, _)) = parts::find(t, work.run.lister, part)? {
                frontier::unchanged(t, ctx, work, part)?;
            }
        }
        CursorEnd::Gap { kind, reason } => {
            gaps::open(t, ctx, &work.run, cursor, *kind, reason)?;
            work.counts.gaps += 1;
            for part in said {
                parts::edit_run(t, run, *part, |p| p.failed = true)?;
            }
        }
        CursorEnd::Replaced | CursorEnd::Skipped => {}
    }
    frontier::store(t, run, id, cursor)?;
    if matches!(end, CursorEnd::Gap { .. }) {
        return Ok(());
    }
    gaps::close(t, &work.run, &cursor.cursor)?;
    for part in said {
        let fingerprint = cursor.fingerprint.as_deref().filter(|_| own == Some(*part));
        parts::finish(t, ctx, work, *part, fingerprint)?;
    }
    Ok(())
}
