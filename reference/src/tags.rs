//! Push, pop and TTL actions (OpenFlow 1.3.5, 5.12).

use lime_core::flow::{Action, Field};

use crate::parse::{cut, ip_at};
use crate::{Drop, Fault, Headers, cover};

/// Bytes of a label stack entry.
const ENTRY: usize = 4;
/// Bytes that a PBB tag puts in front of a frame: Ethernet header and I-TAG.
const PBB: usize = 18;

/// A header with a TTL, and where it is.
#[derive(Clone, Copy)]
enum Ttl {
    Mpls(usize),
    Ipv4(usize),
    Ipv6(usize),
}

impl Ttl {
    fn at(self) -> usize {
        match self {
            Ttl::Mpls(at) => at + 3,
            Ttl::Ipv4(at) => at + 8,
            Ttl::Ipv6(at) => at + 7,
        }
    }

    fn get(self, frame: &[u8]) -> u8 {
        frame[self.at()]
    }

    fn set(self, frame: &mut [u8], ttl: u8, fault: Option<Fault>) {
        let before = frame.to_vec();
        frame[self.at()] = ttl;
        // No other checksum covers it.
        if let (Ttl::Ipv4(at), true) = (self, fault != Some(Fault::TtlChecksumForgotten)) {
            cover::ipv4(frame, at, &before);
        }
    }

    /// "Packets with an invalid TTL (0 or 1) are dropped when it is decremented."
    fn decrement(self, frame: &mut [u8], fault: Option<Fault>) -> Result<(), Drop> {
        match self.get(frame) {
            0 | 1 => Err(Drop::InvalidTtl),
            ttl => {
                self.set(frame, ttl - 1, fault);
                Ok(())
            }
        }
    }

    fn ip(frame: &[u8], at: usize) -> Option<Ttl> {
        match ip_at(frame, at)? {
            4 => Some(Ttl::Ipv4(at)),
            _ => Some(Ttl::Ipv6(at)),
        }
    }
}

/// Runs one such action. Where it does not fit the frame, the packet goes no further.
pub(crate) fn change(
    frame: &mut Vec<u8>,
    headers: &Headers,
    action: &Action,
    fault: Option<Fault>,
) -> Result<(), Drop> {
    let network = headers.network;
    let mpls = match headers.has(Field::MplsLabel) {
        true => Ok(Ttl::Mpls(network)),
        false => Err(Drop::BadSetField),
    };
    let ip = match headers.ip {
        Some(4) => Ok(Ttl::Ipv4(network)),
        Some(_) => Ok(Ttl::Ipv6(network)),
        None => Err(Drop::BadSetField),
    };
    match *action {
        Action::PushVlan(tpid) => push_vlan(frame, headers, tpid),
        Action::PopVlan => {
            if headers.tags == 0 {
                return Err(Drop::BadSetField);
            }
            let inner = fault == Some(Fault::InnerTagPopped) && headers.tags > 1;
            let at = if inner { 16 } else { 12 };
            frame.drain(at..at + 4);
        }
        Action::SetNwTtl(ttl) => ip?.set(frame, ttl, fault),
        Action::DecNwTtl => ip?.decrement(frame, fault)?,
        Action::SetMplsTtl(ttl) => mpls?.set(frame, ttl, fault),
        Action::DecMplsTtl => mpls?.decrement(frame, fault)?,
        Action::CopyTtlOut => {
            let (outer, inner) = (mpls?, behind(frame, network).ok_or(Drop::BadSetField)?);
            let ttl = inner.get(frame);
            outer.set(frame, ttl, fault);
        }
        Action::CopyTtlIn => {
            let (outer, inner) = (mpls?, behind(frame, network).ok_or(Drop::BadSetField)?);
            let ttl = outer.get(frame);
            inner.set(frame, ttl, fault);
        }
        Action::PushMpls(eth_type) => push_mpls(frame, headers, eth_type),
        Action::PopMpls(eth_type) => {
            mpls?;
            // What the EtherType is now said to be is what is behind the entry.
            frame.drain(network..network + ENTRY);
            frame[network - 2..network].copy_from_slice(&eth_type.to_be_bytes());
        }
        Action::PushPbb(eth_type) => push_pbb(frame, headers, eth_type),
        Action::PopPbb => {
            // A backbone VLAN in front of it (IEEE 802.1Q, 9.5: B-TAG) is popped first.
            if !headers.has(Field::PbbIsid) || headers.tags > 0 {
                return Err(Drop::BadSetField);
            }
            frame.drain(..PBB);
        }
        Action::Output { .. }
        | Action::SetField { .. }
        | Action::Group(_)
        | Action::SetQueue(_) => {}
    }
    Ok(())
}

/// The next header with a TTL behind the label stack entry at `entry`. Behind the last one, only the first bits say what it is.
fn behind(frame: &[u8], entry: usize) -> Option<Ttl> {
    let at = entry + ENTRY;
    if frame[entry + 2] & 1 == 0 {
        return cut(frame, at, ENTRY).map(|_| Ttl::Mpls(at));
    }
    Ttl::ip(frame, at)
}

/// The new tag has the fields of the present outer one (5.12.1).
fn push_vlan(frame: &mut Vec<u8>, headers: &Headers, tpid: u16) {
    let tci = match headers.tags {
        0 => [0, 0],
        _ => [frame[14], frame[15]],
    };
    let [t0, t1] = tpid.to_be_bytes();
    frame.splice(12..12, [t0, t1, tci[0], tci[1]]);
}

/// "Newly pushed tags should always be inserted as the outermost": right behind the Ethernet header, in front of VLAN tags. Label, traffic class
/// and TTL are those of the present outer entry, if there is one, or the TTL is that of IP (5.12.1).
fn push_mpls(frame: &mut Vec<u8>, headers: &Headers, eth_type: u16) {
    let at = headers.network;
    let (mut entry, ttl) = if headers.has(Field::MplsLabel) {
        (
            [frame[at], frame[at + 1], frame[at + 2] & 0xfe],
            frame[at + 3],
        )
    } else {
        let ttl = Ttl::ip(frame, at).filter(|_| headers.ip.is_some());
        ([0; 3], ttl.map_or(0, |ttl| ttl.get(frame)))
    };
    // The bottom of the stack, unless the next header is an entry (and not a VLAN tag).
    if !headers.has(Field::MplsLabel) || headers.tags > 0 {
        entry[2] |= 1;
    }
    frame[12..14].copy_from_slice(&eth_type.to_be_bytes());
    frame.splice(14..14, [entry[0], entry[1], entry[2], ttl]);
}

/// In front of the whole frame, which becomes the tag's content: its addresses once more, and an I-TAG with the service of the present one and the
/// priority of the VLAN (5.12.1).
fn push_pbb(frame: &mut Vec<u8>, headers: &Headers, eth_type: u16) {
    let mut header = frame[..12].to_vec();
    header.extend_from_slice(&eth_type.to_be_bytes());
    let service = (headers.get(Field::PbbIsid) as u32).to_be_bytes();
    header.push((headers.get(Field::VlanPcp) as u8) << 5);
    header.extend_from_slice(&service[1..]);
    frame.splice(0..0, header);
}
