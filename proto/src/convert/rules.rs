//! Matches, actions and rules.

use lime_core::PortNo;
use lime_core::flow::{
    Action, Field, FieldMatch, MAX_ACTIONS, MAX_LEN_ALL, Match, MetadataWrite, Rule, RuleFlags,
    sort_set,
};

use super::error::{ConvertError, Problem, bounded, narrow};
use crate::v1;

/// Most fields of a match: each at most once.
pub const MAX_MATCH_FIELDS: usize = Field::ALL.len();

fn field_from_wire(number: u32) -> Result<Field, ConvertError> {
    Field::from_oxm(number)
        .ok_or_else(|| ConvertError::new("field", Problem::UnknownField { number }))
}

/// Big-endian bytes of exactly the field's width, as a number. Bits above the field's are left for the caller to check.
fn value_from_wire(name: &str, field: Field, bytes: &[u8]) -> Result<u128, ConvertError> {
    if bytes.len() != field.bytes() {
        return Err(ConvertError::new(
            name,
            Problem::WrongLength {
                len: bytes.len(),
                expected: field.bytes(),
            },
        ));
    }
    Ok(bytes.iter().fold(0, |n, &b| (n << 8) | u128::from(b)))
}

fn value_to_wire(field: Field, value: u128) -> Vec<u8> {
    value.to_be_bytes()[16 - field.bytes()..].to_vec()
}

impl TryFrom<v1::FieldMatch> for FieldMatch {
    type Error = ConvertError;

    /// Checks number and lengths; widths, masks and prerequisites are [`Match::new`]'s.
    fn try_from(wire: v1::FieldMatch) -> Result<Self, ConvertError> {
        let field = field_from_wire(wire.field)?;
        let value = value_from_wire("value", field, &wire.value)?;
        let mask = if wire.mask.is_empty() {
            field.full_mask()
        } else {
            value_from_wire("mask", field, &wire.mask)?
        };
        Ok(Self { field, value, mask })
    }
}

impl From<&FieldMatch> for v1::FieldMatch {
    fn from(m: &FieldMatch) -> Self {
        Self {
            field: m.field.oxm(),
            value: value_to_wire(m.field, m.value),
            mask: if m.mask == m.field.full_mask() {
                Vec::new()
            } else {
                value_to_wire(m.field, m.mask)
            },
        }
    }
}

/// A match from its fields on the wire; errors are relative to the message that has the field `match`.
pub fn match_from_wire(wire: Vec<v1::FieldMatch>) -> Result<Match, ConvertError> {
    bounded("match", wire.len(), MAX_MATCH_FIELDS)?;
    let mut fields = Vec::with_capacity(wire.len());
    for (i, field) in wire.into_iter().enumerate() {
        fields.push(FieldMatch::try_from(field).map_err(|e| e.within(&format!("match[{i}]")))?);
    }
    Match::new(fields).map_err(|e| ConvertError::new("match", e))
}

/// The fields of a match, for the wire.
pub fn match_to_wire(m: &Match) -> Vec<v1::FieldMatch> {
    m.fields().iter().map(Into::into).collect()
}

impl TryFrom<v1::Action> for Action {
    type Error = ConvertError;

    /// Checks numbers and lengths; whether the action may stand where it does is for [`Rule::check`] and its like.
    fn try_from(wire: v1::Action) -> Result<Self, ConvertError> {
        use v1::action::Action as Wire;
        Ok(match wire.action {
            None => return Err(ConvertError::new("action", Problem::Missing)),
            Some(Wire::Output(out)) => {
                let port = PortNo(out.port);
                // What means nothing is not kept: two rules that do the same are equal.
                let max_len = if port == PortNo::CONTROLLER {
                    narrow("output.max_len", out.max_len, 0xffff)?
                } else {
                    MAX_LEN_ALL
                };
                Action::Output { port, max_len }
            }
            Some(Wire::SetField(set)) => {
                let field = field_from_wire(set.field).map_err(|e| e.within("set_field"))?;
                let value = value_from_wire("set_field.value", field, &set.value)?;
                Action::SetField { field, value }
            }
            Some(Wire::PushVlan(push)) => {
                Action::PushVlan(narrow("push_vlan.ethertype", push.ethertype, 0xffff)?)
            }
            Some(Wire::PopVlan(_)) => Action::PopVlan,
            Some(Wire::Group(group)) => Action::Group(group.group_id),
            Some(Wire::SetNwTtl(set)) => Action::SetNwTtl(narrow("set_nw_ttl.ttl", set.ttl, 0xff)?),
            Some(Wire::DecNwTtl(_)) => Action::DecNwTtl,
            Some(Wire::CopyTtlOut(_)) => Action::CopyTtlOut,
            Some(Wire::CopyTtlIn(_)) => Action::CopyTtlIn,
            Some(Wire::PushMpls(push)) => {
                Action::PushMpls(narrow("push_mpls.ethertype", push.ethertype, 0xffff)?)
            }
            Some(Wire::PopMpls(pop)) => {
                Action::PopMpls(narrow("pop_mpls.ethertype", pop.ethertype, 0xffff)?)
            }
            Some(Wire::SetMplsTtl(set)) => {
                Action::SetMplsTtl(narrow("set_mpls_ttl.ttl", set.ttl, 0xff)?)
            }
            Some(Wire::DecMplsTtl(_)) => Action::DecMplsTtl,
            Some(Wire::PushPbb(push)) => {
                Action::PushPbb(narrow("push_pbb.ethertype", push.ethertype, 0xffff)?)
            }
            Some(Wire::PopPbb(_)) => Action::PopPbb,
            Some(Wire::SetQueue(set)) => Action::SetQueue(set.queue_id),
        })
    }
}

impl From<&Action> for v1::Action {
    fn from(action: &Action) -> Self {
        use v1::action as wire;
        let action = match *action {
            Action::Output { port, max_len } => wire::Action::Output(wire::Output {
                port: port.0,
                max_len: if port == PortNo::CONTROLLER {
                    max_len.into()
                } else {
                    0
                },
            }),
            Action::SetField { field, value } => wire::Action::SetField(wire::SetField {
                field: field.oxm(),
                value: value_to_wire(field, value),
            }),
            Action::PushVlan(tpid) => wire::Action::PushVlan(wire::PushVlan {
                ethertype: tpid.into(),
            }),
            Action::PopVlan => wire::Action::PopVlan(wire::PopVlan {}),
            Action::Group(group_id) => wire::Action::Group(wire::Group { group_id }),
            Action::SetNwTtl(ttl) => wire::Action::SetNwTtl(wire::SetTtl { ttl: ttl.into() }),
            Action::DecNwTtl => wire::Action::DecNwTtl(wire::DecTtl {}),
            Action::CopyTtlOut => wire::Action::CopyTtlOut(wire::CopyTtl {}),
            Action::CopyTtlIn => wire::Action::CopyTtlIn(wire::CopyTtl {}),
            Action::PushMpls(eth_type) => wire::Action::PushMpls(wire::PushMpls {
                ethertype: eth_type.into(),
            }),
            Action::PopMpls(eth_type) => wire::Action::PopMpls(wire::PopMpls {
                ethertype: eth_type.into(),
            }),
            Action::SetMplsTtl(ttl) => wire::Action::SetMplsTtl(wire::SetTtl { ttl: ttl.into() }),
            Action::DecMplsTtl => wire::Action::DecMplsTtl(wire::DecTtl {}),
            Action::PushPbb(eth_type) => wire::Action::PushPbb(wire::PushPbb {
                ethertype: eth_type.into(),
            }),
            Action::PopPbb => wire::Action::PopPbb(wire::PopPbb {}),
            Action::SetQueue(queue_id) => wire::Action::SetQueue(wire::SetQueue { queue_id }),
        };
        Self {
            action: Some(action),
        }
    }
}

/// An action list from the wire; errors are relative to the message that has it as field `name`.
pub fn actions_from_wire(name: &str, wire: Vec<v1::Action>) -> Result<Vec<Action>, ConvertError> {
    bounded(name, wire.len(), MAX_ACTIONS)?;
    wire.into_iter()
        .enumerate()
        .map(|(i, a)| Action::try_from(a).map_err(|e| e.within(&format!("{name}[{i}]"))))
        .collect()
}

/// An action list for the wire.
pub fn actions_to_wire(actions: &[Action]) -> Vec<v1::Action> {
    actions.iter().map(Into::into).collect()
}

impl TryFrom<v1::Rule> for Rule {
    type Error = ConvertError;

    /// The rule has passed [`Rule::check`].
    fn try_from(wire: v1::Rule) -> Result<Self, ConvertError> {
        let mut write_actions = actions_from_wire("write_actions", wire.write_actions)?;
        sort_set(&mut write_actions);
        let rule = Rule {
            table: narrow("table", wire.table, 0xff)?,
            priority: narrow("priority", wire.priority, 0xffff)?,
            cookie: wire.cookie,
            matching: match_from_wire(wire.r#match)?,
            meter: wire.meter,
            actions: actions_from_wire("actions", wire.actions)?,
            clear_actions: wire.clear_actions,
            write_actions,
            write_metadata: wire.write_metadata.map(|w| MetadataWrite {
                value: w.value,
                mask: w.mask,
            }),
            goto_table: wire
                .goto_table
                .map(|t| narrow("goto_table", t, 0xff))
                .transpose()?,
            idle_timeout: narrow("idle_timeout", wire.idle_timeout, 0xffff)?,
            hard_timeout: narrow("hard_timeout", wire.hard_timeout, 0xffff)?,
            flags: RuleFlags {
                send_flow_removed: wire.send_flow_removed,
                no_packet_counts: wire.no_packet_counts,
                no_byte_counts: wire.no_byte_counts,
            },
            part: None,
        };
        rule.check().map_err(|e| ConvertError::new("rule", e))?;
        Ok(rule)
    }
}

impl From<&Rule> for v1::Rule {
    fn from(rule: &Rule) -> Self {
        Self {
            table: rule.table.into(),
            priority: rule.priority.into(),
            cookie: rule.cookie,
            r#match: match_to_wire(&rule.matching),
            actions: actions_to_wire(&rule.actions),
            goto_table: rule.goto_table.map(Into::into),
            idle_timeout: rule.idle_timeout.into(),
            hard_timeout: rule.hard_timeout.into(),
            clear_actions: rule.clear_actions,
            write_actions: actions_to_wire(&rule.write_actions),
            write_metadata: rule.write_metadata.map(|w| v1::WriteMetadata {
                value: w.value,
                mask: w.mask,
            }),
            send_flow_removed: rule.flags.send_flow_removed,
            no_packet_counts: rule.flags.no_packet_counts,
            no_byte_counts: rule.flags.no_byte_counts,
            meter: rule.meter,
        }
    }
}
