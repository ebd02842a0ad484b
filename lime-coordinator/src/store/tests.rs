//! The store's file: its format, and what is refused.

use std::path::PathBuf;
use std::sync::Arc;

use ::redb::{Database, ReadableDatabase, TableDefinition};
use lime_core::counters::{Count, Counted};
use lime_core::flow::{Action, Field, FieldMatch, Match, Rule};
use lime_core::log::{Added, Entry, EntryKind, Removed};
use lime_core::model::Network;
use lime_core::{Consistency, Epoch, HostId, NetworkId, PortNo, RuleId, SwitchId};

use super::*;

const META: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("meta");
const FORMATS: TableDefinition<'static, (), u32> = TableDefinition::new("format");

/// A file that goes with this.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> Self {
        let name = format!("lime-store-test-{}-{name}.redb", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const NETWORK: NetworkId = NetworkId(7);

fn rule() -> Arc<Rule> {
    let field = |field: Field, value| FieldMatch {
        field,
        value,
        mask: field.full_mask(),
    };
    let fields = [
        field(Field::EthType, 0x86dd),
        field(Field::Ipv6Src, u128::MAX - 1),
    ];
    Arc::new(Rule {
        table: 3,
        priority: 1000,
        cookie: u64::MAX,
        matching: Match::new(fields).unwrap(),
        meter: Some(4),
        actions: vec![Action::PopVlan, Action::output(PortNo::CONTROLLER)],
        goto_table: Some(4),
        idle_timeout: 60,
        ..Rule::default()
    })
}

fn record() -> RuleRecord {
    RuleRecord {
        switch: SwitchId(5),
        from: Epoch(300),
        rule: rule(),
        counts: Some(RuleId(2)),
        since: 1_700_000_000_000,
    }
}

fn entry() -> Entry {
    let kind = EntryKind::Update {
        switch: SwitchId(5),
        add: vec![Added::new(RuleId(9), rule())],
        remove: vec![Removed::new(RuleId(8), rule(), Some(Epoch(1)))],
        passed: Vec::new(),
    };
    Entry::new(Epoch(301), kind)
}

fn changes() -> Vec<Change> {
    let host = HostRecord {
        id: HostId(1),
        name: "a".into(),
        cordoned: true,
        underlay_address: "10.0.0.1".into(),
        underlay_mtu: 9000,
        agent_version: "1".into(),
        lease_ms: 500,
    };
    let counter = CounterRecord {
        what: Counted::Rule(RuleId(2)),
        finals: Count {
            packets: 3,
            bytes: 180,
        },
        floor: Count::default(),
    };
    vec![
        Change::meta("boots", 1),
        Change::host(&host),
        Change::network(&Network::new(
            NETWORK,
            "n".into(),
            Consistency::default(),
            1,
        )),
        Change::acknowledged(NETWORK, Epoch(299)),
        Change::rule(NETWORK, RuleId(9), &record()),
        Change::entry(NETWORK, &entry()),
        Change::counter(NETWORK, &counter),
    ]
}

/// Raise [`FORMAT`] with each change of this: older files are then refused instead of misread.
#[test]
fn records_of_a_format_are_the_same_bytes_in_every_version() {
    let bytes = |change: &Change| -> String {
        let value = change.value.as_ref().unwrap();
        value.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let all: Vec<String> = changes().iter().map(bytes).collect();
    let rule = "03e807ffffffffffffffffff010205dd8d02ffff031afeffffffffffffffffffffffffffffffffff\
                03ffffffffffffffffffffffffffffffffffff030104020300fdffffff0f\
                ffff0300000001043c0000000000";
    let of_a_rule = format!("05ac02{rule}010280d095ffbc31");
    let of_an_entry = format!("ad0200050109{rule}00000108{rule}0101000000000000");
    assert_eq!(FORMAT, 2);
    assert_eq!(
        all,
        [
            "01",
            "010161010831302e302e302e31a8460131f403",
            "07016e000100000001",
            "ab02",
            &of_a_rule,
            &of_an_entry,
            "000203b4010000"
        ]
    );
}

#[tokio::test]
async fn what_was_committed_is_there_when_the_file_is_opened_again() {
    let file = TempFile::new("again");
    let store = RedbStore::open(&file.0).unwrap();
    store.commit(changes()).await.unwrap();
    store.close();
    let store = RedbStore::open(&file.0).unwrap();
    let rules = store.load(Table::Rules).unwrap();
    let log = store.load(Table::Log).unwrap();
    assert_eq!(
        decode::<RuleRecord>(Table::Rules, &rules[0].1).unwrap(),
        record()
    );
    assert_eq!(decode::<Entry>(Table::Log, &log[0].1).unwrap(), entry());
    let longer = [rules[0].1.as_slice(), &[0]].concat();
    for damaged in [&longer[..longer.len() - 2], &longer] {
        assert!(matches!(
            decode::<RuleRecord>(Table::Rules, damaged),
            Err(StoreError::Record {
                table: Table::Rules,
                ..
            })
        ));
    }
}

#[test]
fn a_file_of_another_format_is_refused_and_left_as_it_is() {
    for number in [None, Some(FORMAT + 1)] {
        let file = TempFile::new("refused");
        let database = Database::create(&file.0).unwrap();
        let write = database.begin_write().unwrap();
        write
            .open_table(META)
            .unwrap()
            .insert(&b"boots"[..], &b"1"[..])
            .unwrap();
        if let Some(number) = number {
            write
                .open_table(FORMATS)
                .unwrap()
                .insert((), number)
                .unwrap();
        }
        write.commit().unwrap();
        drop(database);
        let refused = RedbStore::open(&file.0).unwrap_err();
        let StoreError::Format { path, found } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(*found, number.unwrap_or(1));
        assert_eq!(*path, file.0.display().to_string());
        let database = Database::open(&file.0).unwrap();
        let read = database.begin_read().unwrap();
        assert_eq!(read.open_table(FORMATS).is_ok(), number.is_some());
        let boots = read.open_table(META).unwrap().get(&b"boots"[..]).unwrap();
        assert_eq!(boots.unwrap().value(), b"1");
    }
}
