//! Tables in a file: `redb`, a copy-on-write B-tree that a crash leaves as the last commit was.

use std::borrow::Cow;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    StorageError, Table, TableDefinition,
};

use super::kv::{Kv, KvRead, KvTxn, Visitor};
use crate::backend::{BackendError, BackendErrorKind, Result};

/// All tables in one, behind a byte that names them: a transaction opens it once.
const ALL: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("lamplighter");

/// Pages kept in memory, in bytes. The engine's own default is a gigabyte.
const CACHE: usize = 32 << 20;

/// Tables in a file.
pub(crate) struct RedbKv {
    database: Database,
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
        let kv = Self { database };
        kv.write(|_| Ok(()))?;
        Ok(kv)
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
            f(&mut Writer { table })
        };
        if keep && result.is_ok() {
            transaction.commit().map_err(failed)?;
        } else {
            transaction.abort().map_err(failed)?;
        }
        result
    }
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

struct Reader {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

struct Writer<'t> {
    table: Table<'t, &'static [u8], &'static [u8]>,
}

fn get(
    from: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: u8,
    key: &[u8],
) -> Result<Option<Cow<'static, [u8]>>> {
    let found = from.get(full_key(table, key).as_slice()).map_err(failed)?;
    Ok(found.map(|value| Cow::Owned(value.value().to_vec())))
}

fn scan(
    of: &impl ReadableTable<&'static [u8], &'static [u8]>,
    table: u8,
    from: &[u8],
    to: Option<&[u8]>,
    visit: &mut Visitor<'_>,
) -> Result<()> {
    if to.is_some_and(|to| to <= from) {
        return Ok(());
    }
    let from = full_key(table, from);
    let to = to.map_or_else(|| vec![table.saturating_add(1)], |to| full_key(table, to));
    let range = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
    for entry in of.range::<&[u8]>(range).map_err(failed)? {
        let (key, value) = entry.map_err(failed)?;
        let key = key.value().split_first().map_or(&[][..], |(_, key)| key);
        if let ControlFlow::Break(()) = visit(key, value.value())? {
            break;
        }
    }
    Ok(())
}

impl KvRead for Reader {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
        get(&self.table, table, key)
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        scan(&self.table, table, from, to, visit)
    }
}

impl KvRead for Writer<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
        get(&self.table, table, key)
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        scan(&self.table, table, from, to, visit)
    }
}

impl KvTxn for Writer<'_> {
    fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<()> {
        self.table.insert(full_key(table, key).as_slice(), value).map_err(failed)?;
        Ok(())
    }

    fn delete(&mut self, table: u8, key: &[u8]) -> Result<()> {
        self.table.remove(full_key(table, key).as_slice()).map_err(failed)?;
        Ok(())
    }
}

impl Kv for RedbKv {
    fn read<R>(&self, f: impl FnOnce(&dyn KvRead) -> Result<R>) -> Result<R> {
        let transaction = self.database.begin_read().map_err(failed)?;
        f(&Reader { table: transaction.open_table(ALL).map_err(failed)? })
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
}
