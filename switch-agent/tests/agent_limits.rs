//! Limits of what a switch sends its controller. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use lime_proto::v1::coordinator_message::Message as ToAgent;
use lime_proto::v1::{self, agent_message::Message};
use support::{Coordinator, Session, Wire, in_namespace, local, network, rule, stage};

const CONTROLLER: u32 = 0xffff_fffd;

/// A frame that no stack sends by itself, told apart by `mark`.
fn frame(mark: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(64, mark);
    frame
}

fn is(mark: u8) -> impl Fn(&[u8]) -> bool {
    move |f| f.ends_with(&frame(mark)[12..])
}

/// What port 101 has counted: packets that came in, and those of them whose events were refused.
async fn refusals(session: &mut Session) -> (u64, u64) {
    let read = |request_id| {
        ToAgent::ReadCounters(v1::ReadCounters {
            request_id,
            network: 1,
            ..Default::default()
        })
    };
    let done = session.request(read).await;
    let Some(v1::done::Result::Counters(counters)) = done.result else {
        panic!("{done:?}");
    };
    let port = counters.ports.iter().find(|p| p.port_id == 101).unwrap();
    let counters = port.counters.as_ref().unwrap();
    let refused = counters.drops.get("packet-in-limit");
    (counters.rx_packets, refused.copied().unwrap_or_default())
}

fn packet_in_of(switch: u32, mark: u8) -> impl Fn(&Message) -> Option<()> {
    move |m| match m {
        Message::Event(e) if e.switch == switch => {
            is(mark)(&e.packet_in.as_ref()?.data).then_some(())
        }
        _ => None,
    }
}

#[test]
fn a_flood_of_misses_on_one_switch_leaves_the_others_theirs() {
    const FLOOD: u64 = 2000;
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let _agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        world.more_ports(3);
        let mut wanted = network(1);
        wanted.switches[0].packet_ins = Some(v1::PacketIns {
            rate: 20_000,
            burst: 10_000,
            ..Default::default()
        });
        wanted.switches.push(v1::SwitchState {
            switch_id: 11,
            instance: true,
            ..Default::default()
        });
        wanted.ports.push(v1::PortState {
            switch_id: 11,
            ..local(103, 1, "port3")
        });
        assert_eq!(session.configure(wanted).await.error, None);
        session
            .stage(stage(1, vec![rule(1, 0, &[CONTROLLER])]))
            .await;
        let other = v1::Stage {
            switch_id: 11,
            ..stage(2, vec![rule(2, 0, &[CONTROLLER])])
        };
        session.stage(other).await;
        session.activate(1, 2).await;
        let (host1, host3) = (Wire::open("host1"), Wire::open("host3"));
        for _ in 0..FLOOD {
            host1.send(&frame(1));
        }
        host3.send(&frame(3));
        session.wait(packet_in_of(11, 3)).await;
        // Each packet was sent to the controller, or refused and counted.
        let refused = loop {
            let (received, refused) = refusals(&mut session).await;
            if received == FLOOD {
                break refused;
            }
        };
        assert!(refused > FLOOD / 2, "{refused}");
        for _ in 0..FLOOD - refused {
            session.wait(packet_in_of(10, 1)).await;
        }
        // In time there is room again.
        let again = packet_in_of(10, 8);
        while !session.seen.iter().any(|m| again(m).is_some()) {
            host1.send(&frame(8));
            refusals(&mut session).await;
        }
    });
}

#[test]
fn a_limit_of_packet_ins_that_was_changed_holds_from_then_on_and_nothing_is_lost() {
    // A packet-in of these takes 64 bytes and those of the packet.
    const FEW: u64 = 50;
    const FLOOD: u64 = 2000;
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let _agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        let limited = |generation, rate, burst| {
            let mut wanted = network(generation);
            wanted.switches[0].packet_ins = Some(v1::PacketIns {
                rate,
                burst,
                ..Default::default()
            });
            wanted
        };
        let wide = |generation| limited(generation, 100_000_000, 1_048_576);
        assert_eq!(session.configure(wide(1)).await.error, None);
        session
            .stage(stage(1, vec![rule(1, 0, &[CONTROLLER])]))
            .await;
        session.activate(1, 1).await;
        let host1 = Wire::open("host1");
        let mut sent = 0;
        // All of them are on their way when the limit changes.
        for _ in 0..FEW {
            host1.send(&frame(1));
        }
        sent += FEW;
        let narrow = limited(2, 1000, 10_000);
        assert_eq!(session.configure(narrow).await.error, None);
        for _ in 0..FEW {
            session.wait(packet_in_of(10, 1)).await;
        }
        for _ in 0..FLOOD {
            host1.send(&frame(2));
        }
        sent += FLOOD;
        let refused = loop {
            let (received, refused) = refusals(&mut session).await;
            if received == sent {
                break refused;
            }
        };
        assert!(refused > FLOOD / 2, "{refused}");
        assert_eq!(session.configure(wide(3)).await.error, None);
        for _ in 0..FEW {
            host1.send(&frame(3));
        }
        for _ in 0..FEW {
            session.wait(packet_in_of(10, 3)).await;
        }
        assert_eq!(refusals(&mut session).await.1, refused);
    });
}
