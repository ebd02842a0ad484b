//! Which packet-outs were executed: a coordinator that is not sure sends one again, and it must not be executed twice.

use std::collections::{HashMap, VecDeque};

use crate::error::CommandError;

/// The last ids and how they ended.
#[derive(Debug)]
pub struct RecentIds {
    limit: usize,
    order: VecDeque<u64>,
    outcome: HashMap<u64, Option<CommandError>>,
}

impl RecentIds {
    /// Remembers this many.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            order: VecDeque::new(),
            outcome: HashMap::new(),
        }
    }

    /// How the packet-out ended, if it was executed: `Some(None)` is well.
    pub fn get(&self, id: u64) -> Option<Option<CommandError>> {
        self.outcome.get(&id).cloned()
    }

    /// It was executed.
    pub fn insert(&mut self, id: u64, outcome: Option<CommandError>) {
        if self.outcome.insert(id, outcome).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > self.limit {
            if let Some(old) = self.order.pop_front() {
                self.outcome.remove(&old);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ids_are_remembered_and_no_more() {
        let mut recent = RecentIds::new(3);
        for id in 1..=5 {
            assert_eq!(recent.get(id), None);
            recent.insert(id, None);
        }
        assert_eq!(recent.get(2), None);
        assert_eq!(recent.get(3), Some(None));
        assert_eq!(recent.outcome.len(), 3);
        assert_eq!(recent.order.len(), 3);
    }
}
