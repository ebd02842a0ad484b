//! Groups (OpenFlow 1.3.5, 5.6) as the kernel programs run them.
//!
//! A group is some entries in [`GROUP_TABLE`], rules in all but what they match: the group's number and the part's ([`part_word`]). So they
//! have versions, counters and staging as rules do. The *head* counts the group's packets. The *choices* hold, in place of actions, how a
//! bucket is chosen: operations [`crate::op::BUCKET`] and [`crate::op::WATCH`]. Each *bucket* has its actions.

use crate::{FRAG_ANY, FlowKey};

/// The table of groups, behind those that rules can be in.
pub const GROUP_TABLE: u8 = 32;

/// The part that counts.
pub const PART_HEAD: u16 = 0;
/// The first part with choices.
pub const PART_CHOICE: u16 = 1;
/// Most parts with choices.
pub const MAX_CHOICES: u16 = 8;
/// The first bucket.
pub const PART_BUCKET: u16 = PART_CHOICE + MAX_CHOICES;
/// Most buckets of a group.
pub const MAX_GROUP_BUCKETS: u16 = 64;

/// All buckets.
pub const GROUP_ALL: u8 = 1;
/// One live bucket, by the flow.
pub const GROUP_SELECT: u8 = 2;
/// The only bucket.
pub const GROUP_INDIRECT: u8 = 3;
/// The first live bucket.
pub const GROUP_FAST_FAILOVER: u8 = 4;

/// [`crate::Action::pad`] of [`crate::op::BUCKET`]: live while the port in `b` is (and those of [`crate::op::WATCH`] behind it); 0 in `b`: not.
pub const BUCKET_WATCHES: u8 = 1;

/// Which part of which group, as the key's first word has it: the group in [`FlowKey::in_port`], the part, little-endian, in
/// [`FlowKey::eth_type`].
#[inline(always)]
pub const fn part_word(group: u32, part: u16) -> u64 {
    group as u64 | (part as u64) << 32
}

/// The bits of [`part_word`].
pub const PART_MASK: u64 = 0xffff_ffff_ffff;

/// The group and the part of a [`part_word`].
#[inline(always)]
pub const fn part_of(word: u64) -> (u32, u16) {
    (word as u32, (word >> 32) as u16)
}

/// [`crate::RuleEntry::metadata`] of a part with choices: the group's type, how many such parts there are, and how many buckets.
#[inline(always)]
pub const fn choice_word(kind: u8, parts: u8, buckets: u16) -> u64 {
    kind as u64 | (parts as u64) << 8 | (buckets as u64) << 16
}

/// What flows are told by: addresses, protocol and ports, and the VLAN. The same on every host, and for all fragments of a packet.
#[inline(always)]
pub fn flow_hash(key: &FlowKey) -> u64 {
    let words = key.words();
    let ports = if key.frag & FRAG_ANY != 0 {
        0
    } else {
        words[7] & 0xffff_ffff
    };
    let mut hash = mix(0x5851_f42d_4c95_7f2d, words[0] >> 32);
    // Without TOS, and without what is behind the addresses.
    hash = mix(hash, words[1] & 0x00ff_ffff_ffff_ffff);
    hash = mix(hash, words[2] & 0x0000_ffff_ffff_ffff);
    hash = mix(hash, words[3]);
    hash = mix(hash, words[4]);
    hash = mix(hash, words[5]);
    hash = mix(hash, words[6]);
    mix(hash, ports)
}

/// Takes one more word into a hash, for which the order counts. Unlike the sums that rules are found by, it is the same in all versions: flows keep
/// their buckets.
#[inline(always)]
const fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A bucket's lot for a flow: the bucket whose lot divided by its weight is least gets the flow (weighted rendezvous hashing: the lot is
/// exponentially distributed). So buckets get flows by their weights, and where one comes or goes only flows to or from it move.
///
/// It is -log2 of a hash taken for a number from 0 to 1, with 24 bits behind the point; the logarithm within 0.4 %.
#[inline(always)]
pub fn bucket_lot(flow: u64, bucket: u32) -> u32 {
    let mut hash = mix(flow, bucket as u64 + 1);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 32;
    // 1 to 2^32.
    let x = (hash & 0xffff_ffff) + 1;
    let mut rest = x;
    let mut log = 0;
    let mut step = 32;
    while step > 0 {
        if rest >> step != 0 {
            rest >>= step;
            log += step;
        }
        step >>= 1;
    }
    // x = 2^log * (1 + f), f with 32 bits.
    let f = (x << (32 - log)) & 0xffff_ffff;
    // log2(1 + f) = f + f (1 - f) (0.4427 - 0.1640 f), right at both ends, and in slope.
    let bend = 1_901_361_000 - ((f * 704_374_636) >> 32);
    let curve = (((f * ((1 << 32) - f)) >> 32) * bend) >> 32;
    let whole = ((log as u64) << 24) + ((f + curve) >> 8);
    ((32u64 << 24) - whole.min(32 << 24)) as u32
}

/// Whether a bucket's lot and weight are better than another's. A weight of 0 never is.
#[inline(always)]
pub fn better(lot: u32, weight: u32, other_lot: u32, other_weight: u32) -> bool {
    (lot as u64) * (other_weight as u64) < (other_lot as u64) * (weight as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bucket of a flow.
    fn choose(flow: u64, weights: &[u32]) -> usize {
        let lots = weights
            .iter()
            .enumerate()
            .map(|(i, &w)| (i, bucket_lot(flow, i as u32), w));
        let best = lots.filter(|l| l.2 != 0).reduce(|best, l| {
            if better(l.1, l.2, best.1, best.2) {
                l
            } else {
                best
            }
        });
        best.unwrap().0
    }

    fn flows() -> impl Iterator<Item = u64> {
        (0..100_000u32).map(|i| {
            let mut key = FlowKey::default();
            key.ip_src[..4].copy_from_slice(&i.to_be_bytes());
            flow_hash(&key)
        })
    }

    #[test]
    fn lots_are_logarithms() {
        for i in 0..10_000u64 {
            let lot = bucket_lot(i, 0);
            assert!(lot <= 32 << 24);
        }
        // Exponentially distributed with mean 1 / ln 2.
        let mean =
            flows().map(|f| f64::from(bucket_lot(f, 3))).sum::<f64>() / 1e5 / f64::from(1 << 24);
        assert!((mean - core::f64::consts::LOG2_E).abs() < 0.02, "{mean}");
    }

    #[test]
    fn flows_are_shared_by_weight() {
        let weights = [1, 0, 2, 5, 100, 2];
        let mut counts = [0u32; 6];
        for flow in flows() {
            counts[choose(flow, &weights)] += 1;
        }
        let sum = f64::from(weights.iter().sum::<u32>());
        for (n, w) in counts.iter().zip(weights) {
            let wanted = 1e5 * f64::from(w) / sum;
            let slack = 5.0 * wanted.sqrt() + 0.01 * wanted;
            assert!((f64::from(*n) - wanted).abs() <= slack, "{counts:?}");
        }
    }

    #[test]
    fn only_flows_of_the_bucket_that_goes_move() {
        let (before, after) = ([3, 1, 4, 1, 5], [3, 1, 0, 1, 5]);
        for flow in flows() {
            let (a, b) = (choose(flow, &before), choose(flow, &after));
            assert!(a == b || a == 2);
        }
    }

    #[test]
    fn fragments_go_one_way() {
        let mut first = FlowKey {
            frag: FRAG_ANY,
            l4_src: [1, 2],
            ..FlowKey::default()
        };
        let hash = flow_hash(&first);
        first.l4_src = [0, 0];
        assert_eq!(flow_hash(&first), hash);
        first.ip_tos = 7;
        assert_eq!(flow_hash(&first), hash, "DSCP is no part of the flow");
        first.ip_proto = 17;
        assert_ne!(flow_hash(&first), hash);
    }

    #[test]
    fn part_words_are_where_the_key_has_them() {
        let key = FlowKey {
            in_port: 0x1234_5678,
            eth_type: 41u16.to_le_bytes(),
            ..FlowKey::default()
        };
        assert_eq!(key.words()[0] & PART_MASK, part_word(0x1234_5678, 41));
        assert_eq!(part_of(key.words()[0]), (0x1234_5678, 41));
    }
}
