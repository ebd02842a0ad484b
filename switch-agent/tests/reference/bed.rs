//! The kernel pipeline on tap devices: the same network twice, once with XDP programs (and TC behind them) on its ports and once with TC alone.
//! A frame that is written to a tap has gone all its way when the call returns, so that nothing needs to be waited for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use lime_core::flow::{GroupPiece, GroupTable, Part};
use lime_core::model::PacketIns;
use lime_core::{Epoch, HostId, NetworkId, PortId, PortNo, RuleId, SwitchId};
use lime_reference::{Count, Counted, Event, Place as Leads, Port};
use switch_abi::{DropReason, EVENT_PACKET_IN, EVENT_REASON_NO_MATCH, TUNNEL_DELIVER};
use switch_agent::datapath::{
    AttachMode, Datapath, EventRing, Limits, PeerRoute, Place, PortSettings, SwitchSettings,
};

use super::offload::Header;
use super::scenario::{LOCAL, SWITCHES, Scenario};
use super::tap::{Tap, ready};

/// Which programs are on the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Xdp,
    Tc,
}

pub const BOTH: [Mode; 2] = [Mode::Xdp, Mode::Tc];
const OTHER_HOST: HostId = HostId(9);

/// What the kernel made of a frame, in the reference's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub sent: Vec<(PortId, Vec<u8>)>,
    pub events: Vec<Event>,
    pub counts: BTreeMap<Counted, Count>,
    pub ports: BTreeMap<PortId, Counters>,
}

/// A port's counters: received and sent, and drops by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub received: Count,
    pub sent: Count,
    pub drops: BTreeMap<&'static str, u64>,
}

pub struct Bed {
    dp: Datapath,
    ring: EventRing,
    /// Of both modes.
    ports: [Vec<Tap>; 2],
    recirculation: Tap,
    underlay: Tap,
    /// Epochs that are staged, of both modes.
    staged: [u32; 2],
    /// Groups as they are staged, by switch, of both modes; and whose counters their parts' are.
    groups: [BTreeMap<SwitchId, GroupTable>; 2],
    parts: [BTreeMap<RuleId, Counted>; 2],
    /// Counters as they were last, of both modes.
    counted: [(BTreeMap<RuleId, Count>, BTreeMap<PortId, Counters>); 2],
    directory: PathBuf,
}

impl Mode {
    fn network(self) -> NetworkId {
        NetworkId(self as u32 + 1)
    }

    /// Switches have ids of their own in each network.
    fn switch(self, switch: SwitchId) -> SwitchId {
        SwitchId(self as u32 * 10 + switch.0)
    }
}

impl Bed {
    /// In a new network namespace for the calling thread.
    pub fn new() -> Self {
        Self::with(false)
    }

    /// The same, for [`Bed::receive_offloaded`].
    pub fn with_offloads() -> Self {
        Self::with(true)
    }

    fn with(offloads: bool) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
        // Nobody else is to send anything.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
            .expect("IPv6 can be switched off");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(format!(
            "/sys/fs/bpf/lime-reference-{}-{number}",
            std::process::id()
        ));
        let limits = Limits {
            rules: 4096,
            ports: 128,
            networks: 4,
            switches: 8,
            peers: 4,
            event_ring_bytes: 1 << 20,
            flow_cache: 64,
        };
        let (mut dp, _) = Datapath::open(&directory, &limits).expect("the data path loads");
        let ring = dp.event_ring().expect("a ring");
        let taps = |prefix: &str| {
            (0..LOCAL.len())
                .map(|i| Tap::new(&format!("{prefix}{i}"), offloads))
                .collect()
        };
        let ports: [Vec<Tap>; 2] = [taps("x"), taps("t")];
        for (taps, mode) in ports.iter().zip([AttachMode::Xdp, AttachMode::Tc]) {
            for tap in taps {
                assert_eq!(
                    dp.attach_port(tap.ifindex, mode).expect("it attaches"),
                    mode
                );
            }
        }
        let (recirculation, underlay) = (Tap::new("rc", offloads), Tap::new("underlay", offloads));
        let route = |tap: &Tap, src: [u8; 4], dst: [u8; 4]| PeerRoute {
            ifindex: tap.ifindex,
            mtu: 9000,
            src_mac: [2, 0, 0, 0, 9, 1],
            dst_mac: [2, 0, 0, 0, 9, 2],
            src: Ipv4Addr::from(src).into(),
            dst: Ipv4Addr::from(dst).into(),
        };
        dp.attach_underlay(recirculation.ifindex, AttachMode::Tc)
            .expect("it attaches");
        dp.set_recirculation(
            recirculation.ifindex,
            &route(&recirculation, [127, 0, 0, 1], [127, 0, 0, 2]),
        )
        .expect("recirculation");
        dp.set_peer(
            OTHER_HOST,
            Some(&route(&underlay, [10, 0, 0, 1], [10, 0, 0, 2])),
        )
        .expect("a peer");
        Self {
            dp,
            ring,
            ports,
            recirculation,
            underlay,
            staged: [0; 2],
            groups: Default::default(),
            parts: Default::default(),
            counted: Default::default(),
            directory,
        }
    }

    /// Makes the scenario's network anew; the clock is at 1.
    pub fn prepare(&mut self, mode: Mode, scenario: &Scenario) {
        let network = mode.network();
        self.dp
            .remove_network(network)
            .expect("the last network goes");
        self.dp
            .set_network(network, network.0 * 0x1000, false)
            .expect("a network");
        for switch in SWITCHES {
            let settings = SwitchSettings {
                id: mode.switch(switch),
                instance: true,
                join_epoch: Epoch::ZERO,
                retire_epoch: Epoch::ZERO,
                relay_host: None,
                hold: false,
                // Nobody gives back what was read.
                packet_ins: PacketIns {
                    burst: 0,
                    ..PacketIns::default()
                },
            };
            self.dp.set_switch(network, &settings).expect("a switch");
        }
        for port in &scenario.ports {
            self.set_port(mode, port);
        }
        self.staged[mode as usize] = 0;
        self.groups[mode as usize].clear();
        self.parts[mode as usize].clear();
        self.stage(
            mode,
            scenario,
            if scenario.late { 1 } else { scenario.staged },
        );
        self.raise_clock(mode, 1);
        self.counted[mode as usize] = (self.rule_counts(mode), self.port_counts(mode));
    }

    /// Sets a port up, anew if it is there.
    pub fn set_port(&mut self, mode: Mode, port: &Port) {
        let place = match port.place {
            Leads::Local => {
                let at = LOCAL
                    .iter()
                    .position(|&id| id == port.id)
                    .expect("it has a device");
                Place::Local {
                    ifindex: self.ports[mode as usize][at].ifindex,
                }
            }
            Leads::Remote => Place::Remote(OTHER_HOST),
            Leads::Link(other) => Place::Link(other),
        };
        let settings = PortSettings {
            id: port.id,
            switch: mode.switch(port.switch),
            port_no: port.number,
            place,
            down: port.down,
            dead: port.dead,
            no_flood: port.no_flood,
            mtu: port.mtu,
        };
        self.dp.set_port(mode.network(), &settings).expect("a port");
    }

    /// Lets the clock go on, and does what comes with that.
    pub fn go_on(&mut self, mode: Mode, scenario: &Scenario, clock: u32) {
        self.stage(mode, scenario, clock);
        self.raise_clock(mode, clock);
        if scenario.collects {
            self.dp
                .collect(mode.network(), Epoch(clock))
                .expect("ended rules are reclaimed");
        }
    }

    /// Stages all epochs up to this one.
    fn stage(&mut self, mode: Mode, scenario: &Scenario, upto: u32) {
        for epoch in self.staged[mode as usize] + 1..=upto {
            let (switch, mut add, mut remove) = scenario.epoch(epoch);
            let parts = &mut self.parts[mode as usize];
            let delta = self.groups[mode as usize]
                .entry(switch)
                .or_default()
                .apply(scenario.group_mods(epoch), || next_part(parts))
                .expect("changes of groups are sound");
            for (id, rule) in &delta.added {
                let Some(Part::Group(part)) = rule.part.as_deref() else {
                    panic!("{rule:?} is no part of a group");
                };
                let counted = match part.what {
                    GroupPiece::Bucket(index) => Counted::Bucket(switch, part.group, index.into()),
                    _ => Counted::Group(switch, part.group),
                };
                parts.insert(*id, counted);
                add.push((*id, rule.as_ref().clone()));
            }
            remove.extend(delta.removed.iter().map(|(id, _)| *id));
            let switch = Some(mode.switch(switch));
            self.dp
                .stage(mode.network(), Epoch(epoch), switch, &add, &remove)
                .expect("rules are staged");
            self.staged[mode as usize] = epoch;
        }
    }

    fn raise_clock(&mut self, mode: Mode, clock: u32) {
        self.dp
            .raise_clock(mode.network(), Epoch(clock))
            .expect("it is staged");
    }

    /// Lets a frame come in by a port, and gathers everything that it causes.
    pub fn receive(&mut self, mode: Mode, port: PortId, frame: &[u8]) -> Observed {
        let at = LOCAL
            .iter()
            .position(|&id| id == port)
            .expect("it has a device");
        self.ports[mode as usize][at].send(frame);
        self.gather(mode)
    }

    /// The same by TC, for a packet with something left to do.
    pub fn receive_offloaded(&mut self, port: PortId, header: &Header, frame: &[u8]) -> Observed {
        let at = LOCAL
            .iter()
            .position(|&id| id == port)
            .expect("it has a device");
        self.ports[Mode::Tc as usize][at].send_offloaded(header, frame);
        self.gather(Mode::Tc)
    }

    /// Everything that has come out since, and what the counters say.
    fn gather(&mut self, mode: Mode) -> Observed {
        let mut observed = Observed::default();
        let mut taps: Vec<&Tap> = self.ports[mode as usize].iter().collect();
        taps.extend([&self.underlay, &self.recirculation]);
        loop {
            let ready = ready(&taps);
            if ready.is_empty() {
                break;
            }
            for i in ready {
                let frame = taps[i].receive();
                match i.checked_sub(LOCAL.len()) {
                    None => observed.sent.push((LOCAL[i], frame)),
                    Some(0) => observed.sent.push(self.delivered(mode, &frame)),
                    // On it goes, as over the pair of devices that an agent makes.
                    Some(_) => self.recirculation.send(&frame),
                }
            }
        }
        let parts = &self.parts[mode as usize];
        self.ring.drain(|header, data| {
            if header.kind != EVENT_PACKET_IN {
                // What senders are told is not for the controller.
                return;
            }
            observed.events.push(Event {
                switch: SwitchId(header.switch - mode as u32 * 10),
                table: header.table,
                miss: header.reason == EVENT_REASON_NO_MATCH,
                in_port: PortNo(header.in_port),
                by: counted_as(parts, RuleId(header.rule_id)),
                cookie: header.cookie,
                version: Epoch(header.version),
                total_len: header.total_len as usize,
                data: data.to_vec(),
            });
        });
        let (rules, ports) = (self.rule_counts(mode), self.port_counts(mode));
        let before = &self.counted[mode as usize];
        observed.counts = rules
            .iter()
            .filter_map(|(&id, &now)| {
                // One that was staged meanwhile begins at 0.
                let before = before.0.get(&id).copied().unwrap_or_default();
                Some((counted_as(parts, id), difference(now, before)?))
            })
            .collect();
        observed.ports = ports
            .iter()
            .filter_map(|(&id, now)| Some((id, now.since(&before.1[&id])?)))
            .collect();
        self.counted[mode as usize] = (rules, ports);
        observed
    }

    /// Port and frame of a tunnel frame to the other host.
    fn delivered(&self, mode: Mode, frame: &[u8]) -> (PortId, Vec<u8>) {
        let (headers, inner) = frame
            .split_at_checked(70)
            .expect("outer headers and option");
        let word =
            |at: usize| u32::from_be_bytes(headers[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(word(46) >> 8, mode.network().0 * 0x1000, "the network");
        assert_eq!(headers[42 + 13], TUNNEL_DELIVER, "to be delivered");
        assert_eq!(
            Epoch(word(42 + 20)),
            self.dp.clock(mode.network()).expect("a clock"),
            "the tag"
        );
        assert_eq!(
            word(16) >> 16,
            frame.len() as u32 - 14,
            "the outer packet's length"
        );
        (PortId(word(42 + 16)), inner.to_vec())
    }

    fn rule_counts(&self, mode: Mode) -> BTreeMap<RuleId, Count> {
        let counts = self
            .dp
            .rule_counters(mode.network(), None)
            .expect("counters");
        counts
            .into_iter()
            .map(|c| {
                (
                    c.rule,
                    Count {
                        packets: c.packets,
                        bytes: c.bytes,
                    },
                )
            })
            .collect()
    }

    fn port_counts(&self, mode: Mode) -> BTreeMap<PortId, Counters> {
        let counts = self.dp.port_counters(mode.network()).expect("counters");
        let counters = |c: switch_agent::datapath::PortCount| Counters {
            received: Count {
                packets: c.rx_packets,
                bytes: c.rx_bytes,
            },
            sent: Count {
                packets: c.tx_packets,
                bytes: c.tx_bytes,
            },
            drops: c
                .drops()
                .map(|(reason, n): (DropReason, u64)| (reason.name(), n))
                .collect(),
        };
        counts
            .into_iter()
            .map(|(id, c)| (id, counters(c)))
            .collect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Whose counters those of an entry are.
fn counted_as(parts: &BTreeMap<RuleId, Counted>, id: RuleId) -> Counted {
    parts.get(&id).copied().unwrap_or(Counted::Rule(id))
}

/// An id for a part of a group that no rule has.
fn next_part(parts: &mut BTreeMap<RuleId, Counted>) -> RuleId {
    let id = RuleId(1_000_000 + parts.len() as u64);
    // Taken at once; whose it is shows when it is added.
    parts.insert(id, Counted::Rule(id));
    id
}

fn difference(now: Count, before: Count) -> Option<Count> {
    (now != before).then(|| Count {
        packets: now.packets - before.packets,
        bytes: now.bytes - before.bytes,
    })
}

impl Counters {
    fn since(&self, before: &Counters) -> Option<Counters> {
        let drops = self
            .drops
            .iter()
            .map(|(&name, &n)| (name, n - before.drops.get(name).unwrap_or(&0)));
        (self != before).then(|| Counters {
            received: difference(self.received, before.received).unwrap_or_default(),
            sent: difference(self.sent, before.sent).unwrap_or_default(),
            drops: drops.filter(|&(_, n)| n != 0).collect(),
        })
    }
}
