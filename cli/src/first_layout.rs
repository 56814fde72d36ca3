//! The command that makes the first slices of a node, for commands that find none.

use mig_cdi_gen::{NoMessages, NodeSource};
use mig_cdi_model::GpuIndex;
use mig_cdi_partition::NodeGpus;
use mig_cdi_sys::nvml::{GpuPartitioning, GpuProfile};

/// A layout for a GPU without slices.
pub(crate) struct FirstLayout {
    /// Index of the GPU.
    pub gpu: u32,
    /// Command that partitions it.
    pub command: String,
    is_mig_on: bool,
}

impl FirstLayout {
    /// Returns a layout for each GPU that supports MIG; none where NVML does not describe the GPUs.
    pub(crate) fn of_node(node: &NodeSource) -> Vec<FirstLayout> {
        let gpus = NodeGpus::read_available(node, &NoMessages, "it is omitted");
        gpus.map_or_else(
            |_| Vec::new(),
            |gpus| gpus.all.iter().filter_map(FirstLayout::of).collect(),
        )
    }

    fn of(gpu: &GpuPartitioning) -> Option<FirstLayout> {
        let is_mig_on = gpu.mig?;
        // Without MIG mode some drivers list no profiles; `none` turns it on.
        let layout = layout(&gpu.profiles).unwrap_or_else(|| "none".to_owned());
        let command = format!("sudo mig-cdi apply {}={layout}", gpu.index);
        Some(FirstLayout { gpu: gpu.index, command, is_mig_on })
    }

    /// Returns what the command does, as the end of a sentence about the GPU.
    pub(crate) fn advice(&self) -> String {
        match self.is_mig_on {
            true => format!("{} creates slices", self.command),
            false => format!("{} turns on mig mode and creates slices", self.command),
        }
    }
}

/// Returns the advice for a node without slices.
pub(crate) fn advice(node: &NodeSource) -> String {
    advice_for(node, None)
}

/// Returns the advice for a GPU without slices; for the first that supports MIG when none is named.
pub(crate) fn advice_for(node: &NodeSource, index: Option<GpuIndex>) -> String {
    let gpus = NodeGpus::read_available(node, &NoMessages, "it is omitted").ok();
    let first = gpus.as_ref().and_then(|gpus| {
        let wanted = |gpu: &&GpuPartitioning| index.is_none_or(|index| index.0 == gpu.index);
        gpus.all.iter().filter(wanted).find_map(FirstLayout::of)
    });
    match (first, gpus) {
        (Some(first), _) => first.advice(),
        (None, Some(gpus)) if gpus.unreadable.is_empty() => {
            "no gpu of this node supports mig".to_owned()
        }
        _ => "sudo mig-cdi profiles lists the profiles of each gpu, and sudo mig-cdi apply creates slices"
            .to_owned(),
    }
}

/// Returns as many of the largest profile of which a GPU holds two as it holds, or else one of the largest.
fn layout(profiles: &[GpuProfile]) -> Option<String> {
    // A suffix is for media engines and graphics.
    let plain = |profile: &&GpuProfile| {
        profile.name.as_ref().is_some_and(|name| !name.as_str().contains(['+', '-']))
    };
    let largest = |least: u32| {
        let enough = profiles.iter().filter(plain).filter(|profile| profile.max >= least);
        enough.max_by_key(|profile| (profile.slices, profile.memory_mib))
    };
    let profile = largest(2).or_else(|| largest(1))?;
    let name = profile.name.as_ref()?;
    Some(if profile.max > 1 { format!("{}x{name}", profile.max) } else { name.to_string() })
}
