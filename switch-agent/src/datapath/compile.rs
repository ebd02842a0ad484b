//! From the rule model to what the kernel programs compare and run.

use lime_core::PortNo;
use lime_core::flow::{Action, Field, Match, Rule};
use switch_abi::{
    Action as Op, EVENT_REASON_ACTION, EVENT_REASON_NO_MATCH, FlowKey, MAX_ACTIONS, MAX_QUEUE,
    RULE_CLEAR_ACTIONS, RULE_COPIES, RULE_OUTPUTS, RULE_TELLS, RULE_XDP, op,
};

use super::{DatapathError, Result};

/// A match as value and mask; the value has no bits outside the mask.
pub(crate) fn compile_match(matching: &Match) -> (FlowKey, FlowKey) {
    let (mut key, mut mask) = (FlowKey::default(), FlowKey::default());
    for f in matching.fields() {
        place(&mut key, f.field, f.value);
        place(&mut mask, f.field, f.mask);
    }
    (key, mask)
}

/// The value alone, of a match whose mask is known.
pub(crate) fn place_values(matching: &Match) -> FlowKey {
    let mut key = FlowKey::default();
    for f in matching.fields() {
        place(&mut key, f.field, f.value);
    }
    key
}

/// ORs a field's right-aligned bits into their place in the key.
fn place(key: &mut FlowKey, field: Field, bits: u128) {
    match field {
        Field::InPort => key.in_port |= bits as u32,
        Field::EthDst => key.eth_dst = mac(bits),
        Field::EthSrc => key.eth_src = mac(bits),
        Field::EthType => key.eth_type = (bits as u16).to_be_bytes(),
        // The VID has OpenFlow's present bit where the key has it.
        Field::VlanVid => or_be(&mut key.vlan_tci, bits as u16 & 0x1fff),
        Field::VlanPcp => or_be(&mut key.vlan_tci, (bits as u16 & 7) << 13),
        Field::IpDscp => key.ip_tos |= (bits as u8 & 0x3f) << 2,
        Field::IpEcn => key.ip_tos |= bits as u8 & 3,
        Field::IpProto => key.ip_proto = bits as u8,
        Field::Ipv4Src | Field::ArpSpa => {
            key.ip_src[..4].copy_from_slice(&(bits as u32).to_be_bytes());
        }
        Field::Ipv4Dst | Field::ArpTpa => {
            key.ip_dst[..4].copy_from_slice(&(bits as u32).to_be_bytes());
        }
        Field::Ipv6Src => key.ip_src = bits.to_be_bytes(),
        Field::Ipv6Dst => key.ip_dst = bits.to_be_bytes(),
        Field::TcpSrc | Field::UdpSrc => key.l4_src = (bits as u16).to_be_bytes(),
        Field::TcpDst | Field::UdpDst => key.l4_dst = (bits as u16).to_be_bytes(),
        Field::Icmpv4Type | Field::Icmpv6Type => key.l4_src[1] = bits as u8,
        Field::Icmpv4Code | Field::Icmpv6Code => key.l4_dst[1] = bits as u8,
        Field::ArpOp => key.arp_op = (bits as u16).to_be_bytes(),
        Field::SctpSrc => key.l4_src = (bits as u16).to_be_bytes(),
        Field::SctpDst => key.l4_dst = (bits as u16).to_be_bytes(),
        Field::InPhyPort => key.in_phy_port = bits as u32,
        Field::Metadata => key.metadata = bits as u64,
        Field::TunnelId => key.tunnel_id = bits as u64,
        Field::ArpSha | Field::Ipv6NdSll => key.l2_sender = mac(bits),
        Field::ArpTha | Field::Ipv6NdTll => key.l2_target = mac(bits),
        Field::Ipv6Flabel => key.ipv6_flabel = (bits as u32).to_be_bytes(),
        Field::Ipv6NdTarget => key.nd_target = bits.to_be_bytes(),
        Field::MplsLabel => or_mpls(key, (bits as u32 & 0xf_ffff) << 12),
        Field::MplsTc => or_mpls(key, (bits as u32 & 7) << 9),
        Field::MplsBos => or_mpls(key, (bits as u32 & 1) << 8),
        Field::PbbIsid => key.pbb_isid = (bits as u32).to_be_bytes(),
        Field::Ipv6Exthdr => key.ipv6_exthdr = (bits as u16).to_be_bytes(),
    }
}

fn or_mpls(key: &mut FlowKey, bits: u32) {
    key.mpls = (u32::from_be_bytes(key.mpls) | bits).to_be_bytes();
}

fn mac(bits: u128) -> [u8; 6] {
    let b = (bits as u64).to_be_bytes();
    [b[2], b[3], b[4], b[5], b[6], b[7]]
}

fn or_be(to: &mut [u8; 2], bits: u16) {
    *to = (u16::from_be_bytes(*to) | bits).to_be_bytes();
}

/// A rule's actions as the programs run them.
#[derive(Clone, Copy, Default)]
pub(crate) struct Compiled {
    pub(crate) actions: [Op; MAX_ACTIONS],
    pub(crate) count: u8,
    /// How many of them are apply-actions; the rest are write-actions.
    pub(crate) apply: u8,
    pub(crate) flags: u8,
    pub(crate) metadata: u64,
    pub(crate) metadata_mask: u64,
}

/// Compiles the actions of `rule`. `port` gives the slot of an ordinary port number.
pub(crate) fn compile_actions(
    rule: &Rule,
    mut port: impl FnMut(PortNo) -> Result<u32>,
) -> Result<Compiled> {
    let mut out = Compiled {
        metadata: rule.write_metadata.map_or(0, |w| w.value & w.mask),
        metadata_mask: rule.write_metadata.map_or(0, |w| w.mask),
        ..Compiled::default()
    };
    // What changes the packet after the last output shows only in later tables, and in what the action set puts out.
    let actions = match rule.goto_table {
        Some(_) => &rule.actions[..],
        None if !set_is_empty(rule) => &rule.actions[..],
        None => {
            let last = rule.actions.iter().rposition(is_output);
            &rule.actions[..last.map_or(0, |i| i + 1)]
        }
    };
    let reason = if is_table_miss(rule) {
        EVENT_REASON_NO_MATCH
    } else {
        EVENT_REASON_ACTION
    };
    for action in actions {
        compile_action(&mut out, action, reason, &mut port)?;
    }
    out.apply = out.count;
    for action in &rule.write_actions {
        // A table-miss entry that only writes to the set is not what sends the packet.
        compile_action(&mut out, action, EVENT_REASON_ACTION, &mut port)?;
    }
    out.flags = flags(
        &out.actions[..out.apply as usize],
        &out.actions[out.apply as usize..out.count as usize],
        rule.goto_table.is_some(),
    );
    if rule.clear_actions {
        out.flags |= RULE_CLEAR_ACTIONS;
    }
    Ok(out)
}

/// Whether it is a table-miss entry: OpenFlow 1.3.5, 5.4.
pub(crate) fn is_table_miss(rule: &Rule) -> bool {
    rule.priority == 0 && rule.matching.fields().is_empty()
}

/// Whether the packet's action set is empty for certain once the rule has been met.
fn set_is_empty(rule: &Rule) -> bool {
    rule.write_actions.is_empty() && (rule.clear_actions || rule.table == 0)
}

/// Compiles one action, of either list.
fn compile_action(
    out: &mut Compiled,
    action: &Action,
    reason: u32,
    mut port: impl FnMut(PortNo) -> Result<u32>,
) -> Result<()> {
    let none = [0; 8];
    match *action {
        Action::Output { port: to, max_len } => match to {
            PortNo::IN_PORT => out.push(op::IN_PORT, 0, 0, none),
            PortNo::ALL => out.push(op::ALL, 0, 0, none),
            PortNo::FLOOD => out.push(op::FLOOD, 0, 0, none),
            PortNo::CONTROLLER => out.push(op::CONTROLLER, max_len, reason, none),
            to if to.is_port() => out.push(op::OUTPUT, 0, port(to)?, none),
            to => Err(DatapathError::invalid(
                format!("output to port {:#x}", to.0),
                "rules output to ports, IN_PORT, ALL, FLOOD and CONTROLLER",
            )),
        },
        Action::SetField { field, value } => set_field(out, field, value),
        Action::PushVlan(tpid) => out.push(op::PUSH_VLAN, tpid, 0, none),
        Action::PopVlan => out.push(op::POP_VLAN, 0, 0, none),
        Action::SetNwTtl(ttl) => out.push(op::SET_NW_TTL, ttl.into(), 0, none),
        Action::DecNwTtl => out.push(op::DEC_NW_TTL, 0, 0, none),
        Action::SetMplsTtl(ttl) => out.push(op::SET_MPLS_TTL, ttl.into(), 0, none),
        Action::DecMplsTtl => out.push(op::DEC_MPLS_TTL, 0, 0, none),
        Action::CopyTtlOut => out.push(op::COPY_TTL_OUT, 0, 0, none),
        Action::CopyTtlIn => out.push(op::COPY_TTL_IN, 0, 0, none),
        Action::PushMpls(eth_type) => out.push(op::PUSH_MPLS, eth_type, 0, none),
        Action::PopMpls(eth_type) => out.push(op::POP_MPLS, eth_type, 0, none),
        Action::PushPbb(eth_type) => out.push(op::PUSH_PBB, eth_type, 0, none),
        Action::PopPbb => out.push(op::POP_PBB, 0, 0, none),
        Action::SetQueue(queue) if queue <= MAX_QUEUE => out.push(op::SET_QUEUE, 0, queue, none),
        Action::SetQueue(queue) => Err(DatapathError::invalid(
            format!("set_queue:{queue}"),
            "queues are 1 to 65533, and 0 for none: queue n is class 1:n of the device's qdisc",
        )),
        Action::Group(group) => out.push(op::GROUP, 0, group, none),
    }
}

fn is_output(action: &Action) -> bool {
    matches!(action, Action::Output { .. } | Action::Group(_))
}

impl Compiled {
    pub(super) fn push(&mut self, op: u8, a: u16, b: u32, c: [u8; 8]) -> Result<()> {
        let Some(slot) = self.actions.get_mut(self.count as usize) else {
            return Err(DatapathError::no_space(
                "the rule's actions",
                MAX_ACTIONS as u64,
                "spread them over two tables",
            ));
        };
        *slot = Op {
            op,
            pad: 0,
            a,
            b,
            c,
        };
        self.count += 1;
        Ok(())
    }
}

/// IP protocols.
const ICMP: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;

fn set_field(out: &mut Compiled, field: Field, value: u128) -> Result<()> {
    let eight = |bytes: &[u8]| {
        let mut c = [0; 8];
        c[..bytes.len()].copy_from_slice(bytes);
        c
    };
    let ipv4 = (value as u32).to_be_bytes();
    let ipv6 = value.to_be_bytes();
    // Of a group's bucket no match says what packets are.
    let protocol = match field {
        Field::TcpSrc | Field::TcpDst => TCP,
        Field::UdpSrc | Field::UdpDst => UDP,
        Field::Icmpv4Type | Field::Icmpv4Code => ICMP,
        _ => ICMPV6,
    };
    match field {
        Field::EthDst => out.push(op::SET_ETH_DST, 0, 0, eight(&mac(value))),
        Field::EthSrc => out.push(op::SET_ETH_SRC, 0, 0, eight(&mac(value))),
        Field::VlanVid => out.push(op::SET_VLAN_VID, value as u16 & 0xfff, 0, [0; 8]),
        Field::VlanPcp => out.push(op::SET_VLAN_PCP, value as u16, 0, [0; 8]),
        Field::IpDscp => out.push(op::SET_IP_DSCP, value as u16, 0, [0; 8]),
        Field::Ipv4Src => out.push(op::SET_IPV4_SRC, 0, 0, eight(&ipv4)),
        Field::Ipv4Dst => out.push(op::SET_IPV4_DST, 0, 0, eight(&ipv4)),
        Field::Ipv6Src | Field::Ipv6Dst => {
            let op = if field == Field::Ipv6Src {
                op::SET_IPV6_SRC
            } else {
                op::SET_IPV6_DST
            };
            out.push(op, 0, 0, eight(&ipv6[..8]))?;
            out.push(op, 1, 0, eight(&ipv6[8..]))
        }
        Field::TcpSrc | Field::UdpSrc => out.push(op::SET_L4_SRC, value as u16, protocol, [0; 8]),
        Field::TcpDst | Field::UdpDst => out.push(op::SET_L4_DST, value as u16, protocol, [0; 8]),
        Field::IpEcn => out.push(op::SET_IP_ECN, value as u16, 0, [0; 8]),
        Field::Icmpv4Type | Field::Icmpv6Type => {
            out.push(op::SET_ICMP_TYPE, value as u16, protocol, [0; 8])
        }
        Field::Icmpv4Code | Field::Icmpv6Code => {
            out.push(op::SET_ICMP_CODE, value as u16, protocol, [0; 8])
        }
        Field::ArpOp => out.push(op::SET_ARP_OP, value as u16, 0, [0; 8]),
        Field::ArpSpa => out.push(op::SET_ARP_SPA, 0, 0, eight(&ipv4)),
        Field::ArpTpa => out.push(op::SET_ARP_TPA, 0, 0, eight(&ipv4)),
        Field::ArpSha => out.push(op::SET_ARP_SHA, 0, 0, eight(&mac(value))),
        Field::ArpTha => out.push(op::SET_ARP_THA, 0, 0, eight(&mac(value))),
        Field::Ipv6Flabel => out.push(op::SET_IPV6_FLABEL, 0, value as u32, [0; 8]),
        Field::Ipv6NdTarget => {
            out.push(op::SET_ND_TARGET, 0, protocol, eight(&ipv6[..8]))?;
            out.push(op::SET_ND_TARGET, 1, protocol, eight(&ipv6[8..]))
        }
        Field::Ipv6NdSll => out.push(op::SET_ND_SLL, 0, protocol, eight(&mac(value))),
        Field::Ipv6NdTll => out.push(op::SET_ND_TLL, 0, protocol, eight(&mac(value))),
        Field::MplsLabel => out.push(op::SET_MPLS_LABEL, 0, value as u32, [0; 8]),
        Field::MplsTc => out.push(op::SET_MPLS_TC, value as u16, 0, [0; 8]),
        Field::PbbIsid => out.push(op::SET_PBB_ISID, 0, value as u32, [0; 8]),
        Field::TunnelId => out.push(op::SET_TUNNEL_ID, 0, 0, (value as u64).to_be_bytes()),
        Field::SctpSrc => out.push(op::SET_SCTP_SRC, value as u16, 0, [0; 8]),
        Field::SctpDst => out.push(op::SET_SCTP_DST, value as u16, 0, [0; 8]),
        _ => Err(DatapathError::unsupported(
            format!("set-field {field:?}"),
            "the data path does not write this field",
        )),
    }
}

fn flags(apply: &[Op], write: &[Op], goes_on: bool) -> u8 {
    let mut flags = 0;
    let is_output = |a: &&Op| {
        let outputs = [op::OUTPUT, op::IN_PORT, op::ALL, op::FLOOD, op::GROUP];
        outputs.contains(&a.op)
    };
    let outputs = apply.iter().filter(is_output).count();
    let written = write.iter().find(is_output);
    let controller = apply.iter().chain(write).any(|a| a.op == op::CONTROLLER);
    if controller {
        flags |= RULE_TELLS;
    }
    // A group at the end is walked through, and its buckets say what they do.
    let walked = usize::from(!goes_on && apply.last().is_some_and(|a| a.op == op::GROUP));
    let copies = apply.iter().filter(|a| a.op == op::GROUP).count() - walked;
    if copies > 0 {
        flags |= RULE_COPIES;
    }
    if outputs > walked || written.is_some_and(|a| a.op != op::GROUP) {
        flags |= RULE_OUTPUTS;
    }
    // XDP has no queues. What a group does is seen when its buckets are.
    let queue = apply.iter().chain(write).any(|a| a.op == op::SET_QUEUE);
    let to_one = |a: &Op| a.op == op::OUTPUT || a.op == op::GROUP;
    let one_port_at_the_end = outputs == 0 || outputs == 1 && apply.last().is_some_and(to_one);
    let to_a_port = written.is_none_or(to_one);
    if !controller && !queue && one_port_at_the_end && to_a_port {
        flags |= RULE_XDP;
    }
    flags
}

#[cfg(test)]
mod tests {
    use lime_core::flow::FieldMatch;

    use super::*;

    fn exact(field: Field, value: u128) -> FieldMatch {
        FieldMatch {
            field,
            value,
            mask: field.full_mask(),
        }
    }

    fn rule(matching: Match, actions: Vec<Action>, goto_table: Option<u8>) -> Rule {
        Rule {
            table: 0,
            priority: 1,
            cookie: 0,
            matching,
            actions,
            goto_table,
            idle_timeout: 0,
            hard_timeout: 0,
            ..Rule::default()
        }
    }

    #[test]
    fn every_field_has_a_place_of_its_own_width() {
        for &field in Field::ALL {
            let mut mask = FlowKey::default();
            place(&mut mask, field, field.full_mask());
            let bits: u32 = mask.words().iter().map(|w| w.count_ones()).sum();
            assert_eq!(bits, field.bits(), "{field:?}");
        }
    }

    #[test]
    fn tcp_over_ipv4() {
        let m = Match::new([
            exact(Field::EthType, 0x800),
            exact(Field::IpProto, 6),
            exact(Field::TcpDst, 80),
            FieldMatch {
                field: Field::Ipv4Dst,
                value: 0x0a00_0000,
                mask: 0xff00_0000,
            },
            exact(Field::InPort, 7),
        ])
        .unwrap();
        let (key, mask) = compile_match(&m);
        assert_eq!((key.in_port, mask.in_port), (7, u32::MAX));
        assert_eq!((key.eth_type, key.ip_proto), ([8, 0], 6));
        assert_eq!((key.l4_dst, mask.l4_dst), ([0, 80], [255, 255]));
        assert_eq!(
            (key.ip_dst[0], &mask.ip_dst[..5]),
            (10, &[255, 0, 0, 0, 0][..])
        );
        assert_eq!(key, key.masked(&mask));
    }

    #[test]
    fn vlan_id_and_priority_share_the_tci() {
        let m = Match::new([exact(Field::VlanVid, 0x1005), exact(Field::VlanPcp, 3)]).unwrap();
        let (key, mask) = compile_match(&m);
        assert_eq!((key.vlan_tci, mask.vlan_tci), ([0x70, 0x05], [0xff, 0xff]));
        let untagged = Match::new([exact(Field::VlanVid, 0)]).unwrap();
        let (key, mask) = compile_match(&untagged);
        assert_eq!((key.vlan_tci, mask.vlan_tci), ([0, 0], [0x1f, 0xff]));
    }

    #[test]
    fn icmp_types_leave_the_high_byte_alone() {
        let m = Match::new([
            exact(Field::EthType, 0x86dd),
            exact(Field::IpProto, 58),
            exact(Field::Icmpv6Type, 135),
        ])
        .unwrap();
        let (key, mask) = compile_match(&m);
        assert_eq!((key.l4_src, mask.l4_src), ([0, 135], [0, 255]));
    }

    #[test]
    fn dscp_and_ecn_share_a_byte() {
        let m = Match::new([
            exact(Field::EthType, 0x800),
            exact(Field::IpDscp, 0x2e),
            exact(Field::IpEcn, 1),
        ])
        .unwrap();
        let (key, mask) = compile_match(&m);
        assert_eq!((key.ip_tos, mask.ip_tos), (0xb9, 0xff));
    }

    #[test]
    fn actions_and_their_flags() {
        let slot = |p: PortNo| Ok(p.0 + 100);
        let compile = |actions, goto| compile_actions(&rule(Match::any(), actions, goto), slot);
        let set = Action::SetField {
            field: Field::EthDst,
            value: 0x0102_0304_0506,
        };

        let c = compile(vec![set.clone(), Action::output(PortNo(2))], None).unwrap();
        assert_eq!((c.count, c.flags), (2, RULE_XDP | RULE_OUTPUTS));
        assert_eq!(c.actions[0].c, [1, 2, 3, 4, 5, 6, 0, 0]);
        assert_eq!((c.actions[1].op, c.actions[1].b), (op::OUTPUT, 102));

        let c = compile(vec![Action::output(PortNo(1)), set.clone()], None).unwrap();
        assert_eq!(
            (c.count, c.flags),
            (1, RULE_XDP | RULE_OUTPUTS),
            "what comes after the last output is left out"
        );
        let c = compile(vec![Action::output(PortNo(1)), set], Some(3)).unwrap();
        assert_eq!(
            (c.count, c.flags),
            (2, RULE_OUTPUTS),
            "but not before another table"
        );

        let flags = |actions, goto| compile(actions, goto).unwrap().flags;
        let tell = Action::output(PortNo::CONTROLLER);
        let both = vec![tell.clone(), Action::output(PortNo(1))];
        assert_eq!(flags(both.clone(), None), RULE_TELLS | RULE_OUTPUTS);
        assert_eq!(flags(both, Some(1)), RULE_TELLS | RULE_OUTPUTS);
        assert_eq!(flags(vec![tell.clone()], Some(1)), RULE_TELLS);
        assert_eq!(
            flags(vec![Action::output(PortNo::FLOOD)], None),
            RULE_OUTPUTS
        );
        // A group at the end is walked through.
        assert_eq!(flags(vec![Action::Group(1)], None), RULE_XDP);
        let copies = RULE_OUTPUTS | RULE_COPIES;
        assert_eq!(flags(vec![Action::Group(1)], Some(1)), RULE_XDP | copies);
        assert_eq!(
            flags(vec![Action::Group(1), tell], None),
            copies | RULE_TELLS
        );
        assert_eq!(compile(vec![], None).unwrap().flags, RULE_XDP);
    }

    #[test]
    fn too_many_actions_are_refused() {
        let many = vec![Action::output(PortNo(1)); MAX_ACTIONS + 1];
        let e = compile_actions(&rule(Match::any(), many, None), |p| Ok(p.0)).err();
        assert!(matches!(e, Some(DatapathError::NoSpace { limit: 16, .. })));
    }

    #[test]
    fn what_xdp_has_not_is_left_to_tc_and_what_nobody_has_is_refused() {
        let compile = |actions| compile_actions(&rule(Match::any(), actions, None), |p| Ok(p.0));
        let out = Action::output(PortNo(1));
        let c = compile(vec![Action::PushMpls(0x8847), out.clone()]).unwrap();
        assert_eq!((c.actions[0].op, c.actions[0].a), (op::PUSH_MPLS, 0x8847));
        assert_eq!(c.flags, RULE_XDP | RULE_OUTPUTS);
        let c = compile(vec![Action::SetQueue(5), out.clone()]).unwrap();
        assert_eq!((c.actions[0].op, c.actions[0].b), (op::SET_QUEUE, 5));
        assert_eq!(c.flags, RULE_OUTPUTS);
        let e = compile(vec![Action::SetQueue(MAX_QUEUE + 1), out]).err();
        assert!(matches!(e, Some(DatapathError::Invalid { .. })));
    }

    #[test]
    fn the_slots_of_a_set_are_in_the_order_of_the_standard() {
        let set = |field| Action::SetField { field, value: 0 };
        let actions = [
            Action::CopyTtlIn,
            Action::PopVlan,
            Action::PopMpls(0x0800),
            Action::PopPbb,
            Action::PushMpls(0x8847),
            Action::PushPbb(0x88e7),
            Action::PushVlan(0x8100),
            Action::CopyTtlOut,
            Action::DecMplsTtl,
            Action::DecNwTtl,
            set(Field::EthDst),
            set(Field::SctpDst),
            Action::SetQueue(1),
            Action::output(PortNo(1)),
        ];
        let kinds: Vec<_> = actions.iter().map(Action::set_kind).collect();
        assert!(kinds.is_sorted(), "{kinds:?}");
        let compiled = compile_actions(&rule(Match::any(), actions.to_vec(), Some(1)), |p| Ok(p.0));
        let compiled = compiled.unwrap();
        let slots = compiled.actions[..compiled.count as usize].iter();
        let slots: Vec<_> = slots.map(switch_abi::set_slot).collect();
        assert!(slots.is_sorted_by(|a, b| a < b), "{slots:?}");
    }

    #[test]
    fn packets_for_the_controller_say_whether_it_was_a_table_miss() {
        let mut miss = rule(Match::any(), vec![Action::output(PortNo::CONTROLLER)], None);
        let reason = |r: &Rule| compile_actions(r, |p| Ok(p.0)).unwrap().actions[0].b;
        assert_eq!(reason(&miss), EVENT_REASON_ACTION);
        miss.priority = 0;
        assert_eq!(reason(&miss), EVENT_REASON_NO_MATCH);
    }
}
