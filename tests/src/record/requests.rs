//! What clients ask of the coordinator, and what it answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lime_core::flow::{Group, GroupMod, PacketOut, Rule, SwitchMod};
use lime_core::{Epoch, SwitchId};
use lime_history::{Answer, Packet, Removed, Told, What};
use lime_proto::v1;
use lime_proto::v1::control_reply::Reply;
use lime_proto::v1::control_request::Request;
use lime_proto::v1::flow_removed::Reason;
use prost::Message;
use tonic::Code;

use super::bundles::Bundles;
use super::messages::Listener;
use super::{Log, Recorder};

/// The calls that are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    CreateNetwork,
    CreateSwitch,
    CreatePort,
    CreateLink,
    UpdateRules,
    UpdateSwitch,
    UpdateGroups,
    UpdateMeters,
    CreateGroup,
    DeleteGroup,
    SendPacketOut,
    WatchEvents,
    Control,
    /// It changes what histories know nothing of.
    Other,
}

impl Method {
    fn of(path: &str) -> Option<Self> {
        let (service, name) = path.trim_start_matches('/').split_once('/')?;
        Some(match (service, name) {
            ("lime.v1.Lime", "CreateNetwork") => Method::CreateNetwork,
            ("lime.v1.Lime", "CreateSwitch") => Method::CreateSwitch,
            ("lime.v1.Lime", "CreatePort") => Method::CreatePort,
            ("lime.v1.Lime", "CreateLink") => Method::CreateLink,
            ("lime.v1.Lime", "UpdateRules") => Method::UpdateRules,
            ("lime.v1.Lime", "UpdateSwitch") => Method::UpdateSwitch,
            ("lime.v1.Lime", "UpdateGroups") => Method::UpdateGroups,
            ("lime.v1.Lime", "UpdateMeters") => Method::UpdateMeters,
            ("lime.v1.Lime", "CreateGroup") => Method::CreateGroup,
            ("lime.v1.Lime", "DeleteGroup") => Method::DeleteGroup,
            ("lime.v1.Lime", "SendPacketOut") => Method::SendPacketOut,
            ("lime.v1.Lime", "WatchEvents") => Method::WatchEvents,
            ("lime.v1.Controller", "Control") => Method::Control,
            ("lime.v1.Lime", name) if name.starts_with("Update") => Method::Other,
            _ => return None,
        })
    }
}

/// One call.
#[derive(Clone)]
pub(super) struct Call {
    method: Method,
    recorder: Arc<Recorder>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    network: String,
    channel: usize,
    /// What was asked, of calls that make something.
    link: Option<v1::CreateLinkRequest>,
    consistency: v1::Consistency,
    /// Commands whose answer is due, by xid (0: of a call with one).
    waiting: HashMap<u64, usize>,
    bundles: Bundles,
}

/// Listens to what is asked.
pub(super) struct Asking(Call);
/// Listens to what is answered.
pub(super) struct Answering(Call);

impl Call {
    /// None: nobody cares.
    pub(super) fn new(path: &str, recorder: Arc<Recorder>) -> Option<Self> {
        Some(Self {
            method: Method::of(path)?,
            recorder,
            state: Arc::default(),
        })
    }

    pub(super) fn asking(&self) -> Asking {
        Asking(self.clone())
    }

    pub(super) fn answering(&self) -> Answering {
        Answering(self.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State, &mut Log) -> T) -> T {
        let mut log = self.recorder.lock();
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        f(&mut state, &mut log)
    }

    /// It has ended, and what was not answered will not be.
    pub(super) fn failed(&self, code: Code) {
        let answer = match code {
            Code::Ok => return,
            Code::Unavailable
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Aborted => Answer::Lost,
            _ => Answer::Refused,
        };
        self.with(|state, log| {
            let waiting = std::mem::take(&mut state.waiting);
            if let Some(network) = log.networks.get_mut(&state.network) {
                let lost = if self.method == Method::Control {
                    Answer::Lost
                } else {
                    answer
                };
                for command in waiting.into_values() {
                    network.answer(state.channel, command, lost);
                }
            }
        });
    }

    fn update(&self, network: String, switch: &str, mods: Option<Vec<SwitchMod>>) {
        self.with(|state, log| {
            state.network = network;
            state.update(log, 0, switch, mods);
        });
    }

    fn asked(&self, message: Bytes) -> Result<(), prost::DecodeError> {
        match self.method {
            Method::CreateNetwork => {
                let ask = v1::CreateNetworkRequest::decode(message)?;
                let consistency = ask.consistency();
                self.with(|state, _| state.consistency = consistency);
            }
            Method::CreateLink => {
                let ask = v1::CreateLinkRequest::decode(message)?;
                self.with(|state, _| state.link = Some(ask));
            }
            Method::UpdateRules => {
                let ask = v1::UpdateRulesRequest::decode(message)?;
                self.update(ask.network, &ask.switch, mods(ask.mods, SwitchMod::Rule));
            }
            Method::UpdateSwitch => {
                let ask = v1::UpdateSwitchRequest::decode(message)?;
                self.update(ask.network, &ask.switch, mods(ask.mods, |m| m));
            }
            Method::UpdateGroups => {
                let ask = v1::UpdateGroupsRequest::decode(message)?;
                self.update(ask.network, &ask.switch, mods(ask.mods, SwitchMod::Group));
            }
            Method::UpdateMeters => {
                let ask = v1::UpdateMetersRequest::decode(message)?;
                self.update(ask.network, &ask.switch, mods(ask.mods, SwitchMod::Meter));
            }
            Method::CreateGroup => {
                let ask = v1::CreateGroupRequest::decode(message)?;
                let group = ask.group.map(Group::try_from);
                if let Some(Ok(group)) = group {
                    let mods = vec![SwitchMod::Group(GroupMod::Add(group))];
                    self.update(ask.network, &ask.switch, Some(mods));
                }
            }
            Method::DeleteGroup => {
                let ask = v1::DeleteGroupRequest::decode(message)?;
                let mods = vec![SwitchMod::Group(GroupMod::Delete(Some(ask.group_id)))];
                self.update(ask.network, &ask.switch, Some(mods));
            }
            Method::SendPacketOut => {
                let ask = v1::SendPacketOutRequest::decode(message)?;
                self.with(|state, log| {
                    state.network.clone_from(&ask.network);
                    state.packet_out(log, 0, ask);
                });
            }
            Method::WatchEvents => {
                let ask = v1::WatchEventsRequest::decode(message)?;
                self.with(|state, log| state.open(log, ask.network, false));
            }
            Method::Control => {
                let ask = v1::ControlRequest::decode(message)?;
                self.with(|state, log| state.control(log, ask));
            }
            Method::Other => self
                .recorder
                .give_up("rules were changed by a call that is not recorded"),
            Method::CreateSwitch | Method::CreatePort => {}
        }
        Ok(())
    }

    fn answered(&self, message: Bytes) -> Result<(), prost::DecodeError> {
        match self.method {
            Method::CreateNetwork => {
                let answer = v1::Network::decode(message)?;
                self.with(|state, log| {
                    let network = super::Network::new(state.consistency);
                    log.networks.insert(answer.name, network);
                });
            }
            Method::CreateSwitch => {
                let answer = v1::Switch::decode(message)?;
                self.with(|_, log| {
                    if let Some(network) = log.networks.get_mut(&answer.network) {
                        network.add_switch(&answer.name, answer.id);
                    }
                });
            }
            Method::CreatePort => {
                let port = v1::Port::decode(message)?;
                self.with(|_, log| {
                    let end = end_host(&port.driver, &log.outer);
                    if let Some(network) = log.networks.get_mut(&port.network) {
                        network.add_port(&port.switch, port.port_no, port.id, end);
                    }
                });
            }
            Method::CreateLink => {
                let link = v1::Link::decode(message)?;
                self.with(|state, log| {
                    let Some(ask) = state.link.take() else { return };
                    if let Some(network) = log.networks.get_mut(&ask.network) {
                        let a = (link.switch_a.as_str(), link.port_a);
                        network.add_link(a, (&link.switch_b, link.port_b));
                    }
                });
            }
            Method::UpdateRules => {
                let answer = v1::UpdateRulesResponse::decode(message)?;
                let answer = Answer::Updated(Epoch(answer.epoch));
                self.with(|state, log| state.answer(log, 0, answer));
            }
            Method::UpdateSwitch => {
                let answer = v1::UpdateSwitchResponse::decode(message)?;
                let answer = Answer::Updated(Epoch(answer.epoch));
                self.with(|state, log| state.answer(log, 0, answer));
            }
            Method::UpdateGroups => {
                let answer = v1::UpdateGroupsResponse::decode(message)?;
                let answer = Answer::Updated(Epoch(answer.epoch));
                self.with(|state, log| state.answer(log, 0, answer));
            }
            Method::UpdateMeters => {
                let answer = v1::UpdateMetersResponse::decode(message)?;
                let answer = Answer::Updated(Epoch(answer.epoch));
                self.with(|state, log| state.answer(log, 0, answer));
            }
            // Which epoch it was is not said.
            Method::CreateGroup | Method::DeleteGroup | Method::SendPacketOut => {
                self.with(|state, log| state.answer(log, 0, Answer::Done));
            }
            Method::WatchEvents => {
                let event = v1::ControllerEvent::decode(message)?;
                self.with(|state, log| state.event(log, event));
            }
            Method::Control => {
                let reply = v1::ControlReply::decode(message)?;
                self.with(|state, log| state.reply(log, reply));
            }
            Method::Other => {}
        }
        Ok(())
    }
}

impl Listener for Asking {
    fn message(&mut self, message: Bytes) {
        if self.0.asked(message).is_err() {
            self.0.recorder.give_up("a request could not be read");
        }
    }

    fn end(&mut self, _: Option<Code>) {}
}

impl Listener for Answering {
    fn message(&mut self, message: Bytes) {
        if self.0.answered(message).is_err() {
            self.0.recorder.give_up("an answer could not be read");
        }
    }

    fn end(&mut self, code: Option<Code>) {
        // Also a stream that ends in good order leaves what it has not answered.
        let code = code.filter(|c| *c != Code::Ok).unwrap_or(Code::Cancelled);
        self.0.failed(code);
    }
}

/// The end host that a port's driver plugs in.
fn end_host(driver: &str, outer: &[u32]) -> Option<usize> {
    let index: u32 = driver
        .strip_prefix("plug:")?
        .rsplit(':')
        .nth(1)?
        .parse()
        .ok()?;
    outer.iter().position(|o| *o == index)
}

impl State {
    fn open(&mut self, log: &mut Log, network: String, fifo: bool) {
        if let Some(known) = log.networks.get_mut(&network) {
            self.channel = known.open(fifo);
        }
        self.network = network;
    }

    fn control(&mut self, log: &mut Log, ask: v1::ControlRequest) {
        let xid = ask.xid;
        match ask.request {
            Some(Request::Open(open)) => self.open(log, open.network, true),
            Some(Request::UpdateRules(ask)) => {
                self.update(log, xid, &ask.switch, mods(ask.mods, SwitchMod::Rule));
            }
            Some(Request::UpdateGroups(ask)) => {
                self.update(log, xid, &ask.switch, mods(ask.mods, SwitchMod::Group));
            }
            Some(Request::UpdateMeters(ask)) => {
                self.update(log, xid, &ask.switch, mods(ask.mods, SwitchMod::Meter));
            }
            Some(Request::OpenBundle(open)) => self.bundles.open(xid, open),
            Some(Request::AddToBundle(add)) => {
                let mods = mods(add.mods, |m| m);
                self.bundles.add(xid, add.bundle_id, mods);
            }
            Some(Request::CommitBundle(commit)) => {
                if let Some((switch, mods)) = self.bundles.take(commit.bundle_id) {
                    self.update(log, xid, &switch, Some(mods));
                }
            }
            Some(Request::DiscardBundle(discard)) => _ = self.bundles.take(discard.bundle_id),
            Some(Request::PacketOut(out)) => self.packet_out(log, ask.xid, out),
            Some(Request::Barrier(_)) => {
                self.issue(log, ask.xid, Some(SwitchId(0)), What::Barrier);
            }
            Some(
                Request::FlowStats(_)
                | Request::PortStats(_)
                | Request::GroupStats(_)
                | Request::MeterStats(_)
                | Request::SelectedFlowStats(_)
                | Request::AggregateStats(_)
                | Request::TableStats(_)
                | Request::QueueStats(_)
                | Request::Describe(_),
            )
            | None => {}
        }
    }

    fn issue(&mut self, log: &mut Log, xid: u64, switch: Option<SwitchId>, what: What) {
        let Some(network) = log.networks.get_mut(&self.network) else {
            return;
        };
        // Without an xid a controller hears of errors at most.
        let answered = xid != 0 || self.channel == 0;
        if let Some(command) = network
            .issue(self.channel, switch, what)
            .filter(|_| answered)
        {
            self.waiting.insert(xid, command);
        }
    }

    fn switch(&self, log: &Log, name: &str) -> Option<SwitchId> {
        log.networks.get(&self.network)?.switch(name)
    }

    /// What cannot be understood (none) is refused.
    fn update(&mut self, log: &mut Log, xid: u64, switch: &str, mods: Option<Vec<SwitchMod>>) {
        let switch = self.switch(log, switch);
        if let Some(mods) = mods {
            self.issue(log, xid, switch, What::Update(mods));
        }
    }

    fn packet_out(&mut self, log: &mut Log, xid: u64, ask: v1::SendPacketOutRequest) {
        let switch = self.switch(log, &ask.switch);
        let Some(Ok(out)) = ask.packet_out.map(PacketOut::try_from) else {
            return;
        };
        let Some(packet) = Packet::read(&out.data) else {
            return;
        };
        let what = What::PacketOut {
            in_port: out.in_port,
            actions: out.actions,
            packet: packet.id,
            shape: log.shapes.id(packet.shape),
        };
        self.issue(log, xid, switch, what);
    }

    fn answer(&mut self, log: &mut Log, xid: u64, answer: Answer) {
        let Some(command) = self.waiting.remove(&xid) else {
            return;
        };
        if let Some(network) = log.networks.get_mut(&self.network) {
            network.answer(self.channel, command, answer);
        }
    }

    fn reply(&mut self, log: &mut Log, reply: v1::ControlReply) {
        match reply.reply {
            Some(Reply::Event(event)) => self.event(log, event),
            Some(Reply::Updated(updated)) => {
                self.answer(log, reply.xid, Answer::Updated(Epoch(updated.epoch)));
            }
            Some(Reply::GroupsUpdated(updated)) => {
                self.answer(log, reply.xid, Answer::Updated(Epoch(updated.epoch)));
            }
            Some(Reply::MetersUpdated(updated)) => {
                self.answer(log, reply.xid, Answer::Updated(Epoch(updated.epoch)));
            }
            Some(Reply::Committed(updated)) => {
                self.answer(log, reply.xid, Answer::Updated(Epoch(updated.epoch)));
            }
            Some(Reply::Error(error)) => {
                if self.bundles.is_about(reply.xid)
                    && let Some(network) = log.networks.get_mut(&self.network)
                {
                    network.give_up("a part of a bundle was refused".to_owned());
                }
                let lost = matches!(
                    Code::from(error.code as i32),
                    Code::Unavailable | Code::Internal | Code::Unknown | Code::Aborted
                );
                let answer = if lost { Answer::Lost } else { Answer::Refused };
                self.answer(log, reply.xid, answer);
            }
            _ => self.answer(log, reply.xid, Answer::Done),
        }
    }

    fn event(&mut self, log: &mut Log, event: v1::ControllerEvent) {
        if let Some(removed) = event.flow_removed {
            return self.flow_removed(log, &event.switch, event.version, removed);
        }
        let Some(packet_in) = event.packet_in else {
            return;
        };
        // Of a packet that was cut it is not known which it is.
        if (packet_in.total_len as usize) > packet_in.data.len() {
            return;
        }
        let Some(packet) = Packet::read(&packet_in.data) else {
            return;
        };
        if let Some(switch) = self.switch(log, &event.switch)
            && let Some(network) = log.networks.get_mut(&self.network)
        {
            let told = Told::Event {
                switch,
                packet: packet.id,
            };
            network.tell(self.channel, told);
        }
    }

    fn flow_removed(&self, log: &mut Log, switch: &str, version: u32, gone: v1::FlowRemoved) {
        let timed_out = matches!(gone.reason(), Reason::IdleTimeout | Reason::HardTimeout);
        let Some(Ok(rule)) = gone.rule.map(Rule::try_from) else {
            return;
        };
        let removed = Removed {
            table: rule.table,
            priority: rule.priority,
            matching: rule.matching,
            timed_out,
        };
        if let Some(switch) = self.switch(log, switch)
            && let Some(network) = log.networks.get_mut(&self.network)
        {
            network.tell_removed(self.channel, switch, Epoch(version), removed);
        }
    }
}

/// Changes of one kind; none if one of them cannot be understood.
pub(super) fn mods<W, M: TryFrom<W>>(
    wire: Vec<W>,
    kind: impl Fn(M) -> SwitchMod,
) -> Option<Vec<SwitchMod>> {
    let mods = wire.into_iter().map(|m| M::try_from(m).ok().map(&kind));
    mods.collect()
}
