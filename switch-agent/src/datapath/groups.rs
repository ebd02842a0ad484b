//! Parts of groups as entries of the table that is theirs: the head of `switch-abi/src/group.rs` says how.

use lime_core::PortNo;
use lime_core::flow::{Action, Choice, ChoiceOp, GroupPart, GroupType, Live, Part, Rule};
use switch_abi::{
    BUCKET_WATCHES, FlowKey, GROUP_ALL, GROUP_FAST_FAILOVER, GROUP_INDIRECT, GROUP_SELECT,
    GROUP_TABLE, MAX_CHOICES, MAX_GROUP_BUCKETS, PART_BUCKET, PART_CHOICE, PART_HEAD, PART_MASK,
    RULE_CONTROLLER_AND_OUTPUT, RULE_PURE, choice_word, op, part_word,
};

use super::compile::{Compiled, compile_actions, compile_match};
use super::{DatapathError, Result};

const _: () = assert!(MAX_CHOICES as usize == lime_core::flow::MAX_CHOICES);
const _: () = assert!(MAX_GROUP_BUCKETS as usize == lime_core::flow::MAX_BUCKETS);
const _: () = assert!(lime_core::flow::CHOICE_OPS == switch_abi::MAX_ACTIONS);

/// The table that a rule, or a part of a group, is in.
pub(crate) fn table_of(rule: &Rule) -> u8 {
    match rule.part {
        Some(_) => GROUP_TABLE,
        None => rule.table,
    }
}

/// What packets it is for, as value and mask.
pub(crate) fn key_of(rule: &Rule) -> (FlowKey, FlowKey) {
    let Some(part) = &rule.part else {
        return compile_match(&rule.matching);
    };
    let number = match &part.what {
        Part::Head => PART_HEAD,
        Part::Choice(choice) => PART_CHOICE + u16::from(choice.number),
        Part::Bucket(index) => PART_BUCKET + index,
    };
    let key = |word| {
        let mut words = [0; switch_abi::KEY_WORDS];
        words[0] = word;
        FlowKey::from_words(words)
    };
    (key(part_word(part.group, number)), key(PART_MASK))
}

/// What is done with them. `port` gives the slot of an ordinary port number.
pub(crate) fn actions_of(rule: &Rule, port: impl FnMut(PortNo) -> Result<u32>) -> Result<Compiled> {
    match rule.part.as_deref() {
        None => compile_actions(rule, port),
        Some(GroupPart {
            what: Part::Head, ..
        }) => Ok(Compiled::default()),
        Some(GroupPart {
            what: Part::Choice(choice),
            ..
        }) => compile_choice(choice, port),
        Some(GroupPart {
            what: Part::Bucket(_),
            ..
        }) => {
            // Not the lowest priority: packets for the controller are sent by an action, and not by a table miss.
            let rule = Rule {
                priority: 1,
                ..rule.clone()
            };
            let mut compiled = compile_actions(&rule, port)?;
            let outputs = op::OUTPUT..=op::CONTROLLER;
            let actions = &compiled.actions[..compiled.count as usize];
            if actions.iter().all(|a| outputs.contains(&a.op))
                && compiled.flags & RULE_CONTROLLER_AND_OUTPUT == 0
            {
                compiled.flags |= RULE_PURE;
            }
            Ok(compiled)
        }
    }
}

/// The ordinary ports that it names.
pub(crate) fn ports_of(rule: &Rule) -> Vec<PortNo> {
    let outputs = rule.actions.iter().chain(&rule.write_actions);
    let outputs = outputs.filter_map(|a| match a {
        Action::Output { port, .. } => Some(*port),
        _ => None,
    });
    let ops = match rule.part.as_deref() {
        Some(GroupPart {
            what: Part::Choice(choice),
            ..
        }) => &choice.ops[..],
        _ => &[],
    };
    let watched = ops.iter().filter_map(|op| match *op {
        ChoiceOp::Also(port)
        | ChoiceOp::Bucket {
            live: Live::Port(port),
            ..
        } => Some(port),
        ChoiceOp::Bucket { .. } => None,
    });
    outputs.chain(watched).collect()
}

fn compile_choice(
    choice: &Choice,
    mut port: impl FnMut(PortNo) -> Result<u32>,
) -> Result<Compiled> {
    if usize::from(choice.parts) > usize::from(MAX_CHOICES) || choice.buckets > MAX_GROUP_BUCKETS {
        return Err(DatapathError::invalid(
            "the choices of a group",
            "it has too many, or too many buckets",
        ));
    }
    let kind = match choice.kind {
        GroupType::All => GROUP_ALL,
        GroupType::Select => GROUP_SELECT,
        GroupType::Indirect => GROUP_INDIRECT,
        GroupType::FastFailover => GROUP_FAST_FAILOVER,
    };
    let mut out = Compiled {
        metadata: choice_word(kind, choice.parts, choice.buckets),
        ..Compiled::default()
    };
    for action in &choice.ops {
        let (op, weight, watched) = match *action {
            ChoiceOp::Bucket { weight, live } => (op::BUCKET, weight, live),
            ChoiceOp::Also(port) => (op::WATCH, 0, Live::Port(port)),
        };
        let slot = match watched {
            Live::Port(number) => port(number)?,
            _ => 0,
        };
        out.push(op, weight, slot, [0; 8])?;
        if watched != Live::Always && op == op::BUCKET {
            out.actions[out.count as usize - 1].pad = BUCKET_WATCHES;
        }
    }
    out.apply = out.count;
    Ok(out)
}
