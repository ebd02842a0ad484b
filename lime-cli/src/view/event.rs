//! Events for a controller.

use lime_core::PortNo;
use lime_core::flow::Rule;
use lime_core::flow::ofctl::format_rule;
use lime_proto::v1;
use serde::Serialize;

use crate::packet;

#[derive(Debug, Serialize)]
pub struct Event {
    /// `NET/SWITCH`
    pub switch: String,
    pub version: u32,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    PacketIn {
        reason: &'static str,
        table: u32,
        cookie: u64,
        in_port: u32,
        total_len: u32,
        /// Hexadecimal digits; perhaps only the packet's beginning.
        data: String,
        /// The packet in words.
        packet: String,
    },
    FlowRemoved {
        reason: &'static str,
        rule_id: u64,
        cookie: u64,
        packets: u64,
        bytes: u64,
        duration_ms: u64,
        /// The rule, as `lime rule add` takes it.
        flow: String,
    },
    PortStatus {
        port_no: u32,
        up: bool,
    },
    /// Of a newer coordinator.
    Other,
}

impl From<v1::ControllerEvent> for Event {
    fn from(e: v1::ControllerEvent) -> Self {
        let what = match e {
            v1::ControllerEvent {
                packet_in: Some(p), ..
            } => packet_in(&p),
            v1::ControllerEvent {
                flow_removed: Some(f),
                ..
            } => flow_removed(f),
            v1::ControllerEvent {
                port_status: Some(p),
                ..
            } => What::PortStatus {
                port_no: p.port_no,
                up: p.up,
            },
            _ => What::Other,
        };
        Self {
            switch: format!("{}/{}", e.network, e.switch),
            version: e.version,
            what,
        }
    }
}

fn packet_in(p: &v1::PacketIn) -> What {
    What::PacketIn {
        reason: match p.reason() {
            v1::PacketInReason::NoMatch => "no_match",
            v1::PacketInReason::Action => "action",
            v1::PacketInReason::InvalidTtl => "invalid_ttl",
        },
        table: p.table,
        cookie: p.cookie,
        in_port: p.in_port,
        total_len: p.total_len,
        packet: packet::describe(&p.data),
        data: packet::to_hex(&p.data),
    }
}

fn flow_removed(f: v1::FlowRemoved) -> What {
    use v1::flow_removed::Reason;
    let reason = match f.reason() {
        Reason::IdleTimeout => "idle_timeout",
        Reason::HardTimeout => "hard_timeout",
        Reason::Delete => "delete",
        Reason::GroupDelete => "group_delete",
    };
    let wire = f.rule.unwrap_or_default();
    let cookie = wire.cookie;
    let flow = Rule::try_from(wire).map_or_else(|e| format!("({e})"), |r| format_rule(&r));
    What::FlowRemoved {
        reason,
        rule_id: f.rule_id,
        cookie,
        packets: f.packets,
        bytes: f.bytes,
        duration_ms: f.duration_ms,
        flow,
    }
}

impl Event {
    pub fn line(&self) -> String {
        let about = format!("{} version={}", self.switch, self.version);
        match &self.what {
            What::PacketIn {
                reason,
                table,
                cookie,
                in_port,
                total_len,
                packet,
                ..
            } => format!(
                "{about} reason={reason} table={table} cookie={cookie:#x} in_port={} total_len={total_len}: {packet}",
                PortNo(*in_port)
            ),
            What::FlowRemoved {
                reason,
                packets,
                bytes,
                duration_ms,
                flow,
                ..
            } => format!(
                "{about} flow_removed reason={reason} duration={}.{:03}s n_packets={packets} n_bytes={bytes}: {flow}",
                duration_ms / 1000,
                duration_ms % 1000,
            ),
            What::PortStatus { port_no, up } => {
                let state = if *up { "up" } else { "down" };
                format!("{about} port_status port={} {state}", PortNo(*port_no))
            }
            What::Other => format!("{about} of a kind that this program does not know"),
        }
    }
}
