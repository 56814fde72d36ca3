//! The capacity of a simulated GPU, as NVML would report it.

use crate::{Model, ProfileRow};
use mig_cdi_layout::{ComputeInstanceProfile, GpuCapacity, GpuInstanceProfile, MediaEngines};
use mig_cdi_model::Placement;

impl Model {
    /// Profiles that the GPU can be partitioned into.
    #[must_use]
    pub fn capacity(&self) -> GpuCapacity {
        let profiles = self.profiles.iter().map(ProfileRow::gpu_instance_profile);
        GpuCapacity { profiles: profiles.collect() }
    }
}

impl ProfileRow {
    fn gpu_instance_profile(&self) -> GpuInstanceProfile {
        let ProfileRow { id, max, slices, size, decoders, ofa, .. } = *self;
        let compute = self.compute_sizes().iter().map(|&size| self.compute_instance_profile(size));
        GpuInstanceProfile {
            name: self.name.parse().expect("the tables hold names of profiles"),
            id,
            max,
            slices,
            // Encoders and JPEG engines limit nothing more: in every table they come with decoders or with the optical
            // flow engine.
            engines: MediaEngines { decoders, ofa, ..MediaEngines::default() },
            placements: self.starts.iter().map(|&start| Placement { start, size }).collect(),
            compute: compute.collect(),
        }
    }

    fn compute_instance_profile(&self, size: u32) -> ComputeInstanceProfile {
        // As `nvidia-smi mig -lcip` lists them: 3 x 2c, 2 x 3c and 1 x 4c in a 7g.
        let (id, max) = (self.compute_id(size), self.slices / size);
        let placements = self.compute_placements(size).collect();
        ComputeInstanceProfile { id, slices: size, max, placements }
    }

    /// Possible placements of compute instances of `size` slices: anywhere in the GPU instance.
    pub(crate) fn compute_placements(&self, size: u32) -> impl Iterator<Item = Placement> + use<> {
        (0..=self.slices - size).map(move |start| Placement { start, size })
    }
}
