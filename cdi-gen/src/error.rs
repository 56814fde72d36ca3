//! The error of this library: what failed, on what, why, and what cures it, each in a field of its own.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};

/// Result of an operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Kind of an [`Error`], by what a caller may do about it. Programs turn it into an [`Exit`](crate::Exit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// An operation failed.
    Failed,
    /// The command line, the configuration or the node description is wrong.
    Usage,
    /// Something on the node could not be confirmed, and a complete result was required.
    Incomplete,
    /// There is no driver, it does not answer, or a required file of it is missing.
    NoDriver,
    /// The operation would have been unsafe, or a slice that has to be released is in use. Nothing was changed.
    Refused,
    /// The node or its files are not as they should be.
    Stale,
}

/// An operation that failed.
///
/// It prints as one line: `operation subject: cause; cure`.
///
/// ```
/// use mig_cdi_gen::Error;
///
/// let error = Error::refused("write", "/etc/cdi/nvidia.com-mig.json")
///     .because("/etc/cdi is writable by group users")
///     .with_cure("run chmod g-w /etc/cdi");
/// assert_eq!(
///     error.to_string(),
///     "write /etc/cdi/nvidia.com-mig.json: /etc/cdi is writable by group users; run chmod g-w /etc/cdi"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Kind of the error.
    pub kind: ErrorKind,
    /// Operation that failed: `read`, `write`, `partition`. Never empty.
    pub operation: String,
    /// Object of the operation: a path, a device, a GPU, an engine, an option.
    pub subject: String,
    /// Cause of the failure.
    pub cause: String,
    /// Command or setting that cures it, when there is one. A flag in it is one of `mig-cdi-args`, which both programs share;
    /// a flag of one command occurs only where that command alone can fail.
    pub cure: Option<String>,
    /// Programs, containers, pods and leases that are in the way, each as the cause names it.
    // A boxed slice keeps the error below 128 bytes, which each `Result` on the way has to carry.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    pub holders: Box<[String]>,
}

impl Error {
    /// Makes an error that has no cause yet. `operation` is a verb with what belongs to it, `subject` its object.
    pub fn of(kind: ErrorKind, operation: impl Display, subject: impl Display) -> Error {
        Error {
            kind,
            operation: operation.to_string(),
            subject: subject.to_string(),
            cause: String::new(),
            cure: None,
            holders: Box::default(),
        }
    }

    /// Makes an [`ErrorKind::Failed`].
    pub fn failed(operation: impl Display, subject: impl Display) -> Error {
        Error::of(ErrorKind::Failed, operation, subject)
    }

    /// Makes an [`ErrorKind::Usage`].
    pub fn usage(operation: impl Display, subject: impl Display) -> Error {
        Error::of(ErrorKind::Usage, operation, subject)
    }

    /// Makes an [`ErrorKind::Refused`].
    pub fn refused(operation: impl Display, subject: impl Display) -> Error {
        Error::of(ErrorKind::Refused, operation, subject)
    }

    /// Makes an [`ErrorKind::NoDriver`].
    pub fn no_driver(operation: impl Display, subject: impl Display) -> Error {
        Error::of(ErrorKind::NoDriver, operation, subject)
    }

    /// Makes the error of a file that is an input, such as the settings or one that the command line names: wrong input, unless
    /// another user could read it.
    #[must_use]
    pub fn of_input(error: mig_cdi_sys::Error) -> Error {
        match error.is_denied() {
            true => error.into(),
            false => Error { kind: ErrorKind::Usage, ..error.into() },
        }
    }

    /// Sets the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Display) -> Error {
        self.cause = cause.to_string();
        self
    }

    /// Sets the cause to the message of an inner error up to its cure, and takes that over where there is one.
    #[must_use]
    pub fn because_of(self, without_cure: impl Display, cure: Option<impl Display>) -> Error {
        let error = match cure {
            Some(cure) => self.with_cure(cure),
            None => self,
        };
        error.because(without_cure)
    }

    /// Sets the cure: a command, a flag or a setting that the user can apply.
    #[must_use]
    pub fn with_cure(mut self, cure: impl Display) -> Error {
        self.cure = Some(cure.to_string());
        self
    }

    /// Sets the holders that are in the way.
    #[must_use]
    pub fn held_by(mut self, holders: Vec<String>) -> Error {
        self.holders = holders.into();
        self
    }

    /// Returns the message up to the cure: `operation subject: cause`.
    #[must_use]
    pub fn without_cure(&self) -> String {
        let Error { operation, subject, cause, .. } = self;
        format!("{operation} {subject}: {cause}")
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.without_cure())?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, "; {cure}"))
    }
}

impl std::error::Error for Error {}

/// Cure for a file that belongs to another user than root: `cure`, or what works in a user namespace, where the files of the
/// host belong to nobody and cannot be given to root.
#[must_use]
pub fn ownership_cure(cure: &str) -> String {
    match mig_cdi_sys::in_user_namespace() {
        true => "this is a user namespace, whose root does not own the host's files: generate on the host, or set \
                 capabilities to none"
            .to_owned(),
        false => cure.to_owned(),
    }
}

impl From<mig_cdi_sys::Error> for Error {
    fn from(error: mig_cdi_sys::Error) -> Error {
        let kind = match error {
            mig_cdi_sys::Error::UnsafeDir { .. } => ErrorKind::Refused,
            _ => ErrorKind::Failed,
        };
        let as_root = match mig_cdi_sys::is_root() && mig_cdi_sys::in_user_namespace() {
            true => "run it outside of this user namespace",
            false => "run it as root",
        };
        let cure = error.cure().or_else(|| error.is_denied().then_some(as_root));
        Error {
            cure: cure.map(str::to_owned),
            ..Error::of(kind, error.operation(), error.path().display()).because(error.cause())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_of_its_parts() {
        let error = Error::failed("read", "/a").because("not there");
        assert_eq!(error.to_string(), "read /a: not there");
        assert_eq!(error.with_cure("mend it").to_string(), "read /a: not there; mend it");
    }

    #[test]
    fn the_cure_of_an_inner_error_is_taken_over() {
        let inner = Error::failed("call", "f").because("lost");
        let outer = |inner: Error| {
            let outer = Error::failed("query", "gpu 0").with_cure("see dmesg");
            outer.because_of(inner.without_cure(), inner.cure)
        };
        assert_eq!(outer(inner.clone()).to_string(), "query gpu 0: call f: lost; see dmesg");
        assert_eq!(
            outer(inner.with_cure("reset it")),
            Error::failed("query", "gpu 0").because("call f: lost").with_cure("reset it")
        );
    }
}
