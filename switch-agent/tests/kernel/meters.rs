//! Meters: rates, bands, what is charged and what stands.
//!
//! Time is what the tests set it to: costs are so long that none of it passes while a test runs.

use super::{frames::*, world::*};
use switch_abi::*;

/// Time units of one packet, or of one byte, at the rates of these tests: 1000 s.
const COST: u64 = 1_000_000_000_000 << METER_TIME_SHIFT;

/// A band that lets `burst` packets pass at once: by how much it raises the drop precedence (0: it drops), and the burst.
type Band = (u8, u64);

/// Adds a meter as the agent writes it; the slots of its head and of its bands, which are in order of falling rates.
fn meter(w: &mut World, id: u32, flags: u64, bands: &[Band]) -> Vec<u32> {
    meter_with(w, id, flags, COST, bands)
}

fn meter_with(w: &mut World, id: u32, flags: u64, cost: u64, bands: &[Band]) -> Vec<u32> {
    let mut actions = vec![];
    let mut remarks = 0;
    for (i, &(levels, burst)) in bands.iter().enumerate() {
        remarks |= if levels == 0 { 0 } else { METER_REMARKS };
        actions.push(Action {
            pad: levels,
            ..act(op::BAND, 0, i as u32, &cost.to_ne_bytes())
        });
        let tolerance = (burst - 1) * cost;
        actions.push(act(op::BURST, 0, 0, &tolerance.to_ne_bytes()));
    }
    let mut slots = vec![part(w, id, METER_HEAD, &actions, |r| {
        r.metadata = flags | remarks
    })];
    for i in 0..bands.len() {
        slots.push(part(w, id, METER_BAND + i as u16, &[], |_| {}));
    }
    slots
}

fn part(
    w: &mut World,
    id: u32,
    number: u16,
    actions: &[Action],
    change: impl FnOnce(&mut RuleEntry),
) -> u32 {
    let at = |word| {
        let mut words = [0; KEY_WORDS];
        words[0] = word;
        FlowKey::from_words(words)
    };
    let (mask, key) = (at(PART_MASK), at(part_word(id, number)));
    w.rule_with(0, mask, key, actions, |r| {
        r.table = METER_TABLE;
        change(r);
    })
}

fn metered(id: u32) -> impl Fn(&mut RuleEntry) {
    move |r| r.meter = id
}

fn in_table(table: u8, goto: u8) -> impl Fn(&mut RuleEntry) {
    move |r| (r.table, r.goto_table) = (table, goto)
}

/// The clock that programs read, in a meter's units.
fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    (time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64) << METER_TIME_SHIFT
}

/// Sets how far a band is ahead of the clock.
fn set_ahead(w: &mut World, head: u32, band: usize, ahead: u64) {
    let mut entry: RuleEntry = w.get(maps::RULES, head);
    entry.times[band] = now() + ahead;
    w.store(maps::RULES, head, entry);
}

fn time(w: &World, head: u32, band: usize) -> u64 {
    w.get::<RuleEntry>(maps::RULES, head).times[band]
}

fn slot(name: &str, slot: u32) -> String {
    format!("{name} {slot}")
}

fn two_ports() -> World {
    let mut w = World::new();
    w.local(2, 2);
    w.local(3, 3);
    w
}

#[test]
fn a_burst_passes_and_what_comes_behind_it_is_dropped_and_not_charged() {
    for mode in BOTH {
        let mut w = two_ports();
        let rule = w.rule_with(1, any(), any(), &[output(2)], metered(7));
        let slots = meter(&mut w, 7, METER_PACKETS, &[(0, 3)]);
        w.commit();
        let (rule, head, band) = (
            slot("rule", rule),
            slot("rule", slots[0]),
            slot("rule", slots[1]),
        );
        let began = now();
        for _ in 0..3 {
            let moved = ["rx 1", &rule, &head, "tx 2"];
            w.run(mode, &udp4(b"x")).expect(Verdict::Redirect, &moved);
        }
        for _ in 0..2 {
            let moved = ["rx 1", &rule, &head, &band, "metered 1"];
            w.run(mode, &udp4(b"x")).expect(Verdict::Drop, &moved);
        }
        let ended = now();
        let time = time(&w, slots[0], 0) - 3 * COST;
        assert!((began..=ended).contains(&time), "{began} {time} {ended}");
        // As if three of them were over.
        set_ahead(&mut w, slots[0], 0, 0);
        assert_eq!(w.run(mode, &udp4(b"x")).verdict, Verdict::Redirect);
        // As if another measured in the far future, which nobody does: from before the time wrapped.
        set_ahead(&mut w, slots[0], 0, 1 << 60);
        assert_eq!(w.run(mode, &udp4(b"x")).verdict, Verdict::Redirect);
    }
}

/// XDP sees that outputs wait (consistency rule 5) when it is through with the tables, and leaves the packet to TC.
#[test]
fn a_packet_whose_outputs_wait_is_charged_once() {
    let mut w = two_ports();
    let switch = SwitchEntry {
        flags: SWITCH_HOLD,
        ..w.get(maps::SWITCHES, 1)
    };
    w.switch(1, switch);
    let tell = act(op::CONTROLLER, 60, EVENT_REASON_ACTION, &[]);
    let actions = [tell, output(2)];
    let rule = slot("rule", w.rule_with(1, any(), any(), &actions, metered(7)));
    let slots = meter(&mut w, 7, METER_PACKETS, &[(0, 2)]);
    w.commit();
    let (head, band) = (slot("rule", slots[0]), slot("rule", slots[1]));
    let kinds = |w: &mut World| -> Vec<u16> { w.events().iter().map(|(h, _)| h.kind).collect() };
    for _ in 0..2 {
        w.run(Mode::Xdp, &udp4(b"x")).expect(Verdict::Pass, &[]);
        w.run(Mode::Tc, &udp4(b"x"))
            .expect(Verdict::Drop, &["rx 1", &rule, &head]);
        assert_eq!(kinds(&mut w), [EVENT_PACKET_IN, EVENT_OUTPUT, EVENT_HELD]);
    }
    let refused = ["rx 1", &rule, &head, &band, "metered 1"];
    w.run(Mode::Tc, &udp4(b"x")).expect(Verdict::Drop, &refused);
    assert_eq!(kinds(&mut w), [EVENT_HELD]);
}

#[test]
fn bands_that_were_in_the_slot_before_are_none() {
    for mode in BOTH {
        let mut w = two_ports();
        w.rule_with(1, any(), any(), &[output(2)], metered(7));
        let head = meter(&mut w, 7, METER_PACKETS, &[(0, 9), (0, 1)])[0];
        w.commit();
        let mut entry: RuleEntry = w.get(maps::RULES, head);
        entry.action_count = 2;
        w.store(maps::RULES, head, entry);
        set_ahead(&mut w, head, 1, COST);
        assert_eq!(w.run(mode, &udp4(b"x")).verdict, Verdict::Redirect);
    }
}

#[test]
fn bytes_are_charged_with_the_header_and_what_is_longer_than_the_burst_passes_all_the_same() {
    for mode in BOTH {
        let mut w = two_ports();
        w.rule_with(1, any(), any(), &[output(2)], metered(1));
        let head = meter_with(&mut w, 1, 0, COST, &[(0, 1)])[0];
        w.commit();
        let frame = udp4(&[0; 100]);
        let began = now();
        assert_eq!(w.run(mode, &frame).verdict, Verdict::Redirect);
        let ended = now();
        let time = time(&w, head, 0) - frame.len() as u64 * COST;
        assert!((began..=ended).contains(&time));
        assert_eq!(w.run(mode, &frame).verdict, Verdict::Drop);
    }
}

#[test]
fn what_tables_before_have_done_stands_and_nothing_comes_after() {
    let mut w = two_ports();
    let first = w.rule_with(1, any(), any(), &[output(2)], in_table(0, 1));
    let set = act(op::SET_ETH_DST, 0, 0, &[2; 6]);
    let user = w.rule_with(1, any(), any(), &[set, output(3)], |r| {
        metered(4)(r);
        in_table(1, 2)(r);
    });
    let last = w.rule_with(1, any(), any(), &[output(3)], in_table(2, NO_TABLE));
    let slots = meter(&mut w, 4, METER_PACKETS, &[(0, 1)]);
    w.commit();
    let frame = udp4(b"x");
    // With several outputs it is TC's, and XDP charges nothing.
    w.run(Mode::Xdp, &frame).expect(Verdict::Pass, &[]);
    assert_eq!(time(&w, slots[0], 0), 0);
    let (first, user, last) = (slot("rule", first), slot("rule", user), slot("rule", last));
    let (head, band) = (slot("rule", slots[0]), slot("rule", slots[1]));
    set_ahead(&mut w, slots[0], 0, 0);
    let outcome = w.run(Mode::Tc, &frame);
    assert_eq!(outcome.moved[&last], 1);
    let dropped = w.run(Mode::Tc, &frame);
    let moved = ["rx 1", &first, &user, &head, &band, "tx 2", "metered 1"];
    dropped.expect(Verdict::Redirect, &moved);
    assert_eq!(dropped.frame, frame);
}

#[test]
fn the_band_of_the_highest_exceeded_rate_is_applied() {
    let mut w = two_ports();
    w.rule_with(1, any(), any(), &[output(2)], metered(9));
    // Dropped above the high rate, marked above the low one.
    let slots = meter(&mut w, 9, METER_PACKETS, &[(0, 4), (1, 2)]);
    w.commit();
    let frame = with_tos(udp4(b"x"), 10 << 2);
    let (head, high, low) = (
        slot("rule", slots[0]),
        slot("rule", slots[1]),
        slot("rule", slots[2]),
    );
    let mut seen = vec![];
    for _ in 0..6 {
        let outcome = w.run(Mode::Tc, &frame);
        assert_eq!(outcome.moved[&head], 1);
        let count = |name: &String| outcome.moved.get(name).copied().unwrap_or(0);
        seen.push((outcome.verdict, count(&high), count(&low)));
    }
    let passes = (Verdict::Redirect, 0, 0);
    let marked = (Verdict::Redirect, 0, 1);
    let dropped = (Verdict::Drop, 1, 0);
    assert_eq!(seen, [passes, passes, marked, marked, dropped, dropped]);
}

#[test]
fn marked_packets_are_right_and_later_tables_match_what_they_are_then() {
    for ip6 in [false, true] {
        let mut w = two_ports();
        let outcome = |w: &mut World, dscp: u8| {
            let frame = match ip6 {
                false => with_tos(udp4(b"mark"), dscp << 2 | 2),
                true => with_tos6(udp6(b"mark"), dscp << 2 | 2),
            };
            // The DSCP may change: not for XDP.
            w.run(Mode::Xdp, &frame).expect(Verdict::Pass, &[]);
            w.run(Mode::Tc, &frame)
        };
        w.rule_with(1, any(), any(), &[output(3)], |r| {
            metered(5)(r);
            in_table(0, 1)(r);
        });
        let mask = key(|k| k.ip_tos = 0xfc);
        let by_dscp = [10u8, 12, 14, 46].map(|dscp| {
            let value = key(|k| k.ip_tos = dscp << 2);
            let table = in_table(1, NO_TABLE);
            slot("rule", w.rule_with(1, mask, value, &[output(2)], table))
        });
        let head = meter(&mut w, 5, METER_PACKETS, &[(1, 1)])[0];
        w.commit();
        // Not above the rate.
        let outcome_of = outcome(&mut w, 10);
        assert_eq!(outcome_of.moved.get(&by_dscp[0]), Some(&1));
        for (before, after, index) in [(10, 12, 1), (12, 14, 2), (14, 14, 2), (46, 46, 3)] {
            set_ahead(&mut w, head, 0, 2 * COST);
            let outcome = outcome(&mut w, before);
            assert_eq!(outcome.moved.get(&by_dscp[index]), Some(&1), "{before}");
            let tos = match ip6 {
                false => outcome.frame[15],
                true => outcome.frame[14] << 4 | outcome.frame[15] >> 4,
            };
            assert_eq!(tos, after << 2 | 2, "ECN stays");
            assert_checksums(&outcome.frame, !ip6);
        }
        // What has no DSCP is counted at the band and passes.
        set_ahead(&mut w, head, 0, 2 * COST);
        let outcome = w.run(Mode::Tc, &ethernet(0x88b5, b"none"));
        assert_eq!(outcome.moved.get("table-miss 1"), Some(&1), "{outcome:?}");
    }
}

#[test]
fn what_was_put_out_before_the_mark_is_not_marked() {
    let mut w = two_ports();
    let (before, after) = (Tap::new("beforem"), Tap::new("afterm"));
    w.local(2, before.ifindex);
    w.local(3, after.ifindex);
    w.rule_with(1, any(), any(), &[output(2)], in_table(0, 1));
    w.rule_with(1, any(), any(), &[output(3)], |r| {
        metered(5)(r);
        in_table(1, NO_TABLE)(r);
    });
    let head = meter(&mut w, 5, METER_PACKETS, &[(2, 1)])[0];
    w.commit();
    set_ahead(&mut w, head, 0, 2 * COST);
    let frame = with_tos(udp4(b"order"), 10 << 2);
    let outcome = w.run(Mode::Tc, &frame);
    assert_eq!(outcome.frame[15], 14 << 2);
    assert_eq!(before.frames(1), [frame]);
}

#[test]
fn a_packet_may_pass_a_meter_in_each_switch_and_table() {
    let mut w = two_ports();
    let goto = |table: u8, next: u8, meter: u32| {
        move |r: &mut RuleEntry| {
            metered(meter)(r);
            in_table(table, next)(r);
        }
    };
    w.rule_with(1, any(), any(), &[], goto(0, 1, 1));
    w.rule_with(1, any(), any(), &[], goto(1, 2, 2));
    w.rule_with(1, any(), any(), &[output(2)], goto(2, NO_TABLE, 1));
    let one = meter(&mut w, 1, METER_PACKETS, &[(0, 10)])[0];
    let two = meter(&mut w, 2, METER_PACKETS, &[(0, 1)])[0];
    w.commit();
    for mode in BOTH {
        set_ahead(&mut w, one, 0, 0);
        set_ahead(&mut w, two, 0, 0);
        let outcome = w.run(mode, &udp4(b"x"));
        assert_eq!(outcome.verdict, Verdict::Redirect);
        assert_eq!(outcome.moved[&slot("rule", one)], 2);
        // Dropped by the second one: the first is charged for it, once.
        let dropped = w.run(mode, &udp4(b"x"));
        assert_eq!(dropped.verdict, Verdict::Drop);
        assert_eq!(dropped.moved[&slot("rule", one)], 1);
        assert_eq!(time(&w, one, 0).saturating_sub(now()) / COST, 2);
    }
}

#[test]
fn the_meter_of_the_clock_is_met_and_none_is_a_drop() {
    let mut w = two_ports();
    let rule = w.rule_with(1, any(), any(), &[output(2)], metered(1));
    let old = meter(&mut w, 1, METER_PACKETS, &[(0, 1)]);
    let new = meter(&mut w, 1, METER_PACKETS, &[(0, 2)]);
    w.commit();
    let bound = |w: &mut World, slot: u32, from: u32, to: u32| {
        let mut entry: RuleEntry = w.get(maps::RULES, slot);
        (entry.valid_from, entry.valid_to) = (from, to);
        w.set(maps::RULES, slot, entry);
    };
    bound(&mut w, old[0], 1, 11);
    bound(&mut w, new[0], 11, 12);
    for (clock, head) in [(10, old[0]), (11, new[0])] {
        w.network(
            1,
            NetworkEntry {
                clock,
                ..w.get(maps::NETWORKS, 1)
            },
        );
        let moved = ["rx 1", &slot("rule", rule), &slot("rule", head), "tx 2"];
        w.run(Mode::Tc, &udp4(b"x"))
            .expect(Verdict::Redirect, &moved);
    }
    w.network(
        1,
        NetworkEntry {
            clock: 12,
            ..w.get(maps::NETWORKS, 1)
        },
    );
    for mode in BOTH {
        let outcome = w.run(mode, &udp4(b"x"));
        outcome.expect(Verdict::Drop, &["rx 1", "metered 1"]);
    }
}

#[test]
fn what_is_to_be_segmented_counts_as_its_segments() {
    let mut w = two_ports();
    w.rule_with(1, any(), any(), &[output(2)], metered(1));
    let slots = meter(&mut w, 1, METER_PACKETS, &[(0, 100)]);
    w.commit();
    let frame = with_checksum(tcp4(&[0; 1000]));
    let head = slot("rule", slots[0]);
    for (segment, said, counted) in [(100, 0, 11), (100, 10, 10), (500, 2, 2)] {
        set_ahead(&mut w, slots[0], 0, 0);
        let outcome = w.run_gso_of(&frame, segment, said);
        assert_eq!(outcome.moved[&head], counted);
        assert_eq!(outcome.moved[&format!("{head} bytes")], frame.len() as u64);
        assert_eq!(
            time(&w, slots[0], 0).saturating_sub(now()) / COST,
            counted - 1
        );
    }
}

#[test]
fn all_cpus_charge_one_meter() {
    let mut w = two_ports();
    // Each packet that passes is one that the rule drops.
    w.rule_with(1, any(), any(), &[], metered(1));
    const BURST: u64 = 5000;
    let cost = COST >> 7;
    let slots = meter_with(&mut w, 1, METER_PACKETS, cost, &[(0, BURST)]);
    w.commit();
    // Loads the program, which takes its time.
    w.run(Mode::Xdp, &udp4(b"x"));
    set_ahead(&mut w, slots[0], 0, 0);
    let (began, cpus) = (now(), w.cpus().min(4));
    let moved = w.run_on_all(cpus, &udp4(b"x"), 20_000);
    let passed = moved["rule-drop 1"];
    assert_eq!(passed + moved["metered 1"], u64::from(cpus) * 20_000);
    assert_eq!(moved[&slot("rule", slots[0])], u64::from(cpus) * 20_000);
    // One that each CPU may charge without another look.
    let bound = BURST..=BURST + u64::from(cpus);
    assert!(bound.contains(&passed), "{passed}");
    assert_eq!(
        (time(&w, slots[0], 0) - began) / cost,
        passed,
        "each is charged"
    );
}

#[test]
fn a_rate_is_held_as_time_passes() {
    let mut w = two_ports();
    // Each packet that passes is one that the rule drops.
    w.rule_with(1, any(), any(), &[], metered(1));
    const RATE: u64 = 50_000;
    const BURST: u64 = RATE / 10;
    let cost = (1_000_000_000 << METER_TIME_SHIFT) / RATE;
    meter_with(&mut w, 1, METER_PACKETS, cost, &[(0, BURST)]);
    w.commit();
    // Loads the program, which takes its time.
    w.run(Mode::Xdp, &udp4(b"x"));
    let (times, cpus) = (300_000, w.cpus().min(2));
    let began = std::time::Instant::now();
    let moved = w.run_on_all(cpus, &udp4(b"x"), times);
    let elapsed = began.elapsed().as_secs_f64();
    let passed = moved["rule-drop 1"];
    let most = RATE as f64 * elapsed + (BURST + u64::from(cpus)) as f64;
    assert!(passed as f64 <= most, "{passed} in {elapsed} s");
    // Less only if fewer came, or if for most of the time none did.
    let came = u64::from(cpus * times);
    let least = (RATE as f64 * elapsed / 2.0).min(came as f64);
    assert!(passed as f64 >= least, "{passed} of {came} in {elapsed} s");
}
