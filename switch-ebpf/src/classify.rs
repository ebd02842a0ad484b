//! Phase A: which rules the packet matches on its way, on the key alone. Nothing is counted or changed.

use crate::{
    actions, group, hold,
    maps::{BUCKETS, PORTS, RULES, SWITCHES, TABLES, TUPLES, bucket_mask, load},
    meter,
    packet::opaque,
    set,
    state::{MAX_STEPS, STEP_LIMIT, State, clear},
};
use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use switch_abi::{
    HASH_STEPS, HASH_WHOLE, HashStep, KEY_WORDS, MAX_ACTIONS, MAX_CHAIN, MAX_SWITCH_HOPS,
    MAX_TABLES, MAX_TUPLES, MIX, NO_TABLE, PORT_DOWN, PORT_LINK, RULE_PROMISED, RULE_XDP,
    SET_SLOT_GROUP, SET_SLOT_OUTPUT, SWITCH_ACTIVE, SWITCH_RELAY, SwitchEntry, TableRef,
    TupleEntry, hash_end, op, part_word, serial_le, visible,
};

/// [`State::end`]: the last rule has no goto.
pub const END: u32 = 0;
/// [`State::end`]: no rule matched in the last table.
pub const END_MISS: u32 = 1;
/// [`State::end`]: the packet met more rules or switches than the limit.
pub const END_LIMIT: u32 = 2;
/// [`State::end`]: XDP can not run what the rules ask for.
pub const END_TC: u32 = 3;
/// [`State::end`], set while executing: an action stopped the packet, and its drop is counted.
pub const END_STOPPED: u32 = 4;
/// [`State::end`]: the packet's key is not known from here on ([`State::reshaped`]); classification goes on when it has been changed.
pub const END_RESUME: u32 = 5;
/// [`State::end`]: a group is not, or no longer, what the packet was to meet.
pub const END_GROUP_CHANGED: u32 = 6;
/// [`State::end`]: a rule's meter is not there.
pub const END_NO_METER: u32 = 8;
/// [`State::end`]: a group has no bucket for the packet.
pub const END_NO_BUCKET: u32 = 7;

/// [`State::end`]: the next rule is one that this instance has promised not to match: [`State::promised`].
pub const END_PROMISED: u32 = 9;

/// What a switch does with a packet on this host at a clock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Nothing known of it here.
    Disabled,
    /// No instance here and none known elsewhere.
    None,
    /// Tunnels it, unprocessed, to this peer slot.
    Relay(u32),
    /// Processes it.
    Active,
}

/// A switch's role.
#[inline(always)]
pub fn role(entry: &SwitchEntry, clock: u32) -> Role {
    let state = load(&entry.state);
    if entry.id == 0 || clock == 0 {
        return Role::Disabled;
    }
    if state == SWITCH_ACTIVE {
        let (join, retire) = (load(&entry.join_epoch), load(&entry.retire_epoch));
        if serial_le(join, clock) && (retire == 0 || !serial_le(retire, clock)) {
            return Role::Active;
        }
    } else if state != SWITCH_RELAY {
        return Role::None;
    }
    match load(&entry.relay_peer) {
        0 => Role::None,
        peer => Role::Relay(peer),
    }
}

/// Walks tables and switches from `state.switch_slot` on; fills the trace and [`State::end`]. A global function, as
/// [`lime_look_up`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lime_classify() -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    state.end = END_LIMIT;
    state.reshaped = 0;
    set::restore(state);
    // The first table without a callback, which costs more than what it does.
    if step(state) == 0 {
        let mut context = state as *mut State;
        // SAFETY: the callback has the signature that the helper asks for; the context outlives the call.
        unsafe {
            bpf_loop(
                MAX_STEPS - 1,
                next_step as *mut c_void,
                (&raw mut context).cast(),
                0,
            );
        }
    }
    hold::decide(state);
    0
}

unsafe extern "C" fn next_step(_index: u64, context: *mut *mut State) -> u64 {
    // SAFETY: `lime_classify` passes a valid pointer.
    step(unsafe { &mut **context })
}

/// One table. Returns 1 to end the walk.
#[inline(always)]
fn step(state: &mut State) -> u64 {
    if state.grouping != 0 {
        let slot = group::look_up(state);
        // The compiler knows what it returns, the verifier does not.
        return (opaque(group::lime_part(slot) as usize) != 0) as u64;
    }
    let metered = state.metered;
    state.metered = 0;
    let slot = if metered != 0 {
        metered
    } else {
        lime_look_up()
    };
    if slot == 0 {
        state.end = END_MISS;
        return 1;
    }
    let (Some(rule), Some(switch)) = (RULES.get(slot), SWITCHES.get(state.switch_slot)) else {
        return 1;
    };
    // Rule 14. Of a rule that it meets behind its meter, a packet has seen this before.
    if rule.flags & RULE_PROMISED != 0 && metered == 0 {
        state.promised = slot;
        state.end = if state.xdp != 0 { END_TC } else { END_PROMISED };
        return 1;
    }
    // The compiler knows what it returns, the verifier does not.
    if rule.meter != 0 && metered == 0 && opaque(meter::lime_meet(slot) as usize) != 0 {
        return 1;
    }
    if !state.push(slot, 0) {
        return 1;
    }
    if state.xdp != 0 && rule.flags & RULE_XDP == 0 {
        state.end = END_TC;
        return 1;
    }
    hold::note(state, rule, switch);
    let count = rule.apply_count as usize;
    set::write(state, slot, rule);
    let last_table = rule.goto_table == NO_TABLE;
    let run_set = last_table && set::outputs(state);
    // XDP has but one output, the last thing that it does: what was output must not show what is changed later, so that it takes a copy.
    if state.xdp != 0 && state.xdp_outputs != 0 && (count > 0 || run_set) {
        state.end = END_TC;
        return 1;
    }
    let mut link = 0;
    if count > 0 {
        // SAFETY: the mask keeps the index within the array.
        let last = unsafe { &*rule.actions.as_ptr().add((count - 1) & (MAX_ACTIONS - 1)) };
        if last.op == op::OUTPUT {
            if last_table && !run_set {
                link = inline_link(state, last.b);
            }
            if link == 0 {
                state.xdp_outputs += 1;
                if state.xdp != 0 && run_set {
                    state.end = END_TC;
                    return 1;
                }
            }
        } else if last.op == op::GROUP {
            if last_table && !run_set {
                actions::on_key(state, slot);
                return meet(state, slot, last.b);
            }
            if state.xdp != 0 {
                state.end = END_TC;
                return 1;
            }
            hold::note_copy(state);
        }
    }
    if !last_table {
        actions::on_key(state, slot);
        let mask = rule.metadata_mask;
        state.key.metadata = state.key.metadata & !mask | rule.metadata & mask;
        state.table = rule.goto_table as u32;
        return unknown(state);
    }
    if run_set && set::has_group(state) {
        let Some(action) = set::action(state, SET_SLOT_GROUP) else {
            return 1;
        };
        actions::on_key(state, slot);
        actions::set_on_key(state);
        return meet(state, slot, action.b);
    }
    if run_set {
        if let Some(action) = set::action(state, SET_SLOT_OUTPUT) {
            if action.op == op::OUTPUT {
                link = inline_link(state, action.b);
            }
        }
        if link == 0 {
            state.xdp_outputs += 1;
        }
    }
    if link == 0 {
        state.end = END;
        return 1;
    }
    enter_link(state, slot, link, run_set)
}

/// The packet goes on in the switch at a link's other end, behind the last step of the trace, which is rule `slot`. Returns 1 to end the walk.
#[inline(always)]
pub fn enter_link(state: &mut State, slot: u32, link: u32, run_set: bool) -> u64 {
    let Some(port) = PORTS.get(link) else {
        return 1;
    };
    state.switches += 1;
    if state.switches >= MAX_SWITCH_HOPS {
        state.last_step().flags = STEP_LIMIT;
        return 1;
    }
    state.last_step().link = link;
    actions::on_key(state, slot);
    if run_set {
        actions::set_on_key(state);
    }
    state.set = 0;
    // Another switch: what comes of its outputs cannot overtake what this one tells.
    clear(&mut state.outputs);
    clear(&mut state.key.metadata);
    clear(&mut state.key.tunnel_id);
    state.key.in_port = port.port_no;
    state.key.in_phy_port = port.port_no;
    state.switch_slot = port.switch_slot;
    state.table = 0;
    unknown(state)
}

/// The packet meets a group, as the last thing that the rule of this step, in `slot`, does. Returns 1 to end the walk.
#[inline(always)]
fn meet(state: &mut State, slot: u32, group: u32) -> u64 {
    state.set = 0;
    state.group_rule = slot;
    group::meet(state, group) as u64
}

/// Ends the walk (1) if the key is no longer that of the packet.
#[inline(always)]
fn unknown(state: &mut State) -> u64 {
    if state.reshaped == 0 {
        return 0;
    }
    state.end = if state.xdp != 0 { END_TC } else { END_RESUME };
    1
}

/// The other end of the link that `port` is, if the packet can go on there in this run; else 0.
#[inline(always)]
pub fn inline_link(state: &State, port: u32) -> u32 {
    let Some(port) = PORTS.get(port) else {
        return 0;
    };
    if load(&port.kind) != PORT_LINK || load(&port.flags) & PORT_DOWN != 0 {
        return 0;
    }
    // An output that waits. So no copy of a packet whose outputs wait meets a flow entry, which may be promised (rule 14).
    if state.told | state.hold != 0 {
        return 0;
    }
    let link = load(&port.link);
    let Some(other) = PORTS.get(link) else {
        return 0;
    };
    // Out by the port that it came in by is a drop, not a way.
    if state.key.in_port == port.port_no {
        return 0;
    }
    match SWITCHES.get(other.switch_slot) {
        // As a frame it comes to where it is to be processed meanwhile.
        Some(switch) if role(switch, state.clock) == Role::Active && load(&switch.detour) == 0 => {
            link
        }
        _ => 0,
    }
}

/// The slot of the visible part of a group or a meter; 0: none.
#[inline(always)]
pub fn look_up_part(state: &mut State, table: u8, number: u32, part: u16) -> u32 {
    let before = state.table;
    let first = (&raw mut state.key).cast::<u64>();
    // SAFETY: the key has 16 words.
    let saved = unsafe { first.read() };
    // SAFETY: as above.
    unsafe { first.write(part_word(number, part)) };
    state.table = table as u32;
    let slot = lime_look_up();
    state.table = before;
    // SAFETY: as above.
    unsafe { first.write(saved) };
    slot
}

/// The slot of the best visible rule in the state's table; 0: none. A global function without arguments, so that the kernel
/// verifies it once and not again on each path to it. Its loops are loops, since a callback costs more than what it does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lime_look_up() -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    let Some(word) = TABLES.get(state.switch_slot * MAX_TABLES + (state.table & (MAX_TABLES - 1)))
    else {
        return 0;
    };
    let run = TableRef::from_word(load(word));
    // What a better rule has at least.
    let (mut best, mut above, mut sum) = (0, 0, 0);
    // As wide as a place on the stack: the kernel does not follow a number that shares one.
    let mut i = 0u64;
    while i < MAX_TUPLES as u64 {
        if i >= run.count as u64 {
            break;
        }
        let at = run.start + i as u32;
        let Some(tuple) = TUPLES.get(at) else {
            break;
        };
        if above > tuple.max_priority {
            break;
        }
        sum = masked_sum(state, tuple, at, sum);
        let hash = hash_end(sum, tuple.id);
        let Some(head) = BUCKETS.get(hash & bucket_mask()) else {
            break;
        };
        let head = load(head);
        if head != 0 {
            let slot = skip_others(head, hash, tuple.id);
            if slot != 0 {
                let slot = lime_in_chain(slot, hash, at);
                if let Some(rule) = RULES.get(slot) {
                    if slot != 0 && rule.priority as u32 >= above {
                        best = slot;
                        above = rule.priority as u32 + 1;
                    }
                }
            }
        }
        i += 1;
    }
    best
}

/// The sum over the state's key under the mask of the tuple at `index`, from that under the mask before.
#[inline(always)]
fn masked_sum(state: &State, tuple: &TupleEntry, index: u32, before: u64) -> u64 {
    let steps = &tuple.steps;
    if steps.count == HASH_WHOLE {
        return lime_whole_sum(index);
    }
    let key = (&raw const state.key).cast::<u8>();
    let mut sum = before & steps.keep;
    let mut i = 0;
    while i < HASH_STEPS {
        if i >= steps.count as usize {
            break;
        }
        // SAFETY: `i` is below HASH_STEPS; an offset of 255 is still within the state that the key begins.
        let (word, HashStep { mask, factor }) = unsafe {
            let offset = *steps.offset.as_ptr().add(i) as usize;
            (*key.add(offset).cast::<u64>(), *steps.step.as_ptr().add(i))
        };
        sum = sum.wrapping_add((word & mask).wrapping_mul(factor));
        i += 1;
    }
    sum
}

/// The same, of all words of the mask. A global function, as [`lime_look_up`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lime_whole_sum(index: u32) -> u64 {
    let (Some(state), Some(tuple)) = (State::current(), TUPLES.get(index)) else {
        return 0;
    };
    let key = (&raw const state.key).cast::<u8>();
    let mut sum = 0u64;
    let mut w = 0;
    while w < KEY_WORDS {
        if w as u32 >= tuple.mask.count {
            break;
        }
        // SAFETY: `w` is below KEY_WORDS.
        let offset = unsafe { *tuple.mask.offset.as_ptr().add(w) } as usize;
        let factor = MIX[offset / 8 & (KEY_WORDS - 1)];
        sum = sum.wrapping_add(masked_word(key, tuple, w).wrapping_mul(factor));
        w += 1;
    }
    sum
}

/// What the tuple's mask leaves of the key, its word in place `w`.
#[inline(always)]
fn masked_word(key: *const u8, tuple: &TupleEntry, w: usize) -> u64 {
    // SAFETY: `w` is below KEY_WORDS; an offset of 255 is still within the state that the key begins.
    unsafe {
        let offset = *tuple.mask.offset.as_ptr().add(w) as usize;
        *key.add(offset).cast::<u64>() & *tuple.mask.words.as_ptr().add(w)
    }
}

/// Rules of another hash or tuple that a search passes over before it calls for help.
const SKIPPED: u32 = 2;

/// The first rule from `slot` on in a bucket's chain that may be of this hash and tuple; 0: there is none.
#[inline(always)]
fn skip_others(mut slot: u32, hash: u32, tuple: u32) -> u32 {
    let mut i = 0;
    while i < SKIPPED {
        let Some(rule) = RULES.get(slot) else {
            return 0;
        };
        if slot == 0 || rule.hash == hash && rule.tuple == tuple {
            break;
        }
        slot = load(&rule.next);
        i += 1;
    }
    slot
}

/// The visible rule of this hash and of the tuple at `index` that has the state's key, from `slot` on in a bucket's chain; 0: none.
/// A global function, as [`lime_look_up`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lime_in_chain(mut slot: u32, hash: u32, index: u32) -> u32 {
    let (Some(state), Some(tuple)) = (State::current(), TUPLES.get(index)) else {
        return 0;
    };
    let key = (&raw const state.key).cast::<u8>();
    let mut i = 0u64;
    while i < MAX_CHAIN as u64 {
        let Some(rule) = RULES.get(slot) else {
            return 0;
        };
        if slot == 0 {
            return 0;
        }
        if rule.hash == hash && rule.tuple == tuple.id {
            let mut differs = 0;
            let mut w = 0;
            while w < KEY_WORDS {
                if w as u32 >= tuple.mask.count {
                    break;
                }
                // Two at a time, for fewer ways through: behind the last word the mask is zero, and so is the rule's key.
                differs |= masked_word(key, tuple, w) ^ rule.key[w];
                differs |= masked_word(key, tuple, w + 1) ^ rule.key[w + 1];
                w += 2;
            }
            if differs == 0 && visible(load(&rule.valid_from), load(&rule.valid_to), state.clock) {
                return slot;
            }
        }
        slot = load(&rule.next);
        i += 1;
    }
    0
}
