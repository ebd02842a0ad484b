//! Maps filled by plain system calls, and runs that say everything that changed.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, RingBuf},
    programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp},
};
use std::collections::BTreeMap;
use switch_abi::*;

pub const RULES: u32 = 256;
pub const PORTS: u32 = 64;
const BUCKETS: u32 = 64;
/// For as many switches as the object has room for.
const MISSES: u32 = 16 * MISS_TABLES;
const NETWORKS: u32 = 4;
/// Flows that each CPU remembers.
pub const FLOWS: u32 = 64;

/// Which of the two kinds of programs runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Xdp,
    Tc,
}

pub const BOTH: [Mode; 2] = [Mode::Xdp, Mode::Tc];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the stack, or (XDP) to TC.
    Pass,
    Drop,
    Redirect,
}

/// What a run did: verdict, frame, and counters that moved, by name.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub frame: Vec<u8>,
    pub moved: BTreeMap<String, u64>,
    /// `skb->priority` (TC).
    pub priority: u32,
}

/// Length of `struct __sk_buff`, and where things are in it.
const BUFFER: usize = 192;
const BUFFER_PRIORITY: usize = 32;
const BUFFER_GSO_SEGMENTS: usize = 164;
const BUFFER_GSO_SIZE: usize = 176;

impl Outcome {
    /// Asserts on the verdict and on everything that moved (`name` = 1, or `name=n`).
    #[track_caller]
    pub fn expect(&self, verdict: Verdict, moved: &[&str]) {
        let expected: BTreeMap<String, u64> = moved
            .iter()
            .map(|item| match item.split_once('=') {
                Some((name, count)) => (name.to_string(), count.parse().unwrap()),
                None => (item.to_string(), 1),
            })
            .collect();
        let packets: BTreeMap<_, _> = self
            .moved
            .iter()
            .filter(|(name, _)| !name.ends_with("bytes"))
            .map(|(n, c)| (n.clone(), *c))
            .collect();
        assert_eq!((self.verdict, packets), (verdict, expected));
    }
}

/// One kernel object with its maps.
pub struct World {
    bpf: Ebpf,
    cpus: u32,
    rules: Vec<RuleEntry>,
    masks: Vec<FlowKey>,
    /// What the TC program's context begins with.
    buffer: [u8; BUFFER],
    /// How often a run has the program run.
    times: u32,
    generation: u32,
}

/// Shorthand for actions.
pub fn act(op: u8, a: u16, b: u32, c: &[u8]) -> Action {
    let mut bytes = [0; 8];
    bytes[..c.len()].copy_from_slice(c);
    Action {
        op,
        pad: 0,
        a,
        b,
        c: bytes,
    }
}

pub fn output(port: u32) -> Action {
    act(op::OUTPUT, 0, port, &[])
}

/// Device that a test-run's frames come in by: the loopback device.
pub const DEVICE: u32 = 1;
/// The port on [`DEVICE`].
pub const IN: u32 = 1;

impl World {
    /// One network (slot 1, id 7, VNI 0x123456) at clock 10, staged 20; one active switch (slot 1, id 5); port slot 1, number 11, on [`DEVICE`].
    pub fn new() -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("needs root");
        Self::here()
    }

    /// As `new`, in the thread's present network namespace.
    pub fn here() -> Self {
        let cpus = aya::util::nr_cpus().unwrap() as u32;
        let (rule_stride, port_stride, mask) = (RULES, PORTS, BUCKETS - 1);
        let bpf = EbpfLoader::new()
            .map_max_entries(maps::RULE_COUNTERS, RULES * cpus)
            .map_max_entries(maps::PORT_COUNTERS, PORTS * cpus)
            .map_max_entries(maps::MISSES, MISSES * cpus)
            .map_max_entries(maps::CACHE, FLOWS * cpus)
            .map_max_entries(maps::WHOLE, cpus)
            .override_global("FLOW_CACHE", &FLOWS, true)
            .override_global("MISS_STRIDE", &MISSES, true)
            .override_global("RULE_STRIDE", &rule_stride, true)
            .override_global("PORT_STRIDE", &port_stride, true)
            .override_global("BUCKET_MASK", &mask, true)
            .load(switch_agent::objects::SWITCH)
            .unwrap();
        let mut world = Self {
            bpf,
            cpus,
            rules: vec![],
            masks: vec![],
            buffer: [0; BUFFER],
            times: 1,
            generation: 0,
        };
        world.reset();
        world
    }

    /// Back to how `new` made it, but for counters, peers and tunnel ports. (Loading programs takes the verifier a second.)
    pub fn reset(&mut self) {
        self.rules.clear();
        self.masks.clear();
        for table in 0..MAX_TABLES * 4 {
            self.set(maps::TABLES, table, 0u64);
        }
        for slot in 2..10 {
            self.port(slot, PortEntry::default());
        }
        let world = self;
        world.network(
            1,
            NetworkEntry {
                id: 7,
                vni: 0x123456,
                clock: 10,
                staged: 20,
                ..Default::default()
            },
        );
        world.switch(
            1,
            SwitchEntry {
                id: 5,
                network: 1,
                state: SWITCH_ACTIVE,
                join_epoch: 1,
                ..Default::default()
            },
        );
        world.port(
            IN,
            PortEntry {
                id: 101,
                port_no: 11,
                kind: PORT_LOCAL,
                ifindex: DEVICE,
                ..port()
            },
        );
        world.set(maps::DEVICES, DEVICE, IN);
    }

    /// No rules any more; ports stay.
    pub fn clear(&mut self) {
        self.rules.clear();
        self.masks.clear();
    }

    /// As the agent does: with a new generation after changes of what programs remember.
    pub fn set<T: aya::Pod>(&mut self, map: &str, index: u32, value: T) {
        self.store(map, index, value);
        if [maps::TABLES, maps::SWITCHES, maps::PORTS].contains(&map) {
            self.generation += 1;
            for slot in 1..NETWORKS {
                let entry: NetworkEntry = self.get(maps::NETWORKS, slot);
                self.network(slot, entry);
            }
        }
    }

    /// Without a new generation.
    pub fn store<T: aya::Pod>(&mut self, map: &str, index: u32, value: T) {
        Array::<_, T>::try_from(self.bpf.map_mut(map).unwrap())
            .unwrap()
            .set(index, value, 0)
            .unwrap();
    }

    pub fn get<T: aya::Pod>(&self, map: &str, index: u32) -> T {
        Array::<_, T>::try_from(self.bpf.map(map).unwrap())
            .unwrap()
            .get(&index, 0)
            .unwrap()
    }

    pub fn network(&mut self, slot: u32, entry: NetworkEntry) {
        let generation = self.generation;
        let entry = NetworkEntry {
            generation,
            ..entry
        };
        self.store(maps::NETWORKS, slot, entry);
    }

    pub fn clock(&self) -> u32 {
        self.get::<NetworkEntry>(maps::NETWORKS, 1).clock
    }

    pub fn switch(&mut self, slot: u32, entry: SwitchEntry) {
        self.set(maps::SWITCHES, slot, entry);
    }

    /// A further switch of network 1 that is processed here.
    pub fn instance(&mut self, slot: u32, id: u32) {
        let entry = SwitchEntry {
            id,
            network: 1,
            state: SWITCH_ACTIVE,
            join_epoch: 1,
            ..Default::default()
        };
        self.switch(slot, entry);
    }

    pub fn port(&mut self, slot: u32, entry: PortEntry) {
        self.set(maps::PORTS, slot, entry);
        if entry.id != 0 {
            let key = TunnelPortKey {
                network: entry.network,
                port: entry.id,
            };
            let mut map = HashMap::<_, TunnelPortKey, u32>::try_from(
                self.bpf.map_mut(maps::TUNNEL_PORTS).unwrap(),
            )
            .unwrap();
            map.insert(key, slot, 0).unwrap();
        }
    }

    /// A local port (slot `slot`, number `slot + 10`, id `slot + 100`) on device `ifindex`.
    pub fn local(&mut self, slot: u32, ifindex: u32) {
        self.port(
            slot,
            PortEntry {
                id: slot + 100,
                port_no: slot + 10,
                kind: PORT_LOCAL,
                ifindex,
                ..port()
            },
        );
    }

    /// A second switch, and a link to it: slot and number of the port of each.
    pub fn join(&mut self, one: (u32, u32), other: (u32, u32)) {
        self.instance(2, 6);
        let ends = [(1, one, other), (2, other, one)];
        for (switch_slot, (slot, port_no), (link, _)) in ends {
            let entry = PortEntry {
                id: 100 + slot,
                port_no,
                switch_slot,
                kind: PORT_LINK,
                link,
                ..port()
            };
            self.port(slot, entry);
        }
    }

    /// A second switch behind a link: port 4 of the first leads to its port 5 (number 33), and its port 6 is local.
    pub fn link(&mut self) {
        self.join((4, 14), (5, 33));
        self.port(
            6,
            PortEntry {
                id: 106,
                port_no: 34,
                switch_slot: 2,
                kind: PORT_LOCAL,
                ifindex: 2,
                ..port()
            },
        );
    }

    pub fn peer(&mut self, slot: u32, entry: PeerEntry) {
        self.set(maps::PEERS, slot, entry);
    }

    pub fn allow(&mut self, source: &[u8], vni: u32, network: u32) {
        let mut key = TunnelPeerKey {
            vni,
            ..Default::default()
        };
        key.source[..source.len()].copy_from_slice(source);
        HashMap::<_, TunnelPeerKey, u32>::try_from(self.bpf.map_mut(maps::TUNNEL_PEERS).unwrap())
            .unwrap()
            .insert(key, network, 0)
            .unwrap();
    }

    pub fn recirculation(&mut self, ifindex: u32) {
        self.set(
            maps::META,
            0,
            Meta {
                recirculation_ifindex: ifindex,
                ..Default::default()
            },
        );
    }

    /// Adds a rule; its slot. Its flags are set as the agent does.
    pub fn rule(&mut self, priority: u16, mask: FlowKey, key: FlowKey, actions: &[Action]) -> u32 {
        self.rule_with(priority, mask, key, actions, |_| {})
    }

    pub fn rule_with(
        &mut self,
        priority: u16,
        mask: FlowKey,
        key: FlowKey,
        actions: &[Action],
        change: impl FnOnce(&mut RuleEntry),
    ) -> u32 {
        let slot = self.rules.len() as u32 + 1;
        let tc_only = [
            op::CONTROLLER,
            op::ALL,
            op::FLOOD,
            op::IN_PORT,
            op::SET_QUEUE,
        ];
        let outputs = actions.iter().filter(|a| a.op == op::OUTPUT).count();
        let last = actions
            .iter()
            .position(|a| a.op == op::OUTPUT)
            .is_none_or(|at| at + 1 == actions.len());
        let xdp = outputs <= 1 && last && !actions.iter().any(|a| tc_only.contains(&a.op));
        let does = |ops: &[u8], flag| {
            let any = actions.iter().any(|a| ops.contains(&a.op));
            if any { flag } else { 0 }
        };
        let to_ports = [op::OUTPUT, op::IN_PORT, op::ALL, op::FLOOD];
        let flags = does(&[op::CONTROLLER], RULE_TELLS) | does(&to_ports, RULE_OUTPUTS);
        let mut entry = RuleEntry {
            key: CompactMask::new(&mask).compact(&key),
            apply_count: actions.len() as u8,
            valid_from: 1,
            priority,
            goto_table: NO_TABLE,
            switch_slot: 1,
            rule_id: 1000 + slot as u64,
            cookie: 2000 + slot as u64,
            live: RULE_LIVE,
            action_count: actions.len() as u8,
            flags: flags | if xdp { RULE_XDP } else { 0 },
            ..Default::default()
        };
        entry.actions[..actions.len()].copy_from_slice(actions);
        change(&mut entry);
        self.rules.push(entry);
        self.masks.push(mask);
        slot
    }

    /// Writes all rules to the maps.
    pub fn commit(&mut self) {
        let mut tuples: BTreeMap<(u32, u8), Vec<TupleEntry>> = BTreeMap::new();
        let mut rules = self.rules.clone();
        let mut next_id = 1;
        for (rule, mask) in rules.iter_mut().zip(&self.masks) {
            let run = tuples.entry((rule.switch_slot, rule.table)).or_default();
            let priority = rule.priority as u32;
            match run.iter_mut().find(|t| t.mask.expand() == *mask) {
                Some(tuple) => {
                    tuple.max_priority = tuple.max_priority.max(priority);
                    rule.tuple = tuple.id;
                }
                None => {
                    run.push(TupleEntry {
                        mask: CompactMask::new(mask),
                        max_priority: priority,
                        id: next_id,
                        ..TupleEntry::default()
                    });
                    rule.tuple = next_id;
                    next_id += 1;
                }
            }
            rule.hash = hash_key(rule.tuple, &CompactMask::new(mask), &rule.key);
        }
        let mut start = 1;
        for ((switch, table), run) in &mut tuples {
            run.sort_by_key(|t| std::cmp::Reverse(t.max_priority));
            let mut before = None;
            for (i, tuple) in run.iter_mut().enumerate() {
                let mask = tuple.mask.expand();
                tuple.steps = HashSteps::new(before.as_ref(), &mask);
                before = Some(mask);
                self.set(maps::TUPLES, start + i as u32, *tuple);
            }
            let word = TableRef {
                start,
                count: run.len() as u32,
            }
            .to_word();
            self.set(maps::TABLES, switch * MAX_TABLES + *table as u32, word);
            start += run.len() as u32;
        }
        let mut order: Vec<usize> = (0..rules.len()).collect();
        order.sort_by_key(|&i| rules[i].priority);
        let mut heads = vec![0u32; BUCKETS as usize];
        for i in order {
            let bucket = (rules[i].hash & (BUCKETS - 1)) as usize;
            rules[i].next = heads[bucket];
            heads[bucket] = i as u32 + 1;
        }
        for (bucket, head) in heads.iter().enumerate() {
            self.set(maps::BUCKETS, bucket as u32, *head);
        }
        for (i, rule) in rules.iter().enumerate() {
            self.set(maps::RULES, i as u32 + 1, *rule);
        }
    }

    pub fn events(&mut self) -> Vec<(EventHeader, Vec<u8>)> {
        let mut ring = RingBuf::try_from(self.bpf.map_mut(maps::EVENTS).unwrap()).unwrap();
        let mut events = vec![];
        while let Some(item) = ring.next() {
            // SAFETY: the kernel program wrote a header there; records are aligned to 8 bytes.
            let header = unsafe { item.as_ptr().cast::<EventHeader>().read_unaligned() };
            events.push((header, item[size_of::<EventHeader>()..].to_vec()));
        }
        events
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        let mut add = |name: String, value: u64| *all.entry(name).or_insert(0) += value;
        for cpu in 0..self.cpus {
            for slot in 0..=self.rules.len() as u32 {
                let c: RuleCounters = self.get(maps::RULE_COUNTERS, cpu * RULES + slot);
                add(format!("rule {slot}"), c.packets);
                add(format!("rule {slot} bytes"), c.bytes);
            }
            for slot in 0..PORTS {
                let c: PortCounters = self.get(maps::PORT_COUNTERS, cpu * PORTS + slot);
                add(format!("rx {slot}"), c.rx_packets);
                add(format!("rx {slot} bytes"), c.rx_bytes);
                add(format!("tx {slot}"), c.tx_packets);
                add(format!("tx {slot} bytes"), c.tx_bytes);
                for (i, drops) in c.drops.iter().enumerate() {
                    let name = DropReason::ALL.get(i).map_or("?", |r| r.name());
                    add(format!("{name} {slot}"), *drops);
                }
            }
        }
        all
    }

    /// Attaches a TC program to a device's ingress, for as long as this lives.
    pub fn attach(&mut self, program: &str, device: &str) {
        let program: &mut SchedClassifier =
            self.bpf.program_mut(program).unwrap().try_into().unwrap();
        if program.fd().is_err() {
            program.load().unwrap();
        }
        // Where there is no TCX (before Linux 6.6), the program becomes a filter on this qdisc.
        let _ = aya::programs::tc::qdisc_add_clsact(device);
        program
            .attach(device, aya::programs::TcAttachType::Ingress)
            .unwrap();
    }

    /// Packets that matched no rule of a table, over all CPUs.
    pub fn misses(&self, switch_slot: u32, table: u32) -> u64 {
        let at = |cpu| cpu * MISSES + miss_index(switch_slot, table);
        let count = |cpu| self.get::<u64>(maps::MISSES, at(cpu));
        (0..self.cpus).map(count).sum()
    }

    /// A port's counters, over all CPUs.
    pub fn port_counters(&self, slot: u32) -> PortCounters {
        let mut sum = PortCounters::default();
        for cpu in 0..self.cpus {
            let c: PortCounters = self.get(maps::PORT_COUNTERS, cpu * PORTS + slot);
            sum.rx_packets += c.rx_packets;
            sum.rx_bytes += c.rx_bytes;
            sum.tx_packets += c.tx_packets;
            sum.tx_bytes += c.tx_bytes;
            for (sum, drops) in sum.drops.iter_mut().zip(c.drops) {
                *sum += drops;
            }
        }
        sum
    }

    /// Runs the program for a switch port.
    pub fn run(&mut self, mode: Mode, frame: &[u8]) -> Outcome {
        self.run_program(mode, frame, programs::XDP_PORT, programs::TC_PORT)
    }

    /// The same on that many such frames, which the program does not change, one behind the other.
    pub fn run_times(&mut self, mode: Mode, frame: &[u8], times: u32) -> Outcome {
        self.times = times;
        let outcome = self.run(mode, frame);
        self.times = 1;
        outcome
    }

    /// Runs the TC program for a switch port on a buffer that is to be segmented into this many bytes of payload each.
    pub fn run_gso(&mut self, frame: &[u8], segment: u32) -> Outcome {
        self.run_gso_of(frame, segment, 0)
    }

    /// The same on a buffer that says how many segments there will be; 0: it does not.
    pub fn run_gso_of(&mut self, frame: &[u8], segment: u32, segments: u32) -> Outcome {
        self.buffer = [0; BUFFER];
        for (at, word) in [(BUFFER_GSO_SIZE, segment), (BUFFER_GSO_SEGMENTS, segments)] {
            self.buffer[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        let outcome = self.run(Mode::Tc, frame);
        self.buffer = [0; BUFFER];
        outcome
    }

    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Runs the XDP program for a switch port on the first so many CPUs at once, as often as said on each; the counters that moved.
    pub fn run_on_all(&mut self, cpus: u32, frame: &[u8], times: u32) -> BTreeMap<String, u64> {
        let before = self.counters();
        let program = self.bpf.program_mut(programs::XDP_PORT).unwrap();
        let program: &mut Xdp = program.try_into().unwrap();
        if program.fd().is_err() {
            program.load().unwrap();
        }
        let program = &*program;
        let start = &std::sync::Barrier::new(cpus as usize);
        std::thread::scope(|scope| {
            for cpu in 0..cpus as usize {
                scope.spawn(move || {
                    let mut only = nix::sched::CpuSet::new();
                    only.set(cpu).unwrap();
                    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &only).unwrap();
                    start.wait();
                    let mut options = TestRunOptions::new();
                    options.data_in = Some(frame);
                    options.repeat = times;
                    program.test_run(options).unwrap();
                });
            }
        });
        let after = self.counters().into_iter();
        let moved = after.map(|(name, value)| (name.clone(), value - before[&name]));
        moved.filter(|(_, moved)| *moved != 0).collect()
    }

    /// Runs the program for an underlay device.
    pub fn receive(&mut self, mode: Mode, frame: &[u8]) -> Outcome {
        self.run_program(mode, frame, programs::XDP_UNDERLAY, programs::TC_UNDERLAY)
    }

    fn run_program(&mut self, mode: Mode, frame: &[u8], xdp: &str, tc: &str) -> Outcome {
        let before = self.counters();
        let mut out = vec![0; 65536];
        let mut after = [0; BUFFER];
        let times = self.times;
        let options = || {
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            options.repeat = times;
            options
        };
        let result: Result<_, ProgramError> = match mode {
            Mode::Xdp => {
                let program: &mut Xdp = self.bpf.program_mut(xdp).unwrap().try_into().unwrap();
                if program.fd().is_err() {
                    program.load().unwrap();
                }
                program.test_run(TestRunOptions {
                    data_out: Some(&mut out),
                    ..options()
                })
            }
            Mode::Tc => {
                let program: &mut SchedClassifier =
                    self.bpf.program_mut(tc).unwrap().try_into().unwrap();
                if program.fd().is_err() {
                    program.load().unwrap();
                }
                program.test_run(TestRunOptions {
                    data_out: Some(&mut out),
                    ctx_in: Some(&self.buffer),
                    ctx_out: Some(&mut after),
                    ..options()
                })
            }
        };
        let result = result.unwrap();
        let word = after[BUFFER_PRIORITY..BUFFER_PRIORITY + 4].try_into();
        let priority = u32::from_ne_bytes(word.unwrap());
        out.truncate(result.data_size_out as usize);
        let verdict = match (mode, result.return_value as i32) {
            (Mode::Xdp, 1) | (Mode::Tc, 2) => Verdict::Drop,
            (Mode::Xdp, 2) | (Mode::Tc, -1) => Verdict::Pass,
            (Mode::Xdp, 4) | (Mode::Tc, 7) => Verdict::Redirect,
            other => panic!("unexpected verdict {other:?}"),
        };
        let moved = self
            .counters()
            .into_iter()
            .filter_map(|(name, value)| {
                let moved = value - before[&name];
                (moved != 0).then_some((name, moved))
            })
            .collect();
        Outcome {
            verdict,
            frame: out,
            moved,
            priority,
        }
    }
}

/// A port of switch 1 in network 1.
pub fn port() -> PortEntry {
    PortEntry {
        network: 1,
        switch_slot: 1,
        ..Default::default()
    }
}

/// A mask or key from a closure.
pub fn key(fill: impl FnOnce(&mut FlowKey)) -> FlowKey {
    let mut key = FlowKey::default();
    fill(&mut key);
    key
}

/// Matches everything.
pub fn any() -> FlowKey {
    FlowKey::default()
}

/// A tap device in this thread's network namespace: what is sent to it can be read.
pub struct Tap {
    file: std::fs::File,
    pub ifindex: u32,
}

impl Tap {
    pub fn new(name: &str) -> Self {
        use std::os::fd::AsRawFd;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .unwrap();
        // SAFETY: an all-zero ifreq is a value; the calls below get valid pointers to it.
        unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
                *to = from as _;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
            assert_eq!(
                libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &request),
                0
            );
            let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
            request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_NOARP) as i16;
            assert_eq!(libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &request), 0);
            assert_eq!(libc::ioctl(socket, libc::SIOCGIFINDEX as _, &request), 0);
            let ifindex = request.ifr_ifru.ifru_ifindex as u32;
            libc::close(socket);
            Self { file, ifindex }
        }
    }

    /// The next `count` frames that LIME sent; those of the namespace's own stack (IPv6 neighbour discovery) are skipped.
    pub fn frames(&self, count: usize) -> Vec<Vec<u8>> {
        use std::{io::Read, os::fd::AsRawFd};
        let mut frames = vec![];
        while frames.len() < count {
            let mut poll = libc::pollfd {
                fd: self.file.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid pollfd.
            let ready = unsafe { libc::poll(&mut poll, 1, 5000) };
            assert!(ready > 0, "only {} of {count} frames came", frames.len());
            let mut frame = vec![0; 65536];
            let length = (&self.file).read(&mut frame).unwrap();
            frame.truncate(length);
            // All-nodes and all-routers multicast, MLD: the stack's.
            if frame[..2] != [0x33, 0x33] {
                frames.push(frame);
            }
        }
        frames
    }
}
