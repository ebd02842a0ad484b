//! Rules as text, in the order that `ovs-ofctl dump-flows` has.

use std::fmt::Write as _;

use super::names;
use super::value::{write_exact, write_masked};
use crate::PortNo;
use crate::flow::{Action, Field, FieldMatch, Match, Rule};

/// Fields in the order that they are printed in; protocols come before them.
const ORDER: &[(Field, &str)] = &[
    (Field::TunnelId, "tun_id"),
    (Field::Metadata, "metadata"),
    (Field::InPort, "in_port"),
    (Field::InPhyPort, "in_phy_port"),
    (Field::VlanVid, "vlan_vid"),
    (Field::VlanPcp, "dl_vlan_pcp"),
    (Field::EthSrc, "dl_src"),
    (Field::EthDst, "dl_dst"),
    (Field::Ipv4Src, "nw_src"),
    (Field::Ipv4Dst, "nw_dst"),
    (Field::Ipv6Src, "ipv6_src"),
    (Field::Ipv6Dst, "ipv6_dst"),
    (Field::ArpSpa, "arp_spa"),
    (Field::ArpTpa, "arp_tpa"),
    (Field::ArpOp, "arp_op"),
    (Field::ArpSha, "arp_sha"),
    (Field::ArpTha, "arp_tha"),
    (Field::Ipv6Flabel, "ipv6_label"),
    (Field::Ipv6Exthdr, "ipv6_exthdr"),
    (Field::IpDscp, "nw_tos"),
    (Field::IpEcn, "nw_ecn"),
    (Field::TcpSrc, "tp_src"),
    (Field::TcpDst, "tp_dst"),
    (Field::UdpSrc, "tp_src"),
    (Field::UdpDst, "tp_dst"),
    (Field::SctpSrc, "tp_src"),
    (Field::SctpDst, "tp_dst"),
    (Field::Icmpv4Type, "icmp_type"),
    (Field::Icmpv4Code, "icmp_code"),
    (Field::Icmpv6Type, "icmp_type"),
    (Field::Icmpv6Code, "icmp_code"),
    (Field::Ipv6NdTarget, "nd_target"),
    (Field::Ipv6NdSll, "nd_sll"),
    (Field::Ipv6NdTll, "nd_tll"),
    (Field::MplsLabel, "mpls_label"),
    (Field::MplsTc, "mpls_tc"),
    (Field::MplsBos, "mpls_bos"),
    (Field::PbbIsid, "pbb_isid"),
];

/// Writes to a String, which cannot fail.
macro_rules! put {
    ($out:expr, $($arg:tt)*) => {{
        let done = write!($out, $($arg)*);
        debug_assert!(done.is_ok(), "a String takes everything");
    }};
}

/// The rule as [`super::parse_rule`] reads it. Table and priority are always said; cookie and timeouts where there are some.
pub fn format_rule(rule: &Rule) -> String {
    let mut out = format!("table={},priority={}", rule.table, rule.priority);
    if rule.cookie != 0 {
        put!(out, ",cookie={:#x}", rule.cookie);
    }
    if rule.idle_timeout != 0 {
        put!(out, ",idle_timeout={}", rule.idle_timeout);
    }
    if rule.hard_timeout != 0 {
        put!(out, ",hard_timeout={}", rule.hard_timeout);
    }
    for (set, name) in [
        (rule.flags.send_flow_removed, "send_flow_rem"),
        (rule.flags.no_packet_counts, "no_packet_counts"),
        (rule.flags.no_byte_counts, "no_byte_counts"),
    ] {
        if set {
            put!(out, ",{name}");
        }
    }
    let matching = format_match(&rule.matching);
    if !matching.is_empty() {
        put!(out, ",{matching}");
    }
    put!(out, ",actions={}", format_instructions(rule));
    out
}

/// The fields of a match, protocol first; empty when it matches everything.
pub fn format_match(matching: &Match) -> String {
    let mut parts = Vec::new();
    protocol(matching, &mut parts);
    for (field, name) in ORDER {
        if let Some(m) = matching.get(*field) {
            parts.push(match field {
                Field::VlanVid => vlan(m),
                Field::IpDscp => format!("nw_tos={}", m.value << 2),
                _ => {
                    let mut part = format!("{name}=");
                    write_masked(&mut part, m);
                    part
                }
            });
        }
    }
    parts.join(",")
}

fn protocol(matching: &Match, parts: &mut Vec<String>) {
    let Some(eth_type) = matching.exact(Field::EthType) else {
        return;
    };
    let proto = matching.exact(Field::IpProto);
    let is = |wanted: Option<u128>| {
        names::PROTOCOLS
            .iter()
            .find(|(_, e, p)| u128::from(*e) == eth_type && p.map(u128::from) == wanted)
            .map(|&(name, ..)| name.to_owned())
    };
    match (is(proto), is(None)) {
        (Some(name), _) => parts.push(name),
        (None, name) => {
            parts.push(name.unwrap_or_else(|| format!("dl_type={eth_type:#06x}")));
            if let Some(proto) = proto {
                parts.push(format!("nw_proto={proto}"));
            }
        }
    }
}

fn vlan(m: &FieldMatch) -> String {
    if m.mask == Field::VlanVid.full_mask() {
        if m.value == 0 {
            return "vlan_tci=0x0000/0x1fff".to_owned();
        }
        if m.value & 0x1000 != 0 {
            return format!("dl_vlan={}", m.value & 0xfff);
        }
    }
    let mut part = "vlan_vid=".to_owned();
    write_masked(&mut part, m);
    part
}

/// Everything that a rule does, as it stands behind `actions=`; nothing is `drop`.
pub fn format_instructions(rule: &Rule) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(rule.meter.map(|meter| format!("meter:{meter}")));
    parts.extend(rule.actions.iter().map(action));
    if rule.clear_actions {
        parts.push("clear_actions".to_owned());
    }
    if !rule.write_actions.is_empty() {
        let set: Vec<String> = rule.write_actions.iter().map(action).collect();
        parts.push(format!("write_actions({})", set.join(",")));
    }
    if let Some(write) = rule.write_metadata {
        parts.push(match write.mask {
            u64::MAX => format!("write_metadata:{:#x}", write.value),
            mask => format!("write_metadata:{:#x}/{mask:#x}", write.value),
        });
    }
    if let Some(table) = rule.goto_table {
        parts.push(format!("goto_table:{table}"));
    }
    or_drop(parts)
}

/// Actions as they stand behind `actions=`; none is `drop`.
pub fn format_actions(actions: &[Action]) -> String {
    or_drop(actions.iter().map(action).collect())
}

fn or_drop(mut parts: Vec<String>) -> String {
    if parts.is_empty() {
        parts.push("drop".to_owned());
    }
    parts.join(",")
}

fn action(action: &Action) -> String {
    match *action {
        Action::Output { port, max_len } => match port {
            PortNo::IN_PORT => "IN_PORT".to_owned(),
            PortNo::TABLE => "TABLE".to_owned(),
            PortNo::FLOOD => "FLOOD".to_owned(),
            PortNo::ALL => "ALL".to_owned(),
            PortNo::CONTROLLER => format!("CONTROLLER:{max_len}"),
            PortNo::LOCAL => "LOCAL".to_owned(),
            port => format!("output:{port}"),
        },
        Action::SetField { field, value } => match field {
            Field::VlanVid if value & 0x1000 != 0 => format!("mod_vlan_vid:{}", value & 0xfff),
            _ => {
                let mut out = "set_field:".to_owned();
                write_exact(&mut out, field, value);
                put!(out, "->{}", names::name(field));
                out
            }
        },
        Action::PushVlan(tpid) => format!("push_vlan:{tpid:#06x}"),
        Action::PopVlan => "pop_vlan".to_owned(),
        Action::Group(id) => format!("group:{id}"),
        Action::SetNwTtl(ttl) => format!("mod_nw_ttl:{ttl}"),
        Action::DecNwTtl => "dec_ttl".to_owned(),
        Action::CopyTtlOut => "copy_ttl_out".to_owned(),
        Action::CopyTtlIn => "copy_ttl_in".to_owned(),
        Action::PushMpls(eth_type) => format!("push_mpls:{eth_type:#06x}"),
        Action::PopMpls(eth_type) => format!("pop_mpls:{eth_type:#06x}"),
        Action::SetMplsTtl(ttl) => format!("set_mpls_ttl({ttl})"),
        Action::DecMplsTtl => "dec_mpls_ttl".to_owned(),
        Action::PushPbb(eth_type) => format!("push_pbb:{eth_type:#06x}"),
        Action::PopPbb => "pop_pbb".to_owned(),
        Action::SetQueue(queue) => format!("set_queue:{queue}"),
    }
}
