//! Networks, switches, ports, links and rules, end to end with fake agents.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use lime_proto::v1;
use support::{Coordinator, add, one_host, port_request, switch, update};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_network_on_one_host() {
    let coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    switch(&mut client, "n", "t", "a").await;
    let port = client
        .create_port(port_request("n", "s", "a", "vm-1"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((port.port_no, port.host.as_str()), (1, "a"));
    let link = client
        .create_link(v1::CreateLinkRequest {
            network: "n".into(),
            switch_a: "s".into(),
            port_a: 0,
            switch_b: "t".into(),
            port_b: 7,
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((link.port_a, link.port_b), (2, 7));
    let updated = client
        .update_rules(update("n", "s", vec![add(5, 1), add(6, 2)]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((updated.added, updated.removed), (2, 0));
    assert_eq!(a.visible(1, 1), vec![5, 6]);
    let mut rules = client
        .list_rules(v1::ListRulesRequest {
            network: "n".into(),
            switch: "s".into(),
            stats: true,
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(rules.message().await.unwrap().unwrap().rules.len(), 2);
    // What is in use cannot go.
    let refused = client
        .delete_switch(v1::DeleteSwitchRequest {
            network: "n".into(),
            name: "s".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    client
        .delete_link(v1::DeleteLinkRequest {
            network: "n".into(),
            switch_a: "t".into(),
            port_a: 7,
        })
        .await
        .unwrap();
    client
        .delete_port(v1::DeletePortRequest {
            network: "n".into(),
            switch: "s".into(),
            port_no: 1,
        })
        .await
        .unwrap();
    for name in ["s", "t"] {
        client
            .delete_switch(v1::DeleteSwitchRequest {
                network: "n".into(),
                name: name.into(),
            })
            .await
            .unwrap();
    }
    client
        .delete_network(v1::DeleteNetworkRequest { name: "n".into() })
        .await
        .unwrap();
    support::until("the host to forget the network", || async {
        a.network(1).is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_switch_sends_its_controller_is_told_to_its_hosts_and_kept() {
    let mut coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    let wanted = v1::PacketIns {
        rate: 0,
        burst: 20_000,
        invalid_ttl: true,
    };
    let request = v1::CreateSwitchRequest {
        network: "n".into(),
        name: "t".into(),
        host: "a".into(),
        packet_ins: Some(wanted),
    };
    let switch = client.create_switch(request).await.unwrap().into_inner();
    let expected = v1::PacketIns {
        rate: 2_000_000,
        ..wanted
    };
    assert_eq!(switch.packet_ins, Some(expected));
    let told = a.network(1).unwrap().config.switches;
    let told = told.iter().find(|s| s.switch_id == switch.id).unwrap();
    assert_eq!(told.packet_ins, Some(expected));
    // What is not named stays; the host knows when it is answered.
    let request = v1::ConfigureSwitchRequest {
        network: "n".into(),
        name: "t".into(),
        packet_in_rate: Some(5000),
        packet_in_burst: None,
        invalid_ttl: Some(false),
    };
    let switch = client.configure_switch(request.clone()).await;
    let expected = v1::PacketIns {
        rate: 5000,
        burst: 20_000,
        invalid_ttl: false,
    };
    let switch = switch.unwrap().into_inner();
    assert_eq!(switch.packet_ins, Some(expected));
    let told = a.network(1).unwrap().config.switches;
    let told = told.iter().find(|s| s.switch_id == switch.id).unwrap();
    assert_eq!(told.packet_ins, Some(expected));
    let wrong = v1::ConfigureSwitchRequest {
        packet_in_rate: Some(999),
        packet_in_burst: Some(30_000),
        ..request
    };
    let refused = client.configure_switch(wrong).await.unwrap_err();
    assert!(refused.message().contains("packet_ins.rate"), "{refused}");
    coordinator.restart().await;
    let mut client = coordinator.client().await;
    let list = client.list_switches(v1::ListSwitchesRequest::default());
    let list = list.await.unwrap().into_inner().switches;
    let kept = list.iter().find(|s| s.id == switch.id).unwrap();
    assert_eq!(kept.packet_ins, Some(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_modified_and_never_added_by_that() {
    use v1::flow_mod::Command;
    let coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    client
        .update_rules(update("n", "s", vec![add(5, 1), add(6, 1)]))
        .await
        .unwrap();
    let change = |command: Command, priority, port| v1::FlowMod {
        command: command.into(),
        ..add(priority, port)
    };
    let strict = change(Command::ModifyStrict, 6, 2);
    let updated = client.update_rules(update("n", "s", vec![strict.clone()]));
    let updated = updated.await.unwrap().into_inner();
    assert_eq!((updated.added, updated.removed), (1, 1));
    // The same again changes nothing, nor does one that there is no rule for.
    let nothing = vec![strict, change(Command::ModifyStrict, 9, 2)];
    let updated = client.update_rules(update("n", "s", nothing));
    let updated = updated.await.unwrap().into_inner();
    assert_eq!((updated.added, updated.removed), (0, 0));
    assert_eq!(a.visible(1, 1), vec![5, 6]);
    // All within the match, whatever their priority.
    let all = vec![change(Command::Modify, 0, 3)];
    let updated = client.update_rules(update("n", "s", all));
    let updated = updated.await.unwrap().into_inner();
    assert_eq!((updated.added, updated.removed), (2, 2));
    assert_eq!(a.visible(1, 1), vec![5, 6]);

    let overlapping = v1::FlowMod {
        check_overlap: true,
        ..add(6, 1)
    };
    let refused = client.update_rules(update("n", "s", vec![add(7, 1), overlapping]));
    assert_eq!(refused.await.unwrap_err().code(), Code::FailedPrecondition);
    let by_port = v1::FlowMod {
        command: Command::Delete.into(),
        out_port: Some(1),
        ..Default::default()
    };
    let table_0 = v1::FlowMod {
        rule: Some(v1::Rule::default()),
        ..by_port
    };
    let updated = client.update_rules(update("n", "s", vec![add(7, 1), table_0]));
    let updated = updated.await.unwrap().into_inner();
    assert_eq!((updated.added, updated.removed), (0, 0));
    assert_eq!(a.visible(1, 1), vec![5, 6]);
}
