//! A port, and the end host behind it, moves to another host: rule 16.

use std::time::Duration;

use lime_core::log::Ticket;
use lime_core::model::{Device, Moving, Place, Port};
use lime_core::{Epoch, PortId};
use lime_proto::v1;
use tokio::time::Instant;
use tonic::Status;
use v1::coordinator_message::Message;

use super::Operation;
use crate::network::Handle;
use crate::shared::Shared;

/// Where a port goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTo {
    /// Which port.
    pub port: PortId,
    /// The device on the other host.
    pub device: Device,
}

/// What a move cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the pause to the resume.
    pub blackout: Duration,
}

/// Activations are frozen while this lives.
struct Frozen {
    shared: std::sync::Arc<Shared>,
    network: Handle,
    ticket: Ticket,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let (network, ticket) = (self.network.clone(), self.ticket);
        self.shared.tasks.spawn(async move {
            // A closing network needs no thawing.
            let _ = network.call(move |s| s.seq.unfreeze(ticket)).await;
        });
    }
}

/// Whether the end host goes on sending while it is "paused", so that the old device must be heard until the last frame is through.
fn keeps_sending(device: &Device) -> bool {
    device.driver.starts_with("plug:")
}

impl Operation {
    /// Moves a port. Can be begun again at any point; with the port's present device as the target it takes back a move that has not
    /// come to its turning point.
    pub async fn move_port(&self, to: MoveTo) -> Result<Moved, Status> {
        self.end_suspension().await?;
        let port = self.port(to.port).await?;
        let Place::Device(from) = port.place.clone() else {
            return Err(Status::failed_precondition(
                "the end of a link has no host: it is wherever its switch is",
            ));
        };
        if from == to.device {
            return match &port.moving {
                None => Ok(Moved::default()),
                // Before the turning point: back. After it: on.
                Some(other) => self.settle(&port, &from, other).await,
            };
        }
        if port.moving.is_none() {
            self.check_device(&to.device, port.mtu, true).await?;
        }
        self.ensure_member(to.device.host).await?;
        let (id, device) = (port.id, to.device.clone());
        self.set_place(id, from.clone(), Some(Moving::To(device.clone())))
            .await?;
        // All clocks are equal and stay so until the end host runs again: whatever it has seen here, the other host is as far.
        let frozen = self.freeze().await?;
        self.configure(device.host).await?;
        let began = Instant::now();
        let clock = self.pause_port(&from, id).await?;
        // The turning point.
        let leaving = keeps_sending(&from).then(|| Moving::From(from.clone()));
        self.set_place(id, device.clone(), leaving.clone()).await?;
        if leaving.is_none() {
            self.configure(from.host).await?;
        }
        self.resume_port(&device, id, clock).await?;
        let blackout = began.elapsed();
        self.finish_move(id, &device, leaving.is_some()).await?;
        drop(frozen);
        self.release_member(from.host).await?;
        Ok(Moved { blackout })
    }

    /// Ends a move that was interrupted, at the port's present place.
    async fn settle(&self, port: &Port, at: &Device, other: &Moving) -> Result<Moved, Status> {
        let frozen = self.freeze().await?;
        let moved = self.settle_at(port, at).await?;
        drop(frozen);
        self.release_member(other.device().host).await?;
        Ok(moved)
    }

    /// While no clock moves.
    async fn settle_at(&self, port: &Port, at: &Device) -> Result<Moved, Status> {
        let began = Instant::now();
        self.configure(at.host).await?;
        let clock = self.network.call(|s| s.seq.activated()).await?;
        self.resume_port(at, port.id, clock).await?;
        let blackout = began.elapsed();
        self.finish_move(port.id, at, keeps_sending(at)).await?;
        Ok(Moved { blackout })
    }

    /// Rule 19: what a restart found frozen, since end hosts may be heard at two places, stays so until each of them is heard at one only.
    async fn end_suspension(&self) -> Result<(), Status> {
        let (suspended, leaving) = self
            .network
            .call(|s| {
                let leaving = s.model.ports.values().filter(|p| p.is_leaving());
                (s.seq.is_suspended(), leaving.cloned().collect::<Vec<_>>())
            })
            .await?;
        if !suspended {
            return Ok(());
        }
        for port in &leaving {
            if let Place::Device(at) = &port.place {
                self.settle_at(port, at).await?;
            }
        }
        self.network.call(|s| s.seq.resume_activations()).await?;
        for from in leaving.iter().filter_map(|p| p.moving.as_ref()) {
            self.release_member(from.device().host).await?;
        }
        Ok(())
    }

    async fn finish_move(&self, port: PortId, at: &Device, drain: bool) -> Result<(), Status> {
        if drain {
            // Frames that the end host had sent by its old device are on their way in there.
            self.pause(self.shared.config.settle).await;
        }
        self.set_place(port, at.clone(), None).await?;
        self.configure_all().await
    }

    /// Ends all moves that a restart has interrupted.
    pub async fn settle_ports(&self) -> Result<(), Status> {
        self.end_suspension().await?;
        let moving = self
            .network
            .call(|s| {
                let ports = s.model.ports.values();
                let moving = ports.filter(|p| p.moving.is_some());
                moving
                    .filter_map(|p| {
                        Some(MoveTo {
                            port: p.id,
                            device: p.device()?.clone(),
                        })
                    })
                    .collect::<Vec<_>>()
            })
            .await?;
        for to in moving {
            self.move_port(to).await?;
        }
        Ok(())
    }

    async fn freeze(&self) -> Result<Frozen, Status> {
        let (reply, done) = tokio::sync::oneshot::channel();
        let ticket = self
            .network
            .call(move |s| {
                let ticket = s.seq.freeze();
                s.on_completion(ticket, Box::new(move |_, r| drop(reply.send(r))));
                ticket
            })
            .await?;
        let frozen = Frozen {
            shared: std::sync::Arc::clone(&self.shared),
            network: self.network.clone(),
            ticket,
        };
        self.within(async {
            let gone = |_| Status::unavailable("the network is closing");
            done.await
                .map_err(gone)?
                .map_err(|e| Status::internal(e.to_string()))
        })
        .await?;
        Ok(frozen)
    }

    async fn pause_port(&self, at: &Device, port: PortId) -> Result<Epoch, Status> {
        let done = self
            .request(at.host, move |state, request_id| {
                Message::PausePort(v1::PausePort {
                    request_id,
                    network: state.model.id.0,
                    port_id: port.0,
                })
            })
            .await?;
        match done.result {
            Some(v1::done::Result::Clock(clock)) => Ok(Epoch(clock)),
            _ => Err(Status::internal("PausePort was answered without a clock")),
        }
    }

    async fn resume_port(&self, at: &Device, port: PortId, clock: Epoch) -> Result<(), Status> {
        // Rule 16: the clock is read after the pause and raised before the resume.
        self.request(at.host, move |state, request_id| {
            debug_assert!(
                clock.le(state.seq.activated())
                    || state.model.consistency == lime_core::Consistency::None
            );
            Message::ResumePort(v1::ResumePort {
                request_id,
                network: state.model.id.0,
                port_id: port.0,
                min_clock: clock.0,
            })
        })
        .await?;
        Ok(())
    }

    async fn port(&self, port: PortId) -> Result<Port, Status> {
        let found = self
            .network
            .call(move |s| s.model.ports.get(&port).cloned())
            .await?;
        found.ok_or_else(|| Status::not_found("the port is gone"))
    }

    async fn set_place(
        &self,
        port: PortId,
        device: Device,
        moving: Option<Moving>,
    ) -> Result<(), Status> {
        self.change(move |n| {
            if let Some(port) = n.ports.get_mut(&port) {
                port.place = Place::Device(device);
                port.moving = moving;
            }
        })
        .await
    }
}
