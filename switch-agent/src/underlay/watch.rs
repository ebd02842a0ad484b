//! The task that watches the host's network: follows netlink's changes, keeps the paths to peers, and tells the owner of the data path.
//!
//! Channels: peers that are wanted come by a `watch`; updates go to the owner by a bounded channel, which is always read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lime_core::HostId;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Paths;
use crate::datapath::PeerRoute;
use crate::error::chain;
use crate::netlink::{Change, LinkEvent, Monitor, Netlink};

/// Peers to keep paths to, with their underlay addresses.
pub type Wanted = BTreeMap<HostId, IpAddr>;

/// What the owner of the data path is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetUpdate {
    /// A peer is reached thus, or not at all.
    Path(HostId, Option<PeerRoute>),
    /// A device changed.
    Link(LinkEvent),
}

/// Changes that come together are looked at together.
const SETTLE: Duration = Duration::from_millis(20);
/// Neighbours go stale after 15 to 45 seconds without use, and tunnel frames are not use: so they are refreshed well before.
const REFRESH: Duration = Duration::from_secs(10);
/// While a peer has no path.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until `stop`, or until the owner has gone.
pub async fn watch(
    netlink: Netlink,
    monitor: Monitor,
    mut paths: Paths,
    mut wanted: channel::Receiver<Wanted>,
    updates: mpsc::Sender<NetUpdate>,
    stop: CancellationToken,
) {
    let mut monitor = Some(monitor);
    let mut due = Instant::now();
    loop {
        let soon = Instant::now() + SETTLE;
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                paths.want(&wanted.borrow_and_update());
                due = Instant::now();
            }
            change = next(&mut monitor) => match change {
                None => {
                    warn!("the kernel's stream of network changes has ended: they are found by polling only");
                    monitor = None;
                }
                Some(Change::Routing) => due = due.min(soon),
                Some(Change::Neighbour(neighbour)) => {
                    if paths.learn(&neighbour) {
                        due = due.min(soon);
                    }
                }
                Some(Change::Link(event)) => {
                    due = due.min(soon);
                    if updates.send(NetUpdate::Link(event)).await.is_err() {
                        return;
                    }
                }
            },
            () = sleep_until(due) => {
                if let Err(error) = paths.resolve(&netlink).await {
                    warn!(error = chain(&error), "paths to peers could not be resolved; trying again");
                }
                let wait = if paths.unresolved() { RETRY } else { REFRESH };
                due = Instant::now() + wait;
            }
        }
        for (host, route) in paths.changes() {
            debug!(%host, ?route, "path to peer");
            if updates.send(NetUpdate::Path(host, route)).await.is_err() {
                return;
            }
        }
    }
}

async fn next(monitor: &mut Option<Monitor>) -> Option<Change> {
    match monitor {
        Some(monitor) => monitor.next().await,
        None => std::future::pending().await,
    }
}
