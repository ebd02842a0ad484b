//! What the coordinator asks for, one message after the other.

use lime_core::{Epoch, HostId, NetworkId, PortId, SwitchId};
use lime_proto::v1::coordinator_message::Message;
use lime_proto::v1::{self, agent_message, done};
use tracing::{debug, info, warn};

use super::grace::After;
use super::{FromSession, Owner};
use crate::error::{CommandError, CommandResult, chain};
use crate::reconcile::{DesiredPlace, LocalDevice};

impl Owner {
    pub(super) async fn session_says(&mut self, message: FromSession) {
        match message {
            FromSession::Connected(stream) => {
                self.outbox.open(stream);
                self.forget_parts();
                self.votes.clear();
                let session = self.outbox.session();
                let clocks = self.clocks();
                self.grace.after(After::Hello { session, clocks });
            }
            FromSession::Disconnected => {
                self.outbox.close();
                self.lease.closed();
                self.forget_parts();
            }
            FromSession::Message(message) => {
                self.command(*message).await;
                self.release_waiting();
            }
        }
    }

    async fn command(&mut self, message: Message) {
        match message {
            Message::Welcome(welcome) => self.welcome(welcome),
            Message::Configure(configure) => {
                let id = configure.request_id;
                let network = NetworkId(configure.network);
                let result = self.configure(configure).await;
                if let Err(error) = &result {
                    warn!(%network, %error, "network not configured");
                }
                let configured = result.is_ok();
                if configured && let Some(known) = self.networks.get_mut(&network) {
                    // Rule 17: behind what it says, not before.
                    known.described_on = self.outbox.session();
                    self.write_lease(network);
                }
                self.outbox.done(id, result.map(|()| None));
                if configured {
                    self.report_ports(network);
                    self.report_underlay();
                }
            }
            Message::Forget(forget) => {
                let result = self.forget(NetworkId(forget.network));
                self.outbox.done(forget.request_id, result.map(|()| None));
            }
            Message::Lease(lease) => self.lease_granted(lease.number, lease.milliseconds),
            Message::Stage(stage) => self.stage(stage),
            Message::Activate(activate) => self.activate(&activate),
            Message::EnterRelay(relay) => self.enter_relay(&relay),
            Message::Snapshot(snapshot) => self.snapshot(snapshot),
            Message::Collect(collect) => {
                let result = self
                    .datapath
                    .collect(NetworkId(collect.network), Epoch(collect.epoch));
                match result {
                    Ok(rules) => debug!(collect.network, collect.epoch, rules, "collected"),
                    Err(error) => {
                        warn!(collect.network, error = chain(&error), "nothing collected")
                    }
                }
            }
            Message::AskIdle(ask) => self.ask_idle(ask),
            Message::LiftPromises(lift) => self.lift_promises(lift),
            Message::StandingPromises(standing) => self.standing_promises(standing),
            Message::PacketOut(command) => self.packet_out(command),
            Message::ReleaseHeld(release) => self.release_held(&release.held_ids),
            Message::ReadCounters(read) => {
                let result = self.read_counters(&read).await.map(done::Result::Counters);
                self.outbox.done(read.request_id, result.map(Some));
            }
            Message::ReadClock(read) => {
                let clock = self.datapath.clock(NetworkId(read.network));
                let clock = clock.map_err(CommandError::from);
                self.outbox.done(
                    read.request_id,
                    clock.map(|e| Some(done::Result::Clock(e.0))),
                );
            }
            Message::PausePort(pause) => self.pause(&pause),
            Message::ResumePort(resume) => {
                let result = self.resume(&resume).await;
                self.outbox.done(resume.request_id, result.map(|()| None));
            }
            Message::CheckDevice(check) => {
                let id = check.request_id;
                let result = self.check_device(check).await;
                self.outbox.done(id, result.map(|()| None));
            }
        }
    }

    fn welcome(&mut self, welcome: v1::Welcome) {
        info!(host_id = welcome.host_id, "connected to the coordinator");
        self.host_id = Some(HostId(welcome.host_id));
        self.lease_granted(0, welcome.lease_ms);
        for network in welcome.forget.into_iter().map(NetworkId) {
            match self.forget(network) {
                Ok(()) => info!(%network, "forgotten: this host is no member any more"),
                Err(error) => warn!(%network, %error, "network cannot be removed"),
            }
        }
    }

    fn activate(&mut self, activate: &v1::Activate) {
        let (network, epoch) = (NetworkId(activate.network), Epoch(activate.epoch));
        if let Some(known) = self.networks.get_mut(&network) {
            known.past = Epoch(activate.past);
        }
        match self.datapath.raise_clock(network, epoch) {
            Ok(_) => self.grace.after(After::Activated {
                session: self.outbox.session(),
                network,
                epoch,
            }),
            Err(error) => warn!(%network, %epoch, error = chain(&error), "not activated"),
        }
    }

    /// Rule 20. Answered at once: what is being processed was sent before this, so it may be in front of the update.
    fn enter_relay(&mut self, relay: &v1::EnterRelay) {
        let (network, epoch) = (NetworkId(relay.network), Epoch(relay.epoch));
        let switch = SwitchId(relay.switch_id);
        let primary = HostId(relay.primary);
        match self.datapath.enter_relay(network, switch, epoch, primary) {
            Ok(()) => self
                .outbox
                .push(agent_message::Message::Relaying(v1::Relaying {
                    network: network.0,
                    epoch: epoch.0,
                })),
            Err(error) => warn!(%network, %epoch, error = chain(&error), "not relaying"),
        }
    }

    /// The driver of a local port.
    fn local_device(&self, network: NetworkId, port: PortId) -> CommandResult<&LocalDevice> {
        let desired = self
            .networks
            .get(&network)
            .and_then(|n| n.desired())
            .ok_or_else(|| CommandError::not_found(format!("network {network} is not here")))?;
        match desired.ports.get(&port).map(|p| &p.place) {
            Some(DesiredPlace::Local(local)) => Ok(local),
            Some(_) => Err(CommandError::not_found(format!(
                "port {port} of network {network} is not a device of this host"
            ))),
            None => Err(CommandError::not_found(format!(
                "port {port} of network {network} does not exist"
            ))),
        }
    }

    fn pause(&mut self, pause: &v1::PausePort) {
        let (network, port) = (NetworkId(pause.network), PortId(pause.port_id));
        let paused = self.local_device(network, port).and_then(|local| {
            let result = local.driver.get().pause();
            result.map_err(|e| CommandError::internal(chain(&e)))
        });
        match paused {
            Ok(()) => self.grace.after(After::Paused {
                session: self.outbox.session(),
                request: pause.request_id,
                network,
            }),
            Err(error) => self.outbox.done(pause.request_id, Err(error)),
        }
    }

    async fn resume(&mut self, resume: &v1::ResumePort) -> CommandResult {
        let (network, port) = (NetworkId(resume.network), PortId(resume.port_id));
        let device = self.local_device(network, port)?.clone();
        let link = self.find_device(&device).await?;
        if resume.min_clock != 0 {
            self.datapath
                .raise_clock(network, Epoch(resume.min_clock))?;
        }
        device
            .driver
            .get()
            .resume(&link)
            .map_err(|e| CommandError::internal(chain(&e)))
    }

    async fn check_device(&mut self, check: v1::CheckDevice) -> CommandResult {
        let device = LocalDevice::new(check.name, check.attach, &check.driver)?;
        let link = self.find_device(&device).await?;
        if let Some((network, port)) = self.port_of_device(link.ifindex) {
            return Err(CommandError::new(
                v1::agent_error::Code::InUse,
                format!("device {} is port {port} of network {network}", device.name),
            ));
        }
        self.check_attach(&device, &link)?;
        if check.tunnels {
            self.check_mtu(&device.name, check.mtu, &link)?;
        }
        Ok(())
    }
}
