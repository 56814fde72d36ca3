//! What NVML says of a GPU, as the planner takes it.

use crate::holders::Holders;
use mig_cdi_layout::{
    ComputeInstanceProfile, CurrentComputeInstance, CurrentInstance, GpuCapacity,
    GpuInstanceProfile, MediaEngines,
};
use mig_cdi_model::{CiId, GiId, Placement};
use mig_cdi_sys::nvml::{ComputeProfile, GpuPartitioning, GpuProfile};

/// What a GPU can be divided into. `all` are the GPUs of the node: NVML tells the compute instances of a
/// GPU instance that there is, so others of the model are asked for those of one that is not.
pub fn offer(gpu: &GpuPartitioning, all: &[GpuPartitioning]) -> GpuCapacity {
    let of_model = || all.iter().filter(|other| other.model == gpu.model);
    let told = |id: u32| {
        let mut instances = of_model().flat_map(|other| &other.instances);
        instances.find(|instance| instance.profile == id).map(|found| &found.compute_profiles)
    };
    let profile = |profile: &GpuProfile| {
        let compute = match told(profile.id) {
            Some(told) => told.iter().map(compute_offer).collect(),
            None => (1..=profile.slices).map(|size| presumed(size, profile.slices)).collect(),
        };
        Some(GpuInstanceProfile {
            name: profile.name.clone()?,
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

fn compute_offer(profile: &ComputeProfile) -> ComputeInstanceProfile {
    let ComputeProfile { id, slices, max, ref placements } = *profile;
    let placements = placements.clone();
    ComputeInstanceProfile { id, slices, max, placements }
}

/// A compute instance of a GPU instance that is not there yet. Whether there is such a one, the driver
/// says when the GPU instance is made; if not, all is undone.
fn presumed(size: u32, slices: u32) -> ComputeInstanceProfile {
    let placements = (0..=slices - size).map(|start| Placement { start, size }).collect();
    ComputeInstanceProfile { id: size - 1, slices: size, max: slices / size, placements }
}

/// How a GPU is divided, and who holds what.
pub fn instances(gpu: &GpuPartitioning, holders: &Holders) -> Vec<CurrentInstance> {
    let of_instance = |gi: &mig_cdi_sys::nvml::NvmlGpuInstance| CurrentInstance {
        id: GiId(gi.id),
        profile: gi.profile,
        placement: gi.placement,
        holders: holders.of(gpu.minor, gi.id, None),
        compute: gi.compute.iter().map(|ci| compute(gpu, gi.id, ci, holders)).collect(),
    };
    gpu.instances.iter().map(of_instance).collect()
}

fn compute(
    gpu: &GpuPartitioning,
    gi: u32,
    ci: &mig_cdi_sys::nvml::NvmlComputeInstance,
    holders: &Holders,
) -> CurrentComputeInstance {
    let holders = holders.of(gpu.minor, gi, Some(ci.id));
    CurrentComputeInstance { id: CiId(ci.id), placement: ci.placement, holders }
}

/// Where one more could be made. A place that no instance overlaps is no good when other slices or engines
/// are used up, which the driver counts.
pub fn free(gpu: &GpuPartitioning, profile: &GpuProfile) -> Vec<Placement> {
    if profile.remaining == Some(0) {
        return Vec::new();
    }
    let taken = |place: &Placement| {
        let overlaps = |there: Placement| {
            place.start < there.start.saturating_add(there.size)
                && there.start < place.start.saturating_add(place.size)
        };
        gpu.instances.iter().any(|instance| overlaps(instance.placement))
    };
    profile.placements.iter().filter(|place| !taken(place)).copied().collect()
}
