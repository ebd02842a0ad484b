//! Actions that change a frame: set-field here, the others in `tags` (OpenFlow 1.3.5, 5.12).

use lime_core::flow::{Action, Field};

use crate::cover::with_checksums;
use crate::{Drop, Fault, Headers, parse, tags};

/// Runs one such action. Where it does not fit the frame, the packet goes no further.
pub(crate) fn rewrite(
    frame: &mut Vec<u8>,
    action: &Action,
    fault: Option<Fault>,
) -> Result<(), Drop> {
    let headers = parse(frame, fault).ok_or(Drop::BadSetField)?;
    match *action {
        Action::SetField { field, value } => {
            set_field(frame, &headers, field, value, fault).ok_or(Drop::BadSetField)
        }
        Action::PushVlan(_)
        | Action::PopVlan
        | Action::SetNwTtl(_)
        | Action::DecNwTtl
        | Action::CopyTtlOut
        | Action::CopyTtlIn
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::SetMplsTtl(_)
        | Action::DecMplsTtl
        | Action::PushPbb(_)
        | Action::PopPbb => tags::change(frame, &headers, action, fault),
        // These change no bytes.
        Action::Output { .. } | Action::Group(_) | Action::SetQueue(_) => Ok(()),
    }
}

/// None: the frame has no such field.
fn set_field(
    frame: &mut [u8],
    headers: &Headers,
    field: Field,
    value: u128,
    fault: Option<Fault>,
) -> Option<()> {
    let bytes = value.to_be_bytes();
    let network = headers.network;
    let transport = match protocol(field) {
        None => 0,
        Some((version, protocol)) if !version.iter().any(|&v| headers.is(v, protocol)) => {
            return None;
        }
        // Its checksum is about the whole packet, and how long that is nobody knows.
        Some((_, 132)) if headers.fragment => return None,
        // It is in the first fragment, and changed there.
        Some(_) if headers.later_fragment => return Some(()),
        Some(_) => headers.transport?.start,
    };
    // The last `width` bytes of the value at `at`, with checksums.
    let mut put = |at: usize, width: usize| {
        with_checksums(frame, headers, fault, |frame| {
            frame[at..at + width].copy_from_slice(&bytes[16 - width..]);
        });
        Some(())
    };
    match field {
        Field::EthDst => put(0, 6),
        Field::EthSrc => put(6, 6),
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
            Some(())
        }
        Field::IpDscp | Field::IpEcn => {
            let (dscp, ecn) = (headers.get(Field::IpDscp), headers.get(Field::IpEcn));
            let class = match (field, fault) {
                (Field::IpEcn, _) => dscp << 2 | value,
                (_, Some(Fault::DscpClearsEcn)) => value << 2,
                _ => value << 2 | ecn,
            } as u8;
            let v4 = headers.ip? == 4;
            with_checksums(frame, headers, fault, |frame| {
                if v4 {
                    frame[network + 1] = class;
                } else {
                    frame[network] = frame[network] & 0xf0 | class >> 4;
                    frame[network + 1] = frame[network + 1] & 0x0f | class << 4;
                }
            });
            Some(())
        }
        Field::Ipv4Src | Field::Ipv4Dst if headers.ip? == 4 => {
            put(network + if field == Field::Ipv4Src { 12 } else { 16 }, 4)
        }
        Field::Ipv6Src | Field::Ipv6Dst if headers.ip? == 6 => {
            put(network + if field == Field::Ipv6Src { 8 } else { 24 }, 16)
        }
        Field::Ipv4Src | Field::Ipv4Dst | Field::Ipv6Src | Field::Ipv6Dst => None,
        Field::Ipv6Flabel => {
            if headers.ip? != 6 {
                return None;
            }
            frame[network + 1] = frame[network + 1] & 0xf0 | bytes[13];
            frame[network + 2..network + 4].copy_from_slice(&bytes[14..]);
            Some(())
        }
        Field::ArpOp | Field::ArpSha | Field::ArpSpa | Field::ArpTha | Field::ArpTpa => {
            if !headers.has(Field::ArpOp) {
                return None;
            }
            match field {
                Field::ArpOp => put(network + 6, 2),
                Field::ArpSha => put(network + 8, 6),
                Field::ArpSpa => put(network + 14, 4),
                Field::ArpTha => put(network + 18, 6),
                _ => put(network + 24, 4),
            }
        }
        Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => put(transport, 2),
        Field::TcpDst | Field::UdpDst | Field::SctpDst => put(transport + 2, 2),
        Field::Icmpv4Type | Field::Icmpv6Type => put(transport, 1),
        Field::Icmpv4Code | Field::Icmpv6Code => put(transport + 1, 1),
        Field::Ipv6NdTarget if headers.has(field) => put(transport + 8, 16),
        Field::Ipv6NdSll | Field::Ipv6NdTll if headers.has(field) => {
            put(headers.link_layer_address?, 6)
        }
        Field::Ipv6NdTarget | Field::Ipv6NdSll | Field::Ipv6NdTll => None,
        Field::MplsLabel | Field::MplsTc => {
            if !headers.has(Field::MplsLabel) {
                return None;
            }
            let entry = &mut frame[network..network + 4];
            if field == Field::MplsLabel {
                entry[..2].copy_from_slice(&((value >> 4) as u16).to_be_bytes());
                entry[2] = entry[2] & 0x0f | bytes[15] << 4;
            } else {
                entry[2] = entry[2] & 0xf1 | bytes[15] << 1;
            }
            Some(())
        }
        Field::PbbIsid => {
            if !headers.has(Field::PbbIsid) {
                return None;
            }
            put(network + 1, 3)
        }
        // Not in the frame; see `run`.
        Field::TunnelId => Some(()),
        // Nobody sets these.
        Field::InPort
        | Field::InPhyPort
        | Field::Metadata
        | Field::EthType
        | Field::IpProto
        | Field::MplsBos
        | Field::Ipv6Exthdr => None,
    }
}

/// The versions of IP, and the protocol, that have a field.
fn protocol(field: Field) -> Option<(&'static [u8], u8)> {
    match field {
        Field::TcpSrc | Field::TcpDst => Some((&[4, 6], 6)),
        Field::UdpSrc | Field::UdpDst => Some((&[4, 6], 17)),
        Field::SctpSrc | Field::SctpDst => Some((&[4, 6], 132)),
        Field::Icmpv4Type | Field::Icmpv4Code => Some((&[4], 1)),
        Field::Icmpv6Type
        | Field::Icmpv6Code
        | Field::Ipv6NdTarget
        | Field::Ipv6NdSll
        | Field::Ipv6NdTll => Some((&[6], 58)),
        _ => None,
    }
}
