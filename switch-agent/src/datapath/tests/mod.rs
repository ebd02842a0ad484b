//! Tests of the data path in ordinary memory, against a table search as the kernel programs do it and a naive one.

mod adoption;
mod batch;
mod generation;
mod lookup;
mod ports;
mod random;
mod relay;
mod staging;

use lime_core::flow::{Action, Field, FieldMatch, Match, Rule};
use lime_core::model::PacketIns;
use lime_core::{Epoch, NetworkId, PortId, PortNo, RuleId, SwitchId};
use switch_abi::FlowKey;

use super::{Datapath, Limits, Place, PortSettings, SwitchSettings};

pub(super) const NET: NetworkId = NetworkId(7);
pub(super) const SWITCH: SwitchId = SwitchId(9);
pub(super) const OTHER: SwitchId = SwitchId(10);

pub(super) fn limits() -> Limits {
    Limits {
        rules: 4000,
        ports: 300,
        networks: 4,
        switches: 4,
        peers: 4,
        event_ring_bytes: 4096,
        flow_cache: 64,
    }
}

/// A data path with one network and an instance of [`SWITCH`].
pub(super) fn datapath() -> Datapath {
    let mut dp = Datapath::in_memory(&limits()).unwrap();
    dp.set_network(NET, 100, false).unwrap();
    dp.set_switch(NET, &instance(SWITCH)).unwrap();
    dp
}

pub(super) fn instance(id: SwitchId) -> SwitchSettings {
    SwitchSettings {
        id,
        instance: true,
        join_epoch: Epoch::ZERO,
        retire_epoch: Epoch::ZERO,
        relay_host: None,
        hold: false,
        packet_ins: PacketIns::default(),
    }
}

pub(super) fn port(id: u32, switch: SwitchId, place: Place) -> PortSettings {
    PortSettings {
        id: PortId(id),
        switch,
        port_no: PortNo(id),
        place,
        down: false,
        dead: false,
        no_flood: false,
        mtu: 1500,
    }
}

pub(super) fn field(field: Field, value: u128) -> FieldMatch {
    FieldMatch {
        field,
        value,
        mask: field.full_mask(),
    }
}

pub(super) fn rule(priority: u16, fields: Vec<FieldMatch>, to: u32) -> Rule {
    Rule {
        table: 0,
        priority,
        cookie: 5,
        matching: Match::new(fields).unwrap(),
        actions: vec![Action::output(PortNo(to))],
        goto_table: None,
        idle_timeout: 0,
        hard_timeout: 0,
        ..Rule::default()
    }
}

/// A rule on one destination address.
pub(super) fn to_mac(mac: u128, to: u32) -> Rule {
    rule(10, vec![field(Field::EthDst, mac)], to)
}

/// One rule of a mask that no other of these has, and its id.
pub(super) fn masked(n: u32) -> (RuleId, Rule) {
    let mask = FieldMatch {
        field: Field::EthDst,
        value: 0,
        mask: u128::from(n) + 1,
    };
    (id(u64::from(n) + 1), rule(1, vec![mask], 1))
}

pub(super) fn id(n: u64) -> RuleId {
    RuleId(n)
}

/// Stages rules to add and to remove on [`SWITCH`], as the next epoch must.
pub(super) fn stage(dp: &mut Datapath, epoch: u32, add: &[(u64, Rule)], remove: &[u64]) {
    let add: Vec<_> = add.iter().map(|(n, rule)| (id(*n), rule.clone())).collect();
    let remove: Vec<_> = remove.iter().copied().map(id).collect();
    dp.stage(NET, Epoch(epoch), Some(SWITCH), &add, &remove)
        .unwrap();
}

/// The key of a packet to this address.
pub(super) fn key(mac: u8) -> FlowKey {
    FlowKey {
        eth_dst: [0, 0, 0, 0, 0, mac],
        ..FlowKey::default()
    }
}

/// The rule that such a packet meets.
pub(super) fn found(dp: &Datapath, mac: u8, clock: u32) -> Option<u64> {
    dp.lookup(SWITCH, 0, &key(mac), Epoch(clock))
        .map(|(id, _)| id.0)
}

/// What is free of every kind.
pub(super) fn free(dp: &mut Datapath) -> impl PartialEq + std::fmt::Debug + use<> {
    dp.store.reap().unwrap();
    let pools = &dp.store.pools;
    let slots = [
        &pools.networks,
        &pools.switches,
        &pools.ports,
        &pools.rules,
        &pools.tuple_ids,
    ];
    let runs = (pools.runs.runs(), pools.runs.entries());
    (slots.map(|pool| pool.available()), runs)
}
