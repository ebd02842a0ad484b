//! Reading counters: each is the sum over the CPUs.

use std::mem::offset_of;

use lime_core::{Epoch, NetworkId, PortId, RuleId, SwitchId};
use switch_abi::{MISS_TABLES, RuleEntry, miss_index};

use super::state::Store;
use super::{Datapath, PortCount, Result, RuleCount};

impl Store {
    /// Where the misses of a switch's tables are counted, and of which table each place is.
    fn miss_places(&self, switch_slot: u32) -> impl Iterator<Item = (u32, usize)> + use<> {
        let stride = self.maps.misses.len() / self.cpus;
        (0..self.cpus).flat_map(move |cpu| {
            let at = move |table| cpu * stride + miss_index(switch_slot, table);
            (0..MISS_TABLES).map(move |table| (at(table), table as usize))
        })
    }

    /// An instance that comes counts from zero.
    pub(crate) fn clear_misses(&self, switch_slot: u32) {
        for (index, _) in self.miss_places(switch_slot) {
            self.maps.misses.write(index, &0);
        }
    }
}

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
        let mut counts = Vec::new();
        for (rule, slot) in rules.iter() {
            if switch_slot.is_some_and(|s| self.store.maps.rules.get(slot, at) != s) {
                continue;
            }
            counts.push(self.count_at(rule, slot));
        }
        Ok(counts)
    }

    /// Counters of one rule, also of one that has ended and is not collected.
    pub fn rule_count(&self, network: NetworkId, rule: RuleId) -> Option<RuleCount> {
        let slot = self.network(network).ok()?.rules.get(rule)?;
        Some(self.count_at(rule, slot))
    }

    fn count_at(&self, rule: RuleId, slot: u32) -> RuleCount {
        let (mut packets, mut bytes) = (0u64, 0u64);
        for cpu in 0..self.store.cpus {
            let index = cpu * self.store.rule_stride + slot;
            let count = self.store.maps.rule_counters.read(index);
            packets = packets.wrapping_add(count.packets);
            bytes = bytes.wrapping_add(count.bytes);
        }
        RuleCount {
            rule,
            packets,
            bytes,
        }
    }

    /// Rules that have ended by this epoch and are not collected.
    pub fn ended_rules(&self, network: NetworkId, upto: Epoch) -> Result<Vec<RuleId>> {
        let ended = self.network(network)?.ended.iter();
        let ended = ended.take_while(|(to, _)| to.le(upto));
        let id = |slot: u32| RuleId(self.store.maps.rules.read(slot).rule_id);
        Ok(ended.map(|&(_, slot)| id(slot)).collect())
    }

    /// Rules that have an idle timeout, with it (seconds).
    pub fn idle_rules(&self, network: NetworkId) -> Result<Vec<(RuleId, u32)>> {
        let at = offset_of!(RuleEntry, idle_timeout);
        let rules = self.network(network)?.rules.iter();
        let timeout = |slot: u32| self.store.maps.rules.get(slot, at);
        let rules = rules.map(|(rule, slot)| (rule, timeout(slot)));
        Ok(rules.filter(|(_, timeout)| *timeout != 0).collect())
    }

    /// Packets that matched no rule in each table of a switch, since an instance of it is here.
    pub fn table_misses(
        &self,
        network: NetworkId,
        switch: SwitchId,
    ) -> Result<[u64; MISS_TABLES as usize]> {
        let slot = self.switch(network, switch)?.slot;
        let mut misses = [0u64; MISS_TABLES as usize];
        for (index, sum) in self.store.miss_places(slot) {
            let sum = &mut misses[sum];
            *sum = sum.wrapping_add(self.store.maps.misses.read(index));
        }
        Ok(misses)
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
}
