//! Memory per rule: what the maps take whose sizes follow the number of rules, and what the agent keeps beside them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::MapData;
use lime_core::{Epoch, NetworkId, SwitchId};
use switch_abi::maps;
use switch_agent::datapath::{Datapath, Limits};

use crate::options::Options;
use crate::report::{Bar, Figure, Report};
use crate::ruleset;
use crate::settings::active;
use crate::site::Site;

const HOST: &str = "a";
const RULES: u32 = 100_000;
const MASKS: usize = 16;
/// Bytes per rule, and per rule and CPU.
const BAR: (f64, f64) = (512.0, 32.0);
/// Measures the group.
pub async fn run(_options: &Options, report: &mut Report) {
    if let Err(e) = measure(report).await {
        report.failed("memory", &e);
    }
}

async fn measure(report: &mut Report) -> Result<()> {
    let site = Site::build(1).await?;
    let cpus =
        aya::util::nr_cpus().map_err(|(path, e)| anyhow::anyhow!("cannot read {path}: {e}"))?;
    // Every map that takes more with room for more rules is the rules', all of it.
    let sizes = |rules: u32, name: &str| -> Result<(Datapath, BTreeMap<String, u64>)> {
        let limits = Limits {
            rules,
            ..Limits::default()
        };
        let datapath = site.datapath(HOST, name, &limits)?;
        Ok((datapath, pinned_maps(&site.pins(HOST, name))?))
    };
    let (_, none) = sizes(1000, "few")?;
    let (datapath, many) = sizes(RULES, "many")?;
    let per_rule = |bytes: u64| bytes as f64 / f64::from(RULES);
    let of_rules: Vec<(&String, u64)> = many
        .iter()
        .filter(|(map, bytes)| none.get(*map) < Some(*bytes))
        .map(|(map, bytes)| (map, *bytes))
        .collect();
    let kernel = of_rules.iter().map(|(_, bytes)| bytes).sum();
    let limit = BAR.0 + BAR.1 * cpus as f64;
    report.add(
        Figure::new("memory/kernel", per_rule(kernel), "bytes/rule")
            .beside(
                format!("{} + {} for each of {cpus} CPUs", BAR.0, BAR.1),
                limit,
            )
            .bar(Bar::AtMost(1.0)),
    );
    for (map, bytes) in of_rules {
        let name = format!("memory/kernel/{map}");
        report.add(Figure::new(name, per_rule(bytes), "bytes/rule"));
    }
    let agent = agent_heap(datapath)?;
    report.add(Figure::new("memory/agent", per_rule(agent), "bytes/rule"));
    let fixed = none.values().sum::<u64>() as f64 / f64::from(1 << 20);
    report.add(Figure::new("memory/without-rules", fixed, "MiB"));
    Ok(())
}

/// What the kernel says it holds for the maps that are pinned in a directory, bytes.
fn pinned_maps(directory: &Path) -> Result<BTreeMap<String, u64>> {
    let list = std::fs::read_dir(directory)
        .with_context(|| format!("cannot list {}", directory.display()))?;
    let mut found = BTreeMap::new();
    for entry in list.flatten() {
        // Programs are pinned beside them.
        if let Ok(map) = MapData::from_pin(entry.path()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            found.insert(name, map_bytes(&map)?);
        }
    }
    anyhow::ensure!(
        found.contains_key(maps::RULES),
        "no map of rules in {}",
        directory.display()
    );
    Ok(found)
}

fn map_bytes(map: &MapData) -> Result<u64> {
    let info = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    let text = std::fs::read_to_string(&info).with_context(|| format!("cannot read {info}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
        .with_context(|| format!("{info} does not say how much memory the map takes"))
}

/// How much more the process has allocated when the agent's part of it knows all rules, bytes.
fn agent_heap(mut datapath: Datapath) -> Result<u64> {
    let (network, switch) = (NetworkId(1), SwitchId(1));
    datapath.set_network(network, 1, false)?;
    datapath.set_switch(network, &active(switch))?;
    let rules = ruleset::numbered(RULES as usize, MASKS, 1);
    let before = allocated();
    datapath.stage(network, Epoch(1), Some(switch), &rules, &[])?;
    Ok(allocated().saturating_sub(before))
}

/// Bytes that are allocated now.
fn allocated() -> u64 {
    // SAFETY: no arguments; it reads the allocator's own statistics.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}
