//! Tables in memory.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::{PoisonError, RwLock};

use super::kv::{Kv, KvRead, KvTxn, Visitor};
use crate::backend::{BackendError, BackendErrorKind, Result};

/// The longest key kept without an allocation: all keys that there is one of for each origin.
const SHORT: usize = 22;

/// A key, in place where it is short.
#[derive(Clone)]
pub(super) enum Key {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Key {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match (short.get_mut(..bytes.len()), u8::try_from(bytes.len())) {
            (Some(room), Ok(len)) => {
                room.copy_from_slice(bytes);
                Self::Short(len, short)
            }
            _ => Self::Long(bytes.into()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(bytes) => bytes,
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.bytes()
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

/// A table. One whose keys have no values keeps none: half of all entries are of such tables.
enum Table {
    Keys(BTreeSet<Key>),
    Rows(BTreeMap<Key, Box<[u8]>>),
}

impl Default for Table {
    fn default() -> Self {
        Self::Keys(BTreeSet::new())
    }
}

impl Table {
    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Keys(keys) => keys.contains(key).then_some(&[]),
            Self::Rows(rows) => rows.get(key).map(|v| &**v),
        }
    }

    fn insert(&mut self, key: Key, value: Box<[u8]>) -> Option<Box<[u8]>> {
        if let Self::Keys(keys) = self {
            if value.is_empty() {
                return (!keys.insert(key)).then(Box::default);
            }
            // Its first value: a table of rows after all.
            *self = Self::Rows(std::mem::take(keys).into_iter().map(|key| (key, Box::default())).collect());
        }
        match self {
            Self::Rows(rows) => rows.insert(key, value),
            Self::Keys(_) => None,
        }
    }

    fn remove(&mut self, key: &[u8]) -> Option<Box<[u8]>> {
        match self {
            Self::Keys(keys) => keys.remove(key).then(Box::default),
            Self::Rows(rows) => rows.remove(key),
        }
    }

    fn range<'a>(
        &'a self,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Box<dyn Iterator<Item = (&'a Key, &'a [u8])> + 'a> {
        match self {
            Self::Keys(keys) => Box::new(keys.range::<[u8], _>(range).map(|key| (key, &[][..]))),
            Self::Rows(rows) => Box::new(rows.range::<[u8], _>(range).map(|(key, v)| (key, &**v))),
        }
    }
}

/// Tables in memory: a transaction writes in place and keeps what it overwrote until it ends.
#[derive(Default)]
pub(crate) struct MemKv {
    tables: RwLock<BTreeMap<u8, Table>>,
}

struct Reader<'a> {
    tables: &'a BTreeMap<u8, Table>,
}

struct Writer<'a> {
    tables: &'a mut BTreeMap<u8, Table>,
    undo: Vec<(u8, Key, Option<Box<[u8]>>)>,
}

fn get<'a>(tables: &'a BTreeMap<u8, Table>, table: u8, key: &[u8]) -> Option<Cow<'a, [u8]>> {
    tables.get(&table)?.get(key).map(Cow::Borrowed)
}

fn scan(
    tables: &BTreeMap<u8, Table>,
    table: u8,
    from: &[u8],
    to: Option<&[u8]>,
    visit: &mut Visitor<'_>,
) -> Result<()> {
    if to.is_some_and(|to| to <= from) {
        return Ok(());
    }
    let range = (Bound::Included(from), to.map_or(Bound::Unbounded, Bound::Excluded));
    for (key, value) in tables.get(&table).into_iter().flat_map(|t| t.range(range)) {
        if let ControlFlow::Break(()) = visit(key.borrow(), value)? {
            break;
        }
    }
    Ok(())
}

impl KvRead for Reader<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
        Ok(get(self.tables, table, key))
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        scan(self.tables, table, from, to, visit)
    }
}

impl KvRead for Writer<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>> {
        Ok(get(self.tables, table, key))
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        scan(self.tables, table, from, to, visit)
    }
}

impl KvTxn for Writer<'_> {
    fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<()> {
        let before = self.tables.entry(table).or_default().insert(Key::new(key), value.into());
        self.undo.push((table, Key::new(key), before));
        Ok(())
    }

    fn delete(&mut self, table: u8, key: &[u8]) -> Result<()> {
        if let Some(before) = self.tables.get_mut(&table).and_then(|t| t.remove(key)) {
            self.undo.push((table, Key::new(key), Some(before)));
        }
        Ok(())
    }
}

impl Writer<'_> {
    fn roll_back(self) {
        for (table, key, before) in self.undo.into_iter().rev() {
            let table = self.tables.entry(table).or_default();
            match before {
                Some(value) => table.insert(key, value),
                None => table.remove(key.borrow()),
            };
        }
    }
}

#[cfg(test)]
impl MemKv {
    /// About how many bytes this takes: nodes half full, allocations of 16 bytes with 8 in front.
    pub(crate) fn footprint(&self) -> usize {
        let heap = |bytes: &[u8]| {
            if bytes.is_empty() { 0 } else { ((bytes.len() + 8).next_multiple_of(16)).max(32) }
        };
        let tables = self.tables.read().unwrap();
        let entries = tables.values().flat_map(|table| {
            let value = if matches!(table, Table::Rows(_)) { size_of::<Box<[u8]>>() } else { 0 };
            table.range((Bound::Unbounded, Bound::Unbounded)).map(move |(key, bytes)| (key, bytes, value))
        });
        entries
            .map(|(key, bytes, value)| {
                let long = if let Key::Long(key) = key { heap(key) } else { 0 };
                (size_of::<Key>() + value) * 11 / 6 + long + heap(bytes)
            })
            .sum()
    }
}

fn poisoned<T>(_: PoisonError<T>) -> BackendError {
    BackendError::new(BackendErrorKind::Corrupt, "a write was interrupted by a panic")
}

impl Kv for MemKv {
    fn read<R>(&self, f: impl FnOnce(&dyn KvRead) -> Result<R>) -> Result<R> {
        let tables = self.tables.read().map_err(poisoned)?;
        f(&Reader { tables: &tables })
    }

    fn write<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R> {
        let mut tables = self.tables.write().map_err(poisoned)?;
        let mut writer = Writer { tables: &mut tables, undo: Vec::new() };
        let result = f(&mut writer);
        if result.is_err() {
            writer.roll_back();
        }
        result
    }

    fn rehearse<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R> {
        let mut tables = self.tables.write().map_err(poisoned)?;
        let mut writer = Writer { tables: &mut tables, undo: Vec::new() };
        let result = f(&mut writer);
        writer.roll_back();
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_keys_takes_its_first_value() {
        let kv = MemKv::default();
        kv.write(|t| {
            t.put(3, b"a", b"")?;
            t.put(3, b"b", b"")
        })
        .unwrap();
        let keys_only = |kv: &MemKv| matches!(kv.tables.read().unwrap()[&3], Table::Keys(_));
        assert!(keys_only(&kv));
        kv.rehearse(|t| {
            t.delete(3, b"a")?;
            t.put(3, b"a", b"")?;
            t.put(3, b"c", b"")
        })
        .unwrap();
        let all = |kv: &MemKv| {
            let mut found = Vec::new();
            kv.read(|t| {
                t.scan(3, b"", None, &mut |k, v| {
                    found.push((k.to_vec(), v.to_vec()));
                    Ok(ControlFlow::Continue(()))
                })
            })
            .unwrap();
            found
        };
        assert_eq!(all(&kv), [(b"a".to_vec(), vec![]), (b"b".to_vec(), vec![])], "taken back");
        kv.write(|t| t.put(3, b"b", b"value")).unwrap();
        assert!(!keys_only(&kv));
        assert_eq!(all(&kv), [(b"a".to_vec(), vec![]), (b"b".to_vec(), b"value".to_vec())]);
    }

    #[test]
    fn memory_obeys_the_seam() {
        assert_eq!(size_of::<Key>(), 24);
        super::super::kv::tests::obeys_the_seam(&MemKv::default());
    }
}
