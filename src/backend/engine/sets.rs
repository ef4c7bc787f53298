//! Sets of origins, in chunks: who is listed, and who was seen by a run.

use std::collections::BTreeMap;

use super::keys::CHUNK_BITS;
use super::kv::KvRead;
use crate::backend::Result;

const SIZE: usize = 1 << CHUNK_BITS;
const BYTES: usize = SIZE / 8;
const SPARSE: u8 = 0;
const DENSE: u8 = 1;

/// A set of origins of one chunk: a list while it is short, a bitmap then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk(Vec<u8>);

impl Default for Chunk {
    fn default() -> Self {
        Self(vec![0; BYTES])
    }
}

impl Chunk {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut set = Self::default();
        match bytes.split_first() {
            Some((&SPARSE, list)) => {
                for pair in list.chunks_exact(2) {
                    if let [a, b] = pair {
                        set.insert(u16::from_be_bytes([*a, *b]));
                    }
                }
            }
            Some((_, bits)) => {
                for (to, from) in set.0.iter_mut().zip(bits) {
                    *to = *from;
                }
            }
            None => {}
        }
        set
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let members: usize = self.0.iter().map(|b| b.count_ones() as usize).sum();
        if members * 2 < BYTES {
            let mut list = vec![SPARSE];
            list.extend(self.iter().flat_map(u16::to_be_bytes));
            return list;
        }
        let mut bits = vec![DENSE];
        bits.extend(&self.0);
        bits
    }

    /// Adds one; tells whether it was not there.
    pub(crate) fn insert(&mut self, low: u16) -> bool {
        let bit = 1u8 << (low % 8);
        self.0.get_mut(usize::from(low / 8)).is_some_and(|b| {
            let new = *b & bit == 0;
            *b |= bit;
            new
        })
    }

    pub(crate) fn contains(&self, low: u16) -> bool {
        self.0.get(usize::from(low / 8)).is_some_and(|b| b & (1 << (low % 8)) != 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0u16..)
            .zip(&self.0)
            .filter(|(_, b)| **b != 0)
            .flat_map(|(i, b)| (0u16..8).filter(move |bit| b & (1 << bit) != 0).map(move |bit| i * 8 + bit))
    }

    /// Takes out all that another set holds.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a &= !b;
        }
    }
}

/// The chunk of an origin, and its place in it.
pub(crate) fn split(origin: u64) -> (u64, u16) {
    let low = origin & (SIZE as u64 - 1);
    (origin >> CHUNK_BITS, u16::try_from(low).unwrap_or(0))
}

/// The origin at a place of a chunk.
pub(crate) fn join(chunk: u64, low: u16) -> u64 {
    (chunk << CHUNK_BITS) | u64::from(low)
}

/// Origins to add to a set when a transaction ends: each chunk is written once.
#[derive(Debug, Default)]
pub(crate) struct Additions(BTreeMap<u64, Vec<u16>>);

impl Additions {
    pub(crate) fn add(&mut self, origin: u64) {
        let (chunk, low) = split(origin);
        self.0.entry(chunk).or_default().push(low);
    }

    /// The members, chunk by chunk.
    pub(crate) fn chunks(self) -> impl Iterator<Item = (u64, Vec<u16>)> {
        self.0.into_iter()
    }
}

/// A stored chunk.
pub(crate) fn read(t: &dyn KvRead, table: u8, key: &[u8]) -> Result<Option<Chunk>> {
    Ok(t.get(table, key)?.map(|bytes| Chunk::read(&bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_chunk_survives_writing_at_every_density(
            members in prop::collection::btree_set(0u16..4096, 0..1500)
        ) {
            let mut set = Chunk::default();
            for m in &members {
                prop_assert!(set.insert(*m));
                prop_assert!(!set.insert(*m));
            }
            let bytes = set.write();
            prop_assert!(bytes.len() <= BYTES + 1);
            let back = Chunk::read(&bytes);
            prop_assert_eq!(back.iter().collect::<Vec<_>>(), members.iter().copied().collect::<Vec<_>>());
            prop_assert!(members.iter().all(|m| back.contains(*m)));
        }
    }

    #[test]
    fn an_origin_is_its_chunk_and_its_place() {
        for origin in [0, 1, 4095, 4096, 123_456_789] {
            let (chunk, low) = split(origin);
            assert_eq!(join(chunk, low), origin);
        }
        let mut set = Chunk::default();
        set.insert(5);
        set.insert(6);
        let mut other = Chunk::default();
        other.insert(5);
        set.subtract(&other);
        assert_eq!(set.iter().collect::<Vec<_>>(), [6]);
    }
}
