//! `mig-cdi export` and `mig-cdi checkpoint`: how the GPUs are divided, as a file of layouts.

use super::super::{Done, exit};
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
) -> Result<Done, Error> {
    let gpus = NodeGpus::read(partitioning.node, partitioning.messages)?;
    let stdout = match args.pinned {
        true => pinned(&gpus, &args.layout)?,
        false => {
            let divided = gpus.all.iter().filter(|gpu| gpu.mig.is_some());
            let layouts = divided.map(|gpu| (GpuIndex(gpu.index), current_layout(gpu, &gpus.all)));
            let text = mig_parted_yaml(&args.layout, &layouts.collect::<Vec<_>>());
            text.map_err(|e| Error::failed("", "export").because(e))?
        }
    };
    Ok(Done { stdout, exit: exit(gpus.unreadable == 0) })
}

fn pinned(gpus: &NodeGpus, name: &str) -> Result<String, Error> {
    let divided = gpus.candidates()?.into_iter().zip(&gpus.all);
    let divided = divided.filter(|(_, gpu)| gpu.mig.is_some());
    let layouts = divided.map(|(names, gpu)| (names.uuid, current_layout(gpu, &gpus.all)));
    Ok(pinned_yaml(name, &layouts.collect::<Vec<_>>()))
}

/// A checkpoint that lacks a GPU would restore less than there was.
pub(in super::super) fn checkpoint(
    partitioning: &NodePartitioner<'_>,
    args: &CheckpointArgs,
    console: &Console,
) -> Result<Done, Error> {
    let gpus = NodeGpus::read(partitioning.node, partitioning.messages)?;
    if gpus.unreadable > 0 {
        return Err(Error::of(ErrorKind::Incomplete, "write", args.file.display())
            .because("not all gpus can be told of"));
    }
    let text = pinned(&gpus, CHECKPOINT_LAYOUT)?;
    super::write(console, &args.file, &text, TrustedDir::open_or_make)?;
    Ok(Done { stdout: String::new(), exit: Exit::Success })
}
