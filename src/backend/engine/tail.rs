//! What a file's transactions wrote to tables whose keys are digests, before it is spread over them.
//!
//! Keys that are digests lie anywhere in a tree, so a page of a hundred new origins would write a
//! hundred of its leaves. Each transaction writes its entries as one row instead, next to the rows
//! before it; they are kept in memory as well, where they are looked up, and from time to time all of
//! them move into the tree at once, each leaf written once for many entries.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use super::kv::Visitor;
use super::rows::{decode, encode};
use crate::backend::Result;

/// Entries that wait at most; some three megabytes of memory.
const AT_MOST: usize = 32_768;

/// Entries by their whole key; none where one was deleted.
pub(crate) type Entries = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What waits to be spread, and the rows that hold it.
#[derive(Default)]
pub(crate) struct Tail {
    pub(crate) entries: Entries,
    /// Numbers of the rows: from the first up to, not including, the last.
    pub(crate) rows: std::ops::Range<u64>,
    /// What the transaction under way has said so far, and what was said of the same keys before.
    fresh: Vec<(Vec<u8>, Option<Option<Vec<u8>>>)>,
}

impl Tail {
    /// Takes in a row, as it was written.
    pub(crate) fn read_row(&mut self, number: u64, row: &[u8]) -> Result<()> {
        let entries: Vec<(Vec<u8>, Option<Vec<u8>>)> = decode(row)?;
        self.entries.extend(entries);
        self.keep_row(number);
        Ok(())
    }

    /// Says what a key has from now on, should the transaction be kept.
    pub(crate) fn say(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let before = self.entries.insert(key.clone(), value);
        self.fresh.push((key, before));
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
        let said = self.fresh.iter().filter_map(|(key, _)| self.entries.get_key_value(key));
        encode(&said.collect::<Vec<_>>())
    }

    /// The transaction is kept, with a row of this number.
    pub(crate) fn keep_row(&mut self, number: u64) {
        if self.rows.is_empty() {
            self.rows = number..number;
        }
        self.rows.end = number + 1;
        self.fresh.clear();
    }

    /// The transaction is not kept.
    pub(crate) fn take_back(&mut self) {
        for (key, before) in self.fresh.drain(..).rev() {
            match before {
                Some(said) => self.entries.insert(key, said),
                None => self.entries.remove(&key),
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
        let entries = from_there.map(|(key, value)| (key.as_slice(), value.as_deref()));
        entries.take_while(move |(key, _)| *key < to)
    }
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
