//! Tables that change under traffic, on the real kernel: every packet meets exactly one version of the rules, whatever the agent does meanwhile.
#![allow(clippy::unwrap_used, reason = "tests panic")]

#[path = "support/devices.rs"]
mod devices;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use devices::{gro_on, index, ip};
use lime_core::flow::{Action, Field, FieldMatch, Match, Rule};
use lime_core::model::PacketIns;
use lime_core::{Epoch, NetworkId, PortId, PortNo, RuleId, SwitchId};
use switch_agent::datapath::{
    AttachMode, Datapath, Limits, Place, PortCount, PortSettings, SwitchSettings,
};

const NET: NetworkId = NetworkId(3);
const SWITCH: SwitchId = SwitchId(4);
/// IEEE 802, local experimental EtherType 1.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];

struct PinDir(PathBuf);

impl Drop for PinDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Two tables: the first goes on at the second, which outputs to port 2. Versions differ in masks, so that runs change too.
fn rules(version: u64) -> Vec<(RuleId, Rule)> {
    let matching = |field: Field, value: u128, mask: u128| {
        Match::new([FieldMatch { field, value, mask }]).unwrap()
    };
    let wide = Field::EthDst.full_mask() & !(0xff << (8 * (version % 3)));
    let rule = |table: u8, matching: Match, actions, goto_table| Rule {
        table,
        priority: 1 + (version % 5) as u16,
        cookie: 0,
        matching,
        actions,
        goto_table,
        idle_timeout: 0,
        hard_timeout: 0,
        ..Rule::default()
    };
    let first = matching(Field::EthDst, 0x0200_0000_0002 & wide, wide);
    let second = matching(Field::InPort, 1, Field::InPort.full_mask());
    let out = vec![Action::output(PortNo(2))];
    vec![
        (RuleId(version * 2), rule(0, first, vec![], Some(1))),
        (RuleId(version * 2 + 1), rule(1, second, out, None)),
    ]
}

fn furnish(dp: &mut Datapath) {
    dp.set_network(NET, 77, false).unwrap();
    let switch = SwitchSettings {
        id: SWITCH,
        instance: true,
        join_epoch: Epoch::ZERO,
        retire_epoch: Epoch::ZERO,
        relay_host: None,
        hold: false,
        packet_ins: PacketIns::default(),
    };
    dp.set_switch(NET, &switch).unwrap();
    for (number, device) in [(1, "port1"), (2, "port2")] {
        let port = PortSettings {
            id: PortId(number),
            switch: SWITCH,
            port_no: PortNo(number),
            place: Place::Local {
                ifindex: index(device),
            },
            down: false,
            dead: false,
            no_flood: false,
            mtu: 1500,
        };
        dp.set_port(NET, &port).unwrap();
    }
}

/// Sends frames until told to stop, and counts them.
fn send(device: &str, stop: &AtomicBool, sent: &AtomicU64) {
    // SAFETY: no pointers are passed; the descriptor is owned at once.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0);
        OwnedFd::from_raw_fd(fd)
    };
    let mut frame = [0u8; 60];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&ETHER_TYPE);
    // SAFETY: an all-zero sockaddr_ll is a value of it.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = index(device) as i32;
    address.sll_halen = 6;
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: frame and address outlive the call, with their lengths.
        let n = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as u32,
            )
        };
        let error = std::io::Error::last_os_error();
        if n < 0 && error.raw_os_error() == Some(libc::ENOBUFS) {
            // Where a veth does not hold its sender back, the frame has not gone in.
            std::thread::yield_now();
            continue;
        }
        assert_eq!(n, 60, "{error}");
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

fn count(dp: &Datapath, port: u32) -> PortCount {
    let counts = dp.port_counters(NET).unwrap();
    counts.iter().find(|(id, _)| id.0 == port).unwrap().1
}

/// Replaces both rules again and again; gives how often.
fn churn(dp: &mut Datapath, from: u64, until: Instant, matched: &mut u64) -> u64 {
    let mut version = from;
    while Instant::now() < until {
        version += 1;
        let epoch = Epoch(version as u32);
        let old: Vec<_> = match version {
            1 => vec![],
            _ => rules(version - 1).iter().map(|(id, _)| *id).collect(),
        };
        dp.stage(NET, epoch, Some(SWITCH), &rules(version), &old)
            .unwrap();
        dp.raise_clock(NET, epoch).unwrap();
        if version.is_multiple_of(8) {
            // What has ended counts no more after a grace period; then it is read, and collected.
            switch_agent::datapath::grace_period().unwrap();
            let current: Vec<_> = rules(version).iter().map(|(id, _)| *id).collect();
            let counts = dp.rule_counters(NET, None).unwrap();
            let ended = counts.iter().filter(|c| !current.contains(&c.rule));
            *matched += ended.map(|c| c.packets).sum::<u64>();
            dp.collect(NET, epoch).unwrap();
        }
    }
    version
}

fn every_packet_meets_one_version(mode: AttachMode) {
    let dir = PinDir(format!("/sys/fs/bpf/lime-live-{}-{mode:?}", std::process::id()).into());
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    for (host, port) in [("host1", "port1"), ("host2", "port2")] {
        ip(&format!("link add {host} type veth peer name {port}"));
        for device in [host, port] {
            // No packets but the test's own.
            let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
            let _ = std::fs::write(path, "1");
            ip(&format!("link set {device} up"));
        }
    }
    let limits = Limits {
        rules: 64,
        ports: 10,
        ..Limits::default()
    };
    let (mut dp, _) = Datapath::open(&dir.0, &limits).unwrap();
    furnish(&mut dp);
    let mut matched = 0;
    let mut version = churn(&mut dp, 0, Instant::now(), &mut matched);
    assert_eq!(version, 0);
    dp.stage(NET, Epoch(1), Some(SWITCH), &rules(1), &[])
        .unwrap();
    dp.raise_clock(NET, Epoch(1)).unwrap();
    version += 1;
    for device in ["port1", "port2"] {
        dp.attach_port(index(device), mode).unwrap();
    }
    if mode == AttachMode::Xdp {
        // A veth takes redirected XDP frames when its other end runs NAPI: with GRO on.
        gro_on("host2");
    }

    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send("host1", &stop, &sent));
        for _ in 0..4 {
            let until = Instant::now() + Duration::from_millis(500);
            version = churn(&mut dp, version, until, &mut matched);
            // The agent dies and is started again.
            let (reopened, adopted) = {
                drop(std::mem::replace(
                    &mut dp,
                    Datapath::in_memory(&limits).unwrap(),
                ));
                Datapath::open(&dir.0, &limits).unwrap()
            };
            assert_eq!(adopted.networks[0].clock, Epoch(version as u32));
            dp = reopened;
        }
        stop.store(true, Ordering::Relaxed);
        sender.join().unwrap();
    });
    let sent = sent.load(Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(30);
    while count(&dp, 1).rx_packets < sent && Instant::now() < deadline {
        std::thread::yield_now();
    }
    matched += dp
        .rule_counters(NET, None)
        .unwrap()
        .iter()
        .map(|c| c.packets)
        .sum::<u64>();
    println!("{mode:?}: {sent} packets, {version} versions");
    assert!(sent > 1000 && version > 10);
    let drops: Vec<_> = (1..=2)
        .flat_map(|p| count(&dp, p).drops().collect::<Vec<_>>())
        .collect();
    assert_eq!(drops, []);
    assert_eq!(count(&dp, 1).rx_packets, sent);
    assert_eq!(count(&dp, 2).tx_packets, sent);
    assert_eq!(
        matched,
        2 * sent,
        "each packet is counted at one rule of each table"
    );
}

#[test]
fn in_tc() {
    let test = || every_packet_meets_one_version(AttachMode::Tc);
    std::thread::spawn(test).join().unwrap();
}

#[test]
fn in_xdp() {
    let test = || every_packet_meets_one_version(AttachMode::Xdp);
    std::thread::spawn(test).join().unwrap();
}
