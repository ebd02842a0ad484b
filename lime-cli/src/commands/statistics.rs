//! Statistics and description of a switch, as `lime switch` and `lime rule` show them.

use clap::Subcommand;
use lime_core::SwitchName;
use lime_core::flow::{Field, RuleFilter};
use lime_proto::v1;

use crate::client::Context;
use crate::error::CliError;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count the packets that were looked up in each table, and those that matched a rule
    Tables {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
        /// Tables without rules and packets too
        #[arg(long)]
        all: bool,
    },
    /// Count what went out by the queues of the ports
    Queues {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
        /// Only of this port
        #[arg(long)]
        port: Option<u32>,
        /// Only this queue
        #[arg(long)]
        queue: Option<u32>,
    },
    /// Show what the switch is and can do
    Features {
        #[arg(value_name = "NET/SWITCH")]
        name: SwitchName,
    },
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Tables { name, all } => tables(ctx, &name, all).await,
        Command::Queues { name, port, queue } => queues(ctx, &name, port, queue).await,
        Command::Features { name } => features(ctx, &name).await,
    }
}

async fn tables(ctx: &Context, switch: &SwitchName, all: bool) -> Result<(), CliError> {
    let mut client = ctx.statistics().await?;
    let doing = format!("read the counters of the tables of switch {switch}");
    let request = v1::TableStatsRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
    };
    let mut tables = ctx.call(doing, client.table_stats(request)).await?.tables;
    tables.retain(|t| all || t.active > 0 || t.lookups > 0);
    let header = ["TABLE", "RULES", "LOOKUPS", "MATCHED"];
    ctx.out.list(&tables, &header, |t| {
        [t.table.into(), t.active, t.lookups, t.matched]
            .map(|n| n.to_string())
            .to_vec()
    })
}

async fn queues(
    ctx: &Context,
    switch: &SwitchName,
    port_no: Option<u32>,
    queue_id: Option<u32>,
) -> Result<(), CliError> {
    let mut client = ctx.statistics().await?;
    let doing = format!("read the counters of the queues of switch {switch}");
    let request = v1::QueueStatsRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        port_no,
        queue_id,
    };
    let queues = ctx.call(doing, client.queue_stats(request)).await?.queues;
    let header = ["PORT", "QUEUE", "TX PACKETS", "TX BYTES", "TX ERRORS"];
    ctx.out.list(&queues, &header, |q| {
        let (port, queue) = (q.port_no.into(), q.queue_id.into());
        [port, queue, q.tx_packets, q.tx_bytes, q.tx_errors]
            .map(|n: u64| n.to_string())
            .to_vec()
    })
}

async fn features(ctx: &Context, switch: &SwitchName) -> Result<(), CliError> {
    let mut client = ctx.statistics().await?;
    let request = v1::DescribeSwitchRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
    };
    let doing = format!("describe switch {switch}");
    let switch = ctx.call(doing, client.describe_switch(request)).await?;
    ctx.out.value(&switch, || text(&switch))
}

fn text(switch: &v1::SwitchDescription) -> String {
    let mut lines = vec![
        format!(
            "{}: {} {}, {}",
            switch.datapath, switch.manufacturer, switch.software, switch.hardware
        ),
        format!(
            "datapath id {:#018x}, {} tables, capabilities {:#x}",
            switch.datapath_id,
            switch.tables.len(),
            switch.capabilities
        ),
    ];
    if let Some(groups) = &switch.groups {
        lines.push(format!(
            "{} groups of {} buckets, capabilities {:#x}",
            groups.max_groups, groups.max_buckets, groups.capabilities
        ));
    }
    // All tables are alike but for where they may go on.
    if let Some(table) = switch.tables.first() {
        lines.push(format!("{} rules in all tables", table.max_entries));
        let of = |number: u32| Field::from_oxm(number).map(|f| format!("{f:?}"));
        let matched = table.r#match.iter().filter_map(|f| {
            let name = of(f.field)?;
            Some(if f.maskable { name + "/mask" } else { name })
        });
        lines.push(format!("match: {}", matched.collect::<Vec<_>>().join(" ")));
        let set = table.set_fields.iter().filter_map(|f| of(*f));
        lines.push(format!("set: {}", set.collect::<Vec<_>>().join(" ")));
    }
    lines.join("\n")
}

/// The sums over the rules that a filter selects.
pub async fn aggregate(
    ctx: &Context,
    switch: &SwitchName,
    filter: &RuleFilter,
) -> Result<(), CliError> {
    let mut client = ctx.statistics().await?;
    let doing = format!("read the counters of switch {switch}");
    let request = v1::FlowStatsRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        filter: Some(filter.into()),
    };
    let sum = ctx.call(doing, client.aggregate_stats(request)).await?;
    ctx.out.value(&sum, || {
        format!(
            "packet_count={} byte_count={} flow_count={}",
            sum.packets, sum.bytes, sum.rules
        )
    })
}
