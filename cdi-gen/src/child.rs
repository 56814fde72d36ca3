//! Messages between a program and its child processes that use NVML: one line of JSON each way.
//!
//! A request is the one argument of a hidden subcommand, a reply a line of standard output. Both programs,
//! `mig-cdi` and `mig-cdi-kubelet`, have the subcommands. A parent starts the image that it runs from itself, so both ends
//! are always of one version, even while a package is being upgraded.

use crate::{Error, Exit, Result};
use mig_cdi_sys::{ProgramOutput, own_image, run};
use serde::{Serialize, de::DeserializeOwned};
use std::{ffi::OsString, path::Path, time::Duration};

/// Name of the hidden subcommand that [`crate::refresh::run_child`] is the body of.
pub const REFRESH: &str = "refresh";
/// Name of the hidden subcommand that [`crate::listen::run_child`] is the body of.
pub const LISTEN: &str = "listen";

/// Output of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildOutput {
    /// Text for standard output.
    pub stdout: String,
    /// Exit code.
    pub exit: Exit,
}

impl ChildOutput {
    /// Nothing more, from a child that has printed its reply itself.
    #[must_use]
    pub fn printed(is_success: bool) -> ChildOutput {
        let exit = if is_success { Exit::Success } else { Exit::Failed };
        ChildOutput { stdout: String::new(), exit }
    }
}

/// Parses the request of the parent.
///
/// # Errors
/// When it has another form: a person has run the subcommand, which is for the program itself.
pub fn parse<T: DeserializeOwned>(message: &str) -> Result<T> {
    serde_json::from_str(message).map_err(|e| {
        Error::usage("read", "the request of the parent process")
            .because(e)
            .with_cure("run mig-cdi watch")
    })
}

/// Serialises a message as one line, with its line end. JSON escapes line ends within strings (RFC 8259, section 7).
#[must_use]
pub fn line<T: Serialize>(message: &T) -> String {
    serde_json::to_string(message).map_or_else(|_| String::new(), |text| text + "\n")
}

/// Arguments of a child: a hidden subcommand and its request.
///
/// # Errors
/// When the request has a path that is not UTF-8, which JSON cannot hold.
pub fn args<T: Serialize>(subcommand: &str, request: &T) -> Result<Vec<OsString>> {
    // An argument and no environment: the child gets none, so that nothing of the caller's can change what NVML loads.
    let request = serde_json::to_string(request).map_err(|e| {
        Error::usage("run", child_process(subcommand))
            .because(e)
            .with_cure("use paths that are valid utf-8 in flags and configuration")
    })?;
    Ok(vec![subcommand.into(), request.into()])
}

fn child_process(subcommand: &str) -> String {
    format!("the {subcommand} child process")
}

/// Runs a child of the same image, with an empty environment, and returns its reply.
///
/// # Errors
/// As [`call_program`].
pub fn call<Q: Serialize, R: DeserializeOwned>(
    subcommand: &str,
    request: &Q,
    limit: Duration,
) -> Result<R> {
    // Resolved for each call: an upgrade may have replaced the file since the last one.
    call_program(&own_image()?, subcommand, request, limit)
}

/// Runs a child of `program`, with an empty environment, and returns its reply.
///
/// # Errors
/// When it cannot be started, does not end within `limit`, or is killed before it has replied.
pub fn call_program<Q: Serialize, R: DeserializeOwned>(
    program: &Path,
    subcommand: &str,
    request: &Q,
    limit: Duration,
) -> Result<R> {
    // NVML runs in the child: one that hangs in the driver is killed at `limit`, one that crashes takes no parent with it.
    let ProgramOutput { code, stdout, .. } = run(program, &args(subcommand, request)?, limit)?;
    serde_json::from_str(&stdout).map_err(|_| {
        // No code: a signal ended it. The kernel logs the crash of a library and the out-of-memory killer.
        let cause = match code {
            Some(code) => format!("it ended with exit code {code} and no report"),
            None => "it was killed".to_owned(),
        };
        Error::failed("run", child_process(subcommand)).because(cause).with_cure("see dmesg")
    })
}
