//! Records what the end hosts and controllers of a lab see, each in its own order, and lets [`lime_history`] decide whether ordinary switches
//! could have shown it.
//!
//! - `capture`: every packet that an end host sends or gets, at its own device;
//! - `channel`: every message of every client of the coordinator, on its way;
//! - `requests`: what those messages mean.
//!
//! Labs do this by themselves, and judge it when they go down: a contradiction fails the test. Of networks without consistency nothing
//! is expected, and tests ask for the verdict.

mod bundles;
mod capture;
mod channel;
mod messages;
mod network;
mod requests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use lime_history::{Contradiction, EndHost, History, Nanos, Packet, Seen, Shapes, Summary, check};
use lime_proto::v1::Consistency;

use capture::Capture;
pub use channel::Channel;
use network::Network;

use crate::lab;

/// Packets of one end host that are kept. Of a longer run the rest is not looked at.
const MOST_SEEN: usize = 4_000_000;

/// What became of a network's history.
#[derive(Debug)]
pub enum Verdict {
    /// Ordinary switches could have shown it.
    Possible(Summary),
    /// They could not.
    Impossible(Contradiction),
    /// It was not looked at, for this reason.
    Unknown(String),
}

/// What is recorded in one lab.
#[derive(Debug, Default)]
pub struct Recorder {
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    networks: HashMap<String, Network>,
    ends: Vec<EndHost>,
    /// Ifindex of the outer end of each end host's device: what port drivers name.
    outer: Vec<u32>,
    shapes: Shapes,
    /// Why nothing can be said of any network.
    blind: Option<String>,
}

/// Now, on the clock that packets are stamped with.
fn now() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_nanos() as Nanos)
}

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// From now on nothing can be said: somebody does things that are not recorded.
    pub fn give_up(&self, why: &str) {
        self.lock().blind.get_or_insert_with(|| why.to_owned());
    }

    /// Names of the networks that promise consistency.
    fn consistent(&self) -> Vec<String> {
        let log = self.lock();
        let kept = log
            .networks
            .iter()
            .filter(|(_, n)| n.consistency != Consistency::None);
        kept.map(|(name, _)| name.clone()).collect()
    }

    fn verdict(&self, network: &str) -> Verdict {
        match self.history(network) {
            Ok(history) => match check(&history) {
                Ok(summary) => Verdict::Possible(summary),
                Err(contradiction) => Verdict::Impossible(contradiction),
            },
            Err(why) => Verdict::Unknown(why),
        }
    }

    fn history(&self, network: &str) -> Result<History, String> {
        let log = self.lock();
        if let Some(why) = &log.blind {
            return Err(why.clone());
        }
        let Some(network) = log.networks.get(network) else {
            return Err(format!("nothing is known of a network {network}"));
        };
        network.history(log.ends.clone(), log.shapes.clone())
    }
}

impl Log {
    /// A packet at an end host.
    fn see(&mut self, end: usize, at: Nanos, sent: bool, frame: &[u8]) {
        let Some(packet) = Packet::read(frame) else {
            return;
        };
        let shape = self.shapes.id(packet.shape);
        let host = &mut self.ends[end];
        if host.seen.len() >= MOST_SEEN {
            host.incomplete = true;
            return;
        }
        host.seen.push(Seen {
            at,
            sent,
            packet: packet.id,
            shape,
        });
    }
}

/// The recording of a lab that is up.
#[derive(Debug)]
pub struct Recording {
    recorder: Arc<Recorder>,
    capture: Capture,
}

impl Recording {
    /// Starts to watch these end hosts.
    pub fn start(ends: &[lab::EndHost]) -> std::io::Result<Self> {
        let recorder = Arc::new(Recorder::default());
        {
            let mut log = recorder.lock();
            for end in ends {
                log.outer.push(end.outer_index());
                log.ends.push(EndHost {
                    name: end.name().to_owned(),
                    ..EndHost::default()
                });
            }
        }
        Ok(Self {
            capture: Capture::start(ends, recorder.clone())?,
            recorder,
        })
    }

    /// Who records what clients say.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Packets that the n-th end host was seen to send.
    pub fn sent(&self, end: usize) -> usize {
        self.capture.catch_up();
        let log = self.recorder.lock();
        let seen = log
            .ends
            .get(end)
            .map(|e| e.seen.iter().filter(|s| s.sent).count());
        seen.unwrap_or(0)
    }

    /// Forgets all but the end hosts.
    pub fn forget(&self) {
        self.capture.catch_up();
        let mut log = self.recorder.lock();
        log.networks.clear();
        log.shapes = Shapes::default();
        for end in &mut log.ends {
            end.seen.clear();
            end.incomplete = false;
        }
    }

    /// Judges a network by all that was seen until now.
    pub fn verdict(&self, network: &str) -> Verdict {
        self.capture.catch_up();
        self.recorder.verdict(network)
    }

    /// Judges all networks that promise consistency: the first contradiction.
    pub fn contradiction(&self) -> Option<Contradiction> {
        self.capture.catch_up();
        let names = self.recorder.consistent();
        names.iter().find_map(|n| match self.recorder.verdict(n) {
            Verdict::Impossible(contradiction) => Some(contradiction),
            _ => None,
        })
    }
}
