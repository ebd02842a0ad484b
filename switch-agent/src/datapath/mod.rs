//! The data path as the agent sees it: networks, switches, ports, peers and rules by the coordinator's ids, written into the
//! maps that the kernel programs read.
//!
//! [`Datapath`] is synchronous and single-threaded (`Send`, to be kept behind one owner). Writes are plain stores into mapped
//! memory; only `collect`, `remove_*` and running out of slots wait for a grace period (some milliseconds to some tens of them).
//! Invariant: what a packet can see changes only by single aligned words, and what it could still see is not reused before a grace period.

mod error;
mod types;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use lime_core::flow::Rule;
use lime_core::{Epoch, HostId, NetworkId, PortId, RuleId, SwitchId};
use std::net::IpAddr;

pub use error::*;
pub use types::*;

/// The maps and programs of this host, and indices over them.
pub struct Datapath {}

#[allow(unused_variables, clippy::todo)]
impl Datapath {
    /// Mounts bpffs at (the parent of) `pin_dir` if needed, then loads the programs and pins everything in `pin_dir`, or adopts what is
    /// pinned there. Maps of another ABI version are refused ([`DatapathError::Unsupported`]).
    pub fn open(pin_dir: &Path, limits: &Limits) -> Result<(Datapath, Adopted)> {
        todo!()
    }
    /// Without a kernel: tables in ordinary memory, nothing is attached. For tests.
    pub fn in_memory(limits: &Limits) -> Result<Datapath> {
        todo!()
    }
    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        todo!()
    }
    /// Free slots (those that wait for a grace period count as free).
    pub fn capacity(&self) -> Capacity {
        todo!()
    }
    /// Makes or changes a network. `vni`: 24 bits, unique on this host. `untagged`: clock tags are neither checked nor obeyed.
    pub fn set_network(&mut self, id: NetworkId, vni: u32, untagged: bool) -> Result<()> {
        todo!()
    }
    /// Removes a network with all its switches, ports and rules. Waits for a grace period.
    pub fn remove_network(&mut self, id: NetworkId) -> Result<()> {
        todo!()
    }
    /// Ids of all networks, rising.
    pub fn networks(&self) -> Vec<NetworkId> {
        todo!()
    }
    /// The network's clock on this host.
    pub fn clock(&self, id: NetworkId) -> Result<Epoch> {
        todo!()
    }
    /// How far the network is staged on this host. [`Epoch::ZERO`]: not at all yet.
    pub fn staged(&self, id: NetworkId) -> Result<Epoch> {
        todo!()
    }
    /// Raises the clock to `epoch` unless it is further already, atomically against the kernel's own raising. Gives the clock after that.
    /// Above what is staged: [`DatapathError::Invalid`].
    pub fn raise_clock(&mut self, id: NetworkId, epoch: Epoch) -> Result<Epoch> {
        todo!()
    }
    /// Who may send frames of this network: all other members, with their underlay addresses. Replaces what was.
    pub fn set_members(&mut self, id: NetworkId, members: &[(HostId, IpAddr)]) -> Result<()> {
        todo!()
    }
    /// Makes or changes a switch. Without `instance`, rules that it had are removed (waits for a grace period then).
    pub fn set_switch(&mut self, network: NetworkId, settings: &SwitchSettings) -> Result<()> {
        todo!()
    }
    /// Removes a switch with its ports and rules. Waits for a grace period.
    pub fn remove_switch(&mut self, network: NetworkId, switch: SwitchId) -> Result<()> {
        todo!()
    }
    /// Switches of a network, rising.
    pub fn switches(&self, network: NetworkId) -> Result<Vec<SwitchId>> {
        todo!()
    }
    /// Makes or changes a port.
    pub fn set_port(&mut self, network: NetworkId, settings: &PortSettings) -> Result<()> {
        todo!()
    }
    /// Removes a port. Rules that output to its number drop from then on ("port-down").
    pub fn remove_port(&mut self, network: NetworkId, port: PortId) -> Result<()> {
        todo!()
    }
    /// Ports of a network that have been set, as they were set, by rising id.
    pub fn ports(&self, network: NetworkId) -> Result<Vec<PortSettings>> {
        todo!()
    }
    /// Marks a device as carrying tunnel frames, or no longer.
    pub fn set_underlay_device(&mut self, ifindex: u32, on: bool) -> Result<()> {
        todo!()
    }
    /// How frames reach a host; `None`: no next hop known, they are dropped ("no-path").
    pub fn set_peer(&mut self, host: HostId, route: Option<&PeerRoute>) -> Result<()> {
        todo!()
    }
    /// Forgets a host that no port and no switch refers to any more (else [`DatapathError::InUse`]).
    pub fn remove_peer(&mut self, host: HostId) -> Result<()> {
        todo!()
    }
    /// The recirculation device: `route` says how frames to this host itself are sent (by the one side of the veth pair),
    /// `receive_ifindex` is the other side, which must be attached by [`Datapath::attach_underlay`]. Frames from `route.src` are then
    /// accepted for every network.
    pub fn set_recirculation(&mut self, receive_ifindex: u32, route: &PeerRoute) -> Result<()> {
        todo!()
    }
    /// Prepares `epoch`: rules to add and to remove, of one switch; invisible until the clock gets there. All or nothing.
    ///
    /// `epoch` follows what is staged (on a network where nothing is, it may be any); one that is already staged is `Ok` and does nothing.
    /// Where there is no instance of the switch, only the number counts.
    pub fn stage(
        &mut self,
        network: NetworkId,
        epoch: Epoch,
        switch: Option<SwitchId>,
        add: &[(RuleId, Rule)],
        remove: &[RuleId],
    ) -> Result<()> {
        todo!()
    }
    /// Starts to replace all rules of a switch by those as of `epoch`; the instance must not be processing packets.
    /// Until [`Datapath::finish_snapshot`], a re-adoption takes the switch as one without an instance.
    pub fn begin_snapshot(
        &mut self,
        network: NetworkId,
        switch: SwitchId,
        epoch: Epoch,
    ) -> Result<()> {
        todo!()
    }
    /// Adds rules to a begun snapshot. All of this part or nothing.
    pub fn add_snapshot(
        &mut self,
        network: NetworkId,
        switch: SwitchId,
        rules: &[SnapshotRule],
    ) -> Result<()> {
        todo!()
    }
    /// The snapshot is complete. Where nothing was staged in the network, its epoch now is.
    pub fn finish_snapshot(&mut self, network: NetworkId, switch: SwitchId) -> Result<()> {
        todo!()
    }
    /// Reclaims rule versions that ended at or before `epoch`, and everything else that waits for a grace period. Their counters are
    /// gone then. Gives how many rules it reclaimed. Waits for a grace period if there was anything.
    pub fn collect(&mut self, network: NetworkId, epoch: Epoch) -> Result<usize> {
        todo!()
    }
    /// Counters of all rules of a network or of one switch of it, ended but uncollected versions included; in no order.
    pub fn rule_counters(
        &self,
        network: NetworkId,
        switch: Option<SwitchId>,
    ) -> Result<Vec<RuleCount>> {
        todo!()
    }
    /// Counters of all ports of a network, by rising id.
    pub fn port_counters(&self, network: NetworkId) -> Result<Vec<(PortId, PortCount)>> {
        todo!()
    }
    /// Drops of frames that belong to no port.
    pub fn stray_counters(&self) -> PortCount {
        todo!()
    }
    /// The compiled actions of the rule in a slot, if it still is that rule: for events whose output was held back.
    pub fn rule_actions(&self, slot: u32, rule: RuleId) -> Option<Vec<switch_abi::Action>> {
        todo!()
    }
    /// The port in a slot, as compiled actions name it.
    pub fn port_at(&self, slot: u32) -> Option<PortId> {
        todo!()
    }
    /// Attaches the port programs to a device and gives the mode in force (never [`AttachMode::Auto`]). A device that has them already is
    /// adopted; one with somebody else's XDP program is refused ([`DatapathError::InUse`], which says whose).
    pub fn attach_port(&mut self, ifindex: u32, mode: AttachMode) -> Result<AttachMode> {
        todo!()
    }
    /// Attaches the underlay programs, as [`Datapath::attach_port`].
    pub fn attach_underlay(&mut self, ifindex: u32, mode: AttachMode) -> Result<AttachMode> {
        todo!()
    }
    /// Takes whatever this data path attached off a device.
    pub fn detach(&mut self, ifindex: u32) -> Result<()> {
        todo!()
    }
    /// Whether and how the device could be attached, without doing it.
    pub fn check_attach(&self, ifindex: u32, mode: AttachMode) -> Result<AttachMode> {
        todo!()
    }
    /// The event ring. There is one consumer: taken once, [`DatapathError::InUse`] after that.
    pub fn event_ring(&mut self) -> Result<EventRing> {
        todo!()
    }
}

/// Packets for the controller, in the order in which the programs put them in.
pub struct EventRing {
    fd: std::os::fd::OwnedFd,
}

impl EventRing {
    /// Takes everything that is in the ring now and gives how many records that were.
    #[allow(unused_variables, clippy::todo)]
    pub fn drain(&mut self, each: impl FnMut(&switch_abi::EventHeader, &[u8])) -> usize {
        todo!()
    }
}

impl AsFd for EventRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until every kernel program that was running has finished: afterwards none sees what was unlinked before.
#[allow(clippy::todo)]
pub fn grace_period() -> std::io::Result<()> {
    todo!()
}
