//! What a complete run of everything did not see: gone, or not believed.

use std::ops::ControlFlow;

use super::commit::retire;
use super::ctx::Ctx;
use super::feed::Feed;
use super::keys::{self, K};
use super::kv::{KvRead, KvTxn, scan_prefix};
use super::place::{must_load, will_load};
use super::rows::{ListerRow, RunRow};
use super::seen::LastSeen;
use super::sets::{self, Additions, Chunk};
use super::{gaps, parts};
use crate::backend::{Prune, PruneGuard, Result};
use crate::model::{GoneReason, Timestamp};

/// The live origins of a lister that a run did not see.
struct Missing {
    origins: Vec<u64>,
    /// Live ones among those listed, seen or missing.
    live: u64,
}

/// What became of what was missing: taken for gone, and spared.
#[derive(Default)]
pub(crate) struct Pruned {
    pub(crate) gone: u64,
    pub(crate) withheld: u64,
}

/// Retires what a complete run of everything did not see, as far as it is believed, and remembers
/// what is not.
pub(crate) fn prune(
    t: &mut dyn KvTxn,
    ctx: &mut Ctx<'_>,
    lister: &mut ListerRow,
    run: &RunRow,
    prune: Prune,
    feed: &mut Feed,
) -> Result<Pruned> {
    if prune == Prune::No && lister.suspects_since.is_none() {
        return Ok(Pruned::default());
    }
    let missing = missing(t, run)?;
    let suspects = suspects(t, lister, run, &missing.origins)?;
    let (gone, withheld) = match prune {
        Prune::Force => (missing.origins, Vec::new()),
        Prune::No => {
            // It agrees, or it does not; it retires nothing.
            remember(t, lister, run, suspects, lister.suspects_since)?;
            return Ok(Pruned::default());
        }
        Prune::Guarded(guard) if !held(&guard, run, &missing) => (missing.origins, Vec::new()),
        Prune::Guarded(guard) => {
            let confirmed = lister
                .suspects_since
                .is_some_and(|since| run.record.started.since(since) >= guard.confirm_after);
            let gone = if confirmed { suspects.clone() } else { Vec::new() };
            let left = missing.origins.iter().copied().filter(|o| gone.binary_search(o).is_err());
            let left: Vec<u64> = left.collect();
            if confirmed || suspects.is_empty() {
                remember(t, lister, run, left.clone(), Some(run.record.started))?;
            } else {
                remember(t, lister, run, suspects, lister.suspects_since)?;
            }
            (gone, left)
        }
    };
    if withheld.is_empty() {
        remember(t, lister, run, Vec::new(), None)?;
    }
    let mut pruned = Pruned { gone: 0, withheld: withheld.len() as u64 };
    for id in gone {
        let row = must_load(t, id)?;
        pruned.gone += u64::from(retire(t, ctx, run.lister, id, row, GoneReason::NotListed, feed)?);
    }
    Ok(pruned)
}

fn held(guard: &PruneGuard, run: &RunRow, missing: &Missing) -> bool {
    guard.holds(missing.live, missing.origins.len() as u64) || guard.doubts(run.absent, run.details)
}

/// All live origins of a lister that a run did not see, but those named by a part of which a piece
/// is missing.
fn missing(t: &dyn KvRead, run: &RunRow) -> Result<Missing> {
    let mut chunks: Vec<(u64, Chunk)> = Vec::new();
    scan_prefix(t, keys::LISTED, &keys::of_u32(run.lister), &mut |key, value| {
        let mut parts = keys::Parts(key);
        parts.u32();
        chunks.push((parts.u64(), Chunk::read(value)));
        Ok(ControlFlow::Continue(()))
    })?;
    let open = gaps::under(t, &keys::of_u32(run.lister))?;
    let mut missing = Missing { origins: Vec::new(), live: 0 };
    for (chunk, set) in &mut chunks {
        missing.live += set.iter().count() as u64;
        if let Some(seen) = sets::read(t, keys::SEEN, &keys::seen(run.lister, run.record.id.0, *chunk))? {
            set.subtract(&seen);
        }
    }
    let unseen = || chunks.iter().flat_map(|(chunk, set)| set.iter().map(|low| sets::join(*chunk, low)));
    t.settled()?;
    will_load(t, unseen())?;
    if !open.is_empty() {
        parts::will_read(t, unseen())?;
    }
    for id in unseen() {
        let row = must_load(t, id)?;
        let listing = row.listings.iter().find(|l| l.lister == run.lister && l.gone().is_none());
        match listing {
            None => missing.live -= 1,
            Some(listing) if parts::under_gap(t, id, listing, &open)? => {}
            Some(_) => missing.origins.push(id),
        }
    }
    Ok(missing)
}

/// Of the missing, those that were missing before and that no run has seen since.
fn suspects(t: &dyn KvRead, lister: &ListerRow, run: &RunRow, missing: &[u64]) -> Result<Vec<u64>> {
    let Some(since) = lister.suspects_since else { return Ok(Vec::new()) };
    let mut last_seen = LastSeen::default();
    let mut found = Vec::new();
    for id in missing {
        let (chunk, low) = sets::split(*id);
        let set = sets::read(t, keys::SUSPECT, &K::new().u32(run.lister).u64(chunk))?;
        if !set.is_some_and(|s| s.contains(low)) {
            continue;
        }
        let row = must_load(t, *id)?;
        let of_row =
            row.listings.iter().find(|l| l.lister == run.lister).map(super::rows::Listing::last_seen);
        if of_row.max(last_seen.of(t, run.lister, *id)?) < Some(since) {
            found.push(*id);
        }
    }
    Ok(found)
}

fn remember(
    t: &mut dyn KvTxn,
    lister: &mut ListerRow,
    run: &RunRow,
    suspects: Vec<u64>,
    since: Option<Timestamp>,
) -> Result<()> {
    let key = K::new().u32(run.lister);
    t.clear(keys::SUSPECT, &key)?;
    lister.suspects_since = since.filter(|_| !suspects.is_empty());
    let mut set = Additions::default();
    for id in suspects {
        set.add(id);
    }
    t.add_members(keys::SUSPECT, &key, set)
}
