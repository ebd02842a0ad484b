//! Counters: per-CPU rows of two arrays that the agent sums up.

use crate::maps::{MISSES, PORT_COUNTERS, RULE_COUNTERS, miss_stride, port_stride, rule_stride};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use switch_abi::{DROP_REASONS, DropReason, PortCounters};

/// The CPU that the program runs on.
#[inline(always)]
pub fn cpu() -> u32 {
    // SAFETY: plain helper call.
    unsafe { bpf_get_smp_processor_id() as u32 }
}

/// Counts a packet at a rule.
#[inline(always)]
pub fn rule(slot: u32, bytes: u32) {
    rules(slot, 1, bytes);
}

/// Counts packets at a rule, or at a part of a meter.
#[inline(always)]
pub fn rules(slot: u32, packets: u32, bytes: u32) {
    if let Some(counters) = RULE_COUNTERS.get_ptr_mut(cpu() * rule_stride() + slot) {
        // SAFETY: this CPU alone writes the entry.
        unsafe {
            (*counters).packets += packets as u64;
            (*counters).bytes += bytes as u64;
        }
    }
}

#[inline(always)]
fn port(slot: u32) -> Option<*mut PortCounters> {
    PORT_COUNTERS.get_ptr_mut(cpu() * port_stride() + slot)
}

/// Counts a packet that came in by a port.
#[inline(always)]
pub fn rx(slot: u32, bytes: u32) {
    if let Some(counters) = port(slot) {
        // SAFETY: this CPU alone writes the entry.
        unsafe {
            (*counters).rx_packets += 1;
            (*counters).rx_bytes += bytes as u64;
        }
    }
}

/// Counts a packet that went out by a port.
#[inline(always)]
pub fn tx(slot: u32, bytes: u32) {
    if let Some(counters) = port(slot) {
        // SAFETY: this CPU alone writes the entry.
        unsafe {
            (*counters).tx_packets += 1;
            (*counters).tx_bytes += bytes as u64;
        }
    }
}

/// Counts a drop.
#[inline(never)]
pub fn drop(slot: u32, reason: u32) -> u32 {
    if let Some(counters) = port(slot) {
        let index = reason as usize & (DROP_REASONS - 1);
        // SAFETY: this CPU alone writes the entry; the index is within the array.
        unsafe { *(&raw mut (*counters).drops).cast::<u64>().add(index) += 1 };
    }
    0
}

/// Counts a packet that matched no rule of the table with this [`switch_abi::miss_index`]. A global function, so that the kernel verifies
/// it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn lime_missed(index: u32) -> u32 {
    if let Some(count) = MISSES.get_ptr_mut(cpu() * miss_stride() + index) {
        // SAFETY: this CPU alone writes the entry.
        unsafe { *count += 1 };
    }
    0
}

/// Counts a drop.
#[inline(always)]
pub fn dropped(slot: u32, reason: DropReason) {
    drop(slot, reason as u32);
}
