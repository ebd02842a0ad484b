//! The recirculation device: a veth pair of this host's own. Frames sent into one end come in at the other, where the underlay's TC
//! program runs: so the agent hands packets to the data path, and the data path sends copies through it again.

use std::net::Ipv4Addr;

use crate::datapath::PeerRoute;
use crate::netlink::{Link, Netlink, NetlinkError};

/// As large as veth allows: any packet fits.
const MTU: u32 = 65_535;

/// The two ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recirculation {
    /// Name of the end that frames are sent to.
    pub send_name: String,
    /// Its index.
    pub send_ifindex: u32,
    /// Its MAC address.
    pub send_mac: [u8; 6],
    /// Name of the end where the program runs.
    pub receive_name: String,
    /// Its index.
    pub receive_ifindex: u32,
    /// Its MAC address.
    pub receive_mac: [u8; 6],
}

impl Recirculation {
    /// Outer source address. Loopback addresses are never right on a wire (RFC 1122, 3.2.1.3), so none of another host's can be the same.
    pub const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
    /// Outer destination address.
    pub const DESTINATION: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

    /// Names of both ends. Agents may share a network namespace, so they come from the host's name; at most 15 bytes.
    pub fn names(host: &str) -> (String, String) {
        let hash = crc32fast::hash(host.as_bytes());
        let hash = hash & 0xff_ffff;
        (format!("lime-rc0{hash:06x}"), format!("lime-rc1{hash:06x}"))
    }

    /// Makes the pair, or takes the one that is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn ensure(netlink: &Netlink, host: &str) -> Result<Self, NetlinkError> {
        let (send, receive) = Self::names(host);
        netlink.add_veth(&send, &receive, MTU).await?;
        let (send, receive) = (
            Self::end(netlink, &send).await?,
            Self::end(netlink, &receive).await?,
        );
        Ok(Self {
            send_mac: send.mac.unwrap_or_default(),
            send_ifindex: send.ifindex,
            send_name: send.name,
            receive_mac: receive.mac.unwrap_or_default(),
            receive_ifindex: receive.ifindex,
            receive_name: receive.name,
        })
    }

    async fn end(netlink: &Netlink, name: &str) -> Result<Link, NetlinkError> {
        netlink
            .link_by_name(name)
            .await?
            .ok_or_else(|| NetlinkError::Missing { name: name.into() })
    }

    /// Deletes the pair, if it is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn remove(netlink: &Netlink, host: &str) -> Result<(), NetlinkError> {
        netlink.delete_link(&Self::names(host).0).await
    }

    /// How frames to this host itself are sent.
    pub fn route(&self) -> PeerRoute {
        PeerRoute {
            ifindex: self.send_ifindex,
            mtu: MTU,
            src_mac: self.send_mac,
            dst_mac: self.receive_mac,
            src: Self::SOURCE.into(),
            dst: Self::DESTINATION.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let (send, receive) = Recirculation::names("a-host-with-quite-a-long-name");
        assert!(send.len() <= 15 && receive.len() <= 15 && send != receive);
        assert_ne!(send, Recirculation::names("another").0);
    }
}
