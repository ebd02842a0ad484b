//! Phase B: counts the rules of the trajectory and runs their actions on the packet.

use crate::{
    actions,
    classify::{END_LIMIT, END_RESUME, END_STOPPED, lime_classify},
    counters, events,
    maps::{PORTS, RULES, SWITCHES, load},
    output,
    packet::{Packet, opaque},
    parse, reshape, set,
    state::{ActionRef, MAX_STEPS, STEP_COPY, STEP_GROUP, STEP_LIMIT, STEP_METER, State, TAG_NONE},
};
use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use switch_abi::{
    DropReason, EVENT_REASON_INVALID_TTL, MAX_ACTIONS, METER_REMARKS, NO_TABLE, PART_BUCKET,
    PORT_NO_FLOOD, SET_SLOT_GROUP, SET_SLOTS, SWITCH_INVALID_TTL, op, part_of,
};

/// How often classification goes on with a packet whose headers rules have changed.
const MAX_RESUMES: u32 = 4;

/// Steps that are looked at before the first callback.
const PLAIN_STEPS: u32 = 4;

/// What the callback gets.
#[repr(C)]
struct Run<P> {
    packet: P,
    state: *mut State,
}

/// Runs the whole trajectory.
#[inline(always)]
pub fn execute<P: Packet>(packet: P, state: &mut State) {
    state.set = 0;
    if !plain(packet, state) {
        packet.run();
    }
}

/// Runs what is left of the trajectory.
#[inline(always)]
pub fn run<P: Packet>(packet: P) -> u32 {
    let Some(state) = State::current() else {
        return 0;
    };
    let mut run = Run { packet, state };
    // SAFETY: the callback has the signature that the helper asks for; the context outlives the call.
    unsafe {
        bpf_loop(
            MAX_STEPS * (MAX_ACTIONS as u32 + SET_SLOTS),
            one::<P> as *mut c_void,
            (&raw mut run).cast(),
            0,
        );
    }
    0
}

/// Runs the first steps as far as they only count, or output to one port. Most packets meet no others, and need no callback, which costs more
/// than what it does. True: that was all.
#[inline(always)]
fn plain<P: Packet>(packet: P, state: &mut State) -> bool {
    let mut i = 0;
    while i < PLAIN_STEPS {
        if i >= state.steps {
            return state.end != END_RESUME;
        }
        let step = *state.step_at(i);
        let Some(rule) = RULES.get(step.rule) else {
            return true;
        };
        let action = &rule.actions[0];
        let output = rule.apply_count == 1 && action.op == op::OUTPUT && action.b != state.port;
        if step.flags | step.link != 0
            || rule.action_count != rule.apply_count
            || rule.apply_count != 0 && !output
        {
            return false;
        }
        counters::rule(step.rule, packet.length());
        state.step = i + 1;
        if output && !output::emit_first(packet, state, action.b) {
            packet.emit(action.b);
        }
        i += 1;
    }
    false
}

/// One action. Returns 1 to end, which is as soon as there are no more: each callback costs.
unsafe extern "C" fn one<P: Packet>(_index: u64, run: *mut Run<P>) -> u64 {
    // SAFETY: `execute` passes valid pointers.
    let (packet, state) = unsafe { ((*run).packet, &mut *(*run).state) };
    let ended = act(packet, state) != 0;
    (ended || state.step >= state.steps && state.end != END_RESUME) as u64
}

#[inline(always)]
fn act<P: Packet>(packet: P, state: &mut State) -> u64 {
    let index = state.step;
    if index >= state.steps {
        // The compiler knows what it returns, the verifier does not.
        return opaque(resume(packet, state)) as u64;
    }
    let step = *state.step_at(index);
    let Some(rule) = RULES.get(step.rule) else {
        return 1;
    };
    if step.flags & STEP_COPY != 0 {
        if !P::XDP {
            let (group, part) = part_of(rule.key[0]);
            let bucket = part as u32 - PART_BUCKET as u32 + 1;
            output::to_group(packet, state, group, bucket);
        }
        next_step(state, index);
        return 0;
    }
    if step.flags & STEP_METER != 0 {
        state.plain = 0;
        next_step(state, index);
        if rule.metadata & METER_REMARKS != 0 {
            // What is pending must go out as the packet is now.
            flush(packet, state);
        }
        // The compiler knows what it returns, the verifier does not.
        return opaque(packet.meter(step.rule, step.link) as usize) as u64;
    }
    let at = state.action;
    if at == 0 {
        counters::rule(step.rule, packet.length());
    }
    state.group_rule = step.origin;
    let count = rule.apply_count as u32;
    state.action = at + 1;
    let (reference, last) = if at < count {
        let last = at + 1 == count;
        if last {
            set::write(state, step.rule, rule);
            if rule.goto_table != NO_TABLE || !set::outputs(state) {
                next_step(state, index);
            }
        }
        let reference = ActionRef {
            rule: step.rule,
            index: at,
        };
        (reference, last && state.action == 0)
    } else {
        if at == 0 {
            set::write(state, step.rule, rule);
        }
        if rule.goto_table != NO_TABLE || !set::outputs(state) {
            next_step(state, index);
            return 0;
        }
        let slot = set::take(state);
        if slot == SET_SLOT_GROUP {
            // In place of an output.
            state.set = 0;
        }
        if state.set == 0 {
            next_step(state, index);
        }
        (set::reference(state, slot), slot >= SET_SLOT_GROUP)
    };
    let Some(action) = set::resolve(reference) else {
        return 1;
    };
    if action.op != op::OUTPUT {
        state.plain = 0;
    }
    match action.op {
        op::OUTPUT => {
            if last && step.flags & STEP_LIMIT != 0 {
                // Counted when the packet's way is at its end, which is here.
            } else if last && step.link != 0 {
                output::cross_link(packet, state, action.b, step.link);
                state.set = 0;
            } else if action.b == state.port {
                counters::dropped(state.port, DropReason::OutputToInPort);
                state.done += 1;
            } else {
                packet.emit(action.b);
            }
            0
        }
        op::IN_PORT => {
            let port = state.port;
            packet.emit(port);
            0
        }
        op::ALL | op::FLOOD if !P::XDP => {
            output::flood(
                packet,
                state,
                if action.op == op::FLOOD {
                    PORT_NO_FLOOD
                } else {
                    0
                },
            );
            0
        }
        // The steps that follow are the group's.
        op::GROUP if last && step.flags & STEP_GROUP != 0 => 0,
        op::GROUP if !P::XDP => {
            output::to_group(packet, state, action.b, 0);
            0
        }
        op::CONTROLLER if !P::XDP => {
            let from_set = reference.rule != step.rule || reference.index >= count;
            let max_len = action.a as u32 | if from_set { events::FROM_SET } else { 0 };
            packet.packet_in(step.rule, max_len, action.b);
            0
        }
        _ => {
            state.change = reference;
            // What is pending must go out as the packet is now.
            flush(packet, state);
            // The compiler knows what they return, the verifier does not.
            if !reshape::is_rare(action.op) {
                return (opaque(packet.change() as usize) != 0) as u64;
            }
            if opaque(packet.reshape() as usize) != 0 {
                return 1;
            }
            (reshape::is_reshaping(action.op) && !again(packet, state)) as u64
        }
    }
}

/// Sends what is pending. XDP has but one output, at the end: what comes after it is left to TC by classification.
#[inline(always)]
fn flush<P: Packet>(packet: P, state: &State) {
    if !P::XDP && state.pending.ifindex != 0 {
        packet.flush();
    }
}

/// Reads key and offsets from the packet as it is now.
#[inline(always)]
fn again<P: Packet>(packet: P, state: &mut State) -> bool {
    if opaque(packet.parse() as usize) == parse::PARSED as usize {
        return true;
    }
    counters::dropped(state.port, DropReason::ResizeFailed);
    state.end = END_STOPPED;
    false
}

/// The trajectory is at its end. Where that is because what follows was not known, the packet is read as it is now, and classified on from
/// there. 1: the packet's way is at its end.
#[inline(always)]
fn resume<P: Packet>(packet: P, state: &mut State) -> usize {
    if P::XDP || state.end != END_RESUME {
        return 1;
    }
    if state.resumes >= MAX_RESUMES {
        state.end = END_LIMIT;
        return 1;
    }
    state.resumes += 1;
    let Some(port) = PORTS.get(state.port) else {
        return 1;
    };
    state.in_port = port.port_no;
    set::carry(state);
    let switch_slot = state.switch_slot;
    // A packet that has passed a meter is known.
    if state.metered == 0 {
        // Reading may make the packet longer.
        flush(packet, state);
        if !again(packet, state) {
            return 1;
        }
    }
    state.steps = 0;
    state.step = 0;
    state.action = 0;
    lime_classify();
    // Back from where the trajectory ends.
    state.switch_slot = switch_slot;
    set::restore(state);
    0
}

/// The present step is done. The set goes on to the next table, but not to the next switch.
#[inline(always)]
fn next_step(state: &mut State, index: u32) {
    state.step = index + 1;
    state.action = 0;
}

/// Whether the controller is to get packets whose TTL runs out.
#[inline(always)]
fn invalid_ttl_wanted(state: &State) -> bool {
    SWITCHES
        .get(state.switch_slot)
        .is_some_and(|switch| load(&switch.flags) & SWITCH_INVALID_TTL != 0)
}

/// Runs the action `state.change`, which changes the packet. Returns 1 to end. Two functions for the verifier's sake: `RARE` is [`reshape::is_rare`].
#[inline(always)]
pub fn change<P: Packet, const RARE: bool>(packet: P) -> u32 {
    let Some(state) = State::current() else {
        return 1;
    };
    let Some(action) = set::resolve(state.change) else {
        return 1;
    };
    let done = if RARE {
        reshape::on_packet(packet, state, action)
    } else {
        actions::on_packet(packet, state, action)
    };
    if done {
        return 0;
    }
    if !RARE && state.expired != 0 && invalid_ttl_wanted(state) {
        let rule = state.change.rule;
        packet.packet_in(rule, 0xffff, EVENT_REASON_INVALID_TTL);
        state.end = END_STOPPED;
        return 1;
    }
    let resize = state.refused != 0
        || action.op == op::PUSH_VLAN
        || action.op == op::POP_VLAN && state.tag != TAG_NONE;
    let reason = if resize {
        DropReason::ResizeFailed
    } else if state.expired != 0 {
        DropReason::InvalidTtl
    } else {
        DropReason::BadSetField
    };
    counters::dropped(state.port, reason);
    state.end = END_STOPPED;
    1
}
