//! What agents say.

use super::Sequencer;
use crate::log::{EntryKind, Output, ProtocolError, StageError};
use crate::{Consistency, Epoch, HostId};

impl<E> Sequencer<E> {
    /// Everything up to `epoch` is staged on the host.
    pub fn staged(&mut self, host: HostId, epoch: Epoch) -> Result<(), ProtocolError> {
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if !epoch.le(member.sent) {
            let sent = member.sent;
            return Err(ProtocolError::StagedUnsent { host, epoch, sent });
        }
        if member.answered() {
            member.has_staged(epoch);
        }
        self.pump();
        Ok(())
    }

    /// The host could not stage this epoch. The newest batch is void then, on all members; what waits behind it was decided on top of
    /// it and fails too.
    pub fn stage_failed(
        &mut self,
        host: HostId,
        epoch: Epoch,
        reason: String,
    ) -> Result<(), ProtocolError> {
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if !member.answered() {
            return Ok(());
        }
        if member.since.is_none_or(|since| epoch.lt(since)) {
            // An entry of before its time: others may have activated it.
            self.out.push(Output::LearnerFailed(host, reason));
            return Ok(());
        }
        let mut entries = self.entries.iter();
        let failed = entries.find(|e| e.epoch == epoch).map(|e| &e.kind);
        if epoch.le(self.begun()) || !matches!(failed, Some(EntryKind::Update { .. })) {
            return Err(ProtocolError::CannotRefuse {
                host,
                epoch,
                reason,
            });
        }
        let error = StageError {
            host,
            reason,
            collateral: false,
        };
        self.void_above(self.activated, epoch, &error);
        self.pump();
        Ok(())
    }

    /// The host's clock is at least `epoch` and nothing older is under way there (rule 9).
    pub fn acknowledge(&mut self, host: HostId, epoch: Epoch) -> Result<(), ProtocolError> {
        let activated = self.told(host);
        let member = self
            .members
            .get_mut(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if !epoch.le(activated) {
            return Err(ProtocolError::AcknowledgedUnsent {
                host,
                epoch,
                activated,
            });
        }
        // `clock <= staged` holds on the host, so this says as much of what is staged there (a snapshot is answered by another way).
        debug_assert!(
            epoch.le(member.sent),
            "a clock is never above what is staged"
        );
        member.staged = member.staged.max(epoch.min(member.sent));
        member.acknowledged = member.acknowledged.max(epoch);
        self.pump();
        Ok(())
    }

    /// An event from a host, of the version that the packet was processed at; `held` if an output waits for it.
    pub fn event(
        &mut self,
        host: HostId,
        version: Epoch,
        held: Option<u64>,
        event: E,
    ) -> Result<(), ProtocolError> {
        let member = self
            .members
            .get(&host)
            .ok_or(ProtocolError::NotAMember(host))?;
        if self.consistency.is_consistent() && !member.is_full() {
            // Rule 17: from before it was excluded, and what waits for it is lost with it.
            return Ok(());
        }
        if let Some(id) = held {
            // Rule 5: as soon as it is here, nothing can overtake it.
            self.out.push(Output::ReleaseHeld { host, id });
        }
        if self.consistency == Consistency::None {
            self.out.push(Output::Release(event));
            return Ok(());
        }
        if version.lt(self.recovery) {
            // Rule 19: from before the restart.
            return Ok(());
        }
        if version.lt(member.acknowledged) {
            return Err(ProtocolError::StaleEvent {
                host,
                version,
                acknowledged: member.acknowledged,
            });
        }
        self.hold.insert(version, event);
        self.release_upto(self.acknowledged);
        Ok(())
    }
}
