//! Lets the checksums of a packet follow when its bytes change.

use crate::{Fault, Headers, Transport, checksum};

/// Changes a frame and lets its checksums follow. What covers changes of this kind is found out by looking at all of them.
pub(crate) fn with_checksums(
    frame: &mut [u8],
    headers: &Headers,
    fault: Option<Fault>,
    change: impl FnOnce(&mut [u8]),
) {
    let before = frame.to_vec();
    change(frame);
    if headers.ip == Some(4) {
        ipv4(frame, headers.network, &before);
    }
    let Some(transport) = headers.transport else {
        return;
    };
    // Where the checksum is, and whether it covers a pseudo-header too.
    let (field, pseudo) = match transport.protocol {
        6 => (16, true),
        17 => (6, true),
        58 => (2, true),
        1 => (2, false),
        132 => return sctp(frame, transport, &before, fault),
        _ => return,
    };
    let field = transport.start + field;
    if field + 2 > transport.end {
        return;
    }
    let udp = transport.protocol == 17;
    if udp && frame[field..field + 2] == [0, 0] {
        // RFC 768: there is none.
        return;
    }
    let pseudo = pseudo && fault != Some(Fault::PseudoHeaderForgotten);
    let covered = |frame: &[u8]| {
        let mut bytes = if pseudo {
            pseudo_header(frame, headers, transport)
        } else {
            Vec::new()
        };
        bytes.extend_from_slice(&frame[transport.start..transport.end]);
        bytes
    };
    follow(frame, field, covered, &before);
    if udp && frame[field..field + 2] == [0, 0] {
        frame[field..field + 2].copy_from_slice(&[0xff, 0xff]);
    }
}

/// The checksum of the IPv4 header at `at` (RFC 791, 3.1).
pub(crate) fn ipv4(frame: &mut [u8], at: usize, before: &[u8]) {
    let header = at..at + usize::from(before[at] & 15) * 4;
    follow(
        frame,
        at + 10,
        |frame| frame[header.clone()].to_vec(),
        before,
    );
}

/// RFC 9260, 6.8 and appendix A. A wrong one stays wrong by as much: what two packets of one length differ in, their CRCs do too.
fn sctp(frame: &mut [u8], transport: Transport, before: &[u8], fault: Option<Fault>) {
    let Transport { start, end, .. } = transport;
    let crc = |frame: &[u8]| {
        let mut packet = frame[start..end].to_vec();
        packet[8..12].fill(0);
        checksum::crc32c(&packet)
    };
    let difference = crc(before) ^ crc(frame);
    if fault == Some(Fault::SctpChecksumForgotten) {
        return;
    }
    // Its bytes are in the order of the CRC's shift register.
    for (byte, difference) in frame[start + 8..start + 12]
        .iter_mut()
        .zip(difference.to_le_bytes())
    {
        *byte ^= difference;
    }
}

/// Lets the checksum at `field` follow; `covered` gives the bytes that it covers.
fn follow(frame: &mut [u8], field: usize, covered: impl Fn(&[u8]) -> Vec<u8>, before: &[u8]) {
    let old = u16::from_be_bytes([before[field], before[field + 1]]);
    let blank = |frame: &[u8]| {
        let mut frame = frame.to_vec();
        frame[field..field + 2].fill(0);
        covered(&frame)
    };
    let new = checksum::follow(old, &blank(before), &blank(frame));
    frame[field..field + 2].copy_from_slice(&new.to_be_bytes());
}

/// RFC 9293, 3.1 and RFC 8200, 8.1. (Of a routing header's addresses nothing is known here.)
fn pseudo_header(frame: &[u8], headers: &Headers, transport: Transport) -> Vec<u8> {
    let at = headers.network;
    let length = transport.end - transport.start;
    let mut bytes = Vec::new();
    if headers.ip == Some(4) {
        bytes.extend_from_slice(&frame[at + 12..at + 20]);
    } else {
        bytes.extend_from_slice(&frame[at + 8..at + 40]);
    }
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, transport.protocol]);
    bytes
}
