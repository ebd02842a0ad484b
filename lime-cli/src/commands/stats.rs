//! `lime stats`

use std::collections::BTreeMap;

use clap::Args;
use lime_core::PortNo;
use lime_proto::v1;
use serde::Serialize;

use crate::client::Context;
use crate::error::CliError;
use crate::names::Scope;

#[derive(Debug, Args)]
pub struct Command {
    /// Only of this network or switch
    #[arg(value_name = "NET[/SWITCH]")]
    scope: Option<Scope>,
}

#[derive(Serialize)]
struct PortStats {
    port: String,
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    /// By the reason's name.
    drops: BTreeMap<String, u64>,
    rx_dropped: u64,
    tx_dropped: u64,
    rx_errors: u64,
    tx_errors: u64,
    rx_frame_errors: u64,
    rx_over_errors: u64,
    rx_crc_errors: u64,
    collisions: u64,
    duration_ms: u64,
}

impl From<v1::PortStatsOf> for PortStats {
    fn from(p: v1::PortStatsOf) -> Self {
        let c = p.counters.unwrap_or_default();
        Self {
            port: format!("{}/{}:{}", p.network, p.switch, PortNo(p.port_no)),
            rx_packets: c.rx_packets,
            rx_bytes: c.rx_bytes,
            tx_packets: c.tx_packets,
            tx_bytes: c.tx_bytes,
            drops: c.drops.into_iter().filter(|(_, n)| *n > 0).collect(),
            rx_dropped: c.rx_dropped,
            tx_dropped: c.tx_dropped,
            rx_errors: c.rx_errors,
            tx_errors: c.tx_errors,
            rx_frame_errors: c.rx_frame_errors,
            rx_over_errors: c.rx_over_errors,
            rx_crc_errors: c.rx_crc_errors,
            collisions: c.collisions,
            duration_ms: p.duration_ms,
        }
    }
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let scope = command.scope.unwrap_or_default();
    let mut client = ctx.connect().await?;
    let doing = format!("read the counters of {scope}");
    let request = v1::PortStatsRequest {
        network: scope.network,
        switch: scope.switch,
    };
    let answer = ctx.call(doing, client.port_stats(request)).await?;
    let ports: Vec<PortStats> = answer.ports.into_iter().map(Into::into).collect();
    let header = [
        "PORT",
        "RX PACKETS",
        "RX BYTES",
        "TX PACKETS",
        "TX BYTES",
        "DROPS",
    ];
    ctx.out.list(&ports, &header, |p| {
        let drops: Vec<_> = p.drops.iter().map(|(r, n)| format!("{r}={n}")).collect();
        vec![
            p.port.clone(),
            p.rx_packets.to_string(),
            p.rx_bytes.to_string(),
            p.tx_packets.to_string(),
            p.tx_bytes.to_string(),
            crate::output::or_dash(&drops.join(" ")),
        ]
    })
}
