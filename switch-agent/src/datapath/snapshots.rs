//! Snapshots: all rules of one switch as of an epoch, for an instance that joins; and the number alone, for a host that does.

use std::mem::offset_of;

use lime_core::{Epoch, NetworkId, SwitchId};
use switch_abi::{SWITCH_LOADING, SwitchEntry};

use super::classifier::Writer;
use super::{Datapath, DatapathError, Result, SnapshotRule};

impl Datapath {
    /// For a network where nothing is staged, or whose instances here process nothing yet: everything up to `epoch` counts as staged.
    pub fn rebase(&mut self, network: NetworkId, epoch: Epoch) -> Result<()> {
        let slot = self.network(network)?.slot;
        self.check_base(network, slot, epoch, None)?;
        if self.staged_of(slot) != epoch {
            self.set_staged(slot, epoch);
        }
        Ok(())
    }

    fn check_base(
        &self,
        network: NetworkId,
        slot: u32,
        epoch: Epoch,
        besides: Option<SwitchId>,
    ) -> Result<()> {
        let staged = self.staged_of(slot);
        if staged == Epoch::ZERO && epoch != Epoch::ZERO || staged == epoch {
            return Ok(());
        }
        let what = || format!("a snapshot of network {network} at epoch {epoch}");
        if epoch == Epoch::ZERO || epoch.lt(staged) {
            return Err(DatapathError::invalid(
                what(),
                format!("{staged} is staged already"),
            ));
        }
        for &id in &self.network(network)?.switches {
            let switch = self.switch(network, id)?.slot;
            if Some(id) != besides && self.processes(slot, switch) {
                return Err(DatapathError::in_use(
                    what(),
                    format!("the instance of switch {id}, staged up to {staged}"),
                ));
            }
        }
        Ok(())
    }

    /// Starts to replace all rules of a switch by those as of `epoch`; the instance must not be processing packets.
    /// Until [`Datapath::finish_snapshot`], a re-adoption takes the switch as one without an instance.
    ///
    /// # Errors
    /// [`DatapathError::InUse`] when the instance processes packets; [`DatapathError::Invalid`] when the epoch does not go with what is staged.
    pub fn begin_snapshot(
        &mut self,
        network: NetworkId,
        switch: SwitchId,
        epoch: Epoch,
    ) -> Result<()> {
        let slot = self.network(network)?.slot;
        let switch_slot = self.switch(network, switch)?.slot;
        self.check_base(network, slot, epoch, Some(switch))?;
        if !self.is_instance(switch_slot) {
            return Err(DatapathError::invalid(
                format!("a snapshot of switch {switch}"),
                "there is to be no instance of it on this host",
            ));
        }
        if self.processes(slot, switch_slot) {
            return Err(DatapathError::in_use(
                format!("switch {switch}"),
                "packets: its join epoch is reached",
            ));
        }
        let flags_at = offset_of!(SwitchEntry, flags);
        let flags = self.store.maps.switches.get(switch_slot, flags_at);
        self.store
            .maps
            .switches
            .publish(switch_slot, flags_at, flags | SWITCH_LOADING);
        self.clear_switch(network, switch)?;
        self.writer(network, switch)?.switch.loading = Some(epoch);
        Ok(())
    }

    /// Adds rules to a begun snapshot. All of this part or nothing.
    pub fn add_snapshot(
        &mut self,
        network: NetworkId,
        switch: SwitchId,
        rules: &[SnapshotRule],
    ) -> Result<()> {
        let mut writer = self.writer(network, switch)?;
        let epoch = loading(&writer, switch)?;
        for rule in rules {
            let from_future = rule.from == Epoch::ZERO || !rule.from.le(epoch);
            if from_future
                || rule
                    .to
                    .is_some_and(|to| to == Epoch::ZERO || to.lt(rule.from) || !to.le(epoch))
            {
                return Err(DatapathError::invalid(
                    format!("rule {} in a snapshot", rule.id),
                    format!("its bounds are not within epochs 1 to {epoch}"),
                ));
            }
        }
        writer.reserve(rules.len())?;
        writer.add_all(rules.iter().map(|r| (r.id, &r.rule, r.from, r.to)))?;
        for rule in rules {
            if let (Some(to), Some(slot)) = (rule.to, writer.network.rules.get(rule.id)) {
                writer.network.ended.push_back((to, slot));
            }
        }
        Ok(())
    }

    /// The snapshot is complete: its epoch is staged, if it was not.
    pub fn finish_snapshot(&mut self, network: NetworkId, switch: SwitchId) -> Result<()> {
        let mut writer = self.writer(network, switch)?;
        let epoch = loading(&writer, switch)?;
        writer.publish()?;
        writer.switch.loading = None;
        // Rising again, seen from an epoch that all of them have behind them.
        let base = epoch.0.wrapping_sub(u32::MAX / 2);
        let ended = writer.network.ended.make_contiguous();
        ended.sort_by_key(|(to, _)| to.0.wrapping_sub(base));
        let (switch_slot, slot) = (writer.switch.slot, writer.network.slot);
        if self.staged_of(slot).lt(epoch) || self.staged_of(slot) == Epoch::ZERO {
            self.set_staged(slot, epoch);
        }
        let flags_at = offset_of!(SwitchEntry, flags);
        let switches = &self.store.maps.switches;
        let flags = switches.get(switch_slot, flags_at);
        switches.publish(switch_slot, flags_at, flags & !SWITCH_LOADING);
        self.store.bump_generation(slot);
        Ok(())
    }
}

fn loading(writer: &Writer<'_>, switch: SwitchId) -> Result<Epoch> {
    writer.switch.loading.ok_or_else(|| {
        DatapathError::invalid(
            format!("a part of a snapshot of switch {switch}"),
            "no snapshot was begun",
        )
    })
}
