//! Warnings of declared holders that name nothing: a mistyped name keeps no slice from being destroyed.

use mig_cdi_gen::discover::{self, Source};
use mig_cdi_partition::{HolderOptions, InUse, Lease, NodePartitioner};

/// Warns of each `--in-use` and each lease that names no slice of the node. Says nothing of what cannot be read: the command that
/// follows does, if it needs that.
pub(crate) fn warn_of_unmatched_holders(
    partitioning: &NodePartitioner<'_>,
    options: &HolderOptions,
) {
    let NodePartitioner { node, messages } = partitioning;
    let leases = match node.is_simulated() {
        // They are of this machine.
        true => Vec::new(),
        false => Lease::read_all(&options.leases_dir()).unwrap_or_default(),
    };
    if leases.is_empty() && options.in_use.is_empty() {
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
    if options.in_use.is_empty() {
        return;
    }
    let Ok(found) = discover::discover(machine.as_ref(), Source::Nvml) else { return };
    for InUse { slice, holder } in options.in_use.iter().filter(|one| one.names_nothing(&found)) {
        messages.warn(&format!(
            "--in-use {slice}={holder} holds nothing: no slice or gpu has this name; mig-cdi list shows the names"
        ));
    }
}
