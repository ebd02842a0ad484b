//! Groups, while classifying: which buckets a packet meets. See [`switch_abi::group`] for how a group is kept.
//!
//! Each part of a group costs one step of classification, which looks it up ([`look_up`]) and decides what comes next ([`lime_part`]). A
//! group is run in this way where nothing comes after it: at the end of a rule without goto and without an action set, or in the set. Of
//! its buckets at most one changes the packet that is here; the others that would get a copy by way of the recirculation device, as does a
//! group that something comes after.

use crate::{
    actions,
    classify::{
        END, END_GROUP_CHANGED, END_NO_BUCKET, END_TC, enter_link, inline_link, look_up_part,
    },
    hold,
    maps::{PORTS, RULES, SWITCHES, load},
    packet::opaque,
    state::{STEP_COPY, STEP_GROUP, State},
};
use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use switch_abi::{
    BUCKET_WATCHES, GROUP_ALL, GROUP_FAST_FAILOVER, GROUP_SELECT, GROUP_TABLE, MAX_ACTIONS,
    PART_BUCKET, PART_CHOICE, PART_HEAD, PORT_DEAD, PORT_DOWN, PORT_NONE, RULE_PURE, RULE_XDP,
    RuleEntry, better, bucket_lot, flow_hash, op, serial_le,
};

/// [`State::group_best`]: none yet.
const NONE: u32 = u32::MAX;

/// Goes on with a group, from a part.
#[inline(always)]
pub fn begin(state: &mut State, group: u32, part: u16) {
    state.group = group;
    state.part = part as u32;
    state.grouping = 1;
    state.group_kind = 0;
    state.group_best = NONE;
    state.group_next = 0;
    state.group_held = 0;
}

/// The packet meets a group, as the last thing that the last step does. One whose key is not known any more meets it as a copy, which is
/// read when it comes back. Returns 1 to end the walk.
#[inline(always)]
pub fn meet(state: &mut State, group: u32) -> u32 {
    if state.reshaped != 0 {
        hold::note_copy(state);
        return end(state, if state.xdp != 0 { END_TC } else { END });
    }
    state.last_step().flags = STEP_GROUP;
    begin(state, group, PART_HEAD);
    0
}

/// The slot of the part that the state is at; 0: none.
#[inline(always)]
pub fn look_up(state: &mut State) -> u32 {
    let (group, part) = (state.group, state.part as u16);
    look_up_part(state, GROUP_TABLE, group, part)
}

/// Decides by the part in `slot`. Returns 1 to end the walk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lime_part(slot: u32) -> u32 {
    let Some(state) = State::current() else {
        return 1;
    };
    let Some(rule) = RULES.get(slot) else {
        return 1;
    };
    let part = state.part as u16;
    // A copy is older than the clock may be now: what other copies of the packet have met is what it must meet too.
    if slot == 0 || part != PART_HEAD && !serial_le(load(&rule.valid_from), state.floor) {
        state.grouping = 0;
        state.end = END_GROUP_CHANGED;
        return 1;
    }
    if part == PART_HEAD {
        if !state.push(slot, 0) {
            return 1;
        }
        state.part = PART_CHOICE as u32;
        return 0;
    }
    if part < PART_BUCKET {
        return choice(state, rule);
    }
    bucket(state, slot, rule)
}

/// A part with choices.
#[inline(always)]
fn choice(state: &mut State, rule: &RuleEntry) -> u32 {
    let word = rule.metadata;
    let (kind, parts, buckets) = (
        word as u8 as u32,
        (word >> 8) as u8 as u32,
        (word >> 16) as u16 as u32,
    );
    state.group_kind = kind;
    if kind == GROUP_ALL as u32 {
        state.group_last = buckets;
        if buckets == 0 {
            return end(state, END_NO_BUCKET);
        }
        if state.xdp != 0 && buckets > 1 {
            return end(state, END_TC);
        }
        state.part = PART_BUCKET as u32;
        return 0;
    }
    if state.part == PART_CHOICE as u32 && kind == GROUP_SELECT as u32 {
        state.flow_hash = flow_hash(&state.key);
    }
    let mut chooser = Chooser { state, rule };
    // SAFETY: the callback has the signature that the helper asks for; the context outlives the call.
    unsafe {
        bpf_loop(
            MAX_ACTIONS as u32,
            consider as *mut c_void,
            (&raw mut chooser).cast(),
            0,
        );
    }
    let found = state.group_best != NONE;
    let last = state.part + 1 >= PART_CHOICE as u32 + parts;
    if !last && !(found && kind == GROUP_FAST_FAILOVER as u32) {
        state.part += 1;
        return 0;
    }
    if !found {
        return end(state, END_NO_BUCKET);
    }
    state.part = PART_BUCKET as u32 + state.group_best;
    0
}

#[repr(C)]
struct Chooser<'a> {
    state: *mut State,
    rule: &'a RuleEntry,
}

/// One operation of a choice. Returns 1 to end.
unsafe extern "C" fn consider(index: u64, chooser: *mut Chooser<'_>) -> u64 {
    // SAFETY: `choice` passes valid pointers.
    let (state, rule) = unsafe { (&mut *(*chooser).state, (*chooser).rule) };
    if index >= rule.apply_count as u64 {
        return 1;
    }
    // SAFETY: the mask keeps the index within the array.
    let action = unsafe {
        &*rule
            .actions
            .as_ptr()
            .add(index as usize & (MAX_ACTIONS - 1))
    };
    let live = match action.op {
        op::BUCKET => {
            state.group_next += 1;
            state.group_weight = action.a as u32;
            action.pad & BUCKET_WATCHES == 0 || is_live(action.b)
        }
        // The bucket before was taken into account already, or has been found dead so far.
        op::WATCH => state.group_tried != state.group_next && is_live(action.b),
        _ => return 1,
    };
    if !live {
        return 0;
    }
    let index = state.group_next - 1;
    state.group_tried = state.group_next;
    if state.group_kind != GROUP_SELECT as u32 {
        state.group_best = index;
        return 1;
    }
    let weight = state.group_weight;
    if weight == 0 {
        return 0;
    }
    let lot = lime_lot(state.flow_hash, index);
    if state.group_best == NONE || better(lot, weight, state.group_lot, state.group_best_weight) {
        state.group_best = index;
        state.group_lot = lot;
        state.group_best_weight = weight;
    }
    0
}

/// [`bucket_lot`], verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lime_lot(flow: u64, bucket: u32) -> u32 {
    opaque(bucket_lot(flow, bucket) as usize) as u32
}

/// Whether a port is there and not down.
#[inline(always)]
fn is_live(slot: u32) -> bool {
    let Some(port) = PORTS.get(slot) else {
        return false;
    };
    slot != 0 && load(&port.kind) != PORT_NONE && load(&port.flags) & (PORT_DOWN | PORT_DEAD) == 0
}

/// A bucket that is to be run.
#[inline(always)]
fn bucket(state: &mut State, slot: u32, rule: &RuleEntry) -> u32 {
    let Some(switch) = SWITCHES.get(state.switch_slot) else {
        return 1;
    };
    hold::note(state, rule, switch);
    let mut slot = slot;
    if state.group_kind == GROUP_ALL as u32 && state.group_last > 1 {
        if rule.flags & RULE_PURE != 0 {
            if !state.push(slot, 0) {
                return 1;
            }
        } else {
            let held = state.group_held;
            if held != 0 && !state.push(held, STEP_COPY) {
                return 1;
            }
            state.group_held = slot;
        }
        state.part += 1;
        if state.part < PART_BUCKET as u32 + state.group_last {
            return 0;
        }
        slot = state.group_held;
        if slot == 0 {
            return end(state, END);
        }
    }
    last(state, slot)
}

/// The last bucket: it may have the packet, and the packet may go on behind it.
#[inline(always)]
fn last(state: &mut State, slot: u32) -> u32 {
    state.grouping = 0;
    let Some(rule) = RULES.get(slot) else {
        return 1;
    };
    let count = rule.apply_count as usize;
    if state.xdp != 0 && (rule.flags & RULE_XDP == 0 || state.xdp_outputs != 0 && count > 0) {
        return end(state, END_TC);
    }
    if count == 0 {
        state.push(slot, 0);
        return end(state, END);
    }
    // SAFETY: the mask keeps the index within the array.
    let action = unsafe { &*rule.actions.as_ptr().add((count - 1) & (MAX_ACTIONS - 1)) };
    if action.op == op::GROUP {
        actions::on_key(state, slot);
        if !state.push(slot, 0) {
            return 1;
        }
        return meet(state, action.b);
    }
    let link = if action.op == op::OUTPUT {
        inline_link(state, action.b)
    } else {
        0
    };
    if !state.push(slot, 0) {
        return 1;
    }
    if link == 0 {
        state.xdp_outputs += (action.op == op::OUTPUT) as u32;
        return end(state, END);
    }
    enter_link(state, slot, link, false) as u32
}

#[inline(always)]
fn end(state: &mut State, how: u32) -> u32 {
    state.grouping = 0;
    state.end = how;
    1
}
