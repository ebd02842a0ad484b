//! A frame's headers: fields by name (OpenFlow 1.3.5, 7.2.3.7) and where they lie.

use std::collections::BTreeMap;

use lime_core::flow::Field;

/// IPv6 extension headers (RFC 8200, 4.1) that are passed over at most; a frame with more shows the next one's number as its protocol.
const MAX_EXTENSIONS: usize = 6;

/// What there is in a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    fields: BTreeMap<Field, u128>,
    /// How many VLAN tags there are.
    pub tags: usize,
    /// Where the header behind the tags starts.
    pub network: usize,
    /// The complete IP header there: 4 or 6.
    pub ip: Option<u8>,
    /// The L4 header, if it is complete.
    pub transport: Option<Transport>,
    /// A fragment other than the first: it has no L4 header.
    pub later_fragment: bool,
}

/// An L4 header and what it is followed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// IP protocol.
    pub protocol: u8,
    /// Offset in the frame.
    pub start: usize,
    /// End of the IP packet in the frame.
    pub end: usize,
}

impl Headers {
    /// A field's value. One that the frame does not have is 0, as in Open vSwitch. (OpenFlow 1.3.5, 7.3.2.1, would have no rule match then
    /// that has the field; with exact matches on addresses and ports in use that is the same.)
    pub fn get(&self, field: Field) -> u128 {
        self.fields.get(&field).copied().unwrap_or(0)
    }

    fn set(&mut self, field: Field, bytes: &[u8]) {
        let value = bytes.iter().fold(0, |value, &b| value << 8 | u128::from(b));
        self.fields.insert(field, value);
    }
}

/// A part of a frame.
fn cut(frame: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    frame.get(start..start.checked_add(length)?)
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// Parses a frame. However many VLAN tags there are (the kernel programs understand two in a frame that comes in), the EtherType is the one behind them. None: it has no Ethernet header. A header that is cut off, or that says of itself what can not be, counts as absent.
pub fn parse(frame: &[u8]) -> Option<Headers> {
    let ethernet = cut(frame, 0, 14)?;
    let mut headers = Headers::default();
    headers.set(Field::EthDst, &ethernet[..6]);
    headers.set(Field::EthSrc, &ethernet[6..12]);
    let mut eth_type = word(&ethernet[12..]);
    let mut at = 14;
    while matches!(eth_type, 0x8100 | 0x88a8) {
        let Some(tag) = cut(frame, at, 4) else { break };
        if headers.tags == 0 {
            // OFPVID_PRESENT, VID and PCP of the outermost tag.
            headers
                .fields
                .insert(Field::VlanVid, 0x1000 | u128::from(word(tag) & 0xfff));
            headers
                .fields
                .insert(Field::VlanPcp, u128::from(word(tag) >> 13));
        }
        headers.tags += 1;
        eth_type = word(&tag[2..]);
        at += 4;
    }
    headers.network = at;
    // IEEE 802.3 frames, whose type is a length, have 0x05ff, as in Open vSwitch and OpenFlow 1.0.
    let shown = if eth_type < 0x600 { 0x5ff } else { eth_type };
    headers.fields.insert(Field::EthType, u128::from(shown));
    match eth_type {
        0x0800 => ipv4(frame, &mut headers).unwrap_or(()),
        0x86dd => ipv6(frame, &mut headers).unwrap_or(()),
        0x0806 => arp(frame, &mut headers).unwrap_or(()),
        _ => {}
    }
    Some(headers)
}

/// RFC 826, for Ethernet and IPv4 addresses.
fn arp(frame: &[u8], headers: &mut Headers) -> Option<()> {
    let arp = cut(frame, headers.network, 28)?;
    if arp[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    headers.set(Field::ArpOp, &arp[6..8]);
    headers.set(Field::ArpSpa, &arp[14..18]);
    headers.set(Field::ArpTpa, &arp[24..28]);
    Some(())
}

/// RFC 791.
fn ipv4(frame: &[u8], headers: &mut Headers) -> Option<()> {
    let start = headers.network;
    let ip = cut(frame, start, 20)?;
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(word(&ip[2..]));
    if ip[0] >> 4 != 4 || header < 20 || total < header {
        return None;
    }
    cut(frame, start, total)?;
    headers.ip = Some(4);
    traffic_class(headers, ip[1]);
    headers.set(Field::IpProto, &ip[9..10]);
    headers.set(Field::Ipv4Src, &ip[12..16]);
    headers.set(Field::Ipv4Dst, &ip[16..20]);
    if word(&ip[6..]) & 0x1fff != 0 {
        headers.later_fragment = true;
        return None;
    }
    transport(frame, headers, ip[9], start + header, start + total)
}

/// RFC 8200.
fn ipv6(frame: &[u8], headers: &mut Headers) -> Option<()> {
    let start = headers.network;
    let ip = cut(frame, start, 40)?;
    let mut at = start + 40;
    let end = at + usize::from(word(&ip[4..]));
    if ip[0] >> 4 != 6 || end > frame.len() {
        return None;
    }
    headers.ip = Some(6);
    traffic_class(headers, ip[0] << 4 | ip[1] >> 4);
    headers.set(Field::Ipv6Src, &ip[8..24]);
    headers.set(Field::Ipv6Dst, &ip[24..40]);
    let mut next = ip[6];
    headers.set(Field::IpProto, &[next]);
    for _ in 0..MAX_EXTENSIONS {
        // Hop-by-hop options, routing, fragment, authentication (RFC 4302), destination options.
        if !matches!(next, 0 | 43 | 44 | 51 | 60) {
            break;
        }
        let extension = cut(&frame[..end], at, 8)?;
        let length = match next {
            44 => 8,
            51 => (usize::from(extension[1]) + 2) * 4,
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        let offset = word(&extension[2..]) & 0xfff8;
        let fragment = next == 44;
        next = extension[0];
        headers.set(Field::IpProto, &[next]);
        if fragment && offset != 0 {
            headers.later_fragment = true;
            return None;
        }
        at += length;
    }
    if at > end {
        return None;
    }
    transport(frame, headers, next, at, end)
}

/// IPv4's TOS or IPv6's traffic class (RFC 2474, RFC 3168).
fn traffic_class(headers: &mut Headers, byte: u8) {
    headers.set(Field::IpDscp, &[byte >> 2]);
    headers.set(Field::IpEcn, &[byte & 3]);
}

fn transport(
    frame: &[u8],
    headers: &mut Headers,
    protocol: u8,
    start: usize,
    end: usize,
) -> Option<()> {
    let v4 = headers.ip == Some(4);
    let (minimum, fields) = match protocol {
        6 => (20, Some((Field::TcpSrc, Field::TcpDst))),
        17 => (8, Some((Field::UdpSrc, Field::UdpDst))),
        1 if v4 => (4, None),
        58 if !v4 => (4, None),
        _ => return None,
    };
    let header = cut(&frame[..end], start, minimum)?;
    headers.transport = Some(Transport {
        protocol,
        start,
        end,
    });
    match fields {
        Some((source, destination)) => {
            headers.set(source, &header[..2]);
            headers.set(destination, &header[2..4]);
        }
        None => {
            let (kind, code) = if v4 {
                (Field::Icmpv4Type, Field::Icmpv4Code)
            } else {
                (Field::Icmpv6Type, Field::Icmpv6Code)
            };
            headers.set(kind, &header[..1]);
            headers.set(code, &header[1..2]);
        }
    }
    Some(())
}
