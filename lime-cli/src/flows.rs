//! Flows from the command line, from files and from standard input.

use std::fs::File;
use std::io::{self, Read};

use lime_core::flow::ofctl::SyntaxError;

use crate::error::CliError;

/// Largest file of flows, bytes: as much as one update may carry.
const MAX_FILE: u64 = lime_proto::MAX_MESSAGE_BYTES as u64;

/// The usage error of a flow given as an argument: the flow, a mark under the place, and the reason.
pub fn bad_flow(text: &str, error: &SyntaxError) -> CliError {
    let mark = " ".repeat(error.column.saturating_sub(1));
    CliError::Usage(format!("{error}\n  {text}\n  {mark}^"))
}

/// One change per line; empty lines and what follows a `#` are skipped. Either all are good or none is taken: errors name the line.
pub fn read_lines<T>(
    path: &str,
    parse: impl Fn(&str) -> Result<T, CliError>,
) -> Result<Vec<T>, CliError> {
    let (name, text) = read_text(path)?;
    parse_lines(&name, &text, parse)
}

fn parse_lines<T>(
    name: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, CliError>,
) -> Result<Vec<T>, CliError> {
    let mut all = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        if line.trim().is_empty() {
            continue;
        }
        all.push(parse(line).map_err(|e| match e {
            CliError::Usage(text) => CliError::Usage(format!("{name}: line {}, {text}", i + 1)),
            other => other,
        })?);
    }
    Ok(all)
}

/// The text of a file, or of standard input for `-`.
fn read_text(path: &str) -> Result<(String, String), CliError> {
    let (name, reader): (_, Box<dyn Read>) = if path == "-" {
        ("standard input", Box::new(io::stdin().lock()))
    } else {
        let file = File::open(path).map_err(|e| CliError::io(format!("open {path}"), &e))?;
        (path, Box::new(file))
    };
    let mut text = String::new();
    // One byte more than allowed tells that there is more.
    reader
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(|e| CliError::io(format!("read {name}"), &e))?;
    if text.len() as u64 > MAX_FILE {
        return Err(CliError::Usage(format!(
            "{name} is longer than {} MiB: split it",
            MAX_FILE >> 20
        )));
    }
    Ok((name.to_owned(), text))
}

#[cfg(test)]
mod tests {
    use lime_core::flow::FlowMod;

    use super::*;

    fn parse_mod(text: &str) -> Result<FlowMod, CliError> {
        lime_core::flow::ofctl::parse_mod(text).map_err(|e| bad_flow(text, &e))
    }

    #[test]
    fn comments_and_empty_lines_are_skipped() {
        let text = "# all\n\n  delete\nactions=drop # for now\r\n";
        assert_eq!(parse_lines("f", text, parse_mod).unwrap().len(), 2);
    }

    #[test]
    fn errors_name_file_line_and_column() {
        let error = parse_lines("f", "actions=drop\nip,bad=1,actions=drop\n", parse_mod);
        assert_eq!(
            error.unwrap_err().to_string().lines().collect::<Vec<_>>(),
            [
                "f: line 2, column 4: unknown field \"bad\"; see ovs-fields(7) and ovs-actions(7) for the names",
                "  ip,bad=1,actions=drop",
                "     ^"
            ]
        );
    }
}
