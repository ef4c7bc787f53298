//! The frontier: cursors that follow from pages, each asked once a run.

use super::commit::{Touch, Work};
use super::ctx::Ctx;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn};
use super::place::will_load;
use super::rows::{CursorRow, CursorState, PendingRow, RunRow, corrupt, decode, encode, to_json};
use super::{commit, gaps, parts};
use crate::backend::{CursorEnd, GapKind, PageDigest, Result};
use crate::lister::{Follow, FollowKind};
use crate::model::digest128;

/// So many equal empty pages of a chain may follow each other.
const EMPTY_PAGES: u32 = 50;

fn id_key(run: u64, cursor: &str) -> K {
    K::new().u64(run).bytes(&digest128(cursor.as_bytes()))
}

/// A cursor of a run.
pub(crate) fn cursor(t: &dyn KvRead, run: u64, id: u64) -> Result<CursorRow> {
    let bytes = t.get(keys::CURSOR, &keys::pair(run, id))?;
    decode(&bytes.ok_or_else(|| corrupt(format!("no cursor {id} of run {run}")))?)
}

pub(crate) fn store(t: &mut dyn KvTxn, run: u64, id: u64, row: &CursorRow) -> Result<()> {
    t.put(keys::CURSOR, &keys::pair(run, id), &encode(row)?)
}

fn find(t: &dyn KvRead, run: u64, cursor: &str) -> Result<Option<u64>> {
    Ok(t.get(keys::CURSOR_ID, &id_key(run, cursor))?.map(|v| keys::first_u64(&v)))
}

/// Adds a cursor to a run's frontier. False where the run has it already.
pub(crate) fn add(t: &mut dyn KvTxn, run: &mut RunRow, row: CursorRow) -> Result<bool> {
    let of = run.record.id.0;
    if find(t, of, &row.cursor)?.is_some() {
        return Ok(false);
    }
    let id = run.next_cursor;
    run.next_cursor += 1;
    t.put(keys::CURSOR_ID, &id_key(of, &row.cursor), &keys::of_u64(id))?;
    t.put(keys::PENDING, &keys::pair(of, id), &encode(&PendingRow::default())?)?;
    if let Some(part) = &row.part {
        let part = parts::number(t, run.lister, part)?;
        parts::edit_run(t, of, part, |p| p.pending += 1)?;
    }
    store(t, of, id, &row)?;
    Ok(true)
}

/// What a cursor that was asked leaves to the ones that follow from it.
pub(crate) struct Asked<'a> {
    pub(crate) id: u64,
    pub(crate) row: &'a CursorRow,
    pub(crate) end: Option<&'a CursorEnd>,
    /// Of its request, for whoever reads of a loop.
    pub(crate) place: Option<&'a str>,
}

/// Adds a cursor that follows from a page, or tells that the chain came back.
pub(crate) fn follow(
    t: &mut dyn KvTxn,
    ctx: &Ctx<'_>,
    work: &mut Work,
    asked: &Asked<'_>,
    follow: &Follow,
) -> Result<()> {
    let run = work.run.record.id.0;
    let mut row = CursorRow {
        cursor: to_json(&follow.cursor)?,
        part: None,
        fingerprint: None,
        begins_part: false,
        detail: !matches!(follow.kind, FollowKind::Next { .. }),
        parent: None,
        retry: false,
        flushed: Vec::new(),
        end: CursorState::Pending,
    };
    match &follow.kind {
        FollowKind::Item { key, fingerprint } => {
            let known = parts::find(t, work.run.lister, key)?;
            if let Some((part, known)) = known
                && known.fingerprint.as_deref() == Some(fingerprint)
                && !work.run.ignore_fingerprints
            {
                return unchanged(t, ctx, work, part);
            }
            row.part = Some(key.as_ref().to_owned());
            row.fingerprint = Some(fingerprint.clone());
            row.begins_part = true;
        }
        FollowKind::Next { part } => {
            row.part = part.as_ref().map(|p| p.as_ref().to_owned());
            row.parent = Some(asked.id);
            row.retry = asked.row.retry;
            if row.part == asked.row.part {
                row.fingerprint.clone_from(&asked.row.fingerprint);
            }
        }
        FollowKind::Follow => {}
    }
    if matches!(asked.end, Some(CursorEnd::Replaced)) && row.part.is_none() {
        // What stands for a cursor stands where it stood.
        row.part.clone_from(&asked.row.part);
        row.fingerprint.clone_from(&asked.row.fingerprint);
        row.retry = asked.row.retry;
        row.detail = asked.row.detail;
    }
    if let Some(id) = find(t, run, &row.cursor)? {
        return known(t, ctx, work, asked, &follow.kind, id, row);
    }
    add(t, &mut work.run, row)?;
    work.counts.followed += 1;
    Ok(())
}

/// A cursor follows that the run has already.
fn known(
    t: &mut dyn KvTxn,
    ctx: &Ctx<'_>,
    work: &mut Work,
    asked: &Asked<'_>,
    kind: &FollowKind,
    id: u64,
    row: CursorRow,
) -> Result<()> {
    let run = work.run.record.id.0;
    let mut there = cursor(t, run, id)?;
    match kind {
        FollowKind::Next { .. } if there.parent == Some(asked.id) => {
            // The page is read again after a stop in its middle.
            return Ok(());
        }
        FollowKind::Next { .. } if there.retry && there.parent.is_none() && id != asked.id => {
            // It was asked for ahead of its chain, because it had been a gap; now the chain is there.
            there.parent = Some(asked.id);
            let repeats = match (asked.end, &there.end) {
                (Some(CursorEnd::Done(before)), CursorState::Done(its, _)) => repeats(before, its),
                _ => false,
            };
            store(t, run, id, &there)?;
            if !repeats {
                return Ok(());
            }
        }
        FollowKind::Next { .. } => {}
        FollowKind::Item { .. } => {
            if there.end == CursorState::Pending && there.part == row.part {
                there.fingerprint = row.fingerprint;
                store(t, run, id, &there)?;
            }
            return Ok(());
        }
        FollowKind::Follow => return Ok(()),
    }
    let reason = if matches!(asked.end, Some(CursorEnd::Replaced)) {
        "nothing that stands for it could be read"
    } else {
        "loop: the chain came back to a cursor that this run has asked for already"
    };
    let reason = at_place(asked.place, reason);
    gaps::open(t, ctx, &work.run, &row, GapKind::Loop, &reason)?;
    work.counts.gaps += 1;
    fail_part(t, &work.run, row.part.as_deref())
}

/// Puts what was asked for before a reason, where that is known.
pub(crate) fn at_place(place: Option<&str>, reason: impl std::fmt::Display) -> String {
    place.map_or_else(|| reason.to_string(), |place| format!("{place}: {reason}"))
}

/// Notes that a piece of a part is missing.
pub(crate) fn fail_part(t: &mut dyn KvTxn, run: &RunRow, part: Option<&str>) -> Result<()> {
    let Some(part) = part else { return Ok(()) };
    let part = parts::number(t, run.lister, part)?;
    parts::edit_run(t, run.record.id.0, part, |p| p.failed = true)
}

/// A part is as it was: all that it names was seen.
pub(crate) fn unchanged(t: &mut dyn KvTxn, ctx: &Ctx<'_>, work: &mut Work, part: u32) -> Result<()> {
    let named = parts::names(t, part)?;
    will_load(t, named.iter().copied())?;
    for origin in named {
        work.seen.add(origin);
        work.touched.entry(origin).or_insert(Touch::Unchanged);
        commit::seen_again(t, ctx, work, origin)?;
    }
    Ok(())
}

/// Whether a page says the same as its predecessor, and says something.
fn repeats(before: &PageDigest, page: &PageDigest) -> bool {
    page.content.is_some() && page.content == before.content
}

/// What a page that was read to its end is: a page, or the same one again. With the number of equal
/// empty pages that end with it, or why it is a loop.
pub(crate) fn judge(
    t: &dyn KvRead,
    run: u64,
    row: &CursorRow,
    page: &PageDigest,
) -> Result<Result<u32, String>> {
    let Some(parent) = row.parent else { return Ok(Ok(0)) };
    let CursorState::Done(before, empty) = cursor(t, run, parent)?.end else { return Ok(Ok(0)) };
    if repeats(&before, page) {
        return Ok(Err("loop: the page says the same as the one before it".to_owned()));
    }
    if page.content.is_some() || before.body != page.body {
        return Ok(Ok(0));
    }
    if empty + 1 > EMPTY_PAGES {
        return Ok(Err(format!("loop: over {EMPTY_PAGES} equal pages without anything on them")));
    }
    Ok(Ok(empty + 1))
}
