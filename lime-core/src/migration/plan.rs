//! From a request to steps.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::model::{Device, Network, Place};
use crate::{HostId, PortId, PortNo, SwitchId};

/// Bytes that the tunnel needs beyond a port's MTU, at most: inner Ethernet header with a VLAN tag 18, Geneve with its option 28, UDP
/// 8, and IPv4 20 or IPv6 40.
pub const fn tunnel_overhead(ipv6: bool) -> u32 {
    18 + 28 + 8 + if ipv6 { 40 } else { 20 }
}

/// What is to be migrated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Switches by name; none: all that have an instance on `from`.
    pub switches: Vec<String>,
    /// From this host ...
    pub from: HostId,
    /// ... to this one.
    pub to: HostId,
    /// Where ports go, by switch name and port number.
    pub ports: BTreeMap<(String, PortNo), Target>,
    /// Names the devices of other ports: `{switch}`, `{port}`, `{device}` are filled in. Empty: `{device}`.
    pub device_template: String,
    /// Leave the ports where they are.
    pub keep_ports: bool,
}

/// Where a port goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The device there; empty: by the template.
    pub device: String,
    /// Its driver; empty: as before.
    pub driver: String,
}

/// The three phases of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The switches run on both hosts at the end.
    Prepare,
    /// Ports and end hosts change over, one by one.
    Move,
    /// The old instances go.
    Retire,
}

impl Phase {
    /// As the API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Prepare => "prepare",
            Phase::Move => "move",
            Phase::Retire => "retire",
        }
    }
}

/// One step. Each can be begun again, and undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// The host becomes a member of the network.
    Join {
        /// Which host.
        host: HostId,
    },
    /// The switch's rules are cloned to the host, which then processes its packets too.
    Clone {
        /// Which switch.
        switch: SwitchId,
        /// To which host.
        host: HostId,
    },
    /// A port moves.
    Move {
        /// Which port.
        port: PortId,
        /// Where it is.
        from: Device,
        /// Where it goes.
        to: Device,
    },
    /// The switch's instance on the host goes: the point of no return.
    Retire {
        /// Which switch.
        switch: SwitchId,
        /// On which host.
        host: HostId,
    },
}

impl Step {
    /// Which phase it belongs to.
    pub fn phase(&self) -> Phase {
        match self {
            Step::Join { .. } | Step::Clone { .. } => Phase::Prepare,
            Step::Move { .. } => Phase::Move,
            Step::Retire { .. } => Phase::Retire,
        }
    }

    /// One line for people.
    pub fn describe(&self, network: &Network, host_name: impl Fn(HostId) -> String) -> String {
        let switch = |id: &SwitchId| {
            let name = network.switches.get(id).map_or("?", |s| s.name.as_str());
            format!("{}/{name}", network.name)
        };
        match self {
            Step::Join { host } => {
                format!(
                    "make host {} a member of {}",
                    host_name(*host),
                    network.name
                )
            }
            Step::Clone { switch: s, host } => {
                format!("clone switch {} to host {}", switch(s), host_name(*host))
            }
            Step::Move { port, from, to } => {
                let name = network.ports.get(port).map(|p| network.port_name(p));
                format!(
                    "move port {} from {} on host {} to {} on host {}",
                    name.unwrap_or_else(|| format!("#{port}")),
                    from.name,
                    host_name(from.host),
                    to.name,
                    host_name(to.host)
                )
            }
            Step::Retire { switch: s, host } => format!(
                "retire the instance of switch {} on host {}",
                switch(s),
                host_name(*host)
            ),
        }
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// Both hosts are the same.
    #[error("a migration goes from one host to another, and both are the same")]
    SameHost,
    /// No such switch.
    #[error("switch {0} does not exist")]
    NoSuchSwitch(String),
    /// The switch has no instance where it is to go from.
    #[error("switch {0} has no instance on that host")]
    NotThere(String),
    /// Nothing of the network is on the host.
    #[error("nothing of network {0} is on that host: there is nothing to migrate")]
    Nothing(String),
    /// A target for a port that does not move.
    #[error(
        "port {0} does not move: it is not a port of these switches with a device on that host"
    )]
    NotMoving(String),
    /// Two ports would have the same device.
    #[error("device {device} is given to ports {first} and {second}: each needs its own")]
    DeviceTwice {
        /// Its name.
        device: String,
        /// One port.
        first: String,
        /// Another.
        second: String,
    },
}

/// What will be done, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In this order; backwards to undo.
    pub steps: Vec<Step>,
    /// Switches that are migrated: nothing else may change them meanwhile.
    pub switches: BTreeSet<SwitchId>,
}

/// Decides what a migration does. Whether hosts are there and devices will do is asked of the hosts.
pub fn plan(request: &Request, network: &Network) -> Result<Plan, PlanError> {
    let (from, to) = (request.from, request.to);
    if from == to {
        return Err(PlanError::SameHost);
    }
    let mut plan = Plan::default();
    for name in &request.switches {
        let full = format!("{}/{name}", network.name);
        let switch = network
            .switch_named(name)
            .ok_or_else(|| PlanError::NoSuchSwitch(full.clone()))?;
        if !switch.instances.contains_key(&from) {
            return Err(PlanError::NotThere(full));
        }
        plan.switches.insert(switch.id);
    }
    if request.switches.is_empty() {
        let here = network.switches.values();
        let here = here.filter(|s| s.instances.contains_key(&from));
        plan.switches = here.map(|s| s.id).collect();
    }
    let moves = if request.keep_ports {
        Vec::new()
    } else {
        plan_moves(request, network, &plan.switches)?
    };
    if plan.switches.is_empty() && moves.is_empty() {
        return Err(PlanError::Nothing(network.name.clone()));
    }
    plan.steps.push(Step::Join { host: to });
    for &switch in &plan.switches {
        plan.steps.push(Step::Clone { switch, host: to });
    }
    plan.steps.extend(moves);
    for &switch in &plan.switches {
        plan.steps.push(Step::Retire { switch, host: from });
    }
    Ok(plan)
}

fn plan_moves(
    request: &Request,
    network: &Network,
    switches: &BTreeSet<SwitchId>,
) -> Result<Vec<Step>, PlanError> {
    let mut targets = request.ports.clone();
    let mut moves = Vec::new();
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    for port in network.ports.values() {
        let Place::Device(device) = &port.place else {
            continue;
        };
        // Without switches on the host, its ports go all the same.
        let meant = switches.contains(&port.switch) || switches.is_empty();
        if device.host != request.from || !meant {
            continue;
        }
        let switch = network.switches.get(&port.switch);
        let switch = switch.map_or("?", |s| s.name.as_str());
        let target = targets.remove(&(switch.to_owned(), port.no));
        let template = if request.device_template.is_empty() {
            "{device}"
        } else {
            &request.device_template
        };
        let named = target.as_ref().map(|t| t.device.clone());
        let name = named.filter(|n| !n.is_empty()).unwrap_or_else(|| {
            template
                .replace("{switch}", switch)
                .replace("{port}", &port.no.to_string())
                .replace("{device}", &device.name)
        });
        let this = network.port_name(port);
        if let Some(first) = taken.insert(name.clone(), this.clone()) {
            return Err(PlanError::DeviceTwice {
                device: name,
                first,
                second: this,
            });
        }
        let driver = target.map(|t| t.driver).filter(|d| !d.is_empty());
        moves.push(Step::Move {
            port: port.id,
            from: device.clone(),
            to: Device {
                host: request.to,
                name,
                attach: device.attach,
                driver: driver.unwrap_or_else(|| device.driver.clone()),
            },
        });
    }
    if let Some((switch, no)) = targets.into_keys().next() {
        let name = format!("{}/{switch}:{no}", network.name);
        return Err(PlanError::NotMoving(name));
    }
    Ok(moves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{InstanceState, PacketIns, Port, Switch};
    use crate::{Consistency, NetworkId, PortAttach};

    fn example() -> Network {
        let mut network = Network::new(NetworkId(1), "n".into(), Consistency::Causal, 1);
        let device = |host, name: &str| Device {
            host: HostId(host),
            name: name.into(),
            attach: PortAttach::Auto,
            driver: "plug:x".into(),
        };
        for (id, name) in [(1, "s"), (2, "t")] {
            let switch = Switch {
                id: SwitchId(id),
                name: name.into(),
                instances: BTreeMap::from([(HostId(1), InstanceState::Active(None))]),
                packet_ins: PacketIns::default(),
            };
            network.switches.insert(switch.id, switch);
        }
        for (switch, no, host) in [(1, 1, 1), (1, 2, 3), (2, 1, 1)] {
            let id = network.take_port_id();
            let port = Port {
                id,
                switch: SwitchId(switch),
                no: PortNo(no),
                place: Place::Device(device(host, &format!("vm{id}"))),
                moving: None,
                mtu: 1500,
                no_flood: false,
                external: false,
                since: 0,
            };
            network.ports.insert(id, port);
        }
        network
    }

    fn request() -> Request {
        Request {
            switches: Vec::new(),
            from: HostId(1),
            to: HostId(2),
            ports: BTreeMap::new(),
            device_template: String::new(),
            keep_ports: false,
        }
    }

    #[test]
    fn phases_come_in_order_and_only_what_is_there_moves() {
        let plan = plan(&request(), &example()).unwrap();
        let phases: Vec<Phase> = plan.steps.iter().map(Step::phase).collect();
        assert!(phases.is_sorted());
        let moves = plan.steps.iter().filter(|s| s.phase() == Phase::Move);
        assert_eq!(moves.count(), 2);
        assert_eq!(plan.steps.len(), 7);
    }

    #[test]
    fn bad_requests_have_no_plan() {
        let network = example();
        let wrong = |f: fn(&mut Request)| {
            let mut r = request();
            f(&mut r);
            plan(&r, &network).unwrap_err()
        };
        assert_eq!(wrong(|r| r.to = r.from), PlanError::SameHost);
        let e = wrong(|r| r.switches = vec!["x".into()]);
        assert_eq!(e, PlanError::NoSuchSwitch("n/x".into()));
        let e = wrong(|r| r.from = HostId(9));
        assert_eq!(e, PlanError::Nothing("n".into()));
        let e = wrong(|r| r.device_template = "tap0".into());
        assert!(matches!(e, PlanError::DeviceTwice { .. }));
        let e = wrong(|r| {
            let target = Target {
                device: "d".into(),
                driver: String::new(),
            };
            r.ports.insert(("s".into(), PortNo(2)), target);
        });
        assert_eq!(e, PlanError::NotMoving("n/s:2".into()));
    }
}
