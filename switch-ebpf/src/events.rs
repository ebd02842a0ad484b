//! Packet-ins: the event ring.

use crate::{
    counters,
    maps::{EVENTS, NETWORKS, PORTS, RULES, SWITCHES, fetch_add, load},
    packet::{Packet, opaque},
    parse::{ETH_IPV4, ETH_IPV6},
    state::{State, TAG_METADATA},
};
use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_ns, bpf_ringbuf_output},
    macros::map,
    maps::{Array, PerCpuArray},
};
use switch_abi::{
    DropReason, EVENT_DATA_MAX, EVENT_HELD, EVENT_OUTPUT, EVENT_PACKET_IN, EVENT_TOO_BIG,
    EVENT_WHOLE_MAX, EventHeader, GROUP_TABLE, TOO_BIG_DATA, TUNNEL_DELIVER, TUNNEL_PROCESS, event_cost,
};

/// An event being put together; too large for the stack. The ring wants sizes that are known beforehand for anything but a copy.
#[repr(C, align(8))]
pub struct Record<const ROOM: usize> {
    /// When [`too_big`] last said something.
    told: u64,
    pub header: EventHeader,
    data: [u8; ROOM],
}

#[map]
static RECORD: PerCpuArray<Record<EVENT_DATA_MAX>> = PerCpuArray::with_max_entries(1, 0);

/// Room for a whole packet, by CPU; no per-CPU array's element may be as large. The agent gives it the size.
#[map]
pub static WHOLE: Array<Record<EVENT_WHOLE_MAX>> = Array::with_max_entries(1, 0);

/// Sends the packet to the controller, at most `max_len` bytes of it.
#[inline(always)]
pub fn packet_in<P: Packet>(packet: P, rule_slot: u32, max_len: u32, reason: u32) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    state.done += 1;
    let (Some(record), Some(rule), Some(network), Some(switch), Some(port)) = (
        RECORD.get_ptr_mut(0),
        RULES.get(rule_slot),
        NETWORKS.get(state.network),
        SWITCHES.get(state.switch_slot),
        PORTS.get(state.port),
    ) else {
        return 0;
    };
    let from_set = max_len & FROM_SET != 0;
    let max_len = max_len & !FROM_SET;
    let (mut table, mut cookie) = (rule.table, rule.cookie);
    if table == GROUP_TABLE {
        // A bucket is nobody's in particular, as an action set is. The table is that of the rule that ran the group, if that is known.
        cookie = u64::MAX;
        table = match RULES.get(state.group_rule) {
            Some(origin) if state.group_rule != 0 => origin.table,
            _ => 0,
        };
    }
    let total = packet.length();
    // SAFETY: this CPU's record, which no other run uses meanwhile.
    let record = unsafe { &mut *record };
    record.header = EventHeader {
        kind: EVENT_PACKET_IN,
        table,
        hops: 0,
        reason,
        network: network.id,
        switch: switch.id,
        version: state.clock,
        // By no port: what the copy for a group was told.
        in_port: if state.port == 0 {
            state.in_port
        } else {
            port.port_no
        },
        rule_slot,
        hold: state.hold,
        rule_id: rule.rule_id,
        // An action set is nobody's in particular (OpenFlow 1.3.5, 7.4.1).
        cookie: if from_set { u64::MAX } else { cookie },
        total_len: total,
        data_len: total.min(max_len),
    };
    match opaque(packet.report() as usize) as u32 {
        SENT => 0,
        reason => counters::drop(state.port, reason),
    }
}

/// Has the pending output wait, which is `port`'s.
#[inline(always)]
pub fn hold<P: Packet>(packet: P, port: u32) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    state.plain = 0;
    let (Some(record), Some(network), Some(switch)) = (
        WHOLE.get_ptr_mut(counters::cpu()),
        NETWORKS.get(state.network),
        SWITCHES.get(state.switch_slot),
    ) else {
        return 0;
    };
    let (kind, mut hops) = (state.pending.kind, state.hops);
    if kind == TUNNEL_DELIVER as u32 {
        // Where it would have been output without a tunnel.
        hops += 1;
    } else if hops == 0 {
        return counters::drop(port, DropReason::HopLimit as u32);
    }
    let length = packet.length();
    if length > EVENT_WHOLE_MAX as u32 {
        return counters::drop(port, DropReason::NotHeld as u32);
    }
    // SAFETY: this CPU's record, which no other run uses meanwhile.
    let record = unsafe { &mut *record };
    record.header = EventHeader {
        kind: EVENT_OUTPUT,
        table: kind as u8,
        hops: hops as u8,
        reason: state.pending.port_id,
        network: network.id,
        switch: switch.id,
        version: state.clock,
        in_port: state.pending.group,
        rule_slot: state.pending.bucket,
        hold: state.hold,
        rule_id: state.queue as u64,
        cookie: packet.segment_size() as u64,
        total_len: length,
        data_len: length,
    };
    if opaque(packet.report_whole() as usize) as u32 != SENT {
        return counters::drop(port, DropReason::NotHeld as u32);
    }
    if kind == TUNNEL_PROCESS as u32 {
        counters::tx(port, length);
    }
    0
}

/// The run is over, and so is what it says about a packet whose outputs wait.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lime_held() -> u32 {
    let (Some(state), Some(record)) = (State::current(), RECORD.get_ptr_mut(0)) else {
        return 0;
    };
    let Some(network) = NETWORKS.get(state.network) else {
        return 0;
    };
    // SAFETY: this CPU's record, which no other run uses meanwhile.
    let header = unsafe { &mut (*record).header };
    *header = EventHeader {
        kind: EVENT_HELD,
        table: 0,
        hops: 0,
        reason: 0,
        network: network.id,
        switch: 0,
        version: state.clock,
        in_port: 0,
        rule_slot: 0,
        hold: state.hold,
        rule_id: 0,
        cookie: 0,
        total_len: 0,
        data_len: 0,
    };
    // Without room for it the agent gives the packet up: it waits for ever.
    // SAFETY: the header is that long.
    unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            (&raw mut *header).cast(),
            size_of::<EventHeader>() as u64,
            0,
        ) as u32
    }
}

/// [`report`], [`report_whole`]: the record is in the ring. Else it is the drop's reason.
pub const SENT: u32 = u32::MAX;

/// Puts this CPU's record into the ring, with as much of the packet as its header says, and charges the switch.
#[inline(always)]
pub fn report<P: Packet>(packet: P) -> u32 {
    report_from(packet, RECORD.get_ptr_mut(0))
}

/// As [`report`], of this CPU's record for whole packets.
#[inline(always)]
pub fn report_whole<P: Packet>(packet: P) -> u32 {
    report_from(packet, WHOLE.get_ptr_mut(counters::cpu()))
}

#[inline(always)]
fn report_from<P: Packet, const ROOM: usize>(
    packet: P,
    record: Option<*mut Record<ROOM>>,
) -> u32 {
    let (Some(state), Some(record)) = (State::current(), record) else {
        return SENT;
    };
    // SAFETY: this CPU's record, which no other run uses meanwhile.
    let record = unsafe { &mut *record };
    let mut length = record.header.data_len;
    if length > ROOM as u32 {
        length = ROOM as u32;
    }
    let length = opaque(length as usize) as u32;
    if length > ROOM as u32 {
        return SENT;
    }
    record.header.data_len = length;
    if !take(state.switch_slot, event_cost(length)) {
        return DropReason::PacketInLimit as u32;
    }
    match send(packet, state, record, length) {
        Ok(()) => SENT,
        Err(reason) => {
            give_back(state.switch_slot, event_cost(length));
            reason as u32
        }
    }
}

/// Takes what an event costs from its switch's budget; false: there is none left. An event may take more than is left, so that a long one
/// does not wait for ever.
#[inline(always)]
fn take(switch: u32, cost: u32) -> bool {
    let Some(entry) = SWITCHES.get(switch) else {
        return false;
    };
    if load(&entry.event_burst) == 0 {
        return true;
    }
    // First a look: a flood that is refused is not to write.
    if load(&entry.event_budget) <= 0 {
        return false;
    }
    if add(switch, cost.wrapping_neg()) > 0 {
        return true;
    }
    give_back(switch, cost);
    false
}

#[inline(always)]
fn give_back(switch: u32, cost: u32) {
    let Some(entry) = SWITCHES.get(switch) else {
        return;
    };
    if load(&entry.event_burst) != 0 {
        add(switch, cost);
    }
}

/// Adds to a switch's budget; what it was before.
#[inline(always)]
fn add(switch: u32, amount: u32) -> i32 {
    let Some(entry) = SWITCHES.get_ptr_mut(switch) else {
        return 0;
    };
    // SAFETY: a word of a map's element; others change it by such instructions too.
    unsafe { fetch_add(&raw mut (*entry).event_budget, amount) }
}

/// Nanoseconds between two events of [`too_big`] on one CPU: a sender that is not told tries again.
const TOO_BIG_PERIOD: u64 = 1_000_000;

/// Has the sender of a packet told that the largest L3 packet for where it was to go is `mtu` bytes, where the packet asks for that:
/// IPv6, and IPv4 with DF.
#[inline(never)]
pub fn too_big<P: Packet>(packet: P, state: &mut State, mtu: u32) -> u32 {
    if state.l3_type == ETH_IPV4 as u32 {
        match packet.read::<1>(state.l3 + 6) {
            Some([flags]) if flags & DONT_FRAGMENT != 0 => {}
            _ => return 0,
        }
    } else if state.l3_type != ETH_IPV6 as u32 {
        return 0;
    }
    let (Some(record), Some(network), Some(port)) = (
        RECORD.get_ptr_mut(0),
        NETWORKS.get(state.network),
        PORTS.get(state.origin),
    ) else {
        return 0;
    };
    // SAFETY: this CPU's record, which no other run uses meanwhile.
    let record = unsafe { &mut *record };
    // SAFETY: plain helper call.
    let now = unsafe { bpf_ktime_get_ns() };
    if now.wrapping_sub(record.told) < TOO_BIG_PERIOD {
        return 0;
    }
    record.told = now;
    let mut length = packet.length();
    if length > TOO_BIG_DATA {
        length = TOO_BIG_DATA;
    }
    let length = opaque(length as usize) as u32;
    if length > TOO_BIG_DATA {
        return 0;
    }
    record.header = EventHeader {
        kind: EVENT_TOO_BIG,
        table: 0,
        hops: 0,
        reason: mtu,
        network: network.id,
        switch: 0,
        version: state.clock,
        in_port: port.port_no,
        rule_slot: state.origin,
        hold: 0,
        rule_id: 0,
        cookie: 0,
        total_len: packet.length(),
        data_len: length,
    };
    // The packet is dropped and counted in any case; its sender tries again.
    let _ = send(packet, state, record, length);
    0
}

/// In the byte with the IPv4 flags.
const DONT_FRAGMENT: u8 = 0x40;

/// In `max_len` of [`packet_in`] (which has no more arguments to give): the action is of the packet's action set.
pub const FROM_SET: u32 = 1 << 30;

/// Puts the record into the ring, with `length` bytes of the packet, for which the caller has checked that there is room.
#[inline(always)]
fn send<P: Packet, const ROOM: usize>(
    packet: P,
    state: &State,
    record: &mut Record<ROOM>,
    length: u32,
) -> Result<(), DropReason> {
    if !copy(packet, state, record, length) {
        return Err(DropReason::Malformed);
    }
    // SAFETY: header and data lie one behind the other in the record, and are longer than this.
    let result = unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            (&raw mut record.header).cast(),
            (size_of::<EventHeader>() as u32 + length) as u64,
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(DropReason::EventRingFull)
    }
}

#[inline(always)]
fn copy<P: Packet, const ROOM: usize>(
    packet: P,
    state: &State,
    record: &mut Record<ROOM>,
    length: u32,
) -> bool {
    if length == 0 {
        return true;
    }
    if state.tag == TAG_METADATA {
        let Some((tpid, tci)) = packet.metadata_tag() else {
            return false;
        };
        let Some(addresses) = packet.read::<12>(0) else {
            return false;
        };
        let ([t0, t1], [c0, c1]) = (tpid.to_be_bytes(), tci.to_be_bytes());
        record.data[..12].copy_from_slice(&addresses);
        record.data[12..16].copy_from_slice(&[t0, t1, c0, c1]);
        return length <= 16
            || packet.copy_out(
                12,
                (&raw mut record.data[16]).cast(),
                length - 16,
                ROOM as u32 - 16,
            );
    }
    packet.copy_out(
        0,
        (&raw mut record.data).cast(),
        length,
        ROOM as u32,
    )
}
