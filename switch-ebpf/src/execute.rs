//! Phase B: counts the rules of the trajectory and runs their actions on the packet.

use crate::{
    actions,
    classify::END_STOPPED,
    counters, events,
    maps::RULES,
    output,
    packet::{Packet, opaque},
    set,
    state::{ActionRef, MAX_STEPS, STEP_HELD, STEP_LIMIT, State, Step, TAG_NONE},
};
use aya_ebpf::{cty::c_void, helpers::generated::bpf_loop};
use switch_abi::{
    DropReason, MAX_ACTIONS, NO_TABLE, PORT_NO_FLOOD, SET_SLOT_OUTPUT, SET_SLOTS, op,
};

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
}

/// One action. Returns 1 to end.
unsafe extern "C" fn one<P: Packet>(_index: u64, run: *mut Run<P>) -> u64 {
    // SAFETY: `execute` passes valid pointers.
    let (packet, state) = unsafe { ((*run).packet, &mut *(*run).state) };
    let index = state.step;
    if index >= state.steps {
        return 1;
    }
    // SAFETY: the mask keeps the index within the trace.
    let step = unsafe {
        *(&raw const state.trace)
            .cast::<Step>()
            .add((index & (MAX_STEPS - 1)) as usize)
    };
    let Some(rule) = RULES.get(step.rule) else {
        return 1;
    };
    let at = state.action;
    if at == 0 {
        counters::rule(step.rule, packet.length());
    }
    let held = step.flags & STEP_HELD != 0;
    let count = rule.apply_count as u32;
    state.action = at + 1;
    let (reference, last) = if at < count {
        let last = at + 1 == count;
        if last {
            set::write(state, step.rule, rule);
            if rule.goto_table != NO_TABLE || !set::outputs(state) || held {
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
        if rule.goto_table != NO_TABLE || !set::outputs(state) || held {
            next_step(state, index);
            return 0;
        }
        let slot = set::take(state);
        if state.set == 0 {
            next_step(state, index);
        }
        (set::reference(state, slot), slot == SET_SLOT_OUTPUT)
    };
    let Some(action) = set::resolve(reference) else {
        return 1;
    };
    match action.op {
        op::OUTPUT | op::IN_PORT | op::ALL | op::FLOOD if held => 0,
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
        op::CONTROLLER if !P::XDP => {
            let from_set = reference.rule != step.rule || reference.index >= count;
            let max_len = action.a as u32
                | if held { events::HELD } else { 0 }
                | if from_set { events::FROM_SET } else { 0 };
            events::packet_in(packet, state, step.rule, max_len, action.b);
            held as u64
        }
        _ => {
            state.change = reference;
            // The compiler knows what it returns, the verifier does not.
            (opaque(packet.change() as usize) != 0) as u64
        }
    }
}

/// The present step is done. The set goes on to the next table, but not to the next switch.
#[inline(always)]
fn next_step(state: &mut State, index: u32) {
    state.step = index + 1;
    state.action = 0;
}

/// Runs the action `state.change`, which changes the packet. Returns 1 to end.
#[inline(always)]
pub fn change<P: Packet>(packet: P) -> u32 {
    let Some(state) = State::current() else {
        return 1;
    };
    let Some(action) = set::resolve(state.change) else {
        return 1;
    };
    // What is pending must go out as the packet is now.
    if state.pending.ifindex != 0 {
        packet.flush();
    }
    if actions::on_packet(packet, state, action) {
        return 0;
    }
    let resize = action.op == op::PUSH_VLAN || action.op == op::POP_VLAN && state.tag != TAG_NONE;
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
