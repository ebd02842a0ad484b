//! How each peer is reached: its next hop, and that one's MAC address. Knows what is wanted, what was found, and what changed.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use lime_core::HostId;

use tracing::debug;

use crate::datapath::PeerRoute;
use crate::error::chain;
use crate::netlink::{Neighbour, Netlink, NetlinkError, NextHop};

/// A next hop: device and address.
type Hop = (u32, IpAddr);

#[derive(Debug, Clone)]
struct Path {
    to: IpAddr,
    /// Device, next hop, MTU, the device's MAC address.
    hop: Option<(Hop, u32, [u8; 6])>,
}

/// The paths to all wanted peers.
#[derive(Debug)]
pub struct Paths {
    source: IpAddr,
    peers: BTreeMap<HostId, Path>,
    macs: HashMap<Hop, Option<[u8; 6]>>,
    reported: BTreeMap<HostId, Option<PeerRoute>>,
}

impl Paths {
    /// Frames are sent from this address.
    pub fn new(source: IpAddr) -> Self {
        Self {
            source,
            peers: BTreeMap::new(),
            macs: HashMap::new(),
            reported: BTreeMap::new(),
        }
    }

    /// Sets which peers are wanted; all are reported anew. New ones have no path until the next [`Paths::resolve`].
    pub fn want(&mut self, wanted: &BTreeMap<HostId, IpAddr>) {
        self.peers
            .retain(|host, path| wanted.get(host) == Some(&path.to));
        self.reported.clear();
        for (&host, &to) in wanted {
            self.peers.entry(host).or_insert(Path { to, hop: None });
        }
    }

    /// Asks the kernel for all routes and neighbours again; has unknown neighbours resolved and known ones kept fresh.
    ///
    /// # Errors
    /// The kernel did not answer; what was known stays.
    pub async fn resolve(&mut self, netlink: &Netlink) -> Result<(), NetlinkError> {
        let mut devices: HashMap<u32, Option<(u32, [u8; 6])>> = HashMap::new();
        for path in self.peers.values_mut() {
            let hop = netlink.next_hop(path.to).await?;
            path.hop = match hop.filter(|h| !h.local) {
                None => None,
                Some(NextHop {
                    ifindex,
                    address,
                    mtu,
                    ..
                }) => {
                    if let std::collections::hash_map::Entry::Vacant(entry) = devices.entry(ifindex)
                    {
                        let link = netlink.link_by_index(ifindex).await?;
                        entry.insert(link.and_then(|l| Some((l.mtu, l.mac?))));
                    }
                    devices[&ifindex].map(|(device_mtu, mac)| {
                        let mtu = mtu.map_or(device_mtu, |m| m.min(device_mtu));
                        ((ifindex, address), mtu, mac)
                    })
                }
            };
        }
        let hops: Vec<Hop> = self
            .peers
            .values()
            .filter_map(|p| p.hop.map(|(hop, ..)| hop))
            .collect();
        self.macs.retain(|hop, _| hops.contains(hop));
        for hop in &hops {
            self.macs.entry(*hop).or_insert(None);
        }
        if !hops.is_empty() {
            for neighbour in netlink.neighbours().await? {
                self.learn(&neighbour);
            }
        }
        for &(ifindex, address) in self.macs.keys() {
            // A device without neighbours, or one that has just gone: the others still count.
            if let Err(error) = netlink.use_neighbour(ifindex, address).await {
                debug!(ifindex, %address, error = chain(&error), "neighbour not resolved");
            }
        }
        Ok(())
    }

    /// Takes note of a neighbour's entry. Gives whether it is a next hop that matters here and that needs resolving.
    ///
    /// An entry that is gone or being resolved anew keeps its MAC address until resolution fails: traffic goes on meanwhile.
    pub fn learn(&mut self, neighbour: &Neighbour) -> bool {
        let Some(mac) = self.macs.get_mut(&(neighbour.ifindex, neighbour.address)) else {
            return false;
        };
        match neighbour.mac {
            Some(new) => *mac = Some(new),
            None if neighbour.failed => *mac = None,
            None => return true,
        }
        false
    }

    /// Whether there is a peer without a path.
    pub fn unresolved(&self) -> bool {
        self.peers.keys().any(|&h| self.route(h).is_none())
    }

    fn route(&self, host: HostId) -> Option<PeerRoute> {
        let path = self.peers.get(&host)?;
        let (hop, mtu, src_mac) = path.hop?;
        let dst_mac = (*self.macs.get(&hop)?)?;
        Some(PeerRoute {
            ifindex: hop.0,
            mtu,
            src_mac,
            dst_mac,
            src: self.source,
            dst: path.to,
        })
    }

    /// Paths that are not as they were at the last call.
    pub fn changes(&mut self) -> Vec<(HostId, Option<PeerRoute>)> {
        let changed: Vec<_> = self
            .peers
            .keys()
            .map(|&host| (host, self.route(host)))
            .filter(|(host, route)| self.reported.get(host) != Some(route))
            .collect();
        self.reported.extend(changed.iter().copied());
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(mac: Option<[u8; 6]>, failed: bool) -> Neighbour {
        Neighbour {
            ifindex: 3,
            address: [10, 0, 0, 2].into(),
            mac,
            failed,
        }
    }

    fn paths() -> Paths {
        let mut paths = Paths::new([10, 0, 0, 1].into());
        let to = IpAddr::from([10, 0, 0, 2]);
        paths.want(&BTreeMap::from([(HostId(2), to)]));
        if let Some(path) = paths.peers.get_mut(&HostId(2)) {
            path.hop = Some(((3, to), 1500, [1; 6]));
        }
        paths.macs.insert((3, to), None);
        paths
    }

    #[test]
    fn a_path_is_reported_when_it_changes_and_only_then() {
        let mut paths = paths();
        assert_eq!(paths.changes(), [(HostId(2), None)]);
        assert!(paths.changes().is_empty() && paths.unresolved());
        paths.learn(&neighbour(Some([2; 6]), false));
        let changes = paths.changes();
        assert_eq!(changes[0].1.map(|r| r.dst_mac), Some([2; 6]));
        assert!(paths.changes().is_empty() && !paths.unresolved());
    }

    #[test]
    fn an_entry_that_goes_keeps_its_path_until_it_fails() {
        let mut paths = paths();
        paths.learn(&neighbour(Some([2; 6]), false));
        paths.changes();
        assert!(paths.learn(&neighbour(None, false)));
        assert!(paths.changes().is_empty());
        assert!(!paths.learn(&neighbour(None, true)));
        assert_eq!(paths.changes(), [(HostId(2), None)]);
    }

    #[test]
    fn a_peer_with_another_address_starts_anew() {
        let mut paths = paths();
        paths.learn(&neighbour(Some([2; 6]), false));
        paths.changes();
        paths.want(&BTreeMap::from([(HostId(2), [10, 0, 0, 9].into())]));
        assert_eq!(paths.changes(), [(HostId(2), None)]);
        paths.want(&BTreeMap::new());
        assert!(paths.changes().is_empty() && !paths.unresolved());
    }
}
