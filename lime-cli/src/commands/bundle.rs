//! `lime bundle`

use clap::Args;
use lime_core::SwitchName;
use lime_core::flow::ofctl::{parse_meter, parse_meter_id, parse_mod};
use lime_core::flow::{GroupMod, MeterMod, SwitchMod};
use lime_proto::v1;

use super::group;
use crate::client::Context;
use crate::error::CliError;
use crate::flows::{bad_flow, read_lines};

const HELP: &str = "\
A line is one of these; empty lines, and what follows a #, are skipped:
  flow [add] FLOW
  flow modify FLOW, flow modify_strict FLOW
  flow delete [FILTER], flow delete_strict FILTER
  group [add] group_id=N,type=TYPE[,bucket=BUCKET]...
  group modify group_id=N,type=TYPE[,bucket=BUCKET]...
  group delete [group_id=N]
  meter [add] METER, meter modify METER
  meter delete [meter=N]

Each line is understood on top of those before it. All of them are made, at one moment for every
packet on every host, or none.

Example:
  group add group_id=1,type=select,bucket=output:1,bucket=weight:2,output:2
  flow add priority=10,ip,actions=group:1
  flow delete priority=5,ip";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Command {
    #[arg(value_name = "NET/SWITCH")]
    switch: SwitchName,
    /// A file with one change per line; - is standard input
    #[arg(value_name = "FILE")]
    file: String,
}

/// Reads one line.
fn parse(line: &str) -> Result<SwitchMod, CliError> {
    let text = line.trim();
    let (sort, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match sort {
        "flow" => {
            // `add` is what a flow without a word before it means; the other words are as in a file of flows.
            let rest = rest.trim_start();
            let rest = match rest.strip_prefix("add") {
                Some(flow) if flow.starts_with(char::is_whitespace) => flow.trim_start(),
                _ => rest,
            };
            let m = parse_mod(rest).map_err(|e| bad_flow(rest, &e))?;
            Ok(SwitchMod::Rule(m))
        }
        "group" => parse_group(rest.trim_start()).map(SwitchMod::Group),
        "meter" => parse_meter_mod(rest.trim_start()).map(SwitchMod::Meter),
        _ => Err(CliError::Usage(format!(
            "{sort:?}: a line begins with flow, group or meter"
        ))),
    }
}

fn parse_group(text: &str) -> Result<GroupMod, CliError> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    match word {
        "add" => group::definition(rest).map(GroupMod::Add),
        "modify" => group::definition(rest).map(GroupMod::Modify),
        "delete" => match rest.trim() {
            "" => Ok(GroupMod::Delete(None)),
            one => {
                let id = one.strip_prefix("group_id=").and_then(|n| n.parse().ok());
                let id = id.ok_or_else(|| {
                    CliError::Usage(format!("{one:?}: write group_id=N, or nothing for all"))
                })?;
                Ok(GroupMod::Delete(Some(id)))
            }
        },
        _ => group::definition(text).map(GroupMod::Add),
    }
}

fn parse_meter_mod(text: &str) -> Result<MeterMod, CliError> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let read = |text: &str| parse_meter(text).map_err(|e| bad_flow(text, &e));
    match word {
        "add" => read(rest).map(MeterMod::Add),
        "modify" => read(rest).map(MeterMod::Modify),
        "delete" => match rest.trim() {
            "" => Ok(MeterMod::Delete(None)),
            one => {
                let id = parse_meter_id(one).map_err(|e| bad_flow(one, &e))?;
                Ok(MeterMod::Delete(id))
            }
        },
        _ => read(text).map(MeterMod::Add),
    }
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    let Command { switch, file } = command;
    let mods = read_lines(&file, parse)?;
    let mut client = ctx.connect().await?;
    let request = v1::UpdateSwitchRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        mods: mods.iter().map(Into::into).collect(),
    };
    let doing = format!("change switch {switch}");
    let answer = ctx.call(doing, client.update_switch(request)).await?;
    ctx.out.value(&answer, || {
        format!(
            "switch {switch}: {} changes, {} added, {} removed, at epoch {}",
            mods.len(),
            super::rule::rules(answer.rules_added),
            super::rule::rules(answer.rules_removed),
            answer.epoch
        )
    })
}

#[cfg(test)]
mod tests {
    use lime_core::flow::FlowMod;

    use super::*;

    #[test]
    fn lines_are_read_as_ovs_ofctl_writes_them() {
        let good = [
            "flow actions=drop",
            "  flow add priority=3,ip,actions=group:1 ",
            "flow modify ip,actions=output:1",
            "flow delete",
            "flow delete_strict priority=3,ip",
            "group group_id=1,type=all,bucket=output:1",
            "group add group_id=1,type=all",
            "group modify group_id=1,type=indirect,bucket=output:2",
            "group delete",
            "group delete group_id=4",
            "meter meter=1,pktps,bands=type=drop,rate=5",
            "meter add meter=1 pktps bands=type=drop rate=5",
            "meter modify meter=1,kbps,bands=type=drop,rate=5",
            "meter delete",
            "meter delete meter=7",
        ];
        let read: Vec<_> = good.iter().map(|line| parse(line).unwrap()).collect();
        assert!(matches!(read[0], SwitchMod::Rule(FlowMod::Add(_))));
        assert!(matches!(read[1], SwitchMod::Rule(FlowMod::Add(_))));
        assert!(matches!(read[4], SwitchMod::Rule(FlowMod::DeleteStrict(_))));
        assert!(matches!(read[5], SwitchMod::Group(GroupMod::Add(_))));
        assert_eq!(read[8], SwitchMod::Group(GroupMod::Delete(None)));
        assert_eq!(read[9], SwitchMod::Group(GroupMod::Delete(Some(4))));
        assert!(matches!(read[11], SwitchMod::Meter(MeterMod::Add(_))));
        assert!(matches!(read[12], SwitchMod::Meter(MeterMod::Modify(_))));
        assert_eq!(read[13], SwitchMod::Meter(MeterMod::Delete(None)));
        assert_eq!(read[14], SwitchMod::Meter(MeterMod::Delete(Some(7))));
        for bad in [
            "actions=drop",
            "flow add",
            "flow nonsense actions=drop",
            "group",
            "group delete 4",
            "meter add meter=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
