//! Drivers: how the end host behind a port is stopped and started when the port moves between hosts.

mod plug;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use plug::Plug;

use crate::netlink::Link;

/// Stops and starts the end host behind a port.
pub trait EndHostDriver: Send + Sync + fmt::Debug {
    /// Stops the end host from sending through this port. Afterwards no new packet comes in by it, but for those already on their way.
    ///
    /// # Errors
    /// It still runs.
    fn pause(&self) -> Result<(), DriverError>;

    /// Lets the end host run behind this port, which is `device`.
    ///
    /// # Errors
    /// It does not run here.
    fn resume(&self, device: &Link) -> Result<(), DriverError>;

    /// Whether what the driver needs on this host is there, for a port that is `device`.
    ///
    /// # Errors
    /// What is missing.
    fn check(&self, device: &Link) -> Result<(), DriverError>;
}

/// Why a driver cannot do its work.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The driver string is not understood.
    #[error(
        "driver {text:?} is not understood: write nothing, `none`, or `plug:MAP:KEY:VALUE` (VALUE may be `peer`)"
    )]
    Unknown {
        /// What was given.
        text: String,
    },
    /// The plug's map cannot be used.
    #[error("plug map {path}")]
    PlugMap {
        /// Where it should be pinned.
        path: String,
        /// What the kernel said.
        #[source]
        source: aya::maps::MapError,
    },
    /// `peer` as a plug's value, and the device has none.
    #[error(
        "device {device} is no veth, so it has no far end for the driver's `peer`: give that device's index"
    )]
    NoPeer {
        /// The port's device.
        device: String,
    },
    /// The plug's map is not an array.
    #[error("plug map {path}: not an array of 32-bit words")]
    NotAnArray {
        /// Where it is pinned.
        path: String,
    },
}

/// Which driver a port has, as its description says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// The end host is not moved by LIME.
    #[default]
    None,
    /// See [`Plug`].
    Plug(Plug),
}

impl FromStr for Driver {
    type Err = DriverError;

    fn from_str(text: &str) -> Result<Self, DriverError> {
        match text.split_once(':') {
            None if text.is_empty() || text == "none" => Ok(Self::None),
            Some(("plug", rest)) => Plug::parse(rest)
                .map(Self::Plug)
                .ok_or_else(|| DriverError::Unknown { text: text.into() }),
            _ => Err(DriverError::Unknown { text: text.into() }),
        }
    }
}

/// Does nothing.
#[derive(Debug)]
struct NoDriver;

impl EndHostDriver for NoDriver {
    fn pause(&self) -> Result<(), DriverError> {
        Ok(())
    }

    fn resume(&self, _device: &Link) -> Result<(), DriverError> {
        Ok(())
    }

    fn check(&self, _device: &Link) -> Result<(), DriverError> {
        Ok(())
    }
}

impl Driver {
    /// The driver itself.
    pub fn get(&self) -> &dyn EndHostDriver {
        match self {
            Self::None => &NoDriver,
            Self::Plug(plug) => plug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_strings() {
        assert_eq!("".parse::<Driver>().unwrap(), Driver::None);
        assert_eq!("none".parse::<Driver>().unwrap(), Driver::None);
        assert!(matches!(
            "plug:/sys/fs/bpf/lab/REDIRECT:7:9"
                .parse::<Driver>()
                .unwrap(),
            Driver::Plug(_)
        ));
        for bad in [
            "plug",
            "plug:",
            "plug:/a:1",
            "plug:/a:x:1",
            "plug:/a:1:far",
            "plug:a:1:2",
            "qemu:/x",
        ] {
            assert!(bad.parse::<Driver>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_plug_says_what_it_lacks() {
        let device = Link {
            ifindex: 3,
            name: "tap7".into(),
            mac: None,
            mtu: 1500,
            up: true,
            loopback: false,
            peer: None,
        };
        let error = |text: &str| {
            let driver: Driver = text.parse().unwrap();
            driver.get().check(&device).unwrap_err().to_string()
        };
        assert!(error("plug:/sys/fs/bpf/no-such-map:7:9").contains("/sys/fs/bpf/no-such-map"));
        assert!(error("plug:/sys/fs/bpf/no-such-map:7:peer").contains("tap7"));
    }
}
