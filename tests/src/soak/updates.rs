//! Changes rules all the time. Each rule marks what it passes with its number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lime_proto::v1::FlowMod;
use tokio::task::JoinHandle;

use super::life::{LINK, Shape};
use super::random::Random;
use crate::rules::{CONTROLLER, RuleSpec, field};
use crate::tenant::Tenant;

/// Pause after an update that was not taken: somebody is dead.
const PAUSE: Duration = Duration::from_millis(20);

/// Updates that go on until they are stopped.
pub(super) struct Updates {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// Numbers of updates, as DSCP.
const MARKS: u64 = 64;

/// A rule for a port of a switch. Its cookie says which; one of the same match takes its place, and goes on with its counters.
fn rule(shape: &Shape, switch: usize, port: u32, number: u64, random: &mut Random) -> FlowMod {
    let mut to = shape.ports(switch).to_vec();
    to.retain(|p| *p != port);
    to.push(CONTROLLER);
    let spec = RuleSpec::new(10).cookie(port.into()).in_port(port).ipv4();
    // The first switch marks what comes in, the second what comes by the link.
    let spec = match port == LINK {
        true => spec.set(field::ETH_SRC, vec![2, 0, 0, 0, 0, (number % 250) as u8]),
        false => spec.set(field::IP_DSCP, vec![(number % MARKS) as u8]),
    };
    let spec = spec.output(*random.one(&to));
    match random.below(8) {
        0 => spec.output(CONTROLLER).add(),
        _ => spec.add(),
    }
}

/// Rules for all ports of a switch.
pub(super) fn all(shape: &Shape, switch: usize, number: u64, random: &mut Random) -> Vec<FlowMod> {
    let ports = shape.ports(switch);
    ports
        .iter()
        .map(|p| rule(shape, switch, *p, number, random))
        .collect()
}

impl Updates {
    pub(super) fn start(mut tenant: Tenant, shape: Shape, mut random: Random) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn({
            let (stop, done) = (stop.clone(), done.clone());
            async move {
                let mut number = 1;
                while !stop.load(Ordering::Relaxed) {
                    let switch = random.below(shape.switches() as u64) as usize;
                    let mut mods = all(&shape, switch, number, &mut random);
                    mods.truncate(1 + random.below(mods.len() as u64) as usize);
                    number += 1;
                    // An update whose fate is not known is made again: then it is known.
                    while tenant
                        .rules(Shape::name(switch), mods.clone())
                        .await
                        .is_err()
                    {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, done, task }
    }

    /// Stops, when the update under way has been answered; how many there were.
    pub(super) async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.task.await;
        self.done.load(Ordering::Relaxed)
    }
}
