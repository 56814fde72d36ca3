//! What a simulated GPU offers, as NVML would say it.

use crate::{Model, ProfileRow};
use mig_cdi_layout::{ComputeOffer, Engines, Offer, ProfileOffer};
use mig_cdi_model::Placement;

impl Model {
    /// What it can be divided into.
    #[must_use]
    pub fn offer(&self) -> Offer {
        Offer { profiles: self.profiles.iter().map(ProfileRow::offer).collect() }
    }
}

impl ProfileRow {
    fn offer(&self) -> ProfileOffer {
        let ProfileRow { id, max, slices, size, decoders, ofa, .. } = *self;
        ProfileOffer {
            name: self.name.parse().expect("the tables hold names of profiles"),
            id,
            max,
            slices,
            engines: Engines { decoders, ofa, ..Engines::default() },
            placements: self.starts.iter().map(|&start| Placement { start, size }).collect(),
            compute: self.compute_sizes().iter().map(|&size| self.compute_offer(size)).collect(),
        }
    }

    fn compute_offer(&self, size: u32) -> ComputeOffer {
        let (id, max) = (self.compute_id(size), self.slices / size);
        ComputeOffer { id, slices: size, max, placements: self.compute_places(size).collect() }
    }

    /// Where compute instances of `size` slices may sit: anywhere in the GPU instance.
    pub(crate) fn compute_places(&self, size: u32) -> impl Iterator<Item = Placement> + use<> {
        (0..=self.slices - size).map(move |start| Placement { start, size })
    }
}
