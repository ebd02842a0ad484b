//! Ports, links, networks and peers.

use std::mem::offset_of;

use lime_core::{Epoch, HostId, NetworkId, PortId};
use switch_abi::{
    MAX_FLOOD, PORT_LINK, PORT_LOCAL, PORT_NONE, PORT_REMOTE, PortEntry, SwitchEntry,
    TunnelPeerKey, TunnelPortKey,
};

use super::super::networks::source_bytes;
use super::super::{Datapath, DatapathError, PeerRoute};
use super::*;

impl Datapath {
    fn entry(&self, port: u32) -> PortEntry {
        let slot = self.network(NET).unwrap().ports[&PortId(port)];
        self.store.maps.ports.read(slot)
    }

    /// Port numbers in a switch's list.
    pub(super) fn listed(&self, switch: SwitchId) -> Vec<u32> {
        let at = offset_of!(SwitchEntry, first_port);
        let mut slot = self
            .store
            .maps
            .switches
            .get(self.switches[&switch].slot, at);
        let mut numbers = Vec::new();
        while slot != 0 {
            let entry = self.store.maps.ports.read(slot);
            numbers.push(entry.port_no);
            slot = entry.next;
        }
        numbers.sort_unstable();
        numbers
    }
}

#[test]
fn a_rule_may_name_a_port_before_there_is_one() {
    let mut dp = datapath();
    dp.stage(NET, Epoch(1), Some(SWITCH), &[(id(1), to_mac(1, 5))], &[])
        .unwrap();
    let slot = dp.network(NET).unwrap().rules.get(id(1)).unwrap();
    let target = dp.store.maps.rules.read(slot).actions[0].b;
    assert_eq!(dp.port_at(target), None);
    assert!(dp.listed(SWITCH).is_empty(), "floods do not know it");
    dp.set_port(NET, &port(5, SWITCH, Place::Local { ifindex: 33 }))
        .unwrap();
    assert_eq!(dp.port_at(target), Some(PortId(5)));
    assert_eq!(dp.store.maps.devices.read(33), target);
    assert_eq!(dp.listed(SWITCH), [5]);
    dp.remove_port(NET, PortId(5)).unwrap();
    assert_eq!(dp.store.maps.devices.read(33), 0);
    assert_eq!(dp.store.maps.ports.read(target).kind, PORT_NONE);
    assert!(dp.listed(SWITCH).is_empty());
    dp.set_port(NET, &port(5, SWITCH, Place::Local { ifindex: 34 }))
        .unwrap();
    assert_eq!(dp.port_at(target), Some(PortId(5)), "still the same slot");
}

#[test]
fn a_port_moves_between_hosts() {
    let mut dp = datapath();
    let host = HostId(3);
    dp.set_port(NET, &port(1, SWITCH, Place::Local { ifindex: 33 }))
        .unwrap();
    dp.set_port(NET, &port(1, SWITCH, Place::Remote(host)))
        .unwrap();
    let entry = dp.entry(1);
    assert_eq!(
        (entry.kind, entry.peer),
        (PORT_REMOTE, dp.peers[&host].slot)
    );
    assert_eq!(dp.store.maps.devices.read(33), 0);
    assert!(matches!(
        dp.remove_peer(host),
        Err(DatapathError::InUse { .. })
    ));
    assert_eq!(
        dp.ports(NET).unwrap(),
        [port(1, SWITCH, Place::Remote(host))]
    );
    dp.set_port(NET, &port(1, SWITCH, Place::Local { ifindex: 35 }))
        .unwrap();
    assert_eq!((dp.entry(1).kind, dp.entry(1).ifindex), (PORT_LOCAL, 35));
    dp.remove_peer(host).unwrap();
}

#[test]
fn links_join_when_both_ends_are_there() {
    let mut dp = datapath();
    dp.set_switch(NET, &instance(OTHER)).unwrap();
    dp.set_port(NET, &port(1, SWITCH, Place::Link(PortId(2))))
        .unwrap();
    assert_eq!(dp.entry(1).kind, PORT_NONE);
    dp.set_port(NET, &port(2, OTHER, Place::Link(PortId(1))))
        .unwrap();
    let slots = &dp.network(NET).unwrap().ports;
    let (one, two) = (slots[&PortId(1)], slots[&PortId(2)]);
    assert_eq!((dp.entry(1).kind, dp.entry(1).link), (PORT_LINK, two));
    assert_eq!((dp.entry(2).kind, dp.entry(2).link), (PORT_LINK, one));
    dp.remove_port(NET, PortId(2)).unwrap();
    assert_eq!(dp.entry(1).kind, PORT_NONE);
    dp.set_port(NET, &port(2, OTHER, Place::Link(PortId(1))))
        .unwrap();
    assert_eq!(dp.entry(1).kind, PORT_LINK);
    assert_eq!(dp.ports(NET).unwrap()[0].place, Place::Link(PortId(2)));
}

#[test]
fn numbers_devices_and_floods_are_guarded() {
    let mut dp = datapath();
    dp.set_port(NET, &port(1, SWITCH, Place::Local { ifindex: 33 }))
        .unwrap();
    let refused = |dp: &mut Datapath, settings| dp.set_port(NET, &settings).unwrap_err();
    let mut same_number = port(2, SWITCH, Place::Local { ifindex: 34 });
    same_number.port_no = PortNo(1);
    assert!(matches!(
        refused(&mut dp, same_number),
        DatapathError::InUse { .. }
    ));
    let same_device = port(2, SWITCH, Place::Local { ifindex: 33 });
    assert!(matches!(
        refused(&mut dp, same_device),
        DatapathError::InUse { .. }
    ));
    let far = port(2, SWITCH, Place::Local { ifindex: 65536 });
    assert!(matches!(
        refused(&mut dp, far),
        DatapathError::Unsupported { .. }
    ));
    let mut renumbered = port(1, SWITCH, Place::Local { ifindex: 33 });
    renumbered.port_no = PortNo(9);
    assert!(matches!(
        refused(&mut dp, renumbered),
        DatapathError::Invalid { .. }
    ));
    for n in 2..=MAX_FLOOD {
        dp.set_port(NET, &port(n, SWITCH, Place::Local { ifindex: 100 + n }))
            .unwrap();
    }
    let one_more = port(MAX_FLOOD + 1, SWITCH, Place::Local { ifindex: 99 });
    assert!(matches!(
        refused(&mut dp, one_more),
        DatapathError::NoSpace { .. }
    ));
}

#[test]
fn members_are_the_tunnel_peers_of_the_network() {
    let mut dp = datapath();
    let peers = |dp: &Datapath| {
        let mut keys: Vec<_> = dp.store.maps.tunnel_peers.entries().unwrap();
        keys.sort_by_key(|(k, _)| (k.source, k.vni));
        keys.into_iter()
            .map(|(k, _)| (k.source[3], k.vni))
            .collect::<Vec<_>>()
    };
    let member = |n: u8| (HostId(u32::from(n)), [10, 0, 0, n].into());
    dp.set_members(NET, &[member(1), member(2)]).unwrap();
    dp.set_members(NET, &[member(2), member(3)]).unwrap();
    assert_eq!(peers(&dp), [(2, 100), (3, 100)]);
    let route = PeerRoute {
        ifindex: 4,
        mtu: 1500,
        src_mac: [2; 6],
        dst_mac: [2; 6],
        src: [169, 254, 0, 1].into(),
        dst: [169, 254, 0, 2].into(),
    };
    dp.set_recirculation(5, &route).unwrap();
    dp.set_network(NET, 101, false).unwrap();
    assert_eq!(peers(&dp), [(2, 101), (3, 101), (1, 101)]);
    dp.set_network(NetworkId(8), 102, false).unwrap();
    let own = TunnelPeerKey {
        source: source_bytes(route.src),
        vni: 102,
    };
    let entries = dp.store.maps.tunnel_peers.entries().unwrap();
    assert!(entries.iter().any(|(k, _)| *k == own));
    assert!(dp.set_network(NetworkId(9), 102, false).is_err());
    dp.remove_network(NET).unwrap();
    assert_eq!(peers(&dp), [(1, 102)]);
}

#[test]
fn nothing_is_left_of_a_removed_network() {
    let mut dp = datapath();
    let empty = Datapath::in_memory(&limits()).unwrap().capacity();
    let generation = dp.store.maps.networks.read(1).generation;
    dp.set_port(NET, &port(1, SWITCH, Place::Local { ifindex: 33 }))
        .unwrap();
    let rules: Vec<_> = (1..50)
        .map(|n| (id(n), to_mac(n.into(), n as u32)))
        .collect();
    dp.stage(NET, Epoch(1), Some(SWITCH), &rules, &[]).unwrap();
    dp.remove_network(NET).unwrap();
    assert_eq!(dp.capacity(), empty);
    assert_eq!(dp.store.maps.devices.read(33), 0);
    assert!(dp.store.maps.tunnel_ports.entries().unwrap().is_empty());
    assert!((0..dp.store.maps.buckets.len()).all(|b| dp.store.maps.buckets.read(b) == 0));
    assert!((0..dp.store.maps.tables.len()).all(|t| dp.store.maps.tables.read(t) == 0));
    dp.set_network(NET, 100, false).unwrap();
    let slot = dp.network(NET).unwrap().slot;
    assert_eq!(slot, 1);
    assert_ne!(dp.store.maps.networks.read(slot).generation, generation);
}

#[test]
fn tunnel_ports_follow_the_ports() {
    let mut dp = datapath();
    dp.set_port(NET, &port(6, SWITCH, Place::Remote(HostId(2))))
        .unwrap();
    let key = TunnelPortKey {
        network: dp.network(NET).unwrap().slot,
        port: 6,
    };
    let slot = dp.network(NET).unwrap().ports[&PortId(6)];
    assert_eq!(dp.store.maps.tunnel_ports.entries().unwrap(), [(key, slot)]);
    dp.remove_switch(NET, SWITCH).unwrap();
    assert!(dp.store.maps.tunnel_ports.entries().unwrap().is_empty());
}
