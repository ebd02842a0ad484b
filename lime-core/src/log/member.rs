//! What the coordinator knows about one member of a network.

use crate::Epoch;

/// One member, or a learner that becomes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Its stream is open.
    pub connected: bool,
    /// Everything up to here is staged there (rule 7: a prefix).
    pub staged: Epoch,
    /// Everything up to here was sent on the present stream.
    pub sent: Epoch,
    /// It acknowledged activations up to here (rule 9).
    pub acknowledged: Epoch,
    /// The entry that made it a member; `None`: a learner, for which nobody waits (rule 15).
    pub since: Option<Epoch>,
    /// Stages sent on the present stream that it has not answered; each is answered once, in order.
    pub(super) unanswered: u32,
    /// Answers that are of before a replacement, and say nothing any more.
    pub(super) stale: u32,
}

impl Member {
    pub(super) fn learner(at: Epoch) -> Self {
        Self {
            connected: true,
            staged: at,
            sent: at,
            acknowledged: Epoch::ZERO,
            since: None,
            unanswered: 0,
            stale: 0,
        }
    }

    /// One more answer to a Stage has come. Whether it says anything about what is staged now.
    pub(super) fn answered(&mut self) -> bool {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.stale == 0 {
            return true;
        }
        self.stale -= 1;
        false
    }

    pub(super) fn is_full(&self) -> bool {
        self.since.is_some()
    }
}

/// How a host that has connected again goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// It has all up to some entry that is still at hand; the rest has been sent again.
    FromLog,
    /// It has too little (a reboot): send it snapshots as of this epoch, then call
    /// [`snapshot_sent`](super::Sequencer::snapshot_sent).
    FromSnapshot(Epoch),
}
