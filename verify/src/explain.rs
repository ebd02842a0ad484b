//! A way, in words.

use crate::world::{Action, Setting, World};

/// One line per step: what is done, with what.
pub fn explain(setting: &Setting, actions: &[Action]) -> Vec<String> {
    let Ok(mut world) = World::new(setting) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for &action in actions {
        lines.push(describe(&world, setting, action));
        let taken =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.act(setting, action)));
        if !matches!(taken, Ok(Ok(()))) {
            break;
        }
    }
    lines
}

fn describe(world: &World, setting: &Setting, action: Action) -> String {
    let scenario = &setting.scenario;
    match action {
        Action::Send(e) => format!("end host {e} sends"),
        Action::Reply(e) => format!("end host {e} answers"),
        Action::Finish(h, i) => {
            let in_hand = world.hosts[h as usize].in_hand[i as usize];
            format!(
                "host {h} handles packet {} (kind {}) at version {}",
                in_hand.packet.id, in_hand.packet.kind, in_hand.version
            )
        }
        Action::Arrive(i) => format!("arrives: {:?}", world.frames[i as usize]),
        Action::Lose(i) => format!("is lost: {:?}", world.frames[i as usize]),
        Action::Down(h) => match world.hosts[h as usize].down.front() {
            Some(crate::host::Down::Stage { entry, content, .. }) => format!(
                "host {h} stages {}{}",
                entry.epoch,
                if *content { "" } else { " (the number only)" }
            ),
            Some(crate::host::Down::Configure(..)) => format!("host {h} is configured"),
            Some(message) => format!("host {h} takes {message:?}"),
            None => String::new(),
        },
        Action::Up(h) => match world.hosts[h as usize].up.front() {
            Some(message) => format!("the coordinator hears of host {h}: {message:?}"),
            None => String::new(),
        },
        Action::Grace(h) => format!(
            "a grace period has passed at host {h}: {:?}",
            world.hosts[h as usize].after.front()
        ),
        Action::Read(h) => format!("the agent of host {h} reads its event ring"),
        Action::Ask => "the coordinator asks whether the rule is idle".to_owned(),
        Action::GiveUp => "the coordinator waits no longer for votes".to_owned(),
        Action::Logged => "the store has the entries".to_owned(),
        Action::Script => {
            let command = scenario.script[world.controller.next as usize];
            format!(
                "the controller issues {command}: {:?}",
                scenario.commands[command as usize]
            )
        }
        Action::React => match world.controller.reactions.front() {
            Some(&command) => format!(
                "the controller issues {command}: {:?}",
                scenario.commands[command as usize]
            ),
            None => String::new(),
        },
        Action::Operate
            if let Some((host, _)) = world
                .coordinator
                .rejoining
                .filter(|_| world.coordinator.step > 0)
                .or_else(|| world.next_to_rejoin()) =>
        {
            format!(
                "host {host} is taken in again, step {}",
                world.coordinator.step
            )
        }
        Action::Partition(h) => format!("host {h} is cut off from the coordinator"),
        Action::Heal(h) => format!("host {h} can be reached again"),
        Action::Lapse(h) => format!("the lease of host {h} is over"),
        Action::Exclude(h) => format!("the coordinator goes on without host {h}"),
        Action::Operate => format!(
            "operation {:?}, step {}",
            scenario.operations[world.coordinator.operation as usize], world.coordinator.step
        ),
        Action::Kill(h) => format!("the agent of host {h} dies"),
        Action::Cut(h) => format!("the stream of host {h} breaks"),
        Action::Connect(h) => format!("the agent of host {h} connects"),
        Action::Notice(h) => format!("the coordinator sees that host {h} is gone"),
        Action::KillCoordinator(durable) => format!(
            "the coordinator dies, the write under way is {}",
            if durable { "on the disk" } else { "lost" }
        ),
        Action::Forge(h) => format!("a frame with a tag of the future comes to host {h}"),
        Action::LateRaise(h) => format!("host {h} raises its clock late"),
    }
}
