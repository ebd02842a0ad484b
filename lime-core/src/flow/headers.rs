//! Which headers a rule's packets have for certain, before and after each of its actions.
//!
//! A set-field needs the prerequisites of its field, in the match or by what was pushed before it (OpenFlow 1.3.5, 7.2.3.8 and
//! 7.2.5, OFPBAC_MATCH_INCONSISTENT).

use super::{Action, Field, Match};

/// What actions on tags need, in words.
const VLAN: &str = "that there is a VLAN tag (or the actions push one first)";
const MPLS: &str = "mpls or mplsm (or the actions push one first)";
const PBB: &str = "eth_type 0x88e7 (or the actions push one first)";

/// What is known of a packet's headers. `None`: could be anything.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Headers {
    eth_type: Option<u128>,
    ip_proto: Option<u128>,
    icmpv6_type: Option<u128>,
    tagged: bool,
}

impl Headers {
    /// What the match says.
    pub fn of(matching: &Match) -> Self {
        Self {
            eth_type: matching.exact(Field::EthType),
            ip_proto: matching.exact(Field::IpProto),
            icmpv6_type: matching.exact(Field::Icmpv6Type),
            tagged: matching
                .get(Field::VlanVid)
                .is_some_and(|v| v.value & 0x1000 != 0),
        }
    }

    /// What is known after the action.
    pub fn apply(&mut self, action: &Action) {
        match *action {
            Action::PushVlan(_) => self.tagged = true,
            // There may be another tag behind it, or none.
            Action::PopVlan => self.tagged = false,
            // New tags go in front of all others (OpenFlow 1.3.5, 5.12): what was first is out of sight.
            Action::PushMpls(eth_type) | Action::PushPbb(eth_type) => {
                *self = Self::default();
                self.eth_type = Some(eth_type.into());
            }
            // A VLAN tag that was behind the label.
            Action::PopMpls(0x8100 | 0x88a8) => {
                *self = Self {
                    tagged: true,
                    ..Self::default()
                };
            }
            Action::PopMpls(eth_type) => {
                *self = Self {
                    eth_type: Some(eth_type.into()),
                    tagged: self.tagged,
                    ..Self::default()
                };
            }
            Action::PopPbb => *self = Self::default(),
            Action::SetField {
                field: Field::Icmpv6Type,
                value,
            } => self.icmpv6_type = Some(value),
            _ => {}
        }
    }

    /// What the action needs and the packet may lack, in words.
    pub fn missing(&self, action: &Action) -> Option<&'static str> {
        let ip = matches!(self.eth_type, Some(0x0800 | 0x86dd));
        let v6 = self.eth_type == Some(0x86dd);
        let mpls = (matches!(self.eth_type, Some(0x8847 | 0x8848)), MPLS);
        let pbb = (self.eth_type == Some(0x88e7), PBB);
        let proto = |p| ip && self.ip_proto == Some(p);
        let icmp6 = v6 && self.ip_proto == Some(58);
        let nd = |types: &[u128]| icmp6 && self.icmpv6_type.is_some_and(|t| types.contains(&t));
        let (ok, needs) = match *action {
            Action::SetNwTtl(_) | Action::DecNwTtl => (ip, "ip or ipv6"),
            Action::SetMplsTtl(_)
            | Action::DecMplsTtl
            | Action::PopMpls(_)
            | Action::CopyTtlIn
            | Action::CopyTtlOut => mpls,
            Action::PopPbb => pbb,
            Action::SetField { field, .. } => match field {
                Field::VlanVid | Field::VlanPcp => (self.tagged, VLAN),
                Field::IpDscp | Field::IpEcn => (ip, "ip or ipv6"),
                Field::Ipv4Src | Field::Ipv4Dst => (self.eth_type == Some(0x0800), "ip"),
                Field::Ipv6Src | Field::Ipv6Dst | Field::Ipv6Flabel => (v6, "ipv6"),
                Field::TcpSrc | Field::TcpDst => (proto(6), "tcp or tcp6"),
                Field::UdpSrc | Field::UdpDst => (proto(17), "udp or udp6"),
                Field::SctpSrc | Field::SctpDst => (proto(132), "sctp or sctp6"),
                Field::Icmpv4Type | Field::Icmpv4Code => {
                    (proto(1) && self.eth_type == Some(0x0800), "icmp")
                }
                Field::Icmpv6Type | Field::Icmpv6Code => (icmp6, "icmp6"),
                Field::Ipv6NdTarget => (nd(&[135, 136]), "icmp6 and icmp_type 135 or 136"),
                Field::Ipv6NdSll => (nd(&[135]), "icmp6 and icmp_type 135"),
                Field::Ipv6NdTll => (nd(&[136]), "icmp6 and icmp_type 136"),
                Field::ArpOp | Field::ArpSpa | Field::ArpTpa | Field::ArpSha | Field::ArpTha => {
                    (self.eth_type == Some(0x0806), "arp")
                }
                Field::MplsLabel | Field::MplsTc | Field::MplsBos => mpls,
                Field::PbbIsid => pbb,
                Field::InPort
                | Field::InPhyPort
                | Field::Metadata
                | Field::EthDst
                | Field::EthSrc
                | Field::EthType
                | Field::IpProto
                | Field::TunnelId
                | Field::Ipv6Exthdr => (true, ""),
            },
            Action::Output { .. }
            | Action::PushVlan(_)
            | Action::PopVlan
            | Action::Group(_)
            | Action::PushMpls(_)
            | Action::PushPbb(_)
            | Action::SetQueue(_) => (true, ""),
        };
        (!ok).then_some(needs)
    }
}

/// Whether the action works on a tag that actions can push.
pub(super) fn is_of_a_tag(action: &Action) -> bool {
    let needs = Headers::default().missing(action);
    needs.is_some_and(|needs| [VLAN, MPLS, PBB].contains(&needs))
}
