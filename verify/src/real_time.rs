//! What real time says of the order in which packets were handled.

use crate::history::{Check, FROM_CONTROLLER, PacketId, STEPS, Seen, Told, index};

/// When what was seen was seen. Time is counted in rounds: first things begin (packets are sent, commands issued), then things end (packets come
/// out, replies come). Which of them is first within these halves says nothing, and does not tell states apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Times {
    /// By end host, as [`History::ends`].
    ends: Vec<Vec<u8>>,
    /// As [`History::controller`].
    controller: Vec<u8>,
    round: u8,
    /// Something has ended in this round.
    ended: bool,
}

impl Times {
    pub(crate) fn new(ends: usize) -> Self {
        Self {
            ends: vec![Vec::new(); ends],
            ..Default::default()
        }
    }

    pub(crate) fn see(&mut self, end: u8, seen: &Seen) {
        let at = match seen {
            Seen::Sent(_) => self.begin(),
            Seen::Got(..) => self.end(),
        };
        self.ends[end as usize].push(at);
    }

    pub(crate) fn tell(&mut self, told: &Told) {
        let at = match told {
            Told::Issued(_) => self.begin(),
            Told::Event { .. } | Told::Done(_) | Told::Counted(..) => self.end(),
        };
        self.controller.push(at);
    }

    fn begin(&mut self) -> u8 {
        self.round += u8::from(std::mem::take(&mut self.ended));
        self.round
    }

    fn end(&mut self) -> u8 {
        self.ended = true;
        self.round
    }
}

/// When packets were sent, and had been handled: what is behind something in real time is behind it at the switch.
pub(crate) struct RealTime {
    /// By packet: when it was sent.
    sent: [u8; 128],
    /// By step: when it had first been seen to have been done.
    out: [u8; STEPS],
    /// By place of the command: when it was issued.
    issued: Vec<u8>,
    /// Answers: when, and to the command of which place.
    done: Vec<(u8, u8)>,
}

impl RealTime {
    pub(crate) fn of(check: &Check<'_>, times: &Times) -> Self {
        let mut this = Self {
            sent: [0; 128],
            out: [u8::MAX; STEPS],
            issued: Vec::new(),
            done: Vec::new(),
        };
        let ends = check.history.ends.iter().zip(&times.ends);
        for (e, (seen, at)) in ends.enumerate() {
            let port = check.world.ends[e].port;
            let switch = check.world.ports[port as usize].switch;
            let mut sent = 0;
            for (seen, at) in seen.iter().zip(at) {
                match *seen {
                    Seen::Sent(_) => {
                        this.sent[8 * e + sent] = *at;
                        sent += 1;
                    }
                    Seen::Got(packet, _) => this.came_out(check, packet, switch, *at),
                }
            }
        }
        for (told, at) in check.history.controller.iter().zip(&times.controller) {
            match *told {
                Told::Issued(command) => {
                    this.issued.push(*at);
                    if let Some(sent) = this.sent.get_mut(usize::from(FROM_CONTROLLER + command)) {
                        *sent = *at;
                    }
                }
                Told::Event { packet, switch, .. } => this.came_out(check, packet, switch, *at),
                Told::Done(command) => {
                    let place = check.place_of(command).unwrap_or(0) as u8;
                    this.done.push((*at, place));
                }
                Told::Counted(..) => {}
            }
        }
        this
    }

    /// A packet has come out of a switch, and so out of those before it.
    fn came_out(&mut self, check: &Check<'_>, packet: PacketId, switch: u8, at: u8) {
        let (_, entry) = check.kinds[packet as usize].expect("what was seen was sent");
        let entry = check.world.ports[entry as usize].switch;
        for i in [index(packet, switch), index(packet, entry)] {
            self.out[i] = self.out[i].min(at);
        }
    }

    pub(crate) fn bind(&self, check: &mut Check<'_>) {
        let seen: Vec<usize> = (0..STEPS).filter(|&i| check.steps[i].seen).collect();
        for &i in &seen {
            let sent = self.sent[check.name(i).0 as usize];
            for &j in &seen {
                if self.out[j] < sent {
                    check.steps[i].before |= 1 << j;
                }
            }
            for &(at, place) in &self.done {
                if at < sent {
                    let step = &mut check.steps[i];
                    step.after_command = step.after_command.max(place + 1);
                }
            }
            for (place, issued) in self.issued.iter().enumerate() {
                if self.out[i] < *issued {
                    check.before_command[place] |= 1 << i;
                }
            }
        }
    }
}
