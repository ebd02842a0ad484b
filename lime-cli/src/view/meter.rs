//! Meters.

use lime_core::flow::ofctl::{format_band, format_meter};
use lime_core::flow::{Meter, MeterUnit};
use lime_proto::v1;
use serde::Serialize;

use crate::error::CliError;

#[derive(Debug, Serialize)]
pub struct MeterView {
    pub meter_id: u32,
    pub unit: MeterUnit,
    /// The meter, as `lime meter add` takes it.
    pub meter: String,
    /// Each band, as it stands there.
    pub bands: Vec<String>,
    /// Missing where counters were not asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub counters: Option<MeterCounters>,
}

#[derive(Debug, Serialize)]
pub struct MeterCounters {
    /// Rules that use it.
    pub flow_count: u32,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub duration_ms: u64,
    /// In the order of the bands.
    pub band_counters: Vec<BandCounters>,
}

/// Packets that the band was applied to.
#[derive(Debug, Serialize)]
pub struct BandCounters {
    pub packets: u64,
    pub bytes: u64,
}

impl MeterView {
    pub fn read(wire: v1::Meter, stats: Option<v1::MeterStats>) -> Result<Self, CliError> {
        let meter = Meter::try_from(wire).map_err(|e| CliError::BadAnswer(e.to_string()))?;
        Ok(Self {
            meter_id: meter.id,
            unit: meter.unit,
            meter: format_meter(&meter),
            bands: meter.bands.iter().map(format_band).collect(),
            counters: stats.map(|s| MeterCounters {
                flow_count: s.flow_count,
                packets_in: s.packets_in,
                bytes_in: s.bytes_in,
                duration_ms: s.duration_ms,
                band_counters: s
                    .bands
                    .iter()
                    .map(|b| BandCounters {
                        packets: b.packets,
                        bytes: b.bytes,
                    })
                    .collect(),
            }),
        })
    }
}
