//! Parts of meters as entries of the table that is theirs: the head of `switch-abi/src/meter.rs` says how.

use std::cmp::Reverse;

use lime_core::flow::{BandKind, MAX_BANDS, Meter, MeterPart, MeterPiece, MeterUnit};
use switch_abi::{
    MAX_METER_BANDS, METER_BAND, METER_HEAD, METER_PACKETS, METER_REMARKS, METER_TIME_SHIFT, op,
};

use super::compile::Compiled;
use super::{DatapathError, Result};

const _: () = assert!(MAX_METER_BANDS == MAX_BANDS && 2 * MAX_BANDS <= switch_abi::MAX_ACTIONS);

/// Units of a meter's time in a second.
const SECOND: u64 = 1_000_000_000 << METER_TIME_SHIFT;

/// Factors have up to so many bits: as many as products with the longest packet leave room for.
const FACTOR_BITS: u32 = 40;

/// The number of a part.
pub(super) fn number_of(part: &MeterPart) -> u16 {
    match &part.what {
        MeterPiece::Head(_) => METER_HEAD,
        MeterPiece::Band(index) => METER_BAND + index,
    }
}

/// What a part does with packets.
pub(super) fn compile(part: &MeterPart) -> Result<Compiled> {
    match &part.what {
        MeterPiece::Head(meter) => compile_head(meter),
        MeterPiece::Band(_) => Ok(Compiled::default()),
    }
}

fn compile_head(meter: &Meter) -> Result<Compiled> {
    meter
        .check()
        .map_err(|e| DatapathError::invalid(format!("meter {}", meter.id), e.to_string()))?;
    let mut out = Compiled::default();
    let mut bands: Vec<_> = meter.bands.iter().enumerate().collect();
    // Stable: of two with one rate the first is tried first.
    bands.sort_by_key(|(_, band)| Reverse(band.rate));
    if meter.unit == MeterUnit::Pktps {
        out.metadata |= METER_PACKETS;
    }
    for (index, band) in bands {
        let (factor, shift) = factor_of(meter.unit, band.rate);
        // There are at most MAX_BANDS.
        let index = index as u32;
        out.push(op::BAND, shift.into(), index, factor.to_ne_bytes())?;
        if let BandKind::DscpRemark { prec_level } = band.kind {
            out.metadata |= METER_REMARKS;
            out.actions[out.count as usize - 1].pad = prec_level;
        }
        let burst = tolerance_of(meter.unit, band.rate, meter.burst_of(band));
        out.push(op::BURST, 0, 0, burst.to_ne_bytes())?;
    }
    out.apply = out.count;
    Ok(out)
}

/// How long a packet or a byte takes at a rate: a number, and by how many bits it is to be shifted to the right.
fn factor_of(unit: MeterUnit, rate: u32) -> (u64, u8) {
    let units = match unit {
        // 1000 bits per second for each unit of the rate.
        MeterUnit::Kbps => SECOND / 1000 * 8,
        MeterUnit::Pktps => SECOND,
    };
    let rate = u64::from(rate.max(1));
    let whole = units / rate;
    let used = u64::BITS - whole.leading_zeros();
    let shift = FACTOR_BITS.saturating_sub(used).min(u64::BITS - 1);
    let factor = (u128::from(units) << shift) / u128::from(rate);
    // Below 2^FACTOR_BITS, as is the shift.
    (factor as u64, shift as u8)
}

/// How far ahead of the clock a band may be for something more to come: what its burst takes at its rate. Of packets, the last one of
/// a burst is what comes then.
fn tolerance_of(unit: MeterUnit, rate: u32, burst: u32) -> u64 {
    let burst = match unit {
        MeterUnit::Kbps => burst,
        MeterUnit::Pktps => burst.saturating_sub(1),
    };
    let time = u128::from(burst) * u128::from(SECOND) / u128::from(rate.max(1));
    u64::try_from(time).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use lime_core::flow::Band;
    use switch_abi::band_cost;

    use super::*;

    #[test]
    fn times_are_right_at_all_rates() {
        for rate in [
            1,
            2,
            3,
            7,
            999,
            1000,
            12_345,
            10_000_000,
            400_000_000,
            u32::MAX,
        ] {
            for unit in [MeterUnit::Kbps, MeterUnit::Pktps] {
                let (factor, shift) = factor_of(unit, rate);
                assert!(factor < 1 << FACTOR_BITS, "{rate} {unit:?}");
                for amount in [1u32, 60, 1514, 65_549, 524_280] {
                    let cost = band_cost(amount, factor, shift);
                    let bits = match unit {
                        MeterUnit::Kbps => f64::from(amount) * 8.0 / 1000.0,
                        MeterUnit::Pktps => f64::from(amount),
                    };
                    let exact = bits / f64::from(rate) * SECOND as f64;
                    // Rounded down to whole units, of 1/256 ns, and a factor of 40 bits.
                    let off = exact - cost as f64;
                    assert!(
                        (-1.0..=1.0 + exact * 1e-9).contains(&off),
                        "{rate} {unit:?} {amount}: {exact} {cost}"
                    );
                }
            }
        }
    }

    #[test]
    fn bursts_are_times_at_the_rate() {
        assert_eq!(tolerance_of(MeterUnit::Kbps, 1000, 1000), SECOND);
        assert_eq!(tolerance_of(MeterUnit::Pktps, 10, 1), 0);
        assert_eq!(tolerance_of(MeterUnit::Pktps, 10, 11), SECOND);
        assert_eq!(tolerance_of(MeterUnit::Kbps, u32::MAX, u32::MAX), SECOND);
        assert_eq!(tolerance_of(MeterUnit::Kbps, 1, 3600), 3600 * SECOND);
    }

    #[test]
    fn bands_are_tried_by_falling_rates_and_counted_by_their_places() {
        let band = |rate, kind| Band {
            kind,
            rate,
            burst_size: 0,
        };
        let remark = BandKind::DscpRemark { prec_level: 2 };
        let mut meter = Meter {
            id: 1,
            unit: MeterUnit::Pktps,
            burst: false,
            stats: true,
            bands: vec![
                band(5, remark),
                band(9, BandKind::Drop),
                band(7, BandKind::Drop),
            ],
        };
        let part = |meter: &Meter| MeterPart {
            meter: 1,
            what: MeterPiece::Head(meter.clone()),
        };
        let compiled = compile(&part(&meter)).unwrap();
        assert_eq!(compiled.metadata, METER_PACKETS | METER_REMARKS);
        assert_eq!(compiled.count, 6);
        let bands = compiled.actions.iter().filter(|a| a.op == op::BAND);
        let bands: Vec<_> = bands.map(|a| (a.b, a.pad)).collect();
        assert_eq!(bands, [(1, 0), (2, 0), (0, 2)]);
        meter.bands[0].rate = 0;
        assert!(compile(&part(&meter)).is_err());
    }
}
