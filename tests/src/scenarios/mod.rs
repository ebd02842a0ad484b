//! Controller programs, and traffic, that notice when a network does not behave as one switch does: the scenarios of the papers.
//!
//! Each has a **symptom**: something that cannot happen on one switch, whatever packets are lost or late. Every scenario is played on
//! switches with an instance on each of two hosts; with consistency the symptom must not show, and without it does. What was seen is judged
//! as well ([`crate::record`]).
//!
//! | scenario | symptom |
//! | --- | --- |
//! | [`Scenario::Firewall`] | an answer comes to the firewall without the rule that was made before the question was let out |
//! | [`Scenario::Intrusion`] | the detector is shown an answer before its question, and blocks the server for ever |
//! | [`Scenario::IntrusionTables`], [`Scenario::IntrusionGroup`] | the same, where a later table or a group makes the detector's copies |
//! | [`Scenario::Balancer`] | a packet of a flow that is pinned comes to the controller, or to another server |
//! | [`Scenario::Policy`] | who has seen the new policy causes a packet that meets the old one |
//! | [`Scenario::Chain`] | the second switch of a chain is ahead of the first, which was changed before it |
//! | [`Scenario::Learning`] | an address that was learned is unknown |
//! | [`Scenario::Uplinks`] | somebody outside sees the new policy at one port, and then the old one at another |
//! | [`Scenario::Quota`] | packets are counted after the answer to the update that blocks them |

mod balancer;
mod chain;
mod firewall;
mod intrusion;
mod learning;
mod policy;
mod quota;
mod scene;
mod talk;
mod uplinks;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lime_proto::v1::{Consistency, PortAttach};

use intrusion::Copies;
pub use scene::Scene;
pub use talk::{Message, Talker};

use crate::lab::LabError;
use crate::record::Verdict;

/// How long a scenario with consistency is played at least.
const LONG_ENOUGH: Duration = Duration::from_secs(2);
/// Rounds that it must come to.
const ENOUGH: u64 = 20;
/// How long it may take to that, and to the symptom without consistency.
const PATIENCE: Duration = Duration::from_secs(90);

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A reactive stateful firewall.
    Firewall,
    /// Intrusion detection.
    Intrusion,
    /// The same, with copies by a later table.
    IntrusionTables,
    /// The same, with copies by a group.
    IntrusionGroup,
    /// A load balancer that pins flows.
    Balancer,
    /// A policy that changes.
    Policy,
    /// Two switches in a chain.
    Chain,
    /// A learning switch with end hosts that move.
    Learning,
    /// So many packets and no more.
    Quota,
    /// Ports on both hosts that lead to one outside.
    Uplinks,
}

impl Scenario {
    /// What the network must promise so that the symptom does not show; and what is not enough.
    fn levels(self) -> (Consistency, Consistency) {
        match self {
            Scenario::Uplinks => (Consistency::Strict, Consistency::Causal),
            _ => (Consistency::Causal, Consistency::None),
        }
    }
}

/// Why a scenario could not be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The lab or the coordinator.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Traffic.
    #[error("cannot run the traffic")]
    Traffic(#[from] std::io::Error),
    /// The controller program.
    #[error("the controller program cannot open its channel: {0}")]
    Program(Box<tonic::Status>),
}

impl From<tonic::Status> for ScenarioError {
    fn from(status: tonic::Status) -> Self {
        Self::Program(Box::new(status))
    }
}

/// What is counted while a scenario is played.
#[derive(Debug, Default)]
pub struct Tally {
    rounds: AtomicU64,
    symptoms: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Tally {
    /// Something came to its proper end.
    pub fn round(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// Something happened that cannot on one switch.
    pub fn symptom(&self, what: impl FnOnce() -> String) {
        if self.symptoms.fetch_add(1, Ordering::Relaxed) == 0 {
            *self.first.lock().unwrap_or_else(|e| e.into_inner()) = Some(what());
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Things that came to their proper end.
    pub rounds: u64,
    /// Times that the symptom showed.
    pub symptoms: u64,
    /// The first of them.
    pub first: Option<String>,
    /// What was seen, judged.
    pub verdict: Verdict,
}

/// Plays a scenario: for some seconds, or without consistency until the symptom shows and the judge finds it too, or patience ends.
pub async fn play(
    scenario: Scenario,
    attach: PortAttach,
    naive: bool,
) -> Result<Outcome, ScenarioError> {
    let (enough, naively) = scenario.levels();
    let consistency = if naive { naively } else { enough };
    let mut scene = Scene::new(attach, consistency).await?;
    let tally = Arc::new(Tally::default());
    match scenario {
        Scenario::Firewall => firewall::start(&mut scene, &tally).await,
        Scenario::Intrusion => intrusion::start(&mut scene, &tally, Copies::Rule).await,
        Scenario::IntrusionTables => intrusion::start(&mut scene, &tally, Copies::Table).await,
        Scenario::IntrusionGroup => intrusion::start(&mut scene, &tally, Copies::Group).await,
        Scenario::Balancer => balancer::start(&mut scene, &tally).await,
        Scenario::Policy => policy::start(&mut scene, &tally).await,
        Scenario::Chain => chain::start(&mut scene, &tally).await,
        Scenario::Learning => learning::start(&mut scene, &tally).await,
        Scenario::Quota => quota::start(&mut scene, &tally).await,
        Scenario::Uplinks => uplinks::start(&mut scene, &tally).await,
    }?;
    let started = Instant::now();
    let verdict = loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        scene.stir().await?;
        let symptom = tally.symptoms.load(Ordering::Relaxed) > 0;
        let rounds = tally.rounds.load(Ordering::Relaxed);
        let late = started.elapsed() > PATIENCE;
        let enough = started.elapsed() > LONG_ENOUGH && rounds >= ENOUGH;
        let over = if naive { symptom } else { symptom || enough };
        if !over && !late {
            continue;
        }
        let verdict = tokio::task::block_in_place(|| scene.verdict());
        // What a causal network shows is possible to it.
        let judged = naively == Consistency::Causal || matches!(verdict, Verdict::Impossible(_));
        if !naive || late || judged {
            break verdict;
        }
    };
    let first = tally.first.lock().unwrap_or_else(|e| e.into_inner()).take();
    Ok(Outcome {
        rounds: tally.rounds.load(Ordering::Relaxed),
        symptoms: tally.symptoms.load(Ordering::Relaxed),
        first,
        verdict,
    })
}
