//! What the demonstration found out, for scripts (JSON) and for people.

use std::fmt::Write as _;

use lime_proto::v1::migration::State;
use lime_proto::v1::{Migration, PortAttach};
use serde::Serialize;

use super::counters::Comparison;
use super::flows::Finished;
use super::{Options, Outcome};
use crate::firewall::{AppReport, ProberReport};
use crate::record::Verdict;
use crate::traffic::FlowReport;

/// What `--json` writes. Its keys are an interface.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// Every measured flow.
    pub flows: Vec<FlowReport>,
    /// Switch counters against end hosts' counts.
    pub counters: CounterReport,
    /// Answers that met the firewall without their rule.
    pub violations: u64,
    /// The migration.
    pub migration: MigrationReport,
    /// `auto`, `xdp` or `tc`.
    pub attach: String,
    /// Whether version tags and waiting were off.
    pub naive: bool,
    /// Ordinary switches could have shown all that end hosts and the application saw.
    pub explicable: bool,
    /// Nothing lost, doubled, reset, violated or miscounted, and the migration completed.
    pub ok: bool,
}

/// All counters as one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CounterReport {
    /// Packets counted by the end hosts, added up over all comparisons.
    pub expected: u64,
    /// Packets counted by the switches.
    pub reported: u64,
    /// How many times a counter was read lower than before.
    pub went_back: u64,
    /// How many times all of them were read.
    #[serde(skip)]
    pub reads: u64,
}

/// The migration.
#[derive(Clone, Debug, Serialize)]
pub struct MigrationReport {
    /// `completed`, `rolled-back` or `failed`.
    pub outcome: String,
    /// Its phases, in order.
    pub phases: Vec<PhaseReport>,
}

/// One phase.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// How long it took, milliseconds.
    pub ms: u64,
}

impl DemoReport {
    pub(super) fn new(
        options: &Options,
        flows: Vec<Finished>,
        counters: CounterReport,
        app: &AppReport,
        probes: &ProberReport,
        migration: &Migration,
        comparisons: &[Comparison],
    ) -> Self {
        let flows: Vec<_> = flows.into_iter().map(|f| f.report).collect();
        let ok = flows.iter().all(FlowReport::is_clean)
            && comparisons.iter().all(Comparison::exact)
            && counters.went_back == 0
            && counters.reads > 0
            && app.violations == 0
            && app.errors == 0
            && app.rules > 0
            && probes.answered == probes.started
            && migration.state() == State::Completed;
        let phases = migration.phases.iter().map(|p| PhaseReport {
            name: p.name.clone(),
            ms: p.duration_ms,
        });
        Self {
            flows,
            counters,
            violations: app.violations,
            migration: MigrationReport {
                outcome: outcome(migration).to_owned(),
                phases: phases.collect(),
            },
            attach: attach_name(options.attach).to_owned(),
            naive: options.naive,
            explicable: false,
            ok,
        }
    }

    /// The same with what became of the history.
    pub(super) fn judged(self, verdict: &Verdict) -> Self {
        let explicable = matches!(verdict, Verdict::Possible(_));
        Self {
            explicable,
            ok: self.ok && explicable,
            ..self
        }
    }
}

/// A migration's state in one word.
pub fn outcome(migration: &Migration) -> &'static str {
    match migration.state() {
        State::Completed => "completed",
        State::RolledBack => "rolled-back",
        State::Failed => "failed",
        State::Running | State::RollingBack | State::Unspecified => "unfinished",
    }
}

fn attach_name(attach: PortAttach) -> &'static str {
    match attach {
        PortAttach::Auto => "auto",
        PortAttach::Xdp => "xdp",
        PortAttach::Tc => "tc",
    }
}

/// The report for people.
pub(super) fn text(o: &Outcome) -> String {
    let mut t = String::new();
    // Writing to a string does not fail.
    let _ = write_flows(&mut t, &o.report.flows);
    let _ = write_counters(&mut t, o);
    let _ = write_application(&mut t, o);
    let _ = write_migration(&mut t, &o.migration);
    let _ = write_verdict(&mut t, &o.verdict);
    let verdict = match (o.report.ok, o.report.naive) {
        (true, _) => "OK: the end hosts and the application saw one network that never moved.",
        (false, true) => {
            "NOT OK, as was to be shown: without version tags the network does not behave as one switch does."
        }
        (false, false) => "NOT OK: see above.",
    };
    let _ = writeln!(t, "\n{verdict}");
    t
}

fn write_flows(t: &mut String, flows: &[FlowReport]) -> std::fmt::Result {
    writeln!(
        t,
        "\n{:<14} {:>8} {:>8} {:>6} {:>6} {:>9} {:>10} {:>6}",
        "flow", "sent", "received", "lost", "dupl.", "reordered", "gap (ms)", "resets"
    )?;
    for f in flows {
        writeln!(
            t,
            "{:<14} {:>8} {:>8} {:>6} {:>6} {:>9} {:>10.1} {:>6}",
            f.name,
            f.sent,
            f.received,
            f.lost,
            f.duplicated,
            f.reordered,
            f.longest_gap_ms,
            f.resets
        )?;
    }
    writeln!(
        t,
        "(packets; of TCP: verified records of 1,024 bytes. gap: longest time between two arrivals)"
    )
}

fn write_counters(t: &mut String, o: &Outcome) -> std::fmt::Result {
    writeln!(
        t,
        "\n{:<40} {:>12} {:>12}",
        "counters", "end hosts", "switches"
    )?;
    for c in &o.comparisons {
        let mark = if c.exact() { "" } else { "  differs" };
        writeln!(
            t,
            "{:<40} {:>12} {:>12}{mark}",
            c.what, c.expected, c.reported
        )?;
    }
    writeln!(
        t,
        "all counters were read {} times; {} went back",
        o.report.counters.reads, o.report.counters.went_back
    )
}

fn write_application(t: &mut String, o: &Outcome) -> std::fmt::Result {
    writeln!(
        t,
        "\nfirewall application: {} events, {} rules installed, {} packets released, {} violations, {} unexpected",
        o.app.packet_ins, o.app.rules, o.app.released, o.app.violations, o.app.unexpected
    )?;
    if !o.app.blocked.is_empty() {
        writeln!(t, "  blocked outside hosts: {:?}", o.app.blocked)?;
    }
    if let Some(error) = &o.app.first_error {
        writeln!(t, "  {} requests refused, the first: {error}", o.app.errors)?;
    }
    writeln!(
        t,
        "new flows through it: {} started, {} answered, slowest answer {:.1} ms",
        o.probes.started,
        o.probes.answered,
        o.probes.slowest.as_secs_f64() * 1e3
    )
}

fn write_verdict(t: &mut String, verdict: &Verdict) -> std::fmt::Result {
    match verdict {
        Verdict::Possible(s) => writeln!(
            t,
            "\nhistory: {} packets under {} versions of the rules, {} observations placed: ordinary switches could have shown all of it",
            s.packets, s.versions, s.placed
        ),
        Verdict::Impossible(contradiction) => writeln!(t, "\nhistory: {contradiction}"),
        Verdict::Unknown(why) => writeln!(t, "\nhistory: not judged: {why}"),
    }
}

fn write_migration(t: &mut String, m: &Migration) -> std::fmt::Result {
    writeln!(
        t,
        "\nmigration: {}, {} steps, {} rules cloned",
        outcome(m),
        m.steps,
        m.rules_cloned
    )?;
    for p in &m.phases {
        writeln!(
            t,
            "  {:<10} from {:>6} ms, took {:>6} ms",
            p.name, p.started_ms, p.duration_ms
        )?;
    }
    for p in &m.port_moves {
        writeln!(
            t,
            "  {:<16} moved in {:.2} ms",
            p.port,
            p.blackout_us as f64 / 1e3
        )?;
    }
    if !m.error.is_empty() {
        writeln!(t, "  {}", m.error)?;
    }
    Ok(())
}
