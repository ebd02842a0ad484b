//! Intrusion detection that looks at copies of all packets (COCONUT's example): an answer without a question is an attack, and its sender
//! is blocked for ever. On one switch the question is always shown first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lime_proto::v1::PacketIn;

use super::{Message, ScenarioError, Scene, Talker, Tally};
use crate::program::{Commands, Program};
use crate::rules::{CONTROLLER, RuleSpec};

pub(super) async fn start(scene: &mut Scene, tally: &Arc<Tally>) -> Result<(), ScenarioError> {
    scene
        .switch("s1", &[(1, "h1", "a"), (2, "h2", "b")])
        .await?;
    let copied = |from, to| {
        RuleSpec::new(10)
            .in_port(from)
            .ipv4()
            .output(to)
            .output(CONTROLLER)
            .add()
    };
    scene.rules("s1", vec![copied(1, 2), copied(2, 1)]).await?;
    let detector = Detector {
        asked: HashSet::new(),
        blocked: false,
        tally: tally.clone(),
    };
    scene.control(detector).await?;
    let server = Talker::start(scene.end(2), Duration::from_secs(1), |got| {
        got.map(|m| m.answer(m.words)).into_iter().collect()
    })?;
    let (mut next, tally) = (0, tally.clone());
    let client = Talker::start(
        scene.end(1),
        Duration::from_millis(4),
        move |got| match got {
            Some(_) => {
                tally.round();
                Vec::new()
            }
            None => {
                next += 1;
                vec![Message::new(1, 2, [next, 0])]
            }
        },
    )?;
    scene.keep((server, client));
    Ok(())
}

struct Detector {
    asked: HashSet<u64>,
    blocked: bool,
    tally: Arc<Tally>,
}

impl Program for Detector {
    fn packet_in(&mut self, switch: &str, packet: PacketIn, commands: &mut Commands) {
        let Some(message) = Message::parse(&packet.data) else {
            return;
        };
        let number = message.words[0];
        match packet.in_port {
            1 => {
                self.asked.insert(number);
            }
            _ if self.asked.remove(&number) => {}
            _ => {
                self.tally
                    .symptom(|| format!("answer {number} without its question: {message:?}"));
                if !std::mem::replace(&mut self.blocked, true) {
                    commands.update(switch, vec![RuleSpec::new(100).in_port(2).add()]);
                }
            }
        }
    }
}
