//! Switch counters against packets counted by the end hosts; and that no counter ever goes back.

use std::collections::HashMap;
use std::time::Duration;

use lime_proto::v1::PortAttach;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::flows::Finished;
use super::network::UDP_COOKIE;
use super::report::CounterReport;
use crate::firewall::{COOKIE_NEW, COOKIE_RETURN, ProberReport};
use crate::lab::{END_HOST_DEVICE, Lab, LabError};
use crate::tenant::{Plugged, Tenant};

const SWITCHES: [&str; 2] = ["s1", "s2"];
/// How often counters are read while traffic runs.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long traffic may take to come to rest.
const REST: Duration = Duration::from_secs(5);

/// One counter, as the end hosts count and as the switches do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// What is counted.
    pub what: String,
    /// By the end hosts.
    pub expected: u64,
    /// By the switches.
    pub reported: u64,
}

impl Comparison {
    /// Whether they agree, to the packet.
    pub fn exact(&self) -> bool {
        self.expected == self.reported
    }
}

/// All comparisons as one.
pub fn summary(comparisons: &[Comparison], went_back: u64, reads: u64) -> CounterReport {
    CounterReport {
        expected: comparisons.iter().map(|c| c.expected).sum(),
        reported: comparisons.iter().map(|c| c.reported).sum(),
        went_back,
        reads,
    }
}

/// What crossed the wire between an end host and its port, seen from the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Wire {
    rx: u64,
    tx: u64,
}

/// Port counters and device counters at one moment at which nothing moved.
#[derive(Debug, PartialEq, Eq)]
pub struct Baseline {
    devices: Vec<Wire>,
    ports: Vec<Wire>,
}

impl Baseline {
    /// Reads both until nothing moves between two reads.
    pub async fn at_rest(
        lab: &Lab,
        tenant: &mut Tenant,
        attach: PortAttach,
    ) -> Result<Self, LabError> {
        let deadline = tokio::time::Instant::now() + REST;
        let mut last = Self::read(lab, tenant, attach).await?;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = Self::read(lab, tenant, attach).await?;
            // If something always moves, the comparison will say so.
            if now == last || tokio::time::Instant::now() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    async fn read(lab: &Lab, tenant: &mut Tenant, attach: PortAttach) -> Result<Self, LabError> {
        let plugged = tenant.plugged().to_vec();
        let mut devices = Vec::new();
        for p in &plugged {
            devices.push(wire(lab, &p.end_host, attach).await?);
        }
        let mut counters = HashMap::new();
        for switch in SWITCHES {
            for port in tenant.port_stats(switch).await? {
                let c = port.counters.unwrap_or_default();
                let wire = Wire {
                    rx: c.rx_packets,
                    tx: c.tx_packets,
                };
                counters.insert((switch.to_owned(), port.port_no), wire);
            }
        }
        let port = |p: &Plugged| {
            let key = (p.switch.clone(), p.port_no);
            counters.get(&key).copied().unwrap_or_default()
        };
        Ok(Self {
            devices,
            ports: plugged.iter().map(port).collect(),
        })
    }

    /// Waits until nothing moves, and compares everything that both sides can count.
    pub async fn compare(
        &self,
        lab: &Lab,
        tenant: &mut Tenant,
        attach: PortAttach,
        flows: &[Finished],
        probes: &ProberReport,
        answered: u64,
    ) -> Result<Vec<Comparison>, LabError> {
        let now = Self::at_rest(lab, tenant, attach).await?;
        let mut all = Vec::new();
        for (i, p) in tenant.plugged().iter().enumerate() {
            let name = format!("{}:{} ({})", p.switch, p.port_no, p.end_host);
            all.push(Comparison {
                what: format!("port {name} received"),
                expected: now.devices[i].rx - self.devices[i].rx,
                reported: now.ports[i].rx - self.ports[i].rx,
            });
            all.push(Comparison {
                what: format!("port {name} sent"),
                expected: now.devices[i].tx - self.devices[i].tx,
                reported: now.ports[i].tx - self.ports[i].tx,
            });
        }
        let mut by_cookie: HashMap<u64, u64> = HashMap::new();
        for switch in SWITCHES {
            for stats in tenant.rule_stats(switch).await? {
                let cookie = stats.rule.as_ref().map_or(0, |r| r.cookie);
                *by_cookie.entry(cookie).or_default() += stats.packets;
            }
        }
        let reported = |cookie| by_cookie.get(&cookie).copied().unwrap_or_default();
        let udp = flows.iter().filter(|f| f.switches > 0);
        for (flow, cookie) in udp.zip(UDP_COOKIE..) {
            all.push(Comparison {
                what: format!("rules of {}", flow.report.name),
                expected: flow.report.sent * flow.switches,
                reported: reported(cookie),
            });
        }
        all.push(Comparison {
            what: "firewall: new flows to the application".into(),
            expected: probes.started,
            reported: reported(COOKIE_NEW),
        });
        all.push(Comparison {
            what: "firewall: rules for answers".into(),
            expected: answered,
            reported: reported(COOKIE_RETURN),
        });
        Ok(all)
    }
}

/// What an end host's device counted, turned round to the switch's view.
///
/// The end host's own counters, except what it received from XDP ports: there GRO, which redirected XDP frames need, has joined packets
/// before the device counts them, so they are counted on the wire's other end.
async fn wire(lab: &Lab, end_host: &str, attach: PortAttach) -> Result<Wire, LabError> {
    let own = lab
        .end_host(end_host)?
        .links()
        .stats(END_HOST_DEVICE)
        .await?;
    let mut tx = own.rx_packets;
    if attach == PortAttach::Xdp {
        tx = 0;
        for host in lab.hosts() {
            let far_end = lab.far_end(end_host, host.name())?;
            tx += lab.core().stats(&far_end).await?.rx_packets;
        }
    }
    Ok(Wire {
        rx: own.tx_packets,
        tx,
    })
}

/// Reads all counters again and again while traffic runs.
#[derive(Debug)]
pub struct Watch {
    stop: oneshot::Sender<()>,
    task: JoinHandle<(u64, u64)>,
}

impl Watch {
    /// Starts reading.
    pub fn start(tenant: Tenant) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self {
            stop,
            task: tokio::spawn(watch(tenant, stopped)),
        }
    }

    /// Stops reading. Returns how many counters went back, and how often all were read.
    pub async fn stop(self) -> (u64, u64) {
        let _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }
}

async fn watch(mut tenant: Tenant, mut stopped: oneshot::Receiver<()>) -> (u64, u64) {
    let mut highest: HashMap<(&str, &str, u64), [u64; 4]> = HashMap::new();
    let (mut went_back, mut reads) = (0, 0);
    loop {
        tokio::select! {
            _ = &mut stopped => return (went_back, reads),
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let mut seen = Vec::new();
        for switch in SWITCHES {
            // While the coordinator is away there is nothing to read.
            let Ok(rules) = tenant.rule_stats(switch).await else {
                continue;
            };
            seen.extend(
                rules
                    .iter()
                    .map(|r| ((switch, "rule", r.rule_id), [r.packets, r.bytes, 0, 0])),
            );
            let Ok(ports) = tenant.port_stats(switch).await else {
                continue;
            };
            seen.extend(ports.iter().map(|p| {
                let c = p.counters.clone().unwrap_or_default();
                let values = [c.rx_packets, c.rx_bytes, c.tx_packets, c.tx_bytes];
                ((switch, "port", p.port_no.into()), values)
            }));
        }
        reads += 1;
        for (key, values) in seen {
            let highest = highest.entry(key).or_default();
            for (h, v) in highest.iter_mut().zip(values) {
                went_back += u64::from(v < *h);
                *h = v.max(*h);
            }
        }
    }
}
