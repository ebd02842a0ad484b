//! Parts of groups as entries of the table that is theirs: the head of `switch-abi/src/group.rs` says how.

use lime_core::PortNo;
use lime_core::flow::{Choice, ChoiceOp, GroupPart, GroupPiece, GroupType, Live, Rule};
use switch_abi::{
    BUCKET_WATCHES, GROUP_ALL, GROUP_FAST_FAILOVER, GROUP_INDIRECT, GROUP_SELECT, MAX_CHOICES,
    MAX_GROUP_BUCKETS, PART_BUCKET, PART_CHOICE, PART_HEAD, RULE_COPIES, RULE_OUTPUTS, RULE_PURE,
    choice_word, op,
};

use super::compile::{Compiled, compile_actions};
use super::{DatapathError, Result};

const _: () = assert!(MAX_CHOICES as usize == lime_core::flow::MAX_CHOICES);
const _: () = assert!(MAX_GROUP_BUCKETS as usize == lime_core::flow::MAX_BUCKETS);
const _: () = assert!(lime_core::flow::CHOICE_OPS == switch_abi::MAX_ACTIONS);

/// The number of a part.
pub(super) fn number_of(part: &GroupPart) -> u16 {
    match &part.what {
        GroupPiece::Head => PART_HEAD,
        GroupPiece::Choice(choice) => PART_CHOICE + u16::from(choice.number),
        GroupPiece::Bucket(index) => PART_BUCKET + index,
    }
}

/// What a part does with packets; `rule` has the actions of a bucket. `port` gives the slot of an ordinary port number.
pub(super) fn compile(
    part: &GroupPart,
    rule: &Rule,
    port: impl FnMut(PortNo) -> Result<u32>,
) -> Result<Compiled> {
    match &part.what {
        GroupPiece::Head => Ok(Compiled::default()),
        GroupPiece::Choice(choice) => compile_choice(choice, port),
        GroupPiece::Bucket(_) => {
            // Not the lowest priority: packets for the controller are sent by an action, and not by a table miss.
            let rule = Rule {
                priority: 1,
                ..rule.clone()
            };
            let mut compiled = compile_actions(&rule, port)?;
            let outputs = op::OUTPUT..=op::CONTROLLER;
            let actions = &compiled.actions[..compiled.count as usize];
            if actions.iter().all(|a| outputs.contains(&a.op)) {
                compiled.flags |= RULE_PURE;
            }
            if actions.iter().any(|a| a.op == op::GROUP) {
                // Also the last one, where other buckets come after it.
                compiled.flags |= RULE_OUTPUTS | RULE_COPIES;
            }
            Ok(compiled)
        }
    }
}

/// The ports whose state decides which bucket is used.
pub(super) fn watched(part: &GroupPart) -> impl Iterator<Item = PortNo> + '_ {
    let ops = match &part.what {
        GroupPiece::Choice(choice) => &choice.ops[..],
        _ => &[],
    };
    ops.iter().filter_map(|op| match *op {
        ChoiceOp::Also(port)
        | ChoiceOp::Bucket {
            live: Live::Port(port),
            ..
        } => Some(port),
        ChoiceOp::Bucket { .. } => None,
    })
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
