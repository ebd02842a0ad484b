//! A learning switch whose first end host moves between two ports: who is where is learned from packets that the first table does not know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lime_proto::v1::PacketIn;

use super::{Message, ScenarioError, Scene, Talker, Tally};
use crate::program::{Commands, Program};
use crate::rules::{CONTROLLER, FLOOD, RuleSpec, TABLE, field, output};

pub(super) async fn start(scene: &mut Scene, tally: &Arc<Tally>) -> Result<(), ScenarioError> {
    scene
        .switch(
            "s1",
            &[
                (1, "h1", "a"),
                (5, "h1", "b"),
                (2, "h2", "a"),
                (3, "h3", "b"),
            ],
        )
        .await?;
    let rules = vec![
        RuleSpec::new(1).ipv4().output(CONTROLLER).add(),
        RuleSpec::new(1).table(1).output(FLOOD).add(),
    ];
    scene.rules("s1", rules).await?;
    let switch = Switch {
        learned: HashMap::new(),
        tally: tally.clone(),
    };
    scene.control(switch).await?;
    for n in 1..=3u8 {
        let mut turn = 0u64;
        let talker = Talker::start(scene.end(n), Duration::from_millis(3), move |got| {
            if got.is_some() {
                return Vec::new();
            }
            // To the two others, in turn.
            turn += 1;
            let to = (n + (turn % 2) as u8) % 3 + 1;
            vec![Message::new(n, to, [0, 0])]
        })?;
        scene.keep(talker);
    }
    scene.moves("h1");
    Ok(())
}

struct Learned {
    port: u32,
    /// The update, and whether it has been answered.
    xid: u64,
    sure: bool,
}

struct Switch {
    /// By address.
    learned: HashMap<u8, Learned>,
    tally: Arc<Tally>,
}

impl Program for Switch {
    fn packet_in(&mut self, switch: &str, packet: PacketIn, commands: &mut Commands) {
        let Some(message) = Message::parse(&packet.data) else {
            return;
        };
        let (address, port) = (message.from_mac, packet.in_port);
        let mac = [2, 0, 0, 0, 0, address];
        let known = |port| {
            RuleSpec::new(10)
                .table(0)
                .in_port(port)
                .field(field::ETH_SRC, mac)
        };
        let before = self.learned.get(&address);
        match before {
            Some(l) if l.port == port => {
                if l.sure {
                    self.tally.symptom(|| {
                        format!("{address} at port {port} was learned, and is unknown")
                    });
                }
            }
            _ => {
                let mut mods = Vec::new();
                mods.extend(before.map(|l| known(l.port).delete()));
                mods.push(known(port).goto(1).add());
                mods.push(RuleSpec::new(10).table(1).eth_dst(mac).output(port).add());
                let xid = commands.update(switch, mods);
                let sure = false;
                self.learned.insert(address, Learned { port, xid, sure });
            }
        }
        commands.packet_out(switch, port, vec![output(TABLE)], packet.data);
    }

    fn updated(&mut self, xid: u64, _: &mut Commands) {
        self.tally.round();
        for learned in self.learned.values_mut().filter(|l| l.xid == xid) {
            learned.sure = true;
        }
    }
}
