//! LIME's switch pipeline as kernel programs: XDP and TC entry points for switch ports and underlay devices.
//!
//! A packet is first classified on its key alone, then executed: see [`classify`] and [`execute`]. An XDP program that finds rules that
//! it can not run passes the frame, unchanged and uncounted, to the TC program on the same device.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod actions;
mod cache;
mod checksum;
mod classify;
mod counters;
mod events;
mod execute;
mod flow;
mod group;
mod hold;
mod maps;
mod meter;
mod output;
mod packet;
mod parse;
mod pipeline;
mod reshape;
mod rewrite;
mod sctp;
mod set;
mod state;
mod tc;
mod tc_reshape;
mod tunnel;
mod wait;
mod xdp;
mod xdp_reshape;

use aya_ebpf::{
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use packet::Packet;
use pipeline::{Stop, from_port, from_underlay};

/// XDP on a switch port.
#[xdp(frags)]
pub fn lime_xdp_port(ctx: XdpContext) -> u32 {
    verdict::<xdp::Xdp>(from_port(xdp::Xdp(ctx.ctx))) as u32
}

/// XDP on an underlay device.
#[xdp(frags)]
pub fn lime_xdp_underlay(ctx: XdpContext) -> u32 {
    verdict::<xdp::Xdp>(from_underlay(xdp::Xdp(ctx.ctx))) as u32
}

/// TC ingress on a switch port.
#[classifier]
pub fn lime_tc_port(ctx: TcContext) -> i32 {
    verdict::<tc::Tc>(from_port(tc::Tc(ctx.skb.skb)))
}

/// TC ingress on an underlay device, and on the recirculation device.
#[classifier]
pub fn lime_tc_underlay(ctx: TcContext) -> i32 {
    verdict::<tc::Tc>(from_underlay(tc::Tc(ctx.skb.skb)))
}

#[inline(always)]
fn verdict<P: Packet>(result: Result<i32, Stop>) -> i32 {
    match result {
        Ok(verdict) => verdict,
        Err(Stop::Pass) => P::PASS,
        Err(Stop::Drop(slot, reason)) => {
            counters::dropped(slot, reason);
            P::DROP
        }
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
