//! Actions that change a frame, with checksums kept right (OpenFlow 1.3.5, 5.12).

use lime_core::flow::{Action, Field};
use thiserror::Error;

use super::checksum::{TCP, UDP, field_offset, update};
use super::layout::{Layout, Network, PBB};
use super::protocols::{self, ICMPV6};
use super::tags;

/// Why an action does not fit a frame.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EditError {
    /// The frame is shorter than an Ethernet header.
    #[error("the packet is shorter than an Ethernet header (14 bytes)")]
    TooShort,
    /// The frame lacks the header that the action writes.
    #[error("set_field {field:?}: the packet has no such header")]
    NoSuchHeader {
        /// The field.
        field: Field,
    },
    /// There is no tag to pop.
    #[error("pop_vlan: the packet has no VLAN tag")]
    NoTag,
    /// The frame lacks the header that the action works on.
    #[error("{action:?}: the packet has no such header")]
    NoHeader {
        /// The action.
        action: Action,
    },
    /// The TTL or hop limit would become zero: the packet is dropped.
    #[error("the TTL of the packet has run out")]
    TtlExpired,
    /// Not an action that changes frames.
    #[error("{action:?} does not change packets")]
    NotAnEdit {
        /// The action.
        action: Action,
    },
}

/// Applies one action that changes the frame.
///
/// # Errors
/// The frame lacks what the action works on; the frame is unchanged then.
pub fn edit(frame: &mut Vec<u8>, action: &Action) -> Result<(), EditError> {
    let layout = Layout::parse(frame)
        .filter(|_| frame.len() >= 14)
        .ok_or(EditError::TooShort)?;
    match *action {
        Action::SetField { field, value } => set(frame, &layout, field, value),
        Action::PushVlan(tpid) => {
            // The TCI of a present outer tag is copied, else it is zero (OpenFlow 1.3.5, 5.12.1).
            let tci = match layout.vlan {
                Some(at) => [frame[at + 2], frame[at + 3]],
                None => [0, 0],
            };
            let tpid = tpid.to_be_bytes();
            frame.splice(12..12, [tpid[0], tpid[1], tci[0], tci[1]]);
            Ok(())
        }
        Action::PopVlan => {
            let at = layout.vlan.ok_or(EditError::NoTag)?;
            frame.drain(at..at + 4);
            Ok(())
        }
        Action::Output { .. } | Action::Group(_) | Action::SetQueue(_) => {
            Err(EditError::NotAnEdit {
                action: action.clone(),
            })
        }
        Action::SetNwTtl(_)
        | Action::DecNwTtl
        | Action::CopyTtlOut
        | Action::CopyTtlIn
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::SetMplsTtl(_)
        | Action::DecMplsTtl
        | Action::PushPbb(_)
        | Action::PopPbb => tags::edit(frame, &layout, action),
    }
}

fn set(frame: &mut [u8], layout: &Layout, field: Field, value: u128) -> Result<(), EditError> {
    let missing = EditError::NoSuchHeader { field };
    let bytes = value.to_be_bytes();
    let network = |v6: bool| layout.network.filter(|n| n.v6 == v6);
    match field {
        Field::EthDst => frame[0..6].copy_from_slice(&bytes[10..]),
        Field::EthSrc => frame[6..12].copy_from_slice(&bytes[10..]),
        Field::VlanVid | Field::VlanPcp => {
            let at = layout.vlan.ok_or(missing)? + 2;
            let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
            let new = if field == Field::VlanVid {
                old & 0xf000 | value as u16 & 0x0fff
            } else {
                old & 0x1fff | (value as u16 & 7) << 13
            };
            frame[at..at + 2].copy_from_slice(&new.to_be_bytes());
        }
        Field::IpDscp => {
            let network = layout.network.ok_or(missing)?;
            let tos = tos(frame, &network) & 3 | (value as u8 & 0x3f) << 2;
            set_tos(frame, &network, tos);
        }
        Field::IpEcn => {
            let network = layout.network.ok_or(missing)?;
            let tos = tos(frame, &network) & 0xfc | value as u8 & 3;
            set_tos(frame, &network, tos);
        }
        Field::Ipv6Flabel => {
            let at = network(true).ok_or(missing)?.offset;
            frame[at + 1] = frame[at + 1] & 0xf0 | bytes[13] & 0x0f;
            frame[at + 2..at + 4].copy_from_slice(&bytes[14..]);
        }
        Field::MplsLabel | Field::MplsTc => {
            let at = layout.mpls(frame).ok_or(missing)?;
            let old = u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
            let new = if field == Field::MplsLabel {
                old & 0xfff | (value as u32 & 0xf_ffff) << 12
            } else {
                old & !0xe00 | (value as u32 & 7) << 9
            };
            frame[at..at + 4].copy_from_slice(&new.to_be_bytes());
        }
        Field::PbbIsid => {
            let at = layout.payload.filter(|(t, _)| *t == PBB);
            let at = at.ok_or(missing.clone())?.1;
            let isid = frame.get_mut(at + 1..at + 4).ok_or(missing)?;
            isid.copy_from_slice(&bytes[13..]);
        }
        Field::Ipv4Src | Field::Ipv4Dst => {
            let network = network(false).ok_or(missing)?;
            let at = network.offset + if field == Field::Ipv4Src { 12 } else { 16 };
            write(frame, &network, at, &bytes[12..], true);
        }
        Field::Ipv6Src | Field::Ipv6Dst => {
            let network = network(true).ok_or(missing)?;
            let at = network.offset + if field == Field::Ipv6Src { 8 } else { 24 };
            write(frame, &network, at, &bytes, true);
        }
        Field::TcpSrc | Field::TcpDst | Field::UdpSrc | Field::UdpDst => {
            let proto = if matches!(field, Field::TcpSrc | Field::TcpDst) {
                TCP
            } else {
                UDP
            };
            let network = layout
                .network
                .filter(|n| n.proto == proto)
                .ok_or(missing.clone())?;
            let second = matches!(field, Field::TcpDst | Field::UdpDst);
            let at = network.transport.ok_or(missing.clone())? + if second { 2 } else { 0 };
            if frame.len() < at + 2 {
                return Err(missing);
            }
            write(frame, &network, at, &bytes[14..], false);
        }
        _ => protocols::set(frame, layout, field, value).ok_or(missing)?,
    }
    Ok(())
}

/// Offset of a transport checksum within its header, and whether it covers the IP addresses too. SCTP's is none to be updated.
fn checksum_of(network: &Network) -> Option<(usize, bool)> {
    match network.proto {
        1 if !network.v6 => Some((2, false)),
        ICMPV6 if network.v6 => Some((2, true)),
        proto => field_offset(proto).map(|offset| (offset, true)),
    }
}

/// Writes bytes that the transport checksum covers, and (`in_ip`) for IPv4 also the header checksum.
pub(super) fn write(frame: &mut [u8], network: &Network, at: usize, new: &[u8], in_ip: bool) {
    let range = at..at + new.len();
    let old = frame[range.clone()].to_vec();
    frame[range].copy_from_slice(new);
    if in_ip && !network.v6 {
        update_at(frame, network.offset + 10, &old, new);
    }
    let (Some(transport), Some((offset, addresses))) = (network.transport, checksum_of(network))
    else {
        return;
    };
    if in_ip && !addresses {
        return;
    }
    let at = transport + offset;
    let Some(field) = frame.get(at..at + 2) else {
        return;
    };
    // A UDP checksum of zero means that there is none (RFC 768).
    let none = network.proto == UDP && field == [0, 0];
    if !none {
        update_at(frame, at, &old, new);
        if network.proto == UDP && frame[at..at + 2] == [0, 0] {
            frame[at..at + 2].copy_from_slice(&[0xff, 0xff]);
        }
    }
}

/// TOS or traffic class.
fn tos(frame: &[u8], network: &Network) -> u8 {
    let at = network.offset;
    if network.v6 {
        // Version (4 bits), traffic class (8 bits: DSCP and ECN), flow label.
        frame[at] << 4 | frame[at + 1] >> 4
    } else {
        frame[at + 1]
    }
}

fn set_tos(frame: &mut [u8], network: &Network, tos: u8) {
    let at = network.offset;
    let old = [frame[at], frame[at + 1]];
    let new = if network.v6 {
        [old[0] & 0xf0 | tos >> 4, tos << 4 | old[1] & 0x0f]
    } else {
        [old[0], tos]
    };
    frame[at..at + 2].copy_from_slice(&new);
    if !network.v6 {
        update_at(frame, at + 10, &old, &new);
    }
}

pub(super) fn update_at(frame: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    let checksum = u16::from_be_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&update(checksum, old, new).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::checksum::tests::{ipv4, is_right, right_udp};
    use super::*;

    fn set(field: Field, value: u128) -> Action {
        Action::SetField { field, value }
    }

    #[test]
    fn checksums_stay_right() {
        let fd = 0xfd00_0000_0000_0000_0000_0000_0000_0099_u128;
        for (v6, action) in [
            (false, set(Field::Ipv4Src, 0xc0a8_0101)),
            (false, set(Field::Ipv4Dst, 0xffff_ffff)),
            (true, set(Field::Ipv6Src, fd)),
            (true, set(Field::Ipv6Dst, u128::MAX)),
            (false, set(Field::UdpSrc, 53)),
            (true, set(Field::UdpDst, 65535)),
            (false, set(Field::IpDscp, 46)),
            (true, set(Field::IpDscp, 46)),
            (true, set(Field::EthDst, 0xffff_ffff_ffff)),
        ] {
            let mut frame = right_udp(v6, b"payload");
            let before = frame.clone();
            edit(&mut frame, &action).unwrap();
            assert_ne!(frame, before, "{action:?}");
            assert!(is_right(&frame), "{action:?}");
        }
    }

    #[test]
    fn the_dscp_lands_in_the_right_bits() {
        let mut v4 = right_udp(false, b"");
        edit(&mut v4, &set(Field::IpDscp, 46)).unwrap();
        assert_eq!(v4[15], 46 << 2);
        let mut v6 = right_udp(true, b"");
        edit(&mut v6, &set(Field::IpDscp, 46)).unwrap();
        assert_eq!([v6[14], v6[15]], [0x6b, 0x80]);
    }

    #[test]
    fn a_pushed_tag_is_written_and_popped() {
        let mut frame = right_udp(false, b"x");
        let plain = frame.clone();
        edit(&mut frame, &Action::PushVlan(0x8100)).unwrap();
        edit(&mut frame, &set(Field::VlanVid, 0x1064)).unwrap();
        edit(&mut frame, &set(Field::VlanPcp, 5)).unwrap();
        assert_eq!(frame[12..16], [0x81, 0x00, 0xa0, 0x64]);
        // A second tag takes over the first one's TCI.
        edit(&mut frame, &Action::PushVlan(0x88a8)).unwrap();
        assert_eq!(frame[12..16], [0x88, 0xa8, 0xa0, 0x64]);
        // Fields beneath tags are still found.
        edit(&mut frame, &set(Field::Ipv4Dst, 1)).unwrap();
        edit(&mut frame, &Action::PopVlan).unwrap();
        edit(&mut frame, &Action::PopVlan).unwrap();
        assert_eq!(frame.len(), plain.len());
        assert!(is_right(&frame));
        assert_eq!(edit(&mut frame, &Action::PopVlan), Err(EditError::NoTag));
    }

    #[test]
    fn fields_of_absent_headers_are_refused_and_nothing_changes() {
        let mut frame = right_udp(false, b"x");
        let before = frame.clone();
        for field in [Field::Ipv6Src, Field::TcpSrc, Field::VlanVid] {
            let result = edit(&mut frame, &set(field, 1));
            assert_eq!(result, Err(EditError::NoSuchHeader { field }));
        }
        assert_eq!(frame, before);
        let mut short = vec![0; 13];
        assert_eq!(edit(&mut short, &Action::PopVlan), Err(EditError::TooShort));
    }

    #[test]
    fn no_prefix_panics() {
        let whole = right_udp(true, b"x");
        let four = ipv4(6, &[0; 4]);
        for frame in [whole, four] {
            for n in 0..frame.len() {
                for &field in Field::ALL {
                    let _ = edit(&mut frame[..n].to_vec(), &set(field, 1));
                }
            }
        }
    }
}
