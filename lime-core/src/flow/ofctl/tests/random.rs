//! Random rules and texts: what is printed reads back, and nothing panics.

use proptest::prelude::*;

use super::super::*;
use crate::PortNo;
use crate::flow::{
    Action, Field, FieldMatch, MAX_LEN_ALL, METER_MAX, Match, MetadataWrite, Rule, RuleFlags,
    TABLES, sort_set,
};

fn value_of(field: Field) -> impl Strategy<Value = FieldMatch> {
    (any::<u128>(), any::<u128>(), 0..3u8).prop_map(move |(value, mask, kind)| {
        let full = field.full_mask();
        let mask = match kind {
            _ if !field.maskable() => full,
            0 => full,
            1 => {
                let length = (mask % 129) as u32;
                full & !full.checked_shr(length).unwrap_or(0)
            }
            _ => mask & full,
        };
        let value = value & mask;
        FieldMatch { field, value, mask }
    })
}

/// A match that holds its prerequisites: protocol first, then fields that go with it.
fn matches() -> impl Strategy<Value = Match> {
    let protocols = prop::sample::select(vec![
        (None, None),
        (Some(0x88cc), None),
        (Some(0x0806), None),
        (Some(0x8847), None),
        (Some(0x88e7), None),
        (Some(0x0800), None),
        (Some(0x86dd), None),
        (Some(0x0800), Some(1)),
        (Some(0x0800), Some(6)),
        (Some(0x0800), Some(17)),
        (Some(0x0800), Some(47)),
        (Some(0x0800), Some(132)),
        (Some(0x86dd), Some(6)),
        (Some(0x86dd), Some(17)),
        (Some(0x86dd), Some(58)),
        (Some(0x86dd), Some(89)),
    ]);
    let values: Vec<_> = Field::ALL.iter().map(|&f| value_of(f)).collect();
    let wanted = prop::collection::vec(any::<bool>(), Field::ALL.len());
    (protocols, values, wanted).prop_map(|((eth_type, proto), values, wanted)| {
        let exact = |field: Field, value| FieldMatch {
            field,
            value,
            mask: field.full_mask(),
        };
        let mut fields: Vec<_> = eth_type
            .map(|v| exact(Field::EthType, v))
            .into_iter()
            .chain(proto.map(|v| exact(Field::IpProto, v)))
            .collect();
        for (value, wanted) in values.into_iter().zip(wanted) {
            let taken = matches!(value.field, Field::EthType | Field::IpProto);
            if taken || !wanted {
                continue;
            }
            fields.push(value);
            if Match::new(fields.iter().copied()).is_err() {
                fields.pop();
            }
        }
        Match::new(fields).unwrap()
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    let port = prop_oneof![
        1..100u32,
        Just(PortNo::MAX.0),
        Just(PortNo::IN_PORT.0),
        Just(PortNo::FLOOD.0),
        Just(PortNo::ALL.0),
        Just(PortNo::LOCAL.0),
        Just(PortNo::CONTROLLER.0),
    ];
    let settable: Vec<_> = Field::ALL
        .iter()
        .copied()
        .filter(|f| f.settable())
        .collect();
    prop_oneof![
        (port, any::<u16>()).prop_map(|(port, max_len)| {
            let port = PortNo(port);
            let max_len = match port {
                PortNo::CONTROLLER => max_len,
                _ => MAX_LEN_ALL,
            };
            Action::Output { port, max_len }
        }),
        (prop::sample::select(settable), any::<u128>()).prop_map(|(field, value)| {
            let value = value & field.full_mask();
            Action::SetField { field, value }
        }),
        prop::sample::select(vec![0x8100, 0x88a8]).prop_map(Action::PushVlan),
        Just(Action::PopVlan),
        any::<u32>().prop_map(|id| Action::Group(id % 0xffff_ff00)),
        any::<u8>().prop_map(Action::SetNwTtl),
        any::<u8>().prop_map(Action::SetMplsTtl),
        prop::sample::select(vec![
            Action::DecNwTtl,
            Action::DecMplsTtl,
            Action::CopyTtlIn,
            Action::CopyTtlOut,
            Action::PushMpls(0x8847),
            Action::PushMpls(0x8848),
            Action::PopMpls(0x0800),
            Action::PopMpls(0x8847),
            Action::PushPbb(0x88e7),
            Action::PopPbb,
        ]),
        any::<u32>().prop_map(Action::SetQueue),
    ]
}

prop_compose! {
    fn rules()(
        table in 0..TABLES,
        priority in any::<u16>(),
        cookie in any::<u64>(),
        matching in matches(),
        actions in prop::collection::vec(any_action(), 0..8),
        goto in prop::option::of(1..TABLES),
        idle_timeout in any::<u16>(),
        hard_timeout in any::<u16>(),
        set in prop::collection::vec(any_action(), 0..6),
        metadata in prop::option::of(any::<(u64, u64)>()),
        bits in any::<(bool, bool, bool, bool)>(),
        meter in prop::option::of(1..=METER_MAX),
    ) -> Rule {
        let mut rule = Rule {
            table, priority, cookie, matching, meter, actions: Vec::new(),
            goto_table: goto.filter(|g| *g > table), idle_timeout, hard_timeout,
            ..Rule::default()
        };
        for action in actions {
            rule.actions.push(action);
            if rule.check().is_err() {
                rule.actions.pop();
            }
        }
        for action in set {
            let before = rule.write_actions.clone();
            rule.write_actions.push(action);
            sort_set(&mut rule.write_actions);
            if rule.check().is_err() {
                rule.write_actions = before;
            }
        }
        rule.write_metadata = metadata.filter(|(_, mask)| *mask != 0).map(|(value, mask)| {
            MetadataWrite { value: value & mask, mask }
        });
        rule.clear_actions = bits.0;
        rule.flags = RuleFlags {
            send_flow_removed: bits.1,
            no_packet_counts: bits.2,
            no_byte_counts: bits.3,
        };
        rule
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn invariant_what_is_printed_reads_back(rule in rules()) {
        let text = format_rule(&rule);
        let read = parse_rule(&text);
        prop_assert_eq!(read.as_ref(), Ok(&rule), "{}", text);
    }

    #[test]
    fn invariant_no_text_panics(text in "[a-z0-9_=,:./()>é \\-]{0,60}") {
        let _ = parse_mod(&text);
        let _ = parse_actions(&text);
    }

    #[test]
    fn invariant_no_list_of_known_words_panics(
        words in prop::collection::vec(prop::sample::select(vec![
            "ip", "tcp", "arp", "nw_src", "tp_dst", "vlan_tci", "dl_vlan", "icmp_type", "=", "=", ",", "/", ":", "(", ")", "->",
            "0", "1", "0x", "65535", "10.0.0.1", "fd00::1", "actions", "action", "set_field", "controller", "resubmit", "output",
            "delete", " ", "cookie", "table", "priority", "*",
        ]), 0..20)
    ) {
        let text: String = words.concat();
        let _ = parse_mod(&text);
        let _ = parse_filter(&text, true);
        let _ = parse_actions(&text);
    }
}
