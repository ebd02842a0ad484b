//! The `plug` driver: `plug:MAP:KEY:VALUE`.
//!
//! MAP is the path of a pinned array of 32-bit words that a redirecting program reads: which port's far end the end host's
//! device (index KEY) sends to. Storing VALUE, the index of this port's far end, plugs the end host into this port. One store
//! moves it: there is nothing to stop, and frames towards the end host are redirected from every port at all times.

use std::path::PathBuf;

use aya::maps::{Array, Map, MapData};

use super::{DriverError, EndHostDriver};

/// Where to store what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    map: PathBuf,
    key: u32,
    value: u32,
}

impl Plug {
    /// From `MAP:KEY:VALUE`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (rest, value) = text.rsplit_once(':')?;
        let (map, key) = rest.rsplit_once(':')?;
        map.starts_with('/').then_some(())?;
        Some(Self {
            map: map.into(),
            key: key.parse().ok()?,
            value: value.parse().ok()?,
        })
    }

    fn open(&self) -> Result<Array<MapData, u32>, DriverError> {
        let path = || self.map.display().to_string();
        let error = |source| DriverError::PlugMap {
            path: path(),
            source,
        };
        let data = MapData::from_pin(&self.map).map_err(error)?;
        let map = Map::from_map_data(data).map_err(error)?;
        match map {
            Map::Array(_) => {
                Array::try_from(map).map_err(|_| DriverError::NotAnArray { path: path() })
            }
            _ => Err(DriverError::NotAnArray { path: path() }),
        }
    }
}

impl EndHostDriver for Plug {
    fn pause(&self) -> Result<(), DriverError> {
        Ok(())
    }

    fn resume(&self) -> Result<(), DriverError> {
        self.open()?
            .set(self.key, self.value, 0)
            .map_err(|source| DriverError::PlugMap {
                path: self.map.display().to_string(),
                source,
            })
    }

    fn check(&self) -> Result<(), DriverError> {
        self.open().map(drop)
    }
}
