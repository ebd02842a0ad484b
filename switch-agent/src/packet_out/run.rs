//! Running an action list on a packet, in user space: pure.

use lime_core::flow::{Action, MAX_LEN_ALL};
use lime_core::{PortId, PortNo};
use lime_proto::v1::agent_error::Code;
use switch_abi::MAX_QUEUE;
use thiserror::Error;

use crate::error::CommandError;
use crate::packet::{self, EditError};

/// Frames that one action list may send, as in the kernel's programs.
const MAX_EMITS: usize = switch_abi::MAX_FLOOD as usize;

/// A port, as far as outputs care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortView {
    /// In tunnel frames.
    pub id: PortId,
    /// Within the switch.
    pub number: PortNo,
    /// For one end of a link between switches: the other end.
    pub link: Option<PortId>,
    /// Floods leave it out.
    pub no_flood: bool,
}

/// A switch, as far as outputs care.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchView {
    /// Its ports, by rising number.
    pub ports: Vec<PortView>,
}

impl SwitchView {
    fn port(&self, number: PortNo) -> Option<&PortView> {
        self.ports.iter().find(|p| p.number == number)
    }
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Out of this port, by this queue of it (0: none).
    Deliver(PortId, u32, Vec<u8>),
    /// Through the switch, as come in at this port.
    Process(PortId, Vec<u8>),
    /// To a group of the switch.
    Group(ToGroup, Vec<u8>),
    /// To the controller, at most this many bytes.
    Controller(u16, Vec<u8>),
}

/// Which group, and what goes with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToGroup {
    /// Its number.
    pub id: u32,
    /// Where the packet came in, or any port of the switch.
    pub port: PortId,
    /// It came in by none.
    pub no_port: bool,
    /// The queue that it goes out by; 0: none.
    pub queue: u16,
}

/// Why a packet-out cannot be done; nothing of it is sent then.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PacketOutError {
    /// An output names a port that is not there.
    #[error("output to port {0}: the switch has no such port")]
    NoSuchPort(PortNo),
    /// IN_PORT or TABLE without an ingress port.
    #[error("output to {0} needs an in_port, and the packet-out has none")]
    NoInPort(&'static str),
    /// The ingress port is not there.
    #[error("in_port {0}: the switch has no such port")]
    NoSuchInPort(PortNo),
    /// An output that means nothing here.
    #[error("output to reserved port {:#x} is not possible in a packet-out", .0.0)]
    BadReserved(PortNo),
    /// A group is found by way of a port.
    #[error("group {0}: the switch has no ports")]
    Group(u32),
    /// There is no such queue.
    #[error("set_queue:{0}: queues are 1 to {MAX_QUEUE}, and 0 for none")]
    Queue(u32),
    /// An action does not fit the packet.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// Too many outputs.
    #[error("the action list sends more than {MAX_EMITS} packets")]
    TooMany,
}

impl From<PacketOutError> for CommandError {
    fn from(error: PacketOutError) -> Self {
        let code = match error {
            PacketOutError::NoSuchPort(_)
            | PacketOutError::NoSuchInPort(_)
            | PacketOutError::Group(_) => Code::NotFound,
            _ => Code::Invalid,
        };
        Self::new(code, error.to_string())
    }
}

/// Runs `actions` on `packet` as it came in at `in_port` ([`PortNo::CONTROLLER`]: none).
///
/// # Errors
/// The whole list is refused, so that nothing half-done is sent.
pub fn run(
    switch: &SwitchView,
    in_port: PortNo,
    actions: &[Action],
    mut packet: Vec<u8>,
) -> Result<Vec<Emit>, PacketOutError> {
    let mut out = Vec::new();
    let mut queue = 0;
    for action in actions {
        match *action {
            Action::Output { port, max_len } => {
                let before = out.len();
                output(switch, in_port, port, max_len, &packet, &mut out)?;
                for emit in &mut out[before..] {
                    if let Emit::Deliver(_, by, _) = emit {
                        *by = queue;
                    }
                }
            }
            Action::Group(id) => {
                let from = switch.ports.iter().find(|p| p.number == in_port);
                let any = switch.ports.first().ok_or(PacketOutError::Group(id))?;
                let to = ToGroup {
                    id,
                    port: from.unwrap_or(any).id,
                    no_port: from.is_none(),
                    // At most MAX_QUEUE: see below.
                    queue: queue as u16,
                };
                out.push(Emit::Group(to, packet.clone()));
            }
            Action::SetQueue(chosen) if chosen > MAX_QUEUE => {
                return Err(PacketOutError::Queue(chosen));
            }
            Action::SetQueue(chosen) => queue = chosen,
            _ => match packet::edit(&mut packet, action) {
                // The packet is dropped here; what was sent of it before is sent (OpenFlow 1.3.5, 5.12).
                Err(EditError::TtlExpired) => break,
                done => done?,
            },
        }
        if out.len() > MAX_EMITS {
            return Err(PacketOutError::TooMany);
        }
    }
    Ok(out)
}

fn output(
    switch: &SwitchView,
    in_port: PortNo,
    port: PortNo,
    max_len: u16,
    packet: &[u8],
    out: &mut Vec<Emit>,
) -> Result<(), PacketOutError> {
    let ingress = |name| match in_port {
        PortNo::CONTROLLER => Err(PacketOutError::NoInPort(name)),
        number => switch
            .port(number)
            .ok_or(PacketOutError::NoSuchInPort(number)),
    };
    match port {
        PortNo::CONTROLLER => out.push(Emit::Controller(max_len, packet.to_vec())),
        PortNo::IN_PORT => out.push(send(ingress("IN_PORT")?, packet)),
        PortNo::TABLE => out.push(Emit::Process(ingress("TABLE")?.id, packet.to_vec())),
        PortNo::ALL | PortNo::FLOOD => {
            for view in &switch.ports {
                if view.number != in_port && !(port == PortNo::FLOOD && view.no_flood) {
                    out.push(send(view, packet));
                    if out.len() > MAX_EMITS {
                        return Err(PacketOutError::TooMany);
                    }
                }
            }
        }
        number if number.is_port() => {
            // The ingress port is no valid output, as in tables (OpenFlow 1.3.5, 7.2.5): it is left out, and not an error.
            if number != in_port {
                let view = switch
                    .port(number)
                    .ok_or(PacketOutError::NoSuchPort(number))?;
                out.push(send(view, packet));
            }
        }
        other => return Err(PacketOutError::BadReserved(other)),
    }
    Ok(())
}

fn send(port: &PortView, packet: &[u8]) -> Emit {
    match port.link {
        Some(other) => Emit::Process(other, packet.to_vec()),
        None => Emit::Deliver(port.id, 0, packet.to_vec()),
    }
}

/// The packet cut for the controller.
pub(crate) fn cut(mut packet: Vec<u8>, max_len: u16) -> Vec<u8> {
    if max_len != MAX_LEN_ALL {
        packet.truncate(max_len.into());
    }
    packet
}

#[cfg(test)]
mod tests {
    use lime_core::flow::Field;

    use super::*;

    fn switch() -> SwitchView {
        let port = |id, link, no_flood| PortView {
            id: PortId(100 + id),
            number: PortNo(id),
            link,
            no_flood,
        };
        SwitchView {
            ports: vec![
                port(1, None, false),
                port(2, None, false),
                port(3, None, true),
                port(4, Some(PortId(900)), false),
            ],
        }
    }

    fn frame() -> Vec<u8> {
        (0..60).collect()
    }

    fn ports(emits: &[Emit]) -> Vec<(u32, bool)> {
        emits
            .iter()
            .map(|e| match e {
                Emit::Deliver(p, ..) => (p.0, false),
                Emit::Process(p, _) => (p.0, true),
                Emit::Group(to, _) => (to.port.0, to.no_port),
                Emit::Controller(..) => (0, false),
            })
            .collect()
    }

    fn out(in_port: PortNo, port: PortNo) -> Result<Vec<(u32, bool)>, PacketOutError> {
        run(&switch(), in_port, &[Action::output(port)], frame()).map(|e| ports(&e))
    }

    #[test]
    fn floods_leave_out_the_ingress_port_and_no_flood_ports() {
        assert_eq!(
            out(PortNo(1), PortNo::ALL).unwrap(),
            [(102, false), (103, false), (900, true)]
        );
        assert_eq!(
            out(PortNo(1), PortNo::FLOOD).unwrap(),
            [(102, false), (900, true)]
        );
        assert_eq!(out(PortNo::CONTROLLER, PortNo::ALL).unwrap().len(), 4);
    }

    #[test]
    fn reserved_and_missing_ports() {
        assert_eq!(out(PortNo(2), PortNo::IN_PORT).unwrap(), [(102, false)]);
        assert_eq!(out(PortNo(2), PortNo::TABLE).unwrap(), [(102, true)]);
        assert_eq!(out(PortNo(2), PortNo(2)).unwrap(), []);
        assert_eq!(
            out(PortNo::CONTROLLER, PortNo::TABLE),
            Err(PacketOutError::NoInPort("TABLE"))
        );
        assert_eq!(
            out(PortNo(9), PortNo::IN_PORT),
            Err(PacketOutError::NoSuchInPort(PortNo(9)))
        );
        assert_eq!(
            out(PortNo(1), PortNo(9)),
            Err(PacketOutError::NoSuchPort(PortNo(9)))
        );
    }

    #[test]
    fn groups_are_the_programs_matter() {
        let actions = [
            Action::SetQueue(5),
            Action::Group(7),
            Action::output(PortNo(2)),
        ];
        let to = ToGroup {
            id: 7,
            port: PortId(103),
            no_port: false,
            queue: 5,
        };
        let emits = run(&switch(), PortNo(3), &actions, frame()).unwrap();
        assert_eq!(emits[0], Emit::Group(to, frame()));
        let to = ToGroup {
            port: PortId(101),
            no_port: true,
            ..to
        };
        let emits = run(&switch(), PortNo::CONTROLLER, &actions, frame()).unwrap();
        assert_eq!(emits[0], Emit::Group(to, frame()));
        assert_eq!(emits.len(), 2);
    }

    #[test]
    fn later_actions_do_not_change_what_was_sent_before() {
        let set = Action::SetField {
            field: Field::EthDst,
            value: 0x0200_0000_0001,
        };
        let actions = [
            Action::output(PortNo(1)),
            set,
            Action::Output {
                port: PortNo::CONTROLLER,
                max_len: 6,
            },
        ];
        let emits = run(&switch(), PortNo::CONTROLLER, &actions, frame()).unwrap();
        assert_eq!(emits[0], Emit::Deliver(PortId(101), 0, frame()));
        let Emit::Controller(6, packet) = &emits[1] else {
            panic!("{emits:?}");
        };
        assert_eq!(cut(packet.clone(), 6), [2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_queue_is_for_the_outputs_behind_it() {
        let actions = [
            Action::output(PortNo(1)),
            Action::SetQueue(9),
            Action::output(PortNo(2)),
            Action::output(PortNo(4)),
        ];
        let emits = run(&switch(), PortNo::CONTROLLER, &actions, frame()).unwrap();
        assert_eq!(
            emits,
            [
                Emit::Deliver(PortId(101), 0, frame()),
                Emit::Deliver(PortId(102), 9, frame()),
                Emit::Process(PortId(900), frame()),
            ]
        );
        let too_high = [Action::SetQueue(MAX_QUEUE + 1)];
        assert!(run(&switch(), PortNo::CONTROLLER, &too_high, frame()).is_err());
    }

    #[test]
    fn a_ttl_that_runs_out_ends_the_list() {
        let mut packet = vec![0; 12];
        packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 59, 1]);
        packet.extend([0; 32]);
        let actions = [
            Action::output(PortNo(1)),
            Action::DecNwTtl,
            Action::output(PortNo(2)),
        ];
        let emits = run(&switch(), PortNo::CONTROLLER, &actions, packet).unwrap();
        assert_eq!(ports(&emits), [(101, false)]);
    }

    #[test]
    fn one_bad_action_refuses_the_whole_list() {
        let actions = [Action::output(PortNo(1)), Action::PopVlan];
        assert!(run(&switch(), PortNo(2), &actions, frame()).is_err());
        let floods = vec![Action::output(PortNo::ALL); 100];
        assert_eq!(
            run(&switch(), PortNo::CONTROLLER, &floods, frame()),
            Err(PacketOutError::TooMany)
        );
    }
}
