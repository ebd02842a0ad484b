//! A network of switches on one host: ports, links, and rules with their epochs.

use std::collections::BTreeMap;

use lime_core::flow::{Group, GroupMod, Meter, MeterMod, Rule};
use lime_core::{Epoch, PortId, PortNo, RuleId, SwitchId};

use crate::Fault;

/// Where a port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To a device of this host.
    Local,
    /// To a device of another host. What is sent there is not counted as sent here.
    Remote,
    /// To the port at the other end of a link.
    Link(PortId),
}

/// One port of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Which.
    pub id: PortId,
    /// Of which switch.
    pub switch: SwitchId,
    /// Its number there.
    pub number: PortNo,
    /// Where it leads.
    pub place: Place,
    /// Outputs are dropped.
    pub down: bool,
    /// Known to be down where it is: groups do not use buckets that watch it.
    pub dead: bool,
    /// Floods leave it out.
    pub no_flood: bool,
    /// Largest L3 packet, bytes; 0: any.
    pub mtu: u32,
}

/// A rule with the epochs at which it is visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Which.
    pub id: RuleId,
    /// In which switch.
    pub switch: SwitchId,
    /// What it says.
    pub rule: Rule,
    /// First epoch.
    pub from: Epoch,
    /// First epoch at which it no longer is.
    pub to: Option<Epoch>,
}

impl Installed {
    pub(crate) fn visible(&self, clock: Epoch, fault: Option<Fault>) -> bool {
        let ended = match self.to {
            None => false,
            Some(to) if fault == Some(Fault::ValidToInclusive) => to.lt(clock),
            Some(to) => to.le(clock),
        };
        self.from.le(clock) && !ended
    }
}

/// A change of a switch's groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupChange {
    /// Of which switch.
    pub switch: SwitchId,
    /// First epoch at which it holds.
    pub from: Epoch,
    /// What changes.
    pub change: GroupMod,
}

/// A change of a switch's meters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterChange {
    /// Of which switch.
    pub switch: SwitchId,
    /// First epoch at which it holds.
    pub from: Epoch,
    /// What changes.
    pub change: MeterMod,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// All ports, of all switches.
    pub ports: Vec<Port>,
    /// All rules, of all switches and epochs. Of those that overlap in a table and are visible together, no two have one priority.
    pub rules: Vec<Installed>,
    /// All changes of groups, in the order of their epochs. There are no groups before the first.
    pub groups: Vec<GroupChange>,
    /// All changes of meters, in the order of their epochs. There are no meters before the first.
    pub meters: Vec<MeterChange>,
    /// How fast packets come to meters, in their units: each of them exceeds the bands of at most that rate, and no others. To meters that are
    /// not named they come slower than any rate.
    pub speeds: BTreeMap<(SwitchId, u32), u32>,
    /// The epoch that packets are processed at.
    pub clock: Epoch,
    /// A mistake to make.
    pub fault: Option<Fault>,
}

impl World {
    pub(crate) fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.iter().find(|p| p.id == id)
    }

    pub(crate) fn numbered(&self, switch: SwitchId, number: PortNo) -> Option<&Port> {
        self.ports
            .iter()
            .find(|p| p.switch == switch && p.number == number)
    }

    /// A group as it is now.
    pub(crate) fn group(&self, switch: SwitchId, number: u32) -> Option<&Group> {
        let late = self.fault == Some(Fault::GroupChangesLate);
        let holds = |c: &&GroupChange| match late && c.from != Epoch(1) {
            true => c.from.lt(self.clock),
            false => c.from.le(self.clock),
        };
        let changes = self.groups.iter().filter(|c| c.switch == switch);
        let mut group = None;
        for GroupChange { change, .. } in changes.filter(holds) {
            match change {
                GroupMod::Add(new) | GroupMod::Modify(new) if new.id == number => group = Some(new),
                GroupMod::Delete(which) if which.is_none_or(|id| id == number) => group = None,
                _ => {}
            }
        }
        group
    }
    /// A meter as it is now.
    pub(crate) fn meter(&self, switch: SwitchId, number: u32) -> Option<&Meter> {
        let changes = self.meters.iter();
        let holds = changes.filter(|c| c.switch == switch && c.from.le(self.clock));
        let mut meter = None;
        for MeterChange { change, .. } in holds {
            match change {
                MeterMod::Add(new) | MeterMod::Modify(new) if new.id == number => meter = Some(new),
                MeterMod::Delete(which) if which.is_none_or(|id| id == number) => meter = None,
                _ => {}
            }
        }
        meter
    }
}
