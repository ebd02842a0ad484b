//! Slots of rules by their ids.
//!
//! Ids count up, and the rules of a batch have consecutive ones: a block of them is looked up once, and is one cache line of slots. Rules whose
//! ids lie apart take a block each.

use lime_core::RuleId;

use super::index::IdMap;

/// Ids in a block.
const BLOCK: u64 = 16;

/// Slots of rules by id; 0, which no rule has, stands for none.
#[derive(Default)]
pub(crate) struct RuleIndex {
    blocks: IdMap<u64, [u32; BLOCK as usize]>,
}

impl RuleIndex {
    /// The slot of a rule.
    pub(crate) fn get(&self, id: RuleId) -> Option<u32> {
        let slot = self.blocks.get(&(id.0 / BLOCK))?[place(id)];
        (slot != 0).then_some(slot)
    }

    /// Notes the slot of a rule. Does nothing and gives false if there is one with its id.
    pub(crate) fn insert(&mut self, id: RuleId, slot: u32) -> bool {
        debug_assert!(slot != 0);
        let there = &mut self.blocks.entry(id.0 / BLOCK).or_default()[place(id)];
        let free = *there == 0;
        if free {
            *there = slot;
        }
        free
    }

    /// Forgets a rule, and gives its slot.
    pub(crate) fn remove(&mut self, id: RuleId) -> Option<u32> {
        let block = self.blocks.get_mut(&(id.0 / BLOCK))?;
        let slot = std::mem::take(&mut block[place(id)]);
        if *block == [0; BLOCK as usize] {
            self.blocks.remove(&(id.0 / BLOCK));
        }
        (slot != 0).then_some(slot)
    }

    /// All rules with their slots, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (RuleId, u32)> + '_ {
        self.blocks.iter().flat_map(|(&number, block)| {
            let ids = (0..BLOCK).map(move |i| RuleId(number * BLOCK + i));
            let rules = ids.zip(block.iter().copied());
            rules.filter(|&(_, slot)| slot != 0)
        })
    }
}

fn place(id: RuleId) -> usize {
    (id.0 % BLOCK) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_put_in_and_not_taken_out() {
        let mut index = RuleIndex::default();
        let ids = [1, 15, 16, 17, 1 << 40, u64::MAX].map(RuleId);
        for (id, slot) in ids.into_iter().zip(1..) {
            assert!(index.insert(id, slot));
            assert!(!index.insert(id, 99));
        }
        assert_eq!(index.get(RuleId(2)), None);
        assert_eq!(index.remove(RuleId(2)), None);
        let mut all: Vec<_> = index.iter().collect();
        all.sort_unstable();
        assert_eq!(all, ids.into_iter().zip(1..).collect::<Vec<_>>());
        for (id, slot) in all {
            assert_eq!((index.get(id), index.remove(id)), (Some(slot), Some(slot)));
            assert_eq!(index.get(id), None);
        }
        assert!(index.blocks.is_empty(), "blocks without rules go");
    }
}
