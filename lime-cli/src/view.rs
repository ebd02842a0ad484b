//! Messages as JSON for scripts, where the message itself would show numbers for names or bytes one by one.

mod event;
mod group;
mod meter;
mod migration;
mod rule;

use lime_core::PortNo;
use lime_proto::v1;
use serde::Serialize;

pub use self::event::Event;
pub use self::group::{BucketCounters, GroupView};
pub use self::meter::{BandCounters, MeterView};
pub use self::migration::Migration;
pub use self::migration::millis;
pub use self::rule::RuleStats;

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
    pub excluded: Vec<String>,
    pub warnings: Vec<String>,
}

impl From<v1::Network> for Network {
    fn from(n: v1::Network) -> Self {
        Self {
            consistency: match n.consistency() {
                v1::Consistency::Causal => "causal",
                v1::Consistency::Strict => "strict",
                v1::Consistency::None => "none",
            },
            name: n.name,
            id: n.id,
            vni: n.vni,
            epoch: n.epoch,
            acknowledged: n.acknowledged,
            members: n.members,
            waiting_for: n.waiting_for,
            excluded: n.excluded,
            warnings: n.warnings,
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
    pub external: bool,
    pub up: bool,
    pub link: String,
}

impl From<v1::Port> for Port {
    fn from(p: v1::Port) -> Self {
        Self {
            name: format!("{}/{}:{}", p.network, p.switch, PortNo(p.port_no)),
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
            external: p.external,
            up: p.up,
            link: p.link,
        }
    }
}
