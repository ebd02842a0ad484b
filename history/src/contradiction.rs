//! Says why no ordinary switch could have shown a history, in as few observations as prove it.

use std::collections::BTreeSet;
use std::fmt;

use lime_core::SwitchId;
use lime_core::flow::{Field, ofctl};
use lime_reference::parse;

use crate::check::{Because, Graph, Node, least};
use crate::outcomes::Outcomes;
use crate::record::{History, Nanos, ShapeId, Told};
use crate::steps::{Entry, Odd};
use crate::tables::By;

/// Rules of an update that are told.
const MOST_RULES: usize = 6;

/// A proof that no ordinary switch could have shown this: each line follows from the lines before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    lines: Vec<String>,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no ordinary switch could have shown this:")?;
        for line in &self.lines {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Contradiction {}

impl Contradiction {
    /// The proof, a step a line.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn plain(line: String) -> Self {
        Self { lines: vec![line] }
    }

    pub(crate) fn odd(history: &History, odd: Odd) -> Self {
        let Odd::Twice { end, index } = odd;
        let host = &history.ends[end];
        let seen = host.seen[index];
        let sent = history.ends.iter().flat_map(|e| {
            let of = e.seen.iter().filter(|s| s.sent && s.packet == seen.packet);
            of.map(|s| format!("{} sent it at {}", e.name, time(history, s.at)))
        });
        let mut lines = vec![format!(
            "{} got packet {} at {} once more than it was sent to it",
            host.name,
            name(history, history.shapes.get(seen.shape), seen.packet.0),
            time(history, seen.at)
        )];
        lines.extend(sent);
        Self { lines }
    }
}

fn time(history: &History, at: Nanos) -> String {
    let ends = history
        .ends
        .iter()
        .filter_map(|e| e.seen.first())
        .map(|s| s.at);
    let channels = history.channels.iter().filter_map(|c| c.seen.first());
    let start = ends.chain(channels.map(|s| s.0)).min().unwrap_or(0);
    format!("{:.6} s", at.saturating_sub(start) as f64 / 1e9)
}

/// A packet by its headers.
fn name(_: &History, shape: &[u8], id: u64) -> String {
    let Some(h) = parse(shape, None) else {
        return format!("{id:016x}");
    };
    let address = |v4, v6| match h.ip {
        Some(6) => std::net::Ipv6Addr::from_bits(h.get(v6)).to_string(),
        _ => std::net::Ipv4Addr::from_bits(h.get(v4) as u32).to_string(),
    };
    let source = address(Field::Ipv4Src, Field::Ipv6Src);
    let target = address(Field::Ipv4Dst, Field::Ipv6Dst);
    let short = id >> 32;
    match h.get(Field::IpProto) {
        17 => {
            let (from, to) = (h.get(Field::UdpSrc), h.get(Field::UdpDst));
            format!("{short:08x} (udp {source}:{from} > {target}:{to})")
        }
        protocol => format!("{short:08x} (protocol {protocol} {source} > {target})"),
    }
}

/// Tells of a graph.
pub(crate) struct Tell<'g, 'h, 'o, 'a> {
    graph: &'g Graph<'h>,
    outcomes: &'o mut Outcomes<'a>,
    versions: BTreeSet<u32>,
}

impl<'g, 'h, 'o, 'a> Tell<'g, 'h, 'o, 'a> {
    pub(crate) fn new(graph: &'g Graph<'h>, outcomes: &'o mut Outcomes<'a>) -> Self {
        Self {
            graph,
            outcomes,
            versions: BTreeSet::new(),
        }
    }

    /// A step for which no version is left.
    pub(crate) fn nowhere(mut self, n: u32) -> Contradiction {
        let mut lines = self.why(n);
        let bound = &self.graph.bounds[n as usize];
        let (low, high) = (bound.low, bound.high);
        lines.push(self.observed(n));
        let need = &self.graph.stop(bound.node).need;
        let ways = self.graph.ways(bound.node, self.outcomes);
        let mut fits = Vec::new();
        for way in &ways {
            for (i, segment) in way.iter().enumerate().filter(|(_, s)| s.fits(need)) {
                let last = self.outcomes.tables.last();
                let until = way.get(i + 1).map_or(last, |next| next.from - 1);
                fits.push((segment.from, until));
            }
        }
        fits.sort_unstable();
        // Those next to what is left.
        let before = fits.iter().rfind(|f| f.1 < low);
        let behind = fits.iter().find(|f| f.0 > low);
        self.versions.extend(before.map(|f| f.1 + 1));
        self.versions.extend(behind.map(|f| f.0));
        let only = match (before, behind) {
            (None, None) => "at no version".to_owned(),
            (Some((a, b)), None) => format!("only at versions {a} to {b} and before, if at all"),
            (None, Some((a, b))) => format!("only at versions {a} to {b} and behind, if at all"),
            (Some((a, b)), Some((c, d))) => {
                format!("at versions {a} to {b} and again from {c} to {d}")
            }
        };
        let bounds = match (low, high.min(self.outcomes.tables.last())) {
            (0, high) => format!("it was handled at version {high} at the latest"),
            (low, high) if high == self.outcomes.tables.last() => {
                format!("it was handled at version {low} at the earliest")
            }
            (low, high) => format!("it was handled at versions {low} to {high}"),
        };
        self.versions.insert(low);
        lines.push(format!("but the switch does that {only}, and {bounds}"));
        self.done(lines)
    }

    /// The end of a rule is told after what there was only behind it.
    pub(crate) fn too_late(mut self, n: u32) -> Contradiction {
        let mut lines = self.why(n);
        let bound = &self.graph.bounds[n as usize];
        lines.push(format!(
            "only then {}: that is version {} at the latest",
            self.heard(bound.node),
            bound.high + 1
        ));
        self.versions.extend([bound.low, bound.high + 1]);
        self.done(lines)
    }

    /// Steps each of which comes before the next, and the last before the first.
    pub(crate) fn circle(self, stuck: &[u32]) -> Contradiction {
        let is_stuck = |n: &u32| stuck.binary_search(n).is_ok();
        let mut way: Vec<u32> = Vec::new();
        let mut at = stuck[0];
        loop {
            if let Some(start) = way.iter().position(|&n| n == at) {
                way.drain(..start);
                break;
            }
            way.push(at);
            let before = self.graph.edges.iter().filter(|(_, to)| *to == at);
            match before.map(|(from, _)| *from).find(is_stuck) {
                Some(from) => at = from,
                None => break,
            }
        }
        way.reverse();
        let mut lines = vec![
            "each of these is handled before the next, and the last before the first:".to_owned(),
        ];
        let steps = way
            .iter()
            .filter(|&&n| matches!(self.graph.bounds[n as usize].node, Node::Step { .. }));
        let steps: Vec<u32> = steps.copied().collect();
        for n in steps {
            lines.push(self.observed(n));
        }
        self.done(lines)
    }

    fn done(self, mut lines: Vec<String>) -> Contradiction {
        for version in self.versions {
            lines.extend(describe(self.outcomes, self.graph.history, version));
        }
        Contradiction { lines }
    }

    /// Why a node's bound is what it is, the first reason first.
    fn why(&mut self, n: u32) -> Vec<String> {
        let mut lines = Vec::new();
        let mut at = n;
        loop {
            let bound = &self.graph.bounds[at as usize];
            match bound.because {
                Because::Nothing => break,
                Because::Command(command) => {
                    self.versions.insert(bound.low);
                    lines.push(match bound.node {
                        Node::Step { instance, .. } => {
                            self.after_command(instance, command, bound.low)
                        }
                        _ => format!("command {command} is of version {}", bound.low),
                    });
                    break;
                }
                Because::After(before) => {
                    let own = self.own_reason(before);
                    lines.push(self.line(before));
                    if own {
                        self.versions
                            .insert(self.graph.bounds[before as usize].place);
                        break;
                    }
                    at = before;
                }
            }
        }
        lines.reverse();
        lines
    }

    /// Whether what was seen of a step alone says that it was at its version at the earliest.
    fn own_reason(&mut self, n: u32) -> bool {
        let bound = &self.graph.bounds[n as usize];
        if !matches!(bound.node, Node::Step { .. }) {
            return false;
        }
        let need = &self.graph.stop(bound.node).need;
        let ways = self.graph.ways(bound.node, self.outcomes);
        least(&ways, 0, |s| s.fits(need)) == Some(bound.place)
    }

    fn after_command(&self, instance: u32, command: usize, version: u32) -> String {
        let packet = self.packet(instance);
        match self.graph.steps.instances[instance as usize].entry {
            Entry::Sent { .. } => format!(
                "packet {packet} was sent, or the controller told of it, when the update of version {version} (command {command}) had been answered"
            ),
            Entry::Out { .. } => format!(
                "packet {packet} was sent out behind the update of version {version} (command {command})"
            ),
        }
    }

    fn line(&self, n: u32) -> String {
        let bound = &self.graph.bounds[n as usize];
        match bound.node {
            Node::Step { .. } => format!(
                "{}: that was at version {} at the earliest",
                self.observed(n),
                bound.place
            ),
            Node::Got { end, index } => {
                let seen = &self.graph.history.ends[end].seen[index];
                let history = self.graph.history;
                let packet = name(history, history.shapes.get(seen.shape), seen.packet.0);
                let (end, at) = (&history.ends[end].name, time(history, seen.at));
                format!("{end} had got packet {packet} at {at}")
            }
            Node::Moment { at } => {
                format!("that had been seen by {}", time(self.graph.history, at))
            }
            Node::Heard { .. } | Node::Ending { .. } => self.heard(bound.node),
        }
    }

    /// What a controller was told.
    fn heard(&self, node: Node) -> String {
        let (Node::Heard { channel, index } | Node::Ending { channel, index }) = node else {
            return String::new();
        };
        let history = self.graph.history;
        let (at, told) = history.channels[channel].seen[index];
        let at = time(history, at);
        match told {
            Told::Removed { switch, epoch, .. } => format!(
                "the controller was told at {at} that a rule of switch {} had ended with epoch {epoch}",
                switch_name(history, switch)
            ),
            _ => format!("the controller was told at {at}"),
        }
    }

    fn packet(&self, instance: u32) -> String {
        let history = self.graph.history;
        let of = &self.graph.steps.instances[instance as usize];
        let by = match of.entry {
            Entry::Sent { end, .. } => {
                format!(
                    "{} sent it at {}",
                    history.ends[end].name,
                    time(history, of.at)
                )
            }
            Entry::Out { command, .. } => {
                format!("sent out by command {command} at {}", time(history, of.at))
            }
        };
        let shape: ShapeId = of.shape;
        format!(
            "{}, {by},",
            name(history, history.shapes.get(shape), of.packet.0)
        )
    }

    /// What was seen of a node.
    fn observed(&self, n: u32) -> String {
        let node = self.graph.bounds[n as usize].node;
        let Node::Step { instance, .. } = node else {
            return String::new();
        };
        let stop = self.graph.stop(node);
        let mut did: Vec<String> = stop
            .need
            .ports
            .iter()
            .map(|(any, shape)| self.port(stop.switch, any, *shape))
            .collect();
        if stop.need.event {
            did.push("to the controller".to_owned());
        }
        let did = match did.is_empty() {
            true => "handled".to_owned(),
            false => format!("sent {}", did.join(" and ")),
        };
        format!(
            "packet {} was {did} by switch {}",
            self.packet(instance),
            switch_name(self.graph.history, stop.switch)
        )
    }

    /// Headers, as far as rules are likely to have changed them.
    fn headers(&self, shape: ShapeId) -> String {
        let Some(h) = parse(self.outcomes.shapes.get(shape), None) else {
            return String::new();
        };
        let (to, dscp) = (h.get(Field::EthDst), h.get(Field::IpDscp));
        format!(" (to {to:012x}, dscp {dscp})")
    }

    fn port(&self, switch: SwitchId, any: &[lime_core::PortId], shape: Option<ShapeId>) -> String {
        let ports = self.graph.history.ports.iter();
        let numbers: Vec<String> = ports
            .filter(|p| p.switch == switch && any.contains(&p.id))
            .map(|p| p.number.to_string())
            .collect();
        let how = shape.map(|s| self.headers(s)).unwrap_or_default();
        format!("by port {}{how}", numbers.join(" or "))
    }
}

fn switch_name(history: &History, switch: SwitchId) -> String {
    history
        .switches
        .get(&switch)
        .cloned()
        .unwrap_or_else(|| switch.to_string())
}

/// What a version changed.
fn describe(outcomes: &Outcomes<'_>, history: &History, version: u32) -> Vec<String> {
    let Some(epoch) = version
        .checked_sub(1)
        .and_then(|v| outcomes.tables.epochs.get(v as usize))
    else {
        return Vec::new();
    };
    let of = outcomes
        .tables
        .effective
        .iter()
        .filter(|e| e.version == version);
    let commands: Vec<String> = of
        .map(|e| match e.by {
            By::Command(command) => format!("command {command} at {}", time(history, e.issued)),
            By::Timeout { .. } => "a rule timed out".to_owned(),
        })
        .collect();
    let mut lines = vec![format!(
        "version {version} (epoch {epoch}): {}",
        commands.join(", ")
    )];
    let lives = &outcomes.tables.lives;
    let came = lives.iter().filter(|l| l.from == version).map(|l| ('+', l));
    let went = lives.iter().filter(|l| l.to == version).map(|l| ('-', l));
    let changes: Vec<_> = went.chain(came).collect();
    for (sign, life) in changes.iter().take(MOST_RULES) {
        let maybe = if life.optional { " (perhaps)" } else { "" };
        let switch = switch_name(history, life.switch);
        lines.push(format!(
            "  {sign} {switch} {}{maybe}",
            ofctl::format_rule(&life.rule)
        ));
    }
    if changes.len() > MOST_RULES {
        lines.push(format!("  and {} more", changes.len() - MOST_RULES));
    }
    lines
}
