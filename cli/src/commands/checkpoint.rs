//! `mig-cdi checkpoint`: the layouts of all GPUs, with every placement, as a file for `restore`.

use super::export::pinned;
use crate::{
    cli::{CHECKPOINT_FILE, CheckpointArgs},
    command_output::CommandOutput,
    console::Console,
    output_file::write_output_file,
};
use mig_cdi_gen::{Error, ErrorKind, NodeSource};
use mig_cdi_partition::{CHECKPOINT_LAYOUT, NodeGpus};
use mig_cdi_sys::TrustedDir;
use std::path::Path;

/// Writes a checkpoint of all GPUs, or none: one that lacks a GPU would restore less than there was.
pub(super) fn run(
    node: &NodeSource,
    args: &CheckpointArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    if node.is_simulated() && args.file == Path::new(CHECKPOINT_FILE) {
        return Err(Error::usage("write", args.file.display())
            .because("it is the checkpoint of this machine, and --node simulates another")
            .with_cure("name another FILE"));
    }
    let gpus = NodeGpus::read(node, console)?;
    if !gpus.unreadable.is_empty() {
        return Err(Error::of(ErrorKind::Incomplete, "write", args.file.display())
            .because("nvml does not report the layout of every gpu")
            .with_cure("see dmesg for the driver's own messages"));
    }
    let text = pinned(&gpus, CHECKPOINT_LAYOUT)?;
    write_output_file(console, &args.file, &text, TrustedDir::open_or_make)?;
    Ok(CommandOutput::success(String::new()))
}
