//! Bundles: changes that come in several requests and are made together.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use lime_proto::v1;
use support::channel::Channel;
use support::{Coordinator, FakeAgent, add, network, switch};
use tonic::Code;
use v1::control_reply::Reply;
use v1::control_request::Request;
use v1::group_mod::Change as GroupChange;
use v1::switch_mod::Change;

fn rule(priority: u32, port: u32) -> v1::SwitchMod {
    v1::SwitchMod {
        change: Some(Change::Rule(add(priority, port))),
    }
}

fn runs(priority: u32, group_id: u32) -> v1::SwitchMod {
    let mut m = add(priority, 1);
    m.rule.as_mut().unwrap().actions = vec![v1::Action {
        action: Some(v1::action::Action::Group(v1::action::Group { group_id })),
    }];
    v1::SwitchMod {
        change: Some(Change::Rule(m)),
    }
}

fn group(change: GroupChange) -> v1::SwitchMod {
    let change = Some(change);
    v1::SwitchMod {
        change: Some(Change::Group(v1::GroupMod { change })),
    }
}

fn new_group(group_id: u32) -> v1::SwitchMod {
    group(GroupChange::Add(v1::Group {
        group_id,
        r#type: v1::GroupType::All.into(),
        buckets: vec![v1::Bucket::default()],
    }))
}

fn open(bundle_id: u32) -> Request {
    let switch = "s".into();
    Request::OpenBundle(v1::OpenBundle { bundle_id, switch })
}

fn put(bundle_id: u32, mods: Vec<v1::SwitchMod>) -> Request {
    Request::AddToBundle(v1::AddToBundle { bundle_id, mods })
}

fn commit(bundle_id: u32) -> Request {
    Request::CommitBundle(v1::CommitBundle { bundle_id })
}

fn is_done(reply: Reply) {
    assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
}

fn fails(reply: Reply, code: Code, says: &str) {
    let Reply::Error(e) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(e.code, code as u32, "{}", e.message);
    assert!(e.message.contains(says), "{}", e.message);
}

async fn world() -> (Coordinator, FakeAgent, FakeAgent) {
    let coordinator = Coordinator::start().await;
    let a = FakeAgent::start(&coordinator.url(), "a").await;
    let b = FakeAgent::start(&coordinator.url(), "b").await;
    let mut client = coordinator.client().await;
    network(&mut client, "n").await;
    switch(&mut client, "n", "s", "a").await;
    client
        .add_instance(v1::AddInstanceRequest {
            network: "n".into(),
            switch: "s".into(),
            host: "b".into(),
        })
        .await
        .unwrap();
    (coordinator, a, b)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_takes_effect_as_a_whole_or_not_at_all() {
    let (coordinator, a, b) = world().await;
    let mut channel = Channel::open(&coordinator, "n").await;
    is_done(channel.ask(open(7)).await);
    is_done(channel.ask(put(7, vec![rule(1, 1), new_group(5)])).await);
    is_done(channel.ask(put(7, vec![runs(2, 5), rule(3, 3)])).await);
    let before = a.network(1).unwrap().clock;
    assert_eq!(a.visible(1, 1), Vec::<u32>::new());
    let Reply::Committed(done) = channel.ask(commit(7)).await else {
        panic!();
    };
    // One epoch for all of it, on all instances.
    assert_eq!(done.epoch, before + 1);
    assert_eq!((done.rules_added, done.rules_removed), (3, 0));
    for agent in [&a, &b] {
        // The group's head, choice and bucket have priority 0.
        assert_eq!(agent.visible(1, 1), vec![0, 0, 0, 1, 2, 3]);
    }

    // One that fails changes nothing, says which, and is gone; what followed its group goes with it.
    is_done(channel.ask(open(7)).await);
    let gone = group(GroupChange::Delete(5));
    is_done(channel.ask(put(7, vec![gone, rule(4, 4)])).await);
    is_done(channel.ask(put(7, vec![runs(6, 5)])).await);
    fails(
        channel.ask(commit(7)).await,
        Code::InvalidArgument,
        "mods[2].rule: group 5",
    );
    fails(channel.ask(commit(7)).await, Code::NotFound, "bundle 7");
    assert_eq!(a.network(1).unwrap().staged, done.epoch);
    is_done(channel.ask(open(7)).await);
    let gone = group(GroupChange::Delete(5));
    is_done(channel.ask(put(7, vec![gone, rule(4, 4)])).await);
    let Reply::Committed(second) = channel.ask(commit(7)).await else {
        panic!();
    };
    assert_eq!((second.rules_added, second.rules_removed), (1, 1));
    for agent in [&a, &b] {
        assert_eq!(agent.visible(1, 1), vec![1, 3, 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_are_checked_as_they_grow_and_end_with_their_connection() {
    let (coordinator, a, _b) = world().await;
    let mut channel = Channel::open(&coordinator, "n").await;
    fails(
        channel.ask(put(1, vec![])).await,
        Code::NotFound,
        "bundle 1",
    );
    let elsewhere = v1::OpenBundle {
        bundle_id: 1,
        switch: "t".into(),
    };
    let reply = channel.ask(Request::OpenBundle(elsewhere)).await;
    fails(reply, Code::NotFound, "n/t");
    is_done(channel.ask(open(1)).await);
    fails(channel.ask(open(1)).await, Code::AlreadyExists, "bundle 1");
    is_done(channel.ask(put(1, vec![rule(1, 1)])).await);
    // A request with something wrong adds nothing; the bundle stays.
    let mut bad = add(2, 1);
    bad.rule.as_mut().unwrap().priority = 70_000;
    let bad = v1::SwitchMod {
        change: Some(Change::Rule(bad)),
    };
    let reply = channel.ask(put(1, vec![rule(9, 1), bad])).await;
    fails(reply, Code::InvalidArgument, "mods[2]");
    let empty = v1::SwitchMod { change: None };
    let reply = channel.ask(put(1, vec![empty])).await;
    fails(reply, Code::InvalidArgument, "mods[1]");
    for id in 2..=16 {
        is_done(channel.ask(open(id)).await);
    }
    fails(
        channel.ask(open(17)).await,
        Code::ResourceExhausted,
        "16 open",
    );
    let discard = |bundle_id| Request::DiscardBundle(v1::DiscardBundle { bundle_id });
    is_done(channel.ask(discard(16)).await);
    fails(channel.ask(discard(16)).await, Code::NotFound, "bundle 16");
    is_done(channel.ask(open(17)).await);
    let many = vec![rule(1, 1); 250_000];
    for id in [2, 3] {
        // The first makes the connection's bundles full, with what is in them already.
        let reply = channel.ask(put(id, many.clone())).await;
        if id == 2 {
            is_done(reply);
        } else {
            fails(reply, Code::ResourceExhausted, "500000 changes");
        }
    }
    // Another connection has bundles of its own, and sees nothing of these when they are gone.
    drop(channel);
    let mut channel = Channel::open(&coordinator, "n").await;
    fails(channel.ask(commit(1)).await, Code::NotFound, "bundle 1");
    is_done(channel.ask(open(1)).await);
    is_done(channel.ask(put(1, vec![rule(5, 1)])).await);
    assert!(matches!(channel.ask(commit(1)).await, Reply::Committed(_)));
    assert_eq!(a.visible(1, 1), vec![5]);
    // An empty one is an epoch too.
    is_done(channel.ask(open(1)).await);
    assert!(matches!(channel.ask(commit(1)).await, Reply::Committed(_)));
}
