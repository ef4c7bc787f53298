//! What a file's transactions wrote to tables whose keys are digests, before it is spread over them.
//!
//! Keys that are digests lie anywhere in a tree, so a page of a hundred new origins would write a
//! hundred of its leaves. Each transaction writes its entries as one row instead, next to the rows
//! before it; they are kept in memory as well, where they are looked up, and from time to time all of
//! them move into the tree at once, each leaf written once for many entries.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

use super::filter::Filter;
use super::kv::Visitor;
use super::mem::Key;
use super::rows::{decode, encode};
use crate::backend::Result;

/// Entries that wait at most; some eight megabytes of memory.
const AT_MOST: usize = 131_072;

/// Of a file with more rows than this no [`Filter`] is made: it would let nearly every key pass.
const MOST_ROWS: u64 = 8_000_000;

/// To look so often costs about as much as to read so many rows once.
const ROWS_A_LOOK: u64 = 32;

/// Entries by their whole key; none where one was deleted.
pub(crate) type Entries = BTreeMap<Key, Option<Box<[u8]>>>;

/// What waits to be spread, and the rows that hold it.
#[derive(Default)]
pub(crate) struct Tail {
    pub(crate) entries: Entries,
    /// Numbers of the rows: from the first up to, not including, the last.
    pub(crate) rows: std::ops::Range<u64>,
    /// What the transaction under way has said so far, and what was said of the same keys before.
    fresh: Vec<(Key, Option<Option<Box<[u8]>>>)>,
    /// What is here and in the tree, and what was: none where the tree was not read for it yet.
    filter: Option<Filter>,
    /// How often the tree had to be asked for want of a filter.
    looks: AtomicU64,
}

/// An entry of a row, as it is written: none for one that was deleted.
type Said<'a> = (Bytes<'a>, Option<Bytes<'a>>);

/// Bytes, written at once.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

impl Tail {
    /// What rows hold, in the order in which they were written.
    pub(crate) fn read(rows: &[(u64, Vec<u8>)]) -> Result<Self> {
        let mut tail = Self::default();
        let mut all: Vec<(Key, Option<Box<[u8]>>)> = Vec::new();
        for (number, row) in rows {
            let entries: Vec<(&[u8], Option<&[u8]>)> = decode(row)?;
            all.extend(entries.into_iter().map(|(key, value)| (Key::new(key), value.map(Box::from))));
            tail.keep_row(*number);
        }
        // Of several for one key the last stays.
        tail.entries = all.into_iter().collect();
        Ok(tail)
    }

    /// Says what a key has from now on, should the transaction be kept.
    pub(crate) fn say(&mut self, key: &[u8], value: Option<&[u8]>) {
        if let (Some(filter), Some(_)) = (&mut self.filter, value) {
            filter.add(without_number(key));
        }
        let key = Key::new(key);
        let before = self.entries.insert(key.clone(), value.map(Box::from));
        self.fresh.push((key, before));
    }

    /// Whether it is known that neither here nor in the tree is a key that is `prefix` and a number.
    pub(crate) fn has_none(&self, prefix: &[u8]) -> bool {
        if let Some(filter) = &self.filter {
            return !filter.may_have(prefix);
        }
        self.looks.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Whether a tree of so many rows is to be read now, so that it need not be asked any more.
    pub(crate) fn wants_filter(&self, rows: u64) -> bool {
        let looks = self.looks.load(Ordering::Relaxed).saturating_add(1);
        self.filter.is_none() && rows <= MOST_ROWS && looks.saturating_mul(ROWS_A_LOOK) >= rows
    }

    /// Makes the filter: `tree` shows it the keys there.
    pub(crate) fn make_filter(&mut self, tree: impl FnOnce(&mut Visitor<'_>) -> Result<()>) -> Result<()> {
        let mut filter = Filter::new();
        for key in self.entries.keys() {
            filter.add(without_number(key.bytes()));
        }
        tree(&mut |key, _| {
            filter.add(without_number(key));
            Ok(ControlFlow::Continue(()))
        })?;
        self.filter = Some(filter);
        Ok(())
    }

    /// Whether the transaction under way has said nothing.
    pub(crate) fn is_as_before(&self) -> bool {
        self.fresh.is_empty()
    }

    /// Whether it is time to spread all.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() > AT_MOST
    }

    /// What the transaction under way has said, as a row.
    pub(crate) fn row(&self) -> Result<Vec<u8>> {
        let said = self.fresh.iter().filter_map(|(key, _)| self.entries.get_key_value(key.bytes()));
        let said = said.map(|(key, value)| (Bytes(key.bytes()), value.as_deref().map(Bytes)));
        encode(&said.collect::<Vec<Said<'_>>>())
    }

    /// The transaction is kept, with a row of this number.
    pub(crate) fn keep_row(&mut self, number: u64) {
        if self.rows.is_empty() {
            self.rows = number..number;
        }
        self.rows.end = number + 1;
        self.fresh.clear();
    }

    /// The transaction is kept, and all is in the tree.
    pub(crate) fn keep_spread(&mut self) {
        self.entries.clear();
        self.fresh.clear();
        self.rows = 0..0;
    }

    /// The transaction is not kept.
    pub(crate) fn take_back(&mut self) {
        for (key, before) in self.fresh.drain(..).rev() {
            match before {
                Some(said) => self.entries.insert(key, said),
                None => self.entries.remove(key.bytes()),
            };
        }
    }

    /// The entries of a range.
    pub(crate) fn range<'a>(
        &'a self,
        from: &[u8],
        to: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        // Nearly always it ends at once: its end is not looked for from above.
        let from_there = self.entries.range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
        let entries = from_there.map(|(key, value)| (key.bytes(), value.as_deref()));
        entries.take_while(move |(key, _)| *key < to)
    }
}

/// A key but for the number of an origin at its end.
fn without_number(key: &[u8]) -> &[u8] {
    key.split_last_chunk::<8>().map_or(key, |(head, _)| head)
}

/// Visits the entries of a tree, put in by `each`, and those that lie over them, in order.
pub(crate) fn merged<'a>(
    over: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    each: impl FnOnce(&mut Visitor<'_>) -> Result<()>,
    visit: &mut Visitor<'_>,
) -> Result<()> {
    let mut over = over.peekable();
    let mut stopped = false;
    each(&mut |key, value| {
        while let Some((before, said)) = over.next_if(|(k, _)| *k < key) {
            if let Some(value) = said
                && visit(before, value)?.is_break()
            {
                stopped = true;
                return Ok(ControlFlow::Break(()));
            }
        }
        let flow = match over.next_if(|(k, _)| *k == key) {
            Some((_, None)) => ControlFlow::Continue(()),
            Some((_, Some(value))) => visit(key, value)?,
            None => visit(key, value)?,
        };
        stopped = flow.is_break();
        Ok(flow)
    })?;
    for (key, said) in over {
        if stopped {
            break;
        }
        if let Some(value) = said {
            stopped = visit(key, value)?.is_break();
        }
    }
    Ok(())
}
