//! Rules and actions as the API takes them, for tests and the demonstration. (People use the CLI's `ovs-ofctl` syntax.)

use std::net::IpAddr;

use lime_proto::v1::action::{Action as Kind, Output, PopVlan, PushVlan, SetField};
use lime_proto::v1::flow_mod::Command;
use lime_proto::v1::{Action, FieldMatch, FlowMod, Rule};

/// OXM field numbers of class OFPXMC_OPENFLOW_BASIC (OpenFlow 1.3.5, 7.2.3.7).
pub mod field {
    #![allow(missing_docs)]
    pub const IN_PORT: u32 = 0;
    pub const ETH_DST: u32 = 3;
    pub const ETH_SRC: u32 = 4;
    pub const ETH_TYPE: u32 = 5;
    pub const VLAN_VID: u32 = 6;
    pub const IP_DSCP: u32 = 8;
    pub const IP_PROTO: u32 = 10;
    pub const IPV4_SRC: u32 = 11;
    pub const IPV4_DST: u32 = 12;
    pub const TCP_SRC: u32 = 13;
    pub const TCP_DST: u32 = 14;
    pub const UDP_SRC: u32 = 15;
    pub const UDP_DST: u32 = 16;
    pub const IPV6_SRC: u32 = 26;
    pub const IPV6_DST: u32 = 27;
}

/// OFPVID_PRESENT (OpenFlow 1.3.5, 7.2.3.7).
pub const VID_PRESENT: u16 = 0x1000;
/// OFPP_IN_PORT.
pub const IN_PORT: u32 = 0xffff_fff8;
/// OFPP_TABLE.
pub const TABLE: u32 = 0xffff_fff9;
/// OFPP_FLOOD.
pub const FLOOD: u32 = 0xffff_fffb;
/// OFPP_ALL.
pub const ALL: u32 = 0xffff_fffc;
/// OFPP_CONTROLLER.
pub const CONTROLLER: u32 = 0xffff_fffd;

/// A rule to be: `RuleSpec::new(100).in_port(1).udp4().output(2)`.
#[derive(Clone, Debug)]
#[must_use]
pub struct RuleSpec(Rule);

impl RuleSpec {
    /// A rule of table 0 that matches everything and drops.
    pub fn new(priority: u32) -> Self {
        Self(Rule {
            priority,
            ..Rule::default()
        })
    }

    /// In this table.
    pub fn table(mut self, table: u32) -> Self {
        self.0.table = table;
        self
    }

    /// With this cookie.
    pub fn cookie(mut self, cookie: u64) -> Self {
        self.0.cookie = cookie;
        self
    }

    /// Matches a field exactly.
    pub fn field(mut self, field: u32, value: impl Into<Vec<u8>>) -> Self {
        self.0.r#match.push(FieldMatch {
            field,
            value: value.into(),
            mask: Vec::new(),
        });
        self
    }

    /// Matches the ingress port.
    pub fn in_port(self, port: u32) -> Self {
        self.field(field::IN_PORT, port.to_be_bytes())
    }

    /// Matches the destination MAC address.
    pub fn eth_dst(self, mac: [u8; 6]) -> Self {
        self.field(field::ETH_DST, mac)
    }

    /// Matches the EtherType.
    pub fn eth_type(self, ethertype: u16) -> Self {
        self.field(field::ETH_TYPE, ethertype.to_be_bytes())
    }

    /// Matches ARP.
    pub fn arp(self) -> Self {
        self.eth_type(0x0806)
    }

    /// Matches IPv4.
    pub fn ipv4(self) -> Self {
        self.eth_type(0x0800)
    }

    /// Matches IPv6.
    pub fn ipv6(self) -> Self {
        self.eth_type(0x86dd)
    }

    /// Matches an IP protocol; needs [`RuleSpec::ipv4`] or [`RuleSpec::ipv6`] before.
    pub fn proto(self, protocol: u8) -> Self {
        self.field(field::IP_PROTO, [protocol])
    }

    /// Matches a tagged frame's VLAN.
    pub fn vlan(self, vid: u16) -> Self {
        self.field(field::VLAN_VID, (vid | VID_PRESENT).to_be_bytes())
    }

    /// Matches source and destination addresses.
    pub fn from_to(self, from: IpAddr, to: IpAddr) -> Self {
        match (from, to) {
            (IpAddr::V4(f), IpAddr::V4(t)) => self
                .field(field::IPV4_SRC, f.octets())
                .field(field::IPV4_DST, t.octets()),
            (IpAddr::V6(f), IpAddr::V6(t)) => self
                .field(field::IPV6_SRC, f.octets())
                .field(field::IPV6_DST, t.octets()),
            _ => self,
        }
    }

    /// Matches the IPv4 source address.
    pub fn ipv4_src(self, address: std::net::Ipv4Addr) -> Self {
        self.field(field::IPV4_SRC, address.octets())
    }

    /// Matches the IPv4 destination address.
    pub fn ipv4_dst(self, address: std::net::Ipv4Addr) -> Self {
        self.field(field::IPV4_DST, address.octets())
    }

    /// Matches UDP ports; needs the protocol before.
    pub fn udp_ports(self, source: u16, destination: u16) -> Self {
        self.field(field::UDP_SRC, source.to_be_bytes())
            .field(field::UDP_DST, destination.to_be_bytes())
    }

    /// Adds an action.
    pub fn action(mut self, action: Kind) -> Self {
        self.0.actions.push(Action {
            action: Some(action),
        });
        self
    }

    /// Adds an output.
    pub fn output(mut self, port: u32) -> Self {
        self.0.actions.push(output(port));
        self
    }

    /// Adds setting a field.
    pub fn set(self, field: u32, value: impl Into<Vec<u8>>) -> Self {
        self.action(Kind::SetField(SetField {
            field,
            value: value.into(),
        }))
    }

    /// Adds pushing an 802.1Q tag with this VLAN.
    pub fn push_vlan(self, vid: u16) -> Self {
        self.action(Kind::PushVlan(PushVlan { ethertype: 0x8100 }))
            .set(field::VLAN_VID, (vid | VID_PRESENT).to_be_bytes())
    }

    /// Adds popping the tag.
    pub fn pop_vlan(self) -> Self {
        self.action(Kind::PopVlan(PopVlan {}))
    }

    /// Goes on in this table.
    pub fn goto(mut self, table: u32) -> Self {
        self.0.goto_table = Some(table);
        self
    }

    /// The rule.
    pub fn rule(self) -> Rule {
        self.0
    }

    /// A change that adds the rule.
    pub fn add(self) -> FlowMod {
        self.change(Command::Add)
    }

    /// A change that removes all rules at least as specific as this one.
    pub fn delete(self) -> FlowMod {
        self.change(Command::Delete)
    }

    fn change(self, command: Command) -> FlowMod {
        FlowMod {
            command: command.into(),
            rule: Some(self.0),
            ..FlowMod::default()
        }
    }
}

/// Output to a port; to the controller: the whole packet.
pub fn output(port: u32) -> Action {
    Action {
        action: Some(Kind::Output(Output {
            port,
            max_len: if port == CONTROLLER { 0xffff } else { 0 },
        })),
    }
}
