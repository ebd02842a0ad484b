//! `lime completions`

use std::io::{self, Write as _};

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::error::CliError;

#[derive(Debug, Args)]
pub struct Command {
    /// Which shell
    shell: Shell,
}

pub fn run(command: &Command) -> Result<(), CliError> {
    let mut script = Vec::new();
    let mut lime = crate::args::Args::command();
    clap_complete::generate(command.shell, &mut lime, "lime", &mut script);
    io::stdout()
        .write_all(&script)
        .map_err(|e| CliError::io("write to standard output", &e))
}
