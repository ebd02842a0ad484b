//! Rules of a switch on two hosts that time out under traffic, and a port whose device goes down: what the controller is told.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{MODES, PATIENCE, assert_reaches, lab, tenant};
use lime_proto::v1::flow_removed::Reason;
use lime_proto::v1::{ControllerEvent, FlowMod, FlowRemoved, PortAttach, WatchEventsRequest};
use lime_tests::lab::{Lab, LabHost};
use lime_tests::rules::{FLOOD, RuleSpec, field};
use lime_tests::tenant::Tenant;
use tonic::Streaming;

/// Bytes of a datagram's payload, and of the frame that it is in.
const PAYLOAD: usize = 100;
const FRAME: u64 = PAYLOAD as u64 + 14 + 20 + 8;

/// Switch s1 on two hosts, each with an end host.
async fn two_hosts(attach: PortAttach) -> (Lab, Tenant) {
    let lab = lab(2, 2, attach).await;
    let mut tenant = tenant(&lab, attach).await;
    tenant.switch("s1", "a").await.unwrap();
    for (port, end_host, host) in [(1, "h1", "a"), (2, "h2", "b")] {
        tenant.port(&lab, "s1", port, end_host, host).await.unwrap();
    }
    tenant.clone_switch("s1", "b").await.unwrap();
    let arp = RuleSpec::new(1).arp().output(FLOOD).add();
    tenant.rules("s1", vec![arp]).await.unwrap();
    (lab, tenant)
}

/// A rule for datagrams to this port, in both directions, whose end is told.
fn timed(port: u16, idle: u32, hard: u32) -> FlowMod {
    let udp = RuleSpec::new(5).ipv4().proto(17);
    let mut add = udp
        .field(field::UDP_DST, port.to_be_bytes())
        .output(FLOOD)
        .add();
    let rule = add.rule.as_mut().unwrap();
    rule.cookie = port.into();
    rule.idle_timeout = idle;
    rule.hard_timeout = hard;
    rule.send_flow_removed = true;
    add
}

/// The sockets of both end hosts on this port.
fn sockets(lab: &Lab, port: u16) -> [(UdpSocket, SocketAddr); 2] {
    let [h1, h2] = lab.end_hosts() else {
        unreachable!()
    };
    [(h1, h2), (h2, h1)].map(|(from, to)| {
        let bind = || UdpSocket::bind((from.ipv4(), port));
        let socket = from.netns().run(bind).unwrap().unwrap();
        (socket, (to.ipv4(), port).into())
    })
}

/// Sends in both directions until told to stop, or this often. How many arrived.
fn exchange(sockets: &[(UdpSocket, SocketAddr); 2], stop: &AtomicBool, at_most: usize) -> u64 {
    let mut arrived = 0;
    let mut receive = |wait| {
        let mut all = 0;
        for (socket, _) in sockets {
            socket.set_read_timeout(Some(wait)).unwrap();
            all += u64::from(socket.recv(&mut [0; PAYLOAD]).is_ok());
        }
        arrived += all;
        all > 0
    };
    for _ in 0..at_most {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for (socket, to) in sockets {
            // Refused is what an earlier one met before the other end listened.
            let _ = socket.send_to(&[0; PAYLOAD], to);
        }
        receive(Duration::from_millis(20));
    }
    while receive(Duration::from_secs(1)) {}
    arrived
}

async fn watch(tenant: &Tenant) -> Streaming<ControllerEvent> {
    let watch = WatchEventsRequest {
        network: "net".into(),
        switch: String::new(),
    };
    let events = tenant.client().watch_events(watch).await;
    events.unwrap().into_inner()
}

async fn next(events: &mut Streaming<ControllerEvent>) -> ControllerEvent {
    let next = tokio::time::timeout(PATIENCE * 2, events.message()).await;
    next.expect("an event in time").unwrap().unwrap()
}

async fn removed(events: &mut Streaming<ControllerEvent>) -> FlowRemoved {
    let event = next(events).await;
    let Some(removed) = event.flow_removed else {
        panic!("{event:?}")
    };
    removed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_that_end_under_traffic_tell_what_both_hosts_counted() {
    for attach in MODES {
        let (lab, mut tenant) = two_hosts(attach).await;
        let (hard, idle) = (sockets(&lab, 5000), sockets(&lab, 5001));
        let mut events = watch(&tenant).await;
        let rules = vec![timed(5000, 0, 2), timed(5001, 1, 0)];
        tenant.rules("s1", rules).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let never = AtomicBool::new(false);
        let sender = {
            let stop = stop.clone();
            tokio::task::spawn_blocking(move || exchange(&hard, &stop, usize::MAX))
        };
        let used = tokio::task::spawn_blocking(move || exchange(&idle, &never, 20));
        let mut ends = [removed(&mut events).await, removed(&mut events).await];
        stop.store(true, Ordering::Relaxed);
        ends.sort_by_key(|end| end.rule.as_ref().unwrap().cookie);
        let arrived = [sender.await.unwrap(), used.await.unwrap()];
        let reasons = [Reason::HardTimeout, Reason::IdleTimeout];
        let durations = [2000, 1000];
        for i in 0..2 {
            let (end, logs) = (&ends[i], lab.logs());
            assert_eq!(end.reason(), reasons[i], "{attach:?}");
            assert!(end.duration_ms >= durations[i], "{end:?}");
            assert!(arrived[i] > 0, "{attach:?}: nothing arrived\n{logs}");
            // Each packet that was counted arrived once, on whichever host it came in.
            assert_eq!(end.packets, arrived[i], "{attach:?} {end:?}\n{logs}");
            assert_eq!(end.bytes, arrived[i] * FRAME);
        }
        // Only the rule for ARP is left.
        assert_eq!(tenant.rule_stats("s1").await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controller_hears_of_a_device_that_goes_down_and_up() {
    let (lab, mut tenant) = two_hosts(PortAttach::Tc).await;
    common::flood(&mut tenant, "s1").await;
    let [h1, h2] = lab.end_hosts() else {
        unreachable!()
    };
    let mut events = watch(&tenant).await;
    let host: &LabHost = lab.host("b").unwrap();
    let device = Lab::port_device("h2");
    for up in [false, true] {
        host.links().set_up(&device, up).await.unwrap();
        let change = next(&mut events).await.port_status.unwrap();
        assert_eq!((change.port_no, change.up), (2, up));
    }
    assert_reaches(&lab, h1, h2, h2.ipv4());
}

/// Rules per round, and rounds.
const RESUMED: u16 = 30;
const ROUNDS: u16 = 3;

/// Sends in both directions on each of the ports, one port after the other, around the time at which the rules may be idle: when each datagram left.
fn resume(sockets: &[[(UdpSocket, SocketAddr); 2]], start: Instant) -> Vec<Vec<Instant>> {
    let mut sent = vec![Vec::new(); sockets.len()];
    for (i, both) in (0..).zip(sockets) {
        let between = Duration::from_millis(900) / u32::from(RESUMED);
        let due = start + Duration::from_millis(900) + between * i;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        for (socket, to) in both {
            sent[i as usize].push(Instant::now());
            socket.send_to(&[0; PAYLOAD], to).unwrap();
        }
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_14_traffic_that_resumes_as_rules_become_idle_is_not_lost_and_not_counted_by_them() {
    for attach in MODES {
        let (lab, mut tenant) = two_hosts(attach).await;
        let rest = RuleSpec::new(2).ipv4().proto(17).output(FLOOD).add();
        tenant.rules("s1", vec![rest]).await.unwrap();
        let ports: Vec<u16> = (6000..6000 + RESUMED).collect();
        let mut all: Vec<_> = ports.iter().map(|port| sockets(&lab, *port)).collect();
        let mut events = watch(&tenant).await;
        let mut counted = 0;
        for _ in 0..ROUNDS {
            let rules = ports.iter().map(|port| timed(*port, 1, 0)).collect();
            tenant.rules("s1", rules).await.unwrap();
            let start = Instant::now();
            let sender = tokio::task::spawn_blocking(move || {
                let sent = resume(&all, start);
                (all, sent)
            });
            let mut ends = Vec::new();
            for _ in &ports {
                ends.push((removed(&mut events).await, Instant::now()));
            }
            let sent;
            (all, sent) = sender.await.unwrap();
            for (end, told) in ends {
                assert_eq!(end.reason(), Reason::IdleTimeout);
                counted += end.packets;
                let port = end.rule.as_ref().unwrap().cookie - 6000;
                let matched = &sent[port as usize][..end.packets as usize];
                if let Some(last) = matched.last() {
                    let idle = told - *last;
                    assert!(
                        idle >= Duration::from_secs(1),
                        "{attach:?}: {idle:?} {end:?}\n{}",
                        lab.logs()
                    );
                }
            }
        }
        let total = 2 * u64::from(RESUMED * ROUNDS);
        let arrived = tokio::task::spawn_blocking(move || {
            let mut arrived = 0;
            for (socket, _) in all.iter().flatten() {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                for _ in 0..ROUNDS {
                    arrived += u64::from(socket.recv(&mut [0; PAYLOAD]).is_ok());
                }
            }
            arrived
        });
        assert_eq!(arrived.await.unwrap(), total, "{attach:?}\n{}", lab.logs());
        let stats = tenant.rule_stats("s1").await.unwrap();
        let rest = stats
            .iter()
            .find(|s| s.rule.as_ref().unwrap().priority == 2);
        assert_eq!(counted + rest.unwrap().packets, total, "{attach:?}");
    }
}
