//! What the controller is told of ports.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use lime_proto::v1;
use support::{Coordinator, FakeAgent, add, one_host, port_request, update};
use v1::agent_message::Message as Up;

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_ports_device_are_told_once_and_in_the_order_of_versions() {
    let coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    let port = client.create_port(port_request("n", "s", "a", "vm")).await;
    let port = port.unwrap().into_inner();
    let watch = v1::WatchEventsRequest {
        network: "n".into(),
        switch: "s".into(),
    };
    let mut events = client.watch_events(watch).await.unwrap().into_inner();
    let say = |up, version| {
        a.say(Up::PortStatus(v1::PortStatus {
            network: 1,
            port_id: port.id,
            up,
            missing: !up,
            version,
            mtu: 1500,
        }));
    };
    let clock = a.network(1).unwrap().clock;
    // Nothing new, then a change, then the same again.
    say(true, clock);
    say(false, clock);
    say(false, clock);
    let told = events.message().await.unwrap().unwrap();
    let change = told.port_status.unwrap();
    assert_eq!((change.port_no, change.up), (port.port_no, false));
    assert_eq!(told.version, clock);

    // Of a version that is not acknowledged yet: behind what is older.
    a.tables.lock().unwrap().hold_acks = true;
    let mut other = coordinator.client().await;
    let held = tokio::spawn(async move {
        let mods = vec![add(1, 1)];
        other.update_rules(update("n", "s", mods)).await.unwrap();
    });
    support::until("the update to be activated", || async {
        (a.network(1).unwrap().clock > clock).then_some(())
    })
    .await;
    say(true, clock + 1);
    a.event(1, 1, clock, 5);
    let older = events.message().await.unwrap().unwrap();
    assert_eq!(older.packet_in.unwrap().cookie, 5);
    a.release_acks();
    let told = events.message().await.unwrap().unwrap();
    assert!(told.port_status.unwrap().up);
    held.await.unwrap();
    let ports = client.list_ports(v1::ListPortsRequest {
        network: "n".into(),
        switch: "s".into(),
    });
    assert!(ports.await.unwrap().into_inner().ports[0].up);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_are_told_what_a_ports_device_takes() {
    let coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    let b = FakeAgent::start(&coordinator.url(), "b").await;
    let port = client.create_port(port_request("n", "s", "b", "vm")).await;
    let port = port.unwrap().into_inner();
    let say = |mtu| {
        b.say(Up::PortStatus(v1::PortStatus {
            network: 1,
            port_id: port.id,
            up: mtu != 0,
            missing: mtu == 0,
            version: b.network(1).unwrap().clock,
            mtu,
        }));
    };
    let told = |agent: &FakeAgent| agent.network(1).unwrap().config.ports[0].mtu;
    assert_eq!((port.mtu, told(&a)), (1500, 1500));
    // What the port was made for is the most, whatever its device takes.
    for (device, expected) in [(1300, 1300), (9000, 1500), (1400, 1400), (0, 1500)] {
        say(device);
        support::until("the other host to be told", || async {
            (told(&a) == expected).then_some(())
        })
        .await;
        let ports = client.list_ports(v1::ListPortsRequest {
            network: "n".into(),
            switch: "s".into(),
        });
        assert_eq!(ports.await.unwrap().into_inner().ports[0].mtu, expected);
        // The host of the device knows itself.
        assert_eq!(told(&b), 1500);
    }
}
