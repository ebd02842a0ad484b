//! `lime port`

use clap::{Subcommand, ValueEnum};
use lime_core::PortName;
use lime_proto::v1;

use crate::client::{Client, Context};
use crate::error::CliError;
use crate::names::{self, NewPort, Scope};
use crate::output::{self, or_dash, yes_no};
use crate::view;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a device a port of a switch
    Create {
        /// The switch, and the port's number if it is not to be the lowest free one
        #[arg(value_name = "NET/SWITCH[:PORT]")]
        name: NewPort,
        /// Where the device is
        #[arg(long, value_parser = names::host)]
        host: String,
        /// The device's name there
        #[arg(long)]
        device: String,
        /// How packets are taken from the device
        #[arg(long, value_enum, default_value_t)]
        attach: Attach,
        /// How the end host behind the port is moved with it
        #[arg(long, default_value = "")]
        driver: String,
        /// Largest packet without the Ethernet header, bytes
        #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(68..=65_535))]
        mtu: u32,
        /// Leave the port out of FLOOD
        #[arg(long)]
        no_flood: bool,
        /// It leads to a network outside, where packets may meet that have gone out by other ports
        #[arg(long)]
        external: bool,
    },
    /// Delete a port; its device stays
    Delete {
        #[arg(value_name = "NET/SWITCH:PORT")]
        name: PortName,
    },
    /// List ports
    List {
        /// Only of this network or switch
        #[arg(value_name = "NET[/SWITCH]")]
        scope: Option<Scope>,
    },
    /// Show a port
    Show {
        #[arg(value_name = "NET/SWITCH:PORT")]
        name: PortName,
    },
    /// Move a port, and the end host behind it, to a device on another host
    Move {
        #[arg(value_name = "NET/SWITCH:PORT")]
        name: PortName,
        /// Where it goes
        #[arg(long, value_name = "HOST", value_parser = names::host)]
        to: String,
        /// The device's name there
        #[arg(long)]
        device: String,
        /// How the end host is moved from there again; as before if not given
        #[arg(long, default_value = "")]
        driver: String,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Attach {
    /// XDP where the device is best served so, else TC
    #[default]
    Auto,
    /// XDP, with TC behind it
    Xdp,
    /// TC only
    Tc,
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    match command {
        Command::Create {
            name,
            host,
            device,
            attach,
            driver,
            mtu,
            no_flood,
            external,
        } => {
            let attach = match attach {
                Attach::Auto => v1::PortAttach::Auto,
                Attach::Xdp => v1::PortAttach::Xdp,
                Attach::Tc => v1::PortAttach::Tc,
            };
            let doing = format!("make {device} on {host} a port of switch {}", name.switch);
            let request = v1::CreatePortRequest {
                network: name.switch.network,
                switch: name.switch.switch,
                port_no: name.port,
                host,
                device,
                attach: attach.into(),
                driver,
                mtu,
                no_flood,
                external,
            };
            let port = ctx.call(doing, client.create_port(request)).await?;
            output::warn(&port.warnings);
            let port = view::Port::from(port);
            ctx.out.value(&port, || {
                format!(
                    "port {} created: {} on {}",
                    port.name, port.device, port.host
                )
            })
        }
        Command::Delete { name } => {
            let doing = format!("delete port {name}");
            let text = format!("port {name} deleted");
            let request = v1::DeletePortRequest {
                network: name.switch.network.clone(),
                switch: name.switch.switch.clone(),
                port_no: name.port.0,
            };
            ctx.call(doing, client.delete_port(request)).await?;
            ctx.out.done("deleted", &name.to_string(), text)
        }
        Command::List { scope } => {
            let ports = list(ctx, &mut client, &scope.unwrap_or_default()).await?;
            ctx.out.value(&ports, || table(&ports))
        }
        Command::Show { name } => {
            let scope = Scope {
                network: name.switch.network.clone(),
                switch: name.switch.switch.clone(),
            };
            let ports = list(ctx, &mut client, &scope).await?;
            let found = ports.iter().find(|p| p.port_no == name.port.0);
            let port = found.ok_or_else(|| CliError::not_found("port", name))?;
            ctx.out.value(port, || describe(port))
        }
        Command::Move {
            name,
            to,
            device,
            driver,
        } => {
            let doing = format!("move port {name} to {device} on {to}");
            let request = v1::MovePortRequest {
                network: name.switch.network,
                switch: name.switch.switch,
                port_no: name.port.0,
                host: to,
                device,
                driver,
            };
            let port = ctx.call(doing, client.move_port(request)).await?;
            let port = view::Port::from(port);
            ctx.out.value(&port, || {
                format!("port {} is now {} on {}", port.name, port.device, port.host)
            })
        }
    }
}

/// The ports of a switch, a network, or all.
pub async fn list(
    ctx: &Context,
    client: &mut Client,
    scope: &Scope,
) -> Result<Vec<view::Port>, CliError> {
    let request = v1::ListPortsRequest {
        network: scope.network.clone(),
        switch: scope.switch.clone(),
    };
    let doing = format!("list the ports of {scope}");
    let answer = ctx.call(doing, client.list_ports(request)).await?;
    Ok(answer.ports.into_iter().map(Into::into).collect())
}

/// The ports for people.
pub fn table(ports: &[view::Port]) -> String {
    let rows: Vec<_> = ports
        .iter()
        .map(|p| {
            vec![
                p.name.clone(),
                or_dash(&p.host),
                or_dash(&p.device),
                if p.link.is_empty() { p.attach } else { "-" }.to_owned(),
                p.mtu.to_string(),
                yes_no(p.up),
                or_dash(&p.link),
            ]
        })
        .collect();
    let header = ["PORT", "HOST", "DEVICE", "ATTACH", "MTU", "UP", "LINK TO"];
    output::table(&header, &rows)
}

fn describe(port: &view::Port) -> String {
    let mut text = format!("port {}: id {}, ", port.name, port.id);
    text += &if port.link.is_empty() {
        format!("{} on {}, attach {}", port.device, port.host, port.attach)
    } else {
        format!("linked to {}", port.link)
    };
    text += &format!(
        "\nup: {}, MTU {}, flooded: {}",
        yes_no(port.up),
        port.mtu,
        yes_no(!port.no_flood)
    );
    if !port.driver.is_empty() {
        text += &format!("\ndriver: {}", port.driver);
    }
    text
}
