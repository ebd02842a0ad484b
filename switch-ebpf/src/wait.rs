//! Packets that would match a rule which this instance has promised not to match (consistency rule 14): they go to the agent as they came in,
//! and enter again when it is known whether the rule goes.

use crate::{
    counters,
    events,
    maps::{NETWORKS, PORTS, RULES, SWITCHES},
    packet::{Packet, opaque},
    state::State,
};
use switch_abi::{
    DropReason, EVENT_WAITING, EVENT_WHOLE_MAX, EventHeader, TUNNEL_GROUP, TUNNEL_PROCESS,
};

/// Hands the packet over; if that cannot be, it is dropped and counted. It came in by the port in slot `slot`; `copy`: as a copy for a group.
#[inline(always)]
pub fn wait<P: Packet>(packet: P, slot: u32, copy: u32) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    let length = packet.length();
    if length > EVENT_WHOLE_MAX as u32 {
        return counters::drop(slot, DropReason::Promised as u32);
    }
    let (Some(record), Some(rule), Some(network), Some(switch), Some(port)) = (
        events::WHOLE.get_ptr_mut(counters::cpu()),
        RULES.get(state.promised),
        NETWORKS.get(state.network),
        SWITCHES.get(state.switch_slot),
        PORTS.get(slot),
    ) else {
        return 0;
    };
    let arrival = &state.arrival;
    let (kind, bucket, source_port, argument, version) = if copy != 0 {
        (
            TUNNEL_GROUP,
            arrival.bucket as u8,
            arrival.source_port,
            arrival.argument,
            arrival.clock,
        )
    } else {
        (TUNNEL_PROCESS, 0, 0, 0, state.clock)
    };
    // SAFETY: this CPU's record, which no other run uses meanwhile.
    let record = unsafe { &mut *record };
    record.header = EventHeader {
        kind: EVENT_WAITING,
        table: kind,
        hops: bucket,
        reason: packet.segment_size(),
        network: network.id,
        switch: switch.id,
        version,
        in_port: port.id,
        rule_slot: state.promised,
        hold: 0,
        rule_id: rule.rule_id,
        cookie: (source_port as u64) << 32 | argument as u64,
        total_len: length,
        data_len: length,
    };
    if opaque(packet.report_whole() as usize) as u32 != events::SENT {
        return counters::drop(slot, DropReason::Promised as u32);
    }
    0
}
