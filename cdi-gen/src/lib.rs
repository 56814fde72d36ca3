//! The command `mig-cdi`. Data flows one way: discover → topology → spec → write.
//!
//! [`discover`] is the only stage that asks the machine, [`spec`] is pure and knows no path,
//! [`write`] is the only one that changes anything. The command `nodes` changes device nodes of the host,
//! and `configure` changes files of engines.

mod cli;
mod commands;
mod configure;
mod console;
mod containers;
pub mod discover;
mod doctor;
mod engine_files;
mod engines;
mod exit;
pub mod inventory;
mod partition;
mod picture;
pub mod spec;
pub mod spec_file;
mod table;
mod watch;
pub mod write;

pub use exit::{Exit, Failure};
pub use watch::{Look, Xid};

use clap::{CommandFactory, Parser, parser::ValueSource};
use console::Console;
use std::{ffi::OsString, io::Write, process::ExitCode};

/// The command line that [`run`] takes: of it the manual pages and the completions are made.
#[must_use]
pub fn command() -> clap::Command {
    cli::Cli::command()
}

/// Parses the command line, does what it asks and turns the result into an exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    go(args.into_iter().collect(), &mut |_| {})
}

/// Does what the command line asks as [`run`] does. When that is `watch`, each look at the node is told as
/// well. What watch runs is the calling program, with the words from `args[1]` on: it has to hand a command
/// line that begins with a command to [`run`].
pub fn follow(args: Vec<OsString>, looked: &mut dyn FnMut(Look)) -> ExitCode {
    go(args, looked)
}

/// The options of a command line that say where things are on the node, as every command that divides GPUs
/// takes them too.
///
/// # Errors
/// When the command line is wrong: what is wrong with it.
pub fn node_words(args: &[OsString]) -> Result<Vec<OsString>, String> {
    let command = command();
    let matches = command.clone().try_get_matches_from(args).map_err(|e| e.to_string())?;
    let Some((_, matches)) = matches.subcommand() else { return Ok(Vec::new()) };
    let shared = command
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .map(|arg| (arg.get_id().to_string(), arg.get_long().unwrap_or_default().to_owned()));
    let shared = shared.chain([("state_dir".to_owned(), "state-dir".to_owned())]);
    let mut words = Vec::new();
    for (id, long) in shared.filter(|(id, _)| id != "verbose") {
        let is_given = matches.value_source(&id) == Some(ValueSource::CommandLine);
        let values = is_given.then(|| matches.get_raw(&id)).flatten().into_iter().flatten();
        for value in values {
            let mut word = OsString::from(format!("--{long}="));
            word.push(value);
            words.push(word);
        }
    }
    Ok(words)
}

fn go(args: Vec<OsString>, looked: &mut dyn FnMut(Look)) -> ExitCode {
    let words = args.get(1..).unwrap_or_default().to_vec();
    let cli = match cli::Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            // Nothing is left to tell when the terminal is gone.
            let _ = error.print();
            return exit.into();
        }
    };
    let console = Console::new(cli.verbose);
    let exit = commands::run(&cli, &words, &console, looked).and_then(|done| {
        print(&done.stdout)?;
        Ok(done.exit)
    });
    exit.unwrap_or_else(|failure| {
        console.error(&failure.message);
        failure.exit
    })
    .into()
}

/// Writes to standard output. A reader that has gone, as `head` does, is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
