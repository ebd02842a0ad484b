//! Networks whose packets meet outside LIME too: these need to be strict.

use std::collections::BTreeSet;

use crate::{Consistency, HostId, PortId, SwitchId};

use super::{Network, Place, Port};

/// Two ports that lead outside, on different hosts, joined by switches: who is outside can compare what the hosts do by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// One.
    pub first: PortId,
    /// The other.
    pub second: PortId,
    /// A switch between them runs on several hosts now; else it would do so only while it migrates.
    pub now: bool,
}

/// Whether the network is causal, and packets can meet outside that its switches have handled on different hosts.
pub fn needs_strict(network: &Network) -> Option<Outside> {
    if network.consistency != Consistency::Causal {
        return None;
    }
    let external: Vec<(&Port, HostId)> = network
        .ports
        .values()
        .filter(|p| p.external)
        .filter_map(|p| Some((p, p.device()?.host)))
        .collect();
    let mut would = None;
    for (i, (first, at)) in external.iter().enumerate() {
        let joined = joined(network, first.switch);
        for (second, other) in &external[i + 1..] {
            if at == other || !joined.contains(&second.switch) {
                continue;
            }
            let found = Outside {
                first: first.id,
                second: second.id,
                now: joined.iter().any(|s| has_several_instances(network, *s)),
            };
            if found.now {
                return Some(found);
            }
            would.get_or_insert(found);
        }
    }
    would
}

fn has_several_instances(network: &Network, switch: SwitchId) -> bool {
    let switch = network.switches.get(&switch);
    switch.is_some_and(|s| s.instances.len() > 1)
}

/// The switch, and those that links lead to from there.
fn joined(network: &Network, from: SwitchId) -> BTreeSet<SwitchId> {
    let mut found = BTreeSet::from([from]);
    let mut todo = vec![from];
    while let Some(switch) = todo.pop() {
        for port in network.ports_of(switch) {
            if let Place::Link(peer) = port.place
                && let Some(peer) = network.ports.get(&peer)
                && found.insert(peer.switch)
            {
                todo.push(peer.switch);
            }
        }
    }
    found
}

impl Outside {
    /// What an operator is to know and do.
    pub fn describe(&self, network: &Network, host_name: impl Fn(HostId) -> String) -> String {
        let port = |id: PortId| {
            let port = network.ports.get(&id);
            let host = port.and_then(Port::device).map(|d| host_name(d.host));
            let name = port.map(|p| network.port_name(p)).unwrap_or_default();
            format!("{name} on host {}", host.unwrap_or_default())
        };
        let when = if self.now {
            "may see its switches change at different times on different hosts"
        } else {
            "may see its switches change at different times on two hosts while they migrate"
        };
        format!(
            "ports {} and {} both lead outside, and network {} is causal: who is there {when}; to rule that out, make a network with --consistency strict instead",
            port(self.first),
            port(self.second),
            network.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Device, InstanceState, PacketIns, Switch};
    use crate::{NetworkId, PortAttach, PortNo};

    fn network() -> Network {
        let mut network = Network::new(NetworkId(1), "n".into(), Consistency::Causal, 7);
        for id in [1, 2] {
            let switch = Switch {
                id: SwitchId(id),
                name: format!("s{id}"),
                instances: [(HostId(1), InstanceState::Active(None))].into(),
                packet_ins: PacketIns::default(),
            };
            network.switches.insert(switch.id, switch);
        }
        network
    }

    fn put(network: &mut Network, switch: u32, place: Place, external: bool) -> PortId {
        let id = network.take_port_id();
        let port = Port {
            id,
            switch: SwitchId(switch),
            no: PortNo(id.0),
            place,
            moving: None,
            mtu: 1500,
            no_flood: false,
            external,
            since: 0,
        };
        network.ports.insert(id, port);
        id
    }

    fn on(host: u32) -> Place {
        Place::Device(Device {
            host: HostId(host),
            name: "d".into(),
            attach: PortAttach::Tc,
            driver: String::new(),
        })
    }

    #[test]
    fn two_ways_out_on_two_hosts_need_strict() {
        let mut n = network();
        let first = put(&mut n, 1, on(1), true);
        assert_eq!(needs_strict(&n), None);
        put(&mut n, 1, on(1), true);
        assert_eq!(needs_strict(&n), None, "on one host");
        put(&mut n, 1, on(2), false);
        assert_eq!(needs_strict(&n), None, "an end host");
        let second = put(&mut n, 1, on(2), true);
        let found = needs_strict(&n).unwrap();
        assert_eq!((found.first, found.second), (first, second));
        assert!(!found.now);
        let switch = n.switches.get_mut(&SwitchId(1)).unwrap();
        let active = InstanceState::Active(None);
        switch.instances.insert(HostId(2), active);
        let found = needs_strict(&n).unwrap();
        assert!(found.now);
        let text = found.describe(&n, |h| format!("h{h}"));
        assert!(
            text.contains("n/s1:1 on host h1 and n/s1:4 on host h2"),
            "{text}"
        );
        n.consistency = Consistency::Strict;
        assert_eq!(needs_strict(&n), None);
    }

    #[test]
    fn only_what_switches_join_meets() {
        let mut n = network();
        put(&mut n, 1, on(1), true);
        put(&mut n, 2, on(2), true);
        assert_eq!(needs_strict(&n), None);
        let (a, b) = (PortId(3), PortId(4));
        put(&mut n, 1, Place::Link(b), false);
        put(&mut n, 2, Place::Link(a), false);
        assert!(needs_strict(&n).is_some());
    }
}
