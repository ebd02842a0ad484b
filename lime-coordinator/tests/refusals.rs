//! Bad input: each a clear error, and nothing changed.

#![allow(clippy::unwrap_used)]

mod support;

use lime_proto::v1;
use support::{Coordinator, FakeAgent, add, network, port_request, switch, until, update};
use tonic::{Code, Status};

fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, words: &[&str]) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    for word in words {
        assert!(status.message().contains(word), "{word:?} in {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_things_that_are_not_there() {
    let coordinator = Coordinator::start().await;
    let a = FakeAgent::start(&coordinator.url(), "a").await;
    let mut client = coordinator.client().await;
    let create = |name: &str| v1::CreateNetworkRequest {
        name: name.into(),
        consistency: 0,
    };
    for bad in ["", "a/b", "-x", &"x".repeat(64)] {
        let result = client.create_network(create(bad)).await;
        refused(result, Code::InvalidArgument, &[]);
    }
    network(&mut client, "n").await;
    let result = client.create_network(create("n")).await;
    refused(result, Code::AlreadyExists, &["network n"]);
    let on = |network: &str, name: &str, host: &str| v1::CreateSwitchRequest {
        network: network.into(),
        name: name.into(),
        host: host.into(),
        packet_ins: None,
    };
    let result = client.create_switch(on("x", "s", "a")).await;
    refused(result, Code::NotFound, &["network \"x\""]);
    let result = client.create_switch(on("n", "s", "h")).await;
    refused(result, Code::NotFound, &["host \"h\"", "known hosts: a"]);
    let too_fast = v1::PacketIns {
        rate: u32::MAX,
        ..Default::default()
    };
    let result = client.create_switch(v1::CreateSwitchRequest {
        packet_ins: Some(too_fast),
        ..on("n", "s", "a")
    });
    let expected = ["packet_ins.rate", "1000 to 100000000"];
    refused(result.await, Code::InvalidArgument, &expected);
    switch(&mut client, "n", "s", "a").await;
    let result = client.create_switch(on("n", "s", "a")).await;
    refused(result, Code::AlreadyExists, &["n/s"]);

    a.tables
        .lock()
        .unwrap()
        .devices_missing
        .insert("gone".into());
    let result = client
        .create_port(port_request("n", "s", "a", "gone"))
        .await;
    refused(result, Code::NotFound, &["host a", "gone"]);
    let result = client
        .create_port(port_request("n", "s", "a", "a-name-that-is-too-long"))
        .await;
    refused(result, Code::InvalidArgument, &["device"]);
    let result = client.create_port(port_request("n", "x", "a", "vm")).await;
    refused(result, Code::NotFound, &["n/x"]);
    client
        .create_port(port_request("n", "s", "a", "vm"))
        .await
        .unwrap();
    let result = client.create_port(port_request("n", "s", "a", "vm")).await;
    refused(result, Code::AlreadyExists, &["device vm", "n/s:1"]);
    let mut taken = port_request("n", "s", "a", "vm2");
    taken.port_no = 1;
    let result = client.create_port(taken).await;
    refused(result, Code::AlreadyExists, &["n/s:1"]);

    let mut group = add(1, 1);
    group.rule.as_mut().unwrap().actions = vec![v1::Action {
        action: Some(v1::action::Action::Group(v1::action::Group { group_id: 4 })),
    }];
    let result = client.update_rules(update("n", "s", vec![group])).await;
    refused(result, Code::InvalidArgument, &["group 4"]);
    a.tables.lock().unwrap().free_rules = 0;
    let shown = client.list_switches(v1::ListSwitchesRequest::default());
    assert_eq!(shown.await.unwrap().into_inner().switches[0].rules, 0);

    let result = client
        .delete_host(v1::DeleteHostRequest { name: "a".into() })
        .await;
    refused(result, Code::FailedPrecondition, &["is connected"]);
    client
        .cordon_host(v1::CordonHostRequest {
            name: "a".into(),
            cordoned: true,
        })
        .await
        .unwrap();
    let result = client.create_switch(on("n", "t", "a")).await;
    refused(result, Code::FailedPrecondition, &["cordoned"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_does_not_fit_a_host() {
    let coordinator = Coordinator::start().await;
    let _a = FakeAgent::start(&coordinator.url(), "a").await;
    let mut b = FakeAgent::start(&coordinator.url(), "b").await;
    b.kill();
    b.tables.lock().unwrap().free_rules = 10;
    b.revive();
    b.connected().await;
    let mut client = coordinator.client().await;
    network(&mut client, "n").await;
    switch(&mut client, "n", "s", "a").await;
    let mods = (0..20).map(|p| add(p, 1)).collect();
    client.update_rules(update("n", "s", mods)).await.unwrap();
    let to_b = v1::AddInstanceRequest {
        network: "n".into(),
        switch: "s".into(),
        host: "b".into(),
    };
    let result = client.add_instance(to_b).await;
    refused(result, Code::ResourceExhausted, &["host b", "10", "20"]);
    until("host b to be left alone", || async {
        b.network(1).is_none().then_some(())
    })
    .await;
    switch(&mut client, "n", "t", "b").await;
    let mods = (0..20).map(|p| add(p, 1)).collect();
    let result = client.update_rules(update("n", "t", mods)).await;
    refused(result, Code::ResourceExhausted, &["host b", "10", "20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_of_the_same_name_is_refused() {
    let coordinator = Coordinator::start().await;
    let _a = FakeAgent::start(&coordinator.url(), "a").await;
    let channel = coordinator.channel().await;
    let mut agents = v1::agents_client::AgentsClient::new(channel);
    let hello = v1::Hello {
        host: "a".into(),
        incarnation: 99,
        underlay_address: "10.9.9.9".into(),
        ..Default::default()
    };
    let hello = v1::AgentMessage {
        message: Some(v1::agent_message::Message::Hello(hello)),
    };
    let result = agents.session(tokio_stream::iter([hello])).await;
    refused(result, Code::AlreadyExists, &["host a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_without_consistency_waits_for_nobody() {
    let coordinator = Coordinator::start().await;
    let a = FakeAgent::start(&coordinator.url(), "a").await;
    let b = FakeAgent::start(&coordinator.url(), "b").await;
    let mut client = coordinator.client().await;
    client
        .create_network(v1::CreateNetworkRequest {
            name: "n".into(),
            consistency: v1::Consistency::None.into(),
        })
        .await
        .unwrap();
    switch(&mut client, "n", "s", "a").await;
    client
        .create_port(port_request("n", "s", "a", "vm"))
        .await
        .unwrap();
    client
        .update_rules(update("n", "s", vec![add(1, 1)]))
        .await
        .unwrap();
    let started = client
        .start_migration(v1::MigrationRequest {
            network: "n".into(),
            from: "a".into(),
            to: "b".into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    until("the migration to end", || async {
        let mut client = coordinator.client().await;
        let asked = v1::GetMigrationRequest { id: started.id };
        let m = client.get_migration(asked).await.unwrap().into_inner();
        (m.state() == v1::migration::State::Completed).then_some(())
    })
    .await;
    until("the rules to be in effect", || async {
        (b.visible(1, 1) == [1]).then_some(())
    })
    .await;
    drop(a);
}
