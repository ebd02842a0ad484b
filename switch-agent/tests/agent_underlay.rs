//! Paths to peers, as the whole agent finds them. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use lime_proto::v1::{self, agent_message::Message, port_state::Place};
use support::{Coordinator, OtherHost, in_namespace, ip, network};

fn with_peer(generation: u64, address: &str) -> v1::Configure {
    let mut network = network(generation);
    network.members = vec![v1::Member {
        host_id: 2,
        underlay_address: address.into(),
    }];
    network.ports.push(v1::PortState {
        port_id: 103,
        switch_id: 10,
        port_no: 3,
        place: Some(Place::RemoteHost(2)),
        ..Default::default()
    });
    network
}

fn unreachable(hosts: &'static [u32]) -> impl Fn(&Message) -> Option<()> {
    move |m| match m {
        Message::UnderlayStatus(s) if s.unreachable == hosts => Some(()),
        _ => None,
    }
}

#[test]
fn a_peer_is_resolved_without_traffic_and_followed_when_it_moves() {
    in_namespace(async |world| {
        let peer = OtherHost::with_device("wire0", "10.88.0.2/24");
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        session.seen.clear();
        assert_eq!(
            session.configure(with_peer(1, "10.88.0.2")).await.error,
            None
        );
        session.wait(unreachable(&[])).await;

        // Nobody has this address.
        assert_eq!(
            session.configure(with_peer(2, "10.88.0.77")).await.error,
            None
        );
        session.wait(unreachable(&[2])).await;
        // There is no route to this one, until there is.
        assert_eq!(
            session.configure(with_peer(3, "10.99.0.5")).await.error,
            None
        );
        session.wait(unreachable(&[2])).await;
        session.seen.clear();
        ip("route add 10.99.0.0/24 via 10.88.0.2");
        session.wait(unreachable(&[])).await;
        // The underlay's MTU is reported when it changes.
        ip("link set underlay0 mtu 2000");
        session
            .wait(|m| match m {
                Message::UnderlayStatus(s) if s.mtu == 2000 => Some(()),
                _ => None,
            })
            .await;
        agent.stop().await;
        drop(peer);
    });
}
