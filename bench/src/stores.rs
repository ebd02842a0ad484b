//! The floor for writing rules: only storing as many bytes as an entry takes, where entries are, and nothing else.

use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::{Array, IterableMap, MapData};
use lime_core::RuleId;
use lime_core::flow::Rule;
use switch_abi::RuleEntry;

use crate::busy::Busy;

/// `BPF_F_MMAPABLE` (linux/bpf.h).
const MMAPABLE: u32 = 1 << 10;

/// What a rule of the benchmark's takes of its entry: the cache lines of the head, of up to eight words of key, and of up to three actions.
const BYTES: usize = 192;

/// An entry's bytes.
#[derive(Clone, Copy)]
#[repr(C)]
struct Bytes([u8; size_of::<RuleEntry>()]);

// SAFETY: plain bytes.
unsafe impl Pod for Bytes {}

/// In which order entries are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One beside the other.
    Sequential,
    /// In no order, each once.
    Random,
}

/// A map as rules are in, with room for some, in this process's memory.
pub struct Entries {
    // Keeps the map.
    _map: Array<MapData, Bytes>,
    base: NonNull<Bytes>,
    count: usize,
}

impl Entries {
    /// With room for `count` rules.
    pub fn new(count: u32) -> Result<Self> {
        let map = Array::create(count, MMAPABLE).context("cannot make a BPF array")?;
        let count = count as usize;
        // SAFETY: a fresh shared mapping of all of the map, at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                count * size_of::<Bytes>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                IterableMap::map(&map).fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("cannot map a BPF array");
        }
        Ok(Self {
            _map: map,
            base: NonNull::new(base.cast()).context("mmap gave null")?,
            count,
        })
    }

    /// Stores all entries. Entries per second.
    pub fn store(&mut self, order: Order) -> Result<f64> {
        // Odd, so it meets every place of a power of two; those outside are passed over.
        let places = self.count.next_power_of_two();
        let step = match order {
            Order::Sequential => 1,
            Order::Random => 0x9e37_79b1 & (places - 1),
        };
        let bytes = [1u8; BYTES];
        let busy = Busy::start()?;
        let mut place = 0;
        for _ in 0..places {
            if place < self.count {
                self.put(place, &bytes);
            }
            place = (place + step) & (places - 1);
        }
        Ok(self.count as f64 / busy.seconds()?)
    }

    /// Reads as many rules, all that they consist of, and stores an entry for each. Entries per second.
    pub fn read_and_store(&mut self, rules: &[(RuleId, Rule)]) -> Result<f64> {
        let count = rules.len().min(self.count);
        let busy = Busy::start()?;
        for (place, (id, rule)) in rules[..count].iter().enumerate() {
            let fields = rule.matching.fields().iter();
            let sum = fields.fold(0, |sum, f| sum ^ f.value ^ f.mask ^ f.field as u128);
            black_box(rule.actions.last());
            let word = id.0 ^ rule.cookie ^ u64::from(rule.priority) ^ sum as u64;
            let mut bytes = [0; BYTES];
            bytes[..8].copy_from_slice(&word.to_ne_bytes());
            self.put(place, &bytes);
        }
        Ok(count as f64 / busy.seconds()?)
    }

    fn put(&mut self, place: usize, bytes: &[u8; BYTES]) {
        assert!(place < self.count);
        // SAFETY: within the mapping by the assertion above; nobody else has it.
        unsafe {
            let to = self.base.as_ptr().add(place).cast();
            std::ptr::copy_nonoverlapping(black_box(bytes).as_ptr(), to, BYTES);
        }
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped, with the same length.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.count * size_of::<Bytes>());
        }
    }
}
