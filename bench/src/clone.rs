//! How long it takes to clone a switch to a second host, beside installing its rules in bulk on the first.

use anyhow::Result;

use crate::api::Installation;
use crate::options::Options;
use crate::report::{Figure, Report};
use crate::ruleset;

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
            Ok((clone, install)) => {
                let reference = "installing the rules in bulk";
                let figure = Figure::paired(&name, &clone, "ms", reference, &install);
                report.add_or_fail(&name, figure);
            }
            Err(e) => report.failed(&name, &e),
        }
    }
}

/// Milliseconds of cloning, and of installing, round by round.
async fn one_size(
    installation: &mut Installation,
    rules: usize,
    options: &Options,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut times = (Vec::new(), Vec::new());
    for round in 0..options.pick(5, 1) {
        let switch = format!("s{rules}x{round}");
        installation.create_switch(&switch, "a").await?;
        let set = ruleset::rules(rules, MASKS);
        let installed = installation.add_rules(&switch, set).await?;
        let cloned = installation.add_instance(&switch, "b").await?;
        times.0.push(cloned * 1e3);
        times.1.push(installed * 1e3);
        installation.delete_switch(&switch).await?;
    }
    Ok(times)
}
