//! From a frame at a port or on the underlay to its verdict.

use crate::{
    cache,
    classify::{
        self, END, END_GROUP_CHANGED, END_LIMIT, END_MISS, END_NO_BUCKET, END_NO_METER, END_RESUME,
        END_PROMISED, END_TC, Role,
    },
    counters, events, execute, flow, group,
    maps::{DEVICES, NETWORKS, PORTS, SWITCHES, TUNNEL_PORTS, load},
    output,
    packet::{Packet, opaque},
    parse,
    state::State,
    tunnel,
};
use aya_ebpf::helpers::generated::bpf_jiffies64;
use switch_abi::{
    BUCKET_NO_PORT, DEVICE_UNDERLAY, DropReason, PART_BUCKET, PART_HEAD, PORT_LOCAL, PORT_REMOTE,
    PortEntry, TUNNEL_DELIVER, TUNNEL_GROUP, TUNNEL_PROCESS, TunnelPortKey, miss_index,
};

/// The reserved port number of the controller, where packets come from that came in by no port.
const CONTROLLER: u32 = 0xffff_fffd;

/// Why the pipeline ends without a redirect.
pub enum Stop {
    /// Not for LIME, or (XDP) for the TC program on the same device.
    Pass,
    /// Dropped, to be counted at this port slot.
    Drop(u32, DropReason),
}

/// A frame that came in by a switch port.
#[inline(always)]
pub fn from_port<P: Packet>(packet: P) -> Result<i32, Stop> {
    let slot = match DEVICES.get(packet.ifindex()) {
        Some(word) => load(word),
        None => 0,
    };
    if slot == 0 || slot == DEVICE_UNDERLAY {
        return if P::XDP {
            Err(Stop::Pass)
        } else {
            Err(Stop::Drop(0, DropReason::NotAPort))
        };
    }
    let Some(state) = State::current() else {
        return Err(Stop::Pass);
    };
    packet.survey(state);
    if P::XDP && state.fragments != 0 {
        // Not every device takes such frames from XDP, and none says that it does not.
        return Err(Stop::Pass);
    }
    let entrance = Entrance::of(slot)?;
    let network = entrance.port.network;
    // The compiler knows what it returns, the verifier does not.
    let found = opaque(packet.short_cut(slot, network, entrance.clock) as usize) as u32;
    if found >= cache::VERDICT {
        return Ok((found - cache::VERDICT) as i32);
    }
    let known = found == cache::KNOWN;
    state.renew(P::XDP);
    process(packet, state, entrance, known)
}

/// A frame that came in by an underlay device, or by the recirculation device.
#[inline(always)]
pub fn from_underlay<P: Packet>(packet: P) -> Result<i32, Stop> {
    let Some(state) = State::current() else {
        return Err(Stop::Pass);
    };
    packet.survey(state);
    state.renew(P::XDP);
    state.memo.wanted = 0;
    if P::XDP && state.fragments != 0 {
        return Err(Stop::Pass);
    }
    match tunnel::examine(packet, state) {
        tunnel::FRAME => {}
        tunnel::BAD_OPTION => return Err(Stop::Drop(0, DropReason::BadTunnelOption)),
        tunnel::UNKNOWN_PEER => return Err(Stop::Drop(0, DropReason::UnknownPeer)),
        _ => return Err(Stop::Pass),
    }
    let arrival = state.arrival;
    tunnel::obey(arrival.network, arrival.clock).map_err(|reason| Stop::Drop(0, reason))?;
    let key = TunnelPortKey {
        network: arrival.network,
        port: arrival.port,
    };
    let Some(slot) = TUNNEL_PORTS.get_ptr(&key) else {
        return Err(Stop::Drop(0, DropReason::UnknownPort));
    };
    // SAFETY: an element of a preallocated hash map stays readable; the word is stored whole.
    let slot = unsafe { core::ptr::read_volatile(slot) };
    let Some(port) = PORTS.get(slot) else {
        return Err(Stop::Drop(0, DropReason::UnknownPort));
    };
    if arrival.hops == 0 {
        return Err(Stop::Drop(slot, DropReason::HopLimit));
    }
    state.hops = arrival.hops - 1;
    state.source_port = arrival.source_port;
    state.base = arrival.outer;
    state.network = arrival.network;
    const DELIVER: u32 = TUNNEL_DELIVER as u32;
    const PROCESS: u32 = TUNNEL_PROCESS as u32;
    const GROUP: u32 = TUNNEL_GROUP as u32;
    match arrival.kind {
        DELIVER => return deliver(packet, state, slot, port),
        PROCESS => {}
        GROUP if tunnel::from_self(state) => {
            let part = match arrival.bucket & !(BUCKET_NO_PORT as u32) {
                0 => PART_HEAD,
                bucket => PART_BUCKET + bucket as u16 - 1,
            };
            group::begin(state, arrival.argument, part);
            state.source_port = 0;
            state.hold = arrival.hold;
            if arrival.source_port | arrival.hold != 0 {
                if P::XDP {
                    return Err(Stop::Pass);
                }
                state.queue = arrival.source_port;
                packet.set_queue(arrival.source_port);
            }
        }
        _ => return Err(Stop::Drop(0, DropReason::BadTunnelOption)),
    }
    process(packet, state, Entrance::of(slot)?, false)
}

/// A frame that was processed elsewhere: out by the port, or on to where the port is now, with the same tag.
#[inline(always)]
fn deliver<P: Packet>(
    packet: P,
    state: &mut State,
    slot: u32,
    port: &PortEntry,
) -> Result<i32, Stop> {
    let kind = load(&port.kind);
    if kind != PORT_LOCAL && kind != PORT_REMOTE {
        return Err(Stop::Drop(slot, DropReason::PortDown));
    }
    if P::XDP && state.arrival.argument != 0 {
        return Err(Stop::Pass);
    }
    state.clock = state.arrival.clock;
    state.port = slot;
    if packet.length() < state.base + 14 {
        return Err(Stop::Drop(slot, DropReason::Malformed));
    }
    if packet.strip_outer() == 0 {
        return Err(Stop::Drop(slot, DropReason::ResizeFailed));
    }
    if state.arrival.argument != 0 {
        packet.set_queue(state.arrival.argument & 0xffff);
    }
    state.tag = match packet.read::<2>(12) {
        Some([0x81, 0x00] | [0x88, 0xa8]) if state.tag == crate::state::TAG_NONE => {
            crate::state::TAG_INLINE
        }
        _ => state.tag,
    };
    if packet.is_gso() {
        state.base = 0;
        if packet.parse() == parse::PARSED {
            state.excess = parse::excess(packet, state);
        }
    }
    packet.emit(slot);
    Ok(output::finish(packet, state))
}

/// Where a packet enters, and at which version.
struct Entrance {
    slot: u32,
    port: &'static PortEntry,
    /// Read once: every table and every switch on this host sees the same version (consistency rule 1).
    clock: u32,
}

impl Entrance {
    #[inline(always)]
    fn of(slot: u32) -> Result<Self, Stop> {
        let Some(port) = PORTS.get(slot) else {
            return Err(Stop::Drop(0, DropReason::UnknownPort));
        };
        let Some(network) = NETWORKS.get(port.network) else {
            return Err(Stop::Drop(slot, DropReason::SwitchDisabled));
        };
        // Rule 17: whoever is alive to say so, the kernel's ticks go on. Reading them takes no call.
        let lease = load(&network.lease);
        // SAFETY: the helper takes nothing; the verifier makes a load of it.
        if lease != 0 && unsafe { bpf_jiffies64() } >= lease {
            return Err(Stop::Drop(slot, DropReason::LeaseOver));
        }
        Ok(Self {
            slot,
            port,
            clock: load(&network.clock),
        })
    }
}

/// A frame to process as come in by a port. `known`: it is `state.flow`.
#[inline(always)]
fn process<P: Packet>(
    packet: P,
    state: &mut State,
    entrance: Entrance,
    known: bool,
) -> Result<i32, Stop> {
    let Entrance {
        slot, port, clock, ..
    } = entrance;
    state.port = slot;
    state.network = port.network;
    state.switch_slot = port.switch_slot;
    state.clock = clock;
    let Some(switch) = SWITCHES.get(port.switch_slot) else {
        return Err(Stop::Drop(slot, DropReason::SwitchDisabled));
    };
    // A copy for a group comes to where the packet was received and counted before.
    let copy = state.grouping != 0;
    let mut role = classify::role(switch, state.clock);
    // Rule 20. A copy belongs to a packet that was processed here before that began.
    let detour = load(&switch.detour);
    if detour != 0 && role == Role::Active && !copy {
        role = Role::Relay(detour);
    }
    match role {
        Role::Disabled => return Err(Stop::Drop(slot, DropReason::SwitchDisabled)),
        Role::None => return Err(Stop::Drop(slot, DropReason::NoInstance)),
        _ => {}
    }
    state.in_port = port.port_no;
    state.floor = state.clock;
    if copy {
        state.floor = state.arrival.clock;
        if state.hold != 0 {
            // The agent acknowledges nothing later before this copy is done with.
            state.clock = state.floor;
        }
        if state.arrival.bucket & BUCKET_NO_PORT as u32 != 0 {
            state.port = 0;
            state.in_port = CONTROLLER;
        }
    }
    if known {
        flow::fill(state);
    } else {
        match packet.parse() {
            parse::PARSED => {}
            parse::TOO_SHORT if P::XDP => return Err(Stop::Pass),
            parse::TOO_SHORT => return Err(Stop::Drop(slot, DropReason::ResizeFailed)),
            _ => return Err(Stop::Drop(slot, DropReason::Malformed)),
        }
    }
    state.origin = slot;
    if packet.is_gso() {
        state.excess = parse::excess(packet, state);
    }
    if copy && role != Role::Active {
        return Err(Stop::Drop(slot, DropReason::NoInstance));
    }
    if let Role::Relay(peer) = role {
        strip(packet, state, slot)?;
        output::tunnel_to(packet, state, peer, TUNNEL_PROCESS, port.id, slot, false);
        return Ok(output::finish(packet, state));
    }
    classify::lime_classify();
    if P::XDP && (state.end == END_TC || state.hold != 0) {
        return Err(Stop::Pass);
    }
    // Back from where the trajectory ends.
    state.switch_slot = port.switch_slot;
    strip(packet, state, slot)?;
    if !P::XDP && state.end == END_PROMISED {
        packet.wait(slot, copy as u32);
        return Ok(P::DROP);
    }
    if !copy {
        counters::rx(slot, packet.length());
    }
    execute::execute(packet, state);
    let reason = match state.end {
        END_MISS => Some(DropReason::TableMiss),
        END_LIMIT | END_RESUME => Some(DropReason::HopLimit),
        END_NO_METER => Some(DropReason::Metered),
        END_NO_BUCKET => Some(DropReason::NoBucket),
        END_GROUP_CHANGED => Some(DropReason::GroupChanged),
        // After what rules before have done: it can not enter again as it came in.
        END_PROMISED => Some(DropReason::Promised),
        END if state.done == 0 => Some(DropReason::RuleDrop),
        _ => None,
    };
    if let Some(reason) = reason {
        counters::dropped(state.port, reason);
    }
    state.missed = 0;
    if state.end == END_MISS {
        state.missed = miss_index(state.switch_slot, state.table);
        counters::lime_missed(state.missed);
    }
    cache::remember(state, reason);
    if !P::XDP && state.hold != 0 {
        events::lime_held();
    }
    Ok(output::finish(packet, state))
}

/// Takes the outer headers off a frame that came by tunnel and was parsed.
#[inline(always)]
fn strip<P: Packet>(packet: P, state: &mut State, slot: u32) -> Result<(), Stop> {
    if state.base == 0 {
        return Ok(());
    }
    let moved = packet.strip_outer();
    if moved == 0 {
        return Err(Stop::Drop(slot, DropReason::ResizeFailed));
    }
    state.l3 -= moved;
    state.l4 -= if state.l4 != 0 { moved } else { 0 };
    state.base = 0;
    Ok(())
}

/// Takes the outer headers off; by how much that brings the tenant's headers forward, or 0: the kernel refused. A stage of its own, so that
/// what it keeps on the stack does not lie below everything that follows.
#[inline(always)]
pub fn strip_outer<P: Packet>(packet: P) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    let (base, tag) = (state.base, state.tag);
    if !packet.decapsulate(state, base) {
        return 0;
    }
    // A tag that went to the metadata is no longer among the bytes.
    if tag != state.tag { base + 4 } else { base }
}
