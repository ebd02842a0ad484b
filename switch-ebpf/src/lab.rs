//! Small reference programs: the lab's plug (a bare redirect decided by a map), and the floors that benchmarks measure against.
#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
    helpers::generated::bpf_redirect,
    macros::{classifier, map, xdp},
    maps::{Array, HashMap, PerCpuArray, ProgramArray},
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

/// Which flows [`lab_xdp_flows`] and [`lab_tc_flows`] make: the first IPv4 source address, the distance of two, how many; how many MAC
/// source addresses; the state of the random numbers; and the sum of the IPv4 header's 16-bit words but those of the source address and the
/// checksum.
#[map]
static FLOWS: Array<[u32; 6]> = Array::with_max_entries(1, 0);

/// Where [`lab_xdp_flows`] goes on, in its only entry.
#[map]
static AFTER_XDP: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Where [`lab_tc_flows`] goes on, in its only entry.
#[map]
static AFTER_TC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Frames that [`lab_xdp_sink`] has dropped.
#[map]
static SINK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Makes the frame one of a flow picked at random, then goes on in another program.
#[xdp(frags)]
pub fn lab_xdp_flows(ctx: XdpContext) -> u32 {
    pick_flow(ctx.data(), ctx.data_end());
    // SAFETY: nothing here needs to be dropped.
    unsafe { AFTER_XDP.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// Makes the frame one of a flow picked at random, then goes on in another program.
#[classifier]
pub fn lab_tc_flows(ctx: TcContext) -> i32 {
    pick_flow(ctx.data(), ctx.data_end());
    // SAFETY: nothing here needs to be dropped.
    unsafe { AFTER_TC.tail_call(&ctx, 0) };
    TC_ACT_SHOT
}

/// Counts and drops every frame.
#[xdp(frags)]
pub fn lab_xdp_sink(_ctx: XdpContext) -> u32 {
    if let Some(count) = SINK.get_ptr_mut(0) {
        // SAFETY: this CPU alone writes it.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}

/// Writes other source addresses into an untagged frame, MAC (its last four bytes) and IPv4, and the header's checksum (RFC 1071).
#[inline(always)]
fn pick_flow(data: usize, data_end: usize) {
    let Some(flows) = FLOWS.get_ptr_mut(0) else {
        return;
    };
    if data + 34 > data_end {
        return;
    }
    // SAFETY: the entry is there; two runs at once would draw the same numbers, which is no harm.
    let [first, step, count, macs, state, sum] = unsafe { *flows };
    let (state, index) = draw(state, count);
    let (state, mac) = draw(state, macs);
    let address = first.wrapping_add(index.wrapping_mul(step));
    let mut sum = sum + (address >> 16) + (address & 0xffff);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    // SAFETY: as above; and the bytes are there, as just checked.
    unsafe {
        (*flows)[4] = state;
        ((data + 8) as *mut u32).write_unaligned(mac.to_be());
        ((data + 24) as *mut u16).write_unaligned((!sum as u16).to_be());
        ((data + 26) as *mut u32).write_unaligned(address.to_be());
    }
}

/// A random number below `count`, by a linear congruential generator (Numerical Recipes, 7.1), whose upper bits are the good ones.
#[inline(always)]
fn draw(state: u32, count: u32) -> (u32, u32) {
    let state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (state, (state as u64 * count as u64 >> 32) as u32)
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
