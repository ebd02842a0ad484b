//! What statistics are asked of.

use lime_core::PortNo;
use lime_core::flow::{ALL_TABLES, RuleFilter, TABLES};

use super::error::{ConvertError, Problem};
use super::rules::{match_from_wire, match_to_wire};
use crate::v1;

impl TryFrom<v1::FlowFilter> for RuleFilter {
    type Error = ConvertError;

    fn try_from(wire: v1::FlowFilter) -> Result<Self, ConvertError> {
        Ok(RuleFilter {
            table: match wire.table {
                None => ALL_TABLES,
                Some(table) => match u8::try_from(table) {
                    Ok(table) if table < TABLES || table == ALL_TABLES => table,
                    _ => {
                        let (value, max) = (table.into(), u64::from(TABLES) - 1);
                        return Err(ConvertError::new("table", Problem::TooLarge { value, max }));
                    }
                },
            },
            priority: 0,
            cookie: wire.cookie,
            cookie_mask: wire.cookie_mask,
            matching: match_from_wire(wire.r#match)?,
            out_port: wire.out_port.map(PortNo),
            out_group: wire.out_group,
        })
    }
}

impl From<&RuleFilter> for v1::FlowFilter {
    fn from(filter: &RuleFilter) -> Self {
        Self {
            table: (filter.table != ALL_TABLES).then_some(filter.table.into()),
            out_port: filter.out_port.map(|p| p.0),
            out_group: filter.out_group,
            cookie: filter.cookie,
            cookie_mask: filter.cookie_mask,
            r#match: match_to_wire(&filter.matching),
        }
    }
}
