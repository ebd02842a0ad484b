//! `lime group`

use clap::{Args, Subcommand, ValueEnum};
use lime_core::SwitchName;
use lime_core::flow::ofctl::parse_actions;
use lime_core::flow::{Bucket, Group, GroupMod, GroupType};
use lime_proto::v1;

use crate::client::{Client, Context};
use crate::error::CliError;
use crate::flows::bad_flow;
use crate::output;
use crate::view::{BucketCounters, GroupView};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a group
    Create(Definition),
    /// Give a group another type and other buckets; its own counters go on, those of its buckets begin at zero
    Modify(Definition),
    /// Delete a group, and the rules that run it
    Delete {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        #[arg(value_name = "GROUP", required_unless_present = "all")]
        id: Option<u32>,
        /// All groups of the switch
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
    /// List the groups of a switch
    List {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        /// With counters
        #[arg(long)]
        stats: bool,
    },
    /// Show a group, with its counters
    Show {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        #[arg(value_name = "GROUP")]
        id: u32,
    },
}

#[derive(Debug, Args)]
pub struct Definition {
    #[arg(value_name = "NET/SWITCH")]
    switch: SwitchName,
    /// Its number
    #[arg(value_name = "GROUP")]
    id: u32,
    /// How its buckets are used
    #[arg(long = "type", value_enum)]
    kind: Kind,
    /// A bucket in ovs-ofctl syntax, `[weight:N,][watch_port:N,][watch_group:N,]ACTIONS`; once for each bucket
    #[arg(long = "bucket", value_name = "BUCKET")]
    buckets: Vec<String>,
}

impl Definition {
    fn group(&self) -> Result<Group, CliError> {
        let buckets = self.buckets.iter().map(|text| bucket(text));
        let group = Group {
            id: self.id,
            kind: self.kind.into(),
            buckets: buckets.collect::<Result<_, _>>()?,
        };
        group
            .check()
            .map_err(|e| CliError::Usage(format!("group {}: {e}", self.id)))?;
        Ok(group)
    }
}

/// Reads a group as `ovs-ofctl` writes it: `group_id=1,type=select,bucket=weight:5,output:1,bucket=output:2`.
pub fn definition(text: &str) -> Result<Group, CliError> {
    let wrong = |what: String| CliError::Usage(format!("group {:?}: {what}", text.trim()));
    let mut parts = text.split(",bucket=");
    let (mut id, mut kind) = (None, None);
    for item in parts.next().unwrap_or_default().split(',') {
        let item = item.trim();
        match item.split_once('=') {
            Some(("group_id", n)) => {
                id =
                    Some(n.parse().map_err(|_| {
                        wrong(format!("group_id {n:?} is no number below 4294967296"))
                    })?);
            }
            Some(("type", name)) => {
                let named = Kind::from_str(&name.replace('_', "-"), false);
                kind = Some(named.map_err(|_| {
                    wrong(format!(
                        "type {name:?} is none of all, select, indirect, ff"
                    ))
                })?);
            }
            _ => {
                return Err(wrong(format!(
                    "{item:?} is not understood: write group_id=, type= and bucket="
                )));
            }
        }
    }
    let buckets = parts.map(bucket);
    let group = Group {
        id: id.ok_or_else(|| wrong("group_id= is missing".to_owned()))?,
        kind: kind
            .ok_or_else(|| wrong("type= is missing".to_owned()))?
            .into(),
        buckets: buckets.collect::<Result<_, _>>()?,
    };
    group.check().map_err(|e| wrong(e.to_string()))?;
    Ok(group)
}

/// Reads `weight:5,watch_port:2,watch_group:3,actions=output:1`; `actions=` may be left out.
fn bucket(text: &str) -> Result<Bucket, CliError> {
    let mut bucket = Bucket::new(Vec::new());
    let mut rest = text;
    loop {
        let (item, behind) = rest.split_once(',').unwrap_or((rest, ""));
        let Some((name, value)) = item.split_once([':', '=']) else {
            break;
        };
        let wrong = || CliError::Usage(format!("bucket {text:?}: {name} {value:?} is no number"));
        match name.trim() {
            "weight" => bucket.weight = value.parse().map_err(|_| wrong())?,
            "watch_port" => bucket.watch_port = Some(value.parse().map_err(|_| wrong())?),
            "watch_group" => bucket.watch_group = Some(value.parse().map_err(|_| wrong())?),
            _ => break,
        }
        rest = behind;
    }
    let actions = rest.trim_start();
    let actions = actions.strip_prefix("actions=").unwrap_or(actions);
    bucket.actions = match actions {
        "" => Vec::new(),
        _ => parse_actions(actions).map_err(|e| bad_flow(actions, &e))?,
    };
    Ok(bucket)
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// All buckets
    All,
    /// One bucket, by the packet's flow
    Select,
    /// The only bucket
    Indirect,
    /// The first live bucket
    #[value(alias = "ff")]
    FastFailover,
}

impl From<Kind> for GroupType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::All => GroupType::All,
            Kind::Select => GroupType::Select,
            Kind::Indirect => GroupType::Indirect,
            Kind::FastFailover => GroupType::FastFailover,
        }
    }
}

pub async fn run(ctx: &Context, command: Command) -> Result<(), CliError> {
    match command {
        Command::Create(definition) => {
            let (group, switch) = (definition.group()?, &definition.switch);
            let id = group.id;
            let mut client = ctx.connect().await?;
            let doing = format!("create group {id} of switch {switch}");
            let request = v1::CreateGroupRequest {
                network: switch.network.clone(),
                switch: switch.switch.clone(),
                group: Some((&group).into()),
            };
            let answer = ctx.call(doing, client.create_group(request)).await?;
            let view = GroupView::read(answer, None)?;
            ctx.out
                .value(&view, || format!("group {id} of switch {switch} created"))
        }
        Command::Modify(definition) => {
            let (group, switch) = (definition.group()?, &definition.switch);
            let id = group.id;
            let doing = format!("modify group {id} of switch {switch}");
            update(ctx, switch, doing, GroupMod::Modify(group)).await?;
            let text = format!("group {id} of switch {switch} modified");
            ctx.out.done("modified", &id.to_string(), text)
        }
        Command::Delete {
            switch, id: None, ..
        } => {
            let doing = format!("delete all groups of switch {switch}");
            update(ctx, &switch, doing, GroupMod::Delete(None)).await?;
            let text = format!("all groups of switch {switch} deleted");
            ctx.out.done("deleted", "all", text)
        }
        Command::Delete {
            switch,
            id: Some(id),
            ..
        } => {
            let mut client = ctx.connect().await?;
            let doing = format!("delete group {id} of switch {switch}");
            let request = v1::DeleteGroupRequest {
                network: switch.network.clone(),
                switch: switch.switch.clone(),
                group_id: id,
            };
            ctx.call(doing, client.delete_group(request)).await?;
            let text = format!("group {id} of switch {switch} deleted");
            ctx.out.done("deleted", &id.to_string(), text)
        }
        Command::List { switch, stats } => {
            let mut client = ctx.connect().await?;
            let groups = list(ctx, &mut client, &switch, stats).await?;
            ctx.out.value(&groups, || table(&groups, stats))
        }
        Command::Show { switch, id } => {
            let mut client = ctx.connect().await?;
            let groups = list(ctx, &mut client, &switch, true).await?;
            let found = groups.into_iter().find(|g| g.group_id == id);
            let group = found.ok_or_else(|| CliError::not_found("group", id))?;
            ctx.out
                .value(&group, || table(std::slice::from_ref(&group), true))
        }
    }
}

async fn update(
    ctx: &Context,
    switch: &SwitchName,
    doing: String,
    change: GroupMod,
) -> Result<(), CliError> {
    let mut client = ctx.connect().await?;
    let request = v1::UpdateGroupsRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        mods: vec![(&change).into()],
    };
    ctx.call(doing, client.update_groups(request)).await?;
    Ok(())
}

async fn list(
    ctx: &Context,
    client: &mut Client,
    switch: &SwitchName,
    stats: bool,
) -> Result<Vec<GroupView>, CliError> {
    let request = v1::ListGroupsRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
        stats,
    };
    let doing = format!("list the groups of switch {switch}");
    let answer = ctx.call(doing, client.list_groups(request)).await?;
    let mut stats = answer.stats.into_iter();
    let groups = answer.groups.into_iter();
    groups.map(|g| GroupView::read(g, stats.next())).collect()
}

fn table(groups: &[GroupView], stats: bool) -> String {
    let rows = groups.iter().map(|g| {
        let mut row = vec![g.group_id.to_string(), g.kind_name().to_owned()];
        if let Some(counters) = &g.counters {
            row.push(counters.ref_count.to_string());
            row.push(counters.packets.to_string());
            row.push(counters.bytes.to_string());
            let of = |c: &BucketCounters| format!("{}/{}", c.packets, c.bytes);
            let of: Vec<_> = counters.bucket_counters.iter().map(of).collect();
            row.push(of.join(" | "));
        }
        row.push(g.buckets.join(" | "));
        row
    });
    let rows: Vec<_> = rows.collect();
    match stats {
        true => output::table(
            &[
                "GROUP",
                "TYPE",
                "USED BY",
                "PACKETS",
                "BYTES",
                "BUCKETS' PACKETS/BYTES",
                "BUCKETS",
            ],
            &rows,
        ),
        false => output::table(&["GROUP", "TYPE", "BUCKETS"], &rows),
    }
}

#[cfg(test)]
mod tests {
    use lime_core::PortNo;
    use lime_core::flow::Action;

    use super::*;

    #[test]
    fn groups_are_read_as_ovs_ofctl_writes_them() {
        let read =
            definition(" group_id=7,type=select,bucket=weight:2,output:1,bucket=actions=output:2");
        let read = read.unwrap();
        assert_eq!((read.id, read.kind), (7, GroupType::Select));
        let weights: Vec<_> = read.buckets.iter().map(|b| b.weight).collect();
        assert_eq!(weights, [2, 1]);
        assert_eq!(read.buckets[1].actions, [Action::output(PortNo(2))]);
        let failover = definition("group_id=1,type=fast_failover").unwrap();
        assert_eq!(failover.kind, GroupType::FastFailover);
        for bad in [
            "type=all",
            "group_id=1",
            "group_id=x,type=all",
            "group_id=1,type=some",
            "group_id=1,type=all,buckets=output:1",
            "group_id=1,type=indirect",
            "group_id=1,type=all,bucket=weight:3,output:1",
        ] {
            assert!(definition(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn buckets_are_read_as_ovs_ofctl_writes_them() {
        let out = Action::output(PortNo(1));
        let read = bucket("weight:5,watch_port:2,watch_group=3,actions=output:1").unwrap();
        let expected = Bucket {
            weight: 5,
            watch_port: Some(PortNo(2)),
            watch_group: Some(3),
            actions: vec![out.clone()],
        };
        assert_eq!(read, expected);
        assert_eq!(bucket("output:1").unwrap(), Bucket::new(vec![out.clone()]));
        assert_eq!(bucket("weight:0").unwrap().weight, 0);
        let two = bucket("mod_vlan_vid:5,output:1").unwrap();
        assert_eq!((two.actions.len(), two.weight), (2, 1));
        for bad in ["weight:x,output:1", "weight:70000", "nonsense:1"] {
            assert!(bucket(bad).is_err(), "{bad}");
        }
    }
}
