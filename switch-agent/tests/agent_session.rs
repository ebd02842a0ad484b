//! The whole agent against a coordinator that does as it is told, in a network namespace of its own. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use lime_proto::v1::agent_error::Code;
use lime_proto::v1::coordinator_message::Message as ToAgent;
use lime_proto::v1::{self, agent_message::Message};
use support::{Coordinator, Session, code, in_namespace, ip, local, network, rule, stage};

async fn check_device(session: &mut Session, name: &str, mtu: u32) -> v1::Done {
    session
        .request(|request_id| {
            ToAgent::CheckDevice(v1::CheckDevice {
                request_id,
                name: name.into(),
                mtu,
                tunnels: true,
                ..Default::default()
            })
        })
        .await
}

#[test]
fn an_agent_greets_configures_stages_and_activates() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, hello) = coordinator.accept().await;
        assert_eq!(hello.host, "alpha");
        assert_eq!(hello.underlay_address, "10.88.0.1");
        assert_eq!(hello.underlay_mtu, 9000);
        assert!(hello.networks.is_empty() && hello.incarnation != 0);

        assert_eq!(session.configure(network(1)).await.error, None);
        let up = session
            .wait(|m| match m {
                Message::PortStatus(s) if s.port_id == 101 => Some(s.up),
                _ => None,
            })
            .await;
        assert!(up);
        // The same again is well, older and other content are not.
        assert_eq!(session.configure(network(1)).await.error, None);
        let mut other = network(1);
        other.vni = 101;
        assert_eq!(code(&session.configure(other).await), Code::Invalid);
        assert_eq!(code(&session.configure(network(0)).await), Code::Invalid);

        let staged = session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        assert_eq!(staged.error, None);
        session.activate(1, 1).await;
        assert_eq!(session.clock(1).await, 1);
        agent.stop().await;
    });
}

#[test]
fn bad_devices_are_refused_and_nothing_changes() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(
            code(&check_device(&mut session, "port1", 1500).await),
            Code::Unspecified
        );
        for (name, mtu, expected) in [
            ("nothing0", 1500, Code::NotFound),
            ("underlay0", 1500, Code::InUse),
            ("lo", 1500, Code::Unsupported),
            ("port1", 9000, Code::Mtu),
            ("../etc", 1500, Code::Invalid),
        ] {
            let done = check_device(&mut session, name, mtu).await;
            assert_eq!(code(&done), expected, "{name}: {done:?}");
        }
        assert_eq!(session.configure(network(1)).await.error, None);
        assert_eq!(
            code(&check_device(&mut session, "port1", 1500).await),
            Code::InUse
        );

        // One bad port refuses the whole; the old ports go on.
        let mut broken = network(2);
        broken.ports[1] = local(102, 2, "nothing0");
        broken.ports[0].no_flood = true;
        let done = session.configure(broken).await;
        assert_eq!(code(&done), Code::NotFound);
        let message = done.error.unwrap().message;
        assert!(
            message.contains("nothing0") && message.contains("port 102"),
            "{message}"
        );
        assert_eq!(session.configure(network(1)).await.error, None);
        agent.stop().await;
    });
}

#[test]
fn a_restarted_agent_goes_on_with_what_is_pinned() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, first) = coordinator.accept().await;
        assert_eq!(session.configure(network(7)).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        session.activate(1, 1).await;
        session.stage(stage(2, vec![rule(2, 6, &[1])])).await;
        agent.stop().await;
        drop(session);

        let agent = world.agent(&coordinator.address);
        let (mut session, hello) = coordinator.accept().await;
        assert_ne!(hello.incarnation, first.incarnation);
        let [network] = &hello.networks[..] else {
            panic!("{hello:?}");
        };
        assert_eq!(
            (
                network.network,
                network.generation,
                network.clock,
                network.staged
            ),
            (1, 7, 1, 2)
        );
        assert_eq!(network.switches, [10]);
        session.activate(1, 2).await;
        let done = session
            .request(|request_id| {
                ToAgent::Forget(v1::Forget {
                    request_id,
                    network: 1,
                })
            })
            .await;
        assert_eq!(done.error, None);
        agent.stop().await;
    });
}

#[test]
fn a_device_that_goes_and_comes_back_is_plugged_again() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        let status = |up, missing| {
            move |m: &Message| match m {
                Message::PortStatus(s)
                    if s.port_id == 102 && s.up == up && s.missing == missing =>
                {
                    Some(())
                }
                _ => None,
            }
        };
        session.wait(status(true, false)).await;
        ip("link set host2 down");
        session.wait(status(false, false)).await;
        ip("link set host2 up");
        session.wait(status(true, false)).await;
        ip("link del port2");
        session.wait(status(false, true)).await;
        support::World::veth("port2", "host2", 1500);
        session.wait(status(true, false)).await;
        agent.stop().await;
    });
}

#[test]
fn a_port_pauses_with_the_clock_and_resumes_by_its_plug() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        let mut lab = aya::EbpfLoader::new()
            .load(switch_agent::objects::LAB)
            .unwrap();
        let redirect = lab
            .map_mut(switch_agent::objects::LAB_REDIRECT_MAP)
            .unwrap();
        let path = world.bpffs().join("redirect");
        redirect.pin(&path).unwrap();

        let mut wanted = network(1);
        let Some(v1::port_state::Place::Local(local)) = &mut wanted.ports[0].place else {
            panic!();
        };
        local.driver = format!("plug:{}:7:peer", path.display());
        assert_eq!(session.configure(wanted).await.error, None);
        session.stage(stage(1, vec![])).await;
        session.stage(stage(2, vec![])).await;
        session.activate(1, 1).await;
        let paused = session
            .request(|request_id| {
                ToAgent::PausePort(v1::PausePort {
                    request_id,
                    network: 1,
                    port_id: 101,
                })
            })
            .await;
        assert_eq!(paused.result, Some(v1::done::Result::Clock(1)));
        let resume = |request_id, port_id, min_clock| {
            ToAgent::ResumePort(v1::ResumePort {
                request_id,
                network: 1,
                port_id,
                min_clock,
            })
        };
        let done = session.request(|id| resume(id, 101, 3)).await;
        assert_eq!(code(&done), Code::Invalid, "nothing above what is staged");
        let done = session.request(|id| resume(id, 109, 2)).await;
        assert_eq!(code(&done), Code::NotFound);
        assert_eq!(session.request(|id| resume(id, 101, 2)).await.error, None);
        let redirect: aya::maps::Array<_, u32> =
            aya::maps::Array::try_from(lab.map(switch_agent::objects::LAB_REDIRECT_MAP).unwrap())
                .unwrap();
        let far = nix::net::if_::if_nametoindex("host1").unwrap();
        assert_eq!(redirect.get(&7, 0).unwrap(), far);
        agent.stop().await;
    });
}

#[test]
fn a_lost_stream_is_dialled_again_and_greeted_with_what_is_in_force() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, first) = coordinator.accept().await;
        assert_eq!(session.configure(network(4)).await.error, None);
        session.stage(stage(1, vec![rule(1, 5, &[2])])).await;
        // Half of a stage is forgotten with its stream.
        let mut half = stage(2, vec![rule(2, 5, &[2])]);
        half.more = true;
        session.send(ToAgent::Stage(half)).await;
        session
            .send(ToAgent::Activate(v1::Activate {
                network: 1,
                epoch: 1,
                past: 0,
            }))
            .await;
        drop(session);

        let (mut session, hello) = coordinator.accept().await;
        assert_eq!(hello.incarnation, first.incarnation);
        let [network] = &hello.networks[..] else {
            panic!("{hello:?}");
        };
        assert_eq!((network.generation, network.staged), (4, 1));
        assert_eq!(
            session.stage(stage(2, vec![rule(3, 5, &[1])])).await.error,
            None
        );
        session.activate(1, 2).await;
        let gap = session.stage(stage(4, vec![])).await;
        assert_eq!(gap.error.map(|e| e.code()), Some(Code::Invalid));
        // There is one answer to all parts of a stage, also when the first is refused.
        let mut parts = stage(3, vec![rule(0, 5, &[1])]);
        parts.more = true;
        let refused = session.stage(parts.clone()).await;
        assert_eq!(refused.error.map(|e| e.code()), Some(Code::Invalid));
        parts.add.clear();
        session.send(ToAgent::Stage(parts.clone())).await;
        parts.more = false;
        session.send(ToAgent::Stage(parts)).await;
        session.activate(1, 2).await;
        let answered = session
            .seen
            .iter()
            .any(|m| matches!(m, Message::Staged(s) if s.epoch == 3));
        assert!(!answered);
        // An epoch that is not active can be replaced.
        session.stage(stage(3, vec![rule(4, 5, &[1])])).await;
        let mut replaced = stage(3, vec![]);
        replaced.replace = true;
        assert_eq!(session.stage(replaced).await.error, None);
        session.activate(1, 3).await;
        agent.stop().await;
    });
}

#[test]
fn unloading_leaves_nothing_and_needs_the_agent_to_be_stopped() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(1)).await.error, None);
        let config = world.config(&coordinator.address);
        let error = switch_agent::unload(&config).await.unwrap_err();
        let text = switch_agent::error::chain(&error);
        assert!(text.contains("another agent runs"), "{text}");
        agent.stop().await;

        let (send, _) = switch_agent::recirculation::Recirculation::names("alpha");
        assert!(nix::net::if_::if_nametoindex(send.as_str()).is_ok());
        switch_agent::unload(&config).await.unwrap();
        assert!(!world.bpffs().exists() && !world.state_dir().exists());
        assert!(nix::net::if_::if_nametoindex(send.as_str()).is_err());
        // Again does no harm.
        switch_agent::unload(&config).await.unwrap();
    });
}

/// Each change of a rule leaves a version in one chain, until all members are past it.
#[test]
fn one_rule_can_be_changed_again_and_again() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(session.configure(network(4)).await.error, None);
        let changes = 2 * switch_abi::MAX_CHAIN + 10;
        for epoch in 1..=changes {
            let mut change = stage(epoch, vec![rule(epoch.into(), 5, &[2])]);
            change
                .remove
                .extend((epoch > 1).then(|| u64::from(epoch - 1)));
            assert_eq!(session.stage(change).await.error, None, "change {epoch}");
            session.activate_past(1, epoch, epoch - 1).await;
        }
        agent.stop().await;
    });
}
