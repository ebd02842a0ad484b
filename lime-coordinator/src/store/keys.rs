//! Tables and keys.

use lime_core::counters::Counted;
use lime_core::{Epoch, NetworkId, RuleId};

/// The tables of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Counters of ids, by name.
    Meta,
    /// Hosts, by id.
    Hosts,
    /// Networks, rules apart, by id.
    Networks,
    /// What all members of a network had acknowledged at the last look, by id.
    Acknowledged,
    /// Rules, by network and id.
    Rules,
    /// The end of each network's log, by network and epoch.
    Log,
    /// Counters that do not come from a living instance, by network and what is counted.
    Counters,
    /// The journal of migrations, by id.
    Migrations,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 8] = [
        Table::Meta,
        Table::Hosts,
        Table::Networks,
        Table::Acknowledged,
        Table::Rules,
        Table::Log,
        Table::Counters,
        Table::Migrations,
    ];

    /// Its name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Hosts => "hosts",
            Table::Networks => "networks",
            Table::Acknowledged => "acknowledged",
            Table::Rules => "rules",
            Table::Log => "log",
            Table::Counters => "counters",
            Table::Migrations => "migrations",
        }
    }
}

/// Key of a network's own records.
pub fn network(id: NetworkId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

/// The network that a key begins with.
pub fn network_of(key: &[u8]) -> Option<NetworkId> {
    let bytes = key.first_chunk::<4>()?;
    Some(NetworkId(u32::from_be_bytes(*bytes)))
}

/// Key of a rule.
pub fn rule(id: NetworkId, rule: RuleId) -> Vec<u8> {
    [&id.0.to_be_bytes()[..], &rule.0.to_be_bytes()].concat()
}

/// The rule that a key names.
pub fn rule_of(key: &[u8]) -> Option<RuleId> {
    let bytes = key.get(4..)?.first_chunk::<8>()?;
    Some(RuleId(u64::from_be_bytes(*bytes)))
}

/// Key of an entry of the log.
pub fn log(id: NetworkId, epoch: Epoch) -> Vec<u8> {
    [id.0.to_be_bytes(), epoch.0.to_be_bytes()].concat()
}

fn two(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Key of a counter.
pub fn counter(id: NetworkId, what: Counted) -> Vec<u8> {
    let (kind, number) = match what {
        Counted::Rule(rule) => (1u8, rule.0),
        Counted::PortRx(port) => (2, port.0.into()),
        Counted::PortTx(port) => (3, port.0.into()),
        Counted::PortDrops(port) => (4, port.0.into()),
        Counted::Port(port, which) => (5, two(port.0, u32::from(which as u8))),
        Counted::Queue(port, queue) => (6, two(port.0, queue)),
        Counted::QueueDrops(port, queue) => (7, two(port.0, queue)),
        Counted::TableEnded(switch, table) => (8, two(switch.0, table.into())),
        Counted::TableMisses(switch, table) => (9, two(switch.0, table.into())),
    };
    let mut key = network(id);
    key.push(kind);
    key.extend(number.to_be_bytes());
    key
}
