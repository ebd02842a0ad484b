//! Groups become part of the rules that use them when these are staged.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::flow::{Action, Group, GroupType, Rule};

/// Why a rule with groups cannot be staged.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GroupUse {
    /// OpenFlow 1.3.5, 7.4.4.4: OFPBAC_BAD_OUT_GROUP.
    #[error("group {0} does not exist on this switch: create it first")]
    Missing(u32),
    /// Needs support in the data path.
    #[error("group {0} is of type {1:?}: rules can use groups of types all and indirect only")]
    Unsupported(u32, GroupType),
    /// Needs support in the data path.
    #[error("group {0} in write_actions: that is not supported, run the group under apply-actions")]
    InSet(u32),
    /// Each bucket works on its own copy of the packet, which a flat action list has not.
    #[error(
        "group {0} changes the packet and other actions come after: that is not supported, put the group or the changing bucket last"
    )]
    ChangesPacket(u32),
}

/// Whether actions run after the rule's own on the packet that these leave.
fn goes_on(rule: &Rule) -> bool {
    rule.goto_table.is_some() || !rule.write_actions.is_empty()
}

/// The rule with its groups expanded into its actions.
pub fn expand(rule: &Rule, groups: &BTreeMap<u32, Group>) -> Result<Rule, GroupUse> {
    let mut actions = Vec::with_capacity(rule.actions.len());
    let mut changed = None;
    for action in &rule.actions {
        if let Some(id) = changed {
            return Err(GroupUse::ChangesPacket(id));
        }
        let Action::Group(id) = action else {
            actions.push(action.clone());
            continue;
        };
        let group = groups.get(id).ok_or(GroupUse::Missing(*id))?;
        if !matches!(group.kind, GroupType::All | GroupType::Indirect) {
            return Err(GroupUse::Unsupported(*id, group.kind));
        }
        for bucket in &group.buckets {
            if changed.is_some() {
                return Err(GroupUse::ChangesPacket(*id));
            }
            actions.extend(bucket.iter().cloned());
            if !bucket.iter().all(|a| matches!(a, Action::Output { .. })) {
                changed = Some(*id);
            }
        }
    }
    if let Some(id) = changed.filter(|_| goes_on(rule)) {
        return Err(GroupUse::ChangesPacket(id));
    }
    for action in &rule.write_actions {
        if let Action::Group(id) = action {
            return Err(if groups.contains_key(id) {
                GroupUse::InSet(*id)
            } else {
                GroupUse::Missing(*id)
            });
        }
    }
    Ok(Rule {
        actions,
        ..rule.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PortNo;
    use crate::flow::{Field, Match};

    #[test]
    fn copies_stay_copies() {
        let set = Action::SetField {
            field: Field::EthDst,
            value: 1,
        };
        let out = |n| Action::output(PortNo(n));
        let group = |id, buckets| Group {
            id,
            kind: GroupType::All,
            buckets,
        };
        let groups = BTreeMap::from([
            (1, group(1, vec![vec![out(1)], vec![set.clone(), out(2)]])),
            (2, group(2, vec![vec![set.clone(), out(2)], vec![out(1)]])),
        ]);
        let rule = |actions| Rule {
            table: 0,
            priority: 1,
            cookie: 0,
            matching: Match::any(),
            actions,
            goto_table: None,
            idle_timeout: 0,
            hard_timeout: 0,
            ..Rule::default()
        };
        let good = expand(&rule(vec![Action::Group(1)]), &groups).unwrap();
        assert_eq!(good.actions, vec![out(1), set, out(2)]);
        for bad in [
            vec![Action::Group(2)],
            vec![Action::Group(1), out(3)],
            vec![Action::Group(9)],
        ] {
            assert!(expand(&rule(bad), &groups).is_err());
        }
    }
}
