//! Rules that this instance has promised not to match (consistency rule 14): a flag of the rule, in the kernel's memory, so that it outlives the agent.

use std::mem::offset_of;

use lime_core::{Epoch, NetworkId, RuleId};
use switch_abi::{RULE_LIVE, RULE_PROMISED, RuleEntry, visible};

use super::{Datapath, Result};

/// The word of four bytes that the flags are in, and their place in it.
const WORD: usize = offset_of!(RuleEntry, flags) & !3;
const BYTE: usize = offset_of!(RuleEntry, flags) & 3;

impl Datapath {
    /// Sets or clears the promise of rules; those that are not here are left out. Gives those that it was changed of. What was remembered of packets
    /// is forgotten; programs that were running may still do as before until a grace period is over.
    pub fn set_promised(
        &mut self,
        network: NetworkId,
        rules: impl IntoIterator<Item = RuleId>,
        promised: bool,
    ) -> Result<Vec<RuleId>> {
        let state = self.network(network)?;
        let mut changed = Vec::new();
        for id in rules {
            let Some(slot) = state.rules.get(id) else {
                continue;
            };
            let entries = &self.store.maps.rules;
            let mut word = entries.get(slot, WORD).to_ne_bytes();
            let before = word[BYTE];
            word[BYTE] = if promised {
                before | RULE_PROMISED
            } else {
                before & !RULE_PROMISED
            };
            if word[BYTE] != before {
                entries.publish(slot, WORD, u32::from_ne_bytes(word));
                changed.push(id);
            }
        }
        if !changed.is_empty() {
            self.store.bump_generation(state.slot);
        }
        Ok(changed)
    }

    /// The rules of a network that are promised, in no order.
    pub fn promised(&self, network: NetworkId) -> Result<Vec<RuleId>> {
        let rules = self.network(network)?.rules.iter();
        let promised = rules.filter(|&(_, slot)| {
            self.store.maps.rules.get(slot, WORD).to_ne_bytes()[BYTE] & RULE_PROMISED != 0
        });
        Ok(promised.map(|(id, _)| id).collect())
    }

    /// Whether packets that match the rule in this slot are still to wait: it is that rule, promised, and visible at the network's clock.
    pub fn is_awaited(&self, network: NetworkId, slot: u32, rule: RuleId) -> bool {
        let Ok(Epoch(clock)) = self.clock(network) else {
            return false;
        };
        if slot == 0 || slot >= self.store.rule_stride {
            return false;
        }
        let entry = self.store.maps.rules.read(slot);
        entry.live == RULE_LIVE
            && entry.rule_id == rule.0
            && entry.flags & RULE_PROMISED != 0
            && visible(entry.valid_from, entry.valid_to, clock)
    }
}
