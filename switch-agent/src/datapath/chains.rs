//! Bucket chains of rule slots: short singly linked lists that programs walk while they change.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use switch_abi::{MAX_CHAIN, RuleEntry};

use super::state::Store;
use super::{DatapathError, Result};

/// Where in a chain a rule goes.
pub(crate) struct Position {
    /// Rule before it; 0: the bucket's word.
    pub(crate) after: u32,
    /// Rule behind it.
    pub(crate) next: u32,
}

/// What a rule's place in its chain depends on.
pub(crate) struct Place<'a> {
    pub(crate) hash: u32,
    pub(crate) tuple: u32,
    /// The words that its mask uses.
    pub(crate) key: &'a [u64],
    pub(crate) priority: u16,
}

/// Finds a rule's place in its chain, behind all rules of the same key with at least its priority.
pub(crate) fn position(store: &Store, bucket: u32, place: &Place<'_>) -> Result<Position> {
    let rules = &store.maps.rules;
    let head = store.maps.buckets.get(bucket, 0);
    let mut at = Position {
        after: 0,
        next: head,
    };
    let (mut before, mut rule, mut length) = (0, head, 0);
    let mut open = true;
    while rule != 0 {
        length += 1;
        if length >= MAX_CHAIN {
            return Err(DatapathError::no_space(
                "rules of one match or hash",
                u64::from(MAX_CHAIN),
                "remove rules with the same match, or collect ended ones",
            ));
        }
        let next = rules.get(rule, offset_of!(RuleEntry, next));
        if open && has_key(store, rule, place) {
            if priority(store, rule) >= place.priority {
                at = Position { after: rule, next };
            } else {
                at = Position {
                    after: before,
                    next: rule,
                };
                open = false;
            }
        }
        (before, rule) = (rule, next);
    }
    Ok(at)
}

fn has_key(store: &Store, rule: u32, place: &Place<'_>) -> bool {
    let rules = &store.maps.rules;
    let word = |i: usize| {
        let at = offset_of!(RuleEntry, key) + i * size_of::<u64>();
        rules.u64_at(rule, at).load(Ordering::Relaxed)
    };
    rules.get(rule, offset_of!(RuleEntry, hash)) == place.hash
        && rules.get(rule, offset_of!(RuleEntry, tuple)) == place.tuple
        && place.key.iter().enumerate().all(|(i, &key)| word(i) == key)
}

fn priority(store: &Store, rule: u32) -> u16 {
    let at = offset_of!(RuleEntry, priority);
    let [a, b, ..] = store.maps.rules.get(rule, at).to_ne_bytes();
    u16::from_ne_bytes([a, b])
}

/// Takes a rule out of its chain; who is at it still finds its way on.
pub(crate) fn unlink(store: &Store, slot: u32, entry: &RuleEntry) {
    let next_at = offset_of!(RuleEntry, next);
    let rules = &store.maps.rules;
    let bucket = entry.hash & store.bucket_mask;
    let (mut before, mut rule) = (0, store.maps.buckets.get(bucket, 0));
    while rule != 0 && rule != slot {
        (before, rule) = (rule, rules.get(rule, next_at));
    }
    if rule == 0 {
        return;
    }
    let next = rules.get(slot, next_at);
    match before {
        0 => store.maps.buckets.publish(bucket, 0, next),
        before => rules.publish(before, next_at, next),
    }
}
