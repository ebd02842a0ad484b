//! The compiled kernel objects, embedded. `build.rs` chooses which: freshly built, or the committed ones.

use aya::include_bytes_aligned;

/// The switch: its maps are [`switch_abi::maps`], its programs [`switch_abi::programs`].
pub static SWITCH: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lime-switch.bpf.o"));

/// Small programs for labs and benchmarks: [`LAB_REDIRECT_MAP`] and the programs named here.
pub static LAB: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lime-lab.bpf.o"));

/// In [`LAB`]: mmap-able `ARRAY` of 65536 `u32`, ifindex to ifindex; 0 passes the frame to the device's own stack.
pub const LAB_REDIRECT_MAP: &str = "REDIRECT";
/// In [`LAB`]: TC ingress, redirects by [`LAB_REDIRECT_MAP`].
pub const LAB_TC_REDIRECT: &str = "lab_tc_redirect";
/// In [`LAB`]: XDP, redirects by [`LAB_REDIRECT_MAP`].
pub const LAB_XDP_REDIRECT: &str = "lab_xdp_redirect";
/// In [`LAB`]: `HASH` from 64 bytes to `u32`, for [`LAB_XDP_HASH64`] and [`LAB_TC_HASH64`].
pub const LAB_HASH64_MAP: &str = "HASH64";
/// In [`LAB`]: XDP, one lookup of the frame's first 64 bytes in [`LAB_HASH64_MAP`].
pub const LAB_XDP_HASH64: &str = "lab_xdp_hash64";
/// In [`LAB`]: TC, one lookup of the frame's first 64 bytes in [`LAB_HASH64_MAP`].
pub const LAB_TC_HASH64: &str = "lab_tc_hash64";
/// In [`LAB`]: XDP, returns at once.
pub const LAB_XDP_FLOOR: &str = "lab_xdp_floor";
/// In [`LAB`]: TC, returns at once.
pub const LAB_TC_FLOOR: &str = "lab_tc_floor";
/// In [`LAB`]: `ARRAY` of one `[u32; 6]`: which flows [`LAB_XDP_FLOWS`] and [`LAB_TC_FLOWS`] make. First IPv4 source address (host byte
/// order), distance of two, how many; how many MAC source addresses (their last four bytes count from 0); the state of the random
/// numbers; the sum of the IPv4 header's 16-bit words but those of the source address and the checksum.
pub const LAB_FLOWS_MAP: &str = "FLOWS";
/// In [`LAB`]: XDP, gives the frame source addresses of [`LAB_FLOWS_MAP`] picked at random, then goes on in [`LAB_AFTER_XDP_MAP`].
pub const LAB_XDP_FLOWS: &str = "lab_xdp_flows";
/// In [`LAB`]: as [`LAB_XDP_FLOWS`], at TC and with [`LAB_AFTER_TC_MAP`].
pub const LAB_TC_FLOWS: &str = "lab_tc_flows";
/// In [`LAB`]: `PROG_ARRAY` of one XDP program (with fragments).
pub const LAB_AFTER_XDP_MAP: &str = "AFTER_XDP";
/// In [`LAB`]: `PROG_ARRAY` of one TC program.
pub const LAB_AFTER_TC_MAP: &str = "AFTER_TC";
/// In [`LAB`]: XDP, drops all frames and counts them in [`LAB_SINK_MAP`].
pub const LAB_XDP_SINK: &str = "lab_xdp_sink";
/// In [`LAB`]: `PERCPU_ARRAY` of one `u64`.
pub const LAB_SINK_MAP: &str = "SINK";
