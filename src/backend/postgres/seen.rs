//! Who was seen by a run: a list for each page, put together into sets from time to time.
//!
//! A set of 4096 origins is half a kilobyte. Writing it anew for each page that has one of them would
//! write far more than the page; a list of a page is written once.

use std::collections::{BTreeMap, BTreeSet};

use super::db::Db;
use super::known::Known;
use super::sql::{failed, signed};
use crate::backend::Result;
use crate::backend::engine::keys::{self, K, Parts};
use crate::backend::engine::sets::{self, Chunk};

/// So many lists of a run are put together into its sets.
const LISTS: i32 = 1024;

const KIND: i16 = 9;

/// Keeps a page's list. Returns whether it is time to put lists together.
pub(super) async fn add(db: &Db<'_>, prefix: &[u8], ids: Vec<u64>) -> Result<bool> {
    let (lister, run) = of(prefix);
    let mut ids: Vec<i64> = ids.into_iter().map(signed).collect();
    ids.sort_unstable();
    ids.dedup();
    let sql = "insert into {s}.seen_log (lister, run, n, ids)
               select $1, $2, coalesce(max(n), 0) + 1, $3 from {s}.seen_log where lister = $1 and run = $2
               returning n";
    let row = db.row(sql, &[&lister, &run, &ids]).await?;
    let n: i32 = row.try_get(0).map_err(|e| failed("keeping who was seen", e))?;
    Ok(n >= LISTS)
}

fn of(prefix: &[u8]) -> (i32, i64) {
    let mut parts = Parts(prefix);
    (parts.u32().cast_signed(), signed(parts.u64()))
}

/// Sets by their keys, with what the lists add to them.
pub(super) async fn fetch(db: &Db<'_>, known: &mut Known, wanted: Vec<Vec<u8>>) -> Result<()> {
    let mut found = stored(db, &wanted).await?;
    let runs: BTreeSet<(i32, i64)> = wanted.iter().map(|key| of(key)).collect();
    for (lister, run) in runs {
        for (key, chunk) in lists(db, lister, run).await? {
            // Sets that nobody asked for are left for who does.
            if wanted.contains(&key) {
                merge(found.entry(key).or_default(), chunk);
            }
        }
    }
    for (key, set) in found {
        known.put(keys::SEEN, key, Some(set.write()));
    }
    known.all_absent(keys::SEEN, wanted);
    Ok(())
}

async fn stored(db: &Db<'_>, wanted: &[Vec<u8>]) -> Result<BTreeMap<Vec<u8>, Chunk>> {
    let sql = "select key, value from {s}.entry where kind = $1 and key = any($2)";
    let failed = |e| failed("reading who was seen", e);
    let mut found = BTreeMap::new();
    for row in db.rows(sql, &[&KIND, &wanted]).await? {
        let value: Vec<u8> = row.try_get("value").map_err(failed)?;
        found.insert(row.try_get("key").map_err(failed)?, Chunk::read(&value));
    }
    Ok(found)
}

/// The lists of a run, as members of sets.
async fn lists(db: &Db<'_>, lister: i32, run: i64) -> Result<BTreeMap<Vec<u8>, Vec<u16>>> {
    let sql = "select ids from {s}.seen_log where lister = $1 and run = $2";
    let mut found: BTreeMap<Vec<u8>, Vec<u16>> = BTreeMap::new();
    for row in db.rows(sql, &[&lister, &run]).await? {
        let ids: Vec<i64> = row.try_get("ids").map_err(|e| failed("reading who was seen", e))?;
        for id in ids {
            let (chunk, low) = sets::split(id.cast_unsigned());
            let key = keys::seen(lister.cast_unsigned(), run.cast_unsigned(), chunk).to_vec();
            found.entry(key).or_default().push(low);
        }
    }
    Ok(found)
}

fn merge(set: &mut Chunk, members: Vec<u16>) {
    for low in members {
        set.insert(low);
    }
}

/// Puts the lists of a run together into its sets.
pub(super) async fn put_together(db: &Db<'_>, prefix: &[u8]) -> Result<()> {
    let (lister, run) = of(prefix);
    let lists = lists(db, lister, run).await?;
    if lists.is_empty() {
        return Ok(());
    }
    let wanted: Vec<Vec<u8>> = lists.keys().cloned().collect();
    let mut sets = stored(db, &wanted).await?;
    for (key, members) in lists {
        merge(sets.entry(key).or_default(), members);
    }
    let names: Vec<&Vec<u8>> = sets.keys().collect();
    let values: Vec<Vec<u8>> = sets.values().map(Chunk::write).collect();
    let sql = "insert into {s}.entry (kind, key, value) select $1, u.key, u.value
               from unnest($2::bytea[], $3::bytea[]) u(key, value)
               on conflict (kind, key) do update set value = excluded.value";
    db.run(sql, &[&KIND, &names, &values]).await?;
    db.run("delete from {s}.seen_log where lister = $1 and run = $2", &[&lister, &run]).await?;
    Ok(())
}

/// Puts together the lists of all runs of a lister, before somebody reads its sets one after the other.
pub(super) async fn put_all_together(db: &Db<'_>, lister: i32) -> Result<()> {
    let sql = "select distinct run from {s}.seen_log where lister = $1";
    for row in db.rows(sql, &[&lister]).await? {
        let run: i64 = row.try_get(0).map_err(|e| failed("reading who was seen", e))?;
        let prefix = K::new().u32(lister.cast_unsigned()).u64(run.cast_unsigned());
        put_together(db, &prefix).await?;
    }
    Ok(())
}
