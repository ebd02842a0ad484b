//! Switches: whether an instance is here, from when to when it processes packets, and where they go otherwise.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use lime_core::{Epoch, NetworkId, SwitchId};
use switch_abi::{
    SWITCH_ACTIVE, SWITCH_GROUP_TELLS, SWITCH_HOLD, SWITCH_INVALID_TTL, SWITCH_LOADING,
    SWITCH_NONE, SWITCH_RELAY, SwitchEntry,
};

use super::classifier::Writer;
use super::networks::no_network;
use super::state::Switch;
use super::{Datapath, DatapathError, Result, SwitchSettings};

impl Datapath {
    /// Makes or changes a switch. Without `instance`, rules that it had are removed (waits for a grace period then).
    pub fn set_switch(&mut self, network: NetworkId, settings: &SwitchSettings) -> Result<()> {
        let network_slot = self.network(network)?.slot;
        let id = settings.id;
        if id.0 == 0 {
            return Err(DatapathError::invalid("switch 0", "ids start at 1"));
        }
        if let Some(switch) = self.switches.get(&id)
            && switch.network != network
        {
            return Err(DatapathError::in_use(
                format!("switch {id}"),
                format!("network {}", switch.network),
            ));
        }
        let relay_peer = match settings.relay_host {
            Some(host) => self.peer_slot(host)?,
            None => 0,
        };
        let slot = match self.switches.get(&id) {
            Some(switch) => switch.slot,
            None => self.new_switch(network, network_slot, id)?,
        };
        let loading = self.switch(network, id)?.loading.is_some();
        let state = match (settings.instance, relay_peer) {
            (true, _) => SWITCH_ACTIVE,
            (false, 0) => SWITCH_NONE,
            (false, _) => SWITCH_RELAY,
        };
        let switches = &self.store.maps.switches;
        let mut flags = switches.get(slot, offset_of!(SwitchEntry, flags)) & SWITCH_GROUP_TELLS;
        if settings.hold {
            flags |= SWITCH_HOLD;
        }
        if settings.packet_ins.invalid_ttl {
            flags |= SWITCH_INVALID_TTL;
        }
        if loading && settings.instance {
            flags |= SWITCH_LOADING;
        }
        let burst = self.event_burst(settings.packet_ins.burst);
        let switches = &self.store.maps.switches;
        let before = switches.get(slot, offset_of!(SwitchEntry, event_burst));
        if before != burst {
            // What has been taken stays taken, to be given back.
            let more = burst.wrapping_sub(before);
            let budget = switches.u32_at(slot, offset_of!(SwitchEntry, event_budget));
            budget.fetch_add(more, Ordering::AcqRel);
            switches.publish(slot, offset_of!(SwitchEntry, event_burst), burst);
        }
        // The bounds are in place before the state that makes programs look at them.
        switches.publish(slot, offset_of!(SwitchEntry, relay_peer), relay_peer);
        switches.publish(
            slot,
            offset_of!(SwitchEntry, join_epoch),
            settings.join_epoch.0,
        );
        switches.publish(
            slot,
            offset_of!(SwitchEntry, retire_epoch),
            settings.retire_epoch.0,
        );
        switches.publish(slot, offset_of!(SwitchEntry, flags), flags);
        switches.publish(slot, offset_of!(SwitchEntry, state), state);
        self.store.bump_generation(network_slot);
        if !settings.instance {
            self.end_detour(slot);
            self.clear_switch(network, id)?;
            self.store.reap()?;
        }
        Ok(())
    }

    /// A burst as far as the event ring allows it: no switch fills more than a quarter. 0: there is no limit.
    fn event_burst(&self, wanted: u32) -> u32 {
        wanted.min(self.limits.event_ring_bytes / 4)
    }

    /// Gives a switch back what its events took ([`switch_abi::event_cost`]); never more than its burst.
    pub fn give_back_events(&self, network: NetworkId, switch: SwitchId, bytes: u32) -> Result<()> {
        let slot = self.switch(network, switch)?.slot;
        let switches = &self.store.maps.switches;
        let burst = switches.get(slot, offset_of!(SwitchEntry, event_burst)) as i32;
        let budget = switches.u32_at(slot, offset_of!(SwitchEntry, event_budget));
        let given =
            |budget: u32| Some((budget as i32).saturating_add_unsigned(bytes).min(burst) as u32);
        // It never refuses: `given` always has a value.
        let _ = budget.fetch_update(Ordering::AcqRel, Ordering::Acquire, given);
        Ok(())
    }

    fn new_switch(&mut self, network: NetworkId, network_slot: u32, id: SwitchId) -> Result<u32> {
        let limit = self.limits.switches;
        let slot = self
            .store
            .take(
                |pools| &mut pools.switches,
                || {
                    DatapathError::no_space(
                        "switches",
                        u64::from(limit),
                        "start the agent with larger limits",
                    )
                },
            )?
            .index;
        let entry = SwitchEntry {
            id: id.0,
            network: network_slot,
            state: SWITCH_NONE,
            ..SwitchEntry::default()
        };
        self.store.maps.switches.write(slot, &entry);
        self.switches.insert(id, Switch::new(network, slot));
        self.network_mut(network)?.switches.insert(id);
        Ok(slot)
    }

    /// Removes a switch with its ports and rules; one that is not here is fine. Waits for a grace period.
    pub fn remove_switch(&mut self, network: NetworkId, switch: SwitchId) -> Result<()> {
        if !self.network(network)?.switches.contains(&switch) {
            return Ok(());
        }
        self.unlink_switch(network, switch)?;
        self.store.reap()
    }

    /// Switches of a network, rising.
    pub fn switches(&self, network: NetworkId) -> Result<Vec<SwitchId>> {
        Ok(self.network(network)?.switches.iter().copied().collect())
    }

    /// Takes a switch out of everything that programs come by; its slots are free after a grace period.
    pub(crate) fn unlink_switch(&mut self, network: NetworkId, id: SwitchId) -> Result<()> {
        let slot = self.switch(network, id)?.slot;
        let network_slot = self.network(network)?.slot;
        let state_at = offset_of!(SwitchEntry, state);
        self.store
            .maps
            .switches
            .publish(slot, state_at, SWITCH_NONE);
        for port in self.ports_of(network, slot)? {
            self.remove_port(network, port)?;
        }
        self.clear_switch(network, id)?;
        self.switches.remove(&id);
        self.network_mut(network)?.switches.remove(&id);
        self.store.bump_generation(network_slot);
        self.store
            .maps
            .switches
            .publish(slot, offset_of!(SwitchEntry, id), 0);
        self.store.limbo.switches.push(slot);
        Ok(())
    }

    /// Removes all rules of a switch.
    pub(crate) fn clear_switch(&mut self, network: NetworkId, id: SwitchId) -> Result<()> {
        let mut writer = self.writer(network, id)?;
        writer.switch.loading = None;
        writer.clear()?;
        let slot = writer.network.slot;
        let switch_slot = writer.switch.slot;
        self.store.clear_misses(switch_slot);
        self.store.bump_generation(slot);
        Ok(())
    }

    /// Whether the instance here may be processing packets now.
    pub(crate) fn processes(&self, network_slot: u32, switch_slot: u32) -> bool {
        let clock = self.clock_of(network_slot);
        let entry = self.store.maps.switches.read(switch_slot);
        let (join, retire) = (Epoch(entry.join_epoch), Epoch(entry.retire_epoch));
        entry.state == SWITCH_ACTIVE
            && (join == Epoch::ZERO || join.le(clock))
            && (retire == Epoch::ZERO || !retire.le(clock))
    }

    /// Whether an instance is here, processing or not.
    pub(crate) fn is_instance(&self, switch_slot: u32) -> bool {
        let at = offset_of!(SwitchEntry, state);
        self.store.maps.switches.get(switch_slot, at) == SWITCH_ACTIVE
    }

    pub(crate) fn switch(&self, network: NetworkId, id: SwitchId) -> Result<&Switch> {
        self.switches
            .get(&id)
            .filter(|switch| switch.network == network)
            .ok_or_else(|| no_switch(network, id))
    }

    /// What it takes to write rules of a switch.
    pub(crate) fn writer(&mut self, network: NetworkId, id: SwitchId) -> Result<Writer<'_>> {
        Ok(Writer {
            store: &mut self.store,
            numbers: &mut self.numbers,
            network: self
                .networks
                .get_mut(&network)
                .ok_or_else(|| no_network(network))?,
            switch: self
                .switches
                .get_mut(&id)
                .filter(|switch| switch.network == network)
                .ok_or_else(|| no_switch(network, id))?,
        })
    }
}

fn no_switch(network: NetworkId, id: SwitchId) -> DatapathError {
    DatapathError::not_found(format!("switch {id} of network {network}"))
}
