//! Outputs. One is always kept pending: the packet's last output goes without a clone, and XDP makes only that.

use crate::{
    classify::{Role, role},
    counters, events,
    maps::{PEERS, PORTS, SWITCHES, load},
    packet::{Packet, opaque},
    state::{State, TAG_NONE},
    tunnel,
};
use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use switch_abi::{
    BUCKET_NO_PORT, DropReason, MAX_FLOOD, PEER_SELF, PORT_DOWN, PORT_LINK, PORT_LOCAL,
    PORT_REMOTE, PortEntry, TUNNEL_DELIVER, TUNNEL_GROUP, TUNNEL_OPTION_LEN, TUNNEL_PROCESS,
};

/// Outputs to a port: makes the output that is pending, checks this one, and leaves it pending.
#[inline(always)]
pub fn emit<P: Packet>(packet: P, slot: u32) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    if !P::XDP && state.pending.ifindex != 0 {
        packet.flush();
    }
    state.done += 1;
    if state.spoilt != 0 {
        return counters::drop(slot, DropReason::ResizeFailed as u32);
    }
    let Some(port) = PORTS.get(slot) else {
        return counters::drop(slot, DropReason::PortDown as u32);
    };
    if load(&port.flags) & PORT_DOWN != 0 {
        return counters::drop(slot, DropReason::PortDown as u32);
    }
    let (kind, mtu) = (load(&port.kind), load(&port.mtu));
    // Also of a port that is on another host: there nobody knows any more who sent the packet.
    if mtu != 0 && kind != PORT_LINK && l3_length(packet, state) > mtu {
        return too_big(packet, state, slot, mtu);
    }
    if !P::XDP && state.hold != 0 {
        return held(packet, state, slot, port, kind);
    }
    match kind {
        PORT_LOCAL => {
            let ifindex = load(&port.ifindex);
            if ifindex == 0 {
                return counters::drop(slot, DropReason::PortDown as u32);
            }
            by_device(state, ifindex, slot);
            0
        }
        PORT_REMOTE => tunnel_to(
            packet,
            state,
            load(&port.peer),
            TUNNEL_DELIVER,
            port.id,
            slot,
            false,
        ),
        PORT_LINK => {
            let Some(other) = PORTS.get(load(&port.link)) else {
                return counters::drop(slot, DropReason::PortDown as u32);
            };
            let role = match SWITCHES.get(other.switch_slot) {
                Some(switch) => role(switch, state.clock),
                None => Role::Disabled,
            };
            match role {
                Role::Active => tunnel_to(
                    packet,
                    state,
                    PEER_SELF,
                    TUNNEL_PROCESS,
                    other.id,
                    slot,
                    true,
                ),
                Role::Relay(peer) => {
                    tunnel_to(packet, state, peer, TUNNEL_PROCESS, other.id, slot, true)
                }
                Role::None => counters::drop(slot, DropReason::NoInstance as u32),
                Role::Disabled => counters::drop(slot, DropReason::SwitchDisabled as u32),
            }
        }
        _ => counters::drop(slot, DropReason::PortDown as u32),
    }
}

/// As [`emit`], without a call, for what most packets need: their first output, to a local port that takes it. False: nothing was done.
#[inline(always)]
pub fn emit_first<P: Packet>(packet: P, state: &mut State, slot: u32) -> bool {
    if state.pending.ifindex | state.spoilt | state.hold != 0 {
        return false;
    }
    let Some(port) = PORTS.get(slot) else {
        return false;
    };
    if load(&port.kind) != PORT_LOCAL || load(&port.flags) & PORT_DOWN != 0 {
        return false;
    }
    let (ifindex, mtu) = (load(&port.ifindex), load(&port.mtu));
    if ifindex == 0 || mtu != 0 && l3_length(packet, state) > mtu {
        return false;
    }
    state.done += 1;
    by_device(state, ifindex, slot);
    true
}

/// Has an output wait.
#[inline(always)]
fn held<P: Packet>(packet: P, state: &mut State, slot: u32, port: &PortEntry, kind: u32) -> u32 {
    let (tunnel, id) = if kind == PORT_LINK {
        let Some(other) = PORTS.get(load(&port.link)) else {
            return counters::drop(slot, DropReason::PortDown as u32);
        };
        (TUNNEL_PROCESS, other.id)
    } else {
        (TUNNEL_DELIVER, port.id)
    };
    state.pending.kind = tunnel as u32;
    state.pending.port_id = id;
    // The next switch begins without a queue.
    state.pending.group = if kind == PORT_LINK { 0 } else { state.queue };
    state.pending.bucket = 0;
    packet.hold(slot)
}

/// Makes a device the pending output.
#[inline(always)]
fn by_device(state: &mut State, ifindex: u32, slot: u32) {
    state.pending.ifindex = ifindex;
    state.pending.peer = 0;
    state.pending.count_port = slot;
}

/// Gives a copy of the packet to a group, or to one bucket of it (counted from 1): a frame that this host sends to itself.
#[inline(always)]
pub fn to_group<P: Packet>(packet: P, state: &mut State, group: u32, bucket: u32) {
    if state.pending.ifindex != 0 {
        packet.flush();
    }
    state.done += 1;
    let slot = state.port;
    if state.spoilt != 0 {
        counters::dropped(slot, DropReason::ResizeFailed);
        return;
    }
    let (id, none) = if slot == 0 {
        (state.arrival.port, BUCKET_NO_PORT as u32)
    } else {
        (PORTS.get(slot).map_or(0, |port| port.id), 0)
    };
    if state.hold != 0 {
        state.pending.kind = TUNNEL_GROUP as u32;
        state.pending.port_id = id;
    } else {
        tunnel_to(packet, state, PEER_SELF, TUNNEL_GROUP, id, slot, false);
    }
    state.pending.group = group;
    state.pending.bucket = bucket | none;
    if state.hold != 0 {
        packet.hold(slot);
    }
}

/// Makes a tunnel frame to a peer the pending output. `slot`: where a drop is counted, and with `count` the packet.
#[inline(always)]
pub fn tunnel_to<P: Packet>(
    packet: P,
    state: &mut State,
    peer: u32,
    kind: u8,
    port_id: u32,
    slot: u32,
    count: bool,
) -> u32 {
    if state.hops == 0 {
        return counters::drop(slot, DropReason::HopLimit as u32);
    }
    let Some(entry) = PEERS.get(peer) else {
        return counters::drop(slot, DropReason::NoPath as u32);
    };
    let variant = load(&entry.current) & 1;
    let header = if variant == 0 {
        &entry.variants[0]
    } else {
        &entry.variants[1]
    };
    let (ifindex, mtu) = (header.ifindex, header.mtu);
    if peer == 0 || ifindex == 0 {
        return counters::drop(slot, DropReason::NoPath as u32);
    }
    let overhead = header.len - 14 + TUNNEL_OPTION_LEN as u32;
    let length = packet.length() - state.excess + overhead;
    if mtu != 0 && length > mtu {
        let room = mtu - (length - l3_length(packet, state));
        return too_big(packet, state, slot, room);
    }
    state.pending.ifindex = ifindex;
    state.pending.peer = peer;
    state.pending.kind = kind as u32;
    state.pending.port_id = port_id;
    state.pending.variant = variant;
    state.pending.group = 0;
    state.pending.bucket = 0;
    state.pending.count_port = if count { slot } else { 0 };
    0
}

/// The packet goes on in the switch at the link's other end, in this run.
#[inline(always)]
pub fn cross_link<P: Packet>(packet: P, state: &mut State, from: u32, to: u32) {
    let length = packet.length();
    counters::tx(from, length);
    counters::rx(to, length);
    if state.crossed < crate::cache::LINKS as u32 {
        // SAFETY: the index is within the array.
        unsafe {
            (&raw mut state.links)
                .cast::<crate::cache::Link>()
                .add(state.crossed as usize)
                .write(crate::cache::Link { from, to });
        }
    }
    state.crossed += 1;
    state.port = to;
    if state.queue != 0 {
        // What is to go out before keeps it.
        if !P::XDP && state.pending.ifindex != 0 {
            packet.flush();
        }
        state.queue = 0;
        packet.set_queue(0);
    }
    // Whether rules drop it is a matter of each switch.
    if state.done != 0 {
        // A copy was dropped here, as the next packet's is to be: a short cut would not count that.
        state.plain = 0;
    }
    state.done = 0;
    if let Some(port) = PORTS.get(to) {
        state.switch_slot = port.switch_slot;
    }
}

/// Outputs to all ports of the switch but the ingress port and those with a flag of `skip`.
#[inline(always)]
pub fn flood<P: Packet>(packet: P, state: &mut State, skip: u32) {
    let Some(switch) = SWITCHES.get(state.switch_slot) else {
        return;
    };
    state.flood_next = load(&switch.first_port);
    state.flood_skip = skip;
    // A flood to nowhere is not a rule that drops.
    state.done += 1;
    let mut run = (packet, state as *mut State);
    // SAFETY: the callback has the signature that the helper asks for; the context outlives the call.
    unsafe {
        bpf_loop(
            MAX_FLOOD,
            flood_one::<P> as *mut c_void,
            (&raw mut run).cast(),
            0,
        );
    }
}

unsafe extern "C" fn flood_one<P: Packet>(_index: u64, run: *mut (P, *mut State)) -> u64 {
    // SAFETY: `flood` passes valid pointers.
    let (packet, state) = unsafe { ((*run).0, &mut *(*run).1) };
    let slot = state.flood_next;
    let Some(port) = PORTS.get(slot) else {
        return 1;
    };
    if slot == 0 {
        return 1;
    }
    if slot != state.port && load(&port.flags) & state.flood_skip == 0 {
        packet.emit(slot);
    }
    state.flood_next = load(&port.next);
    0
}

/// Sends a copy of the packet to the pending output.
#[inline(always)]
pub fn flush<P: Packet>(packet: P) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    let port = state.pending.count_port;
    if P::XDP {
        return counters::drop(port, DropReason::RedirectFailed as u32);
    }
    state.plain = 0;
    let length = packet.length();
    let sent = if state.pending.peer == 0 {
        packet.clone_to(state.pending.ifindex)
    } else {
        let Some(outer) = tunnel::build(packet, state) else {
            state.pending.ifindex = 0;
            return counters::drop(port, DropReason::ResizeFailed as u32);
        };
        // With outer headers on it, or some of them, it must not go anywhere else.
        state.spoilt = 1;
        if packet.encapsulate(state, outer) {
            let ok = packet.clone_to(state.pending.ifindex);
            state.spoilt = !packet.decapsulate(state, outer) as u32;
            ok && state.spoilt == 0
        } else {
            false
        }
    };
    state.pending.ifindex = 0;
    if !sent {
        return counters::drop(port, DropReason::RedirectFailed as u32);
    }
    if port != 0 {
        counters::tx(port, length);
    }
    0
}

/// Sends the packet itself to the pending output; the verdict.
#[inline(always)]
pub fn finish<P: Packet>(packet: P, state: &mut State) -> i32 {
    if state.pending.ifindex == 0 {
        return P::DROP;
    }
    let length = packet.length();
    // The compiler knows what it returns, the verifier does not.
    if state.pending.peer != 0 && opaque(packet.wrap() as usize) == 0 {
        return P::DROP;
    }
    let port = state.pending.count_port;
    if port != 0 {
        counters::tx(port, length);
    }
    packet.redirect(state.pending.ifindex)
}

/// Puts the packet into the pending output's tunnel. 0: that failed, and is counted.
#[inline(always)]
pub fn wrap<P: Packet>(packet: P) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    if let Some(outer) = tunnel::build(packet, state) {
        if packet.encapsulate(state, outer) {
            return 1;
        }
    }
    counters::drop(state.pending.count_port, DropReason::ResizeFailed as u32)
}

/// Drops a packet that is longer than the largest L3 packet for where it was to go, and has its sender told.
#[inline(never)]
fn too_big<P: Packet>(packet: P, state: &mut State, slot: u32, mtu: u32) -> u32 {
    if state.origin != 0 {
        events::too_big(packet, state, mtu);
    }
    counters::drop(slot, DropReason::TooBig as u32)
}

/// Length of the L3 packet, or of a segment if it is to be segmented: what MTUs measure.
#[inline(always)]
fn l3_length<P: Packet>(packet: P, state: &State) -> u32 {
    packet.length() - state.excess - 14 - if state.tag == TAG_NONE { 0 } else { 4 }
}
