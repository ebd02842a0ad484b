//! `lime migrate`

use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use lime_proto::v1;

use crate::client::{Client, Context};
use crate::error::CliError;
use crate::names;
use crate::output;
use crate::progress::Display;
use crate::view::Migration;

/// How long a coordinator that has gone is waited for: it goes on with its migrations when it is back.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between attempts to find it again.
const RETRY: Duration = Duration::from_millis(300);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what a migration would do, step by step
    Plan(Request),
    /// Migrate: switches and their ports from one host to another
    ///
    /// Shows the progress and ends with a report. If the command is stopped the migration goes on; `lime migrate status` shows it.
    Run {
        #[command(flatten)]
        request: Request,
        /// Return at once
        #[arg(long)]
        detach: bool,
    },
    /// Show how a migration stands, or how it ended
    Status {
        /// Its number
        id: u64,
        /// Go on until it has ended
        #[arg(long, short)]
        follow: bool,
    },
    /// Take a running migration back
    Rollback {
        /// Its number
        id: u64,
        /// Return at once
        #[arg(long)]
        detach: bool,
    },
    /// List all migrations
    List,
}

#[derive(Clone, Debug, Args)]
pub struct Request {
    /// The network
    #[arg(value_name = "NET", value_parser = names::network)]
    network: String,
    /// The host to leave
    #[arg(long, value_name = "HOST", value_parser = names::host)]
    from: String,
    /// The host to go to
    #[arg(long, value_name = "HOST", value_parser = names::host)]
    to: String,
    /// Only these switches; may be repeated. Else all of the network that are on --from
    #[arg(long = "switch", value_name = "SWITCH", value_parser = names::switch)]
    switches: Vec<String>,
    #[command(flatten)]
    targets: Targets,
    /// A port's device on --to, and its driver there if it is another; may be repeated
    #[arg(long = "port", value_name = "SWITCH:PORT=DEVICE[,DRIVER]")]
    ports: Vec<PortTarget>,
    /// Leave the ports where they are
    #[arg(long, conflicts_with_all = ["ports", "device_template"])]
    keep_ports: bool,
}

/// Where ports go that are not named.
#[derive(Clone, Debug, Args)]
pub struct Targets {
    /// Name of the devices on the other host: {switch}, {port} and {device} (its name now) are filled in
    #[arg(long, value_name = "NAME", default_value = "{device}")]
    pub device_template: String,
}

/// `SWITCH:PORT=DEVICE[,DRIVER]`
#[derive(Clone, Debug, PartialEq, Eq)]
struct PortTarget {
    switch: String,
    port: u32,
    device: String,
    driver: String,
}

impl FromStr for PortTarget {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let form = || "write SWITCH:PORT=DEVICE, or SWITCH:PORT=DEVICE,DRIVER".to_owned();
        let (port, target) = s.split_once('=').ok_or_else(form)?;
        let (switch, port) = port.split_once(':').ok_or_else(form)?;
        let (device, driver) = target.split_once(',').unwrap_or((target, ""));
        if device.is_empty() {
            return Err(form());
        }
        Ok(Self {
            switch: names::switch(switch).map_err(|e| e.to_string())?,
            port: port
                .parse()
                .map_err(|_| format!("{port:?} is no port number"))?,
            device: device.to_owned(),
            driver: driver.to_owned(),
        })
    }
}

impl From<Request> for v1::MigrationRequest {
    fn from(r: Request) -> Self {
        Self {
            network: r.network,
            switches: r.switches,
            from: r.from,
            to: r.to,
            ports: r
                .ports
                .into_iter()
                .map(|p| v1::PortTarget {
                    switch: p.switch,
                    port_no: p.port,
                    device: p.device,
                    driver: p.driver,
                })
                .collect(),
            device_template: r.targets.device_template,
            keep_ports: r.keep_ports,
        }
    }
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    match command {
        Command::Plan(request) => plan(ctx, &mut client, request.into()).await,
        Command::Run { request, detach } => {
            let migration = start(ctx, &mut client, request.into()).await?;
            if detach {
                return ctx.out.value(&migration, || {
                    let id = migration.id;
                    format!("migration {id} started; `lime migrate status {id}` shows it")
                });
            }
            let ended = follow(ctx, client, migration).await?;
            ctx.out.value(&ended, || ended.report())?;
            check_completed(&ended)
        }
        Command::Status { id, follow: false } => {
            let migration = get(ctx, &mut client, id).await?;
            ctx.out.value(&migration, || migration.report())
        }
        Command::Status { id, follow: true } => {
            let migration = get(ctx, &mut client, id).await?;
            let ended = if ctx.out.is_json() {
                // A line for every change; the last one is below.
                watch(ctx, client, migration, |seen| match seen {
                    Seen::State(m) if !m.ended() => ctx.out.value(m, String::new),
                    _ => Ok(()),
                })
                .await?
            } else {
                follow(ctx, client, migration).await?
            };
            ctx.out.value(&ended, || ended.report())?;
            check_completed(&ended)
        }
        Command::Rollback { id, detach } => {
            let request = v1::GetMigrationRequest { id };
            let doing = format!("roll back migration {id}");
            let answer = ctx.call(doing, client.rollback_migration(request)).await?;
            let migration = Migration::from(answer);
            if detach {
                return ctx.out.value(&migration, || migration.headline());
            }
            let ended = follow(ctx, client, migration).await?;
            ctx.out.value(&ended, || ended.report())?;
            match ended.state {
                // Here this is what was wanted.
                "rolled_back" => Ok(()),
                _ => Err(CliError::Migration(format!(
                    "migration {id} was not rolled back: it is {}",
                    ended.state
                ))),
            }
        }
        Command::List => {
            let request = v1::ListMigrationsRequest {};
            let answer = ctx
                .call("list migrations", client.list_migrations(request))
                .await?;
            let migrations: Vec<Migration> =
                answer.migrations.into_iter().map(Into::into).collect();
            let header = ["ID", "NETWORK", "FROM", "TO", "STATE", "STEPS"];
            ctx.out.list(&migrations, &header, |m| {
                vec![
                    m.id.to_string(),
                    m.network.clone(),
                    m.from.clone(),
                    m.to.clone(),
                    m.state.to_owned(),
                    format!("{}/{}", m.steps_done, m.steps),
                ]
            })
        }
    }
}

async fn plan(
    ctx: &Context,
    client: &mut Client,
    request: v1::MigrationRequest,
) -> Result<(), CliError> {
    let doing = format!("plan the migration of network {}", request.network);
    let plan = ctx.call(doing, client.plan_migration(request)).await?;
    output::warn(&plan.warnings);
    ctx.out.value(&plan, || {
        let rows: Vec<_> = plan
            .steps
            .iter()
            .enumerate()
            .map(|(i, s)| vec![(i + 1).to_string(), s.phase.clone(), s.description.clone()])
            .collect();
        let table = output::table(&["STEP", "PHASE", "WHAT"], &rows);
        format!("{table}\n\nrules to clone: {}", plan.rules)
    })
}

/// Starts a migration.
pub async fn start(
    ctx: &Context,
    client: &mut Client,
    request: v1::MigrationRequest,
) -> Result<Migration, CliError> {
    let doing = format!(
        "migrate network {} from {} to {}",
        request.network, request.from, request.to
    );
    let answer = ctx.call(doing, client.start_migration(request)).await?;
    Ok(answer.into())
}

/// An error unless the migration has completed.
pub fn check_completed(migration: &Migration) -> Result<(), CliError> {
    if migration.completed() {
        return Ok(());
    }
    let mut text = format!(
        "migration {} was not carried out: it is {}",
        migration.id,
        migration.state.replace('_', " ")
    );
    if !migration.error.is_empty() {
        text += &format!(" ({})", migration.error);
    }
    Err(CliError::Migration(text))
}

async fn get(ctx: &Context, client: &mut Client, id: u64) -> Result<Migration, CliError> {
    let doing = format!("show migration {id}");
    let request = v1::GetMigrationRequest { id };
    let answer = ctx.call(doing, client.get_migration(request)).await?;
    Ok(answer.into())
}

/// Follows a migration to its end, with the progress on the terminal.
pub async fn follow(
    ctx: &Context,
    client: Client,
    migration: Migration,
) -> Result<Migration, CliError> {
    let mut display = Display::new(!ctx.out.is_json(), &migration.title());
    watch(ctx, client, migration, |seen| {
        match seen {
            Seen::State(m) => display.update(m),
            Seen::Lost => display.say("the coordinator is away; waiting for it".to_owned()),
        }
        Ok(())
    })
    .await
}

/// What a watcher is told.
enum Seen<'a> {
    /// The migration has got so far.
    State(&'a Migration),
    /// The coordinator does not answer, for now.
    Lost,
}

/// Follows a migration to its end, over restarts of the coordinator.
async fn watch(
    ctx: &Context,
    mut client: Client,
    mut migration: Migration,
    mut seen: impl FnMut(Seen<'_>) -> Result<(), CliError>,
) -> Result<Migration, CliError> {
    let id = migration.id;
    let mut lost_since: Option<Instant> = None;
    seen(Seen::State(&migration))?;
    while !migration.ended() {
        let mut take = |m| {
            migration = m;
            lost_since = None;
            seen(Seen::State(&migration))
        };
        let attempt = watch_once(ctx, &mut client, id, &mut take);
        let result = tokio::select! {
            result = attempt => result,
            _ = tokio::signal::ctrl_c() => {
                return Err(CliError::Interrupted(format!(
                    "stopped watching; migration {id} goes on: `lime migrate status {id} --follow`, or take it back with `lime migrate rollback {id}`"
                )));
            }
        };
        match result {
            Ok(()) if migration.ended() => {}
            // The stream has ended early, or the coordinator is gone: it will be back.
            Err(e) if !e.is_unreachable() => return Err(e),
            result => {
                let since = *lost_since.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    return Err(result.err().unwrap_or_else(|| {
                        CliError::BadAnswer(format!("migration {id} is not reported any more"))
                    }));
                }
                seen(Seen::Lost)?;
                tokio::time::sleep(RETRY).await;
                if let Ok(again) = ctx.connect().await {
                    client = again;
                }
            }
        }
    }
    Ok(migration)
}

async fn watch_once(
    ctx: &Context,
    client: &mut Client,
    id: u64,
    seen: &mut impl FnMut(Migration) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let doing = format!("watch migration {id}");
    let request = v1::GetMigrationRequest { id };
    let mut states = ctx.call(&doing, client.watch_migration(request)).await?;
    while let Some(state) = states.next().await {
        seen(state.map_err(|s| ctx.explain(&doing, s))?.into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_targets() {
        let target: PortTarget = "edge:3=veth9,plug:/x/y:4:5".parse().unwrap();
        assert_eq!(
            (
                &*target.switch,
                target.port,
                &*target.device,
                &*target.driver
            ),
            ("edge", 3, "veth9", "plug:/x/y:4:5")
        );
        assert_eq!("edge:3=v".parse::<PortTarget>().unwrap().driver, "");
        for bad in ["", "edge=v", "edge:3", "edge:3=", "edge:x=v", ":3=v"] {
            assert!(bad.parse::<PortTarget>().is_err(), "{bad:?}");
        }
    }
}
