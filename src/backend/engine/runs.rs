//! Runs: begun, continued, ended.

use std::ops::ControlFlow;
use std::time::Duration;

use super::ctx::{Ctx, conflict, fenced, lister_number, lister_number_or_new, lister_row, next};
use super::feed::Feed;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, keys_of, scan_prefix};
use super::prune::{Pruned, prune};
use super::rows::{
    CursorRow, CursorState, ListerRow, PendingRow, RunRow, ValidatorRow, decode, encode, from_json, to_json,
};
use super::{frontier, gaps, parts, seen};
use crate::backend::{
    Begun, Candidate, Committed, CursorId, CursorTicket, EndRun, Ended, ListingEnd, PendingCursor, Result,
    RunId, RunOutcome, RunPlan, RunQuery, RunRecord, RunTicket, Validator,
};
use crate::lister::{Coverage, Filtered, Mode};
use crate::model::{ListerKey, ListerRecord, Timestamp, digest128};
use crate::transport::Identity;

/// A lister's record, made where there is none.
pub(crate) fn lister(t: &mut dyn KvTxn, key: &ListerKey, now: Timestamp) -> Result<ListerRecord> {
    let number = lister_number_or_new(t, key, now)?;
    lister_row(t, number)?.record()
}

fn load(t: &dyn KvRead, run: u64) -> Result<Option<RunRow>> {
    t.get(keys::RUN, &keys::of_run(run))?.map(|b| decode(&b)).transpose()
}

pub(crate) fn store(t: &mut dyn KvTxn, row: &RunRow) -> Result<()> {
    t.put(keys::RUN, &keys::of_run(row.record.id.0), &encode(row)?)
}

fn resumable(row: &RunRow) -> bool {
    matches!(row.record.outcome, RunOutcome::Open | RunOutcome::Aborted)
}

/// Whether a run may still go on.
pub(crate) fn is_open(t: &dyn KvRead, run: u64) -> Result<bool> {
    let Some(row) = load(t, run)? else { return Ok(false) };
    // An aborted run that was started over is no longer the open one of its key.
    Ok(resumable(&row) && t.get(keys::OPEN_RUN, &open_key(&row))?.is_some_and(|v| keys::first_u64(&v) == run))
}

/// The run of a ticket, where it is still the ticket's.
pub(crate) fn fence(t: &dyn KvRead, ticket: RunTicket) -> Result<RunRow> {
    let row = load(t, ticket.run.0)?.ok_or_else(|| fenced(format!("there is no run {}", ticket.run.0)))?;
    if row.fence != ticket.fence {
        return Err(fenced(format!("run {} was begun again by somebody else", ticket.run.0)));
    }
    if row.record.outcome != RunOutcome::Open || !is_open(t, ticket.run.0)? {
        return Err(fenced(format!("run {} has ended", ticket.run.0)));
    }
    Ok(row)
}

fn open_key(row: &RunRow) -> K {
    open_key_of(row.lister, row.record.mode, &row.parameters)
}

pub(crate) fn open_key_of(lister: u32, mode: Mode, parameters: &[u8; 16]) -> K {
    let mode = match mode {
        Mode::Full => 0,
        Mode::Incremental => 1,
        Mode::Gaps => 2,
    };
    K::new().u32(lister).u8(mode).bytes(parameters)
}

/// Opens a run, or continues the open one.
pub(crate) fn begin(t: &mut dyn KvTxn, ctx: &Ctx<'_>, plan: &RunPlan) -> Result<Begun> {
    let lister = lister_number_or_new(t, &plan.lister, ctx.now)?;
    let parameters = digest128(to_json(&plan.parameters)?.as_bytes());
    let key = open_key_of(lister, plan.mode, &parameters);
    let open = t.get(keys::OPEN_RUN, &key)?.map(|v| keys::first_u64(&v));
    if let Some(mut row) = open.map_or(Ok(None), |run| load(t, run))? {
        let fits = row.cursor_form == plan.cursor_form
            && ctx.now.since(row.record.started) <= plan.resumable_for
            && !plan.restart;
        if fits {
            return resume(t, row);
        }
        row.record.outcome = RunOutcome::Aborted;
        row.record.error = Some("restarted".to_owned());
        row.record.finished = Some(ctx.now);
        row.fence += 1;
        store(t, &row)?;
        close(t, &row, false)?;
        seen::end(t, lister, row.record.id.0, false)?;
    }
    let id = next(t, "run")?;
    let mut row = RunRow {
        record: RunRecord {
            id: RunId(id),
            lister: plan.lister.clone(),
            mode: plan.mode,
            coverage: plan.coverage,
            parameters: plan.parameters.clone(),
            outcome: RunOutcome::Open,
            started: ctx.now,
            finished: None,
            pages: 0,
            requests: 0,
            counts: Committed::default(),
            skipped: 0,
            filtered: Filtered::default(),
            withheld: 0,
            error: None,
        },
        lister,
        parameters,
        fence: 1,
        cursor_form: plan.cursor_form,
        ignore_fingerprints: plan.ignore_fingerprints,
        next_cursor: 1,
        details: 0,
        absent: 0,
    };
    t.put(keys::OPEN_RUN, &key, &keys::of_u64(id))?;
    seen::begin(t, lister, id, ctx.now)?;
    let pending = first_cursors(t, ctx, &mut row, plan)?;
    store(t, &row)?;
    Ok(Begun::new(RunTicket::new(RunId(id), row.fence), row.record, false, pending))
}

fn resume(t: &mut dyn KvTxn, mut row: RunRow) -> Result<Begun> {
    row.fence += 1;
    row.record.outcome = RunOutcome::Open;
    row.record.finished = None;
    row.record.error = None;
    let run = row.record.id;
    let mut pending = 0;
    for key in keys_of(t, keys::PENDING, &keys::of_u64(run.0))? {
        pending += 1;
        let bytes = t.get(keys::PENDING, &key)?.map(std::borrow::Cow::into_owned);
        let mut lease: PendingRow = decode(&bytes.unwrap_or_default())?;
        // Only the lease ends: a token grows, so that a late commit of its holder is refused.
        lease.until = None;
        lease.token += 1;
        t.put(keys::PENDING, &key, &encode(&lease)?)?;
    }
    store(t, &row)?;
    Ok(Begun::new(RunTicket::new(run, row.fence), row.record, true, pending))
}

/// The first cursors of a new run: its own, then the gaps to retry. A gap that equals one of its
/// own is asked once.
fn first_cursors(t: &mut dyn KvTxn, ctx: &Ctx<'_>, row: &mut RunRow, plan: &RunPlan) -> Result<u64> {
    let gaps = gaps::of_run(t, row)?;
    let mut pending = 0;
    for cursor in &plan.start {
        let cursor = to_json(cursor)?;
        let gap = gaps.iter().map(|(_, gap)| gap).find(|gap| gap.cursor == cursor);
        let new = CursorRow {
            cursor,
            part: gap.and_then(|g| g.part.clone()),
            fingerprint: gap.and_then(|g| g.fingerprint.clone()),
            detail: false,
            begins_part: gap.is_some_and(|g| g.begins_part),
            parent: None,
            retry: false,
            flushed: Vec::new(),
            end: CursorState::Pending,
        };
        pending += u64::from(frontier::add(t, row, new)?);
    }
    let all = plan.mode == Mode::Gaps;
    let due = gaps.into_iter().filter(|(_, g)| all || plan.retry_gaps && g.retry_at <= ctx.now);
    for (_, gap) in due {
        let new = CursorRow {
            cursor: gap.cursor,
            part: gap.part,
            fingerprint: gap.fingerprint,
            detail: false,
            begins_part: gap.begins_part,
            parent: None,
            retry: true,
            flushed: Vec::new(),
            end: CursorState::Pending,
        };
        pending += u64::from(frontier::add(t, row, new)?);
    }
    Ok(pending)
}

/// Forgets a run's frontier. What it read of parts that it did not finish is kept or dropped.
fn close(t: &mut dyn KvTxn, row: &RunRow, keep_readings: bool) -> Result<()> {
    let run = row.record.id.0;
    parts::settle(t, run, keep_readings)?;
    for table in [keys::CURSOR, keys::CURSOR_ID, keys::PENDING] {
        t.clear(table, &keys::of_u64(run))?;
    }
    t.delete(keys::CANDIDATE, &keys::of_u64(run))?;
    t.delete(keys::OPEN_RUN, &open_key(row))
}

/// Takes pending cursors, the oldest first.
pub(crate) fn claim_cursors(
    t: &mut dyn KvTxn,
    ticket: RunTicket,
    limit: usize,
    lease: Duration,
    now: Timestamp,
) -> Result<Vec<PendingCursor>> {
    fence(t, ticket)?;
    let mut free: Vec<(u64, PendingRow)> = Vec::new();
    scan_prefix(t, keys::PENDING, &keys::of_u64(ticket.run.0), &mut |key, value| {
        if free.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        let row: PendingRow = decode(value)?;
        if row.until.is_none_or(|until| until <= now) {
            let mut parts = keys::Parts(key);
            parts.u64();
            free.push((parts.u64(), row));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut taken = Vec::with_capacity(free.len());
    for (id, mut row) in free {
        row.token += 1;
        row.until = Some(now.plus(lease));
        t.put(keys::PENDING, &keys::pair(ticket.run.0, id), &encode(&row)?)?;
        let cursor = frontier::cursor(t, ticket.run.0, id)?;
        let right = CursorTicket::new(CursorId(id), row.token);
        taken.push(PendingCursor::new(right, from_json(&cursor.cursor)?, cursor.part.map(Into::into)));
    }
    Ok(taken)
}

/// The candidate state of a run.
pub(crate) fn candidate(t: &dyn KvRead, ticket: RunTicket) -> Result<Candidate> {
    fence(t, ticket)?;
    stored_candidate(t, ticket.run.0)
}

fn stored_candidate(t: &dyn KvRead, run: u64) -> Result<Candidate> {
    let Some(bytes) = t.get(keys::CANDIDATE, &keys::of_u64(run))? else { return Ok(Candidate::default()) };
    let (revision, state): (u64, Option<String>) = decode(&bytes)?;
    Ok(Candidate::new(revision, state.as_deref().map(from_json).transpose()?))
}

/// Replaces the candidate state, where it is still the one that the new one is built on.
pub(crate) fn swap_candidate(t: &mut dyn KvTxn, run: u64, new: &Candidate) -> Result<()> {
    let known = stored_candidate(t, run)?.revision;
    if known != new.revision {
        return Err(conflict(format!("the candidate is at revision {known}, not {}", new.revision)));
    }
    let state = new.state.as_ref().map(to_json).transpose()?;
    t.put(keys::CANDIDATE, &keys::of_u64(run), &encode(&(known + 1, state))?)
}

fn validator_key(lister: u32, key: &str) -> K {
    K::new().u32(lister).bytes(&digest128(key.as_bytes()))
}

/// The validator of a URL, and to whom it was given.
pub(crate) fn validator(t: &dyn KvRead, lister: &ListerKey, key: &str) -> Result<Option<Validator>> {
    let Some(lister) = lister_number(t, lister)? else { return Ok(None) };
    let Some(bytes) = t.get(keys::VALIDATOR, &validator_key(lister, key))? else { return Ok(None) };
    let (row, identity): (ValidatorRow, String) = match decode(&bytes) {
        Ok(row) => row,
        // One of an earlier version, which kept them for anonymous requests only.
        Err(_) => (decode(&bytes)?, String::new()),
    };
    let validator = Validator::new(row.etag, row.last_modified, row.part.into());
    Ok(Some(validator.of(Identity::stored(identity))))
}

pub(crate) fn store_validator(t: &mut dyn KvTxn, lister: u32, key: &str, validator: Validator) -> Result<()> {
    let row = ValidatorRow {
        etag: validator.etag,
        last_modified: validator.last_modified,
        part: validator.part.as_ref().to_owned(),
    };
    t.put(keys::VALIDATOR, &validator_key(lister, key), &encode(&(row, validator.identity.as_str()))?)
}

/// Ends a run, or leaves it open.
pub(crate) fn end(t: &mut dyn KvTxn, ctx: &mut Ctx<'_>, end: EndRun) -> Result<Ended> {
    let mut row = fence(t, end.run)?;
    let run = row.record.id.0;
    row.record.requests += end.requests;
    row.record.error = end.error;
    let mut lister = lister_row(t, row.lister)?;
    let pending = keys_of(t, keys::PENDING, &keys::of_u64(run))?.len() as u64;
    // A driver that is done is not the last one where cursors are still pending.
    let outcome = match end.outcome {
        RunOutcome::Complete | RunOutcome::Partial if pending > 0 => RunOutcome::Open,
        outcome => outcome,
    };
    if matches!(outcome, RunOutcome::Open | RunOutcome::Aborted) {
        row.record.outcome = outcome;
        row.record.finished = (outcome == RunOutcome::Aborted).then_some(ctx.now);
        store(t, &row)?;
        return Ok(Ended::new(row.record, lister.record()?, 0, pending));
    }
    let mut complete = outcome == RunOutcome::Complete;
    if complete {
        close_covered_gaps(t, &row)?;
        complete = gaps::of_run(t, &row)?.is_empty();
    }
    if let Some(new) = end.state {
        if new.revision != lister.revision {
            return Err(conflict(format!(
                "{} is at revision {}, not {}",
                lister.key(),
                lister.revision,
                new.revision
            )));
        }
        lister.state = (!new.state.is_empty()).then(|| to_json(&new.state)).transpose()?;
        lister.state_form = new.form;
    }
    row.record.outcome = if complete { RunOutcome::Complete } else { RunOutcome::Partial };
    row.record.finished = Some(ctx.now);
    let looked = lister.evidence_at;
    settle_lister(&mut lister, &row, complete, (end.listing_end, ctx.now));
    if lister.evidence_at != looked {
        super::sweep::look_again(t, row.lister)?;
    }
    close(t, &row, true)?;
    let saw_all = complete && row.record.coverage == Coverage::All;
    let mut pruned = Pruned::default();
    if saw_all {
        let mut feed = Feed::new(row.lister);
        pruned = prune(t, ctx, &mut lister, &row, end.prune, &mut feed)?;
        feed.write(t, ctx.now)?;
        row.record.counts.gone += pruned.gone;
        row.record.withheld = pruned.withheld;
    }
    store(t, &row)?;
    t.put(keys::LISTER, &keys::of_u32(row.lister), &encode(&lister)?)?;
    seen::end(t, row.lister, run, saw_all)?;
    Ok(Ended::new(row.record, lister.record()?, pruned.gone, 0).with_withheld(pruned.withheld))
}

fn settle_lister(lister: &mut ListerRow, run: &RunRow, complete: bool, (end, now): (ListingEnd, Timestamp)) {
    lister.revision += 1;
    lister.updated = now;
    if !complete {
        return;
    }
    lister.last_finished = match end {
        ListingEnd::Now => Some(now),
        ListingEnd::At(then) => lister.last_finished.max(Some(then)),
        ListingEnd::Unknown => lister.last_finished,
    };
    if run.record.coverage == Coverage::New || lister.evidence_at > Some(run.record.started) {
        return;
    }
    lister.evidence_at = Some(run.record.started);
    lister.evidence_run = (run.record.coverage == Coverage::All).then_some(run.record.id.0);
}

/// A full run that met no gap has covered older ones, but for those in parts that it did not read
/// whole: an unchanged part is not asked for its missing piece.
fn close_covered_gaps(t: &mut dyn KvTxn, row: &RunRow) -> Result<()> {
    let run = row.record.id.0;
    let gaps = gaps::of_run(t, row)?;
    let covers = row.record.mode == Mode::Full && row.record.coverage == Coverage::All;
    if !covers || gaps.iter().any(|(_, gap)| gap.run == run) {
        return Ok(());
    }
    for (key, gap) in gaps {
        let covered = match &gap.part {
            None => true,
            Some(part) => match parts::find(t, row.lister, part)? {
                Some((number, _)) => {
                    let progress = parts::of_run(t, run, number)?;
                    progress.read && progress.fresh && !progress.failed
                }
                None => false,
            },
        };
        if covered {
            t.delete(keys::GAP, &key)?;
        }
    }
    Ok(())
}

/// Runs, the newest first.
pub(crate) fn query(t: &dyn KvRead, query: &RunQuery, limit: usize) -> Result<Vec<RunRecord>> {
    let mut found = Vec::new();
    scan_prefix(t, keys::RUN, &[], &mut |_, value| {
        if found.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        let row: RunRow = decode(value)?;
        let lister = &row.record.lister;
        if query.lister.as_ref().is_none_or(|l| *l == lister.name)
            && query.instance.as_ref().is_none_or(|i| *i == lister.instance)
        {
            found.push(row.record);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// All listers, by name and instance.
pub(crate) fn listers(t: &dyn KvRead) -> Result<Vec<ListerRecord>> {
    let mut found = Vec::new();
    scan_prefix(t, keys::LISTER, &[], &mut |_, value| {
        found.push(decode::<ListerRow>(value)?.record()?);
        Ok(ControlFlow::Continue(()))
    })?;
    found.sort_by(|a, b| (&a.name, &a.instance_name).cmp(&(&b.name, &b.instance_name)));
    Ok(found)
}
