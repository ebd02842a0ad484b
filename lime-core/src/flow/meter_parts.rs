//! Meters as hosts hold them: every meter is some [`Part`]s.
//!
//! The *head* says what the meter does, and counts its packets; a modified meter gets a new one, which goes on with the counts of the old.
//! Each *band* has an entry that counts. So a change of a meter is one epoch for all rules that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::parts::{Fate, Part, PartDelta, PartKey, Parts};
use super::{MAX_BANDS, Meter, MeterError, MeterMod, Rule};
use crate::RuleId;

/// Most meters of one switch.
pub const MAX_METERS: usize = 1024;

/// A part of a meter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MeterPart {
    /// The meter.
    pub meter: u32,
    /// Which part of it.
    pub what: MeterPiece,
}

/// Which part of a meter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MeterPiece {
    /// What it does, and the count of its packets.
    Head(Meter),
    /// The count of packets that the band of this index was applied to.
    Band(u16),
}

const HEAD: u16 = 0;
const BAND: u16 = HEAD + 1;
const _: () = assert!(MAX_BANDS < u16::MAX as usize);

impl MeterPart {
    /// Its place among the parts of its meter.
    pub(super) fn place(&self) -> u16 {
        match &self.what {
            MeterPiece::Head(_) => HEAD,
            MeterPiece::Band(index) => BAND + index,
        }
    }
}

/// Why a change of meters is refused; nothing has changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MeterModError {
    /// OFPMMFC_INVALID_METER and others.
    #[error("meter {id}: {error}")]
    Invalid {
        /// The meter.
        id: u32,
        /// Why.
        error: MeterError,
    },
    /// OFPMMFC_METER_EXISTS.
    #[error("meter {0} exists already: modify it, or delete it first")]
    Exists(u32),
    /// OFPMMFC_UNKNOWN_METER.
    #[error("meter {0} does not exist: add it first")]
    Unknown(u32),
    /// OFPMMFC_OUT_OF_METERS.
    #[error("the switch would have {0} meters: at most {MAX_METERS} are allowed")]
    TooMany(usize),
}

/// The meters of one switch, and the parts that they are made of.
#[derive(Clone, Debug, Default)]
pub struct MeterTable {
    meters: BTreeMap<u32, Arc<Rule>>,
    parts: Parts,
}

fn meter_of(rule: &Rule) -> Option<&Meter> {
    match rule.part.as_deref() {
        Some(Part::Meter(MeterPart {
            what: MeterPiece::Head(meter),
            ..
        })) => Some(meter),
        _ => None,
    }
}

impl MeterTable {
    /// A meter by its number.
    pub fn get(&self, id: u32) -> Option<&Meter> {
        self.meters.get(&id).and_then(|head| meter_of(head))
    }

    /// All meters, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Meter> {
        self.meters.values().filter_map(|head| meter_of(head))
    }

    /// All parts.
    pub fn parts(&self) -> impl Iterator<Item = (RuleId, &Arc<Rule>)> {
        self.parts.iter()
    }

    /// Whether this is one of the parts.
    pub fn part(&self, id: RuleId) -> bool {
        self.parts.contains(id)
    }

    /// The part that counts a meter's packets.
    pub fn head(&self, meter: u32) -> Option<RuleId> {
        self.parts.at((meter, HEAD))
    }

    /// The part that counts the packets to which a band was applied.
    pub fn band(&self, meter: u32, index: usize) -> Option<RuleId> {
        let place = BAND + u16::try_from(index).ok()?;
        self.parts.at((meter, place))
    }

    /// Puts in a part under an id it already has: what a journal, a store or an undone change holds.
    pub fn insert(&mut self, id: RuleId, rule: Arc<Rule>) {
        let Some(Part::Meter(part)) = rule.part.as_deref() else {
            return;
        };
        if part.place() == HEAD {
            self.meters.insert(part.meter, Arc::clone(&rule));
        }
        self.parts.insert(id, rule);
    }

    /// Takes out a part, if it is the present one.
    pub fn remove(&mut self, id: RuleId, rule: &Rule) {
        if let Some((meter, HEAD)) = self.parts.remove(id, rule) {
            self.meters.remove(&meter);
        }
    }

    /// Carries out changes, all or nothing.
    pub fn apply(
        &mut self,
        mods: Vec<MeterMod>,
        next_id: impl FnMut() -> RuleId,
    ) -> Result<PartDelta, MeterModError> {
        let mut meters = self.meters.clone();
        let (mut renewed, mut deleted) = (BTreeSet::new(), BTreeSet::new());
        for change in mods {
            let meter = match change {
                MeterMod::Add(meter) if meters.contains_key(&meter.id) => {
                    return Err(MeterModError::Exists(meter.id));
                }
                MeterMod::Modify(meter) if !meters.contains_key(&meter.id) => {
                    return Err(MeterModError::Unknown(meter.id));
                }
                MeterMod::Delete(None) => {
                    deleted.extend(meters.keys());
                    meters.clear();
                    continue;
                }
                MeterMod::Delete(Some(id)) => {
                    if meters.remove(&id).is_some() {
                        deleted.insert(id);
                    }
                    continue;
                }
                MeterMod::Add(meter) => meter,
                MeterMod::Modify(meter) => {
                    renewed.insert(meter.id);
                    meter
                }
            };
            let id = meter.id;
            meter
                .check()
                .map_err(|error| MeterModError::Invalid { id, error })?;
            let what = MeterPiece::Head(meter);
            let head = Part::Meter(MeterPart { meter: id, what }).entry(Vec::new());
            meters.insert(id, Arc::new(head));
        }
        if meters.len() > MAX_METERS {
            return Err(MeterModError::TooMany(meters.len()));
        }
        let wanted = meters.iter().flat_map(|(&meter, head)| {
            let bands = meter_of(head).map_or(0, |m| m.bands.len());
            // At most MAX_BANDS.
            let bands = (0..bands as u16).map(move |index| {
                let what = MeterPiece::Band(index);
                Part::Meter(MeterPart { meter, what }).entry(Vec::new())
            });
            std::iter::once(head.as_ref().clone()).chain(bands)
        });
        let fate = |(meter, place): PartKey| match place {
            HEAD => Fate::Continues,
            _ if renewed.contains(&meter) => Fate::BeginsAnew,
            _ => Fate::Stays,
        };
        let delta = self.parts.renew(wanted, deleted, fate, next_id);
        self.meters = meters;
        Ok(delta)
    }
}

#[cfg(test)]
mod tests;
