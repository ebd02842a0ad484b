//! The fields of a flow, as a match.
//!
//! Some names mean different fields with different protocols (`tp_dst`, `nw_src` ...), and the protocol may come later in the
//! text: those wait until the end.

use super::error::{Problem, SyntaxError};
use super::items::Item;
use super::names::{self, CONTEXT_FIELDS, PROTOCOLS};
use super::value;
use crate::flow::{Field, FieldMatch, Match, MatchError};

/// dl_vlan with this value: there is no tag (ovs-fields(7)).
const NO_VLAN: u16 = 0xffff;
/// OpenFlow 1.3.5, 7.2.3.7: OFPVID_PRESENT.
const VID_PRESENT: u128 = 0x1000;

/// Collects the fields of one match.
#[derive(Default)]
pub(super) struct MatchReader<'a> {
    fields: Vec<(FieldMatch, Item<'a>)>,
    waiting: Vec<(Item<'a>, &'static str)>,
}

impl<'a> MatchReader<'a> {
    /// Takes an item that is a field or a protocol. `false`: it is neither.
    pub fn take(&mut self, item: &Item<'a>) -> Result<bool, SyntaxError> {
        let name = item.name.to_ascii_lowercase();
        if let Some(&(_, eth_type, proto)) = PROTOCOLS.iter().find(|p| p.0 == name) {
            item.alone()?;
            self.set_exact(item, Field::EthType, eth_type.into())?;
            if let Some(proto) = proto {
                self.set_exact(item, Field::IpProto, proto.into())?;
            }
            return Ok(true);
        }
        let context = CONTEXT_FIELDS.iter().find(|n| **n == name);
        let field = names::field(&name);
        if context.is_none() && field.is_none() {
            return Ok(false);
        }
        // A field that may have any value is as good as absent.
        if item
            .value
            .is_some_and(|v| v == "*" || v.eq_ignore_ascii_case("any"))
        {
            return Ok(true);
        }
        if let Some(name) = context {
            item.value("a value to match")?;
            self.waiting.push((*item, name));
        } else if let Some(field) = field {
            self.read_field(item, field)?;
        }
        Ok(true)
    }

    /// The match, when all items have been taken.
    pub fn finish(mut self) -> Result<Match, SyntaxError> {
        let waiting = std::mem::take(&mut self.waiting);
        let (protocols, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, n)| *n == "nw_proto");
        for (item, name) in protocols.into_iter().chain(rest) {
            self.read_in_context(&item, name)?;
        }
        // A priority means that there is a tag.
        if let Some(item) = self.item(Field::VlanPcp)
            && self.get(Field::VlanVid).is_none()
        {
            let (field, value, mask) = (Field::VlanVid, VID_PRESENT, VID_PRESENT);
            self.set(&item, FieldMatch { field, value, mask })?;
        }
        Match::new(self.fields.iter().map(|(f, _)| *f)).map_err(|error| self.explain(error))
    }

    fn get(&self, field: Field) -> Option<&FieldMatch> {
        self.fields
            .iter()
            .map(|(f, _)| f)
            .find(|f| f.field == field)
    }

    fn item(&self, field: Field) -> Option<Item<'a>> {
        let found = self.fields.iter().find(|(f, _)| f.field == field);
        found.map(|(_, item)| *item)
    }

    fn exact(&self, field: Field) -> Option<u128> {
        self.get(field)
            .filter(|f| f.mask == field.full_mask())
            .map(|f| f.value)
    }

    fn set(&mut self, item: &Item<'a>, m: FieldMatch) -> Result<(), SyntaxError> {
        match self.get(m.field) {
            Some(old) if *old == m => Ok(()),
            Some(_) => Err(item.error(Problem::Contradiction {
                name: item.name.to_owned(),
                field: names::name(m.field),
            })),
            None => {
                self.fields.push((m, *item));
                Ok(())
            }
        }
    }

    fn set_exact(&mut self, item: &Item<'a>, field: Field, value: u128) -> Result<(), SyntaxError> {
        let mask = field.full_mask();
        self.set(item, FieldMatch { field, value, mask })
    }

    fn read_field(&mut self, item: &Item<'a>, field: Field) -> Result<(), SyntaxError> {
        let expected = value::expected_masked(field);
        let text = item.value(&expected)?;
        let m = value::masked(field, text).ok_or_else(|| item.bad_value(expected))?;
        self.set(item, m)
    }

    fn read_in_context(&mut self, item: &Item<'a>, name: &str) -> Result<(), SyntaxError> {
        let eth_type = self.exact(Field::EthType);
        let arp = matches!(eth_type, Some(0x0806 | 0x8035));
        let ipv6 = eth_type == Some(0x86dd);
        match name {
            "nw_proto" if arp => self.read_field(item, Field::ArpOp),
            "nw_proto" => self.read_field(item, Field::IpProto),
            "nw_src" | "nw_dst" if ipv6 => {
                let instead = format!("write ipv6_{}", &name[3..]);
                Err(item.unsupported(format!("these are IPv6 packets; {instead}")))
            }
            "nw_src" if arp => self.read_field(item, Field::ArpSpa),
            "nw_dst" if arp => self.read_field(item, Field::ArpTpa),
            "nw_src" => self.read_field(item, Field::Ipv4Src),
            "nw_dst" => self.read_field(item, Field::Ipv4Dst),
            "nw_tos" => {
                let tos: u128 = item.number(255_u8)?;
                self.set_exact(item, Field::IpDscp, tos >> 2)
            }
            "tp_src" | "tp_dst" => {
                let source = name == "tp_src";
                let field = l4_field(self.exact(Field::IpProto), source).ok_or_else(|| {
                    item.error(Problem::WhichProtocol {
                        name: item.name.to_owned(),
                        needs: "tcp, udp, sctp, icmp, tcp6, udp6, sctp6 or icmp6",
                        instead: format!(" (or write tcp_{0} or udp_{0})", &name[3..]),
                    })
                })?;
                self.read_field(item, field)
            }
            "icmp_type" if ipv6 => self.read_field(item, Field::Icmpv6Type),
            "icmp_code" if ipv6 => self.read_field(item, Field::Icmpv6Code),
            "icmp_type" => self.read_field(item, Field::Icmpv4Type),
            "icmp_code" => self.read_field(item, Field::Icmpv4Code),
            "dl_vlan" => match item.number(NO_VLAN)? {
                NO_VLAN => self.set_exact(item, Field::VlanVid, 0),
                vid @ 0..0x1000 => {
                    self.set_exact(item, Field::VlanVid, VID_PRESENT | u128::from(vid))
                }
                _ => Err(item.bad_value("a VLAN from 0 to 4095, or 0xffff for no tag")),
            },
            "dl_vlan_pcp" => self.read_field(item, Field::VlanPcp),
            _ => self.read_tci(item),
        }
    }

    /// vlan_tci: priority (3 bits), "there is a tag" (1), VLAN (12), under a mask (ovs-fields(7)).
    fn read_tci(&mut self, item: &Item<'a>) -> Result<(), SyntaxError> {
        let expected = "a 16-bit tag such as 0x1005, perhaps with a mask behind it (/0x1fff); \
                        the mask covers all three bits of the priority or none";
        let text = item.value(expected)?;
        let (value, mask) = text.split_once('/').unwrap_or((text, "0xffff"));
        let tci = value::bounded::<u16>(value, 0xffff).zip(value::bounded::<u16>(mask, 0xffff));
        let (value, mask) = tci.ok_or_else(|| item.bad_value(expected))?;
        let value = u128::from(value & mask);
        let mask = u128::from(mask);
        let vid = Field::VlanVid.full_mask();
        let m = FieldMatch {
            field: Field::VlanVid,
            value: value & vid,
            mask: mask & vid,
        };
        let untagged = mask & VID_PRESENT != 0 && value == 0;
        match mask >> 13 {
            0 => {}
            7 if untagged => {}
            7 if value & VID_PRESENT != 0 => {
                self.set_exact(item, Field::VlanPcp, value >> 13)?;
            }
            _ => return Err(item.bad_value(expected)),
        }
        if m.mask == 0 {
            return Ok(());
        }
        self.set(item, m)
    }

    fn explain(&self, error: MatchError) -> SyntaxError {
        let (MatchError::ValueTooWide { field, .. }
        | MatchError::ValueOutsideMask { field, .. }
        | MatchError::NotMaskable { field }
        | MatchError::Duplicate { field }
        | MatchError::MissingPrerequisite { field, .. }) = error;
        let hint = match (&error, field) {
            (MatchError::MissingPrerequisite { .. }, Field::VlanPcp) => {
                "; write dl_vlan=VLAN, or leave the priority out"
            }
            (MatchError::MissingPrerequisite { .. }, _) => "; write the protocol in front",
            _ => "",
        };
        let problem = Problem::Match { error, hint };
        match self.item(field) {
            Some(item) => item.error(problem),
            None => SyntaxError { column: 1, problem },
        }
    }
}

/// What tp_src or tp_dst means with this IP protocol.
fn l4_field(proto: Option<u128>, source: bool) -> Option<Field> {
    Some(match (proto?, source) {
        (6, true) => Field::TcpSrc,
        (6, false) => Field::TcpDst,
        (17, true) => Field::UdpSrc,
        (17, false) => Field::UdpDst,
        (132, true) => Field::SctpSrc,
        (132, false) => Field::SctpDst,
        (1, true) => Field::Icmpv4Type,
        (1, false) => Field::Icmpv4Code,
        (58, true) => Field::Icmpv6Type,
        (58, false) => Field::Icmpv6Code,
        _ => return None,
    })
}
