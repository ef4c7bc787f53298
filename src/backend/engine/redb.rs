//! Tables in a file: `redb`, a copy-on-write B-tree that a crash leaves as the last commit was.

use std::borrow::Cow;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{RwLock, RwLockReadGuard};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    StorageError, Table, TableDefinition,
};

use super::keys;
use super::kv::{Kv, KvRead, KvTxn, Visitor};
use super::tail::{Entries, Tail, merged};
use crate::backend::{BackendError, BackendErrorKind, Result};

/// All tables in one, behind a byte that names them: a transaction opens it once.
const ALL: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("lamplighter");

/// Pages kept in memory, in bytes. The engine's own default is a gigabyte.
const CACHE: usize = 32 << 20;

/// Tables whose keys are digests.
const SCATTERED: [u8; 2] = [keys::ORIGIN_KEY, keys::FORGE];

/// Tables in a file.
pub(crate) struct RedbKv {
    database: Database,
    /// What was written to the scattered tables lately: as the last commit left it, because one
    /// thread reads and writes a file.
    tail: RwLock<Tail>,
}

impl RedbKv {
    /// Opens a file, made where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let database = Builder::new().set_cache_size(CACHE).create(path).map_err(|e| match e {
            DatabaseError::DatabaseAlreadyOpen => {
                let what = format!("{shown} is in use by another process; a file serves one at a time");
                BackendError::new(BackendErrorKind::Unavailable, what)
            }
            DatabaseError::UpgradeRequired(form) => {
                BackendError::new(BackendErrorKind::Corrupt, format!("{shown} has the file format {form}"))
            }
            DatabaseError::Storage(e) => storage(&format!("cannot open {shown}"), e),
            other => BackendError::new(BackendErrorKind::Corrupt, format!("{shown} is no store"))
                .with_source(other),
        })?;
        let kv = Self { database, tail: RwLock::default() };
        kv.write(|_| Ok(()))?;
        let mut tail = Tail::default();
        kv.read(|t| {
            t.scan(keys::TAIL, &[], None, &mut |number, row| {
                tail.read_row(keys::first_u64(number), row)?;
                Ok(ControlFlow::Continue(()))
            })
        })?;
        Ok(Self { tail: RwLock::new(tail), ..kv })
    }

    fn begin<R>(
        &self,
        durability: Durability,
        keep: bool,
        f: impl FnOnce(&mut dyn KvTxn) -> Result<R>,
    ) -> Result<R> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(durability).map_err(failed)?;
        let result = {
            let table = transaction.open_table(ALL).map_err(failed)?;
            let mut writer = Writer { table, tail: self.tail()?, fresh: Entries::new() };
            f(&mut writer).and_then(|result| Ok((result, writer.settle()?)))
        };
        match result {
            Ok((result, settled)) if keep => {
                transaction.commit().map_err(failed)?;
                self.keep(settled)?;
                Ok(result)
            }
            other => {
                transaction.abort().map_err(failed)?;
                other.map(|(result, _)| result)
            }
        }
    }

    fn tail(&self) -> Result<RwLockReadGuard<'_, Tail>> {
        self.tail.read().map_err(|_| panicked())
    }

    /// Takes over what a transaction has written to the scattered tables.
    fn keep(&self, settled: Settled) -> Result<()> {
        let mut tail = self.tail.write().map_err(|_| panicked())?;
        match settled {
            Settled::Nothing => {}
            Settled::Row(number, fresh) => tail.add(number, fresh),
            Settled::Spread => *tail = Tail::default(),
        }
        Ok(())
    }
}

fn panicked() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "a thread that used the file has panicked")
}

/// What the file's engine says, in the words of this crate.
fn failed(e: impl Into<redb::Error>) -> BackendError {
    match e.into() {
        redb::Error::Io(e) => io_error("a read or write", e),
        redb::Error::Corrupted(what) => BackendError::new(BackendErrorKind::Corrupt, what),
        other => BackendError::new(BackendErrorKind::Io, other.to_string()),
    }
}

fn storage(what: &str, e: StorageError) -> BackendError {
    match e {
        StorageError::Io(e) => io_error(what, e),
        StorageError::Corrupted(why) => {
            BackendError::new(BackendErrorKind::Corrupt, format!("{what}: {why}"))
        }
        other => BackendError::new(BackendErrorKind::Io, what).with_source(other),
    }
}

fn io_error(what: &str, e: io::Error) -> BackendError {
    let kind = match e.kind() {
        // Not a database at all: the first bytes say so.
        io::ErrorKind::InvalidData => BackendErrorKind::Corrupt,
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => BackendErrorKind::Unavailable,
        _ => BackendErrorKind::Io,
    };
    BackendError::new(kind, format!("{what}: {e}")).with_source(e)
}

fn full_key(table: u8, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(key.len() + 1);
    full.push(table);
    full.extend(key);
    full
}

struct Reader<'t> {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    tail: RwLockReadGuard<'t, Tail>,
}

struct Writer<'t> {
    table: Table<'t, &'static [u8], &'static [u8]>,
    tail: RwLockReadGuard<'t, Tail>,
    /// What this transaction has written to scattered tables.
    fresh: Entries,
}

/// What became of what a transaction has written to scattered tables.
enum Settled {
    Nothing,
    Row(u64, Entries),
    Spread,
}

impl Writer<'_> {
    /// Writes what is for scattered tables: as a row of the tail, or, where that is full, all of it
    /// to where it belongs.
    fn settle(mut self) -> Result<Settled> {
        if self.fresh.is_empty() {
            return Ok(Settled::Nothing);
        }
        let fresh = std::mem::take(&mut self.fresh);
        if !self.tail.is_full_with(&fresh) {
            let number = self.tail.rows.end;
            self.put(keys::TAIL, &keys::of_u64(number), &Tail::row_of(&fresh)?)?;
            return Ok(Settled::Row(number, fresh));
        }
        // The fresh ones last: what they say of a key counts.
        for (key, value) in self.tail.entries.iter().chain(&fresh) {
            match value {
                Some(value) => self.table.insert(key.as_slice(), value.as_slice()).map_err(failed)?,
                None => self.table.remove(key.as_slice()).map_err(failed)?,
            };
        }
        for number in self.tail.rows.clone() {
            self.delete(keys::TAIL, &keys::of_u64(number))?;
        }
        Ok(Settled::Spread)
    }
}

fn get<'a>(
    from: &impl ReadableTable<&'static [u8], &'static [u8]>,
    tail: &'a Tail,
    fresh: &'a Entries,
    table: u8,
    key: &[u8],
) -> Result<Option<Cow<'a, [u8]>>> {
    let key = full_key(table, key);
    if SCATTERED.contains(&table)
        && let Some(said) = tail.get(fresh, &key)
    {
        return Ok(said.as_deref().map(Cow::Borrowed));
    }
    let found = from.get(key.as_slice()).map_err(failed)?;
    Ok(found.map(|value| Cow::Owned(value.value().to_vec())))
}

fn scan(
    of: &impl ReadableTable<&'static [u8], &'static [u8]>,
    tail: &Tail,
    fresh: &Entries,
    (table, from, to): (u8, &[u8], Option<&[u8]>),
    visit: &mut Visitor<'_>,
) -> Result<()> {
    if to.is_some_and(|to| to <= from) {
        return Ok(());
    }
    let from = full_key(table, from);
    let to = to.map_or_else(|| vec![table.saturating_add(1)], |to| full_key(table, to));
    let mut visit = |key: &[u8], value: &[u8]| {
        let key = key.split_first().map_or(&[][..], |(_, key)| key);
        visit(key, value)
    };
    let tree = |visit: &mut Visitor<'_>| {
        let range = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
        for entry in of.range::<&[u8]>(range).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if visit(key.value(), value.value())?.is_break() {
                break;
            }
        }
        Ok(())
    };
    if SCATTERED.contains(&table) {
        merged(tail.range(fresh, &from, &to), tree, &mut visit)
    } else {
        tree(&mut visit)
    }
}

impl KvRead for Reader<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
        get(&self.table, &self.tail, const { &Entries::new() }, table, key)
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        scan(&self.table, &self.tail, const { &Entries::new() }, (table, from, to), visit)
    }
}

impl KvRead for Writer<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
        get(&self.table, &self.tail, &self.fresh, table, key)
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        scan(&self.table, &self.tail, &self.fresh, (table, from, to), visit)
    }
}

impl KvTxn for Writer<'_> {
    fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<()> {
        let key = full_key(table, key);
        if SCATTERED.contains(&table) {
            self.fresh.insert(key, Some(value.to_vec()));
        } else {
            self.table.insert(key.as_slice(), value).map_err(failed)?;
        }
        Ok(())
    }

    fn delete(&mut self, table: u8, key: &[u8]) -> Result<()> {
        let key = full_key(table, key);
        if SCATTERED.contains(&table) {
            self.fresh.insert(key, None);
        } else {
            self.table.remove(key.as_slice()).map_err(failed)?;
        }
        Ok(())
    }
}

impl Kv for RedbKv {
    fn read<R>(&self, f: impl FnOnce(&dyn KvRead) -> Result<R>) -> Result<R> {
        let transaction = self.database.begin_read().map_err(failed)?;
        f(&Reader { table: transaction.open_table(ALL).map_err(failed)?, tail: self.tail()? })
    }

    fn write<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R> {
        self.begin(Durability::Immediate, true, f)
    }

    fn write_soon<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R> {
        self.begin(Durability::None, true, f)
    }

    fn rehearse<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R> {
        self.begin(Durability::None, false, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_obeys_the_seam() {
        let folder = tempfile::tempdir().unwrap();
        super::super::kv::tests::obeys_the_seam(&RedbKv::open(&folder.path().join("s.db")).unwrap());
    }

    /// A table of digests is like any other to who reads it, whatever of it waits in the tail, moved
    /// to its place, or was read back from the file.
    #[test]
    fn what_waits_in_the_tail_is_seen_like_the_rest() {
        use std::collections::BTreeMap;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let mut kv = RedbKv::open(&path).unwrap();
        let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let table = SCATTERED[0];
        let mut spread = 0;
        for round in 0..60u64 {
            let key = |n: u64| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes().to_vec();
            let put: Vec<_> = (round * 1000..(round + 1) * 1000).map(key).collect();
            // Some of each age are deleted, some written again.
            let gone: Vec<_> = (0..round * 1000).step_by(997).map(key).collect();
            let again: Vec<_> = (0..round * 1000).step_by(991).map(key).collect();
            kv.write(|t| {
                for k in put.iter().chain(&again) {
                    t.put(table, k, &round.to_be_bytes())?;
                }
                gone.iter().try_for_each(|k| t.delete(table, k))
            })
            .unwrap();
            expected.extend(put.iter().chain(&again).map(|k| (k.clone(), round.to_be_bytes().to_vec())));
            for k in &gone {
                expected.remove(k);
            }
            // What fails, and what is only rehearsed, leaves nothing.
            let lost = kv.write(|t| {
                t.put(table, b"lost", b"")?;
                Err::<(), _>(BackendError::new(BackendErrorKind::Conflict, "stop"))
            });
            assert!(lost.is_err());
            kv.rehearse(|t| t.put(table, b"lost", b"")).unwrap();
            spread += usize::from(kv.tail().unwrap().entries.is_empty());
            if round % 7 == 6 {
                drop(kv);
                kv = RedbKv::open(&path).unwrap();
            }
        }
        assert!(spread > 0 && !kv.tail().unwrap().entries.is_empty(), "both kinds of places are read below");
        let all = |from: &[u8], to: Option<&[u8]>| {
            let mut found = Vec::new();
            kv.read(|t| {
                t.scan(table, from, to, &mut |k, v| {
                    found.push((k.to_vec(), v.to_vec()));
                    Ok(if found.len() == 20_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
                })
            })
            .unwrap();
            found
        };
        let wanted = |from: &[u8], to: Option<&[u8]>| -> Vec<_> {
            let range = expected
                .iter()
                .filter(|(k, _)| k.as_slice() >= from && to.is_none_or(|to| k.as_slice() < to));
            range.take(20_000).map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        for from in [&[][..], &[3], &[80, 1], &[255]] {
            for to in [None, Some(&[81][..]), Some(&[200])] {
                assert_eq!(all(from, to), wanted(from, to), "from {from:?} to {to:?}");
            }
        }
        for (k, v) in expected.iter().step_by(101) {
            assert_eq!(kv.read(|t| Ok(t.get(table, k)?.map(Cow::into_owned))).unwrap().as_ref(), Some(v));
        }
    }
}
