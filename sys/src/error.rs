//! One error per operation, with its subject, its cause and, where there is one, its cure.

use nix::errno::Errno;
use std::path::{Path, PathBuf};

/// The result of an operation on the machine.
pub type Result<T> = std::result::Result<T, Error>;

/// A failed operation. Printed, it is one line: `operation path: cause; cure`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{op} {path}: {}", describe(*errno))]
    Call {
        /// The operation: `open`, `read`, `rename to` …
        op: &'static str,
        /// Path of its subject; for a process or a namespace, a phrase that names it.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A file is larger than anything its writer produces.
    #[error("read {path}: {}", too_large(*limit))]
    TooLarge {
        /// Path of the file.
        path: PathBuf,
        /// The bound, in bytes.
        limit: usize,
    },
    /// The subject exists but must not be used for the operation.
    #[error("{op} {path}: {cause}{}", suffix(*cure))]
    Refused {
        /// The operation that was refused.
        op: &'static str,
        /// Path of its subject.
        path: PathBuf,
        /// The reason for the refusal.
        cause: String,
        /// The cure, as an instruction to the user, where there is one.
        cure: Option<&'static str>,
    },
    /// A directory is not fit to hold a spec: another user could change what is in it.
    #[error("trust {path}: {cause}{}", suffix(*cure))]
    UnsafeDir {
        /// Path of the directory.
        path: PathBuf,
        /// The weakness that was found.
        cause: String,
        /// The cure, as an instruction to the user, where there is one.
        cure: Option<&'static str>,
    },
}

/// A weakness of a directory, before its path is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weakness {
    pub(crate) cause: String,
    pub(crate) cure: Option<&'static str>,
}

impl Error {
    pub(crate) fn call(op: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Error::Call { op, path: path.as_ref().to_owned(), errno }
    }

    pub(crate) fn refused(
        op: &'static str,
        path: impl AsRef<Path>,
        cause: impl Into<String>,
    ) -> Self {
        Error::Refused { op, path: path.as_ref().to_owned(), cause: cause.into(), cure: None }
    }

    pub(crate) fn unsafe_dir(path: impl AsRef<Path>, weakness: Weakness) -> Self {
        let Weakness { cause, cure } = weakness;
        Error::UnsafeDir { path: path.as_ref().to_owned(), cause, cure }
    }

    /// Adds the cure to a refusal.
    pub(crate) fn with_cure(mut self, cure: &'static str) -> Self {
        if let Error::Refused { cure: own, .. } | Error::UnsafeDir { cure: own, .. } = &mut self {
            *own = Some(cure);
        }
        self
    }

    pub(crate) fn io(op: &'static str, path: impl AsRef<Path>, error: &std::io::Error) -> Self {
        Error::call(op, path, errno_of(error))
    }

    /// The operation that failed, as a verb: `open`, `make node`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Error::Call { op, .. } | Error::Refused { op, .. } => op,
            Error::TooLarge { .. } => "read",
            Error::UnsafeDir { .. } => "trust",
        }
    }

    /// Path of what it failed on.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Error::Call { path, .. }
            | Error::TooLarge { path, .. }
            | Error::Refused { path, .. }
            | Error::UnsafeDir { path, .. } => path,
        }
    }

    /// The cause, in lower case and without the cure.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Error::Call { errno, .. } => describe(*errno),
            Error::TooLarge { limit, .. } => too_large(*limit),
            Error::Refused { cause, .. } | Error::UnsafeDir { cause, .. } => cause.clone(),
        }
    }

    /// The cure, as an instruction to the user, where there is one.
    #[must_use]
    pub fn cure(&self) -> Option<&'static str> {
        match self {
            Error::Refused { cure, .. } | Error::UnsafeDir { cure, .. } => *cure,
            Error::Call { .. } | Error::TooLarge { .. } => None,
        }
    }

    /// True when the path does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::ENOENT | Errno::ENOTDIR, .. })
    }

    /// True when the process has ended whose file in `/proc` it is about.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::ENOENT | Errno::ESRCH, .. })
    }

    /// True when the process has no namespaces any more, whose mounts it is about: it is ending (`mounts_open_common` in
    /// `fs/proc_namespace.c`).
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.is_ended() || matches!(self, Error::Call { errno: Errno::EINVAL, .. })
    }

    /// True when the kernel does not have the system call, or a seccomp filter answers so.
    #[must_use]
    pub fn is_unknown_call(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::ENOSYS, .. })
    }

    /// True when the process lacks a privilege for it.
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::EPERM, .. })
    }

    /// True when another user might be allowed to do it.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Error::Call { errno: Errno::EACCES | Errno::EPERM, .. })
    }
}

/// The error number of an I/O error; 0, "unknown errno", for one that std made itself.
pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// Turns the error of a path that does not exist into `None`.
pub(crate) fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn describe(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

fn too_large(limit: usize) -> String {
    format!("larger than {limit} bytes, which its writer never produces")
}

pub(crate) fn suffix(cure: Option<&str>) -> String {
    cure.map(|cure| format!("; {cure}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_its_fields_in_one_line() {
        let refused = Error::refused("read", "/proc", "it is no procfs");
        assert_eq!(refused.to_string(), "read /proc: it is no procfs");
        assert_eq!(refused.cure(), None);
        let cured = refused.with_cure("mount /proc");
        assert_eq!(cured.to_string(), "read /proc: it is no procfs; mount /proc");
        for error in [
            cured,
            Error::call("open", "/x", Errno::ENOENT),
            Error::TooLarge { path: "/x".into(), limit: 3 },
            Error::unsafe_dir("/x", Weakness { cause: "why".to_owned(), cure: Some("do it") }),
        ] {
            let (op, path, cause) = (error.operation(), error.path().display(), error.cause());
            let cure = suffix(error.cure());
            assert_eq!(error.to_string(), format!("{op} {path}: {cause}{cure}"));
        }
    }
}
