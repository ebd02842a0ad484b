//! What Linux itself offers to join stations: a bridge on one host, bridges and a VXLAN device between two.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use lime_tests::lab::{LabHost, Netns, UNDERLAY_DEVICE};
use rtnetlink::LinkVxlan;

use crate::site::{STATION_MTU, Site, Station, addresses, ifindex, inside};

/// IANA's port for VXLAN (RFC 7348).
const VXLAN_PORT: u16 = 4789;
const VNI: u32 = 4242;

/// Joins stations of one host by a bridge called `name`, as fast as it can be: its packets are kept from the host's packet filter, which
/// looks at them where the module br_netfilter is.
pub async fn bridge(host: &LabHost, name: &str, stations: &[&Station]) -> Result<()> {
    for key in ["iptables", "ip6tables", "arptables"] {
        let path = format!("bridge/bridge-nf-call-{key}");
        if std::path::Path::new("/proc/sys/net").join(&path).exists() {
            host.netns().sysctl(&path, "0")?;
        }
    }
    let bridge = host.links().add_bridge(name, STATION_MTU).await?;
    for station in stations {
        host.links().set_bridge(&station.device, bridge).await?;
    }
    Ok(())
}

/// Joins one station each of two hosts by bridges and a VXLAN tunnel on the underlay.
pub async fn bridges_and_vxlan(site: &Site, ends: [(&str, &Station); 2]) -> Result<()> {
    let [a, b] = ends;
    for ((host, station), (peer, _)) in [(a, b), (b, a)] {
        let (host, peer) = (site.host(host)?, site.host(peer)?);
        bridge(host, "br-vxlan", &[station]).await?;
        vxlan(host.netns(), "vxlan0", peer.underlay_address()).await?;
        let bridge = ifindex(host.netns(), "br-vxlan")?;
        host.links().set_bridge("vxlan0", bridge).await?;
        host.links().set_up("vxlan0", true).await?;
    }
    Ok(())
}

/// A tunnel device to one peer, without UDP checksums, as LIME's tunnel sends none over IPv4 either.
async fn vxlan(ns: &Netns, name: &str, peer: Ipv4Addr) -> Result<()> {
    let (_, IpAddr::V4(local)) = addresses(ns, UNDERLAY_DEVICE)? else {
        bail!("the underlay is not IPv4");
    };
    let (connection, handle, _) =
        inside(ns, rtnetlink::new_connection)?.context("cannot open a netlink socket")?;
    let driver = tokio::spawn(connection);
    let message = LinkVxlan::new(name, VNI)
        .dev(ifindex(ns, UNDERLAY_DEVICE)?)
        .local(local)
        .remote(peer)
        .udp_csum(false)
        .port(VXLAN_PORT)
        .mtu(STATION_MTU)
        .build();
    let made = handle.link().add(message).execute().await;
    driver.abort();
    made.with_context(|| format!("cannot make the VXLAN device {name} in {}", ns.name()))
}
