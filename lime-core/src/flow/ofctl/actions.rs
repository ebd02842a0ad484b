//! The actions of a flow or of a packet-out.

use super::error::{Problem, SyntaxError};
use super::items::{Item, check_length, error_at, items};
use super::names;
use super::value;
use crate::PortNo;
use crate::flow::{Action, Field, MAX_LEN_ALL, METER_MAX, Match, MetadataWrite, sort_set};

/// OpenFlow 1.3.5, 7.2.3.7: OFPVID_PRESENT.
const VID_PRESENT: u128 = 0x1000;

/// What stands behind `actions=`.
#[derive(Debug, Default)]
pub(super) struct ActionList {
    pub meter: Option<u32>,
    pub actions: Vec<Action>,
    pub clear_actions: bool,
    pub write_actions: Vec<Action>,
    pub write_metadata: Option<MetadataWrite>,
    pub goto_table: Option<u8>,
}

/// Reads the actions of a packet-out: `output:2`, `mod_dl_dst:02:00:00:00:00:01,output:3`, `table`.
pub fn parse_actions(text: &str) -> Result<Vec<Action>, SyntaxError> {
    check_length(text)?;
    let list = read(text, 0, &Match::any())?;
    let instruction = [
        (list.meter.is_some(), "meter"),
        (list.clear_actions, "clear_actions"),
        (!list.write_actions.is_empty(), "write_actions"),
        (list.write_metadata.is_some(), "write_metadata"),
    ];
    if let Some((_, instruction)) = instruction.into_iter().find(|(there, _)| *there) {
        let problem = Problem::Unsupported {
            name: instruction.to_owned(),
            instead: "a packet-out has only actions, which are done at once; list them".to_owned(),
        };
        let at = text.to_ascii_lowercase().find(instruction).unwrap_or(0);
        return Err(error_at(text, at, problem));
    }
    if list.goto_table.is_some() {
        let problem = Problem::Unsupported {
            name: "goto_table".to_owned(),
            instead: "a packet-out enters the tables at the first; write \"table\"".to_owned(),
        };
        return Err(error_at(
            text,
            text.find("goto_table").unwrap_or(0),
            problem,
        ));
    }
    Ok(list.actions)
}

/// Reads the actions in `text[from..]`; the match says what some of them mean.
pub(super) fn read(text: &str, from: usize, matching: &Match) -> Result<ActionList, SyntaxError> {
    let mut reader = Reader {
        list: ActionList::default(),
        tagged: tagged(matching),
        matching,
        last: Stage::Meter,
    };
    let items = items(text, from, &[':', '='])?;
    for item in &items {
        if reader.list.goto_table.is_some() {
            return Err(item.error(Problem::Misplaced {
                name: "goto_table".to_owned(),
                place: "last",
            }));
        }
        if item.name.eq_ignore_ascii_case("drop") {
            item.alone()?;
            if items.len() > 1 {
                return Err(item.error(Problem::Misplaced {
                    name: "drop".to_owned(),
                    place: "only",
                }));
            }
        } else {
            reader.read(item)?;
        }
    }
    Ok(reader.list)
}

/// Whether the packets have a VLAN tag, if the match says so.
fn tagged(matching: &Match) -> Option<bool> {
    matching
        .get(Field::VlanVid)
        .filter(|v| v.mask & VID_PRESENT != 0)
        .map(|v| v.value & VID_PRESENT != 0)
}

struct Reader<'m> {
    list: ActionList,
    tagged: Option<bool>,
    matching: &'m Match,
    last: Stage,
}

/// Instructions in the order in which they are carried out, and written (OpenFlow 1.3.5, 5.9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Meter,
    Apply,
    Clear,
    Write,
    Metadata,
    Goto,
}

impl Reader<'_> {
    fn read(&mut self, item: &Item<'_>) -> Result<(), SyntaxError> {
        let name = item.name.to_ascii_lowercase();
        let stage = match name.as_str() {
            "meter" => Stage::Meter,
            "clear_actions" => Stage::Clear,
            "write_actions" => Stage::Write,
            "write_metadata" => Stage::Metadata,
            "goto_table" => Stage::Goto,
            _ => Stage::Apply,
        };
        let again = match stage {
            Stage::Apply => false,
            Stage::Meter => self.list.meter.is_some(),
            _ => stage == self.last,
        };
        if stage < self.last || again {
            return Err(item.unsupported(
                "write each once and in this order: meter, actions, clear_actions, write_actions, write_metadata, goto_table",
            ));
        }
        self.last = stage;
        match stage {
            Stage::Meter => {
                self.list.meter = Some(item.number(METER_MAX)?);
                Ok(())
            }
            Stage::Apply => self.read_action(item, &name),
            Stage::Clear => {
                item.alone()?;
                self.list.clear_actions = true;
                Ok(())
            }
            Stage::Write => {
                self.list.write_actions = read_set(item, self.matching)?;
                Ok(())
            }
            Stage::Metadata => {
                self.list.write_metadata = Some(read_metadata(item)?);
                Ok(())
            }
            Stage::Goto => {
                self.list.goto_table = Some(item.number(254_u8)?);
                Ok(())
            }
        }
    }

    fn read_action(&mut self, item: &Item<'_>, name: &str) -> Result<(), SyntaxError> {
        let action = match name {
            "output" => Action::output(read_port(item)?),
            "controller" => Action::Output {
                port: PortNo::CONTROLLER,
                max_len: read_max_len(item)?,
            },
            "in_port" | "flood" | "all" | "table" | "local" => {
                item.alone()?;
                Action::output(port(name).ok_or_else(|| unknown(item))?)
            }
            "group" => Action::Group(item.number(crate::flow::GROUP_MAX)?),
            "push_vlan" => {
                self.tagged = Some(true);
                Action::PushVlan(item.number(u16::MAX)?)
            }
            "pop_vlan" | "strip_vlan" => {
                item.alone()?;
                // There may be another tag behind it.
                self.tagged = None;
                Action::PopVlan
            }
            "mod_vlan_vid" | "set_vlan_vid" => {
                let vid: u128 = item.number(0xfff_u16)?;
                self.push_missing_tag(name);
                set(Field::VlanVid, VID_PRESENT | vid)
            }
            "mod_vlan_pcp" | "set_vlan_pcp" => {
                let pcp = item.number(7_u8)?;
                self.push_missing_tag(name);
                set(Field::VlanPcp, pcp)
            }
            "mod_dl_src" => set_value(item, Field::EthSrc)?,
            "mod_dl_dst" => set_value(item, Field::EthDst)?,
            "mod_nw_src" => set_value(item, Field::Ipv4Src)?,
            "mod_nw_dst" => set_value(item, Field::Ipv4Dst)?,
            "mod_nw_tos" => {
                let tos: u128 = item.number(255_u8)?;
                if tos & 3 != 0 {
                    return Err(item.bad_value("a multiple of 4 (the DSCP, shifted left by two)"));
                }
                set(Field::IpDscp, tos >> 2)
            }
            "mod_tp_src" | "mod_tp_dst" => {
                let field = self.l4_field(item, name.ends_with("src"))?;
                set_value(item, field)?
            }
            "mod_nw_ecn" => set(Field::IpEcn, item.number(3_u8)?),
            "mod_nw_ttl" => Action::SetNwTtl(item.number(u8::MAX)?),
            "dec_ttl" => {
                item.alone()?;
                Action::DecNwTtl
            }
            "copy_ttl_in" => {
                item.alone()?;
                Action::CopyTtlIn
            }
            "copy_ttl_out" => {
                item.alone()?;
                Action::CopyTtlOut
            }
            "push_mpls" => {
                self.tagged = None;
                Action::PushMpls(item.number(u16::MAX)?)
            }
            "pop_mpls" => {
                self.tagged = None;
                Action::PopMpls(item.number(u16::MAX)?)
            }
            "set_mpls_label" => set(Field::MplsLabel, bracketed(item, 0xf_ffff)?),
            "set_mpls_tc" => set(Field::MplsTc, bracketed(item, 7)?),
            "set_mpls_ttl" => Action::SetMplsTtl(bracketed(item, 255)?),
            "dec_mpls_ttl" => {
                item.alone()?;
                Action::DecMplsTtl
            }
            "push_pbb" => {
                self.tagged = None;
                Action::PushPbb(item.number(u16::MAX)?)
            }
            "pop_pbb" => {
                item.alone()?;
                self.tagged = None;
                Action::PopPbb
            }
            "set_queue" => Action::SetQueue(item.number(u32::MAX)?),
            "set_tunnel" | "set_tunnel64" => set(Field::TunnelId, item.number(u64::MAX)?),
            "set_field" => self.read_set_field(item)?,
            "resubmit" => return Err(resubmit(item)),
            _ if item.value.is_none() => match port(name) {
                Some(port) => Action::output(port),
                None => return Err(unknown(item)),
            },
            _ => return Err(unknown(item)),
        };
        self.list.actions.push(action);
        Ok(())
    }

    /// ovs-actions(7): mod_vlan_vid and mod_vlan_pcp push a tag on packets that have none; set_vlan_... do not.
    fn push_missing_tag(&mut self, name: &str) {
        if name.starts_with("mod_") && self.tagged == Some(false) {
            self.list.actions.push(Action::PushVlan(0x8100));
            self.tagged = Some(true);
        }
    }

    fn l4_field(&self, item: &Item<'_>, source: bool) -> Result<Field, SyntaxError> {
        match (self.matching.exact(Field::IpProto), source) {
            (Some(6), true) => Ok(Field::TcpSrc),
            (Some(6), false) => Ok(Field::TcpDst),
            (Some(17), true) => Ok(Field::UdpSrc),
            (Some(17), false) => Ok(Field::UdpDst),
            (Some(132), true) => Ok(Field::SctpSrc),
            (Some(132), false) => Ok(Field::SctpDst),
            _ => {
                let end = if source { "src" } else { "dst" };
                Err(item.error(Problem::WhichProtocol {
                    name: item.name.to_owned(),
                    needs: "tcp, udp, sctp, tcp6, udp6 or sctp6",
                    instead: format!(
                        "; in a packet-out write set_field:PORT->tcp_{end} or set_field:PORT->udp_{end}"
                    ),
                }))
            }
        }
    }

    /// `set_field:VALUE->FIELD`
    fn read_set_field(&self, item: &Item<'_>) -> Result<Action, SyntaxError> {
        let expected = "VALUE->FIELD, as in set_field:10.0.0.1->ip_dst";
        let text = item.value(expected)?;
        let (text, name) = text
            .split_once("->")
            .ok_or_else(|| item.bad_value(expected))?;
        let name = name.to_ascii_lowercase();
        let field = match name.as_str() {
            "nw_src" => Field::Ipv4Src,
            "nw_dst" => Field::Ipv4Dst,
            "tp_src" => self.l4_field(item, true)?,
            "tp_dst" => self.l4_field(item, false)?,
            "nw_tos" | "dl_vlan" | "dl_vlan_pcp" | "vlan_tci" => {
                return Err(item.unsupported(match name.as_str() {
                    "nw_tos" => "write mod_nw_tos:TOS, or set_field:DSCP->ip_dscp",
                    "dl_vlan_pcp" => "write mod_vlan_pcp:PRIORITY",
                    _ => "write mod_vlan_vid:VLAN",
                }));
            }
            other => names::field(other).ok_or_else(|| {
                item.error(Problem::UnknownKey {
                    name: other.to_owned(),
                    nearest: names::nearest_key(other),
                })
            })?,
        };
        if !field.settable() {
            let error = crate::flow::RuleError::NotSettable { field };
            return Err(item.error(Problem::Rule(error)));
        }
        if text.contains('/') {
            return Err(item.unsupported("a field is set as a whole; leave the mask out"));
        }
        match value::exact(field, text) {
            Some(value) => Ok(set(field, value)),
            None => Err(item.error(Problem::BadValue {
                name: format!("{} {name}", item.name),
                text: text.to_owned(),
                expected: value::expected(field),
            })),
        }
    }
}

/// `write_actions(ACTIONS)`: the set, in the order in which it is run.
fn read_set(item: &Item<'_>, matching: &Match) -> Result<Vec<Action>, SyntaxError> {
    let expected = "(ACTIONS), as in write_actions(output:2)";
    let text = item.value(expected)?;
    let inner = text
        .strip_prefix('(')
        .and_then(|t| t.strip_suffix(')'))
        .ok_or_else(|| item.bad_value(expected))?;
    // What comes before makes way for blanks, so that columns stay what they are.
    let from = item.at + item.name.len() + 1;
    let mut padded = " ".repeat(from);
    padded.push_str(inner);
    let mut reader = Reader {
        list: ActionList::default(),
        // What else is in the set, now or from other tables, pushes tags: none is pushed here.
        tagged: None,
        matching,
        last: Stage::Meter,
    };
    for inner in items(&padded, from, &[':', '='])? {
        let name = inner.name.to_ascii_lowercase();
        if matches!(
            name.as_str(),
            "drop" | "meter" | "clear_actions" | "write_actions" | "write_metadata" | "goto_table"
        ) {
            return Err(inner.unsupported(
                "it does not go into an action set; write it outside of the brackets",
            ));
        }
        reader.read_action(&inner, &name)?;
    }
    let mut actions = reader.list.actions;
    sort_set(&mut actions);
    Ok(actions)
}

/// `write_metadata:VALUE[/MASK]`
fn read_metadata(item: &Item<'_>) -> Result<MetadataWrite, SyntaxError> {
    let expected = "a 64-bit number, perhaps with a mask behind it (/0xff)";
    let text = item.value(expected)?;
    let number = |t| value::bounded::<u64>(t, u64::MAX.into());
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffffffffffff"));
    let (value, mask) = number(value)
        .zip(number(mask))
        .ok_or_else(|| item.bad_value(expected))?;
    let value = value & mask;
    Ok(MetadataWrite { value, mask })
}

/// `NAME(NUMBER)` or `NAME:NUMBER`
fn bracketed<T: TryFrom<u128>>(item: &Item<'_>, max: u128) -> Result<T, SyntaxError> {
    let expected = format!("a number from 0 to {max}");
    let text = item.value(&expected)?;
    let inner = text.strip_prefix('(').and_then(|t| t.strip_suffix(')'));
    value::bounded(inner.unwrap_or(text).trim(), max).ok_or_else(|| item.bad_value(expected))
}

fn set(field: Field, value: u128) -> Action {
    Action::SetField { field, value }
}

fn set_value(item: &Item<'_>, field: Field) -> Result<Action, SyntaxError> {
    let expected = value::expected(field);
    let text = item.value(&expected)?;
    let value = value::exact(field, text).ok_or_else(|| item.bad_value(expected))?;
    Ok(set(field, value))
}

/// A port's number or reserved name.
fn port(text: &str) -> Option<PortNo> {
    Some(match text.to_ascii_lowercase().as_str() {
        "in_port" => PortNo::IN_PORT,
        "table" => PortNo::TABLE,
        "flood" => PortNo::FLOOD,
        "all" => PortNo::ALL,
        "controller" => PortNo::CONTROLLER,
        "local" => PortNo::LOCAL,
        number => PortNo(value::bounded(number, u32::MAX.into())?),
    })
}

pub(super) fn read_port(item: &Item<'_>) -> Result<PortNo, SyntaxError> {
    let expected = "a port number, in_port, flood, all, local or controller";
    let text = item.value(expected)?;
    if text.starts_with('(') {
        return Err(item.unsupported("packets are sent whole; write output:PORT"));
    }
    if let Some(instead) = names::unsupported_action(&text.to_ascii_lowercase()) {
        return Err(item.unsupported(instead));
    }
    port(text).ok_or_else(|| item.bad_value(expected))
}

/// `controller`, `controller:128`, `controller(max_len=128)`; the other arguments only with what they are anyway.
fn read_max_len(item: &Item<'_>) -> Result<u16, SyntaxError> {
    let expected = "a number of bytes, or (max_len=BYTES)";
    let Some(text) = item.value else {
        return Ok(MAX_LEN_ALL);
    };
    let Some(arguments) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else {
        return value::bounded(text, 0xffff).ok_or_else(|| item.bad_value(expected));
    };
    let mut max_len = MAX_LEN_ALL;
    for argument in arguments
        .split([',', ' '])
        .map(str::trim)
        .filter(|a| !a.is_empty())
    {
        match argument.split_once('=') {
            Some(("max_len", bytes)) => {
                max_len = value::bounded(bytes, 0xffff).ok_or_else(|| item.bad_value(expected))?;
            }
            Some(("reason", "action") | ("id", "0")) => {}
            _ => return Err(item.bad_value("(max_len=BYTES); other arguments are not supported")),
        }
    }
    Ok(max_len)
}

fn resubmit(item: &Item<'_>) -> SyntaxError {
    let table = item
        .value
        .and_then(|v| v.trim_matches(['(', ')']).split(',').nth(1))
        .and_then(|t| value::bounded::<u8>(t.trim(), 254));
    item.unsupported(match table {
        Some(table) => format!("end the actions with goto_table:{table}"),
        None => "end the actions with goto_table:TABLE, a later table".to_owned(),
    })
}

fn unknown(item: &Item<'_>) -> SyntaxError {
    let name = item.name.to_ascii_lowercase();
    if let Some(instead) = names::unsupported_action(&name) {
        return item.unsupported(instead);
    }
    if names::is_key(&name) {
        return item.unsupported("fields and keys come before actions=, which is last");
    }
    item.error(Problem::UnknownAction {
        nearest: names::nearest_action(&name),
        name: item.name.to_owned(),
    })
}
