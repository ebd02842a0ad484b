//! Hosts become members of a network, and leave it: rule 15.

use std::collections::BTreeSet;

use lime_core::log::EntryKind;
use lime_core::migration::tunnel_overhead;
use lime_core::model::MemberState;
use lime_core::{HostId, RuleId, SwitchId};
use lime_proto::v1;
use tonic::Status;
use v1::coordinator_message::Message;

use super::{Operation, agent_error};
use crate::network::Finals;
use crate::store::Change;

/// Which counters.
#[derive(Clone, Debug)]
pub enum CountersOf {
    /// Of all ports, their devices and queues.
    Ports,
    /// Of a switch: its rules, groups and tables, and its ports without their devices.
    Switch(SwitchId),
    /// Of these rules of a switch only.
    Rules(SwitchId, Vec<RuleId>),
}

impl Operation {
    /// Makes the host a member, if it is none.
    pub async fn ensure_member(&self, host: HostId) -> Result<(), Status> {
        let state = self
            .network
            .call(move |s| s.model.members.get(&host).copied())
            .await?;
        match state {
            Some(MemberState::Full) => return Ok(()),
            Some(MemberState::Leaving) => {
                // It never stopped taking part.
                self.change(move |n| n.members.insert(host, MemberState::Full))
                    .await?;
                return self.configure_all().await;
            }
            Some(MemberState::Learning) => {}
            Some(MemberState::Excluded) => self.take_finals(host).await?,
            None => {
                self.check_underlay(host).await?;
                self.change(move |n| n.members.insert(host, MemberState::Learning))
                    .await?;
            }
        }
        self.configure(host).await?;
        let name = self.shared.hosts.name(host);
        let broken = || {
            Status::unavailable(format!(
                "host {name}: its agent's stream broke while it was joining: try again"
            ))
        };
        let answer = self.network.call(move |s| s.begin_learning(host)).await?;
        let done = self
            .within(async { answer.ok_or_else(broken)?.await.map_err(|_| broken()) })
            .await?;
        if let Some(e) = &done.error {
            return Err(agent_error(&name, e));
        }
        self.within(
            self.network
                .complete(move |s| s.seq.submit(EntryKind::Join { switch: None, host })),
        )
        .await?;
        self.configure_all().await
    }

    /// Whether all ports' packets would pass the underlay if this host took part: checked before anything changes.
    pub async fn check_underlay(&self, host: HostId) -> Result<(), Status> {
        let (members, largest) = self
            .network
            .call(move |s| {
                let ports = s.model.ports.values().filter(|p| p.device().is_some());
                let largest = ports.max_by_key(|p| p.mtu);
                let largest = largest.map(|p| (p.mtu, s.model.port_name(p)));
                let members = s.model.members.keys().copied().chain([host]);
                (members.collect::<BTreeSet<_>>(), largest)
            })
            .await?;
        match largest {
            Some((mtu, port)) if members.len() > 1 => self.check_mtu(members, mtu, &port),
            _ => Ok(()),
        }
    }

    /// Whether packets of this MTU pass the underlay of all these hosts.
    pub fn check_mtu(
        &self,
        members: impl IntoIterator<Item = HostId>,
        mtu: u32,
        port: &str,
    ) -> Result<(), Status> {
        let hosts = self.shared.hosts.lock();
        for record in members
            .into_iter()
            .filter_map(|h| hosts.get(&h))
            .map(|h| &h.record)
        {
            let needed = mtu + tunnel_overhead(record.underlay_address.contains(':'));
            if record.underlay_mtu != 0 && record.underlay_mtu < needed {
                return Err(Status::failed_precondition(format!(
                    "host {}: the underlay's MTU is {}, and port {port} with MTU {mtu} needs {needed} for its tunnelled packets: raise the underlay's MTU, or lower the port's",
                    record.name, record.underlay_mtu
                )));
            }
        }
        Ok(())
    }

    /// Lets the host leave, if nothing of the network is on it any more.
    pub async fn release_member(&self, host: HostId) -> Result<(), Status> {
        let state = self
            .network
            .call(move |s| {
                let state = s.model.members.get(&host).copied();
                state.filter(|_| !s.model.uses(host))
            })
            .await?;
        let Some(state) = state else { return Ok(()) };
        if state == MemberState::Learning {
            return self.drop_member(host, None).await;
        }
        self.change(move |n| n.members.insert(host, MemberState::Leaving))
            .await?;
        self.configure_all().await?;
        // Nobody sends to it any more; what is under way arrives, and is forwarded with its tag (rule 6).
        self.pause(self.shared.config.drain).await;
        self.within(
            self.network
                .complete(move |s| s.seq.submit(EntryKind::Retire { switch: None, host })),
        )
        .await?;
        let counters = self.read_counters(host, CountersOf::Ports).await?;
        self.drop_member(host, Some(counters)).await
    }

    /// The same, if all members are there now; else it is done when the missing ones come back ([`Self::tidy`]).
    pub async fn release_if_here(&self, host: HostId) -> Result<(), Status> {
        let here = self
            .network
            .call(move |s| {
                let mut awaited = s.model.members.iter();
                awaited.all(|(h, m)| {
                    (*m == MemberState::Excluded && *h != host) || s.sessions.contains_key(h)
                })
            })
            .await?;
        if here {
            return self.release_member(host).await;
        }
        Ok(())
    }

    /// Lets all hosts leave on which nothing of the network is, as far as that is possible now.
    pub async fn tidy(&self) -> Result<(), Status> {
        let idle = self
            .network
            .call(|s| {
                let members = s.model.members.keys().copied();
                members
                    .filter(|h| !s.model.uses(*h))
                    .collect::<Vec<HostId>>()
            })
            .await?;
        for host in idle {
            self.release_if_here(host).await?;
        }
        Ok(())
    }

    async fn drop_member(&self, host: HostId, finals: Option<v1::Counters>) -> Result<(), Status> {
        let commit = self
            .network
            .call(move |s| {
                s.model.members.remove(&host);
                let changes = match &finals {
                    Some(finals) => s.finish_counters(host, finals, Finals::Member),
                    None => Vec::<Change>::new(),
                };
                s.seq.remove_member(host);
                s.commit_with(changes)
            })
            .await?;
        self.committed(commit).await?;
        let network = self.network.id.0;
        // A host that is away now is told when it comes back (Welcome.forget).
        self.network
            .call(move |s| {
                if let Some(session) = s.sessions.get(&host) {
                    let id = session.next_id();
                    session.expect(id, crate::agents::Waiting::Nobody("forgetting a network"));
                    session.send(Message::Forget(v1::Forget {
                        request_id: id,
                        network,
                    }));
                }
            })
            .await?;
        self.configure_all().await
    }

    /// Counters of a host.
    pub async fn read_counters(
        &self,
        host: HostId,
        wanted: CountersOf,
    ) -> Result<v1::Counters, Status> {
        let done = self
            .request(host, move |state, request_id| {
                let mut read = v1::ReadCounters {
                    request_id,
                    network: state.model.id.0,
                    ..Default::default()
                };
                match &wanted {
                    CountersOf::Ports => read.devices = true,
                    CountersOf::Switch(switch) => {
                        read.switch_id = switch.0;
                        read.rules = true;
                    }
                    CountersOf::Rules(switch, ids) => {
                        read.switch_id = switch.0;
                        read.rules = true;
                        read.rule_ids = ids.iter().map(|id| id.0).collect();
                    }
                }
                Message::ReadCounters(read)
            })
            .await?;
        match done.result {
            Some(v1::done::Result::Counters(counters)) => Ok(counters),
            _ => Err(Status::internal(format!(
                "host {} answered ReadCounters without counters",
                self.shared.hosts.name(host)
            ))),
        }
    }
}
