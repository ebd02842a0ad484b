//! Who gets which slot: single slots of an array, and runs of consecutive entries. Slot 0 is never given away.

use std::collections::BTreeMap;

/// Free slots `1..end` of one array.
pub(crate) struct SlotPool {
    free: Vec<u32>,
    /// Slots from here on were never used since the map was created.
    next: u32,
    end: u32,
}

/// A slot from a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    /// Never used before: its memory is still zero.
    pub(crate) fresh: bool,
}

impl SlotPool {
    /// All slots of an array of `len` entries but the first `reserved`.
    pub(crate) fn new(reserved: u32, len: u32) -> Self {
        Self {
            free: Vec::new(),
            next: reserved.max(1),
            end: len,
        }
    }

    /// The pool of an array of which some slots are in use. None of the free ones is taken for fresh.
    pub(crate) fn adopt(reserved: u32, len: u32, used: impl Fn(u32) -> bool) -> Self {
        Self {
            free: (reserved.max(1)..len)
                .rev()
                .filter(|&slot| !used(slot))
                .collect(),
            next: len,
            end: len,
        }
    }

    pub(crate) fn take(&mut self) -> Option<Slot> {
        if let Some(index) = self.free.pop() {
            return Some(Slot {
                index,
                fresh: false,
            });
        }
        (self.next < self.end).then(|| {
            self.next += 1;
            Slot {
                index: self.next - 1,
                fresh: true,
            }
        })
    }

    pub(crate) fn give(&mut self, index: u32) {
        debug_assert!(index != 0 && index < self.next);
        self.free.push(index);
    }

    pub(crate) fn available(&self) -> u32 {
        self.free.len() as u32 + (self.end - self.next)
    }
}

/// Free runs of one array, first fit, neighbours joined when they are given back.
pub(crate) struct RunPool {
    /// Start to length.
    free: BTreeMap<u32, u32>,
}

impl RunPool {
    pub(crate) fn new(len: u32) -> Self {
        Self::adopt(len, [])
    }

    /// The pool of an array of which some runs (start, length) are in use.
    pub(crate) fn adopt(len: u32, used: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut used: Vec<_> = used.into_iter().filter(|run| run.1 != 0).collect();
        used.sort_unstable();
        let mut free = BTreeMap::new();
        let mut at = 1;
        for (start, count) in used {
            if start > at {
                free.insert(at, start - at);
            }
            at = at.max(start + count);
        }
        if len > at {
            free.insert(at, len - at);
        }
        Self { free }
    }

    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let (&start, &length) = self.free.iter().find(|&(_, &length)| length >= count)?;
        self.free.remove(&start);
        if length > count {
            self.free.insert(start + count, length - count);
        }
        Some(start)
    }

    /// Number of free runs.
    #[cfg(test)]
    pub(crate) fn runs(&self) -> usize {
        self.free.len()
    }

    /// Number of free entries.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> u32 {
        self.free.values().sum()
    }

    pub(crate) fn give(&mut self, start: u32, count: u32) {
        let (mut start, mut count) = (start, count);
        if let Some(length) = self.free.remove(&(start + count)) {
            count += length;
        }
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            self.free.remove(&before);
            (start, count) = (before, length + count);
        }
        self.free.insert(start, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_and_are_then_not_fresh() {
        let mut pool = SlotPool::new(1, 3);
        let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!((a.index, a.fresh, b.index, b.fresh), (1, true, 2, true));
        assert!(pool.take().is_none());
        pool.give(1);
        assert_eq!(pool.available(), 1);
        assert_eq!(
            pool.take(),
            Some(Slot {
                index: 1,
                fresh: false
            })
        );
    }

    #[test]
    fn adopted_pool_has_what_is_not_used() {
        let mut pool = SlotPool::adopt(2, 6, |slot| slot == 3);
        let slots: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(slots.iter().map(|s| s.index).collect::<Vec<_>>(), [2, 4, 5]);
        assert!(slots.iter().all(|s| !s.fresh));
    }

    #[test]
    fn runs_join_with_both_neighbours() {
        let mut runs = RunPool::new(11);
        let (a, b, c) = (
            runs.take(3).unwrap(),
            runs.take(3).unwrap(),
            runs.take(4).unwrap(),
        );
        assert_eq!((a, b, c), (1, 4, 7));
        assert!(runs.take(1).is_none());
        runs.give(a, 3);
        runs.give(c, 4);
        assert!(runs.take(5).is_none());
        runs.give(b, 3);
        assert_eq!(runs.take(10), Some(1));
    }

    #[test]
    fn adopted_runs_leave_the_gaps() {
        let mut runs = RunPool::adopt(20, [(5, 3), (1, 2), (19, 1)]);
        assert_eq!(runs.take(2), Some(3));
        assert_eq!(runs.take(11), Some(8));
        assert_eq!(runs.take(1), None);
    }
}
