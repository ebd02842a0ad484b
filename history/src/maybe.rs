//! What nobody knows of a switch at a version: which rules are there, which watched ports are live, how fast packets come to meters. All that
//! it may be is tried.

use std::collections::{BTreeSet, HashSet};

use lime_core::flow::{BandKind, Group, GroupMod, Meter, MeterMod};
use lime_core::{Epoch, PortNo, SwitchId};
use lime_reference::{GroupChange, Installed, MeterChange, World};

use crate::tables::{self, Life, Tables};

/// How many combinations are tried. With more, anything goes.
const MOST_CHOICES: usize = 64;

/// The groups and meters that some rules may use, at any version.
pub(crate) struct Kept<'a> {
    groups: Vec<&'a tables::Kept<Group>>,
    meters: Vec<&'a tables::Kept<Meter>>,
}

impl<'a> Kept<'a> {
    pub(crate) fn of(tables: &'a Tables, switch: SwitchId, lives: &[&Life]) -> Self {
        let of_switch = || tables.groups.iter().filter(|g| g.switch == switch);
        let mut used: HashSet<u32> = lives.iter().flat_map(|l| l.rule.groups()).collect();
        loop {
            let users = of_switch().filter(|g| used.contains(&g.what.id));
            let buckets = users.flat_map(|g| &g.what.buckets);
            let more: Vec<u32> = buckets.flat_map(|b| b.groups()).collect();
            let before = used.len();
            used.extend(more);
            if used.len() == before {
                break;
            }
        }
        let meters: HashSet<u32> = lives.iter().filter_map(|l| l.rule.meter).collect();
        let of_meters = tables.meters.iter().filter(|m| m.switch == switch);
        Self {
            groups: of_switch().filter(|g| used.contains(&g.what.id)).collect(),
            meters: of_meters.filter(|m| meters.contains(&m.what.id)).collect(),
        }
    }

    /// Versions at which they change.
    pub(crate) fn turns(&self) -> impl Iterator<Item = u32> + use<'_, 'a> {
        let groups = self.groups.iter().flat_map(|g| [g.from, g.to]);
        groups.chain(self.meters.iter().flat_map(|m| [m.from, m.to]))
    }
}

/// A switch at one version.
pub(crate) struct Maybe<'a> {
    certain: Vec<&'a Life>,
    optional: Vec<&'a Life>,
    groups: Vec<&'a Group>,
    meters: Vec<&'a Meter>,
    watched: Vec<PortNo>,
    /// Speeds at which packets may come to each meter that may change them: slower than any rate, and so fast that a certain band is exceeded.
    speeds: Vec<(u32, Vec<u32>)>,
    switch: Option<SwitchId>,
}

impl<'a> Maybe<'a> {
    pub(crate) fn at(version: u32, lives: &[&'a Life], kept: &Kept<'a>) -> Self {
        let there = lives.iter().copied();
        let there = there.filter(|l| l.from <= version && version < l.to);
        let (optional, certain): (Vec<&Life>, Vec<&Life>) = there.partition(|l| l.optional);
        let now = |from, to| from <= version && version < to;
        let groups = kept.groups.iter().filter(|g| now(g.from, g.to));
        let groups: Vec<&Group> = groups.map(|g| &g.what).collect();
        let meters = kept.meters.iter().filter(|m| now(m.from, m.to));
        let meters: Vec<&Meter> = meters.map(|m| &m.what).collect();
        let buckets = groups.iter().flat_map(|g| &g.buckets);
        let watched: BTreeSet<PortNo> = buckets.filter_map(|b| b.watch_port).collect();
        Self {
            certain,
            optional,
            watched: watched.into_iter().collect(),
            speeds: meters.iter().filter_map(|m| speeds(m)).collect(),
            groups,
            meters,
            switch: lives.first().map(|l| l.switch),
        }
    }

    /// All combinations, by number; more than can be tried: none.
    pub(crate) fn choices(&self) -> std::ops::Range<usize> {
        let of_speeds = self.speeds.iter().map(|(_, speeds)| speeds.len());
        let twice = self.optional.len() + self.watched.len();
        let all = of_speeds
            .chain(std::iter::repeat_n(2, twice))
            .try_fold(1usize, |all, n| all.checked_mul(n))
            .filter(|all| *all <= MOST_CHOICES);
        0..all.unwrap_or(0)
    }

    /// Makes the switch so.
    pub(crate) fn set(&self, choice: usize, world: &mut World) {
        let mut left = choice;
        let mut digit = |base: usize| {
            let digit = left % base;
            left /= base;
            digit
        };
        let chosen = self.optional.iter().filter(|_| digit(2) == 1);
        let rules = self.certain.iter().chain(chosen);
        world.rules = rules.map(|l| installed(l)).collect();
        for number in &self.watched {
            let dead = digit(2) == 1;
            for port in world.ports.iter_mut().filter(|p| p.number == *number) {
                port.dead = dead;
            }
        }
        let Some(switch) = self.switch else { return };
        let speeds = self.speeds.iter();
        let speeds = speeds.map(|(meter, of)| ((switch, *meter), of[digit(of.len())]));
        world.speeds = speeds.collect();
        let groups = self.groups.iter().map(|g| GroupChange {
            switch,
            from: Epoch::ZERO,
            change: GroupMod::Add((*g).clone()),
        });
        world.groups = groups.collect();
        let meters = self.meters.iter().map(|m| MeterChange {
            switch,
            from: Epoch::ZERO,
            change: MeterMod::Add((*m).clone()),
        });
        world.meters = meters.collect();
    }
}

/// Whether a meter drops packets makes no difference, as any packet may be lost; but it may change them.
fn speeds(meter: &Meter) -> Option<(u32, Vec<u32>)> {
    let remarks = meter.bands.iter();
    let remarks = remarks.filter(|b| matches!(b.kind, BandKind::DscpRemark { .. }));
    let rates: BTreeSet<u32> = remarks.map(|b| b.rate).collect();
    let slow = std::iter::once(0);
    (!rates.is_empty()).then(|| (meter.id, slow.chain(rates).collect()))
}

fn installed(life: &Life) -> Installed {
    Installed {
        id: life.id,
        switch: life.switch,
        rule: (*life.rule).clone(),
        from: Epoch::ZERO,
        to: None,
    }
}
