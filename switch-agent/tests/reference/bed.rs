//! The kernel programs with a scenario's network, once for each way into them and kind of programs; and what they make of a frame.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use lime_core::{Epoch, PortId, PortNo, RuleId};
use lime_reference::{Event, Port, Sent};
use switch_abi::{EVENT_PACKET_IN, EVENT_REASON_NO_MATCH, TUNNEL_DELIVER};
use switch_agent::datapath::{AttachMode, Datapath, EventRing, Limits, PeerRoute};

use super::lane::{BOTH, Lane, Mode, OTHER_HOST, local};
use super::meters::Times;
use super::observed::{HIDDEN_QUEUE, HIDDEN_TAG, Observed, since};
use super::offload::Header;
use super::scenario::{LOCAL, Scenario};
use super::ways::{Device, Program, Programs, Tap, Verdict, Way, ready, tc_takes};

/// Link-layer addresses of tunnel frames, which no others have.
const TUNNEL_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 9, 2], [2, 0, 0, 0, 9, 1]];
/// First byte of the outer addresses of frames that the host sends to itself, and where the outer source address is.
const LOOPBACK: u8 = 127;
const OUTER_SOURCE: usize = 26;
/// Length of outer headers and option.
const OUTER: usize = 70;

pub struct Bed {
    dp: Datapath,
    ring: EventRing,
    programs: Programs,
    times: Times,
    lanes: Vec<Lane>,
    recirculation: Tap,
    underlay: Tap,
    directory: PathBuf,
}

impl Bed {
    /// In a new network namespace for the calling thread, with two lanes for each of these ways.
    pub fn new(ways: &[Way]) -> Self {
        Self::with(ways, false)
    }

    /// By taps, for [`Bed::receive_offloaded`].
    pub fn with_offloads() -> Self {
        Self::with(&[Way::Tap], true)
    }

    fn with(ways: &[Way], offloads: bool) -> Self {
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
            rules: 8192,
            ports: 256,
            networks: 8,
            switches: 16,
            peers: 4,
            event_ring_bytes: 1 << 20,
            flow_cache: 64,
        };
        let (mut dp, _) = Datapath::open(&directory, &limits).expect("the data path loads");
        // What a frame causes has happened before anything changes.
        dp.promise_quiet();
        let ring = dp.event_ring().expect("a ring");
        let programs = Programs::open(&directory).expect("programs are pinned");
        let times = Times::open(&directory, limits.rules);
        let (recirculation, underlay) = (Tap::new("rc", offloads), Tap::new("underlay", offloads));
        let route = |tap: &Tap, src: [u8; 4], dst: [u8; 4]| PeerRoute {
            ifindex: tap.ifindex,
            mtu: 9000,
            src_mac: TUNNEL_MACS[1],
            dst_mac: TUNNEL_MACS[0],
            src: Ipv4Addr::from(src).into(),
            dst: Ipv4Addr::from(dst).into(),
        };
        dp.attach_underlay(recirculation.ifindex, AttachMode::Tc)
            .expect("it attaches");
        dp.set_recirculation(
            recirculation.ifindex,
            &route(&recirculation, [LOOPBACK, 0, 0, 1], [LOOPBACK, 0, 0, 2]),
        )
        .expect("recirculation");
        dp.set_peer(
            OTHER_HOST,
            Some(&route(&underlay, [10, 0, 0, 1], [10, 0, 0, 2])),
        )
        .expect("a peer");
        let kinds = ways.iter().flat_map(|&way| BOTH.map(|mode| (way, mode)));
        let lanes = kinds
            .enumerate()
            .map(|(i, (way, mode))| Lane::new(&mut dp, i as u32, way, mode, offloads))
            .collect();
        Self {
            dp,
            ring,
            programs,
            times,
            lanes,
            recirculation,
            underlay,
            directory,
        }
    }

    /// Way and kind of programs of each lane.
    pub fn lanes(&self) -> Vec<(Way, Mode)> {
        self.lanes.iter().map(|l| (l.way, l.mode)).collect()
    }

    /// Makes the scenario's network anew on all lanes; the clock is at 1.
    pub fn prepare(&mut self, scenario: &Scenario) {
        for lane in &mut self.lanes {
            lane.prepare(&mut self.dp, &mut self.times, scenario);
        }
    }

    /// Sets a port up anew on all lanes.
    pub fn set_port(&mut self, port: &Port) {
        for lane in &self.lanes {
            lane.set_port(&mut self.dp, port);
        }
    }

    /// Lets the clock go on, on all lanes.
    pub fn go_on(&mut self, scenario: &Scenario, clock: u32) {
        for lane in &mut self.lanes {
            lane.go_on(&mut self.dp, &mut self.times, scenario, clock);
        }
    }

    /// Lets a frame come in by a port, and gathers what it has caused when that returns: all of it, but for veth pairs.
    /// None: the way in does not carry the frame.
    pub fn receive(&mut self, lane: usize, port: PortId, frame: &[u8]) -> Option<Observed> {
        let Lane { way, mode, .. } = self.lanes[lane];
        if !way.carries(frame) {
            return None;
        }
        let mut observed = Observed::default();
        let device = &self.lanes[lane].devices[local(port)];
        match way {
            Way::Tap | Way::Veth => device.send(frame),
            Way::TestRun => {
                let ifindex = device.ifindex();
                let mut verdict = Verdict::Pass;
                if mode == Mode::Xdp {
                    verdict = self.run(lane, Program::XdpPort, ifindex, frame, &mut observed);
                }
                if verdict == Verdict::Pass {
                    if !tc_takes(frame) {
                        return None;
                    }
                    let verdict = self.run(lane, Program::TcPort, ifindex, frame, &mut observed);
                    assert_ne!(verdict, Verdict::Pass, "TC does what XDP does not");
                }
            }
        }
        self.lanes[lane].begin();
        self.look(lane, &mut observed);
        Some(observed)
    }

    /// The same by TC on a tap, for a packet with something left to do.
    pub fn receive_offloaded(&mut self, port: PortId, header: &Header, frame: &[u8]) -> Observed {
        let tc = |l: &Lane| l.way == Way::Tap && l.mode == Mode::Tc;
        let lane = self.lanes.iter().position(tc).expect("there are taps");
        let mut observed = Observed::default();
        if let Device::Tap(tap) = &self.lanes[lane].devices[local(port)] {
            tap.send_offloaded(header, frame);
        }
        self.lanes[lane].begin();
        self.look(lane, &mut observed);
        observed
    }

    /// Adds what has come out since, and what the counters say now.
    pub fn look(&mut self, lane: usize, observed: &mut Observed) {
        self.take_frames(lane, observed);
        let Self {
            dp, ring, lanes, ..
        } = self;
        let lane = &mut lanes[lane];
        ring.drain(|header, data| {
            if header.kind != EVENT_PACKET_IN {
                // What senders are told is not for the controller.
                return;
            }
            observed.events.push(Event {
                switch: lane.switch_of(header.switch),
                table: header.table,
                miss: header.reason == EVENT_REASON_NO_MATCH,
                in_port: PortNo(header.in_port),
                by: lane.counted_as(RuleId(header.rule_id)),
                cookie: header.cookie,
                version: Epoch(header.version),
                total_len: header.total_len as usize,
                data: data.to_vec(),
            });
        });
        let now = lane.read(dp);
        observed.counts.clear();
        for (&id, &count) in &now.rules {
            // One that was staged meanwhile begins at 0.
            let before = lane.before.rules.get(&id).copied().unwrap_or_default();
            if let Some(count) = since(count, before) {
                observed.counts.insert(lane.counted_as(id), count);
            }
        }
        let ports = now.ports.iter();
        observed.ports = ports
            .filter_map(|(&id, now)| Some((id, now.since(&lane.before.ports[&id])?)))
            .collect();
        lane.latest = now;
    }

    /// Reads devices until there is nothing more.
    fn take_frames(&mut self, lane: usize, observed: &mut Observed) {
        let mut files: Vec<RawFd> = self.lanes[lane]
            .devices
            .iter()
            .map(AsRawFd::as_raw_fd)
            .collect();
        files.extend([&self.underlay, &self.recirculation].map(AsRawFd::as_raw_fd));
        loop {
            let ready = ready(&files);
            if ready.is_empty() {
                return;
            }
            for i in ready {
                match i.checked_sub(LOCAL.len()) {
                    None => {
                        let frame = self.lanes[lane].devices[i].receive();
                        observed.sent.push(left(LOCAL[i], frame));
                    }
                    Some(0) => {
                        let frame = self.underlay.receive();
                        observed.sent.push(self.delivered(lane, &frame));
                    }
                    Some(_) => {
                        let frame = self.recirculation.receive();
                        self.recirculate(lane, &frame, observed);
                    }
                }
            }
        }
    }

    /// On a frame goes that the host has sent to itself, as over the pair of devices that an agent makes.
    fn recirculate(&mut self, lane: usize, frame: &[u8], observed: &mut Observed) {
        if self.lanes[lane].way != Way::TestRun {
            return self.recirculation.send(frame);
        }
        let ifindex = self.recirculation.ifindex;
        self.run(lane, Program::TcUnderlay, ifindex, frame, observed);
    }

    /// Runs a program on a buffer, and does what its verdict says.
    fn run(
        &mut self,
        lane: usize,
        program: Program,
        ifindex: u32,
        frame: &[u8],
        observed: &mut Observed,
    ) -> Verdict {
        let sent = |bed: &Self| bed.lanes[lane].read_ports(&bed.dp);
        let before = sent(self);
        let ran = self.programs.run(program, ifindex, frame);
        // Clones went before, whatever becomes of the rest.
        let mut clones: BTreeMap<PortId, (u64, u64)> = BTreeMap::new();
        for (i, device) in self.lanes[lane].devices.iter().enumerate() {
            while !ready(&[device.as_raw_fd()]).is_empty() {
                let clone = device.receive();
                let (packets, bytes) = clones.entry(LOCAL[i]).or_default();
                *packets += 1;
                *bytes += clone.len() as u64;
                observed.sent.push(left(LOCAL[i], clone));
            }
        }
        while !ready(&[self.underlay.as_raw_fd()]).is_empty() {
            let clone = self.underlay.receive();
            observed.sent.push(self.delivered(lane, &clone));
        }
        if ran.verdict != Verdict::Redirect {
            return ran.verdict;
        }
        if ran.frame[..12] == TUNNEL_MACS.concat() {
            match ran.frame[OUTER_SOURCE] {
                LOOPBACK => self.recirculate(lane, &ran.frame, observed),
                _ => observed.sent.push(self.delivered(lane, &ran.frame)),
            }
            return ran.verdict;
        }
        // To which port it was to go is what that counts and no clone explains.
        let after = sent(self);
        for port in LOCAL {
            let Some(counted) = since(after[&port].sent, before[&port].sent) else {
                continue;
            };
            let (packets, bytes) = clones.get(&port).copied().unwrap_or_default();
            if counted.packets > packets {
                let mut frame = ran.frame.clone();
                if counted.bytes == bytes + frame.len() as u64 + HIDDEN_TAG.len() as u64 {
                    frame.splice(12..12, HIDDEN_TAG);
                }
                let queue = match program {
                    // XDP has no queues.
                    Program::XdpPort => 0,
                    // Of the class 1:queue.
                    _ => ran.priority & 0xffff,
                };
                observed.sent.push(Sent { port, frame, queue });
            }
        }
        ran.verdict
    }

    /// What a tunnel frame brings to the other host.
    fn delivered(&self, lane: usize, frame: &[u8]) -> Sent {
        let (headers, inner) = frame
            .split_at_checked(OUTER)
            .expect("outer headers and option");
        let word =
            |at: usize| u32::from_be_bytes(headers[at..at + 4].try_into().expect("four bytes"));
        assert_eq!(word(46) >> 8, self.lanes[lane].vni(), "the network");
        assert_eq!(headers[42 + 13], TUNNEL_DELIVER, "to be delivered");
        assert_eq!(
            Epoch(word(42 + 20)),
            self.dp.clock(self.lanes[lane].network()).expect("a clock"),
            "the tag"
        );
        assert_eq!(
            word(16) >> 16,
            frame.len() as u32 - 14,
            "the outer packet's length"
        );
        Sent {
            port: PortId(word(42 + 16)),
            frame: inner.to_vec(),
            queue: word(42 + 24),
        }
    }
}

/// What has left by a device, which does not show the queue.
fn left(port: PortId, frame: Vec<u8>) -> Sent {
    Sent {
        port,
        frame,
        queue: HIDDEN_QUEUE,
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
