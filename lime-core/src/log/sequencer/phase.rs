//! Rule 20: an update of a strict network's switch that several instances process.
//!
//! All of them but one, the primary, send the switch's packets there, unprocessed. When all do, the primary takes up the update: at that
//! moment the switch does. Then the others take it up, and process again.

use std::sync::Arc;

use super::Sequencer;
use crate::log::{Entry, EntryKind, Member, Output, ProtocolError, RelayPhase};
use crate::{Consistency, Epoch, HostId, SwitchId};

/// How far it has come.
#[derive(Clone, Debug, Hash)]
pub(super) struct Phase {
    epoch: Epoch,
    switch: SwitchId,
    relay: RelayPhase,
    /// All others relay, and the primary has been told to take up the update.
    primary_told: bool,
}

impl Phase {
    fn relays(&self, host: HostId) -> bool {
        self.relay.others.contains(&host)
    }

    /// Whether this member is to relay and has not said that it does.
    pub fn awaits(&self, host: HostId, member: &Member) -> bool {
        self.relays(host) && member.relaying.lt(self.epoch)
    }
}

impl<E> Sequencer<E> {
    /// Which instances process the packets of the switch of an entry that is to be logged: what the shell knows at that moment. Gives the
    /// entry as it is to be stored.
    pub fn set_relay(&mut self, epoch: Epoch, relay: RelayPhase) -> Option<Arc<Entry>> {
        debug_assert!(self.logged.lt(epoch), "before anybody hears of it");
        let entry = self.entries.iter_mut().find(|e| e.epoch == epoch)?;
        Arc::make_mut(entry).relay = Some(relay);
        Some(Arc::clone(entry))
    }

    /// The host sends the packets of the update's switch to its primary. What it is still processing itself was sent before now, so that it may
    /// be in front of the update: no grace period is needed here.
    pub fn relaying(&mut self, host: HostId, epoch: Epoch) -> Result<(), ProtocolError> {
        let told = self.phase.as_ref();
        let told = told.is_some_and(|p| p.epoch == epoch && p.relays(host));
        let member = self.members.get_mut(&host);
        let member = member.ok_or(ProtocolError::NotAMember(host))?;
        if !told && !epoch.le(self.activated) {
            return Err(ProtocolError::RelaysUntold { host, epoch });
        }
        member.relaying = member.relaying.max(epoch);
        self.pump();
        Ok(())
    }

    /// Begins the relay phase of an epoch that is staged everywhere, if it needs one.
    pub(super) fn begin_phase(&mut self, epoch: Epoch) -> bool {
        let entry = self.entries.iter().find(|e| e.epoch == epoch);
        let Some((relay, EntryKind::Update { switch, .. })) =
            entry.and_then(|e| Some((e.relay.clone()?, &e.kind)))
        else {
            return false;
        };
        if self.consistency != Consistency::Strict {
            return false;
        }
        self.phase = Some(Phase {
            epoch,
            switch: *switch,
            relay,
            primary_told: false,
        });
        let hosts: Vec<HostId> = self.members.keys().copied().collect();
        for host in hosts {
            self.enter_relay_again(host);
        }
        self.advance_phase();
        true
    }

    /// Tells a host to relay, if it is to. Once more does no harm, and the message before may be lost.
    pub(super) fn enter_relay_again(&mut self, host: HostId) {
        let (Some(phase), Some(member)) = (&self.phase, self.members.get(&host)) else {
            return;
        };
        if phase.relays(host) && member.connected && member.is_full() {
            self.out.push(Output::EnterRelay {
                host,
                epoch: phase.epoch,
                switch: phase.switch,
                primary: phase.relay.primary,
            });
        }
    }

    /// The next steps of the phase, as far as they are possible. Nobody waits for a host that was excluded: it has stopped (rule 17). Without
    /// the primary nobody processes the switch's packets then, until the others have the update.
    pub(super) fn advance_phase(&mut self) {
        let Some(phase) = &mut self.phase else { return };
        let (epoch, primary) = (phase.epoch, phase.relay.primary);
        if !phase.primary_told {
            let mut full = self.members.iter().filter(|(_, m)| m.is_full());
            if full.any(|(h, m)| phase.awaits(*h, m)) {
                return;
            }
            phase.primary_told = true;
            let member = self.members.get(&primary);
            if member.is_some_and(|m| m.is_full() && m.connected) {
                self.out.push(Output::Activate {
                    host: primary,
                    epoch,
                    delayed: false,
                });
            }
        }
        let member = self.members.get(&primary);
        if member.is_some_and(|m| m.is_full() && m.acknowledged.lt(epoch)) {
            return;
        }
        self.phase = None;
        self.activate_all(epoch);
    }

    /// The highest epoch that the host has been told to activate; only a strict update's primary is ahead of [`activated`](Self::activated).
    pub fn told(&self, host: HostId) -> Epoch {
        let phase = self.phase.as_ref();
        let primary = phase.filter(|p| p.primary_told && p.relay.primary == host);
        primary.map_or(self.activated, |p| p.epoch)
    }

    /// The highest epoch that somebody may have used.
    pub(super) fn begun(&self) -> Epoch {
        self.phase.as_ref().map_or(self.activated, |p| p.epoch)
    }
}
