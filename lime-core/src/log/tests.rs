//! Single cases of the sequencer.

use std::collections::BTreeSet;

use super::*;
use crate::flow::{Match, Rule};
use crate::{Consistency, Epoch, HostId, RuleId, SwitchId};

type Seq = Sequencer<u32>;

pub(super) fn rule(priority: u16) -> std::sync::Arc<Rule> {
    std::sync::Arc::new(Rule {
        table: 0,
        priority,
        cookie: 0,
        matching: Match::any(),
        actions: Vec::new(),
        goto_table: None,
        idle_timeout: 0,
        hard_timeout: 0,
        ..Rule::default()
    })
}

pub(super) fn adds(ids: impl IntoIterator<Item = u64>) -> EntryKind {
    EntryKind::Update {
        switch: SwitchId(1),
        add: ids
            .into_iter()
            .map(|id| Added::new(RuleId(id), rule(1)))
            .collect(),
        remove: Vec::new(),
        passed: Vec::new(),
    }
}

/// Writes what is to be logged at once; answers with the other outputs.
fn settle(seq: &mut Seq) -> Vec<Output<u32>> {
    let mut rest = Vec::new();
    loop {
        let outputs = seq.outputs();
        if outputs.is_empty() {
            return rest;
        }
        for output in outputs {
            match output {
                Output::Log(entries) => seq.set_logged(entries.last().unwrap().epoch),
                Output::Settled(_) => {}
                other => rest.push(other),
            }
        }
    }
}

fn with_members(hosts: &[u32]) -> Seq {
    let mut seq = Seq::new(Consistency::Causal);
    for &host in hosts {
        let host = HostId(host);
        seq.add_learner(host);
        seq.submit(EntryKind::Join { switch: None, host });
        settle(&mut seq);
        let all: Vec<HostId> = hosts.iter().map(|h| HostId(*h)).collect();
        for h in all.into_iter().filter(|h| h.0 <= host.0) {
            let epoch = seq.logged();
            seq.staged(h, epoch).unwrap();
        }
        for h in hosts.iter().filter(|h| **h <= host.0) {
            let epoch = seq.activated();
            seq.acknowledge(HostId(*h), epoch).unwrap();
        }
        settle(&mut seq);
    }
    seq
}

#[test]
fn changes_that_arrive_while_an_epoch_is_staged_share_the_next_one() {
    let mut seq = with_members(&[1, 2]);
    let before = seq.last();
    for id in 0..10 {
        seq.submit(adds([id]));
    }
    settle(&mut seq);
    assert_eq!(seq.last(), before.next());
    for host in [1, 2] {
        seq.staged(HostId(host), seq.logged()).unwrap();
    }
    settle(&mut seq);
    assert_eq!(seq.last(), before.next().next());
}

#[test]
fn rule_7_the_log_is_written_before_anybody_hears_of_it() {
    let mut seq = with_members(&[1]);
    seq.submit(adds([1]));
    let outputs = seq.outputs();
    assert!(
        matches!(outputs.as_slice(), [Output::Log(_)]),
        "{outputs:?}"
    );
}

#[test]
fn rule_8_nothing_is_activated_before_all_have_it() {
    let mut seq = with_members(&[1, 2]);
    let ticket = seq.submit(adds([1]));
    settle(&mut seq);
    seq.staged(HostId(1), seq.logged()).unwrap();
    assert!(settle(&mut seq).is_empty());
    seq.staged(HostId(2), seq.logged()).unwrap();
    let activated: BTreeSet<HostId> = settle(&mut seq)
        .into_iter()
        .map(|o| match o {
            Output::Activate { host, .. } => host,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(activated.len(), 2);
    seq.acknowledge(HostId(1), seq.activated()).unwrap();
    assert!(settle(&mut seq).is_empty());
    seq.acknowledge(HostId(2), seq.activated()).unwrap();
    let done = settle(&mut seq);
    assert!(matches!(done.as_slice(), [Output::Completed { ticket: t, .. }] if *t == ticket));
}

#[test]
fn rule_10_an_event_waits_for_the_slowest_member() {
    let mut seq = with_members(&[1, 2]);
    seq.submit(adds([1]));
    settle(&mut seq);
    for host in [1, 2] {
        seq.staged(HostId(host), seq.logged()).unwrap();
    }
    settle(&mut seq);
    let (old, new) = (seq.acknowledged(), seq.activated());
    seq.acknowledge(HostId(1), new).unwrap();
    seq.event(HostId(1), new, None, 2).unwrap();
    assert!(settle(&mut seq).is_empty());
    seq.event(HostId(2), old, None, 1).unwrap();
    assert_eq!(settle(&mut seq), vec![Output::Release(1)]);
    let late = seq.event(HostId(1), old, None, 9);
    assert!(matches!(late, Err(ProtocolError::StaleEvent { .. })));
    seq.acknowledge(HostId(2), new).unwrap();
    let outputs = settle(&mut seq);
    assert!(matches!(
        outputs.as_slice(),
        [Output::Completed { .. }, Output::Release(2)]
    ));
}

#[test]
fn a_frozen_network_stages_and_does_not_activate() {
    let mut seq = with_members(&[1]);
    let ticket = seq.freeze();
    let done = settle(&mut seq);
    assert!(matches!(done.as_slice(), [Output::Completed { .. }]));
    seq.submit(adds([1]));
    let outputs = settle(&mut seq);
    assert!(matches!(outputs.as_slice(), [Output::Stage { .. }]));
    seq.staged(HostId(1), seq.logged()).unwrap();
    assert!(settle(&mut seq).is_empty());
    seq.unfreeze(ticket);
    let outputs = settle(&mut seq);
    assert!(matches!(outputs.as_slice(), [Output::Activate { .. }]));
}

#[test]
fn a_rule_that_comes_and_goes_in_one_entry_is_never_staged() {
    let mut seq = with_members(&[1]);
    seq.submit(adds([1]));
    settle(&mut seq);
    seq.submit(adds([2, 3]));
    let removed = Removed::new(RuleId(2), rule(1), None);
    seq.submit(EntryKind::Update {
        switch: SwitchId(1),
        add: Vec::new(),
        remove: vec![removed],
        passed: Vec::new(),
    });
    seq.staged(HostId(1), seq.logged()).unwrap();
    let staged = settle(&mut seq).into_iter().find_map(|o| match o {
        Output::Stage { entry, .. } => Some(entry),
        _ => None,
    });
    let EntryKind::Update {
        add,
        remove,
        passed,
        ..
    } = &staged.unwrap().kind
    else {
        panic!()
    };
    assert_eq!((add.len(), remove.len(), passed.len()), (1, 0, 1));
}

#[test]
fn rule_19_a_restart_rolls_forward_and_drops_older_events() {
    let entry = |n| Entry {
        relay: None,
        epoch: Epoch(n),
        kind: adds([n.into()]),
    };
    let hosts = [HostId(1), HostId(2)];
    let (mut seq, recovery) = Seq::recover(
        Consistency::Causal,
        Epoch(4),
        vec![entry(5), entry(6)],
        hosts,
    );
    let freeze = seq.freeze();
    settle(&mut seq);
    // One host had activated 5, the other nothing of the tail.
    seq.connected(HostId(1), Epoch(6), Epoch(5)).unwrap();
    seq.event(HostId(1), Epoch(5), None, 7).unwrap();
    seq.connected(HostId(2), Epoch(4), Epoch(4)).unwrap();
    let staged = settle(&mut seq)
        .into_iter()
        .filter(|o| matches!(o, Output::Stage { host, .. } if host.0 == 2))
        .count();
    assert_eq!(staged, 2);
    let mut completed = Vec::new();
    for _ in 0..2 {
        for host in hosts {
            seq.staged(host, seq.logged()).unwrap();
        }
        settle(&mut seq);
        for host in hosts {
            seq.acknowledge(host, seq.activated()).unwrap();
        }
        completed.extend(settle(&mut seq).into_iter().filter_map(|o| match o {
            Output::Completed { ticket, .. } => Some(ticket),
            Output::Release(e) => panic!("released {e}"),
            _ => None,
        }));
    }
    // The freeze, which came in the middle, holds from the recovery's end on.
    assert_eq!(completed, vec![recovery, freeze]);
    assert_eq!(seq.acknowledged(), Epoch(7));
}

#[test]
fn rule_11_nothing_submitted_later_is_activated_with_what_an_exact_packet_out_waits_for() {
    let mut seq = with_members(&[1]);
    // Something is being staged, so all that comes now waits.
    seq.submit(adds([1]));
    settle(&mut seq);
    let before = seq.submit(adds([2]));
    seq.packet_out(before, 7, true);
    seq.submit(adds([3]));
    let mut order = Vec::new();
    for _ in 0..3 {
        seq.staged(HostId(1), seq.logged()).unwrap();
        for output in settle(&mut seq) {
            match output {
                Output::Stage { entry, .. } => {
                    let EntryKind::Update { add, .. } = &entry.kind else {
                        panic!("{entry:?}")
                    };
                    let ids = add.iter().map(|a| a.id.0.to_string());
                    order.push(ids.collect::<Vec<_>>().join("+"));
                }
                Output::SendPacketOut { .. } => order.push("packet-out".to_owned()),
                _ => {}
            }
        }
    }
    assert_eq!(order, ["2", "packet-out", "3"]);
}

#[test]
fn rule_10_an_entry_settles_between_the_events_before_and_after_it() {
    let mut seq = with_members(&[1]);
    let base = seq.logged();
    let ticket = seq.submit(adds([1]));
    settle(&mut seq);
    seq.staged(HostId(1), base.next()).unwrap();
    settle(&mut seq);
    seq.event(HostId(1), base, None, 10).unwrap();
    seq.event(HostId(1), base.next(), None, 11).unwrap();
    seq.outputs();
    seq.acknowledge(HostId(1), base.next()).unwrap();
    let order = seq.outputs().into_iter().filter_map(|o| match o {
        Output::Settled(entry) => Some(format!("settled {}", entry.epoch)),
        Output::Completed { ticket: t, .. } if t == ticket => Some("reply".to_owned()),
        Output::Release(event) => Some(format!("event {event}")),
        _ => None,
    });
    let settled = format!("settled {}", base.next());
    assert_eq!(
        order.collect::<Vec<_>>(),
        [settled.as_str(), "reply", "event 11"],
        "event 10 was of an acknowledged version and went out at once"
    );
}

#[test]
fn what_is_void_is_not_activated_while_a_host_that_is_away_has_it() {
    let mut seq = with_members(&[1, 2]);
    let (a, b) = (HostId(1), HostId(2));
    let before = seq.activated();
    seq.submit(adds([1]));
    settle(&mut seq);
    let epoch = seq.logged();
    seq.staged(a, epoch).unwrap();
    seq.disconnected(a);
    seq.stage_failed(b, epoch, "no room".into()).unwrap();
    settle(&mut seq);
    seq.staged(b, epoch).unwrap();
    settle(&mut seq);
    assert_eq!(seq.activated(), before, "host 1 has it as it was");
    seq.connected(a, epoch, before).unwrap();
    let again = settle(&mut seq);
    let replaced = |o: &Output<u32>| {
        matches!(o, Output::Stage { host, entry, replace: true }
            if *host == a && entry.epoch == epoch && entry.kind == EntryKind::Void)
    };
    assert!(again.iter().any(replaced), "{again:?}");
    assert_eq!(seq.activated(), before);
    seq.staged(a, epoch).unwrap();
    assert_eq!(seq.activated(), epoch);
}

#[test]
fn what_is_void_is_not_activated_while_a_learner_has_it() {
    let mut seq = with_members(&[1, 2]);
    let (b, learner) = (HostId(2), HostId(3));
    let before = seq.activated();
    seq.submit(adds([1]));
    settle(&mut seq);
    let epoch = seq.logged();
    assert_eq!(seq.add_learner(learner), epoch, "as of the log's end");
    seq.staged(HostId(1), epoch).unwrap();
    seq.stage_failed(b, epoch, "no room".into()).unwrap();
    settle(&mut seq);
    seq.staged(HostId(1), epoch).unwrap();
    seq.staged(b, epoch).unwrap();
    assert_eq!(
        seq.activated(),
        before,
        "a tag would raise the learner's clock"
    );
    // Away, it begins again from the beginning.
    let mut away = seq.clone();
    away.disconnected(learner);
    away.collect();
    away.staged(b, epoch).unwrap();
    assert_eq!(away.activated(), epoch);
    seq.staged(learner, epoch).unwrap();
    assert_eq!(seq.activated(), epoch);
}

#[test]
fn rule_17_what_an_excluded_host_did_is_not_told() {
    let mut seq = with_members(&[1, 2]);
    let a = HostId(1);
    seq.remove_member(a);
    assert!(seq.event(a, seq.activated(), None, 7).is_err());
    seq.add_learner(a);
    let version = seq.activated().previous();
    seq.event(a, version, Some(3), 7).unwrap();
    assert_eq!(
        settle(&mut seq),
        [],
        "nor is an output let go that waits for it"
    );
}
