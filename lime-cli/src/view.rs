//! Messages as JSON for scripts, where the message itself would show numbers for names or bytes one by one.

mod migration;
mod rule;

use lime_proto::v1;
use serde::Serialize;

pub use self::migration::Migration;
pub use self::migration::millis;
pub use self::rule::{GroupView, RuleStats};
use crate::packet;

#[derive(Debug, Serialize)]
pub struct Network {
    pub name: String,
    pub id: u32,
    pub vni: u32,
    pub consistency: &'static str,
    pub epoch: u32,
    pub acknowledged: u32,
    pub members: Vec<String>,
    pub waiting_for: Vec<String>,
}

impl From<v1::Network> for Network {
    fn from(n: v1::Network) -> Self {
        Self {
            consistency: match n.consistency() {
                v1::Consistency::Causal => "causal",
                v1::Consistency::None => "none",
            },
            name: n.name,
            id: n.id,
            vni: n.vni,
            epoch: n.epoch,
            acknowledged: n.acknowledged,
            members: n.members,
            waiting_for: n.waiting_for,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Port {
    /// `NET/SWITCH:PORT`
    pub name: String,
    pub id: u32,
    pub network: String,
    pub switch: String,
    pub port_no: u32,
    pub host: String,
    pub device: String,
    pub attach: &'static str,
    pub driver: String,
    pub mtu: u32,
    pub no_flood: bool,
    pub up: bool,
    pub link: String,
}

impl From<v1::Port> for Port {
    fn from(p: v1::Port) -> Self {
        Self {
            name: format!("{}/{}:{}", p.network, p.switch, p.port_no),
            attach: match p.attach() {
                v1::PortAttach::Auto => "auto",
                v1::PortAttach::Xdp => "xdp",
                v1::PortAttach::Tc => "tc",
            },
            id: p.id,
            network: p.network,
            switch: p.switch,
            port_no: p.port_no,
            host: p.host,
            device: p.device,
            driver: p.driver,
            mtu: p.mtu,
            no_flood: p.no_flood,
            up: p.up,
            link: p.link,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Event {
    /// `NET/SWITCH`
    pub switch: String,
    pub version: u32,
    pub reason: &'static str,
    pub table: u32,
    pub cookie: u64,
    pub in_port: u32,
    pub total_len: u32,
    /// Hexadecimal digits; perhaps only the packet's beginning.
    pub data: String,
    /// The packet in words.
    pub packet: String,
}

impl From<v1::ControllerEvent> for Event {
    fn from(e: v1::ControllerEvent) -> Self {
        let p = e.packet_in.unwrap_or_default();
        Self {
            switch: format!("{}/{}", e.network, e.switch),
            version: e.version,
            reason: match p.reason() {
                v1::PacketInReason::NoMatch => "no_match",
                v1::PacketInReason::Action => "action",
            },
            table: p.table,
            cookie: p.cookie,
            in_port: p.in_port,
            total_len: p.total_len,
            packet: packet::describe(&p.data),
            data: packet::to_hex(&p.data),
        }
    }
}

impl Event {
    pub fn line(&self) -> String {
        format!(
            "{} version={} reason={} table={} cookie={:#x} in_port={} total_len={}: {}",
            self.switch,
            self.version,
            self.reason,
            self.table,
            self.cookie,
            self.in_port,
            self.total_len,
            self.packet,
        )
    }
}
