//! Detours: packets of an active instance that go to another meanwhile (consistency rule 20).

use std::mem::offset_of;

use lime_core::{Epoch, HostId, NetworkId, SwitchId};
use switch_abi::SwitchEntry;

use super::{Datapath, Result};

impl Datapath {
    /// Packets that come to the switch from now on go to the primary's instance, until [`leave_relay`](Self::leave_relay) with this epoch or a
    /// later one.
    pub fn enter_relay(
        &mut self,
        network: NetworkId,
        switch: SwitchId,
        epoch: Epoch,
        primary: HostId,
    ) -> Result<()> {
        let slot = self.switch(network, switch)?.slot;
        let network_slot = self.network(network)?.slot;
        let peer = self.peer_slot(primary)?;
        let switches = &self.store.maps.switches;
        switches.publish(slot, offset_of!(SwitchEntry, detour_epoch), epoch.0);
        switches.publish(slot, offset_of!(SwitchEntry, detour), peer);
        // What programs have remembered of their ways goes through the instance here.
        self.store.bump_generation(network_slot);
        Ok(())
    }

    /// Ends the network's detours for updates up to this epoch. The clock has been raised to it, and a grace period is over: a packet that had
    /// read an older one must not be processed here behind the detour.
    pub fn leave_relay(&mut self, network: NetworkId, epoch: Epoch) -> Result<()> {
        let known = self.network(network)?;
        let network_slot = known.slot;
        let switches = known.switches.iter();
        let slots: Vec<u32> = switches
            .filter_map(|s| Some(self.switches.get(s)?.slot))
            .collect();
        let mut ended = false;
        for slot in slots {
            let (detour, of) = self.detour(slot);
            if detour != 0 && of.le(epoch) {
                self.end_detour(slot);
                ended = true;
            }
        }
        if ended {
            self.store.bump_generation(network_slot);
        }
        Ok(())
    }

    /// The peer slot that the switch's packets go to, and the epoch of the update.
    fn detour(&self, slot: u32) -> (u32, Epoch) {
        let switches = &self.store.maps.switches;
        let epoch = switches.get(slot, offset_of!(SwitchEntry, detour_epoch));
        let detour = switches.get(slot, offset_of!(SwitchEntry, detour));
        (detour, Epoch(epoch))
    }

    pub(super) fn end_detour(&self, slot: u32) {
        let at = offset_of!(SwitchEntry, detour);
        self.store.maps.switches.publish(slot, at, 0);
    }
}
