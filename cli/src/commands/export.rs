//! `mig-cdi export`: the present layouts of the GPUs, as a file for `apply`.

use crate::{cli::ExportArgs, command_output::CommandOutput, console::Console};
use mig_cdi_config::layouts::{NotExpressible, mig_parted_yaml, pinned_yaml};
use mig_cdi_gen::{Error, NodeSource};
use mig_cdi_model::GpuIndex;
use mig_cdi_partition::{NodeGpus, current_layout};

pub(super) fn run(
    node: &NodeSource,
    args: &ExportArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let gpus = NodeGpus::read(node, console)?;
    let stdout = match args.pinned {
        true => pinned(&gpus, &args.layout)?,
        false => counted(&gpus, &args.layout)?,
    };
    Ok(CommandOutput::complete_if(gpus.unreadable.is_empty(), stdout))
}

/// Layouts by index, as counts of profiles.
fn counted(gpus: &NodeGpus, name: &str) -> Result<String, Error> {
    // `None` is a model without MIG, which has no layout.
    let capable = gpus.all.iter().filter(|gpu| gpu.mig.is_some());
    let layouts = capable.map(|gpu| (GpuIndex(gpu.index), current_layout(gpu, &gpus.all)));
    mig_parted_yaml(name, &layouts.collect::<Vec<_>>()).map_err(|error| {
        let NotExpressible { gpu, instance, cause } = error;
        Error::failed("export", format!("gpu {gpu}"))
            .because(format!("{instance}: {cause}"))
            .with_cure(NotExpressible::CURE)
    })
}

/// Layouts by UUID, with every placement.
pub(super) fn pinned(gpus: &NodeGpus, name: &str) -> Result<String, Error> {
    // By UUID: NVML does not guarantee the same order of GPUs after a reboot (nvml.h, nvmlDeviceGetHandleByIndex_v2).
    let named = gpus.candidates()?.into_iter().zip(&gpus.all);
    let capable = named.filter(|(_, gpu)| gpu.mig.is_some());
    let layouts = capable.map(|(names, gpu)| (names.uuid, current_layout(gpu, &gpus.all)));
    Ok(pinned_yaml(name, &layouts.collect::<Vec<_>>()))
}
