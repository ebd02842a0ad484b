//! Hosts join and leave, their streams open and break.

use std::sync::Arc;

use super::Sequencer;
use crate::log::{Entry, EntryKind, Member, Output, ProtocolError, Resume};
use crate::{Epoch, HostId};

impl<E> Sequencer<E> {
    /// A host begins to learn: it has been configured and told that everything up to the returned epoch counts as staged; later
    /// entries follow. A [`EntryKind::Join`] without a switch makes it a member.
    pub fn add_learner(&mut self, host: HostId) -> Epoch {
        let at = self.logged;
        self.members.entry(host).or_insert(Member::learner(at));
        at
    }

    /// The host is drained and its counters are read: nobody waits for it any more.
    pub fn remove_member(&mut self, host: HostId) {
        self.members.remove(&host);
        self.pump();
    }

    /// The host's stream is open; `staged` and `clock` are what its agent found.
    pub fn connected(
        &mut self,
        host: HostId,
        staged: Epoch,
        clock: Epoch,
    ) -> Result<Resume, ProtocolError> {
        let (last, logged) = (self.last, self.logged);
        let oldest = self
            .entries
            .front()
            .map_or(logged.next(), |entry| entry.epoch);
        let activated = self.told(host);
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if !staged.le(last) {
            return Err(ProtocolError::AheadOfLog { host, staged, last });
        }
        if staged.next().lt(oldest) || (staged == Epoch::ZERO && oldest != Epoch(1)) {
            member.begin(staged, logged);
            self.enter_relay_again(host);
            return Ok(Resume::FromSnapshot(logged));
        }
        debug_assert!(clock.le(staged), "a clock is never above what is staged");
        member.begin(staged, staged);
        // What was voided meanwhile may be staged there as it was.
        let void = |e: &&Arc<Entry>| {
            matches!(e.kind, EntryKind::Void) && e.epoch.le(staged) && activated.lt(e.epoch)
        };
        let voided = self.entries.iter().find(void).map(|e| e.epoch);
        let behind = member.is_full() && (clock.lt(activated) || member.acknowledged.lt(activated));
        if let Some(from) = voided {
            self.replace_from(host, from);
        }
        self.send_stages(host);
        self.enter_relay_again(host);
        if behind && activated != Epoch::ZERO {
            self.out.push(Output::Activate {
                host,
                epoch: activated,
                delayed: false,
            });
        }
        self.pump();
        Ok(Resume::FromLog)
    }

    /// The host's stream is open, and it has lost something that it had: it needs snapshots as of the returned epoch, as after
    /// [`Resume::FromSnapshot`].
    pub fn connected_empty(&mut self, host: HostId) -> Result<Epoch, ProtocolError> {
        let logged = self.logged;
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        // Nobody may count on what it had.
        member.begin(Epoch::ZERO, logged);
        self.enter_relay_again(host);
        Ok(logged)
    }

    /// The snapshots that [`Resume::FromSnapshot`] asked for are in the host's stream.
    pub fn snapshot_sent(&mut self, host: HostId, at: Epoch) {
        if let Some(member) = self.members.get_mut(&host) {
            member.sent = at;
        }
        self.send_stages(host);
        self.activate_one(host);
    }

    /// The host has taken the snapshots as of this epoch.
    pub fn snapshot_done(&mut self, host: HostId, at: Epoch) {
        if let Some(member) = self.members.get_mut(&host)
            // What became void meanwhile is in the snapshot; its replacement follows, and with it the rest.
            && member.mending == Epoch::ZERO
        {
            member.has_staged(at);
        }
        self.pump();
    }

    /// The host's stream has ended. Activations wait until it is back.
    pub fn disconnected(&mut self, host: HostId) {
        if let Some(member) = self.members.get_mut(&host) {
            member.connected = false;
        }
    }
}
