//! What is made of rules' parts, and the enums: changes, groups, packets.

use std::ops::RangeInclusive;

use lime_core::flow::{
    AddFlags, FlowMod, GroupType, MeterUnit, Modify, PacketIn, PacketInReason, PacketOut,
    RemovedReason, Rule, RuleFilter,
};
use lime_core::model::PacketIns;
use lime_core::{Consistency, PortAttach, PortNo};

use super::error::{ConvertError, Problem, narrow};
use super::rules::{actions_from_wire, actions_to_wire, match_from_wire, match_to_wire};
use crate::v1;

/// An enum of the wire that stands for one of the domain, in both directions. prost keeps enum fields as `i32`: use
/// `v1::X::try_from(number)` and [`enum_from_wire`].
macro_rules! same_enum {
    ($($wire:ident = $domain:ident { $($w:ident = $d:ident),+ $(,)? })+) => { $(
        impl From<v1::$wire> for $domain {
            fn from(wire: v1::$wire) -> Self {
                match wire { $(v1::$wire::$w => $domain::$d),+ }
            }
        }
        impl From<$domain> for v1::$wire {
            fn from(domain: $domain) -> Self {
                match domain { $($domain::$d => v1::$wire::$w),+ }
            }
        }
    )+ };
}

same_enum! {
    Consistency = Consistency { Causal = Causal, Strict = Strict, None = None }
    PortAttach = PortAttach { Auto = Auto, Xdp = Xdp, Tc = Tc }
    GroupType = GroupType {
        All = All, Select = Select, Indirect = Indirect, FastFailover = FastFailover,
    }
    MeterUnit = MeterUnit { Kbps = Kbps, Pktps = Pktps }
    PacketInReason = PacketInReason {
        NoMatch = NoMatch, Action = Action, InvalidTtl = InvalidTtl,
    }
}

impl From<RemovedReason> for v1::flow_removed::Reason {
    fn from(domain: RemovedReason) -> Self {
        match domain {
            RemovedReason::IdleTimeout => Self::IdleTimeout,
            RemovedReason::HardTimeout => Self::HardTimeout,
            RemovedReason::Delete => Self::Delete,
            RemovedReason::GroupDelete => Self::GroupDelete,
        }
    }
}

/// The domain value of an enum field, which prost keeps as `i32`; `field` is its name.
///
/// `enum_from_wire::<v1::Consistency, lime_core::Consistency>("consistency", request.consistency)`
pub fn enum_from_wire<W, D>(field: &str, value: i32) -> Result<D, ConvertError>
where
    W: TryFrom<i32> + Into<D>,
{
    W::try_from(value)
        .map(Into::into)
        .map_err(|_| ConvertError::new(field, Problem::UnknownValue { value }))
}

impl TryFrom<v1::FlowMod> for FlowMod {
    type Error = ConvertError;

    fn try_from(wire: v1::FlowMod) -> Result<Self, ConvertError> {
        use v1::flow_mod::Command;
        let command = Command::try_from(wire.command).map_err(|_| {
            let value = wire.command;
            ConvertError::new("command", Problem::UnknownValue { value })
        })?;
        let rule = wire
            .rule
            .ok_or_else(|| ConvertError::new("rule", Problem::Missing))?;
        let flags = AddFlags {
            check_overlap: wire.check_overlap,
            reset_counts: wire.reset_counts,
        };
        let whole =
            |rule: v1::Rule| Rule::try_from(rule).map_err(|e: ConvertError| e.within("rule"));
        Ok(match command {
            Command::Add if flags == AddFlags::default() => FlowMod::Add(whole(rule)?),
            Command::Add => FlowMod::AddWith(whole(rule)?, flags),
            Command::Modify | Command::ModifyStrict => FlowMod::Modify(Modify {
                rule: whole(rule)?,
                cookie_mask: wire.cookie_mask,
                strict: command == Command::ModifyStrict,
                reset_counts: wire.reset_counts,
            }),
            Command::Delete | Command::DeleteStrict => {
                let filter = RuleFilter {
                    out_port: wire.out_port.map(PortNo),
                    out_group: wire.out_group,
                    ..filter_from_wire(rule, wire.cookie_mask).map_err(|e| e.within("rule"))?
                };
                if command == Command::Delete {
                    FlowMod::Delete(filter)
                } else {
                    FlowMod::DeleteStrict(filter)
                }
            }
        })
    }
}

fn filter_from_wire(rule: v1::Rule, cookie_mask: u64) -> Result<RuleFilter, ConvertError> {
    Ok(RuleFilter {
        table: narrow("table", rule.table, 0xff)?,
        priority: narrow("priority", rule.priority, 0xffff)?,
        cookie: rule.cookie,
        cookie_mask,
        matching: match_from_wire(rule.r#match)?,
        out_port: None,
        out_group: None,
    })
}

fn filter_to_wire(filter: &RuleFilter) -> v1::Rule {
    v1::Rule {
        table: filter.table.into(),
        priority: filter.priority.into(),
        cookie: filter.cookie,
        r#match: match_to_wire(&filter.matching),
        ..Default::default()
    }
}

impl From<&FlowMod> for v1::FlowMod {
    fn from(m: &FlowMod) -> Self {
        use v1::flow_mod::Command;
        let delete = |command: Command, f: &RuleFilter| Self {
            command: command.into(),
            rule: Some(filter_to_wire(f)),
            cookie_mask: f.cookie_mask,
            out_port: f.out_port.map(|p| p.0),
            out_group: f.out_group,
            ..Default::default()
        };
        match m {
            FlowMod::Add(rule) => Self {
                command: Command::Add.into(),
                rule: Some(rule.into()),
                ..Default::default()
            },
            FlowMod::AddWith(rule, flags) => Self {
                command: Command::Add.into(),
                rule: Some(rule.into()),
                check_overlap: flags.check_overlap,
                reset_counts: flags.reset_counts,
                ..Default::default()
            },
            FlowMod::Modify(modify) => Self {
                command: if modify.strict {
                    Command::ModifyStrict.into()
                } else {
                    Command::Modify.into()
                },
                rule: Some((&modify.rule).into()),
                cookie_mask: modify.cookie_mask,
                reset_counts: modify.reset_counts,
                ..Default::default()
            },
            FlowMod::Delete(f) => delete(Command::Delete, f),
            FlowMod::DeleteStrict(f) => delete(Command::DeleteStrict, f),
        }
    }
}

impl TryFrom<v1::PacketIn> for PacketIn {
    type Error = ConvertError;

    fn try_from(wire: v1::PacketIn) -> Result<Self, ConvertError> {
        Ok(Self {
            reason: enum_from_wire::<v1::PacketInReason, _>("reason", wire.reason)?,
            table: narrow("table", wire.table, 0xff)?,
            cookie: wire.cookie,
            in_port: PortNo(wire.in_port),
            total_len: wire.total_len,
            data: wire.data,
        })
    }
}

impl From<PacketIn> for v1::PacketIn {
    fn from(packet: PacketIn) -> Self {
        Self {
            reason: v1::PacketInReason::from(packet.reason).into(),
            table: packet.table.into(),
            cookie: packet.cookie,
            in_port: packet.in_port.0,
            total_len: packet.total_len,
            data: packet.data,
        }
    }
}

impl TryFrom<v1::PacketOut> for PacketOut {
    type Error = ConvertError;

    /// The packet-out has passed [`PacketOut::check`].
    fn try_from(wire: v1::PacketOut) -> Result<Self, ConvertError> {
        let packet = Self {
            in_port: PortNo(wire.in_port),
            actions: actions_from_wire("actions", wire.actions)?,
            data: wire.data,
        };
        packet
            .check()
            .map_err(|e| ConvertError::new("packet_out", e))?;
        Ok(packet)
    }
}

impl From<PacketOut> for v1::PacketOut {
    fn from(packet: PacketOut) -> Self {
        Self {
            in_port: packet.in_port.0,
            actions: actions_to_wire(&packet.actions),
            data: packet.data,
        }
    }
}

impl TryFrom<v1::PacketIns> for PacketIns {
    type Error = ConvertError;

    fn try_from(wire: v1::PacketIns) -> Result<Self, ConvertError> {
        let default = Self::default();
        Ok(Self {
            rate: or_default("packet_ins.rate", wire.rate, default.rate, Self::RATES)?,
            burst: or_default("packet_ins.burst", wire.burst, default.burst, Self::BURSTS)?,
            invalid_ttl: wire.invalid_ttl,
        })
    }
}

impl From<PacketIns> for v1::PacketIns {
    fn from(packet_ins: PacketIns) -> Self {
        Self {
            rate: packet_ins.rate,
            burst: packet_ins.burst,
            invalid_ttl: packet_ins.invalid_ttl,
        }
    }
}

/// A number for which 0 means the default.
fn or_default(
    field: &str,
    value: u32,
    default: u32,
    range: RangeInclusive<u32>,
) -> Result<u32, ConvertError> {
    match value {
        0 => Ok(default),
        value if range.contains(&value) => Ok(value),
        value => Err(ConvertError::new(
            field,
            Problem::OutOfRange { value, range },
        )),
    }
}
