//! The layout of a checkpoint as a driver can make it today: another release may name a profile differently, or lack it.

use crate::{
    gpu_change::gpu_label,
    layout_source::{DesiredGpu, LayoutSource},
    node_gpus::NodeGpus,
};
use mig_cdi_config::layouts::GpuLayoutSetting;
use mig_cdi_gen::{Error, ErrorKind};
use mig_cdi_layout::{DesiredInstance, DesiredLayout, ProfileSelector};
use mig_cdi_model::Profile;
use mig_cdi_sys::nvml::{GpuPartitioning, GpuProfile};

/// Returns the layout with the present names of profiles, and without the instances whose profiles the GPU does not have. Where the driver
/// reports no profiles, as some do outside of MIG mode, it stays as it is.
pub(crate) fn restored(layout: &GpuLayoutSetting, gpu: &GpuPartitioning) -> GpuLayoutSetting {
    match layout {
        GpuLayoutSetting::Partitioned(desired) if !gpu.profiles.is_empty() => {
            let instances = desired.instances.iter().filter_map(|instance| present(instance, gpu));
            GpuLayoutSetting::Partitioned(DesiredLayout { instances: instances.collect() })
        }
        _ => layout.clone(),
    }
}

/// Returns an error for each instance of a checkpoint that was left out, since its GPU does not have the profile.
pub(crate) fn omitted_instances(
    gpus: &NodeGpus,
    desired: &[DesiredGpu<'_>],
    source: &LayoutSource,
) -> Vec<Error> {
    let omitted = |desired: &DesiredGpu<'_>| {
        // In MIG mode by now, in which every driver reports the profiles.
        let gpu = gpus.partitioner.gpu(&desired.gpu.uuid);
        omitted(&desired.layout, gpu.as_ref().unwrap_or(desired.gpu))
    };
    let of_checkpoint = desired.iter().filter(|_| source.is_checkpoint());
    of_checkpoint.flat_map(omitted).collect()
}

/// Returns an error for each instance that [`restored`] leaves out.
fn omitted(layout: &GpuLayoutSetting, gpu: &GpuPartitioning) -> Vec<Error> {
    let GpuLayoutSetting::Partitioned(desired) = layout else { return Vec::new() };
    let is_omitted =
        |instance: &&DesiredInstance| !gpu.profiles.is_empty() && present(instance, gpu).is_none();
    let error = |instance: &DesiredInstance| {
        Error::of(ErrorKind::Incomplete, format!("restore {instance} on"), gpu_label(gpu))
            .because("it is not a profile of this GPU, and is omitted")
            .with_cure("mig-cdi profiles lists those that it has")
    };
    desired.instances.iter().filter(is_omitted).map(error).collect()
}

fn present(instance: &DesiredInstance, gpu: &GpuPartitioning) -> Option<DesiredInstance> {
    let has = |profile: &&GpuProfile| match &instance.profile {
        ProfileSelector::Name(name) => profile.name.as_ref() == Some(name),
        ProfileSelector::Id(id) => profile.id == *id,
    };
    if gpu.profiles.iter().any(|profile| has(&profile)) {
        return Some(instance.clone());
    }
    let ProfileSelector::Name(name) = &instance.profile else { return None };
    let names = gpu.profiles.iter().filter_map(|profile| profile.name.as_ref());
    let mut renamed = names.filter(|present| is_renamed(name, present));
    let (Some(new), None) = (renamed.next(), renamed.next()) else { return None };
    let DesiredInstance { start, compute, .. } = instance.clone();
    Some(DesiredInstance::new(ProfileSelector::Name(new.clone()), start, compute))
}

/// Reports whether two names can be of one profile. Drivers name the memory that they leave to an instance, which differs between releases
/// by some percent: 1g.24gb and 1g.23gb of a GB200 (mig-parted issue 227). Two profiles of one GPU differ by half at least.
fn is_renamed(old: &Profile, new: &Profile) -> bool {
    let parts = |name: &Profile| {
        let (slices, rest) = name.as_str().split_once("g.")?;
        let (memory, attributes) = rest.split_once("gb")?;
        Some((slices.to_owned(), memory.parse::<u32>().ok()?, attributes.to_owned()))
    };
    let (Some(old), Some(new)) = (parts(old), parts(new)) else { return false };
    (&old.0, &old.2) == (&new.0, &new.2) && old.1.abs_diff(new.1) * 10 <= old.1.max(new.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_profile_differs_by_little_memory() {
        for (old, new, is_one) in [
            ("1g.24gb", "1g.23gb", true),
            ("7g.189gb", "7g.186gb", true),
            ("1g.24gb+me", "1g.23gb+me", true),
            ("1g.24gb", "1g.23gb+me", false),
            ("1g.24gb", "2g.23gb", false),
            ("1g.24gb", "1g.47gb", false),
            ("1g.12gb", "1g.24gb", false),
        ] {
            assert_eq!(
                is_renamed(&old.parse().unwrap(), &new.parse().unwrap()),
                is_one,
                "{old} {new}"
            );
        }
    }
}
