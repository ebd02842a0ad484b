//! Domain types to messages for agents, in parts that pass a stream's limits.

use lime_core::flow::Rule;
use lime_core::log::{Entry, EntryKind};
use lime_core::model::{HostConfig, PortConfig};
use lime_core::model::{PortPlace, RuleBook, Switch};
use lime_core::{Epoch, HostId, NetworkId, PortId};
use lime_proto::convert::part_to_wire;
use lime_proto::v1;

/// Rules in one message: under 4 MiB even if each has the most actions and fields.
const PART: usize = 2000;

/// A rule for an agent; a part of a group or a meter in its own form.
fn rule(rule: &Rule) -> (Option<v1::Rule>, Parts) {
    let parts = rule.part.as_deref().map(part_to_wire);
    (Some(rule.into()), parts.unwrap_or_default())
}

type Parts = (Option<v1::GroupPart>, Option<v1::MeterPart>);

/// Stage, in parts. Without `switch`, only the number.
pub(super) fn stage(
    network: NetworkId,
    entry: &Entry,
    switch: Option<&Switch>,
    replace: bool,
) -> Vec<v1::Stage> {
    let empty = |switch_id| v1::Stage {
        network: network.0,
        epoch: entry.epoch.0,
        switch_id,
        replace,
        ..Default::default()
    };
    let (Some(switch), EntryKind::Update { add, remove, .. }) = (switch, &entry.kind) else {
        return vec![empty(0)];
    };
    let mut parts = Vec::new();
    for adds in add.chunks(PART) {
        let add = adds.iter().map(|a| {
            let (rule, (part, meter)) = rule(&a.rule);
            v1::AddRule {
                rule_id: a.id.0,
                rule,
                part,
                meter,
            }
        });
        parts.push(v1::Stage {
            add: add.collect(),
            more: true,
            ..empty(switch.id.0)
        });
    }
    for removes in remove.chunks(PART * 10) {
        parts.push(v1::Stage {
            remove: removes.iter().map(|r| r.id.0).collect(),
            report: removes
                .iter()
                .filter(|r| r.is_reported())
                .map(|r| r.id.0)
                .collect(),
            more: true,
            ..empty(switch.id.0)
        });
    }
    match parts.last_mut() {
        Some(last) => last.more = false,
        None => parts.push(empty(switch.id.0)),
    }
    parts
}

/// A snapshot of a switch, in parts, and how many rules it has. Without a switch, only the number.
pub(super) fn snapshot(
    request_id: u64,
    network: NetworkId,
    at: Epoch,
    switch: Option<(&Switch, &RuleBook)>,
) -> (Vec<v1::Snapshot>, usize) {
    let part = |switch_id, rules| v1::Snapshot {
        request_id,
        network: network.0,
        switch_id,
        epoch: at.0,
        rules,
        more: true,
    };
    let mut parts = Vec::new();
    let mut count = 0;
    let mut switch_id = 0;
    if let Some((switch, book)) = switch {
        switch_id = switch.id.0;
        let rules = book.snapshot(switch.id, at);
        count = rules.len();
        for chunk in rules.chunks(PART) {
            let rules = chunk.iter().map(|r| {
                let (rule, (part, meter)) = rule(&r.rule);
                v1::SnapshotRule {
                    rule_id: r.id.0,
                    rule,
                    valid_from: r.from.0,
                    valid_to: 0,
                    part,
                    meter,
                }
            });
            parts.push(part(switch_id, rules.collect()));
        }
    }
    if parts.is_empty() {
        parts.push(part(switch_id, Vec::new()));
    }
    if let Some(last) = parts.last_mut() {
        last.more = false;
    }
    (parts, count)
}

/// The parts of Configure that come from the model.
pub(super) fn configure(
    config: HostConfig,
    address: impl Fn(HostId) -> String,
    down: impl Fn(PortId) -> bool,
) -> v1::Configure {
    let members = config.members.into_iter().map(|host| v1::Member {
        host_id: host.0,
        underlay_address: address(host),
    });
    let switches = config.switches.into_iter().map(|s| v1::SwitchState {
        switch_id: s.switch.0,
        instance: s.instance,
        join_epoch: s.join.0,
        retire_epoch: s.retire.0,
        relay_host: s.relay.map_or(0, |h| h.0),
        hold: s.hold,
        packet_ins: Some(s.packet_ins.into()),
    });
    v1::Configure {
        members: members.collect(),
        switches: switches.collect(),
        leased: config.leased,
        ports: config
            .ports
            .into_iter()
            .map(|p| {
                let dead = down(p.port);
                port(p, dead)
            })
            .collect(),
        ..Default::default()
    }
}

/// `down`: as its host reports. That host knows it itself.
fn port(port: PortConfig, down: bool) -> v1::PortState {
    use v1::port_state::Place;
    let place = match port.place {
        PortPlace::Local(device) => Place::Local(v1::LocalDevice {
            name: device.name,
            attach: v1::PortAttach::from(device.attach).into(),
            driver: device.driver,
        }),
        PortPlace::Remote(host) => Place::RemoteHost(host.0),
        PortPlace::Link(peer) => Place::Link(peer.0),
    };
    let dead = down && matches!(place, Place::RemoteHost(_));
    v1::PortState {
        port_id: port.port.0,
        switch_id: port.switch.0,
        port_no: port.no.0,
        place: Some(place),
        admin_down: false,
        no_flood: port.no_flood,
        mtu: port.mtu,
        dead,
    }
}
