//! Places to measure in: hosts joined by an underlay, and stations (end hosts) each with one cable into a host, all of them
//! namespaces of a lab that nobody but the benchmark runs in. LIME's data path is driven through its library, in the hosts.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, ensure};
use lime_tests::lab::{Fabric, Lab, LabHost, Links, Netns, ethtool};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use switch_agent::datapath::{Datapath, Limits};

/// MTU of stations and their cables, bytes.
pub const STATION_MTU: u32 = 1500;
/// MTU of the underlay, bytes.
pub const UNDERLAY_MTU: u32 = 9000;
/// Device inside a station.
pub const DEVICE: &str = "eth0";

/// Hosts with an underlay. Everything goes when this is dropped, or when the process dies.
pub struct Site {
    lab: Lab,
}

impl Site {
    /// With this many hosts, called a, b ...
    pub async fn build(hosts: usize) -> Result<Self> {
        let lab = Lab::builder()
            .hosts(hosts)
            .end_hosts(0)
            .underlay_mtu(UNDERLAY_MTU)
            // No agents and no coordinator.
            .fabric(Fabric::Bridge)
            .build()
            .await
            .context("cannot build the benchmark's namespaces")?;
        Ok(Self { lab })
    }

    /// A host by its name.
    pub fn host(&self, name: &str) -> Result<&LabHost> {
        Ok(self.lab.host(name)?)
    }

    /// LIME's data path on a host, with maps of its own. `name`: unique on the host.
    pub fn datapath(&self, host: &str, name: &str, limits: &Limits) -> Result<Datapath> {
        let pins = self.lab.bpffs(host).join(name);
        std::fs::create_dir_all(self.lab.bpffs(host))
            .with_context(|| format!("cannot make {}", self.lab.bpffs(host).display()))?;
        let (datapath, adopted) =
            inside(self.host(host)?.netns(), || Datapath::open(&pins, limits))?
                .context("cannot open the data path")?;
        ensure!(
            adopted.networks.is_empty(),
            "{} is not fresh",
            pins.display()
        );
        Ok(datapath)
    }

    /// Where [`Site::datapath`] has pinned its maps and programs.
    pub fn pins(&self, host: &str, name: &str) -> std::path::PathBuf {
        self.lab.bpffs(host).join(name)
    }

    /// A directory for files; it goes with the site.
    pub fn scratch(&self) -> std::path::PathBuf {
        self.lab.name().scratch()
    }

    /// Makes a station with a cable into `host`, where the device is called `device`. `number` (1 to 254) makes its addresses:
    /// `10.0.0.number`. `xdp`: set the offloads as XDP needs them, see [`ethtool`].
    pub async fn station(
        &self,
        host: &str,
        device: &str,
        number: u8,
        xdp: bool,
    ) -> Result<Station> {
        let host = self.host(host)?;
        let ns = Netns::create(
            &self
                .lab
                .name()
                .namespace(&format!("{}-{device}", host.name())),
        )?;
        let mac = [2, 0, 0, 0, 0, number];
        let links = Links::open(&ns)?;
        host.links()
            .add_veth(device, &links, DEVICE, Some(mac), STATION_MTU)
            .await?;
        let address = Ipv4Addr::new(10, 0, 0, number);
        links.add_address(DEVICE, address.into(), 24).await?;
        if xdp {
            ethtool::set(&ns, DEVICE, ethtool::Offload::TxChecksum, false)?;
            ethtool::set(&ns, DEVICE, ethtool::Offload::Gro, true)?;
            ethtool::set(host.netns(), device, ethtool::Offload::Gro, true)?;
        }
        Ok(Station {
            ns,
            mac,
            address,
            device: device.to_owned(),
            ifindex: ifindex(host.netns(), device)?,
        })
    }
}

/// An end host with one cable.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its namespace.
    pub ns: Netns,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its address.
    pub address: Ipv4Addr,
    /// The cable's device on the host.
    pub device: String,
    /// Its index there.
    pub ifindex: u32,
}

/// Runs `f` in a namespace.
pub fn inside<T: Send>(ns: &Netns, f: impl FnOnce() -> T + Send) -> Result<T> {
    ns.run(f)
        .with_context(|| format!("cannot enter the namespace {}", ns.name()))
}

/// Index of a device in a namespace.
pub fn ifindex(ns: &Netns, device: &str) -> Result<u32> {
    inside(ns, || if_nametoindex(device))?
        .with_context(|| format!("no device {device} in {}", ns.name()))
}

/// MAC and first IPv4 address of a device in a namespace.
pub fn addresses(ns: &Netns, device: &str) -> Result<([u8; 6], IpAddr)> {
    let all = inside(ns, || getifaddrs().map(|all| all.collect::<Vec<_>>()))?
        .context("cannot list addresses")?;
    let of_device = || {
        all.iter()
            .filter(|a| a.interface_name == device)
            .filter_map(|a| a.address)
    };
    let mac = of_device().find_map(|a| a.as_link_addr().and_then(|l| l.addr()));
    let ip = of_device().find_map(|a| a.as_sockaddr_in().map(|s| s.ip()));
    match (mac, ip) {
        (Some(mac), Some(ip)) => Ok((mac, ip.into())),
        _ => anyhow::bail!("{device} in {} has no MAC or no IPv4 address", ns.name()),
    }
}
