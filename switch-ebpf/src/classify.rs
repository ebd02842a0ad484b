//! Phase A: which rules the packet matches on its way, on the key alone. Nothing is counted or changed.

use crate::{
    actions,
    maps::{BUCKETS, PORTS, RULES, SWITCHES, TABLES, TUPLES, bucket_mask, load},
    packet::opaque,
    set,
    state::{MAX_STEPS, STEP_HELD, STEP_LIMIT, State, Step},
};
use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use switch_abi::{
    KEY_WORDS, MAX_ACTIONS, MAX_CHAIN, MAX_SWITCH_HOPS, MAX_TABLES, MAX_TUPLES, NO_TABLE,
    PORT_DOWN, PORT_LINK, RULE_CONTROLLER_AND_OUTPUT, RULE_XDP, SET_SLOT_OUTPUT, SWITCH_ACTIVE,
    SWITCH_HOLD, SWITCH_RELAY, SwitchEntry, TableRef, hash_end, hash_start, hash_word, op,
    serial_le, visible,
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
    let mut context = state as *mut State;
    // SAFETY: the callback has the signature that the helper asks for; the context outlives the call.
    unsafe {
        bpf_loop(MAX_STEPS, step as *mut c_void, (&raw mut context).cast(), 0);
    }
    0
}

/// One table. Returns 1 to end the walk.
unsafe extern "C" fn step(_index: u64, context: *mut *mut State) -> u64 {
    // SAFETY: `lime_classify` passes a valid pointer.
    let state = unsafe { &mut **context };
    let slot = lime_look_up();
    if slot == 0 {
        state.end = END_MISS;
        return 1;
    }
    let (Some(rule), Some(switch)) = (RULES.get(slot), SWITCHES.get(state.switch_slot)) else {
        return 1;
    };
    let index = state.steps;
    if index >= MAX_STEPS {
        return 1;
    }
    state.steps = index + 1;
    // SAFETY: the index is below MAX_STEPS; the mask tells the verifier.
    let entry = unsafe {
        &mut *(&raw mut state.trace)
            .cast::<Step>()
            .add((index & (MAX_STEPS - 1)) as usize)
    };
    entry.rule = slot;
    entry.link = 0;
    entry.flags = 0;
    if state.xdp != 0 && rule.flags & RULE_XDP == 0 {
        state.end = END_TC;
        return 1;
    }
    if rule.flags & RULE_CONTROLLER_AND_OUTPUT != 0 && load(&switch.flags) & SWITCH_HOLD != 0 {
        entry.flags = STEP_HELD;
        state.end = END;
        return 1;
    }
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
        }
    }
    if !last_table {
        actions::on_key(state, slot);
        let mask = rule.metadata_mask;
        state.key.metadata = state.key.metadata & !mask | rule.metadata & mask;
        state.table = rule.goto_table as u32;
        return unknown(state);
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
    let Some(port) = PORTS.get(link) else {
        return 1;
    };
    if link == 0 {
        state.end = END;
        return 1;
    }
    state.switches += 1;
    if state.switches >= MAX_SWITCH_HOPS {
        entry.flags = STEP_LIMIT;
        return 1;
    }
    entry.link = link;
    actions::on_key(state, slot);
    if run_set {
        actions::set_on_key(state);
    }
    state.set = 0;
    state.key.metadata = 0;
    state.key.tunnel_id = 0;
    state.key.in_port = port.port_no;
    state.key.in_phy_port = port.port_no;
    state.switch_slot = port.switch_slot;
    state.table = 0;
    unknown(state)
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
fn inline_link(state: &State, port: u32) -> u32 {
    let Some(port) = PORTS.get(port) else {
        return 0;
    };
    if load(&port.kind) != PORT_LINK || load(&port.flags) & PORT_DOWN != 0 {
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
        Some(switch) if role(switch, state.clock) == Role::Active => link,
        _ => 0,
    }
}

/// A table search. In the state and not on the stack: kernels before 6.7 verify a loop's body for its first round only, and hold what the
/// stack has then for what it always has.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Search {
    /// The table's first tuple.
    first: u32,
    /// Best rule so far; 0: none.
    best: u32,
    best_priority: u32,
    /// Of the present tuple: next rule of the chain, hash, ID, and how many words the mask uses.
    next: u32,
    hash: u32,
    tuple: u32,
    words: u32,
    /// The chain's visible rule; 0: none.
    found: u32,
    priority: u32,
    pad: u32,
}

/// The slot of the best visible rule in the state's table; 0: none. A global function without arguments, so that the kernel
/// verifies it once and not again on each path to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lime_look_up() -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    let Some(word) = TABLES.get(state.switch_slot * MAX_TABLES + (state.table & (MAX_TABLES - 1)))
    else {
        return 0;
    };
    let run = TableRef::from_word(load(word));
    state.search.first = run.start;
    state.search.best = 0;
    state.search.best_priority = 0;
    // Widened where the optimizer cannot see: kernels that put the loop into the program take all 64 bits of the register for the count.
    let count = opaque(run.count as usize);
    let count = if count < MAX_TUPLES as usize {
        count as u32
    } else {
        MAX_TUPLES
    };
    let mut context = state as *mut State;
    // SAFETY: the callback has the signature that the helper asks for; the context outlives the call.
    unsafe {
        bpf_loop(count, tuple as *mut c_void, (&raw mut context).cast(), 0);
    }
    load(&state.search.best)
}

/// One tuple of the table. Returns 1 to end the search.
unsafe extern "C" fn tuple(index: u64, context: *mut *mut State) -> u64 {
    // SAFETY: `lime_look_up` passes a valid pointer.
    let state = unsafe { &mut **context };
    let search = &mut state.search;
    let Some(tuple) = TUPLES.get(search.first + index as u32) else {
        return 1;
    };
    if search.best != 0 && search.best_priority >= tuple.max_priority {
        return 1;
    }
    let key = state.key.words().as_ptr();
    let masked = (&raw mut state.masked).cast::<u64>();
    let count = tuple.mask.count;
    let mut hash = hash_start(tuple.id);
    let mut w = 0;
    while w < KEY_WORDS {
        if w as u32 >= count {
            break;
        }
        // SAFETY: the index is masked to the key's words; `w` is below KEY_WORDS.
        let word = unsafe {
            let from = *tuple.mask.index.as_ptr().add(w) as usize & (KEY_WORDS - 1);
            *key.add(from) & *tuple.mask.words.as_ptr().add(w)
        };
        // SAFETY: `w` is below KEY_WORDS.
        unsafe { masked.add(w).write(word) };
        hash = hash_word(hash, word);
        w += 1;
    }
    search.words = count;
    search.tuple = tuple.id;
    search.hash = hash_end(hash);
    let Some(head) = BUCKETS.get(search.hash & bucket_mask()) else {
        return 1;
    };
    search.next = load(head);
    if search.next == 0 {
        return 0;
    }
    search.found = 0;
    // SAFETY: the callback has the signature that the helper asks for; the context outlives the call.
    unsafe {
        bpf_loop(MAX_CHAIN, link as *mut c_void, context.cast(), 0);
    }
    let search = &mut state.search;
    let found = load(&search.found);
    if found != 0 && (search.best == 0 || search.priority > search.best_priority) {
        search.best = found;
        search.best_priority = search.priority;
    }
    0
}

/// One rule of a bucket's chain. Returns 1 to end the search.
unsafe extern "C" fn link(_index: u64, context: *mut *mut State) -> u64 {
    // SAFETY: `lime_look_up` passes a valid pointer.
    let state = unsafe { &mut **context };
    let search = &mut state.search;
    let slot = search.next;
    let Some(rule) = RULES.get(slot) else {
        return 1;
    };
    if slot == 0 {
        return 1;
    }
    if rule.hash == search.hash && rule.tuple == search.tuple {
        let ours = (&raw const state.masked).cast::<u64>();
        let theirs = rule.key.as_ptr();
        let mut differs = 0;
        let mut w = 0;
        while w < KEY_WORDS {
            if w as u32 >= search.words {
                break;
            }
            // SAFETY: `w` is below KEY_WORDS.
            differs |= unsafe { *ours.add(w) ^ *theirs.add(w) };
            w += 1;
        }
        if differs == 0 && visible(load(&rule.valid_from), load(&rule.valid_to), state.clock) {
            search.found = slot;
            search.priority = rule.priority as u32;
            return 1;
        }
    }
    search.next = load(&rule.next);
    (search.next == 0) as u64
}
