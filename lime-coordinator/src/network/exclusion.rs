//! Going on without hosts that cannot be reached, and taking them in again: rule 17.

use std::sync::Arc;

use lime_core::HostId;
use lime_core::model::{MemberState, can_exclude, exclude, is_excluded};
use tonic::Status;
use tracing::{info, warn};

use super::state::State;
use crate::ops::Operation;
use crate::store::Change;

impl State {
    /// Excludes members whose lease is over, and takes in again those that are back.
    pub(super) fn check_leases(&mut self) {
        let members: Vec<(HostId, MemberState)> =
            self.model.members.iter().map(|(h, m)| (*h, *m)).collect();
        for (host, member) in members {
            match member {
                MemberState::Full if self.shared.hosts.is_lease_over(host) => {
                    self.go_on_without(host);
                }
                MemberState::Full | MemberState::Excluded if is_excluded(&self.model, host) => {
                    self.take_in_again(host);
                }
                _ => {}
            }
        }
    }

    fn go_on_without(&mut self, host: HostId) {
        if self.sessions.contains_key(&host) || !can_exclude(&self.model, host) {
            // The end of its stream is on its way here; or nobody else has what it has: updates wait for it.
            return;
        }
        let name = self.shared.hosts.name(host);
        warn!(network = %self.model.name, host = %name, "not reached for longer than its lease: going on without it");
        exclude(&mut self.model, host);
        let commit = self.shared.store.commit(vec![Change::network(&self.model)]);
        self.later(commit, move |state, result| match result {
            Ok(()) => state.excluded(host),
            Err(e) => state.shared.fail(&e),
        });
    }

    /// It is in the store: after a restart too, nobody waits for the host.
    fn excluded(&mut self, host: HostId) {
        let member = self.seq.member(host);
        let still = self.model.members.get(&host) == Some(&MemberState::Excluded);
        if !still || member.is_none_or(|m| m.since.is_none()) {
            return;
        }
        let lost = self.packet_outs.iter();
        let lost: Vec<u64> = lost
            .filter(|(_, p)| p.sent_to == Some(host))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let name = self.shared.hosts.name(host);
            self.finish_packet_out(
                id,
                Err(Status::unavailable(format!(
                    "host {name} went away with the packet, which may have been sent or not"
                ))),
            );
        }
        self.seq.remove_member(host);
        // The others relay to somebody else now.
        let others: Vec<HostId> = self.sessions.keys().copied().collect();
        for other in others {
            if self.model.members.contains_key(&other) {
                self.reconfigure(other, "configuring without a host that is away");
            }
        }
    }

    fn take_in_again(&mut self, host: HostId) {
        if !self.sessions.contains_key(&host) || !self.rejoining.insert(host) {
            return;
        }
        let Some(network) = self.shared.network_by_id(self.model.id) else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let work = async move {
            let turn = Arc::clone(&network.ops);
            let _turn = turn.lock().await;
            Operation::new(&shared, &network).rejoin(host).await
        };
        let end = self.shared.shutdown.clone();
        let work = async move {
            tokio::select! {
                result = work => result,
                () = end.cancelled() => Ok(()),
            }
        };
        self.later(work, move |state, result| {
            state.rejoining.remove(&host);
            let name = state.shared.hosts.name(host);
            match result {
                Ok(()) => info!(network = %state.model.name, host = %name, "takes part again"),
                Err(e) => warn!(network = %state.model.name, host = %name, "cannot be taken in again yet: {}", e.message()),
            }
        });
    }
}
