//! Gets what a run of the engine needed and did not know: each kind of thing in one statement, the
//! statements one behind the other on the wire.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::db::Db;
use super::known::{CHANGES, Known, Numbers, Unknown};
use super::learn::{
    find, find_by_forge, learn, learn_listings, learn_types, listing_columns, origin_columns, types_sql,
};
use super::origin;
use super::rows::{Gap, Lister, Run};
use super::sql::{Time, signed};
use super::table::of;
use super::{queued, seen, sql};
use crate::backend::Result;
use crate::backend::engine::keys::{self, Parts};
use crate::backend::engine::kv::after_prefix;
use crate::backend::engine::rows::{ChangeRow, corrupt, encode};
use crate::model::ListerKey;

/// The first range of a table brings so many entries; each further one twice as many.
pub(super) const AT_FIRST: u64 = 512;

/// The bytes of a lister, and of where one of its forge's ids is looked up.
const FORGE_PREFIX: usize = 12;

/// What else is to be minded while fetching.
#[derive(Debug, Clone, Default)]
pub(super) struct Hints {
    /// So many origins are wanted of each lane.
    pub(super) batch: u64,
    /// Of origins only what pages of them show is wanted: the rest is not read.
    pub(super) shown: bool,
    /// Only those that this lister lists are wanted.
    pub(super) only: Option<i32>,
    /// Where to begin in a slot instead of at its head.
    pub(super) positions: HashMap<i32, (i64, i64)>,
}

/// Statements take their parameters by reference, so they are bundled with them here.
struct Asked {
    ranges: Vec<Unknown>,
    keys: BTreeMap<u8, Vec<Vec<u8>>>,
    counts: Vec<Unknown>,
}

/// All visit types: every transaction needs them. Tells whether all origins are placed by the policy of
/// now.
pub(super) async fn types(db: &Db<'_>, known: &mut Known) -> Result<bool> {
    let rows = db.rows(&types_sql(), &[]).await?;
    learn_types(known, rows)
}

/// Gets all that is unknown.
pub(super) async fn all(db: &Db<'_>, known: &mut Known, hints: &Hints, unknown: Vec<Unknown>) -> Result<()> {
    let mut asked = Asked { ranges: Vec::new(), keys: BTreeMap::new(), counts: Vec::new() };
    for what in unknown {
        match what {
            Unknown::Key(table, key) => asked.keys.entry(table).or_default().push(key),
            Unknown::Range(..) => asked.ranges.push(what),
            Unknown::Count(..) => asked.counts.push(what),
            Unknown::Sample(visit_type, limit) => queued::sample(db, known, visit_type, limit).await?,
            Unknown::Numbers(name, n) => reserve(db, known, &name, n).await?,
        }
    }
    let mut entries = Vec::new();
    for (table, wanted) in asked.keys {
        match table {
            keys::ORIGIN => origins(db, known, &wanted, hints.shown).await?,
            keys::LEASE => queued::leases_of(db, known, &wanted).await?,
            keys::LISTER => listers(db, known, "id = any($1)", &[&ids(&wanted)], wanted.clone()).await?,
            keys::LISTER_ID => {
                let uuids: Vec<_> = wanted.iter().filter_map(|k| uuid::Uuid::from_slice(k).ok()).collect();
                listers(db, known, "uuid = any($1)", &[&uuids], wanted).await?;
            }
            keys::RUN => {
                let numbers: Vec<i64> = wanted.iter().map(|k| signed(!keys::first_u64(k))).collect();
                runs(db, known, "r.id = any($1)", &[&numbers], wanted).await?;
            }
            keys::OPEN_RUN => open_runs(db, known, wanted).await?,
            keys::META => {
                // What is reserved by now is known better.
                for name in wanted {
                    if known.sequence(&name).is_none_or(|n| n.reserved == 0) {
                        last_number(db, known, name).await?;
                    }
                }
            }
            keys::SEEN => seen::fetch(db, known, wanted).await?,
            keys::GAP => {
                let digests: Vec<Vec<u8>> =
                    wanted.iter().filter_map(|k| Some(k.get(20..)?.to_vec())).collect();
                let lister: Vec<i32> = wanted.iter().map(|k| Parts(k).u32().cast_signed()).collect();
                gaps(db, known, "lister = any($1) and digest = any($2)", &[&lister, &digests]).await?;
                known.all_absent(keys::GAP, wanted);
            }
            keys::FORMER if wanted.len() >= TOGETHER => {
                entries.extend(together(db, known, table, wanted).await?.into_iter().map(|key| (table, key)));
            }
            _ => entries.extend(wanted.into_iter().map(|key| (table, key))),
        }
    }
    if !entries.is_empty() {
        entries_by_key(db, known, entries).await?;
    }
    ranges(db, known, hints, asked.ranges).await?;
    for count in asked.counts {
        let n = counted(db, &count).await?;
        known.count_is(count, n);
    }
    Ok(())
}

async fn ranges(db: &Db<'_>, known: &mut Known, hints: &Hints, ranges: Vec<Unknown>) -> Result<()> {
    let mut found: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    let mut by_forge: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    let mut entries = Vec::new();
    for range in ranges {
        let Unknown::Range(table, from, to) = range else { continue };
        match table {
            keys::ORIGIN_KEY if to.is_some() => found.push((from, to)),
            keys::FORGE if from.len() == FORGE_PREFIX => by_forge.push((from, to)),
            keys::ORIGIN_KEY => by_digest(db, known, from).await?,
            keys::QUEUE => queued::queue(db, known, hints, from, to).await?,
            keys::ORIGIN => origins_from(db, known, from, to).await?,
            keys::DEADLINE => queued::deadlines(db, known, from, to).await?,
            keys::WAIT => queued::waiting(db, known, from, to).await?,
            keys::LISTER => {
                listers(db, known, "true", &[], Vec::new()).await?;
                known.whole(table, Vec::new(), None);
            }
            keys::RUN => runs_from(db, known, from, to).await?,
            keys::CHANGE => changes(db, known, from, to).await?,
            keys::GAP => {
                if from.is_empty() {
                    gaps(db, known, "true", &[]).await?;
                } else {
                    let lister = Parts(&from).u32().cast_signed();
                    gaps(db, known, "lister = $1", &[&lister]).await?;
                }
                known.whole(table, from, to);
            }
            _ => entries.push((table, from, to)),
        }
    }
    if !found.is_empty() {
        find(db, known, found).await?;
    }
    if !by_forge.is_empty() {
        find_by_forge(db, known, by_forge).await?;
    }
    if !entries.is_empty() {
        entries_by_range(db, known, entries).await?;
    }
    Ok(())
}

fn ids(keys: &[Vec<u8>]) -> Vec<i32> {
    keys.iter().map(|k| Parts(k).u32().cast_signed()).collect()
}

async fn origins(db: &Db<'_>, known: &mut Known, wanted: &[Vec<u8>], shown: bool) -> Result<()> {
    let ids: Vec<i64> = wanted.iter().map(|k| signed(keys::first_u64(k))).collect();
    let columns = if shown { listing_columns() } else { origin_columns() };
    let sql = format!("select {columns} from {{s}}.origin o where o.id = any($1)");
    let rows = db.rows(&sql, &[&ids]).await?;
    if shown {
        learn_listings(db, known, rows).await?;
    } else {
        learn(db, known, rows).await?;
    }
    known.all_absent(keys::ORIGIN, wanted.to_vec());
    Ok(())
}

/// So many origins are read at first of those in the order of their digests.
const IN_TURN: u64 = 32;

/// Origins in the order of their digests, from a key on.
async fn by_digest(db: &Db<'_>, known: &mut Known, from: Vec<u8>) -> Result<()> {
    let limit = known.next_size(keys::ORIGIN_KEY, IN_TURN);
    // Where a range begins behind all that begin with something, its key is short.
    let mut whole = from.clone();
    whole.resize(from.len().max(8), 0);
    let first = signed(keys::first_u64(&whole));
    // Digests have no sign, numbers there do: the upper half of them comes first there.
    let last = if first < 0 { -1 } else { i64::MAX };
    let columns = origin_columns();
    let sql = format!(
        "(select {columns} from {{s}}.origin o where o.key between $1 and $2 and o.twin = 0
          order by o.key limit $3)
         union all
         (select {columns} from {{s}}.origin o where o.key between $1 and $2 and o.twin > 0
          order by o.key, o.twin limit $3)
         order by key, twin limit $3"
    );
    let rows = db.rows(&sql, &[&first, &last, &signed(limit)]).await?;
    let all = (rows.len() as u64) < limit;
    let found = learn(db, known, rows).await?;
    let end = match found.last().and_then(|(id, _)| known.found_by.get(id).copied().flatten()) {
        // Of those with the last digest there may be more.
        Some((digest, _)) if !all && digest != first => Some(keys::of_u64(digest.cast_unsigned()).to_vec()),
        Some((digest, _)) if !all => after_prefix(&keys::of_u64(digest.cast_unsigned())),
        _ => after_prefix(&keys::of_u64(last.cast_unsigned())),
    };
    known.whole(keys::ORIGIN_KEY, from, end);
    Ok(())
}

async fn origins_from(db: &Db<'_>, known: &mut Known, from: Vec<u8>, to: Option<Vec<u8>>) -> Result<()> {
    let limit = known.next_size(keys::ORIGIN, AT_FIRST * 2);
    let sql =
        format!("select {} from {{s}}.origin o where o.id >= $1 order by o.id limit $2", origin_columns());
    let rows = db.rows(&sql, &[&signed(keys::first_u64(&from)), &signed(limit)]).await?;
    let all = (rows.len() as u64) < limit;
    let found = learn(db, known, rows).await?;
    let last = found.last().map(|(id, _)| after(&keys::of_u64(*id)));
    known.whole(keys::ORIGIN, from, if all { to } else { last });
    Ok(())
}

/// The first key after a key.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

async fn counted(db: &Db<'_>, count: &Unknown) -> Result<u64> {
    let Unknown::Count(_, from, to, limit) = count else { return Ok(0) };
    let (mut from, mut to) = (Parts(from), Parts(to));
    let slot = origin::slot(from.u16(), from.u8());
    let (_, _) = (to.u16(), to.u8());
    let sql = "select count(*) from (
         (select from {s}.origin o where o.slot = $1 and o.slot >= 0 and (o.rank, o.id) < ($2, $3)
           and not exists (select from {s}.lease l where l.id = o.id) limit $4)
         union all
         (select from {s}.origin o where o.also_slot = $1 and o.also_slot >= 0 and o.next_lane is null
           and (o.also_rank, o.id) < ($2, $3)
           and not exists (select from {s}.lease l where l.id = o.id) limit $4) limit $4) ahead";
    let params: [&(dyn ToSql + Sync); 4] = [&slot, &to.i64(), &signed(to.u64()), &signed(*limit)];
    let row = db.row(sql, &params).await?;
    Ok(row.try_get::<_, i64>(0).map_err(|e| sql::failed("counting", e))?.cast_unsigned())
}

async fn listers(
    db: &Db<'_>,
    known: &mut Known,
    which: &str,
    params: &[&(dyn ToSql + Sync)],
    wanted: Vec<Vec<u8>>,
) -> Result<()> {
    let sql = format!("select {} from {{s}}.lister l where {which}", of("l", Lister::COLUMNS));
    for row in db.rows(&sql, params).await? {
        let row = Lister::read(&row).map_err(|e| sql::failed("reading listers", e))?;
        let number = keys::of_u32(row.id.cast_unsigned());
        known.put(keys::LISTER_ID, row.uuid.as_bytes().to_vec(), Some(number.to_vec()));
        known.put(keys::LISTER, number.to_vec(), Some(encode(&row.row())?));
    }
    // A number has four bytes, an id sixteen.
    for key in wanted {
        known.absent(if key.len() == 4 { keys::LISTER } else { keys::LISTER_ID }, key);
    }
    Ok(())
}

async fn runs(
    db: &Db<'_>,
    known: &mut Known,
    which: &str,
    params: &[&(dyn ToSql + Sync)],
    wanted: Vec<Vec<u8>>,
) -> Result<Vec<i64>> {
    let sql = format!(
        "select {}, l.name as of_name, l.instance as of_instance
         from {{s}}.run r join {{s}}.lister l on l.id = r.lister where {which}",
        of("r", Run::COLUMNS)
    );
    let failed = |e| sql::failed("reading runs", e);
    let mut found = Vec::new();
    for row in db.rows(&sql, params).await? {
        let run = Run::read(&row).map_err(failed)?;
        let name: String = row.try_get("of_name").map_err(failed)?;
        let instance: String = row.try_get("of_instance").map_err(failed)?;
        let id = run.id;
        found.push(id);
        if run.current {
            known.put(keys::OPEN_RUN, run.open_key()?, Some(keys::of_u64(id.cast_unsigned()).to_vec()));
        }
        let whole = encode(&run.row(ListerKey::new(name, instance))?)?;
        known.put(keys::RUN, keys::of_run(id.cast_unsigned()).to_vec(), Some(whole));
    }
    known.all_absent(keys::RUN, wanted);
    Ok(found)
}

/// Runs, the newest first.
async fn runs_from(db: &Db<'_>, known: &mut Known, from: Vec<u8>, to: Option<Vec<u8>>) -> Result<()> {
    let limit = known.next_size(keys::RUN, AT_FIRST);
    let newest = if from.is_empty() { i64::MAX } else { signed(!keys::first_u64(&from)) };
    let which = "r.id <= $1 order by r.id desc limit $2";
    let found = runs(db, known, which, &[&newest, &signed(limit)], Vec::new()).await?;
    let all = (found.len() as u64) < limit;
    let last = found.last().map(|id| after(&keys::of_run(id.cast_unsigned())));
    known.whole(keys::RUN, from, if all { to } else { last });
    Ok(())
}

async fn open_runs(db: &Db<'_>, known: &mut Known, wanted: Vec<Vec<u8>>) -> Result<()> {
    // One lister at a time is worked on: few runs are its open ones.
    let listers = ids(&wanted);
    runs(db, known, "r.lister = any($1) and r.current", &[&listers], Vec::new()).await?;
    known.all_absent(keys::OPEN_RUN, wanted);
    Ok(())
}

async fn gaps(db: &Db<'_>, known: &mut Known, which: &str, params: &[&(dyn ToSql + Sync)]) -> Result<()> {
    let sql = format!("select {} from {{s}}.gap g where {which}", of("g", Gap::COLUMNS));
    for row in db.rows(&sql, params).await? {
        let gap = Gap::read(&row).map_err(|e| sql::failed("reading gaps", e))?;
        known.put(keys::GAP, gap.key(), Some(encode(&gap.row()?)?));
    }
    Ok(())
}

async fn changes(db: &Db<'_>, known: &mut Known, from: Vec<u8>, to: Option<Vec<u8>>) -> Result<()> {
    let limit = known.next_size(keys::CHANGE, 8);
    let sql =
        "select first, at, lister, kinds, origins from {s}.change where first >= $1 order by first limit $2";
    let failed = |e| sql::failed("reading changes", e);
    let rows = db.rows(sql, &[&signed(keys::first_u64(&from)), &signed(limit)]).await?;
    let all = (rows.len() as u64) < limit;
    let mut last = None;
    for row in rows {
        let kinds: Vec<u8> = row.try_get("kinds").map_err(failed)?;
        let origins: Vec<i64> = row.try_get("origins").map_err(failed)?;
        let change = ChangeRow {
            at: row.try_get::<_, Time>("at").map_err(failed)?.0,
            lister: row.try_get::<_, i32>("lister").map_err(failed)?.cast_unsigned(),
            changes: kinds.into_iter().zip(origins.into_iter().map(i64::cast_unsigned)).collect(),
        };
        let first = row.try_get::<_, i64>("first").map_err(failed)?.cast_unsigned();
        let key = keys::of_u64(first).to_vec();
        last = Some(after(&key));
        known.put(keys::CHANGE, key, Some(encode(&change)?));
    }
    known.whole(keys::CHANGE, from, if all { to } else { last });
    Ok(())
}

/// The last number that a sequence gave.
async fn last_number(db: &Db<'_>, known: &mut Known, name: Vec<u8>) -> Result<()> {
    if name == CHANGES {
        // Whoever wants to know it keeps it to the end of the transaction.
        let row = db.row("select n from {s}.meta where name = 'change' for update", &[]).await?;
        let last = row.try_get::<_, i64>(0).map_err(|e| sql::failed("reading a counter", e))?;
        known.sequence_is(&name, Numbers { last: last.cast_unsigned(), reserved: u64::MAX });
        return Ok(());
    }
    let sequence = sequence(&name)?;
    let sql = format!("select case when is_called then last_value else 0 end from {{s}}.{sequence}");
    let row = db.row(&sql, &[]).await?;
    let last = row.try_get::<_, i64>(0).map_err(|e| sql::failed("reading a sequence", e))?.cast_unsigned();
    known.sequence_is(&name, Numbers { last, reserved: 0 });
    Ok(())
}

/// Reserves numbers of a sequence: they are this transaction's, and lost where it fails.
pub(super) async fn reserve(db: &Db<'_>, known: &mut Known, name: &[u8], n: u64) -> Result<()> {
    let sequence = sequence(name)?;
    let sql = format!("select {{s}}.reserve('{{s}}.{sequence}'::regclass, $1)");
    let row = db.row(&sql, &[&signed(n)]).await?;
    let first = row.try_get::<_, i64>(0).map_err(|e| sql::failed("reserving numbers", e))?.cast_unsigned();
    known.sequence_is(name, Numbers { last: first.saturating_sub(1), reserved: n });
    Ok(())
}

/// Gives back reserved numbers that were not used, unless somebody has reserved others meanwhile: then
/// they are lost.
pub(super) async fn give_back(db: &Db<'_>, known: &Known, name: &[u8], last: Option<u64>) -> Result<()> {
    let Some(numbers) = known.sequence(name) else { return Ok(()) };
    let (reserved, used) = (numbers.last + numbers.reserved, last.unwrap_or(numbers.last));
    if used < reserved {
        let sql = format!("select {{s}}.give_back('{{s}}.{}'::regclass, $1, $2)", sequence(name)?);
        db.row(&sql, &[&signed(reserved), &signed(used)]).await?;
    }
    Ok(())
}

fn sequence(name: &[u8]) -> Result<String> {
    let name = std::str::from_utf8(name).map_err(|e| corrupt("a sequence's name").with_source(e))?;
    Ok(format!("{name}_seq"))
}

async fn entries_by_key(db: &Db<'_>, known: &mut Known, wanted: Vec<(u8, Vec<u8>)>) -> Result<()> {
    let kinds: Vec<i16> = wanted.iter().map(|(t, _)| i16::from(*t)).collect();
    let names: Vec<&[u8]> = wanted.iter().map(|(_, k)| k.as_slice()).collect();
    let sql = "select e.kind, e.key, e.value from unnest($1::smallint[], $2::bytea[]) u(kind, key)
               join {s}.entry e on e.kind = u.kind and e.key = u.key";
    for row in db.rows(sql, &[&kinds, &names]).await? {
        let (table, key, value) = entry(&row)?;
        known.put(table, key, Some(value));
    }
    for (table, key) in wanted {
        known.absent(table, key);
    }
    Ok(())
}

/// So many keys of a table in which most are not are looked for as one range.
const TOGETHER: usize = 64;

/// Everything between the first and the last of these keys, where that is not much more than they are.
/// Returns the keys that are still to be looked for.
async fn together(db: &Db<'_>, known: &mut Known, table: u8, wanted: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
    let (Some(low), Some(last)) = (wanted.iter().min(), wanted.iter().max()) else { return Ok(wanted) };
    let (low, high) = (low.clone(), after(last));
    let limit = wanted.len();
    let sql =
        "select e.kind, e.key, e.value from {s}.entry e where e.kind = $1 and e.key >= $2 and e.key < $3
               order by e.kind, e.key limit $4";
    let rows = db.rows(sql, &[&i16::from(table), &low, &high, &signed(limit as u64)]).await?;
    let all = rows.len() < limit;
    for row in rows {
        let (table, key, value) = entry(&row)?;
        known.put(table, key, Some(value));
    }
    if !all {
        return Ok(wanted.into_iter().filter(|key| known.get(table, key).is_none()).collect());
    }
    known.whole(table, low, Some(high));
    Ok(Vec::new())
}

fn entry(row: &Row) -> Result<(u8, Vec<u8>, Vec<u8>)> {
    let failed = |e| sql::failed("reading entries", e);
    let kind: i16 = row.try_get("kind").map_err(failed)?;
    let table = u8::try_from(kind).map_err(|e| corrupt("an entry of no table").with_source(e))?;
    Ok((table, row.try_get("key").map_err(failed)?, row.try_get("value").map_err(failed)?))
}

async fn entries_by_range(
    db: &Db<'_>,
    known: &mut Known,
    wanted: Vec<(u8, Vec<u8>, Option<Vec<u8>>)>,
) -> Result<()> {
    let tables: std::collections::BTreeSet<u8> = wanted.iter().map(|w| w.0).collect();
    // Sets are large, and read in turn.
    let first = |table| if table == keys::LISTED { 2 } else { AT_FIRST };
    let limit = tables.into_iter().map(|t| known.next_size(t, first(t))).max().unwrap_or(AT_FIRST);
    let kinds: Vec<i16> = wanted.iter().map(|w| i16::from(w.0)).collect();
    let from: Vec<&[u8]> = wanted.iter().map(|w| w.1.as_slice()).collect();
    let to: Vec<Option<&[u8]>> = wanted.iter().map(|w| w.2.as_deref()).collect();
    let sql = "select r.n, e.kind, e.key, e.value
         from unnest($1::smallint[], $2::bytea[], $3::bytea[]) with ordinality r(kind, low, high, n)
         cross join lateral (select e.kind, e.key, e.value from {s}.entry e
           where e.kind = r.kind and e.key >= r.low and (r.high is null or e.key < r.high)
           order by e.kind, e.key limit $4) e order by r.n, e.key";
    let mut counts: HashMap<i64, (u64, Vec<u8>)> = HashMap::new();
    for row in db.rows(sql, &[&kinds, &from, &to, &signed(limit)]).await? {
        let n: i64 = row.try_get("n").map_err(|e| sql::failed("reading entries", e))?;
        let (table, key, value) = entry(&row)?;
        let count = counts.entry(n).or_default();
        *count = (count.0 + 1, after(&key));
        known.put(table, key, Some(value));
    }
    for (n, (table, from, to)) in (1i64..).zip(wanted) {
        let end = match counts.remove(&n) {
            Some((found, last)) if found >= limit => Some(last),
            _ => to,
        };
        known.whole(table, from, end);
    }
    Ok(())
}
