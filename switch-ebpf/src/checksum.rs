//! Internet checksum differences (RFC 1624), in memory byte order: of bytes taken as native 16-bit words.

/// What replacing `old` by `new` adds to a sum of 16-bit words.
#[inline(always)]
pub fn diff32(old: u32, new: u32) -> u32 {
    add(!old, new)
}

/// Sum with the carry added back.
#[inline(always)]
pub fn add(a: u32, b: u32) -> u32 {
    let sum = a as u64 + b as u64;
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

/// Folded to 16 bits.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A checksum field after the bytes it covers changed by `diff`.
#[inline(always)]
pub fn apply(field: u16, diff: u32) -> u16 {
    !fold(add(diff, !field as u32 & 0xffff))
}
