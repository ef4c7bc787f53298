//! Tables in a file: `redb`, a copy-on-write B-tree that a crash leaves as the last commit was.

use std::borrow::Cow;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{RwLock, RwLockReadGuard};
use std::time::SystemTime;
use std::{fs, io};

use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError, Table, TableDefinition,
};

use super::keys::{self, K};
use super::kv::{Kv, KvRead, KvTxn, Visitor};
use super::tail::{Tail, merged};
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
        if !path.exists() {
            make(path)?;
        }
        Self::over(database(path, path)?)
    }

    /// The tables in an open database.
    pub(super) fn over(database: Database) -> Result<Self> {
        let kv = Self { database, tail: RwLock::default() };
        kv.write(|_| Ok(()))?;
        let mut rows = Vec::new();
        kv.read(|t| {
            t.scan(keys::TAIL, &[], None, &mut |number, row| {
                rows.push((keys::first_u64(number), row.to_vec()));
                Ok(ControlFlow::Continue(()))
            })
        })?;
        Ok(Self { tail: RwLock::new(Tail::read(&rows)?), ..kv })
    }

    fn begin<R>(
        &self,
        durability: Durability,
        keep: bool,
        f: impl FnOnce(&mut dyn KvTxn) -> Result<R>,
    ) -> Result<R> {
        let mut tail = self.tail.write().map_err(|_| panicked())?;
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(durability).map_err(failed)?;
        let result = {
            let table = transaction.open_table(ALL).map_err(failed)?;
            if tail.wants_filter(table.len().map_err(failed)?) {
                let none = Tail::default();
                tail.make_filter(|see| {
                    SCATTERED.iter().try_for_each(|&digests| {
                        let mut whole = |key: &[u8], value: &[u8]| see(&full_key(digests, key), value);
                        scan(&table, &none, (digests, &[], None), &mut whole)
                    })
                })?;
            }
            let mut writer = Writer { table, tail: &mut tail };
            f(&mut writer).and_then(|result| Ok((result, writer.settle()?)))
        };
        match result {
            Ok((result, settled)) if keep => match transaction.commit() {
                Ok(()) => {
                    match settled {
                        Settled::Nothing => {}
                        Settled::Row(number) => tail.keep_row(number),
                        Settled::Spread => tail.keep_spread(),
                    }
                    Ok(result)
                }
                Err(e) => {
                    tail.take_back();
                    Err(failed(e))
                }
            },
            other => {
                tail.take_back();
                transaction.abort().map_err(failed)?;
                other.map(|(result, _)| result)
            }
        }
    }

    fn tail(&self) -> Result<RwLockReadGuard<'_, Tail>> {
        self.tail.read().map_err(|_| panicked())
    }
}

/// Opens a database, made where there is none. `shown` is what the caller calls it.
fn database(path: &Path, shown: &Path) -> Result<Database> {
    let shown = shown.display();
    Builder::new().set_cache_size(CACHE).create(path).map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen => {
            let what = format!("{shown} is in use by another process; a file serves one at a time");
            BackendError::new(BackendErrorKind::Unavailable, what)
        }
        DatabaseError::UpgradeRequired(form) => {
            BackendError::new(BackendErrorKind::Corrupt, format!("{shown} has the file format {form}"))
        }
        DatabaseError::Storage(e) => storage(&format!("cannot open {shown}"), e),
        other => {
            BackendError::new(BackendErrorKind::Corrupt, format!("{shown} is no store")).with_source(other)
        }
    })
}

/// Makes a file under another name, and gives it its own when it is whole: after a kill there is a
/// store or none, and never the beginning of one.
fn make(path: &Path) -> Result<()> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}-{}", std::process::id(), since.as_nanos()));
    let new = path.with_file_name(name);
    let made = database(&new, path).and_then(RedbKv::over).map(drop).and_then(|()| {
        match fs::hard_link(&new, path) {
            Ok(()) => Ok(()),
            // Another process was faster: its store is the store.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // Not every file system has links.
            Err(_) => fs::rename(&new, path),
        }
        .map_err(|e| io_error(&format!("cannot make {}", path.display()), e))
    });
    // Where it was renamed, or could not be made, it is not there.
    let _ = fs::remove_file(&new);
    made?;
    // Where a folder cannot be synced, the system writes names down by itself.
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = fs::File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
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

/// A key behind the byte of its table.
fn full_key(table: u8, key: &[u8]) -> K {
    K::new().u8(table).bytes(key)
}

struct Reader<'t> {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    tail: RwLockReadGuard<'t, Tail>,
}

struct Writer<'t> {
    table: Table<'t, &'static [u8], &'static [u8]>,
    tail: &'t mut Tail,
}

/// What became of what a transaction has written to scattered tables.
enum Settled {
    Nothing,
    Row(u64),
    Spread,
}

impl Writer<'_> {
    /// Writes what is for scattered tables: as a row of the tail, or, where that is full, all of it
    /// to where it belongs.
    fn settle(&mut self) -> Result<Settled> {
        if self.tail.is_as_before() {
            return Ok(Settled::Nothing);
        }
        if !self.tail.is_full() {
            let number = self.tail.rows.end;
            let row = self.tail.row()?;
            self.put(keys::TAIL, &keys::of_u64(number), &row)?;
            return Ok(Settled::Row(number));
        }
        for (key, value) in &self.tail.entries {
            match value {
                Some(value) => self.table.insert(key.bytes(), &**value).map_err(failed)?,
                None => self.table.remove(key.bytes()).map_err(failed)?,
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
    table: u8,
    key: &[u8],
) -> Result<Option<Cow<'a, [u8]>>> {
    let key = full_key(table, key);
    if SCATTERED.contains(&table)
        && let Some(said) = tail.entries.get(&*key)
    {
        return Ok(said.as_deref().map(Cow::Borrowed));
    }
    let found = from.get(&*key).map_err(failed)?;
    Ok(found.map(|value| Cow::Owned(value.value().to_vec())))
}

fn scan(
    of: &impl ReadableTable<&'static [u8], &'static [u8]>,
    tail: &Tail,
    (table, from, to): (u8, &[u8], Option<&[u8]>),
    visit: &mut Visitor<'_>,
) -> Result<()> {
    if to.is_some_and(|to| to <= from) {
        return Ok(());
    }
    let from = full_key(table, from);
    let to = to.map_or_else(|| full_key(table.saturating_add(1), &[]), |to| full_key(table, to));
    let mut visit = |key: &[u8], value: &[u8]| {
        let key = key.split_first().map_or(&[][..], |(_, key)| key);
        visit(key, value)
    };
    let tree = |visit: &mut Visitor<'_>| {
        // Most scans end after an entry or none: to look for the end would cost as much as the beginning.
        for entry in of.range::<&[u8]>((Bound::Included(&*from), Bound::Unbounded)).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            if key.value() >= &*to || visit(key.value(), value.value())?.is_break() {
                break;
            }
        }
        Ok(())
    };
    if SCATTERED.contains(&table) {
        merged(tail.range(&from, &to), tree, &mut visit)
    } else {
        tree(&mut visit)
    }
}

impl KvRead for Reader<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
        get(&self.table, &self.tail, table, key)
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        scan(&self.table, &self.tail, (table, from, to), visit)
    }

    fn has_none(&self, table: u8, prefix: &[u8]) -> bool {
        SCATTERED.contains(&table) && self.tail.has_none(&full_key(table, prefix))
    }
}

impl KvRead for Writer<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
        get(&self.table, self.tail, table, key)
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        scan(&self.table, self.tail, (table, from, to), visit)
    }

    fn has_none(&self, table: u8, prefix: &[u8]) -> bool {
        SCATTERED.contains(&table) && self.tail.has_none(&full_key(table, prefix))
    }
}

impl KvTxn for Writer<'_> {
    fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<()> {
        let key = full_key(table, key);
        if SCATTERED.contains(&table) {
            self.tail.say(&key, Some(value));
        } else {
            self.table.insert(&*key, value).map_err(failed)?;
        }
        Ok(())
    }

    fn delete(&mut self, table: u8, key: &[u8]) -> Result<()> {
        let key = full_key(table, key);
        if SCATTERED.contains(&table) {
            self.tail.say(&key, None);
        } else {
            self.table.remove(&*key).map_err(failed)?;
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
        // A digest, and a number.
        let digest = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
        let key = |n: u64| [digest(n), n.to_be_bytes()].concat();
        let mut spread = 0;
        for round in 0..60u64 {
            let put: Vec<_> = (round * 3000..(round + 1) * 3000).map(key).collect();
            // Some of each age are deleted, some written again.
            let gone: Vec<_> = (0..round * 3000).step_by(997).map(key).collect();
            let again: Vec<_> = (0..round * 3000).step_by(991).map(key).collect();
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
            if round % 25 == 24 {
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
        // However the file was opened, what is there is never said not to be, and hardly anything else is
        // looked for after a while.
        for again in [false, true] {
            if again {
                drop(kv);
                kv = RedbKv::open(&path).unwrap();
                kv.read(|t| Ok((0..expected.len()).any(|_| t.has_none(table, &[7; 8])))).unwrap();
                kv.write(|_| Ok(())).unwrap();
            }
            let none = |k: &[u8]| kv.read(|t| Ok(t.has_none(table, k))).unwrap();
            assert!(!expected.keys().step_by(97).any(|k| none(&k[..8])));
            let asked = 1_000_000..1_001_000u64;
            let in_vain = asked.filter(|n| !none(&digest(*n))).count();
            assert_eq!(in_vain < 100, again, "{in_vain} of 1000");
        }
        for (k, v) in expected.iter().step_by(101) {
            assert_eq!(kv.read(|t| Ok(t.get(table, k)?.map(Cow::into_owned))).unwrap().as_ref(), Some(v));
        }
    }
}
