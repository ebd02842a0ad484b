//! What the agent is started with.

use std::net::IpAddr;
use std::path::PathBuf;

use lime_core::check_name;
use thiserror::Error;

use crate::datapath::{AttachMode, Limits};

/// Everything the agent needs to know before it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// This host's name, as operators call it.
    pub host: String,
    /// Where the coordinator listens, `http://ADDRESS:PORT`.
    pub coordinator: String,
    /// Device that carries tunnel frames; `None`: the one that has [`Config::underlay_address`].
    pub underlay_device: Option<String>,
    /// Where other agents reach this one; `None`: the first global address of [`Config::underlay_device`].
    pub underlay_address: Option<IpAddr>,
    /// How the underlay's programs are attached.
    pub underlay_attach: AttachMode,
    /// Directory in a bpffs, this agent's own, where programs, maps and links are pinned.
    pub bpffs: PathBuf,
    /// Directory for what must survive a restart and has no place in a bpffs.
    pub state_dir: PathBuf,
    /// Sizes of the tables, where none are adopted.
    pub limits: Limits,
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The host's name.
    #[error("bad host name")]
    Host(#[from] lime_core::NameError),
    /// Not a URI that can be dialled.
    #[error("{uri:?} is no address of a coordinator: write http://ADDRESS:PORT")]
    Coordinator {
        /// What was given.
        uri: String,
    },
    /// Neither device nor address.
    #[error("no underlay: give --underlay-device DEVICE or --underlay-address ADDRESS (or both)")]
    NoUnderlay,
    /// Relative paths change their meaning with the working directory.
    #[error("{what} {path}: give an absolute path")]
    RelativePath {
        /// Which option.
        what: &'static str,
        /// What was given.
        path: PathBuf,
    },
}

impl Config {
    /// Checks what can be checked without looking at the host.
    ///
    /// # Errors
    /// Says which option is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_name("host", &self.host)?;
        let uri: Result<tonic::transport::Uri, _> = self.coordinator.parse();
        if !uri.is_ok_and(|u| u.scheme_str() == Some("http") && u.host().is_some()) {
            return Err(ConfigError::Coordinator {
                uri: self.coordinator.clone(),
            });
        }
        if self.underlay_device.is_none() && self.underlay_address.is_none() {
            return Err(ConfigError::NoUnderlay);
        }
        for (what, path) in [("--bpffs", &self.bpffs), ("--state-dir", &self.state_dir)] {
            if !path.is_absolute() {
                return Err(ConfigError::RelativePath {
                    what,
                    path: path.clone(),
                });
            }
        }
        Ok(())
    }
}
