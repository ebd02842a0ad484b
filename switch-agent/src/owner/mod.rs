//! The owner of the data path: one task that does everything that changes it, in the order in which it is asked to.
//!
//! It reads three bounded channels (the session's messages, the host's network changes, the event ring) and writes one (to the
//! coordinator). It never blocks on the writing: what waits to be sent is a queue, and while that is long, nothing is read that
//! would make it longer; so a slow coordinator leaves events in the ring, where the kernel drops and counts what does not fit.
//!
//! Order is part of the protocol (consistency rules 9 to 11): commands are executed in stream order; `Activated` goes out after a grace period
//! and after every event that was in the ring by then.

mod adopt;
mod allowance;
mod commands;
mod configure;
mod counters;
mod events;
mod grace;
mod idle;
mod lease;
mod network;
mod outbox;
mod packets;
mod ports;
mod promise;
mod staging;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use lime_core::{HostId, NetworkId};
use lime_proto::v1;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::datapath::{Datapath, EventRing, PeerRoute};
use crate::netlink::Netlink;
use crate::packet_out::{HeldLimits, HeldPackets, Injector, RecentIds, WaitingPackets};
use crate::recirculation::Recirculation;
use crate::reconcile::Store;
use crate::underlay::{NetUpdate, Underlay, Wanted};

use allowance::Allowances;
use grace::Grace;
use idle::IdleRules;
use lease::Lease;
use network::Network;
use outbox::Outbox;
use promise::Votes;

/// Packet-outs that are remembered, so that none is executed twice.
const RECENT_PACKET_OUTS: usize = 8192;
/// What may wait for the coordinator to have events.
const HELD: HeldLimits = HeldLimits {
    packets: 16_384,
    bytes: 32 << 20,
};

/// What the session's task tells the owner.
#[derive(Debug)]
pub enum FromSession {
    /// A stream is open; the owner greets on it.
    Connected(mpsc::Sender<v1::AgentMessage>),
    /// The coordinator says something.
    Message(Box<v1::coordinator_message::Message>),
    /// The stream is closed.
    Disconnected,
}

/// What the owner is made of.
pub struct Parts {
    /// This host's name.
    pub host: String,
    /// Changes with every start of the process; never 0.
    pub incarnation: u64,
    /// The data path.
    pub datapath: Datapath,
    /// Its event ring.
    pub ring: EventRing,
    /// For questions to the kernel.
    pub netlink: Netlink,
    /// What carries tunnel frames.
    pub underlay: Underlay,
    /// This host's own tunnel.
    pub recirculation: Recirculation,
    /// Sends into it.
    pub injector: Injector,
    /// What survives restarts.
    pub store: Store,
    /// Which peers paths are wanted to.
    pub wanted: watch::Sender<Wanted>,
}

/// See the module.
pub struct Owner {
    host: String,
    incarnation: u64,
    datapath: Datapath,
    ring: AsyncFd<EventRing>,
    /// There is something in the ring that it will not say again.
    ring_waiting: bool,
    netlink: Netlink,
    underlay: Underlay,
    recirculation: Recirculation,
    injector: Injector,
    store: Store,
    wanted: watch::Sender<Wanted>,
    /// The coordinator's number for this host, once it has said.
    host_id: Option<HostId>,
    networks: BTreeMap<NetworkId, Network>,
    addresses: BTreeMap<HostId, IpAddr>,
    routes: BTreeMap<HostId, PeerRoute>,
    grace: Grace,
    outbox: Outbox,
    held: HeldPackets,
    recent: RecentIds,
    idle: IdleRules,
    votes: Votes,
    waiting: WaitingPackets,
    lease: Lease,
    allowances: Allowances,
}

impl Owner {
    /// Takes over the data path.
    ///
    /// # Errors
    /// The event ring cannot be polled.
    pub fn new(parts: Parts) -> io::Result<Self> {
        // SAFETY: the ring's descriptor is open, and the same, as long as the ring lives.
        let ring =
            unsafe { AsyncFd::register_with_interest(parts.ring, tokio::io::Interest::READABLE)? };
        Ok(Self {
            host: parts.host,
            incarnation: parts.incarnation,
            datapath: parts.datapath,
            ring,
            ring_waiting: true,
            netlink: parts.netlink,
            underlay: parts.underlay,
            recirculation: parts.recirculation,
            injector: parts.injector,
            store: parts.store,
            wanted: parts.wanted,
            host_id: None,
            networks: BTreeMap::new(),
            addresses: BTreeMap::new(),
            routes: BTreeMap::new(),
            grace: Grace::default(),
            outbox: Outbox::default(),
            held: HeldPackets::new(HELD),
            recent: RecentIds::new(RECENT_PACKET_OUTS),
            idle: IdleRules::default(),
            votes: Votes::default(),
            waiting: WaitingPackets::default(),
            lease: Lease::default(),
            allowances: Allowances::default(),
        })
    }

    /// Works until `stop`. The data path stays as it is: traffic goes on.
    pub async fn run(
        mut self,
        mut session: mpsc::Receiver<FromSession>,
        mut updates: mpsc::Receiver<NetUpdate>,
        stop: CancellationToken,
    ) {
        loop {
            self.grace.start();
            let room = self.outbox.has_room();
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.outbox.flush(), if self.outbox.is_waiting() => {}
                done = self.grace.finished(), if room && self.grace.is_running() => {
                    for after in done {
                        self.after_grace(after);
                    }
                }
                () = self.idle.due() => self.look_at_idle_rules(),
                () = self.lease.due(), if self.outbox.is_open() => self.renew_lease(),
                () = self.allowances.due() => self.give_back_events(),
                update = updates.recv() => match update {
                    Some(update) => self.network_changed(update).await,
                    None => break,
                },
                message = session.recv(), if room => match message {
                    Some(message) => self.session_says(message).await,
                    None => break,
                },
                ready = self.ring.readable(), if room && self.outbox.is_open() => {
                    match ready {
                        Ok(mut guard) => guard.clear_ready(),
                        Err(error) => {
                            warn!(%error, "the event ring cannot be polled");
                            break;
                        }
                    }
                    self.read_ring();
                }
                () = std::future::ready(()), if room && self.ring_waiting && self.outbox.is_open() => {
                    self.read_ring();
                }
            }
        }
        info!(host = self.host, "stopping; the data path goes on as it is");
    }
}
