//! What a claim does around the engine: it gives back what nobody answered for, wakes what has waited
//! long enough, and remembers how far each lane has been handed out.
//!
//! A claim writes no origin's row, so what is under way stays at the head of its lane, and the next
//! claim would walk over all of it. Instead each slot has a *position*: all before it is under way, or
//! was put there since. The head is looked at again when a lease has ended, and when the time since it
//! was looked at last exceeds twenty times what that took.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::db::Db;
use super::known::Known;
use super::origin;
use super::save::Writes;
use super::sql::{Time, failed, signed};
use crate::backend::Result;
use crate::backend::engine::keys::{self, K, Parts};
use crate::backend::engine::rows::{TypeRow, decode};
use crate::model::{Timestamp, VisitType};
use crate::policy::Lane;

/// So many leases end, and so many origins begin to wait in their lanes, at one claim.
const SWEPT: i64 = 10_000;

/// A twentieth of the time goes into looking at heads.
const HEAD_SHARE: i64 = 20;

/// Where claims begin to look, by slot.
pub(super) type Positions = HashMap<i32, (i64, i64)>;

/// The number of a visit type, where any origin has it.
pub(super) fn type_number(known: &Known, visit_type: &VisitType) -> Result<Option<u16>> {
    for (key, value) in known.under(keys::TYPE, &[]) {
        if decode::<TypeRow>(value)?.name == visit_type.as_str() {
            return Ok(Some(Parts(key).u16()));
        }
    }
    Ok(None)
}

/// Gives back what nobody answered for, and lets into their lanes those whose time has come. Returns
/// where to begin to look.
pub(super) async fn begin(db: &Db<'_>, known: &mut Known, number: u16, now: Timestamp) -> Result<Positions> {
    let ended = "delete from {s}.lease where id in
        (select id from {s}.lease where until <= $1 order by until limit $2 for update skip locked)";
    let ended = db.run(ended, &[&Time(now), &SWEPT]).await?;
    let woken = "update {s}.origin set slot = (slot & ~255) | next_lane, rank = next_rank,
                   next_lane = null, next_rank = null
        where id in (select id from {s}.origin where slot = $1 and slot >= 0 and rank <= $2
                     order by slot, rank, id limit $3 for update skip locked)";
    let woken = db.run(woken, &[&origin::waiting_slot(number), &now.as_micros(), &SWEPT]).await?;
    // Nothing whose time has come is left, unless it is too much for one claim.
    let next = now.as_micros().saturating_add(1);
    known.whole(keys::DEADLINE, Vec::new(), Some(keys::deadline(next, 0).to_vec()));
    let (from, to) = (K::new().u16(number), keys::wait(number, next, 0));
    known.whole(keys::WAIT, from.to_vec(), Some(to.to_vec()));
    if ended + woken > 0 {
        // Whatever came back may be before any position.
        let (first, last) = (origin::slot(number, 0), origin::waiting_slot(number));
        db.run("delete from {s}.position where slot between $1 and $2", &[&first, &last]).await?;
        return Ok(Positions::new());
    }
    positions(db, number, now).await
}

async fn positions(db: &Db<'_>, number: u16, now: Timestamp) -> Result<Positions> {
    let sql = "select slot, rank, id, head_at, head_micros from {s}.position where slot between $1 and $2";
    let reading = |e| failed("reading positions", e);
    let mut found = Positions::new();
    // What was asked for on demand is few, and always looked at from its head.
    let first = origin::slot(number, Lane::REQUESTED.0) + 1;
    for row in db.rows(sql, &[&first, &origin::waiting_slot(number)]).await? {
        let Time(head_at) = row.try_get("head_at").map_err(reading)?;
        let took: i64 = row.try_get("head_micros").map_err(reading)?;
        let since = now.as_micros().saturating_sub(head_at.as_micros());
        if (0..=took.saturating_mul(HEAD_SHARE)).contains(&since) {
            let place = (row.try_get("rank").map_err(reading)?, row.try_get("id").map_err(reading)?);
            found.insert(row.try_get("slot").map_err(reading)?, place);
        }
    }
    Ok(found)
}

/// Remembers how far the lanes have been handed out, and when their heads were looked at: up to the
/// first place that was seen and is still there.
pub(super) async fn end(
    db: &Db<'_>,
    known: &Known,
    writes: &Writes,
    (number, from): (u16, &Positions),
    now: Timestamp,
) -> Result<()> {
    let mut reached: BTreeMap<i32, Option<(i64, i64)>> =
        known.heads.keys().map(|slot| (*slot, None)).collect();
    let mut stopped = HashSet::new();
    for (key, _) in known.under(keys::QUEUE, &K::new().u16(number)) {
        let mut parts = Parts(key);
        let (slot, rank) = (origin::slot(parts.u16(), parts.u8()), parts.i64());
        let place = (rank, signed(parts.u64()));
        if stopped.contains(&slot) || from.get(&slot).is_some_and(|from| place < *from) {
            continue;
        }
        // What was handed out before its time left others behind that are not ready.
        if rank > now.as_micros() || !writes.took(key) {
            stopped.insert(slot);
        } else {
            reached.insert(slot, Some(place));
        }
    }
    for (slot, place) in reached {
        let looked = known.heads.get(&slot);
        let Some((rank, id)) = place else {
            db.run("delete from {s}.position where slot = $1", &[&slot]).await?;
            continue;
        };
        let sql = if looked.is_some() {
            "insert into {s}.position (slot, rank, id, head_at, head_micros) values ($1, $2, $3, $4, $5)
             on conflict (slot) do update set rank = excluded.rank, id = excluded.id,
               head_at = excluded.head_at, head_micros = excluded.head_micros"
        } else {
            "insert into {s}.position (slot, rank, id, head_at, head_micros) values ($1, $2, $3, $4, $5)
             on conflict (slot) do update set rank = excluded.rank, id = excluded.id"
        };
        let took = looked.copied().unwrap_or(0);
        db.run(sql, &[&slot, &rank, &id, &Time(now), &took]).await?;
    }
    Ok(())
}
