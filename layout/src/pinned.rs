//! Writes an existing partitioning as the desired layout that keeps it.

use crate::{
    CurrentInstance, DesiredComputeInstance, DesiredInstance, DesiredLayout, GpuCapacity,
    GpuInstanceProfile, ProfileSelector,
};

impl DesiredLayout {
    /// Returns the layout that exactly these instances meet: every GPU instance and compute instance at
    /// its placement. [`crate::plan`] from them to it has no step.
    #[must_use]
    pub fn of(capacity: &GpuCapacity, current: &[CurrentInstance]) -> DesiredLayout {
        let mut instances: Vec<_> =
            current.iter().map(|existing| DesiredInstance::of(capacity, existing)).collect();
        // By placement, not by id: ids do not follow placements. On an A100 two 3g.40gb are GPU
        // instance 1 at 4:4 and 2 at 0:4 (NVIDIA's MIG user guide).
        instances.sort_by_key(|instance| instance.start);
        DesiredLayout { instances }
    }
}

impl DesiredInstance {
    /// Returns the desired instance that only this GPU instance meets. A profile that the capacity does
    /// not list is written as its id.
    #[must_use]
    pub fn of(capacity: &GpuCapacity, existing: &CurrentInstance) -> DesiredInstance {
        let known = capacity.by_id(existing.profile);
        let name = known.map(|profile| ProfileSelector::Name(profile.name.clone()));
        let placements = existing.compute.iter().map(|compute| compute.placement);
        let compute: Vec<_> = placements
            .map(|place| DesiredComputeInstance { slices: place.size, start: Some(place.start) })
            .collect();
        // One that spans its GPU instance is the default of the format.
        let is_default = |profile: &GpuInstanceProfile| {
            compute == [DesiredComputeInstance { slices: profile.slices, start: Some(0) }]
        };
        let compute = if known.is_some_and(is_default) { None } else { Some(compute) };
        DesiredInstance::new(
            name.unwrap_or(ProfileSelector::Id(existing.profile)),
            Some(existing.placement.start),
            compute,
        )
    }

    /// Returns the same instance with its compute instances at any start.
    pub(crate) fn at_any_compute_start(self) -> DesiredInstance {
        let anywhere =
            |compute: DesiredComputeInstance| DesiredComputeInstance { start: None, ..compute };
        let compute = self.compute.map(|all| all.into_iter().map(anywhere).collect());
        DesiredInstance::new(self.profile, self.start, compute)
    }
}
