//! Snapshots for instances that join.

use lime_core::{Epoch, HostId, SwitchId};
use lime_proto::v1;
use tokio::sync::oneshot;
use v1::coordinator_message::Message;

use super::state::State;
use super::wire;
use crate::agents::Session;

impl State {
    /// Sends a snapshot on the host's stream; from here on Stage carries the switch's rules to it. Answers with the number of rules.
    pub(super) fn send_snapshot(
        &mut self,
        session: &Session,
        switch: Option<SwitchId>,
        at: Epoch,
    ) -> (oneshot::Receiver<v1::Done>, usize) {
        let mut count = 0;
        let mut parts = Vec::new();
        let answer = session.request(|id| {
            let rules = switch.and_then(|s| self.model.switches.get(&s));
            let rules = rules.map(|s| (s, &self.rules));
            (parts, count) = wire::snapshot(id, self.model.id, at, rules);
            // There is always one part.
            Message::Snapshot(parts.remove(0))
        });
        for part in parts {
            session.send(Message::Snapshot(part));
        }
        if let Some(switch) = switch {
            self.clones.insert((switch, session.host), at);
        }
        (answer, count)
    }

    /// Rule 15: clones a switch to a host that learns it.
    pub fn clone_switch(
        &mut self,
        switch: SwitchId,
        host: HostId,
    ) -> Option<(oneshot::Receiver<v1::Done>, usize)> {
        let session = self.sessions.get(&host)?.clone();
        let at = self.seq.logged();
        let (answer, count) = self.send_snapshot(&session, Some(switch), at);
        self.shared
            .hosts
            .take_rules(host, i64::try_from(count).unwrap_or(i64::MAX));
        Some((answer, count))
    }

    /// Rule 15: the host, which is configured, follows the log from here on.
    pub fn begin_learning(&mut self, host: HostId) -> Option<oneshot::Receiver<v1::Done>> {
        let session = self.sessions.get(&host)?.clone();
        self.seq.remove_member(host);
        let at = self.seq.add_learner(host);
        Some(self.send_snapshot(&session, None, at).0)
    }

    /// The instance is gone.
    pub fn forget_clone(&mut self, switch: SwitchId, host: HostId) {
        self.clones.remove(&(switch, host));
    }
}
