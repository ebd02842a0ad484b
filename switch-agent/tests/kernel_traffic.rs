//! The kernel programs under real TCP between network namespaces: segmentation offload, partial checksums and re-encapsulation,
//! which test runs can not show. Needs root.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

#[path = "kernel/frames.rs"]
#[allow(dead_code, reason = "shared with the other kernel tests")]
mod frames;
#[path = "kernel/world.rs"]
#[allow(dead_code, reason = "shared with the other kernel tests")]
mod world;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};
use switch_abi::*;
use world::{World, act, key, output, port};

/// A namespace with a unique name, deleted when dropped.
struct Netns(String);

impl Netns {
    fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let netns = Self(format!("lime-kt-{}-{count}-{name}", process::id()));
        run(&["ip", "netns", "add", &netns.0]);
        netns.ip("link set lo up");
        netns
    }

    fn ip(&self, arguments: &str) {
        let mut command = vec!["ip", "-n", &self.0];
        command.extend(arguments.split(' '));
        run(&command);
    }

    /// Runs in a thread of its own inside.
    fn inside<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/var/run/netns/{}", self.0)).unwrap();
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
                    job()
                })
                .join()
                .unwrap()
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Nothing to do about a failure here.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An end host on `host`, whose port device there is `p<n>`.
fn end_host(host: &Netns, n: u8) -> Netns {
    let end = Netns::new(&format!("h{n}"));
    end.ip(&format!(
        "link add eth0 type veth peer name p{n} netns {}",
        host.0
    ));
    end.ip(&format!("link set eth0 address 02:00:00:00:00:{n:02x}"));
    end.ip(&format!("addr add 10.0.0.{n}/24 dev eth0"));
    end.ip("link set eth0 mtu 1400 up");
    // Over IPv6 without neighbour discovery, for which there are no rules.
    end.ip(&format!("addr add fd00::{n}/64 dev eth0 nodad"));
    for other in (1..=3).filter(|&other| other != n) {
        end.ip(&format!(
            "neigh add fd00::{other} lladdr 02:00:00:00:00:{other:02x} dev eth0"
        ));
    }
    host.ip(&format!("link set p{n} mtu 1400 up"));
    end
}

/// The underlay between two hosts.
fn underlay(a: &Netns, b: &Netns) {
    a.ip(&format!("link add u0 type veth peer name u0 netns {}", b.0));
    for (host, n) in [(a, 1), (b, 2)] {
        host.ip(&format!("link set u0 address 02:ff:00:00:00:{n:02x}"));
        host.ip("link set u0 mtu 1500 up");
    }
}

/// Host `n`'s template towards the other host.
fn peer(n: u8, ifindex: u32) -> PeerEntry {
    let mut variant = PeerHeader {
        ifindex,
        len: 42,
        mtu: 1500,
        ..Default::default()
    };
    let b = &mut variant.bytes;
    b[..14].copy_from_slice(&[2, 255, 0, 0, 0, 3 - n, 2, 255, 0, 0, 0, n, 8, 0]);
    b[14..24].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17]);
    b[26..34].copy_from_slice(&[192, 0, 2, n, 192, 0, 2, 3 - n]);
    let mut sum: u32 = b[14..34]
        .chunks(2)
        .map(|c| u16::from_be_bytes([c[0], c[1]]) as u32)
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    b[24..26].copy_from_slice(&(!sum as u16).to_be_bytes());
    b[36..38].copy_from_slice(&TUNNEL_PORT.to_be_bytes());
    PeerEntry {
        host: 3 - n as u32,
        variants: [variant; 2],
        ..Default::default()
    }
}

/// Sends `megabytes` from one end host to the other; how long it took.
fn transfer(from: &Netns, to: &Netns, address: SocketAddr, megabytes: usize) -> Duration {
    let listener = to.inside(|| TcpListener::bind(address).unwrap());
    thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let (mut buffer, mut total) = (vec![0; 1 << 20], 0);
            loop {
                match stream.read(&mut buffer).expect("traffic stalled") {
                    0 => return total,
                    n => {
                        assert!(
                            buffer[..n].iter().all(|byte| *byte == 0x5a),
                            "data changed on the way"
                        );
                        total += n;
                    }
                }
            }
        });
        let mut stream =
            from.inside(|| TcpStream::connect_timeout(&address, Duration::from_secs(10)).unwrap());
        stream
            .set_write_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let start = Instant::now();
        let block = vec![0x5a; 1 << 20];
        for _ in 0..megabytes {
            stream.write_all(&block).expect("traffic stalled");
        }
        drop(stream);
        assert_eq!(receiver.join().unwrap(), megabytes << 20);
        start.elapsed()
    })
}

/// Rules: ARP goes everywhere; else to the port number that the last byte of the IPv4 destination says, less 10.
fn rules(world: &mut World, ports: &[(u32, u8)], first_port: u32) {
    let mut switch: SwitchEntry = world.get(maps::SWITCHES, 1);
    switch.first_port = first_port;
    world.switch(1, switch);
    let arp = key(|k| k.eth_type = [8, 6]);
    world.rule(
        2,
        key(|k| k.eth_type = [0xff; 2]),
        arp,
        &[act(op::FLOOD, 0, 0, &[])],
    );
    for (slot, n) in ports {
        let mask = key(|k| (k.eth_type, k.ip_dst[3]) = ([0xff; 2], 0xff));
        world.rule(
            1,
            mask,
            key(|k| (k.eth_type, k.ip_dst[3]) = ([8, 0], *n)),
            &[output(*slot)],
        );
        let mask = key(|k| (k.eth_type, k.ip_dst[15]) = ([0xff; 2], 0xff));
        world.rule(
            1,
            mask,
            key(|k| (k.eth_type, k.ip_dst[15]) = ([0x86, 0xdd], *n)),
            &[output(*slot)],
        );
    }
    // In between with a VLAN tag, which the kernel keeps in the metadata of large frames: pushed here, over a link into switch 2,
    // popped there. On each host.
    let tagged = key(|k| (k.ip_proto, k.l4_dst) = (6, TAGGED.to_be_bytes()));
    let push = [
        act(op::PUSH_VLAN, 0x8100, 0, &[]),
        act(op::SET_VLAN_VID, 5, 0, &[]),
    ];
    world.rule(
        9,
        key(|k| (k.ip_proto, k.l4_dst) = (0xff, [0xff; 2])),
        tagged,
        &[&push[..], &[output(4)]].concat(),
    );
    for (slot, n) in ports {
        let mask = key(|k| (k.vlan_tci, k.ip_dst[3]) = ([0x1f, 0xff], 0xff));
        let arrives = key(|k| (k.vlan_tci, k.ip_dst[3]) = ([0x10, 5], *n));
        let pop = act(op::POP_VLAN, 0, 0, &[]);
        world.rule_with(1, mask, arrives, &[pop, output(*slot)], |r| {
            r.switch_slot = 2
        });
    }
    world.commit();
}

/// TCP port whose traffic has a tag between two switches.
const TAGGED: u16 = 7005;

#[test]
fn tcp_stays_in_large_frames_on_one_host_and_through_the_tunnel() {
    let (a, b) = (Netns::new("a"), Netns::new("b"));
    let (h1, h2, h3) = (end_host(&a, 1), end_host(&b, 2), end_host(&b, 3));
    underlay(&a, &b);
    let place = |host: &Netns, n: u8, places: [Option<&str>; 3]| {
        host.inside(|| {
            let index = |name: &str| nix::net::if_::if_nametoindex(name).unwrap();
            let mut world = World::here();
            world.peer(2, peer(n, index("u0")));
            world.allow(&[192, 0, 2, 3 - n], 0x123456, 1);
            world.set(maps::DEVICES, 1, 0u32);
            for (i, place) in places.iter().enumerate() {
                let slot = i as u32 + 1;
                let next = if slot == 3 { 0 } else { slot + 1 };
                let entry = PortEntry {
                    id: 100 + slot,
                    port_no: 10 + slot,
                    mtu: 1400,
                    next,
                    ..port()
                };
                match place {
                    Some(device) => {
                        world.port(
                            slot,
                            PortEntry {
                                kind: PORT_LOCAL,
                                ifindex: index(device),
                                ..entry
                            },
                        );
                        world.set(maps::DEVICES, index(device), slot);
                        world.attach(programs::TC_PORT, device);
                    }
                    None => world.port(
                        slot,
                        PortEntry {
                            kind: PORT_REMOTE,
                            peer: 2,
                            ..entry
                        },
                    ),
                }
            }
            world.attach(programs::TC_UNDERLAY, "u0");
            for (slot, switch_slot, link) in [(4, 1, 5), (5, 2, 4)] {
                world.port(
                    slot,
                    PortEntry {
                        id: 100 + slot,
                        port_no: slot,
                        switch_slot,
                        kind: PORT_LINK,
                        link,
                        ..port()
                    },
                );
            }
            // Switch 2 has its instance on b alone.
            let relay = SwitchEntry {
                id: 6,
                network: 1,
                state: SWITCH_RELAY,
                relay_peer: 2,
                ..Default::default()
            };
            let active = SwitchEntry {
                state: SWITCH_ACTIVE,
                join_epoch: 1,
                ..relay
            };
            world.switch(2, if n == 1 { relay } else { active });
            rules(&mut world, &[(1, 1), (2, 2), (3, 3)], 1);
            world
        })
    };
    let world_a = place(&a, 1, [Some("p1"), None, None]);
    let mut world_b = place(&b, 2, [None, Some("p2"), Some("p3")]);

    // Fewer under emulation.
    let megabytes = std::env::var("LIME_MEGABYTES").map_or(100, |n| n.parse().unwrap());
    let check = |name: &str, from: &Netns, to: &Netns, n: u8, world: &World, port: u32| {
        let (ipv4, ipv6) = (format!("10.0.0.{n}"), format!("fd00::{n}"));
        for (address, tcp_port) in [(&ipv4, 7000), (&ipv4, TAGGED), (&ipv6, 7000)] {
            let before = world.port_counters(port);
            let address = (address.parse::<IpAddr>().unwrap(), tcp_port).into();
            let time = transfer(from, to, address, megabytes);
            let after = world.port_counters(port);
            let average =
                (after.rx_bytes - before.rx_bytes) / (after.rx_packets - before.rx_packets);
            let gigabits = (megabytes << 23) as f64 / time.as_secs_f64() / 1e9;
            println!("{name}, {address}: {gigabits:.1} Gb/s, frames of {average} bytes");
            assert!(average > 10_000, "{name}: frames were segmented");
        }
    };
    check("one host", &h2, &h3, 3, &world_b, 2);
    check("two hosts", &h1, &h2, 2, &world_a, 1);
    // No instance on b: from h2 to a, processed there, and back to b for h3. What was in a tunnel goes into one again.
    world_b.switch(
        1,
        SwitchEntry {
            id: 5,
            network: 1,
            state: SWITCH_RELAY,
            relay_peer: 2,
            ..Default::default()
        },
    );
    check("there and back", &h2, &h3, 3, &world_a, 2);
    for world in [&world_a, &world_b] {
        for slot in 0..4 {
            // Table misses are IPv6 neighbour discovery.
            let mut drops = world.port_counters(slot).drops;
            // By its last byte ff02::2 is h2's address for these rules: a router solicitation of h2 goes back to its port.
            drops[DropReason::OutputToInPort as usize] = 0;
            assert_eq!(drops[1..], [0; DROP_REASONS - 1], "drops at port {slot}");
        }
    }
}
