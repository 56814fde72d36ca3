//! `mig-cdi doctor`: diagnosis of a node. Each check judges one thing; a verdict has the evidence and the cure.
//! Changes nothing, and never stops at a source that cannot be read: that is a verdict like any other.
//!
//! [`NodeFacts`] are read once; a check is a pure function from them to verdicts.

mod containers;
mod driver;
mod engine_config;
mod engines;
mod facts;
mod hooks;
mod host;
mod name;
mod specs;
mod text_file;

pub(crate) use facts::NodeFacts;
pub(crate) use name::explain;

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

fn ok(subject: impl Into<String>, evidence: impl Into<String>) -> Verdict {
    let (subject, evidence) = (subject.into(), evidence.into());
    Verdict { check: "", severity: Severity::Ok, subject, evidence, cure: None }
}

fn note(subject: impl Into<String>, evidence: impl Into<String>) -> Verdict {
    Verdict { severity: Severity::Note, ..ok(subject, evidence) }
}

fn warning(
    subject: impl Into<String>,
    evidence: impl Into<String>,
    cure: impl Into<String>,
) -> Verdict {
    Verdict { severity: Severity::Warning, cure: Some(cure.into()), ..ok(subject, evidence) }
}

fn error(
    subject: impl Into<String>,
    evidence: impl Into<String>,
    cure: impl Into<String>,
) -> Verdict {
    Verdict { severity: Severity::Error, ..warning(subject, evidence, cure) }
}

/// An error that a check reports as it is.
enum CheckError<'a> {
    /// A stage of `generate` failed.
    Stage(&'a Error),
    /// A GPU or MIG device was omitted.
    Problem(&'a Problem),
    /// NVML failed for one GPU.
    Call(&'a CallError),
}

/// Splits an error into evidence and cure; `None` where it has no cure.
fn evidence_and_cure(error: &CheckError<'_>) -> (String, Option<String>) {
    match error {
        CheckError::Stage(error) => {
            let evidence = Error { cure: None, ..(*error).clone() };
            (evidence.to_string(), error.cure.clone())
        }
        CheckError::Problem(problem) => {
            let Reason { cause, cure } = &problem.reason;
            (cause.clone(), cure.map(str::to_owned))
        }
        CheckError::Call(CallError { call, cause, cure, .. }) => {
            (format!("nvml {call}: {cause}"), cure.map(str::to_owned))
        }
    }
}

/// Verdict of an error. Without a cure of its own it sends the reader to the driver's messages.
fn from_error(subject: &str, cause: &CheckError<'_>) -> Verdict {
    let (evidence, cure) = evidence_and_cure(cause);
    let cure = cure.unwrap_or_else(|| "see dmesg for the driver's own messages".to_owned());
    error(subject, evidence, cure)
}

/// Lists the first few of many items, and the number of the others.
fn some<T: std::fmt::Display>(items: &[T]) -> String {
    let shown: Vec<_> = items.iter().take(3).map(ToString::to_string).collect();
    match items.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

type Check = fn(&NodeFacts<'_>) -> Vec<Verdict>;

/// Checks in the order of output: from the driver to the containers, so that the first error is often the cause of
/// those that follow.
const CHECKS: [(&str, Check); 22] = [
    ("settings", host::settings),
    ("driver", driver::driver),
    ("capabilities", driver::capabilities),
    ("nvml", driver::nvml),
    ("mig", driver::mig),
    ("devices", driver::devices),
    ("nodes", driver::nodes),
    ("links", driver::links),
    ("directories", specs::directories),
    ("specs", specs::specs),
    ("versions", specs::versions),
    ("names", specs::names),
    ("stale", specs::stale),
    ("drift", specs::drift),
    ("files", specs::files),
    ("watch", host::watch),
    ("engines", engines::engines),
    ("config", engines::config),
    ("hooks", hooks::hooks),
    ("host", host::host),
    ("containers", containers::containers),
    ("privilege", host::privilege),
];

/// Runs every check.
pub(crate) fn examine(facts: &NodeFacts<'_>) -> Vec<Verdict> {
    let run = |(name, check): (&'static str, Check)| {
        check(facts).into_iter().map(move |verdict| Verdict { check: name, ..verdict })
    };
    CHECKS.into_iter().flat_map(run).collect()
}
