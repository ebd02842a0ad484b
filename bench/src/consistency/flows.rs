//! How long it takes to set up a flow by the controller, with an instance on each of two hosts against one.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lime_proto::v1::Consistency;
use lime_tests::firewall::{App, PROBE_PORT, Policy};
use lime_tests::lab::{EndHost, Lab};
use lime_tests::rules::{FLOOD, RuleSpec};
use lime_tests::traffic::Echo;

use super::scene;
use crate::options::Options;
use crate::report::{Bar, Figure, Report};
use crate::stats::median;
use crate::turns::{Rounds, Turn, take_turns};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A firewall between two end hosts on two hosts, with its application, and who answers.
struct Site<'l> {
    inside: &'l EndHost,
    outside: &'l EndHost,
    _app: App,
    _echo: Echo,
}

/// Measures it.
pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let lab = scene::lab(2, 4).await?;
    let one = site(&lab, "one", 1, 0).await?;
    let two = site(&lab, "two", 2, 2).await?;
    let flows = options.pick(20, 5);
    let mut turns = [Turn::<_, 1>::new("two", two), Turn::new("one", one)];
    let rounds = Rounds::new(options, 7, 21);
    let mut port = 20_000;
    tokio::task::block_in_place(|| {
        take_turns(&mut turns, "one", rounds, |site| {
            let times: Result<Vec<f64>> = (0..flows)
                .map(|_| {
                    port += 1;
                    set_up(site, port)
                })
                .collect();
            Ok([median(&times?).context("no flows")?])
        });
    });
    let [two, one] = &turns;
    let name = "consistency/flow-set-up";
    let figure = Figure::paired(name, two.values(0)?, "ms", "one instance", one.values(0)?);
    report.add_or_fail(name, figure.map(|f| f.bar(Bar::AtMost(1.5))));
    Ok(())
}

async fn site<'l>(lab: &'l Lab, network: &str, instances: usize, first: usize) -> Result<Site<'l>> {
    let (inside, outside) = (&lab.end_hosts()[first], &lab.end_hosts()[first + 1]);
    let ends = [(1, inside.name(), "a"), (2, outside.name(), "b")];
    let consistency = Consistency::Causal;
    let mut tenant = scene::network(lab, network, consistency, instances, &ends).await?;
    let policy = Policy {
        network: network.to_owned(),
        switch: scene::SWITCH.to_owned(),
        inside: HashMap::from([(inside.ipv4(), 1)]),
        outside: 2,
    };
    let mut rules = policy.base_rules();
    rules.push(RuleSpec::new(50).arp().output(FLOOD).add());
    tenant.rules(scene::SWITCH, rules).await?;
    let app = App::start(lab.controller()?, policy).await;
    let site = Site {
        inside,
        outside,
        _app: app.map_err(|e| anyhow::anyhow!("the firewall application: {e}"))?,
        _echo: Echo::start(outside, (outside.ipv4(), PROBE_PORT).into())?,
    };
    // Addresses are asked for once.
    tokio::task::block_in_place(|| set_up(&site, 19_999))?;
    Ok(site)
}

/// Milliseconds from the first packet of a flow to its answer: by the controller, which makes the rule for the answer first.
fn set_up(site: &Site<'_>, port: u16) -> Result<f64> {
    let from = SocketAddr::from((site.inside.ipv4(), port));
    let bound = site.inside.netns().run(|| UdpSocket::bind(from));
    let socket = bound.and_then(|s| s)?;
    socket.connect((site.outside.ipv4(), PROBE_PORT))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let start = Instant::now();
    socket.send(&port.to_be_bytes())?;
    socket.recv(&mut [0; 16]).context("no answer")?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
