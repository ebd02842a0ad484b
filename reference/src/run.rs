//! A frame's way through the switches.

use std::collections::VecDeque;

use lime_core::PortNo;
use lime_core::flow::{Action, Field, MetadataWrite, Rule};

use crate::output::tags;
use crate::rewrite::rewrite;
use crate::set::ActionSet;
use crate::{Drop, Fault, Headers, Installed, Outcome, Place, Port, World, parse};

/// Switches that a packet passes in one go at most.
const MAX_SWITCHES: usize = 8;

/// Least length of what is behind the Ethernet header and its tags, bytes: that of UDP over IPv4 and of ARP. Linux takes nothing shorter than an
/// IP header out of a tunnel, so that the switch pads it, as a NIC does (to more than this).
const MIN_PAYLOAD: usize = 28;
/// The same, for IPv6.
const MIN_PAYLOAD_IPV6: usize = 48;

/// Changes of a packet's headers that are followed.
const MAX_REREAD: usize = 4;

/// Copies of one packet that are followed.
const MAX_FOLLOWED: usize = 200;

/// A copy of a packet that is yet to enter a switch.
pub(crate) struct Arrival<'a> {
    pub(crate) port: &'a Port,
    pub(crate) frame: Vec<u8>,
    /// How often it was copied into links.
    pub(crate) copies: usize,
}

/// What goes with a packet from table to table, and ends with the switch.
#[derive(Clone, Default)]
struct Pipeline {
    metadata: u64,
    tunnel_id: u64,
    set: ActionSet,
}

/// What a rule's last action may lead to.
enum Next<'a> {
    /// The packet's way ends in this switch.
    End,
    /// It goes on at the other end of a link: by the one port and in by the other.
    Cross(&'a Port, &'a Port),
}

/// What a list of actions came to.
enum Ran<'a> {
    /// To its end; whether there was an output.
    Whole(bool),
    /// One did not fit the packet, which goes no further.
    Stopped,
    /// The last one goes over a link.
    Over(Next<'a>),
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
                tunnelled: false,
            }
            .go(arrival.port, arrival.frame);
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
    /// A copy has gone into a tunnel.
    pub(crate) tunnelled: bool,
}

/// Makes a frame as long as its headers must be.
fn pad(frame: &mut Vec<u8>, headers: &Headers) {
    let ipv6 = headers.get(Field::EthType) == 0x86dd;
    let least = if ipv6 { MIN_PAYLOAD_IPV6 } else { MIN_PAYLOAD };
    frame.resize(frame.len().max(headers.network + least), 0);
}

impl<'a> Run<'a, '_> {
    fn go(&mut self, mut port: &'a Port, mut frame: Vec<u8>) {
        let Some(headers) = parse(&frame, self.world.fault) else {
            self.outcome.drop(port.id, Drop::Malformed);
            return;
        };
        pad(&mut frame, &headers);
        self.outcome.port(port.id).received.add(&frame);
        for passed in 1.. {
            match self.switch(port, &mut frame) {
                Next::End => return,
                Next::Cross(..) if passed == MAX_SWITCHES => {
                    self.outcome.drop(port.id, Drop::HopLimit);
                    return;
                }
                Next::Cross(from, to) => {
                    self.outcome.port(from.id).sent.add(&frame);
                    self.outcome.port(to.id).received.add(&frame);
                    port = to;
                }
            }
        }
    }

    /// All tables of one switch.
    fn switch(&mut self, port: &'a Port, frame: &mut Vec<u8>) -> Next<'a> {
        let fault = self.world.fault;
        let mut with = Pipeline::default();
        let mut table = 0;
        let mut done = false;
        loop {
            let rule = parse(frame, fault)
                .and_then(|headers| self.world.look_up(port, table, &headers, &with));
            let Some(installed) = rule else {
                self.outcome.drop(port.id, Drop::TableMiss);
                return Next::End;
            };
            let rule = &installed.rule;
            let count = self.outcome.rules.entry(installed.id).or_default();
            count.add(frame);
            // OpenFlow 1.3.5, 5.9: apply-actions, clear-actions, write-actions, write-metadata, goto-table.
            let mut set = with.set.clone();
            set.write(rule, fault);
            let ends = rule.goto_table.is_none();
            let run_set = ends && set.outputs();
            let may_cross = ends && !run_set;
            match self.run(
                port,
                frame,
                (installed, false),
                seen(rule),
                &mut with,
                may_cross,
            ) {
                Ran::Whole(output) => done |= output,
                Ran::Stopped => return Next::End,
                Ran::Over(next) => return next,
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
                return match self.run(port, frame, (installed, true), &actions, &mut with, true) {
                    Ran::Over(next) => next,
                    Ran::Whole(_) | Ran::Stopped => Next::End,
                };
            }
            match rule.goto_table {
                Some(next) => table = next,
                None => break,
            }
        }
        if !done {
            self.outcome.drop(port.id, Drop::RuleDrop);
        }
        Next::End
    }

    /// Runs actions in order, those of a rule or of the action set that it lets run. `may_cross`: after the last one nothing is left to do with the packet in this switch.
    fn run(
        &mut self,
        port: &'a Port,
        frame: &mut Vec<u8>,
        rule: (&Installed, bool),
        actions: &[Action],
        with: &mut Pipeline,
        may_cross: bool,
    ) -> Ran<'a> {
        let mut output = false;
        for (i, action) in actions.iter().enumerate() {
            match *action {
                Action::Output { port: to, max_len } => {
                    let last = may_cross && i + 1 == actions.len();
                    if let Some(crossing) = self.crossing(port, to).filter(|_| last) {
                        return Ran::Over(crossing);
                    }
                    self.output(port, frame, rule, to, max_len);
                    output = true;
                }
                Action::SetField {
                    field: Field::TunnelId,
                    value,
                } => with.tunnel_id = value as u64,
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
        Ran::Whole(output)
    }

    /// The packet has other headers now, and is looked at as one that comes in: it is made as long as those must be.
    fn reread(&mut self, port: &Port, frame: &mut Vec<u8>, tags: usize) {
        let Some(headers) = parse(frame, self.world.fault) else {
            return self.outcome.drop(port.id, Drop::Malformed);
        };
        // The kernel programs take two tags off a frame to change what is behind, understand two in a frame that they read, and read it again a
        // few times at most.
        self.reread += 1;
        if tags.max(headers.tags) > 2 || self.reread > MAX_REREAD {
            self.outcome.incomplete = true;
        }
        // Linux does not make a frame longer that has been in a tunnel.
        if self.tunnelled && frame.len() < headers.network + MIN_PAYLOAD_IPV6 + 4 {
            self.outcome.incomplete = true;
        }
        pad(frame, &headers);
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
    let last = rule
        .actions
        .iter()
        .rposition(|a| matches!(a, Action::Output { .. }));
    &rule.actions[..last.map_or(0, |i| i + 1)]
}
