//! A load balancer: the first packet of each flow to the service's address goes to the controller, which chooses a server, pins the flow in both
//! directions, and lets the packet go. Whatever follows from that packet meets the pins.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lime_proto::v1::action::{Action as Kind, SetField};
use lime_proto::v1::{Action, FlowMod, PacketIn};

use super::{Message, ScenarioError, Scene, Talker, Tally};
use crate::program::{Commands, Program};
use crate::rules::{CONTROLLER, RuleSpec, field, output};

/// Last byte of the service's addresses.
const SERVICE: u8 = 100;
/// First client port; each flow has its own.
const FIRST_PORT: u16 = 10_000;

pub(super) async fn start(scene: &mut Scene, tally: &Arc<Tally>) -> Result<(), ScenarioError> {
    scene
        .switch("s1", &[(1, "h1", "a"), (2, "h2", "a"), (3, "h3", "b")])
        .await?;
    let to_controller = |port| {
        RuleSpec::new(10)
            .in_port(port)
            .ipv4()
            .output(CONTROLLER)
            .add()
    };
    scene
        .rules("s1", (1..=3).map(to_controller).collect())
        .await?;
    let balancer = Balancer {
        pinned: HashMap::new(),
        tally: tally.clone(),
    };
    scene.control(balancer).await?;
    for server in [2, 3] {
        let talker = Talker::start(scene.end(server), Duration::from_secs(1), move |got| {
            // It says who it is.
            got.map(|m| m.answer([m.words[0], server.into()]))
                .into_iter()
                .collect()
        })?;
        scene.keep(talker);
    }
    let mut flow = 0u16;
    let mut first: HashMap<u16, u64> = HashMap::new();
    let tally = tally.clone();
    let ask = |port: u16, turn| {
        let mut m = Message::new(1, SERVICE, [turn, 0]);
        m.from_port = port;
        m
    };
    let client = Talker::start(
        scene.end(1),
        Duration::from_millis(5),
        move |got| match got {
            None => {
                flow = (flow + 1) % 50_000;
                vec![ask(FIRST_PORT + flow, 0)]
            }
            Some(answer) => {
                let (port, server) = (answer.to_port, answer.words[1]);
                if answer.words[0] == 0 {
                    first.insert(port, server);
                    return vec![ask(port, 1)];
                }
                match first.remove(&port) {
                    Some(before) if before == server => tally.round(),
                    before => tally
                        .symptom(|| format!("flow {port} went to {before:?}, then to {server}")),
                }
                Vec::new()
            }
        },
    )?;
    scene.keep(client);
    Ok(())
}

struct Balancer {
    /// Server by client port.
    pinned: HashMap<u16, u8>,
    tally: Arc<Tally>,
}

fn set(field: u32, value: Vec<u8>) -> Action {
    Action {
        action: Some(Kind::SetField(SetField { field, value })),
    }
}

/// Rules for both directions, and what the first packet is to go through.
fn pin(port: u16, server: u8) -> (Vec<FlowMod>, Vec<Action>) {
    let there = vec![
        set(field::ETH_DST, vec![2, 0, 0, 0, 0, server]),
        set(field::IPV4_DST, vec![10, 9, 0, server]),
        output(server.into()),
    ];
    let back = vec![
        set(field::ETH_SRC, vec![2, 0, 0, 0, 0, SERVICE]),
        set(field::IPV4_SRC, vec![10, 9, 0, SERVICE]),
        output(1),
    ];
    let with = |spec: RuleSpec, actions: &[Action]| {
        let kinds = actions.iter().filter_map(|a| a.action.clone());
        kinds.fold(spec, RuleSpec::action).add()
    };
    let flow = |in_port| RuleSpec::new(20).in_port(in_port).ipv4().proto(17);
    let to_server = flow(1).field(field::UDP_SRC, port.to_be_bytes());
    let to_client = flow(server.into()).field(field::UDP_DST, port.to_be_bytes());
    (vec![with(to_server, &there), with(to_client, &back)], there)
}

impl Program for Balancer {
    fn packet_in(&mut self, switch: &str, packet: PacketIn, commands: &mut Commands) {
        let Some(message) = Message::parse(&packet.data) else {
            return;
        };
        let port = message.from_port;
        if packet.in_port != 1 || self.pinned.contains_key(&port) && message.words[0] > 0 {
            self.tally
                .symptom(|| format!("not pinned: {message:?} from port {}", packet.in_port));
            return;
        }
        let server = 2 + (port % 2) as u8;
        let (rules, actions) = pin(port, server);
        if self.pinned.insert(port, server).is_none() {
            commands.update(switch, rules);
        }
        commands.packet_out(switch, packet.in_port, actions, packet.data);
    }
}
