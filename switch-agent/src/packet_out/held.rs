//! Outputs that wait until the coordinator has the event of the same packet (consistency rule 5).

use std::collections::{BTreeMap, HashMap};

use lime_core::flow::{Action, Field, MAX_LEN_ALL};
use lime_core::{NetworkId, PortNo, SwitchId};
use switch_abi::op;

use crate::packet::Layout;

/// A packet whose outputs wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its network.
    pub network: NetworkId,
    /// The switch that processed it.
    pub switch: SwitchId,
    /// Where it came in.
    pub in_port: PortNo,
    /// The packet.
    pub packet: Vec<u8>,
    /// What is still to be done with it.
    pub actions: Vec<Action>,
}

/// The held packets, by id. Bounded: when there are too many, the oldest are given up.
#[derive(Debug)]
pub struct HeldPackets {
    limit: usize,
    next: u64,
    packets: BTreeMap<u64, Held>,
    given_up: u64,
}

impl HeldPackets {
    /// Holds at most `limit` packets.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            next: 1,
            packets: BTreeMap::new(),
            given_up: 0,
        }
    }

    /// Keeps a packet and gives its id, never 0.
    pub fn hold(&mut self, held: Held) -> u64 {
        let id = self.next;
        self.next += 1;
        self.packets.insert(id, held);
        while self.packets.len() > self.limit {
            self.packets.pop_first();
            self.given_up += 1;
        }
        id
    }

    /// Takes a packet out; `None`: released already, or given up.
    pub fn release(&mut self, id: u64) -> Option<Held> {
        self.packets.remove(&id)
    }

    /// Gives up all packets of a network, or all: their coordinator has gone.
    pub fn clear(&mut self, network: Option<NetworkId>) {
        let before = self.packets.len();
        self.packets
            .retain(|_, h| network.is_some_and(|n| h.network != n));
        self.given_up += (before - self.packets.len()) as u64;
    }

    /// Packets that were given up so far.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

/// How many bytes of a held packet the controller gets.
pub fn controller_len(compiled: &[switch_abi::Action]) -> u16 {
    let controller = compiled.iter().find(|a| a.op == op::CONTROLLER);
    controller.map_or(MAX_LEN_ALL, |a| a.a)
}

/// What a rule's compiled actions still have to do for a held packet. The kernel's program has applied what changes the packet before the
/// controller action, has left out all outputs, and has stopped there: so outputs of the first part are made with the packet as
/// the controller sees it, and the rest is still to be run.
/// `ports` gives the numbers of port slots; an output to a slot without one does nothing.
pub fn remaining(
    compiled: &[switch_abi::Action],
    packet: &[u8],
    ports: &HashMap<u32, PortNo>,
) -> Vec<Action> {
    let tcp = Layout::parse(packet)
        .and_then(|l| l.network)
        .is_some_and(|n| n.proto == 6);
    let icmp6 = Layout::parse(packet)
        .and_then(|l| l.network)
        .is_some_and(|n| n.proto == 58);
    // Of which protocol a field is the action says, or (0) the packet.
    let is = |protocol: u32, named: u32, found: bool| named == protocol || named == 0 && found;
    let l4 = |tcp_field, udp_field, named| {
        if is(6, named, tcp) {
            tcp_field
        } else {
            udp_field
        }
    };
    let icmp = |v4_field, v6_field, named| {
        if is(58, named, icmp6) {
            v6_field
        } else {
            v4_field
        }
    };
    let set = |field: Field, value: u128| Action::SetField { field, value };
    let mut actions = Vec::with_capacity(compiled.len());
    let mut told = false;
    // The upper halves of IPv6 addresses come first, in an action of their own.
    let mut upper = 0u64;
    for action in compiled {
        let c = u64::from_be_bytes(action.c);
        let half = |upper: &mut u64, field| {
            if action.a == 0 {
                *upper = c;
                None
            } else {
                Some(set(field, u128::from(*upper) << 64 | u128::from(c)))
            }
        };
        let done = match action.op {
            op::END => break,
            op::OUTPUT => ports.get(&action.b).map(|&port| Action::output(port)),
            op::IN_PORT => Some(Action::output(PortNo::IN_PORT)),
            op::ALL => Some(Action::output(PortNo::ALL)),
            op::FLOOD => Some(Action::output(PortNo::FLOOD)),
            op::GROUP => Some(Action::Group(action.b)),
            op::SET_ETH_DST => Some(set(Field::EthDst, u128::from(c >> 16))),
            op::SET_ETH_SRC => Some(set(Field::EthSrc, u128::from(c >> 16))),
            op::PUSH_VLAN => Some(Action::PushVlan(action.a)),
            op::POP_VLAN => Some(Action::PopVlan),
            op::SET_VLAN_VID => Some(set(Field::VlanVid, action.a.into())),
            op::SET_VLAN_PCP => Some(set(Field::VlanPcp, action.a.into())),
            op::SET_IPV4_SRC => Some(set(Field::Ipv4Src, u128::from(c >> 32))),
            op::SET_IPV4_DST => Some(set(Field::Ipv4Dst, u128::from(c >> 32))),
            op::SET_IPV6_SRC => half(&mut upper, Field::Ipv6Src),
            op::SET_IPV6_DST => half(&mut upper, Field::Ipv6Dst),
            op::SET_L4_SRC => Some(set(
                l4(Field::TcpSrc, Field::UdpSrc, action.b),
                action.a.into(),
            )),
            op::SET_L4_DST => Some(set(
                l4(Field::TcpDst, Field::UdpDst, action.b),
                action.a.into(),
            )),
            op::SET_IP_DSCP => Some(set(Field::IpDscp, action.a.into())),
            op::SET_IP_ECN => Some(set(Field::IpEcn, action.a.into())),
            op::SET_ICMP_TYPE => Some(set(
                icmp(Field::Icmpv4Type, Field::Icmpv6Type, action.b),
                action.a.into(),
            )),
            op::SET_ICMP_CODE => Some(set(
                icmp(Field::Icmpv4Code, Field::Icmpv6Code, action.b),
                action.a.into(),
            )),
            op::SET_ARP_OP => Some(set(Field::ArpOp, action.a.into())),
            op::SET_ARP_SPA => Some(set(Field::ArpSpa, u128::from(c >> 32))),
            op::SET_ARP_TPA => Some(set(Field::ArpTpa, u128::from(c >> 32))),
            op::SET_ARP_SHA => Some(set(Field::ArpSha, u128::from(c >> 16))),
            op::SET_ARP_THA => Some(set(Field::ArpTha, u128::from(c >> 16))),
            op::SET_IPV6_FLABEL => Some(set(Field::Ipv6Flabel, action.b.into())),
            op::SET_ND_TARGET => half(&mut upper, Field::Ipv6NdTarget),
            op::SET_ND_SLL => Some(set(Field::Ipv6NdSll, u128::from(c >> 16))),
            op::SET_ND_TLL => Some(set(Field::Ipv6NdTll, u128::from(c >> 16))),
            op::SET_MPLS_LABEL => Some(set(Field::MplsLabel, action.b.into())),
            op::SET_MPLS_TC => Some(set(Field::MplsTc, action.a.into())),
            op::SET_PBB_ISID => Some(set(Field::PbbIsid, action.b.into())),
            op::SET_NW_TTL => Some(Action::SetNwTtl(action.a as u8)),
            op::DEC_NW_TTL => Some(Action::DecNwTtl),
            op::SET_MPLS_TTL => Some(Action::SetMplsTtl(action.a as u8)),
            op::DEC_MPLS_TTL => Some(Action::DecMplsTtl),
            op::SET_SCTP_SRC => Some(set(Field::SctpSrc, action.a.into())),
            op::SET_SCTP_DST => Some(set(Field::SctpDst, action.a.into())),
            op::COPY_TTL_IN => Some(Action::CopyTtlIn),
            op::COPY_TTL_OUT => Some(Action::CopyTtlOut),
            op::PUSH_MPLS => Some(Action::PushMpls(action.a)),
            op::POP_MPLS => Some(Action::PopMpls(action.a)),
            op::PUSH_PBB => Some(Action::PushPbb(action.a)),
            op::POP_PBB => Some(Action::PopPbb),
            op::SET_QUEUE => Some(Action::SetQueue(action.b)),
            // The controller has it already.
            op::CONTROLLER => {
                told = true;
                None
            }
            _ => None,
        };
        actions
            .extend(done.filter(|a| told || matches!(a, Action::Output { .. } | Action::Group(_))));
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
        Held {
            network: NetworkId(1),
            switch: SwitchId(1),
            in_port: PortNo(1),
            packet: vec![0; 14],
            actions: vec![],
        }
    }

    #[test]
    fn a_packet_is_released_once_and_the_oldest_are_given_up() {
        let mut packets = HeldPackets::new(2);
        let ids: Vec<u64> = (0..3).map(|_| packets.hold(held())).collect();
        assert_eq!(packets.release(ids[0]), None);
        assert_eq!(packets.given_up(), 1);
        assert!(packets.release(ids[1]).is_some());
        assert!(packets.release(ids[1]).is_none());
        packets.clear(Some(NetworkId(2)));
        assert!(packets.release(ids[2]).is_some());
    }

    #[test]
    fn every_operation_that_changes_packets_comes_back() {
        let sctp = {
            let mut packet = vec![0; 12];
            packet.extend([8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 132]);
            packet.resize(14 + 32, 0);
            packet
        };
        let changes = [
            (op::COPY_TTL_IN, 0, 0, Action::CopyTtlIn),
            (op::COPY_TTL_OUT, 0, 0, Action::CopyTtlOut),
            (op::PUSH_MPLS, 0x8848, 0, Action::PushMpls(0x8848)),
            (op::POP_MPLS, 0x0800, 0, Action::PopMpls(0x0800)),
            (op::PUSH_PBB, 0x88e7, 0, Action::PushPbb(0x88e7)),
            (op::POP_PBB, 0, 0, Action::PopPbb),
            (op::SET_QUEUE, 0, 70_000, Action::SetQueue(70_000)),
            (
                op::SET_SCTP_SRC,
                7,
                0,
                Action::SetField {
                    field: Field::SctpSrc,
                    value: 7,
                },
            ),
            (
                op::SET_SCTP_DST,
                9,
                0,
                Action::SetField {
                    field: Field::SctpDst,
                    value: 9,
                },
            ),
        ];
        let controller = switch_abi::Action {
            op: op::CONTROLLER,
            ..Default::default()
        };
        let mut compiled = vec![controller];
        compiled.extend(changes.iter().map(|&(op, a, b, _)| switch_abi::Action {
            op,
            a,
            b,
            ..Default::default()
        }));
        let expected: Vec<Action> = changes.into_iter().map(|c| c.3).collect();
        assert_eq!(remaining(&compiled, &sctp, &HashMap::new()), expected);
    }

    #[test]
    fn compiled_actions_come_back_without_the_controller() {
        let act = |op, a, b, c| switch_abi::Action {
            op,
            pad: 0,
            a,
            b,
            c,
        };
        let compiled = [
            // The tag was pushed before the controller got the packet, and the output was left out.
            act(op::PUSH_VLAN, 0x8100, 0, [0; 8]),
            act(op::IN_PORT, 0, 0, [0; 8]),
            act(op::CONTROLLER, 128, 0, [0; 8]),
            act(op::SET_IPV6_DST, 0, 0, [0xfd, 0, 0, 0, 0, 0, 0, 0]),
            act(op::SET_IPV6_DST, 1, 0, [0, 0, 0, 0, 0, 0, 0, 9]),
            act(op::SET_ETH_DST, 0, 0, [2, 0, 0, 0, 0, 7, 0, 0]),
            act(op::OUTPUT, 0, 5, [0; 8]),
            act(op::OUTPUT, 0, 6, [0; 8]),
            act(op::END, 0, 0, [0; 8]),
            act(op::ALL, 0, 0, [0; 8]),
        ];
        let ports = HashMap::from([(5, PortNo(2))]);
        assert_eq!(controller_len(&compiled), 128);
        assert_eq!(
            remaining(&compiled, &[0; 14], &ports),
            [
                Action::output(PortNo::IN_PORT),
                Action::SetField {
                    field: Field::Ipv6Dst,
                    value: 0xfd << 120 | 9
                },
                Action::SetField {
                    field: Field::EthDst,
                    value: 0x0200_0000_0007
                },
                Action::output(PortNo(2)),
            ]
        );
    }
}
