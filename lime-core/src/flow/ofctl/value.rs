//! Values of fields: numbers, MAC and IP addresses, with masks; read and written.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::names::{Form, form};
use crate::PortNo;
use crate::flow::{Field, FieldMatch};

/// A number, decimal or hexadecimal with 0x.
pub(super) fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // from_str_radix would take a sign.
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u128::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// A number up to `max`.
pub(super) fn bounded<T: TryFrom<u128>>(text: &str, max: u128) -> Option<T> {
    number(text)
        .filter(|&n| n <= max)
        .and_then(|n| T::try_from(n).ok())
}

fn mac(text: &str) -> Option<u128> {
    let mut value = 0;
    let mut pairs = 0;
    for pair in text.split(':') {
        if !(1..=2).contains(&pair.len()) || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        value = value << 8 | u128::from_str_radix(pair, 16).ok()?;
        pairs += 1;
    }
    (pairs == 6).then_some(value)
}

fn ipv4(text: &str) -> Option<u128> {
    text.parse::<Ipv4Addr>().ok().map(|a| u32::from(a).into())
}

fn ipv6(text: &str) -> Option<u128> {
    text.parse::<Ipv6Addr>().ok().map(Into::into)
}

/// What a value of this field looks like, with an article.
pub(super) fn expected(field: Field) -> String {
    match form(field) {
        Form::Mac => "a MAC address such as 02:00:00:00:00:01".to_owned(),
        Form::Ipv4 => "an IPv4 address such as 10.0.0.1".to_owned(),
        Form::Ipv6 => "an IPv6 address such as fd00::1".to_owned(),
        Form::Number => format!("a number from 0 to {}", field.full_mask()),
        Form::Port => "a port number, or LOCAL".to_owned(),
    }
}

/// What a value of this field under a mask looks like, with an article.
pub(super) fn expected_masked(field: Field) -> String {
    let mask = match form(field) {
        _ if !field.maskable() => return expected(field),
        Form::Mac => "ff:ff:ff:00:00:00",
        Form::Ipv4 => "24",
        Form::Ipv6 => "64",
        Form::Number | Form::Port => "0xff00",
    };
    format!(
        "{}, perhaps with a mask behind it (/{mask})",
        expected(field)
    )
}

/// A value without a mask.
pub(super) fn exact(field: Field, text: &str) -> Option<u128> {
    let value = match form(field) {
        Form::Number => number(text),
        Form::Port if text.eq_ignore_ascii_case("local") => Some(PortNo::LOCAL.0.into()),
        Form::Port => number(text),
        Form::Mac => mac(text),
        Form::Ipv4 => ipv4(text),
        Form::Ipv6 => ipv6(text),
    }?;
    (value & !field.full_mask() == 0).then_some(value)
}

/// A value, perhaps with a mask; bits outside of the mask are cleared, as ovs-ofctl does.
pub(super) fn masked(field: Field, text: &str) -> Option<FieldMatch> {
    let (value, mask) = match text.split_once('/') {
        None => (exact(field, text)?, field.full_mask()),
        Some((value, mask)) => (exact(field, value)?, self::mask(field, mask)?),
    };
    let value = value & mask;
    Some(FieldMatch { field, value, mask })
}

fn mask(field: Field, text: &str) -> Option<u128> {
    match form(field) {
        Form::Ipv4 | Form::Ipv6 => match bounded::<u32>(text, field.bits().into()) {
            Some(length) => Some(prefix(field, length)),
            None => exact(field, text),
        },
        _ => exact(field, text),
    }
}

fn prefix(field: Field, length: u32) -> u128 {
    let host_bits = field.bits().saturating_sub(length);
    let low = 1u128
        .checked_shl(host_bits)
        .map_or(u128::MAX, |bit| bit - 1);
    field.full_mask() & !low
}

/// Writes a value as [`exact`] reads it.
pub(super) fn write_exact(out: &mut String, field: Field, value: u128) {
    // A value never has bits above its field; cutting what could not be there is all these casts do.
    let done = match form(field) {
        Form::Mac => {
            let b = value.to_be_bytes();
            write!(
                out,
                "{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
                b[10], b[11], b[12], b[13], b[14], b[15]
            )
        }
        Form::Ipv4 => write!(out, "{}", Ipv4Addr::from(value as u32)),
        Form::Ipv6 => write!(out, "{}", Ipv6Addr::from(value)),
        Form::Number
            if matches!(
                field,
                Field::Metadata | Field::TunnelId | Field::Ipv6Flabel | Field::Ipv6Exthdr
            ) =>
        {
            write!(out, "{value:#x}")
        }
        Form::Number if matches!(field, Field::EthType | Field::VlanVid) => {
            write!(out, "{value:#06x}")
        }
        Form::Number => write!(out, "{value}"),
        Form::Port => write!(out, "{}", PortNo(value as u32)),
    };
    debug_assert!(done.is_ok(), "a String takes everything");
}

/// Writes a value and its mask as [`masked`] reads them.
pub(super) fn write_masked(out: &mut String, m: &FieldMatch) {
    let field = m.field;
    if m.mask == field.full_mask() {
        return write_exact(out, field, m.value);
    }
    match form(field) {
        Form::Number | Form::Port => {
            let done = write!(out, "{:#x}/{:#x}", m.value, m.mask);
            debug_assert!(done.is_ok(), "a String takes everything");
        }
        Form::Mac => {
            write_exact(out, field, m.value);
            out.push('/');
            write_exact(out, field, m.mask);
        }
        Form::Ipv4 | Form::Ipv6 => {
            write_exact(out, field, m.value);
            out.push('/');
            let length = m.mask.count_ones();
            if prefix(field, length) == m.mask {
                out.push_str(&length.to_string());
            } else {
                write_exact(out, field, m.mask);
            }
        }
    }
}
