//! The reactive stateful firewall of the LIME paper ([`crate::firewall`]), whose inside and outside are on different hosts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{ScenarioError, Scene, Tally};
use crate::firewall::{App, PROBE_PORT, Policy, Prober};
use crate::rules::{FLOOD, RuleSpec};
use crate::traffic::Echo;

/// How often the application is asked what it has seen.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn start(scene: &mut Scene, tally: &Arc<Tally>) -> Result<(), ScenarioError> {
    scene
        .switch("s1", &[(1, "h1", "a"), (2, "h2", "b")])
        .await?;
    let (inside, outside) = (scene.end(1).ipv4(), scene.end(2).ipv4());
    let policy = Policy {
        network: scene.network().to_owned(),
        switch: "s1".to_owned(),
        inside: HashMap::from([(inside, 1)]),
        outside: 2,
    };
    let mut rules = policy.base_rules();
    rules.push(RuleSpec::new(50).arp().output(FLOOD).add());
    scene.rules("s1", rules).await?;
    let app = App::start(scene.lab().controller()?, policy).await?;
    let echo = Echo::start(scene.end(2), (outside, PROBE_PORT).into())?;
    let prober = Prober::start(scene.end(1), vec![outside], Duration::from_millis(4))?;
    let tally = tally.clone();
    let watch = tokio::spawn(async move {
        let mut rounds = 0;
        loop {
            let report = app.report();
            (rounds..report.released).for_each(|_| tally.round());
            rounds = report.released;
            if report.violations > 0 {
                tally.symptom(|| format!("{report:?}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    scene.keep(Ending(watch));
    // Its threads look whether they are to stop when they are dropped.
    scene.keep((echo, Stopping(Some(prober))));
    Ok(())
}

/// A task that ends when this is dropped.
struct Ending(tokio::task::JoinHandle<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A prober that starts no more flows when this is dropped.
struct Stopping(Option<Prober>);

impl Drop for Stopping {
    fn drop(&mut self) {
        if let Some(prober) = self.0.take() {
            prober.stop();
        }
    }
}
