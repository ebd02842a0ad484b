//! Who processes a switch's packets while a strict network updates it: rule 20.

use crate::log::RelayPhase;
use crate::{HostId, SwitchId};

use super::{InstanceState, MemberState, Network, Switch};

/// How an update of the switch that gets its epoch now is activated; `None`: one instance at most processes its packets, so everywhere at once.
///
/// All earlier epochs are complete then, so a join has taken effect, and a retirement whose epoch is known has, too.
pub fn relay_phase(network: &Network, switch: SwitchId) -> Option<RelayPhase> {
    let switch = network.switches.get(&switch)?;
    let mut processing: Vec<(HostId, bool)> = processing(network, switch).collect();
    if processing.len() < 2 {
        return None;
    }
    let ports_on = |host: HostId| {
        let ports = network.ports.values().filter(|p| p.switch == switch.id);
        ports
            .filter(|p| p.devices().any(|d| d.host == host))
            .count()
    };
    // One that stays; of these the one with most ports, so that few packets take the way round.
    processing.sort_by_key(|&(host, stays)| (!stays, usize::MAX - ports_on(host), host));
    let mut hosts = processing.into_iter().map(|(host, _)| host);
    let primary = hosts.next()?;
    Some(RelayPhase {
        primary,
        others: hosts.collect(),
    })
}

/// The instances that process packets, and whether they stay.
fn processing<'a>(
    network: &'a Network,
    switch: &'a Switch,
) -> impl Iterator<Item = (HostId, bool)> + 'a {
    let full = |h: &HostId| network.members.get(h) == Some(&MemberState::Full);
    let instances = switch.instances.iter().filter(move |(h, _)| full(h));
    instances.filter_map(|(host, state)| match state {
        InstanceState::Active(_) => Some((*host, true)),
        // It processes until its retirement has an epoch.
        InstanceState::Retiring(None) => Some((*host, false)),
        InstanceState::Retiring(Some(_))
        | InstanceState::Learning
        | InstanceState::Excluded { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Device, PacketIns, Place, Port};
    use crate::{Consistency, Epoch, NetworkId, PortAttach, PortId, PortNo};

    const S: SwitchId = SwitchId(1);

    fn network(instances: &[InstanceState]) -> Network {
        let mut network = Network::new(NetworkId(1), "n".into(), Consistency::Strict, 7);
        let instances = instances.iter().zip(1..);
        let instances: Vec<(HostId, InstanceState)> =
            instances.map(|(s, h)| (HostId(h), *s)).collect();
        network.members = instances
            .iter()
            .map(|(h, _)| (*h, MemberState::Full))
            .collect();
        let switch = Switch {
            id: S,
            name: "s".into(),
            instances: instances.into_iter().collect(),
            packet_ins: PacketIns::default(),
        };
        network.switches.insert(S, switch);
        network
    }

    fn put_port(network: &mut Network, host: u32) {
        let id = network.take_port_id();
        let device = Device {
            host: HostId(host),
            name: "d".into(),
            attach: PortAttach::Tc,
            driver: String::new(),
        };
        let port = Port {
            id,
            switch: S,
            no: PortNo(id.0),
            place: Place::Device(device),
            moving: None,
            mtu: 1500,
            no_flood: false,
            external: false,
            since: 0,
        };
        network.ports.insert(PortId(id.0), port);
    }

    #[test]
    fn rule_20_those_relay_that_process() {
        const ACTIVE: InstanceState = InstanceState::Active(None);
        assert_eq!(relay_phase(&network(&[ACTIVE]), S), None);
        assert_eq!(
            relay_phase(&network(&[ACTIVE, InstanceState::Learning]), S),
            None
        );
        let gone = InstanceState::Retiring(Some(Epoch(3)));
        assert_eq!(relay_phase(&network(&[ACTIVE, gone]), S), None);
        let away = InstanceState::Excluded { counted: false };
        let joined = InstanceState::Active(Some(Epoch(3)));
        let found = relay_phase(
            &network(&[away, joined, ACTIVE, InstanceState::Learning]),
            S,
        );
        let found = found.unwrap();
        assert_eq!((found.primary, found.others), (HostId(2), vec![HostId(3)]));
    }

    #[test]
    fn rule_20_the_primary_stays_and_has_most_ports() {
        const ACTIVE: InstanceState = InstanceState::Active(None);
        let mut n = network(&[InstanceState::Retiring(None), ACTIVE, ACTIVE]);
        assert_eq!(relay_phase(&n, S).unwrap().primary, HostId(2));
        for host in [1, 1, 3] {
            put_port(&mut n, host);
        }
        let found = relay_phase(&n, S).unwrap();
        assert_eq!(found.primary, HostId(3));
        assert_eq!(found.others, vec![HostId(2), HostId(1)]);
    }
}
