//! Warnings of MIG modes that wait for a reset.

use crate::console::Console;
use mig_cdi_gen::MessageSink;
use mig_cdi_model::{PendingMode, Topology};

/// Warns of each GPU that is to have another MIG mode.
pub(crate) fn warn_of_pending_modes(console: &Console, topology: &Topology) {
    for gpu in &topology.gpus {
        if let (Some(index), Some(pending)) = (gpu.index, gpu.pending_mode) {
            console.warn(&pending_warning(index.0, pending));
        }
    }
}

/// Returns the warning of one GPU.
pub(crate) fn pending_warning(gpu: u32, pending: PendingMode) -> String {
    format!("gpu {gpu}: mig mode is {pending}; {}", pending.cure(gpu))
}
