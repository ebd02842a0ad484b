//! From the store to a running coordinator: rule 19.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lime_core::counters::Counters;
use lime_core::log::{Entry, Sequencer};
use lime_core::model::{InstanceState, MemberState, Network, Port, RuleBook};
use lime_core::{Epoch, NetworkId, RuleId};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::Config;
use crate::agents::Hosts;
use crate::network::{Handle, State};
use crate::shared::{Clock, Ids, Shared, Stored};
use crate::store::{
    CounterRecord, HostRecord, RuleRecord, Store, StoreError, Table, decode, network_of, rule_of,
};

#[derive(Default)]
struct Parts {
    rules: RuleBook,
    since: HashMap<RuleId, u64>,
    counters: Counters,
    acknowledged: Epoch,
    log: Vec<Entry>,
}

/// Reads the store and starts the networks' actors.
pub async fn recover(
    config: Config,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
) -> Result<Arc<Shared>, StoreError> {
    let mut stored = read_meta(store.as_ref())?;
    stored.boots += 1;
    store.commit(stored.changes()).await?;
    let hosts: Vec<HostRecord> = read(store.as_ref(), Table::Hosts)?
        .into_iter()
        .map(|(_, h)| h)
        .collect();
    let mut parts: BTreeMap<NetworkId, Parts> = BTreeMap::new();
    let part_of = |key: &[u8]| network_of(key).unwrap_or(NetworkId(0));
    for (key, record) in read::<RuleRecord>(store.as_ref(), Table::Rules)? {
        if let Some(id) = rule_of(&key) {
            let rules = &mut parts.entry(part_of(&key)).or_default().rules;
            rules.restore(record.switch, id, record.rule, record.from, record.counts);
            let since = &mut parts.entry(part_of(&key)).or_default().since;
            since.insert(id, record.since);
        }
    }
    for (key, record) in read::<CounterRecord>(store.as_ref(), Table::Counters)? {
        let counters = &mut parts.entry(part_of(&key)).or_default().counters;
        counters.restore(record.what, record.finals, record.floor);
    }
    for (key, epoch) in read::<Epoch>(store.as_ref(), Table::Acknowledged)? {
        parts.entry(part_of(&key)).or_default().acknowledged = epoch;
    }
    for (key, entry) in read::<Entry>(store.as_ref(), Table::Log)? {
        parts.entry(part_of(&key)).or_default().log.push(entry);
    }
    let networks = read::<Network>(store.as_ref(), Table::Networks)?;
    let clock = Arc::new(Clock::start());
    let lease_ms = u64::try_from(config.lease.as_millis()).unwrap_or(u64::MAX);
    let shared = Arc::new(Shared::new(
        config,
        store,
        Arc::clone(&clock),
        Hosts::new(hosts, lease_ms, clock),
        Ids::new(stored),
        shutdown,
    ));
    for (_, network) in networks {
        let part = parts.remove(&network.id).unwrap_or_default();
        start(&shared, network, part);
    }
    crate::migration::resume(&shared)?;
    Ok(shared)
}

fn start(shared: &Arc<Shared>, mut network: Network, mut part: Parts) {
    // What learned when the coordinator stopped learns from the beginning, when its operation is begun again.
    network.members.retain(|_, m| *m != MemberState::Learning);
    for switch in network.switches.values_mut() {
        switch
            .instances
            .retain(|_, i| *i != InstanceState::Learning);
    }
    let acknowledged = part.acknowledged;
    let offset = |e: &Entry| e.epoch.0.wrapping_sub(acknowledged.0);
    part.log.retain(|e| acknowledged.lt(e.epoch));
    part.log.sort_by_key(offset);
    for entry in &part.log {
        part.rules.restore_ending(&entry.kind);
    }
    let epochs: Vec<Epoch> = part.log.iter().map(|e| e.epoch).collect();
    // Who was excluded stays so, and is taken in again when it is back (rule 17).
    let members = network.members.iter();
    let members = members.filter(|(_, m)| **m != MemberState::Excluded);
    let members: Vec<_> = members.map(|(h, _)| *h).collect();
    info!(network = %network.name, switches = network.switches.len(), ports = network.ports.len(), tail = epochs.len(), "recovered");
    let fresh = epochs.is_empty() && acknowledged == Epoch::ZERO && members.is_empty();
    let leaving = network.ports.values().any(Port::is_leaving);
    let mut seq = if fresh {
        Sequencer::new(network.consistency)
    } else {
        Sequencer::recover(network.consistency, acknowledged, part.log, members).0
    };
    if leaving {
        seq.suspend_activations();
    }
    let mut state = State::new(
        Arc::clone(shared),
        network,
        part.rules,
        seq,
        part.counters,
        epochs,
    );
    state.restore_lifetimes(part.since);
    shared.add_network(Handle::spawn(shared, state));
}

fn read_meta(store: &dyn Store) -> Result<Stored, StoreError> {
    let meta: BTreeMap<Vec<u8>, u64> = read::<u64>(store, Table::Meta)?.into_iter().collect();
    let get = |name: &str| meta.get(name.as_bytes()).copied().unwrap_or_default();
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Ok(Stored {
        boots: get("boots"),
        networks: narrow(get("networks")),
        switches: narrow(get("switches")),
        hosts: narrow(get("hosts")),
        migrations: get("migrations"),
    })
}

/// All records of a table.
pub fn read<T: serde::de::DeserializeOwned>(
    store: &dyn Store,
    table: Table,
) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
    let rows = store.load(table)?;
    rows.into_iter()
        .map(|(key, value)| Ok((key, decode(table, &value)?)))
        .collect()
}
