//! `mig-cdi doctor`: diagnosis of a node. Each check judges one thing; a verdict has the evidence and the cure.
//! Changes nothing, and never stops at a source that cannot be read: that is a verdict like any other.
//!
//! A check is a function from [`NodeFacts`] to verdicts. The facts are read once; a file that one check alone needs is
//! read by that check, below the root directories that the facts hold.

mod containers;
mod driver;
mod driver_nodes;
mod engine_config;
mod engines;
mod facts;
mod hooks;
mod host;
mod name;
mod names;
mod resolution;
mod specs;
mod text_file;
mod verdict;
mod writer;

pub(crate) use facts::NodeFacts;
pub(crate) use name::explain;
pub(crate) use verdict::{Severity, Verdict};

type Check = fn(&NodeFacts<'_>) -> Vec<Verdict>;

/// Checks in the order of output: from the driver to the containers, so that the first error is often the cause of
/// those that follow.
const CHECKS: [(&str, Check); 24] = [
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
    ("names", names::names),
    ("stale", specs::stale),
    ("drift", specs::drift),
    ("files", specs::files),
    ("watch", host::watch),
    ("leases", host::leases),
    ("journal", host::journal),
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

/// Runs the checks of the driver up to the first error. Only these find the reason why a node has no slice.
fn first_driver_error(facts: &NodeFacts<'_>) -> Option<Verdict> {
    let of_driver = CHECKS.into_iter().take_while(|(name, _)| *name != "nodes");
    let mut verdicts = of_driver.flat_map(|(_, check)| check(facts));
    verdicts.find(|verdict| verdict.severity == Severity::Error)
}
