//! Stages and snapshots: rules that become visible later.

use std::time::Instant;

use lime_core::flow::Rule;
use lime_core::{Epoch, NetworkId, RuleId, SwitchId};
use lime_proto::convert::{ConvertError, actions_from_wire, part_from_wire};
use lime_proto::v1::{self, agent_message::Message};
use tracing::warn;

use super::Owner;
use super::network::PartialStage;
use crate::datapath::{Datapath, DatapathError, SnapshotRule};
use crate::error::{CommandError, CommandResult};

/// Counts of rules in one message.
const REPORT: usize = 20_000;

impl Owner {
    /// Parts that came on another stream are not completed by this one.
    pub(super) fn forget_parts(&mut self) {
        for network in self.networks.values_mut() {
            network.staging = None;
            network.refused = false;
            network.refused_snapshot = None;
            network.snapshot = None;
            network.report_all = true;
        }
    }

    pub(super) fn stage(&mut self, stage: v1::Stage) {
        let (network, epoch) = (NetworkId(stage.network), Epoch(stage.epoch));
        let Some(known) = self.networks.get_mut(&network) else {
            warn!(%network, %epoch, "stage for a network that is not here; ignored");
            return;
        };
        let more = stage.more;
        if known.refused {
            // It was answered when it was refused: there is one answer to all parts together.
            known.refused = more;
            return;
        }
        let result = self.stage_part(network, stage);
        if more && result.is_ok() {
            return;
        }
        if let Some(network) = self.networks.get_mut(&network) {
            network.staging = None;
            network.refused = more;
        }
        if let Err(error) = &result {
            warn!(%network, %epoch, %error, "not staged");
        }
        self.outbox.push(Message::Staged(v1::Staged {
            network: network.0,
            epoch: epoch.0,
            error: result.err().map(Into::into),
        }));
    }

    fn stage_part(&mut self, id: NetworkId, stage: v1::Stage) -> CommandResult {
        let epoch = Epoch(stage.epoch);
        if epoch == Epoch::ZERO {
            return Err(CommandError::invalid("epoch 0 cannot be staged"));
        }
        let limit = self.datapath.limits().rules as usize;
        let network = self
            .networks
            .get_mut(&id)
            .ok_or_else(|| CommandError::not_found(format!("network {id} is not here")))?;
        let switch = (stage.switch_id != 0).then_some(SwitchId(stage.switch_id));
        let mut parts = match network.staging.take() {
            Some(parts) if parts.epoch == epoch && parts.switch == switch => parts,
            // The first part; what there was of another epoch is not completed any more.
            _ => PartialStage {
                epoch,
                switch,
                ..Default::default()
            },
        };
        for add in stage.add {
            let part = (add.part, add.meter);
            parts.add.push(rule(add.rule_id, add.rule, part)?);
        }
        parts.remove.extend(stage.remove.into_iter().map(RuleId));
        parts.report.extend(stage.report.into_iter().map(RuleId));
        if [parts.add.len(), parts.remove.len(), parts.report.len()]
            .iter()
            .any(|n| *n > limit)
        {
            return Err(CommandError::new(
                v1::agent_error::Code::NoSpace,
                format!(
                    "epoch {epoch} has more than {limit} rules: that is all this host has room for (--rules)"
                ),
            ));
        }
        if stage.more {
            network.staging = Some(parts);
            return Ok(());
        }
        let past = network.past;
        let stage = |datapath: &mut Datapath| {
            if stage.replace {
                datapath.restage(id, epoch, switch, &parts.add, &parts.remove)
            } else {
                datapath.stage(id, epoch, switch, &parts.add, &parts.remove)
            }
        };
        match stage(&mut self.datapath) {
            // Ended versions that nobody needs any more may be what is in the way: the same match updated many times in a row.
            Err(DatapathError::NoSpace { .. })
                if past != Epoch::ZERO && self.datapath.collect(id, past)? > 0 =>
            {
                stage(&mut self.datapath)?;
            }
            result => result?,
        }
        let now = Instant::now();
        for (rule, spec) in parts.add.iter().filter(|(_, r)| r.idle_timeout != 0) {
            let timeout = u32::from(spec.idle_timeout);
            self.idle.watch((id, *rule), timeout, 0, now);
        }
        if let Some(network) = self.networks.get_mut(&id) {
            network.reports.retain(|(e, _)| *e != epoch);
            let reports = parts.report.into_iter().map(|rule| (epoch, rule));
            network.reports.extend(reports);
        }
        Ok(())
    }

    /// The last counts of rules that have ended by this epoch, before it is acknowledged.
    pub(super) fn report_ended(&mut self, id: NetworkId, epoch: Epoch) {
        let Some(network) = self.networks.get_mut(&id) else {
            return;
        };
        let mut rules = Vec::new();
        network.reports.retain(|&(at, rule)| {
            let ended = at.le(epoch);
            if ended {
                rules.push(rule);
            }
            !ended
        });
        if std::mem::take(&mut network.report_all) {
            rules = self.datapath.ended_rules(id, epoch).unwrap_or_default();
        }
        for part in rules.chunks(REPORT) {
            let rules = part.iter();
            let rules = rules.filter_map(|rule| self.counted(id, *rule)).collect();
            self.outbox.push(Message::EndedRules(v1::EndedRules {
                network: id.0,
                rules,
            }));
        }
    }

    pub(super) fn snapshot(&mut self, snapshot: v1::Snapshot) {
        let (more, request) = (snapshot.more, snapshot.request_id);
        let id = NetworkId(snapshot.network);
        if let Some(network) = self.networks.get_mut(&id) {
            if network.refused_snapshot == Some(request) {
                return;
            }
            network.refused_snapshot = None;
        }
        let result = self.snapshot_part(id, snapshot);
        if more && result.is_ok() {
            return;
        }
        if let Some(network) = self.networks.get_mut(&id) {
            network.snapshot = None;
            network.refused_snapshot = more.then_some(request);
        }
        if let Err(error) = &result {
            warn!(network = %id, %error, "snapshot not taken over");
        }
        self.outbox.done(request, result.map(|()| None));
    }

    fn snapshot_part(&mut self, id: NetworkId, snapshot: v1::Snapshot) -> CommandResult {
        let epoch = Epoch(snapshot.epoch);
        let network = self
            .networks
            .get_mut(&id)
            .ok_or_else(|| CommandError::not_found(format!("network {id} is not here")))?;
        if snapshot.switch_id == 0 {
            // Only the number, for a new member.
            self.datapath.rebase(id, epoch)?;
            return Ok(());
        }
        let switch = SwitchId(snapshot.switch_id);
        if network.snapshot != Some(switch) {
            self.datapath.begin_snapshot(id, switch, epoch)?;
            network.instances.remove(&switch);
            network.snapshot = Some(switch);
        }
        let mut rules = Vec::with_capacity(snapshot.rules.len());
        for part in snapshot.rules {
            let (id, rule) = rule(part.rule_id, part.rule, (part.part, part.meter))?;
            rules.push(SnapshotRule {
                id,
                rule,
                from: Epoch(part.valid_from),
                to: (part.valid_to != 0).then_some(Epoch(part.valid_to)),
            });
        }
        self.datapath.add_snapshot(id, switch, &rules)?;
        let now = Instant::now();
        for r in rules.iter().filter(|r| r.rule.idle_timeout != 0) {
            let timeout = u32::from(r.rule.idle_timeout);
            self.idle.watch((id, r.id), timeout, 0, now);
        }
        let Some(network) = self.networks.get_mut(&id) else {
            return Ok(());
        };
        if !snapshot.more {
            self.datapath.finish_snapshot(id, switch)?;
            network.instances.insert(switch);
        }
        Ok(())
    }
}

fn rule(
    id: u64,
    wire: Option<v1::Rule>,
    (group, meter): (Option<v1::GroupPart>, Option<v1::MeterPart>),
) -> CommandResult<(RuleId, Rule)> {
    let about = |e: CommandError| e.about(format!("rule {id}"));
    if id == 0 {
        return Err(CommandError::invalid("rule 0 does not exist"));
    }
    let wire = wire.ok_or_else(|| about(CommandError::invalid("its contents are missing")))?;
    let part = part_from_wire(group, meter).map_err(|e| about(e.into()))?;
    if let Some(part) = part {
        // Without a match, actions stand as in a packet-out: what fits the packet is a matter of the packet.
        let read = || {
            Ok(Rule {
                actions: actions_from_wire("actions", wire.actions)?,
                part: Some(Box::new(part)),
                ..Rule::default()
            })
        };
        let rule = read().map_err(|e: ConvertError| about(e.into()))?;
        return Ok((RuleId(id), rule));
    }
    let rule = Rule::try_from(wire).map_err(|e| about(e.into()))?;
    Ok((RuleId(id), rule))
}
