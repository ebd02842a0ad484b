//! A tenant's controller: packets in, packets out, and the reactive firewall.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::Duration;

use common::{MODES, PATIENCE, lab, one_switch};
use lime_proto::v1::{
    PacketInReason, PacketOut, PortAttach, SendPacketOutRequest, WatchEventsRequest,
};
use lime_tests::firewall::{App, PROBE_PORT, Policy, Prober, UdpPacket};
use lime_tests::lab::EndHost;
use lime_tests::rules::{CONTROLLER, FLOOD, RuleSpec, output};
use lime_tests::traffic::Echo;

fn socket(host: &EndHost, port: u16) -> UdpSocket {
    let bind = || UdpSocket::bind((host.ipv4(), port));
    let socket = host.netns().run(bind).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_goes_to_the_controller_and_comes_back_whole() {
    for attach in MODES {
        let lab = lab(1, 2, attach).await;
        let mut tenant = one_switch(&lab, attach).await;
        let rules = vec![
            RuleSpec::new(10).arp().output(FLOOD).add(),
            RuleSpec::new(5)
                .cookie(0xbeef)
                .ipv4()
                .output(CONTROLLER)
                .add(),
        ];
        tenant.rules("s1", rules).await.unwrap();
        let mut client = tenant.client();
        let watch = WatchEventsRequest {
            network: "net".into(),
            switch: String::new(),
        };
        let mut events = client.watch_events(watch).await.unwrap().into_inner();
        let [h1, h2] = lab.end_hosts() else {
            unreachable!()
        };
        let (sender, receiver) = (socket(h1, 4000), socket(h2, 5000));
        sender
            .send_to(b"via the controller", (h2.ipv4(), 5000))
            .unwrap();

        let event = tokio::time::timeout(PATIENCE, events.message());
        let event = event.await.expect("an event").unwrap().unwrap();
        assert_eq!(
            (event.network.as_str(), event.switch.as_str()),
            ("net", "s1")
        );
        let packet = event.packet_in.unwrap();
        assert_eq!((packet.cookie, packet.in_port), (0xbeef, 1));
        assert_eq!(packet.reason(), PacketInReason::Action);
        assert_eq!(packet.total_len as usize, packet.data.len());
        let udp = UdpPacket::parse(&packet.data).unwrap();
        assert_eq!((udp.source, udp.destination_port), (h1.ipv4(), 5000));

        // The end host's own stack checks the checksum of what comes out.
        let out = SendPacketOutRequest {
            network: "net".into(),
            switch: "s1".into(),
            packet_out: Some(PacketOut {
                in_port: packet.in_port,
                actions: vec![output(2)],
                data: packet.data,
            }),
        };
        client.send_packet_out(out).await.unwrap();
        let mut buffer = [0; 64];
        let n = tokio::task::block_in_place(|| receiver.recv(&mut buffer))
            .unwrap_or_else(|e| panic!("{attach:?}: {e}\n{}", lab.logs()));
        assert_eq!(&buffer[..n], b"via the controller");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_packet_out_goes_to_every_port_asked_for() {
    let lab = lab(2, 3, PortAttach::Tc).await;
    let mut tenant = common::tenant(&lab, PortAttach::Tc).await;
    tenant.switch("s1", "a").await.unwrap();
    for (port, end_host, host) in [(1, "h1", "a"), (2, "h2", "a"), (3, "h3", "b")] {
        tenant.port(&lab, "s1", port, end_host, host).await.unwrap();
    }
    let [h1, h2, h3] = lab.end_hosts() else {
        unreachable!()
    };
    // A datagram to everybody, as h1 would send it.
    let frame = {
        let mut f = vec![0xff; 6];
        f.extend(h1.mac());
        f.extend([0x08, 0x00, 0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17]);
        f.extend([0, 0]);
        f.extend(h1.ipv4().octets());
        f.extend([255, 255, 255, 255]);
        // UDP 4000 -> 5000, no checksum.
        f.extend([0x0f, 0xa0, 0x13, 0x88, 0, 13, 0, 0]);
        f.extend(b"hello");
        let sum: u32 = f[14..34]
            .chunks(2)
            .map(|c| u32::from(u16::from_be_bytes([c[0], c[1]])))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        f
    };
    let receivers = [h2, h3].map(|h| {
        let bind = || UdpSocket::bind("0.0.0.0:5000");
        let s = h.netns().run(bind).unwrap().unwrap();
        s.set_read_timeout(Some(PATIENCE)).unwrap();
        s
    });
    let out = SendPacketOutRequest {
        network: "net".into(),
        switch: "s1".into(),
        packet_out: Some(PacketOut {
            in_port: 1,
            actions: vec![output(FLOOD)],
            data: frame,
        }),
    };
    tenant.client().send_packet_out(out).await.unwrap();
    for receiver in receivers {
        let mut buffer = [0; 64];
        let n = tokio::task::block_in_place(|| receiver.recv(&mut buffer))
            .unwrap_or_else(|e| panic!("{e}\n{}", lab.logs()));
        assert_eq!(&buffer[..n], b"hello");
    }
}

/// The firewall on a switch with `instances` instances: no violation, and every new flow gets its answer.
async fn firewall(attach: PortAttach, instances: usize) {
    let lab = lab(2, 2, attach).await;
    let mut tenant = common::tenant(&lab, attach).await;
    tenant.switch("s1", "a").await.unwrap();
    tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
    tenant.port(&lab, "s1", 2, "h2", "b").await.unwrap();
    if instances == 2 {
        tenant.clone_switch("s1", "b").await.unwrap();
    }
    let [inside, outside] = lab.end_hosts() else {
        unreachable!()
    };
    let policy = Policy {
        network: "net".into(),
        switch: "s1".into(),
        inside: HashMap::from([(inside.ipv4(), 1)]),
        outside: 2,
    };
    let mut rules = policy.base_rules();
    rules.push(RuleSpec::new(50).arp().output(FLOOD).add());
    tenant.rules("s1", rules).await.unwrap();
    let app = App::start(lab.controller().unwrap(), policy).await.unwrap();
    let echo = Echo::start(outside, (outside.ipv4(), PROBE_PORT).into()).unwrap();
    let prober = Prober::start(inside, vec![outside.ipv4()], Duration::from_millis(5)).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let probes = tokio::task::block_in_place(|| prober.finish()).unwrap();
    let report = app.report();
    let context = || {
        format!(
            "{attach:?}, {instances}: {probes:?} {report:?}\n{}",
            lab.logs()
        )
    };
    assert!(probes.started > 100, "{}", context());
    assert_eq!(probes.answered, probes.started, "{}", context());
    assert_eq!(echo.answered(), probes.started, "{}", context());
    assert_eq!(report.packet_ins, probes.started, "{}", context());
    assert_eq!((report.violations, report.errors), (0, 0), "{}", context());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_firewall_sees_no_violation_with_one_instance() {
    for attach in MODES {
        firewall(attach, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_firewall_sees_no_violation_with_two_instances() {
    for attach in MODES {
        firewall(attach, 2).await;
    }
}
