//! Descriptions for tests: network 1 with switch 10, whose ports 1 and 2 (ids 101 and 102) are `port1` and `port2`.

use lime_proto::v1::{self, agent_error::Code, port_state::Place};

pub fn local(id: u32, number: u32, device: &str) -> v1::PortState {
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
pub fn network(generation: u64) -> v1::Configure {
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

/// To a port, ordinary or reserved.
pub fn output(port: u32) -> v1::Action {
    v1::Action {
        action: Some(v1::action::Action::Output(v1::action::Output {
            port,
            max_len: if port == 0xffff_fffd { 0xffff } else { 0 },
        })),
    }
}

/// A rule of table 0 that matches everything.
pub fn rule(id: u64, priority: u32, outputs: &[u32]) -> v1::AddRule {
    v1::AddRule {
        rule_id: id,
        rule: Some(v1::Rule {
            priority,
            actions: outputs.iter().map(|&port| output(port)).collect(),
            ..Default::default()
        }),
        part: None,
        meter: None,
    }
}

pub fn stage(epoch: u32, add: Vec<v1::AddRule>) -> v1::Stage {
    v1::Stage {
        network: 1,
        epoch,
        switch_id: 10,
        add,
        ..Default::default()
    }
}

pub fn code(done: &v1::Done) -> Code {
    done.error
        .as_ref()
        .map_or(Code::Unspecified, v1::AgentError::code)
}
