//! LIME's switch pipeline as kernel programs: XDP and TC entry points for switch ports and underlay devices.
#![no_std]
#![no_main]

mod maps;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

#[xdp(frags)]
pub fn lime_xdp_port(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}
#[xdp(frags)]
pub fn lime_xdp_underlay(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}
#[classifier]
pub fn lime_tc_port(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}
#[classifier]
pub fn lime_tc_underlay(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
