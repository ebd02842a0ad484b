//! Priorities, versions, tables, links.

use super::{frames::*, world::*};
use switch_abi::*;

#[test]
fn the_highest_priority_wins_whatever_its_mask() {
    let mut w = World::new();
    w.local(2, 2);
    w.local(3, 3);
    let low = w.rule(1, any(), any(), &[output(2)]);
    let proto = key(|k| k.ip_proto = 0xff);
    let high = w.rule(100, proto, key(|k| k.ip_proto = 17), &[output(3)]);
    let port = key(|k| k.l4_dst = [0xff; 2]);
    w.rule(50, port, key(|k| k.l4_dst = [0, 53]), &[output(2)]);
    w.commit();
    for mode in BOTH {
        w.run(mode, &udp4(b"x")).expect(
            Verdict::Redirect,
            &["rx 1", "tx 3", &format!("rule {high}")],
        );
        w.run(mode, &tcp4(b"x"))
            .expect(Verdict::Redirect, &["rx 1", "tx 2", &format!("rule {low}")]);
    }
}

#[test]
fn a_rule_is_visible_from_its_first_epoch_until_before_its_last() {
    let mut w = World::new();
    w.local(2, 2);
    w.local(3, 3);
    w.local(4, 4);
    w.rule_with(9, any(), any(), &[output(2)], |r| r.valid_to = 11);
    w.rule_with(9, any(), any(), &[output(3)], |r| {
        (r.valid_from, r.valid_to) = (11, 13)
    });
    w.rule_with(1, any(), any(), &[output(4)], |r| r.valid_from = 12);
    w.commit();
    for mode in BOTH {
        for (clock, rule, port) in [(10, 1, 2), (11, 2, 3), (12, 2, 3), (13, 3, 4), (14, 3, 4)] {
            let mut network: NetworkEntry = w.get(maps::NETWORKS, 1);
            network.clock = clock;
            w.network(1, network);
            w.run(mode, &udp4(b"x")).expect(
                Verdict::Redirect,
                &["rx 1", &format!("tx {port}"), &format!("rule {rule}")],
            );
        }
    }
}

#[test]
fn goto_goes_on_with_the_changed_key() {
    let mut w = World::new();
    w.local(2, 2);
    let set = act(op::SET_IPV4_DST, 0, 0, &[10, 9, 9, 9]);
    w.rule_with(1, any(), any(), &[set], |r| r.goto_table = 7);
    let mask = key(|k| k.ip_dst = [0xff; 16]);
    let changed = key(|k| k.ip_dst[..4].copy_from_slice(&[10, 9, 9, 9]));
    w.rule_with(1, mask, changed, &[output(2)], |r| r.table = 7);
    w.commit();
    for mode in BOTH {
        let outcome = w.run(mode, &udp4(b"x"));
        outcome.expect(Verdict::Redirect, &["rx 1", "tx 2", "rule 1", "rule 2"]);
        assert_eq!(outcome.frame[30..34], [10, 9, 9, 9]);
        assert_checksums(&outcome.frame, false);
    }
}

#[test]
fn a_full_chain_and_all_tuples_are_searched() {
    let mut w = World::new();
    w.local(2, 2);
    // One mask per bit of the source address, each with a key that does not match, and the matching rule last.
    for bit in 0..MAX_TUPLES - 1 {
        let mask = key(|k| {
            k.ip_src[(bit / 8) as usize] = 1 << (bit % 8);
            k.l4_dst = [0xff; 2];
        });
        w.rule(100 - bit as u16, mask, key(|k| k.l4_dst = [9, 9]), &[]);
    }
    let last = w.rule(1, any(), any(), &[output(2)]);
    w.commit();
    for mode in BOTH {
        w.run(mode, &udp4(b"x")).expect(
            Verdict::Redirect,
            &["rx 1", "tx 2", &format!("rule {last}")],
        );
    }
}

#[test]
fn a_link_leads_into_the_next_switch_in_the_same_run() {
    let mut w = World::new();
    w.link();
    w.rule(
        1,
        any(),
        any(),
        &[act(op::SET_ETH_SRC, 0, 0, &[2, 2, 2, 2, 2, 2]), output(4)],
    );
    let mask = key(|k| (k.in_port, k.eth_src) = (u32::MAX, [0xff; 6]));
    let arrives = key(|k| (k.in_port, k.eth_src) = (33, [2; 6]));
    w.rule_with(1, mask, arrives, &[output(6)], |r| r.switch_slot = 2);
    w.commit();
    for mode in BOTH {
        w.run(mode, &udp4(b"x")).expect(
            Verdict::Redirect,
            &["rx 1", "rule 1", "tx 4", "rx 5", "rule 2", "tx 6"],
        );
    }
}

#[test]
fn a_loop_of_links_ends() {
    let mut w = World::new();
    w.instance(2, 6);
    for (slot, switch, link) in [(4, 1, 5), (5, 2, 4), (6, 2, 7), (7, 1, 6)] {
        w.port(
            slot,
            PortEntry {
                id: 100 + slot,
                port_no: 10 + slot,
                switch_slot: switch,
                kind: PORT_LINK,
                link,
                ..port()
            },
        );
    }
    w.rule(1, any(), any(), &[output(4)]);
    w.rule_with(1, any(), any(), &[output(6)], |r| r.switch_slot = 2);
    w.commit();
    for mode in BOTH {
        let outcome = w.run(mode, &udp4(b"x"));
        assert_eq!(outcome.verdict, Verdict::Drop);
        let drops: u64 = outcome
            .moved
            .iter()
            .filter(|(n, _)| n.starts_with("hop-limit"))
            .map(|(_, c)| c)
            .sum();
        assert_eq!(drops, 1, "{outcome:?}");
    }
}
