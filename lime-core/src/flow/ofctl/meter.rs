//! Meters, in the syntax that `ovs-ofctl add-meter` takes and `dump-meters` prints.

use super::error::{Problem, SyntaxError};
use super::items::{Item, check_length, error_at, items};
use crate::flow::{Band, BandKind, METER_MAX, Meter, MeterUnit};

/// Reads a meter: `meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100`; each `type=` begins a band. It has passed
/// [`Meter::check`].
pub fn parse_meter(text: &str) -> Result<Meter, SyntaxError> {
    check_length(text)?;
    let mut reader = Reader::default();
    for item in items(text, 0, &['='])? {
        reader.read(&item)?;
    }
    let missing = |what: &str, expected: &str| {
        let problem = Problem::MissingValue {
            name: what.to_owned(),
            expected: expected.to_owned(),
        };
        error_at(text, text.len(), problem)
    };
    let id = reader.id.ok_or_else(|| missing("meter", "meter=NUMBER"))?;
    let unit = reader
        .unit
        .ok_or_else(|| missing("the meter's unit", "kbps or pktps"))?;
    let mut bands = Vec::with_capacity(reader.bands.len());
    for band in reader.bands {
        let remark = match (band.kind, band.prec_level) {
            (Kind::Drop, None) => BandKind::Drop,
            (Kind::Drop, Some(at)) => {
                let name = "prec_level of a band of type drop".to_owned();
                let instead = "only bands of type dscp_remark have one".to_owned();
                return Err(error_at(text, at.1, Problem::Unsupported { name, instead }));
            }
            (Kind::Remark, Some((prec_level, _))) => BandKind::DscpRemark { prec_level },
            (Kind::Remark, None) => {
                return Err(missing("dscp_remark", "prec_level=LEVELS"));
            }
        };
        if let Some((_, at)) = band.burst_size.filter(|_| !reader.burst) {
            let name = "burst_size without the flag burst".to_owned();
            let instead = "write burst, in front of bands".to_owned();
            return Err(error_at(text, at, Problem::Unsupported { name, instead }));
        }
        bands.push(Band {
            kind: remark,
            rate: band.rate.ok_or_else(|| missing("a band", "rate=NUMBER"))?,
            burst_size: band.burst_size.map_or(0, |(size, _)| size),
        });
    }
    let meter = Meter {
        id,
        unit,
        burst: reader.burst,
        stats: reader.stats,
        bands,
    };
    match meter.check() {
        Ok(()) => Ok(meter),
        Err(error) => Err(error_at(text, 0, Problem::Meter(error))),
    }
}

/// Reads which meters a delete is about: `meter=1` or just `1`; `meter=all` or `all`: `None`.
pub fn parse_meter_id(text: &str) -> Result<Option<u32>, SyntaxError> {
    check_length(text)?;
    let found = items(text, 0, &['='])?;
    let [item] = &found[..] else {
        let expected = "meter=NUMBER, or meter=all".to_owned();
        let name = "a delete".to_owned();
        return Err(error_at(text, 0, Problem::MissingValue { name, expected }));
    };
    let named = item.name.eq_ignore_ascii_case("meter");
    let item = match item.value {
        None if !named => item.meaning("meter", Some(item.name)),
        _ if named => *item,
        _ => return Err(unknown(item)),
    };
    match item.value {
        Some(all) if all.eq_ignore_ascii_case("all") => Ok(None),
        _ => item.number(METER_MAX).map(Some),
    }
}

/// The meter as [`parse_meter`] reads it.
pub fn format_meter(meter: &Meter) -> String {
    let unit = match meter.unit {
        MeterUnit::Kbps => "kbps",
        MeterUnit::Pktps => "pktps",
    };
    let mut out = format!("meter={},{unit}", meter.id);
    if meter.burst {
        out += ",burst";
    }
    if meter.stats {
        out += ",stats";
    }
    let bands = meter.bands.iter().map(format_band);
    out + ",bands=" + &bands.collect::<Vec<_>>().join(",")
}

/// One band, as it stands behind `bands=`.
pub fn format_band(band: &Band) -> String {
    let kind = match band.kind {
        BandKind::Drop => "drop",
        BandKind::DscpRemark { .. } => "dscp_remark",
    };
    let mut out = format!("type={kind},rate={}", band.rate);
    if band.burst_size != 0 {
        out += &format!(",burst_size={}", band.burst_size);
    }
    if let BandKind::DscpRemark { prec_level } = band.kind {
        out += &format!(",prec_level={prec_level}");
    }
    out
}

#[derive(Default)]
struct Reader {
    id: Option<u32>,
    unit: Option<MeterUnit>,
    burst: bool,
    stats: bool,
    bands: Vec<RawBand>,
}

#[derive(Clone, Copy)]
enum Kind {
    Drop,
    Remark,
}

/// A band as it was read, with where some of it stands.
struct RawBand {
    kind: Kind,
    rate: Option<u32>,
    burst_size: Option<(u32, usize)>,
    prec_level: Option<(u8, usize)>,
}

impl Reader {
    fn read(&mut self, item: &Item<'_>) -> Result<(), SyntaxError> {
        match item.name.to_ascii_lowercase().as_str() {
            "meter" => self.id = Some(item.number(METER_MAX)?),
            "kbps" => self.set_unit(item, MeterUnit::Kbps)?,
            "pktps" => self.set_unit(item, MeterUnit::Pktps)?,
            "burst" => {
                item.alone()?;
                self.burst = true;
            }
            "stats" => {
                item.alone()?;
                self.stats = true;
            }
            // The first band's type may stand right behind it.
            "bands" | "band" => match item.value.unwrap_or_default().split_once('=') {
                Some((name, value)) => self.read(&item.meaning(name, Some(value)))?,
                None if item.value.unwrap_or_default().is_empty() => {}
                None => return Err(item.bad_value("type=drop or type=dscp_remark")),
            },
            "type" => {
                let kind = match item.value("drop or dscp_remark")? {
                    "drop" => Kind::Drop,
                    "dscp_remark" => Kind::Remark,
                    _ => return Err(item.bad_value("drop or dscp_remark")),
                };
                self.bands.push(RawBand {
                    kind,
                    rate: None,
                    burst_size: None,
                    prec_level: None,
                });
            }
            "rate" => self.band(item)?.rate = Some(item.number(u32::MAX)?),
            "burst_size" => {
                self.band(item)?.burst_size = Some((item.number(u32::MAX)?, item.at));
            }
            "prec_level" => {
                self.band(item)?.prec_level = Some((item.number(u8::MAX)?, item.at));
            }
            _ => return Err(unknown(item)),
        }
        Ok(())
    }

    fn set_unit(&mut self, item: &Item<'_>, unit: MeterUnit) -> Result<(), SyntaxError> {
        item.alone()?;
        match self.unit.replace(unit) {
            Some(other) if other != unit => Err(item.unsupported(
                "a meter counts kbps or pktps, not both; make two meters and two tables",
            )),
            _ => Ok(()),
        }
    }

    fn band(&mut self, item: &Item<'_>) -> Result<&mut RawBand, SyntaxError> {
        self.bands.last_mut().ok_or_else(|| {
            item.unsupported("bands begin with their type: bands=type=drop,rate=1000")
        })
    }
}

fn unknown(item: &Item<'_>) -> SyntaxError {
    item.unsupported(
        "a meter has meter=NUMBER, kbps or pktps, burst, stats, and bands=type=drop or dscp_remark, rate, burst_size, prec_level",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::MeterError;

    #[test]
    fn meters_round_trip() {
        let text = "meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100";
        let meter = parse_meter(text).unwrap();
        let band = Band {
            kind: BandKind::Drop,
            rate: 1000,
            burst_size: 100,
        };
        let expected = Meter {
            id: 1,
            unit: MeterUnit::Kbps,
            burst: true,
            stats: true,
            bands: vec![band],
        };
        assert_eq!(meter, expected);
        assert_eq!(format_meter(&meter), text);
        let dumped =
            "meter=2 pktps bands=\ntype=dscp_remark rate=5 prec_level=2\n type=drop rate=0x10";
        let meter = parse_meter(dumped).unwrap();
        assert_eq!(
            format_meter(&meter),
            "meter=2,pktps,bands=type=dscp_remark,rate=5,prec_level=2,type=drop,rate=16"
        );
        assert_eq!(parse_meter(&format_meter(&meter)).unwrap(), meter);
    }

    #[test]
    fn deletes_name_one_or_all() {
        for one in ["meter=7", "7"] {
            assert_eq!(parse_meter_id(one), Ok(Some(7)));
        }
        for all in ["meter=all", "ALL"] {
            assert_eq!(parse_meter_id(all), Ok(None));
        }
        for bad in [
            "",
            "meter",
            "meter=",
            "x",
            "group=1",
            "1,2",
            "meter=0xffff0001",
        ] {
            assert!(parse_meter_id(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, column, said) in [
            ("kbps,bands=type=drop,rate=1", 28, "meter needs a value"),
            ("meter=1,bands=type=drop,rate=1", 31, "kbps or pktps"),
            ("meter=1,kbps,pktps,bands=type=drop,rate=1", 14, "not both"),
            (
                "meter=1,kbps,bands=type=police,rate=1",
                14,
                "drop or dscp_remark",
            ),
            ("meter=1,kbps,rate=1", 14, "begin with their type"),
            ("meter=1,kbps,bands=type=drop", 29, "rate=NUMBER"),
            (
                "meter=1,kbps,bands=type=drop,rate=1,burst_size=1",
                37,
                "flag burst",
            ),
            (
                "meter=1,kbps,bands=type=drop,rate=1,prec_level=1",
                37,
                "dscp_remark",
            ),
            (
                "meter=1,kbps,bands=type=dscp_remark,rate=1",
                43,
                "prec_level",
            ),
            ("meter=1,kbps,colour=red", 14, "a meter has"),
            ("meter=x,kbps", 1, "a number"),
        ] {
            let error = parse_meter(text).unwrap_err();
            assert_eq!(error.column, column, "{text}: {error}");
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
        let error = parse_meter("meter=0,kbps,bands=type=drop,rate=1").unwrap_err();
        assert_eq!(error.problem, Problem::Meter(MeterError::BadId { id: 0 }));
    }
}
