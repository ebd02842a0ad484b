//! What goes to standard output: JSON, or lines and tables for people.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::error::CliError;

/// Standard output, in the form that the user wants.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

/// Warnings go to standard error, so that they are seen and not parsed.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn is_json(self) -> bool {
        self.json
    }

    /// The value as JSON on one line, or else the text.
    pub fn value(
        self,
        value: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<(), CliError> {
        if self.json {
            write_line(&to_json(value)?)
        } else {
            write_line(&text())
        }
    }

    /// The values as a JSON array, or else a table with one row for each.
    pub fn list<T: Serialize>(
        self,
        values: &[T],
        header: &[&str],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), CliError> {
        self.value(&values, || {
            table(header, &values.iter().map(row).collect::<Vec<_>>())
        })
    }

    /// A line for each value, JSON or text, all in one go.
    pub fn lines<T: Serialize>(
        self,
        values: &[T],
        text: impl Fn(&T) -> String,
    ) -> Result<(), CliError> {
        if values.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = values
            .iter()
            .map(|v| if self.json { to_json(v) } else { Ok(text(v)) })
            .collect::<Result<_, _>>()?;
        write_line(&lines.join("\n"))
    }

    /// That something is done: `{"done": "...", "name": "..."}`, or a sentence.
    pub fn done(self, what: &str, name: &str, text: String) -> Result<(), CliError> {
        #[derive(Serialize)]
        struct Done<'a> {
            done: &'a str,
            name: &'a str,
        }
        self.value(&Done { done: what, name }, || text)
    }
}

fn to_json(value: &impl Serialize) -> Result<String, CliError> {
    serde_json::to_string(value).map_err(|e| CliError::BadAnswer(e.to_string()))
}

/// Writes one line (or several) to standard output.
fn write_line(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => CliError::OutputClosed,
            _ => CliError::io("write to standard output", &e),
        })
}

/// Aligned columns, two blanks apart; columns of numbers are aligned to the right.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let columns = header.len();
    let cell = |row: &[String], i: usize| row.get(i).cloned().unwrap_or_default();
    let header: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    let lines: Vec<&[String]> = std::iter::once(header.as_slice())
        .chain(rows.iter().map(Vec::as_slice))
        .collect();
    let layout: Vec<(usize, bool)> = (0..columns)
        .map(|i| {
            let width = lines.iter().map(|r| cell(r, i).chars().count()).max();
            let numbers = !rows.is_empty()
                && rows.iter().all(|r| {
                    cell(r, i).starts_with(|c: char| c.is_ascii_digit())
                        && cell(r, i)
                            .chars()
                            .all(|c| c.is_ascii_digit() || matches!(c, '.' | ' ' | 'm' | 's'))
                });
            (width.unwrap_or(0), numbers)
        })
        .collect();
    let text: Vec<String> = lines
        .iter()
        .map(|row| {
            let mut line = String::new();
            for (i, &(width, right)) in layout.iter().enumerate() {
                let cell = cell(row, i);
                line += &if right {
                    format!("{cell:>width$}  ")
                } else {
                    format!("{cell:<width$}  ")
                };
            }
            line.trim_end().to_owned()
        })
        .collect();
    text.join("\n")
}

/// Yes or no, for tables.
pub fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

/// The text, or a dash where there is none.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["acme".to_owned(), "7".to_owned(), String::new()],
            vec!["b".to_owned(), "1200".to_owned(), "x y".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "RULES", "NOTE"], &rows),
            "NAME  RULES  NOTE\n\
             acme      7\n\
             b      1200  x y"
        );
        assert_eq!(table(&["NAME"], &[]), "NAME");
    }
}
