//! Changes to a switch's rules, as controllers ask for them (OpenFlow 1.3.5, 6.4).

use serde::{Deserialize, Serialize};

use super::{Action, GroupMod, Match, MeterMod, Rule};
use crate::PortNo;

/// Table number that stands for all tables in deletes (OpenFlow 1.3.5, 7.3.4.1, OFPTT_ALL).
pub const ALL_TABLES: u8 = 0xff;

/// Which rules a delete is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleFilter {
    /// [`ALL_TABLES`] for all of them.
    pub table: u8,
    /// Counts in strict deletes only.
    pub priority: u16,
    /// Compared under `cookie_mask`.
    pub cookie: u64,
    /// 0: cookies do not count.
    pub cookie_mask: u64,
    /// The rule's match: within this one, or exactly this one when strict.
    pub matching: Match,
    /// Only rules that output to this port, at once or by their action set.
    #[serde(default)]
    pub out_port: Option<PortNo>,
    /// Only rules that run this group, at once or by their action set.
    #[serde(default)]
    pub out_group: Option<u32>,
}

impl RuleFilter {
    /// Every rule of every table.
    pub fn all() -> Self {
        Self {
            table: ALL_TABLES,
            priority: 0,
            cookie: 0,
            cookie_mask: 0,
            matching: Match::any(),
            out_port: None,
            out_group: None,
        }
    }

    /// Whether the rule is one of those meant.
    pub fn selects(&self, rule: &Rule, strict: bool) -> bool {
        (self.table == ALL_TABLES || self.table == rule.table)
            && (rule.cookie ^ self.cookie) & self.cookie_mask == 0
            && self.out_port.is_none_or(|port| {
                does(
                    rule,
                    |a| matches!(a, Action::Output { port: p, .. } if *p == port),
                )
            })
            && self
                .out_group
                .is_none_or(|group| does(rule, |a| *a == Action::Group(group)))
            && if strict {
                self.priority == rule.priority && self.matching == rule.matching
            } else {
                rule.matching.is_within(&self.matching)
            }
    }
}

fn does(rule: &Rule, wanted: impl Fn(&Action) -> bool) -> bool {
    rule.actions.iter().chain(&rule.write_actions).any(wanted)
}

/// What a flow-mod asks for beside the rule (OpenFlow 1.3.5, 7.3.4.1, enum ofp_flow_mod_flags).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AddFlags {
    /// Refuse the rule if a packet could match it and another of the same table and priority.
    pub check_overlap: bool,
    /// The rule's counters begin at zero, also where it takes another's place.
    pub reset_counts: bool,
}

/// New instructions for rules that are there: meter, actions, action set, metadata and goto. Their cookies, timeouts, flags, counters and
/// durations stay as they are. Nothing is added when there is no such rule (OpenFlow 1.3.5, 6.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Modify {
    /// Table, priority, match and cookie say which rules, instructions what they do from now on. The rest does not count.
    pub rule: Rule,
    /// Only rules with the cookie of `rule` under this mask; 0: cookies do not count.
    pub cookie_mask: u64,
    /// The one rule of exactly this priority and match, not all those within the match.
    pub strict: bool,
    /// Counters begin at zero again.
    pub reset_counts: bool,
}

impl Modify {
    /// Which rules are meant.
    pub fn filter(&self) -> RuleFilter {
        RuleFilter {
            table: self.rule.table,
            priority: self.rule.priority,
            cookie: self.rule.cookie,
            cookie_mask: self.cookie_mask,
            matching: self.rule.matching.clone(),
            ..RuleFilter::all()
        }
    }

    /// What becomes of a rule that is meant.
    pub fn applied_to(&self, old: &Rule) -> Rule {
        let new = &self.rule;
        Rule {
            meter: new.meter,
            actions: new.actions.clone(),
            clear_actions: new.clear_actions,
            write_actions: new.write_actions.clone(),
            write_metadata: new.write_metadata,
            goto_table: new.goto_table,
            ..old.clone()
        }
    }
}

/// One change of what a switch holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SwitchMod {
    /// Of its rules.
    Rule(FlowMod),
    /// Of its groups.
    Group(GroupMod),
    /// Of its meters.
    Meter(MeterMod),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FlowMod {
    /// Adds a rule; one of the same table, priority and match makes way.
    Add(Rule),
    /// The same, with flags.
    AddWith(Rule, AddFlags),
    /// Changes what rules do.
    Modify(Modify),
    /// Removes the rules at least as specific as the filter.
    Delete(RuleFilter),
    /// Removes the rules of exactly this match and priority (one per table).
    DeleteStrict(RuleFilter),
}

impl FlowMod {
    /// The rule that it adds, or whose instructions others get.
    pub fn rule(&self) -> Option<&Rule> {
        match self {
            FlowMod::Add(rule) | FlowMod::AddWith(rule, _) => Some(rule),
            FlowMod::Modify(modify) => Some(&modify.rule),
            FlowMod::Delete(_) | FlowMod::DeleteStrict(_) => None,
        }
    }
}
