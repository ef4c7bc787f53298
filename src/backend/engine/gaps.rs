//! Gaps: holes of listings, kept until what is behind them has been read.

use std::ops::ControlFlow;

use super::ctx::{Ctx, lister_row, next};
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, scan_prefix};
use super::rows::{CursorRow, GapRow, RunRow, decode, encode, from_json};
use crate::backend::{Gap, GapKind, GapQuery, Result, RunId, gap_retry_after};
use crate::model::digest128;

fn key(run: &RunRow, cursor: &str) -> K {
    K::new().u32(run.lister).bytes(&run.parameters).bytes(&digest128(cursor.as_bytes()))
}

/// Opens a gap, or notes that it was met again. Met twice by one run, it counts once.
pub(crate) fn open(
    t: &mut dyn KvTxn,
    ctx: &Ctx<'_>,
    run: &RunRow,
    cursor: &CursorRow,
    kind: GapKind,
    reason: &str,
) -> Result<()> {
    let key = key(run, &cursor.cursor);
    let known: Option<GapRow> = t.get(keys::GAP, &key)?.map(|b| decode(&b)).transpose()?;
    let (number, since, attempts) = match &known {
        Some(gap) if gap.run == run.record.id.0 => (gap.number, gap.since, gap.attempts),
        Some(gap) => (gap.number, gap.since, gap.attempts.saturating_add(1)),
        None => (next(t, "gap")?, ctx.now, 1),
    };
    let row = GapRow {
        number,
        run: run.record.id.0,
        cursor: cursor.cursor.clone(),
        part: cursor.part.clone(),
        fingerprint: cursor.fingerprint.clone(),
        begins_part: cursor.begins_part,
        kind,
        reason: reason.to_owned(),
        since,
        attempts,
        retry_at: ctx.now.plus(gap_retry_after(attempts)),
    };
    t.put(keys::GAP, &key, &encode(&row)?)
}

/// Closes the gap of a cursor that was read. A loop that this very run met stays: the chain that
/// came back is what is missing, not the cursor it came back to.
pub(crate) fn close(t: &mut dyn KvTxn, run: &RunRow, cursor: &str) -> Result<()> {
    let key = key(run, cursor);
    let Some(gap) = t.get(keys::GAP, &key)?.map(|b| decode::<GapRow>(&b)).transpose()? else { return Ok(()) };
    if gap.kind == GapKind::Loop && gap.run == run.record.id.0 {
        return Ok(());
    }
    t.delete(keys::GAP, &key)
}

/// The gaps under a prefix of (lister, parameters), with their keys, the oldest first.
pub(crate) fn under(t: &dyn KvRead, prefix: &[u8]) -> Result<Vec<(Vec<u8>, GapRow)>> {
    let mut gaps = Vec::new();
    scan_prefix(t, keys::GAP, prefix, &mut |key, value| {
        gaps.push((key.to_vec(), decode::<GapRow>(value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    gaps.sort_by_key(|(_, gap)| (gap.since, gap.number));
    Ok(gaps)
}

/// The gaps of a run's lister and parameters.
pub(crate) fn of_run(t: &dyn KvRead, run: &RunRow) -> Result<Vec<(Vec<u8>, GapRow)>> {
    under(t, &K::new().u32(run.lister).bytes(&run.parameters))
}

/// Whether a gap of a lister hides something of a part.
pub(crate) fn hide(gaps: &[(Vec<u8>, GapRow)], part: &str) -> bool {
    gaps.iter().any(|(_, gap)| gap.part.as_deref() == Some(part))
}

/// Gaps as asked for, the oldest first.
pub(crate) fn query(t: &dyn KvRead, query: &GapQuery) -> Result<Vec<Gap>> {
    let mut found = Vec::new();
    for (key, gap) in under(t, &[])? {
        let lister = lister_row(t, keys::Parts(&key).u32())?;
        let wanted = query.lister.as_ref().is_none_or(|l| *l == lister.name)
            && query.instance.as_ref().is_none_or(|i| *i == lister.instance)
            && query.run.is_none_or(|r| r.0 == gap.run);
        if wanted {
            found.push(Gap {
                lister: lister.key(),
                run: RunId(gap.run),
                cursor: from_json(&gap.cursor)?,
                part: gap.part.map(Into::into),
                kind: gap.kind,
                reason: gap.reason,
                since: gap.since,
                attempts: gap.attempts,
                retry_at: gap.retry_at,
            });
        }
    }
    Ok(found)
}
