//! What a switch does with a packet at each version: asked of the reference switch, once for each flow.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use lime_core::flow::{Action, Field, Rule};
use lime_core::{PortId, PortNo, RuleId, SwitchId};
use lime_reference::{Headers, Place, Port, Sent, World, parse};

use crate::maybe::{Kept, Maybe};
use crate::packet::Packet;
use crate::record::{History, ShapeId, Shapes};
use crate::tables::{Life, Tables};

/// What was seen of a packet at a switch, and what it must therefore have done with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Need {
    /// It was output by one of each of these, and with these headers, if they are known.
    pub(crate) ports: Vec<(Vec<PortId>, Option<ShapeId>)>,
    /// The controller was told.
    pub(crate) event: bool,
}

/// What a switch may do with a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Output by these ports, with these headers.
    pub(crate) out: Vec<(PortId, ShapeId)>,
    /// The controller is told.
    pub(crate) event: bool,
}

impl Effect {
    fn fits(&self, need: &Need) -> bool {
        let by = |(any, shape): &(Vec<PortId>, Option<ShapeId>)| {
            let fits =
                |(p, s): &(PortId, ShapeId)| any.contains(p) && shape.is_none_or(|w| w == *s);
            self.out.iter().any(fits)
        };
        (self.event || !need.event) && need.ports.iter().all(by)
    }
}

/// What a switch may do with a packet from a version on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: u32,
    /// One of these. None at all: nobody knows what.
    pub(crate) effects: Vec<Effect>,
}

impl Segment {
    pub(crate) fn fits(&self, need: &Need) -> bool {
        self.effects.is_empty() || self.effects.iter().any(|e| e.fits(need))
    }
}

pub(crate) struct Outcomes<'a> {
    history: &'a History,
    pub(crate) tables: &'a Tables,
    pub(crate) shapes: Shapes,
    by_switch: HashMap<SwitchId, Vec<&'a Life>>,
    /// Fields that rules may have changed before another rule looks at them; None: all.
    changed: Option<HashSet<Field>>,
    known: HashMap<(PortId, ShapeId), Rc<[Segment]>>,
}

impl<'a> Outcomes<'a> {
    pub(crate) fn new(history: &'a History, tables: &'a Tables) -> Self {
        let mut by_switch: HashMap<SwitchId, Vec<&Life>> = HashMap::new();
        for life in &tables.lives {
            by_switch.entry(life.switch).or_default().push(life);
        }
        Self {
            history,
            tables,
            shapes: history.shapes.clone(),
            by_switch,
            changed: changed(tables.lives.iter().map(|l| &*l.rule)),
            known: HashMap::new(),
        }
    }

    /// What becomes of a packet that comes in by this port, at all versions.
    pub(crate) fn of(&mut self, port: PortId, shape: ShapeId) -> Rc<[Segment]> {
        if let Some(known) = self.known.get(&(port, shape)) {
            return known.clone();
        }
        let made: Rc<[Segment]> = self.make(port, shape).into();
        self.known.insert((port, shape), made.clone());
        made
    }

    fn make(&mut self, port: PortId, shape: ShapeId) -> Vec<Segment> {
        let Some(entry) = self.history.ports.iter().find(|p| p.id == port) else {
            return anything();
        };
        let Some(headers) = parse(self.shapes.get(shape), None) else {
            return anything();
        };
        let lives = self.by_switch.get(&entry.switch);
        let relevant: Vec<&Life> = lives
            .into_iter()
            .flatten()
            .copied()
            .filter(|l| self.may_match(&l.rule, entry.number, &headers))
            .collect();
        let world = World {
            ports: self.ports(entry.switch),
            ..World::default()
        };
        self.segments(world, entry.switch, (port, shape), &relevant)
    }

    /// What becomes of a packet in a switch with these rules.
    fn segments(
        &mut self,
        mut world: World,
        switch: SwitchId,
        (port, shape): (PortId, ShapeId),
        lives: &[&Life],
    ) -> Vec<Segment> {
        let frame = self.shapes.get(shape).to_vec();
        let kept = Kept::of(self.tables, switch, lives);
        let blind = self.tables.blind.get(&switch).copied();
        let mut turns: Vec<u32> = lives.iter().flat_map(|l| [l.from, l.to]).collect();
        turns.extend(kept.turns());
        turns.push(0);
        turns.retain(|&v| v <= self.tables.last() && blind.is_none_or(|b| v < b));
        turns.sort_unstable();
        turns.dedup();
        let mut segments: Vec<Segment> = Vec::new();
        for from in turns {
            let maybe = Maybe::at(from, lives, &kept);
            let effects = self.effects(&mut world, port, &frame, &maybe);
            if segments.last().is_none_or(|s| s.effects != effects) {
                segments.push(Segment { from, effects });
            }
        }
        if let Some(from) = blind {
            let effects = Vec::new();
            segments.push(Segment { from, effects });
        }
        segments
    }

    /// Whether a rule can match a packet that came in like this.
    fn may_match(&self, rule: &Rule, in_port: PortNo, headers: &Headers) -> bool {
        let Some(changed) = &self.changed else {
            return true;
        };
        rule.matching.fields().iter().all(|f| {
            let value = match f.field {
                Field::InPort | Field::InPhyPort => in_port.0.into(),
                Field::Metadata | Field::TunnelId => return true,
                field if changed.contains(&field) => return true,
                field => headers.get(field),
            };
            value & f.mask == f.value
        })
    }

    /// A switch's ports, all of them local: where they lead is for others to say.
    fn ports(&self, switch: SwitchId) -> Vec<Port> {
        let ports = self.history.ports.iter().filter(|p| p.switch == switch);
        ports.map(|p| local(p.id, switch, p.number)).collect()
    }

    /// All that may become of a packet at one version; none: nobody knows.
    fn effects(
        &mut self,
        world: &mut World,
        port: PortId,
        frame: &[u8],
        maybe: &Maybe<'_>,
    ) -> Vec<Effect> {
        let mut effects: Vec<Effect> = Vec::new();
        for choice in maybe.choices() {
            maybe.set(choice, world);
            let outcome = world.receive(port, frame);
            if outcome.incomplete {
                return Vec::new();
            }
            let Some(effect) = self.effect(outcome) else {
                return Vec::new();
            };
            if !effects.contains(&effect) {
                effects.push(effect);
            }
        }
        effects
    }

    fn effect(&mut self, outcome: lime_reference::Outcome) -> Option<Effect> {
        let mut effect = Effect {
            out: Vec::new(),
            event: !outcome.events.is_empty(),
        };
        for Sent { port, frame, .. } in outcome.sent {
            // Something that histories are not about: whoever gets it is not asked.
            let shape = Packet::read(&frame)?.shape;
            effect.out.push((port, self.shapes.id(shape)));
        }
        Some(effect)
    }

    /// What a packet-out does at all versions.
    pub(crate) fn of_packet_out(
        &mut self,
        switch: SwitchId,
        in_port: PortNo,
        actions: &[Action],
        shape: ShapeId,
    ) -> Rc<[Segment]> {
        let mut ports = self.ports(switch);
        let known = ports.iter().find(|p| p.number == in_port);
        let port = known.map_or(NO_PORT, |p| p.id);
        let comes_in = known.is_some();
        if !comes_in {
            ports.push(local(NO_PORT, switch, PortNo::CONTROLLER));
        }
        let to_table =
            |a: &Action| matches!(a, Action::Output { port, .. } if *port == PortNo::TABLE);
        let rule = Rule {
            actions: actions.iter().filter(|a| !to_table(a)).cloned().collect(),
            ..Rule::default()
        };
        // As if a rule did it that is always there.
        let by = Life {
            id: RuleId(u64::MAX),
            switch,
            rule: rule.into(),
            from: 0,
            to: u32::MAX,
            optional: false,
        };
        let world = World {
            ports,
            ..World::default()
        };
        let own = self.segments(world, switch, (port, shape), &[&by]);
        if !actions.iter().any(to_table) {
            return own.into();
        }
        match comes_in {
            true => both(&own, &self.of(port, shape)).into(),
            false => anything().into(),
        }
    }
}

/// What a packet may do that does one thing and the other.
fn both(one: &[Segment], other: &[Segment]) -> Vec<Segment> {
    let at = |of: &'_ [Segment], version: u32| {
        let next = of.partition_point(|s| s.from <= version);
        of[next.saturating_sub(1)].effects.clone()
    };
    let mut turns: Vec<u32> = one.iter().chain(other).map(|s| s.from).collect();
    turns.sort_unstable();
    turns.dedup();
    let segment = |from| {
        let (one, other) = (at(one, from), at(other, from));
        let pairs = one.iter().flat_map(|a| other.iter().map(move |b| (a, b)));
        let effects = pairs.map(|(a, b)| Effect {
            out: a.out.iter().chain(&b.out).copied().collect(),
            event: a.event || b.event,
        });
        Segment {
            from,
            effects: effects.collect(),
        }
    };
    turns.into_iter().map(segment).collect()
}

/// Nobody knows what becomes of it.
pub(crate) fn anything() -> Vec<Segment> {
    vec![Segment {
        from: 0,
        effects: Vec::new(),
    }]
}

/// Ingress port of packet-outs that say none.
const NO_PORT: PortId = PortId(u32::MAX);

fn local(id: PortId, switch: SwitchId, number: PortNo) -> Port {
    Port {
        id,
        switch,
        number,
        place: Place::Local,
        down: false,
        dead: false,
        no_flood: false,
        mtu: 0,
    }
}

/// Fields that any of the rules writes; None: they change more than fields.
fn changed<'r>(rules: impl Iterator<Item = &'r Rule>) -> Option<HashSet<Field>> {
    let mut fields = HashSet::new();
    for rule in rules {
        if rule.meter.is_some() {
            // A band may.
            fields.insert(Field::IpDscp);
        }
        for action in rule.actions.iter().chain(&rule.write_actions) {
            match action {
                Action::SetField { field, .. } => {
                    fields.insert(*field);
                }
                // Tables do not come after buckets.
                Action::Output { .. } | Action::Group(_) | Action::SetQueue(_) => {}
                _ => return None,
            }
        }
    }
    Some(fields)
}
