//! The names of fields, protocols and actions, those of Open vSwitch that LIME does not have, and how to find the one meant.

use crate::flow::Field;

/// How a field's values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A number, decimal or 0x hexadecimal.
    Number,
    /// A port: its number, or its reserved name.
    Port,
    /// Six pairs of hexadecimal digits.
    Mac,
    /// Dotted quad, mask as /length or /dotted quad.
    Ipv4,
    /// As RFC 4291, mask as /length or /address.
    Ipv6,
}

/// Names that always mean one and the same field, first the one that is printed in set_field.
pub(super) const FIELDS: &[(&str, Field)] = &[
    ("in_port", Field::InPort),
    ("in_phy_port", Field::InPhyPort),
    ("metadata", Field::Metadata),
    ("tun_id", Field::TunnelId),
    ("tunnel_id", Field::TunnelId),
    ("eth_dst", Field::EthDst),
    ("dl_dst", Field::EthDst),
    ("eth_src", Field::EthSrc),
    ("dl_src", Field::EthSrc),
    ("eth_type", Field::EthType),
    ("dl_type", Field::EthType),
    ("vlan_vid", Field::VlanVid),
    ("vlan_pcp", Field::VlanPcp),
    ("ip_dscp", Field::IpDscp),
    ("ip_ecn", Field::IpEcn),
    ("nw_ecn", Field::IpEcn),
    ("ip_proto", Field::IpProto),
    ("ip_src", Field::Ipv4Src),
    ("ip_dst", Field::Ipv4Dst),
    ("tcp_src", Field::TcpSrc),
    ("tcp_dst", Field::TcpDst),
    ("udp_src", Field::UdpSrc),
    ("udp_dst", Field::UdpDst),
    ("sctp_src", Field::SctpSrc),
    ("sctp_dst", Field::SctpDst),
    ("icmpv4_type", Field::Icmpv4Type),
    ("icmpv4_code", Field::Icmpv4Code),
    ("arp_op", Field::ArpOp),
    ("arp_spa", Field::ArpSpa),
    ("arp_tpa", Field::ArpTpa),
    ("arp_sha", Field::ArpSha),
    ("arp_tha", Field::ArpTha),
    ("ipv6_src", Field::Ipv6Src),
    ("ipv6_dst", Field::Ipv6Dst),
    ("icmpv6_type", Field::Icmpv6Type),
    ("icmpv6_code", Field::Icmpv6Code),
    ("ipv6_label", Field::Ipv6Flabel),
    ("ipv6_flabel", Field::Ipv6Flabel),
    ("ipv6_exthdr", Field::Ipv6Exthdr),
    ("nd_target", Field::Ipv6NdTarget),
    ("nd_sll", Field::Ipv6NdSll),
    ("nd_tll", Field::Ipv6NdTll),
    ("mpls_label", Field::MplsLabel),
    ("mpls_tc", Field::MplsTc),
    ("mpls_bos", Field::MplsBos),
    ("pbb_isid", Field::PbbIsid),
];

/// Names whose field depends on the rest of the match, or whose value is written in another way.
pub(super) const CONTEXT_FIELDS: &[&str] = &[
    "nw_src",
    "nw_dst",
    "nw_proto",
    "nw_tos",
    "tp_src",
    "tp_dst",
    "icmp_type",
    "icmp_code",
    "dl_vlan",
    "dl_vlan_pcp",
    "vlan_tci",
];

/// Protocols that stand for an EtherType and an IP protocol.
pub(super) const PROTOCOLS: &[(&str, u16, Option<u8>)] = &[
    ("ip", 0x0800, None),
    ("icmp", 0x0800, Some(1)),
    ("tcp", 0x0800, Some(6)),
    ("udp", 0x0800, Some(17)),
    ("sctp", 0x0800, Some(132)),
    ("ipv6", 0x86dd, None),
    ("icmp6", 0x86dd, Some(58)),
    ("tcp6", 0x86dd, Some(6)),
    ("udp6", 0x86dd, Some(17)),
    ("sctp6", 0x86dd, Some(132)),
    ("arp", 0x0806, None),
    ("rarp", 0x8035, None),
    ("mpls", 0x8847, None),
    ("mplsm", 0x8848, None),
];

/// Keys of a flow that are not fields.
pub(super) const KEYS: &[&str] = &[
    "table",
    "priority",
    "cookie",
    "idle_timeout",
    "hard_timeout",
    "send_flow_rem",
    "no_packet_counts",
    "no_byte_counts",
    "check_overlap",
    "reset_counts",
    "out_port",
    "out_group",
    "actions",
];

/// What `dump-flows` says about a rule's past: skipped, so that its output can be given back.
pub(super) const SKIPPED: &[&str] = &["duration", "n_packets", "n_bytes", "idle_age", "hard_age"];

/// All actions.
pub(super) const ACTIONS: &[&str] = &[
    "output",
    "in_port",
    "flood",
    "all",
    "controller",
    "table",
    "drop",
    "group",
    "meter",
    "goto_table",
    "set_field",
    "push_vlan",
    "pop_vlan",
    "strip_vlan",
    "mod_vlan_vid",
    "set_vlan_vid",
    "mod_vlan_pcp",
    "set_vlan_pcp",
    "mod_dl_src",
    "mod_dl_dst",
    "mod_nw_src",
    "mod_nw_dst",
    "mod_nw_tos",
    "mod_tp_src",
    "mod_tp_dst",
    "mod_nw_ecn",
    "mod_nw_ttl",
    "dec_ttl",
    "copy_ttl_in",
    "copy_ttl_out",
    "push_mpls",
    "pop_mpls",
    "set_mpls_label",
    "set_mpls_tc",
    "set_mpls_ttl",
    "dec_mpls_ttl",
    "push_pbb",
    "pop_pbb",
    "set_queue",
    "set_tunnel",
    "clear_actions",
    "write_actions",
    "write_metadata",
];

/// Keys of Open vSwitch that LIME does not have, by their beginning, and what to do.
pub(super) const UNSUPPORTED_KEYS: &[(&str, &str)] = &[
    ("reg", "there are no registers; use more tables instead"),
    ("xreg", "there are no registers; use more tables instead"),
    ("tun_", "tunnels between hosts are LIME's own business"),
    ("ct_", "there is no connection tracking"),
    ("tcp_flags", "TCP flags are not looked at"),
    ("nd_", "match nd_target, nd_sll or nd_tll"),
    ("nw_ttl", "the TTL is not looked at"),
    ("nw_frag", "fragments are not told apart"),
    ("ip_frag", "fragments are not told apart"),
    ("mpls_", "match mpls_label, mpls_tc or mpls_bos"),
    ("pkt_mark", "there are no packet marks"),
    ("importance", "rules are never evicted"),
];

/// Actions of Open vSwitch that LIME does not have, and what to do.
pub(super) const UNSUPPORTED_ACTIONS: &[(&str, &str)] = &[
    (
        "normal",
        "a virtual switch only does what its rules say; write rules, or use flood",
    ),
    ("learn", "let a controller add the rules"),
    ("ct", "there is no connection tracking"),
    ("nat", "there is no connection tracking"),
    ("load", "write set_field:VALUE->FIELD"),
    ("move", "fields cannot be copied"),
    ("push", "there are no registers"),
    ("pop", "there are no registers"),
    ("enqueue", "write set_queue:QUEUE,output:PORT"),
    ("bundle", "write group:ID with a select group"),
    ("multipath", "write group:ID with a select group"),
    ("clone", "actions are applied in order; list them"),
    ("note", "keep notes in the cookie"),
];

/// How a field's values are written.
pub(super) fn form(field: Field) -> Form {
    match field {
        Field::EthDst
        | Field::EthSrc
        | Field::ArpSha
        | Field::ArpTha
        | Field::Ipv6NdSll
        | Field::Ipv6NdTll => Form::Mac,
        Field::Ipv4Src | Field::Ipv4Dst | Field::ArpSpa | Field::ArpTpa => Form::Ipv4,
        Field::Ipv6Src | Field::Ipv6Dst | Field::Ipv6NdTarget => Form::Ipv6,
        Field::InPort | Field::InPhyPort => Form::Port,
        _ => Form::Number,
    }
}

/// The field of a name that always means the same one.
pub(super) fn field(name: &str) -> Option<Field> {
    FIELDS
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|&(_, field)| field)
}

/// The first of a field's names.
pub(super) fn name(field: Field) -> &'static str {
    FIELDS
        .iter()
        .find(|&&(_, f)| f == field)
        .map_or("field", |&(name, _)| name)
}

/// What to do without this key of Open vSwitch's; registers and the like go by their beginning.
pub(super) fn unsupported_key(name: &str) -> Option<&'static str> {
    UNSUPPORTED_KEYS
        .iter()
        .find(|(n, _)| {
            name.strip_prefix(n).is_some_and(|rest| {
                rest.is_empty() || n.ends_with('_') || rest.bytes().all(|b| b.is_ascii_digit())
            })
        })
        .map(|&(_, instead)| instead)
}

/// What to do without this action of Open vSwitch's.
pub(super) fn unsupported_action(name: &str) -> Option<&'static str> {
    UNSUPPORTED_ACTIONS
        .iter()
        .find(|(n, _)| *n == name)
        .map(|&(_, instead)| instead)
}

/// The key of a flow that is most like this one.
pub(super) fn nearest_key(name: &str) -> Option<&'static str> {
    let fields = FIELDS.iter().map(|&(n, _)| n);
    let protocols = PROTOCOLS.iter().map(|&(n, ..)| n);
    let rest = CONTEXT_FIELDS.iter().chain(KEYS).copied();
    nearest(name, fields.chain(protocols).chain(rest))
}

/// The action that is most like this one.
pub(super) fn nearest_action(name: &str) -> Option<&'static str> {
    nearest(name, ACTIONS.iter().copied())
}

fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // A name with more characters than any of ours is none that was mistyped.
    if name.len() > 32 {
        return None;
    }
    // Few mistakes first; of two that are as near, the one that begins alike.
    candidates
        .map(|c| {
            let likeness = strsim::jaro_winkler(name, c);
            (strsim::osa_distance(name, c), likeness, c)
        })
        .filter(|&(mistakes, _, c)| mistakes <= 1 + c.len() / 4)
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)))
        .map(|(.., c)| c)
}

/// Whether this is a key or field of flows.
pub(super) fn is_key(name: &str) -> bool {
    field(name).is_some()
        || CONTEXT_FIELDS.contains(&name)
        || KEYS.contains(&name)
        || PROTOCOLS.iter().any(|p| p.0 == name)
}
