//! Groups (OpenFlow 1.3.5, 5.6).

use lime_core::PortNo;
use lime_core::flow::{Action, Bucket, Field, Group, GroupType};
use switch_abi::{FRAG_ANY, FlowKey, VLAN_PRESENT, better, bucket_lot, flow_hash};

use crate::run::{By, Next, Pipeline, Ran, Run, Start, up_to_last_output};
use crate::{Counted, Drop, Fault, Headers, Installed, Port, World, parse};

/// Groups that watch groups are followed so far; there are no circles.
const MAX_WATCHED: usize = 16;

impl<'a> Run<'a, '_> {
    /// Gives the packet itself to a group. `rule`: the one that runs it, unless this is a copy.
    pub(crate) fn group(
        &mut self,
        port: &'a Port,
        frame: &mut Vec<u8>,
        number: u32,
        rule: Option<&'a Installed>,
    ) -> Next<'a> {
        let Some(group) = self.world.group(port.switch, number) else {
            self.outcome.drop(port.id, Drop::GroupChanged);
            return Next::End;
        };
        self.outcome
            .count(Counted::Group(port.switch, number), frame);
        let index = match group.kind {
            GroupType::All if group.buckets.len() > 1 => self.all(port, frame, group, rule),
            GroupType::All | GroupType::Indirect => (!group.buckets.is_empty()).then_some(0),
            GroupType::Select => self.world.select(port, group, frame),
            GroupType::FastFailover => group.buckets.iter().position(|bucket| {
                self.world.fault == Some(Fault::DeadBucketChosen)
                    || self.world.live(port, bucket, MAX_WATCHED)
            }),
        };
        match index {
            Some(index) => self.bucket(port, frame, (number, index), rule),
            None if group.kind == GroupType::All && !group.buckets.is_empty() => self.end(port),
            None => {
                self.outcome.drop(port.id, Drop::NoBucket);
                Next::End
            }
        }
    }

    /// All buckets, each on a copy of the packet as the group got it, but the one that can have the packet itself, if there is one: that changes
    /// it, and comes last.
    fn all(
        &mut self,
        port: &'a Port,
        frame: &mut Vec<u8>,
        group: &'a Group,
        rule: Option<&'a Installed>,
    ) -> Option<usize> {
        let itself = group.buckets.iter().rposition(|b| !only_outputs(b));
        for (index, bucket) in group.buckets.iter().enumerate() {
            if Some(index) == itself {
                continue;
            }
            if only_outputs(bucket) {
                // In the middle: a link is not crossed but gets a copy.
                self.actions(port, frame, (group.id, index), rule, false);
            } else if self.world.fault == Some(Fault::BucketsShareThePacket) {
                self.actions(port, frame, (group.id, index), rule, false);
            } else {
                self.done = true;
                self.copy_to_group(port, frame, Start::Bucket(group.id, index));
            }
        }
        itself
    }

    /// One bucket, with nothing left to do with the packet after it.
    pub(crate) fn bucket(
        &mut self,
        port: &'a Port,
        frame: &mut Vec<u8>,
        at: (u32, usize),
        rule: Option<&'a Installed>,
    ) -> Next<'a> {
        match self.actions(port, frame, at, rule, true) {
            Ran::Whole => self.end(port),
            Ran::Stopped => Next::End,
            Ran::Over(next) => next,
            Ran::Group(inner) => self.group(port, frame, inner, rule),
        }
    }

    /// A bucket's actions. They are no action set: they are run in their order.
    fn actions(
        &mut self,
        port: &'a Port,
        frame: &mut Vec<u8>,
        (number, index): (u32, usize),
        rule: Option<&'a Installed>,
        last: bool,
    ) -> Ran<'a> {
        let bucket = self
            .world
            .group(port.switch, number)
            .and_then(|group| group.buckets.get(index));
        let Some(bucket) = bucket else {
            self.outcome.drop(port.id, Drop::GroupChanged);
            return Ran::Stopped;
        };
        let counted = Counted::Bucket(port.switch, number, index);
        self.outcome.count(counted, frame);
        // Buckets match nothing, so that no table comes after them: what they would leave in the pipeline nobody sees.
        let actions = up_to_last_output(&bucket.actions);
        let by = By::Bucket(counted, rule);
        self.run(port, frame, &by, actions, &mut Pipeline::default(), last)
    }
}

/// The controller hears of what is output, too: while a switch has several instances, that must be in order.
fn tells_and_outputs(bucket: &Bucket) -> bool {
    let to = |controller: bool| {
        bucket.actions.iter().any(|a| match a {
            Action::Output { port, .. } => (*port == PortNo::CONTROLLER) == controller,
            _ => false,
        })
    };
    to(true) && to(false)
}

/// Whether a bucket leaves the packet as it is, for others.
fn only_outputs(bucket: &Bucket) -> bool {
    up_to_last_output(&bucket.actions)
        .iter()
        .all(|a| matches!(a, Action::Output { .. }))
        && !tells_and_outputs(bucket)
}

impl World {
    /// Whether a bucket is live: it watches nothing, or what it watches is.
    fn live(&self, port: &Port, bucket: &Bucket, depth: usize) -> bool {
        if bucket.watch_port.is_none() && bucket.watch_group.is_none() {
            return true;
        }
        let watched = bucket
            .watch_port
            .and_then(|number| self.numbered(port.switch, number));
        let group = bucket
            .watch_group
            .filter(|_| depth > 0)
            .and_then(|number| self.group(port.switch, number));
        watched.is_some_and(|p| !p.down && !p.dead)
            || group.is_some_and(|g| g.buckets.iter().any(|b| self.live(port, b, depth - 1)))
    }

    /// The bucket that gets the flow: that of the least lot for its weight, among the live ones with a weight.
    fn select(&self, port: &Port, group: &Group, frame: &[u8]) -> Option<usize> {
        let headers = parse(frame, self.fault)?;
        let flow = flow_hash(&flow(&headers, self.fault));
        let mut best: Option<(usize, u32, u32)> = None;
        for (index, bucket) in group.buckets.iter().enumerate() {
            if bucket.weight == 0 || !self.live(port, bucket, MAX_WATCHED) {
                continue;
            }
            let weight = match self.fault {
                Some(Fault::WeightsIgnored) => 1,
                _ => u32::from(bucket.weight),
            };
            let lot = bucket_lot(flow, index as u32);
            if best.is_none_or(|(_, other, of)| better(lot, weight, other, of)) {
                best = Some((index, lot, weight));
            }
        }
        best.map(|(index, ..)| index)
    }
}

/// What a flow is told by (docs/groups.md), where the kernel programs have it.
fn flow(headers: &Headers, fault: Option<Fault>) -> FlowKey {
    let get = |field| headers.get(field);
    let short = |field| (get(field) as u16).to_be_bytes();
    let mac = |field| {
        let [_, _, mac @ ..] = (get(field) as u64).to_be_bytes();
        mac
    };
    let address = |v4, v6, arp| match (headers.has(v6), headers.has(arp)) {
        (true, _) => get(v6).to_be_bytes(),
        (_, arps) => {
            let mut bytes = [0; 16];
            let field = if arps { arp } else { v4 };
            bytes[..4].copy_from_slice(&(get(field) as u32).to_be_bytes());
            bytes
        }
    };
    let first = |fields: [Field; 5]| fields.into_iter().find(|&f| headers.has(f));
    let l4 = |fields| first(fields).map_or([0; 2], short);
    let vlan = match headers.has(Field::VlanVid) {
        true => (get(Field::VlanPcp) as u16) << 13 | get(Field::VlanVid) as u16 | VLAN_PRESENT,
        false => 0,
    };
    use Field::*;
    let fragment = headers.fragment && fault != Some(Fault::FragmentsByPorts);
    FlowKey {
        eth_type: short(EthType),
        vlan_tci: vlan.to_be_bytes(),
        eth_dst: mac(EthDst),
        eth_src: mac(EthSrc),
        ip_proto: get(IpProto) as u8,
        ip_src: address(Ipv4Src, Ipv6Src, ArpSpa),
        ip_dst: address(Ipv4Dst, Ipv6Dst, ArpTpa),
        l4_src: l4([TcpSrc, UdpSrc, SctpSrc, Icmpv4Type, Icmpv6Type]),
        l4_dst: l4([TcpDst, UdpDst, SctpDst, Icmpv4Code, Icmpv6Code]),
        frag: if fragment { FRAG_ANY } else { 0 },
        ..FlowKey::default()
    }
}
