//! `lime group`

use clap::{Subcommand, ValueEnum};
use lime_core::SwitchName;
use lime_core::flow::ofctl::parse_actions;
use lime_core::flow::{Group, GroupType};
use lime_proto::v1;

use crate::client::{Client, Context};
use crate::error::CliError;
use crate::flows::bad_flow;
use crate::output;
use crate::view::GroupView;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a group
    Create {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        /// Its number
        #[arg(value_name = "GROUP")]
        id: u32,
        /// How its buckets are used
        #[arg(long = "type", value_enum)]
        kind: Kind,
        /// A bucket's actions in ovs-ofctl syntax; once for each bucket
        #[arg(long = "bucket", value_name = "ACTIONS", required = true)]
        buckets: Vec<String>,
    },
    /// Delete a group that no rule uses
    Delete {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        #[arg(value_name = "GROUP")]
        id: u32,
    },
    /// List the groups of a switch
    List {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
    },
    /// Show a group
    Show {
        #[arg(value_name = "NET/SWITCH")]
        switch: SwitchName,
        #[arg(value_name = "GROUP")]
        id: u32,
    },
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
        Command::Create {
            switch,
            id,
            kind,
            buckets,
        } => {
            let buckets = buckets
                .iter()
                .map(|text| parse_actions(text).map_err(|e| bad_flow(text, &e)));
            let group = Group {
                id,
                kind: kind.into(),
                buckets: buckets.collect::<Result<_, _>>()?,
            };
            group
                .check()
                .map_err(|e| CliError::Usage(format!("group {id}: {e}")))?;
            let mut client = ctx.connect().await?;
            let doing = format!("create group {id} of switch {switch}");
            let request = v1::CreateGroupRequest {
                network: switch.network.clone(),
                switch: switch.switch.clone(),
                group: Some((&group).into()),
            };
            let answer = ctx.call(doing, client.create_group(request)).await?;
            let view = GroupView::read(answer)?;
            ctx.out
                .value(&view, || format!("group {id} of switch {switch} created"))
        }
        Command::Delete { switch, id } => {
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
        Command::List { switch } => {
            let mut client = ctx.connect().await?;
            let groups = list(ctx, &mut client, &switch).await?;
            ctx.out.value(&groups, || table(&groups))
        }
        Command::Show { switch, id } => {
            let mut client = ctx.connect().await?;
            let groups = list(ctx, &mut client, &switch).await?;
            let found = groups.into_iter().find(|g| g.group_id == id);
            let group = found.ok_or_else(|| CliError::not_found("group", id))?;
            ctx.out
                .value(&group, || table(std::slice::from_ref(&group)))
        }
    }
}

async fn list(
    ctx: &Context,
    client: &mut Client,
    switch: &SwitchName,
) -> Result<Vec<GroupView>, CliError> {
    let request = v1::ListGroupsRequest {
        network: switch.network.clone(),
        switch: switch.switch.clone(),
    };
    let doing = format!("list the groups of switch {switch}");
    let answer = ctx.call(doing, client.list_groups(request)).await?;
    answer.groups.into_iter().map(GroupView::read).collect()
}

fn table(groups: &[GroupView]) -> String {
    let rows: Vec<_> = groups
        .iter()
        .map(|g| {
            vec![
                g.group_id.to_string(),
                g.kind_name().to_owned(),
                g.buckets.join(" | "),
            ]
        })
        .collect();
    output::table(&["GROUP", "TYPE", "BUCKETS"], &rows)
}
