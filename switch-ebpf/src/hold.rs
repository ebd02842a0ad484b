//! Packets that the controller is told of by a switch that has other instances: their outputs wait (consistency rule 5).
//!
//! While it walks through the tables, classification notes whether a switch tells the controller of the packet and whether it outputs it. If both, all
//! outputs of this run go to the agent in place of devices, as the tunnel frames that they become when the coordinator has all that the controller is
//! told of the packet; copies for groups go there too, and are sent back at once under the packet's name, so that what groups tell is waited for as well.
//! Where a walk does not see everything beforehand, it takes it for granted that the controller is told.

use crate::{
    classify::END_RESUME,
    counters,
    maps::{SWITCHES, load},
    state::State,
};
use switch_abi::{
    HOLD_BITS, HOLD_RUN, RULE_COPIES, RULE_OUTPUTS, RULE_TELLS, RuleEntry, SWITCH_GROUP_TELLS,
    SWITCH_HOLD, SwitchEntry,
};

const TELLS: u32 = RULE_TELLS.trailing_zeros();
const COPIES: u32 = RULE_COPIES.trailing_zeros();
const GROUP_TELLS: u32 = SWITCH_GROUP_TELLS.trailing_zeros();
const _: () = assert!(SWITCH_HOLD == 1);

/// Notes what a rule, or a group's bucket, does with the packet. Without branches, which the verifier would all follow.
#[inline(always)]
pub fn note(state: &mut State, rule: &RuleEntry, switch: &SwitchEntry) {
    let (rule, switch) = (rule.flags as u32, load(&switch.flags));
    let tells = rule >> TELLS | (rule >> COPIES & switch >> GROUP_TELLS);
    state.told |= tells & switch & SWITCH_HOLD;
    state.outputs |= rule & RULE_OUTPUTS as u32;
}

/// Notes that a group gets a copy of the packet.
#[inline(always)]
pub fn note_copy(state: &mut State) {
    let Some(switch) = SWITCHES.get(state.switch_slot) else {
        return;
    };
    let switch = load(&switch.flags);
    state.told |= switch >> GROUP_TELLS & switch & SWITCH_HOLD;
    state.outputs = 1;
}

/// Whether the packet's outputs wait, when the walk is at its end.
#[inline(always)]
pub fn decide(state: &mut State) {
    if state.end == END_RESUME {
        // What comes then is not known yet.
        let switch = SWITCHES
            .get(state.switch_slot)
            .map_or(0, |s| load(&s.flags));
        if state.outputs != 0 {
            state.told |= switch & SWITCH_HOLD;
        }
        state.outputs |= state.told;
    }
    if state.hold == 0 && state.told != 0 && state.outputs != 0 {
        state.holds = state.holds.wrapping_add(1);
        let count = state.holds & ((1 << HOLD_BITS) - 1);
        state.hold = HOLD_RUN | counters::cpu() << HOLD_BITS | count;
    }
}
