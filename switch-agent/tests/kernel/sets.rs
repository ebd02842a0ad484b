//! Action sets, metadata, TTLs, and the rarer set-fields.

use super::{actions::change, frames::*, world::*};
use switch_abi::*;

/// Write-actions only, then on at `goto`.
fn write(goto: u8) -> impl FnOnce(&mut RuleEntry) {
    move |r| (r.apply_count, r.goto_table, r.flags) = (0, goto, RULE_XDP)
}

fn in_table(table: u8, goto: u8, apply: u8) -> impl FnOnce(&mut RuleEntry) {
    move |r| (r.table, r.goto_table, r.apply_count) = (table, goto, apply)
}

#[test]
fn a_set_runs_at_the_end_in_its_own_order_and_later_writes_win() {
    let mut w = World::new();
    w.local(2, 2);
    w.local(3, 2);
    let vid = |vid| act(op::SET_VLAN_VID, vid, 0, &[]);
    let push = act(op::PUSH_VLAN, 0x8100, 0, &[]);
    // Written in an order that could not be run.
    w.rule_with(1, any(), any(), &[output(2), vid(7), push], write(1));
    let later = [
        act(op::SET_IPV4_DST, 0, 0, &[9, 9, 9, 9]),
        vid(8),
        output(3),
    ];
    w.rule_with(1, any(), any(), &later, in_table(1, NO_TABLE, 1));
    w.commit();
    let outcome = w.run(Mode::Xdp, &udp4(b"set"));
    outcome.expect(Verdict::Redirect, &["rx 1", "rule 1", "rule 2", "tx 3"]);
    assert_eq!(outcome.frame[12..18], [0x81, 0, 0, 8, 8, 0]);
    assert_eq!(outcome.frame[34..38], [9, 9, 9, 9]);
    assert_checksums(&outcome.frame, false);
    let outcome = w.run(Mode::Tc, &udp4(b"set"));
    outcome.expect(Verdict::Redirect, &["rx 1", "rule 1", "rule 2", "tx 3"]);
}

#[test]
fn a_set_that_is_cleared_or_has_no_output_does_nothing() {
    let mut w = World::new();
    w.local(2, 2);
    w.local(3, 2);
    w.rule_with(1, any(), any(), &[output(2)], write(1));
    w.rule_with(
        2,
        key(|k| k.ip_proto = 255),
        key(|k| k.ip_proto = 17),
        &[],
        |r| {
            (r.table, r.flags) = (1, RULE_XDP | RULE_CLEAR_ACTIONS);
        },
    );
    let dst = act(op::SET_ETH_DST, 0, 0, &[1, 2, 3, 4, 5, 6]);
    w.rule_with(1, any(), any(), &[output(3), dst], |r| {
        (r.table, r.apply_count) = (1, 1);
        r.flags = RULE_XDP | RULE_CLEAR_ACTIONS;
    });
    w.commit();
    for mode in BOTH {
        let dropped = w.run(mode, &udp4(b"x"));
        dropped.expect(Verdict::Drop, &["rx 1", "rule 1", "rule 2", "rule-drop 1"]);
        let sent = w.run(mode, &tcp4(b"x"));
        sent.expect(Verdict::Redirect, &["rx 1", "rule 1", "rule 3", "tx 3"]);
        assert_eq!(sent.frame, tcp4(b"x"));
    }
}

#[test]
fn metadata_and_what_actions_set_in_the_key_are_matched_in_later_tables() {
    let mut w = World::new();
    w.local(2, 2);
    let tunnel = act(op::SET_TUNNEL_ID, 0, 0, &5u64.to_be_bytes());
    w.rule_with(1, any(), any(), &[tunnel], |r| {
        (r.metadata, r.metadata_mask, r.goto_table) = (0x1234, 0xffff, 1);
    });
    w.rule_with(1, any(), any(), &[], |r| {
        (r.metadata, r.metadata_mask) = (0xff00, 0xf000);
        (r.table, r.goto_table) = (1, 2);
    });
    let mask = key(|k| (k.metadata, k.tunnel_id) = (u64::MAX, u64::MAX));
    let value = key(|k| (k.metadata, k.tunnel_id) = (0xf234, 5));
    w.rule_with(1, mask, value, &[output(2)], in_table(2, NO_TABLE, 1));
    w.commit();
    for mode in BOTH {
        let outcome = w.run(mode, &udp4(b"x"));
        outcome.expect(
            Verdict::Redirect,
            &["rx 1", "rule 1", "rule 2", "rule 3", "tx 2"],
        );
    }
}

#[test]
fn ttls_count_down_and_run_out() {
    let mut w = World::new();
    let dec = act(op::DEC_NW_TTL, 0, 0, &[]);
    let out = change(&mut w, &[dec], &udp4(b"x"));
    assert_eq!(out[22], 62);
    assert_checksums(&out, false);
    let out = change(&mut w, &[dec], &udp6(b"x"));
    assert_eq!(out[21], 62);
    assert_checksums(&out, false);
    let out = change(&mut w, &[act(op::SET_NW_TTL, 9, 0, &[])], &tcp4(b"x"));
    assert_eq!(out[22], 9);
    assert_checksums(&out, false);
    let label = ethernet(0x8847, &[&[0, 1, 0x11, 64][..], &[0; 40]].concat());
    let mpls = [
        act(op::SET_MPLS_LABEL, 0, 0xabcde, &[]),
        act(op::SET_MPLS_TC, 5, 0, &[]),
        act(op::DEC_MPLS_TTL, 0, 0, &[]),
    ];
    assert_eq!(
        change(&mut w, &mpls, &label)[14..18],
        [0xab, 0xcd, 0xeb, 63]
    );
    for set in [1, 0] {
        w.reset();
        w.local(2, 2);
        let actions = [act(op::SET_NW_TTL, set, 0, &[]), dec, output(2)];
        w.rule(1, any(), any(), &actions);
        w.commit();
        for mode in BOTH {
            w.run(mode, &udp4(b"x"))
                .expect(Verdict::Drop, &["rx 1", "rule 1", "invalid-ttl 1"]);
        }
    }
}

#[test]
fn rarer_fields_are_set_with_right_checksums() {
    let mut w = World::new();
    let arp_set = [
        act(op::SET_ARP_OP, 2, 0, &[]),
        act(op::SET_ARP_SHA, 0, 0, &[1, 2, 3, 4, 5, 6]),
        act(op::SET_ARP_SPA, 0, 0, &[7, 8, 9, 10]),
        act(op::SET_ARP_THA, 0, 0, &[6, 5, 4, 3, 2, 1]),
        act(op::SET_ARP_TPA, 0, 0, &[4, 3, 2, 1]),
    ];
    let expected = [
        &arp()[..20],
        &[
            0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 6, 5, 4, 3, 2, 1, 4, 3, 2, 1,
        ],
    ]
    .concat();
    assert_eq!(change(&mut w, &arp_set, &arp()), expected);

    let solicitation = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &V6_DST, &[1, 1], &MAC_A].concat();
    let frame = with_checksum(ethernet(0x86dd, &ipv6(58, &solicitation)));
    let set = [
        act(op::SET_ND_TARGET, 0, 0, &[1, 2, 3, 4, 5, 6, 7, 8]),
        act(op::SET_ND_TARGET, 1, 0, &[9, 10, 11, 12, 13, 14, 15, 16]),
        act(op::SET_ND_SLL, 0, 0, &[6, 5, 4, 3, 2, 1]),
        act(op::SET_IPV6_FLABEL, 0, 0xedcba, &[]),
        act(op::SET_IP_ECN, 1, 0, &[]),
    ];
    let out = change(&mut w, &set, &frame);
    assert_checksums(&out, false);
    assert_eq!(out[14..18], [0x6a, 0x9e, 0xdc, 0xba]);
    assert_eq!(
        out[62..78],
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
    );
    assert_eq!(out[80..86], [6, 5, 4, 3, 2, 1]);

    let ping = with_checksum(ethernet(0x86dd, &ipv6(58, &icmpv6(b"ping"))));
    let set = [
        act(op::SET_ICMP_TYPE, 129, 0, &[]),
        act(op::SET_ICMP_CODE, 3, 0, &[]),
    ];
    let out = change(&mut w, &set, &ping);
    assert_checksums(&out, false);
    assert_eq!(out[54..56], [129, 3]);
}
