//! Verdicts of the checks.

use mig_cdi_gen::{
    Error,
    discover::{Problem, Reason},
};
use mig_cdi_sys::nvml::CallError;
use serde::Serialize;

/// Severity of a verdict, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// No problem.
    Ok,
    /// Information; nothing to do.
    Note,
    /// Something does not work for some users or containers.
    Warning,
    /// Something does not work, or gives a container what belongs to another.
    Error,
}

/// Result of one check for one subject. `--json` prints its fields by these names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Name of the check.
    pub check: &'static str,
    pub severity: Severity,
    /// File, engine, GPU or container; empty where the name of the check is enough.
    pub subject: String,
    /// Observation, in one line.
    pub evidence: String,
    /// Command or change that solves the problem; set for every warning and error.
    pub cure: Option<String>,
}

pub(super) fn ok(subject: impl Into<String>, evidence: impl Into<String>) -> Verdict {
    let (subject, evidence) = (subject.into(), evidence.into());
    Verdict { check: "", severity: Severity::Ok, subject, evidence, cure: None }
}

pub(super) fn note(subject: impl Into<String>, evidence: impl Into<String>) -> Verdict {
    Verdict { severity: Severity::Note, ..ok(subject, evidence) }
}

pub(super) fn warning(
    subject: impl Into<String>,
    evidence: impl Into<String>,
    cure: impl Into<String>,
) -> Verdict {
    Verdict { severity: Severity::Warning, cure: Some(cure.into()), ..ok(subject, evidence) }
}

pub(super) fn error(
    subject: impl Into<String>,
    evidence: impl Into<String>,
    cure: impl Into<String>,
) -> Verdict {
    Verdict { severity: Severity::Error, ..warning(subject, evidence, cure) }
}

/// Error of a stage, a device or a call, as a check reports it.
pub(super) struct Finding {
    pub evidence: String,
    /// Cure, where the error has one.
    pub cure: Option<String>,
}

impl From<&Error> for Finding {
    fn from(error: &Error) -> Finding {
        let evidence = Error { cure: None, ..error.clone() };
        Finding { evidence: evidence.to_string(), cure: error.cure.clone() }
    }
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Finding {
        let Reason { cause, cure } = &problem.reason;
        Finding { evidence: cause.clone(), cure: cure.map(str::to_owned) }
    }
}

impl From<&CallError> for Finding {
    fn from(error: &CallError) -> Finding {
        let evidence = format!("nvml {}", error.without_cure());
        Finding { evidence, cure: error.cure.map(str::to_owned) }
    }
}

/// Verdict of an error. Without a cure of its own it sends the reader to the driver's messages.
pub(super) fn from_error(subject: &str, cause: impl Into<Finding>) -> Verdict {
    let Finding { evidence, cure } = cause.into();
    let cure = cure.unwrap_or_else(|| "see dmesg for the driver's own messages".to_owned());
    error(subject, evidence, cure)
}

/// Lists the first few of many items, and the number of the others.
pub(super) fn first_few<T: std::fmt::Display>(items: &[T]) -> String {
    let shown: Vec<_> = items.iter().take(3).map(ToString::to_string).collect();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
