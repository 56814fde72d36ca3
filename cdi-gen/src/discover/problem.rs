//! Problems of a discovery: what was omitted, and why.

use mig_cdi_sys::nvml::CallError;

/// A device or file that was omitted, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Omitted device: `gpu 0 gi 7 ci 0`.
    pub subject: String,
    /// Cause and cure.
    pub reason: Reason,
    /// True when a change between the two readings may be the cause.
    is_transient: bool,
}

/// Cause of a problem, with the cure where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Cause: operation, path and what is wrong with it.
    pub cause: String,
    /// Command or step that cures it.
    pub cure: Option<&'static str>,
}

impl Reason {
    pub(super) fn with_cure(cause: impl Into<String>, cure: &'static str) -> Reason {
        Reason { cause: cause.into(), cure: Some(cure) }
    }
}

impl From<String> for Reason {
    fn from(cause: String) -> Reason {
        Reason { cause, cure: None }
    }
}

impl From<&str> for Reason {
    fn from(cause: &str) -> Reason {
        cause.to_owned().into()
    }
}

impl From<mig_cdi_sys::Error> for Reason {
    fn from(error: mig_cdi_sys::Error) -> Reason {
        let (operation, path) = (error.operation(), error.path().display());
        Reason { cause: format!("{operation} {path}: {}", error.cause()), cure: error.cure() }
    }
}

impl From<&CallError> for Reason {
    fn from(error: &CallError) -> Reason {
        Reason { cause: format!("nvml {}", error.without_cure()), cure: error.cure }
    }
}

impl From<&Reason> for Reason {
    fn from(reason: &Reason) -> Reason {
        reason.clone()
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Reason { cause, cure } = self;
        match cure {
            Some(cure) => write!(f, "{cause}; {cure}"),
            None => f.write_str(cause),
        }
    }
}

impl Problem {
    pub(crate) fn new(subject: impl Into<String>, reason: impl Into<Reason>) -> Problem {
        Problem { subject: subject.into(), reason: reason.into(), is_transient: false }
    }

    /// True when a change between the two readings may be the cause.
    pub(super) fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// A problem that may vanish when both views are read again.
    pub(super) fn transient(subject: impl Into<String>, reason: impl Into<Reason>) -> Problem {
        Problem { is_transient: true, ..Problem::new(subject, reason) }
    }

    /// A difference between the two views.
    pub(super) fn disagreement(subject: impl Into<String>, reason: impl Into<Reason>) -> Problem {
        let Reason { cause, cure } = reason.into();
        let cure = cure.unwrap_or("run it again once no mig change is under way, and see dmesg");
        Problem::transient(subject, Reason::with_cure(cause, cure))
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.subject, self.reason)
    }
}
