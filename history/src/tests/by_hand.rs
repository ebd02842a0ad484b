//! What is possible, and what is not, by hand.

use lime_core::PortNo;

use super::story::{S1, S2, Story, rule, to, to_controller};

/// From the second update on, what comes in by port 1 goes to port 2, and no longer what comes in by port 2 to port 3.
fn policy() -> (Story, usize) {
    let mut s = Story::new();
    s.updated(S1, vec![rule(1, &[]), rule(2, &to(3))]);
    let second = s.update(S1, vec![rule(1, &to(2)), rule(2, &[])]);
    (s, second)
}

#[test]
fn who_has_seen_the_new_rules_is_not_shown_the_old_ones() {
    let (mut s, second) = policy();
    s.sent(1, 2, 1);
    s.got(2, 1, 2, 1);
    s.sent(2, 3, 2);
    s.got(3, 2, 3, 2);
    s.answered(second);
    let text = s.impossible();
    assert!(text.contains("h2 had got packet"), "{text}");
    assert!(
        text.contains("only at versions 1 to 1 and before"),
        "{text}"
    );
}

#[test]
fn who_has_not_may_be() {
    let (mut s, second) = policy();
    s.sent(1, 2, 1);
    // Sent before it got the other.
    s.sent(2, 3, 2);
    s.got(2, 1, 2, 1);
    s.got(3, 2, 3, 2);
    s.answered(second);
    assert_eq!(s.possible().versions, 2);
}

/// From the second update on, what comes in by port 1 goes to port 3, and what comes in by port 2 no longer to port 1: nobody who has got a packet
/// sends one.
fn strict_policy() -> (Story, usize) {
    let mut s = Story::new();
    s.updated(S1, vec![rule(1, &[]), rule(2, &to(1))]);
    let second = s.update(S1, vec![rule(1, &to(3)), rule(2, &[])]);
    (s, second)
}

#[test]
fn rule_20_in_a_strict_network_time_is_an_order_too() {
    let (mut s, second) = strict_policy();
    s.sent(1, 3, 1);
    s.got(3, 1, 3, 1);
    s.later();
    s.sent(2, 1, 2);
    s.got(1, 2, 1, 2);
    s.answered(second);
    s.possible();
    s.history.real_time = true;
    let text = s.impossible();
    assert!(text.contains("that had been seen by"), "{text}");
}

#[test]
fn rule_20_what_is_under_way_at_a_time_has_no_order_by_it() {
    let (mut s, second) = strict_policy();
    s.history.real_time = true;
    s.sent(2, 1, 2);
    s.later();
    s.sent(1, 3, 1);
    s.got(3, 1, 3, 1);
    s.later();
    s.got(1, 2, 1, 2);
    s.answered(second);
    s.possible();
}

#[test]
fn knowledge_goes_on_by_others() {
    let mut s = Story::new();
    s.updated(S1, vec![rule(1, &[]), rule(2, &to(3)), rule(3, &to(2))]);
    let second = s.update(S1, vec![rule(1, &to(3)), rule(2, &[])]);
    s.sent(1, 3, 1);
    s.got(3, 1, 3, 1);
    s.sent(3, 2, 2);
    s.got(2, 3, 2, 2);
    s.sent(2, 3, 3);
    s.answered(second);
    s.possible();
    s.got(3, 2, 3, 3);
    let text = s.impossible();
    assert!(
        text.contains("h3 had got") && text.contains("h2 had got"),
        "{text}"
    );
}

#[test]
fn lost_packets_order_nothing() {
    let (mut s, second) = policy();
    s.sent(1, 2, 1);
    s.sent(2, 3, 2);
    s.answered(second);
    s.possible();
}

#[test]
fn what_is_sent_after_the_answer_meets_the_update() {
    let (mut s, second) = policy();
    s.answered(second);
    s.sent(2, 3, 2);
    s.got(3, 2, 3, 2);
    let text = s.impossible();
    assert!(text.contains("had been answered"), "{text}");
}

#[test]
fn nothing_meets_an_update_that_was_not_given_yet() {
    let mut s = Story::new();
    s.updated(S1, vec![rule(1, &[])]);
    s.sent(1, 2, 1);
    s.got(2, 1, 2, 1);
    s.updated(S1, vec![rule(1, &to(2))]);
    s.impossible();
}

/// A firewall: port 1 is inside, port 3 outside. The answer comes out if `admitted`, otherwise the controller is told of it.
fn firewall(admitted: bool) -> Story {
    let mut s = Story::new();
    s.updated(
        S1,
        vec![rule(1, &to_controller()), rule(3, &to_controller())],
    );
    s.sent(1, 3, 1);
    s.told(S1, 1, 3, 1);
    let admit = s.update(S1, vec![rule(3, &to(1))]);
    s.packet_out(PortNo(3), 1, 3, 1);
    s.got(3, 1, 3, 1);
    s.sent(3, 1, 2);
    match admitted {
        true => s.got(1, 3, 1, 2),
        false => s.told(S1, 3, 1, 2),
    }
    s.answered(admit);
    s
}

#[test]
fn an_answer_meets_the_rule_that_was_made_before_the_question_went_out() {
    firewall(true).possible();
    let text = firewall(false).impossible();
    assert!(text.contains("sent out behind the update"), "{text}");
}

#[test]
fn a_packet_out_is_before_the_update_behind_it() {
    let mut s = Story::new();
    s.updated(S1, vec![rule(1, &to_controller())]);
    s.packet_out(PortNo::TABLE, 1, 2, 7);
    let after = s.update(S1, vec![rule(1, &to(2))]);
    s.got(2, 1, 2, 7);
    s.answered(after);
    s.impossible();
}

#[test]
fn a_packet_out_may_be_between_two_updates_of_one_epoch() {
    let mut s = Story::new();
    s.updated(S1, vec![rule(1, &to_controller())]);
    let one = s.update(S1, vec![rule(2, &to(3))]);
    s.packet_out(PortNo(2), 1, 2, 7);
    let two = s.update(S1, vec![rule(3, &to(2))]);
    s.got(2, 1, 2, 7);
    s.sent(2, 3, 8);
    s.got(3, 2, 3, 8);
    s.tell(crate::Told::Answered(
        one,
        crate::Answer::Updated(lime_core::Epoch(2)),
    ));
    s.tell(crate::Told::Answered(
        two,
        crate::Answer::Updated(lime_core::Epoch(2)),
    ));
    s.possible();
}

#[test]
fn events_come_in_the_order_of_packets() {
    for turned in [false, true] {
        let mut s = Story::new();
        let both = [to(2), to_controller()].concat();
        s.updated(S1, vec![rule(1, &both), rule(2, &to_controller())]);
        s.sent(1, 2, 1);
        s.got(2, 1, 2, 1);
        s.sent(2, 1, 2);
        if turned {
            s.told(S1, 2, 1, 2);
            s.told(S1, 1, 2, 1);
            let text = s.impossible();
            assert!(text.contains("the last before the first"), "{text}");
        } else {
            s.told(S1, 1, 2, 1);
            s.told(S1, 2, 1, 2);
            s.possible();
        }
    }
}

#[test]
fn no_event_of_the_old_rules_comes_behind_the_answer() {
    for late in [false, true] {
        let mut s = Story::new();
        s.updated(S1, vec![rule(1, &to_controller())]);
        let second = s.update(S1, vec![rule(1, &[])]);
        s.sent(1, 2, 1);
        if late {
            s.answered(second);
        }
        s.told(S1, 1, 2, 1);
        if late {
            s.impossible();
        } else {
            s.answered(second);
            s.possible();
        }
    }
}

#[test]
fn an_update_is_behind_what_its_controller_had_been_told_of() {
    let mut s = Story::new();
    s.updated(S1, vec![rule(1, &[]), rule(2, &to(3))]);
    s.history.channels.push(crate::Channel::default());
    // Another controller's, by another channel.
    let other = s.update(S1, vec![rule(1, &to_controller())]);
    let told = s.history.channels[0].seen.pop().unwrap();
    s.history.channels[1].seen.push(told);
    s.sent(1, 2, 1);
    s.told(S1, 1, 2, 1);
    // Told of a packet of its version, the first controller gives an update that comes out before it.
    let own = s.update(S1, vec![rule(2, &[])]);
    s.answered(own);
    s.answered(other);
    let told = s.history.channels[0].seen.pop().unwrap();
    s.history.channels[1].seen.push(told);
    let text = s.impossible();
    assert!(text.contains("handled at versions 1 to 1"), "{text}");
}

#[test]
fn updates_of_a_channel_are_not_turned_round() {
    let mut s = Story::new();
    let first = s.update(S1, vec![rule(1, &[])]);
    let second = s.update(S1, vec![rule(1, &to(2))]);
    s.answered(second);
    s.answered(first);
    assert!(s.impossible().contains("given after it"));
}

#[test]
fn nothing_is_doubled() {
    let mut s = Story::new();
    s.updated(S1, vec![rule(1, &to(2))]);
    s.sent(1, 2, 1);
    s.got(2, 1, 2, 1);
    s.got(2, 1, 2, 1);
    let text = s.impossible();
    assert!(text.contains("once more"), "{text}");
    // Unless it was not seen how often it was sent.
    s.history.ends[0].incomplete = true;
    s.possible();
}

#[test]
fn what_is_sent_twice_says_nothing() {
    let (mut s, second) = policy();
    s.sent(1, 2, 1);
    s.sent(1, 2, 1);
    s.got(2, 1, 2, 1);
    s.sent(2, 3, 2);
    s.got(3, 2, 3, 2);
    s.answered(second);
    assert_eq!(s.possible().ambiguous, 1);
}

#[test]
fn an_update_without_an_answer_may_have_happened() {
    for seen in [false, true] {
        let mut s = Story::new();
        s.updated(S1, vec![rule(1, &[])]);
        let lost = s.update(S1, vec![rule(1, &to(2))]);
        s.lost(lost);
        s.sent(1, 2, 1);
        if seen {
            s.got(2, 1, 2, 1);
        }
        s.possible();
        // Now it is known.
        s.updated(S1, vec![rule(1, &to(3))]);
        s.sent(1, 3, 2);
        s.got(3, 1, 3, 2);
        s.possible();
        s.sent(1, 2, 3);
        s.got(2, 1, 2, 3);
        s.impossible();
    }
}

#[test]
fn a_rule_with_a_timeout_may_be_gone() {
    let mut s = Story::new();
    let mut fading = rule(1, &[]);
    (fading.idle_timeout, fading.priority) = (1, 20);
    s.updated(S1, vec![fading, rule(1, &to(2))]);
    s.sent(1, 2, 1);
    s.got(2, 1, 2, 1);
    s.possible();
    s.sent(1, 3, 2);
    s.got(3, 1, 3, 2);
    s.impossible();
}

#[test]
fn two_switches_are_two_but_have_one_past() {
    for old in [false, true] {
        let mut s = Story::new();
        s.updated(S1, vec![rule(1, &to(9)), rule(2, &[])]);
        s.updated(S2, vec![rule(9, &to(4))]);
        // End host 4 hears end host 1 only when the second switch has been changed, which is after the first was.
        s.updated(S2, vec![rule(9, &[])]);
        let one = s.update(S1, vec![rule(1, &to(9)), rule(2, &to(9))]);
        let two = s.update(S2, vec![rule(9, &to(4)), rule(4, &to(9))]);
        s.sent(1, 4, 1);
        s.got(4, 1, 4, 1);
        s.sent(4, 1, 2);
        s.answered(one);
        s.answered(two);
        if old {
            // By both switches: at the first no rule was ever there for it.
            s.got(1, 4, 1, 2);
            let text = s.impossible();
            assert!(text.contains("at no version"), "{text}");
        } else {
            s.possible();
        }
    }
}

#[test]
fn a_new_address_does_not_hide_a_packet() {
    use lime_core::flow::{Action, Field};
    for late in [false, true] {
        let mut s = Story::new();
        let mut balance = rule(1, &to(3));
        let set = Action::SetField {
            field: Field::Ipv4Dst,
            value: 0x0a00_0003,
        };
        balance.actions.insert(0, set);
        s.updated(S1, vec![balance]);
        let gone = s.update(S1, vec![rule(1, &[])]);
        if late {
            s.answered(gone);
        }
        s.sent(1, 2, 1);
        let mut changed = super::story::frame(1, 2, 1);
        changed[33] = 3;
        s.see_frame(3, &changed, false);
        if late {
            s.impossible();
        } else {
            s.answered(gone);
            s.possible();
        }
    }
}

#[test]
fn headers_say_which_version_of_each_switch_it_was() {
    use lime_core::flow::{Action, Field};
    // Both mark what passes; the second switch is always changed behind the first.
    for ahead in [false, true] {
        let mut s = Story::new();
        let mark = |field, value| Action::SetField { field, value };
        for n in 1..=3u8 {
            let mut first = rule(1, &to(9));
            first.actions.insert(0, mark(Field::IpDscp, n.into()));
            let mut second = rule(9, &to(4));
            second
                .actions
                .insert(0, mark(Field::EthSrc, 0x0200_0000_0000 | u128::from(n)));
            // Nobody waits for the answers.
            let one = s.update(S1, vec![first]);
            let two = s.update(S2, vec![second]);
            if n < 3 {
                s.answered(one);
                s.answered(two);
            } else {
                let mut frame = super::story::frame(1, 4, 1);
                s.see_frame(1, &frame, true);
                // The second switch cannot be ahead of the first; the first may be of the second.
                let (dscp, source) = if ahead { (2, 3) } else { (3, 2) };
                (frame[15], frame[11]) = (dscp << 2, source);
                s.see_frame(4, &frame, false);
                s.sent(4, 1, 2);
                s.answered(one);
                s.answered(two);
            }
        }
        // A packet may be at the first switch before both changes, and at the second behind them.
        s.possible();
        if ahead {
            let mut frame = super::story::frame(1, 4, 3);
            s.see_frame(1, &frame, true);
            (frame[15], frame[11]) = (2 << 2, 3);
            s.see_frame(4, &frame, false);
            // This one was sent when all had been answered.
            s.impossible();
        }
    }
}
