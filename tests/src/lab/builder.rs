//! Builds a lab.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::end_host::{self, EndHost};
use super::error::{Context, LabError};
use super::ethtool::{self, Offload};
use super::links::Links;
use super::names::{BPFFS, LabName, valid_member};
use super::netns::Netns;
use super::plug::Plug;
use super::registry::{self, Record, Registration};
use super::{COORDINATOR, Lab, LabHost, UNDERLAY_DEVICE, guard};
use crate::record::Recording;

/// MTU of end hosts and of their ports.
const END_HOST_MTU: u32 = 1500;

/// What joins the end hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fabric {
    /// LIME: agents, a coordinator, port devices and the plug program.
    #[default]
    Lime,
    /// As [`Fabric::Lime`], but neither agents nor the coordinator are started.
    LimeStopped,
    /// A plain Linux bridge in the core namespace, for comparison. No process is started.
    Bridge,
}

/// A lab to be.
#[derive(Clone, Debug)]
pub struct LabBuilder {
    name: Option<LabName>,
    hosts: Vec<String>,
    end_hosts: Vec<String>,
    underlay_mtu: u32,
    xdp: bool,
    fabric: Fabric,
    watched: bool,
    lease: Option<u32>,
}

impl Default for LabBuilder {
    fn default() -> Self {
        Self {
            name: None,
            hosts: Vec::new(),
            end_hosts: Vec::new(),
            underlay_mtu: 9000,
            xdp: false,
            fabric: Fabric::Lime,
            watched: true,
            lease: None,
        }
    }
}

impl LabBuilder {
    /// A name of your choice. By default one that no other lab has.
    #[must_use]
    pub fn name(mut self, name: LabName) -> Self {
        self.name = Some(name);
        self
    }

    /// This many hosts, called a, b, c ... (from the 27th on h27 ...).
    #[must_use]
    pub fn hosts(mut self, count: usize) -> Self {
        self.hosts = (0..count)
            .map(|i| match u8::try_from(i) {
                Ok(i) if i < 26 => char::from(b'a' + i).to_string(),
                _ => format!("h{}", i + 1),
            })
            .collect();
        self
    }

    /// This many end hosts, called h1, h2 ...
    #[must_use]
    pub fn end_hosts(mut self, count: usize) -> Self {
        self.end_hosts = (1..=count).map(|i| format!("h{i}")).collect();
        self
    }

    /// End hosts with these names.
    #[must_use]
    pub fn named_end_hosts(mut self, names: &[&str]) -> Self {
        self.end_hosts = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    /// MTU of the underlay, bytes. 9000 by default.
    #[must_use]
    pub fn underlay_mtu(mut self, mtu: u32) -> Self {
        self.underlay_mtu = mtu;
        self
    }

    /// Sets the devices' offloads as ports in XDP mode need them.
    #[must_use]
    pub fn xdp(mut self, on: bool) -> Self {
        self.xdp = on;
        self
    }

    /// How long updates of shared switches wait for a host that cannot be reached, seconds (`--lease` of the coordinator).
    #[must_use]
    pub fn lease(mut self, seconds: u32) -> Self {
        self.lease = Some(seconds);
        self
    }

    /// What joins the end hosts.
    #[must_use]
    pub fn fabric(mut self, fabric: Fabric) -> Self {
        self.fabric = fabric;
        self
    }

    /// Nobody records what end hosts and controllers see: for measurements.
    #[must_use]
    pub fn unwatched(mut self) -> Self {
        self.watched = false;
        self
    }

    /// Builds the lab and waits until all agents are connected. When it fails, nothing stays.
    pub async fn build(self) -> Result<Lab, LabError> {
        if !super::is_root() {
            return Err(LabError::NotRoot);
        }
        self.check_names()?;
        registry::sweep()?;
        mount_bpffs()?;
        let name = self.name.clone().unwrap_or_else(LabName::unique);
        let registration = Registration::new(&name)?;
        // From here on the lab exists as far as clean-up is concerned.
        let undo = Undo(Some(name.clone()));
        let guard = guard::Guard::start(&name)?;
        for dir in [name.scratch(), name.bpffs()] {
            fs::create_dir_all(&dir).doing(|| format!("cannot make {}", dir.display()))?;
        }
        let core = Links::open(&Netns::create(&name.namespace("core"))?)?;
        core.set_up("lo", true).await?;

        let hosts = self.build_hosts(&name, &core).await?;
        let end_hosts = self.build_end_hosts(&name, &core).await?;
        let plug = match self.fabric {
            Fabric::Bridge => {
                join_by_bridge(&core, &end_hosts).await?;
                None
            }
            Fabric::Lime | Fabric::LimeStopped => Some(Mutex::new(
                self.join_by_plug(&name, &core, &hosts, &end_hosts).await?,
            )),
        };
        registration.publish(&Record {
            owner: std::process::id(),
            hosts: self.hosts.clone(),
            end_hosts: self.end_hosts.clone(),
            coordinator: format!("http://{COORDINATOR}"),
            bin_dir: super::binaries::directory(),
        })?;
        let recording = (self.watched && self.fabric != Fabric::Bridge)
            .then(|| Recording::start(&end_hosts))
            .transpose()
            .doing(|| "cannot watch the end hosts".to_owned())?;
        undo.disarm();
        let lab = Lab {
            name,
            core,
            xdp: self.xdp,
            lease: self.lease,
            hosts,
            end_hosts,
            plug,
            coordinator: Mutex::new(None),
            recording,
            _registration: registration,
            _guard: guard,
        };
        if self.fabric == Fabric::Lime {
            lab.start_coordinator()?;
            for host in &lab.hosts {
                lab.start_agent(host.name())?;
            }
            lab.wait_ready().await?;
        }
        Ok(lab)
    }

    fn check_names(&self) -> Result<(), LabError> {
        let mut all: Vec<&String> = self.hosts.iter().chain(&self.end_hosts).collect();
        if let Some(bad) = all.iter().find(|n| !valid_member(n)) {
            return Err(LabError::BadName((*bad).clone()));
        }
        all.sort();
        if let Some(twice) = all.windows(2).find(|w| w[0] == w[1]) {
            return Err(LabError::BadName(twice[0].clone()));
        }
        // Numbers are the last byte of addresses.
        if self.hosts.len() > 250 || self.end_hosts.len() > 250 {
            return Err(LabError::BadName("the 251st".into()));
        }
        Ok(())
    }

    async fn build_hosts(&self, name: &LabName, core: &Links) -> Result<Vec<LabHost>, LabError> {
        let underlay = core.add_bridge("underlay", self.underlay_mtu).await?;
        let management = core.add_bridge("mgmt", 1500).await?;
        core.add_address("mgmt", COORDINATOR.ip(), 24).await?;
        let mut hosts = Vec::new();
        for (host, number) in self.hosts.iter().zip(1u8..) {
            let ns = Netns::create(&name.namespace(host))?;
            let links = Links::open(&ns)?;
            links.set_up("lo", true).await?;
            let cables = [
                (format!("m{number}"), "mgmt0", management, 1500),
                (
                    format!("u{number}"),
                    UNDERLAY_DEVICE,
                    underlay,
                    self.underlay_mtu,
                ),
            ];
            for (outer, inner, bridge, mtu) in &cables {
                core.add_veth(outer, &links, inner, None, *mtu).await?;
                core.set_bridge(outer, *bridge).await?;
            }
            links
                .add_address("mgmt0", Ipv4Addr::new(10, 99, 0, number + 1).into(), 24)
                .await?;
            links
                .add_address(UNDERLAY_DEVICE, Ipv4Addr::new(10, 88, 0, number).into(), 24)
                .await?;
            if self.xdp {
                ethtool::set(core.netns(), &cables[1].0, Offload::Gro, true)?;
            }
            hosts.push(LabHost {
                name: host.clone(),
                number,
                links,
                agent: Mutex::new(None),
            });
        }
        Ok(hosts)
    }

    async fn build_end_hosts(
        &self,
        name: &LabName,
        core: &Links,
    ) -> Result<Vec<EndHost>, LabError> {
        let mut end_hosts = Vec::new();
        for (end_host, number) in self.end_hosts.iter().zip(1u8..) {
            let made = EndHost::create(
                end_host,
                number,
                &name.namespace(end_host),
                core,
                END_HOST_MTU,
            )
            .await?;
            if self.xdp {
                ethtool::set(made.netns(), end_host::DEVICE, Offload::TxChecksum, false)?;
            }
            end_hosts.push(made);
        }
        Ok(end_hosts)
    }

    async fn join_by_plug(
        &self,
        name: &LabName,
        core: &Links,
        hosts: &[LabHost],
        end_hosts: &[EndHost],
    ) -> Result<Plug, LabError> {
        let mut plug = Plug::load(super::plug::OBJECT, core.netns(), &name.bpffs())?;
        for end_host in end_hosts {
            plug.attach(&end_host.outer_device())?;
            for (i, host) in hosts.iter().enumerate() {
                let far_end = format!("p{}-{}", host.number, end_host.name());
                let device = Lab::port_device(end_host.name());
                core.add_veth(&far_end, host.links(), &device, None, END_HOST_MTU)
                    .await?;
                if self.xdp {
                    ethtool::set(core.netns(), &far_end, Offload::Gro, true)?;
                }
                let index = core.index(&far_end).await?;
                plug.attach(&far_end)?;
                plug.redirect(index, end_host.outer_index())?;
                if i == 0 {
                    plug.redirect(end_host.outer_index(), index)?;
                }
            }
        }
        Ok(plug)
    }
}

async fn join_by_bridge(core: &Links, end_hosts: &[EndHost]) -> Result<(), LabError> {
    let bridge = core.add_bridge("lan", END_HOST_MTU).await?;
    for end_host in end_hosts {
        core.set_bridge(&end_host.outer_device(), bridge).await?;
    }
    Ok(())
}

/// Mounts the BPF file system where it is missing, as systemd does.
fn mount_bpffs() -> Result<(), LabError> {
    const BPF_FS_MAGIC: i128 = 0xcafe_4a11;
    let mounted = nix::sys::statfs::statfs(Path::new(BPFFS))
        .is_ok_and(|s| i128::from(s.filesystem_type().0) == BPF_FS_MAGIC);
    if mounted {
        return Ok(());
    }
    let _lock = registry::global_lock()?;
    match mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    ) {
        Err(Errno::EBUSY) => Ok(()),
        other => other.doing(|| format!("cannot mount bpffs at {BPFFS}")),
    }
}

/// Removes what there is of a lab whose building failed.
struct Undo(Option<LabName>);

impl Undo {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(name) = &self.0 {
            super::cleanup::remove(name, std::process::id());
        }
    }
}
