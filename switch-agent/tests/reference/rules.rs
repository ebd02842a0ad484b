//! Random rules: every field, with masks where there are any, and every action that the data path has.

use super::groups::GROUPS;
use lime_core::PortNo;
use lime_core::flow::{Action, Field, FieldMatch, Match, MetadataWrite, Rule, exthdr, sort_set};

use super::packets::{
    DSCPS, ETH_TYPES, FLOW_LABELS, ICMP_TYPES, IPV4, IPV6, LABELS, MACS, PORTS, SERVICES, TTLS,
    VIDS,
};
use super::random::Random;

const TABLES: [u8; 5] = [0, 1, 2, 5, 31];
const METADATA: [u64; 4] = [0, 1, 0xff00_00ff_ff00_00ff, u64::MAX];

pub fn rule(random: &mut Random, table: u8, priority: u16, matching: Match) -> Rule {
    let later: Vec<u8> = TABLES.iter().copied().filter(|&t| t > table).collect();
    let goto_table = (!later.is_empty() && random.chance(if table == 0 { 55 } else { 35 }))
        .then(|| later[random.below(later.len().min(2))]);
    let mut rule = Rule {
        table,
        priority,
        cookie: random.next(),
        matching,
        goto_table,
        clear_actions: random.chance(8),
        ..Rule::default()
    };
    for _ in 0..random.pick(&[0, 1, 1, 2, 2, 3, 4, 6]) {
        // Those that do not fit the match are left out.
        rule.actions.push(action(random, &rule.matching));
        if rule.check().is_err() {
            rule.actions.pop();
        }
    }
    if random.chance(if goto_table.is_some() { 55 } else { 25 }) {
        for _ in 0..random.pick(&[1, 2, 3, 5]) {
            let before = rule.write_actions.clone();
            rule.write_actions.push(action(random, &rule.matching));
            sort_set(&mut rule.write_actions);
            if rule.check().is_err() {
                rule.write_actions = before;
            }
        }
    }
    if rule.goto_table.is_some() && random.chance(45) {
        rule.write_metadata = Some(metadata(random));
    }
    rule
}

/// Rules of tables 0, 1, 2 and 5 of higher priority than any other. The first is for one port, the last match metadata and tunnel id.
pub fn metadata_chain(random: &mut Random) -> Vec<Rule> {
    let mut chain: Vec<Rule> = (0..3)
        .map(|i| {
            let matching = match i {
                0 => Match::new([field_match(random, Field::InPort)]).expect("it needs nothing"),
                _ => Match::any(),
            };
            let mut rule = rule(random, i as u8, 101, matching);
            rule.goto_table = Some(TABLES[i + 1]);
            rule.write_metadata = Some(metadata(random));
            rule.actions.truncate(2);
            rule.actions.push(Action::SetField {
                field: Field::TunnelId,
                value: value(random, Field::TunnelId),
            });
            rule
        })
        .collect();
    for priority in 102..105 {
        let field = random.pick(&[Field::Metadata, Field::Metadata, Field::TunnelId]);
        let matching = Match::new([field_match(random, field)]).expect("it needs nothing");
        chain.push(rule(random, TABLES[3], priority, matching));
    }
    chain
}

fn metadata(random: &mut Random) -> MetadataWrite {
    let mask = random.pick(&[u64::MAX, 1, 0xff00, 0xffff_0000_ffff_0000]);
    MetadataWrite {
        value: random.pick(&METADATA) & mask,
        mask,
    }
}

/// Any action.
pub fn action(random: &mut Random, matching: &Match) -> Action {
    match random.below(100) {
        0..34 => output(random),
        34..40 => Action::Group(random.pick(&GROUPS)),
        40..46 => Action::PopVlan,
        46..52 => Action::PushVlan(random.pick(&[0x8100, 0x88a8])),
        52..56 => Action::DecNwTtl,
        56 | 57 => Action::SetNwTtl(random.pick(&TTLS)),
        58 | 59 => Action::DecMplsTtl,
        60 => Action::SetMplsTtl(random.pick(&TTLS)),
        61 => Action::CopyTtlIn,
        62 => Action::CopyTtlOut,
        63 => Action::PushMpls(random.pick(&[0x8847, 0x8848])),
        64 | 65 => Action::PopMpls(random.pick(&[0x0800, 0x0800, 0x86dd, 0x8847, 0x88b5, 0x8100])),
        66 => Action::PushPbb(0x88e7),
        67 => Action::PopPbb,
        68 | 69 => Action::SetQueue(random.below(3) as u32),
        _ => set_field(random, matching),
    }
}

pub fn output(random: &mut Random) -> Action {
    let port = match random.below(20) {
        0 => PortNo::ALL,
        1 => PortNo::FLOOD,
        2 => PortNo::IN_PORT,
        3 | 4 => PortNo::CONTROLLER,
        // Of these, 9 does not exist.
        _ => PortNo(random.pick(&[1, 2, 3, 4, 5, 5, 6, 7, 9])),
    };
    Action::Output {
        port,
        max_len: random.pick(&[0, 13, 14, 16, 17, 60, 128, 0xffff]),
    }
}

/// Of a field that packets of the match have, mostly; where they have not, the rule is refused.
fn set_field(random: &mut Random, matching: &Match) -> Action {
    use Field::*;
    let mut fields = vec![EthDst, EthSrc, VlanVid, VlanPcp, TunnelId];
    match matching.exact(EthType) {
        Some(0x0800) => fields.extend([IpDscp, IpEcn, Ipv4Src, Ipv4Dst]),
        Some(0x86dd) => fields.extend([IpDscp, IpEcn, Ipv6Src, Ipv6Dst, Ipv6Flabel]),
        Some(0x0806) => fields.extend([ArpOp, ArpSpa, ArpTpa, ArpSha, ArpTha]),
        _ => fields.extend([MplsLabel, MplsTc, PbbIsid]),
    }
    match matching.exact(IpProto) {
        Some(6) => fields.extend([TcpSrc, TcpDst, TcpDst]),
        Some(17) => fields.extend([UdpSrc, UdpDst, UdpDst]),
        Some(132) => fields.extend([SctpSrc, SctpDst, SctpDst]),
        Some(1) => fields.extend([Icmpv4Type, Icmpv4Code]),
        Some(58) => match matching.exact(Icmpv6Type) {
            Some(135) => fields.extend([Ipv6NdTarget, Ipv6NdSll, Ipv6NdSll, Ipv6NdSll, Icmpv6Code]),
            Some(136) => fields.extend([Ipv6NdTarget, Ipv6NdTll, Ipv6NdTll, Ipv6NdTll, Icmpv6Code]),
            _ => fields.extend([Icmpv6Type, Icmpv6Code]),
        },
        _ => {}
    }
    let field = random.pick(&fields);
    let value = if field == VlanVid {
        random.pick(&VIDS).into()
    } else {
        value(random, field)
    };
    Action::SetField { field, value }
}

fn value(random: &mut Random, field: Field) -> u128 {
    match field {
        Field::InPort | Field::InPhyPort => 1 + random.below(6) as u128,
        Field::Metadata | Field::TunnelId => random.pick(&METADATA).into(),
        Field::EthDst
        | Field::EthSrc
        | Field::ArpSha
        | Field::ArpTha
        | Field::Ipv6NdSll
        | Field::Ipv6NdTll => random.pick(&MACS).into(),
        Field::EthType => random.pick(&ETH_TYPES).into(),
        Field::VlanVid => (0x1000 | random.pick(&VIDS)).into(),
        Field::VlanPcp | Field::MplsTc => random.below(8) as u128,
        Field::IpDscp => random.pick(&DSCPS).into(),
        Field::IpEcn => random.below(4) as u128,
        Field::IpProto => random.pick(&[6, 17, 1, 58, 132, 44, 60, 0, 50, 59]),
        Field::Ipv4Src | Field::Ipv4Dst | Field::ArpSpa | Field::ArpTpa => {
            random.pick(&IPV4).into()
        }
        Field::TcpSrc
        | Field::TcpDst
        | Field::UdpSrc
        | Field::UdpDst
        | Field::SctpSrc
        | Field::SctpDst => random.pick(&PORTS).into(),
        Field::Icmpv4Type | Field::Icmpv6Type => random.pick(&ICMP_TYPES).into(),
        Field::Icmpv4Code | Field::Icmpv6Code | Field::MplsBos => random.below(2) as u128,
        Field::ArpOp => 1 + random.below(2) as u128,
        Field::Ipv6Src | Field::Ipv6Dst | Field::Ipv6NdTarget => random.pick(&IPV6),
        Field::Ipv6Flabel => random.pick(&FLOW_LABELS).into(),
        Field::MplsLabel => random.pick(&LABELS).into(),
        Field::PbbIsid => random.pick(&SERVICES).into(),
        Field::Ipv6Exthdr => random
            .pick(&[
                0,
                exthdr::NO_NEXT,
                exthdr::ESP,
                exthdr::HOP,
                exthdr::HOP | exthdr::UNSEQ,
                exthdr::FRAG | exthdr::DEST,
                exthdr::UNREP | exthdr::ROUTER,
                exthdr::AUTH | exthdr::UNSEQ,
            ])
            .into(),
    }
}

/// What packets a match is about, before its fields are chosen: what is given exactly, and what may be given too.
type Kind = (&'static [(Field, u128)], &'static [Field]);

const KINDS: &[Kind] = {
    use Field::*;
    &[
        (&[], &[]),
        (
            &[(EthType, 0x0806)],
            &[ArpOp, ArpSpa, ArpTpa, ArpSha, ArpTha],
        ),
        (&[(EthType, 0x8847)], &[MplsLabel, MplsTc, MplsBos]),
        (&[(EthType, 0x8848)], &[MplsLabel, MplsTc]),
        (&[(EthType, 0x88e7)], &[PbbIsid]),
        (
            &[(EthType, 0x0800)],
            &[IpDscp, IpEcn, IpProto, Ipv4Src, Ipv4Dst],
        ),
        (
            &[(EthType, 0x86dd)],
            &[IpDscp, IpEcn, IpProto, Ipv6Src, Ipv6Dst],
        ),
        (&[(EthType, 0x86dd)], &[Ipv6Flabel, Ipv6Exthdr, Ipv6Exthdr]),
        (
            &[(EthType, 0x0800), (IpProto, 6)],
            &[IpDscp, Ipv4Src, TcpSrc, TcpDst],
        ),
        (
            &[(EthType, 0x86dd), (IpProto, 6)],
            &[Ipv6Dst, Ipv6Exthdr, TcpSrc, TcpDst],
        ),
        (
            &[(EthType, 0x0800), (IpProto, 17)],
            &[Ipv4Src, UdpSrc, UdpDst],
        ),
        (
            &[(EthType, 0x86dd), (IpProto, 17)],
            &[IpEcn, Ipv6Dst, UdpSrc, UdpDst],
        ),
        (&[(EthType, 0x0800), (IpProto, 132)], &[SctpSrc, SctpDst]),
        (&[(EthType, 0x86dd), (IpProto, 132)], &[SctpSrc, SctpDst]),
        (
            &[(EthType, 0x0800), (IpProto, 1)],
            &[Icmpv4Type, Icmpv4Code],
        ),
        (
            &[(EthType, 0x86dd), (IpProto, 58)],
            &[Icmpv6Type, Icmpv6Code],
        ),
        (
            &[(EthType, 0x86dd), (IpProto, 58), (Icmpv6Type, 135)],
            &[Icmpv6Code, Ipv6NdTarget, Ipv6NdSll],
        ),
        (
            &[(EthType, 0x86dd), (IpProto, 58), (Icmpv6Type, 136)],
            &[Icmpv6Code, Ipv6NdTarget, Ipv6NdTll],
        ),
    ]
};

pub fn matching(random: &mut Random, table: u8) -> Match {
    let mut fields = vec![];
    for (field, percent) in [
        (Field::InPort, 15),
        (Field::EthDst, 20),
        (Field::EthSrc, 15),
        (Field::Metadata, if table > 0 { 30 } else { 1 }),
        (Field::TunnelId, if table > 0 { 8 } else { 1 }),
    ] {
        if random.chance(percent) {
            fields.push(field_match(random, field));
        }
    }
    if fields.first().is_some_and(|f| f.field == Field::InPort) && random.chance(20) {
        fields.push(field_match(random, Field::InPhyPort));
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
    if random.chance(5) {
        fields.push(field_match(random, Field::EthType));
    } else {
        let (given, more) = random.pick(KINDS);
        for &(field, value) in given {
            let mask = field.full_mask();
            fields.push(FieldMatch { field, value, mask });
        }
        for (i, &field) in more.iter().enumerate() {
            if random.chance(30) && !more[..i].contains(&field) {
                fields.push(field_match(random, field));
            }
        }
    }
    Match::new(fields).expect("prerequisites are there")
}

/// A match on some of the fields that a packet has, and on what those need.
pub fn matching_about(random: &mut Random, table: u8, packet: &[u8]) -> Match {
    let headers = lime_reference::parse(packet, None).expect("it has an Ethernet header");
    let there: Vec<Field> = Field::ALL
        .iter()
        .copied()
        .filter(|&f| headers.has(f) && f != Field::EthType && f != Field::IpProto)
        .collect();
    let mut chosen = vec![];
    for _ in 0..random.pick(&[0, 1, 1, 2, 3]) {
        chosen.push(random.pick(&there));
    }
    let mut fields: Vec<FieldMatch> = vec![];
    let mut add = |field: Field, mask| {
        fields.retain(|f| f.field != field);
        let value = headers.get(field) & mask;
        fields.push(FieldMatch { field, value, mask });
    };
    for &field in &chosen {
        add(field, mask(random, field));
    }
    // Prerequisites; at times more than are needed.
    let deep = chosen.iter().any(|f| *f > Field::VlanPcp) || random.chance(50);
    for field in [
        Field::EthType,
        Field::IpProto,
        Field::Icmpv6Type,
        Field::VlanVid,
    ] {
        let needed = match field {
            Field::VlanVid => chosen.contains(&Field::VlanPcp),
            Field::Icmpv6Type => chosen.iter().any(|f| {
                use Field::*;
                matches!(f, Ipv6NdTarget | Ipv6NdSll | Ipv6NdTll)
            }),
            _ => deep,
        };
        if needed && headers.has(field) {
            add(field, field.full_mask());
        }
    }
    if table > 0 && random.chance(30) {
        fields.push(field_match(random, Field::Metadata));
    }
    Match::new(fields).expect("prerequisites are there")
}

fn field_match(random: &mut Random, field: Field) -> FieldMatch {
    let mask = mask(random, field);
    FieldMatch {
        field,
        value: value(random, field) & mask,
        mask,
    }
}

fn mask(random: &mut Random, field: Field) -> u128 {
    let full = field.full_mask();
    let bits = field.bits() as usize;
    if field == Field::Ipv6Exthdr && random.chance(70) {
        1 << random.below(bits) | 1 << random.below(bits)
    } else if !field.maskable() || field == Field::VlanVid || random.chance(50) {
        full
    } else {
        match random.below(4) {
            // A prefix, a suffix, a few bits, all but a few.
            0 => full << (bits / 3 + random.below(bits / 2)) & full,
            1 => full >> (bits / 4),
            2 => 1 << random.below(bits) | 1,
            _ => full & !(1 << random.below(bits)),
        }
    }
}
