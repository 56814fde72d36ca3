//! The command `mig-cdi`: its command line, one file per command, and its output.
//!
//! The libraries do the work: [`mig_cdi_gen`] discovers the node and writes specs, [`mig_cdi_partition`] partitions GPUs. Only this
//! crate has the command line, the console, the configuration of engines, the checks of `doctor`, and the pictures.
//!
//! # Flow of a command
//!
//! 1. `cli` parses the arguments; each command has a struct of its own, such as `ApplyArgs`.
//! 2. `stage_options` merges them with the settings into the options of a stage, such as
//!    [`ApplyOptions`](mig_cdi_partition::ApplyOptions). Flags take precedence.
//! 3. The command, a file of `commands`, calls the libraries with these options. Their messages go to the `Console`, which
//!    prints them on standard error at once.
//! 4. The command returns a `CommandOutput`: the text for standard output, and the [exit code](mig_cdi_gen::Exit).
//! 5. [`run`] prints the text. An error goes to the console instead, and its kind determines the exit code.
//!
//! ```
//! use std::process::ExitCode;
//!
//! // A simulated node needs no GPU, and an empty file means the default settings.
//! let arguments = ["mig-cdi", "list", "--node", "hgx-h100", "--config", "/dev/null"];
//! assert_eq!(mig_cdi::run(arguments.map(Into::into)), ExitCode::SUCCESS);
//! ```
//!
//! [`command`] describes the same command line to other tools: `cargo xtask man` makes the manual pages from it,
//! `cargo xtask completions` the completions of shells.
//!
//! ```
//! let command = mig_cdi::command();
//! let names: Vec<_> = command.get_subcommands().map(|subcommand| subcommand.get_name()).collect();
//! assert!(names.contains(&"generate") && names.contains(&"doctor"));
//! ```

mod cli;
mod command_output;
mod commands;
mod compare;
mod configure;
mod console;
mod doctor;
mod engine_files;
mod first_layout;
mod impossible_name;
mod output_file;
mod pending_modes;
mod picture;
mod planned_changes;
mod stage_options;
mod table;
mod unmatched_holders;

use clap::{CommandFactory, Parser};
use console::Console;
use mig_cdi_gen::{Error, Exit, MessageSink};
use mig_cdi_model::printable_lines;
use std::{ffi::OsString, io::Write, process::ExitCode};

/// Describes the command line of `mig-cdi`.
#[must_use]
pub fn command() -> clap::Command {
    cli::Cli::command()
}

/// Parses the command line, runs the command, prints its output, and turns the result into an exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // When this fails, standard error is closed, and there is no other place to report it.
            let _ = error.print();
            return exit.into();
        }
    };
    let console = Console::new(cli.verbose);
    // mig-cdi-hook runs this command and reads the error from the last line of standard output.
    let is_read_by_hook = matches!(cli.command, cli::AnyCommand::Public(cli::Command::Verify(_)));
    let exit = commands::run(&cli, &console).and_then(|output| {
        // Names of files and processes, and what other tools have written, end up here.
        match is_document(&cli.command) {
            true => print(&output.stdout)?,
            false => print(&printable_lines(&output.stdout))?,
        }
        Ok(output.exit)
    });
    exit.unwrap_or_else(|error| {
        console.error(&error.to_string());
        if is_read_by_hook {
            // Without a reader, the exit code still reports the failure.
            let _ = print(&mig_cdi_gen::child::line(&error));
        }
        error.kind.into()
    })
    .into()
}

/// True for a command whose output another program reads: a spec, layouts, a reply. It is printed byte for byte.
fn is_document(command: &cli::AnyCommand) -> bool {
    use cli::Command::{Export, Generate, Verify};
    match command {
        cli::AnyCommand::Refresh(_)
        | cli::AnyCommand::Listen(_)
        | cli::AnyCommand::DeviceAccess(_)
        | cli::AnyCommand::CgroupAccess(_) => true,
        cli::AnyCommand::Public(command) => matches!(command, Export(_) | Generate(_) | Verify(_)),
    }
}

/// Writes to standard output. A reader that has closed it early, such as `head`, is no error.
fn print(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Rust ignores SIGPIPE at the start of a program, so that a closed pipe is an error (EPIPE) and not a signal.
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::failed("write to", "standard output").because(e))
        }
        _ => Ok(()),
    }
}
