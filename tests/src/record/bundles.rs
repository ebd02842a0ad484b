//! Bundles of a controller channel, until they are committed.

use std::collections::{HashMap, HashSet};

use lime_core::flow::SwitchMod;
use lime_proto::v1;

/// Those of one channel.
#[derive(Default)]
pub(super) struct Bundles {
    open: HashMap<u32, (String, Vec<SwitchMod>)>,
    /// Of what they were made of.
    xids: HashSet<u64>,
}

impl Bundles {
    pub(super) fn open(&mut self, xid: u64, open: v1::OpenBundle) {
        self.xids.insert(xid);
        // One that is open already is not opened again.
        self.open
            .entry(open.bundle_id)
            .or_insert((open.switch, Vec::new()));
    }

    /// None: a change that cannot be understood, with which all are refused.
    pub(super) fn add(&mut self, xid: u64, bundle: u32, mods: Option<Vec<SwitchMod>>) {
        self.xids.insert(xid);
        if let Some((_, of)) = self.open.get_mut(&bundle) {
            of.extend(mods.into_iter().flatten());
        }
    }

    /// Ends a bundle: its switch, and what is in it.
    pub(super) fn take(&mut self, bundle: u32) -> Option<(String, Vec<SwitchMod>)> {
        self.open.remove(&bundle)
    }

    /// Whether an error is about a part of one.
    pub(super) fn is_about(&self, xid: u64) -> bool {
        self.xids.contains(&xid)
    }
}
