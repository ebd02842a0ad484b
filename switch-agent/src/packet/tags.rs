//! MPLS entries, PBB tags and TTLs (OpenFlow 1.3.5, 5.12; RFC 3032; IEEE 802.1Q, clause 9.7).

use lime_core::flow::Action;

use super::edit::{EditError, update_at};
use super::layout::{IPV4, IPV6, Layout, MPLS, PBB};

/// Length of an MPLS entry.
const ENTRY: usize = 4;
/// Length of what a PBB tag puts in front of a frame: Ethernet header and I-TAG.
const PBB_HEADER: usize = 18;

/// Applies a push, pop or TTL action other than those of VLANs.
pub(super) fn edit(frame: &mut Vec<u8>, layout: &Layout, action: &Action) -> Result<(), EditError> {
    let missing = || EditError::NoHeader {
        action: action.clone(),
    };
    let mpls = layout.mpls(frame).ok_or_else(missing);
    match *action {
        Action::PushMpls(eth_type) => {
            push_mpls(frame, layout, eth_type);
        }
        Action::PopMpls(eth_type) => {
            let at = mpls?;
            frame[at - 2..at].copy_from_slice(&eth_type.to_be_bytes());
            frame.drain(at..at + ENTRY);
        }
        Action::SetMplsTtl(ttl) => frame[mpls? + 3] = ttl,
        Action::DecMplsTtl => {
            let at = mpls? + 3;
            frame[at] = less_one(frame[at])?;
        }
        Action::SetNwTtl(ttl) => {
            let at = layout.ip().ok_or_else(missing)?;
            set_ip_ttl(frame, at, ttl);
        }
        Action::DecNwTtl => {
            let at = layout.ip().ok_or_else(missing)?;
            let ttl = less_one(ip_ttl(frame, at))?;
            set_ip_ttl(frame, at, ttl);
        }
        Action::CopyTtlOut => {
            let outer = mpls?;
            frame[outer + 3] = match behind(frame, outer).ok_or_else(missing)? {
                Next::Mpls(at) => frame[at + 3],
                Next::Ip(at) => ip_ttl(frame, at),
            };
        }
        Action::CopyTtlIn => {
            let outer = mpls?;
            let ttl = frame[outer + 3];
            match behind(frame, outer).ok_or_else(missing)? {
                Next::Mpls(at) => frame[at + 3] = ttl,
                Next::Ip(at) => set_ip_ttl(frame, at, ttl),
            }
        }
        Action::PushPbb(eth_type) => push_pbb(frame, layout, eth_type),
        Action::PopPbb => {
            // A backbone VLAN in front of it is popped first.
            let whole = layout.payload == Some((PBB, 14)) && frame.len() >= PBB_HEADER + 14;
            if !whole {
                return Err(missing());
            }
            frame.drain(..PBB_HEADER);
        }
        _ => {
            return Err(EditError::NotAnEdit {
                action: action.clone(),
            });
        }
    }
    Ok(())
}

fn less_one(ttl: u8) -> Result<u8, EditError> {
    match ttl {
        0 | 1 => Err(EditError::TtlExpired),
        ttl => Ok(ttl - 1),
    }
}

/// The new entry goes in front of all other tags. Its fields are those of the entry it is in front of; else its TTL is that of IP.
fn push_mpls(frame: &mut Vec<u8>, layout: &Layout, eth_type: u16) {
    let entry = match layout.mpls(frame) {
        Some(at) => {
            // The bottom of the stack, unless the next header is an entry, and not a VLAN tag.
            let bottom = u8::from(at != 14);
            [
                frame[at],
                frame[at + 1],
                frame[at + 2] & !1 | bottom,
                frame[at + 3],
            ]
        }
        None => {
            let ttl = layout.ip().map_or(0, |at| ip_ttl(frame, at));
            [0, 0, 1, ttl]
        }
    };
    frame[12..14].copy_from_slice(&eth_type.to_be_bytes());
    frame.splice(14..14, entry);
}

/// The frame with its own addresses, and an I-TAG, in front. The tag's priority is that of the VLAN, its service that of a PBB tag.
fn push_pbb(frame: &mut Vec<u8>, layout: &Layout, eth_type: u16) {
    let pcp = layout.vlan.map_or(0, |at| frame[at + 2] & 0xe0);
    let service = match layout.payload {
        Some((PBB, at)) => frame.get(at + 1..at + 4).map(<[u8]>::to_vec),
        _ => None,
    };
    let mut header = frame[..12].to_vec();
    header.extend(eth_type.to_be_bytes());
    header.push(pcp);
    header.extend(service.unwrap_or_else(|| vec![0; 3]));
    frame.splice(0..0, header);
}

enum Next {
    Mpls(usize),
    Ip(usize),
}

/// What is behind an MPLS entry, as far as it has a TTL.
fn behind(frame: &[u8], entry: usize) -> Option<Next> {
    let at = entry + ENTRY;
    if frame[entry + 2] & 1 == 0 {
        return (frame.len() >= at + ENTRY).then_some(Next::Mpls(at));
    }
    // Nothing says what it is but its first four bits.
    let eth_type = match frame.get(at)? >> 4 {
        4 => IPV4,
        6 => IPV6,
        _ => return None,
    };
    Layout::ip_at(frame, eth_type, at).map(|n| Next::Ip(n.offset))
}

/// `at` is of an IP header that is whole.
fn ip_ttl(frame: &[u8], at: usize) -> u8 {
    frame[if frame[at] >> 4 == 6 { at + 7 } else { at + 8 }]
}

fn set_ip_ttl(frame: &mut [u8], at: usize, ttl: u8) {
    if frame[at] >> 4 == 6 {
        frame[at + 7] = ttl;
        return;
    }
    let old = [frame[at + 8], frame[at + 9]];
    frame[at + 8] = ttl;
    update_at(frame, at + 10, &old, &[ttl, old[1]]);
}

impl Layout {
    /// Offset of the outer MPLS entry, which is whole.
    pub(super) fn mpls(&self, frame: &[u8]) -> Option<usize> {
        let (eth_type, at) = self.payload?;
        (MPLS.contains(&eth_type) && frame.len() >= at + ENTRY).then_some(at)
    }

    fn ip(&self) -> Option<usize> {
        self.network.map(|n| n.offset)
    }
}

#[cfg(test)]
mod tests {
    use lime_core::flow::Field;

    use super::super::checksum::tests::{is_right, right_udp};
    use super::super::edit;
    use super::*;

    fn all(frame: &mut Vec<u8>, actions: &[Action]) {
        for action in actions {
            edit(frame, action).unwrap();
        }
    }

    fn set(field: Field, value: u128) -> Action {
        Action::SetField { field, value }
    }

    #[test]
    fn labels_are_pushed_written_and_popped() {
        for v6 in [false, true] {
            let mut frame = right_udp(v6, b"x");
            let plain = frame.clone();
            all(
                &mut frame,
                &[
                    Action::PushMpls(0x8847),
                    set(Field::MplsLabel, 0xabcde),
                    set(Field::MplsTc, 5),
                ],
            );
            assert_eq!(frame[12..18], [0x88, 0x47, 0xab, 0xcd, 0xeb, 64]);
            all(&mut frame, &[Action::PushMpls(0x8848), Action::DecMplsTtl]);
            assert_eq!(frame[12..18], [0x88, 0x48, 0xab, 0xcd, 0xea, 63]);
            all(
                &mut frame,
                &[
                    Action::CopyTtlIn,
                    Action::PopMpls(0x8847),
                    Action::SetMplsTtl(9),
                    Action::CopyTtlIn,
                    Action::SetMplsTtl(77),
                    Action::CopyTtlOut,
                ],
            );
            assert_eq!(frame[17], 9);
            all(
                &mut frame,
                &[Action::PopMpls(if v6 { 0x86dd } else { 0x0800 })],
            );
            assert_eq!(frame.len(), plain.len());
            assert!(is_right(&frame));
            all(&mut frame, &[Action::SetNwTtl(64)]);
            assert_eq!(frame, plain);
        }
    }

    #[test]
    fn a_label_goes_in_front_of_vlan_tags() {
        let mut frame = right_udp(false, b"x");
        all(
            &mut frame,
            &[Action::PushVlan(0x8100), set(Field::VlanVid, 0x1005)],
        );
        let tagged = frame.clone();
        all(&mut frame, &[Action::PushMpls(0x8847)]);
        assert_eq!(frame[12..20], [0x88, 0x47, 0, 0, 1, 64, 0, 5]);
        all(&mut frame, &[Action::PopMpls(0x8100)]);
        assert_eq!(frame, tagged);
    }

    #[test]
    fn pbb_tags_are_pushed_written_and_popped() {
        let mut frame = right_udp(false, b"x");
        all(
            &mut frame,
            &[Action::PushVlan(0x8100), set(Field::VlanPcp, 6)],
        );
        let plain = frame.clone();
        all(
            &mut frame,
            &[
                Action::PushPbb(0x88e7),
                set(Field::PbbIsid, 0x01_0203),
                set(Field::EthDst, 1),
            ],
        );
        assert_eq!(frame[..6], [0, 0, 0, 0, 0, 1]);
        assert_eq!(frame[12..18], [0x88, 0xe7, 0xc0, 1, 2, 3]);
        assert_eq!(frame[18..], plain[..]);
        all(&mut frame, &[Action::PopPbb]);
        assert_eq!(frame, plain);
    }

    #[test]
    fn ttls_run_out() {
        for v6 in [false, true] {
            let mut frame = right_udp(v6, b"x");
            all(&mut frame, &[Action::SetNwTtl(2), Action::DecNwTtl]);
            assert!(is_right(&frame));
            let before = frame.clone();
            assert_eq!(
                edit(&mut frame, &Action::DecNwTtl),
                Err(EditError::TtlExpired)
            );
            assert_eq!(frame, before);
        }
    }

    #[test]
    fn no_prefix_panics() {
        let actions = [
            Action::PushMpls(0x8847),
            Action::PopMpls(0x0800),
            Action::SetMplsTtl(1),
            Action::DecMplsTtl,
            Action::SetNwTtl(1),
            Action::DecNwTtl,
            Action::CopyTtlIn,
            Action::CopyTtlOut,
            Action::PushPbb(0x88e7),
            Action::PopPbb,
        ];
        for prepare in [
            None,
            Some(Action::PushMpls(0x8847)),
            Some(Action::PushPbb(0x88e7)),
        ] {
            for v6 in [false, true] {
                let mut whole = right_udp(v6, b"x");
                all(&mut whole, prepare.as_slice());
                for n in 0..=whole.len() {
                    for action in &actions {
                        let _ = edit(&mut whole[..n].to_vec(), action);
                    }
                }
            }
        }
    }
}
