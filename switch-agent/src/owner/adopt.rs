//! Going on with what was pinned, and greeting the coordinator with it.

use std::collections::HashMap;

use lime_core::{Epoch, NetworkId};
use lime_proto::v1;
use tracing::{info, warn};

use super::Owner;
use super::configure::Devices;
use super::network::Network;
use crate::datapath::Adopted;
use crate::error::chain;
use crate::reconcile::{DesiredNetwork, DesiredPlace};

impl Owner {
    /// Takes note of adopted networks and brings them to what is saved of them: so ports, peers and packet-outs work before the coordinator
    /// is heard of. What is saved of other networks is out of date (their tables are gone) and is forgotten.
    pub async fn adopt(&mut self, adopted: Adopted) {
        let ids: Vec<NetworkId> = adopted.networks.iter().map(|n| n.id).collect();
        if let Err(error) = self.store.keep_only(&ids) {
            warn!(error = chain(&error), "old saved networks are still there");
        }
        for network in adopted.networks {
            let id = network.id;
            info!(network = %id, clock = %network.clock, staged = %network.staged, "adopted");
            self.networks.insert(
                id,
                Network {
                    instances: network.switches.into_iter().collect(),
                    ..Default::default()
                },
            );
            self.adopt_idle_rules(id);
            if let Some(wire) = self.store.load(id) {
                self.apply_saved(wire).await;
            }
        }
    }

    async fn apply_saved(&mut self, wire: v1::Configure) {
        let id = NetworkId(wire.network);
        let mut desired = match DesiredNetwork::try_from(wire.clone()) {
            Ok(desired) => desired,
            Err(error) => {
                warn!(network = %id, %error, "what is saved does not hold; waiting for the coordinator's");
                return;
            }
        };
        // The clock is as it is; and instances whose rules are not all here wait for a snapshot.
        desired.min_clock = Epoch::ZERO;
        let complete = self.networks.get(&id).map(|n| n.instances.clone());
        for switch in desired.switches.values_mut() {
            switch.instance &= complete.as_ref().is_some_and(|c| c.contains(&switch.id));
        }
        let mut devices = Devices::new();
        for port in desired.ports.values() {
            if let DesiredPlace::Local(device) = &port.place {
                match self.find_device(device).await {
                    Ok(link) => {
                        devices.insert(port.id, link);
                    }
                    Err(error) => warn!(network = %id, port = %port.id, %error, "port is down"),
                }
            }
        }
        match self.apply(&desired, &devices) {
            Ok(()) => self.took_effect(wire, desired, &devices),
            Err(error) => {
                warn!(network = %id, %error, "what is saved cannot be applied; waiting for the coordinator's");
            }
        }
    }

    /// The clocks of all networks.
    pub(super) fn clocks(&self) -> Vec<(NetworkId, Epoch)> {
        let clock = |id: NetworkId| Some((id, self.datapath.clock(id).ok()?));
        self.networks.keys().filter_map(|&id| clock(id)).collect()
    }

    /// The first message on a stream. `clocks` were read before a grace period: no event older than they comes after it.
    pub(super) fn greet(&mut self, clocks: &[(NetworkId, Epoch)]) {
        let clocks: HashMap<_, _> = clocks.iter().copied().collect();
        let mut networks = Vec::with_capacity(self.networks.len());
        for (&id, network) in &self.networks {
            let Some(&clock) = clocks.get(&id) else {
                continue;
            };
            networks.push(v1::AdoptedNetwork {
                network: id.0,
                generation: network
                    .config
                    .as_ref()
                    .map_or(0, |(wire, _)| wire.generation),
                clock: clock.0,
                staged: self.datapath.staged(id).unwrap_or_default().0,
                switches: network.instances.iter().map(|s| s.0).collect(),
            });
        }
        let capacity = self.datapath.capacity();
        self.lease.greeted(std::time::Instant::now());
        self.outbox.greet(v1::Hello {
            host: self.host.clone(),
            incarnation: self.incarnation,
            abi_version: switch_abi::ABI_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            underlay_address: self.underlay.address.to_string(),
            underlay_mtu: self.underlay.link.mtu,
            networks,
            capacity: Some(v1::Capacity {
                rules: capacity.rules.into(),
                ports: capacity.ports.into(),
            }),
        });
        // What their events waited for went with the stream before.
        self.held.clear(None);
        self.discard_older(&clocks);
        self.report_underlay();
        for id in self.networks.keys().copied().collect::<Vec<_>>() {
            self.report_ports(id);
        }
    }
}
