//! Meters, their changes, and the parts that agents get of them and of groups.

use lime_core::flow::{Band, BandKind, MAX_BANDS, Meter, MeterMod, MeterPart, MeterPiece, Part};

use super::error::{ConvertError, Problem, bounded, narrow};
use super::groups;
use super::messages::enum_from_wire;
use crate::v1;

impl TryFrom<v1::Meter> for Meter {
    type Error = ConvertError;

    /// The meter has passed [`Meter::check`].
    fn try_from(wire: v1::Meter) -> Result<Self, ConvertError> {
        bounded("bands", wire.bands.len(), MAX_BANDS)?;
        let burst = wire.burst;
        let bands = wire.bands.into_iter().enumerate();
        let bands = bands.map(|(i, band)| {
            let within = |e: ConvertError| e.within(&format!("bands[{i}]"));
            band_from_wire(band, burst).map_err(within)
        });
        let meter = Meter {
            id: wire.meter_id,
            unit: enum_from_wire::<v1::MeterUnit, _>("unit", wire.unit)?,
            burst,
            stats: wire.stats,
            bands: bands.collect::<Result<_, _>>()?,
        };
        meter.check().map_err(|e| ConvertError::new("meter", e))?;
        Ok(meter)
    }
}

fn band_from_wire(wire: v1::MeterBand, burst: bool) -> Result<Band, ConvertError> {
    use v1::meter_band::Kind;
    let kind = match wire.kind {
        None => return Err(ConvertError::new("kind", Problem::Missing)),
        Some(Kind::Drop(_)) => BandKind::Drop,
        Some(Kind::DscpRemark(remark)) => BandKind::DscpRemark {
            prec_level: narrow("dscp_remark.prec_level", remark.prec_level, 0xff)?,
        },
    };
    Ok(Band {
        kind,
        rate: wire.rate,
        // What means nothing is not kept.
        burst_size: if burst { wire.burst_size } else { 0 },
    })
}

impl From<&Meter> for v1::Meter {
    fn from(meter: &Meter) -> Self {
        use v1::meter_band::{Drop, DscpRemark, Kind};
        let bands = meter.bands.iter().map(|band| v1::MeterBand {
            rate: band.rate,
            burst_size: band.burst_size,
            kind: Some(match band.kind {
                BandKind::Drop => Kind::Drop(Drop {}),
                BandKind::DscpRemark { prec_level } => Kind::DscpRemark(DscpRemark {
                    prec_level: prec_level.into(),
                }),
            }),
        });
        Self {
            meter_id: meter.id,
            unit: v1::MeterUnit::from(meter.unit).into(),
            burst: meter.burst,
            stats: meter.stats,
            bands: bands.collect(),
        }
    }
}

impl TryFrom<v1::MeterMod> for MeterMod {
    type Error = ConvertError;

    fn try_from(wire: v1::MeterMod) -> Result<Self, ConvertError> {
        use v1::meter_mod::Change;
        let change = wire.change;
        match change.ok_or_else(|| ConvertError::new("change", Problem::Missing))? {
            Change::Add(meter) => Ok(MeterMod::Add(
                Meter::try_from(meter).map_err(|e| e.within("add"))?,
            )),
            Change::Modify(meter) => Ok(MeterMod::Modify(
                Meter::try_from(meter).map_err(|e| e.within("modify"))?,
            )),
            Change::Delete(id) => Ok(MeterMod::Delete(Some(id))),
            Change::DeleteAll(_) => Ok(MeterMod::Delete(None)),
        }
    }
}

impl From<&MeterMod> for v1::MeterMod {
    fn from(change: &MeterMod) -> Self {
        use v1::meter_mod::Change;
        let change = match change {
            MeterMod::Add(meter) => Change::Add(meter.into()),
            MeterMod::Modify(meter) => Change::Modify(meter.into()),
            MeterMod::Delete(Some(id)) => Change::Delete(*id),
            MeterMod::Delete(None) => Change::DeleteAll(v1::Empty {}),
        };
        Self {
            change: Some(change),
        }
    }
}

/// A part, as an agent gets it: of a group, or of a meter.
pub fn part_to_wire(part: &Part) -> (Option<v1::GroupPart>, Option<v1::MeterPart>) {
    match part {
        Part::Group(part) => (Some(groups::part_to_wire(part)), None),
        Part::Meter(part) => (None, Some(meter_part_to_wire(part))),
    }
}

/// A part from the wire; `None`: a rule in a table.
pub fn part_from_wire(
    group: Option<v1::GroupPart>,
    meter: Option<v1::MeterPart>,
) -> Result<Option<Part>, ConvertError> {
    Ok(match (group, meter) {
        (None, None) => None,
        (Some(group), _) => Some(Part::Group(groups::part_from_wire(group)?)),
        (None, Some(meter)) => Some(Part::Meter(meter_part_from_wire(meter)?)),
    })
}

fn meter_part_to_wire(part: &MeterPart) -> v1::MeterPart {
    use v1::meter_part::Part as Wire;
    let wire = match &part.what {
        MeterPiece::Head(meter) => Wire::Head(meter.into()),
        MeterPiece::Band(index) => Wire::Band((*index).into()),
    };
    v1::MeterPart {
        meter_id: part.meter,
        part: Some(wire),
    }
}

fn meter_part_from_wire(wire: v1::MeterPart) -> Result<MeterPart, ConvertError> {
    use v1::meter_part::Part as Wire;
    let missing = ConvertError::new("part", Problem::Missing);
    let what = match wire.part.ok_or(missing)? {
        Wire::Head(meter) => {
            MeterPiece::Head(Meter::try_from(meter).map_err(|e| e.within("head"))?)
        }
        Wire::Band(index) => {
            bounded("band", index as usize, MAX_BANDS - 1)?;
            MeterPiece::Band(narrow("band", index, 0xffff)?)
        }
    };
    Ok(MeterPart {
        meter: wire.meter_id,
        what,
    })
}

#[cfg(test)]
mod tests {
    use lime_core::RuleId;
    use lime_core::flow::{MeterTable, MeterUnit};

    use super::*;

    #[test]
    fn meters_and_their_parts_round_trip() {
        let band = |kind, rate, burst_size| Band {
            kind,
            rate,
            burst_size,
        };
        let meter = |id, unit, burst, bands| Meter {
            id,
            unit,
            burst,
            stats: id == 1,
            bands,
        };
        let remark = BandKind::DscpRemark { prec_level: 255 };
        let bands = vec![band(BandKind::Drop, u32::MAX, 7), band(remark, 1, 3600)];
        let first = meter(1, MeterUnit::Pktps, true, bands);
        let bands = vec![band(BandKind::Drop, 1, 0); MAX_BANDS];
        let second = meter(2, MeterUnit::Kbps, false, bands);
        let mods = [
            MeterMod::Add(first.clone()),
            MeterMod::Add(second.clone()),
            MeterMod::Modify(first),
            MeterMod::Delete(Some(7)),
            MeterMod::Delete(None),
        ];
        for m in &mods {
            assert_eq!(&MeterMod::try_from(v1::MeterMod::from(m)).unwrap(), m);
        }
        let mut id = 0;
        let next = || {
            id += 1;
            RuleId(id)
        };
        let mut table = MeterTable::default();
        table.apply(mods[..2].to_vec(), next).unwrap();
        for (_, rule) in table.parts() {
            let part = rule.part.as_deref().unwrap();
            let (group, meter) = part_to_wire(part);
            assert_eq!(part_from_wire(group, meter).unwrap().as_ref(), Some(part));
        }
        assert_eq!(part_from_wire(None, None), Ok(None));
        // A burst that nobody asked for.
        let mut wire = v1::Meter::from(&second);
        wire.bands[0].burst_size = 9;
        assert_eq!(Meter::try_from(wire.clone()).unwrap(), second);
        wire.bands[0].kind = None;
        assert!(Meter::try_from(wire.clone()).is_err());
        wire.bands = vec![v1::MeterBand::default(); MAX_BANDS + 1];
        assert!(Meter::try_from(wire).is_err());
    }
}
