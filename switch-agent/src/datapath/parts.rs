//! Rules, parts of groups and parts of meters as entries: which table they are in, what packets they are for, and what is done with those.

use lime_core::PortNo;
use lime_core::flow::{Action, Part, Rule};
use switch_abi::{FlowKey, GROUP_TABLE, METER_TABLE, PART_MASK, part_word};

use super::compile::{Compiled, compile_actions, compile_match};
use super::{Result, groups, meters};

/// The table.
pub(crate) fn table_of(rule: &Rule) -> u8 {
    match rule.part.as_deref() {
        None => rule.table,
        Some(Part::Group(_)) => GROUP_TABLE,
        Some(Part::Meter(_)) => METER_TABLE,
    }
}

/// What packets it is for, as value and mask.
pub(crate) fn key_of(rule: &Rule) -> (FlowKey, FlowKey) {
    let word = match rule.part.as_deref() {
        None => return compile_match(&rule.matching),
        Some(Part::Group(part)) => part_word(part.group, groups::number_of(part)),
        Some(Part::Meter(part)) => part_word(part.meter, meters::number_of(part)),
    };
    let key = |word| {
        let mut words = [0; switch_abi::KEY_WORDS];
        words[0] = word;
        FlowKey::from_words(words)
    };
    (key(word), key(PART_MASK))
}

/// What is done with them. `port` gives the slot of an ordinary port number.
pub(crate) fn actions_of(rule: &Rule, port: impl FnMut(PortNo) -> Result<u32>) -> Result<Compiled> {
    match rule.part.as_deref() {
        None => compile_actions(rule, port),
        Some(Part::Group(part)) => groups::compile(part, rule, port),
        Some(Part::Meter(part)) => meters::compile(part),
    }
}

/// The ordinary ports that it names.
pub(crate) fn ports_of(rule: &Rule) -> Vec<PortNo> {
    let outputs = rule.actions.iter().chain(&rule.write_actions);
    let outputs = outputs.filter_map(|a| match a {
        Action::Output { port, .. } => Some(*port),
        _ => None,
    });
    match rule.part.as_deref() {
        Some(Part::Group(part)) => outputs.chain(groups::watched(part)).collect(),
        _ => outputs.collect(),
    }
}
