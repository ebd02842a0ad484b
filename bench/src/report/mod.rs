//! What a run found: figures, what could not be measured, and the machine; as a table for people and as JSON for programs.

mod figure;
mod machine;
mod plot;
mod table;

use serde::Serialize;

pub use figure::{Bar, Figure};
use machine::Machine;
pub use plot::{Axis, Curve, Plot};

/// Something that could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The figure, or the group of figures.
    pub name: String,
    /// Why not: the whole chain of causes.
    pub reason: String,
}

/// All that a run found.
#[derive(Debug, Serialize)]
pub struct Report {
    figures: Vec<Figure>,
    errors: Vec<Failure>,
    /// What a reader must know of how the figures came about.
    notes: Vec<String>,
    plots: Vec<Plot>,
    quick: bool,
    machine: Machine,
}

impl Report {
    /// An empty one for this machine.
    pub fn new(quick: bool) -> Self {
        Self {
            figures: Vec::new(),
            errors: Vec::new(),
            notes: Vec::new(),
            plots: Vec::new(),
            quick,
            machine: Machine::this(),
        }
    }

    /// Adds a figure, and shows progress.
    pub fn add(&mut self, figure: Figure) {
        eprintln!("  {}", figure.line());
        self.figures.push(figure);
    }

    /// Adds what could not be measured, and shows it.
    pub fn failed(&mut self, name: &str, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        eprintln!("  {name}: NOT MEASURED: {reason}");
        self.errors.push(Failure {
            name: name.to_owned(),
            reason,
        });
    }

    /// Adds a figure that may not have come about.
    pub fn add_or_fail(&mut self, name: &str, figure: anyhow::Result<Figure>) {
        match figure {
            Ok(figure) => self.add(figure),
            Err(e) => self.failed(name, &e),
        }
    }

    /// Adds a remark, once.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            eprintln!("  {text}");
            self.notes.push(text);
        }
    }

    /// Adds curves, which the figures alone do not show.
    pub fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    /// Draws everything, one SVG file each, in `directory`.
    pub fn draw(&self, directory: &std::path::Path) -> anyhow::Result<()> {
        plot::draw(directory, &self.figures, &self.plots)
    }

    /// Whether everything could be measured. Bars play no part in it.
    pub fn complete(&self) -> bool {
        self.errors.is_empty() && !self.figures.is_empty()
    }

    /// For people.
    pub fn table(&self) -> String {
        table::render(self)
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new(true);
        report.add(
            Figure::new("a/first", 30.0, "ns")
                .beside("hash", 20.0)
                .bar(Bar::AtMost(1.0)),
        );
        report.add(Figure::new("b", 9.5, "Gb/s"));
        report
    }

    #[test]
    fn json_has_every_field_of_every_figure() {
        let json: serde_json::Value = serde_json::from_str(&report().json().unwrap()).unwrap();
        let keys = [
            "name",
            "value",
            "unit",
            "reference_name",
            "reference_value",
            "ratio",
            "bar",
            "holds",
        ];
        for figure in json["figures"].as_array().unwrap() {
            for key in keys {
                assert!(figure.get(key).is_some(), "{key} in {figure}");
            }
        }
        assert_eq!(json["figures"][0]["ratio"], 1.5);
        assert_eq!(json["figures"][0]["holds"], false);
        assert_eq!(json["figures"][0]["bar_kind"], "at-most");
        assert!(json["figures"][1]["bar"].is_null() && json["figures"][1]["holds"].is_null());
        for key in ["cpu", "cores", "kernel", "memory_bytes"] {
            assert!(json["machine"].get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_bar_that_does_not_hold_is_shown_and_is_no_failure() {
        let report = report();
        assert!(report.complete());
        assert!(report.table().contains("NO"), "{}", report.table());
    }

    #[test]
    fn what_was_not_measured_is_a_failure_and_is_shown() {
        let mut report = report();
        report.failed(
            "c",
            &anyhow::anyhow!("no such device").context("cannot measure"),
        );
        assert!(!report.complete());
        assert!(report.table().contains("cannot measure: no such device"));
        assert!(report.json().unwrap().contains("no such device"));
        assert!(
            !Report::new(false).complete(),
            "nothing measured is no success"
        );
    }
}
