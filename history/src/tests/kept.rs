//! Groups, meters, timeouts, and updates of several kinds at once, by hand.

use lime_core::flow::{
    Action, Band, BandKind, Group, GroupMod, GroupType, Meter, MeterMod, MeterUnit, Rule, SwitchMod,
};

use super::story::{S1, Story, add, frame, group, rule, to, to_controller, to_group};

fn add_group(group: Group) -> SwitchMod {
    SwitchMod::Group(GroupMod::Add(group))
}

/// What comes in by port 1 goes to a group.
fn grouped(kind: GroupType, ports: &[u32]) -> Story {
    let mut s = Story::new();
    let mods = vec![add_group(group(7, kind, ports)), add(to_group(1, 7))];
    s.changed(S1, mods);
    s
}

#[test]
fn all_buckets_of_a_group_get_a_packet_and_nobody_else() {
    let mut s = grouped(GroupType::All, &[2, 3]);
    s.sent(1, 2, 1);
    s.got(2, 1, 2, 1);
    s.got(3, 1, 2, 1);
    s.possible();
    let mut s = grouped(GroupType::All, &[2]);
    s.sent(1, 2, 1);
    s.got(3, 1, 2, 1);
    let text = s.impossible();
    assert!(text.contains("at no version"), "{text}");
}

#[test]
fn a_group_of_type_indirect_is_its_bucket() {
    for port in [2, 3] {
        let mut s = grouped(GroupType::Indirect, &[2]);
        s.sent(1, 2, 1);
        s.got(port, 1, 2, 1);
        match port {
            2 => s.possible().packets.to_string(),
            _ => s.impossible(),
        };
    }
}

#[test]
fn a_flow_has_one_bucket_of_a_group_of_type_select() {
    let mut possible = vec![];
    for port in [2, 3] {
        let mut s = grouped(GroupType::Select, &[2, 3]);
        s.sent(1, 2, 1);
        s.sent(1, 2, 2);
        s.got(port, 1, 2, 1);
        s.got(port, 1, 2, 2);
        possible.push(s.check().is_ok());
        s.sent(1, 2, 3);
        s.got(5 - port, 1, 2, 3);
        s.impossible();
    }
    assert_eq!(possible.iter().filter(|p| **p).count(), 1, "one of the two");
}

#[test]
fn failover_goes_to_a_bucket_that_may_be_live() {
    let mut s = grouped(GroupType::FastFailover, &[2, 3]);
    s.sent(1, 2, 1);
    s.sent(1, 2, 2);
    s.got(2, 1, 2, 1);
    s.got(3, 1, 2, 2);
    s.possible();
    // But never to two.
    s.got(2, 1, 2, 2);
    s.impossible();
}

#[test]
fn a_group_that_was_changed_is_one_update() {
    for old in [false, true] {
        let mut s = grouped(GroupType::Indirect, &[2]);
        let change = GroupMod::Modify(group(7, GroupType::Indirect, &[3]));
        let change = s.change(S1, vec![SwitchMod::Group(change)]);
        s.sent(1, 2, 1);
        s.got(3, 1, 2, 1);
        s.sent(3, 1, 2);
        s.sent(1, 2, 3);
        s.answered(change);
        if old {
            s.sent(1, 2, 4);
            s.got(2, 1, 2, 4);
            let text = s.impossible();
            assert!(text.contains("had been answered"), "{text}");
        } else {
            s.got(2, 1, 2, 3);
            s.possible();
        }
    }
}

#[test]
fn rules_go_with_their_group() {
    let mut s = grouped(GroupType::Indirect, &[2]);
    s.changed(S1, vec![SwitchMod::Group(GroupMod::Delete(None))]);
    s.updated(S1, vec![rule(2, &to(3))]);
    s.sent(1, 2, 1);
    s.possible();
    s.got(2, 1, 2, 1);
    s.impossible();
}

#[test]
fn a_packet_out_meets_the_group_between_the_commands_around_it() {
    for port in [2, 3] {
        let mut s = grouped(GroupType::Indirect, &[2]);
        s.packet_out_with(vec![Action::Group(7)], 1, 2, 9);
        let change = GroupMod::Modify(group(7, GroupType::Indirect, &[3]));
        let change = s.change(S1, vec![SwitchMod::Group(change)]);
        s.got(port, 1, 2, 9);
        s.answered(change);
        match port {
            2 => s.possible().packets.to_string(),
            _ => s.impossible(),
        };
    }
}

#[test]
fn what_is_updated_together_is_seen_together() {
    for apart in [false, true] {
        let mut s = Story::new();
        s.updated(S1, vec![rule(1, &[]), rule(2, &to(3))]);
        let bundle = vec![
            add_group(group(7, GroupType::Indirect, &[2])),
            add(to_group(1, 7)),
            add(rule(2, &to(1))),
        ];
        let bundle = s.change(S1, bundle);
        s.sent(1, 2, 1);
        s.got(2, 1, 2, 1);
        s.sent(2, 1, 2);
        s.got(if apart { 3 } else { 1 }, 2, 1, 2);
        s.answered(bundle);
        match apart {
            false => s.possible().packets.to_string(),
            true => s.impossible(),
        };
    }
}

/// A rule from port 1 to 2 with a meter that may raise the drop precedence by one.
fn metered() -> Story {
    let meter = Meter {
        id: 5,
        unit: MeterUnit::Pktps,
        burst: false,
        stats: false,
        bands: vec![
            Band {
                kind: BandKind::DscpRemark { prec_level: 1 },
                rate: 10,
                burst_size: 0,
            },
            Band {
                kind: BandKind::Drop,
                rate: 20,
                burst_size: 0,
            },
        ],
    };
    let mut user = rule(1, &to(2));
    user.meter = Some(5);
    let mut s = Story::new();
    let mods = vec![SwitchMod::Meter(MeterMod::Add(meter)), add(user)];
    s.changed(S1, mods);
    s
}

#[test]
fn a_meter_lets_a_packet_pass_or_drops_or_marks_it_and_nothing_else() {
    // Of assured forwarding, class 1.
    const AF11: u8 = 10;
    for (dscp, possible) in [(AF11, true), (AF11 + 2, true), (AF11 + 4, false)] {
        let mut s = metered();
        let mut packet = frame(1, 2, 1);
        packet[15] = AF11 << 2;
        s.see_frame(1, &packet, true);
        s.possible();
        packet[15] = dscp << 2;
        s.see_frame(2, &packet, false);
        assert_eq!(s.check().is_ok(), possible, "{dscp}");
        // Nor does it go anywhere else.
        s.sent(1, 3, 2);
        s.got(3, 1, 3, 2);
        s.impossible();
    }
}

#[test]
fn a_rule_whose_end_is_told_was_there_until_then_and_not_after() {
    let mut fading = rule(1, &to(3));
    (fading.idle_timeout, fading.priority) = (1, 20);
    let start = || {
        let mut s = Story::new();
        s.updated(S1, vec![fading.clone(), rule(1, &to(2)), rule(2, &to(1))]);
        s
    };
    // Its end is behind an update that was answered when the packet was sent, so that the packet may be on either side.
    for (port, possible) in [(2, true), (3, true)] {
        let mut s = start();
        let epoch = s.times_out();
        s.sent(1, 2, 1);
        s.got(port, 1, 2, 1);
        s.told_gone(S1, &fading, epoch);
        assert_eq!(s.check().is_ok(), possible, "{port}");
    }
    // Who has met the rules without it is not shown it again.
    let mut s = start();
    let epoch = s.times_out();
    s.sent(1, 2, 1);
    s.got(2, 1, 2, 1);
    s.sent(2, 1, 2);
    s.got(1, 2, 1, 2);
    s.sent(1, 3, 3);
    s.told_gone(S1, &fading, epoch);
    s.possible();
    s.got(3, 1, 3, 3);
    s.impossible();
    // Nor is who was told before the rule had gone.
    let mut s = start();
    s.updated(S1, vec![rule(3, &to(1))]);
    let epoch = s.times_out();
    s.told_gone(S1, &fading, epoch);
    s.packet_out(lime_core::PortNo::TABLE, 1, 3, 4);
    s.possible();
    s.got(3, 1, 3, 4);
    s.impossible();
}

#[test]
fn the_end_of_a_rule_is_told_in_its_place_among_packets() {
    for late in [false, true] {
        let mut fading: Rule = rule(1, &[]);
        (fading.hard_timeout, fading.priority) = (1, 20);
        let mut s = Story::new();
        s.updated(S1, vec![fading.clone(), rule(1, &to_controller())]);
        let epoch = s.times_out();
        s.sent(1, 2, 1);
        // Only behind its end the controller gets the packet.
        if late {
            s.told(S1, 1, 2, 1);
            s.told_gone(S1, &fading, epoch);
            let text = s.impossible();
            assert!(text.contains("had ended with epoch"), "{text}");
        } else {
            s.told_gone(S1, &fading, epoch);
            s.told(S1, 1, 2, 1);
            s.possible();
        }
    }
}

#[test]
fn of_groups_that_may_have_changed_nothing_is_said() {
    let mut s = grouped(GroupType::Indirect, &[2]);
    let change = GroupMod::Modify(group(7, GroupType::Indirect, &[3]));
    let lost = s.change(S1, vec![SwitchMod::Group(change)]);
    s.lost(lost);
    for (port, number) in [(2, 1), (3, 2)] {
        s.sent(1, 2, number);
        s.got(port, 1, 2, number);
    }
    s.possible();
}

#[test]
fn what_is_refused_has_no_effect_and_what_cannot_be_is_a_contradiction() {
    let mut s = Story::new();
    let unknown = s.update(S1, vec![to_group(1, 7)]);
    s.lost(unknown);
    s.possible();
    let mut s = Story::new();
    s.updated(S1, vec![to_group(1, 7)]);
    let text = s.impossible();
    assert!(text.contains("group 7 does not exist"), "{text}");
}
