//! Names on the command line. Those of switches and ports are `lime-core`'s.

use std::fmt;
use std::str::FromStr;

use lime_core::{NameError, PortName, SwitchName, check_name};

/// A network's name, checked.
pub fn network(text: &str) -> Result<String, NameError> {
    check_name("network", text)?;
    Ok(text.to_owned())
}

/// A switch's name within its network, checked.
pub fn switch(text: &str) -> Result<String, NameError> {
    check_name("switch", text)?;
    Ok(text.to_owned())
}

/// A host's name, checked.
pub fn host(text: &str) -> Result<String, NameError> {
    check_name("host", text)?;
    Ok(text.to_owned())
}

/// `NET` or `NET/SWITCH`: what a list is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Empty: all.
    pub network: String,
    /// Empty: all.
    pub switch: String,
}

impl FromStr for Scope {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        if s.contains('/') {
            let SwitchName { network, switch } = s.parse()?;
            Ok(Self { network, switch })
        } else {
            Ok(Self {
                network: network(s)?,
                switch: String::new(),
            })
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.network.as_str(), self.switch.as_str()) {
            ("", _) => f.write_str("all networks"),
            (network, "") => write!(f, "network {network}"),
            (network, switch) => write!(f, "switch {network}/{switch}"),
        }
    }
}

/// `NET/SWITCH` or `NET/SWITCH:PORT`: where a new port goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPort {
    pub switch: SwitchName,
    /// 0: the coordinator chooses.
    pub port: u32,
}

impl FromStr for NewPort {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        if s.contains(':') {
            let PortName { switch, port } = s.parse()?;
            Ok(Self {
                switch,
                port: port.0,
            })
        } else {
            Ok(Self {
                switch: s.parse()?,
                port: 0,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_and_new_ports() {
        let scope: Scope = "acme/edge".parse().unwrap();
        assert_eq!((&*scope.network, &*scope.switch), ("acme", "edge"));
        assert_eq!("acme".parse::<Scope>().unwrap().switch, "");
        assert!("".parse::<Scope>().is_err());
        assert_eq!("acme/edge:7".parse::<NewPort>().unwrap().port, 7);
        assert_eq!("acme/edge".parse::<NewPort>().unwrap().port, 0);
        let local: NewPort = "acme/edge:LOCAL".parse().unwrap();
        assert_eq!(local.port, 0xffff_fffe);
    }
}
