//! As much of a packet as the firewall needs.

use std::net::Ipv4Addr;

/// Addresses and ports of a UDP packet over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpPacket {
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
}

impl UdpPacket {
    /// Reads an untagged Ethernet frame. None: it is something else.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let (ethernet, ip) = frame.split_at_checked(14)?;
        let first = *ip.first()?;
        let header_length = usize::from(first & 0x0f) * 4;
        if ethernet[12..] != [0x08, 0x00] || first >> 4 != 4 || header_length < 20 {
            return None;
        }
        let (header, udp) = ip.split_at_checked(header_length)?;
        // Not UDP, or a later fragment, which has no ports.
        if header[9] != 17 || u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0 {
            return None;
        }
        let address = |at: usize| {
            Ipv4Addr::from_octets([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let port = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
        Some(Self {
            source: address(12),
            destination: address(16),
            source_port: port(0)?,
            destination_port: port(2)?,
        })
    }
}

/// The sender of an IPv4 packet of any kind.
pub fn ipv4_source(frame: &[u8]) -> Option<Ipv4Addr> {
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    Some(Ipv4Addr::from_octets(*frame.get(26..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Vec<u8> {
        let mut f = vec![0; 12];
        f.extend([0x08, 0x00]);
        f.extend([0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0]);
        f.extend([10, 0, 0, 1, 10, 0, 0, 3]);
        f.extend([0x9c, 0x40, 0, 7, 0, 12, 0, 0, 1, 2, 3, 4]);
        f
    }

    #[test]
    fn a_udp_packet_is_read() {
        let p = UdpPacket::parse(&frame()).unwrap();
        assert_eq!(p.source, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!((p.source_port, p.destination_port), (40000, 7));
        assert_eq!(ipv4_source(&frame()), Some(p.source));
    }

    #[test]
    fn anything_shorter_or_else_is_refused() {
        let whole = frame();
        for n in 0..38 {
            assert_eq!(UdpPacket::parse(&whole[..n]), None, "{n} bytes");
        }
        let mut tcp = whole.clone();
        tcp[23] = 6;
        assert_eq!(UdpPacket::parse(&tcp), None);
        let mut fragment = whole;
        fragment[21] = 1;
        assert_eq!(UdpPacket::parse(&fragment), None);
    }
}
