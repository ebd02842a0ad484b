//! Routes and neighbours.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMetric, RouteType, RouteVia};
use rtnetlink::RouteMessageBuilder;

use super::{Netlink, NetlinkError};

/// Where the kernel would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The device.
    pub ifindex: u32,
    /// The router, or the destination itself.
    pub address: IpAddr,
    /// The route's own MTU, if it has one, bytes.
    pub mtu: Option<u32>,
    /// The destination is an address of this host.
    pub local: bool,
}

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The device.
    pub ifindex: u32,
    /// Whose.
    pub address: IpAddr,
    /// The MAC address, where it is known and not known to be wrong.
    pub mac: Option<[u8; 6]>,
    /// Resolution was tried and failed.
    pub failed: bool,
}

impl Neighbour {
    /// From netlink's message; `None`: not about an IP address.
    pub(super) fn from_message(message: NeighbourMessage) -> Option<Self> {
        let mut address = None;
        let mut mac = None;
        for attribute in message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                    address = Some(IpAddr::V4(a));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                    address = Some(IpAddr::V6(a));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok(),
                _ => {}
            }
        }
        let valid = matches!(
            message.header.state,
            NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp
        );
        Some(Self {
            ifindex: message.header.ifindex,
            address: address?,
            mac: mac.filter(|_| valid),
            failed: message.header.state == NeighbourState::Failed,
        })
    }
}

impl Netlink {
    /// Where the kernel would send a packet to this address; `None`: there is no route.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn next_hop(&self, to: IpAddr) -> Result<Option<NextHop>, NetlinkError> {
        let query = match to {
            IpAddr::V4(a) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(a, 32)
                .build(),
            IpAddr::V6(a) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(a, 128)
                .build(),
        };
        let mut answers = std::pin::pin!(self.handle.route().get(query).execute());
        let route = match answers.try_next().await {
            Ok(Some(route)) => route,
            Ok(None) => return Ok(None),
            Err(e) => {
                let unroutable = [
                    libc::ENETUNREACH,
                    libc::EHOSTUNREACH,
                    libc::EACCES,
                    libc::EINVAL,
                ];
                if unroutable.iter().any(|&errno| super::is_errno(&e, errno)) {
                    return Ok(None);
                }
                return Err(NetlinkError::Request {
                    what: format!("route to {to}"),
                    source: e,
                });
            }
        };
        let mut hop = NextHop {
            ifindex: 0,
            address: to,
            mtu: None,
            local: route.header.kind == RouteType::Local,
        };
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(ifindex) => hop.ifindex = ifindex,
                RouteAttribute::Gateway(RouteAddress::Inet(a))
                | RouteAttribute::Via(RouteVia::Inet(a)) => hop.address = a.into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(a))
                | RouteAttribute::Via(RouteVia::Inet6(a)) => hop.address = a.into(),
                RouteAttribute::Metrics(metrics) => {
                    hop.mtu = metrics.iter().find_map(|m| match m {
                        RouteMetric::Mtu(mtu) => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Ok((hop.ifindex != 0).then_some(hop))
    }

    /// The whole neighbour table.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let messages: Vec<_> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|source| NetlinkError::Request {
                what: "neighbour table".into(),
                source,
            })?;
        Ok(messages
            .into_iter()
            .filter_map(Neighbour::from_message)
            .collect())
    }

    /// Tells the kernel that a neighbour is in use (NTF_USE): an unknown one is resolved, a stale one is probed. Tunnel frames pass by
    /// the stack, so that the kernel would not know.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn use_neighbour(&self, ifindex: u32, address: IpAddr) -> Result<(), NetlinkError> {
        self.handle
            .neighbours()
            .add(ifindex, address)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace()
            .execute()
            .await
            .map_err(|source| NetlinkError::Request {
                what: format!("resolving neighbour {address}"),
                source,
            })
    }
}
