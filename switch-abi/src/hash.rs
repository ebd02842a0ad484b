//! The hash of a masked key, by which a rule's bucket is found. Kernel and agent must agree on it bit by bit.
//!
//! It is the sum of the masked words, each times a factor of its own (a multilinear hash), and of the tuple's id times another, with a final
//! avalanche. The multiplications do not wait for each other, and a sum can be made from another one: the masks of a table tend to differ in
//! a word or two, and [`HashSteps`] say what to add to the sum of one tuple for that of the next. It is not keyed; a chain that grows past
//! [`crate::MAX_CHAIN`] is refused by the agent.

use crate::{CompactMask, FlowKey, KEY_WORDS};

const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Factors of the words of a key, odd. They fit the immediate operand of a BPF instruction.
pub const MIX: [u64; KEY_WORDS] = [
    0x5f35_6495,
    0x7c0d_5a37,
    0x4b1f_9e6d,
    0x6a09_e667,
    0x3b67_ae85,
    0x7a54_ff53,
    0x510e_527f,
    0x5b05_688d,
    0x1f83_d9ab,
    0x4be0_cd19,
    0x6bdb_629b,
    0x5167_b3d1,
    0x7f4a_7c15,
    0x2545_f491,
    0x74ad_85eb,
    0x6c62_272f,
];

/// Takes the word in place `at` of a key into a sum.
#[inline(always)]
pub fn hash_word(sum: u64, at: usize, word: u64) -> u64 {
    sum.wrapping_add(word.wrapping_mul(MIX[at]))
}

/// Spreads the bits of a sum over all words: the upper half depends on all of them.
#[inline(always)]
pub fn avalanche(sum: u64) -> u64 {
    (sum ^ sum >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// The end of a hash within the tuple `tuple` ([`crate::TupleEntry::id`]), from the sum over all words of the masked key.
#[inline(always)]
pub fn hash_end(sum: u64, tuple: u32) -> u32 {
    let sum = sum.wrapping_add((tuple as u64).wrapping_mul(HASH_FACTOR));
    (avalanche(sum) >> 32) as u32
}

/// Hash of a compact key ([`CompactMask::compact`]) within the tuple `tuple` ([`crate::TupleEntry::id`]) of this mask.
#[inline(always)]
pub fn hash_key(tuple: u32, mask: &CompactMask, words: &[u64; KEY_WORDS]) -> u32 {
    let mut sum = 0;
    for (at, &word) in words.iter().enumerate().take(mask.count as usize) {
        sum = hash_word(sum, mask.index(at), word);
    }
    hash_end(sum, tuple)
}

/// Room for steps.
pub const HASH_STEPS: usize = 5;
/// [`HashSteps::count`]: the mask takes more steps than there is room for; the sum is made of all its words.
pub const HASH_WHOLE: u8 = 0xff;

/// One step: what some bits of a word of the key are multiplied with, to be added to the sum.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashStep {
    /// The bits.
    pub mask: u64,
    /// The word's factor, or for bits that the mask before has and this one has not, its negative.
    pub factor: u64,
}

/// From the sum over a key under one mask to that under another, which a search comes to next.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HashSteps {
    /// What is kept of the sum before: all bits, or none.
    pub keep: u64,
    /// How many steps, or [`HASH_WHOLE`].
    pub count: u8,
    /// Where in the key the word of each step is, in bytes.
    pub offset: [u8; HASH_STEPS],
    /// Zero.
    pub pad: [u8; 2],
    /// The steps.
    pub step: [HashStep; HASH_STEPS],
}

impl HashSteps {
    /// To the sum under `mask` from that under `before`, or from nothing, whichever takes less.
    pub fn new(before: Option<&FlowKey>, mask: &FlowKey) -> Self {
        let anew = Self::between(&FlowKey::default(), mask, 0);
        match before.map(|before| Self::between(before, mask, u64::MAX)) {
            Some(near) if near.count < anew.count => near,
            _ => anew,
        }
    }

    fn between(before: &FlowKey, mask: &FlowKey, keep: u64) -> Self {
        let mut steps = Self {
            keep,
            ..Self::default()
        };
        for (at, (&old, &new)) in before.words().iter().zip(mask.words()).enumerate() {
            let (more, less) = (new & !old, old & !new);
            for (bits, factor) in [(more, MIX[at]), (less, MIX[at].wrapping_neg())] {
                if bits == 0 {
                    continue;
                }
                let next = steps.count as usize;
                if next == HASH_STEPS {
                    return Self {
                        count: HASH_WHOLE,
                        ..Self::default()
                    };
                }
                steps.offset[next] = at as u8 * 8;
                steps.step[next] = HashStep { mask: bits, factor };
                steps.count += 1;
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum by the steps, as a search makes it.
    fn follow(steps: &HashSteps, sum: u64, key: &FlowKey, mask: &FlowKey) -> u64 {
        if steps.count == HASH_WHOLE {
            return whole(key, mask);
        }
        let step = |i: usize| {
            let word = key.words()[steps.offset[i] as usize / 8];
            (word & steps.step[i].mask).wrapping_mul(steps.step[i].factor)
        };
        (0..steps.count.into())
            .map(step)
            .fold(sum & steps.keep, u64::wrapping_add)
    }

    fn whole(key: &FlowKey, mask: &FlowKey) -> u64 {
        let words = key.masked(mask);
        let words = words.words().iter().enumerate();
        words.fold(0, |sum, (at, &word)| hash_word(sum, at, word))
    }

    /// Xorshift (Marsaglia).
    fn draw(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn steps_from_mask_to_mask_lead_to_the_hash_of_the_key() {
        let state = &mut 0x2545_f491_4f6c_dd1d;
        let mut whole_ones = 0;
        for _ in 0..2000 {
            let key = FlowKey::from_words(core::array::from_fn(|_| draw(state)));
            let (mut sum, mut before) = (0, None);
            let mut words = [0; KEY_WORDS];
            for tuple in 1..8 {
                // A few words change from one to the next.
                for _ in 0..draw(state) % 9 {
                    words[draw(state) as usize % KEY_WORDS] = match draw(state) % 3 {
                        0 => 0,
                        1 => u64::MAX,
                        _ => draw(state),
                    };
                }
                let mask = FlowKey::from_words(words);
                let steps = HashSteps::new(before.as_ref(), &mask);
                whole_ones += u32::from(steps.count == HASH_WHOLE);
                sum = follow(&steps, sum, &key, &mask);
                let compact = CompactMask::new(&mask);
                let hash = hash_key(tuple, &compact, &compact.compact(&key));
                assert_eq!(hash_end(sum, tuple), hash);
                before = Some(mask);
            }
        }
        assert!((100..10_000).contains(&whole_ones), "{whole_ones}");
    }

    #[test]
    fn a_prefix_that_is_a_bit_shorter_takes_one_step() {
        let mut mask = FlowKey {
            eth_type: [255; 2],
            ip_proto: 255,
            ..FlowKey::default()
        };
        mask.ip_dst[..4].fill(255);
        let before = mask;
        mask.ip_dst[3] = 254;
        let steps = HashSteps::new(Some(&before), &mask);
        assert_eq!((steps.count, steps.keep), (1, u64::MAX));
        assert_eq!(HashSteps::new(None, &mask).count, 3);
    }
}
