//! Tables and their keys: big-endian, so that bytes sort as what they stand for.

/// Facts about the store itself: its form, its counters.
pub(crate) const META: u8 = 0;
/// Lister number to its row.
pub(crate) const LISTER: u8 = 1;
/// Lister id to its number.
pub(crate) const LISTER_ID: u8 = 2;
/// Visit type number to its row.
pub(crate) const TYPE: u8 = 3;
/// Owner number to name.
pub(crate) const OWNER: u8 = 4;
/// Digest of an owner's name to its number.
pub(crate) const OWNER_ID: u8 = 5;
/// Origin number to its row.
pub(crate) const ORIGIN: u8 = 6;
/// (Half a digest of the key, origin number) to nothing.
pub(crate) const ORIGIN_KEY: u8 = 7;
/// (Lister, chunk) to the set of origins listed.
pub(crate) const LISTED: u8 = 8;
/// (Lister, run, chunk) to the set of origins seen.
pub(crate) const SEEN: u8 = 9;
/// (Lister, run) to how the run saw: those of which sets are kept.
pub(crate) const SEEN_RUN: u8 = 10;
/// (Visit type, lane, rank, origin) to nothing: the queue.
pub(crate) const QUEUE: u8 = 11;
/// (Visit type, time, origin) to a place in the queue: those that may not be visited before.
pub(crate) const WAIT: u8 = 12;
/// Origin to its lease.
pub(crate) const LEASE: u8 = 13;
/// (Deadline, origin) to nothing.
pub(crate) const DEADLINE: u8 = 14;
/// First token to the changes of one batch.
pub(crate) const CHANGE: u8 = 15;
/// Run, newest first, to its row.
pub(crate) const RUN: u8 = 16;
/// (Lister, mode, parameters) to the open run.
pub(crate) const OPEN_RUN: u8 = 17;
/// Run to its candidate state.
pub(crate) const CANDIDATE: u8 = 18;
/// (Run, cursor) to its row.
pub(crate) const CURSOR: u8 = 19;
/// (Run, digest of the cursor) to its number.
pub(crate) const CURSOR_ID: u8 = 20;
/// (Run, cursor) to its lease: those that are pending.
pub(crate) const PENDING: u8 = 21;
/// (Lister, parameters, digest of the cursor) to a gap.
pub(crate) const GAP: u8 = 22;
/// Part number to its row.
pub(crate) const PART: u8 = 23;
/// (Lister, digest of the part's key) to its number.
pub(crate) const PART_ID: u8 = 24;
/// (Run, part) to how far the run has read it.
pub(crate) const PART_RUN: u8 = 25;
/// (Part, run, origin) to what the part says of the origin.
pub(crate) const READING: u8 = 26;
/// (Origin, part) to nothing: the parts that name an origin.
pub(crate) const PART_OF: u8 = 27;
/// (Lister, digest of the URL) to a validator.
pub(crate) const VALIDATOR: u8 = 28;
/// Digest of a host to who is shut out by its limits.
pub(crate) const STANDING: u8 = 29;
/// (Lister, forge id where it is a number, else half a digest of it, origin) to nothing:
/// which origin bears an id.
pub(crate) const FORGE: u8 = 34;
/// Origin to the URLs that it had before.
pub(crate) const FORMER: u8 = 30;
/// (Half a digest of the key with a former URL, origin) to nothing.
pub(crate) const FORMER_KEY: u8 = 31;
/// Origin to the one that it was put together with, and that has its listings and visits now.
pub(crate) const JOINED: u8 = 32;
/// (Lister, chunk) to the set of origins that were missing and not believed to be gone.
pub(crate) const SUSPECT: u8 = 33;
/// Number to entries of tables whose keys are digests, not yet spread over them: a file's own.
#[cfg(feature = "file")]
pub(crate) const TAIL: u8 = 254;

/// Lister, name of listers, or who hints, to what their news were worth.
pub(crate) const LEDGER: u8 = 40;
/// (Lister, digest, origin) to nothing: origins that it told a change of, not looked for since.
pub(crate) const STALE: u8 = 41;
/// Digest of a requester's name to when the earlier requests are paid for.
pub(crate) const QUOTA: u8 = 45;
/// Visit type to the pace of its claims.
pub(crate) const PACE: u8 = 44;
/// Lister whose stale origins are to be placed again to how far that is.
pub(crate) const STALE_DUE: u8 = 42;
/// One entry: how far the rolling sweep is.
pub(crate) const SWEEP: u8 = 43;

/// How many origins share a set.
pub(crate) const CHUNK_BITS: u32 = 12;

/// A key, or one in the making: in place where it is short, as nearly all are.
#[derive(Clone)]
pub(crate) struct K {
    len: usize,
    short: [u8; SHORT],
    /// All of it, where it is longer.
    long: Vec<u8>,
}

const SHORT: usize = 40;

impl K {
    pub(crate) fn new() -> Self {
        Self { len: 0, short: [0; SHORT], long: Vec::new() }
    }

    pub(crate) fn u8(self, n: u8) -> Self {
        self.bytes(&[n])
    }

    pub(crate) fn u16(self, n: u16) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    pub(crate) fn u32(self, n: u32) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    pub(crate) fn u64(self, n: u64) -> Self {
        self.bytes(&n.to_be_bytes())
    }

    /// Flips the sign bit, so that negative numbers sort before positive ones.
    pub(crate) fn i64(self, n: i64) -> Self {
        self.u64(n.cast_unsigned() ^ (1 << 63))
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        let before = self.len;
        self.len += bytes.len();
        match self.short.get_mut(before..self.len) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                if self.long.is_empty() {
                    self.long.extend(self.short.get(..before).unwrap_or_default());
                }
                self.long.extend(bytes);
            }
        }
        self
    }
}

impl std::ops::Deref for K {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.short.get(..self.len).unwrap_or(&self.long)
    }
}

/// Reads a key back, from its front.
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

impl Parts<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        // A key that is too short reads as zeros; only this module makes keys.
        let Some((head, tail)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = tail;
        *head
    }

    pub(crate) fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.take())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    pub(crate) fn i64(&mut self) -> i64 {
        (self.u64() ^ (1 << 63)).cast_signed()
    }
}

/// The first of a key's numbers.
pub(crate) fn first_u64(key: &[u8]) -> u64 {
    Parts(key).u64()
}

pub(crate) fn of_u64(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

pub(crate) fn of_u32(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

/// A run's key: its number upside down, so that the newest comes first.
pub(crate) fn of_run(run: u64) -> [u8; 8] {
    (!run).to_be_bytes()
}

pub(crate) fn queue(visit_type: u16, lane: u8, rank: i64, origin: u64) -> K {
    K::new().u16(visit_type).u8(lane).i64(rank).u64(origin)
}

pub(crate) fn wait(visit_type: u16, until: i64, origin: u64) -> K {
    K::new().u16(visit_type).i64(until).u64(origin)
}

pub(crate) fn deadline(until: i64, origin: u64) -> K {
    K::new().i64(until).u64(origin)
}

pub(crate) fn pair(a: u64, b: u64) -> K {
    K::new().u64(a).u64(b)
}

pub(crate) fn seen(lister: u32, run: u64, chunk: u64) -> K {
    K::new().u32(lister).u64(run).u64(chunk)
}

pub(crate) fn stale(lister: u32, digest: [u8; 8], origin: u64) -> K {
    K::new().u32(lister).bytes(&digest).u64(origin)
}

/// What all instances of a lister have in common.
pub(crate) fn ledger_of_all(name: &str) -> K {
    K::new().u8(1).bytes(name.as_bytes())
}

/// Who hints.
pub(crate) fn ledger_of_source(source: u32) -> K {
    // Five bytes behind a zero: no lister's key, and no name's.
    K::new().u8(0).u32(source)
}

pub(crate) fn reading(part: u32, run: u64, origin: u64) -> K {
    K::new().u32(part).u64(run).u64(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_have_any_length() {
        for len in 0..100 {
            for piece in 1..50 {
                let whole: Vec<u8> = (0..len).collect();
                let key = whole.chunks(piece).fold(K::new(), K::bytes);
                assert_eq!(&*key, whole, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn keys_sort_as_numbers_and_read_back() {
        let ranks = [i64::MIN, -5, -1, 0, 1, 7, i64::MAX];
        let keys: Vec<_> = ranks.iter().map(|r| queue(1, 2, *r, 3).to_vec()).collect();
        assert!(keys.is_sorted());
        for (key, rank) in keys.iter().zip(ranks) {
            let mut parts = Parts(key);
            assert_eq!((parts.u16(), parts.u8(), parts.i64(), parts.u64()), (1, 2, rank, 3));
            assert!(key.len() <= 22, "kept without an allocation");
        }
        assert!(of_run(2) < of_run(1));
    }
}
