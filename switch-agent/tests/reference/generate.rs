//! Random scenarios: rules that overlap and hit.

use lime_core::flow::{Action, Field, FieldMatch, Match, Rule};
use lime_core::{Epoch, PortNo, RuleId};
use lime_reference::{Installed, Place};

use super::packets::{self, DSCPS, ETH_TYPES, IPV4, IPV6, MACS, PORTS, VIDS};
use super::random::Random;
use super::scenario::{LOCAL, Packet, SWITCHES, Scenario, ports, switch_of};

/// Packets of one scenario.
pub const PACKETS: usize = 100;
const TABLES: [u8; 5] = [0, 1, 2, 5, 31];

pub fn scenario(seed: u64) -> Scenario {
    let mut random = Random::new(seed);
    let mut ports = ports();
    for port in &mut ports {
        port.down = random.chance(6);
        port.no_flood = random.chance(15);
        if port.place == Place::Local && random.chance(10) {
            port.mtu = random.pick(&[40, 68, 100]);
        }
    }
    let staged = 2 + random.below(7) as u32;
    let mut scenario = Scenario {
        ports,
        staged,
        ..Scenario::default()
    };
    for i in 0..4 + random.below(40) {
        add_rule(&mut random, &mut scenario, i as u64 + 1);
    }
    for _ in 0..PACKETS {
        scenario.packets.push(Packet {
            port: random.pick(&LOCAL),
            clock: 1 + random.below(staged as usize) as u32,
            bytes: packets::packet(&mut random),
        });
    }
    scenario.packets.sort_by_key(|p| p.clock);
    scenario
}

fn add_rule(random: &mut Random, scenario: &mut Scenario, id: u64) {
    let switch = random.pick(&[SWITCHES[0], SWITCHES[0], SWITCHES[1]]);
    let table = random.pick(&[0, 0, 0, 1, 1, 2, 5, 31]);
    // Which of two rules of one priority wins is nobody's promise, so that none have the same.
    let mut priority = random.below(50) as u16;
    let taken = |p: u16| {
        scenario
            .rules
            .iter()
            .any(|r| r.switch == switch && r.rule.table == table && r.rule.priority == p)
    };
    while taken(priority) {
        priority += 1;
    }
    let matching = if random.chance(12) {
        Match::any()
    } else {
        matching(random)
    };
    let rule = rule(random, table, priority, matching);
    // Most are there from the start; some end, and have a successor from the same epoch on.
    let epochs: Vec<u32> = (1..=scenario.staged)
        .filter(|&e| switch_of(e) == switch)
        .collect();
    let first = if random.chance(60) {
        0
    } else {
        random.below(epochs.len())
    };
    let last = (random.chance(40) && first + 1 < epochs.len())
        .then(|| Epoch(epochs[first + 1 + random.below(epochs.len() - first - 1)]));
    if let Some(from) = last.filter(|_| random.chance(60)) {
        let successor = self::rule(random, table, priority, rule.matching.clone());
        scenario.rules.push(Installed {
            id: RuleId(id + 1000),
            switch,
            rule: successor,
            from,
            to: None,
        });
    }
    scenario.rules.push(Installed {
        id: RuleId(id),
        switch,
        rule,
        from: Epoch(epochs[first]),
        to: last,
    });
}

fn rule(random: &mut Random, table: u8, priority: u16, matching: Match) -> Rule {
    let later: Vec<u8> = TABLES.iter().copied().filter(|&t| t > table).collect();
    let goto_table =
        (!later.is_empty() && random.chance(45)).then(|| later[random.below(later.len().min(2))]);
    let mut rule = Rule {
        table,
        priority,
        cookie: random.next(),
        matching,
        actions: vec![],
        goto_table,
        ..Rule::default()
    };
    for _ in 0..random.pick(&[0, 1, 1, 2, 2, 3, 4, 6]) {
        // Those that do not fit the match are left out.
        rule.actions.push(action(random, &rule.matching));
        if rule.check().is_err() {
            rule.actions.pop();
        }
    }
    rule
}

fn action(random: &mut Random, matching: &Match) -> Action {
    if random.chance(45) {
        let port = match random.below(20) {
            0 => PortNo::ALL,
            1 => PortNo::FLOOD,
            2 => PortNo::IN_PORT,
            3 | 4 => PortNo::CONTROLLER,
            // Of these, 9 does not exist.
            _ => PortNo(random.pick(&[1, 2, 3, 4, 5, 5, 6, 7, 9])),
        };
        return Action::Output {
            port,
            max_len: random.pick(&[0, 13, 14, 16, 17, 60, 128, 0xffff]),
        };
    }
    if random.chance(20) {
        return if random.chance(50) {
            Action::PopVlan
        } else {
            Action::PushVlan(random.pick(&[0x8100, 0x88a8]))
        };
    }
    let mut fields = vec![Field::EthDst, Field::EthSrc, Field::VlanVid, Field::VlanPcp];
    let settable = |f: &Field| f.settable();
    match matching.exact(Field::EthType) {
        Some(0x0800) => fields.extend([Field::IpDscp, Field::Ipv4Src, Field::Ipv4Dst]),
        Some(0x86dd) => fields.extend([Field::IpDscp, Field::Ipv6Src, Field::Ipv6Dst]),
        _ => {}
    }
    match matching.exact(Field::IpProto) {
        Some(6) => fields.extend([Field::TcpSrc, Field::TcpDst, Field::TcpDst]),
        Some(17) => fields.extend([Field::UdpSrc, Field::UdpDst, Field::UdpDst]),
        _ => {}
    }
    fields.retain(settable);
    let field = random.pick(&fields);
    let value = if field == Field::VlanVid {
        random.pick(&VIDS).into()
    } else {
        value(random, field)
    };
    Action::SetField { field, value }
}

fn value(random: &mut Random, field: Field) -> u128 {
    match field {
        Field::InPort => 1 + random.below(6) as u128,
        Field::EthDst | Field::EthSrc => random.pick(&MACS).into(),
        Field::EthType => random.pick(&ETH_TYPES).into(),
        Field::VlanVid => (0x1000 | random.pick(&VIDS)).into(),
        Field::VlanPcp => random.below(8) as u128,
        Field::IpDscp => random.pick(&DSCPS).into(),
        Field::IpEcn => random.below(4) as u128,
        Field::IpProto => random.pick(&[6, 17, 1, 58, 132, 44, 60, 0]),
        Field::Ipv4Src | Field::Ipv4Dst | Field::ArpSpa | Field::ArpTpa => {
            random.pick(&IPV4).into()
        }
        Field::TcpSrc | Field::TcpDst | Field::UdpSrc | Field::UdpDst => random.pick(&PORTS).into(),
        Field::Icmpv4Type | Field::Icmpv6Type => random.pick(&[0, 3, 8, 128, 135]),
        Field::Icmpv4Code | Field::Icmpv6Code => random.below(2) as u128,
        Field::ArpOp => 1 + random.below(2) as u128,
        Field::Ipv6Src | Field::Ipv6Dst => random.pick(&IPV6),
        other => unreachable!("{other:?} is not among those that matches and actions are made of"),
    }
}

fn matching(random: &mut Random) -> Match {
    let mut fields = vec![];
    for (field, percent) in [
        (Field::InPort, 15),
        (Field::EthDst, 20),
        (Field::EthSrc, 15),
    ] {
        if random.chance(percent) {
            fields.push(field_match(random, field));
        }
    }
    if random.chance(30) {
        // Untagged, any tag, or one.
        let tag = match random.below(4) {
            0 => FieldMatch {
                field: Field::VlanVid,
                value: 0,
                mask: 0x1fff,
            },
            1 => FieldMatch {
                field: Field::VlanVid,
                value: 0x1000,
                mask: 0x1000,
            },
            _ => field_match(random, Field::VlanVid),
        };
        if tag.value & 0x1000 != 0 && random.chance(30) {
            fields.push(field_match(random, Field::VlanPcp));
        }
        fields.push(tag);
    }
    let mut exact = |field, value| {
        fields.push(FieldMatch {
            field,
            value,
            mask: field.full_mask(),
        })
    };
    let more: &[Field] = match random.below(12) {
        0 | 1 => &[],
        2 => {
            exact(Field::EthType, random.pick(&ETH_TYPES).into());
            &[]
        }
        3 => {
            exact(Field::EthType, 0x0806);
            &[Field::ArpOp, Field::ArpSpa, Field::ArpTpa]
        }
        n => {
            let v4 = n < 8;
            exact(Field::EthType, if v4 { 0x0800 } else { 0x86dd });
            match random.below(5) {
                0 if v4 => &[
                    Field::IpDscp,
                    Field::IpEcn,
                    Field::IpProto,
                    Field::Ipv4Src,
                    Field::Ipv4Dst,
                ],
                0 => &[
                    Field::IpDscp,
                    Field::IpEcn,
                    Field::IpProto,
                    Field::Ipv6Src,
                    Field::Ipv6Dst,
                ],
                1 | 2 => {
                    exact(Field::IpProto, 6);
                    if v4 {
                        &[Field::IpDscp, Field::Ipv4Src, Field::TcpSrc, Field::TcpDst]
                    } else {
                        &[Field::Ipv6Dst, Field::TcpSrc, Field::TcpDst]
                    }
                }
                3 => {
                    exact(Field::IpProto, 17);
                    if v4 {
                        &[Field::Ipv4Src, Field::UdpSrc, Field::UdpDst]
                    } else {
                        &[Field::IpEcn, Field::Ipv6Dst, Field::UdpSrc, Field::UdpDst]
                    }
                }
                _ if v4 => {
                    exact(Field::IpProto, 1);
                    &[Field::Icmpv4Type, Field::Icmpv4Code]
                }
                _ => {
                    exact(Field::IpProto, 58);
                    &[Field::Icmpv6Type, Field::Icmpv6Code]
                }
            }
        }
    };
    for &field in more {
        if random.chance(30) {
            fields.push(field_match(random, field));
        }
    }
    Match::new(fields).expect("prerequisites are there")
}

fn field_match(random: &mut Random, field: Field) -> FieldMatch {
    let full = field.full_mask();
    let mask = if !field.maskable() || field == Field::VlanVid || random.chance(50) {
        full
    } else {
        match random.below(4) {
            // A prefix, a suffix, a few bits, all but a few.
            0 => full << (field.bits() / 3 + random.below(field.bits() as usize / 2) as u32) & full,
            1 => full >> (field.bits() / 4),
            2 => 1 << random.below(field.bits() as usize) | 1,
            _ => full & !(1 << random.below(field.bits() as usize)),
        }
    };
    FieldMatch {
        field,
        value: value(random, field) & mask,
        mask,
    }
}
