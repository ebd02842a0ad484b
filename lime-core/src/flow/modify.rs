//! Changes to a switch's rules, as controllers ask for them (OpenFlow 1.3.5, 6.4).

use serde::{Deserialize, Serialize};

use super::{Match, Rule};

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
        }
    }

    /// Whether the rule is one of those meant.
    pub fn selects(&self, rule: &Rule, strict: bool) -> bool {
        (self.table == ALL_TABLES || self.table == rule.table)
            && (rule.cookie ^ self.cookie) & self.cookie_mask == 0
            && if strict {
                self.priority == rule.priority && self.matching == rule.matching
            } else {
                rule.matching.is_within(&self.matching)
            }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FlowMod {
    /// Adds a rule; one of the same table, priority and match makes way.
    Add(Rule),
    /// Removes the rules at least as specific as the filter.
    Delete(RuleFilter),
    /// Removes the rules of exactly this match and priority (one per table).
    DeleteStrict(RuleFilter),
}
