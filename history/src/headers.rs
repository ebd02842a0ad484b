//! With which headers packets came from one switch into the next.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use lime_core::PortId;

use crate::check::sent_out;
use crate::outcomes::{Need, Outcomes, Segment};
use crate::record::{History, ShapeId};
use crate::steps::{Entry, Instance, Steps};

/// All headers that one switch may have sent a packet out by a link with; None: any.
type Shapes = Option<Rc<[ShapeId]>>;

/// What is known already: by what came into the first switch, and what the second must have done with it.
#[derive(Default)]
struct Known {
    sent: HashMap<(PortId, ShapeId, PortId), Shapes>,
    came: HashMap<(PortId, ShapeId, PortId, PortId, Need), Option<ShapeId>>,
}

/// Finds for each packet at each further switch the only headers with which it can have come there, if they are the only ones; the switch
/// before must then have sent it with these.
pub(crate) fn follow(history: &History, steps: &mut Steps, outcomes: &mut Outcomes<'_>) {
    let mut known = Known::default();
    for instance in steps.instances.iter_mut().filter(|i| i.stops.len() > 1) {
        for stop in 1..instance.stops.len() {
            let Some(shape) = known.came_with(history, instance, stop, outcomes) else {
                continue;
            };
            let links = into(history, &instance.stops[stop].ports);
            let before = instance.stops[stop].before.unwrap_or(0);
            instance.stops[stop].shape = Some(shape);
            for (any, sent_with) in &mut instance.stops[before].need.ports {
                if any.iter().any(|p| links.contains(p)) {
                    *sent_with = Some(shape);
                }
            }
        }
    }
}

/// Ports whose links lead to these.
fn into(history: &History, ports: &[PortId]) -> Vec<PortId> {
    let leads = |p: &&crate::Port| matches!(p.leads, crate::Leads::Link(to) if ports.contains(&to));
    history.ports.iter().filter(leads).map(|p| p.id).collect()
}

impl Known {
    fn came_with(
        &mut self,
        history: &History,
        instance: &Instance,
        stop: usize,
        outcomes: &mut Outcomes<'_>,
    ) -> Option<ShapeId> {
        let to = &instance.stops[stop];
        let before = &instance.stops[to.before?];
        let (shape, port) = (before.shape?, *to.ports.first()?);
        let link = *into(history, &to.ports).first()?;
        if let (None, Entry::Out { command, .. }) = (before.before, instance.entry) {
            let sent = shapes(&[sent_out(history, command, outcomes)], link);
            return one_that_fits(sent, port, &to.need, outcomes);
        }
        // End hosts with several ports are at one switch each, and what it does depends on the port at most.
        let [entry] = before.ports[..] else {
            let ways: Vec<_> = before
                .ports
                .iter()
                .map(|&p| outcomes.of(p, shape))
                .collect();
            return one_that_fits(shapes(&ways, link), port, &to.need, outcomes);
        };
        let key = (entry, shape, link, port, to.need.clone());
        if let Some(known) = self.came.get(&key) {
            return *known;
        }
        let sent = self.sent.entry((entry, shape, link));
        let sent = sent.or_insert_with(|| shapes(&[outcomes.of(entry, shape)], link));
        let found = one_that_fits(sent.clone(), port, &to.need, outcomes);
        self.came.insert(key, found);
        found
    }
}

fn shapes(ways: &[Rc<[Segment]>], link: PortId) -> Shapes {
    let mut found = HashSet::new();
    for segment in ways.iter().flat_map(|w| w.iter()) {
        if segment.effects.is_empty() {
            return None;
        }
        let out = segment.effects.iter().flat_map(|e| &e.out);
        found.extend(out.filter(|(p, _)| *p == link).map(|(_, s)| *s));
    }
    Some(found.into_iter().collect())
}

/// The only headers of these with which the switch may do that, at some version; the only ones at all, if it may do anything.
fn one_that_fits(
    sent: Shapes,
    port: PortId,
    need: &Need,
    outcomes: &mut Outcomes<'_>,
) -> Option<ShapeId> {
    let sent = sent?;
    let mut fits = |s: &&ShapeId| {
        outcomes
            .of(port, **s)
            .iter()
            .any(|segment| segment.fits(need))
    };
    if let [one] = sent[..] {
        return Some(one);
    }
    let fitting: Vec<&ShapeId> = sent.iter().filter(|s| fits(s)).collect();
    match fitting[..] {
        [one] => Some(*one),
        _ => None,
    }
}
