//! The reference for writing rules: one `bpf()` call per rule, as a switch does it that keeps its rules in a kernel hash map.

use anyhow::{Context, Result};
use aya::Pod;
use aya::maps::{HashMap, MapData};
use switch_abi::{FlowKey, KEY_WORDS, RuleEntry};

use crate::busy::Busy;

/// What the ratio's reference is called.
pub const NAME: &str = "one bpf() call per rule";

/// What a rule carries besides its key.
#[derive(Clone, Copy)]
#[repr(C)]
struct Value([u8; size_of::<RuleEntry>() - size_of::<FlowKey>()]);

// SAFETY: plain bytes.
unsafe impl Pod for Value {}

/// A kernel hash map with room for some rules.
pub struct PerRule {
    map: HashMap<MapData, [u64; KEY_WORDS], Value>,
}

impl PerRule {
    /// With room for `rules` rules of the size of LIME's own.
    pub fn new(rules: u32) -> Result<Self> {
        let map = HashMap::create(rules, 0).context("cannot make a BPF hash map")?;
        Ok(Self { map })
    }

    /// Writes `count` rules one by one, and takes them out again. Rules per second, of writing alone.
    pub fn write(&mut self, count: u32) -> Result<f64> {
        let value = Value([1; size_of::<Value>()]);
        let key = |i: u32| [u64::from(i); KEY_WORDS];
        let busy = Busy::start()?;
        for i in 0..count {
            self.map
                .insert(key(i), value, 0)
                .context("cannot write into a BPF hash map")?;
        }
        let seconds = busy.seconds()?;
        for i in 0..count {
            self.map
                .remove(&key(i))
                .context("cannot empty a BPF hash map")?;
        }
        Ok(f64::from(count) / seconds)
    }
}
