//! Gets who waits, in which order, and who is under way.

use tokio_postgres::types::ToSql;

use super::db::Db;
use super::fetch::{AT_FIRST, Hints, after};
use super::known::Known;
use super::learn::{learn, origin_columns};
use super::sql::{Time, Version, signed};
use super::{origin, sql};
use crate::backend::Result;
use crate::backend::engine::keys::{self, Parts};
use crate::backend::engine::place;
use crate::backend::engine::rows::{LeaseRow, encode};
use crate::model::Timestamp;
use crate::policy::Lane;

/// A rank, or the time when waiting ends, and an origin.
type Bound = (i64, i64);

/// Between what a range of keys is that begin with `slot` bytes for where they are queued.
fn bounds(from: &[u8], to: Option<&[u8]>, slot: usize) -> (Bound, Bound) {
    let (name, low) = from.split_at_checked(slot).unwrap_or((from, &[]));
    let read = |bytes: &[u8]| {
        let mut parts = Parts(bytes);
        (parts.i64(), signed(parts.u64()))
    };
    let high = to.and_then(|to| to.strip_prefix(name));
    let low = if low.is_empty() { (i64::MIN, 0) } else { read(low) };
    (low, high.map_or((i64::MAX, i64::MAX), read))
}

/// A stretch of a lane, without what is under way.
pub(super) async fn queue(
    db: &Db<'_>,
    known: &mut Known,
    hints: &Hints,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
) -> Result<()> {
    let mut parts = Parts(&from);
    let (visit_type, lane) = (parts.u16(), parts.u8());
    let slot = origin::slot(visit_type, lane);
    // Some more than are wanted: not each that waits may go.
    let limit = known.next_of_lane(slot, hints.batch + hints.batch / 8 + 64);
    let (mut low, high) = bounds(&from, to.as_deref(), 3);
    let at_head = low == (i64::MIN, 0) && !hints.positions.contains_key(&slot);
    if let Some(position) = hints.positions.get(&slot) {
        low = low.max(*position);
    }
    // The index alone says who comes next. Rows are read of those that are taken; where only one lister's
    // are wanted, they say whose each is.
    let columns = if hints.only.is_some() { origin_columns() } else { "o.id".to_owned() };
    // The indexes are partial: a plan made without knowing the slot must see that they apply.
    let of_one = "and (o.lister = $7 or o.others > 0 and exists
             (select from {s}.listing l where l.origin = o.id and l.lister = $7))";
    let of_one = if hints.only.is_some() { of_one } else { "" };
    let free = format!("not exists (select from {{s}}.lease l where l.id = o.id) {of_one}");
    let sql = format!(
        "(select {columns}, o.rank as at from {{s}}.origin o
         where o.slot = $1 and o.slot >= 0 and (o.rank, o.id) >= ($2, $3) and (o.rank, o.id) < ($4, $5)
           and {free} order by o.slot, o.rank, o.id limit $6)
         union all
         (select {columns}, o.also_rank as at from {{s}}.origin o
         where o.also_slot = $1 and o.also_slot >= 0 and o.next_lane is null
           and (o.also_rank, o.id) >= ($2, $3) and (o.also_rank, o.id) < ($4, $5)
           and {free} order by o.also_slot, o.also_rank, o.id limit $6)
         order by at, id limit $6"
    );
    let limited = signed(limit);
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&slot, &low.0, &low.1, &high.0, &high.1, &limited];
    if hints.only.is_some() {
        params.push(&hints.only);
    }
    let began = std::time::Instant::now();
    let rows = db.rows(&sql, &params).await?;
    if at_head {
        let took = i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX);
        known.heads.entry(slot).or_insert(took);
    }
    let all = (rows.len() as u64) < limit;
    let mut last = None;
    let failed = |e| sql::failed("reading a lane", e);
    let places: Vec<(u64, i64)> = rows
        .iter()
        .map(|row| {
            let id: i64 = row.try_get(0).map_err(failed)?;
            Ok((id.cast_unsigned(), row.try_get("at").map_err(failed)?))
        })
        .collect::<Result<_>>()?;
    if hints.only.is_some() {
        learn(db, known, rows).await?;
    }
    for (id, rank) in places {
        let key = keys::queue(visit_type, lane, rank, id).to_vec();
        last = Some(after(&key));
        known.put(keys::QUEUE, key, Some(Vec::new()));
        known.absent(keys::LEASE, keys::of_u64(id).to_vec());
    }
    known.whole(keys::QUEUE, from, if all { to } else { last });
    Ok(())
}

/// Those of a visit type that wait for their time, and are not under way.
pub(super) async fn waiting(
    db: &Db<'_>,
    known: &mut Known,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
) -> Result<()> {
    let limit = known.next_size(keys::WAIT, AT_FIRST);
    let visit_type = Parts(&from).u16();
    let (low, high) = bounds(&from, to.as_deref(), 2);
    let sql = format!(
        "select {} from {{s}}.origin o
         where o.slot = $1 and o.slot >= 0 and (o.rank, o.id) >= ($2, $3) and (o.rank, o.id) < ($4, $5)
           and not exists (select from {{s}}.lease l where l.id = o.id)
         order by o.slot, o.rank, o.id limit $6",
        origin_columns()
    );
    let slot = origin::waiting_slot(visit_type);
    let rows = db.rows(&sql, &[&slot, &low.0, &low.1, &high.0, &high.1, &signed(limit)]).await?;
    let all = (rows.len() as u64) < limit;
    let mut last = None;
    for (id, row) in learn(db, known, rows).await? {
        let Some((place, until)) = row.place.and_then(|place| Some((place, place.waits?))) else { continue };
        let key = keys::wait(visit_type, until, id).to_vec();
        last = Some(after(&key));
        known.put(keys::WAIT, key, Some(place::waiting(place).to_vec()));
    }
    known.whole(keys::WAIT, from, if all { to } else { last });
    Ok(())
}

/// Origins of a visit type that wait, every so many in the order of the index of claims; those that
/// wait in two lanes are taken in the one that is not the guard's.
pub(super) async fn sample(db: &Db<'_>, known: &mut Known, visit_type: u16, limit: usize) -> Result<()> {
    let sql = "select id from (
           select o.id, row_number() over (order by o.slot, o.rank, o.id) - 1 as n, count(*) over () as whole
           from {s}.origin o
           where o.slot between $1 and $2 and o.slot >= 0 and o.slot <> $3
             and not exists (select from {s}.lease l where l.id = o.id)) waiting
         where n % greatest((whole + $4 - 1) / $4, 1) = 0 order by n";
    let (first, last) = (origin::slot(visit_type, 0), origin::waiting_slot(visit_type));
    let guard = origin::slot(visit_type, Lane::GUARD.0);
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for row in db.rows(sql, &[&first, &last, &guard, &most]).await? {
        let id: i64 = row.try_get(0).map_err(|e| sql::failed("reading a sample", e))?;
        found.push(id.cast_unsigned());
    }
    known.sample_is(visit_type, limit, found);
    Ok(())
}

/// Leases by the time when they end.
pub(super) async fn deadlines(
    db: &Db<'_>,
    known: &mut Known,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
) -> Result<()> {
    let limit = known.next_size(keys::DEADLINE, AT_FIRST);
    let ends = |key: &[u8]| {
        let mut parts = Parts(key);
        (Time(Timestamp::from_micros(parts.i64())), signed(parts.u64()))
    };
    let low = (!from.is_empty()).then(|| ends(&from));
    let high = to.as_deref().map(ends);
    let which = "($1::timestamptz is null or (until, id) >= ($1, $2))
           and ($3::timestamptz is null or (until, id) < ($3, $4)) order by until, id limit $5";
    let (low, low_id) = low.unzip();
    let (high, high_id) = high.unzip();
    let found = leases(db, known, which, &[&low, &low_id, &high, &high_id, &signed(limit)]).await?;
    let mut last = None;
    for (id, until) in &found {
        let key = keys::deadline(until.as_micros(), *id).to_vec();
        last = Some(after(&key));
        known.put(keys::DEADLINE, key, Some(Vec::new()));
    }
    known.whole(keys::DEADLINE, from, if (found.len() as u64) < limit { to } else { last });
    Ok(())
}

pub(super) async fn leases_of(db: &Db<'_>, known: &mut Known, wanted: &[Vec<u8>]) -> Result<()> {
    let ids: Vec<i64> = wanted.iter().map(|k| signed(keys::first_u64(k))).collect();
    leases(db, known, "id = any($1)", &[&ids]).await?;
    known.all_absent(keys::LEASE, wanted.to_vec());
    Ok(())
}

/// Learns leases; returns which, and when they end.
async fn leases(
    db: &Db<'_>,
    known: &mut Known,
    which: &str,
    params: &[&(dyn ToSql + Sync)],
) -> Result<Vec<(u64, Timestamp)>> {
    let sql = format!("select id, token, owner, since, until, xmin from {{s}}.lease where {which}");
    let failed = |e| sql::failed("reading leases", e);
    let mut found = Vec::new();
    for row in db.rows(&sql, params).await? {
        let id = row.try_get::<_, i64>("id").map_err(failed)?.cast_unsigned();
        let lease = LeaseRow {
            token: row.try_get::<_, i64>("token").map_err(failed)?.cast_unsigned(),
            owner: row.try_get::<_, i32>("owner").map_err(failed)?.cast_unsigned(),
            since: row.try_get::<_, Time>("since").map_err(failed)?.0,
            until: row.try_get::<_, Time>("until").map_err(failed)?.0,
        };
        let Version(version) = row.try_get("xmin").map_err(failed)?;
        known.versions.insert((keys::LEASE, id), version);
        known.put(keys::LEASE, keys::of_u64(id).to_vec(), Some(encode(&lease)?));
        found.push((id, lease.until));
    }
    Ok(found)
}
