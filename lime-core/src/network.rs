//! What a network, its ports and its names are, beside their rules.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{NotAPort, PortNo};

/// What the instances of a switch promise together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// What every end host and the controller see, each in its own order, one switch could have shown.
    #[default]
    Causal,
    /// The same in real time (linearizable): an update of a switch with several instances makes one of them process all packets meanwhile. For
    /// networks whose packets meet outside LIME too.
    Strict,
    /// No version tags and no waiting. Shows what the protocol is for; never for production.
    None,
}

impl Consistency {
    /// Whether the instances of a switch promise anything together.
    pub fn is_consistent(self) -> bool {
        self != Consistency::None
    }
}

/// Where a port's program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortAttach {
    /// Native XDP for devices that are best served so, else TC.
    #[default]
    Auto,
    /// XDP (with TC behind it).
    Xdp,
    /// TC only.
    Tc,
}

/// Longest name of a network or switch, bytes.
pub const NAME_MAX: usize = 63;

/// Why a name is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// A part is missing, or all of it.
    #[error("not a {what} name: {expected}")]
    Missing {
        /// Network, switch or port.
        what: &'static str,
        /// What would do.
        expected: &'static str,
    },
    /// Longer than [`NAME_MAX`].
    #[error("{what} name is {len} bytes long: at most {NAME_MAX} are allowed")]
    TooLong {
        /// Network or switch.
        what: &'static str,
        /// Its length.
        len: usize,
    },
    /// A character that names do not have.
    #[error(
        "{what} name {name:?} has the character {bad:?}: names are letters, digits, '-', '_' and '.', and start with a letter or digit"
    )]
    BadCharacter {
        /// Network or switch.
        what: &'static str,
        /// The name.
        name: String,
        /// The character.
        bad: char,
    },
    /// Not the number of a port.
    #[error("{text:?} is no port number: 1 to 4294967040 (0xffffff00), or LOCAL")]
    BadPort {
        /// What was given.
        text: String,
    },
}

/// Checks the name of a network, a switch or a host: 1 to [`NAME_MAX`] letters, digits, `-`, `_`, `.`; first a letter or digit.
pub fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Missing {
            what,
            expected: "1 to 63 letters, digits, '-', '_', '.'",
        });
    }
    if name.len() > NAME_MAX {
        return Err(NameError::TooLong {
            what,
            len: name.len(),
        });
    }
    let bad = name
        .char_indices()
        .find(|&(i, c)| !(c.is_ascii_alphanumeric() || (i > 0 && matches!(c, '-' | '_' | '.'))));
    match bad {
        None => Ok(()),
        Some((_, bad)) => Err(NameError::BadCharacter {
            what,
            name: name.to_owned(),
            bad,
        }),
    }
}

/// A switch's full name, written `NET/SWITCH`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SwitchName {
    /// Its network.
    pub network: String,
    /// Its name within the network.
    pub switch: String,
}

impl FromStr for SwitchName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let (network, switch) = s.split_once('/').ok_or(NameError::Missing {
            what: "switch",
            expected: "write NET/SWITCH",
        })?;
        check_name("network", network)?;
        check_name("switch", switch)?;
        Ok(Self {
            network: network.to_owned(),
            switch: switch.to_owned(),
        })
    }
}

impl fmt::Display for SwitchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.switch)
    }
}

/// A port's full name, written `NET/SWITCH:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortName {
    /// Its switch.
    pub switch: SwitchName,
    /// Its number on the switch.
    pub port: PortNo,
}

impl FromStr for PortName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let (switch, port) = s.rsplit_once(':').ok_or(NameError::Missing {
            what: "port",
            expected: "write NET/SWITCH:PORT",
        })?;
        let switch = switch.parse()?;
        let port = port.parse().map_err(|NotAPort| NameError::BadPort {
            text: port.to_owned(),
        })?;
        Ok(Self { switch, port })
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.switch, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let port: PortName = "acme/edge-1:4".parse().unwrap();
        assert_eq!(port.to_string(), "acme/edge-1:4");
        assert_eq!(port.switch.to_string(), "acme/edge-1");
        let port: PortName = "acme/edge-1:local".parse().unwrap();
        assert_eq!(port.port, PortNo::LOCAL);
        assert_eq!(port.to_string(), "acme/edge-1:LOCAL");
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in ["", "a", "a/", "/b", "a/b c", "a/-b", "a/b/c"] {
            assert!(bad.parse::<SwitchName>().is_err(), "{bad:?}");
        }
        for bad in ["a/b", "a/b:", "a/b:0", "a/b:4294967295", "a/b:x", "a/b:-1"] {
            assert!(bad.parse::<PortName>().is_err(), "{bad:?}");
        }
        assert!(check_name("network", &"x".repeat(64)).is_err());
    }
}
