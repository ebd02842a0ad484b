//! Meters (OpenFlow 1.3.5, 5.7) as the kernel programs run them.
//!
//! A meter is some entries in [`METER_TABLE`], rules in all but what they match: the meter's number and the part's ([`crate::part_word`]).
//! So they have versions, counters and staging as rules do. The *head* counts the meter's packets and holds, in place of actions, its bands:
//! for each one [`crate::op::BAND`] and behind it one [`crate::op::BURST`], in order of falling rates. Each *band* has an entry that counts.
//!
//! A band is a virtual-scheduling GCRA (ITU-T I.371, annex A): one word per band, in [`crate::RuleEntry::times`] of the head, is the time at
//! which what has come would be through at the band's rate. A packet that finds this time further ahead than the burst takes exceeds the
//! rate, and is not charged; else its own time is added. With several bands that is the marker of RFC 2698: the packet is tried against the
//! highest rate first, the first rate that it exceeds is applied, and those below are not charged.

/// The table of meters, behind that of groups.
pub const METER_TABLE: u8 = 33;

/// The part that says what the meter does.
pub const METER_HEAD: u16 = 0;
/// The first band's count.
pub const METER_BAND: u16 = 1;
/// Most bands of a meter.
pub const MAX_METER_BANDS: usize = 6;

/// [`crate::RuleEntry::metadata`] of a head: rates are in packets, else in bytes.
pub const METER_PACKETS: u64 = 1;
/// [`crate::RuleEntry::metadata`] of a head: there are bands that change the packet.
pub const METER_REMARKS: u64 = 2;

/// Units of a meter's time in a nanosecond, as a power of two. So the word wraps in 834 days.
pub const METER_TIME_SHIFT: u32 = 8;

/// Further ahead than any time can be that is meant so: 3 days. An hour's burst and the longest packet at the lowest rate are 2^51.
const STALE: u64 = 1 << 56;

/// How long something takes at a band's rate: `amount` bytes or packets, `factor` and `shift` as [`crate::op::BAND`] has them.
#[inline(always)]
pub const fn band_cost(amount: u32, factor: u64, shift: u8) -> u64 {
    (amount as u64).wrapping_mul(factor) >> (shift & 63)
}

/// What a band's word becomes when something comes that takes so long; none: the rate is exceeded.
#[inline(always)]
pub const fn band_charge(time: u64, now: u64, cost: u64, tolerance: u64) -> Option<u64> {
    let mut ahead = time.wrapping_sub(now);
    // In the past, or from before the time wrapped.
    if ahead > STALE {
        ahead = 0;
    }
    if ahead > tolerance {
        None
    } else {
        Some(now.wrapping_add(ahead + cost))
    }
}

/// A DSCP with its drop precedence so many levels higher. Those of assured forwarding (RFC 2597) have one: `0 < class < 5` in the upper three
/// bits, 1 to 3 in the next two. Others stay as they are.
#[inline(always)]
pub const fn remarked(dscp: u8, levels: u8) -> u8 {
    let (class, precedence) = (dscp >> 3, dscp >> 1 & 3);
    if dscp & 1 != 0 || precedence == 0 || class == 0 || class > 4 {
        return dscp;
    }
    let room = 3 - precedence;
    let up = if levels < room { levels } else { room };
    dscp + (up << 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000 << METER_TIME_SHIFT;

    #[test]
    fn what_comes_too_early_exceeds_and_is_not_charged() {
        // Ten a second, three at once.
        let (cost, tolerance) = (SECOND / 10, 2 * SECOND / 10);
        let start = 77 * SECOND;
        let (mut time, mut passed) = (0, 0);
        for i in 0..1000 {
            // Twenty a second.
            let now = start + i * SECOND / 20;
            if let Some(next) = band_charge(time, now, cost, tolerance) {
                time = next;
                passed += 1;
            }
        }
        // 50 seconds, and the burst.
        assert_eq!(passed, 500 + 2);
        // All at once after a rest.
        let rested = start + 100 * SECOND;
        let mut at_once = 0;
        while let Some(next) = band_charge(time, rested, cost, tolerance) {
            time = next;
            at_once += 1;
        }
        assert_eq!(at_once, 3);
    }

    #[test]
    fn the_time_wraps() {
        let (cost, tolerance) = (SECOND, 3 * SECOND);
        let now = u64::MAX - SECOND / 2;
        let time = band_charge(now - SECOND, now, cost, tolerance).unwrap();
        assert!(time < SECOND);
        let time = band_charge(time, now, cost, tolerance).unwrap();
        let later = now.wrapping_add(SECOND);
        assert_eq!(band_charge(time, later, cost, 0), None);
        assert!(band_charge(time, later.wrapping_add(2 * SECOND), cost, 0).is_some());
        // A year and a half later it looks as if it were ahead.
        let much_later = time.wrapping_add(u64::MAX / 3 * 2);
        assert_eq!(
            band_charge(time, much_later, cost, 0),
            Some(much_later.wrapping_add(cost))
        );
    }

    #[test]
    fn drop_precedences_go_up_to_the_highest() {
        for class in 1..=4u8 {
            let af = |precedence: u8| class << 3 | precedence << 1;
            assert_eq!(remarked(af(1), 1), af(2));
            assert_eq!(remarked(af(1), 2), af(3));
            assert_eq!(remarked(af(2), 255), af(3));
            assert_eq!(remarked(af(3), 1), af(3));
        }
        // Best effort, class selectors, expedited forwarding, and what is none of them.
        for other in [0, 8, 16, 32, 40, 46, 48, 56, 11, 43, 63] {
            assert_eq!(remarked(other, 2), other);
        }
    }
}
