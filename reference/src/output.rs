//! Outputs: by ports and to the controller.

use lime_core::PortNo;

use crate::run::{Arrival, By, Run, Start};
use crate::{Counted, Drop, Event, Fault, Place, Port, Sent};

/// How many times a copy of a packet may go into a link beside other outputs; each such copy starts anew at the other end.
const MAX_COPIES: usize = 8;

impl<'a> Run<'a, '_> {
    /// Output to one port, ordinary or reserved (OpenFlow 1.3.5, 4.5).
    pub(crate) fn output(
        &mut self,
        port: &'a Port,
        frame: &[u8],
        by: &By,
        to: PortNo,
        max_len: u16,
    ) {
        match to {
            PortNo::CONTROLLER => self.packet_in(port, frame, by, max_len),
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
        if !matches!(port.place, Place::Link(_)) && port.mtu != 0 && l3 > port.mtu as usize {
            self.outcome.drop(port.id, Drop::TooBig);
            return;
        }
        let link = matches!(port.place, Place::Link(_));
        if !link && port.mtu != 0 && l3 > port.mtu as usize {
            self.outcome.drop(port.id, Drop::TooBig);
            return;
        }
        if port.place != Place::Local {
            self.tunnel(tags);
        }
        let sent = Sent {
            port: port.id,
            frame: frame.to_vec(),
            queue: self.queue,
        };
        match port.place {
            Place::Local => {
                self.outcome.port(port.id).sent.add(frame);
                self.outcome.sent.push(sent);
            }
            Place::Remote if self.copies >= MAX_COPIES => {
                self.outcome.drop(port.id, Drop::HopLimit)
            }
            Place::Remote => self.outcome.sent.push(sent),
            Place::Link(other) => match self.world.port(other) {
                Some(_) if self.copies >= MAX_COPIES => self.outcome.drop(port.id, Drop::HopLimit),
                Some(other) => {
                    self.outcome.port(port.id).sent.add(frame);
                    self.waiting.push_back(Arrival {
                        port: other,
                        start: Start::Switch,
                        queue: 0,
                        frame: frame.to_vec(),
                        copies: self.copies + 1,
                    });
                }
                None => self.outcome.drop(port.id, Drop::PortDown),
            },
        }
    }

    /// A copy of the packet that a group, or one of its buckets, is to have.
    pub(crate) fn copy_to_group(&mut self, port: &'a Port, frame: &[u8], start: Start) {
        if self.copies >= MAX_COPIES {
            self.outcome.drop(port.id, Drop::HopLimit);
            return;
        }
        self.tunnel(tags(frame));
        self.waiting.push_back(Arrival {
            port,
            start,
            queue: self.queue,
            frame: frame.to_vec(),
            copies: self.copies + 1,
        });
    }

    fn tunnel(&mut self, tags: usize) {
        self.outcome.tunnelled += 1;
        self.tunnelled = true;
        self.outcome.tags_tunnelled.insert(tags);
    }

    /// To the controller (OpenFlow 1.3.5, 7.4.1): from a rule's actions, or from the action set, which several rules may have written, or from a
    /// bucket. Then the cookie is -1, and no table-miss entry is the reason.
    fn packet_in(&mut self, port: &Port, frame: &[u8], by: &By, max_len: u16) {
        let (by, table, miss, cookie) = match *by {
            By::Rule(installed) => {
                let rule = &installed.rule;
                let miss = rule.priority == 0 && rule.matching.fields().is_empty();
                (Counted::Rule(installed.id), rule.table, miss, rule.cookie)
            }
            By::Set(last) => (Counted::Rule(last.id), last.rule.table, false, u64::MAX),
            By::Bucket(bucket, rule) => {
                let cookie = match rule {
                    Some(rule) if self.world.fault == Some(Fault::CookieOfBucket) => {
                        rule.rule.cookie
                    }
                    _ => u64::MAX,
                };
                (bucket, rule.map_or(0, |r| r.rule.table), false, cookie)
            }
        };
        self.outcome.events.push(Event {
            switch: port.switch,
            table,
            miss,
            in_port: port.number,
            by,
            cookie,
            version: self.world.clock,
            total_len: frame.len(),
            data: frame[..frame.len().min(usize::from(max_len))].to_vec(),
        });
    }
}

/// How many VLAN tags a frame has, however many.
pub(crate) fn tags(frame: &[u8]) -> usize {
    let types = frame[12..].chunks(4).map(|c| c.get(..2));
    types
        .take_while(|t| matches!(t, Some([0x81, 0x00] | [0x88, 0xa8])))
        .count()
}
