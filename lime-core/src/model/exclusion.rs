//! Going on without a host that cannot be reached: rule 17.
//!
//! A host that processes packets of a switch which has other instances does so under a lease. When that ends, it stops by itself, whether
//! anybody tells it or not; only then may the others go on without it. What it has counted is still there, and read when it comes back.

use crate::HostId;

use super::{InstanceState, MemberState, Network, Switch};

/// Whether the host processes packets only as long as its lease lasts: it has an instance of a switch that has others too.
pub fn is_leased(network: &Network, host: HostId) -> bool {
    let shared = |s: &Switch| s.instances.len() > 1 && s.instances.contains_key(&host);
    network.consistency.is_consistent() && network.switches.values().any(shared)
}

/// Whether the network can go on without the host, once its lease is over: each of its switches runs elsewhere too, and has for long
/// enough that the host is known to have heard of its lease; and no end host is on its way there or from there.
pub fn can_exclude(network: &Network, host: HostId) -> bool {
    let full = |h: HostId| network.members.get(&h) == Some(&MemberState::Full);
    let others = network.members.keys().any(|h| *h != host && full(*h));
    let runs_elsewhere = |s: &Switch| {
        s.instances
            .iter()
            .any(|(h, state)| *h != host && full(*h) && *state == InstanceState::Active(None))
    };
    let replaceable = |s: &Switch| match s.instances.get(&host) {
        None => true,
        Some(InstanceState::Active(_)) => runs_elsewhere(s),
        Some(InstanceState::Learning | InstanceState::Excluded { .. }) => true,
        // It stays in all acknowledgements until its last counters are read (rule 15).
        Some(InstanceState::Retiring(_)) => false,
    };
    let moving = network
        .ports
        .values()
        .any(|p| p.moving.is_some() && p.devices().any(|d| d.host == host));
    network.consistency.is_consistent()
        && full(host)
        && others
        && !moving
        && network.switches.values().all(replaceable)
}

/// Takes the host out: its instances process nothing until they have learnt again.
pub fn exclude(network: &mut Network, host: HostId) {
    network.members.insert(host, MemberState::Excluded);
    for switch in network.switches.values_mut() {
        if let Some(state) = switch.instances.get_mut(&host) {
            *state = match *state {
                InstanceState::Active(_) => InstanceState::Excluded { counted: false },
                other => other,
            };
        }
    }
}

/// Whether the host, or an instance of it, has to learn again.
pub fn is_excluded(network: &Network, host: HostId) -> bool {
    let excluded = |s: &Switch| {
        let state = s.instances.get(&host);
        matches!(state, Some(InstanceState::Excluded { .. }))
    };
    network.members.get(&host) == Some(&MemberState::Excluded)
        || network.switches.values().any(excluded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Consistency;
    use crate::model::{Device, Moving, PacketIns, Place, Port};
    use crate::{NetworkId, PortAttach, PortId, PortNo, SwitchId};

    const A: HostId = HostId(1);
    const B: HostId = HostId(2);
    const C: HostId = HostId(3);

    /// One switch on A and B; C has only ports.
    fn network() -> Network {
        let mut network = Network::new(NetworkId(1), "n".into(), Consistency::Causal, 7);
        let instances = [A, B].map(|h| (h, InstanceState::Active(None)));
        let switch = Switch {
            id: SwitchId(1),
            name: "s".into(),
            instances: instances.into(),
            packet_ins: PacketIns::default(),
        };
        network.switches.insert(switch.id, switch);
        network.members = [A, B, C].map(|h| (h, MemberState::Full)).into();
        network
    }

    fn set(network: &mut Network, host: HostId, state: InstanceState) {
        let switch = network.switches.get_mut(&SwitchId(1)).unwrap();
        switch.instances.insert(host, state);
    }

    #[test]
    fn rule_17_somebody_stays_who_processes() {
        let mut n = network();
        assert!(can_exclude(&n, A) && can_exclude(&n, B) && can_exclude(&n, C));
        assert!(is_leased(&n, A) && !is_leased(&n, C));
        exclude(&mut n, A);
        assert_eq!(n.members[&A], MemberState::Excluded);
        assert!(!can_exclude(&n, A), "twice");
        assert!(!can_exclude(&n, B), "the last one");
        assert!(can_exclude(&n, C));
        assert!(is_leased(&n, A), "until it has been told");
    }

    #[test]
    fn rule_17_who_may_not_know_of_its_lease_is_waited_for() {
        let mut n = network();
        // B has only begun: that A has heard of it is not known.
        set(&mut n, B, InstanceState::Learning);
        assert!(is_leased(&n, A) && !can_exclude(&n, A));
        assert!(can_exclude(&n, B), "a learner processes nothing");
        set(&mut n, B, InstanceState::Retiring(None));
        assert!(!can_exclude(&n, A) && !can_exclude(&n, B));
        set(&mut n, B, InstanceState::Active(None));
        n.consistency = Consistency::None;
        assert!(!is_leased(&n, A) && !can_exclude(&n, A));
    }

    #[test]
    fn rule_17_an_end_host_on_its_way_is_waited_for() {
        let mut n = network();
        let device = |host| Device {
            host,
            name: "d".into(),
            attach: PortAttach::Tc,
            driver: String::new(),
        };
        let port = Port {
            id: PortId(1),
            switch: SwitchId(1),
            no: PortNo(1),
            place: Place::Device(device(A)),
            moving: Some(Moving::To(device(B))),
            mtu: 1500,
            no_flood: false,
            external: false,
            since: 0,
        };
        n.ports.insert(port.id, port);
        assert!(!can_exclude(&n, A) && !can_exclude(&n, B) && can_exclude(&n, C));
    }
}
