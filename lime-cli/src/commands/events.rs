//! `lime events`

use clap::Args;
use futures_util::StreamExt as _;
use lime_proto::v1;

use crate::client::Context;
use crate::error::CliError;
use crate::names::Scope;
use crate::view::Event;

#[derive(Debug, Args)]
pub struct Command {
    /// Only of this network or switch
    #[arg(value_name = "NET[/SWITCH]")]
    scope: Option<Scope>,
    /// Go on until stopped
    #[arg(long, short)]
    follow: bool,
    /// End after so many events
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "follow")]
    count: u64,
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let scope = command.scope.unwrap_or_default();
    let mut client = ctx.connect().await?;
    let doing = format!("watch the events of {scope}");
    let request = v1::WatchEventsRequest {
        network: scope.network,
        switch: scope.switch,
    };
    // The answer comes with the first event, which may be hours away: no time limit.
    let mut events = client
        .watch_events(request)
        .await
        .map_err(|s| ctx.explain(&doing, s))?
        .into_inner();
    let mut left = command.count;
    while command.follow || left > 0 {
        let Some(event) = events.next().await else {
            break;
        };
        let event = Event::from(event.map_err(|s| ctx.explain(&doing, s))?);
        ctx.out.value(&event, || event.line())?;
        left = left.saturating_sub(1);
    }
    Ok(())
}
