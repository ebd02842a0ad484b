//! Events that wait until nothing older can come any more.

use std::collections::VecDeque;

use crate::Epoch;

/// Most events held back per network; more are dropped, as a switch drops packet-ins that its controller does not keep up with.
const MAX_HELD: usize = 65_536;

/// Events by version, FIFO within one.
#[derive(Clone, Debug, Hash)]
pub(super) struct HoldBack<E> {
    held: VecDeque<(Epoch, E)>,
    released: Epoch,
    dropped: u64,
}

impl<E> HoldBack<E> {
    pub(super) fn new(released: Epoch) -> Self {
        Self {
            held: VecDeque::new(),
            released,
            dropped: 0,
        }
    }

    pub(super) fn insert(&mut self, version: Epoch, event: E) {
        if self.held.len() >= MAX_HELD {
            self.dropped += 1;
            return;
        }
        // Behind all of the same version: FIFO per host, and arrival order among hosts.
        let after = self
            .held
            .iter()
            .rposition(|(v, _)| v.le(version))
            .map_or(0, |i| i + 1);
        self.held.insert(after, (version, event));
    }

    /// Rule 10: the next event of a version up to `upto`, in version order.
    pub(super) fn release(&mut self, upto: Epoch) -> Option<E> {
        if !self.held.front()?.0.le(upto) {
            return None;
        }
        let (version, event) = self.held.pop_front()?;
        debug_assert!(
            self.released.le(version),
            "released events are in version order: {version} after {}",
            self.released
        );
        self.released = version;
        Some(event)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
