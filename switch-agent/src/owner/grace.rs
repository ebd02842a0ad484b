//! Grace periods: what waits until every kernel program that was running has finished. One at a time; whatever comes meanwhile shares the next.

use lime_core::{Epoch, NetworkId, RuleId};
use lime_proto::v1::{self, agent_message::Message};
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};

use super::Owner;
use crate::datapath::grace_period;
use crate::error::{CommandError, chain};

/// What is done after a grace period.
#[derive(Debug)]
pub(super) enum After {
    /// Greet the coordinator of this session; the networks' clocks as they were before.
    Hello {
        session: u64,
        clocks: Vec<(NetworkId, Epoch)>,
    },
    /// Acknowledge the epoch.
    Activated {
        session: u64,
        network: NetworkId,
        epoch: Epoch,
    },
    /// Vote whether these rules are idle.
    Vote {
        session: u64,
        network: NetworkId,
        round: u64,
        rules: Vec<RuleId>,
    },
    /// Answer with the clock.
    Paused {
        session: u64,
        request: u64,
        network: NetworkId,
    },
    /// Take the programs off a device that is no port any more.
    Detach { ifindex: u32 },
}

#[derive(Debug, Default)]
pub(super) struct Grace {
    waiting: Vec<After>,
    running: Option<(JoinHandle<bool>, Vec<After>)>,
}

impl Grace {
    pub fn after(&mut self, after: After) {
        self.waiting.push(after);
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts a grace period if something waits for one and none is running.
    pub fn start(&mut self) {
        if self.running.is_none() && !self.waiting.is_empty() {
            let wait = tokio::task::spawn_blocking(|| match grace_period() {
                Ok(()) => true,
                Err(error) => {
                    error!(%error, "grace period failed; nothing is acknowledged until one succeeds");
                    // Off the owner's task, so that it does not spin.
                    std::thread::sleep(std::time::Duration::from_secs(1));
                    false
                }
            });
            self.running = Some((wait, std::mem::take(&mut self.waiting)));
        }
    }

    /// Waits for the running grace period and gives what waited for it. Safe to cancel.
    pub async fn finished(&mut self) -> Vec<After> {
        let Some((wait, _)) = &mut self.running else {
            return Vec::new();
        };
        let succeeded = wait.await.unwrap_or(false);
        let Some((_, mut done)) = self.running.take() else {
            return Vec::new();
        };
        if succeeded {
            return done;
        }
        done.append(&mut self.waiting);
        self.waiting = done;
        Vec::new()
    }
}

impl Owner {
    pub(super) fn after_grace(&mut self, after: After) {
        match after {
            After::Hello { session, clocks } => {
                if session == self.outbox.session() {
                    self.greet(&clocks);
                }
            }
            After::Activated {
                session,
                network,
                epoch,
            } => {
                // Rule 20: whoever hears of it, all that read an older clock has finished.
                if let Err(error) = self.datapath.leave_relay(network, epoch) {
                    warn!(%network, %epoch, error = chain(&error), "packets go on to be relayed");
                }
                if session == self.outbox.session() {
                    self.empty_ring();
                    self.report_ended(network, epoch);
                    self.outbox.push(Message::Activated(v1::Activated {
                        network: network.0,
                        epoch: epoch.0,
                    }));
                }
            }
            After::Vote {
                session,
                network,
                round,
                rules,
            } => {
                if session == self.outbox.session() {
                    self.vote(network, round, &rules);
                }
            }
            After::Paused {
                session,
                request,
                network,
            } => {
                if session == self.outbox.session() {
                    self.empty_ring();
                    let clock = self.datapath.clock(network).map_err(CommandError::from);
                    self.outbox
                        .done(request, clock.map(|e| Some(v1::done::Result::Clock(e.0))));
                }
            }
            After::Detach { ifindex } => {
                if self.port_of_device(ifindex).is_none() {
                    match self.datapath.detach(ifindex) {
                        Ok(()) => debug!(ifindex, "device is no port any more"),
                        Err(error) => {
                            warn!(ifindex, error = chain(&error), "device cannot be detached")
                        }
                    }
                }
            }
        }
    }
}
