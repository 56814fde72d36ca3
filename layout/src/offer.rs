//! What a GPU can be divided into, as its driver says.

use mig_cdi_model::{Placement, Profile};

/// Media engines. A GPU instance takes whole ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Engines {
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg: u32,
    /// Optical flow engines.
    pub ofa: u32,
}

/// A profile of compute instances within a GPU instance: `nvmlComputeInstanceProfileInfo_t`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeOffer {
    /// The id that nvidia-smi shows.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// How many a GPU instance holds at most.
    pub max: u32,
    /// Where it may sit, in compute slices of the GPU instance.
    pub placements: Vec<Placement>,
}

/// A profile of GPU instances: `nvmlGpuInstanceProfileInfo_t` and its possible placements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileOffer {
    /// `2g.20gb`.
    pub name: Profile,
    /// The id that nvidia-smi shows, unique within the GPU; not the number of NVML's enumeration.
    pub id: u32,
    /// How many the GPU holds at most when it holds nothing else.
    pub max: u32,
    /// Compute slices.
    pub slices: u32,
    /// Media engines.
    pub engines: Engines,
    /// Where it may sit, in memory slices.
    pub placements: Vec<Placement>,
    /// What it can be divided into. The driver tells it only of a GPU instance that is there.
    pub compute: Vec<ComputeOffer>,
}

impl ProfileOffer {
    /// Memory slices that one takes; 0 for a profile without a placement.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.placements.iter().map(|placement| placement.size).min().unwrap_or(0)
    }

    pub(crate) fn needs(&self) -> [u32; RESOURCES.len()] {
        let Engines { decoders, encoders, jpeg, ofa } = self.engines;
        [self.size(), self.slices, decoders, encoders, jpeg, ofa]
    }
}

/// What the sum over all GPU instances may not exceed.
pub(crate) const RESOURCES: [&str; 6] = [
    "memory slices",
    "compute slices",
    "decoders",
    "encoders",
    "JPEG engines",
    "optical flow engines",
];

/// What one GPU can be divided into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// Every profile of GPU instances, in the order to show them.
    pub profiles: Vec<ProfileOffer>,
}

impl Offer {
    /// The profile of this id.
    #[must_use]
    pub fn by_id(&self, id: u32) -> Option<&ProfileOffer> {
        self.profiles.iter().find(|profile| profile.id == id)
    }

    /// The profile of this name.
    #[must_use]
    pub fn by_name(&self, name: &Profile) -> Option<&ProfileOffer> {
        self.profiles.iter().find(|profile| profile.name == *name)
    }

    /// Memory slices of the GPU: where the furthest placement ends.
    #[must_use]
    pub fn memory_slices(&self) -> u32 {
        let ends = self.profiles.iter().flat_map(|profile| &profile.placements);
        ends.map(|placement| placement.start.saturating_add(placement.size)).max().unwrap_or(0)
    }

    /// How much of each resource there is. NVML gives no totals, but says how many of a profile fit:
    /// there is at least what so many take, and no set of instances was seen to take more.
    pub(crate) fn totals(&self) -> [u32; RESOURCES.len()] {
        let mut totals = [0; RESOURCES.len()];
        for profile in &self.profiles {
            for (total, need) in totals.iter_mut().zip(profile.needs()) {
                *total = (*total).max(profile.max.saturating_mul(need));
            }
        }
        totals[0] = self.memory_slices();
        totals
    }
}
