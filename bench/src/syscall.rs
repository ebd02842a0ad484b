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

/// A kernel hash map with room for some rules, and rules for it, ready to be written.
pub struct PerRule {
    map: HashMap<MapData, [u64; KEY_WORDS], Value>,
    rules: Vec<([u64; KEY_WORDS], Value)>,
}

impl PerRule {
    /// With room for `count` rules of the size of LIME's own. What the rules consist of is worked out here, and is no part of what is measured.
    pub fn new(count: u32) -> Result<Self> {
        let map = HashMap::create(count, 0).context("cannot make a BPF hash map")?;
        let rule = |i: u32| {
            let mut key = [0; KEY_WORDS];
            // As of a match on the protocol and two addresses.
            key[..4].copy_from_slice(&[0x0800, 17, u64::from(i) << 32, 0x0aff_fffe]);
            let mut value = Value([0; size_of::<Value>()]);
            value.0[..4].copy_from_slice(&i.to_ne_bytes());
            (key, value)
        };
        let rules = (0..count).map(rule).collect();
        Ok(Self { map, rules })
    }

    /// Writes all rules one by one, and takes them out again. Rules per second, of writing alone.
    pub fn write(&mut self) -> Result<f64> {
        let busy = Busy::start()?;
        for (key, value) in &self.rules {
            self.map
                .insert(key, value, 0)
                .context("cannot write into a BPF hash map")?;
        }
        let seconds = busy.seconds()?;
        for (key, _) in &self.rules {
            self.map
                .remove(key)
                .context("cannot empty a BPF hash map")?;
        }
        Ok(self.rules.len() as f64 / seconds)
    }
}
