//! The microflow cache: what became of a packet, remembered for the next ones of its flow. It is nothing but a shorter way to the same
//! end; an entry that is missing, forgotten or overwritten costs time only.
//!
//! Why a hit does exactly what the whole pipeline would do:
//!
//! - An entry is found by the ingress port, its network, and everything in the packet that rules can match ([`Flow::words`]), compared whole.
//! - What is remembered is the rules and links to count and one output to a device, or one drop. A packet to which anything else happened
//!   is not remembered ([`State::plain`]): an action that changes it, an event, a second output, a tunnel.
//! - An entry is good for one clock. At one clock a key always meets the same rules: what the agent stages is for later clocks, what it
//!   collects was for earlier ones, and a clock never goes back.
//! - An entry is good for one generation of the network ([`switch_abi::NetworkEntry::generation`]). The agent changes it after each change
//!   of anything else that a packet's way depends on: ports, links, switches, and rules that come or go otherwise than by the clock.
//!   A packet reads it before it looks at any of these, so that what it saw is at least as new as the generation says.
//! - What depends on more than the key, the length against the MTU, is checked for each packet.
//! - What an agent frees after a grace period is no longer in an entry that is good: the change of clock or generation comes first.
//!
//! Each CPU has entries of its own, and programs run to completion there ([`crate::state`]): no locks, and no half-written entries.
//!
//! A flow is remembered from its second packet on: the first leaves its hash at the entry's door. So packets of which no two are of one flow
//! write one word each, and do not push out those that are remembered.
//!
//! Looking for what is not there costs time as well. Where hardly any packet is of a flow that was there before, nothing is looked for during
//! the next [`PAUSE`] packets: [`State::vain`].

use crate::{
    counters,
    flow::{self, FLOW_WORDS, Flow},
    maps::{NETWORKS, PORTS, flow_cache, load},
    packet::Packet,
    state::State,
    tunnel::compare_exchange,
};
use aya_ebpf::{macros::map, maps::Array};
use switch_abi::{DropReason, avalanche, hash_word};

/// Rules that a remembered packet may have met.
const RULES: usize = 4;
/// Links that it may have crossed.
pub const LINKS: usize = 2;

/// So many packets of new flows in a row, and the cache is left alone for a while.
const VAIN: u32 = 64;
/// What one packet of a flow that was there before makes up for: about what it saves, in look-ups.
const SAVED: u32 = 16;
/// How many packets are processed then as if there were no cache.
const PAUSE: u32 = 1024;

/// What became of a flow's packets. Looked at without the key it is one cache line.
#[repr(C, align(64))]
struct Entry {
    /// Clock and generation that it is good for.
    clock: u32,
    generation: u32,
    /// Part of the key's hash.
    tag: u32,
    /// The same, of the last packet that came here and found nothing.
    door: u32,
    /// Device to send by; 0: the packet is dropped.
    ifindex: u32,
    /// Port to count the output or drop at.
    port: u32,
    /// Longest L3 packet that goes out; 0: any.
    mtu: u32,
    /// Why it is dropped; above that, for one that matched no rule, the table's [`switch_abi::miss_index`].
    reason: u32,
    /// Rules to count; 0: no more.
    rules: [u32; RULES],
    /// Links to count, both ends; 0: no more.
    links: [Link; LINKS],
    key: [u64; FLOW_WORDS],
}

/// A link that was crossed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Link {
    /// Port that the packet left by.
    pub from: u32,
    /// Port that it came in by; 0: no link.
    pub to: u32,
}

/// What it takes to remember the present packet.
#[repr(C)]
pub struct Memo {
    generation: u32,
    tag: u32,
    /// Where in [`CACHE`].
    at: u32,
    /// 1: to be remembered.
    pub wanted: u32,
}

/// A row of entries for each CPU. The agent gives it the size.
#[map]
static CACHE: Array<Entry> = Array::with_max_entries(1, 0);

/// [`short_cut`]: the packet is not a common one.
pub const UNKNOWN: u32 = 0;
/// [`short_cut`]: the packet is a common one, and `state.flow` says which.
pub const KNOWN: u32 = 1;
/// [`short_cut`]: the packet is done with, and this less is the verdict.
pub const VERDICT: u32 = 16;

/// Reads a packet that came in by the port in slot `slot`, if it is a common one, and does with it what is remembered. A stage of its own,
/// so that what it keeps on the stack does not lie below everything that follows. [`UNKNOWN`] ...
#[inline(always)]
pub fn short_cut<P: Packet>(packet: P, slot: u32, network: u32, clock: u32) -> u32 {
    let (Some(state), Some(entry)) = (State::current(), NETWORKS.get(network)) else {
        return UNKNOWN;
    };
    state.memo.wanted = 0;
    let generation = load(&entry.generation);
    let length = packet.length();
    if !flow::read(packet, state, slot, network, length) {
        return UNKNOWN;
    }
    match replay(packet, state, slot, clock, generation, length) {
        Some(verdict) => VERDICT + verdict as u32,
        None => KNOWN,
    }
}

/// Does with a packet what was done with those of its flow before; the verdict. None: nothing is remembered, or not for this one.
#[inline(always)]
fn replay<P: Packet>(
    packet: P,
    state: &mut State,
    slot: u32,
    clock: u32,
    generation: u32,
    length: u32,
) -> Option<i32> {
    let flow = &state.flow;
    let size = flow_cache();
    if size == 0 {
        return None;
    }
    if state.pause != 0 {
        state.pause -= 1;
        return None;
    }
    let mut hash = 0u64;
    let mut i = 0;
    while i < FLOW_WORDS {
        hash = hash_word(hash, i, flow.words[i]);
        i += 1;
    }
    let hash = avalanche(hash);
    let tag = hash as u32;
    let at = counters::cpu() * size + ((hash >> 32) as u32 & (size - 1));
    // SAFETY: this CPU alone uses the entry.
    let entry = unsafe { &mut *CACHE.get_ptr_mut(at)? };
    if entry.tag == tag && entry.clock == clock && entry.generation == generation {
        let mut differs = 0;
        let mut i = 0;
        while i < FLOW_WORDS {
            differs |= entry.key[i] ^ flow.words[i];
            i += 1;
        }
        if differs == 0 {
            state.vain = state.vain.saturating_sub(SAVED);
            return again(packet, entry, &state.flow, slot, length);
        }
    }
    if entry.door != tag {
        entry.door = tag;
        state.vain += 1;
        if state.vain >= VAIN {
            state.vain = 0;
            state.pause = PAUSE;
        }
        return None;
    }
    state.vain = state.vain.saturating_sub(SAVED);
    state.memo.generation = generation;
    state.memo.tag = tag;
    state.memo.at = at;
    // Orders the reading of the generation before that of what it stands for.
    // SAFETY: a reference.
    unsafe { compare_exchange(&raw mut state.memo.wanted, 0, 1) };
    None
}

#[inline(always)]
fn again<P: Packet>(packet: P, entry: &Entry, flow: &Flow, slot: u32, length: u32) -> Option<i32> {
    let l3_length = length - if flow.is_tagged() { 18 } else { 14 };
    // What is to be segmented may fit all the same.
    if entry.mtu != 0 && l3_length > entry.mtu {
        return None;
    }
    counters::rx(slot, length);
    let mut i = 0;
    while i < RULES {
        if entry.rules[i] == 0 {
            break;
        }
        counters::rule(entry.rules[i], length);
        i += 1;
    }
    let mut i = 0;
    while i < LINKS {
        let Link { from, to } = entry.links[i];
        if to == 0 {
            break;
        }
        counters::tx(from, length);
        counters::rx(to, length);
        i += 1;
    }
    if entry.ifindex == 0 {
        counters::drop(entry.port, entry.reason);
        if entry.reason & 0xff == DropReason::TableMiss as u32 {
            counters::lime_missed(entry.reason >> 8);
        }
        return Some(P::DROP);
    }
    counters::tx(entry.port, length);
    Some(packet.redirect(entry.ifindex))
}

/// Remembers what became of the present packet, if it is wanted and can be. `reason`: why its rules drop it.
#[inline(always)]
pub fn remember(state: &mut State, reason: Option<DropReason>) {
    if state.memo.wanted == 0 || state.plain == 0 {
        return;
    }
    if state.steps > RULES as u32 || state.crossed > LINKS as u32 {
        return;
    }
    let (port, mtu, reason) = match reason {
        Some(reason @ (DropReason::TableMiss | DropReason::RuleDrop))
            if state.done == 0 && state.pending.ifindex == 0 =>
        {
            (state.port, 0, reason as u32 | state.missed << 8)
        }
        None if state.done == 1 && state.pending.ifindex != 0 && state.pending.peer == 0 => {
            let slot = state.pending.count_port;
            let Some(port) = PORTS.get(slot) else {
                return;
            };
            (slot, load(&port.mtu), 0)
        }
        _ => return,
    };
    let Some(entry) = CACHE.get_ptr_mut(state.memo.at) else {
        return;
    };
    // SAFETY: this CPU alone uses the entry.
    let entry = unsafe { &mut *entry };
    entry.clock = state.clock;
    entry.generation = state.memo.generation;
    entry.tag = state.memo.tag;
    entry.ifindex = state.pending.ifindex;
    entry.port = port;
    entry.mtu = mtu;
    entry.reason = reason;
    entry.key = state.flow.words;
    let mut i = 0;
    while i < RULES {
        entry.rules[i] = if (i as u32) < state.steps {
            state.step_at(i as u32).rule
        } else {
            0
        };
        i += 1;
    }
    let mut i = 0;
    while i < LINKS {
        entry.links[i] = if (i as u32) < state.crossed {
            state.links[i]
        } else {
            Link { from: 0, to: 0 }
        };
        i += 1;
    }
}
