//! Meters: which packets they let pass. See [`switch_abi::meter`] for how a meter is kept.
//!
//! Classification looks a meter up ([`lime_meet`]) and puts it into the trace in front of the rule that uses it. It is charged where the
//! packet comes to it in execution ([`run`]), and so once for each packet, on the host and by the program that does what the rules say. Where
//! a band may change the packet, classification waits for it and goes on with the packet as it then is; that is TC's work.
//!
//! All CPUs charge one word per band. Where they contend, a program gives up after some tries and adds without another look: nothing passes
//! uncharged, and at most one packet per CPU beyond the burst.

use crate::{
    actions,
    classify::{END_NO_METER, END_RESUME, END_STOPPED, END_TC, look_up_part},
    counters,
    maps::{RULES, load},
    packet::Packet,
    parse::{ETH_IPV4, ETH_IPV6},
    state::{STEP_METER, State},
};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use switch_abi::{
    Action, DropReason, MAX_METER_BANDS, METER_BAND, METER_HEAD, METER_PACKETS, METER_REMARKS,
    METER_TABLE, METER_TIME_SHIFT, RuleEntry, band_charge, band_cost, part_of, remarked,
};

/// How often a CPU tries to charge a band while others do.
const TRIES: u32 = 4;

/// Puts the meter of the rule in `slot` into the trace. Returns 1 to end the walk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lime_meet(slot: u32) -> u32 {
    let (Some(state), Some(rule)) = (State::current(), RULES.get(slot)) else {
        return 1;
    };
    let found = look_up_part(state, METER_TABLE, rule.meter, METER_HEAD);
    let Some(head) = RULES.get(found) else {
        return 1;
    };
    if found == 0 {
        // It goes in the same epoch as the rules that use it.
        state.end = END_NO_METER;
        return 1;
    }
    let remarks = head.metadata & METER_REMARKS != 0;
    if state.xdp != 0 && remarks {
        state.end = END_TC;
        return 1;
    }
    if !state.push(found, STEP_METER) {
        return 1;
    }
    state.last_step().link = slot;
    if remarks {
        state.metered = slot;
        state.end = END_RESUME;
    }
    remarks as u32
}

/// The packet passes the meter with this head before the rule `user`, or (1) is dropped there.
#[inline(always)]
pub fn run<P: Packet>(packet: P, head: u32, user: u32) -> u32 {
    let (Some(state), Some(entry)) = (State::current(), RULES.get_ptr_mut(head)) else {
        return 1;
    };
    let (length, packets) = (packet.length(), packet.segments());
    counters::rules(head, packets, length);
    // SAFETY: an array's element is always there. Of what is read only `times` changes, and that by atomic operations.
    let fixed = unsafe { &*entry };
    let amount = if fixed.metadata & METER_PACKETS != 0 {
        packets
    } else {
        length
    };
    let Some(band) = exceeded(entry, fixed, amount) else {
        return 0;
    };
    let (number, _) = part_of(fixed.key[0]);
    let count = look_up_part(state, METER_TABLE, number, METER_BAND + band.b as u16);
    if count != 0 {
        counters::rules(count, packets, length);
    }
    if band.pad != 0 {
        remark(packet, state, band.pad);
        return 0;
    }
    // What has matched is counted, though it does nothing.
    counters::rule(user, length);
    counters::dropped(state.port, DropReason::Metered);
    state.end = END_STOPPED;
    1
}

/// The first band whose rate the packet exceeds. It is charged to those before.
#[inline(always)]
fn exceeded<'a>(entry: *mut RuleEntry, fixed: &'a RuleEntry, amount: u32) -> Option<&'a Action> {
    // SAFETY: plain helper call.
    let now = unsafe { bpf_ktime_get_ns() } << METER_TIME_SHIFT;
    let mut i = 0;
    // What is behind the last action is of what was in the slot before.
    while i < MAX_METER_BANDS && 2 * i < fixed.action_count as usize {
        let (band, burst) = (&fixed.actions[2 * i], &fixed.actions[2 * i + 1]);
        let cost = band_cost(amount, u64::from_ne_bytes(band.c), band.a as u8);
        let tolerance = u64::from_ne_bytes(burst.c);
        // SAFETY: the index is within the array.
        let time = unsafe { (&raw mut (*entry).times).cast::<u64>().add(i) };
        if !charge(time, now, cost, tolerance) {
            return Some(band);
        }
        i += 1;
    }
    None
}

/// Charges a band, unless its rate is exceeded.
#[inline(always)]
fn charge(time: *mut u64, now: u64, cost: u64, tolerance: u64) -> bool {
    // SAFETY: `exceeded` passes a valid pointer.
    let mut seen = load(unsafe { &*time });
    let mut i = 0;
    while i < TRIES {
        let Some(next) = band_charge(seen, now, cost, tolerance) else {
            return false;
        };
        // SAFETY: as above.
        let found = unsafe { compare_exchange(time, seen, next) };
        if found == seen {
            return true;
        }
        seen = found;
        i += 1;
    }
    if band_charge(seen, now, cost, tolerance).is_none() {
        return false;
    }
    // Others have just charged it, so it is not in the past.
    // SAFETY: as above.
    unsafe { add(time, cost) };
    true
}

/// Atomically stores `new` if the word is `old`; what the word was.
///
/// # Safety
/// `word` is a valid, aligned pointer.
#[inline(always)]
unsafe fn compare_exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let found: u64;
    // SAFETY: as the caller promises. The instruction compares with, and returns in, r0.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64(r2 + 0, r0, r3)",
            in("r2") word,
            in("r3") new,
            inlateout("r0") old => found,
            options(nostack),
        );
    }
    found
}

/// Atomically adds to the word.
///
/// # Safety
/// `word` is a valid, aligned pointer.
#[inline(always)]
unsafe fn add(word: *mut u64, value: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)(r2 + 0) += r3",
            in("r2") word,
            in("r3") value,
            options(nostack),
        );
    }
}

/// Raises the drop precedence of an IP packet, in the packet and in the key that classification goes on with.
#[inline(always)]
fn remark<P: Packet>(packet: P, state: &mut State, levels: u8) {
    let ip = state.l3_type == ETH_IPV4 as u32 || state.l3_type == ETH_IPV6 as u32;
    let tos = state.key.ip_tos;
    let dscp = remarked(tos >> 2, levels);
    if ip && dscp != tos >> 2 && actions::set_tos(packet, state, dscp << 2, 0xfc) {
        state.key.ip_tos = dscp << 2 | tos & 3;
    }
}
