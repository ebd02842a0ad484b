//! `lime meter`

use clap::{Args, Subcommand};
use lime_core::SwitchName;
use lime_core::flow::ofctl::{parse_meter, parse_meter_id};
use lime_core::flow::{Meter, MeterMod};
use lime_proto::v1;

use crate::client::Context;
use crate::error::CliError;
use crate::flows::bad_flow;
use crate::output;
use crate::view::{BandCounters, MeterView};

const EXAMPLES: &str = "\
A meter counts `kbps` (kilobits per second; bursts in kilobits) or `pktps` (packets per second; bursts in packets). Of the bands whose rates
are exceeded, the one with the highest rate is applied: `drop`, or `dscp_remark`, which raises the drop precedence by `prec_level`. Without
the flag `burst`, a band's burst is what comes in one second.

Each instance of a switch meters what it processes: while a switch has n of them (during a migration, two), n times as much may pass. An
instance begins with a whole burst, and so does a modified meter.

Examples:
  lime meter add acme/edge meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100
  lime meter add acme/edge meter=2,pktps,bands=type=drop,rate=500,type=dscp_remark,rate=100,prec_level=1
  lime rule add acme/edge ip,in_port=1,actions=meter:1,output:2
  lime meter delete acme/edge meter=1";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a meter
    #[command(after_help = EXAMPLES)]
    Add(Definition),
    /// Give a meter other flags and bands; its own counters go on, those of its bands begin at zero
    #[command(after_help = EXAMPLES)]
    Modify(Definition),
    /// Delete a meter, and the rules that use it
    Delete {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        /// `meter=NUMBER`, or `meter=all`
        #[arg(value_name = "METER")]
        meter: String,
    },
    /// List the meters of a switch
    List {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
    },
    /// Show the counters of a switch's meters, over all instances
    Stats {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        /// Only of this one
        #[arg(value_name = "METER")]
        meter: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct Definition {
    #[arg(value_name = "NET/SWITCH")]
    switch: SwitchName,
    /// In ovs-ofctl syntax
    #[arg(value_name = "METER")]
    meter: String,
}

impl Definition {
    fn meter(&self) -> Result<Meter, CliError> {
        parse_meter(&self.meter).map_err(|e| bad_flow(&self.meter, &e))
    }
}

/// A meter's number; `None`: all.
fn id_of(text: &str) -> Result<Option<u32>, CliError> {
    parse_meter_id(text).map_err(|e| bad_flow(text, &e))
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Add(definition) => {
            let meter = definition.meter()?;
            let id = meter.id.to_string();
            change(ctx, &definition.switch, MeterMod::Add(meter), "added", &id).await
        }
        Command::Modify(definition) => {
            let meter = definition.meter()?;
            let id = meter.id.to_string();
            let change_to = MeterMod::Modify(meter);
            change(ctx, &definition.switch, change_to, "modified", &id).await
        }
        Command::Delete { switch, meter } => {
            let id = id_of(&meter)?;
            let name = id.map_or_else(|| "all".to_owned(), |id| id.to_string());
            if let Some(id) = id {
                // To delete what is not there is no error of OpenFlow's, but one of the user's.
                let there = list(ctx, &switch, false).await?;
                if !there.iter().any(|m| m.meter_id == id) {
                    return Err(CliError::not_found("meter", id));
                }
            }
            change(ctx, &switch, MeterMod::Delete(id), "deleted", &name).await
        }
        Command::List { switch } => {
            let meters = list(ctx, &switch, false).await?;
            ctx.out.value(&meters, || {
                let rows: Vec<_> = meters.iter().map(|m| vec![m.meter.clone()]).collect();
                output::table(&["METER"], &rows)
            })
        }
        Command::Stats { switch, meter } => {
            let only = meter.as_deref().map(id_of).transpose()?.flatten();
            let mut meters = list(ctx, &switch, true).await?;
            if let Some(id) = only {
                meters.retain(|m| m.meter_id == id);
                if meters.is_empty() {
                    return Err(CliError::not_found("meter", id));
                }
            }
            ctx.out.value(&meters, || table(&meters))
        }
    }
}

async fn change(
    ctx: &Context,
    switch: &SwitchName,
    change: MeterMod,
    done: &'static str,
    name: &str,
) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    let request = v1::UpdateMetersRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        mods: vec![(&change).into()],
    };
    let doing = format!("change meter {name} of switch {switch}");
    let answer = ctx.call(doing, client.update_meters(request)).await?;
    let mut text = format!("meter {name} of switch {switch} {done}");
    if answer.removed_rules != 0 {
        text += &format!(", and {} rules that used it", answer.removed_rules);
    }
    ctx.out.done(done, name, text)
}

async fn list(ctx: &Context, switch: &SwitchName, stats: bool) -> Result<Vec<MeterView>, CliError> {
    let mut client = ctx.connect().await?;
    let request = v1::ListMetersRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        stats,
    };
    let doing = format!("list the meters of switch {switch}");
    let answer = ctx.call(doing, client.list_meters(request)).await?;
    let mut stats = answer.stats.into_iter();
    let meters = answer.meters.into_iter();
    meters.map(|m| MeterView::read(m, stats.next())).collect()
}

fn table(meters: &[MeterView]) -> String {
    let rows = meters.iter().filter_map(|m| {
        let counters = m.counters.as_ref()?;
        let of = |c: &BandCounters| format!("{}/{}", c.packets, c.bytes);
        let of: Vec<_> = counters.band_counters.iter().map(of).collect();
        Some(vec![
            m.meter_id.to_string(),
            counters.flow_count.to_string(),
            counters.packets_in.to_string(),
            counters.bytes_in.to_string(),
            of.join(" | "),
            m.bands.join(" | "),
        ])
    });
    let rows: Vec<_> = rows.collect();
    let names = [
        "METER",
        "RULES",
        "PACKETS",
        "BYTES",
        "BANDS' PACKETS/BYTES",
        "BANDS",
    ];
    output::table(&names, &rows)
}
