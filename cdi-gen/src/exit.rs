//! Exit codes. The numbers are a promise to scripts.

use mig_cdi_sys::Error;
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// Everything asked for was done.
    Success = 0,
    /// An operation failed; the message names it. Of the doctor: it found an error.
    Failed = 1,
    /// The command line, the configuration or the node description is wrong.
    Usage = 2,
    /// Something on the node could not be established and was left out; the rest was done.
    Incomplete = 3,
    /// There is no driver to ask, it cannot be asked, or a required file of it is missing.
    NoDriver = 4,
    /// Writing would have been unsafe or would have broken an engine, and nothing was written; or a slice
    /// that has to go is in use, and nothing was changed.
    Refused = 5,
    /// The files on disk do not say what the node is now; or a GPU is not divided as it should be.
    Stale = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A run that ended early: one line for people, a code for scripts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The line: operation, path, cause, cure.
    pub message: String,
    /// Programs, containers, pods and leases that are in the way, each as the message names it.
    #[serde(default)]
    pub holders: Vec<String>,
}

impl Failure {
    /// A failure with its line.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), holders: Vec::new() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::UnsafeDir { .. } => Failure::new(Exit::Refused, error.to_string()),
            _ if error.is_denied() => {
                Failure::new(Exit::Failed, format!("{error}; run it as root"))
            }
            _ => Failure::new(Exit::Failed, error.to_string()),
        }
    }
}
