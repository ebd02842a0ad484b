//! Actions that change a frame: set-field, push and pop (OpenFlow 1.3.5, 5.12).

use lime_core::flow::{Action, Field};

use crate::{Fault, Headers, checksum, parse};

/// Runs one such action. None: the frame has no header that it fits.
pub(crate) fn rewrite(frame: &mut Vec<u8>, action: &Action, fault: Option<Fault>) -> Option<()> {
    let headers = parse(frame)?;
    match *action {
        Action::SetField { field, value } => set_field(frame, &headers, field, value, fault),
        Action::PushVlan(tpid) => {
            // The new tag has the fields of the present outer one (5.12.1).
            let tci = if headers.tags > 0 {
                [frame[14], frame[15]]
            } else {
                [0, 0]
            };
            let [t0, t1] = tpid.to_be_bytes();
            frame.splice(12..12, [t0, t1, tci[0], tci[1]]);
            Some(())
        }
        Action::PopVlan => {
            if headers.tags == 0 {
                return None;
            }
            let at = if fault == Some(Fault::InnerTagPopped) && headers.tags > 1 {
                16
            } else {
                12
            };
            frame.drain(at..at + 4);
            Some(())
        }
        // The others are not compared yet.
        _ => None,
    }
}

fn set_field(
    frame: &mut [u8],
    headers: &Headers,
    field: Field,
    value: u128,
    fault: Option<Fault>,
) -> Option<()> {
    let bytes = value.to_be_bytes();
    let (network, transport) = (headers.network, headers.transport);
    match field {
        Field::EthDst => frame[..6].copy_from_slice(&bytes[10..]),
        Field::EthSrc => frame[6..12].copy_from_slice(&bytes[10..]),
        Field::VlanVid | Field::VlanPcp => {
            if headers.tags == 0 {
                return None;
            }
            if field == Field::VlanVid {
                frame[14] = frame[14] & 0xf0 | bytes[14] & 0x0f;
                frame[15] = bytes[15];
            } else {
                frame[14] = frame[14] & 0x1f | bytes[15] << 5;
            }
        }
        Field::IpDscp => {
            let ecn = if fault == Some(Fault::DscpClearsEcn) {
                0
            } else {
                headers.get(Field::IpEcn) as u8
            };
            let class = bytes[15] << 2 | ecn;
            match headers.ip? {
                4 => with_checksums(frame, headers, fault, |frame| frame[network + 1] = class),
                _ => {
                    frame[network] = frame[network] & 0xf0 | class >> 4;
                    frame[network + 1] = frame[network + 1] & 0x0f | class << 4;
                }
            }
        }
        Field::Ipv4Src | Field::Ipv4Dst => {
            if headers.ip? != 4 {
                return None;
            }
            let at = network + if field == Field::Ipv4Src { 12 } else { 16 };
            with_checksums(frame, headers, fault, |frame| {
                frame[at..at + 4].copy_from_slice(&bytes[12..])
            });
        }
        Field::Ipv6Src | Field::Ipv6Dst => {
            if headers.ip? != 6 {
                return None;
            }
            let at = network + if field == Field::Ipv6Src { 8 } else { 24 };
            with_checksums(frame, headers, fault, |frame| {
                frame[at..at + 16].copy_from_slice(&bytes)
            });
        }
        Field::TcpSrc | Field::TcpDst | Field::UdpSrc | Field::UdpDst => {
            if headers.later_fragment && matches!(headers.get(Field::IpProto), 6 | 17) {
                // Its ports are in the first fragment, and changed there.
                return Some(());
            }
            let transport = transport.filter(|t| matches!(t.protocol, 6 | 17))?;
            let at = transport.start
                + if matches!(field, Field::TcpSrc | Field::UdpSrc) {
                    0
                } else {
                    2
                };
            with_checksums(frame, headers, fault, |frame| {
                frame[at..at + 2].copy_from_slice(&bytes[14..])
            });
        }
        _ => return None,
    }
    Some(())
}

/// Changes a frame and lets its checksums follow.
fn with_checksums(
    frame: &mut [u8],
    headers: &Headers,
    fault: Option<Fault>,
    change: impl FnOnce(&mut [u8]),
) {
    let before = frame.to_vec();
    change(frame);
    if headers.ip == Some(4) {
        let at = headers.network;
        let header = at..at + usize::from(before[at] & 15) * 4;
        follow(
            frame,
            at + 10,
            |frame| frame[header.clone()].to_vec(),
            &before,
        );
    }
    let Some(transport) = headers.transport else {
        return;
    };
    let field = match transport.protocol {
        6 => 16,
        17 => 6,
        58 => 2,
        // ICMP's covers nothing that actions can change.
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
    let pseudo = fault != Some(Fault::PseudoHeaderForgotten);
    let covered = |frame: &[u8]| {
        let mut bytes = if pseudo {
            pseudo_header(frame, headers)
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
fn pseudo_header(frame: &[u8], headers: &Headers) -> Vec<u8> {
    let Some(transport) = headers.transport else {
        return Vec::new();
    };
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
