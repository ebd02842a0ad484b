//! What a switch is and can: OpenFlow 1.3.5, 7.3.1, 7.3.5.1, 7.3.5.5 and 7.3.5.11.

use lime_core::flow::{Field, MAX_BUCKETS, MAX_GROUPS, TABLES};
use lime_proto::v1;
use tonic::Status;

use crate::network::{Handle, MAX_RULES};

/// OFPC_FLOW_STATS, OFPC_TABLE_STATS, OFPC_PORT_STATS, OFPC_GROUP_STATS, OFPC_QUEUE_STATS.
const CAPABILITIES: u32 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6;

/// OFPGFC_SELECT_WEIGHT, OFPGFC_SELECT_LIVENESS, OFPGFC_CHAINING, OFPGFC_CHAINING_CHECKS.
const GROUP_CAPABILITIES: u32 = 0xf;

/// OFPIT_GOTO_TABLE, OFPIT_WRITE_METADATA, OFPIT_WRITE_ACTIONS, OFPIT_APPLY_ACTIONS, OFPIT_CLEAR_ACTIONS, OFPIT_METER.
const INSTRUCTIONS: [u32; 6] = [1, 2, 3, 4, 5, 6];
const GOTO_TABLE: u32 = 1;

/// OFPAT_OUTPUT, and all from OFPAT_COPY_TTL_OUT to OFPAT_POP_PBB.
const ACTIONS: [u32; 16] = [
    0, 11, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
];

/// Of which one is that of a network and switch, whatever its hosts.
fn datapath_id(network: u32, switch: u32) -> u64 {
    u64::from(network) << 32 | u64::from(switch)
}

fn table(table: u8) -> v1::TableFeatures {
    let last = table + 1 == TABLES;
    let mut instructions = INSTRUCTIONS.to_vec();
    instructions.retain(|&i| !(last && i == GOTO_TABLE));
    let fields = Field::ALL.iter();
    v1::TableFeatures {
        table: table.into(),
        name: format!("table {table}"),
        metadata_match: u64::MAX,
        metadata_write: u64::MAX,
        max_entries: u32::try_from(MAX_RULES).unwrap_or(u32::MAX),
        instructions,
        next_tables: (u32::from(table) + 1..TABLES.into()).collect(),
        actions: ACTIONS.to_vec(),
        r#match: fields
            .clone()
            .map(|f| v1::FieldFeature {
                field: f.oxm(),
                maskable: f.maskable(),
            })
            .collect(),
        set_fields: fields.filter(|f| f.settable()).map(|f| f.oxm()).collect(),
    }
}

/// A switch's description.
pub(super) async fn describe(
    network: &Handle,
    request: v1::DescribeSwitchRequest,
) -> Result<v1::SwitchDescription, Status> {
    let id = network
        .call(move |s| s.switch(&request.switch).map(|s| (s.id, s.name.clone())))
        .await??;
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(v1::SwitchDescription {
        manufacturer: "LIME".to_owned(),
        hardware: "Linux, eBPF".to_owned(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        datapath: format!("{}/{}", network.name, id.1),
        datapath_id: datapath_id(network.id.0, id.0.0),
        buffers: 0,
        capabilities: CAPABILITIES,
        groups: Some(v1::GroupFeatures {
            types: vec![
                v1::GroupType::All.into(),
                v1::GroupType::Select.into(),
                v1::GroupType::Indirect.into(),
                v1::GroupType::FastFailover.into(),
            ],
            capabilities: GROUP_CAPABILITIES,
            max_groups: number(MAX_GROUPS),
            max_buckets: number(MAX_BUCKETS),
            actions: ACTIONS.to_vec(),
        }),
        tables: (0..TABLES).map(table).collect(),
    })
}
