//! The command that makes the first slices of a node, for commands that find none.

use mig_cdi_gen::{NoMessages, NodeSource, discover::Problem};
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
    /// True when another MIG mode waits for a reset.
    is_mode_pending: bool,
    creates_slices: bool,
}

impl FirstLayout {
    /// Returns the layouts of the GPUs that have one, the least change first: a GPU in MIG mode before one that has to be
    /// reset for it.
    pub(crate) fn all<'a>(gpus: impl IntoIterator<Item = &'a GpuPartitioning>) -> Vec<FirstLayout> {
        let mut layouts: Vec<_> = gpus.into_iter().filter_map(FirstLayout::of).collect();
        layouts.sort_by_key(|layout| {
            (!layout.creates_slices, !layout.is_mig_on, layout.is_mode_pending, layout.gpu)
        });
        layouts
    }

    /// Returns the layout of a GPU that supports MIG and has one. None for a GPU with slices, confirmed or not: they would have
    /// to go.
    fn of(gpu: &GpuPartitioning) -> Option<FirstLayout> {
        let is_mig_on = gpu.mig.filter(|_| !has_slices(gpu))?;
        let layout = layout(&gpu.profiles);
        let creates_slices = layout.is_some();
        // Without MIG mode some drivers list no profiles; `none` turns it on.
        let layout = layout.or_else(|| (!is_mig_on).then(|| "none".to_owned()))?;
        let command = format!("sudo mig-cdi apply {}={layout}", gpu.index);
        let is_mode_pending = gpu.pending_mode.is_some();
        Some(FirstLayout { gpu: gpu.index, command, is_mig_on, is_mode_pending, creates_slices })
    }

    /// Returns what the command does, as the end of a sentence about the GPU.
    pub(crate) fn advice(&self) -> String {
        let effect = match (self.is_mig_on, self.creates_slices) {
            (true, _) if self.is_mode_pending => "keeps mig mode on and creates slices",
            (true, _) => "creates slices",
            (false, true) => "turns on mig mode and creates slices",
            (false, false) => "turns on mig mode, in which the driver lists its profiles",
        };
        format!("{} {effect}", self.command)
    }
}

/// True for a GPU with a compute instance, which is a slice.
pub(crate) fn has_slices(gpu: &GpuPartitioning) -> bool {
    gpu.instances.iter().any(|instance| !instance.compute.is_empty())
}

/// Returns the advice for a node without slices.
pub(crate) fn advice(node: &NodeSource) -> String {
    advice_for(node, None)
}

/// Returns the advice for a node without confirmed slices. `None` when problems, which were reported, leave no other: each has
/// a cure of its own.
pub(crate) fn advice_beside(node: &NodeSource, problems: &[Problem]) -> Option<String> {
    match find(node, None) {
        Ok(command) => Some(command),
        Err(reason) => problems.is_empty().then_some(reason),
    }
}

/// Returns the advice for a GPU without slices; for the one that is partitioned with the least change when none is named.
pub(crate) fn advice_for(node: &NodeSource, index: Option<GpuIndex>) -> String {
    find(node, index).unwrap_or_else(|reason| reason)
}

/// Finds a command that makes slices, or the reason why there is none.
fn find(node: &NodeSource, index: Option<GpuIndex>) -> Result<String, String> {
    const GENERAL: &str = "sudo mig-cdi profiles lists the profiles of each gpu, and sudo mig-cdi apply creates slices";
    const DOCTOR: &str = "run mig-cdi doctor";
    let Ok(gpus) = NodeGpus::read_available(node, &NoMessages, "it is omitted") else {
        return Ok(GENERAL.to_owned());
    };
    let wanted = |gpu: &&GpuPartitioning| index.is_none_or(|index| index.0 == gpu.index);
    let wanted: Vec<_> = gpus.all.iter().filter(wanted).collect();
    if let Some(first) = FirstLayout::all(wanted.iter().copied()).first() {
        return Ok(first.advice());
    }
    let is_unread = !gpus.unreadable.is_empty() && (index.is_none() || wanted.is_empty());
    Err(match (index, &wanted[..]) {
        _ if is_unread && gpus.is_denied() => return Ok(GENERAL.to_owned()),
        _ if is_unread || wanted.iter().any(|gpu| has_slices(gpu)) => DOCTOR.to_owned(),
        (Some(index), []) => format!("this node has no gpu {index}"),
        (Some(index), [gpu]) if gpu.mig.is_none() => format!("gpu {index} does not support mig"),
        _ if wanted.iter().any(|gpu| gpu.mig.is_some()) => {
            "the driver lists no profile; reset the gpu, or reboot".to_owned()
        }
        _ => "no gpu of this node supports mig".to_owned(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// In MIG mode there is nothing that `none` would do.
    #[test]
    fn a_layout_promises_what_it_does() {
        let gpu = |mig, profiles| GpuPartitioning {
            index: 3,
            uuid: String::new(),
            pci: String::new(),
            device_id: 0,
            subsystem_id: 0,
            minor: 0,
            model: String::new(),
            mig,
            pending_mode: None,
            resetless: false,
            profiles,
            instances: Vec::new(),
            processes: Vec::new(),
        };
        let advice =
            |mig, profiles| FirstLayout::of(&gpu(mig, profiles)).map(|first| first.advice());
        assert_eq!(advice(None, Vec::new()), None);
        assert_eq!(advice(Some(true), Vec::new()), None);
        let mode =
            "sudo mig-cdi apply 3=none turns on mig mode, in which the driver lists its profiles";
        assert_eq!(advice(Some(false), Vec::new()).as_deref(), Some(mode));
    }
}
