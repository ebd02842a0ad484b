//! A running migration on the terminal: a line per phase and a bar over all steps. Nothing where standard error is no terminal.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::view::{Migration, millis};

const TICK: Duration = Duration::from_millis(100);

/// The display; gone from the screen when dropped, but for the lines of phases that are over.
pub struct Display {
    all: MultiProgress,
    steps: ProgressBar,
    phases: BTreeMap<String, ProgressBar>,
    visible: bool,
}

impl Display {
    /// Shown only if wanted, and if somebody sees it.
    pub fn new(wanted: bool, title: &str) -> Self {
        let visible = wanted && stderr().is_terminal();
        let all = MultiProgress::with_draw_target(if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let steps = all.add(ProgressBar::new(0));
        steps.set_style(style("  [{bar:30}] {pos}/{len} {wide_msg}").progress_chars("=> "));
        if visible {
            steps.enable_steady_tick(TICK);
            // A terminal that does not take the title will not take the rest either.
            let _ = all.println(title);
        }
        Self {
            all,
            steps,
            phases: BTreeMap::new(),
            visible,
        }
    }

    /// Shows how the migration stands now.
    pub fn update(&mut self, migration: &Migration) {
        for phase in &migration.phases {
            let bar = self.phases.entry(phase.name.clone()).or_insert_with(|| {
                let bar = self
                    .all
                    .insert_before(&self.steps, ProgressBar::no_length());
                bar.set_style(style("{spinner} {msg} {elapsed}"));
                bar.set_message(phase.name.clone());
                if self.visible {
                    bar.enable_steady_tick(TICK);
                }
                bar
            });
            if !phase.done {
                // Those behind it have not begun.
                break;
            }
            if !bar.is_finished() {
                bar.set_style(style("{msg}"));
                bar.finish_with_message(format!("✓ {} {}", phase.name, millis(phase.duration_ms)));
            }
        }
        self.steps.set_length(migration.steps.into());
        self.steps.set_position(migration.steps_done.into());
        self.say(migration.step.clone());
    }

    /// Says what is going on.
    pub fn say(&self, text: String) {
        self.steps.set_message(text);
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.steps.finish_and_clear();
        for bar in self.phases.values().filter(|b| !b.is_finished()) {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; the default would do as well.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
