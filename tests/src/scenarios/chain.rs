//! Two switches in a chain, changed one after the other again and again: the first, then the second. Both mark what passes with the number of the
//! change: the first in the DSCP, the second in the source address.

use std::sync::Arc;
use std::time::Duration;

use lime_proto::v1::PacketIn;

use super::policy::is_older;
use super::{Message, ScenarioError, Scene, Talker, Tally};
use crate::program::{Commands, Program};
use crate::rules::{RuleSpec, field};

/// Numbers of changes are told apart modulo this.
const MARKS: u64 = 64;

pub(super) async fn start(scene: &mut Scene, tally: &Arc<Tally>) -> Result<(), ScenarioError> {
    scene.switch("s1", &[(1, "h1", "a")]).await?;
    scene.switch("s2", &[(1, "h2", "b")]).await?;
    scene.link(("s1", 2), ("s2", 2)).await?;
    let changer = Changer {
        number: 0,
        last: 0,
        tally: tally.clone(),
    };
    scene.control(changer).await?;
    let marks = |m: &Message| (u64::from(m.dscp), u64::from(m.from_mac) % MARKS);
    let far = Talker::start(scene.end(2), Duration::from_secs(1), {
        let tally = tally.clone();
        move |got| {
            let Some(m) = got else { return Vec::new() };
            let (first, second) = marks(&m);
            // It passed the first switch first; the second was changed before that was changed again.
            if is_older(second + 1, first) {
                tally.symptom(|| {
                    format!("there: {first} at the first switch, then {second} at the second")
                });
            }
            vec![Message::new(2, 1, [first, second])]
        }
    })?;
    let near = Talker::start(scene.end(1), Duration::from_millis(2), {
        let tally = tally.clone();
        move |got| {
            let Some(m) = got else {
                return vec![Message::new(1, 2, [0, 0])];
            };
            let (first, second) = marks(&m);
            // Passing the second switch first, it cannot find the other behind.
            if is_older(first, second) {
                tally.symptom(|| {
                    format!("back: {second} at the second switch, then {first} at the first")
                });
            }
            // Nor either of them behind what the question saw.
            let [asked_first, asked_second] = m.words;
            if is_older(first, asked_first) || is_older(second, asked_second) {
                tally.symptom(|| {
                    format!(
                        "the question saw {:?}, the answer {first}, {second}",
                        m.words
                    )
                });
            }
            Vec::new()
        }
    })?;
    scene.keep((far, near));
    Ok(())
}

struct Changer {
    number: u64,
    /// The request that ends the turn.
    last: u64,
    tally: Arc<Tally>,
}

impl Changer {
    fn next(&mut self, commands: &mut Commands) {
        self.number += 1;
        let mark = (self.number % MARKS) as u8;
        let pass = |from| RuleSpec::new(10).in_port(from).ipv4();
        let first = |from, to| pass(from).set(field::IP_DSCP, vec![mark]).output(to).add();
        let mac = vec![2, 0, 0, 0, 0, mark];
        let second = |from, to| pass(from).set(field::ETH_SRC, mac.clone()).output(to).add();
        commands.update("s1", vec![first(1, 2), first(2, 1)]);
        self.last = commands.update("s2", vec![second(1, 2), second(2, 1)]);
    }
}

impl Program for Changer {
    fn opened(&mut self, commands: &mut Commands) {
        self.next(commands);
    }

    fn packet_in(&mut self, _: &str, _: PacketIn, _: &mut Commands) {}

    fn updated(&mut self, xid: u64, commands: &mut Commands) {
        if xid == self.last {
            self.tally.round();
            self.next(commands);
        }
    }
}
