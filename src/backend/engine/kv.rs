//! The seam between the engine and what keeps its bytes: ordered tables of keys and values.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::keys::{self, K};
use super::sets::{Additions, Chunk};
use crate::backend::Result;

/// Sees one entry of a scan, and says whether to go on.
pub(crate) type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'v;

/// Reads ordered tables.
pub(crate) trait KvRead {
    /// A key's value.
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<Cow<'_, [u8]>>>;

    /// Visits the entries from `from` up to, not including, `to` (none: the table's end), in order.
    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()>;

    /// Whether it is known without a look that no key begins with `prefix`, which is a whole key but for the
    /// number of an origin at its end.
    fn has_none(&self, table: u8, prefix: &[u8]) -> bool {
        let _ = (table, prefix);
        false
    }

    /// The numbers of origins behind `prefix`, as [`numbers_under`] tells them, where that is known without
    /// reading entries.
    fn numbers(&self, table: u8, prefix: &[u8]) -> Option<Vec<u64>> {
        let _ = (table, prefix);
        None
    }

    /// How many entries there are from `from` up to, not including, `to`; counted up to `limit`.
    fn count(&self, table: u8, from: &[u8], to: &[u8], limit: u64) -> Result<u64> {
        let mut n = 0;
        self.scan(table, from, Some(to), &mut |_, _| {
            n += 1;
            Ok(if n >= limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(n)
    }

    /// Up to `limit` of a visit type's origins that wait, from all over its lanes; none where the
    /// caller is to choose them by reading the lanes.
    fn sample(&self, visit_type: u16, limit: usize) -> Result<Option<Vec<u64>>> {
        let _ = (visit_type, limit);
        Ok(None)
    }

    /// Whether these tables are far away, so that it pays to say at once what will be read.
    fn is_far(&self) -> bool {
        false
    }

    /// Tells that the values of these keys will be read: tables that are far away can get them all at once.
    fn will_read(&self, table: u8, keys: &mut dyn Iterator<Item = Vec<u8>>) -> Result<()> {
        let _ = (table, keys);
        Ok(())
    }

    /// Tells that so many numbers of a sequence will be given: those that are not can be had again.
    fn will_number(&self, sequence: &str, count: u64) {
        let _ = (sequence, count);
    }

    /// Stops a run over tables that are far away where some of what was read is still to be fetched: what
    /// follows would be a lot of work for nothing.
    fn settled(&self) -> Result<()> {
        Ok(())
    }
}

/// Reads and writes ordered tables within one transaction.
pub(crate) trait KvTxn: KvRead {
    /// Sets a key's value.
    fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<()>;

    /// Removes a key, where it is there.
    fn delete(&mut self, table: u8, key: &[u8]) -> Result<()>;

    /// Removes all entries whose key begins with `prefix`.
    fn clear(&mut self, table: u8, prefix: &[u8]) -> Result<()> {
        let mut keys = Vec::new();
        self.scan(table, prefix, after_prefix(prefix).as_deref(), &mut |key, _| {
            keys.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        for key in keys {
            self.delete(table, &key)?;
        }
        Ok(())
    }

    /// Adds members to the sets under a prefix. A chunk that has them all is not written.
    fn add_members(&mut self, table: u8, prefix: &K, members: Additions) -> Result<()> {
        for (chunk, lows) in members.chunks() {
            let key = prefix.clone().u64(chunk);
            let mut set = self.get(table, &key)?.map(|bytes| Chunk::read(&bytes)).unwrap_or_default();
            let mut grew = false;
            for low in lows {
                grew |= set.insert(low);
            }
            if grew {
                self.put(table, &key, &set.write())?;
            }
        }
        Ok(())
    }
}

/// Runs transactions, one writer at a time.
pub(crate) trait Kv: Send + Sync + 'static {
    /// Reads a state in which no transaction is half done.
    fn read<R>(&self, f: impl FnOnce(&dyn KvRead) -> Result<R>) -> Result<R>;

    /// Keeps all that `f` writes, or nothing where it fails.
    fn write<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R>;

    /// Like `write`, for what a crash may take back: it becomes durable with the next `write`.
    fn write_soon<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R> {
        self.write(f)
    }

    /// Lets `f` write, tells what came of it, and keeps nothing.
    fn rehearse<R>(&self, f: impl FnOnce(&mut dyn KvTxn) -> Result<R>) -> Result<R>;
}

/// The first key after all those that begin with `prefix`; none where there is no such key.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Visits all entries whose key begins with `prefix`.
pub(crate) fn scan_prefix(t: &dyn KvRead, table: u8, prefix: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
    t.scan(table, prefix, after_prefix(prefix).as_deref(), visit)
}

/// The numbers of origins at the end of the keys that begin with `prefix`: all that they hold else.
pub(crate) fn numbers_under(t: &dyn KvRead, table: u8, prefix: &[u8]) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    if t.has_none(table, prefix) {
        return Ok(numbers);
    }
    if let Some(known) = t.numbers(table, prefix) {
        return Ok(known);
    }
    scan_prefix(t, table, prefix, &mut |key, _| {
        numbers.push(keys::first_u64(key.get(prefix.len()..).unwrap_or_default()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(numbers)
}

/// The keys that begin with `prefix`.
pub(crate) fn keys_of(t: &dyn KvRead, table: u8, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    scan_prefix(t, table, prefix, &mut |key, _| {
        keys.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(keys)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::backend::{BackendError, BackendErrorKind};

    fn all(kv: &impl Kv, table: u8, from: &[u8], to: Option<&[u8]>) -> Vec<(Vec<u8>, Vec<u8>)> {
        kv.read(|t| {
            let mut found = Vec::new();
            t.scan(table, from, to, &mut |k, v| {
                found.push((k.to_vec(), v.to_vec()));
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(found)
        })
        .unwrap()
    }

    /// What every implementation does.
    pub(crate) fn obeys_the_seam(kv: &impl Kv) {
        let long = vec![7u8; 100];
        kv.write(|t| {
            t.put(1, b"b", b"2")?;
            t.put(1, b"a", b"1")?;
            t.put(1, &long, b"long")?;
            t.put(2, b"a", b"other table")
        })
        .unwrap();
        assert_eq!(all(kv, 1, b"", None).len(), 3);
        assert_eq!(all(kv, 1, b"", None)[0].0, long, "7 sorts before letters, whatever the length");
        assert_eq!(all(kv, 1, b"a", Some(b"b")), [(b"a".to_vec(), b"1".to_vec())]);
        assert!(all(kv, 1, b"b", Some(b"a")).is_empty(), "an upside-down range holds nothing");
        assert_eq!(all(kv, 2, b"", None).len(), 1);
        let stop = |_: &mut dyn KvTxn| Err::<(), _>(BackendError::new(BackendErrorKind::Conflict, "stop"));
        let failed = kv.write(|t| {
            t.put(1, b"a", b"changed")?;
            t.delete(1, b"b")?;
            t.put(1, b"c", b"new")?;
            t.put(1, b"a", b"changed twice")?;
            assert_eq!(t.get(1, b"a")?.as_deref(), Some(&b"changed twice"[..]), "its own writes are seen");
            assert_eq!(t.get(1, b"b")?, None);
            stop(t)
        });
        assert_eq!(failed.unwrap_err().kind(), BackendErrorKind::Conflict);
        assert_eq!(all(kv, 1, b"a", None), [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
        kv.rehearse(|t| t.delete(1, b"a")).unwrap();
        assert!(kv.read(|t| Ok(t.get(1, b"a")?.is_some())).unwrap(), "a rehearsal changes nothing");
        kv.write(|t| t.delete(1, b"a")).unwrap();
        assert!(kv.read(|t| Ok(t.get(1, b"a")?.is_none())).unwrap(), "the real thing does");
    }

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
        assert_eq!(after_prefix(&[]), None);
    }
}
