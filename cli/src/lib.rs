//! The command `mig-cdi`: its command line, one file per command, and what people see.
//!
//! The work is done by [`mig_cdi_gen`] (discovery and specs) and [`mig_cdi_partition`] (partitioning). Only this crate knows the
//! command line, the console, the configuration of engines, the doctor's checks and the pictures.

mod cli;
mod commands;
mod configure;
mod console;
mod doctor;
mod engine_files;
mod picture;
mod table;

use clap::{CommandFactory, Parser};
use console::Console;
use mig_cdi_gen::{Error, Exit, MessageSink};
use std::{ffi::OsString, io::Write, process::ExitCode};

/// The command line of `mig-cdi`, from which the manual pages and the completions are made.
#[must_use]
pub fn command() -> clap::Command {
    cli::Cli::command()
}

/// Parses the command line, runs the command, and turns the result into an exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // The terminal is gone when this fails, and with it the reader.
            let _ = error.print();
            return exit.into();
        }
    };
    let console = Console::new(cli.verbose);
    let exit = commands::run(&cli, &console).and_then(|done| {
        print(&done.stdout)?;
        Ok(done.exit)
    });
    exit.unwrap_or_else(|error| {
        console.error(&error.to_string());
        error.kind.into()
    })
    .into()
}

/// Writes to standard output. A reader that has gone, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::failed("write to", "standard output").because(e))
        }
        _ => Ok(()),
    }
}
