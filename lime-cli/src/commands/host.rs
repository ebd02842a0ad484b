//! `lime host`

use std::collections::BTreeSet;

use clap::Subcommand;
use lime_proto::v1;
use serde::Serialize;

use super::{migrate, port, switch};
use crate::client::{Client, Context};
use crate::error::CliError;
use crate::names::{self, Scope};
use crate::output::{or_dash, yes_no};
use crate::view;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List all hosts
    List,
    /// Show a host and what is on it
    Show {
        #[arg(value_name = "HOST", value_parser = names::host)]
        name: String,
    },
    /// Forget a host that has nothing on it
    Delete {
        #[arg(value_name = "HOST", value_parser = names::host)]
        name: String,
    },
    /// Let nothing new onto a host
    Cordon {
        #[arg(value_name = "HOST", value_parser = names::host)]
        name: String,
    },
    /// Let new things onto a host again
    Uncordon {
        #[arg(value_name = "HOST", value_parser = names::host)]
        name: String,
    },
    /// Move everything from a host to another, live
    ///
    /// Cordons the host first, and leaves it so. Then one migration for each network that has something on it, one after the other; at
    /// the first that does not complete it stops.
    Drain {
        #[arg(value_name = "HOST", value_parser = names::host)]
        name: String,
        /// Where everything goes
        #[arg(long, value_name = "HOST", value_parser = names::host)]
        to: String,
        #[command(flatten)]
        targets: migrate::Targets,
    },
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    match command {
        Command::List => {
            let hosts = list(ctx, &mut client).await?;
            let header = [
                "HOST",
                "CONNECTED",
                "CORDONED",
                "UNDERLAY",
                "MTU",
                "AGENT",
                "SWITCHES",
                "PORTS",
                "FREE RULES",
            ];
            ctx.out.list(&hosts, &header, |h| {
                vec![
                    h.name.clone(),
                    yes_no(h.connected),
                    yes_no(h.cordoned),
                    or_dash(&h.underlay_address),
                    h.underlay_mtu.to_string(),
                    or_dash(&h.agent_version),
                    h.instances.to_string(),
                    h.ports.to_string(),
                    h.free_rules.to_string(),
                ]
            })
        }
        Command::Show { name } => show(ctx, &mut client, &name).await,
        Command::Delete { name } => {
            let doing = format!("delete host {name}");
            let request = v1::DeleteHostRequest { name: name.clone() };
            ctx.call(doing, client.delete_host(request)).await?;
            let text = format!("host {name} deleted");
            ctx.out.done("deleted", &name, text)
        }
        Command::Cordon { name } => {
            let host = cordon(ctx, &mut client, &name, true).await?;
            ctx.out.value(&host, || format!("host {name} cordoned"))
        }
        Command::Uncordon { name } => {
            let host = cordon(ctx, &mut client, &name, false).await?;
            ctx.out.value(&host, || format!("host {name} uncordoned"))
        }
        Command::Drain { name, to, targets } => drain(ctx, client, &name, &to, &targets).await,
    }
}

async fn list(ctx: &Context, client: &mut Client) -> Result<Vec<v1::Host>, CliError> {
    let request = v1::ListHostsRequest {};
    let answer = ctx.call("list hosts", client.list_hosts(request));
    let mut hosts = answer.await?.hosts;
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(hosts)
}

async fn cordon(
    ctx: &Context,
    client: &mut Client,
    name: &str,
    cordoned: bool,
) -> Result<v1::Host, CliError> {
    let doing = format!(
        "{} host {name}",
        if cordoned { "cordon" } else { "uncordon" }
    );
    let request = v1::CordonHostRequest {
        name: name.to_owned(),
        cordoned,
    };
    ctx.call(doing, client.cordon_host(request)).await
}

/// Switches with an instance on the host, and ports on it.
async fn contents(
    ctx: &Context,
    client: &mut Client,
    name: &str,
) -> Result<(Vec<v1::Switch>, Vec<view::Port>), CliError> {
    let mut switches = switch::list(ctx, client, "").await?;
    switches.retain(|s| s.instances.iter().any(|i| i == name));
    let mut ports = port::list(ctx, client, &Scope::default()).await?;
    ports.retain(|p| p.host == name);
    Ok((switches, ports))
}

async fn show(ctx: &Context, client: &mut Client, name: &str) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Show {
        #[serde(flatten)]
        host: v1::Host,
        switch_list: Vec<v1::Switch>,
        port_list: Vec<view::Port>,
    }
    let hosts = list(ctx, client).await?;
    let found = hosts.into_iter().find(|h| h.name == name);
    let host = found.ok_or_else(|| CliError::not_found("host", name))?;
    let (switch_list, port_list) = contents(ctx, client, name).await?;
    let show = Show {
        host,
        switch_list,
        port_list,
    };
    ctx.out.value(&show, || {
        let h = &show.host;
        format!(
            "host {name}: id {}, connected: {}, cordoned: {}\n\
             underlay {}, MTU {}; agent {}, room for {} more rules\n\n{}\n\n{}",
            h.id,
            yes_no(h.connected),
            yes_no(h.cordoned),
            or_dash(&h.underlay_address),
            h.underlay_mtu,
            or_dash(&h.agent_version),
            h.free_rules,
            switch::table(&show.switch_list),
            port::table(&show.port_list),
        )
    })
}

async fn drain(
    ctx: &Context,
    mut client: Client,
    name: &str,
    to: &str,
    targets: &migrate::Targets,
) -> Result<(), CliError> {
    #[derive(Serialize)]
    struct Drain<'a> {
        host: &'a str,
        to: &'a str,
        migrations: Vec<view::Migration>,
    }
    if name == to {
        return Err(CliError::Usage(format!(
            "host {name} cannot be drained to itself: give another with --to"
        )));
    }
    cordon(ctx, &mut client, name, true).await?;
    let (switches, ports) = contents(ctx, &mut client, name).await?;
    let networks: BTreeSet<String> = switches
        .into_iter()
        .map(|s| s.network)
        .chain(ports.into_iter().map(|p| p.network))
        .collect();
    let mut drain = Drain {
        host: name,
        to,
        migrations: Vec::new(),
    };
    let mut outcome = Ok(());
    for network in networks {
        let request = v1::MigrationRequest {
            network,
            from: name.to_owned(),
            to: to.to_owned(),
            device_template: targets.device_template.clone(),
            ..Default::default()
        };
        let ended = async {
            let migration = migrate::start(ctx, &mut client, request).await?;
            migrate::follow(ctx, client.clone(), migration).await
        };
        outcome = match ended.await {
            Ok(ended) => {
                let outcome = migrate::check_completed(&ended);
                drain.migrations.push(ended);
                outcome
            }
            Err(e) => Err(e),
        };
        if outcome.is_err() {
            break;
        }
    }
    ctx.out.value(&drain, || {
        let mut parts: Vec<_> = drain
            .migrations
            .iter()
            .map(view::Migration::report)
            .collect();
        parts.push(match &outcome {
            Ok(()) => format!(
                "host {name} is empty and cordoned; `lime host uncordon {name}` opens it again"
            ),
            Err(_) => format!("host {name} is not empty; it stays cordoned"),
        });
        parts.join("\n\n")
    })?;
    outcome
}
