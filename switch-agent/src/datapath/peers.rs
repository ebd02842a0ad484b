//! The underlay: its devices, and the outer headers towards other hosts.

use std::mem::offset_of;
use std::net::IpAddr;

use lime_core::HostId;
use switch_abi::{
    DEVICE_UNDERLAY, MAX_IFINDEX, OUTER_IPV4_LEN, OUTER_IPV6_LEN, PEER_SELF, PORT_REMOTE,
    PeerEntry, PeerHeader, TUNNEL_PORT, TunnelPeerKey,
};

use super::networks::source_bytes;
use super::{Datapath, DatapathError, PeerRoute, Result};

/// Hop limit of outer headers.
const OUTER_TTL: u8 = 64;

/// A host that frames are sent to.
pub(crate) struct Peer {
    pub(crate) slot: u32,
    /// [`super::state::Limbo::graces`] when `current` was last switched: the other variant may be rewritten only after a grace period.
    pub(crate) switched_at: Option<u64>,
}

impl Datapath {
    /// Marks a device as carrying tunnel frames, or no longer.
    pub fn set_underlay_device(&mut self, ifindex: u32, on: bool) -> Result<()> {
        if !(1..=MAX_IFINDEX).contains(&ifindex) {
            return Err(DatapathError::unsupported(
                format!("device index {ifindex}"),
                format!("devices up to index {MAX_IFINDEX} can be the underlay"),
            ));
        }
        let devices = &self.store.maps.devices;
        match (devices.read(ifindex), on) {
            (0, true) => devices.publish(ifindex, 0, DEVICE_UNDERLAY),
            (DEVICE_UNDERLAY, false) => devices.publish(ifindex, 0, 0),
            (0, false) | (DEVICE_UNDERLAY, true) => {}
            (_, false) => {}
            (slot, true) => {
                let port = self.store.maps.ports.read(slot).id;
                return Err(DatapathError::in_use(
                    format!("device {ifindex}"),
                    format!("port {port}"),
                ));
            }
        }
        Ok(())
    }

    /// How frames reach a host; `None`: no next hop known, they are dropped ("no-path").
    pub fn set_peer(&mut self, host: HostId, route: Option<&PeerRoute>) -> Result<()> {
        let header = match route {
            Some(route) => template(route)?,
            None => PeerHeader::default(),
        };
        self.peer_slot(host)?;
        self.write_header(host, &header)
    }

    /// Whether frames to `host` go to `address` by some next hop: set in this process's life, or adopted.
    pub fn reaches(&self, host: HostId, address: IpAddr) -> bool {
        let Some(peer) = self.peers.get(&host) else {
            return false;
        };
        let entry = self.store.maps.peers.read(peer.slot);
        let header = &entry.variants[(entry.current & 1) as usize];
        header.ifindex != 0
            && match address {
                IpAddr::V4(a) => {
                    header.len as usize == OUTER_IPV4_LEN && header.bytes[30..34] == a.octets()
                }
                IpAddr::V6(a) => {
                    header.len as usize == OUTER_IPV6_LEN && header.bytes[38..54] == a.octets()
                }
            }
    }

    /// Forgets a host; one that is not known is fine.
    ///
    /// # Errors
    /// [`DatapathError::InUse`] while a port is there or a switch relays to it.
    pub fn remove_peer(&mut self, host: HostId) -> Result<()> {
        let Some(peer) = self.peers.get(&host) else {
            return Ok(());
        };
        let slot = peer.slot;
        for (id, network) in &self.networks {
            for (port, &port_slot) in &network.ports {
                let entry = self.store.maps.ports.read(port_slot);
                if entry.kind == PORT_REMOTE && entry.peer == slot {
                    return Err(DatapathError::in_use(
                        format!("host {host}"),
                        format!("port {port} of network {id}"),
                    ));
                }
            }
        }
        for (id, switch) in &self.switches {
            let entry = self.store.maps.switches.read(switch.slot);
            if entry.relay_peer == slot || entry.detour == slot {
                return Err(DatapathError::in_use(
                    format!("host {host}"),
                    format!("switch {id}, which relays to it"),
                ));
            }
        }
        self.peers.remove(&host);
        let host_at = offset_of!(PeerEntry, host);
        self.store.maps.peers.publish(slot, host_at, 0);
        self.store.limbo.peers.push(slot);
        Ok(())
    }

    /// The recirculation device: `route` says how frames to this host itself are sent (by the one side of the veth pair),
    /// `receive_ifindex` is the other side, which must be attached by [`Datapath::attach_underlay`]. Frames from `route.src` are then
    /// accepted for every network.
    pub fn set_recirculation(&mut self, receive_ifindex: u32, route: &PeerRoute) -> Result<()> {
        let header = template(route)?;
        let source = source_bytes(route.src);
        self.set_underlay_device(receive_ifindex, true)?;
        let mut meta = self.store.maps.meta.get()?;
        if meta.recirculation_ifindex != receive_ifindex {
            meta.recirculation_ifindex = receive_ifindex;
            self.store.maps.meta.set(meta)?;
        }
        let old = self.own_source;
        for network in self.networks.values_mut() {
            let vni = self.store.maps.networks.read(network.slot).vni;
            let peers = &mut self.store.maps.tunnel_peers;
            if let Some(old) = old.filter(|&old| old != source) {
                peers.remove(&TunnelPeerKey { source: old, vni })?;
            }
            network.sources.remove(&source);
            peers.insert(TunnelPeerKey { source, vni }, network.slot)?;
        }
        self.own_source = Some(source);
        self.write_self_header(&header)
    }

    /// The slot of a host, made if need be (without a route).
    pub(crate) fn peer_slot(&mut self, host: HostId) -> Result<u32> {
        if host.0 == 0 {
            return Err(DatapathError::invalid("host 0", "ids start at 1"));
        }
        if let Some(peer) = self.peers.get(&host) {
            return Ok(peer.slot);
        }
        let limit = self.limits.peers;
        let slot = self
            .store
            .take(
                |pools| &mut pools.peers,
                || {
                    DatapathError::no_space(
                        "other hosts",
                        u64::from(limit),
                        "start the agent with larger limits",
                    )
                },
            )?
            .index;
        let entry = PeerEntry {
            host: host.0,
            ..PeerEntry::default()
        };
        self.store.maps.peers.write(slot, &entry);
        let peer = Peer {
            slot,
            switched_at: None,
        };
        self.peers.insert(host, peer);
        Ok(slot)
    }

    fn write_header(&mut self, host: HostId, header: &PeerHeader) -> Result<()> {
        let Some(peer) = self.peers.get(&host) else {
            return Err(DatapathError::not_found(format!("host {host}")));
        };
        let (slot, switched_at) = (peer.slot, peer.switched_at);
        let switched = self.switch_variant(slot, switched_at, header)?;
        if let Some(peer) = self.peers.get_mut(&host) {
            peer.switched_at = switched;
        }
        Ok(())
    }

    fn write_self_header(&mut self, header: &PeerHeader) -> Result<()> {
        self.own_switched_at = self.switch_variant(PEER_SELF, self.own_switched_at, header)?;
        Ok(())
    }

    /// Writes the variant that is not current and makes it so. Gives when that was.
    fn switch_variant(
        &mut self,
        slot: u32,
        switched_at: Option<u64>,
        header: &PeerHeader,
    ) -> Result<Option<u64>> {
        let entry = self.store.maps.peers.read(slot);
        let current = (entry.current & 1) as usize;
        if same(&entry.variants[current], header) {
            return Ok(switched_at);
        }
        // A program may still be at the other variant if it was current a moment ago.
        if switched_at == Some(self.store.limbo.graces) {
            self.store.wait()?;
        }
        let other = 1 - current;
        let mut entry = entry;
        entry.variants[other] = *header;
        // `host`, `current` and the variant in force are rewritten with what they are.
        self.store.maps.peers.write(slot, &entry);
        self.store
            .maps
            .peers
            .publish(slot, offset_of!(PeerEntry, current), other as u32);
        Ok(Some(self.store.limbo.graces))
    }
}

fn same(a: &PeerHeader, b: &PeerHeader) -> bool {
    (a.ifindex, a.len, a.mtu, a.bytes) == (b.ifindex, b.len, b.mtu, b.bytes)
}

/// The outer headers of a route: Ethernet, IPv4 (RFC 791) or IPv6 (RFC 8200), UDP (RFC 768). The source port is constant; UDP's checksum
/// is zero, which RFC 8926, section 3.3, and RFC 6935 allow for tunnels over IPv6 too.
pub(crate) fn template(route: &PeerRoute) -> Result<PeerHeader> {
    let mut bytes = Vec::with_capacity(switch_abi::PEER_HEADER_MAX);
    bytes.extend(route.dst_mac);
    bytes.extend(route.src_mac);
    match (route.src, route.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            bytes.extend([0x08, 0x00]);
            // Version and header length, TOS, total length 0, id 0, don't fragment, TTL, UDP, checksum.
            let mut ip = [
                0x45, 0, 0, 0, 0, 0, 0x40, 0, OUTER_TTL, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ];
            ip[12..16].copy_from_slice(&src.octets());
            ip[16..20].copy_from_slice(&dst.octets());
            let sum = checksum(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend(ip);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            bytes.extend([0x86, 0xdd]);
            // Version, traffic class and flow label, payload length 0, UDP, hop limit.
            bytes.extend([0x60, 0, 0, 0, 0, 0, 17, OUTER_TTL]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
        }
        _ => {
            return Err(DatapathError::invalid(
                format!("a route from {} to {}", route.src, route.dst),
                "both addresses must be of one family",
            ));
        }
    }
    let port = TUNNEL_PORT.to_be_bytes();
    bytes.extend([port[0], port[1], port[0], port[1], 0, 0, 0, 0]);
    let mut header = PeerHeader {
        ifindex: route.ifindex,
        len: bytes.len() as u32,
        mtu: route.mtu,
        ..PeerHeader::default()
    };
    header.bytes[..bytes.len()].copy_from_slice(&bytes);
    Ok(header)
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(src: &str, dst: &str) -> PeerRoute {
        PeerRoute {
            ifindex: 3,
            mtu: 1500,
            src_mac: [2; 6],
            dst_mac: [4; 6],
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
        }
    }

    #[test]
    fn ipv4_template_checks_out() {
        let header = template(&route("10.0.0.1", "10.0.0.2")).unwrap();
        assert_eq!(header.len as usize, switch_abi::OUTER_IPV4_LEN);
        assert_eq!(header.bytes[..6], [4; 6]);
        assert_eq!(checksum(&header.bytes[14..34]), 0);
        assert_eq!(header.bytes[34..42], [0x17, 0xc1, 0x17, 0xc1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_path_is_known_by_its_address() {
        let mut datapath = Datapath::in_memory(&crate::datapath::Limits::default()).unwrap();
        let host = HostId(7);
        let (here, there): (IpAddr, IpAddr) =
            ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        assert!(!datapath.reaches(host, here));
        datapath
            .set_peer(host, Some(&route("10.0.0.1", "10.0.0.2")))
            .unwrap();
        assert!(datapath.reaches(host, here) && !datapath.reaches(host, there));
        datapath
            .set_peer(host, Some(&route("fd00::1", "fd00::2")))
            .unwrap();
        assert!(datapath.reaches(host, "fd00::2".parse().unwrap()));
        datapath.set_peer(host, None).unwrap();
        assert!(!datapath.reaches(host, here));
    }

    #[test]
    fn ipv6_template_has_its_length() {
        let header = template(&route("fd00::1", "fd00::2")).unwrap();
        assert_eq!(header.len as usize, switch_abi::OUTER_IPV6_LEN);
        assert_eq!(header.bytes[12..15], [0x86, 0xdd, 0x60]);
        assert!(template(&route("fd00::1", "10.0.0.2")).is_err());
    }
}
