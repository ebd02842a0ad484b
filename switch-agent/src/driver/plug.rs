//! The `plug` driver: `plug:MAP:KEY:VALUE`.
//!
//! MAP is the path of a pinned array of 32-bit words that a redirecting program reads: which port's far end the end host's
//! device (index KEY) sends to. Storing VALUE, the index of this port's far end, plugs the end host into this port. VALUE may be `peer`: the
//! other end of the port's own veth pair, so that one driver string is right on every host. One store moves the end host: there is nothing to stop, and frames towards the end host are redirected from every port at all times.

use std::path::PathBuf;

use aya::maps::{Array, Map, MapData};

use super::{DriverError, EndHostDriver};
use crate::netlink::Link;

/// Where to store what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    map: PathBuf,
    key: u32,
    /// `None`: the other end of the port's device.
    value: Option<u32>,
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
            value: match value {
                "peer" => None,
                value => Some(value.parse().ok()?),
            },
        })
    }

    fn value(&self, device: &Link) -> Result<u32, DriverError> {
        self.value
            .or(device.peer)
            .ok_or_else(|| DriverError::NoPeer {
                device: device.name.clone(),
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

    fn resume(&self, device: &Link) -> Result<(), DriverError> {
        let value = self.value(device)?;
        self.open()?
            .set(self.key, value, 0)
            .map_err(|source| DriverError::PlugMap {
                path: self.map.display().to_string(),
                source,
            })
    }

    fn check(&self, device: &Link) -> Result<(), DriverError> {
        self.value(device)?;
        self.open().map(drop)
    }
}
