//! Why a container does not start: one line for people, a code for scripts.

use std::fmt;

/// A refusal. Nothing was changed, or what was has been put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// 1: refused, or an operation failed. 2: the command line or the configuration is wrong.
    pub exit: u8,
    /// Operation, path, cause, cure.
    pub message: String,
}

impl Failure {
    /// The container does not start.
    pub fn refused(message: impl Into<String>) -> Failure {
        Failure { exit: 1, message: message.into() }
    }

    /// Whoever installed the hook made a mistake.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: 2, message: message.into() }
    }

    /// The same once what was done before it has been taken back.
    #[must_use]
    pub fn after(self, undone: mig_cdi_sys::Result<()>) -> Failure {
        match undone {
            Ok(()) => self,
            Err(error) => Failure { message: format!("{self}; and then: {error}"), ..self },
        }
    }
}

impl fmt::Display for Failure {
    /// One line, whatever a container or a program put into it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        write!(f, "{}", self.message.chars().map(visible).collect::<String>())
    }
}

impl From<mig_cdi_sys::Error> for Failure {
    fn from(error: mig_cdi_sys::Error) -> Failure {
        // Whatever else is missing there is another way (docs/hook.md).
        let cure = if error.is_unknown_call() {
            "; this door needs linux 5.12, precreate and runtime do not"
        } else if error.is_not_permitted() {
            "; this door needs root with its privileges, or the user namespace of an engine without root"
        } else {
            ""
        };
        Failure::refused(format!("{error}{cure}"))
    }
}
