//! Groups.

use lime_core::flow::ofctl::format_actions;
use lime_core::flow::{Bucket, Group, GroupType};
use lime_proto::v1;
use serde::Serialize;

use crate::error::CliError;

#[derive(Debug, Serialize)]
pub struct GroupView {
    pub group_id: u32,
    #[serde(rename = "type")]
    pub kind: GroupType,
    /// Each bucket, as `lime group create` takes it.
    pub buckets: Vec<String>,
    /// Missing where counters were not asked for.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub counters: Option<GroupCounters>,
}

#[derive(Debug, Serialize)]
pub struct GroupCounters {
    /// Rules and groups that run it.
    pub ref_count: u32,
    pub packets: u64,
    pub bytes: u64,
    pub duration_ms: u64,
    /// In the order of the buckets.
    pub bucket_counters: Vec<BucketCounters>,
}

#[derive(Debug, Serialize)]
pub struct BucketCounters {
    pub packets: u64,
    pub bytes: u64,
}

impl GroupView {
    pub fn read(wire: v1::Group, stats: Option<v1::GroupStats>) -> Result<Self, CliError> {
        let group = Group::try_from(wire).map_err(|e| CliError::BadAnswer(e.to_string()))?;
        Ok(Self {
            group_id: group.id,
            kind: group.kind,
            buckets: group.buckets.iter().map(bucket).collect(),
            counters: stats.map(|s| GroupCounters {
                ref_count: s.ref_count,
                packets: s.packets,
                bytes: s.bytes,
                duration_ms: s.duration_ms,
                bucket_counters: s
                    .buckets
                    .iter()
                    .map(|b| BucketCounters {
                        packets: b.packets,
                        bytes: b.bytes,
                    })
                    .collect(),
            }),
        })
    }

    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            GroupType::All => "all",
            GroupType::Select => "select",
            GroupType::Indirect => "indirect",
            GroupType::FastFailover => "fast_failover",
        }
    }
}

fn bucket(bucket: &Bucket) -> String {
    let mut text = String::new();
    if bucket.weight != 1 {
        text += &format!("weight:{},", bucket.weight);
    }
    if let Some(port) = bucket.watch_port {
        text += &format!("watch_port:{port},");
    }
    if let Some(group) = bucket.watch_group {
        text += &format!("watch_group:{group},");
    }
    text + &format_actions(&bucket.actions)
}
