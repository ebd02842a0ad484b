//! Rules (flow entries).

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Action, Field, Match};
use crate::PortNo;

/// Tables of a switch.
pub const TABLES: u8 = 32;

/// Most actions of a rule, counted by [`Action::cost`].
pub const MAX_ACTIONS: usize = 16;

/// A flow entry: OpenFlow 1.3.5, 5.2.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Table, below [`TABLES`].
    pub table: u8,
    /// Higher wins.
    pub priority: u16,
    /// The controller's own mark.
    pub cookie: u64,
    /// Which packets.
    pub matching: Match,
    /// What to do with them (apply-actions).
    pub actions: Vec<Action>,
    /// Then go on at this table, a later one.
    pub goto_table: Option<u8>,
    /// Seconds without a match until the rule goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds until the rule goes; 0: never.
    pub hard_timeout: u16,
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
    /// The port is neither ordinary nor reserved.
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
        check_count(&self.actions)?;
        let mut tagged = self
            .matching
            .get(Field::VlanVid)
            .is_some_and(|v| v.value & 0x1000 != 0);
        for action in &self.actions {
            match action {
                Action::PushVlan(_) => tagged = true,
                Action::PopVlan => tagged = false,
                _ => {}
            }
            check_action(action, &self.matching, tagged)?;
            if matches!(
                action,
                Action::Output {
                    port: PortNo::TABLE,
                    ..
                }
            ) {
                return Err(RuleError::TableInRule);
            }
        }
        Ok(())
    }
}

fn check_count(actions: &[Action]) -> Result<(), RuleError> {
    let count = actions.iter().map(Action::cost).sum();
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
        match check_action(action, &Match::any(), true) {
            Ok(()) | Err(RuleError::SetWithoutPrerequisite { .. }) => {}
            Err(e) => return Err(e),
        }
        if !packet_out && matches!(action, Action::Output { port, .. } if *port == PortNo::TABLE) {
            return Err(RuleError::TableInRule);
        }
    }
    Ok(())
}

fn check_action(action: &Action, matching: &Match, tagged: bool) -> Result<(), RuleError> {
    match *action {
        Action::Output { port, .. } => {
            let reserved = [
                PortNo::IN_PORT,
                PortNo::TABLE,
                PortNo::FLOOD,
                PortNo::ALL,
                PortNo::CONTROLLER,
            ];
            if !port.is_ordinary() && !reserved.contains(&port) {
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
            let eth_type = matching.exact(Field::EthType);
            let proto = matching.exact(Field::IpProto);
            let ip = matches!(eth_type, Some(0x0800 | 0x86dd));
            let (ok, needs) = match field {
                Field::VlanVid | Field::VlanPcp => (
                    tagged,
                    "that there is a VLAN tag (or the actions push one first)",
                ),
                Field::IpDscp => (ip, "ip or ipv6"),
                Field::Ipv4Src | Field::Ipv4Dst => (eth_type == Some(0x0800), "ip"),
                Field::Ipv6Src | Field::Ipv6Dst => (eth_type == Some(0x86dd), "ipv6"),
                Field::TcpSrc | Field::TcpDst => (ip && proto == Some(6), "tcp or tcp6"),
                Field::UdpSrc | Field::UdpDst => (ip && proto == Some(17), "udp or udp6"),
                _ => (true, ""),
            };
            if !ok {
                return Err(RuleError::SetWithoutPrerequisite { field, needs });
            }
        }
        Action::PushVlan(tpid) => {
            if tpid != 0x8100 && tpid != 0x88a8 {
                return Err(RuleError::BadTpid { tpid });
            }
        }
        Action::PopVlan | Action::Group(_) => {}
    }
    Ok(())
}
