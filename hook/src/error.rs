//! The error of the hook: fields for programs, one line for people. It never undoes anything: that happens where an
//! operation fails.

use mig_cdi_model::one_line;
use std::{borrow::Cow, fmt};

/// Result of an operation of the hook.
pub type Result<T> = std::result::Result<T, Error>;

/// Cure for a spec that is stale.
pub(crate) const REGENERATE: &str = "run mig-cdi generate and start the container again";

/// Cure for a program that other users could exchange.
pub(crate) const ROOT_ONLY: &str = "run chown root and chmod go-w on it";

/// Exit codes of a hook that fails. A runtime only checks whether the code is zero; scripts distinguish the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookExit {
    /// The container must not start: a request was refused, or an operation failed.
    Refused = 1,
    /// The command line or the configuration of the hook is wrong.
    Usage = 2,
}

/// A failed operation. Displayed as `OPERATION SUBJECT: CAUSE; CURE`.
///
/// ```
/// use mig_cdi_hook::Error;
///
/// let error = Error::refused("read", "/b/config.json", "file not found").with_cure("create it");
/// assert_eq!(error.to_string(), "read /b/config.json: file not found; create it");
/// let error = error.during("inject", "0:2g.20gb:0");
/// assert_eq!(error.to_string(), "inject 0:2g.20gb:0: read /b/config.json: file not found; create it");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Exit code of the process.
    pub exit: HookExit,
    /// Verb phrase: `read`, `verify slice`; never empty.
    pub operation: Cow<'static, str>,
    /// Path, device, annotation or program that the operation was about; empty when the operation names it.
    pub subject: String,
    /// Reason of the failure.
    pub cause: ErrorCause,
    /// Command or setting that helps.
    pub cure: Option<Cow<'static, str>>,
    /// Failure to undo what had been done before.
    pub undo_failure: Option<Box<mig_cdi_sys::Error>>,
}

/// Reason of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorCause {
    /// Text in lower case, without the cure.
    Text(String),
    /// Failed operation that was part of the larger one. Its cure is that of the larger one.
    Part(Box<Error>),
}

impl Error {
    /// An operation that failed; the container must not start.
    pub fn refused(
        operation: impl Into<Cow<'static, str>>,
        subject: impl fmt::Display,
        cause: impl fmt::Display,
    ) -> Error {
        Error {
            exit: HookExit::Refused,
            operation: operation.into(),
            subject: subject.to_string(),
            cause: ErrorCause::Text(cause.to_string()),
            cure: None,
            undo_failure: None,
        }
    }

    /// A mistake of the person who installed the hook.
    pub fn usage(
        operation: impl Into<Cow<'static, str>>,
        subject: impl fmt::Display,
        cause: impl fmt::Display,
    ) -> Error {
        Error { exit: HookExit::Usage, ..Error::refused(operation, subject, cause) }
    }

    /// The error with a cure, unless it names a more specific one already.
    #[must_use]
    pub fn with_cure(mut self, cure: impl Into<Cow<'static, str>>) -> Error {
        self.cure.get_or_insert_with(|| cure.into());
        self
    }

    /// The error as the cause of the failure of a larger operation.
    #[must_use]
    pub fn during(mut self, operation: &'static str, subject: impl fmt::Display) -> Error {
        let (exit, cure, undo_failure) = (self.exit, self.cure.take(), self.undo_failure.take());
        let (operation, subject) = (operation.into(), subject.to_string());
        let cause = ErrorCause::Part(Box::new(self));
        Error { exit, operation, subject, cause, cure, undo_failure }
    }

    /// The error after an attempt to undo what had been done before it.
    #[must_use]
    pub fn after_undo(self, undone: mig_cdi_sys::Result<()>) -> Error {
        let undo_failure = undone.err().map(Box::new);
        Error { undo_failure: undo_failure.or(self.undo_failure), ..self }
    }

    /// `OPERATION SUBJECT: CAUSE`.
    fn failure(&self) -> String {
        let Error { operation, subject, cause, .. } = self;
        let separator = if subject.is_empty() { "" } else { " " };
        let cause = match cause {
            ErrorCause::Text(text) => Cow::from(text),
            ErrorCause::Part(error) => error.failure().into(),
        };
        format!("{operation}{separator}{subject}: {cause}")
    }
}

impl fmt::Display for Error {
    /// Writes one line, whatever a container or a program put into a field.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.failure();
        if let Some(cure) = &self.cure {
            line = format!("{line}; {cure}");
        }
        if let Some(undo) = &self.undo_failure {
            line = format!("{line}; undoing the changes failed as well: {undo}");
        }
        f.write_str(&one_line(&line))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            ErrorCause::Text(_) => None,
            ErrorCause::Part(error) => Some(error),
        }
    }
}

impl From<mig_cdi_sys::Error> for Error {
    fn from(error: mig_cdi_sys::Error) -> Error {
        let cure = error.cure().or_else(|| cure(&error));
        let error = Error::refused(error.operation(), error.path().display(), error.cause());
        cure.into_iter().fold(error, Error::with_cure)
    }
}

/// The other mode, or the privilege, that gets around a refusal of the kernel.
fn cure(error: &mig_cdi_sys::Error) -> Option<&'static str> {
    // open_tree, move_mount and the fs* calls came with Linux 5.2, mount_setattr with 5.12 (mount_setattr(2),
    // HISTORY). precreate and runtime edit JSON and need none of them.
    if error.is_unknown_call() {
        return Some("use precreate or runtime, or linux 5.12 or newer");
    }
    error.is_not_permitted().then_some("run it as root with all capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_cure() {
        let error = Error::refused("parse", "a\nb", "bad \u{1b}[2J").with_cure("fix it");
        assert_eq!(error.to_string(), "parse a\u{fffd}b: bad \u{fffd}[2J; fix it");
        assert_eq!(
            Error::usage("parse the command line", "", "x").to_string().matches(':').count(),
            1
        );
    }

    #[test]
    fn the_first_cure_is_kept() {
        let error = Error::refused("read", "/f", "gone").with_cure("load the driver");
        let error = error.during("verify slice", "0").with_cure("run generate");
        assert_eq!(error.to_string(), "verify slice 0: read /f: gone; load the driver");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("read /f: gone"));
    }
}
