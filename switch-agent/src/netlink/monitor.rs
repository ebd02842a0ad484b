//! The stream of changes that rtnetlink reports.

use futures_util::{StreamExt, stream::BoxStream};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::task::JoinHandle;

use super::{Link, LinkEvent, Neighbour, NetlinkError};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of a device.
    Link(LinkEvent),
    /// Of a neighbour's entry.
    Neighbour(Neighbour),
    /// Of routes or addresses: what was resolved before may no longer hold.
    Routing,
}

/// A subscription to links, neighbours, routes and addresses.
pub struct Monitor {
    changes: BoxStream<'static, Change>,
    connection: JoinHandle<()>,
}

impl Monitor {
    /// Subscribes in the current network namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> Result<Self, NetlinkError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, _, messages) =
            rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
        let changes = messages.filter_map(|(message, _)| async move {
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => change(inner),
                // Messages were lost (ENOBUFS), or something is odd: look at everything again.
                NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => Some(Change::Routing),
                _ => None,
            }
        });
        Ok(Self {
            changes: changes.boxed(),
            connection: tokio::spawn(connection),
        })
    }

    /// The next change; `None`: the kernel closed the socket.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.next().await
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn change(message: RouteNetlinkMessage) -> Option<Change> {
    match message {
        RouteNetlinkMessage::NewLink(link) => {
            Link::from_message(link).map(|l| Change::Link(LinkEvent::Present(l)))
        }
        RouteNetlinkMessage::DelLink(link) => {
            use rtnetlink::packet_route::AddressFamily;
            // A device that leaves a bridge is reported in family AF_BRIDGE, and is still there.
            (link.header.interface_family == AddressFamily::Unspec).then_some(Change::Link(
                LinkEvent::Gone {
                    ifindex: link.header.index,
                },
            ))
        }
        RouteNetlinkMessage::NewNeighbour(n) => Neighbour::from_message(n).map(Change::Neighbour),
        RouteNetlinkMessage::DelNeighbour(n) => Neighbour::from_message(n).map(|n| {
            Change::Neighbour(Neighbour {
                mac: None,
                failed: false,
                ..n
            })
        }),
        RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_)
        | RouteNetlinkMessage::NewAddress(_)
        | RouteNetlinkMessage::DelAddress(_) => Some(Change::Routing),
        _ => None,
    }
}
