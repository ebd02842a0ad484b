//! Tunnel frames made in user space, and the raw socket that puts them on the recirculation device.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use lime_core::{Epoch, PortId};
use switch_abi::{
    GENEVE_ETHERNET, OPTION_CLASS, OPTION_TYPE, OPTION_VERSION, TUNNEL_GROUP, TUNNEL_HOPS,
    TUNNEL_OPTION_LEN, TUNNEL_PORT, TunnelOption,
};
use thiserror::Error;
use tracing::debug;

use super::raw;
use crate::datapath::grace_period;
use crate::recirculation::Recirculation;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
/// Longest tenant frame that fits an IPv4 packet with the tunnel's headers, bytes.
const MAX_INNER: usize = 65_535 - IPV4_LEN - UDP_LEN - TUNNEL_OPTION_LEN;

/// Shortest Ethernet frame without FCS, bytes (IEEE 802.3, 3.2.7); shorter packets are padded with zeros, as a device would.
const MIN_INNER: usize = 60;

/// Why a frame could not be handed to the data path.
#[derive(Debug, Error)]
pub enum InjectError {
    /// Longer than the tunnel can carry.
    #[error("the packet has {len} bytes: at most {MAX_INNER} can be sent")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The kernel refused.
    #[error("sending on the recirculation device {device}")]
    Send {
        /// Its name.
        device: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// What a tunnel frame says about its packet.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    /// The network's number on the wire.
    pub vni: u32,
    /// [`switch_abi::TUNNEL_DELIVER`] ...
    pub kind: u8,
    /// Out of, or in at, this port.
    pub port: PortId,
    /// [`TunnelOption::argument`]: the port's queue, or the group.
    pub argument: u32,
    /// For [`switch_abi::TUNNEL_GROUP`]: the queue that the packet goes out by.
    pub queue: u16,
    /// The clock that it was processed at.
    pub clock: Epoch,
    /// [`TunnelOption::bucket`].
    pub bucket: u8,
    /// Tunnel hops left.
    pub hops: u8,
    /// For [`switch_abi::TUNNEL_GROUP`]: of which packet with held outputs the copy is; 0: of none.
    pub hold: u16,
}

impl Tag {
    /// One without argument, queue, bucket and hold, and with all hops.
    pub fn new(vni: u32, kind: u8, port: PortId, clock: Epoch) -> Self {
        Self {
            vni,
            kind,
            port,
            argument: 0,
            queue: 0,
            clock,
            bucket: 0,
            hops: TUNNEL_HOPS,
            hold: 0,
        }
    }

    fn option(&self) -> [u8; TUNNEL_OPTION_LEN] {
        let vni = self.vni.to_be_bytes();
        let option = TunnelOption {
            geneve_ver_len: 0x05,
            geneve_flags: 0x40,
            geneve_protocol: GENEVE_ETHERNET.to_be_bytes(),
            vni: [vni[1], vni[2], vni[3]],
            geneve_reserved: 0,
            class: OPTION_CLASS.to_be_bytes(),
            option_type: OPTION_TYPE,
            option_len: 4,
            version: OPTION_VERSION,
            kind: self.kind,
            hops: self.hops,
            bucket: self.bucket,
            port: self.port.0.to_be_bytes(),
            clock: self.clock.0.to_be_bytes(),
            argument: self.argument.to_be_bytes(),
        };
        // SAFETY: repr(C), alignment 1, only bytes.
        unsafe { std::mem::transmute(option) }
    }
}

/// A whole frame: Ethernet, IPv4, UDP, Geneve, the packet.
fn encapsulate(tag: &Tag, src_mac: [u8; 6], dst_mac: [u8; 6], inner: &[u8]) -> Vec<u8> {
    let (src, dst) = (Recirculation::SOURCE, Recirculation::DESTINATION);
    let padding = MIN_INNER.saturating_sub(inner.len());
    let udp_len = UDP_LEN + TUNNEL_OPTION_LEN + inner.len() + padding;
    let mut frame = Vec::with_capacity(ETHERNET_LEN + IPV4_LEN + udp_len);
    frame.extend(dst_mac);
    frame.extend(src_mac);
    frame.extend([0x08, 0x00]);
    frame.extend(ipv4_header(src, dst, (IPV4_LEN + udp_len) as u16));
    let source = match tag.kind {
        TUNNEL_GROUP => tag.queue,
        _ => TUNNEL_PORT,
    };
    frame.extend(source.to_be_bytes());
    frame.extend(TUNNEL_PORT.to_be_bytes());
    frame.extend((udp_len as u16).to_be_bytes());
    // Without a UDP checksum, as RFC 8926, 3.3 allows over IPv4; in its place, where one may be, the packet's name.
    frame.extend(tag.hold.to_be_bytes());
    frame.extend(tag.option());
    frame.extend(inner);
    frame.resize(frame.len() + padding, 0);
    frame
}

fn ipv4_header(src: Ipv4Addr, dst: Ipv4Addr, total: u16) -> [u8; IPV4_LEN] {
    let mut header = [0u8; IPV4_LEN];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    // Do not fragment; TTL; UDP.
    header[6] = 0x40;
    header[8] = 64;
    header[9] = 17;
    header[12..16].copy_from_slice(&src.octets());
    header[16..20].copy_from_slice(&dst.octets());
    let mut sum: u32 = header
        .chunks(2)
        .map(|p| u32::from(u16::from_be_bytes([p[0], p[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    header
}

/// Source address of frames from here; what the data path sends over the device itself has the device's own.
const SOURCE_MAC: [u8; 6] = [0x02, 0x4c, 0x49, 0x4d, 0x45, 0x00];
/// Source address of frames that nobody waits for.
const POSTED_MAC: [u8; 6] = [0x02, 0x4c, 0x49, 0x4d, 0x45, 0x01];
/// How long the kernel may take to receive a frame before it is given up on, milliseconds.
const RECEIVE_DEADLINE: u16 = 200;

/// A raw socket on the sending side of the recirculation device, and one on the receiving side that tells when a frame has come in.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    echo: OwnedFd,
    device: String,
    dst_mac: [u8; 6],
}

impl Injector {
    /// Opens the sockets in the current network namespace.
    ///
    /// # Errors
    /// The kernel refuses raw sockets (CAP_NET_RAW is lacking).
    pub fn open(device: &Recirculation) -> io::Result<Self> {
        // Protocol 0: receives nothing.
        let socket = raw::socket()?;
        raw::bind(&socket, device.send_ifindex, 0)?;
        let echo = raw::socket()?;
        // Before it is bound, so that no other frame gets in.
        raw::only_from(&echo, SOURCE_MAC)?;
        raw::bind(&echo, device.receive_ifindex, libc::ETH_P_ALL as u16)?;
        Ok(Self {
            socket,
            echo,
            device: device.send_name.clone(),
            dst_mac: device.receive_mac,
        })
    }

    /// Hands one packet to the data path, and returns when that has processed it: what is done next is after it.
    ///
    /// # Errors
    /// The packet was not taken.
    pub fn send(&self, tag: &Tag, inner: &[u8]) -> Result<(), InjectError> {
        self.put(tag, SOURCE_MAC, inner)?;
        self.wait();
        Ok(())
    }

    /// Hands one packet to the data path, which may process it later.
    ///
    /// # Errors
    /// The packet was not taken.
    pub fn post(&self, tag: &Tag, inner: &[u8]) -> Result<(), InjectError> {
        self.put(tag, POSTED_MAC, inner)
    }

    fn put(&self, tag: &Tag, source: [u8; 6], inner: &[u8]) -> Result<(), InjectError> {
        if inner.len() > MAX_INNER {
            return Err(InjectError::TooLong { len: inner.len() });
        }
        let frame = encapsulate(tag, source, self.dst_mac, inner);
        raw::send(&self.socket, &frame).map_err(|source| InjectError::Send {
            device: self.device.clone(),
            source,
        })
    }

    /// Usually the kernel runs the receiving side within the send. With much other traffic on this CPU it leaves that for later; then the echo
    /// is not there yet, and after it a grace period says that the program that was started with it has ended.
    fn wait(&self) {
        if raw::receive(&self.echo) {
            return;
        }
        if !raw::wait(&self.echo, RECEIVE_DEADLINE) || !raw::receive(&self.echo) {
            debug!(
                device = self.device,
                "no sign of a frame on the recirculation device"
            );
        }
        if let Err(error) = grace_period() {
            debug!(%error, "grace period after a packet-out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_frame_is_laid_out_as_the_abi_says() {
        let tag = Tag {
            argument: 7,
            hold: 0x1234,
            ..Tag::new(0x010203, switch_abi::TUNNEL_DELIVER, PortId(7), Epoch(9))
        };
        let frame = encapsulate(&tag, [1; 6], [2; 6], &[0xaa; 60]);
        assert_eq!(frame.len(), 14 + 20 + 8 + 28 + 60);
        assert_eq!(frame[..14], [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 8, 0]);
        assert_eq!(
            u16::from_be_bytes([frame[16], frame[17]]) as usize,
            frame.len() - 14
        );
        // A short packet is padded.
        assert_eq!(
            encapsulate(&tag, [1; 6], [2; 6], &[0xaa; 14]).len(),
            frame.len()
        );
        let sum: u32 = frame[14..34]
            .chunks(2)
            .map(|p| u32::from(u16::from_be_bytes([p[0], p[1]])))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
        assert_eq!(frame[40..42], [0x12, 0x34]);
        assert_eq!(frame[42..50], [0x05, 0x40, 0x65, 0x58, 1, 2, 3, 0]);
        assert_eq!(frame[50..58], [0xff, 0x4c, 0x81, 4, 1, 1, 8, 0]);
        assert_eq!(frame[66..70], [0, 0, 0, 7]);
        assert_eq!(frame[58..66], [0, 0, 0, 7, 0, 0, 0, 9]);
    }
}
