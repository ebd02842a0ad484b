//! Devices and their addresses.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkLayerType, LinkMessage,
};
use rtnetlink::{LinkUnspec, LinkVeth};

use super::{Netlink, NetlinkError, is_errno};

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address; `None` for devices that are not Ethernet's like.
    pub mac: Option<[u8; 6]>,
    /// Largest L3 packet, bytes.
    pub mtu: u32,
    /// Administratively up and with carrier.
    pub up: bool,
    /// A loopback device.
    pub loopback: bool,
    /// For veth: the other end's index, in its own network namespace.
    pub peer: Option<u32>,
}

/// What happened to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is there, new or changed.
    Present(Link),
    /// It has gone.
    Gone {
        /// Its index.
        ifindex: u32,
    },
}

impl Link {
    /// From netlink's message; `None`: no name, so not a device.
    pub(super) fn from_message(message: LinkMessage) -> Option<Self> {
        let flags = message.header.flags;
        let mut link = Self {
            ifindex: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            peer: None,
        };
        let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Link(peer) if peer != 0 => link.peer = Some(peer),
                LinkAttribute::Address(address) if ethernet => link.mac = address.try_into().ok(),
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }
}

impl Netlink {
    /// The device of this name, if there is one.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_name(name);
        let answer = request.execute().try_next().await;
        one(answer, || format!("device {name}"))
    }

    /// The device of this index, if there is one.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn link_by_index(&self, ifindex: u32) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_index(ifindex);
        let answer = request.execute().try_next().await;
        one(answer, || format!("device with index {ifindex}"))
    }

    /// All addresses of global scope: device index and address, in the kernel's order.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpAddr)>, NetlinkError> {
        let messages: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|source| NetlinkError::Request {
                what: "list of addresses".into(),
                source,
            })?;
        let mut addresses = Vec::new();
        for message in messages {
            if message.header.scope != AddressScope::Universe {
                continue;
            }
            // On point-to-point devices ADDRESS is the other end, and LOCAL this one.
            let mut address = None;
            for attribute in message.attributes {
                match attribute {
                    AddressAttribute::Local(local) => address = Some(local),
                    AddressAttribute::Address(other) if address.is_none() => address = Some(other),
                    _ => {}
                }
            }
            addresses.extend(address.map(|a| (message.header.index, a)));
        }
        Ok(addresses)
    }

    /// Makes a veth pair that carries no IP of its own, both ends up and with this MTU.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn add_veth(&self, name: &str, peer: &str, mtu: u32) -> Result<(), NetlinkError> {
        let error = |source| NetlinkError::Request {
            what: format!("making the devices {name} and {peer}"),
            source,
        };
        let made = self
            .handle
            .link()
            .add(LinkVeth::new(name, peer).build())
            .execute()
            .await;
        match made {
            Err(e) if !is_errno(&e, libc::EEXIST) => return Err(error(e)),
            _ => {}
        }
        for device in [name, peer] {
            let change = LinkUnspec::new_with_name(device)
                .mtu(mtu)
                .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                    vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
                )]));
            let set = self.handle.link().set(change.build()).execute().await;
            // Without IPv6 in the kernel there is no such mode, and no need for it.
            if let Err(e) = set {
                if !is_errno(&e, libc::EAFNOSUPPORT) {
                    return Err(error(e));
                }
                let mtu_only = LinkUnspec::new_with_name(device).mtu(mtu);
                let set = self.handle.link().set(mtu_only.build()).execute().await;
                set.map_err(error)?;
            }
            let up = LinkUnspec::new_with_name(device).up();
            let set = self.handle.link().set(up.build()).execute().await;
            set.map_err(error)?;
        }
        Ok(())
    }

    /// Deletes a device, if it is there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn delete_link(&self, name: &str) -> Result<(), NetlinkError> {
        let Some(link) = self.link_by_name(name).await? else {
            return Ok(());
        };
        match self.handle.link().del(link.ifindex).execute().await {
            Err(e) if !is_errno(&e, libc::ENODEV) => Err(NetlinkError::Request {
                what: format!("deleting the device {name}"),
                source: e,
            }),
            _ => Ok(()),
        }
    }
}

fn one(
    answer: Result<Option<LinkMessage>, rtnetlink::Error>,
    what: impl Fn() -> String,
) -> Result<Option<Link>, NetlinkError> {
    match answer {
        Ok(message) => Ok(message.and_then(Link::from_message)),
        Err(e) if is_errno(&e, libc::ENODEV) => Ok(None),
        Err(source) => Err(NetlinkError::Request {
            what: what(),
            source,
        }),
    }
}
