//! The OCI hook of mig-cdi: one pipeline behind several doors. request → resolve → verify → plan →
//! inject.
//!
//! [`request`] reads what a container asks for, and the policy what it may ask for. [`resolve`] finds
//! that in the spec that `mig-cdi generate` wrote. [`verify`] holds it against the driver as it is now.
//! [`plan`] is what the container gets; [`config`] writes it into an OCI configuration that no runtime
//! has read yet, [`inject`] into a container that is made already.

pub mod cli;
pub mod config;
mod doors;
pub mod driver;
mod failure;
mod inject;
pub mod json;
pub mod plan;
pub mod request;
pub mod resolve;
pub mod runtime_args;
pub mod spec;
pub mod state;
pub mod verify;

pub use failure::Failure;

use cli::Command;
use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

/// Finds the door, goes through it, and turns the result into an exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> ExitCode {
    let command = cli::parse(args);
    let hands_over = matches!(command, Ok(Command::Runtime { .. }));
    let asks = matches!(command, Ok(Command::Print(_)));
    let done = command.and_then(doors::run);
    if !hands_over && !asks {
        // crun reports a broken pipe when a hook has not read all of its input.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    }
    let done = done.and_then(|text| {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|e| Failure::refused(format!("write to standard output: {e}")))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Runtimes show a hook's standard error, or throw it away; nobody is left to tell.
            let _ = io::stderr().write_all(format!("error: {failure}\n").as_bytes());
            ExitCode::from(failure.exit)
        }
    }
}
