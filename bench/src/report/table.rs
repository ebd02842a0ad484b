//! The report as a table.

use std::fmt::Write;

use super::Report;
use super::figure::number;

const HEAD: [&str; 9] = [
    "figure",
    "value",
    "unit",
    "reference",
    "",
    "ratio",
    "±",
    "bar",
    "holds",
];
/// Columns with text; the others hold numbers and are aligned right.
const LEFT: [bool; 9] = [true, false, true, true, false, false, false, true, true];

/// The report for people.
pub fn render(report: &Report) -> String {
    let rows: Vec<[String; 9]> = report.figures.iter().map(row).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([HEAD[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut text = String::new();
    line(&mut text, &HEAD.map(str::to_owned), &widths);
    for row in &rows {
        line(&mut text, row, &widths);
    }
    let m = &report.machine;
    let memory = m.memory_bytes as f64 / f64::from(1 << 30);
    let _ = writeln!(
        text,
        "\n{}, {} cores, {memory:.1} GiB, Linux {}",
        m.cpu, m.cores, m.kernel
    );
    if m.was_busy() {
        let _ = writeln!(
            text,
            "The machine was busy before the run (load {:.1}): figures may be disturbed.",
            m.load_before
        );
    }
    if report.quick {
        text += "A quick run: these figures are rough.\n";
    }
    let missed = report
        .figures
        .iter()
        .filter(|f| f.holds() == Some(false))
        .count();
    if missed > 0 {
        let _ = writeln!(text, "{missed} bar(s) do not hold.");
    }
    for note in &report.notes {
        let _ = writeln!(text, "Note: {note}");
    }
    for failure in &report.errors {
        let _ = writeln!(text, "NOT MEASURED: {}: {}", failure.name, failure.reason);
    }
    text
}

fn row(figure: &super::Figure) -> [String; 9] {
    let reference = figure.reference();
    [
        figure.name.clone(),
        number(figure.value),
        figure.unit.to_owned(),
        reference.map_or(String::new(), |r| r.0.to_owned()),
        reference.map_or(String::new(), |r| number(r.1)),
        figure.ratio().map_or(String::new(), |r| format!("{r:.2}")),
        figure
            .uncertainty()
            .map_or(String::new(), |off| format!("{:.1} %", off * 100.0)),
        figure.bar_text().unwrap_or_default(),
        match figure.holds() {
            Some(true) => "yes".to_owned(),
            Some(false) => "NO".to_owned(),
            None => String::new(),
        },
    ]
}

fn line(text: &mut String, cells: &[String; 9], widths: &[usize; 9]) {
    let mut line = String::new();
    for ((cell, width), left) in cells.iter().zip(widths).zip(LEFT) {
        let _ = if left {
            write!(line, "{cell:<width$}  ")
        } else {
            write!(line, "{cell:>width$}  ")
        };
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
