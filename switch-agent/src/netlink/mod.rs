//! What the agent asks of rtnetlink: links, addresses, routes, neighbours, and the stream of their changes.
//!
//! A handle belongs to the network namespace of the thread that made it.

mod links;
mod monitor;
mod routes;
mod stats;

use std::io;

use thiserror::Error;
use tokio::task::JoinHandle;

pub use links::{Link, LinkEvent};
pub use monitor::{Change, Monitor};
pub use routes::{Neighbour, NextHop};
pub use stats::{ClassStats, DeviceStats};

/// Why a question to the kernel was not answered.
#[derive(Debug, Error)]
pub enum NetlinkError {
    /// The socket could not be opened.
    #[error("opening a netlink socket")]
    Open(#[source] io::Error),
    /// The kernel refused.
    #[error("netlink: {what}")]
    Request {
        /// What was asked for.
        what: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// A device that was just made is not there.
    #[error("device {name} has vanished: is something else managing this host's devices?")]
    Missing {
        /// Its name.
        name: String,
    },
}

/// A netlink socket for questions.
#[derive(Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Netlink {
    /// Opens a socket in the current network namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Whether the kernel's answer is this errno.
fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}
