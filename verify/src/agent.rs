//! The agent's half: commands in the order of the stream, grace periods, the event ring.

use lime_core::log::EntryKind;
use lime_core::{Epoch, SwitchId};

use crate::host::{After, Detour, Down, Up};
use crate::mutation::Mutation;
use crate::world::{CUT, Setting, Step, World, apply, assertion};

impl World {
    /// An agent takes the next message.
    pub(crate) fn command(&mut self, setting: &Setting, h: u8, message: Down) -> Step {
        self.obey(setting, h, message)?;
        self.release_waiting(setting, h);
        Ok(())
    }

    fn obey(&mut self, setting: &Setting, h: u8, message: Down) -> Step {
        let host = &mut self.hosts[h as usize];
        match message {
            Down::Stage {
                entry,
                content,
                replace,
            } => {
                let epoch = entry.epoch;
                let again = epoch.le(host.staged) && host.staged != Epoch::ZERO;
                if again && replace {
                    if epoch.le(host.clock) {
                        return assertion(format!("host {h}: epoch {epoch} is replaced in use"));
                    }
                    host.rules.retain(|v| v.from != epoch.0);
                    for v in &mut host.rules {
                        if v.to == epoch.0 {
                            v.to = 0;
                        }
                    }
                }
                if !again && host.staged != Epoch::ZERO && epoch != host.staged.next() {
                    // Rule 7: a prefix.
                    host.up.push_back(Up::Refused(epoch));
                    return Ok(());
                }
                let refused = |(who, rule): (u8, u8)| {
                    let EntryKind::Update { add, .. } = &entry.kind else {
                        return false;
                    };
                    who == h && add.iter().any(|a| a.id.0 == u64::from(rule) + 1)
                };
                if !again && content && setting.scenario.refuses.is_some_and(refused) {
                    host.up.push_back(Up::Refused(epoch));
                    return Ok(());
                }
                if content && (!again || replace) {
                    apply(&mut host.rules, &entry, None);
                }
                if content && !again && setting.scenario.counts() && is_cut(&entry) {
                    host.cuts.push(epoch);
                }
                host.staged = host.staged.max(epoch);
                host.up.push_back(Up::Staged(epoch));
            }
            Down::Activate(epoch) => {
                if epoch.le(host.staged) {
                    host.clock = host.clock.max(epoch);
                    if setting.without(Mutation::ProcessesBeforeGrace) {
                        host.detours.retain(|d| !d.epoch.le(epoch));
                    }
                    host.after.push_back(After::Activated(epoch));
                }
            }
            Down::EnterRelay {
                epoch,
                switch,
                primary,
            } => {
                host.detours.retain(|d| d.switch != switch);
                host.detours.push(Detour {
                    switch,
                    epoch,
                    to: primary,
                });
                // At once: what is in hands was sent before.
                host.up.push_back(Up::Relaying(epoch));
            }
            Down::Configure(config, awaited) => {
                let is_instance = |rule: u8| {
                    let switch = setting.scenario.rules[rule as usize].switch;
                    let mut switches = config.switches.iter();
                    switches.any(|s| s.switch == SwitchId(u32::from(switch) + 1) && s.instance)
                };
                host.rules.retain(|v| is_instance(v.rule));
                host.config = Some(config);
                // Rule 17: the lease goes on behind what the coordinator says on this stream.
                host.lapsed = false;
                if awaited {
                    host.up.push_back(Up::Done(Epoch::ZERO));
                }
            }
            Down::Restarted { at, min_clock } => {
                if min_clock.le(host.staged) {
                    host.clock = host.clock.max(min_clock);
                }
                host.up.push_back(Up::Restarted(at));
            }
            Down::Snapshot {
                switch,
                at,
                rules,
                awaited,
            } => {
                host.finals = false;
                match switch {
                    None => host.staged = host.staged.max(at),
                    Some(switch) => {
                        let of = |rule: u8| setting.scenario.rules[rule as usize].switch;
                        host.rules.retain(|v| of(v.rule) != switch);
                        host.rules.extend(rules);
                        host.rules.sort_unstable();
                    }
                }
                if awaited {
                    host.up.push_back(Up::Done(Epoch::ZERO));
                }
            }
            Down::Out {
                id,
                min_clock,
                packet,
                to,
            } => {
                host.up.push_back(Up::OutDone(id));
                if !host.recent.insert(id) || !min_clock.le(host.staged) {
                    return Ok(());
                }
                host.clock = host.clock.max(min_clock);
                let clock = host.clock;
                if clock == Epoch::ZERO {
                    return Ok(());
                }
                match to {
                    Some(port) => self.output(setting, h, packet, 1 << port, clock, true),
                    None => self.enter(setting, h, packet),
                }
            }
            Down::Release(id) => {
                let held = host.held.iter().position(|x| u64::from(x.id) == id);
                if let Some(i) = held {
                    let held = host.held.remove(i);
                    let version = Epoch(held.version);
                    self.output(setting, h, held.packet, held.out, version, false);
                }
            }
            Down::Ask(round) => self.asked(setting, h, round),
            Down::Lift => {
                host.promised = false;
                host.asked = None;
            }
            Down::Stands(stands) => self.stands(setting, h, stands),
            Down::Pause(port) => {
                host.after.push_back(After::Paused(host.clock));
                let plug = self.coordinator.plug;
                let mut ends = setting.scenario.ends.iter();
                if let Some(e) = ends.position(|e| e.port == port) {
                    let end = &mut self.ends[e];
                    end.plug = plug;
                    if !plug {
                        end.at = None;
                    }
                }
            }
            Down::Resume(port, min_clock) => {
                if !min_clock.le(host.staged) {
                    return assertion(format!(
                        "host {h} is to resume a port at {min_clock} and has {} staged",
                        host.staged
                    ));
                }
                host.clock = host.clock.max(min_clock);
                host.up.push_back(Up::Done(Epoch::ZERO));
                let mut ends = setting.scenario.ends.iter();
                if let Some(e) = ends.position(|e| e.port == port) {
                    self.ends[e].at = Some(h);
                }
            }
            Down::Finals => {
                host.finals = true;
                host.up.push_back(Up::Done(Epoch::ZERO));
            }
        }
        Ok(())
    }

    /// Whether what waits first may be done.
    pub(crate) fn grace_passed(&self, setting: &Setting, h: u8) -> bool {
        let host = &self.hosts[h as usize];
        host.after.front().is_some_and(|after| match *after {
            // Rule 9.
            After::Activated(epoch) => {
                host.is_past(epoch) || setting.without(Mutation::AckBeforeGrace)
            }
            After::Hello(clock) | After::Paused(clock) => host.is_past(clock),
            After::Vote(_) => self.may_vote(setting, h),
        })
    }

    /// A grace period has passed.
    pub(crate) fn grace(&mut self, setting: &Setting, h: u8) {
        let Some(after) = self.hosts[h as usize].after.pop_front() else {
            return;
        };
        match after {
            After::Vote(round) => self.votes(setting, h, round),
            After::Activated(epoch) => {
                if !setting.without(Mutation::EventsAfterAck) {
                    self.read(h);
                }
                let host = &mut self.hosts[h as usize];
                // Rule 20: all that read an older clock has finished.
                host.detours.retain(|d| !d.epoch.le(epoch));
                let cuts = std::mem::take(&mut host.cuts);
                let (over, left) = cuts.into_iter().partition(|cut| cut.le(epoch));
                host.cuts = left;
                let over: Vec<_> = over;
                for cut in over {
                    let at_all = setting.without(Mutation::CountsAfterCut);
                    let counts = host.counted_before(cut, at_all);
                    host.up.push_back(Up::Counts(cut, counts));
                }
                host.up.push_back(Up::Activated(epoch));
            }
            After::Hello(clock) => {
                let host = &mut self.hosts[h as usize];
                host.greeted = true;
                let staged = host.staged;
                host.up.push_back(Up::Hello { staged, clock });
                host.ring.retain(|e| clock.le(Epoch(e.version)));
                self.read(h);
            }
            After::Paused(_) => {
                self.read(h);
                let host = &mut self.hosts[h as usize];
                host.up.push_back(Up::Done(host.clock));
            }
        }
    }

    /// What is in the ring goes into the stream.
    pub(crate) fn read(&mut self, h: u8) {
        let host = &mut self.hosts[h as usize];
        if host.greeted {
            host.up.extend(host.ring.drain(..).map(Up::Event));
        }
    }

    /// An agent dies. The data path goes on.
    pub(crate) fn kill(&mut self, setting: &Setting, h: u8) {
        self.budget[1] -= 1;
        let host = &mut self.hosts[h as usize];
        host.held.clear();
        host.waiting.clear();
        host.asked = None;
        host.promised &= !setting.without(Mutation::PromiseLostAtRestart);
        host.recent.clear();
        host.incarnation += 1;
        if setting.without(Mutation::ClockLostAtRestart) && host.clock.0 > 1 {
            host.clock = Epoch(host.clock.0 - 1);
        }
        self.cut(h);
    }

    /// A stream breaks, and what is in it is lost.
    pub(crate) fn cut(&mut self, h: u8) {
        self.hosts[h as usize].cut();
        if self.coordinator.awaited & (1 << h) != 0 {
            // The operation fails, and is begun again.
            self.restart_operation();
        }
    }
}

/// Rule 13: an entry that stands for new versions of all rules; or rule 14: the end of one, whose last counts are told.
fn is_cut(entry: &lime_core::log::Entry) -> bool {
    let EntryKind::Update { remove, passed, .. } = &entry.kind else {
        return false;
    };
    remove.iter().any(|r| r.why.is_some()) || passed.iter().any(|p| p.id == CUT)
}
