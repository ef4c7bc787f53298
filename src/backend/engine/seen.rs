//! Who was seen by which run: kept in sets outside the origins' rows, so that a listing without
//! news writes none of them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, scan_prefix};
use super::place::{must_load, will_load, write};
use super::rows::{SeenRunRow, decode, encode};
use super::runs::is_open;
use super::sets::{self, Chunk};
use crate::backend::Result;
use crate::model::Timestamp;

/// Sets of at most so many runs of a lister are kept.
const KEPT: usize = 16;

fn run_key(lister: u32, run: u64) -> K {
    K::new().u32(lister).u64(run)
}

/// Begins the sets of a run.
pub(crate) fn begin(t: &mut dyn KvTxn, lister: u32, run: u64, started: Timestamp) -> Result<()> {
    t.put(keys::SEEN_RUN, &run_key(lister, run), &encode(&SeenRunRow { started, saw_all: false })?)
}

/// The runs of a lister of which sets are kept, the oldest first.
fn kept(t: &dyn KvRead, lister: u32) -> Result<Vec<(u64, SeenRunRow)>> {
    let mut runs = Vec::new();
    scan_prefix(t, keys::SEEN_RUN, &keys::of_u32(lister), &mut |key, value| {
        let mut parts = keys::Parts(key);
        parts.u32();
        runs.push((parts.u64(), decode(value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(runs)
}

/// Notes how a run ended, and folds into the rows what no longer needs sets: all before the last
/// run that saw every live origin, and the oldest of too many.
pub(crate) fn end(t: &mut dyn KvTxn, lister: u32, run: u64, saw_all: bool) -> Result<()> {
    let mut runs = kept(t, lister)?;
    if let Some((_, row)) = runs.iter_mut().find(|(r, _)| *r == run).filter(|_| saw_all) {
        row.saw_all = true;
        let row = *row;
        t.put(keys::SEEN_RUN, &run_key(lister, run), &encode(&row)?)?;
    }
    let floor = runs.iter().rev().find(|(_, row)| row.saw_all).map_or(0, |(r, _)| *r);
    let mut excess = runs.len().saturating_sub(KEPT);
    for (old, row) in runs {
        let superseded = old < floor;
        if is_open(t, old)? || row.saw_all && !superseded || !superseded && excess == 0 {
            continue;
        }
        excess = excess.saturating_sub(1);
        fold(t, lister, old, row.started)?;
    }
    Ok(())
}

/// Writes into the rows what only this run saw, and drops its sets.
fn fold(t: &mut dyn KvTxn, lister: u32, run: u64, started: Timestamp) -> Result<()> {
    let newer: Vec<u64> = kept(t, lister)?.into_iter().map(|(r, _)| r).filter(|r| *r > run).collect();
    let mut chunks = Vec::new();
    scan_prefix(t, keys::SEEN, &run_key(lister, run), &mut |key, value| {
        let mut parts = keys::Parts(key);
        parts.u32();
        parts.u64();
        chunks.push((parts.u64(), Chunk::read(value)));
        Ok(ControlFlow::Continue(()))
    })?;
    for (chunk, set) in &mut chunks {
        for later in &newer {
            if let Some(known) = sets::read(t, keys::SEEN, &keys::seen(lister, *later, *chunk))? {
                set.subtract(&known);
            }
        }
    }
    let only_here = || chunks.iter().flat_map(|(chunk, set)| set.iter().map(|low| sets::join(*chunk, low)));
    t.settled()?;
    will_load(t, only_here())?;
    for id in only_here() {
        let mut row = must_load(t, id)?;
        let Some(listing) = row.listings.iter_mut().find(|l| l.lister == lister) else { continue };
        if listing.last_seen() < started {
            listing.set_last_seen(started);
            write(t, id, &row)?;
        }
    }
    t.clear(keys::SEEN, &run_key(lister, run))?;
    t.delete(keys::SEEN_RUN, &run_key(lister, run))
}

/// Tells when origins were last seen, chunk by chunk.
#[derive(Default)]
pub(crate) struct LastSeen {
    runs: HashMap<u32, Vec<(u64, SeenRunRow)>>,
    /// The chunk at hand, and the sets of it, the newest run first.
    chunk: Option<(u32, u64)>,
    sets: Vec<(Timestamp, Chunk)>,
}

impl LastSeen {
    /// The start of the newest run of a lister that saw an origin, where sets tell.
    pub(crate) fn of(&mut self, t: &dyn KvRead, lister: u32, origin: u64) -> Result<Option<Timestamp>> {
        let (chunk, low) = sets::split(origin);
        if self.chunk != Some((lister, chunk)) {
            if let std::collections::hash_map::Entry::Vacant(free) = self.runs.entry(lister) {
                free.insert(kept(t, lister)?);
            }
            self.sets.clear();
            for (run, row) in self.runs.get(&lister).into_iter().flatten().rev() {
                if let Some(set) = sets::read(t, keys::SEEN, &keys::seen(lister, *run, chunk))? {
                    self.sets.push((row.started, set));
                }
            }
            self.chunk = Some((lister, chunk));
        }
        Ok(self.sets.iter().find(|(_, set)| set.contains(low)).map(|(at, _)| *at))
    }
}
