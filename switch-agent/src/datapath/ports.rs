//! Ports: where the packets of a port number go.

use std::mem::offset_of;

use lime_core::{HostId, NetworkId, PortId, PortNo, SwitchId};
use switch_abi::{
    DEVICE_UNDERLAY, MAX_FLOOD, MAX_IFINDEX, PORT_DEAD, PORT_DOWN, PORT_LINK, PORT_LOCAL,
    PORT_NO_FLOOD, PORT_NONE, PORT_REMOTE, PeerEntry, PortEntry, SwitchEntry, TunnelPortKey,
};

use super::classifier::{release_port_if_unused, take_port};
use super::{Datapath, DatapathError, Place, PortSettings, Result};

impl Datapath {
    /// Makes or changes a port. Its switch and number are fixed for its life.
    pub fn set_port(&mut self, network: NetworkId, settings: &PortSettings) -> Result<()> {
        let known = self.check_port(network, settings)?;
        // Slots of peers that turn out not to be needed stay: hosts are few.
        let peer = match settings.place {
            Place::Remote(host) => self.peer_slot(host)?,
            _ => 0,
        };
        let slot = match known {
            Some(slot) => slot,
            None => self.new_port(network, settings)?,
        };
        let mut flags = 0;
        if settings.down {
            flags |= PORT_DOWN;
        }
        if settings.dead {
            flags |= PORT_DEAD;
        }
        if settings.no_flood {
            flags |= PORT_NO_FLOOD;
        }
        let old = self.store.maps.ports.read(slot);
        self.put(slot, offset_of!(PortEntry, mtu), settings.mtu);
        self.put(slot, offset_of!(PortEntry, flags), flags);
        // What belongs to a kind is in place before the kind is.
        match settings.place {
            Place::Local { ifindex } => {
                self.put(slot, offset_of!(PortEntry, link_id), 0);
                self.put(slot, offset_of!(PortEntry, ifindex), ifindex);
                self.put(slot, offset_of!(PortEntry, kind), PORT_LOCAL);
                self.store.maps.devices.publish(ifindex, 0, slot);
            }
            Place::Remote(_) => {
                self.put(slot, offset_of!(PortEntry, link_id), 0);
                self.put(slot, offset_of!(PortEntry, peer), peer);
                self.put(slot, offset_of!(PortEntry, kind), PORT_REMOTE);
            }
            Place::Link(other) => {
                self.put(slot, offset_of!(PortEntry, link_id), other.0);
            }
        }
        if old.kind == PORT_LOCAL
            && settings.place
                != (Place::Local {
                    ifindex: old.ifindex,
                })
        {
            self.clear_device(old.ifindex, slot);
        }
        self.join_link(network, settings.id, slot, old.link_id)?;
        let network_slot = self.network(network)?.slot;
        self.store.bump_generation(network_slot);
        Ok(())
    }

    /// Checks everything that can be refused without having changed anything, and gives the port's slot if it is known.
    fn check_port(&self, network: NetworkId, settings: &PortSettings) -> Result<Option<u32>> {
        let PortSettings {
            id,
            switch,
            port_no,
            ..
        } = *settings;
        let what = || format!("port {id} (number {port_no} of switch {switch})");
        let switch_slot = self.switch(network, switch)?.slot;
        if id.0 == 0 || !port_no.is_port() {
            return Err(DatapathError::invalid(
                what(),
                "ids start at 1, numbers are 1 to 0xffffff00, and that of LOCAL",
            ));
        }
        let known = self.network(network)?.ports.get(&id).copied();
        if let Some(slot) = known {
            let entry = self.store.maps.ports.read(slot);
            if (entry.switch_slot, entry.port_no) != (switch_slot, port_no.0) {
                return Err(DatapathError::invalid(
                    what(),
                    "a port keeps its switch and number: remove it first",
                ));
            }
        } else {
            if let Some(&slot) = self.numbers.slots.get(&(switch_slot, port_no.0)) {
                let holder = self.store.maps.ports.read(slot).id;
                if holder != 0 {
                    return Err(DatapathError::in_use(
                        format!("number {port_no} of switch {switch}"),
                        format!("port {holder}"),
                    ));
                }
            }
            if self.switch(network, switch)?.port_count >= MAX_FLOOD {
                return Err(DatapathError::no_space(
                    format!("ports of switch {switch}"),
                    u64::from(MAX_FLOOD),
                    "use another switch and link them",
                ));
            }
        }
        match settings.place {
            Place::Local { ifindex } => {
                if !(1..=MAX_IFINDEX).contains(&ifindex) {
                    return Err(DatapathError::unsupported(
                        format!("device index {ifindex}"),
                        format!("devices up to index {MAX_IFINDEX} can be ports"),
                    ));
                }
                match self.store.maps.devices.read(ifindex) {
                    0 => {}
                    DEVICE_UNDERLAY => {
                        return Err(DatapathError::in_use(
                            format!("device {ifindex}"),
                            "the underlay",
                        ));
                    }
                    holder if Some(holder) != known => {
                        let entry = self.store.maps.ports.read(holder);
                        return Err(DatapathError::in_use(
                            format!("device {ifindex}"),
                            format!("port {}", entry.id),
                        ));
                    }
                    _ => {}
                }
            }
            Place::Link(other) if other == id || other.0 == 0 => {
                return Err(DatapathError::invalid(
                    what(),
                    "a link has two different ends",
                ));
            }
            Place::Link(_) | Place::Remote(_) => {}
        }
        Ok(known)
    }

    /// A slot for a port that is not known yet: the one that rules have reserved for its number, if they have.
    fn new_port(&mut self, network: NetworkId, settings: &PortSettings) -> Result<u32> {
        let network_slot = self.network(network)?.slot;
        let switch_slot = self.switch(network, settings.switch)?.slot;
        let number = (switch_slot, settings.port_no.0);
        let slot = match self.numbers.slots.get(&number) {
            Some(&slot) => slot,
            None => {
                let slot = take_port(&mut self.store)?;
                let entry = PortEntry {
                    network: network_slot,
                    switch_slot,
                    port_no: settings.port_no.0,
                    kind: PORT_NONE,
                    ..PortEntry::default()
                };
                self.store.maps.ports.write(slot, &entry);
                self.numbers.slots.insert(number, slot);
                slot
            }
        };
        let key = TunnelPortKey {
            network: network_slot,
            port: settings.id.0,
        };
        if let Err(e) = self.store.maps.tunnel_ports.insert(key, slot) {
            release_port_if_unused(&mut self.store, &mut self.numbers, slot);
            return Err(e);
        }
        self.put(slot, offset_of!(PortEntry, id), settings.id.0);
        self.push_port(switch_slot, slot);
        self.network_mut(network)?.ports.insert(settings.id, slot);
        if let Some(switch) = self.switches.get_mut(&settings.switch) {
            switch.port_count += 1;
        }
        Ok(slot)
    }

    /// Puts a port at the head of its switch's list.
    pub(crate) fn push_port(&mut self, switch_slot: u32, slot: u32) {
        let switches = &self.store.maps.switches;
        let first_at = offset_of!(SwitchEntry, first_port);
        let first = switches.get(switch_slot, first_at);
        self.put(slot, offset_of!(PortEntry, next), first);
        switches.publish(switch_slot, first_at, slot);
    }

    /// Takes a port out of its switch's list. Its own `next` stays for who is at it.
    pub(crate) fn unlink_port(&mut self, switch_slot: u32, slot: u32) {
        let next_at = offset_of!(PortEntry, next);
        let first_at = offset_of!(SwitchEntry, first_port);
        let (switches, ports) = (&self.store.maps.switches, &self.store.maps.ports);
        let (mut before, mut port) = (0, switches.get(switch_slot, first_at));
        while port != 0 && port != slot {
            (before, port) = (port, ports.get(port, next_at));
        }
        if port == 0 {
            return;
        }
        let next = ports.get(slot, next_at);
        match before {
            0 => switches.publish(switch_slot, first_at, next),
            before => ports.publish(before, next_at, next),
        }
    }

    /// Joins or parts the ends of links after `slot` has changed. `old`: what the other end was before.
    fn join_link(&mut self, network: NetworkId, id: PortId, slot: u32, old: u32) -> Result<()> {
        let kind_at = offset_of!(PortEntry, kind);
        let entry = self.store.maps.ports.read(slot);
        let ports = &self.network(network)?.ports;
        let other = ports.get(&PortId(entry.link_id)).copied();
        let old = ports.get(&PortId(old)).copied();
        if let Some(old) = old.filter(|_| old != other) {
            let old_entry = self.store.maps.ports.read(old);
            if old_entry.link_id == id.0 {
                self.put(old, kind_at, PORT_NONE);
            }
        }
        if entry.link_id == 0 {
            return Ok(());
        }
        let other = other.filter(|&other| self.store.maps.ports.read(other).link_id == id.0);
        match other {
            Some(other) => {
                for (this, that) in [(slot, other), (other, slot)] {
                    self.put(this, offset_of!(PortEntry, link), that);
                    self.put(this, kind_at, PORT_LINK);
                }
            }
            None => self.put(slot, kind_at, PORT_NONE),
        }
        Ok(())
    }

    /// Removes a port; one that is not here is fine. What rules output to its number is dropped from then on ("port-down").
    pub fn remove_port(&mut self, network: NetworkId, port: PortId) -> Result<()> {
        let network_slot = self.network(network)?.slot;
        let Some(slot) = self.network_mut(network)?.ports.remove(&port) else {
            return Ok(());
        };
        let entry = self.store.maps.ports.read(slot);
        self.put(slot, offset_of!(PortEntry, kind), PORT_NONE);
        if entry.kind == PORT_LOCAL {
            self.clear_device(entry.ifindex, slot);
        }
        self.put(slot, offset_of!(PortEntry, link_id), 0);
        self.join_link(network, port, slot, entry.link_id)?;
        let key = TunnelPortKey {
            network: network_slot,
            port: port.0,
        };
        self.unlink_port(entry.switch_slot, slot);
        let switch = SwitchId(self.store.maps.switches.read(entry.switch_slot).id);
        if let Some(switch) = self.switches.get_mut(&switch) {
            switch.port_count = switch.port_count.saturating_sub(1);
        }
        self.put(slot, offset_of!(PortEntry, id), 0);
        release_port_if_unused(&mut self.store, &mut self.numbers, slot);
        self.store.bump_generation(network_slot);
        self.store.maps.tunnel_ports.remove(&key)
    }

    /// Ports of a network that have been set, as they were set, by rising id.
    pub fn ports(&self, network: NetworkId) -> Result<Vec<PortSettings>> {
        let ports = &self.network(network)?.ports;
        Ok(ports.values().map(|&slot| self.settings(slot)).collect())
    }

    fn settings(&self, slot: u32) -> PortSettings {
        let entry = self.store.maps.ports.read(slot);
        let place = match entry.kind {
            _ if entry.link_id != 0 => Place::Link(PortId(entry.link_id)),
            PORT_REMOTE => {
                let host_at = offset_of!(PeerEntry, host);
                Place::Remote(HostId(self.store.maps.peers.get(entry.peer, host_at)))
            }
            _ => Place::Local {
                ifindex: entry.ifindex,
            },
        };
        PortSettings {
            id: PortId(entry.id),
            switch: SwitchId(self.store.maps.switches.read(entry.switch_slot).id),
            port_no: PortNo(entry.port_no),
            place,
            down: entry.flags & PORT_DOWN != 0,
            dead: entry.flags & PORT_DEAD != 0,
            no_flood: entry.flags & PORT_NO_FLOOD != 0,
            mtu: entry.mtu,
        }
    }

    /// The port in a slot, as compiled actions name it.
    pub fn port_at(&self, slot: u32) -> Option<PortId> {
        if slot == 0 || slot >= self.store.port_stride {
            return None;
        }
        let id = self.store.maps.ports.read(slot).id;
        (id != 0).then_some(PortId(id))
    }

    /// Ports of one switch.
    pub(crate) fn ports_of(&self, network: NetworkId, switch_slot: u32) -> Result<Vec<PortId>> {
        let at = offset_of!(PortEntry, switch_slot);
        let ports = &self.network(network)?.ports;
        Ok(ports
            .iter()
            .filter(|&(_, &slot)| self.store.maps.ports.get(slot, at) == switch_slot)
            .map(|(&id, _)| id)
            .collect())
    }

    fn clear_device(&self, ifindex: u32, slot: u32) {
        if self.store.maps.devices.read(ifindex) == slot {
            self.store.maps.devices.publish(ifindex, 0, 0);
        }
    }

    fn put(&self, slot: u32, offset: usize, value: u32) {
        self.store.maps.ports.publish(slot, offset, value);
    }
}
