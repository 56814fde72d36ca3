//! `mig-cdi export` and `mig-cdi checkpoint`: the present layouts of the GPUs, as a file for `apply` and `restore`.

use super::super::{CommandOutput, exit};
use crate::{
    cli::{CheckpointArgs, ExportArgs},
    console::Console,
};
use mig_cdi_config::layouts::{mig_parted_yaml, pinned_yaml};
use mig_cdi_gen::{Error, ErrorKind, Exit};
use mig_cdi_model::GpuIndex;
use mig_cdi_partition::{CHECKPOINT_LAYOUT, NodeGpus, NodePartitioner, current_layout};
use mig_cdi_sys::TrustedDir;

pub(in super::super) fn export(
    partitioning: &NodePartitioner<'_>,
    args: &ExportArgs,
) -> Result<CommandOutput, Error> {
    let gpus = NodeGpus::read(partitioning.node, partitioning.messages)?;
    let stdout = match args.pinned {
        true => pinned(&gpus, &args.layout)?,
        false => {
            // `None` is a model without MIG, which has no layout.
            let capable = gpus.all.iter().filter(|gpu| gpu.mig.is_some());
            let layouts = capable.map(|gpu| (GpuIndex(gpu.index), current_layout(gpu, &gpus.all)));
            let text = mig_parted_yaml(&args.layout, &layouts.collect::<Vec<_>>());
            text.map_err(|e| Error::failed("", "export").because(e))?
        }
    };
    Ok(CommandOutput { stdout, exit: exit(gpus.unreadable.is_empty()) })
}

fn pinned(gpus: &NodeGpus, name: &str) -> Result<String, Error> {
    // By UUID: NVML does not guarantee the same order of GPUs after a reboot (nvml.h, nvmlDeviceGetHandleByIndex_v2).
    let named = gpus.candidates()?.into_iter().zip(&gpus.all);
    let capable = named.filter(|(_, gpu)| gpu.mig.is_some());
    let layouts = capable.map(|(names, gpu)| (names.uuid, current_layout(gpu, &gpus.all)));
    Ok(pinned_yaml(name, &layouts.collect::<Vec<_>>()))
}

/// Writes a checkpoint of all GPUs, or none: one that lacks a GPU would restore less than there was.
pub(in super::super) fn checkpoint(
    partitioning: &NodePartitioner<'_>,
    args: &CheckpointArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let gpus = NodeGpus::read(partitioning.node, partitioning.messages)?;
    if !gpus.unreadable.is_empty() {
        return Err(Error::of(ErrorKind::Incomplete, "write", args.file.display())
            .because("the layout of some gpus is not known"));
    }
    let text = pinned(&gpus, CHECKPOINT_LAYOUT)?;
    super::write(console, &args.file, &text, TrustedDir::open_or_make)?;
    Ok(CommandOutput { stdout: String::new(), exit: Exit::Success })
}
