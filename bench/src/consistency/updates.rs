//! Updates per second that a controller gets answered, by the number of instances.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lime_proto::v1::{Consistency, UpdateRulesRequest};
use lime_tests::lab::Lab;
use lime_tests::rules::RuleSpec;
use tokio::task::JoinHandle;

use super::scene;
use crate::options::Options;
use crate::report::{Bar, Figure, Report};
use crate::turns::{Rounds, Turn, take_turns};

/// Updates that a controller has under way.
const WINDOW: usize = 64;
/// Instances, and the least part of the updates of one that there may be.
const SIZES: [(usize, &str, f64); 4] = [
    (1, "one", 0.0),
    (2, "two", 0.6),
    (4, "four", 0.5),
    (8, "eight", 0.4),
];
/// The strict network; it is measured beside the causal one with as many instances.
const STRICT: &str = "strict";
const CAUSAL: usize = 1;

/// Measures it.
pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let lab = scene::lab(8, 0).await?;
    for (instances, name, _) in SIZES {
        scene::network(&lab, name, Consistency::Causal, instances, &[]).await?;
    }
    scene::network(&lab, STRICT, Consistency::Strict, SIZES[CAUSAL].0, &[]).await?;
    let time = Duration::from_millis(options.pick(1000, 300));
    let names = SIZES.iter().map(|(_, name, _)| *name).chain([STRICT]);
    let mut turns: Vec<_> = names.map(|name| Turn::<_, 1>::new(name, name)).collect();
    let rounds = Rounds::new(options, 5, 9);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        take_turns(&mut turns, "one", rounds, |network| {
            Ok([runtime.block_on(per_second(&lab, network, time))?])
        });
    });
    let references = turns[0].values(0)?.to_vec();
    for ((instances, _, least), turn) in SIZES.iter().zip(&turns).skip(1) {
        let name = format!("consistency/updates/{instances}-instances");
        let figure = turn.values(0).and_then(|values| {
            Figure::paired(&name, values, "updates/s", "one instance", &references)
        });
        report.add_or_fail(&name, figure.map(|f| f.bar(Bar::AtLeast(*least))));
    }
    let causal = turns[CAUSAL].values(0)?.to_vec();
    let name = "consistency/updates/strict-2-instances";
    let strict = turns[SIZES.len()].values(0);
    let figure = strict.and_then(|v| Figure::paired(name, v, "updates/s", "causal", &causal));
    report.add_or_fail(name, figure);
    Ok(())
}

/// Answered updates per second, with [`WINDOW`] of them under way.
async fn per_second(lab: &Lab, network: &str, time: Duration) -> Result<f64> {
    let client = lab.client()?;
    let start = |n: u32| -> JoinHandle<Result<(), tonic::Status>> {
        let mut client = client.clone();
        let request = UpdateRulesRequest {
            network: network.to_owned(),
            switch: scene::SWITCH.to_owned(),
            // Always the same few rules, each in the place of the one before.
            mods: vec![RuleSpec::new(10).in_port(1 + n % 256).output(1).add()],
        };
        tokio::spawn(async move { client.update_rules(request).await.map(|_| ()) })
    };
    let mut number = 0;
    let mut under_way: VecDeque<_> = (0..WINDOW as u32).map(start).collect();
    let mut answered = 0u64;
    let begun = Instant::now();
    while let Some(update) = under_way.pop_front() {
        update.await.context("a task ended")??;
        if begun.elapsed() < time {
            answered += 1;
            number += 1;
            under_way.push_back(start(number));
        }
    }
    Ok(answered as f64 / time.as_secs_f64())
}
