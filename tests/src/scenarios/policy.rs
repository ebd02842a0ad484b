//! A policy that changes all the time: packets of end hosts 1 and 4 go to end host 2, or both to end host 3, and are marked with the number of the
//! policy. Who gets one of end host 1 has end host 4 send one, too: that must not meet an older policy.

use std::sync::Arc;
use std::time::Duration;

use lime_proto::v1::{FlowMod, PacketIn};

use super::{Message, ScenarioError, Scene, Talker, Tally};
use crate::program::{Commands, Program};
use crate::rules::{RuleSpec, field};

/// Policies are told apart modulo this: the values of DSCP.
const MARKS: u64 = 64;

/// Whether one number of a policy is older than another, of the few that can be in use at a time.
pub(super) fn is_older(a: u64, b: u64) -> bool {
    a.wrapping_sub(b) % MARKS > MARKS / 2
}

pub(super) async fn start(scene: &mut Scene, tally: &Arc<Tally>) -> Result<(), ScenarioError> {
    scene
        .switch(
            "s1",
            &[
                (1, "h1", "a"),
                (2, "h2", "a"),
                (3, "h3", "b"),
                (4, "h4", "b"),
            ],
        )
        .await?;
    let to_fourth = |port| RuleSpec::new(10).in_port(port).output(4).add();
    scene.rules("s1", vec![to_fourth(2), to_fourth(3)]).await?;
    let changer = Changer {
        number: 0,
        tally: tally.clone(),
    };
    scene.control(changer).await?;
    let source = Talker::start(scene.end(1), Duration::from_millis(2), |got| match got {
        None => vec![Message::new(1, 2, [0, 0])],
        Some(_) => Vec::new(),
    })?;
    let fourth = Talker::start(scene.end(4), Duration::from_secs(1), |got| {
        let on = |m: Message| Message::new(4, 2, [2, m.words[1]]);
        got.map(on).into_iter().collect()
    })?;
    scene.keep((source, fourth));
    for n in [2, 3] {
        let tally = tally.clone();
        let talker = Talker::start(scene.end(n), Duration::from_secs(1), move |got| {
            let Some(m) = got else { return Vec::new() };
            if m.words[0] == 0 {
                return vec![Message::new(n, 4, [1, m.dscp.into()])];
            }
            if is_older(m.dscp.into(), m.words[1]) {
                tally
                    .symptom(|| format!("policy {} was seen, and then met {}", m.words[1], m.dscp));
            }
            Vec::new()
        })?;
        scene.keep(talker);
    }
    Ok(())
}

struct Changer {
    number: u64,
    tally: Arc<Tally>,
}

impl Changer {
    fn next(&mut self, commands: &mut Commands) {
        self.number += 1;
        let to = 2 + (self.number % 2) as u32;
        let mark = vec![(self.number % MARKS) as u8];
        let rule = |port| -> FlowMod {
            let rule = RuleSpec::new(10).in_port(port).ipv4();
            rule.set(field::IP_DSCP, mark.clone()).output(to).add()
        };
        commands.update("s1", vec![rule(1), rule(4)]);
    }
}

impl Program for Changer {
    fn opened(&mut self, commands: &mut Commands) {
        self.next(commands);
    }

    fn packet_in(&mut self, _: &str, _: PacketIn, _: &mut Commands) {}

    fn updated(&mut self, _: u64, commands: &mut Commands) {
        self.tally.round();
        self.next(commands);
    }
}
