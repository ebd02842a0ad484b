//! Reading counters: each is the sum over the CPUs.

use std::mem::offset_of;

use lime_core::{NetworkId, PortId, RuleId, SwitchId};
use switch_abi::{Action, RULE_LIVE, RuleEntry};

use super::{Datapath, PortCount, Result, RuleCount};

impl Datapath {
    /// Counters of all rules of a network or of one switch of it, ended but uncollected versions included; in no order.
    pub fn rule_counters(
        &self,
        network: NetworkId,
        switch: Option<SwitchId>,
    ) -> Result<Vec<RuleCount>> {
        let rules = &self.network(network)?.rules;
        let switch_slot = match switch {
            Some(id) => Some(self.switch(network, id)?.slot),
            None => None,
        };
        let at = offset_of!(RuleEntry, switch_slot);
        let mut counts = Vec::with_capacity(if switch.is_none() { rules.len() } else { 0 });
        for (&rule, &slot) in rules {
            if switch_slot.is_some_and(|s| self.store.maps.rules.get(slot, at) != s) {
                continue;
            }
            let (mut packets, mut bytes) = (0u64, 0u64);
            for cpu in 0..self.store.cpus {
                let index = cpu * self.store.rule_stride + slot;
                let count = self.store.maps.rule_counters.read(index);
                packets = packets.wrapping_add(count.packets);
                bytes = bytes.wrapping_add(count.bytes);
            }
            counts.push(RuleCount {
                rule,
                packets,
                bytes,
            });
        }
        Ok(counts)
    }

    /// Counters of all ports of a network, by rising id.
    pub fn port_counters(&self, network: NetworkId) -> Result<Vec<(PortId, PortCount)>> {
        let ports = &self.network(network)?.ports;
        Ok(ports
            .iter()
            .map(|(&id, &slot)| (id, self.port_count(slot)))
            .collect())
    }

    /// Drops of frames that belong to no port.
    pub fn stray_counters(&self) -> PortCount {
        self.port_count(0)
    }

    fn port_count(&self, slot: u32) -> PortCount {
        let mut sum = PortCount::default();
        for cpu in 0..self.store.cpus {
            let index = cpu * self.store.port_stride + slot;
            let count = self.store.maps.port_counters.read(index);
            sum.rx_packets = sum.rx_packets.wrapping_add(count.rx_packets);
            sum.rx_bytes = sum.rx_bytes.wrapping_add(count.rx_bytes);
            sum.tx_packets = sum.tx_packets.wrapping_add(count.tx_packets);
            sum.tx_bytes = sum.tx_bytes.wrapping_add(count.tx_bytes);
            for (sum, n) in sum.drops.iter_mut().zip(count.drops) {
                *sum = sum.wrapping_add(n);
            }
        }
        sum
    }

    /// The compiled actions of the rule in a slot, if it still is that rule: for events whose output was held back.
    pub fn rule_actions(&self, slot: u32, rule: RuleId) -> Option<Vec<Action>> {
        if slot == 0 || slot >= self.store.rule_stride {
            return None;
        }
        let entry = self.store.maps.rules.read(slot);
        if entry.live != RULE_LIVE || entry.rule_id != rule.0 {
            return None;
        }
        let count = (entry.action_count as usize).min(entry.actions.len());
        Some(entry.actions[..count].to_vec())
    }
}
