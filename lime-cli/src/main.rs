//! The `lime` command: operators' and tenants' way to a coordinator.
//!
//! Every command is one room under `commands`: its arguments, and what it asks and prints. What they share is here: the connection
//! (`client`), errors and exit codes (`error`), output (`output`, `view`), flows from arguments and files (`flows`) and the
//! display of migrations (`progress`).

mod args;
mod client;
mod commands;
mod error;
mod flows;
mod names;
mod output;
mod packet;
mod progress;
mod view;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Args;
use crate::error::CliError;

fn main() -> ExitCode {
    // Usage errors end here, with exit code 2.
    let args = Args::parse();
    let json = args.global.json;
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(json);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(args: Args) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::io("start the asynchronous runtime", &e))?;
    runtime.block_on(commands::run(args))
}
