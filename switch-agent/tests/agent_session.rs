//! The whole agent against a coordinator that does as it is told, in a network namespace of its own. Needs root.

mod support;

use lime_proto::v1::agent_error::Code;
use lime_proto::v1::coordinator_message::Message as ToAgent;
use lime_proto::v1::{self, agent_message::Message, port_state::Place};
use support::{Coordinator, Session, in_namespace, ip};

fn local(id: u32, number: u32, device: &str) -> v1::PortState {
    v1::PortState {
        port_id: id,
        switch_id: 10,
        port_no: number,
        place: Some(Place::Local(v1::LocalDevice {
            name: device.into(),
            attach: v1::PortAttach::Tc.into(),
            driver: String::new(),
        })),
        ..Default::default()
    }
}

/// Network 1 with switch 10 and two local ports.
fn network(generation: u64) -> v1::Configure {
    v1::Configure {
        network: 1,
        generation,
        vni: 100,
        switches: vec![v1::SwitchState {
            switch_id: 10,
            instance: true,
            ..Default::default()
        }],
        ports: vec![local(101, 1, "port1"), local(102, 2, "port2")],
        ..Default::default()
    }
}

fn rule(id: u64, priority: u32, outputs: &[u32]) -> v1::AddRule {
    let output = |&port| v1::Action {
        action: Some(v1::action::Action::Output(v1::action::Output {
            port,
            max_len: if port == 0xffff_fffd { 0xffff } else { 0 },
        })),
    };
    v1::AddRule {
        rule_id: id,
        rule: Some(v1::Rule {
            priority,
            actions: outputs.iter().map(output).collect(),
            ..Default::default()
        }),
    }
}

fn stage(epoch: u32, add: Vec<v1::AddRule>) -> v1::Stage {
    v1::Stage {
        network: 1,
        epoch,
        switch_id: 10,
        add,
        ..Default::default()
    }
}

fn code(done: &v1::Done) -> Code {
    done.error.as_ref().map_or(Code::Unspecified, v1::AgentError::code)
}

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
        let clock = session
            .request(|request_id| {
                ToAgent::ReadClock(v1::ReadClock {
                    request_id,
                    network: 1,
                })
            })
            .await;
        assert_eq!(clock.result, Some(v1::done::Result::Clock(1)));
        agent.stop().await;
    });
}

#[test]
fn bad_devices_are_refused_and_nothing_changes() {
    in_namespace(async |world| {
        let mut coordinator = Coordinator::start().await;
        let agent = world.agent(&coordinator.address);
        let (mut session, _) = coordinator.accept().await;
        assert_eq!(code(&check_device(&mut session, "port1", 1500).await), Code::Unspecified);
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
        assert_eq!(code(&check_device(&mut session, "port1", 1500).await), Code::InUse);

        // One bad port refuses the whole; the old ports go on.
        let mut broken = network(2);
        broken.ports[1] = local(102, 2, "nothing0");
        broken.ports[0].no_flood = true;
        let done = session.configure(broken).await;
        assert_eq!(code(&done), Code::NotFound);
        let message = done.error.unwrap().message;
        assert!(message.contains("nothing0") && message.contains("port 102"), "{message}");
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
            (network.network, network.generation, network.clock, network.staged),
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
                Message::PortStatus(s) if s.port_id == 102 && s.up == up && s.missing == missing => {
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
