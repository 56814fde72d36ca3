//! Declared holders that name nothing: a mistyped name keeps no slice from being destroyed.

use mig_cdi_gen::{
    Error,
    discover::{self, Source},
};
use mig_cdi_partition::{HolderOptions, InUse, Lease, NodePartitioner};

const CURE: &str = "mig-cdi list shows the names";

/// Warns of each lease that names no slice of the node, and refuses a `--in-use` that names none, before a change: the slice that
/// the user means might be destroyed.
///
/// # Errors
/// For the first such `--in-use`.
pub(crate) fn refuse_unmatched_holders(
    partitioning: &NodePartitioner<'_>,
    options: &HolderOptions,
) -> Result<(), Error> {
    warn_of_unmatched_leases(partitioning, options);
    match unmatched(partitioning, options).first() {
        None => Ok(()),
        Some(InUse { slice, holder }) => {
            Err(Error::usage("accept", format!("--in-use {slice}={holder}"))
                .because("no slice or gpu has this name")
                .with_cure(CURE))
        }
    }
}

/// Warns of each `--in-use` and each lease that names no slice of the node.
pub(crate) fn warn_of_unmatched_holders(
    partitioning: &NodePartitioner<'_>,
    options: &HolderOptions,
) {
    warn_of_unmatched_leases(partitioning, options);
    for InUse { slice, holder } in unmatched(partitioning, options) {
        partitioning.messages.warn(&format!(
            "--in-use {slice}={holder} holds nothing: no slice or gpu has this name; {CURE}"
        ));
    }
}

/// Says nothing of what cannot be read: the command that follows does, if it needs that.
fn warn_of_unmatched_leases(partitioning: &NodePartitioner<'_>, options: &HolderOptions) {
    let NodePartitioner { node, messages } = partitioning;
    // They are of this machine.
    if node.is_simulated() {
        return;
    }
    let leases = Lease::read_all(&options.leases_dir()).unwrap_or_default();
    if leases.is_empty() {
        return;
    }
    let Ok(machine) = node.machine() else { return };
    if let Ok(found) = discover::discover(machine.as_ref(), Source::Proc)
        && found.problems.is_empty()
    {
        for mismatch in leases.iter().filter_map(|lease| lease.mismatch(&found.topology)) {
            messages.warn(&format!("{mismatch}; {}", Lease::CURE));
        }
    }
}

/// Returns each `--in-use` that names nothing; none where that cannot be confirmed.
fn unmatched<'a>(partitioning: &NodePartitioner<'_>, options: &'a HolderOptions) -> Vec<&'a InUse> {
    if options.in_use.is_empty() {
        return Vec::new();
    }
    let Ok(machine) = partitioning.node.machine() else { return Vec::new() };
    match discover::discover(machine.as_ref(), Source::Nvml) {
        Ok(found) => options.in_use.iter().filter(|one| one.names_nothing(&found)).collect(),
        Err(_) => Vec::new(),
    }
}
