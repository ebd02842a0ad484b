//! Packets through the whole agent: in, out, to the controller and back, by tunnel. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use lime_proto::v1::agent_error::Code;
use lime_proto::v1::coordinator_message::Message as ToAgent;
use lime_proto::v1::{self, agent_message::Message, port_state::Place};
use support::{
    Coordinator, OtherHost, Session, Wire, code, in_namespace, local, network, output, rule, stage,
};

const CONTROLLER: u32 = 0xffff_fffd;
const TABLE: u32 = 0xffff_fff9;
const FLOOD: u32 = 0xffff_fffb;

/// A frame that no stack sends by itself, told apart by `mark`.
fn frame(mark: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5];
    frame.resize(64, mark);
    frame
}

fn is(mark: u8) -> impl Fn(&[u8]) -> bool {
    move |f| f.ends_with(&frame(mark)[12..])
}

async fn packet_in(session: &mut Session) -> v1::Event {
    session
        .wait(|m| match m {
            Message::Event(event) => Some(event.clone()),
            _ => None,
        })
        .await
}

fn packet_out(request_id: u64, in_port: u32, port: u32, data: Vec<u8>) -> ToAgent {
    ToAgent::PacketOut(v1::PacketOutCommand {
        request_id,
        network: 1,
        switch_id: 10,
        min_clock: 1,
        packet_out: Some(v1::PacketOut {
            in_port,
            actions: vec![output(port)],
            data,
        }),
    })
}

#[test]
fn packets_are_forwarded_and_the_controller_hears_of_them() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        session
            .stage(stage(1, vec![rule(1, 5, &[2, CONTROLLER])]))
            .await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        session.activate(1, 1).await;
        host1.send(&frame(7));
        host2.expect(is(7)).await;
        let event = packet_in(&mut session).await;
        let packet_in = event.packet_in.unwrap();
        assert_eq!((event.version, event.rule_id, event.held_id), (1, 1, 0));
        assert_eq!((packet_in.in_port, packet_in.total_len), (1, 64));
        assert_eq!(packet_in.data, frame(7));
        let done = session
            .request(|request_id| {
                ToAgent::ReadCounters(v1::ReadCounters {
                    request_id,
                    network: 1,
                    switch_id: 0,
                    rules: true,
                    rule_ids: Vec::new(),
                    devices: false,
                })
            })
            .await;
        let Some(v1::done::Result::Counters(counters)) = done.result else {
            panic!("{done:?}");
        };
        let rules: Vec<_> = counters
            .rules
            .iter()
            .map(|r| (r.rule_id, r.packets, r.bytes))
            .collect();
        assert_eq!(rules, [(1, 1, 64)]);
        let port = |id| {
            counters
                .ports
                .iter()
                .find(|p| p.port_id == id)
                .unwrap()
                .counters
                .clone()
                .unwrap()
        };
        assert_eq!((port(101).rx_packets, port(102).tx_packets), (1, 1));
        agent.stop().await;
    });
}

#[test]
fn packet_outs_reach_ports_and_tables_and_are_executed_once() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        let mut wanted = network(1);
        world.more_ports(3);
        wanted.ports.push(local(103, 3, "port3"));
        assert_eq!(session.configure(wanted).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        session.activate(1, 1).await;
        let wires: Vec<_> = (1..=3).map(|n| Wire::open(&format!("host{n}"))).collect();

        let done = session
            .request(|id| packet_out(id, CONTROLLER, 1, frame(1)))
            .await;
        assert_eq!(done.error, None);
        wires[0].expect(is(1)).await;

        let done = session
            .request(|id| packet_out(id, 1, FLOOD, frame(2)))
            .await;
        assert_eq!(done.error, None);
        wires[1].expect(is(2)).await;
        wires[2].expect(is(2)).await;

        // Through the table, as come in at port 1: the rule sends it to port 2.
        let done = session
            .request(|id| packet_out(id, 1, TABLE, frame(3)))
            .await;
        assert_eq!(done.error, None);
        wires[1].expect(is(3)).await;

        let done = session.request(|id| packet_out(id, 1, 9, frame(4))).await;
        assert_eq!(code(&done), Code::NotFound);
        let done = session
            .request(|id| packet_out(id, 1, 2, vec![0; 13]))
            .await;
        assert_eq!(code(&done), Code::Invalid);

        let done = session
            .request(|id| packet_out(id, 1, CONTROLLER, frame(5)))
            .await;
        assert_eq!(done.error, None);
        let event = packet_in(&mut session).await.packet_in.unwrap();
        assert_eq!((event.in_port, event.data), (1, frame(5)));

        // The same id again is answered, and nothing is sent.
        for _ in 0..2 {
            session.send(packet_out(900, 1, 2, frame(6))).await;
            session
                .wait(|m| match m {
                    Message::Done(d) if d.request_id == 900 => d.error.is_none().then_some(()),
                    _ => None,
                })
                .await;
        }
        session.request(|id| packet_out(id, 1, 2, frame(7))).await;
        wires[1].expect(is(6)).await;
        wires[1].expect(|f| !is(6)(f) && is(7)(f)).await;
        // Neither ingress port nor a second copy of anything.
        assert!(std::iter::from_fn(|| wires[0].receive()).all(|f| !is(2)(&f) && !is(4)(&f)));
        agent.stop().await;
    });
}

#[test]
fn frames_go_to_the_other_host_and_come_from_it() {
    in_namespace(async |world| {
        let peer = OtherHost::with_device("wire0", "10.88.0.2/24");
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        let mut wanted = network(1);
        wanted.members = vec![v1::Member {
            host_id: 2,
            underlay_address: "10.88.0.2".into(),
        }];
        wanted.ports[1].place = Some(Place::RemoteHost(2));
        assert_eq!(session.configure(wanted.clone()).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        session.stage(stage(2, vec![])).await;
        session.activate(1, 1).await;
        session
            .seen
            .retain(|m| !matches!(m, Message::UnderlayStatus(_)));
        wanted.generation = 2;
        assert_eq!(session.configure(wanted).await.error, None);
        session
            .wait(|m| match m {
                Message::UnderlayStatus(s) if s.unreachable.is_empty() => Some(()),
                _ => None,
            })
            .await;

        let host1 = Wire::open("host1");
        host1.send(&frame(1));
        let sent = peer.wire.expect(is(1)).await;
        // Ethernet, IPv4, UDP to Geneve; then network, kind, port and clock.
        assert_eq!(sent[0..6], peer.mac);
        assert_eq!(sent[26..34], [10, 88, 0, 1, 10, 88, 0, 2]);
        assert_eq!(sent[36..38], 6081u16.to_be_bytes());
        assert_eq!(sent[46..49], [0, 0, 100]);
        assert_eq!(sent[55], switch_abi::TUNNEL_DELIVER);
        assert_eq!(sent[58..66], [0, 0, 0, 102, 0, 0, 0, 1]);
        assert_eq!(sent.len(), 14 + 20 + 8 + 28 + 64);

        // Back: turned around, to be delivered at port 1, with a clock that is staged here and not active yet.
        let mut back = sent.clone();
        back[0..6].copy_from_slice(&sent[6..12]);
        back[6..12].copy_from_slice(&sent[0..6]);
        back[26..30].copy_from_slice(&sent[30..34]);
        back[30..34].copy_from_slice(&sent[26..30]);
        back[58..66].copy_from_slice(&[0, 0, 0, 101, 0, 0, 0, 2]);
        peer.wire.send(&back);
        host1.expect(is(1)).await;
        assert_eq!(session.clock(1).await, 2);
        agent.stop().await;
    });
}

/// An IPv4 packet with DF and a UDP payload of this length, without checksums, which nobody looks at.
fn unfragmentable(length: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend((28 + length).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x13, 0x88, 0x13, 0x89]);
    frame.extend((8 + length).to_be_bytes());
    frame.resize(14 + 28 + usize::from(length), 0);
    frame
}

#[test]
fn the_sender_of_a_packet_that_does_not_fit_is_told() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let _agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        let mut narrow = network(1);
        let port = narrow.ports.iter_mut().find(|p| p.port_no == 2).unwrap();
        port.mtu = 600;
        assert_eq!(session.configure(narrow).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        session.activate(1, 1).await;
        let (fits, too_big) = (unfragmentable(572), unfragmentable(573));
        host1.send(&fits);
        host2.expect(|f| f == fits).await;
        host1.send(&too_big);
        // Fragmentation needed, of at most 600 bytes, and what it is about.
        let is_answer = |f: &[u8]| {
            f.len() == 14 + 576
                && f[..12] == [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]
                && f[26..42] == [10, 0, 0, 2, 10, 0, 0, 1, 3, 4, f[36], f[37], 0, 0, 2, 88]
                && f[42..] == too_big[14..14 + 548]
        };
        host1.expect(is_answer).await;
    });
}

/// Rule 11: a packet-out meets exactly the table between its neighbours in the stream.
#[test]
fn a_packet_out_meets_the_table_of_its_place_in_the_stream() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        world.more_ports(3);
        let mut wanted = network(1);
        wanted.ports.push(local(103, 3, "port3"));
        assert_eq!(session.configure(wanted).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        session.activate(1, 1).await;
        let (host2, host3) = (Wire::open("host2"), Wire::open("host3"));
        let started = std::time::Instant::now();
        const ROUNDS: u8 = 60;
        for n in 1..=ROUNDS {
            // The rule of the round before goes to port 2 in odd rounds, and to port 3 in even ones.
            let epoch = u32::from(n) + 1;
            let mut next = stage(epoch, vec![rule(epoch.into(), 5, &[2 + u32::from(n % 2)])]);
            next.remove = vec![u64::from(n)];
            session.send(ToAgent::Stage(next)).await;
            session.send(packet_out(n.into(), 1, TABLE, frame(n))).await;
            session
                .send(ToAgent::Activate(v1::Activate {
                    network: 1,
                    epoch,
                    past: 0,
                }))
                .await;
        }
        session
            .wait(|m| match m {
                Message::Activated(a) if a.epoch == u32::from(ROUNDS) + 1 => Some(()),
                _ => None,
            })
            .await;
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        for n in 1..=ROUNDS {
            let right = if n % 2 == 1 { &host2 } else { &host3 };
            right.expect(is(n)).await;
        }
        agent.stop().await;
    });
}

#[test]
fn packets_whose_ttl_runs_out_go_to_the_controller_of_a_switch_that_says_so() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let _agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        let mut wanted = network(1);
        wanted.switches[0].packet_ins = Some(v1::PacketIns {
            invalid_ttl: true,
            ..Default::default()
        });
        assert_eq!(session.configure(wanted).await.error, None);
        let mut counts_down = rule(1, 5, &[2]);
        let of = counts_down.rule.as_mut().unwrap();
        let ip = v1::FieldMatch {
            field: 5,
            value: vec![8, 0],
            ..Default::default()
        };
        of.r#match.push(ip);
        let dec_ttl = v1::action::Action::DecNwTtl(v1::action::DecTtl {});
        let action = Some(dec_ttl);
        of.actions.insert(0, v1::Action { action });
        assert_eq!(session.stage(stage(1, vec![counts_down])).await.error, None);
        session.activate(1, 1).await;
        let (host1, host2) = (Wire::open("host1"), Wire::open("host2"));
        let mut packet = unfragmentable(100);
        host1.send(&packet);
        host2
            .expect(|f| f.len() == packet.len() && f[22] == 63)
            .await;
        packet[22] = 1;
        host1.send(&packet);
        let event = packet_in(&mut session).await;
        let packet_in = event.packet_in.unwrap();
        assert_eq!(packet_in.reason(), v1::PacketInReason::InvalidTtl);
        assert_eq!((event.rule_id, packet_in.data), (1, packet));
    });
}
