//! Action sets (OpenFlow 1.3.5, 5.10).

use lime_core::flow::{Action, Rule, SetKind};

use crate::Fault;

/// What is to be done with a packet when it has no further table to go to.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActionSet(Vec<Action>);

impl ActionSet {
    /// Clear-actions and write-actions: an action takes the place of one of its kind.
    pub(crate) fn write(&mut self, rule: &Rule, fault: Option<Fault>) {
        if rule.clear_actions && fault != Some(Fault::SetNotCleared) {
            self.0.clear();
        }
        for action in &rule.write_actions {
            self.0.retain(|a| a.set_kind() != action.set_kind());
            self.0.push(action.clone());
        }
    }

    /// Whether it outputs: one that does not has no effect.
    pub(crate) fn outputs(&self) -> bool {
        self.0
            .iter()
            .any(|a| matches!(a, Action::Output { .. } | Action::Group(_)))
    }

    /// "The actions in an action set are applied in the order specified below, regardless of the order that they were added to the set."
    pub(crate) fn in_order(&self, fault: Option<Fault>) -> Vec<Action> {
        let mut actions = self.0.clone();
        actions.sort_by_key(|action| match action.set_kind() {
            _ if fault == Some(Fault::SetInOrderOfWriting) => 0,
            SetKind::CopyTtlIn => 1,
            // "pop: apply all tag pop actions"
            SetKind::PopVlan => 20,
            SetKind::PopMpls => 21,
            SetKind::PopPbb => 22,
            SetKind::PushMpls => 30,
            SetKind::PushPbb => 31,
            SetKind::PushVlan => 32,
            SetKind::CopyTtlOut => 40,
            // "decrement TTL"
            SetKind::DecMplsTtl => 50,
            SetKind::DecNwTtl => 51,
            // "set: apply all set-field actions", those of TTLs before (LIME's choice).
            SetKind::SetMplsTtl => 60,
            SetKind::SetNwTtl => 61,
            // Their order is by field. It matters where ICMPv6's type says what a message has.
            SetKind::SetField(field) => 100 + field.oxm(),
            // "qos"
            SetKind::SetQueue => 200,
            SetKind::Group => 210,
            SetKind::Output => 220,
        });
        // "If both an output action and a group action are specified in an action set, the output action is ignored".
        let group = actions.iter().any(|a| matches!(a, Action::Group(_)));
        if group && fault != Some(Fault::OutputBesideGroup) {
            actions.retain(|a| !matches!(a, Action::Output { .. }));
        }
        actions
    }
}
