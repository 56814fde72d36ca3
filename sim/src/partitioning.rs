//! Partitioning calls as the driver carries them out: the change, or the refusal.

use crate::{
    ProfileRow, SimulatedComputeInstance, SimulatedGpu, SimulatedInstance, SimulatedNode,
    placement::{MAX_COMPUTE, check_counts, mask},
};
use mig_cdi_model::Placement;

/// A refusal of the driver; each is a return code of nvml.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `NVML_ERROR_INVALID_ARGUMENT`.
    #[error("no such gpu, profile or placement")]
    InvalidArgument,
    /// `NVML_ERROR_NOT_SUPPORTED`.
    #[error("the gpu cannot do this, is not in mig mode, or does not have this profile")]
    NotSupported,
    /// `NVML_ERROR_NOT_FOUND`.
    #[error("no instance has this id")]
    NotFound,
    /// `NVML_ERROR_GPU_IS_LOST`.
    #[error("the gpu has fallen off the bus")]
    GpuLost,
    /// `NVML_ERROR_IN_USE`.
    #[error("in use: something runs there, or instances are left in it")]
    InUse,
    /// `NVML_ERROR_INSUFFICIENT_RESOURCES`.
    #[error("not enough slices, engines or placements are left")]
    InsufficientResources,
}

impl SimulatedNode {
    /// Returns a GPU that is not lost.
    fn present(&self, gpu: usize) -> Result<&SimulatedGpu, Refusal> {
        let gpu = self.gpus.get(gpu).ok_or(Refusal::InvalidArgument)?;
        if gpu.is_lost { Err(Refusal::GpuLost) } else { Ok(gpu) }
    }

    /// Returns a GPU in MIG mode.
    fn partitioned(&mut self, gpu: usize) -> Result<&mut SimulatedGpu, Refusal> {
        if !self.present(gpu)?.is_mig_enabled {
            return Err(Refusal::NotSupported);
        }
        Ok(&mut self.gpus[gpu])
    }

    /// Creates a GPU instance and returns its id, the lowest free one of its range.
    ///
    /// Without a start it takes the highest free placement: so the driver refuses profile 9 after 19, 19,
    /// 14, and places the second of two 3g at 0, as NVIDIA's MIG user guide shows.
    ///
    /// # Errors
    /// `InvalidArgument` for a profile or start that this GPU does not have, `NotSupported` when MIG mode
    /// is off, `InUse` when a process uses the whole GPU, `InsufficientResources` when nothing fits.
    pub fn create_gpu_instance(
        &mut self,
        gpu: usize,
        profile_id: u32,
        start: Option<u32>,
    ) -> Result<u32, Refusal> {
        let gpu = self.partitioned(gpu)?;
        let row = gpu.model.profile_by_id(profile_id).ok_or(Refusal::InvalidArgument)?;
        if start.is_some_and(|start| !row.starts.contains(&start)) {
            return Err(Refusal::InvalidArgument);
        }
        if gpu.has_whole_gpu_process() {
            return Err(Refusal::InUse);
        }
        // A slice that no placement covers is lost: 3g.40gb has three compute slices, but takes four memory slices.
        let full = Refusal::InsufficientResources;
        let mut rows = gpu.rows();
        rows.push(row);
        check_counts(gpu.model, &rows).map_err(|_| full)?;
        let is_allowed = |free: &u32| start.is_none_or(|start| start == *free);
        let start = gpu.free_starts(row).filter(is_allowed).last().ok_or(full)?;
        let taken = |id: &u32| gpu.instances.iter().any(|gi| gi.id == *id);
        // Which id of the range the driver picks is undocumented: seven 1g.10gb on an H100 PCIe are 7, 8, 9 and
        // 11 to 14 in a public log. The lowest free one is a choice of the simulation.
        let id = gpu.model.instance_ids(row.size).find(|id| !taken(id)).ok_or(full)?;
        let placement = Placement { start, size: row.size };
        gpu.instances.push(SimulatedInstance { id, profile: row, placement, compute: Vec::new() });
        gpu.instances.sort_by_key(|gi| gi.id);
        Ok(id)
    }

    /// Destroys a GPU instance.
    ///
    /// # Errors
    /// `InUse` when it has compute instances or a process, or a process uses the whole GPU; `NotFound`.
    pub fn destroy_gpu_instance(&mut self, gpu: usize, gi: u32) -> Result<(), Refusal> {
        let gpu = self.partitioned(gpu)?;
        let found = gpu.instances.iter().position(|existing| existing.id == gi);
        let found = found.ok_or(Refusal::NotFound)?;
        let runs = gpu.processes.iter().any(|process| process.gi == Some(gi));
        if runs || gpu.has_whole_gpu_process() || !gpu.instances[found].compute.is_empty() {
            return Err(Refusal::InUse);
        }
        gpu.instances.remove(found);
        Ok(())
    }

    /// Creates a compute instance in a GPU instance and returns its id, the lowest free one. Without a
    /// start it takes the lowest free placement.
    ///
    /// # Errors
    /// `NotFound` for the GPU instance, `NotSupported` for a profile that it does not have,
    /// `InvalidArgument` for a start, `InsufficientResources` when nothing fits.
    pub fn create_compute_instance(
        &mut self,
        gpu: usize,
        gi: u32,
        profile: u32,
        start: Option<u32>,
    ) -> Result<u32, Refusal> {
        let without_profile = self.names_without_profile;
        let gpu = self.partitioned(gpu)?;
        let instance = gpu.instance_mut(gi)?;
        let size = instance.profile.compute_size(profile).ok_or(Refusal::NotSupported)?;
        let row = instance.profile;
        if start.is_some_and(|start| row.compute_placements(size).all(|place| place.start != start))
        {
            return Err(Refusal::InvalidArgument);
        }
        let full = Refusal::InsufficientResources;
        let is_allowed = |place: &Placement| start.is_none_or(|start| start == place.start);
        let place = instance.free_placements(size).find(is_allowed).ok_or(full)?;
        let taken = |id: &u32| instance.compute.iter().any(|ci| ci.id == *id);
        let id = (0..MAX_COMPUTE).find(|id| !taken(id)).ok_or(full)?;
        instance.compute.push(SimulatedComputeInstance::unnamed(row, id, place));
        instance.compute.sort_by_key(|ci| ci.id);
        gpu.name_devices(without_profile);
        Ok(id)
    }

    /// Destroys a compute instance.
    ///
    /// # Errors
    /// `InUse` when a process runs on it; `NotFound`.
    pub fn destroy_compute_instance(
        &mut self,
        gpu: usize,
        gi: u32,
        ci: u32,
    ) -> Result<(), Refusal> {
        let gpu = self.partitioned(gpu)?;
        let runs = gpu.processes.iter().any(|p| (p.gi, p.ci) == (Some(gi), Some(ci)));
        let instance = gpu.instance_mut(gi)?;
        let found = instance.compute.iter().position(|existing| existing.id == ci);
        let found = found.ok_or(Refusal::NotFound)?;
        if runs {
            return Err(Refusal::InUse);
        }
        instance.compute.remove(found);
        Ok(())
    }

    /// Enables or disables MIG mode. Returns `false` while the change is pending: Ampere needs a reset, which
    /// the driver does at once when nothing has the GPU open (nvml.h at `nvmlDeviceSetMigMode`).
    ///
    /// # Errors
    /// `NotSupported` on a GPU without MIG; `InUse` when instances exist, and when processes run on a GPU
    /// that changes its mode without a reset.
    pub fn set_mig_mode(&mut self, gpu: usize, on: bool) -> Result<bool, Refusal> {
        if self.present(gpu)?.model.profiles.is_empty() {
            return Err(Refusal::NotSupported);
        }
        let gpu = &mut self.gpus[gpu];
        if gpu.is_mig_enabled == on {
            gpu.is_mig_enabled_after_reset = on;
            return Ok(true);
        }
        if !gpu.instances.is_empty() {
            return Err(Refusal::InUse);
        }
        let busy = !gpu.processes.is_empty();
        // Hopper and later change the mode at once; Ampere waits for the reset of an idle GPU, and one open monitor
        // (dcgm, a persistence daemon) keeps the change pending (NVIDIA's MIG user guide).
        match gpu.model.is_resetless() {
            true if busy => return Err(Refusal::InUse),
            false if busy || gpu.is_open => gpu.is_mig_enabled_after_reset = on,
            _ => (gpu.is_mig_enabled, gpu.is_mig_enabled_after_reset) = (on, on),
        }
        Ok(gpu.is_mig_enabled == on)
    }

    /// Returns how many more GPU instances of a profile fit
    /// (`nvmlDeviceGetGpuInstanceRemainingCapacity`).
    ///
    /// # Errors
    /// `NotSupported` when MIG mode is off or the GPU does not have the profile.
    pub fn remaining_capacity(&self, gpu: usize, profile_id: u32) -> Result<u32, Refusal> {
        let gpu = self.present(gpu)?;
        let row = gpu.model.profile_by_id(profile_id).filter(|_| gpu.is_mig_enabled);
        let row = row.ok_or(Refusal::NotSupported)?;
        let mut rows = gpu.rows();
        // Placements of one profile do not overlap, so only engines and maxima limit how many of them fit.
        let fits = |_: &u32| {
            rows.push(row);
            check_counts(gpu.model, &rows).is_ok()
        };
        Ok(gpu.free_starts(row).take_while(fits).map(|_| 1).sum())
    }

    /// Returns the possible placements of GPU instances of a profile, whatever exists now and whether or
    /// not MIG mode is on (`nvmlDeviceGetGpuInstancePossiblePlacements_v2`).
    ///
    /// # Errors
    /// `NotSupported` when the GPU does not have the profile.
    pub fn possible_placements(
        &self,
        gpu: usize,
        profile_id: u32,
    ) -> Result<Vec<Placement>, Refusal> {
        let gpu = self.present(gpu)?;
        let row = gpu.model.profile_by_id(profile_id).ok_or(Refusal::NotSupported)?;
        Ok(row.starts.iter().map(|&start| Placement { start, size: row.size }).collect())
    }

    /// Returns how many more compute instances of a profile fit in a GPU instance
    /// (`nvmlGpuInstanceGetComputeInstanceRemainingCapacity`).
    ///
    /// # Errors
    /// `NotFound` for the GPU instance, `NotSupported` for the profile.
    pub fn remaining_compute_capacity(
        &self,
        gpu: usize,
        gi: u32,
        profile: u32,
    ) -> Result<u32, Refusal> {
        let instance = self.present(gpu)?.instance(gi)?;
        let size = instance.profile.compute_size(profile).ok_or(Refusal::NotSupported)?;
        // Placements of one size may overlap here, unlike those of GPU instances: 2c can start at 0 and at 1.
        let (mut end, mut count) = (0, 0);
        for place in instance.free_placements(size) {
            if place.start >= end {
                (end, count) = (place.start + size, count + 1);
            }
        }
        Ok(count)
    }

    /// Returns the possible placements of compute instances of a profile in a GPU instance, whatever exists
    /// now (`nvmlGpuInstanceGetComputeInstancePossiblePlacements`).
    ///
    /// # Errors
    /// As [`SimulatedNode::remaining_compute_capacity`].
    pub fn possible_compute_placements(
        &self,
        gpu: usize,
        gi: u32,
        profile: u32,
    ) -> Result<Vec<Placement>, Refusal> {
        let instance = self.present(gpu)?.instance(gi)?;
        let size = instance.profile.compute_size(profile).ok_or(Refusal::NotSupported)?;
        Ok(instance.profile.compute_placements(size).collect())
    }
}

impl SimulatedGpu {
    /// Returns the profiles of the existing GPU instances.
    fn rows(&self) -> Vec<&'static ProfileRow> {
        self.instances.iter().map(|gi| gi.profile).collect()
    }

    /// Returns the starts of a profile at which its placement is free.
    fn free_starts(&self, row: &'static ProfileRow) -> impl Iterator<Item = u32> + use<> {
        let taken = self.instances.iter().map(|gi| mask(gi.placement.start, gi.placement.size));
        let taken = taken.fold(0, |all, mask| all | mask);
        row.starts.iter().copied().filter(move |start| taken & mask(*start, row.size) == 0)
    }

    /// Reports whether a process uses the whole GPU. Such a client keeps every instance from being created
    /// or destroyed (`IN_USE`; `kernel_mig_manager.c:5627-5635,6168-6189`).
    fn has_whole_gpu_process(&self) -> bool {
        self.processes.iter().any(|process| process.gi.is_none())
    }

    fn instance(&self, gi: u32) -> Result<&SimulatedInstance, Refusal> {
        self.instances.iter().find(|existing| existing.id == gi).ok_or(Refusal::NotFound)
    }

    fn instance_mut(&mut self, gi: u32) -> Result<&mut SimulatedInstance, Refusal> {
        self.instances.iter_mut().find(|existing| existing.id == gi).ok_or(Refusal::NotFound)
    }
}

impl SimulatedInstance {
    /// Returns the free placements of compute instances of `size` slices, lowest first.
    fn free_placements(&self, size: u32) -> impl Iterator<Item = Placement> + use<> {
        let taken = self.compute.iter().map(|ci| mask(ci.placement.start, ci.placement.size));
        let taken = taken.fold(0, |all, mask| all | mask);
        let places = self.profile.compute_placements(size);
        places.filter(move |place| taken & mask(place.start, size) == 0)
    }
}
