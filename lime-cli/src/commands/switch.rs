//! `lime switch`

use clap::{ArgGroup, Subcommand, ValueEnum};
use lime_core::SwitchName;
use lime_core::model::PacketIns;
use lime_proto::v1;
use serde::Serialize;

use super::{port, statistics};
use crate::client::{Client, Context};
use crate::error::CliError;
use crate::names::{self, Scope};
use crate::output::{self, or_dash};
use crate::view;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a switch with its first instance
    Create {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
        /// Where the instance is
        #[arg(long, value_parser = names::host)]
        host: String,
        /// Packet-ins that each instance may send, bytes a second (1000 to 100000000). A packet-in takes 64 bytes and the part of the packet
        /// that goes with it; what is beyond is dropped and counted (packet-in-limit)
        #[arg(long, value_name = "BYTES", default_value_t = PacketIns::default().rate)]
        packet_in_rate: u32,
        /// Packet-ins that an instance may send at once after a time of less, bytes (10000 to 1048576)
        #[arg(long, value_name = "BYTES", default_value_t = PacketIns::default().burst)]
        packet_in_burst: u32,
        /// Send packets whose TTL runs out to the controller
        #[arg(long)]
        invalid_ttl: bool,
    },
    /// Change what a switch sends its controller beside what rules say
    #[command(group = ArgGroup::new("settings").required(true).multiple(true))]
    Set {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
        /// Packet-ins that each instance may send, bytes a second (1000 to 100000000; 0: 2000000)
        #[arg(long, value_name = "BYTES", group = "settings")]
        packet_in_rate: Option<u32>,
        /// Packet-ins that an instance may send at once after a time of less, bytes (10000 to 1048576; 0: 262144)
        #[arg(long, value_name = "BYTES", group = "settings")]
        packet_in_burst: Option<u32>,
        /// Whether packets whose TTL runs out go to the controller
        #[arg(long, group = "settings")]
        invalid_ttl: Option<Switched>,
    },
    /// Delete a switch that has no ports
    Delete {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
    },
    /// List switches
    List {
        /// Only of this network
        #[arg(value_name = "NET", value_parser = names::network)]
        network: Option<String>,
    },
    /// Show a switch and its ports
    Show {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
    },
    /// Clone a switch: one more instance, on a further host
    Clone {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
        /// Where the new instance goes
        #[arg(long, value_name = "HOST", value_parser = names::host)]
        to: String,
    },
    /// Retire one of a switch's instances
    Retire {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
        /// Which instance goes
        #[arg(long, value_name = "HOST", value_parser = names::host)]
        from: String,
    },
    #[command(flatten)]
    Statistics(statistics::Command),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switched {
    On,
    Off,
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    match command {
        Command::Statistics(command) => statistics::run(ctx, command).await,
        Command::Create {
            name,
            host,
            packet_in_rate,
            packet_in_burst,
            invalid_ttl,
        } => {
            let doing = format!("create switch {name} on {host}");
            let request = v1::CreateSwitchRequest {
                network: name.network.clone(),
                name: name.switch.clone(),
                host: host.clone(),
                packet_ins: Some(v1::PacketIns {
                    rate: packet_in_rate,
                    burst: packet_in_burst,
                    invalid_ttl,
                }),
            };
            let switch = ctx.call(doing, client.create_switch(request)).await?;
            ctx.out
                .value(&switch, || format!("switch {name} created on {host}"))
        }
        Command::Set {
            name,
            packet_in_rate,
            packet_in_burst,
            invalid_ttl,
        } => {
            let doing = format!("set switch {name}");
            let request = v1::ConfigureSwitchRequest {
                network: name.network.clone(),
                name: name.switch.clone(),
                packet_in_rate,
                packet_in_burst,
                invalid_ttl: invalid_ttl.map(|s| s == Switched::On),
            };
            let switch = ctx.call(doing, client.configure_switch(request)).await?;
            ctx.out.value(&switch, || {
                let packet_ins = packet_ins(&switch.packet_ins.unwrap_or_default());
                format!("switch {name} sends packet-ins: {packet_ins}")
            })
        }
        Command::Delete { name } => {
            let doing = format!("delete switch {name}");
            let request = v1::DeleteSwitchRequest {
                network: name.network.clone(),
                name: name.switch.clone(),
            };
            ctx.call(doing, client.delete_switch(request)).await?;
            let text = format!("switch {name} deleted");
            ctx.out.done("deleted", &name.to_string(), text)
        }
        Command::List { network } => {
            let network = network.unwrap_or_default();
            let switches = list(ctx, &mut client, &network).await?;
            ctx.out.value(&switches, || table(&switches))
        }
        Command::Show { name } => show(ctx, &mut client, &name).await,
        Command::Clone { name, to } => {
            let doing = format!("clone switch {name} to {to}");
            let request = v1::AddInstanceRequest {
                network: name.network.clone(),
                switch: name.switch.clone(),
                host: to.clone(),
            };
            let switch = ctx.call(doing, client.add_instance(request)).await?;
            ctx.out.value(&switch, || {
                let on = switch.instances.join(", ");
                format!("switch {name} cloned to {to}; instances: {on}")
            })
        }
        Command::Retire { name, from } => {
            let doing = format!("retire switch {name} from {from}");
            let request = v1::RemoveInstanceRequest {
                network: name.network.clone(),
                switch: name.switch.clone(),
                host: from.clone(),
            };
            let switch = ctx.call(doing, client.remove_instance(request)).await?;
            ctx.out.value(&switch, || {
                let on = switch.instances.join(", ");
                format!("switch {name} retired from {from}; instances: {on}")
            })
        }
    }
}

/// The switches of a network; of all, if it has no name.
pub async fn list(
    ctx: &Context,
    client: &mut Client,
    network: &str,
) -> Result<Vec<v1::Switch>, CliError> {
    let request = v1::ListSwitchesRequest {
        network: network.to_owned(),
    };
    let answer = ctx.call("list switches", client.list_switches(request));
    Ok(answer.await?.switches)
}

/// The switches for people.
pub fn table(switches: &[v1::Switch]) -> String {
    let rows: Vec<_> = switches
        .iter()
        .map(|s| {
            vec![
                format!("{}/{}", s.network, s.name),
                or_dash(&s.instances.join(",")),
                s.ports.to_string(),
                s.rules.to_string(),
            ]
        })
        .collect();
    output::table(&["SWITCH", "INSTANCES", "PORTS", "RULES"], &rows)
}

async fn show(ctx: &Context, client: &mut Client, name: &SwitchName) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Show {
        #[serde(flatten)]
        switch: v1::Switch,
        port_list: Vec<view::Port>,
    }
    let switches = list(ctx, client, &name.network).await?;
    let found = switches.into_iter().find(|s| s.name == name.switch);
    let switch = found.ok_or_else(|| CliError::not_found("switch", name))?;
    let scope = Scope {
        network: name.network.clone(),
        switch: name.switch.clone(),
    };
    let port_list = port::list(ctx, client, &scope).await?;
    let show = Show { switch, port_list };
    ctx.out.value(&show, || {
        let s = &show.switch;
        format!(
            "switch {name}: id {}, {} rules\ninstances: {}\npacket-ins: {}\n\n{}",
            s.id,
            s.rules,
            or_dash(&s.instances.join(", ")),
            packet_ins(&s.packet_ins.unwrap_or_default()),
            port::table(&show.port_list)
        )
    })
}

fn packet_ins(of: &v1::PacketIns) -> String {
    let ttl = if of.invalid_ttl {
        "; packets whose TTL runs out too"
    } else {
        ""
    };
    format!(
        "{} bytes a second and {} at once, on each instance{ttl}",
        of.rate, of.burst
    )
}
