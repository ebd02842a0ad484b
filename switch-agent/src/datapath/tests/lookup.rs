//! The table search, over the same memory and in the same steps as the kernel programs.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use lime_core::{Epoch, RuleId, SwitchId};
use switch_abi::{
    FlowKey, HASH_WHOLE, HashStep, MAX_CHAIN, RuleEntry, TableRef, hash_end, hash_word, visible,
};

use super::super::Datapath;
use super::super::state::Switch;

impl Datapath {
    /// The rule that a packet with this key meets in a table at a clock.
    pub(super) fn lookup(
        &self,
        switch: SwitchId,
        table: u8,
        key: &FlowKey,
        clock: Epoch,
    ) -> Option<(RuleId, RuleEntry)> {
        let maps = &self.store.maps;
        let slot = self.switches.get(&switch)?.slot;
        let word = maps
            .tables
            .u64_at(Switch::table_word(slot, table as usize), 0)
            .load(Ordering::Acquire);
        let run = TableRef::from_word(word);
        let mut best: Option<RuleEntry> = None;
        let (mut last, mut sum) = (u32::MAX, 0);
        for i in run.start..run.start + run.count {
            let tuple = maps.tuples.read(i);
            assert!(tuple.max_priority <= last, "tuples lie in falling priority");
            last = tuple.max_priority;
            if best.is_some_and(|b| u32::from(b.priority) >= tuple.max_priority) {
                break;
            }
            let (masked, n) = (tuple.mask.compact(key), tuple.mask.count as usize);
            sum = match tuple.steps.count {
                HASH_WHOLE => masked_sum(&tuple.mask.expand(), key),
                count => (0..count.into()).fold(sum & tuple.steps.keep, |sum, i| {
                    let word = key.words()[tuple.steps.offset[i] as usize / 8];
                    let HashStep { mask, factor } = tuple.steps.step[i];
                    sum.wrapping_add((word & mask).wrapping_mul(factor))
                }),
            };
            let hash = hash_end(sum, tuple.id);
            let mut slot = maps.buckets.get(hash & self.store.bucket_mask, 0);
            let mut steps = 0;
            while slot != 0 {
                steps += 1;
                assert!(steps <= MAX_CHAIN);
                let rule = maps.rules.read(slot);
                assert!(u32::from(rule.priority) <= tuple.max_priority || rule.tuple != tuple.id);
                if rule.hash == hash
                    && rule.tuple == tuple.id
                    && rule.key[..n] == masked[..n]
                    && visible(rule.valid_from, rule.valid_to, clock.0)
                {
                    if best.is_none_or(|b| rule.priority > b.priority) {
                        best = Some(rule);
                    }
                    break;
                }
                slot = maps.rules.get(slot, offset_of!(RuleEntry, next));
            }
        }
        best.map(|rule| (RuleId(rule.rule_id), rule))
    }
}

fn masked_sum(mask: &FlowKey, key: &FlowKey) -> u64 {
    let masked = key.masked(mask);
    let words = masked.words().iter().enumerate();
    words.fold(0, |sum, (at, &word)| hash_word(sum, at, word))
}
