//! A policy that changes all the time, between two ports on either host: end host 1 talks to 2 on one, 4 to 3 on the other, and nothing goes from host to
//! host. But 2 and 4 know each other from outside: what 4 sends says which policy 2 had last seen by then, and must not meet an older one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lime_proto::v1::{FlowMod, PacketIn};

use super::policy::is_older;
use super::{Message, ScenarioError, Scene, Talker, Tally};
use crate::program::{Commands, Program};
use crate::rules::{RuleSpec, field};

/// Policies are told apart modulo this: the values of DSCP.
const MARKS: u64 = 64;

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
    let changer = Changer {
        number: 0,
        tally: tally.clone(),
    };
    scene.control(changer).await?;
    let outside = Arc::new(AtomicU64::new(0));
    let often = Duration::from_micros(500);
    let first = Talker::start(scene.end(1), often, |got| match got {
        None => vec![Message::new(1, 2, [0, 0])],
        Some(_) => Vec::new(),
    })?;
    let second = Talker::start(scene.end(2), Duration::from_secs(1), {
        let outside = outside.clone();
        move |got| {
            if let Some(m) = got {
                outside.store(m.dscp.into(), Ordering::SeqCst);
            }
            Vec::new()
        }
    })?;
    let fourth = Talker::start(scene.end(4), often, move |got| match got {
        None => vec![Message::new(4, 3, [outside.load(Ordering::SeqCst), 0])],
        Some(_) => Vec::new(),
    })?;
    let third = Talker::start(scene.end(3), Duration::from_secs(1), {
        let tally = tally.clone();
        move |got| {
            let Some(m) = got else { return Vec::new() };
            if is_older(m.dscp.into(), m.words[0]) {
                tally.symptom(|| {
                    format!(
                        "policy {} had been seen, and a packet that was sent after that met {}",
                        m.words[0], m.dscp
                    )
                });
            }
            Vec::new()
        }
    })?;
    scene.keep((first, second, third, fourth));
    Ok(())
}

struct Changer {
    number: u64,
    tally: Arc<Tally>,
}

impl Changer {
    fn next(&mut self, commands: &mut Commands) {
        self.number += 1;
        let mark = vec![(self.number % MARKS) as u8];
        let rule = |from, to| -> FlowMod {
            let rule = RuleSpec::new(10).in_port(from).ipv4();
            rule.set(field::IP_DSCP, mark.clone()).output(to).add()
        };
        commands.update("s1", vec![rule(1, 2), rule(4, 3)]);
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
