//! One test: a network, its rules with their epochs, and what happens one after the other. A plain value, so that it can be made smaller.

use std::collections::BTreeMap;
use std::fmt;

use lime_core::flow::{GroupMod, GroupTable, MeterMod, MeterTable, Rule, ofctl};
use lime_core::{Epoch, PortId, PortNo, RuleId, SwitchId};
use lime_reference::{Fault, GroupChange, Installed, MeterChange, Place, Port, World};

use super::meters::{METERS, SPEED};

/// Switches: 1 and 2.
pub const SWITCHES: [SwitchId; 2] = [SwitchId(1), SwitchId(2)];
/// Ports on devices of this host, in the order of the devices.
pub const LOCAL: [PortId; 6] = [
    PortId(1),
    PortId(2),
    PortId(3),
    PortId(4),
    PortId(11),
    PortId(12),
];

/// One thing that happens.
#[derive(Clone)]
pub enum Step {
    /// A packet comes in.
    Packet { port: PortId, bytes: Vec<u8> },
    /// The clock goes on.
    Clock(u32),
    /// A port is set up anew: it goes down or up, or gets other settings.
    Port(Port),
}

#[derive(Clone, Default)]
pub struct Scenario {
    pub ports: Vec<Port>,
    pub rules: Vec<Installed>,
    /// In the order of their epochs.
    pub groups: Vec<GroupChange>,
    /// In the order of their epochs.
    pub meters: Vec<MeterChange>,
    /// How far epochs are staged, from 1.
    pub staged: u32,
    /// Epochs are staged when the clock is to go there, and not all of them before the first packet.
    pub late: bool,
    /// Rules that have ended are reclaimed each time that the clock has gone on.
    pub collects: bool,
    pub steps: Vec<Step>,
}

impl Scenario {
    pub fn world(&self, fault: Option<Fault>) -> World {
        World {
            ports: self.ports.clone(),
            rules: self.rules.clone(),
            groups: self.groups.clone(),
            meters: self.meters.clone(),
            speeds: speeds(),
            clock: Epoch(1),
            fault,
        }
    }

    /// The packets that come in.
    pub fn frames(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().filter_map(|step| match step {
            Step::Packet { bytes, .. } => Some(&bytes[..]),
            Step::Clock(_) | Step::Port(_) => None,
        })
    }

    /// Whether the changes of groups and meters are such as a coordinator lets through.
    pub fn sound(&self) -> bool {
        SWITCHES.iter().all(|&switch| {
            let mut ids = 0..;
            let mut next = || RuleId(ids.next().unwrap_or_default());
            let mut groups = GroupTable::default();
            let changes = self.groups.iter().filter(|c| c.switch == switch);
            let mut changed = changes.map(|c| groups.apply(vec![c.change.clone()], &mut next));
            if !changed.all(|result| result.is_ok()) {
                return false;
            }
            let mut meters = MeterTable::default();
            let changes = self.meters.iter().filter(|c| c.switch == switch);
            let mut changed = changes.map(|c| meters.apply(vec![c.change.clone()], &mut next));
            changed.all(|result| result.is_ok())
        }) && self.rules.iter().all(|r| self.has_meter(r))
    }

    /// Whether a rule's meter is there as long as the rule: meters do not go.
    fn has_meter(&self, installed: &Installed) -> bool {
        let Some(meter) = installed.rule.meter else {
            return true;
        };
        self.meters.iter().any(|c| {
            let adds = matches!(&c.change, MeterMod::Add(new) if new.id == meter);
            adds && c.switch == installed.switch && c.from.le(installed.from)
        })
    }

    /// What an epoch changes of its switch's groups.
    pub fn group_mods(&self, epoch: u32) -> Vec<GroupMod> {
        let changes = self.groups.iter().filter(|c| c.from == Epoch(epoch));
        changes.map(|c| c.change.clone()).collect()
    }

    /// What an epoch changes of its switch's meters.
    pub fn meter_mods(&self, epoch: u32) -> Vec<MeterMod> {
        let changes = self.meters.iter().filter(|c| c.from == Epoch(epoch));
        changes.map(|c| c.change.clone()).collect()
    }

    /// What an epoch brings and takes, and where.
    pub fn epoch(&self, epoch: u32) -> (SwitchId, Vec<(RuleId, Rule)>, Vec<RuleId>) {
        let switch = switch_of(epoch);
        let here = self.rules.iter().filter(|r| r.switch == switch);
        let add = here
            .clone()
            .filter(|r| r.from == Epoch(epoch))
            .map(|r| (r.id, r.rule.clone()))
            .collect();
        let remove = here
            .filter(|r| r.to == Some(Epoch(epoch)))
            .map(|r| r.id)
            .collect();
        (switch, add, remove)
    }
}

/// Packets come to all meters at one speed.
fn speeds() -> BTreeMap<(SwitchId, u32), u32> {
    let of = |switch| METERS.map(|meter| ((switch, meter), SPEED));
    SWITCHES.into_iter().flat_map(of).collect()
}

/// An epoch is about one switch; here they take turns.
pub fn switch_of(epoch: u32) -> SwitchId {
    SWITCHES[(epoch as usize + 1) % 2]
}

/// Switch 1 has local ports 1 to 4, links 5 and 6 to switch 2 (its ports 5 and 6), and port 7 on another host; switch 2 has local ports 1 and 2.
pub fn ports() -> Vec<Port> {
    let port = |id: u32, number: u32, place| Port {
        id: PortId(id),
        switch: SwitchId(if id < 10 { 1 } else { 2 }),
        number: PortNo(number),
        place,
        down: false,
        dead: false,
        no_flood: false,
        mtu: 0,
    };
    let link = |id| Place::Link(PortId(id));
    vec![
        port(1, 1, Place::Local),
        port(2, 2, Place::Local),
        port(3, 3, Place::Local),
        port(4, 4, Place::Local),
        port(5, 5, link(15)),
        port(6, 6, link(16)),
        port(7, 7, Place::Remote),
        port(11, 1, Place::Local),
        port(12, 2, Place::Local),
        port(15, 5, link(5)),
        port(16, 6, link(6)),
    ]
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  late {}, collects {}", self.late, self.collects)?;
        for port in self.ports.iter().filter(|p| !plain(p)) {
            write_port(f, port)?;
        }
        for Installed {
            id,
            switch,
            rule,
            from,
            to,
        } in &self.rules
        {
            let to = to.map_or(String::new(), |to| format!(" to before {to}"));
            writeln!(
                f,
                "  rule {id} of switch {switch}, from {from}{to}: {}",
                ofctl::format_rule(rule)
            )?;
        }
        for GroupChange {
            switch,
            from,
            change,
        } in &self.groups
        {
            writeln!(f, "  groups of switch {switch}, from {from}: {change:?}")?;
        }
        for MeterChange {
            switch,
            from,
            change,
        } in &self.meters
        {
            writeln!(f, "  meters of switch {switch}, from {from}: {change:?}")?;
        }
        for step in &self.steps {
            match step {
                Step::Packet { port, bytes } => writeln!(
                    f,
                    "  packet at port {port}, {} bytes: {}",
                    bytes.len(),
                    hex(bytes)
                )?,
                Step::Clock(epoch) => writeln!(f, "  clock {epoch}")?,
                Step::Port(port) => write_port(f, port)?,
            }
        }
        Ok(())
    }
}

/// Whether a port has no particular settings.
pub fn plain(port: &Port) -> bool {
    !port.down && !port.dead && !port.no_flood && port.mtu == 0
}

fn write_port(f: &mut fmt::Formatter<'_>, port: &Port) -> fmt::Result {
    let Port {
        id,
        down,
        dead,
        no_flood,
        mtu,
        ..
    } = port;
    writeln!(
        f,
        "  port {id}: down {down}, dead {dead}, no_flood {no_flood}, mtu {mtu}"
    )
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
