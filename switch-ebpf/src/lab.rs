//! Small reference programs: the lab's plug (a bare redirect decided by a map), and the floors that benchmarks measure against.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::generated::bpf_redirect,
    macros::{classifier, map, xdp},
    maps::{Array, HashMap},
    programs::{TcContext, XdpContext},
};

/// Where frames that come in by a device go out: ifindex to ifindex; 0: to the device's own stack.
#[map]
static REDIRECT: Array<u32> = Array::with_max_entries(65536, BPF_F_MMAPABLE);

/// What [`lab_xdp_hash64`] and [`lab_tc_hash64`] look up: 64-byte keys.
#[map]
static HASH64: HashMap<[u64; 8], u32> = HashMap::with_max_entries(1024, 0);

/// A bare redirect at TC ingress.
#[classifier]
pub fn lab_tc_redirect(ctx: TcContext) -> i32 {
    // SAFETY: the context is valid for the program's run.
    let ingress = unsafe { (*ctx.skb.skb).ifindex };
    match REDIRECT.get(ingress) {
        // SAFETY: plain helper call.
        Some(&to) if to != 0 => unsafe { bpf_redirect(to, 0) as i32 },
        _ => TC_ACT_UNSPEC,
    }
}

/// A bare redirect at XDP.
#[xdp(frags)]
pub fn lab_xdp_redirect(ctx: XdpContext) -> u32 {
    // SAFETY: the context is valid for the program's run.
    let ingress = unsafe { (*ctx.ctx).ingress_ifindex };
    match REDIRECT.get(ingress) {
        // SAFETY: plain helper call.
        Some(&to) if to != 0 => unsafe { bpf_redirect(to, 0) as u32 },
        _ => xdp_action::XDP_PASS,
    }
}

/// The floor: a program that only returns.
#[xdp]
pub fn lab_xdp_floor(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// The floor: a program that only returns.
#[classifier]
pub fn lab_tc_floor(_ctx: TcContext) -> i32 {
    TC_ACT_SHOT
}

/// One lookup of a 64-byte key in a kernel hash map; the key is the frame's first 64 bytes.
#[xdp]
pub fn lab_xdp_hash64(ctx: XdpContext) -> u32 {
    match look_up(ctx.data(), ctx.data_end()) {
        Some(()) => xdp_action::XDP_TX,
        None => xdp_action::XDP_DROP,
    }
}

/// One lookup of a 64-byte key in a kernel hash map; the key is the frame's first 64 bytes.
#[classifier]
pub fn lab_tc_hash64(ctx: TcContext) -> i32 {
    match look_up(ctx.data(), ctx.data_end()) {
        Some(()) => TC_ACT_UNSPEC,
        None => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn look_up(data: usize, data_end: usize) -> Option<()> {
    if data + 64 > data_end {
        return None;
    }
    // Word by word: as one array it would be copied byte by byte, and this is what others are measured against.
    // SAFETY: 64 bytes are there, as just checked.
    let key: [u64; 8] =
        core::array::from_fn(|i| unsafe { (data as *const u64).add(i).read_unaligned() });
    // SAFETY: the value is not used.
    HASH64.get_ptr(&key).map(|_| ())
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
