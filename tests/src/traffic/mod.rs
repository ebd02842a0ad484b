//! Real traffic between end hosts' own stacks, accounted for to the packet.
//!
//! - [`UdpFlow`]: sequence-numbered datagrams at a steady rate: lost, duplicated, reordered, longest gap;
//! - [`TcpFlow`]: a stream of numbered records whose content is verified: resets, longest gap;
//! - [`Series`]: how much arrived in each 10 ms, for timelines;
//! - `echo`: answers datagrams at once, for reactive applications and reachability tests.

mod echo;
mod ping;
mod series;
mod socket;
mod tcp;
mod udp;

use serde::{Deserialize, Serialize};

pub use echo::Echo;
pub use ping::{Reached, reach};
pub use series::{Origin, Series};
pub use tcp::{TcpFlow, TcpSpec};
pub use udp::{UdpFlow, UdpSpec};

/// What became of one flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowReport {
    /// `udp h1>h2`.
    pub name: String,
    /// `udp` or `tcp`.
    pub proto: String,
    /// Datagrams; of TCP: records of 1,024 bytes.
    pub sent: u64,
    /// Distinct datagrams or verified records that arrived.
    pub received: u64,
    /// Sent and never received.
    pub lost: u64,
    /// Received once more. Of TCP: records with wrong content.
    pub duplicated: u64,
    /// Received after one that was sent later.
    pub reordered: u64,
    /// Longest time between two arrivals, milliseconds.
    pub longest_gap_ms: f64,
    /// TCP connections that ended by anything but an orderly close.
    pub resets: u64,
}

impl FlowReport {
    /// Whether all arrived, once.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.resets == 0 && self.sent > 0
    }
}
