//! Meters: OpenFlow 1.3.5, 5.7.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Largest meter number (OpenFlow 1.3.5, 7.3.4.4, OFPM_MAX).
pub const METER_MAX: u32 = 0xffff_0000;

/// In a delete: all meters (OFPM_ALL).
pub const METER_ALL: u32 = 0xffff_ffff;

/// Most bands of a meter.
pub const MAX_BANDS: usize = 6;

/// Longest burst of a band, seconds at the band's rate.
pub const MAX_BURST_SECONDS: u64 = 3600;

/// What a meter measures rates and bursts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterUnit {
    /// Kilobits per second, and kilobits (of 1000 bits).
    Kbps,
    /// Packets per second, and packets.
    Pktps,
}

/// What happens to packets above a band's rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BandKind {
    /// They are dropped.
    Drop,
    /// Their drop precedence (RFC 2597) goes up by this many levels, to the highest at most.
    DscpRemark {
        /// Not 0.
        prec_level: u8,
    },
}

/// A rate, and what happens above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Band {
    /// What happens.
    pub kind: BandKind,
    /// In the meter's unit; not 0.
    pub rate: u32,
    /// How much may come at once, in the meter's unit; 0 in meters without [`Meter::burst`].
    pub burst_size: u32,
}

/// A meter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Meter {
    /// Number within its switch, 1 to [`METER_MAX`].
    pub id: u32,
    /// Of its bands.
    pub unit: MeterUnit,
    /// Bands say their bursts (OFPMF_BURST); else each is what comes in one second at its rate.
    pub burst: bool,
    /// Statistics are wanted (OFPMF_STATS). They are kept in any case.
    pub stats: bool,
    /// 1 to [`MAX_BANDS`].
    pub bands: Vec<Band>,
}

/// A change of a switch's meters (OpenFlow 1.3.5, 6.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MeterMod {
    /// A new meter.
    Add(Meter),
    /// Other flags and bands for a meter that is there. Its own counters go on, those of its bands begin at zero.
    Modify(Meter),
    /// Removes a meter, or all (`None`), and the rules that use it. A number that is not there is no error.
    Delete(Option<u32>),
}

/// Why a meter is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MeterError {
    /// OFPMMFC_INVALID_METER.
    #[error("meter {id:#x}: meter numbers are 1 to {METER_MAX:#x}")]
    BadId {
        /// The number.
        id: u32,
    },
    /// OFPMMFC_INVALID_METER: OFPM_SLOWPATH, OFPM_CONTROLLER.
    #[error(
        "meter {id:#x}: the virtual meters slowpath and controller are not there; packet-ins are limited for each switch (lime switch create --packet-in-rate)"
    )]
    Virtual {
        /// The number.
        id: u32,
    },
    /// OFPMMFC_OUT_OF_BANDS, or OFPMMFC_BAD_BAND.
    #[error("{count} bands: a meter has 1 to {MAX_BANDS}")]
    Bands {
        /// How many there were.
        count: usize,
    },
    /// OFPMMFC_BAD_RATE.
    #[error("band {band}: rate 0; to let nothing through, use a rule that drops")]
    Rate {
        /// The band's index.
        band: usize,
    },
    /// OFPMMFC_BAD_BURST.
    #[error(
        "band {band}: burst_size {size} at rate {rate}: with the flag burst, a burst is 1 to what comes in {MAX_BURST_SECONDS} seconds"
    )]
    Burst {
        /// The band's index.
        band: usize,
        /// Its rate.
        rate: u32,
        /// Its burst.
        size: u32,
    },
    /// OFPMMFC_BAD_BAND_VALUE.
    #[error("band {band}: prec_level 0 would change nothing: it is 1 or more")]
    PrecLevel {
        /// The band's index.
        band: usize,
    },
}

impl Meter {
    /// Checks what can be checked without knowing the switch.
    pub fn check(&self) -> Result<(), MeterError> {
        let id = self.id;
        if id > METER_MAX && id != METER_ALL {
            return Err(MeterError::Virtual { id });
        }
        if id == 0 || id > METER_MAX {
            return Err(MeterError::BadId { id });
        }
        let count = self.bands.len();
        if count == 0 || count > MAX_BANDS {
            return Err(MeterError::Bands { count });
        }
        for (band, b) in self.bands.iter().enumerate() {
            if b.rate == 0 {
                return Err(MeterError::Rate { band });
            }
            let most = match self.burst {
                true => u64::from(b.rate) * MAX_BURST_SECONDS,
                false => 0,
            };
            if u64::from(b.burst_size) > most || self.burst && b.burst_size == 0 {
                return Err(MeterError::Burst {
                    band,
                    rate: b.rate,
                    size: b.burst_size,
                });
            }
            if b.kind == (BandKind::DscpRemark { prec_level: 0 }) {
                return Err(MeterError::PrecLevel { band });
            }
        }
        Ok(())
    }

    /// How much may come at once, in the meter's unit.
    pub fn burst_of(&self, band: &Band) -> u32 {
        match self.burst {
            true => band.burst_size,
            false => band.rate,
        }
    }
}
