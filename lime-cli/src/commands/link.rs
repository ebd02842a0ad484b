//! `lime link`

use clap::Subcommand;
use lime_core::PortName;
use lime_proto::v1;

use crate::client::{Client, Context};
use crate::error::CliError;
use crate::names;
use crate::output;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Link two switches of a network; makes a port on each
    Create {
        #[arg(value_name = "NET/SWITCH:PORT")]
        a: PortName,
        #[arg(value_name = "NET/SWITCH:PORT")]
        b: PortName,
    },
    /// Delete a link and its two ports
    Delete {
        /// Either end
        #[arg(value_name = "NET/SWITCH:PORT")]
        end: PortName,
    },
    /// List links
    List {
        /// Only of this network
        #[arg(value_name = "NET", value_parser = names::network)]
        network: Option<String>,
    },
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Create { a, b } => {
            if a.switch.network != b.switch.network {
                return Err(CliError::Usage(format!(
                    "{a} and {b} are ports of different networks: a link joins switches of one network"
                )));
            }
            let mut client = ctx.connect().await?;
            let doing = format!("link {a} to {b}");
            let text = format!("link created: {a} to {b}");
            let request = v1::CreateLinkRequest {
                network: a.switch.network,
                switch_a: a.switch.switch,
                port_a: a.port.0,
                switch_b: b.switch.switch,
                port_b: b.port.0,
            };
            let link = ctx.call(doing, client.create_link(request)).await?;
            ctx.out.value(&link, || text)
        }
        Command::Delete { end } => {
            let mut client = ctx.connect().await?;
            let doing = format!("delete the link at {end}");
            let request = v1::DeleteLinkRequest {
                network: end.switch.network.clone(),
                switch_a: end.switch.switch.clone(),
                port_a: end.port.0,
            };
            ctx.call(doing, client.delete_link(request)).await?;
            let text = format!("link at {end} deleted");
            ctx.out.done("deleted", &end.to_string(), text)
        }
        Command::List { network } => {
            let mut client = ctx.connect().await?;
            let links = list(ctx, &mut client, &network.unwrap_or_default()).await?;
            ctx.out.value(&links, || table(&links))
        }
    }
}

/// The links of a network; of all, if it has no name.
pub async fn list(
    ctx: &Context,
    client: &mut Client,
    network: &str,
) -> Result<Vec<v1::Link>, CliError> {
    let request = v1::ListLinksRequest {
        network: network.to_owned(),
    };
    let answer = ctx.call("list links", client.list_links(request));
    Ok(answer.await?.links)
}

/// The links for people.
pub fn table(links: &[v1::Link]) -> String {
    let rows: Vec<_> = links
        .iter()
        .map(|l| {
            vec![
                format!("{}/{}:{}", l.network, l.switch_a, l.port_a),
                format!("{}/{}:{}", l.network, l.switch_b, l.port_b),
            ]
        })
        .collect();
    output::table(&["LINK FROM", "TO"], &rows)
}
