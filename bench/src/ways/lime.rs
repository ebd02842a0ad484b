//! LIME joining stations: its data path on one host, or on two with the tunnel between them, with the rules of a plain switch.

use anyhow::{Context, Result, ensure};
use lime_core::flow::{Action, Field, FieldMatch, Match, Rule};
use lime_core::{Epoch, HostId, NetworkId, PortNo, RuleId, SwitchId};
use lime_tests::lab::UNDERLAY_DEVICE;
use switch_agent::datapath::{AttachMode, Datapath, Limits, PeerRoute, Place};

use crate::settings::{active, local_port, port};
use crate::site::{Site, Station, UNDERLAY_MTU, addresses, ifindex, inside};

const NETWORK: NetworkId = NetworkId(1);
const SWITCH: SwitchId = SwitchId(1);
const EPOCH: Epoch = Epoch(1);
const VNI: u32 = 4243;

fn limits() -> Limits {
    Limits {
        rules: 1024,
        ..Limits::default()
    }
}

/// Joins two stations of one host by a switch, whose programs are attached in `mode`. Works until the data path is dropped and its
/// pins are removed with the site.
pub fn on_one_host(
    site: &Site,
    host: &str,
    name: &str,
    stations: [&Station; 2],
    mode: AttachMode,
) -> Result<Datapath> {
    let mut datapath = site.datapath(host, name, &limits())?;
    datapath.set_network(NETWORK, VNI, false)?;
    datapath.set_switch(NETWORK, &active(SWITCH))?;
    for (station, number) in stations.into_iter().zip(1..) {
        datapath.set_port(NETWORK, &local_port(SWITCH, number, station))?;
    }
    switch_on(&mut datapath, stations)?;
    for station in stations {
        attach(site, host, &mut datapath, station, mode)?;
    }
    Ok(datapath)
}

/// Joins one station each of two hosts by a switch that has an instance on both.
pub fn on_two_hosts(site: &Site, ends: [(&str, &Station); 2], name: &str) -> Result<[Datapath; 2]> {
    let stations = ends.map(|(_, station)| station);
    let one = |here: usize| -> Result<Datapath> {
        let (host, station) = ends[here];
        let there = 1 - here;
        let mut datapath = site.datapath(host, name, &limits())?;
        let route = route(site, host, ends[there].0)?;
        let peer = HostId(there as u32 + 1);
        datapath.set_peer(peer, Some(&route))?;
        datapath.set_network(NETWORK, VNI, false)?;
        datapath.set_members(NETWORK, &[(peer, route.dst)])?;
        datapath.set_switch(NETWORK, &active(SWITCH))?;
        let numbers = [here, there].map(|i| i as u32 + 1);
        datapath.set_port(NETWORK, &local_port(SWITCH, numbers[0], station))?;
        datapath.set_port(NETWORK, &port(SWITCH, numbers[1], Place::Remote(peer)))?;
        switch_on(&mut datapath, stations)?;
        let ns = site.host(host)?.netns();
        let underlay = ifindex(ns, UNDERLAY_DEVICE)?;
        datapath.set_underlay_device(underlay, true)?;
        inside(ns, || datapath.attach_underlay(underlay, AttachMode::Tc))?
            .with_context(|| format!("cannot attach to {UNDERLAY_DEVICE} of host {host}"))?;
        attach(site, host, &mut datapath, station, AttachMode::Tc)?;
        Ok(datapath)
    };
    Ok([one(0)?, one(1)?])
}

fn attach(
    site: &Site,
    host: &str,
    datapath: &mut Datapath,
    station: &Station,
    mode: AttachMode,
) -> Result<()> {
    let ns = site.host(host)?.netns();
    let got = inside(ns, || datapath.attach_port(station.ifindex, mode))?
        .with_context(|| format!("cannot attach to {} of host {host}", station.device))?;
    ensure!(
        got == mode,
        "{} is attached as {got:?} instead of {mode:?}",
        station.device
    );
    Ok(())
}

/// Stages and activates the rules of a switch that knows where its stations (on ports 1, 2) are: unicast by destination, broadcasts
/// (ARP) to all.
fn switch_on(datapath: &mut Datapath, stations: [&Station; 2]) -> Result<()> {
    let to = |mac: [u8; 6], output: PortNo| -> Result<Rule> {
        let mac = mac
            .iter()
            .fold(0, |word: u128, byte| word << 8 | u128::from(*byte));
        let field = Field::EthDst;
        Ok(Rule {
            table: 0,
            priority: 10,
            cookie: 0,
            matching: Match::new([FieldMatch {
                field,
                value: mac,
                mask: field.full_mask(),
            }])?,
            actions: vec![Action::output(output)],
            goto_table: None,
            idle_timeout: 0,
            hard_timeout: 0,
            ..Rule::default()
        })
    };
    let rules = [
        (RuleId(1), to(stations[0].mac, PortNo(1))?),
        (RuleId(2), to(stations[1].mac, PortNo(2))?),
        (RuleId(3), to([0xff; 6], PortNo::FLOOD)?),
    ];
    datapath.stage(NETWORK, EPOCH, Some(SWITCH), &rules, &[])?;
    datapath.raise_clock(NETWORK, EPOCH)?;
    Ok(())
}

/// How `from` reaches `to` on the underlay, which is one segment.
fn route(site: &Site, from: &str, to: &str) -> Result<PeerRoute> {
    let (from, to) = (site.host(from)?.netns(), site.host(to)?.netns());
    let (src_mac, src) = addresses(from, UNDERLAY_DEVICE)?;
    let (dst_mac, dst) = addresses(to, UNDERLAY_DEVICE)?;
    Ok(PeerRoute {
        ifindex: ifindex(from, UNDERLAY_DEVICE)?,
        mtu: UNDERLAY_MTU,
        src_mac,
        dst_mac,
        src,
        dst,
    })
}
