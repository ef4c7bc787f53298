//! Writes what a run of the engine wrote, once it is sure that it was told the truth.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::ToSql;

use super::db::Db;
use super::known::{CHANGES, Draft, Known};
use super::origin::{self, Key, Origin, Origins, Other};
use super::rows::{Gap, Lister, Run, Type};
use super::seen;
use super::sql::{Time, Version, failed, signed};
use super::table::{unnest, upsert};
use crate::backend::Result;
use crate::backend::engine::keys::{self, Parts};
use crate::backend::engine::rows::{
    ChangeRow, LeaseRow, LedgerRow, OriginRow, RunRow, TypeRow, corrupt, decode, encode,
};

/// Tables whose rows have columns of their own, or that are no tables at all here.
const APART: [u8; 17] = [
    keys::META,
    keys::LISTER,
    keys::LISTER_ID,
    keys::TYPE,
    keys::ORIGIN,
    keys::ORIGIN_KEY,
    keys::FORGE,
    keys::SEEN,
    keys::QUEUE,
    keys::WAIT,
    keys::LEASE,
    keys::DEADLINE,
    keys::CHANGE,
    keys::RUN,
    keys::OPEN_RUN,
    keys::GAP,
    keys::LEDGER,
];

type Entries = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// All writes of a run of the engine.
pub(super) struct Writes {
    tables: BTreeMap<u8, Entries>,
    cleared: Vec<(u8, Vec<u8>)>,
    seen: BTreeMap<Vec<u8>, Vec<u64>>,
}

impl Writes {
    pub(super) fn of(draft: Draft<'_>) -> Self {
        Self { tables: draft.writes, cleared: draft.cleared, seen: draft.seen }
    }

    fn take(&mut self, table: u8) -> Entries {
        self.tables.remove(&table).unwrap_or_default()
    }

    fn ids(&self, table: u8) -> impl Iterator<Item = u64> + '_ {
        self.tables.get(&table).into_iter().flatten().map(|(key, _)| keys::first_u64(key))
    }

    /// The last number given of a sequence; none where none was.
    pub(super) fn last_of(&self, sequence: &[u8]) -> Option<u64> {
        let value = self.tables.get(&keys::META)?.get(sequence)?.as_deref()?;
        Some(keys::first_u64(value))
    }

    /// Whether a place in the queue was taken.
    pub(super) fn took(&self, place: &[u8]) -> bool {
        self.tables.get(&keys::QUEUE).and_then(|queue| queue.get(place)).is_some_and(Option::is_none)
    }

    /// Takes out what is as it was.
    fn drop_unchanged(&mut self, known: &Known) {
        for (table, entries) in &mut self.tables {
            let cleared: Vec<_> = self.cleared.iter().filter(|(t, _)| t == table).collect();
            entries.retain(|key, value| {
                cleared.iter().any(|(_, prefix)| key.starts_with(prefix))
                    || known.get(*table, key) != Some(value.as_deref())
            });
        }
    }
}

/// Locks the rows that are to be written, and tells whether they are what the engine was told.
pub(super) async fn still_true(db: &Db<'_>, known: &Known, writes: &mut Writes) -> Result<bool> {
    writes.drop_unchanged(known);
    for (table, name) in [(keys::ORIGIN, "origin"), (keys::LEASE, "lease")] {
        let moved = writes.tables.get(&keys::ORIGIN_KEY).filter(|_| table == keys::ORIGIN);
        let moved = moved.into_iter().flatten().map(|(key, _)| {
            let mut parts = Parts(key);
            parts.u64();
            parts.u64()
        });
        let old: BTreeMap<i64, i64> = writes
            .ids(table)
            .chain(moved)
            .filter_map(|id| Some((signed(id), *known.versions.get(&(table, id))?)))
            .collect();
        if old.is_empty() {
            continue;
        }
        let ids: Vec<i64> = old.keys().copied().collect();
        let sql = format!("select id, xmin from {{s}}.{name} where id = any($1) order by id for update");
        let rows = db.rows(&sql, &[&ids]).await?;
        if rows.len() < old.len() {
            return Ok(false);
        }
        let failed = |e| failed("locking rows", e);
        for row in rows {
            let id: i64 = row.try_get("id").map_err(failed)?;
            let Version(version) = row.try_get("xmin").map_err(failed)?;
            if old.get(&id) != Some(&version) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Writes everything.
pub(super) async fn all(db: &Db<'_>, known: &Known, mut writes: Writes) -> Result<()> {
    cleared(db, &writes.cleared).await?;
    listers(db, writes.take(keys::LISTER)).await?;
    origins(db, known, &mut writes).await?;
    leases(db, known, writes.take(keys::LEASE)).await?;
    runs(db, known, &mut writes).await?;
    gaps(db, writes.take(keys::GAP)).await?;
    // What many count in comes last: nobody has to wait for it longer than a commit takes.
    let (ledgers, types) = (writes.take(keys::LEDGER), writes.take(keys::TYPE));
    entries(db, &mut writes).await?;
    for (prefix, ids) in std::mem::take(&mut writes.seen) {
        if seen::add(db, &prefix, ids).await? {
            seen::put_together(db, &prefix).await?;
        }
    }
    count_news(db, known, ledgers).await?;
    visit_types(db, known, types).await?;
    changes(db, known, writes.take(keys::CHANGE)).await
}

async fn cleared(db: &Db<'_>, cleared: &[(u8, Vec<u8>)]) -> Result<()> {
    if cleared.is_empty() {
        return Ok(());
    }
    let kinds: Vec<i16> = cleared.iter().map(|(t, _)| i16::from(*t)).collect();
    let from: Vec<&[u8]> = cleared.iter().map(|(_, p)| p.as_slice()).collect();
    let to: Vec<Option<Vec<u8>>> =
        cleared.iter().map(|(_, p)| crate::backend::engine::kv::after_prefix(p)).collect();
    let sql =
        "delete from {s}.entry e using unnest($1::smallint[], $2::bytea[], $3::bytea[]) r(kind, low, high)
               where e.kind = r.kind and e.key >= r.low and (r.high is null or e.key < r.high)";
    db.run(sql, &[&kinds, &from, &to]).await?;
    for (table, prefix) in cleared {
        if *table == keys::SEEN {
            let mut parts = Parts(prefix);
            let (lister, run) = (parts.u32().cast_signed(), signed(parts.u64()));
            db.run("delete from {s}.seen_log where lister = $1 and run = $2", &[&lister, &run]).await?;
        }
    }
    Ok(())
}

/// Only what changed of a visit type is written: who places origins anew, and who learns from claims,
/// do not undo each other's.
async fn visit_types(db: &Db<'_>, known: &Known, rows: Entries) -> Result<()> {
    for (key, value) in rows {
        let Some(value) = value else { continue };
        let new: TypeRow = decode(&value)?;
        let old = known.get(keys::TYPE, &key).flatten().map(decode::<TypeRow>).transpose()?;
        let number = Parts(&key).u16();
        let row = Type::of(number, new.clone());
        let Some(old) = old else {
            let sql = format!(
                "insert into {{s}}.visit_type ({}) values ({})",
                Type::COLUMNS.join(", "),
                super::table::places(Type::COLUMNS.len())
            );
            db.run(&sql, &row.values()).await?;
            continue;
        };
        let owed = |row: &TypeRow| (row.credit.clone(), row.guarded.to_bits());
        if old.shared != new.shared || owed(&old) != owed(&new) {
            let sql = "update {s}.visit_type set shared = $2, credit = $3, guarded = $4 where id = $1";
            db.run(sql, &[&row.id, &row.shared, &row.credit, &row.guarded]).await?;
        }
        if old.replace_from != new.replace_from {
            let sql = "update {s}.visit_type set replace_from = $2 where id = $1";
            db.run(sql, &[&row.id, &row.replace_from]).await?;
        }
        let more = signed(new.waiting) - signed(old.waiting);
        if more != 0 {
            let sql = "update {s}.visit_type set waiting = waiting + $2 where id = $1";
            db.run(sql, &[&row.id, &more]).await?;
        }
    }
    Ok(())
}

/// What news were worth is counted by many at once: what this transaction counted is added to what is
/// there by now.
async fn count_news(db: &Db<'_>, known: &Known, rows: Entries) -> Result<()> {
    let kind = i16::from(keys::LEDGER);
    for (key, value) in rows {
        let Some(value) = value else { continue };
        let mut row: LedgerRow = decode(&value)?;
        let sql =
            "insert into {s}.entry (kind, key, value) values ($1, $2, $3) on conflict (kind, key) do nothing";
        if db.run(sql, &[&kind, &key, &value]).await? == 0 {
            let sql = "select value from {s}.entry where kind = $1 and key = $2 for update";
            let there = db.row(sql, &[&kind, &key]).await?;
            let there: Vec<u8> = there.try_get(0).map_err(|e| failed("reading counts", e))?;
            let before = known.get(keys::LEDGER, &key).flatten().map(decode::<LedgerRow>).transpose()?;
            row.add_to(decode(&there)?, before.unwrap_or_default());
            let sql = "update {s}.entry set value = $3 where kind = $1 and key = $2";
            db.run(sql, &[&kind, &key, &encode(&row)?]).await?;
        }
    }
    Ok(())
}

async fn listers(db: &Db<'_>, rows: Entries) -> Result<()> {
    for (key, value) in rows {
        let Some(value) = value else { continue };
        let row = Lister::of(Parts(&key).u32(), &decode(&value)?);
        db.run(&upsert(Lister::TABLE, Lister::COLUMNS, &["id"]), &row.values()).await?;
    }
    Ok(())
}

/// By what the origins are found of which that changes: none for one that is not found by its URL any
/// more. Of those with the same digest each gets the lowest number that is free.
fn found_by(known: &Known, written: &Entries) -> BTreeMap<u64, Key> {
    let mut taken: BTreeMap<u64, BTreeSet<i16>> = BTreeMap::new();
    let parts = |key: &[u8]| {
        let mut parts = Parts(key);
        (parts.u64(), parts.u64())
    };
    for key in written.keys() {
        let (digest, _) = parts(key);
        let prefix = keys::of_u64(digest);
        let left = known.under(keys::ORIGIN_KEY, &prefix).filter(|(k, _)| !written.contains_key(*k));
        let twin = |(k, _): (&[u8], &[u8])| Some(known.found_by.get(&parts(k).1)?.as_ref()?.1);
        let left = left.filter_map(twin).collect();
        taken.entry(digest).or_insert(left);
    }
    let mut found = BTreeMap::new();
    for (key, _) in written.iter().filter(|(_, there)| there.is_none()) {
        found.insert(parts(key).1, None);
    }
    for (key, _) in written.iter().filter(|(_, there)| there.is_some()) {
        let (digest, id) = parts(key);
        let taken = taken.entry(digest).or_default();
        let free = (0..=i16::MAX).find(|twin| !taken.contains(twin)).unwrap_or(i16::MAX);
        taken.insert(free);
        found.insert(id, Some((digest.cast_signed(), free)));
    }
    found
}

async fn origins(db: &Db<'_>, known: &Known, writes: &mut Writes) -> Result<()> {
    let mut moved = found_by(known, &writes.take(keys::ORIGIN_KEY));
    // Nobody keeps a key that another one gets.
    let vacated: Vec<i64> = moved
        .keys()
        .filter(|id| known.found_by.get(id).is_some_and(Option::is_some))
        .map(|id| signed(*id))
        .collect();
    if !vacated.is_empty() {
        db.run("update {s}.origin set key = null, twin = 0 where id = any($1)", &[&vacated]).await?;
    }
    let (mut new, mut old, mut others, mut renewed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (key, value) in writes.take(keys::ORIGIN) {
        let Some(value) = value else { continue };
        let id = keys::first_u64(&key);
        let row: OriginRow = decode(&value)?;
        let found_by = moved.remove(&id).or_else(|| known.found_by.get(&id).copied()).flatten();
        let (flat, rest) = origin::flat(id, found_by, &row)?;
        match known.get(keys::ORIGIN, &key).flatten() {
            None => {
                new.push(flat);
                others.extend(rest);
            }
            Some(before) => {
                let before: OriginRow = decode(before)?;
                if before.listings.get(1..) != row.listings.get(1..) {
                    if before.listings.len() > 1 {
                        renewed.push(flat.id);
                    }
                    others.extend(rest);
                }
                old.push(flat);
            }
        }
    }
    if !old.is_empty() {
        let mut arrays = Origins::default();
        for o in old {
            arrays.push(o);
        }
        let constant = ["id", "visit_type"];
        let set: Vec<String> = Origin::COLUMNS
            .iter()
            .filter(|c| !constant.contains(c))
            .map(|c| format!("{c} = u.{c}"))
            .collect();
        let sql = format!(
            "update {{s}}.origin o set {} from {} where o.id = u.id",
            set.join(", "),
            unnest(Origin::COLUMNS, &Origin::types())
        );
        db.run(&sql, &arrays.values()).await?;
    }
    if !new.is_empty() {
        // In the order of their keys, so that two who add the same ones do not wait for each other.
        new.sort_by_key(|o| (o.key, o.twin));
        db.copy(Origin::TABLE, Origin::COLUMNS, &Origin::types(), new.iter().map(Origin::values)).await?;
    }
    // Nothing else of these changed.
    for (id, key) in moved {
        if let Some((digest, twin)) = key {
            let sql = "update {s}.origin set key = $2, twin = $3 where id = $1";
            db.run(sql, &[&signed(id), &digest, &twin]).await?;
        }
    }
    if !renewed.is_empty() {
        db.run("delete from {s}.listing where origin = any($1)", &[&renewed]).await?;
    }
    if !others.is_empty() {
        db.copy(Other::TABLE, Other::COLUMNS, &Other::types(), others.iter().map(Other::values)).await?;
    }
    Ok(())
}

async fn leases(db: &Db<'_>, known: &Known, rows: Entries) -> Result<()> {
    let mut ended = Vec::new();
    let (mut new, mut kept) = (Vec::new(), Vec::new());
    for (key, value) in rows {
        let id = signed(keys::first_u64(&key));
        match value {
            None => ended.push(id),
            Some(value) => {
                let row: LeaseRow = decode(&value)?;
                let there = known.get(keys::LEASE, &key).flatten().is_some();
                if there { &mut kept } else { &mut new }.push((id, row));
            }
        }
    }
    if !ended.is_empty() {
        db.run("delete from {s}.lease where id = any($1)", &[&ended]).await?;
    }
    if !kept.is_empty() {
        let ids: Vec<i64> = kept.iter().map(|(id, _)| *id).collect();
        let until: Vec<Time> = kept.iter().map(|(_, row)| Time(row.until)).collect();
        let sql =
            "update {s}.lease l set until = u.until from unnest($1::bigint[], $2::timestamptz[]) u(id, until)
                   where l.id = u.id";
        db.run(sql, &[&ids, &until]).await?;
    }
    if !new.is_empty() {
        let ids: Vec<i64> = new.iter().map(|(id, _)| *id).collect();
        let tokens: Vec<i64> = new.iter().map(|(_, row)| signed(row.token)).collect();
        let owners: Vec<i32> = new.iter().map(|(_, row)| row.owner.cast_signed()).collect();
        let since: Vec<Time> = new.iter().map(|(_, row)| Time(row.since)).collect();
        let until: Vec<Time> = new.iter().map(|(_, row)| Time(row.until)).collect();
        // The lease's key is what keeps two from having one visit: where somebody else was faster, all is
        // done again. The lock of claims only spares them the trouble.
        let sql = "insert into {s}.lease (id, token, owner, since, until)
                   select * from unnest($1::bigint[], $2::bigint[], $3::int[], $4::timestamptz[], $5::timestamptz[])";
        let params: [&(dyn ToSql + Sync); 5] = [&ids, &tokens, &owners, &since, &until];
        db.run(sql, &params).await?;
    }
    Ok(())
}

async fn runs(db: &Db<'_>, known: &Known, writes: &mut Writes) -> Result<()> {
    let open = writes.take(keys::OPEN_RUN);
    let opened: Vec<u64> = open.values().flatten().map(|v| keys::first_u64(v)).collect();
    for key in open.iter().filter(|(_, v)| v.is_none()).map(|(k, _)| k) {
        if let Some(run) = known.get(keys::OPEN_RUN, key).flatten() {
            let run = signed(keys::first_u64(run));
            db.run("update {s}.run set current = false where id = $1", &[&run]).await?;
        }
    }
    // The one that was the open run until now makes room first.
    for (key, value) in open.iter().filter(|(_, v)| v.is_some()) {
        let before = known.get(keys::OPEN_RUN, key).flatten().map(|v| signed(keys::first_u64(v)));
        if let Some(before) =
            before.filter(|b| Some(*b) != value.as_deref().map(|v| signed(keys::first_u64(v))))
        {
            db.run("update {s}.run set current = false where id = $1", &[&before]).await?;
        }
    }
    let mut columns: Vec<&str> = Run::COLUMNS.to_vec();
    columns.retain(|c| *c != "current");
    for (_, value) in writes.take(keys::RUN) {
        let Some(value) = value else { continue };
        let row: RunRow = decode(&value)?;
        let id = row.record.id.0;
        let flat = Run::of(row, opened.contains(&id))?;
        if known.get(keys::RUN, &keys::of_run(id)).flatten().is_some() {
            let mut values = flat.values();
            values.truncate(columns.len());
            db.run(&upsert_known(&columns), &values).await?;
        } else {
            db.run(&upsert(Run::TABLE, Run::COLUMNS, &["id"]), &flat.values()).await?;
        }
    }
    Ok(())
}

/// Changes a run that is there. Whether it is the open one is not touched.
fn upsert_known(columns: &[&str]) -> String {
    let set: Vec<String> = columns.iter().zip(1..).skip(1).map(|(c, n)| format!("{c} = ${n}")).collect();
    format!("update {{s}}.run set {} where id = $1", set.join(", "))
}

async fn gaps(db: &Db<'_>, rows: Entries) -> Result<()> {
    for (key, value) in rows {
        if let Some(value) = value {
            let row = Gap::of(&key, decode(&value)?)?;
            let key = ["lister", "parameters", "digest"];
            db.run(&upsert(Gap::TABLE, Gap::COLUMNS, &key), &row.values()).await?;
            continue;
        }
        let (lister, digests) = key.split_at_checked(4).ok_or_else(|| corrupt("a gap's key"))?;
        let (parameters, digest) = digests.split_at_checked(16).ok_or_else(|| corrupt("a gap's key"))?;
        let lister = Parts(lister).u32().cast_signed();
        let sql = "delete from {s}.gap where lister = $1 and parameters = $2 and digest = $3";
        db.run(sql, &[&lister, &parameters, &digest]).await?;
    }
    Ok(())
}

async fn entries(db: &Db<'_>, writes: &mut Writes) -> Result<()> {
    let (mut put, mut gone) = ((Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for (table, entries) in std::mem::take(&mut writes.tables) {
        if APART.contains(&table) {
            writes.tables.insert(table, entries);
            continue;
        }
        for (key, value) in entries {
            if let Some(value) = value {
                put.0.push(i16::from(table));
                put.1.push(key);
                put.2.push(value);
            } else {
                gone.0.push(i16::from(table));
                gone.1.push(key);
            }
        }
    }
    if !gone.0.is_empty() {
        let sql = "delete from {s}.entry e using unnest($1::smallint[], $2::bytea[]) u(kind, key)
                   where e.kind = u.kind and e.key = u.key";
        db.run(sql, &[&gone.0, &gone.1]).await?;
    }
    if !put.0.is_empty() {
        let sql = "insert into {s}.entry (kind, key, value)
                   select * from unnest($1::smallint[], $2::bytea[], $3::bytea[])
                   on conflict (kind, key) do update set value = excluded.value";
        db.run(sql, &[&put.0, &put.1, &put.2]).await?;
    }
    Ok(())
}

/// Changes get their tokens last: whoever has them holds them to the end of the transaction, so that
/// they are seen in their order.
async fn changes(db: &Db<'_>, known: &Known, rows: Entries) -> Result<()> {
    let mut told: Vec<(u64, ChangeRow)> = Vec::new();
    for (key, value) in rows {
        let Some(value) = value else { continue };
        told.push((keys::first_u64(&key), decode(&value)?));
    }
    let Some((first, last)) = told.last() else { return Ok(()) };
    let told_before = known.sequence(CHANGES).map(|numbers| numbers.last);
    let n = signed(first + last.changes.len() as u64 - 1 - told_before.unwrap_or(0));
    let name = std::str::from_utf8(CHANGES).unwrap_or_default();
    let sql = "update {s}.meta set n = n + $2 where name = $1 returning n - $2";
    let row = db.row(sql, &[&name, &n]).await?;
    let base: i64 = row.try_get(0).map_err(|e| failed("numbering changes", e))?;
    let base = if told_before.is_some() { 0 } else { base };
    for (first, row) in told {
        let kinds: Vec<u8> = row.changes.iter().map(|(kind, _)| *kind).collect();
        let origins: Vec<i64> = row.changes.iter().map(|(_, origin)| signed(*origin)).collect();
        let sql = "insert into {s}.change (first, at, lister, kinds, origins) values ($1, $2, $3, $4, $5)";
        let first = base + signed(first);
        db.run(sql, &[&first, &Time(row.at), &row.lister.cast_signed(), &kinds, &origins]).await?;
    }
    Ok(())
}
