//! Round trips, and what is refused.

use lime_core::flow::{
    Action, AddFlags, Field, FieldMatch, FlowMod, Match, MetadataWrite, Modify, PacketIn,
    PacketInReason, PacketOut, Rule, RuleFilter, RuleFlags,
};
use lime_core::model::PacketIns;
use lime_core::{Consistency, PortAttach, PortNo};

use super::*;
use crate::v1;

fn field(field: Field, value: u128) -> FieldMatch {
    FieldMatch {
        field,
        value,
        mask: field.full_mask(),
    }
}

fn rule() -> Rule {
    Rule {
        table: 1,
        priority: 100,
        cookie: u64::MAX,
        matching: Match::new([
            field(Field::InPort, 7),
            field(Field::EthType, 0x86dd),
            field(Field::VlanVid, 0x1005),
            field(Field::IpProto, 6),
            FieldMatch {
                field: Field::Ipv6Src,
                value: 0xfd00 << 112,
                mask: 0xffff << 112,
            },
            field(Field::TcpDst, 80),
        ])
        .unwrap(),
        meter: Some(7),
        actions: vec![
            Action::SetField {
                field: Field::Ipv6Dst,
                value: 1,
            },
            Action::PopVlan,
            Action::PushVlan(0x88a8),
            Action::Output {
                port: PortNo::CONTROLLER,
                max_len: 128,
            },
            Action::output(PortNo(2)),
            Action::Group(9),
        ],
        goto_table: Some(3),
        idle_timeout: 10,
        hard_timeout: 0xffff,
        ..Rule::default()
    }
}

fn refused(wire: v1::Rule) -> String {
    Rule::try_from(wire).unwrap_err().to_string()
}

#[test]
fn rule_round_trip() {
    let rule = rule();
    assert_eq!(Rule::try_from(v1::Rule::from(&rule)).unwrap(), rule);
}

#[test]
fn every_field_round_trips() {
    for &f in Field::ALL {
        for value in [0, 1, f.full_mask()] {
            let m = field(f, value);
            let wire = v1::FieldMatch::from(&m);
            assert_eq!(wire.value.len(), f.bytes());
            assert_eq!(FieldMatch::try_from(wire).unwrap(), m);
        }
    }
}

#[test]
fn everything_a_rule_does_round_trips() {
    let mut whole = Rule {
        matching: Match::new([field(Field::EthType, 0x8847), field(Field::Metadata, 5)]).unwrap(),
        actions: vec![
            Action::SetMplsTtl(255),
            Action::DecMplsTtl,
            Action::CopyTtlIn,
            Action::CopyTtlOut,
            Action::PopMpls(0x0800),
            Action::SetNwTtl(1),
            Action::DecNwTtl,
            Action::PushMpls(0x8848),
            Action::PushPbb(0x88e7),
            Action::PopPbb,
            Action::SetQueue(u32::MAX),
        ],
        clear_actions: true,
        write_actions: vec![
            Action::PopVlan,
            Action::DecMplsTtl,
            Action::output(PortNo(1)),
        ],
        write_metadata: Some(MetadataWrite {
            value: 1 << 63,
            mask: u64::MAX << 63,
        }),
        flags: RuleFlags {
            send_flow_removed: true,
            no_packet_counts: false,
            no_byte_counts: true,
        },
        ..Rule::default()
    };
    assert_eq!(Rule::try_from(v1::Rule::from(&whole)).unwrap(), whole);
    // A set has an order of its own, whatever it comes in.
    let sorted = whole.clone();
    whole.write_actions.reverse();
    assert_eq!(Rule::try_from(v1::Rule::from(&whole)).unwrap(), sorted);

    let mut wire = v1::Rule::from(&sorted);
    wire.write_metadata = Some(v1::WriteMetadata { value: 2, mask: 1 });
    assert!(refused(wire).contains("write_metadata"));
    let mut wire = v1::Rule::from(&sorted);
    wire.write_actions = vec![v1::Action::from(&Action::PopVlan); 2];
    assert!(refused(wire).contains("twice"));
    wire = v1::Rule::from(&sorted);
    wire.write_actions = vec![v1::Action::from(&Action::PopVlan); 1_000];
    assert!(refused(wire).contains("write_actions"));
    wire = v1::Rule::from(&sorted);
    wire.actions = vec![v1::Action {
        action: Some(v1::action::Action::SetNwTtl(v1::action::SetTtl {
            ttl: 256,
        })),
    }];
    assert!(refused(wire).contains("set_nw_ttl.ttl"));
    // Popping what the packets may not have.
    wire = v1::Rule::from(&sorted);
    wire.r#match.clear();
    assert!(refused(wire).contains("mpls"));
}

#[test]
fn flow_mods_round_trip() {
    let filter = RuleFilter {
        cookie: 3,
        cookie_mask: 0xff,
        matching: rule().matching,
        priority: 5,
        ..RuleFilter::all()
    };
    let flags = |check_overlap, reset_counts| AddFlags {
        check_overlap,
        reset_counts,
    };
    let modify = |strict| {
        FlowMod::Modify(Modify {
            rule: rule(),
            cookie_mask: 7,
            strict,
            reset_counts: strict,
        })
    };
    for m in [
        FlowMod::AddWith(rule(), flags(true, false)),
        FlowMod::AddWith(rule(), flags(false, true)),
        modify(false),
        modify(true),
        FlowMod::Delete(RuleFilter {
            out_port: Some(PortNo(0)),
            out_group: Some(0),
            ..filter.clone()
        }),
        FlowMod::Add(rule()),
        FlowMod::Delete(filter.clone()),
        FlowMod::DeleteStrict(filter),
    ] {
        assert_eq!(FlowMod::try_from(v1::FlowMod::from(&m)).unwrap(), m);
    }
}

#[test]
fn what_a_switch_sends_has_defaults_and_bounds() {
    let wire = |rate, burst| v1::PacketIns {
        rate,
        burst,
        invalid_ttl: true,
    };
    let all = PacketIns::try_from(wire(0, 0)).unwrap();
    let default = PacketIns::default();
    assert_eq!((all.rate, all.burst), (default.rate, default.burst));
    assert!(all.invalid_ttl && !default.invalid_ttl);
    let some = PacketIns::try_from(wire(1000, 10_000)).unwrap();
    assert_eq!(v1::PacketIns::from(some), wire(1000, 10_000));
    for (wrong, field) in [
        (wire(999, 0), "packet_ins.rate"),
        (wire(0, 1 << 30), "packet_ins.burst"),
    ] {
        let error = PacketIns::try_from(wrong).unwrap_err();
        assert_eq!(error.field, field);
    }
}

#[test]
fn packets_and_enums_round_trip() {
    let packet = PacketOut {
        in_port: PortNo::CONTROLLER,
        actions: vec![Action::output(PortNo::TABLE)],
        data: vec![0; 60],
    };
    assert_eq!(
        PacketOut::try_from(v1::PacketOut::from(packet.clone())).unwrap(),
        packet
    );

    let packet = PacketIn {
        reason: PacketInReason::Action,
        table: 3,
        cookie: 4,
        in_port: PortNo(5),
        total_len: 1500,
        data: vec![1; 64],
    };
    assert_eq!(
        PacketIn::try_from(v1::PacketIn::from(packet.clone())).unwrap(),
        packet
    );

    for c in [Consistency::Causal, Consistency::Strict, Consistency::None] {
        let wire: i32 = v1::Consistency::from(c).into();
        assert_eq!(
            enum_from_wire::<v1::Consistency, Consistency>("c", wire),
            Ok(c)
        );
    }
    for a in [PortAttach::Auto, PortAttach::Xdp, PortAttach::Tc] {
        let wire: i32 = v1::PortAttach::from(a).into();
        assert_eq!(
            enum_from_wire::<v1::PortAttach, PortAttach>("a", wire),
            Ok(a)
        );
    }
    let bad = enum_from_wire::<v1::PortAttach, PortAttach>("attach", 9).unwrap_err();
    assert_eq!(bad.to_string(), "attach: 9 is none of its values");
}

#[test]
fn errors_name_the_field() {
    let good = || v1::Rule::from(&rule());

    let mut wire = good();
    wire.priority = 65_536;
    assert_eq!(refused(wire), "priority: 65536 is too large: at most 65535");

    let mut wire = good();
    wire.r#match[1].value.push(0);
    assert_eq!(
        refused(wire),
        "match[1].value: has 3 bytes, and the field 2"
    );

    let mut wire = good();
    wire.r#match[0].field = 99;
    assert_eq!(
        refused(wire),
        "match[0].field: no match field has OXM number 99"
    );

    let mut wire = good();
    wire.actions[1].action = None;
    assert_eq!(refused(wire), "actions[1].action: is missing");

    let mut wire = good();
    wire.actions = vec![v1::Action::from(&Action::PopVlan); 1_000];
    assert_eq!(refused(wire), "actions: has 1000 elements: at most 16");

    let mut wire = good();
    wire.table = 40;
    assert_eq!(
        refused(wire),
        "rule: table 40 does not exist: tables are 0 to 31"
    );

    let wire = v1::FlowMod {
        rule: None,
        ..Default::default()
    };
    let error = FlowMod::try_from(wire).unwrap_err();
    assert_eq!(
        error.within("mods[2]").to_string(),
        "mods[2].rule: is missing"
    );
}

#[test]
fn many_ipv6_writes_are_too_many_actions() {
    let set = Action::SetField {
        field: Field::Ipv6Dst,
        value: 1,
    };
    let mut wire = v1::Rule::from(&rule());
    wire.actions = vec![v1::Action::from(&set); 9];
    assert!(refused(wire).contains("18 actions"));
}

#[test]
fn max_len_of_an_ordinary_port_means_nothing() {
    let mut wire = v1::Action::from(&Action::output(PortNo(3)));
    if let Some(v1::action::Action::Output(out)) = &mut wire.action {
        out.max_len = u32::MAX;
    }
    assert_eq!(Action::try_from(wire).unwrap(), Action::output(PortNo(3)));
}
