//! Where the headers of an Ethernet frame are.

/// EtherType of IPv4.
pub(super) const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub(super) const IPV6: u16 = 0x86dd;
/// EtherType of ARP.
pub(super) const ARP: u16 = 0x0806;
/// EtherTypes of MPLS.
pub(super) const MPLS: [u16; 2] = [0x8847, 0x8848];
/// EtherType of PBB.
pub(super) const PBB: u16 = 0x88e7;
/// TPIDs of VLAN tags.
const VLAN: [u16; 2] = [0x8100, 0x88a8];
/// VLAN tags that are stepped over.
const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are stepped over.
const MAX_EXTENSIONS: usize = 8;

/// Offsets of the headers of one frame. All offsets and lengths are within the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the outer VLAN tag's TPID (always 12), if there is a tag.
    pub vlan: Option<usize>,
    /// EtherType behind the VLAN tags, and the offset of what follows it. `None`: cut before it.
    pub payload: Option<(u16, usize)>,
    /// The network layer, where it is IP and whole.
    pub network: Option<Network>,
}

/// An IP header and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Offset of the IP header.
    pub offset: usize,
    /// IPv6 (else IPv4).
    pub v6: bool,
    /// Protocol above (after IPv6 extension headers).
    pub proto: u8,
    /// Offset of the transport header, absent in fragments other than the first.
    pub transport: Option<usize>,
    /// Part of a fragmented packet, so that the transport checksum covers more than this frame.
    pub fragment: bool,
    /// Where the packet ends according to its header, at most the frame's end; `None` when the header says more than is there.
    pub end: Option<usize>,
}

fn be16(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]))
}

impl Layout {
    /// Finds the headers. `None`: shorter than an Ethernet header.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        let mut eth_type = be16(frame, at)?;
        let vlan = VLAN.contains(&eth_type).then_some(at);
        for _ in 0..MAX_TAGS {
            if !VLAN.contains(&eth_type) {
                break;
            }
            at += 4;
            match be16(frame, at) {
                Some(next) => eth_type = next,
                None => {
                    // A tag that is cut: not one that can be popped or written.
                    return Some(Self {
                        vlan: vlan.filter(|_| frame.len() >= 18),
                        payload: None,
                        network: None,
                    });
                }
            }
        }
        Some(Self {
            vlan,
            payload: Some((eth_type, at + 2)),
            network: Self::ip_at(frame, eth_type, at + 2),
        })
    }

    /// An IP header at this offset, as the EtherType says.
    pub(super) fn ip_at(frame: &[u8], eth_type: u16, at: usize) -> Option<Network> {
        match eth_type {
            IPV4 => ipv4(frame, at),
            IPV6 => ipv6(frame, at),
            _ => None,
        }
    }
}

fn ipv4(frame: &[u8], offset: usize) -> Option<Network> {
    let header = frame.get(offset..offset + 20)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || header_len < 20 || frame.len() < offset + header_len {
        return None;
    }
    let total = usize::from(be16(header, 2)?);
    let fragment = be16(header, 6)?;
    let later = fragment & 0x1fff != 0;
    Some(Network {
        offset,
        v6: false,
        proto: header[9],
        transport: (!later).then_some(offset + header_len),
        fragment: fragment & 0x3fff != 0,
        end: (total >= header_len && offset + total <= frame.len()).then_some(offset + total),
    })
}

fn ipv6(frame: &[u8], offset: usize) -> Option<Network> {
    let header = frame.get(offset..offset + 40)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let end = offset + 40 + usize::from(be16(header, 4)?);
    let mut network = Network {
        offset,
        v6: true,
        proto: header[6],
        transport: Some(offset + 40),
        fragment: false,
        end: (end <= frame.len()).then_some(end),
    };
    let mut at = offset + 40;
    for _ in 0..MAX_EXTENSIONS {
        // Hop-by-hop, routing, fragment, destination options (RFC 8200, section 4).
        let len = match network.proto {
            0 | 43 | 60 => 8 + usize::from(frame.get(at + 1).copied().unwrap_or(0)) * 8,
            44 => {
                let word = be16(frame, at + 2)?;
                network.fragment = true;
                if word & 0xfff8 != 0 {
                    network.proto = *frame.get(at)?;
                    network.transport = None;
                    return Some(network);
                }
                8
            }
            _ => {
                network.transport = Some(at);
                return Some(network);
            }
        };
        network.proto = *frame.get(at)?;
        at += len;
        if at > frame.len() {
            network.transport = None;
            return Some(network);
        }
    }
    network.transport = None;
    Some(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_of_a_frame_panics() {
        let mut frame = vec![0u8; 14];
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        frame.extend([0, 5, 0x86, 0xdd]);
        let mut ip = vec![0x60, 0, 0, 0, 0, 24, 0, 64];
        ip.extend([0u8; 32]);
        // Hop-by-hop, then a first fragment, then UDP.
        ip.extend([44, 0, 0, 0, 0, 0, 0, 0]);
        ip.extend([17, 0, 0, 1, 0, 0, 0, 9]);
        ip.extend([0, 1, 0, 2, 0, 8, 0, 0]);
        frame.truncate(14);
        frame.extend([0, 5, 0x86, 0xdd]);
        frame.extend(ip);
        for n in 0..=frame.len() {
            let _ = Layout::parse(&frame[..n]);
        }
        let network = Layout::parse(&frame).unwrap().network.unwrap();
        assert!(network.v6 && network.fragment);
        assert_eq!(network.proto, 17);
        assert_eq!(network.transport, Some(18 + 40 + 16));
        assert_eq!(network.end, Some(frame.len()));
    }

    #[test]
    fn a_cut_packet_has_no_end() {
        let mut frame = vec![0u8; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 60, 0, 0, 0, 0, 64, 6]);
        frame.extend([0u8; 10]);
        let network = Layout::parse(&frame).unwrap().network.unwrap();
        assert_eq!(network.end, None);
    }
}
