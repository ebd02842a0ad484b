//! Rule 17: hosts that are cut off, leases, going on without a host, and taking it in again. Who may be excluded, and what that makes of the
//! network, is production code.

use lime_core::model::{InstanceState, MemberState, can_exclude, exclude, is_excluded};

use crate::host::Down;
use crate::mutation::Mutation;
use crate::world::{Action, Setting, World, host_id, switch_id};

impl World {
    pub(crate) fn partition_actions(&self, setting: &Setting, h: u8, all: &mut Vec<Action>) {
        let host = &self.hosts[h as usize];
        if self.budget[5] > 0 && host.heard && h < setting.scenario.members {
            all.push(Action::Partition(h));
        }
        if !host.away {
            return;
        }
        all.push(Action::Heal(h));
        let leased = host.config.as_ref().is_some_and(|c| c.leased);
        if leased && !host.lapsed {
            all.push(Action::Lapse(h));
        }
        let member = self.coordinator.sequencer.member(host_id(h));
        let gone = member.is_some_and(|m| !m.connected && m.since.is_some());
        // The coordinator waits for somewhat longer than the lease: what was in hands then is not any more.
        let over = !leased || host.lapsed && host.in_hand.is_empty();
        let may = can_exclude(&self.coordinator.model, host_id(h));
        if gone && may && (over || setting.without(Mutation::ExcludedTooEarly)) {
            all.push(Action::Exclude(h));
        }
    }

    /// The coordinator goes on without the host.
    pub(crate) fn exclude(&mut self, h: u8) {
        self.change(|n| exclude(n, host_id(h)));
        let outs = self.coordinator.outs.iter();
        let lost: Vec<u64> = outs
            .filter(|(_, p)| p.sent_to == Some(h))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.out_done(id);
        }
        self.coordinator.sequencer.remove_member(host_id(h));
        for other in 0..self.hosts.len() as u8 {
            let known = self.coordinator.sequencer.member(host_id(other));
            if other != h && known.is_some() {
                self.configure(other, false);
            }
        }
    }

    /// Whether the coordinator does not know the host as a member or as one that is learning, so that what it says counts for nothing.
    pub(crate) fn is_stranger(&self, h: u8) -> bool {
        let c = &self.coordinator;
        let excluded = c.model.members.get(&host_id(h)) == Some(&MemberState::Excluded);
        let member = c.sequencer.member(host_id(h));
        member.map_or(excluded, |m| excluded && m.since.is_some())
    }

    /// Whether frames for the host may be above what is staged there: it was excluded, and has not caught up.
    pub(crate) fn may_miss_frames(&self, h: u8) -> bool {
        let staged = self.hosts[h as usize].staged;
        let member = self.coordinator.sequencer.member(host_id(h));
        member.is_none_or(|m| m.since.is_none_or(|since| staged.lt(since)))
    }

    /// Whether the host is not to process packets of the switch.
    pub(crate) fn is_out(&self, h: u8, switch: u8) -> bool {
        let switch = self.coordinator.model.switches.get(&switch_id(switch));
        let state = switch.and_then(|s| s.instances.get(&host_id(h)));
        matches!(state, Some(InstanceState::Excluded { .. }))
    }

    /// Who is to be taken in again next: first as a member, then its instances.
    pub(crate) fn next_to_rejoin(&self) -> Option<(u8, Option<u8>)> {
        let model = &self.coordinator.model;
        let back = |h: &u8| self.hosts[*h as usize].heard && is_excluded(model, host_id(*h));
        let h = (0..self.hosts.len() as u8).find(back)?;
        if model.members.get(&host_id(h)) == Some(&MemberState::Excluded) {
            return Some((h, None));
        }
        let mut switches = 0..model.switches.len() as u8;
        switches.find(|s| self.is_out(h, *s)).map(|s| (h, Some(s)))
    }

    /// An excluded host becomes a member: told first, then its last counts are read, then as one that is new.
    pub(crate) fn rejoin(&mut self, step: u8, h: u8) -> bool {
        match step {
            0 => self.configure_one(h),
            1 => self.request(h, Down::Finals),
            2 => {
                self.change(|n| {
                    for switch in n.switches.values_mut() {
                        if let Some(state) = switch.instances.get_mut(&host_id(h))
                            && matches!(state, InstanceState::Excluded { .. })
                        {
                            *state = InstanceState::Excluded { counted: true };
                        }
                    }
                });
                self.member(1, h);
            }
            3 => {
                self.member(2, h);
            }
            4 => self.configure_all(),
            _ => return true,
        }
        false
    }
}
