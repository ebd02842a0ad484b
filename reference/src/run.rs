//! A frame's way through the switches.

use std::collections::VecDeque;

use lime_core::PortNo;
use lime_core::flow::{Action, Field, Rule};

use crate::rewrite::rewrite;
use crate::{Drop, Event, Fault, Headers, Installed, Outcome, Place, Port, World, parse};

/// Switches that a packet passes in one go at most.
const MAX_SWITCHES: usize = 8;
/// How many times a copy of a packet may go into a link beside other outputs; each such copy starts anew at the other end.
const MAX_COPIES: usize = 8;

/// Least length of what is behind the Ethernet header and its tags, bytes: that of UDP over IPv4 and of ARP. Linux takes nothing shorter than an
/// IP header out of a tunnel, so that the switch pads it, as a NIC does (to more than this).
const MIN_PAYLOAD: usize = 28;
/// The same, for IPv6.
const MIN_PAYLOAD_IPV6: usize = 48;

/// Copies of one packet that are followed.
const MAX_FOLLOWED: usize = 200;

/// A copy of a packet that is yet to enter a switch.
struct Arrival<'a> {
    port: &'a Port,
    frame: Vec<u8>,
    /// How often it was copied into links.
    copies: usize,
}

/// What a rule's last action may lead to.
enum Next<'a> {
    /// The packet's way ends in this switch.
    End,
    /// It goes on at the other end of a link: by the one port and in by the other.
    Cross(&'a Port, &'a Port),
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
            }
            .go(arrival.port, arrival.frame);
        }
        outcome
    }

    /// The visible rule of highest priority that matches (OpenFlow 1.3.5, 5.3).
    fn look_up(&self, port: &Port, table: u8, headers: &Headers) -> Option<&Installed> {
        let matching = self.rules.iter().filter(|r| {
            r.switch == port.switch
                && r.rule.table == table
                && r.visible(self.clock, self.fault)
                && r.rule.matching.fields().iter().all(|f| {
                    let value = if f.field == Field::InPort {
                        u128::from(port.number.0)
                    } else {
                        headers.get(f.field)
                    };
                    value & f.mask == f.value
                })
        });
        if self.fault == Some(Fault::PriorityReversed) {
            return matching.min_by_key(|r| r.rule.priority);
        }
        matching.max_by_key(|r| r.rule.priority)
    }
}

struct Run<'a, 'o> {
    world: &'a World,
    outcome: &'o mut Outcome,
    waiting: &'o mut VecDeque<Arrival<'a>>,
    copies: usize,
}

impl<'a> Run<'a, '_> {
    fn go(&mut self, mut port: &'a Port, mut frame: Vec<u8>) {
        let Some(headers) = parse(&frame) else {
            self.outcome.drop(port.id, Drop::Malformed);
            return;
        };
        let ipv6 = headers.get(Field::EthType) == 0x86dd;
        let least = if ipv6 { MIN_PAYLOAD_IPV6 } else { MIN_PAYLOAD };
        frame.resize(frame.len().max(headers.network + least), 0);
        self.outcome.port(port.id).received.add(&frame);
        for passed in 1.. {
            match self.switch(port, &mut frame, passed) {
                Next::End => return,
                Next::Cross(from, to) => {
                    self.outcome.port(from.id).sent.add(&frame);
                    self.outcome.port(to.id).received.add(&frame);
                    port = to;
                }
            }
        }
    }

    /// All tables of one switch, the packet's `passed`th.
    fn switch(&mut self, port: &'a Port, frame: &mut Vec<u8>, passed: usize) -> Next<'a> {
        let mut table = 0;
        let mut done = false;
        loop {
            let rule = parse(frame).and_then(|headers| self.world.look_up(port, table, &headers));
            let Some(installed) = rule else {
                self.outcome.drop(port.id, Drop::TableMiss);
                return Next::End;
            };
            let rule = &installed.rule;
            self.outcome
                .rules
                .entry(installed.id)
                .or_default()
                .add(frame);
            let actions = seen(rule);
            for (i, action) in actions.iter().enumerate() {
                match action {
                    Action::Output { port: to, max_len } => {
                        let last = i + 1 == actions.len() && rule.goto_table.is_none();
                        if let Some(crossing) = self.crossing(port, *to).filter(|_| last) {
                            if passed < MAX_SWITCHES {
                                return crossing;
                            }
                            self.outcome.drop(port.id, Drop::HopLimit);
                            return Next::End;
                        }
                        self.output(port, frame, installed, *to, *max_len);
                        done = true;
                    }
                    change => {
                        if rewrite(frame, change, self.world.fault).is_none() {
                            self.outcome.drop(port.id, Drop::BadSetField);
                            return Next::End;
                        }
                    }
                }
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

    fn output(&mut self, port: &'a Port, frame: &[u8], rule: &Installed, to: PortNo, max_len: u16) {
        match to {
            PortNo::CONTROLLER => self.packet_in(port, frame, rule, max_len),
            PortNo::IN_PORT => self.emit(port, frame),
            PortNo::ALL | PortNo::FLOOD => {
                for other in &self.world.ports {
                    let out = to == PortNo::FLOOD && other.no_flood;
                    if other.switch == port.switch && other.id != port.id && !out {
                        self.emit(other, frame);
                    }
                }
            }
            number => match self.world.numbered(port.switch, number) {
                // OpenFlow 1.3.5, 7.2.5 (OFPP_IN_PORT): that takes the reserved port.
                Some(to)
                    if to.id == port.id && self.world.fault != Some(Fault::OutputToIngress) =>
                {
                    self.outcome.drop(port.id, Drop::OutputToInPort);
                }
                Some(to) => self.emit(to, frame),
                // Of a port that does not exist nobody keeps count.
                None => {}
            },
        }
    }

    /// By a port, whichever it is.
    fn emit(&mut self, port: &'a Port, frame: &[u8]) {
        if port.down {
            self.outcome.drop(port.id, Drop::PortDown);
            return;
        }
        // MTUs measure what is behind the Ethernet header and one tag, as on Linux.
        let tags = tags(frame);
        let l3 = frame.len() - 14 - if tags > 0 { 4 } else { 0 };
        if port.place != Place::Local {
            self.outcome.most_tags_tunnelled = self.outcome.most_tags_tunnelled.max(tags);
        }
        match port.place {
            Place::Local if port.mtu != 0 && l3 > port.mtu as usize => {
                self.outcome.drop(port.id, Drop::TooBig)
            }
            Place::Local => {
                self.outcome.port(port.id).sent.add(frame);
                self.outcome.sent.push((port.id, frame.to_vec()));
            }
            Place::Remote if self.copies >= MAX_COPIES => {
                self.outcome.drop(port.id, Drop::HopLimit)
            }
            Place::Remote => self.outcome.sent.push((port.id, frame.to_vec())),
            Place::Link(other) => match self.world.port(other) {
                Some(_) if self.copies >= MAX_COPIES => self.outcome.drop(port.id, Drop::HopLimit),
                Some(other) => {
                    self.outcome.port(port.id).sent.add(frame);
                    self.waiting.push_back(Arrival {
                        port: other,
                        frame: frame.to_vec(),
                        copies: self.copies + 1,
                    });
                }
                None => self.outcome.drop(port.id, Drop::PortDown),
            },
        }
    }

    /// To the controller (OpenFlow 1.3.5, 7.4.1).
    fn packet_in(&mut self, port: &Port, frame: &[u8], rule: &Installed, max_len: u16) {
        self.outcome.events.push(Event {
            switch: port.switch,
            table: rule.rule.table,
            miss: rule.rule.priority == 0 && rule.rule.matching.fields().is_empty(),
            in_port: port.number,
            rule: rule.id,
            cookie: rule.rule.cookie,
            version: self.world.clock,
            total_len: frame.len(),
            data: frame[..frame.len().min(usize::from(max_len))].to_vec(),
        });
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

/// How many VLAN tags a frame has, however many.
fn tags(frame: &[u8]) -> usize {
    let types = frame[12..].chunks(4).map(|c| c.get(..2));
    types
        .take_while(|t| matches!(t, Some([0x81, 0x00] | [0x88, 0xa8])))
        .count()
}
