//! A frame's headers: fields by name (OpenFlow 1.3.5, 7.2.3.7) and where they lie.

use std::collections::BTreeMap;

use lime_core::flow::Field;

use crate::Fault;
use crate::ipv6::ipv6;

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
    /// A fragment of an IP packet, the first one or another.
    pub fragment: bool,
    /// A fragment other than the first: it has no L4 header.
    pub later_fragment: bool,
    /// Where the address in the link-layer address option of a neighbour solicitation or advertisement is.
    pub link_layer_address: Option<usize>,
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

    /// Whether the frame has the field.
    pub fn has(&self, field: Field) -> bool {
        self.fields.contains_key(&field)
    }

    /// Whether it is an IP packet, whole or in part, of this version (4, 6) and protocol.
    pub fn is(&self, version: u8, protocol: u8) -> bool {
        self.ip == Some(version) && self.get(Field::IpProto) == u128::from(protocol)
    }

    pub(crate) fn set(&mut self, field: Field, bytes: &[u8]) {
        let value = bytes.iter().fold(0, |value, &b| value << 8 | u128::from(b));
        self.fields.insert(field, value);
    }

    pub(crate) fn set_value(&mut self, field: Field, value: u32) {
        self.fields.insert(field, value.into());
    }
}

/// A part of a frame.
pub(crate) fn cut(frame: &[u8], start: usize, length: usize) -> Option<&[u8]> {
    frame.get(start..start.checked_add(length)?)
}

pub(crate) fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// Parses a frame. None: it has no Ethernet header. A header that is cut off, or that says of itself what can not be, counts as absent.
///
/// However many VLAN tags there are (the kernel programs understand two in a frame that comes in), the EtherType is the one behind them.
pub fn parse(frame: &[u8], fault: Option<Fault>) -> Option<Headers> {
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
            let tci = u32::from(word(tag));
            headers.set_value(Field::VlanVid, 0x1000 | tci & 0xfff);
            headers.set_value(Field::VlanPcp, tci >> 13);
        }
        headers.tags += 1;
        eth_type = word(&tag[2..]);
        at += 4;
    }
    headers.network = at;
    // IEEE 802.3 frames, whose type is a length, have 0x05ff, as in Open vSwitch and OpenFlow 1.0.
    let shown = if eth_type < 0x600 { 0x5ff } else { eth_type };
    headers.set_value(Field::EthType, shown.into());
    // A function of these ends where the frame does; what it found by then stays.
    match eth_type {
        0x0800 => ipv4(frame, &mut headers).unwrap_or(()),
        0x86dd => ipv6(frame, &mut headers, fault).unwrap_or(()),
        0x0806 => arp(frame, &mut headers).unwrap_or(()),
        0x8847 | 0x8848 => mpls(frame, &mut headers).unwrap_or(()),
        0x88e7 => pbb(frame, &mut headers).unwrap_or(()),
        _ => {}
    }
    Some(headers)
}

/// The outer entry of the label stack (RFC 3032, 2.1). What the stack is followed by is not to be seen: nothing in the frame says what it is.
fn mpls(frame: &[u8], headers: &mut Headers) -> Option<()> {
    let entry = cut(frame, headers.network, 4)?;
    let entry = u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]);
    headers.set_value(Field::MplsLabel, entry >> 12);
    headers.set_value(Field::MplsTc, entry >> 9 & 7);
    headers.set_value(Field::MplsBos, entry >> 8 & 1);
    Some(())
}

/// The I-TAG (IEEE 802.1Q, 9.7): flags, service, and the Ethernet header of the frame in it, which is not looked into.
fn pbb(frame: &[u8], headers: &mut Headers) -> Option<()> {
    let tag = cut(frame, headers.network, 4 + 14)?;
    headers.set(Field::PbbIsid, &tag[1..4]);
    Some(())
}

/// RFC 826, for Ethernet and IPv4 addresses.
fn arp(frame: &[u8], headers: &mut Headers) -> Option<()> {
    let arp = cut(frame, headers.network, 28)?;
    if arp[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    headers.set(Field::ArpOp, &arp[6..8]);
    headers.set(Field::ArpSha, &arp[8..14]);
    headers.set(Field::ArpSpa, &arp[14..18]);
    headers.set(Field::ArpTha, &arp[18..24]);
    headers.set(Field::ArpTpa, &arp[24..28]);
    Some(())
}

/// RFC 791.
fn ipv4(frame: &[u8], headers: &mut Headers) -> Option<()> {
    let start = headers.network;
    let (header, total) = ipv4_lengths(frame, start)?;
    let ip = cut(frame, start, 20)?;
    headers.ip = Some(4);
    traffic_class(headers, ip[1]);
    headers.set(Field::IpProto, &ip[9..10]);
    headers.set(Field::Ipv4Src, &ip[12..16]);
    headers.set(Field::Ipv4Dst, &ip[16..20]);
    // More fragments, or not the first.
    headers.fragment = word(&ip[6..]) & 0x3fff != 0;
    headers.later_fragment = word(&ip[6..]) & 0x1fff != 0;
    if headers.later_fragment {
        return None;
    }
    transport(frame, headers, ip[9], start + header, start + total)
}

/// Lengths of the header and of the whole packet, if there is a complete one that may be true.
fn ipv4_lengths(frame: &[u8], start: usize) -> Option<(usize, usize)> {
    let ip = cut(frame, start, 20)?;
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(word(&ip[2..]));
    let sound = ip[0] >> 4 == 4 && header >= 20 && total >= header;
    cut(frame, start, total)?;
    sound.then_some((header, total))
}

/// The version of a complete IP packet at an offset.
pub(crate) fn ip_at(frame: &[u8], start: usize) -> Option<u8> {
    let ip = frame.get(start..)?;
    let whole = match ip.first()? >> 4 {
        4 => ipv4_lengths(frame, start).is_some(),
        6 => cut(ip, 0, 40).is_some_and(|h| ip.len() >= 40 + usize::from(word(&h[4..]))),
        _ => false,
    };
    whole.then(|| ip[0] >> 4)
}

/// IPv4's TOS or IPv6's traffic class (RFC 2474, RFC 3168).
pub(crate) fn traffic_class(headers: &mut Headers, byte: u8) {
    headers.set(Field::IpDscp, &[byte >> 2]);
    headers.set(Field::IpEcn, &[byte & 3]);
}

/// The L4 header at `start` of an IP packet that ends at `end`.
pub(crate) fn transport(
    frame: &[u8],
    headers: &mut Headers,
    protocol: u8,
    start: usize,
    end: usize,
) -> Option<()> {
    let v4 = headers.ip == Some(4);
    // Length of the header, and its two fields (ports of two bytes each, type and code of one).
    let (minimum, width, first, second) = match protocol {
        6 => (20, 2, Field::TcpSrc, Field::TcpDst),
        17 => (8, 2, Field::UdpSrc, Field::UdpDst),
        132 => (12, 2, Field::SctpSrc, Field::SctpDst),
        1 if v4 => (4, 1, Field::Icmpv4Type, Field::Icmpv4Code),
        58 if !v4 => (4, 1, Field::Icmpv6Type, Field::Icmpv6Code),
        _ => return None,
    };
    let header = cut(frame.get(..end)?, start, minimum)?;
    headers.transport = Some(Transport {
        protocol,
        start,
        end,
    });
    headers.set(first, &header[..width]);
    headers.set(second, &header[width..2 * width]);
    Some(())
}
