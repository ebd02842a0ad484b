//! Packets per second across two hosts, with tags and without.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lime_proto::v1::Consistency;
use lime_tests::lab::{EndHost, Lab};
use lime_tests::rules::{FLOOD, RuleSpec};
use lime_tests::traffic::reach;

use super::scene;
use crate::options::Options;
use crate::report::{Bar, Figure, Report};
use crate::turns::{Rounds, Turn, take_turns};

const PORT: u16 = 5000;
/// Packets between two looks at the clock.
const BURST: usize = 64;
/// How long a path may take to come up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures it.
pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let lab = scene::lab(2, 4).await?;
    for (name, consistency, ends) in [
        (
            "tagged",
            Consistency::Causal,
            [(1, "h1", "a"), (2, "h2", "b")],
        ),
        (
            "untagged",
            Consistency::None,
            [(1, "h3", "a"), (2, "h4", "b")],
        ),
    ] {
        let mut tenant = scene::network(&lab, name, consistency, 2, &ends).await?;
        let rules = vec![
            RuleSpec::new(50).arp().output(FLOOD).add(),
            RuleSpec::new(10).in_port(1).ipv4().output(2).add(),
            RuleSpec::new(10).in_port(2).ipv4().output(1).add(),
        ];
        tenant.rules(scene::SWITCH, rules).await?;
    }
    let time = Duration::from_millis(options.pick(400, 100));
    let mut turns = [
        Turn::<_, 1>::new("tagged", sockets(&lab, 0)?),
        Turn::new("untagged", sockets(&lab, 2)?),
    ];
    let rounds = Rounds::new(options, 11, 41);
    tokio::task::block_in_place(|| {
        take_turns(&mut turns, "untagged", rounds, |(from, to)| {
            Ok([per_second(from, to, time)?])
        });
    });
    let [tagged, untagged] = &turns;
    let (values, references) = (tagged.values(0)?, untagged.values(0)?);
    let name = "consistency/tags";
    let figure = Figure::paired(name, values, "packets/s", "without tags", references);
    report.add_or_fail(name, figure.map(|f| f.bar(Bar::AtLeast(0.97))));
    Ok(())
}

/// A connected pair of sockets in two end hosts that reach each other.
fn sockets(lab: &Lab, first: usize) -> Result<(UdpSocket, UdpSocket)> {
    let [from, to] = [&lab.end_hosts()[first], &lab.end_hosts()[first + 1]];
    let reached = tokio::task::block_in_place(|| reach(from, to, to.ipv4().into(), PATIENCE))?;
    ensure!(
        reached.yes(),
        "{} does not reach {}",
        from.name(),
        to.name()
    );
    let bind = |host: &EndHost| -> Result<UdpSocket> {
        let at = (host.ipv4(), PORT);
        Ok(host.netns().run(|| UdpSocket::bind(at)).and_then(|s| s)?)
    };
    let (sender, receiver) = (bind(from)?, bind(to)?);
    sender.connect((to.ipv4(), PORT))?;
    receiver.set_nonblocking(true)?;
    Ok((sender, receiver))
}

/// Packets that arrive, by one thread that sends and takes them in turns.
fn per_second(from: &UdpSocket, to: &UdpSocket, time: Duration) -> Result<f64> {
    let (packet, mut buffer) = ([7; 64], [0; 128]);
    let mut arrived = 0u64;
    let start = Instant::now();
    while start.elapsed() < time {
        for _ in 0..BURST {
            from.send(&packet).context("cannot send")?;
        }
        while to.recv(&mut buffer).is_ok() {
            arrived += 1;
        }
    }
    ensure!(arrived > 0, "nothing arrives");
    Ok(arrived as f64 / start.elapsed().as_secs_f64())
}
