//! The underlay: the device and address that tunnel frames use, and how each peer is reached.

mod paths;
mod watch;

use std::net::IpAddr;

use thiserror::Error;

use crate::netlink::{Link, Netlink, NetlinkError};

pub use paths::Paths;
pub use watch::{NetUpdate, Wanted, watch};

/// The device and address that tunnel frames use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Underlay {
    /// The device.
    pub link: Link,
    /// This host's address on it.
    pub address: IpAddr,
}

/// Why there is no underlay.
#[derive(Debug, Error)]
pub enum UnderlayError {
    /// No such device.
    #[error("underlay device {name} does not exist: `ip link` lists those that do")]
    NoDevice {
        /// What was asked for.
        name: String,
    },
    /// No device has the address.
    #[error(
        "no device of this host has the underlay address {address}: give one that `ip address` lists"
    )]
    NoSuchAddress {
        /// What was asked for.
        address: IpAddr,
    },
    /// The device has no address.
    #[error(
        "underlay device {name} has no address of global scope: add one with `ip address add ADDRESS/LEN dev {name}`"
    )]
    NoAddress {
        /// The device.
        name: String,
    },
    /// Not an Ethernet device.
    #[error("underlay device {name} is not an Ethernet device")]
    NotEthernet {
        /// The device.
        name: String,
    },
    /// The kernel did not answer.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl Underlay {
    /// Finds the underlay by device, by address, or by both.
    ///
    /// # Errors
    /// Says what is missing.
    pub async fn find(
        netlink: &Netlink,
        device: Option<&str>,
        address: Option<IpAddr>,
    ) -> Result<Self, UnderlayError> {
        let addresses = netlink.addresses().await?;
        let wanted = match device {
            Some(name) => Some(
                netlink
                    .link_by_name(name)
                    .await?
                    .ok_or_else(|| UnderlayError::NoDevice { name: name.into() })?,
            ),
            None => None,
        };
        let found = addresses.iter().find(|&&(ifindex, a)| {
            wanted.as_ref().is_none_or(|l| l.ifindex == ifindex)
                && address.is_none_or(|wanted| wanted == a)
        });
        let &(ifindex, address) = match (found, &wanted, address) {
            (Some(found), ..) => found,
            (None, _, Some(address)) => return Err(UnderlayError::NoSuchAddress { address }),
            (None, wanted, None) => {
                return Err(UnderlayError::NoAddress {
                    name: wanted.as_ref().map(|l| l.name.clone()).unwrap_or_default(),
                });
            }
        };
        let link = match wanted {
            Some(link) => link,
            None => netlink
                .link_by_index(ifindex)
                .await?
                .ok_or(UnderlayError::NoSuchAddress { address })?,
        };
        if link.mac.is_none() {
            return Err(UnderlayError::NotEthernet { name: link.name });
        }
        Ok(Self { link, address })
    }

    /// What a packet in a tunnel needs on the underlay beyond its port's MTU, bytes.
    pub fn overhead(&self) -> u32 {
        let bytes = match self.address {
            IpAddr::V4(_) => switch_abi::TUNNEL_OVERHEAD_IPV4,
            IpAddr::V6(_) => switch_abi::TUNNEL_OVERHEAD_IPV6,
        };
        bytes as u32
    }
}
