//! Exit codes of the programs. Scripts rely on the numbers: they never change.

use crate::ErrorKind;
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

/// Exit code of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// The operation is complete.
    Success = 0,
    /// An operation failed; the message names it. The doctor: it found an error.
    Failed = 1,
    /// The command line, the configuration or the node description is wrong.
    Usage = 2,
    /// Something on the node could not be confirmed and is omitted; the rest was done.
    Incomplete = 3,
    /// There is no driver, it does not answer, or a required file of it is missing.
    NoDriver = 4,
    /// Nothing was changed: it would have been unsafe or would have broken an engine, or a slice that has to be released is
    /// in use.
    Refused = 5,
    /// The files on disk are stale, or a GPU is not partitioned as desired.
    Stale = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Exit {
        match kind {
            ErrorKind::Failed => Exit::Failed,
            ErrorKind::Usage => Exit::Usage,
            ErrorKind::Incomplete => Exit::Incomplete,
            ErrorKind::NoDriver => Exit::NoDriver,
            ErrorKind::Refused => Exit::Refused,
            ErrorKind::Stale => Exit::Stale,
        }
    }
}
