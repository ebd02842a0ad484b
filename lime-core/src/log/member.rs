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
    /// It relays for the strict update of this epoch, or has done so (rule 20).
    pub relaying: Epoch,
    /// The entry that made it a member; `None`: a learner, for which nobody waits (rule 15).
    pub since: Option<Epoch>,
    /// Stages sent on the present stream that it has not answered; each is answered once, in order.
    pub(super) unanswered: u32,
    /// Answers that are of before a replacement, and say nothing any more.
    pub(super) stale: u32,
    /// Some of what it was sent up to here is void now, and it has not said that it has replaced it; zero: nothing is.
    pub(super) mending: Epoch,
}

impl Member {
    pub(super) fn learner(at: Epoch) -> Self {
        Self {
            connected: true,
            staged: at,
            sent: at,
            acknowledged: Epoch::ZERO,
            relaying: Epoch::ZERO,
            since: None,
            unanswered: 0,
            stale: 0,
            mending: Epoch::ZERO,
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

    /// Everything up to here is staged there.
    pub(super) fn has_staged(&mut self, epoch: Epoch) {
        self.staged = self.staged.max(epoch);
        if self.mending.le(self.staged) {
            self.mending = Epoch::ZERO;
        }
    }

    /// A new stream, or a new beginning on it: nothing is unanswered.
    pub(super) fn begin(&mut self, staged: Epoch, sent: Epoch) {
        self.connected = true;
        self.staged = staged;
        self.sent = sent;
        self.unanswered = 0;
        self.stale = 0;
        self.mending = Epoch::ZERO;
    }

    /// Whether it may meet what is void when it hears of this epoch. Not being a member, it would not be waited for.
    pub(super) fn has_void(&self) -> bool {
        self.connected && self.mending != Epoch::ZERO
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
