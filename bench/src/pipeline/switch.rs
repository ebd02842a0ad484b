//! The switch under measurement: real maps and programs on one host, with two ports and one rule set.

use std::path::PathBuf;

use anyhow::{Context, Result};
use lime_core::flow::Rule;
use lime_core::{Epoch, NetworkId, RuleId, SwitchId};
use switch_agent::datapath::{Datapath, Limits};

use crate::settings::{active, local_port};
use crate::site::{Site, Station};

const NETWORK: NetworkId = NetworkId(1);
const SWITCH: SwitchId = SwitchId(1);
const EPOCH: Epoch = Epoch(1);

/// Its pins go when it is dropped.
pub struct Switch {
    datapath: Datapath,
    pins: PathBuf,
}

impl Switch {
    /// With `ports` as ports 1 and 2. `name`: unique on the host.
    pub fn build(
        site: &Site,
        host: &str,
        name: &str,
        ports: [&Station; 2],
        rules: &[(RuleId, Rule)],
        flow_cache: bool,
    ) -> Result<Self> {
        let limits = Limits {
            flow_cache: if flow_cache {
                Limits::default().flow_cache
            } else {
                0
            },
            ..Limits::default()
        };
        let mut this = Self {
            datapath: site.datapath(host, name, &limits)?,
            pins: site.pins(host, name),
        };
        let datapath = &mut this.datapath;
        datapath.set_network(NETWORK, 1, false)?;
        datapath.set_switch(NETWORK, &active(SWITCH))?;
        for (port, number) in ports.into_iter().zip(1..) {
            datapath.set_port(NETWORK, &local_port(SWITCH, number, port))?;
        }
        datapath
            .stage(NETWORK, EPOCH, Some(SWITCH), rules, &[])
            .with_context(|| format!("cannot write {} rules", rules.len()))?;
        datapath.raise_clock(NETWORK, EPOCH)?;
        Ok(this)
    }

    /// Its data path, to attach it.
    pub fn datapath(&mut self) -> &mut Datapath {
        &mut self.datapath
    }

    /// Where one of its programs is pinned.
    pub fn program(&self, name: &str) -> PathBuf {
        self.pins.join(name)
    }

    /// Packets counted at rules, over all of them: a packet counts once per table.
    pub fn packets(&self) -> Result<u64> {
        let counters = self.datapath.rule_counters(NETWORK, Some(SWITCH))?;
        Ok(counters.iter().map(|c| c.packets).sum())
    }

    /// Reasons and numbers of dropped packets, for people.
    pub fn drops(&self) -> Result<String> {
        let ports = self.datapath.port_counters(NETWORK)?;
        let all = ports
            .into_iter()
            .map(|(_, count)| count)
            .chain([self.datapath.stray_counters()]);
        let texts: Vec<_> = all
            .flat_map(|count| count.drops().collect::<Vec<_>>())
            .map(|(reason, n)| format!("{n} {}", reason.name()))
            .collect();
        Ok(if texts.is_empty() {
            "none".to_owned()
        } else {
            texts.join(", ")
        })
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // The site removes what this may leave.
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}
