//! Strict networks: rules 20 and 21.

use super::tests::adds;
use super::*;
use crate::{Consistency, Epoch, HostId, SwitchId};

type Seq = Sequencer<u32>;

const A: HostId = HostId(1);
const B: HostId = HostId(2);
const C: HostId = HostId(3);

fn relay() -> RelayPhase {
    RelayPhase {
        primary: A,
        others: vec![B, C],
    }
}

/// Writes what is to be logged at once, for a switch that runs on all three; gives the other outputs.
fn settle(seq: &mut Seq) -> Vec<Output<u32>> {
    let mut rest = Vec::new();
    loop {
        let outputs = seq.outputs();
        if outputs.is_empty() {
            return rest;
        }
        for output in outputs {
            match output {
                Output::Log(entries) => {
                    for entry in &entries {
                        if matches!(entry.kind, EntryKind::Update { .. }) {
                            seq.set_relay(entry.epoch, relay());
                        }
                    }
                    seq.set_logged(entries.last().unwrap().epoch);
                }
                Output::Settled(_) | Output::Stage { .. } => {}
                other => rest.push(other),
            }
        }
    }
}

fn stage_all(seq: &mut Seq) -> Vec<Output<u32>> {
    settle(seq);
    let members: Vec<HostId> = [A, B, C]
        .into_iter()
        .filter(|h| seq.member(*h).is_some())
        .collect();
    for host in members {
        seq.staged(host, seq.logged()).unwrap();
    }
    settle(seq)
}

fn acknowledge_all(seq: &mut Seq) -> Vec<Output<u32>> {
    for host in [A, B, C] {
        if seq.member(host).is_some() {
            seq.acknowledge(host, seq.activated()).unwrap();
        }
    }
    settle(seq)
}

fn three() -> Seq {
    let mut seq = Seq::new(Consistency::Strict);
    for host in [A, B, C] {
        seq.add_learner(host);
        seq.submit(EntryKind::Join { switch: None, host });
        stage_all(&mut seq);
        acknowledge_all(&mut seq);
    }
    assert_eq!(seq.acknowledged(), Epoch(3));
    seq
}

fn told(outputs: &[Output<u32>]) -> (Vec<HostId>, Vec<HostId>) {
    let mut relays = Vec::new();
    let mut activates = Vec::new();
    for output in outputs {
        match output {
            Output::EnterRelay { host, primary, .. } => {
                assert_eq!(*primary, A);
                relays.push(*host);
            }
            Output::Activate { host, .. } => activates.push(*host),
            _ => {}
        }
    }
    (relays, activates)
}

#[test]
fn rule_20_first_all_others_relay_then_the_primary_has_it_then_the_others() {
    let mut seq = three();
    let ticket = seq.submit(adds([1]));
    let outputs = stage_all(&mut seq);
    assert_eq!(told(&outputs), (vec![B, C], vec![]));
    let e = seq.logged();
    seq.relaying(B, e).unwrap();
    assert!(settle(&mut seq).is_empty());
    assert_eq!(seq.waiting_for(), [C]);
    seq.relaying(C, e).unwrap();
    assert_eq!(told(&settle(&mut seq)), (vec![], vec![A]));
    assert_eq!(seq.activated(), e.previous(), "not for everybody");
    assert_eq!(seq.waiting_for(), [A]);
    seq.acknowledge(A, e).unwrap();
    assert_eq!(told(&settle(&mut seq)), (vec![], vec![B, C]));
    seq.acknowledge(B, e).unwrap();
    assert!(settle(&mut seq).is_empty());
    seq.acknowledge(C, e).unwrap();
    let done = Output::Completed { ticket, epoch: e };
    assert_eq!(settle(&mut seq), [done]);
}

#[test]
fn rule_20_what_nobody_was_told_is_refused() {
    let mut seq = three();
    seq.submit(adds([1]));
    stage_all(&mut seq);
    let e = seq.logged();
    assert!(matches!(
        seq.relaying(A, e),
        Err(ProtocolError::RelaysUntold { .. })
    ));
    assert!(matches!(
        seq.acknowledge(A, e),
        Err(ProtocolError::AcknowledgedUnsent { .. })
    ));
    assert!(matches!(
        seq.stage_failed(B, e, "no room".into()),
        Err(ProtocolError::CannotRefuse { .. })
    ));
}

#[test]
fn rule_20_one_update_of_one_switch_at_a_time() {
    let mut seq = three();
    let mut other = adds([7]);
    if let EntryKind::Update { switch, .. } = &mut other {
        *switch = SwitchId(2);
    }
    seq.submit(adds([1]));
    settle(&mut seq);
    let before = seq.last();
    // These three share the next epoch, and the one of another switch is behind it.
    for id in [2, 3, 4] {
        seq.submit(adds([id]));
    }
    seq.submit(other);
    let finish = |seq: &mut Seq| {
        stage_all(seq);
        let e = seq.logged();
        assert_eq!(seq.last(), e, "the next one waits");
        for host in [B, C] {
            seq.relaying(host, e).unwrap();
        }
        settle(seq);
        seq.acknowledge(A, e).unwrap();
        settle(seq);
        acknowledge_all(seq);
        e
    };
    assert_eq!(finish(&mut seq), before);
    assert_eq!(finish(&mut seq), before.next());
    assert_eq!(finish(&mut seq), before.next().next());
}

#[test]
fn rule_20_nobody_waits_for_who_is_excluded() {
    for gone in [A, B] {
        let mut seq = three();
        seq.submit(adds([1]));
        stage_all(&mut seq);
        let e = seq.logged();
        seq.disconnected(gone);
        let rest: Vec<HostId> = [B, C].into_iter().filter(|h| *h != gone).collect();
        for host in &rest {
            seq.relaying(*host, e).unwrap();
        }
        assert!(gone == A || told(&settle(&mut seq)).1.is_empty());
        seq.remove_member(gone);
        if gone == B {
            assert_eq!(told(&settle(&mut seq)).1, [A]);
            seq.acknowledge(A, e).unwrap();
        }
        // Nobody processes until these have it.
        assert_eq!(told(&settle(&mut seq)).1, rest);
        acknowledge_all(&mut seq);
        assert_eq!(seq.acknowledged(), e);
    }
}

#[test]
fn rule_20_who_comes_back_is_told_again() {
    let mut seq = three();
    seq.submit(adds([1]));
    stage_all(&mut seq);
    let e = seq.logged();
    seq.disconnected(B);
    seq.connected(B, e, e.previous()).unwrap();
    assert_eq!(told(&settle(&mut seq)), (vec![B], vec![]));
    for host in [B, C] {
        seq.relaying(host, e).unwrap();
    }
    settle(&mut seq);
    seq.disconnected(A);
    seq.connected(A, e, e.previous()).unwrap();
    assert_eq!(told(&settle(&mut seq)), (vec![], vec![A]));
    // It has lost everything, and may have used the update.
    seq.disconnected(A);
    let at = seq.connected_empty(A).unwrap();
    assert_eq!(seq.told(A), e);
    seq.snapshot_sent(A, at);
    assert_eq!(told(&settle(&mut seq)), (vec![], vec![A]));
    assert_eq!(seq.told(B), e.previous());
}

#[test]
fn rules_16_and_20_a_freeze_waits_for_what_has_begun() {
    let mut seq = three();
    seq.submit(adds([1]));
    stage_all(&mut seq);
    let (e, freeze) = (seq.logged(), seq.freeze());
    assert!(settle(&mut seq).is_empty());
    for host in [B, C] {
        seq.relaying(host, e).unwrap();
    }
    seq.acknowledge(A, e).unwrap();
    let outputs = settle(&mut seq);
    assert_eq!(told(&outputs).1, [A, B, C]);
    let frozen =
        |o: &Output<u32>| matches!(o, Output::Completed { ticket, .. } if *ticket == freeze);
    assert!(!outputs.iter().any(frozen));
    assert!(acknowledge_all(&mut seq).iter().any(frozen));
    // The next one does not begin.
    seq.submit(adds([2]));
    assert!(stage_all(&mut seq).is_empty());
    seq.unfreeze(freeze);
    assert_eq!(told(&settle(&mut seq)).0, [B, C]);
}

#[test]
fn rules_19_and_20_a_restart_goes_on_with_the_same_primary() {
    let e = Epoch(4);
    let entry = Entry {
        relay: Some(relay()),
        ..Entry::new(e, adds([1]))
    };
    let (mut seq, _) = Seq::recover(Consistency::Strict, Epoch(3), vec![entry], [A, B, C]);
    for host in [A, B, C] {
        // The primary was already there.
        let clock = if host == A { e } else { Epoch(3) };
        seq.connected(host, e, clock).unwrap();
    }
    settle(&mut seq);
    assert_eq!(stage_all(&mut seq), []);
    for host in [B, C] {
        seq.relaying(host, e).unwrap();
    }
    assert_eq!(told(&settle(&mut seq)).1, [A]);
    seq.acknowledge(A, e).unwrap();
    acknowledge_all(&mut seq);
    stage_all(&mut seq);
    acknowledge_all(&mut seq);
    assert_eq!(seq.acknowledged(), e.next(), "the recovery's own");
}

#[test]
fn rule_21_packet_outs_are_sent_between_updates() {
    let mut seq = three();
    let ticket = seq.submit(adds([1]));
    stage_all(&mut seq);
    seq.packet_out(ticket, 1, true);
    let e = seq.logged();
    for host in [B, C] {
        seq.relaying(host, e).unwrap();
    }
    seq.acknowledge(A, e).unwrap();
    let sent = |o: &Output<u32>| matches!(o, Output::SendPacketOut { .. });
    assert!(!settle(&mut seq).iter().any(sent), "some still relay");
    assert!(acknowledge_all(&mut seq).iter().any(sent));
}
