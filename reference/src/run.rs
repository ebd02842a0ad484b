//! A frame's way through the switches.

use std::collections::VecDeque;

use lime_core::PortNo;
use lime_core::flow::{Action, Field, MetadataWrite, Rule};

use crate::output::tags;
use crate::rewrite::rewrite;
use crate::set::ActionSet;
use crate::{Counted, Drop, Fault, Headers, Installed, Outcome, Place, Port, World, parse};

/// Switches that a packet passes in one go at most.
const MAX_SWITCHES: usize = 8;

/// Least length of what is behind the Ethernet header and its tags, bytes: that of UDP over IPv4 and of ARP. Linux takes nothing shorter than an
/// IP header out of a tunnel, so that the switch pads it, as a NIC does (to more than this).
const MIN_PAYLOAD: usize = 28;
/// The same, for IPv6.
const MIN_PAYLOAD_IPV6: usize = 48;

/// Changes of a packet's headers, and meters that may change it, that are followed.
pub(crate) const MAX_REREAD: usize = 4;

/// Copies of one packet that are followed.
const MAX_FOLLOWED: usize = 200;

/// A copy of a packet that is yet to be looked at.
pub(crate) struct Arrival<'a> {
    pub(crate) port: &'a Port,
    pub(crate) start: Start,
    /// That rules have chosen in this switch.
    pub(crate) queue: u32,
    pub(crate) frame: Vec<u8>,
    /// How often it was copied into links and for groups.
    pub(crate) copies: usize,
}

/// What a packet comes for.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// The switch's tables.
    Switch,
    /// A group: the packet has been received and counted before.
    Group(u32),
    /// One bucket of a group, which is counted with the group's other copies.
    Bucket(u32, usize),
}

/// Whose actions are run.
pub(crate) enum By<'a> {
    /// A rule's.
    Rule(&'a Installed),
    /// Those of the action set, which this rule lets run.
    Set(&'a Installed),
    /// A bucket's, and the rule that ran the group, unless it ran it on a copy.
    Bucket(Counted, Option<&'a Installed>),
}

/// What goes with a packet from table to table, and ends with the switch.
#[derive(Clone, Default)]
pub(crate) struct Pipeline {
    metadata: u64,
    tunnel_id: u64,
    set: ActionSet,
}

/// What a rule's last action may lead to.
pub(crate) enum Next<'a> {
    /// The packet's way ends in this switch.
    End,
    /// It goes on at the other end of a link: by the one port and in by the other.
    Cross(&'a Port, &'a Port),
}

/// What a list of actions came to.
pub(crate) enum Ran<'a> {
    /// To its end.
    Whole,
    /// One did not fit the packet, which goes no further.
    Stopped,
    /// The last one goes over a link.
    Over(Next<'a>),
    /// The last one is this group, which may have the packet itself.
    Group(u32),
}

impl World {
    /// Lets a frame come in by a port.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn receive(&self, port: lime_core::PortId, frame: &[u8]) -> Outcome {
        let port = self
            .port(port)
            .unwrap_or_else(|| panic!("there is no port {port}"));
        let mut outcome = Outcome::default();
        let mut waiting = VecDeque::from([Arrival {
            port,
            start: Start::Switch,
            queue: 0,
            frame: frame.to_vec(),
            copies: 0,
        }]);
        let mut followed = 0;
        while let Some(arrival) = waiting.pop_front() {
            followed += 1;
            if followed > MAX_FOLLOWED {
                outcome.incomplete = true;
                break;
            }
            Run {
                world: self,
                outcome: &mut outcome,
                waiting: &mut waiting,
                copies: arrival.copies,
                reread: 0,
                reshaped: false,
                tunnelled: false,
                done: false,
                queue: arrival.queue,
            }
            .go(arrival);
        }
        outcome
    }

    /// The visible rule of highest priority that matches (OpenFlow 1.3.5, 5.3).
    fn look_up(
        &self,
        port: &Port,
        table: u8,
        headers: &Headers,
        with: &Pipeline,
    ) -> Option<&Installed> {
        let value = |field| match field {
            // LIME's ports are not aggregates.
            Field::InPort | Field::InPhyPort => u128::from(port.number.0),
            Field::Metadata => with.metadata.into(),
            Field::TunnelId => with.tunnel_id.into(),
            field => headers.get(field),
        };
        let matching = self.rules.iter().filter(|r| {
            let fields = r.rule.matching.fields();
            r.switch == port.switch
                && r.rule.table == table
                && r.visible(self.clock, self.fault)
                && fields.iter().all(|f| value(f.field) & f.mask == f.value)
        });
        if self.fault == Some(Fault::PriorityReversed) {
            return matching.min_by_key(|r| r.rule.priority);
        }
        matching.max_by_key(|r| r.rule.priority)
    }
}

pub(crate) struct Run<'a, 'o> {
    pub(crate) world: &'a World,
    pub(crate) outcome: &'o mut Outcome,
    pub(crate) waiting: &'o mut VecDeque<Arrival<'a>>,
    pub(crate) copies: usize,
    /// How often headers have changed.
    pub(crate) reread: usize,
    /// They have since the last look-up.
    pub(crate) reshaped: bool,
    /// A copy has gone into a tunnel.
    pub(crate) tunnelled: bool,
    /// Something has become of the packet in the present switch: it, or a copy, was output or dropped for a reason.
    pub(crate) done: bool,
    /// The queue that the packet goes out by. It ends with the switch.
    pub(crate) queue: u32,
}

/// Makes a frame as long as its headers must be.
fn pad(frame: &mut Vec<u8>, headers: &Headers) {
    let ipv6 = headers.get(Field::EthType) == 0x86dd;
    let least = if ipv6 { MIN_PAYLOAD_IPV6 } else { MIN_PAYLOAD };
    frame.resize(frame.len().max(headers.network + least), 0);
}

impl<'a> Run<'a, '_> {
    fn go(&mut self, arrival: Arrival<'a>) {
        let Arrival {
            mut port,
            start,
            mut frame,
            ..
        } = arrival;
        let Some(headers) = parse(&frame, self.world.fault) else {
            self.outcome.drop(port.id, Drop::Malformed);
            return;
        };
        pad(&mut frame, &headers);
        let mut next = match start {
            Start::Switch => {
                self.outcome.port(port.id).received.add(&frame);
                self.switch(port, &mut frame)
            }
            Start::Group(group) => self.group(port, &mut frame, group, None),
            Start::Bucket(group, index) => self.bucket(port, &mut frame, (group, index), None),
        };
        let mut passed = 1;
        loop {
            match next {
                Next::End => return,
                Next::Cross(..) if passed == MAX_SWITCHES => {
                    self.outcome.drop(port.id, Drop::HopLimit);
                    return;
                }
                Next::Cross(from, to) => {
                    self.outcome.port(from.id).sent.add(&frame);
                    self.outcome.port(to.id).received.add(&frame);
                    port = to;
                    passed += 1;
                    next = self.switch(port, &mut frame);
                }
            }
        }
    }

    /// All tables of one switch.
    fn switch(&mut self, port: &'a Port, frame: &mut Vec<u8>) -> Next<'a> {
        let fault = self.world.fault;
        let mut with = Pipeline::default();
        let mut table = 0;
        self.done = false;
        self.queue = 0;
        loop {
            self.reshaped = false;
            let rule = parse(frame, fault)
                .and_then(|headers| self.world.look_up(port, table, &headers, &with));
            let Some(installed) = rule else {
                self.outcome.drop(port.id, Drop::TableMiss);
                return Next::End;
            };
            let rule = &installed.rule;
            self.outcome.count(Counted::Rule(installed.id), frame);
            if rule
                .meter
                .is_some_and(|meter| !self.passes(port, frame, meter))
            {
                return Next::End;
            }
            // OpenFlow 1.3.5, 5.9: apply-actions, clear-actions, write-actions, write-metadata, goto-table.
            let mut set = with.set.clone();
            set.write(rule, fault);
            let ends = rule.goto_table.is_none();
            let run_set = ends && set.outputs();
            let by = By::Rule(installed);
            let last = ends && !run_set;
            match self.run(port, frame, &by, seen(rule), &mut with, last) {
                Ran::Whole => {}
                Ran::Stopped => return Next::End,
                Ran::Over(next) => return next,
                Ran::Group(group) => return self.group(port, frame, group, Some(installed)),
            }
            with.set = set;
            if let Some(MetadataWrite { value, mask }) = rule.write_metadata {
                let kept = match fault {
                    Some(Fault::MetadataMaskIgnored) => 0,
                    _ => with.metadata & !mask,
                };
                with.metadata = kept | value & mask;
            }
            if fault == Some(Fault::TunnelIdForgotten) {
                with.tunnel_id = 0;
            }
            if run_set {
                self.outcome.sets += 1;
                let actions = with.set.in_order(fault);
                let by = By::Set(installed);
                return match self.run(port, frame, &by, &actions, &mut with, true) {
                    Ran::Over(next) => next,
                    Ran::Group(group) => self.group(port, frame, group, Some(installed)),
                    Ran::Whole => self.end(port),
                    Ran::Stopped => Next::End,
                };
            }
            match rule.goto_table {
                Some(next) => table = next,
                None => break,
            }
        }
        self.end(port)
    }

    /// The packet's way is at its end: where nothing has become of it, it was dropped.
    pub(crate) fn end(&mut self, port: &Port) -> Next<'a> {
        if !self.done {
            self.outcome.drop(port.id, Drop::RuleDrop);
        }
        Next::End
    }

    /// Runs actions in order. `last`: after them nothing is left to do with the packet in this switch.
    pub(crate) fn run(
        &mut self,
        port: &'a Port,
        frame: &mut Vec<u8>,
        by: &By,
        actions: &[Action],
        with: &mut Pipeline,
        last: bool,
    ) -> Ran<'a> {
        for (i, action) in actions.iter().enumerate() {
            let last = last && i + 1 == actions.len();
            match *action {
                Action::Output { port: to, max_len } => {
                    if let Some(crossing) = self.crossing(port, to).filter(|_| last) {
                        return Ran::Over(crossing);
                    }
                    self.done = true;
                    self.output(port, frame, by, to, max_len);
                }
                // A packet whose headers are not known before they have changed, and one that is needed yet, is copied.
                Action::Group(group) if last && !self.reshaped => return Ran::Group(group),
                Action::Group(group) => {
                    self.done = true;
                    self.copy_to_group(port, frame, Start::Group(group));
                }
                Action::SetField {
                    field: Field::TunnelId,
                    value,
                } => with.tunnel_id = value as u64,
                Action::SetQueue(queue) => self.queue = queue,
                _ => {
                    let tags = tags(frame);
                    if let Err(reason) = rewrite(frame, action, self.world.fault) {
                        self.outcome.drop(port.id, reason);
                        return Ran::Stopped;
                    }
                    if matches!(
                        action,
                        Action::PushMpls(_)
                            | Action::PopMpls(_)
                            | Action::PushPbb(_)
                            | Action::PopPbb
                    ) {
                        self.reread(port, frame, tags);
                    }
                }
            }
        }
        Ran::Whole
    }

    /// The packet has other headers now, and is looked at as one that comes in: it is made as long as those must be.
    fn reread(&mut self, port: &Port, frame: &mut Vec<u8>, tags: usize) {
        let Some(headers) = parse(frame, self.world.fault) else {
            return self.outcome.drop(port.id, Drop::Malformed);
        };
        // The kernel programs take two tags off a frame to change what is behind, understand two in a frame that they read, and read it again a
        // few times at most.
        self.reread += 1;
        self.reshaped = true;
        self.outcome.relabelled += 1;
        if tags.max(headers.tags) > 2 || self.reread > MAX_REREAD {
            self.outcome.incomplete = true;
        }
        // Linux does not make a frame longer that has been in a tunnel.
        if self.tunnelled && frame.len() < headers.network + MIN_PAYLOAD_IPV6 + 4 {
            self.outcome.incomplete = true;
        }
        // Nor does XDP, where a device has no room behind a short frame: such a one is dropped (resize-failed).
        let length = frame.len();
        pad(frame, &headers);
        self.outcome.incomplete |= frame.len() > length;
    }

    /// The way into the switch at the other end of a link, if `to` is a link that the packet can take.
    fn crossing(&self, port: &Port, to: PortNo) -> Option<Next<'a>> {
        let from = self.world.numbered(port.switch, to)?;
        match from.place {
            Place::Link(other) if !from.down && from.id != port.id => {
                Some(Next::Cross(from, self.world.port(other)?))
            }
            _ => None,
        }
    }
}

/// The actions that anybody can see: what changes the packet after the last output of the last table, with no action set to follow, is not run.
fn seen(rule: &Rule) -> &[Action] {
    let no_set = rule.write_actions.is_empty() && (rule.clear_actions || rule.table == 0);
    if rule.goto_table.is_some() || !no_set {
        return &rule.actions;
    }
    up_to_last_output(&rule.actions)
}

/// What changes the packet after its last output is not seen.
pub(crate) fn up_to_last_output(actions: &[Action]) -> &[Action] {
    let last = actions
        .iter()
        .rposition(|a| matches!(a, Action::Output { .. } | Action::Group(_)));
    &actions[..last.map_or(0, |i| i + 1)]
}
