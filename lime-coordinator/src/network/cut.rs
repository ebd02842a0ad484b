//! Exact statistics: a cut of a switch's counters at one entry of the log (rule 13).
//!
//! Each rule goes on as another version of itself. What the hosts have counted of the one before is what was counted before the entry, and
//! they report it before they acknowledge that; so when the entry is settled, the sum is known, and it is that of one moment.

use std::collections::HashMap;
use std::sync::Arc;

use lime_core::RuleId;
use lime_core::counters::{Count, Counted};
use lime_core::flow::Rule;
use lime_core::log::{EntryKind, StageError, Ticket};
use lime_core::model::InstanceState;
use lime_core::{Epoch, SwitchId};
use lime_proto::v1;
use tonic::Status;

use super::lifetimes::age;
use super::state::State;

/// A cut that is on its way.
#[derive(Debug)]
pub(super) struct Cut {
    ticket: Ticket,
    rules: Vec<CutRule>,
    /// By the version that ends with it.
    of: HashMap<RuleId, usize>,
}

#[derive(Debug)]
struct CutRule {
    /// The version that goes on.
    id: RuleId,
    rule: Arc<Rule>,
    since: Option<u64>,
    count: Count,
}

impl State {
    /// Reads a switch's rules with their counters as of one moment: the place of this request among the submissions. `then` gets them when
    /// they are known, after all events and replies of before and before those of after.
    pub fn cut(
        &mut self,
        switch: &str,
        then: impl FnOnce(Result<Vec<v1::RuleStats>, Status>) + Send + 'static,
    ) -> Result<Ticket, Status> {
        let id = self.switch(switch)?.id;
        self.refuse_incomplete(id)?;
        self.check_backlog()?;
        let ids = &self.shared.ids;
        let mut kind = self.rules.cut(id, || ids.rule());
        self.begin_lifetimes(&mut kind);
        let (rules, of) = self.versions(&kind);
        let ticket = self.submit_if_room(id, kind)?.ticket;
        self.cuts.push(Cut { ticket, rules, of });
        let waiter = move |s: &mut State, result: Result<Epoch, StageError>| {
            let now = s.shared.clock.now_ms();
            let at = s.cuts.iter().position(|c| c.ticket == ticket);
            let rules = at.map(|at| s.cuts.remove(at).rules).unwrap_or_default();
            let stats = rules.into_iter().map(|r| v1::RuleStats {
                rule: Some(r.rule.as_ref().into()),
                rule_id: r.id.0,
                packets: r.count.packets,
                bytes: r.count.bytes,
                duration_ms: age(r.since, now),
            });
            then(
                result
                    .map(|_| stats.collect())
                    .map_err(|e| s.stage_status(&e)),
            );
        };
        self.on_completion(ticket, Box::new(waiter));
        Ok(ticket)
    }

    /// Rule 17: what a host has counted that is excluded is not known before it is back.
    fn refuse_incomplete(&self, switch: SwitchId) -> Result<(), Status> {
        let instances = self.model.switches.get(&switch);
        let unknown = instances.iter().flat_map(|s| &s.instances).find(|(_, i)| {
            let unknown = InstanceState::Excluded { counted: false };
            **i == unknown
        });
        match unknown {
            None => Ok(()),
            Some((host, _)) => Err(Status::unavailable(format!(
                "host {} is excluded, and what it had counted is not known before it is back: ask then, or for statistics that are not exact",
                self.shared.hosts.name(*host)
            ))),
        }
    }

    fn versions(&self, kind: &EntryKind) -> (Vec<CutRule>, HashMap<RuleId, usize>) {
        let EntryKind::Update { add, .. } = kind else {
            return Default::default();
        };
        let mut of = HashMap::with_capacity(add.len());
        let rules = add.iter().enumerate().map(|(i, added)| {
            if let Some(before) = added.continues {
                of.insert(before, i);
            }
            CutRule {
                id: added.id,
                rule: Arc::clone(&added.rule),
                since: self.since.get(&added.id).copied(),
                count: Count::default(),
            }
        });
        (rules.collect(), of)
    }

    /// A version of a rule has ended, and all that was counted of it is in: what cuts say that end with it.
    pub(super) fn note_end(&mut self, ended: RuleId, what: Counted) {
        let (finals, _) = self.counters.kept(what);
        for cut in &mut self.cuts {
            if let Some(rule) = cut.of.get(&ended).and_then(|i| cut.rules.get_mut(*i)) {
                rule.count = finals;
            }
        }
    }
}
