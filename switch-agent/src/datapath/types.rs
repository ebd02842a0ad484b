//! What goes into the data path and what comes out of it, in the coordinator's terms.

use std::net::IpAddr;

use lime_core::model::PacketIns;
use lime_core::{Epoch, HostId, NetworkId, PortId, PortNo, RuleId, SwitchId};
use switch_abi::{DROP_REASONS, DropReason};

/// Sizes of the tables, fixed when the maps are created. Re-adopted maps keep those that they were created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rule versions on this host, 1 to 16,777,216 (some 545 bytes each and 16 per CPU).
    pub rules: u32,
    /// Ports that this host knows of, local and remote, with those that rules only mention.
    pub ports: u32,
    /// Networks.
    pub networks: u32,
    /// Switches.
    pub switches: u32,
    /// Other hosts.
    pub peers: u32,
    /// Bytes of the event ring, a power of two of at least a page.
    pub event_ring_bytes: u32,
    /// Flows that each CPU remembers, a power of two of at most 1,048,576 (128 bytes each); 0: none. Programs that an agent takes up
    /// again keep what they were loaded with.
    pub flow_cache: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rules: 131_072,
            ports: 4096,
            networks: 256,
            switches: 1024,
            peers: 1024,
            event_ring_bytes: 4 << 20,
            flow_cache: 4096,
        }
    }
}

/// What was found pinned and is carried on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// By rising id.
    pub networks: Vec<AdoptedNetwork>,
}

/// One adopted network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdoptedNetwork {
    /// Which.
    pub id: NetworkId,
    /// Its clock here.
    pub clock: Epoch,
    /// How far it is staged here.
    pub staged: Epoch,
    /// Switches of which an instance with all its rules is here, by rising id.
    pub switches: Vec<SwitchId>,
}

/// How packets of one switch are treated on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchSettings {
    /// Which switch.
    pub id: SwitchId,
    /// An instance is here; it holds rules and processes packets at clocks from `join_epoch` to before `retire_epoch`.
    pub instance: bool,
    /// [`Epoch::ZERO`]: at once.
    pub join_epoch: Epoch,
    /// [`Epoch::ZERO`]: no end.
    pub retire_epoch: Epoch,
    /// Where packets go that the instance here does not process.
    pub relay_host: Option<HostId>,
    /// There are several instances: outputs beside a controller action are held back (consistency rule 5).
    pub hold: bool,
    /// What it sends its controller; a burst of 0: without a limit. The rate is kept by who gives back what it has read:
    /// [`super::Datapath::give_back_events`].
    pub packet_ins: PacketIns,
}

/// Where a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A device of this host.
    Local {
        /// Its index, 1 to 65535, as the agent's network namespace counts.
        ifindex: u32,
    },
    /// On another host.
    Remote(HostId),
    /// One end of a link between two switches of the network; this is the other. Packets pass once both ends exist.
    Link(PortId),
}

/// One port of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// Which port.
    pub id: PortId,
    /// Its switch; fixed for the port's life.
    pub switch: SwitchId,
    /// Its number there; fixed for the port's life.
    pub port_no: PortNo,
    /// Where it is.
    pub place: Place,
    /// Outputs are dropped (administratively down or no carrier).
    pub down: bool,
    /// Down on the host where it is: groups do not use buckets that watch it.
    pub dead: bool,
    /// Floods leave it out.
    pub no_flood: bool,
    /// Largest L3 packet, bytes; 0: not known.
    pub mtu: u32,
}

/// How frames reach a peer on the underlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerRoute {
    /// Device to send by.
    pub ifindex: u32,
    /// Largest L3 packet on it, bytes.
    pub mtu: u32,
    /// The device's MAC address.
    pub src_mac: [u8; 6],
    /// The next hop's MAC address.
    pub dst_mac: [u8; 6],
    /// This host's underlay address; of the same family as `dst`.
    pub src: IpAddr,
    /// The peer's underlay address.
    pub dst: IpAddr,
}

/// How a program is attached to a port's device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// XDP where the driver has it natively and segmentation offload is no loss (no veth, no tap); else TC.
    Auto,
    /// Native XDP, and TC behind it for what XDP leaves.
    Xdp,
    /// XDP in the kernel's generic mode, and TC behind it. Slower than TC alone: for tests of the XDP program.
    XdpGeneric,
    /// TC only.
    Tc,
}

/// Packets and bytes that matched one rule, over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleCount {
    /// Which rule.
    pub rule: RuleId,
    /// Packets.
    pub packets: u64,
    /// Bytes, from the Ethernet header on, without FCS.
    pub bytes: u64,
}

/// A port's counters over all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCount {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Packets handed on.
    pub tx_packets: u64,
    /// Bytes handed on.
    pub tx_bytes: u64,
    /// Dropped packets by [`DropReason`].
    pub drops: [u64; DROP_REASONS],
}

impl PortCount {
    /// Drops by reason, without zeros.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.drops[reason as usize]))
            .filter(|&(_, n)| n != 0)
    }
}

/// A rule in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRule {
    /// Which rule.
    pub id: RuleId,
    /// What it says.
    pub rule: lime_core::flow::Rule,
    /// First epoch at which it is visible.
    pub from: Epoch,
    /// First epoch at which it no longer is.
    pub to: Option<Epoch>,
}

/// Free slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rules that can still be staged.
    pub rules: u32,
    /// Ports that can still be made.
    pub ports: u32,
}
