//! `lime network`

use clap::{Subcommand, ValueEnum};
use lime_proto::v1;
use serde::Serialize;

use super::{link, port, switch};
use crate::client::{Client, Context};
use crate::error::CliError;
use crate::names::{self, Scope};
use crate::output::{self, or_dash};
use crate::view;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a network
    Create {
        /// Its name
        #[arg(value_name = "NET", value_parser = names::network)]
        name: String,
        /// What the instances of a switch promise together; it stays so
        #[arg(long, value_enum, default_value_t)]
        consistency: Consistency,
    },
    /// Delete an empty network
    Delete {
        #[arg(value_name = "NET", value_parser = names::network)]
        name: String,
    },
    /// List all networks
    List,
    /// Show a network and all that is in it
    Show {
        #[arg(value_name = "NET", value_parser = names::network)]
        name: String,
    },
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Consistency {
    /// As one switch, to every observer
    #[default]
    Causal,
    /// As one switch in real time: for networks whose packets also meet outside LIME
    Strict,
    /// Nothing: shows what can go wrong. Never for production
    None,
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    match command {
        Command::Create { name, consistency } => {
            let consistency = match consistency {
                Consistency::Causal => v1::Consistency::Causal,
                Consistency::Strict => v1::Consistency::Strict,
                Consistency::None => v1::Consistency::None,
            };
            let request = v1::CreateNetworkRequest {
                name: name.clone(),
                consistency: consistency.into(),
            };
            let doing = format!("create network {name}");
            let network = ctx.call(doing, client.create_network(request)).await?;
            let network = view::Network::from(network);
            ctx.out
                .value(&network, || format!("network {} created", network.name))
        }
        Command::Delete { name } => {
            let request = v1::DeleteNetworkRequest { name: name.clone() };
            let doing = format!("delete network {name}");
            ctx.call(doing, client.delete_network(request)).await?;
            let text = format!("network {name} deleted");
            ctx.out.done("deleted", &name, text)
        }
        Command::List => {
            let networks = list(ctx, &mut client).await?;
            let header = [
                "NETWORK",
                "CONSISTENCY",
                "EPOCH",
                "ACKNOWLEDGED",
                "HOSTS",
                "WAITING FOR",
            ];
            ctx.out.list(&networks, &header, |n| {
                vec![
                    n.name.clone(),
                    n.consistency.to_owned(),
                    n.epoch.to_string(),
                    n.acknowledged.to_string(),
                    or_dash(&n.members.join(",")),
                    or_dash(&n.waiting_for.join(",")),
                ]
            })
        }
        Command::Show { name } => show(ctx, &mut client, &name).await,
    }
}

/// All networks.
pub async fn list(ctx: &Context, client: &mut Client) -> Result<Vec<view::Network>, CliError> {
    let request = v1::ListNetworksRequest {};
    let answer = ctx.call("list networks", client.list_networks(request));
    Ok(answer.await?.networks.into_iter().map(Into::into).collect())
}

async fn show(ctx: &Context, client: &mut Client, name: &str) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Show {
        #[serde(flatten)]
        network: view::Network,
        switches: Vec<v1::Switch>,
        ports: Vec<view::Port>,
        links: Vec<v1::Link>,
    }
    let found = list(ctx, client)
        .await?
        .into_iter()
        .find(|n| n.name == name);
    let network = found.ok_or_else(|| CliError::not_found("network", name))?;
    let scope = Scope {
        network: name.to_owned(),
        switch: String::new(),
    };
    let show = Show {
        network,
        switches: switch::list(ctx, client, name).await?,
        ports: port::list(ctx, client, &scope).await?,
        links: link::list(ctx, client, name).await?,
    };
    output::warn(&show.network.warnings);
    ctx.out.value(&show, || {
        let n = &show.network;
        let mut text = format!(
            "network {}: id {}, VNI {}, consistency {}\nepoch {}, in effect everywhere: {}",
            n.name, n.id, n.vni, n.consistency, n.epoch, n.acknowledged
        );
        if !n.waiting_for.is_empty() {
            text += &format!(", waiting for {}", n.waiting_for.join(", "));
        }
        text += &format!("\nhosts: {}", or_dash(&n.members.join(", ")));
        if !n.excluded.is_empty() {
            text += &format!(
                "\nnot reached for longer than their lease, going on without them: {}",
                n.excluded.join(", ")
            );
        }
        for part in [
            switch::table(&show.switches),
            port::table(&show.ports),
            link::table(&show.links),
        ] {
            text += "\n\n";
            text += &part;
        }
        text
    })
}
