//! `lime rule`

use clap::{Args, Subcommand};
use lime_core::SwitchName;
use lime_core::flow::ofctl::{parse_filter, parse_mod, parse_modify};
use lime_core::flow::{FlowMod, Rule, RuleFilter};
use lime_proto::v1;

use super::statistics;
use crate::client::Context;
use crate::error::CliError;
use crate::flows::{bad_flow, read_lines};
use crate::view::RuleStats;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add rules, all at once
    ///
    /// A rule takes the place of one of the same table, priority and match. However many there are, and on however many hosts the
    /// switch runs: every packet meets either all of the changes or none.
    #[command(
        after_help = ADD_HELP,
        override_usage = "lime rule add [OPTIONS] <NET/SWITCH> <FLOW>...\n       lime rule add [OPTIONS] <NET/SWITCH> --file <FILE>"
    )]
    Add {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        #[command(flatten)]
        flows: AddFlows,
    },
    /// Change what rules do, all at once
    ///
    /// The rules within each flow's match get its actions (write_actions, write_metadata and goto_table too); their cookies, timeouts
    /// and flags stay. Nothing is added where there is no such rule.
    #[command(
        after_help = MOD_HELP,
        override_usage = "lime rule mod [OPTIONS] <NET/SWITCH> <FLOW>...\n       lime rule mod [OPTIONS] <NET/SWITCH> --file <FILE>"
    )]
    Mod {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        /// Only the rule of exactly this priority and match, not those within it
        #[arg(long)]
        strict: bool,
        #[command(flatten)]
        flows: AddFlows,
    },
    /// Delete rules, all at once
    #[command(
        override_usage = "lime rule del [OPTIONS] <NET/SWITCH> <FILTER>...\n       lime rule del [OPTIONS] <NET/SWITCH> --file <FILE>\n       lime rule del [OPTIONS] <NET/SWITCH> --all"
    )]
    Del {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        /// Only rules of exactly this priority and match, not those within it
        #[arg(long, conflicts_with = "all")]
        strict: bool,
        #[command(flatten)]
        filters: DelFilters,
    },
    /// Sum the counters of rules
    Aggregate {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        /// Only of rules within this: fields as in a flow, table=, cookie=VALUE/MASK, out_port=, out_group=
        filter: Option<String>,
    },
    /// Print rules as `ovs-ofctl dump-flows` does
    #[command(visible_alias = "list")]
    Dump {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        /// Only rules within this: fields as in a flow, table=, cookie=VALUE/MASK, out_port=, out_group=
        filter: Option<String>,
        /// Leave the counters out: what is printed is input for `lime rule add --file`
        #[arg(long)]
        no_stats: bool,
        /// Counters of all hosts as of one moment, which costs what an update of all rules does; else the sum of what each host says
        /// when it is asked, exact when traffic is at rest
        #[arg(long, conflicts_with = "no_stats")]
        exact: bool,
    },
}

const ADD_HELP: &str = "\
Examples:
  lime rule add acme/edge 'priority=100,ip,nw_dst=10.0.0.2,actions=output:2'
  lime rule add acme/edge 'table=0,tcp,tp_dst=80,actions=set_field:10.0.0.9->ip_dst,goto_table:1'
  lime rule dump acme/edge --no-stats | lime rule add acme/core --file -

A flow may also say check_overlap or reset_counts. In a file, a line may also be \"modify FLOW\",
\"modify_strict FLOW\", \"delete FILTER\" or \"delete_strict FILTER\", as in ovs-ofctl(8).";

const MOD_HELP: &str = "\
Examples:
  lime rule mod acme/edge 'ip,nw_dst=10.0.0.0/24,actions=output:3'
  lime rule mod acme/edge --strict 'priority=100,tcp,tp_dst=80,actions=drop'
  lime rule mod acme/edge 'cookie=0x10/0xf0,reset_counts,actions=controller'";

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct AddFlows {
    /// Rules in ovs-ofctl syntax
    #[arg(value_name = "FLOW")]
    flows: Vec<String>,
    /// A file with one rule per line; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct DelFilters {
    /// Which: fields as in a flow, table=, cookie=VALUE/MASK
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// A file with one filter per line; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
    /// All rules of all tables
    #[arg(long, conflicts_with_all = ["filters", "file"])]
    all: bool,
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Add { switch, flows } => {
            let mods = collect(&flows.flows, flows.file.as_deref(), parse_mod)?;
            update(ctx, &switch, "change the rules", mods).await
        }
        Command::Mod {
            switch,
            strict,
            flows,
        } => {
            let modify = |text: &str| Ok(FlowMod::Modify(parse_modify(text, strict)?));
            let mods = collect(&flows.flows, flows.file.as_deref(), modify)?;
            update(ctx, &switch, "change rules", mods).await
        }
        Command::Del {
            switch,
            strict,
            filters,
        } => {
            let delete = |text: &str| {
                let filter = parse_filter(text, strict)?;
                Ok(if strict {
                    FlowMod::DeleteStrict(filter)
                } else {
                    FlowMod::Delete(filter)
                })
            };
            let mods = if filters.all {
                vec![FlowMod::Delete(RuleFilter::all())]
            } else {
                collect(&filters.filters, filters.file.as_deref(), delete)?
            };
            update(ctx, &switch, "delete rules", mods).await
        }
        Command::Dump {
            switch,
            filter,
            no_stats,
            exact,
        } => {
            dump(
                ctx,
                &switch,
                &filter_of(filter.as_deref())?,
                !no_stats,
                exact,
            )
            .await
        }
        Command::Aggregate { switch, filter } => {
            statistics::aggregate(ctx, &switch, &filter_of(filter.as_deref())?).await
        }
    }
}

fn filter_of(text: Option<&str>) -> Result<RuleFilter, CliError> {
    match text {
        None => Ok(RuleFilter::all()),
        Some(text) => parse_filter(text, false).map_err(|e| bad_flow(text, &e)),
    }
}

fn collect(
    arguments: &[String],
    file: Option<&str>,
    parse: impl Fn(&str) -> Result<FlowMod, lime_core::flow::ofctl::SyntaxError>,
) -> Result<Vec<FlowMod>, CliError> {
    let parse = |text: &str| parse(text).map_err(|e| bad_flow(text, &e));
    let mut mods = arguments
        .iter()
        .map(|text| parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = file {
        mods.extend(read_lines(path, parse)?);
    }
    Ok(mods)
}

async fn update(
    ctx: &Context,
    switch: &SwitchName,
    doing: &str,
    mods: Vec<FlowMod>,
) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    let request = v1::UpdateRulesRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        mods: mods.iter().map(Into::into).collect(),
    };
    let doing = format!("{doing} of switch {switch}");
    let answer = ctx.call(doing, client.update_rules(request)).await?;
    ctx.out.value(&answer, || {
        format!(
            "switch {switch}: {} added, {} removed, at epoch {}",
            rules(answer.added),
            rules(answer.removed),
            answer.epoch
        )
    })
}

/// "3 rules"
pub fn rules(n: u32) -> String {
    format!("{n} rule{}", if n == 1 { "" } else { "s" })
}

async fn dump(
    ctx: &Context,
    switch: &SwitchName,
    filter: &RuleFilter,
    stats: bool,
    exact: bool,
) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    let doing = format!("list the rules of switch {switch}");
    let request = v1::ListRulesRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        stats,
        exact,
    };
    let mut parts = ctx.call(&doing, client.list_rules(request)).await?;
    while let Some(part) = ctx.next(&doing, &mut parts).await? {
        let mut chosen = Vec::with_capacity(part.rules.len());
        for mut wire in part.rules {
            let rule = wire.rule.take().unwrap_or_default();
            let rule = Rule::try_from(rule).map_err(|e| CliError::BadAnswer(e.to_string()))?;
            if filter.selects(&rule, false) {
                chosen.push(RuleStats::new(&rule, &wire, stats));
            }
        }
        ctx.out.lines(&chosen, RuleStats::line)?;
    }
    Ok(())
}
