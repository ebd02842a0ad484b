//! IPv6 (RFC 8200): extension headers, and neighbour discovery (RFC 4861).

use lime_core::flow::{Field, exthdr};

use crate::parse::{Headers, cut, traffic_class, transport, word};
use crate::{Fault, Transport};

/// Extension headers (RFC 8200, 4.1) that are passed over at most; a frame with more shows the next one's number as its protocol.
const MAX_EXTENSIONS: usize = 6;
/// Options of neighbour discovery that are looked at, at most.
const MAX_OPTIONS: usize = 3;
/// Headers that start further from the frame's beginning are not looked for.
const MAX_OFFSET: usize = 1800;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AUTHENTICATION: u8 = 51;
const NO_NEXT: u8 = 59;
const DESTINATION: u8 = 60;

pub(crate) fn ipv6(frame: &[u8], headers: &mut Headers, fault: Option<Fault>) -> Option<()> {
    let start = headers.network;
    let ip = cut(frame, start, 40)?;
    let end = start + 40 + usize::from(word(&ip[4..]));
    if ip[0] >> 4 != 6 || end > frame.len() {
        return None;
    }
    headers.ip = Some(6);
    traffic_class(headers, ip[0] << 4 | ip[1] >> 4);
    headers.set(Field::Ipv6Flabel, &[ip[1] & 15, ip[2], ip[3]]);
    headers.set(Field::Ipv6Src, &ip[8..24]);
    headers.set(Field::Ipv6Dst, &ip[24..40]);
    let mut found = Vec::new();
    let behind = extensions(&frame[..end], headers, start + 40, ip[6], &mut found);
    headers.set_value(Field::Ipv6Exthdr, flags(&found, fault).into());
    let (next, at) = behind?;
    transport(frame, headers, next, at, end)?;
    neighbour(frame, headers)
}

/// Passes over the extension headers from `at` on, the first of which is `next`, and lists them. What they are followed by, and where.
fn extensions(
    packet: &[u8],
    headers: &mut Headers,
    mut at: usize,
    mut next: u8,
    found: &mut Vec<u8>,
) -> Option<(u8, usize)> {
    headers.set(Field::IpProto, &[next]);
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(
            next,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
        ) {
            break;
        }
        // It is named, even if it is cut off.
        found.push(next);
        let extension = cut(packet, at, 8).filter(|_| at <= MAX_OFFSET)?;
        let length = match next {
            FRAGMENT => 8,
            // In words of four bytes, less two (RFC 4302, 2.2).
            AUTHENTICATION => (usize::from(extension[1]) + 2) * 4,
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        if next == FRAGMENT {
            // Offset and "more fragments"; one that is neither is a packet in one piece (RFC 6946).
            headers.fragment |= word(&extension[2..]) & 0xfff9 != 0;
            headers.later_fragment = word(&extension[2..]) & 0xfff8 != 0;
        }
        next = extension[0];
        headers.set(Field::IpProto, &[next]);
        if headers.later_fragment {
            return None;
        }
        at += length;
    }
    // These two are flags and protocols at once: nobody can look behind them.
    if matches!(next, ESP | NO_NEXT) {
        found.push(next);
    }
    (at <= packet.len() && at <= MAX_OFFSET + 100).then_some((next, at))
}

/// OpenFlow 1.3.5, 7.2.3.8: what each flag of OXM_OF_IPV6_EXTHDR means.
fn flags(found: &[u8], fault: Option<Fault>) -> u16 {
    let count = |header| found.iter().filter(|&&h| h == header).count();
    let mut flags = 0;
    for (header, flag) in [
        (ROUTING, exthdr::ROUTER),
        (FRAGMENT, exthdr::FRAG),
        (AUTHENTICATION, exthdr::AUTH),
        (DESTINATION, exthdr::DEST),
        (ESP, exthdr::ESP),
        (NO_NEXT, exthdr::NO_NEXT),
    ] {
        if count(header) > 0 {
            flags |= flag;
        }
    }
    // "present as the first extension header in the packet".
    if found.first() == Some(&HOP_BY_HOP) {
        flags |= exthdr::HOP;
    }
    // "Two destination options headers may be expected".
    let once = [HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION];
    if count(DESTINATION) > 2 || once.iter().any(|&h| count(h) > 1) {
        flags |= exthdr::UNREP;
    }
    if !in_preferred_order(found) && fault != Some(Fault::ExtensionOrderIgnored) {
        flags |= exthdr::UNSEQ;
    }
    flags
}

/// RFC 8200, 4.1. Destination options belong in front of the routing header (thus behind hop-by-hop options only), or at the end.
fn in_preferred_order(found: &[u8]) -> bool {
    let mut places = Vec::new();
    for &header in found {
        let early = places.iter().all(|&place| place == 1);
        places.push(match header {
            HOP_BY_HOP => 1,
            DESTINATION if early => 2,
            ROUTING => 3,
            FRAGMENT => 4,
            AUTHENTICATION => 5,
            ESP => 6,
            DESTINATION => 7,
            // No next header: behind everything.
            _ => 8,
        });
    }
    places.is_sorted()
}

/// Target address, and the link-layer address option that belongs to the type (RFC 4861, 4.3, 4.4 and 4.6.1).
fn neighbour(frame: &[u8], headers: &mut Headers) -> Option<()> {
    let Transport {
        protocol,
        start,
        end,
    } = headers.transport?;
    let (option, field) = match (protocol, headers.get(Field::Icmpv6Type)) {
        (58, 135) => (1, Field::Ipv6NdSll),
        (58, 136) => (2, Field::Ipv6NdTll),
        _ => return None,
    };
    let message = &frame[..end];
    headers.set(Field::Ipv6NdTarget, cut(message, start + 8, 16)?);
    let mut at = start + 24;
    for _ in 0..MAX_OPTIONS {
        // Ethernet's address makes the option one unit of eight bytes long (RFC 2464, 6).
        let found = cut(message, at, 8)?;
        let (kind, units) = (found[0], usize::from(found[1]));
        if (kind, units) == (option, 1) {
            headers.set(field, &found[2..]);
            headers.link_layer_address = Some(at + 2);
            return Some(());
        }
        if units == 0 {
            return None;
        }
        at += units * 8;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_extension_headers() {
        use exthdr::*;
        let flags = |found: &[u8]| super::flags(found, None);
        assert_eq!(flags(&[]), 0);
        assert_eq!(
            flags(&[0, 60, 43, 44, 51, 60]),
            HOP | DEST | ROUTER | FRAG | AUTH
        );
        assert_eq!(flags(&[60, 0]), DEST | UNSEQ, "hop-by-hop is not the first");
        assert_eq!(flags(&[0, 0]), HOP | UNREP);
        assert_eq!(flags(&[60, 60]), DEST);
        assert_eq!(flags(&[60, 60, 60]), DEST | UNREP);
        assert_eq!(flags(&[60, 60, 44]), DEST | FRAG | UNSEQ);
        assert_eq!(flags(&[44, 43]), FRAG | ROUTER | UNSEQ);
        assert_eq!(flags(&[43, 60, 50]), ROUTER | DEST | ESP | UNSEQ);
        assert_eq!(flags(&[51, 59]), AUTH | NO_NEXT);
    }
}
