//! How long it takes to clone a switch to a second host, beside installing its rules in bulk on the first.

use anyhow::{Context, Result};

use crate::api::Installation;
use crate::options::Options;
use crate::report::{Figure, Report};
use crate::ruleset;
use crate::stats::median;

const SIZES: [usize; 3] = [1000, 10_000, 100_000];
/// Masks of the rules.
const MASKS: usize = 8;

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let mut installation = match Installation::build(2).await {
        Ok(installation) => installation,
        Err(e) => return report.failed("clone", &e),
    };
    for rules in SIZES {
        let name = format!("clone/{rules}-rules");
        match one_size(&mut installation, rules, options).await {
            Ok((clone, install)) => report.add(
                Figure::new(name, clone * 1e3, "ms")
                    .beside("installing the rules in bulk", install * 1e3),
            ),
            Err(e) => report.failed(&name, &e),
        }
    }
}

/// Seconds of cloning, and of installing.
async fn one_size(
    installation: &mut Installation,
    rules: usize,
    options: &Options,
) -> Result<(f64, f64)> {
    let mut seconds = (Vec::new(), Vec::new());
    for round in 0..options.pick(5, 1) {
        let switch = format!("s{rules}x{round}");
        installation.create_switch(&switch, "a").await?;
        let set = ruleset::rules(rules, MASKS);
        seconds.1.push(installation.add_rules(&switch, set).await?);
        seconds
            .0
            .push(installation.add_instance(&switch, "b").await?);
        installation.delete_switch(&switch).await?;
    }
    median(&seconds.0)
        .zip(median(&seconds.1))
        .context("no rounds")
}
