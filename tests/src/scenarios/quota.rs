//! A quota: who has sent so many packets is blocked. The controller reads the counters; when the block has been answered, nothing more is counted.

use std::sync::Arc;
use std::time::Duration;

use lime_proto::v1::{PacketIn, RuleStats};

use super::{Message, ScenarioError, Scene, Talker, Tally};
use crate::program::{Commands, Program};
use crate::rules::{RuleSpec, field};

/// Packets that are let through in a round.
const QUOTA: u64 = 20;
/// Readings after the block that must be alike.
const READINGS: u32 = 3;
/// Cookie of the rule that counts.
const COUNTED: u64 = 1;

pub(super) async fn start(scene: &mut Scene, tally: &Arc<Tally>) -> Result<(), ScenarioError> {
    scene
        .switch("s1", &[(1, "h1", "a"), (2, "h2", "a"), (3, "h3", "b")])
        .await?;
    let pass = RuleSpec::new(10)
        .cookie(COUNTED)
        .ipv4()
        .field(field::IPV4_DST, [10, 9, 0, 2]);
    scene.rules("s1", vec![pass.output(2).add()]).await?;
    for n in [1, 3] {
        let talker = Talker::start(
            scene.end(n),
            Duration::from_millis(1),
            move |got| match got {
                None => vec![Message::new(n, 2, [0, 0])],
                Some(_) => Vec::new(),
            },
        )?;
        scene.keep(talker);
    }
    let keeper = Keeper {
        state: State::Open,
        begun_at: 0,
        tally: tally.clone(),
    };
    scene.control(keeper).await
}

enum State {
    /// Packets pass, and are counted.
    Open,
    /// A change is under way.
    Changing(bool),
    /// They are blocked; how many there were, and how often that was read since.
    Blocked(Option<u64>, u32),
}

struct Keeper {
    state: State,
    /// Count at the beginning of the round.
    begun_at: u64,
    tally: Arc<Tally>,
}

fn block() -> RuleSpec {
    RuleSpec::new(20)
        .ipv4()
        .field(field::IPV4_DST, [10, 9, 0, 2])
}

impl Program for Keeper {
    fn opened(&mut self, commands: &mut Commands) {
        commands.flow_stats("s1");
    }

    fn packet_in(&mut self, _: &str, _: PacketIn, _: &mut Commands) {}

    fn stats(&mut self, _: u64, rules: Vec<RuleStats>, commands: &mut Commands) {
        let counted = |r: &&RuleStats| r.rule.as_ref().is_some_and(|r| r.cookie == COUNTED);
        let count = rules.iter().find(counted).map_or(0, |r| r.packets);
        match &mut self.state {
            State::Open if count >= self.begun_at + QUOTA => {
                self.state = State::Changing(true);
                commands.update("s1", vec![block().add()]);
                return;
            }
            State::Blocked(first, readings) => {
                let at_first = *first.get_or_insert(count);
                *readings += 1;
                if count != at_first {
                    self.tally.symptom(|| {
                        format!("{at_first} packets when it was blocked, later {count}")
                    });
                }
                if *readings == READINGS {
                    self.begun_at = count;
                    self.state = State::Changing(false);
                    let mut open = block().delete();
                    // This rule and no wider one.
                    open.command = lime_proto::v1::flow_mod::Command::DeleteStrict.into();
                    commands.update("s1", vec![open]);
                    return;
                }
            }
            State::Open | State::Changing(_) => {}
        }
        commands.flow_stats("s1");
    }

    fn updated(&mut self, _: u64, commands: &mut Commands) {
        self.state = match self.state {
            State::Changing(true) => State::Blocked(None, 0),
            _ => {
                self.tally.round();
                State::Open
            }
        };
        commands.flow_stats("s1");
    }
}
