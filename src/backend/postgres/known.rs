//! What a transaction knows of the database so far, and what it still has to ask.
//!
//! The engine that decides what is written is the one of the other stores. It reads ordered tables,
//! and cannot wait for a server. So it runs over what is known; what it asks for beyond that is noted
//! and answered with *nothing there*, and the answer is thrown away. When all that was asked for has
//! been fetched (at once, whole batches of it), it runs again, until a run needed nothing more.

#![allow(clippy::option_option, reason = "unknown, known not to be there, and there")]

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::origin::Key;
use crate::backend::engine::keys::{self, K, Parts};
use crate::backend::engine::kv::{KvRead, KvTxn, Visitor, after_prefix};
use crate::backend::engine::rows::{OriginRow, Place, decode};
use crate::backend::engine::sets::{self, Additions};
use crate::backend::{BackendError, BackendErrorKind, Result};

/// No range brings more than this at once.
const AT_MOST: u64 = 1 << 17;

/// Tables have numbers below this.
const TABLES: usize = 64;

/// Something that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Unknown {
    Key(u8, Vec<u8>),
    /// From a key up to, not including, another one (none: the table's end).
    Range(u8, Vec<u8>, Option<Vec<u8>>),
    /// How many entries a range has, up to a limit.
    Count(u8, Vec<u8>, Vec<u8>, u64),
    /// Up to so many origins of a visit type that wait, from all over its lanes.
    Sample(u16, usize),
    /// So many numbers of a sequence.
    Numbers(Vec<u8>, u64),
}

/// An entry's value; none where there is no such entry.
type Entries = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Default)]
struct Table {
    entries: Entries,
    /// Ranges of which every entry is known: where each begins, and where it ends (none: with the table).
    /// No two of them meet.
    whole: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The numbers of origins behind prefixes, where all of them are known.
    numbers: HashMap<Vec<u8>, Vec<u64>>,
    /// How many ranges were asked for.
    asked: u32,
}

/// The next range of what was asked for so often brings so many entries.
fn doubled(at_first: u64, asked: u32) -> u64 {
    (at_first << asked.saturating_sub(1).min(16)).min(AT_MOST.max(at_first))
}

impl Table {
    /// Up to where every entry is known, from a key on; none where not even the key's is.
    fn whole_from(&self, from: &[u8]) -> Option<Option<&[u8]>> {
        let (_, end) = self.whole.range::<[u8], _>((Bound::Unbounded, Bound::Included(from))).next_back()?;
        end.as_deref().is_none_or(|end| end > from).then_some(end.as_deref())
    }

    /// Learns that all of a range is known.
    fn is_whole(&mut self, mut from: Vec<u8>, mut to: Option<Vec<u8>>) {
        if to.as_ref().is_some_and(|to| *to <= from) {
            return;
        }
        if let Some((start, end)) =
            self.whole.range::<[u8], _>((Bound::Unbounded, Bound::Included(from.as_slice()))).next_back()
            && end.as_ref().is_none_or(|end| *end >= from)
        {
            from.clone_from(start);
        }
        while let Some((start, end)) =
            self.whole.range::<[u8], _>((Bound::Included(from.as_slice()), Bound::Unbounded)).next()
            && to.as_ref().is_none_or(|to| start <= to)
        {
            let start = start.clone();
            to = match (to, end) {
                (Some(to), Some(end)) => Some(to.max(end.clone())),
                _ => None,
            };
            self.whole.remove(&start);
        }
        self.whole.insert(from, to);
    }
}

/// The numbers of a sequence that this transaction may give.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    /// The last one given before.
    pub(super) last: u64,
    /// How many after it are reserved.
    pub(super) reserved: u64,
}

/// What is known of the database.
pub(super) struct Known {
    tables: Vec<Table>,
    sequences: HashMap<Vec<u8>, Numbers>,
    counts: HashMap<Unknown, u64>,
    samples: HashMap<(u16, usize), Vec<u64>>,
    /// How many stretches of each slot were asked for.
    lanes: HashMap<i32, u32>,
    /// The version of the row, as the server has it, of each origin and lease that is known.
    pub(super) versions: HashMap<(u8, u64), i64>,
    /// By what each origin is found.
    pub(super) found_by: HashMap<u64, Key>,
    /// What it took to look at the heads of slots, in microseconds.
    pub(super) heads: HashMap<i32, i64>,
    /// Whether leases are of no interest: places in the queue are not kept apart from origins here, so
    /// that putting one in or taking it out needs no look at them.
    pub(super) no_leases: bool,
}

impl Known {
    pub(super) fn new() -> Self {
        Self {
            tables: std::iter::repeat_with(Table::default).take(TABLES).collect(),
            sequences: HashMap::new(),
            counts: HashMap::new(),
            samples: HashMap::new(),
            lanes: HashMap::new(),
            versions: HashMap::new(),
            found_by: HashMap::new(),
            heads: HashMap::new(),
            no_leases: false,
        }
    }

    fn table(&self, table: u8) -> Result<&Table> {
        self.tables.get(usize::from(table)).ok_or_else(|| no_table(table))
    }

    /// Learns what an entry is.
    pub(super) fn put(&mut self, table: u8, key: Vec<u8>, value: Option<Vec<u8>>) {
        if let Some(table) = self.tables.get_mut(usize::from(table)) {
            table.entries.insert(key, value);
        }
    }

    /// Learns that an entry is not there, unless it was found.
    pub(super) fn absent(&mut self, table: u8, key: Vec<u8>) {
        if let Some(table) = self.tables.get_mut(usize::from(table)) {
            table.entries.entry(key).or_insert(None);
        }
    }

    /// Learns that all numbers behind a prefix are known by now: those found, and these.
    pub(super) fn numbers_are(&mut self, table: u8, prefix: Vec<u8>, more: Option<u64>) {
        if let Some(table) = self.tables.get_mut(usize::from(table)) {
            table.numbers.entry(prefix).or_default().extend(more);
        }
    }

    /// Learns of each of these that it is not there, unless it was found.
    pub(super) fn all_absent(&mut self, table: u8, keys: Vec<Vec<u8>>) {
        for key in keys {
            self.absent(table, key);
        }
    }

    /// Learns that all entries of a range are known by now.
    pub(super) fn whole(&mut self, table: u8, from: Vec<u8>, to: Option<Vec<u8>>) {
        if let Some(table) = self.tables.get_mut(usize::from(table)) {
            table.is_whole(from, to);
        }
    }

    /// How many entries the next range of a table is to bring: twice as many each time.
    pub(super) fn next_size(&mut self, table: u8, at_first: u64) -> u64 {
        let asked = self.tables.get_mut(usize::from(table)).map_or(1, |table| {
            table.asked += 1;
            table.asked
        });
        doubled(at_first, asked)
    }

    /// How many places the next stretch of a slot is to bring.
    pub(super) fn next_of_lane(&mut self, slot: i32, at_first: u64) -> u64 {
        let asked = self.lanes.entry(slot).or_insert(0);
        *asked += 1;
        doubled(at_first, *asked)
    }

    /// What an entry is, where that is known.
    pub(super) fn get(&self, table: u8, key: &[u8]) -> Option<Option<&[u8]>> {
        let table = self.tables.get(usize::from(table))?;
        if let Some(entry) = table.entries.get(key) {
            return Some(entry.as_deref());
        }
        table.whole_from(key).map(|_| None)
    }

    /// Whether the server counts this place of the queue: one that waits, or is leased, it does not.
    fn was_queued(&self, queue_key: &[u8]) -> Result<bool> {
        let mut parts = Parts(queue_key);
        let (_, lane, rank, id) = (parts.u16(), parts.u8(), parts.i64(), parts.u64());
        let Some(Some(row)) = self.get(keys::ORIGIN, &keys::of_u64(id)) else { return Ok(false) };
        let place = decode::<OriginRow>(row)?.place;
        let leased = self.get(keys::LEASE, &keys::of_u64(id)).is_some_and(|lease| lease.is_some());
        let here = |p: Place| (p.lane, p.rank) == (lane, rank) || p.also == Some((lane, rank));
        Ok(!leased && place.is_some_and(|p| p.waits.is_none() && here(p)))
    }

    /// Entries under a prefix, as far as known.
    pub(super) fn under(&self, table: u8, prefix: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        let end = after_prefix(prefix);
        let entries = self.tables.get(usize::from(table)).map(|table| {
            let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            table.entries.range::<[u8], _>((Bound::Included(prefix), to))
        });
        let there = entries.into_iter().flatten();
        there.filter_map(|(k, v)| Some((k.as_slice(), v.as_deref()?))).collect::<Vec<_>>().into_iter()
    }

    pub(super) fn count_is(&mut self, count: Unknown, n: u64) {
        self.counts.insert(count, n);
    }

    pub(super) fn sample_is(&mut self, visit_type: u16, limit: usize, origins: Vec<u64>) {
        self.samples.insert((visit_type, limit), origins);
    }

    pub(super) fn sequence(&self, name: &[u8]) -> Option<Numbers> {
        self.sequences.get(name).copied()
    }

    /// The sequences of which numbers are reserved.
    pub(super) fn reserved(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<_> =
            self.sequences.iter().filter(|(_, n)| n.reserved > 0).map(|(name, _)| name.clone()).collect();
        names.retain(|name| name.as_slice() != CHANGES);
        names
    }

    pub(super) fn sequence_is(&mut self, name: &[u8], numbers: Numbers) {
        self.sequences.insert(name.to_vec(), numbers);
    }
}

/// The sequence of tokens of the change feed: given when the transaction ends, in the order of commits,
/// unless somebody wants to know one before.
pub(super) const CHANGES: &[u8] = b"change";

fn to_be_fetched() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "rows to be fetched")
}

fn no_table(table: u8) -> BackendError {
    BackendError::new(BackendErrorKind::Corrupt, format!("no table {table}"))
}

/// What one run of the engine reads and writes.
pub(super) struct Draft<'k> {
    known: &'k Known,
    pub(super) writes: BTreeMap<u8, Entries>,
    /// Prefixes under which everything was removed.
    pub(super) cleared: Vec<(u8, Vec<u8>)>,
    /// Members added to sets of who was seen, by the set's prefix.
    pub(super) seen: BTreeMap<Vec<u8>, Vec<u64>>,
    unknown: RefCell<Vec<Unknown>>,
}

impl<'k> Draft<'k> {
    pub(super) fn new(known: &'k Known) -> Self {
        Self {
            known,
            writes: BTreeMap::new(),
            cleared: Vec::new(),
            seen: BTreeMap::new(),
            unknown: RefCell::default(),
        }
    }

    /// What the run would have had to know.
    pub(super) fn unknown(&self) -> Vec<Unknown> {
        let mut unknown = self.unknown.take();
        unknown.sort_unstable();
        unknown.dedup();
        unknown
    }

    /// How many numbers of each sequence the run gave, beyond those reserved for it.
    pub(super) fn wanting(&self) -> Vec<(Vec<u8>, u64)> {
        let given = self.writes.get(&keys::META).into_iter().flatten();
        given
            .filter(|(name, _)| name.as_slice() != CHANGES)
            .filter_map(|(name, value)| {
                let numbers = self.known.sequence(name).unwrap_or_default();
                let given = Parts(value.as_deref()?).u64().saturating_sub(numbers.last);
                (given > numbers.reserved).then(|| (name.clone(), given))
            })
            .collect()
    }

    fn is_cleared(&self, table: u8, key: &[u8]) -> bool {
        self.cleared.iter().any(|(t, prefix)| *t == table && key.starts_with(prefix))
    }

    fn miss(&self, what: Unknown) {
        self.unknown.borrow_mut().push(what);
    }

    fn number(&self, name: &[u8]) -> Option<[u8; 8]> {
        match self.known.sequence(name) {
            Some(numbers) => Some(keys::of_u64(numbers.last)),
            None if name == CHANGES => Some(keys::of_u64(0)),
            None => {
                self.miss(Unknown::Key(keys::META, name.to_vec()));
                None
            }
        }
    }

    /// Up to where every entry is known, from a key on.
    fn whole_from(&self, table: u8, from: &[u8]) -> Result<Option<Option<Vec<u8>>>> {
        let known = self.known.table(table)?;
        let mut at = from.to_vec();
        let mut reached = None;
        loop {
            let next = match self.cleared.iter().find(|(t, prefix)| *t == table && at.starts_with(prefix)) {
                Some((_, prefix)) => Some(after_prefix(prefix)),
                None => known.whole_from(&at).map(|end| end.map(<[u8]>::to_vec)),
            };
            match next {
                None => return Ok(reached),
                Some(None) => return Ok(Some(None)),
                Some(Some(end)) => {
                    at.clone_from(&end);
                    reached = Some(Some(end));
                }
            }
        }
    }
}

impl KvRead for Draft<'_> {
    fn get(&self, table: u8, key: &[u8]) -> Result<Option<std::borrow::Cow<'_, [u8]>>> {
        if let Some(written) = self.writes.get(&table).and_then(|w| w.get(key)) {
            return Ok(written.as_deref().map(Into::into));
        }
        if table == keys::META {
            return Ok(self.number(key).map(|n| n.to_vec().into()));
        }
        if self.is_cleared(table, key) || (table == keys::LEASE && self.known.no_leases) {
            return Ok(None);
        }
        if let Some(value) = self.known.get(table, key) {
            return Ok(value.map(Into::into));
        }
        self.miss(Unknown::Key(table, key.to_vec()));
        Ok(None)
    }

    fn scan(&self, table: u8, from: &[u8], to: Option<&[u8]>, visit: &mut Visitor<'_>) -> Result<()> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let whole = self.whole_from(table, from)?;
        let known_to = match (&whole, to) {
            (None, _) => Some(from),
            (Some(None), to) => to,
            (Some(Some(end)), to) => Some(to.map_or(end.as_slice(), |to| to.min(end))),
        };
        if known_to.is_none_or(|end| end > from) {
            let range = (Bound::Included(from), known_to.map_or(Bound::Unbounded, Bound::Excluded));
            // Both in order, what was written before what is known under the same key.
            let known = self.known.table(table)?.entries.range::<[u8], _>(range);
            let mut known = known.filter(|(key, _)| !self.is_cleared(table, key)).peekable();
            let written = self.writes.get(&table).into_iter().flat_map(|w| w.range::<[u8], _>(range));
            let mut written = written.peekable();
            loop {
                let order = match (known.peek(), written.peek()) {
                    (None, None) => break,
                    (Some(_), None) => Ordering::Less,
                    (None, Some(_)) => Ordering::Greater,
                    (Some((known, _)), Some((written, _))) => known.cmp(written),
                };
                let next = if order.is_lt() { known.next() } else { written.next() };
                if order.is_eq() {
                    known.next();
                }
                if let Some((key, Some(value))) = next
                    && visit(key, value)?.is_break()
                {
                    return Ok(());
                }
            }
        }
        let all = match (&whole, to) {
            (Some(None), _) => true,
            (None, _) | (Some(Some(_)), None) => false,
            (Some(Some(end)), Some(to)) => end.as_slice() >= to,
        };
        if !all {
            let rest = known_to.unwrap_or(from).to_vec();
            self.miss(Unknown::Range(table, rest, to.map(<[u8]>::to_vec)));
        }
        Ok(())
    }

    fn numbers(&self, table: u8, prefix: &[u8]) -> Option<Vec<u64>> {
        let mut numbers = self.known.tables.get(usize::from(table))?.numbers.get(prefix)?.clone();
        if let Some(writes) = self.writes.get(&table) {
            let under = writes.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
            for (key, value) in under.take_while(|(key, _)| key.starts_with(prefix)) {
                let number = keys::first_u64(key.get(prefix.len()..).unwrap_or_default());
                numbers.retain(|known| *known != number);
                numbers.extend(value.as_ref().map(|_| number));
            }
            numbers.sort_unstable();
        }
        Some(numbers)
    }

    fn count(&self, table: u8, from: &[u8], to: &[u8], limit: u64) -> Result<u64> {
        let what = Unknown::Count(table, from.to_vec(), to.to_vec(), limit);
        let Some(mut n) = self.known.counts.get(&what).copied() else {
            self.miss(what);
            return Ok(0);
        };
        let range = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in self.writes.get(&table).into_iter().flat_map(|w| w.range::<[u8], _>(range)) {
            match value {
                Some(_) => n += 1,
                None => n -= u64::from(self.known.was_queued(key)?).min(n),
            }
        }
        Ok(n.min(limit))
    }

    fn sample(&self, visit_type: u16, limit: usize) -> Result<Option<Vec<u64>>> {
        let found = self.known.samples.get(&(visit_type, limit)).cloned();
        if found.is_none() {
            self.miss(Unknown::Sample(visit_type, limit));
        }
        Ok(Some(found.unwrap_or_default()))
    }

    fn is_far(&self) -> bool {
        true
    }

    fn will_read(&self, table: u8, keys: &mut dyn Iterator<Item = Vec<u8>>) -> Result<()> {
        let mut stop = false;
        for key in keys {
            let written = self.writes.get(&table).is_some_and(|w| w.contains_key(&key));
            let known = match table {
                keys::META => self.known.sequence(&key).is_some(),
                _ => self.known.get(table, &key).is_some(),
            };
            if !written && !known {
                self.miss(Unknown::Key(table, key));
                stop = true;
            }
        }
        // Nothing good can come of going on without them.
        if stop { Err(to_be_fetched()) } else { Ok(()) }
    }

    fn will_number(&self, sequence: &str, count: u64) {
        let name = sequence.as_bytes();
        if self.known.sequence(name).is_none_or(|numbers| numbers.reserved == 0) && count > 0 {
            self.miss(Unknown::Numbers(name.to_vec(), count));
        }
    }

    fn settled(&self) -> Result<()> {
        if self.unknown.borrow().is_empty() { Ok(()) } else { Err(to_be_fetched()) }
    }
}

impl KvTxn for Draft<'_> {
    fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<()> {
        self.writes.entry(table).or_default().insert(key.to_vec(), Some(value.to_vec()));
        Ok(())
    }

    fn delete(&mut self, table: u8, key: &[u8]) -> Result<()> {
        self.writes.entry(table).or_default().insert(key.to_vec(), None);
        Ok(())
    }

    fn clear(&mut self, table: u8, prefix: &[u8]) -> Result<()> {
        if let Some(writes) = self.writes.get_mut(&table) {
            writes.retain(|key, _| !key.starts_with(prefix));
        }
        self.cleared.push((table, prefix.to_vec()));
        Ok(())
    }

    fn add_members(&mut self, table: u8, prefix: &K, members: Additions) -> Result<()> {
        if table == keys::SEEN {
            // Kept as a list of this transaction: putting it into sets can wait.
            let seen = self.seen.entry(prefix.to_vec()).or_default();
            for (chunk, lows) in members.chunks() {
                seen.extend(lows.into_iter().map(|low| sets::join(chunk, low)));
            }
            return Ok(());
        }
        for (chunk, lows) in members.chunks() {
            let key = prefix.clone().u64(chunk);
            let mut set = sets::read(self, table, &key)?.unwrap_or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges of single letters; none is the table's end.
    fn table(ranges: &[(&str, Option<&str>)]) -> Table {
        let mut table = Table::default();
        for (from, to) in ranges {
            table.is_whole(from.as_bytes().to_vec(), to.map(|to| to.as_bytes().to_vec()));
        }
        table
    }

    fn reach<'t>(table: &'t Table, from: &str) -> Option<Option<&'t str>> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or("?");
        table.whole_from(from.as_bytes()).map(|end| end.map(text))
    }

    #[test]
    fn ranges_that_meet_are_one() {
        for ranges in [
            [("b", Some("d")), ("d", Some("f")), ("h", Some("k"))],
            [("h", Some("k")), ("d", Some("f")), ("b", Some("d"))],
            [("c", Some("f")), ("b", Some("e")), ("h", Some("k"))],
            [("b", Some("f")), ("c", Some("d")), ("h", Some("k"))],
        ] {
            let table = table(&ranges);
            assert_eq!(reach(&table, "a"), None, "{ranges:?}");
            assert_eq!(reach(&table, "b"), Some(Some("f")), "{ranges:?}");
            assert_eq!(reach(&table, "e"), Some(Some("f")), "{ranges:?}");
            assert_eq!(reach(&table, "f"), None, "an end is not part of its range: {ranges:?}");
            assert_eq!(reach(&table, "i"), Some(Some("k")), "{ranges:?}");
        }
    }

    #[test]
    fn a_range_to_the_tables_end_takes_in_all_that_follow() {
        let table = table(&[("h", Some("k")), ("x", None), ("c", None)]);
        assert_eq!(reach(&table, "b"), None);
        assert_eq!(reach(&table, "c"), Some(None));
        assert_eq!(reach(&table, "z"), Some(None));
        assert_eq!(table.whole.len(), 1);
    }
}
