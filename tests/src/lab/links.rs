//! Devices of one namespace, by rtnetlink.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage, Stats64};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
};

use super::error::{Context, LabError};
use super::netns::Netns;

/// A netlink socket in one namespace, and what the lab does with it.
#[derive(Clone, Debug)]
pub struct Links {
    ns: Netns,
    handle: Handle,
}

impl Links {
    /// Opens a socket in `ns`. Must be called inside a tokio runtime, which drives it.
    pub fn open(ns: &Netns) -> Result<Self, LabError> {
        let what = || format!("cannot open a netlink socket in {}", ns.name());
        let (connection, handle, _) = ns
            .run(rtnetlink::new_connection)
            .and_then(|r| r)
            .doing(what)?;
        tokio::spawn(connection);
        Ok(Self {
            ns: ns.clone(),
            handle,
        })
    }

    /// The namespace.
    pub fn netns(&self) -> &Netns {
        &self.ns
    }

    /// Makes a veth pair of `name` here and `peer_name` in the namespace of `peer`, where it gets the address `peer_mac` if one is
    /// given. Both ends are up.
    pub async fn add_veth(
        &self,
        name: &str,
        peer: &Links,
        peer_name: &str,
        peer_mac: Option<[u8; 6]>,
        mtu: u32,
    ) -> Result<(), LabError> {
        let mut far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer_name)
            .mtu(mtu)
            .setns_by_fd(peer.ns.raw_fd());
        if let Some(mac) = peer_mac {
            far = far.address(mac.to_vec());
        }
        let pair = LinkVeth::new(name, peer_name)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())))
            .build();
        self.handle
            .link()
            .add(pair)
            .execute()
            .await
            .doing(|| format!("cannot make the veth pair {name} - {peer_name}"))?;
        // Not in one request with making them: a veth end cannot be up before it has a peer.
        self.set_up(name, true).await?;
        peer.set_up(peer_name, true).await
    }

    /// Makes a bridge, up, without spanning tree and multicast snooping (both send packets of their own).
    pub async fn add_bridge(&self, name: &str, mtu: u32) -> Result<u32, LabError> {
        let message = LinkBridge::new(name)
            .mcast_snooping(false)
            .mtu(mtu)
            .up()
            .build();
        self.handle
            .link()
            .add(message)
            .execute()
            .await
            .doing(|| format!("cannot make the bridge {name} in {}", self.ns.name()))?;
        self.index(name).await
    }

    /// Makes device `name` a port of the bridge with ifindex `bridge` (0: of none).
    pub async fn set_bridge(&self, name: &str, bridge: u32) -> Result<(), LabError> {
        self.set(name, "put into a bridge", |b| b.controller(bridge))
            .await
    }

    /// Sets a device up or down.
    pub async fn set_up(&self, name: &str, up: bool) -> Result<(), LabError> {
        self.set(
            name,
            "set up or down",
            |b| if up { b.up() } else { b.down() },
        )
        .await
    }

    /// Sets a device's MTU, bytes.
    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), LabError> {
        self.set(name, "set the MTU of", |b| b.mtu(mtu)).await
    }

    /// Removes a device (of a veth pair: both ends).
    pub async fn delete(&self, name: &str) -> Result<(), LabError> {
        let index = self.index(name).await?;
        self.handle
            .link()
            .del(index)
            .execute()
            .await
            .doing(|| format!("cannot remove {name} in {}", self.ns.name()))
    }

    /// Gives a device an address. IPv6 addresses are used at once, without duplicate address detection.
    pub async fn add_address(
        &self,
        name: &str,
        address: IpAddr,
        prefix: u8,
    ) -> Result<(), LabError> {
        let index = self.index(name).await?;
        self.handle
            .address()
            .add(index, address, prefix)
            .execute()
            .await
            .doing(|| {
                format!(
                    "cannot give {name} in {} the address {address}/{prefix}",
                    self.ns.name()
                )
            })
    }

    /// Tells an end host (its device `eth0`) the MAC address of a neighbour, so that it need not ask.
    pub async fn add_neighbour(&self, address: IpAddr, mac: [u8; 6]) -> Result<(), LabError> {
        let index = self.index(super::END_HOST_DEVICE).await?;
        self.handle
            .neighbours()
            .add(index, address)
            .link_layer_address(&mac)
            .execute()
            .await
            .doing(|| format!("cannot add the neighbour {address} in {}", self.ns.name()))
    }

    /// Adds an IPv4 default route by `gateway`.
    pub async fn add_default_route(&self, gateway: std::net::Ipv4Addr) -> Result<(), LabError> {
        let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .gateway(gateway)
            .build();
        self.handle
            .route()
            .add(route)
            .execute()
            .await
            .doing(|| format!("cannot add a default route in {}", self.ns.name()))
    }

    /// A device's index in this namespace.
    pub async fn index(&self, name: &str) -> Result<u32, LabError> {
        Ok(self.get(name).await?.header.index)
    }

    /// A device's counters. `rx` and `tx` are as the device sees them: for the outer end of an end host the other way round.
    pub async fn stats(&self, name: &str) -> Result<Stats64, LabError> {
        let message = self.get(name).await?;
        Ok(message
            .attributes
            .into_iter()
            .find_map(|a| match a {
                LinkAttribute::Stats64(s) => Some(s),
                _ => None,
            })
            .unwrap_or_default())
    }

    async fn get(&self, name: &str) -> Result<LinkMessage, LabError> {
        let what = || format!("cannot find the device {name} in {}", self.ns.name());
        let mut answers = self.handle.link().get().match_name(name).execute();
        answers
            .try_next()
            .await
            .doing(what)?
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
            .doing(what)
    }

    async fn set(
        &self,
        name: &str,
        what: &str,
        change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), LabError> {
        let message = change(LinkUnspec::new_with_name(name)).build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .doing(|| format!("cannot {what} {name} in {}", self.ns.name()))
    }
}
