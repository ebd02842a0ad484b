//! The packet's action set (OpenFlow 1.3.5, 5.10), as references to the actions of the rules that wrote it. Classification builds it to
//! know where the packet goes; execution builds it again, to run it.

use crate::{
    maps::RULES,
    state::{ActionRef, State},
};
use switch_abi::{
    Action, MAX_ACTIONS, RULE_CLEAR_ACTIONS, RuleEntry, SET_SLOT_GROUP, SET_SLOTS, set_slot,
};

/// Clear-actions and write-actions of a rule.
#[inline(always)]
pub fn write(state: &mut State, slot: u32, rule: &RuleEntry) {
    if rule.flags & RULE_CLEAR_ACTIONS != 0 {
        state.set = 0;
    }
    if rule.action_count > rule.apply_count {
        merge(state, slot);
    }
}

#[inline(never)]
fn merge(state: &mut State, slot: u32) -> u32 {
    let Some(rule) = RULES.get(slot) else {
        return 0;
    };
    let mut i = 0;
    while i < MAX_ACTIONS {
        if i >= rule.action_count as usize {
            break;
        }
        if i >= rule.apply_count as usize {
            // SAFETY: the index is below MAX_ACTIONS.
            let action = unsafe { &*rule.actions.as_ptr().add(i) };
            let at = set_slot(action) & (SET_SLOTS - 1);
            // SAFETY: the index is masked.
            unsafe {
                (&raw mut state.set_actions)
                    .cast::<ActionRef>()
                    .add(at as usize)
                    .write(ActionRef {
                        rule: slot,
                        index: i as u32,
                    });
            }
            state.set |= 1 << at;
        }
        i += 1;
    }
    0
}

/// Whether the set does anything: without an output or a group it does not.
#[inline(always)]
pub fn outputs(state: &State) -> bool {
    state.set >> SET_SLOT_GROUP != 0
}

/// Whether the set runs a group.
#[inline(always)]
pub fn has_group(state: &State) -> bool {
    state.set >> SET_SLOT_GROUP & 1 != 0
}

/// Keeps the set as it is now for classification to begin with.
#[inline(always)]
pub fn carry(state: &mut State) {
    state.set_carried = state.set;
    if state.set != 0 {
        // As words: copied as structs, the compiler would make it a call of `memcpy`, byte by byte.
        let from = (&raw const state.set_actions).cast::<u64>();
        let to = (&raw mut state.carried_actions).cast::<u64>();
        copy(from, to);
    }
}

/// The set as classification began with it.
#[inline(always)]
pub fn restore(state: &mut State) {
    state.set = state.set_carried;
    if state.set != 0 {
        let from = (&raw const state.carried_actions).cast::<u64>();
        let to = (&raw mut state.set_actions).cast::<u64>();
        copy(from, to);
    }
}

#[inline(always)]
fn copy(from: *const u64, to: *mut u64) {
    const _: () = assert!(size_of::<ActionRef>() == size_of::<u64>());
    let mut i = 0;
    while i < SET_SLOTS as usize {
        // SAFETY: both are arrays of SET_SLOTS elements of that size; volatile, so that it stays a loop.
        unsafe {
            core::ptr::write_volatile(to.add(i), core::ptr::read_volatile(from.add(i)));
        }
        i += 1;
    }
}

/// Where the action in a slot is.
#[inline(always)]
pub fn reference(state: &State, slot: u32) -> ActionRef {
    // SAFETY: the index is masked.
    unsafe {
        *(&raw const state.set_actions)
            .cast::<ActionRef>()
            .add((slot & (SET_SLOTS - 1)) as usize)
    }
}

/// The action there.
#[inline(always)]
pub fn resolve(at: ActionRef) -> Option<&'static Action> {
    let rule = RULES.get(at.rule)?;
    // SAFETY: the mask keeps the index within the array.
    Some(unsafe {
        &*rule
            .actions
            .as_ptr()
            .add(at.index as usize & (MAX_ACTIONS - 1))
    })
}

/// The action in a slot.
#[inline(always)]
pub fn action(state: &State, slot: u32) -> Option<&'static Action> {
    resolve(reference(state, slot))
}

/// The lowest slot in use, taken out. The set must not be empty.
#[inline(always)]
pub fn take(state: &mut State) -> u32 {
    let lowest = state.set & state.set.wrapping_neg();
    state.set &= !lowest;
    // Its number is the count of the bits below. Without branches, which the verifier would all follow.
    let mut n = lowest.wrapping_sub(1);
    n -= n >> 1 & 0x5555_5555_5555_5555;
    n = (n & 0x3333_3333_3333_3333) + (n >> 2 & 0x3333_3333_3333_3333);
    n = n + (n >> 4) & 0x0f0f_0f0f_0f0f_0f0f;
    (n.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32 & (SET_SLOTS - 1)
}
