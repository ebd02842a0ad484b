//! Rules (flow entries).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::headers::{Headers, is_of_a_tag};
use super::{Action, Field, METER_MAX, Match, Part, SetKind, sort_set};
use crate::PortNo;

/// Tables of a switch.
pub const TABLES: u8 = 32;

/// Most actions of a rule, applied and written together, counted by [`Action::cost`].
pub const MAX_ACTIONS: usize = 16;

/// A flow entry: OpenFlow 1.3.5, 5.2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Table, below [`TABLES`].
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// The controller's own mark.
    pub cookie: u64,
    /// Which packets.
    pub matching: Match,
    /// They pass this meter first, or not at all.
    #[serde(default)]
    pub meter: Option<u32>,
    /// What to do with them (apply-actions).
    pub actions: Vec<Action>,
    /// Then the packet's action set is emptied.
    #[serde(default)]
    pub clear_actions: bool,
    /// Then these go into the action set, each in place of one of its kind; it is run when a rule without `goto_table` has matched.
    /// At most one of each [`SetKind`], in that order.
    #[serde(default)]
    pub write_actions: Vec<Action>,
    /// Then the packet's metadata is written.
    #[serde(default)]
    pub write_metadata: Option<MetadataWrite>,
    /// Then go on at this table, a later one.
    pub goto_table: Option<u8>,
    /// Seconds without a match until the rule goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds until the rule goes; 0: never.
    pub hard_timeout: u16,
    /// How it is counted, and whether its end is told.
    #[serde(default)]
    pub flags: RuleFlags,
    /// It is in no table, but a part of a group or a meter: of all above, only `actions` counts. Controllers cannot make such rules.
    #[serde(default)]
    pub part: Option<Box<Part>>,
}

/// New metadata of a packet: its bits under `mask` become those of `value` (OpenFlow 1.3.5, 7.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MetadataWrite {
    /// No bits outside the mask.
    pub value: u64,
    /// Which bits are written; never 0.
    pub mask: u64,
}

/// What of a flow-mod's flags stays with the rule (OpenFlow 1.3.5, 7.3.4.1, enum ofp_flow_mod_flags).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleFlags {
    /// The controller is told when the rule is deleted or times out.
    pub send_flow_removed: bool,
    /// The controller does not need the number of packets. It may be counted all the same.
    pub no_packet_counts: bool,
    /// The controller does not need the number of bytes. It may be counted all the same.
    pub no_byte_counts: bool,
}

/// Why a rule is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RuleError {
    /// No such table.
    #[error("table {table} does not exist: tables are 0 to {}", TABLES - 1)]
    NoSuchTable {
        /// The table.
        table: u8,
    },
    /// goto_table must go forward (OpenFlow 1.3.5, 5.1).
    #[error("goto_table:{to} in table {table}: packets can only go on to a later table")]
    GotoBackwards {
        /// The rule's table.
        table: u8,
        /// Where it wanted to go.
        to: u8,
    },
    /// The port is neither one nor reserved.
    #[error(
        "output to port {port:#x}: not a port number (1 to 0xffffff00) and not a reserved port that rules may use"
    )]
    BadPort {
        /// The number.
        port: u32,
    },
    /// The field cannot be set.
    #[error("{field:?} cannot be set")]
    NotSettable {
        /// The field.
        field: Field,
    },
    /// The value has bits outside the field.
    #[error("set {field:?}: value {value:#x} does not fit in {} bits", field.bits())]
    ValueTooWide {
        /// The field.
        field: Field,
        /// The value.
        value: u128,
    },
    /// Setting a field of a protocol that the match does not pin down (OpenFlow 1.3.5, 7.2.3.8 and 7.2.5).
    #[error("set {field:?}: the match must say {needs}, since other packets have no such field")]
    SetWithoutPrerequisite {
        /// The field.
        field: Field,
        /// What is missing, in words.
        needs: &'static str,
    },
    /// An action on a header that the match does not pin down.
    #[error("{action:?}: the match must say {needs}, since other packets have no such header")]
    ActionWithoutPrerequisite {
        /// The action.
        action: Action,
        /// What is missing, in words.
        needs: &'static str,
    },
    /// Not an EtherType of MPLS.
    #[error("push_mpls:{eth_type:#06x}: the EtherType is 0x8847 or 0x8848")]
    BadMplsType {
        /// The number.
        eth_type: u16,
    },
    /// Not an EtherType at all.
    #[error("pop_mpls:{eth_type:#06x}: an EtherType is 0x0600 or more")]
    BadEthType {
        /// The number.
        eth_type: u16,
    },
    /// Not the EtherType of PBB.
    #[error("push_pbb:{eth_type:#06x}: the EtherType is 0x88e7")]
    BadPbbType {
        /// The number.
        eth_type: u16,
    },
    /// Two actions of one kind in an action set (OpenFlow 1.3.5, 5.10).
    #[error(
        "write_actions: {kind:?} is there twice, and an action set has one of each kind; list both under apply-actions"
    )]
    TwiceInSet {
        /// The kind.
        kind: SetKind,
    },
    /// Not a meter number (OpenFlow 1.3.5, 7.4.4.11, OFPMMFC_INVALID_METER).
    #[error("meter:{meter:#x}: meter numbers are 1 to {METER_MAX:#x}")]
    BadMeter {
        /// The number.
        meter: u32,
    },
    /// The metadata has bits outside its mask, or the mask is empty.
    #[error(
        "write_metadata: value {value:#x} under mask {mask:#x}: the mask must have bits, and the value none outside of it"
    )]
    BadMetadata {
        /// The value.
        value: u64,
        /// The mask.
        mask: u64,
    },
    /// Not a VLAN TPID.
    #[error("push_vlan:{tpid:#06x}: the TPID is 0x8100 or 0x88a8")]
    BadTpid {
        /// The number.
        tpid: u16,
    },
    /// Only packet-outs may use port TABLE.
    #[error("output to TABLE is for packet-outs only")]
    TableInRule,
    /// More actions than the data path runs for one rule.
    #[error(
        "{count} actions: a rule has at most {MAX_ACTIONS} (setting an IPv6 address counts as two); use a group or goto_table for more"
    )]
    TooManyActions {
        /// How many there were.
        count: usize,
    },
}

impl Rule {
    /// Groups that it runs, at once or by its action set.
    pub fn groups(&self) -> impl Iterator<Item = u32> + '_ {
        let actions = self.actions.iter().chain(&self.write_actions);
        actions.filter_map(|a| match a {
            Action::Group(id) => Some(*id),
            _ => None,
        })
    }

    /// Checks what can be checked without knowing the switch.
    pub fn check(&self) -> Result<(), RuleError> {
        if self.table >= TABLES {
            return Err(RuleError::NoSuchTable { table: self.table });
        }
        if let Some(to) = self.goto_table {
            if to >= TABLES {
                return Err(RuleError::NoSuchTable { table: to });
            }
            if to <= self.table {
                return Err(RuleError::GotoBackwards {
                    table: self.table,
                    to,
                });
            }
        }
        if let Some(meter) = self.meter.filter(|m| !(1..=METER_MAX).contains(m)) {
            return Err(RuleError::BadMeter { meter });
        }
        if let Some(MetadataWrite { value, mask }) = self.write_metadata
            && (mask == 0 || value & !mask != 0)
        {
            return Err(RuleError::BadMetadata { value, mask });
        }
        let mut headers = Headers::of(&self.matching);
        check_count(self.actions.iter().chain(&self.write_actions))?;
        for action in &self.actions {
            check_action(action)?;
            check_headers(action, &headers)?;
            check_not_table(action)?;
            headers.apply(action);
        }
        self.check_set(headers)
    }

    /// The set is run after the actions of later tables, which may have pushed what it works on: only what no push brings is sure to
    /// be missing.
    fn check_set(&self, mut headers: Headers) -> Result<(), RuleError> {
        let mut set = self.write_actions.clone();
        sort_set(&mut set);
        for pair in set.windows(2) {
            if pair[0].set_kind() == pair[1].set_kind() {
                let kind = pair[0].set_kind();
                return Err(RuleError::TwiceInSet { kind });
            }
        }
        for action in &set {
            check_action(action)?;
            if !is_of_a_tag(action) {
                check_headers(action, &headers)?;
            }
            check_not_table(action)?;
            headers.apply(action);
        }
        Ok(())
    }
}

fn check_not_table(action: &Action) -> Result<(), RuleError> {
    match action {
        Action::Output {
            port: PortNo::TABLE,
            ..
        } => Err(RuleError::TableInRule),
        _ => Ok(()),
    }
}

fn check_headers(action: &Action, headers: &Headers) -> Result<(), RuleError> {
    match (headers.missing(action), action) {
        (None, _) => Ok(()),
        (Some(needs), &Action::SetField { field, .. }) => {
            Err(RuleError::SetWithoutPrerequisite { field, needs })
        }
        (Some(needs), action) => Err(RuleError::ActionWithoutPrerequisite {
            action: action.clone(),
            needs,
        }),
    }
}

fn check_count<'a>(actions: impl IntoIterator<Item = &'a Action>) -> Result<(), RuleError> {
    let count = actions.into_iter().map(Action::cost).sum();
    if count > MAX_ACTIONS {
        return Err(RuleError::TooManyActions { count });
    }
    Ok(())
}

/// Checks actions that stand without a match, those of packet-outs and group buckets: a set-field whose field the packet does not
/// have is then a matter of the packet. `packet_out`: output to TABLE is allowed.
pub(super) fn check_free_actions(actions: &[Action], packet_out: bool) -> Result<(), RuleError> {
    check_count(actions)?;
    for action in actions {
        check_action(action)?;
        if !packet_out {
            check_not_table(action)?;
        }
    }
    Ok(())
}

/// Checks what does not depend on the packet.
fn check_action(action: &Action) -> Result<(), RuleError> {
    match *action {
        Action::Output { port, .. } => {
            let reserved = [
                PortNo::IN_PORT,
                PortNo::TABLE,
                PortNo::FLOOD,
                PortNo::ALL,
                PortNo::CONTROLLER,
            ];
            if !port.is_port() && !reserved.contains(&port) {
                return Err(RuleError::BadPort { port: port.0 });
            }
        }
        Action::SetField { field, value } => {
            if !field.settable() {
                return Err(RuleError::NotSettable { field });
            }
            if value & !field.full_mask() != 0 {
                return Err(RuleError::ValueTooWide { field, value });
            }
        }
        Action::PushVlan(tpid) => {
            if tpid != 0x8100 && tpid != 0x88a8 {
                return Err(RuleError::BadTpid { tpid });
            }
        }
        Action::PushMpls(eth_type) => {
            if eth_type != 0x8847 && eth_type != 0x8848 {
                return Err(RuleError::BadMplsType { eth_type });
            }
        }
        Action::PopMpls(eth_type) => {
            if eth_type < 0x0600 {
                return Err(RuleError::BadEthType { eth_type });
            }
        }
        Action::PushPbb(eth_type) => {
            if eth_type != 0x88e7 {
                return Err(RuleError::BadPbbType { eth_type });
            }
        }
        Action::PopVlan
        | Action::Group(_)
        | Action::SetNwTtl(_)
        | Action::DecNwTtl
        | Action::CopyTtlOut
        | Action::CopyTtlIn
        | Action::SetMplsTtl(_)
        | Action::DecMplsTtl
        | Action::PopPbb
        | Action::SetQueue(_) => {}
    }
    Ok(())
}
