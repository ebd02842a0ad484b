//! Records and their encoding (postcard: compact, and fast to make and to read). It says nothing of itself: with every change of what a record
//! consists of, down to the types within, [`FORMAT`] is to be raised.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use lime_core::counters::{Count, Counted};
use lime_core::flow::Rule;
use lime_core::log::Entry;
use lime_core::model::Network;
use lime_core::{Epoch, HostId, NetworkId, RuleId, SwitchId};

use super::{Change, StoreError, Table, keys};

/// Version of the encoding, in the file.
pub const FORMAT: u32 = 2;

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its number.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// No new instances and ports.
    pub cordoned: bool,
    /// Where other hosts reach it.
    pub underlay_address: String,
    /// Bytes.
    pub underlay_mtu: u32,
    /// Of its agent, when it was last here.
    pub agent_version: String,
    /// It has shown that it keeps leases, of this length, milliseconds; 0: not, or there are none.
    pub lease_ms: u64,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRecord {
    /// Its switch.
    pub switch: SwitchId,
    /// Visible since.
    pub from: Epoch,
    /// The rule.
    pub rule: Arc<Rule>,
    /// Where its counts began, if not with itself.
    pub counts: Option<RuleId>,
    /// When it took effect, milliseconds since the Unix epoch; 0: not known.
    pub since: u64,
}

/// A counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterRecord {
    /// What is counted.
    pub what: Counted,
    /// Of hosts that count no more.
    pub finals: Count,
    /// What the controller has read.
    pub floor: Count,
}

/// A record from the store.
pub fn decode<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |source| StoreError::Record { table, source };
    let (record, rest) = postcard::take_from_bytes(bytes).map_err(damaged)?;
    if !rest.is_empty() {
        return Err(damaged(postcard::Error::DeserializeBadEncoding));
    }
    Ok(record)
}

fn put<T: Serialize>(table: Table, key: Vec<u8>, record: &T) -> Change {
    // These records serialize: plain data, of lengths that are known.
    let value = postcard::to_allocvec(record).unwrap_or_default();
    debug_assert!(!value.is_empty());
    Change {
        table,
        key,
        value: Some(value),
    }
}

fn delete(table: Table, key: Vec<u8>) -> Change {
    Change {
        table,
        key,
        value: None,
    }
}

impl Change {
    /// A number by its name.
    pub fn meta(name: &str, value: u64) -> Self {
        put(Table::Meta, name.as_bytes().to_vec(), &value)
    }

    /// A host.
    pub fn host(record: &HostRecord) -> Self {
        put(Table::Hosts, record.id.0.to_be_bytes().to_vec(), record)
    }

    /// A host is forgotten.
    pub fn no_host(id: HostId) -> Self {
        delete(Table::Hosts, id.0.to_be_bytes().to_vec())
    }

    /// A network, rules apart.
    pub fn network(network: &Network) -> Self {
        put(Table::Networks, keys::network(network.id), network)
    }

    /// A network is gone.
    pub fn no_network(id: NetworkId) -> Vec<Self> {
        vec![
            delete(Table::Networks, keys::network(id)),
            delete(Table::Acknowledged, keys::network(id)),
        ]
    }

    /// What all members have acknowledged: the log begins behind it.
    pub fn acknowledged(id: NetworkId, epoch: Epoch) -> Self {
        put(Table::Acknowledged, keys::network(id), &epoch)
    }

    /// A rule.
    pub fn rule(network: NetworkId, id: RuleId, record: &RuleRecord) -> Self {
        put(Table::Rules, keys::rule(network, id), record)
    }

    /// A rule is gone.
    pub fn no_rule(network: NetworkId, id: RuleId) -> Self {
        delete(Table::Rules, keys::rule(network, id))
    }

    /// An entry of the log.
    pub fn entry(network: NetworkId, entry: &Entry) -> Self {
        put(Table::Log, keys::log(network, entry.epoch), entry)
    }

    /// An entry that nobody needs any more.
    pub fn no_entry(network: NetworkId, epoch: Epoch) -> Self {
        delete(Table::Log, keys::log(network, epoch))
    }

    /// A counter's finals and floor.
    pub fn counter(network: NetworkId, record: &CounterRecord) -> Self {
        put(Table::Counters, keys::counter(network, record.what), record)
    }

    /// A counter is gone.
    pub fn no_counter(network: NetworkId, what: Counted) -> Self {
        delete(Table::Counters, keys::counter(network, what))
    }

    /// A migration's record, in the journal.
    pub fn migration<T: Serialize>(id: u64, record: &T) -> Self {
        put(Table::Migrations, id.to_be_bytes().to_vec(), record)
    }
}

pub use keys::{network_of, rule_of};
