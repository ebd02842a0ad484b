//! Frames that arrive while rules are updated without a pause, on two instances.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lime_proto::v1::Consistency;
use lime_tests::rules::{FLOOD, RuleSpec};
use lime_tests::traffic::{Origin, UdpFlow, UdpSpec, reach};

use super::scene;
use crate::options::Options;
use crate::report::{Bar, Figure, Report};

/// Packets per second and direction.
const RATE: u32 = 3000;

/// Measures it.
pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let lab = scene::lab(2, 2).await?;
    let ends = [(1, "h1", "a"), (2, "h2", "b")];
    let mut tenant = scene::network(&lab, "loss", Consistency::Causal, 2, &ends).await?;
    tenant
        .rules(scene::SWITCH, vec![RuleSpec::new(1).output(FLOOD).add()])
        .await?;
    let [h1, h2] = [&lab.end_hosts()[0], &lab.end_hosts()[1]];
    let patience = Duration::from_secs(5);
    let reached = tokio::task::block_in_place(|| reach(h1, h2, h2.ipv4().into(), patience))?;
    ensure!(reached.yes(), "the end hosts do not reach each other");
    let flow = |port| UdpSpec {
        name: format!("udp {port}"),
        rate: RATE,
        payload: 200,
        port,
        ipv6: false,
    };
    let origin = Origin::now();
    let flows = [
        UdpFlow::start(&flow(5000), h1, h2, origin)?,
        UdpFlow::start(&flow(5001), h2, h1, origin)?,
    ];
    let (begun, time) = (Instant::now(), Duration::from_secs(options.pick(10, 2)));
    let mut updates = 0;
    while begun.elapsed() < time {
        // Of the very rules that the packets meet.
        let to = |from, to| RuleSpec::new(10 + updates % 2).in_port(from).output(to);
        let mut mods = vec![to(1, 2).add(), to(2, 1).add()];
        mods.extend([1, 2].map(|port| {
            let mut old = RuleSpec::new(10 + (updates + 1) % 2).in_port(port).delete();
            old.command = lime_proto::v1::flow_mod::Command::DeleteStrict.into();
            old
        }));
        tenant.rules(scene::SWITCH, mods).await?;
        updates += 1;
    }
    let reports = tokio::task::block_in_place(|| flows.map(UdpFlow::finish));
    let (mut sent, mut received) = (0, 0);
    for r in reports {
        let (r, _) = r?;
        sent += r.sent;
        received += r.received;
    }
    let name = format!("sent, under {updates} updates");
    let figure = Figure::new("consistency/received", received as f64, "frames");
    report.add(figure.beside(name, sent as f64).bar(Bar::AtLeast(1.0)));
    Ok(())
}
