//! How many rules per second one core stages into the tables, and how many entries per second it would write with one bpf() call each.
//! Needs root. Run with `cargo run --release -p switch-agent --example rule_speed [RULES]`.

use std::path::PathBuf;
use std::time::Instant;

use lime_core::flow::{Action, Field, FieldMatch, Match, Rule};
use lime_core::model::PacketIns;
use lime_core::{Epoch, NetworkId, PortNo, RuleId, SwitchId};
use switch_abi::{RuleEntry, maps};
use switch_agent::datapath::{Datapath, Limits, SwitchSettings};

const NET: NetworkId = NetworkId(1);
const SWITCH: SwitchId = SwitchId(1);

/// Pins that go when the run ends.
struct PinDir(PathBuf);

impl Drop for PinDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = std::env::args().nth(1).map_or(Ok(100_000), |n| n.parse())?;
    let dir = PinDir(format!("/sys/fs/bpf/lime-rule-speed-{}", std::process::id()).into());
    let limits = Limits {
        rules: count * 2,
        ..Limits::default()
    };
    let (mut dp, _) = Datapath::open(&dir.0, &limits)?;
    dp.set_network(NET, 1, false)?;
    dp.set_switch(
        NET,
        &SwitchSettings {
            id: SWITCH,
            instance: true,
            join_epoch: Epoch::ZERO,
            retire_epoch: Epoch::ZERO,
            relay_host: None,
            hold: false,
            packet_ins: PacketIns::default(),
        },
    )?;
    let rules = (0..u64::from(count) * 2)
        .map(|n| Ok((RuleId(n + 1), rule(n)?)))
        .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    let (first, second) = rules.split_at(count as usize);
    let ids: Vec<_> = first.iter().map(|(id, _)| *id).collect();
    let per_second = |start: Instant| f64::from(count) / start.elapsed().as_secs_f64();

    let start = Instant::now();
    dp.stage(NET, Epoch(1), Some(SWITCH), first, &[])?;
    println!(
        "stage, added:               {:>12.0} rules/s",
        per_second(start)
    );
    dp.raise_clock(NET, Epoch(1))?;
    let start = Instant::now();
    dp.stage(NET, Epoch(2), Some(SWITCH), second, &ids)?;
    println!(
        "stage, replaced:            {:>12.0} rules/s",
        per_second(start)
    );
    dp.raise_clock(NET, Epoch(2))?;
    let start = Instant::now();
    dp.collect(NET, Epoch(2))?;
    println!(
        "collected:                  {:>12.0} rules/s",
        per_second(start)
    );
    drop(dp);
    let start = Instant::now();
    let (mut dp, _) = Datapath::open(&dir.0, &limits)?;
    println!(
        "adopted:                    {:>12.0} rules/s",
        per_second(start)
    );
    let start = Instant::now();
    dp.stage(NET, Epoch(3), Some(SWITCH), first, &[])?;
    println!(
        "stage, into used slots:     {:>12.0} rules/s",
        per_second(start)
    );
    drop(dp);

    let map = aya::maps::MapData::from_pin(dir.0.join(maps::RULES))?;
    let mut map: aya::maps::Array<_, RuleEntry> =
        aya::maps::Array::try_from(aya::maps::Map::Array(map))?;
    let entry = RuleEntry::default();
    let start = Instant::now();
    for slot in 1..=count {
        map.set(slot, entry, 0)?;
    }
    println!(
        "one bpf() call per entry:   {:>12.0} entries/s",
        per_second(start)
    );
    Ok(())
}

/// An exact match on five fields, as for one TCP connection.
fn rule(n: u64) -> Result<Rule, Box<dyn std::error::Error>> {
    let exact = |field: Field, value: u64| FieldMatch {
        field,
        value: u128::from(value),
        mask: field.full_mask(),
    };
    Ok(Rule {
        table: (n % 4) as u8,
        priority: 100 + (n % 8) as u16,
        cookie: n,
        matching: Match::new([
            exact(Field::EthType, 0x0800),
            exact(Field::IpProto, 6),
            exact(Field::Ipv4Src, 0x0a00_0000 + n / 1000),
            exact(Field::Ipv4Dst, 0x0a10_0000 + n % 1000),
            exact(Field::TcpDst, n % 60_000),
        ])?,
        actions: vec![Action::output(PortNo(1 + (n % 16) as u32))],
        goto_table: None,
        idle_timeout: 0,
        hard_timeout: 0,
        ..Rule::default()
    })
}
