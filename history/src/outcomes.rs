//! What a switch does with a packet at each version: asked of the reference switch, once for each flow.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use lime_core::flow::{Action, Field, Rule};
use lime_core::{Epoch, PortId, PortNo, RuleId, SwitchId};
use lime_reference::{Counted, Headers, Installed, Place, Sent, World, parse};

use crate::packet::Packet;
use crate::record::{History, ShapeId, Shapes};
use crate::tables::{Life, Tables};

/// How many rules of which nobody knows whether they are there are tried in all combinations. With more, anything goes.
const MOST_OPTIONAL: usize = 4;

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
        let anything = Segment {
            from: 0,
            effects: Vec::new(),
        };
        let Some(entry) = self.history.ports.iter().find(|p| p.id == port) else {
            return vec![anything];
        };
        let frame = self.shapes.get(shape).to_vec();
        let Some(headers) = parse(&frame, None) else {
            return vec![anything];
        };
        let lives = self.by_switch.get(&entry.switch);
        let relevant: Vec<&Life> = lives
            .into_iter()
            .flatten()
            .copied()
            .filter(|l| self.may_match(&l.rule, entry.number, &headers))
            .collect();
        let mut turns: Vec<u32> = relevant.iter().flat_map(|l| [l.from, l.to]).collect();
        turns.push(0);
        turns.retain(|&v| v <= self.tables.last());
        turns.sort_unstable();
        turns.dedup();
        let mut world = self.world(entry.switch);
        let mut segments: Vec<Segment> = Vec::new();
        for from in turns {
            let there = relevant.iter().filter(|l| l.from <= from && from < l.to);
            let (optional, certain): (Vec<&Life>, Vec<&Life>) = there.partition(|l| l.optional);
            let effects = self.effects(&mut world, port, &frame, &certain, &optional);
            if segments.last().is_none_or(|s| s.effects != effects) {
                segments.push(Segment { from, effects });
            }
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

    /// The switch without rules, and with all its ports local: where they lead is for others to say.
    fn world(&self, switch: SwitchId) -> World {
        let ports = self.history.ports.iter().filter(|p| p.switch == switch);
        World {
            ports: ports.map(|p| local(p.id, switch, p.number)).collect(),
            ..World::default()
        }
    }

    fn effects(
        &mut self,
        world: &mut World,
        port: PortId,
        frame: &[u8],
        certain: &[&Life],
        optional: &[&Life],
    ) -> Vec<Effect> {
        if optional.len() > MOST_OPTIONAL {
            return Vec::new();
        }
        let mut effects: Vec<Effect> = Vec::new();
        for chosen in 0..1u32 << optional.len() {
            let extra = optional.iter().enumerate();
            let extra = extra
                .filter(|(i, _)| chosen & (1 << i) != 0)
                .map(|(_, l)| l);
            let there: Vec<&Life> = certain.iter().chain(extra).copied().collect();
            world.rules = there.iter().map(|l| installed(l)).collect();
            let outcome = world.receive(port, frame);
            let met = |l: &&&Life| outcome.counts.contains_key(&Counted::Rule(l.id));
            if outcome.incomplete || there.iter().filter(met).any(|l| l.opaque) {
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

    /// What a packet-out does by itself. None: nobody knows.
    pub(crate) fn of_packet_out(
        &mut self,
        switch: SwitchId,
        in_port: PortNo,
        actions: &[Action],
        shape: ShapeId,
    ) -> Option<Effect> {
        let mut world = self.world(switch);
        let known = world.ports.iter().find(|p| p.number == in_port);
        let port = known.map_or(NO_PORT, |p| p.id);
        if known.is_none() {
            world.ports.push(local(NO_PORT, switch, PortNo::CONTROLLER));
        }
        let table =
            |a: &&Action| !matches!(a, Action::Output { port, .. } if *port == PortNo::TABLE);
        let rule = Rule {
            actions: actions.iter().filter(table).cloned().collect(),
            ..Rule::default()
        };
        if rule.groups().next().is_some() {
            return None;
        }
        let of = Life {
            id: RuleId(u64::MAX),
            switch,
            rule: rule.into(),
            from: 0,
            to: u32::MAX,
            optional: false,
            opaque: false,
        };
        world.rules = vec![installed(&of)];
        let frame = self.shapes.get(shape).to_vec();
        self.effect(world.receive(port, &frame))
    }
}

/// Ingress port of packet-outs that say none.
const NO_PORT: PortId = PortId(u32::MAX);

fn local(id: PortId, switch: SwitchId, number: PortNo) -> lime_reference::Port {
    lime_reference::Port {
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

fn installed(life: &Life) -> Installed {
    let mut rule = (*life.rule).clone();
    if life.opaque {
        rule.actions.clear();
        rule.write_actions.clear();
    }
    Installed {
        id: life.id,
        switch: life.switch,
        rule,
        from: Epoch::ZERO,
        to: None,
    }
}

/// Fields that any of the rules writes; None: they change more than fields.
fn changed<'r>(rules: impl Iterator<Item = &'r Rule>) -> Option<HashSet<Field>> {
    let mut fields = HashSet::new();
    for rule in rules {
        for action in rule.actions.iter().chain(&rule.write_actions) {
            match action {
                Action::SetField { field, .. } => {
                    fields.insert(*field);
                }
                Action::Output { .. } | Action::Group(_) | Action::SetQueue(_) => {}
                _ => return None,
            }
        }
    }
    Some(fields)
}
