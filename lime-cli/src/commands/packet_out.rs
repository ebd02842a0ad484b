//! `lime packet-out`

use clap::Args;
use lime_core::flow::PacketOut;
use lime_core::flow::ofctl::parse_actions;
use lime_core::{PortNo, SwitchName};
use lime_proto::v1;

use crate::client::Context;
use crate::error::CliError;
use crate::flows::bad_flow;
use crate::packet;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lime packet-out acme/edge output:2 --packet 'ffffffffffff 020000000001 88b5 00'")]
pub struct Command {
    #[arg(value_name = "NET/SWITCH")]
    switch: SwitchName,
    /// What to do with the packet, in ovs-ofctl syntax: output:2, flood, set_field:..., table
    actions: String,
    /// The packet: an Ethernet frame in hexadecimal digits, without its checksum
    #[arg(long, value_name = "HEX", value_parser = parse_packet)]
    packet: Packet,
    /// The port it stands for having come in at: left out by flood and all, meant by in_port
    #[arg(long, value_name = "PORT", value_parser = str::parse::<PortNo>)]
    in_port: Option<PortNo>,
}

/// Bytes of a packet; a type of its own, for clap takes a bare Vec for a repeated option.
#[derive(Clone, Debug)]
struct Packet(Vec<u8>);

fn parse_packet(text: &str) -> Result<Packet, String> {
    packet::from_hex(text).map(Packet)
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let switch = command.switch;
    let packet = PacketOut {
        in_port: command.in_port.unwrap_or(PortNo::CONTROLLER),
        actions: parse_actions(&command.actions).map_err(|e| bad_flow(&command.actions, &e))?,
        data: command.packet.0,
    };
    packet.check().map_err(|e| CliError::Usage(e.to_string()))?;
    let len = packet.data.len();
    let mut client = ctx.connect().await?;
    let doing = format!("send a packet out of switch {switch}");
    let request = v1::SendPacketOutRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        packet_out: Some(packet.into()),
    };
    ctx.call(doing, client.send_packet_out(request)).await?;
    let text = format!("{len} bytes sent out of switch {switch}");
    ctx.out.done("sent", &switch.to_string(), text)
}
