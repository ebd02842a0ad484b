//! Intrusion detection that looks at copies of all packets (COCONUT's example): an answer without a question is an attack, and its sender
//! is blocked for ever. On one switch the question is always shown first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lime_proto::v1::{Bucket, FlowMod, Group, GroupType, PacketIn, action::Action};

use super::{Message, ScenarioError, Scene, Talker, Tally};
use crate::program::{Commands, Program};
use crate::rules::{CONTROLLER, RuleSpec, field};

/// What makes the copies for the detector.
#[derive(Clone, Copy, Debug)]
pub(super) enum Copies {
    /// The rule that also outputs.
    Rule,
    /// A rule of a later table.
    Table,
    /// A group's bucket, which changes its copy.
    Group,
}

pub(super) async fn start(
    scene: &mut Scene,
    tally: &Arc<Tally>,
    copies: Copies,
) -> Result<(), ScenarioError> {
    scene
        .switch("s1", &[(1, "h1", "a"), (2, "h2", "b")])
        .await?;
    for (from, to) in [(1, 2), (2, 1)] {
        if let Copies::Group = copies {
            scene.group("s1", copying(to)).await?;
        }
        scene.rules("s1", copied(copies, from, to)).await?;
    }
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

/// The rules for packets from one port to another.
fn copied(copies: Copies, from: u32, to: u32) -> Vec<FlowMod> {
    let of = RuleSpec::new(10).in_port(from).ipv4();
    match copies {
        Copies::Rule => vec![of.output(to).output(CONTROLLER).add()],
        Copies::Table => vec![
            of.clone().table(1).output(CONTROLLER).add(),
            of.output(to).goto(1).add(),
        ],
        Copies::Group => {
            let group = lime_proto::v1::action::Group { group_id: to };
            vec![of.action(Action::Group(group)).add()]
        }
    }
}

/// A group that outputs packets, and sends changed copies to the controller.
fn copying(to: u32) -> Group {
    let bucket = |actions: RuleSpec| Bucket {
        actions: actions.rule().actions,
        ..Bucket::default()
    };
    let copy = RuleSpec::new(0).set(field::ETH_SRC, [2, 0, 0, 0, 0, 99]);
    let changed = RuleSpec::new(0).set(field::ETH_SRC, [2, 0, 0, 0, 0, 98]);
    Group {
        group_id: to,
        r#type: GroupType::All.into(),
        buckets: vec![bucket(copy.output(CONTROLLER)), bucket(changed.output(to))],
    }
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
