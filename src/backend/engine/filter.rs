//! Which digests a file holds, in brief: where one is surely not there, its tree need not be asked.
//!
//! Nearly all of what is looked up while a forge is listed for the first time is not there, and to learn
//! that from a tree costs as much as to find something in it. This is a Bloom filter whose bits for one key
//! are all in one word.

/// Words of 64 bits: two megabytes.
const WORDS: usize = 1 << 18;

/// So many bits are set for a key.
const BITS: u32 = 4;

/// The set of all keys that were ever added, and some others.
pub(crate) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { words: vec![0; WORDS] }
    }

    /// Adds a key.
    pub(crate) fn add(&mut self, key: &[u8]) {
        let (at, bits) = place(key);
        if let Some(word) = self.words.get_mut(at) {
            *word |= bits;
        }
    }

    /// False where a key was surely never added.
    pub(crate) fn may_have(&self, key: &[u8]) -> bool {
        let (at, bits) = place(key);
        self.words.get(at).is_none_or(|word| word & bits == bits)
    }
}

/// The word of a key, and its bits there.
fn place(key: &[u8]) -> (usize, u64) {
    // Numbers that follow each other are keys too: they have to be mixed well.
    let mix = |n: u64| (n ^ n >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let hash = key.chunks(8).fold(key.len() as u64, |hash, chunk| {
        let piece = chunk.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        mix(hash.rotate_left(23) ^ piece)
    });
    let hash = mix(hash);
    let bits = (0..BITS).fold(0, |bits, i| bits | 1 << (hash >> (6 * i) & 63));
    (usize::try_from(hash >> 40).unwrap_or(0) % WORDS, bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_hardly_anything_else() {
        let mut filter = Filter::new();
        // Digests, and numbers in a row.
        let digest = |n: u64| {
            let digest = crate::model::digest128(&n.to_be_bytes());
            [&[7], &digest[..8]].concat()
        };
        let number = |n: u64| [&[34, 0, 0, 0, 1], &n.to_be_bytes()[..]].concat();
        let many = 200_000;
        for n in 0..many {
            filter.add(&digest(n));
            filter.add(&number(n));
        }
        assert!((0..many).all(|n| filter.may_have(&digest(n)) && filter.may_have(&number(n))));
        let wrong = (many..2 * many).filter(|n| filter.may_have(&digest(*n))).count();
        assert!(wrong < 400, "{wrong} digests");
        let wrong = (many..2 * many).filter(|n| filter.may_have(&number(*n))).count();
        assert!(wrong < 400, "{wrong} numbers");
    }
}
