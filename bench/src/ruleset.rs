//! Rule sets of any size over any number of masks, and frames that hit a chosen rule of them.
//!
//! Rule `j` is in tuple `j mod masks`. It matches UDP from a source address of its own, to an address prefix whose length is that of
//! its tuple: 32 bits for the first, one less for each further one. All frames go to the same destination, which every tuple covers, so
//! that a frame is looked up in each tuple and found only in that of its source. Priorities fall from tuple to tuple: the search begins
//! with the first and may end as soon as it has found something.

use std::net::Ipv4Addr;

use lime_core::flow::{Action, Field, FieldMatch, Match, Rule};
use lime_core::{PortNo, RuleId};

use crate::programs::Flows;

/// Most masks that a set can have.
pub const MAX_MASKS: usize = 32;
/// Port that all rules output to.
pub const OUTPUT: PortNo = PortNo(2);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 254);
const FIRST_SOURCE: u32 = 0x0a00_0001;

/// `count` rules over `masks` masks (at most [`MAX_MASKS`]) for one table.
pub fn rules(count: usize, masks: usize) -> Vec<Rule> {
    assert!((1..=MAX_MASKS).contains(&masks), "1 to {MAX_MASKS} masks");
    (0..count).map(|j| rule(j, masks)).collect()
}

/// The same with ids, which count from `first_id`.
pub fn numbered(count: usize, masks: usize, first_id: u64) -> Vec<(RuleId, Rule)> {
    (first_id..).map(RuleId).zip(rules(count, masks)).collect()
}

/// As [`numbered`], over two tables: a rule of table 0 goes on in table 1, where another of the same match outputs. Their ids are those of
/// [`numbered`], and these plus `count`.
pub fn in_two_tables(count: usize, masks: usize) -> Vec<(RuleId, Rule)> {
    let first = numbered(count, masks, 1).into_iter().map(|(id, rule)| {
        let rule = Rule {
            actions: Vec::new(),
            goto_table: Some(1),
            ..rule
        };
        (id, rule)
    });
    let second = numbered(count, masks, count as u64 + 1);
    let second = second
        .into_iter()
        .map(|(id, rule)| (id, Rule { table: 1, ..rule }));
    first.chain(second).collect()
}

/// The flows that hit the rules `from`, `from + masks` ... (`rules` of them: all of one mask), each with `macs` MAC source addresses.
pub fn flows(from: usize, masks: usize, rules: usize, macs: u32) -> Flows {
    Flows {
        first: source(from).to_bits(),
        step: masks as u32,
        addresses: rules as u32,
        macs,
    }
}

fn rule(index: usize, masks: usize) -> Rule {
    let tuple = index % masks;
    let prefix = u32::MAX << tuple;
    let matching = Match::new([
        exact(Field::EthType, 0x0800),
        exact(Field::IpProto, 17),
        exact(Field::Ipv4Src, source(index).to_bits().into()),
        FieldMatch {
            field: Field::Ipv4Dst,
            value: (DESTINATION.to_bits() & prefix).into(),
            mask: prefix.into(),
        },
    ])
    .expect("a match made of checked constants");
    Rule {
        table: 0,
        priority: 1000 - tuple as u16,
        cookie: index as u64,
        matching,
        actions: vec![Action::output(OUTPUT)],
        goto_table: None,
        idle_timeout: 0,
        hard_timeout: 0,
        ..Rule::default()
    }
}

fn exact(field: Field, value: u128) -> FieldMatch {
    FieldMatch {
        field,
        value,
        mask: field.full_mask(),
    }
}

/// Where the packets of rule `index` come from.
fn source(index: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_SOURCE + index as u32)
}

/// A UDP frame of 64 bytes that hits rule `index`.
pub fn frame(index: usize) -> [u8; 64] {
    let mut frame = [0; 64];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let ip = &mut frame[14..34];
    ip[..12].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    ip[12..16].copy_from_slice(&source(index).octets());
    ip[16..20].copy_from_slice(&DESTINATION.octets());
    let checksum = header_checksum(ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // UDP ports 1000 and 2000, 22 bytes of data, no checksum (RFC 768: zero means none).
    frame[34..42].copy_from_slice(&[0x03, 0xe8, 0x07, 0xd0, 0, 30, 0, 0]);
    frame
}

/// RFC 791, 3.1.
fn header_checksum(header: &[u8]) -> u16 {
    let words = header
        .chunks_exact(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn masks_of(rule: &Rule) -> Vec<(Field, u128)> {
        rule.matching
            .fields()
            .iter()
            .map(|f| (f.field, f.mask))
            .collect()
    }

    #[test]
    fn a_set_has_as_many_masks_as_asked_for_and_no_two_rules_alike() {
        for masks in [1, 8, MAX_MASKS] {
            let rules = rules(100, masks);
            let distinct: HashSet<_> = rules.iter().map(masks_of).collect();
            assert_eq!(distinct.len(), masks);
            let matches: HashSet<_> = rules.iter().map(|r| &r.matching).collect();
            assert_eq!(matches.len(), 100);
            assert!(rules.iter().all(|r| r.check().is_ok()));
        }
    }

    #[test]
    fn a_frame_matches_its_own_rule_only() {
        let rules = rules(64, MAX_MASKS);
        for wanted in [0, 31, 63] {
            let frame = frame(wanted);
            let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
            let hits = |rule: &&Rule| {
                rule.matching.fields().iter().all(|f| match f.field {
                    Field::Ipv4Src => u128::from(word(26)) & f.mask == f.value,
                    Field::Ipv4Dst => u128::from(word(30)) & f.mask == f.value,
                    _ => true,
                })
            };
            let hit: Vec<_> = rules.iter().filter(hits).map(|r| r.cookie).collect();
            assert_eq!(hit, [wanted as u64]);
            assert_eq!(header_checksum(&frame[14..34]), 0, "the checksum is right");
        }
    }
}
