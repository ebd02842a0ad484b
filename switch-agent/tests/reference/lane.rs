//! One copy of a scenario's network in the data path: on devices of one kind, with programs of one kind.

use std::collections::BTreeMap;

use lime_core::flow::{
    GroupPiece, GroupTable, Meter, MeterPiece, MeterTable, Part, PartDelta, Rule,
};
use lime_core::model::PacketIns;
use lime_core::{Epoch, HostId, NetworkId, PortId, RuleId, SwitchId};
use lime_reference::{Count, Counted, Place as Leads, Port};
use switch_agent::datapath::{AttachMode, Datapath, Place, PortSettings, SwitchSettings};

use super::meters::Times;
use super::observed::{Counters, Readings};
use super::scenario::{LOCAL, SWITCHES, Scenario};
use super::ways::{Device, Tap, Veth, Way};

/// Which programs are on the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Xdp,
    Tc,
}

pub const BOTH: [Mode; 2] = [Mode::Xdp, Mode::Tc];
pub const OTHER_HOST: HostId = HostId(9);

/// Ids of parts of groups and meters are from here on; rules have smaller ones.
const FIRST_PART: u64 = 1_000_000;

pub struct Lane {
    pub way: Way,
    pub mode: Mode,
    /// From 0.
    number: u32,
    /// Of the ports in [`LOCAL`].
    pub devices: Vec<Device>,
    /// Epochs that are staged.
    staged: u32,
    /// Groups and meters as they are staged; and whose counters their parts' are.
    groups: BTreeMap<SwitchId, GroupTable>,
    meters: BTreeMap<SwitchId, MeterTable>,
    parts: BTreeMap<RuleId, Counted>,
    /// Counters as they were before the packet, and as they were read last.
    pub before: Readings,
    pub latest: Readings,
}

impl Lane {
    /// With devices in the calling thread's namespace. `offloads`: see [`Tap::new`].
    pub fn new(dp: &mut Datapath, number: u32, way: Way, mode: Mode, offloads: bool) -> Self {
        let device = |i| match way {
            Way::Veth => Device::Veth(Veth::new(&format!("lane{number}p{i}"))),
            Way::Tap | Way::TestRun => {
                Device::Tap(Tap::new(&format!("lane{number}p{i}"), offloads))
            }
        };
        let devices: Vec<Device> = (0..LOCAL.len()).map(device).collect();
        let attach = match mode {
            Mode::Xdp => AttachMode::Xdp,
            Mode::Tc => AttachMode::Tc,
        };
        // What is run on buffers needs no program on a device.
        for device in devices.iter().filter(|_| way != Way::TestRun) {
            let attached = dp.attach_port(device.ifindex(), attach);
            assert_eq!(attached.expect("it attaches"), attach);
        }
        Self {
            way,
            mode,
            number,
            devices,
            staged: 0,
            groups: BTreeMap::new(),
            meters: BTreeMap::new(),
            parts: BTreeMap::new(),
            before: Readings::default(),
            latest: Readings::default(),
        }
    }

    pub fn network(&self) -> NetworkId {
        NetworkId(self.number + 1)
    }

    /// VNI of its tunnel frames.
    pub fn vni(&self) -> u32 {
        (self.number + 1) * 0x1000
    }

    /// Switches have ids of their own in each network.
    fn switch(&self, switch: SwitchId) -> SwitchId {
        SwitchId(self.number * 10 + switch.0)
    }

    /// Which switch of the scenario has this id.
    pub fn switch_of(&self, id: u32) -> SwitchId {
        SwitchId(id - self.number * 10)
    }

    /// Makes the scenario's network anew; the clock is at 1.
    pub fn prepare(&mut self, dp: &mut Datapath, times: &mut Times, scenario: &Scenario) {
        let network = self.network();
        dp.remove_network(network).expect("the last network goes");
        dp.set_network(network, self.vni(), false)
            .expect("a network");
        for switch in SWITCHES {
            let settings = SwitchSettings {
                id: self.switch(switch),
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
            dp.set_switch(network, &settings).expect("a switch");
        }
        for port in &scenario.ports {
            self.set_port(dp, port);
        }
        self.staged = 0;
        self.groups.clear();
        self.meters.clear();
        self.parts.clear();
        let first = if scenario.late { 1 } else { scenario.staged };
        self.stage(dp, times, scenario, first);
        self.raise_clock(dp, 1);
        self.latest = self.read(dp);
    }

    /// Sets a port up, anew if it is there.
    pub fn set_port(&self, dp: &mut Datapath, port: &Port) {
        let place = match port.place {
            Leads::Local => Place::Local {
                ifindex: self.devices[local(port.id)].ifindex(),
            },
            Leads::Remote => Place::Remote(OTHER_HOST),
            Leads::Link(other) => Place::Link(other),
        };
        let settings = PortSettings {
            id: port.id,
            switch: self.switch(port.switch),
            port_no: port.number,
            place,
            down: port.down,
            dead: port.dead,
            no_flood: port.no_flood,
            mtu: port.mtu,
        };
        dp.set_port(self.network(), &settings).expect("a port");
    }

    /// Lets the clock go on, and does what comes with that.
    pub fn go_on(&mut self, dp: &mut Datapath, times: &mut Times, scenario: &Scenario, clock: u32) {
        self.stage(dp, times, scenario, clock);
        self.raise_clock(dp, clock);
        if scenario.collects {
            dp.collect(self.network(), Epoch(clock))
                .expect("ended rules are reclaimed");
        }
    }

    /// Stages all epochs up to this one.
    fn stage(&mut self, dp: &mut Datapath, times: &mut Times, scenario: &Scenario, upto: u32) {
        for epoch in self.staged + 1..=upto {
            let (switch, mut add, mut remove) = scenario.epoch(epoch);
            // Into parts, as a coordinator makes them.
            for delta in self.part_deltas(scenario, switch, epoch) {
                for (id, rule) in delta.added {
                    self.parts.insert(id, counted(switch, &rule));
                    add.push((id, rule.as_ref().clone()));
                }
                remove.extend(delta.removed.iter().map(|(id, _)| *id));
            }
            let switch = Some(self.switch(switch));
            dp.stage(self.network(), Epoch(epoch), switch, &add, &remove)
                .expect("rules are staged");
            for (id, rule) in &add {
                if let Some(meter) = head(rule) {
                    times.exceed(*id, meter);
                }
            }
            self.staged = epoch;
        }
    }

    /// What an epoch does to the parts of groups, and to those of meters.
    fn part_deltas(&mut self, scenario: &Scenario, switch: SwitchId, epoch: u32) -> [PartDelta; 2] {
        let parts = &mut self.parts;
        let mut next_id = || {
            let id = RuleId(FIRST_PART + parts.len() as u64);
            // Taken; whose it is shows when it is added.
            parts.insert(id, Counted::Rule(id));
            id
        };
        let groups = self.groups.entry(switch).or_default();
        let groups = groups.apply(scenario.group_mods(epoch), &mut next_id);
        let meters = self.meters.entry(switch).or_default();
        let meters = meters.apply(scenario.meter_mods(epoch), &mut next_id);
        [
            groups.expect("changes of groups are sound"),
            meters.expect("changes of meters are sound"),
        ]
    }

    fn raise_clock(&self, dp: &mut Datapath, clock: u32) {
        dp.raise_clock(self.network(), Epoch(clock))
            .expect("it is staged");
    }

    /// A packet has come: what was read last was before it.
    pub fn begin(&mut self) {
        std::mem::swap(&mut self.before, &mut self.latest);
    }

    /// Whose counters those of an entry are.
    pub fn counted_as(&self, id: RuleId) -> Counted {
        self.parts.get(&id).copied().unwrap_or(Counted::Rule(id))
    }

    /// All counters now.
    pub fn read(&self, dp: &Datapath) -> Readings {
        let rules = dp.rule_counters(self.network(), None).expect("counters");
        let rules = rules.into_iter().map(|c| {
            let count = Count {
                packets: c.packets,
                bytes: c.bytes,
            };
            (c.rule, count)
        });
        Readings {
            rules: rules.collect(),
            ports: self.read_ports(dp),
        }
    }

    /// Those of ports.
    pub fn read_ports(&self, dp: &Datapath) -> BTreeMap<PortId, Counters> {
        let counts = dp.port_counters(self.network()).expect("counters");
        let counters = |c: switch_agent::datapath::PortCount| Counters {
            received: Count {
                packets: c.rx_packets,
                bytes: c.rx_bytes,
            },
            sent: Count {
                packets: c.tx_packets,
                bytes: c.tx_bytes,
            },
            drops: c.drops().map(|(reason, n)| (reason.name(), n)).collect(),
        };
        counts
            .into_iter()
            .map(|(id, c)| (id, counters(c)))
            .collect()
    }
}

/// Whose counters a part's are.
fn counted(switch: SwitchId, rule: &Rule) -> Counted {
    match rule.part.as_deref() {
        Some(Part::Group(part)) => match part.what {
            GroupPiece::Bucket(index) => Counted::Bucket(switch, part.group, index.into()),
            _ => Counted::Group(switch, part.group),
        },
        Some(Part::Meter(part)) => match part.what {
            MeterPiece::Band(index) => Counted::Band(switch, part.meter, index.into()),
            MeterPiece::Head(_) => Counted::Meter(switch, part.meter),
        },
        None => panic!("{rule:?} is no part"),
    }
}

/// The meter of which this is the part that has its bands.
fn head(rule: &Rule) -> Option<&Meter> {
    match rule.part.as_deref() {
        Some(Part::Meter(part)) => match &part.what {
            MeterPiece::Head(meter) => Some(meter),
            MeterPiece::Band(_) => None,
        },
        _ => None,
    }
}

/// Which of the devices is a port's.
pub fn local(port: PortId) -> usize {
    LOCAL
        .iter()
        .position(|&id| id == port)
        .expect("it has a device")
}
