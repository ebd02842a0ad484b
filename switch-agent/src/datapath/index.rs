//! Hash maps keyed by the coordinator's ids and by slots: small trusted integers, for which the standard hasher is needlessly slow.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A hash map keyed by ids.
pub(crate) type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Consecutive ids come to lie beside each other, 64 at a time: rules are written and read by the batch, and their ids count up. The keys are
/// the coordinator's, not a tenant's: nobody can choose them to collide.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

/// The golden ratio, as in Fibonacci hashing.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The hash table takes its bucket from the bottom, and from the top what tells apart those that are close to each other.
        let block = (self.0 >> 6).wrapping_mul(FACTOR).rotate_left(32);
        let place = block.wrapping_add(self.0 & 63);
        place ^ (self.0.wrapping_mul(FACTOR) & 0x7f << 57)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = self.0.wrapping_mul(FACTOR).rotate_left(5) ^ n;
    }
}
