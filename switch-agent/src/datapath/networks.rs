//! Networks: their slots, clocks and members.

use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use lime_core::{Epoch, HostId, NetworkId};
use switch_abi::{NETWORK_UNTAGGED, NetworkEntry, TunnelPeerKey};

use super::state::Network;
use super::{Datapath, DatapathError, Result};

/// Geneve's VNI has 24 bits.
const VNI_MAX: u32 = (1 << 24) - 1;

/// An underlay address as the maps have it: IPv4 in the first four bytes.
pub(crate) fn source_bytes(address: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(a) => bytes[..4].copy_from_slice(&a.octets()),
        IpAddr::V6(a) => bytes = a.octets(),
    }
    bytes
}

impl Datapath {
    /// Makes or changes a network. `vni`: 24 bits, unique on this host. `untagged`: clock tags are neither checked nor obeyed.
    pub fn set_network(&mut self, id: NetworkId, vni: u32, untagged: bool) -> Result<()> {
        if id.0 == 0 || vni > VNI_MAX {
            return Err(DatapathError::invalid(
                format!("network {id} with VNI {vni}"),
                "ids start at 1, VNIs have 24 bits",
            ));
        }
        for (&other, network) in &self.networks {
            if other != id && self.store.maps.networks.read(network.slot).vni == vni {
                return Err(DatapathError::in_use(
                    format!("VNI {vni}"),
                    format!("network {other}"),
                ));
            }
        }
        let flags = if untagged { NETWORK_UNTAGGED } else { 0 };
        match self.networks.get(&id) {
            Some(network) => {
                let slot = network.slot;
                let old = self.store.maps.networks.read(slot).vni;
                if old != vni {
                    self.change_vni(id, slot, old, vni)?;
                }
                self.store
                    .maps
                    .networks
                    .publish(slot, offset_of!(NetworkEntry, flags), flags);
                Ok(())
            }
            None => self.new_network(id, vni, flags),
        }
    }

    fn new_network(&mut self, id: NetworkId, vni: u32, flags: u32) -> Result<()> {
        let limit = self.limits.networks;
        let slot = self
            .store
            .take(
                |pools| &mut pools.networks,
                || {
                    DatapathError::no_space(
                        "networks",
                        u64::from(limit),
                        "start the agent with larger limits",
                    )
                },
            )?
            .index;
        let generation = self.store.maps.networks.read(slot).generation;
        let entry = NetworkEntry {
            id: id.0,
            vni,
            flags,
            generation: generation.wrapping_add(1),
            ..NetworkEntry::default()
        };
        self.store.maps.networks.write(slot, &entry);
        if let Some(own) = self.own_source
            && let Err(e) = self
                .store
                .maps
                .tunnel_peers
                .insert(TunnelPeerKey { source: own, vni }, slot)
        {
            self.store.limbo.networks.push(slot);
            return Err(e);
        }
        self.networks.insert(id, Network::new(slot));
        Ok(())
    }

    /// Where frames of this network may come from.
    fn all_sources(&self, network: &Network) -> Vec<[u8; 16]> {
        let members = network.sources.iter().copied();
        members.chain(self.own_source).collect()
    }

    fn change_vni(&mut self, id: NetworkId, slot: u32, old: u32, vni: u32) -> Result<()> {
        let network = self.networks.get(&id).ok_or_else(|| no_network(id))?;
        let sources = self.all_sources(network);
        let peers = &mut self.store.maps.tunnel_peers;
        for (i, &source) in sources.iter().enumerate() {
            if let Err(e) = peers.insert(TunnelPeerKey { source, vni }, slot) {
                for &source in &sources[..i] {
                    peers.remove(&TunnelPeerKey { source, vni })?;
                }
                return Err(e);
            }
        }
        self.store
            .maps
            .networks
            .publish(slot, offset_of!(NetworkEntry, vni), vni);
        for &source in &sources {
            self.store
                .maps
                .tunnel_peers
                .remove(&TunnelPeerKey { source, vni: old })?;
        }
        Ok(())
    }

    /// Removes a network with all its switches, ports and rules; one that is not here is fine. Waits for a grace period.
    pub fn remove_network(&mut self, id: NetworkId) -> Result<()> {
        let Some(network) = self.networks.get(&id) else {
            return Ok(());
        };
        let slot = network.slot;
        let vni = self.store.maps.networks.read(slot).vni;
        // First nothing comes in any more, then the rest goes.
        let sources = self.all_sources(network);
        let switches: Vec<_> = network.switches.iter().copied().collect();
        for source in sources {
            self.store
                .maps
                .tunnel_peers
                .remove(&TunnelPeerKey { source, vni })?;
        }
        for switch in switches {
            self.unlink_switch(id, switch)?;
        }
        self.networks.remove(&id);
        self.store.bump_generation(slot);
        self.store
            .maps
            .networks
            .publish(slot, offset_of!(NetworkEntry, id), 0);
        self.store.limbo.networks.push(slot);
        self.store.reap()
    }

    /// Ids of all networks, rising.
    pub fn networks(&self) -> Vec<NetworkId> {
        let mut ids: Vec<_> = self.networks.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The network's clock on this host.
    pub fn clock(&self, id: NetworkId) -> Result<Epoch> {
        Ok(self.clock_of(self.network(id)?.slot))
    }

    /// How far the network is staged on this host. [`Epoch::ZERO`]: not at all yet.
    pub fn staged(&self, id: NetworkId) -> Result<Epoch> {
        Ok(self.staged_of(self.network(id)?.slot))
    }

    /// Raises the clock to `epoch` unless it is further already, atomically against the kernel's own raising. Gives the clock after that.
    ///
    /// # Errors
    /// Above what is staged: [`DatapathError::Invalid`].
    pub fn raise_clock(&mut self, id: NetworkId, epoch: Epoch) -> Result<Epoch> {
        let slot = self.network(id)?.slot;
        let staged = self.staged_of(slot);
        if !epoch.le(staged) {
            return Err(DatapathError::invalid(
                format!("epoch {epoch} of network {id}"),
                format!("the clock cannot pass what is staged, {staged}"),
            ));
        }
        let word = self
            .store
            .maps
            .networks
            .u32_at(slot, offset_of!(NetworkEntry, clock));
        let raised = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |clock| {
            Epoch(clock).lt(epoch).then_some(epoch.0)
        });
        Ok(match raised {
            Ok(_) => epoch,
            Err(further) => Epoch(further),
        })
    }

    /// Who may send frames of this network: all other members, with their underlay addresses. Replaces what was.
    pub fn set_members(&mut self, id: NetworkId, members: &[(HostId, IpAddr)]) -> Result<()> {
        let network = self.network(id)?;
        let (slot, before) = (network.slot, network.sources.clone());
        let vni = self.store.maps.networks.read(slot).vni;
        let wanted: std::collections::BTreeSet<_> = members
            .iter()
            .map(|&(_, address)| source_bytes(address))
            .filter(|&source| Some(source) != self.own_source)
            .collect();
        let peers = &mut self.store.maps.tunnel_peers;
        let added: Vec<_> = wanted.difference(&before).copied().collect();
        for (i, &source) in added.iter().enumerate() {
            if let Err(e) = peers.insert(TunnelPeerKey { source, vni }, slot) {
                for &source in &added[..i] {
                    peers.remove(&TunnelPeerKey { source, vni })?;
                }
                return Err(e);
            }
        }
        for &source in before.difference(&wanted) {
            peers.remove(&TunnelPeerKey { source, vni })?;
        }
        self.network_mut(id)?.sources = wanted;
        Ok(())
    }

    pub(crate) fn network(&self, id: NetworkId) -> Result<&Network> {
        self.networks.get(&id).ok_or_else(|| no_network(id))
    }

    pub(crate) fn network_mut(&mut self, id: NetworkId) -> Result<&mut Network> {
        self.networks.get_mut(&id).ok_or_else(|| no_network(id))
    }

    pub(crate) fn clock_of(&self, slot: u32) -> Epoch {
        let at = offset_of!(NetworkEntry, clock);
        Epoch(self.store.maps.networks.get(slot, at))
    }

    pub(crate) fn staged_of(&self, slot: u32) -> Epoch {
        let at = offset_of!(NetworkEntry, staged);
        Epoch(self.store.maps.networks.get(slot, at))
    }

    pub(crate) fn set_staged(&self, slot: u32, epoch: Epoch) {
        self.store
            .maps
            .networks
            .publish(slot, offset_of!(NetworkEntry, staged), epoch.0);
    }
}

pub(crate) fn no_network(id: NetworkId) -> DatapathError {
    DatapathError::not_found(format!("network {id}"))
}
