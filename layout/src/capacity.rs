//! The profiles and placements that the driver reports for one GPU.

use mig_cdi_model::{Placement, Profile};

/// Numbers of media engines. A GPU instance owns whole engines; its compute instances share them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaEngines {
    /// Video decoders (NVDEC).
    pub decoders: u32,
    /// Video encoders (NVENC).
    pub encoders: u32,
    /// JPEG engines (NVJPG).
    pub jpeg: u32,
    /// Optical flow engines (OFA).
    pub ofa: u32,
}

/// A profile of compute instances within a GPU instance: `nvmlComputeInstanceProfileInfo_t`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeInstanceProfile {
    /// Profile id, as `nvidia-smi mig -lcip` prints it.
    pub id: u32,
    /// Compute slices of one instance.
    pub slices: u32,
    /// Most instances of this profile in one GPU instance.
    pub max: u32,
    /// Possible placements, in compute slices of the GPU instance.
    pub placements: Vec<Placement>,
}

/// A profile of GPU instances: `nvmlGpuInstanceProfileInfo_t` with its possible placements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInstanceProfile {
    /// Profile name, such as `2g.20gb`.
    pub name: Profile,
    /// Profile id, as `nvidia-smi mig -lgip` prints it. It is unique within the GPU and differs from
    /// the `NVML_GPU_INSTANCE_PROFILE_*` number that NVML takes as an argument.
    pub id: u32,
    /// Most instances of this profile on a GPU that has no other instance.
    pub max: u32,
    /// Compute slices of one instance.
    pub slices: u32,
    /// Media engines of one instance.
    pub engines: MediaEngines,
    /// Possible placements, in memory slices.
    pub placements: Vec<Placement>,
    /// Profiles of compute instances within one instance. NVML reports them for an existing GPU
    /// instance only (`nvmlGpuInstanceGetComputeInstanceProfileInfo` takes a `nvmlGpuInstance_t`).
    pub compute: Vec<ComputeInstanceProfile>,
}

impl GpuInstanceProfile {
    /// Memory slices of one instance; 0 for a profile without a placement.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.placements.iter().map(|placement| placement.size).min().unwrap_or(0)
    }

    /// Amount of each of [`RESOURCES`] that one instance takes.
    pub(crate) fn needs(&self) -> [u32; RESOURCES.len()] {
        let MediaEngines { decoders, encoders, jpeg, ofa } = self.engines;
        [self.size(), self.slices, decoders, encoders, jpeg, ofa]
    }
}

/// Resources of a GPU that the instances on it share out, by the name that messages use.
pub(crate) const RESOURCES: [&str; 6] = [
    "memory slices",
    "compute slices",
    "decoders",
    "encoders",
    "JPEG engines",
    "optical flow engines",
];

/// Capacity of one GPU: the profiles that it can be partitioned into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuCapacity {
    /// Every profile of GPU instances, in display order. Empty when the GPU has no MIG, and with some
    /// drivers while its MIG mode is off.
    pub profiles: Vec<GpuInstanceProfile>,
}

impl GpuCapacity {
    /// Returns the profile with this id.
    #[must_use]
    pub fn by_id(&self, id: u32) -> Option<&GpuInstanceProfile> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// Returns the profile with this name.
    #[must_use]
    pub fn by_name(&self, name: &Profile) -> Option<&GpuInstanceProfile> {
        self.profiles.iter().find(|profile| profile.name == *name)
    }

    /// Memory slices of the GPU: the end of its furthest placement.
    #[must_use]
    pub fn memory_slices(&self) -> u32 {
        let ends = self.profiles.iter().flat_map(|profile| &profile.placements);
        ends.map(|placement| placement.start.saturating_add(placement.size)).max().unwrap_or(0)
    }

    /// Amount of each of [`RESOURCES`] on the whole GPU.
    pub(crate) fn totals(&self) -> [u32; RESOURCES.len()] {
        // NVML reports no totals, only how many instances of each profile fit (`instanceCount` of
        // nvmlGpuInstanceProfileInfo_t). The GPU has at least what that many instances take, and no
        // combination of instances in NVIDIA's tables takes more.
        let mut totals = [0; RESOURCES.len()];
        for profile in &self.profiles {
            for (total, need) in totals.iter_mut().zip(profile.needs()) {
                *total = (*total).max(profile.max.saturating_mul(need));
            }
        }
        // Placements give the exact number of memory slices, counts only a lower bound: seven 1g take
        // seven of eight.
        totals[0] = self.memory_slices();
        totals
    }
}
