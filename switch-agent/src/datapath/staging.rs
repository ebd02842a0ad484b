//! Epochs: staging them, undoing them, and collecting what has ended.

use std::mem::offset_of;

use lime_core::flow::Rule;
use lime_core::{Epoch, NetworkId, RuleId, SwitchId};
use switch_abi::{RuleEntry, SwitchEntry};

use super::classifier::{Writer, no_space_for_rules};
use super::index::IdMap;
use super::{Datapath, DatapathError, Result};

/// Bounds older than this (in epochs) are brought forward when something is collected: serial numbers compare over half of 2^32 only.
const REFRESH: u32 = 1 << 28;

impl Datapath {
    /// Prepares `epoch`: rules to add and to remove, of one switch; invisible until the clock gets there. All or nothing.
    ///
    /// `epoch` follows what is staged (on a network where nothing is, it may be any); one that is already staged is `Ok` and does nothing.
    /// Where there is no instance of the switch, only the number counts.
    ///
    /// # Errors
    /// [`DatapathError::NoSpace`] when rules, masks per table, rules per match, actions or ports exceed their limit;
    /// [`DatapathError::Invalid`] for a gap in the epochs or a rule that cannot be; [`DatapathError::NotFound`] for a removed rule that is not there.
    pub fn stage(
        &mut self,
        network: NetworkId,
        epoch: Epoch,
        switch: Option<SwitchId>,
        add: &[(RuleId, Rule)],
        remove: &[RuleId],
    ) -> Result<()> {
        let slot = self.network(network)?.slot;
        let staged = self.staged_of(slot);
        if epoch == Epoch::ZERO {
            return Err(DatapathError::invalid("epoch 0", "epochs start at 1"));
        }
        if staged != Epoch::ZERO {
            if epoch.le(staged) {
                return Ok(());
            }
            if epoch != staged.next() {
                return Err(DatapathError::invalid(
                    format!("epoch {epoch} of network {network}"),
                    format!("{staged} is staged, so the next is {}", staged.next()),
                ));
            }
        }
        self.apply(network, epoch, switch, add, remove)?;
        self.set_staged(slot, epoch);
        Ok(())
    }

    /// Replaces what was staged for `epoch`, which the clock must not have reached; as [`Datapath::stage`] where it is the next one.
    ///
    /// On an error of its new content, the epoch and those after it are no longer staged.
    pub fn restage(
        &mut self,
        network: NetworkId,
        epoch: Epoch,
        switch: Option<SwitchId>,
        add: &[(RuleId, Rule)],
        remove: &[RuleId],
    ) -> Result<()> {
        let slot = self.network(network)?.slot;
        let (clock, staged) = (self.clock_of(slot), self.staged_of(slot));
        if staged == Epoch::ZERO || !epoch.le(staged) {
            return self.stage(network, epoch, switch, add, remove);
        }
        if epoch.le(clock) {
            return Err(DatapathError::invalid(
                format!("replacing epoch {epoch} of network {network}"),
                format!("the clock is at {clock} already"),
            ));
        }
        // An agent that dies in here must not take a half-replaced epoch for staged.
        self.set_staged(slot, epoch.previous());
        self.undo(network, epoch)?;
        if let Err(e) = self.apply(network, epoch, switch, add, remove) {
            let mut later = epoch;
            while later != staged {
                later = later.next();
                self.undo(network, later)?;
            }
            return Err(e);
        }
        self.set_staged(slot, staged);
        Ok(())
    }

    /// Takes back the last staged epoch, which the clock must not have reached.
    pub fn unstage(&mut self, network: NetworkId, epoch: Epoch) -> Result<()> {
        let slot = self.network(network)?.slot;
        let (clock, staged) = (self.clock_of(slot), self.staged_of(slot));
        if epoch == Epoch::ZERO || epoch != staged || epoch.le(clock) {
            return Err(DatapathError::invalid(
                format!("taking back epoch {epoch} of network {network}"),
                format!("{staged} is staged and the clock is at {clock}"),
            ));
        }
        self.set_staged(slot, epoch.previous());
        self.undo(network, epoch)
    }

    fn apply(
        &mut self,
        network: NetworkId,
        epoch: Epoch,
        switch: Option<SwitchId>,
        add: &[(RuleId, Rule)],
        remove: &[RuleId],
    ) -> Result<()> {
        let Some(switch) = switch else { return Ok(()) };
        let Ok(state) = self.switch(network, switch) else {
            return Ok(());
        };
        if !self.is_instance(state.slot) {
            return Ok(());
        }
        if state.loading.is_some() {
            return Err(DatapathError::invalid(
                format!("epoch {epoch} of network {network}"),
                format!("the snapshot of switch {switch} is not complete"),
            ));
        }
        let mut writer = self.writer(network, switch)?;
        writer.reserve(add.len())?;
        writer.add_all(add.iter().map(|(id, rule)| (*id, rule, epoch, None)))?;
        let ended = writer
            .find_removed(remove)
            .and_then(|ended| writer.publish().map(|()| ended));
        let ended = match ended {
            Ok(ended) => ended,
            Err(e) => {
                for &(id, _) in add {
                    writer.remove(id);
                }
                return Err(e);
            }
        };
        let to_at = offset_of!(RuleEntry, valid_to);
        for slot in ended {
            writer.store.maps.rules.publish(slot, to_at, epoch.0);
            writer.network.ended.push_back((epoch, slot));
        }
        Ok(())
    }

    /// Takes back what `apply` did for an epoch that no clock has reached.
    fn undo(&mut self, network: NetworkId, epoch: Epoch) -> Result<()> {
        let (from_at, to_at) = (
            offset_of!(RuleEntry, valid_from),
            offset_of!(RuleEntry, valid_to),
        );
        let rules = &self.store.maps.rules;
        let mut gone = Vec::new();
        for (id, slot) in self.network(network)?.rules.iter() {
            if rules.get(slot, from_at) == epoch.0 {
                gone.push((id, slot));
            } else if rules.get(slot, to_at) == epoch.0 {
                rules.publish(slot, to_at, 0);
            }
        }
        let slots: std::collections::HashSet<u32> = gone.iter().map(|&(_, slot)| slot).collect();
        self.network_mut(network)?
            .ended
            .retain(|&(to, slot)| to != epoch && !slots.contains(&slot));
        self.remove_rules(network, gone)
    }

    /// Unlinks rules of any switches of a network and publishes what their tables then are.
    fn remove_rules(&mut self, network: NetworkId, rules: Vec<(RuleId, u32)>) -> Result<()> {
        let mut by_switch: std::collections::BTreeMap<u32, Vec<RuleId>> = Default::default();
        for (id, slot) in rules {
            let switch = self
                .store
                .maps
                .rules
                .get(slot, offset_of!(RuleEntry, switch_slot));
            by_switch.entry(switch).or_default().push(id);
        }
        for (switch_slot, ids) in by_switch {
            let switch = SwitchId(self.store.maps.switches.read(switch_slot).id);
            let mut writer = self.writer(network, switch)?;
            for id in ids {
                writer.remove(id);
            }
            // Without space for a shorter run the longer one stays, and the table dirty: it finds the same rules.
            if let Err(e) = writer.publish() {
                tracing::warn!(%network, %switch, error = %e, "tables keep masks that no rule uses");
            }
        }
        Ok(())
    }

    /// Reclaims rule versions that ended at or before `epoch` (and before this host's clock), and everything else that waits for a grace period.
    /// Their counters are gone then. Gives how many rules it reclaimed. Waits for a grace period if there was anything.
    pub fn collect(&mut self, network: NetworkId, epoch: Epoch) -> Result<usize> {
        let slot = self.network(network)?.slot;
        let epoch = epoch.min(self.clock_of(slot));
        let rules = &self.store.maps.rules;
        let mut gone = Vec::new();
        let ended = &mut self
            .networks
            .get_mut(&network)
            .ok_or_else(|| super::networks::no_network(network))?
            .ended;
        while let Some(&(to, rule)) = ended.front()
            && to.le(epoch)
        {
            ended.pop_front();
            let id = rules.u64_at(rule, offset_of!(RuleEntry, rule_id));
            gone.push((RuleId(id.load(std::sync::atomic::Ordering::Relaxed)), rule));
        }
        let count = gone.len();
        self.remove_rules(network, gone)?;
        self.refresh(network, epoch)?;
        self.store.reap()?;
        Ok(count)
    }

    /// Brings bounds forward that are so old that serial numbers would soon compare them wrongly. `horizon` is past on this host.
    fn refresh(&mut self, network: NetworkId, horizon: Epoch) -> Result<()> {
        let state = self.network(network)?;
        let age = horizon.0.wrapping_sub(state.refreshed.0);
        if !(REFRESH..=u32::MAX - REFRESH).contains(&age) {
            return Ok(());
        }
        let from_at = offset_of!(RuleEntry, valid_from);
        for (_, rule) in state.rules.iter() {
            let from = Epoch(self.store.maps.rules.get(rule, from_at));
            if from.lt(horizon) {
                self.store.maps.rules.publish(rule, from_at, horizon.0);
            }
        }
        let join_at = offset_of!(SwitchEntry, join_epoch);
        for &id in &state.switches {
            let switch = self.switch(network, id)?.slot;
            let join = Epoch(self.store.maps.switches.get(switch, join_at));
            if join != Epoch::ZERO && join.lt(horizon) {
                self.store.maps.switches.publish(switch, join_at, horizon.0);
            }
        }
        // What was remembered in the last round of serial numbers is not of this one.
        let state = self.network_mut(network)?;
        state.refreshed = horizon;
        let slot = state.slot;
        self.store.bump_generation(slot);
        Ok(())
    }
}

impl Writer<'_> {
    /// Makes sure that there are this many rule slots, before anything is changed.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<()> {
        let limit = self.store.rule_stride - 1;
        if count > self.store.free_rules() as usize {
            return Err(no_space_for_rules("rules", limit));
        }
        if count > self.store.pools.rules.available() as usize {
            self.store.reap()?;
        }
        Ok(())
    }

    /// The slots of rules that are to end.
    fn find_removed(&self, remove: &[RuleId]) -> Result<Vec<u32>> {
        let mut seen = IdMap::default();
        seen.reserve(remove.len());
        let mut slots = Vec::with_capacity(remove.len());
        for &id in remove {
            let slot = self
                .network
                .rules
                .get(id)
                .ok_or_else(|| DatapathError::not_found(format!("rule {id}")))?;
            let rules = &self.store.maps.rules;
            if rules.get(slot, offset_of!(RuleEntry, switch_slot)) != self.switch.slot {
                return Err(DatapathError::invalid(
                    format!("removing rule {id}"),
                    "it is a rule of another switch",
                ));
            }
            let to = rules.get(slot, offset_of!(RuleEntry, valid_to));
            if to != 0 || seen.insert(id, ()).is_some() {
                return Err(DatapathError::invalid(
                    format!("removing rule {id}"),
                    "it is removed already",
                ));
            }
            slots.push(slot);
        }
        Ok(slots)
    }
}
