//! End hosts: namespaces with a stack of their own, which stand for virtual machines.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread::JoinHandle;

use super::error::LabError;
use super::links::Links;
use super::netns::Netns;

/// The device inside an end host.
pub const DEVICE: &str = "eth0";

/// An end host. Its addresses are made of its number n, counted from 1: `10.0.0.n/24`, `fd00::n/64`, `02:00:00:00:00:n`.
#[derive(Clone, Debug)]
pub struct EndHost {
    name: String,
    number: u8,
    links: Links,
    outer_index: u32,
}

impl EndHost {
    /// Makes the namespace and its device; the outer end is `outer` in `core`.
    pub(super) async fn create(
        name: &str,
        number: u8,
        namespace: &str,
        core: &Links,
        mtu: u32,
    ) -> Result<Self, LabError> {
        let ns = Netns::create(namespace)?;
        // Chatter that nobody asked for would be counted by switches, and not by tests.
        ns.sysctl("ipv6/conf/all/disable_ipv6", "0")?;
        // Duplicate address detection is off only where both say so.
        ns.sysctl("ipv6/conf/all/accept_dad", "0")?;
        for (key, value) in [
            ("disable_ipv6", "0"),
            ("addr_gen_mode", "1"),
            ("accept_ra", "0"),
            ("router_solicitations", "0"),
            ("accept_dad", "0"),
        ] {
            ns.sysctl(&format!("ipv6/conf/default/{key}"), value)?;
        }
        // Any user of the lab may ping.
        ns.sysctl("ipv4/ping_group_range", "0 2147483647")?;
        let links = Links::open(&ns)?;
        let outer = outer_device(name);
        let mac = [2, 0, 0, 0, 0, number];
        core.add_veth(&outer, &links, DEVICE, Some(mac), mtu)
            .await?;
        let host = Self {
            name: name.to_owned(),
            number,
            links,
            outer_index: core.index(&outer).await?,
        };
        host.links.set_up("lo", true).await?;
        host.links
            .add_address(DEVICE, host.ipv4().into(), 24)
            .await?;
        host.links
            .add_address(DEVICE, host.ipv6().into(), 64)
            .await?;
        Ok(host)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// `10.0.0.n`.
    pub fn ipv4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, self.number)
    }

    /// `fd00::n`.
    pub fn ipv6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// `02:00:00:00:00:n`.
    pub fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.number]
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        self.links.netns()
    }

    /// Its devices.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Ifindex of the outer end of its device, in the core namespace.
    pub fn outer_index(&self) -> u32 {
        self.outer_index
    }

    /// Name of the outer end of its device, in the core namespace.
    pub fn outer_device(&self) -> String {
        outer_device(&self.name)
    }

    /// Starts a thread inside the end host.
    pub fn run_in<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        self.netns().spawn(&self.name, f)
    }
}

/// What the outer end of an end host's device is called.
fn outer_device(name: &str) -> String {
    format!("e-{name}")
}
