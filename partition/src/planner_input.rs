//! A GPU in the planner's terms: its capacity, its current instances with their holders, and the placements that are free.
//!
//! Converts what NVML reports. It makes no NVML call, and it has no table of profiles.

use crate::holders::Holders;
use mig_cdi_layout::{
    ComputeInstanceProfile, CurrentComputeInstance, CurrentInstance, GpuCapacity,
    GpuInstanceProfile, MediaEngines,
};
use mig_cdi_model::{CiId, GiId, Placement};
use mig_cdi_sys::nvml::{
    ComputeProfile, GpuPartitioning, GpuProfile, NvmlComputeInstance, NvmlGpuInstance,
};

/// Returns the profiles that a GPU can be partitioned into. `all` are the GPUs of the node.
pub(crate) fn capacity(gpu: &GpuPartitioning, all: &[GpuPartitioning]) -> GpuCapacity {
    // nvml.h takes an existing GPU instance to list the profiles of compute instances
    // (nvmlGpuInstanceGetComputeInstanceProfileInfoV). For a GPU instance that is still to be created, one of the
    // same profile on a GPU of the same model stands in.
    let same_model = || all.iter().filter(|other| other.model == gpu.model);
    let reported_compute = |id: u32| {
        let mut instances = same_model().flat_map(|other| &other.instances);
        instances.find(|instance| instance.profile == id).map(|found| &found.compute_profiles)
    };
    let profile = |profile: &GpuProfile| {
        let compute = match reported_compute(profile.id) {
            Some(reported) => {
                reported.iter().map(|compute| compute_profile(compute, profile.slices)).collect()
            }
            None => {
                let sizes = 1..=profile.slices;
                sizes.map(|size| assumed_compute_profile(size, profile.slices)).collect()
            }
        };
        Some(GpuInstanceProfile {
            // The driver's name or none: GB200's names have changed between releases with the PCI id unchanged (mig-parted
            // issue 227, gpu-operator issue 1303), so no table can supply one.
            name: profile.name.clone()?,
            // The id within the device, as in `nvidia-smi mig -lgip`; NVML's enum has other numbers.
            id: profile.id,
            max: profile.max,
            slices: profile.slices,
            engines: MediaEngines {
                decoders: profile.decoders,
                encoders: profile.encoders,
                jpeg: profile.jpeg,
                ofa: profile.ofa,
            },
            placements: profile.placements.clone(),
            compute,
        })
    };
    GpuCapacity { profiles: gpu.profiles.iter().filter_map(profile).collect() }
}

/// Returns a profile of compute instances as the driver reports it, of a GPU instance of so many slices.
fn compute_profile(profile: &ComputeProfile, gpu_instance_slices: u32) -> ComputeInstanceProfile {
    let ComputeProfile { id, slices, max, ref placements } = *profile;
    // Drivers before 525 report none.
    let placements = match placements.is_empty() {
        true => all_placements(slices, gpu_instance_slices),
        false => placements.clone(),
    };
    ComputeInstanceProfile { id, slices, max, placements }
}

/// Returns every place for `size` compute slices among so many.
fn all_placements(size: u32, slices: u32) -> Vec<Placement> {
    (0..=slices.saturating_sub(size)).map(|start| Placement { start, size }).collect()
}

/// Returns a profile of compute instances that a GPU instance of so many `slices` may have.
///
/// Not every size exists: a 4g.40gb of an A100 has no 3c. The driver refuses such a one once the GPU instance is created, and
/// the change is undone. The id is for display only: NVML creates compute instances by size and placement.
fn assumed_compute_profile(size: u32, slices: u32) -> ComputeInstanceProfile {
    let placements = all_placements(size, slices);
    ComputeInstanceProfile { id: size - 1, slices: size, max: slices / size, placements }
}

/// Returns the GPU instances of a GPU, with their compute instances and the holders of each.
pub(crate) fn current_instances(gpu: &GpuPartitioning, holders: &Holders) -> Vec<CurrentInstance> {
    let instance = |gi: &NvmlGpuInstance| CurrentInstance {
        id: GiId(gi.id),
        profile: gi.profile,
        // From NVML: the id does not determine it. Of two 3g.40gb the one with id 1 is at 4:4 on one board, at 0:4 on another.
        placement: gi.placement,
        holders: holders.of_gpu_instance_or_gpu(gpu.minor, gi.id),
        compute: gi.compute.iter().map(|ci| compute_instance(gpu, gi.id, ci, holders)).collect(),
    };
    gpu.instances.iter().map(instance).collect()
}

fn compute_instance(
    gpu: &GpuPartitioning,
    gi: u32,
    ci: &NvmlComputeInstance,
    holders: &Holders,
) -> CurrentComputeInstance {
    let holders = holders.of_compute_instance(gpu.minor, gi, ci.id);
    CurrentComputeInstance { id: CiId(ci.id), placement: ci.placement, holders }
}

/// Returns the placements at which one more GPU instance of a profile can be created.
#[must_use]
pub fn free_placements(gpu: &GpuPartitioning, profile: &GpuProfile) -> Vec<Placement> {
    // Free memory slices are not enough: compute slices or media engines may be used up, as by the one +me instance that
    // a GPU can have. nvmlDeviceGetGpuInstanceRemainingCapacity counts them.
    if profile.remaining == Some(0) {
        return Vec::new();
    }
    let is_taken = |candidate: &Placement| {
        let overlaps = |taken: Placement| {
            candidate.start < taken.start.saturating_add(taken.size)
                && taken.start < candidate.start.saturating_add(candidate.size)
        };
        gpu.instances.iter().any(|instance| overlaps(instance.placement))
    };
    profile.placements.iter().filter(|placement| !is_taken(placement)).copied().collect()
}
