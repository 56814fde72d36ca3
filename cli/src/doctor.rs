//! `mig-cdi doctor`: why does it not work? Each check looks at one thing and says what it saw and what
//! cures it. Nothing is changed; what cannot be looked at is a verdict like any other.
//!
//! [`Facts`] are read once; a check is a function from them to verdicts.

mod containers;
mod driver;
mod engines;
mod facts;
mod hooks;
mod host;
mod name;
mod specs;

pub(crate) use facts::Facts;
pub(crate) use name::explain;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to do.
    Note,
    /// Something will not work for somebody.
    Warning,
    /// Something does not work, or gives a container what is not its own.
    Error,
}

/// What one check says of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    /// Which check.
    pub check: &'static str,
    pub severity: Severity,
    /// Of what: a file, an engine, a container; empty where the check says it.
    pub subject: String,
    /// What was seen, in one line.
    pub evidence: String,
    /// What to do; warnings and errors have one.
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

/// The verdict of a message that ends with its cure, as ours do.
fn with_cure(subject: &str, message: &str) -> Verdict {
    let (evidence, cure) = message.rsplit_once("; ").unwrap_or((message, "see dmesg"));
    error(subject, evidence, cure)
}

/// A few of many.
fn some<T: std::fmt::Display>(things: &[T]) -> String {
    let shown: Vec<_> = things.iter().take(3).map(ToString::to_string).collect();
    match things.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

type Check = fn(&Facts<'_>) -> Vec<Verdict>;

/// Every check, in the order of output: from the driver to the containers.
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

/// Everything, in a fixed order.
pub(crate) fn examine(facts: &Facts<'_>) -> Vec<Verdict> {
    let of = |(id, check): (&'static str, Check)| {
        check(facts).into_iter().map(move |verdict| Verdict { check: id, ..verdict })
    };
    CHECKS.into_iter().flat_map(of).collect()
}
