//! Verdicts of the checks.

use mig_cdi_gen::{
    Error,
    discover::{Problem, Reason},
};
use mig_cdi_sys::{in_user_namespace, is_root, nvml::CallError};
use serde::Serialize;
use std::path::Path;

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

/// Cure for what this process may not read; `None` for root outside of user namespaces, to whom nothing else would help.
pub(super) fn privileged_cure() -> Option<&'static str> {
    match is_root() {
        false => Some("run mig-cdi doctor as root"),
        true => in_user_namespace().then_some(OUTSIDE),
    }
}

/// Cure for what cannot be seen in a user namespace.
pub(super) const OUTSIDE: &str = "run mig-cdi doctor outside of this user namespace";

/// Text of a path, unambiguous for one that is not UTF-8.
pub(super) fn path_text(path: &Path) -> String {
    path.to_str().map_or_else(|| quoted(path), str::to_owned)
}

/// A path as a shell command takes it: as it is, or in the quotes `$'…'` that bash, zsh and POSIX.1-2024 know.
pub(super) fn quoted(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-+:@%=,".contains(b);
    if bytes.iter().all(is_plain) {
        return path.display().to_string();
    }
    let escaped: String = bytes
        .iter()
        .map(|b| match b {
            b'\'' | b'\\' => format!("\\{}", char::from(*b)),
            0x20..0x7f => char::from(*b).to_string(),
            _ => format!("\\x{b:02x}"),
        })
        .collect();
    format!("$'{escaped}'")
}

/// Lists the first few of many items, and the number of the others.
pub(super) fn first_few<T: std::fmt::Display>(items: &[T]) -> String {
    let shown: Vec<_> = items.iter().take(3).map(ToString::to_string).collect();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    #[test]
    fn a_path_is_quoted_for_a_shell_where_it_has_to_be() {
        let path = |bytes: &'static [u8]| Path::new(OsStr::from_bytes(bytes));
        assert_eq!(quoted(path(b"/etc/cdi/a_1.json")), "/etc/cdi/a_1.json");
        assert_eq!(quoted(path(b"/a b'\\\xff\n")), r"$'/a b\'\\\xff\x0a'");
        assert_eq!(path_text(path("/ä b".as_bytes())), "/ä b");
        assert_eq!(path_text(path(b"/\xe4")), r"$'/\xe4'");
    }

    #[test]
    fn one_thing_is_singular() {}
}
