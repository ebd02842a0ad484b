//! Several hosts: instances, moves, events, packet-outs, restarts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use lime_proto::v1;
use support::{
    Coordinator, FakeAgent, add, add_instance, one_host, port_request, two_instances, until, update,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;
use v1::control_reply::Reply;
use v1::control_request::Request;

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_on_two_hosts() {
    let coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    let b = FakeAgent::start(&coordinator.url(), "b").await;
    client
        .create_port(port_request("n", "s", "a", "vm-1"))
        .await
        .unwrap();
    let mods = (0..5000).map(|p| add(p, 1)).collect();
    client.update_rules(update("n", "s", mods)).await.unwrap();
    let shown = add_instance(&mut client, "s", "b").await;
    assert_eq!(shown.instances, vec!["a", "b"]);
    assert_eq!(b.visible(1, 1).len(), 5000);
    client
        .update_rules(update("n", "s", vec![add(9999, 1)]))
        .await
        .unwrap();
    assert_eq!(a.visible(1, 1).len(), 5001);
    assert_eq!(b.visible(1, 1).len(), 5001);

    // A port moves, and its clock with it.
    let moved = client
        .move_port(v1::MovePortRequest {
            network: "n".into(),
            switch: "s".into(),
            port_no: 1,
            host: "b".into(),
            device: "vm-1".into(),
            driver: String::new(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(moved.host, "b");
    assert!(b.network(1).unwrap().running.contains(&moved.id));

    // Counters of the retired instance are kept.
    for (agent, packets) in [(&a, 10), (&b, 5)] {
        let mut tables = agent.tables.lock().unwrap();
        let rules = &mut tables.networks.get_mut(&1).unwrap().rules;
        for rule in rules.get_mut(&1).unwrap().values_mut() {
            rule.packets = packets;
        }
    }
    client
        .remove_instance(v1::RemoveInstanceRequest {
            network: "n".into(),
            switch: "s".into(),
            host: "a".into(),
        })
        .await
        .unwrap();
    until("host a to forget", || async {
        a.network(1).is_none().then_some(())
    })
    .await;
    let request = v1::ListRulesRequest {
        network: "n".into(),
        switch: "s".into(),
        stats: true,
        ..Default::default()
    };
    let mut rules = client.list_rules(request).await.unwrap().into_inner();
    let first = rules.message().await.unwrap().unwrap();
    assert!(first.rules.iter().all(|r| r.packets == 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_all_members_and_come_in_version_order() {
    let coordinator = Coordinator::start().await;
    let (a, b, _) = two_instances(&coordinator).await;
    let mut controller = coordinator.controller().await;
    let (up, queue) = mpsc::unbounded_channel();
    let ask = |xid, request| {
        let request = Some(request);
        up.send(v1::ControlRequest { xid, request }).unwrap();
    };
    ask(
        1,
        Request::Open(v1::OpenChannel {
            network: "n".into(),
        }),
    );
    let replies = controller.control(UnboundedReceiverStream::new(queue));
    let mut replies = replies.await.unwrap().into_inner();
    let opened = replies.message().await.unwrap().unwrap();
    assert!(matches!(opened.reply, Some(Reply::Opened(_))));

    let clock = a.network(1).unwrap().clock;
    b.tables.lock().unwrap().hold_acks = true;
    ask(2, Request::UpdateRules(update("n", "s", vec![add(1, 1)])));
    // The packet-out follows the update on this channel, and does not wait for the acknowledgements.
    ask(
        3,
        Request::PacketOut(v1::SendPacketOutRequest {
            network: "n".into(),
            switch: "s".into(),
            packet_out: Some(v1::PacketOut {
                in_port: 0xffff_fffd,
                actions: vec![],
                data: vec![0; 60],
            }),
        }),
    );
    ask(4, Request::Barrier(v1::Empty {}));
    let done = replies.message().await.unwrap().unwrap();
    assert_eq!(done.xid, 3);
    let outs: Vec<u32> = [&a, &b]
        .iter()
        .flat_map(|h| h.tables.lock().unwrap().packet_outs.clone())
        .map(|p| p.min_clock)
        .collect();
    assert_eq!(outs, vec![clock + 1]);
    // The new version's event is held; one of the old version still comes.
    a.event(1, 1, clock + 1, 2);
    b.event(1, 1, clock, 1);
    let old = replies.message().await.unwrap().unwrap();
    let Some(Reply::Event(old)) = old.reply else {
        panic!("{old:?}");
    };
    assert_eq!(old.packet_in.unwrap().cookie, 1);
    let early = tokio::time::timeout(Duration::from_millis(200), replies.message()).await;
    assert!(early.is_err(), "released too early: {early:?}");
    b.release_acks();
    let mut marks = Vec::new();
    for _ in 0..3 {
        let reply = replies.message().await.unwrap().unwrap();
        match reply.reply.unwrap() {
            Reply::Event(e) => marks.push(e.packet_in.unwrap().cookie),
            Reply::Updated(_) => marks.push(200),
            Reply::Done(_) => marks.push(400),
            other => panic!("{other:?}"),
        }
    }
    // The update's reply, then what came after it.
    assert_eq!(marks[0], 200);
    assert!(marks.contains(&2) && marks.contains(&400), "{marks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_survives_a_restart() {
    let mut coordinator = Coordinator::start().await;
    let (mut a, b, mut client) = two_instances(&coordinator).await;
    client
        .create_port(port_request("n", "s", "a", "vm-1"))
        .await
        .unwrap();
    client
        .update_rules(update("n", "s", vec![add(1, 1), add(2, 1)]))
        .await
        .unwrap();
    coordinator.restart().await;
    let mut client = coordinator.client().await;
    let updated = client
        .update_rules(update("n", "s", vec![add(3, 1)]))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(updated.added, 1);
    for agent in [&a, &b] {
        assert_eq!(agent.visible(1, 1), vec![1, 2, 3]);
    }
    // An agent that was killed goes on with what it has; one whose host rebooted learns all of it again.
    a.kill();
    let mut other = coordinator.client().await;
    let late = tokio::spawn(async move {
        other
            .update_rules(update("n", "s", vec![add(4, 1)]))
            .await
            .unwrap();
    });
    until("the network to say whom it waits for", || async {
        let mut client = coordinator.client().await;
        let list = client.list_networks(v1::ListNetworksRequest {}).await;
        let list = list.unwrap().into_inner();
        (list.networks[0].waiting_for == ["a"]).then_some(())
    })
    .await;
    a.revive();
    late.await.unwrap();
    assert_eq!(a.visible(1, 1), vec![1, 2, 3, 4]);
    a.reboot();
    client
        .update_rules(update("n", "s", vec![add(5, 1)]))
        .await
        .unwrap();
    for agent in [&a, &b] {
        assert_eq!(agent.visible(1, 1), vec![1, 2, 3, 4, 5]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_a_host_cannot_stage_is_undone_everywhere() {
    let coordinator = Coordinator::start().await;
    let (a, b, mut client) = two_instances(&coordinator).await;
    client
        .update_rules(update("n", "s", vec![add(1, 1)]))
        .await
        .unwrap();
    b.tables.lock().unwrap().really_free = 2;
    let refused = client
        .update_rules(update("n", "s", vec![add(1, 2), add(2, 1), add(3, 1)]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("host b"), "{refused}");
    b.tables.lock().unwrap().really_free = 100;
    client
        .update_rules(update("n", "s", vec![add(7, 1)]))
        .await
        .unwrap();
    for agent in [&a, &b] {
        assert_eq!(agent.visible(1, 1), vec![1, 7]);
    }
    let shown = client
        .list_switches(v1::ListSwitchesRequest {
            network: "n".into(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown.switches[0].rules, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_a_host_is_away_is_gone_when_it_returns() {
    let coordinator = Coordinator::start().await;
    let (_a, mut client) = one_host(&coordinator).await;
    let mut b = FakeAgent::start(&coordinator.url(), "b").await;
    client
        .create_port(port_request("n", "s", "b", "vm-1"))
        .await
        .unwrap();
    b.kill();
    until("the host to be gone", || async {
        let mut client = coordinator.client().await;
        let hosts = client.list_hosts(v1::ListHostsRequest {}).await.unwrap();
        let gone = |h: &v1::Host| h.name == "b" && !h.connected;
        hosts.into_inner().hosts.iter().any(gone).then_some(())
    })
    .await;
    client
        .delete_port(v1::DeletePortRequest {
            network: "n".into(),
            switch: "s".into(),
            port_no: 1,
        })
        .await
        .unwrap();
    b.revive();
    until("the host to forget the network", || async {
        b.network(1).is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_out_is_not_sent_again_to_another_agent_process() {
    let coordinator = Coordinator::start().await;
    let (a, mut client) = one_host(&coordinator).await;
    a.tables.lock().unwrap().die_after = Some("packet_out");
    let request = v1::SendPacketOutRequest {
        network: "n".into(),
        switch: "s".into(),
        packet_out: Some(v1::PacketOut {
            in_port: 0xffff_fffd,
            actions: vec![],
            data: vec![0; 60],
        }),
    };
    let lost = client.send_packet_out(request).await.unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost}");
    let tables = a.tables.lock().unwrap();
    let sent = tables.seen.iter().filter(|s| **s == "packet_out").count();
    assert_eq!((sent, tables.deaths), (1, 1));
}
