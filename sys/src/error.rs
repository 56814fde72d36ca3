//! One error per operation, with the path it was about.

use nix::errno::Errno;
use std::path::{Path, PathBuf};

/// The result of an operation on the machine.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call said no.
    #[error("{op} {path}: {}", errno.desc().to_lowercase())]
    Call {
        /// What was tried: `open`, `read`, `rename` …
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// A file is larger than anything its writer produces.
    #[error("read {path}: larger than {limit} bytes, which its writer never produces")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// What is there is not what may be used.
    #[error("{op} {path}: {reason}")]
    Refused {
        /// What was to be done.
        op: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A directory is not fit to hold a spec.
    #[error("write into {path}: {reason}")]
    UnsafeDir {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

impl Error {
    pub(crate) fn call(op: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Error::Call { op, path: path.as_ref().to_owned(), errno }
    }

    pub(crate) fn refused(
        op: &'static str,
        path: impl AsRef<Path>,
        reason: impl Into<String>,
    ) -> Self {
        Error::Refused { op, path: path.as_ref().to_owned(), reason: reason.into() }
    }

    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        Error::call(op, path, Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    }

    /// True when the thing asked for is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::ENOENT | Errno::ENOTDIR, .. })
    }

    /// True when the kernel has not the call, or a filter of system calls says so.
    #[must_use]
    pub fn is_unknown_call(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::ENOSYS, .. })
    }

    /// True when it takes a privilege that the process has not.
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::EPERM, .. })
    }

    /// True when another user might be allowed it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::EACCES | Errno::EPERM, .. })
    }
}

/// `None` for a thing that is not there.
pub(crate) fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}
