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
}

impl Tail {
    /// Takes in the entries of a row.
    pub(crate) fn add(&mut self, number: u64, entries: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
        if self.rows.is_empty() {
            self.rows = number..number;
        }
        self.rows.end = number + 1;
        self.entries.extend(entries);
    }

    /// Takes in a row, as it was written.
    pub(crate) fn read_row(&mut self, number: u64, row: &[u8]) -> Result<()> {
        let entries: Vec<(Vec<u8>, Option<Vec<u8>>)> = decode(row)?;
        self.add(number, entries);
        Ok(())
    }

    /// Whether it is time to spread all, should these entries come too.
    pub(crate) fn is_full_with(&self, fresh: &Entries) -> bool {
        self.entries.len() + fresh.len() > AT_MOST
    }

    /// A transaction's entries as a row.
    pub(crate) fn row_of(fresh: &Entries) -> Result<Vec<u8>> {
        encode(&fresh.iter().collect::<Vec<_>>())
    }

    /// What was said last of a key, where anything was.
    pub(crate) fn get<'a>(&'a self, fresh: &'a Entries, key: &[u8]) -> Option<&'a Option<Vec<u8>>> {
        fresh.get(key).or_else(|| self.entries.get(key))
    }

    /// The entries of a range, the fresh ones before those that wait.
    pub(crate) fn range<'a>(
        &'a self,
        fresh: &'a Entries,
        from: &[u8],
        to: &[u8],
    ) -> BTreeMap<&'a [u8], Option<&'a [u8]>> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let both = self.entries.range::<[u8], _>(range).chain(fresh.range::<[u8], _>(range));
        both.map(|(key, value)| (key.as_slice(), value.as_deref())).collect()
    }
}

/// Visits the entries of a tree, put in by `each`, and those that lie over them, in order.
pub(crate) fn merged(
    over: BTreeMap<&[u8], Option<&[u8]>>,
    each: impl FnOnce(&mut Visitor<'_>) -> Result<()>,
    visit: &mut Visitor<'_>,
) -> Result<()> {
    let mut over = over.into_iter().peekable();
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
