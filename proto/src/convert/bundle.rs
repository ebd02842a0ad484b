//! Changes of rules, groups and meters in one list.

use lime_core::flow::{FlowMod, GroupMod, MeterMod, SwitchMod};

use super::error::{ConvertError, Problem};
use crate::v1;

impl TryFrom<v1::SwitchMod> for SwitchMod {
    type Error = ConvertError;

    fn try_from(wire: v1::SwitchMod) -> Result<Self, ConvertError> {
        use v1::switch_mod::Change;
        let change = wire.change;
        match change.ok_or_else(|| ConvertError::new("change", Problem::Missing))? {
            Change::Rule(m) => Ok(SwitchMod::Rule(FlowMod::try_from(m)?)),
            Change::Group(m) => Ok(SwitchMod::Group(GroupMod::try_from(m)?)),
            Change::Meter(m) => Ok(SwitchMod::Meter(MeterMod::try_from(m)?)),
        }
    }
}

impl From<&SwitchMod> for v1::SwitchMod {
    fn from(m: &SwitchMod) -> Self {
        use v1::switch_mod::Change;
        let change = match m {
            SwitchMod::Rule(m) => Change::Rule(m.into()),
            SwitchMod::Group(m) => Change::Group(m.into()),
            SwitchMod::Meter(m) => Change::Meter(m.into()),
        };
        Self {
            change: Some(change),
        }
    }
}
