//! What consistency costs: packets per second with tags against without, updates per second and the set-up of a flow on several instances
//! against one, and frames lost by updates.

mod flows;
mod loss;
mod scene;
mod tags;
mod updates;

use anyhow::Result;

use crate::options::Options;
use crate::report::Report;

/// Measures the group.
pub async fn run(options: &Options, report: &mut Report) {
    let figures: [(&str, Result<()>); 4] = [
        ("consistency/tags", tags::run(options, report).await),
        ("consistency/updates", updates::run(options, report).await),
        ("consistency/flow-set-up", flows::run(options, report).await),
        ("consistency/received", loss::run(options, report).await),
    ];
    for (name, result) in figures {
        if let Err(e) = result {
            report.failed(name, &e);
        }
    }
}
