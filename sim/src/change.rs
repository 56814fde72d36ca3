//! What a driver does when it is told to divide a GPU: the change, or the reason why not.

use crate::{
    Compute, Gpu, Instance, Node, ProfileRow,
    placement::{MAX_COMPUTE, check_counts, mask},
};
use mig_cdi_model::Placement;

/// Why the driver does not do it. Each is a code of nvml.h.
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
    #[error("not enough is left: slices, engines, or places to start at")]
    InsufficientResources,
}

impl Node {
    fn there(&self, gpu: usize) -> Result<&Gpu, Refusal> {
        let gpu = self.gpus.get(gpu).ok_or(Refusal::InvalidArgument)?;
        if gpu.lost { Err(Refusal::GpuLost) } else { Ok(gpu) }
    }

    /// A GPU that instances can be made and destroyed on.
    fn divided(&mut self, gpu: usize) -> Result<&mut Gpu, Refusal> {
        if !self.there(gpu)?.mig {
            return Err(Refusal::NotSupported);
        }
        Ok(&mut self.gpus[gpu])
    }

    /// Makes a GPU instance and gives its id, the lowest of its range that is free. Without a start
    /// it sits as high as it can: this refuses 9 after 19, 19, 14, and puts the second of two 3g at
    /// 0, as NVIDIA's MIG guide shows.
    ///
    /// # Errors
    /// `InvalidArgument` for a profile or start that this GPU does not know, `NotSupported` when MIG
    /// is off, `InUse` when a process has the whole GPU, `InsufficientResources` when none fits.
    pub fn create_gpu_instance(
        &mut self,
        gpu: usize,
        profile_id: u32,
        start: Option<u32>,
    ) -> Result<u32, Refusal> {
        let gpu = self.divided(gpu)?;
        let row = gpu.model.profile_by_id(profile_id).ok_or(Refusal::InvalidArgument)?;
        if start.is_some_and(|start| !row.starts.contains(&start)) {
            return Err(Refusal::InvalidArgument);
        }
        if gpu.has_whole_gpu_process() {
            return Err(Refusal::InUse);
        }
        let full = Refusal::InsufficientResources;
        let mut rows = gpu.rows();
        rows.push(row);
        check_counts(gpu.model, &rows).map_err(|_| full)?;
        let wished = |at: &u32| start.is_none_or(|start| start == *at);
        let start = gpu.free_starts(row).filter(wished).last().ok_or(full)?;
        let taken = |id: &u32| gpu.instances.iter().any(|gi| gi.id == *id);
        let id = gpu.model.instance_ids(row.size).find(|id| !taken(id)).ok_or(full)?;
        let placement = Placement { start, size: row.size };
        gpu.instances.push(Instance { id, profile: row, placement, compute: Vec::new() });
        gpu.instances.sort_by_key(|gi| gi.id);
        Ok(id)
    }

    /// Destroys a GPU instance.
    ///
    /// # Errors
    /// `InUse` when it has compute instances or a process, or a process has the whole GPU; `NotFound`.
    pub fn destroy_gpu_instance(&mut self, gpu: usize, gi: u32) -> Result<(), Refusal> {
        let gpu = self.divided(gpu)?;
        let found = gpu.instances.iter().position(|there| there.id == gi);
        let found = found.ok_or(Refusal::NotFound)?;
        let runs = gpu.processes.iter().any(|process| process.gi == Some(gi));
        if runs || gpu.has_whole_gpu_process() || !gpu.instances[found].compute.is_empty() {
            return Err(Refusal::InUse);
        }
        gpu.instances.remove(found);
        Ok(())
    }

    /// Makes a compute instance of a GPU instance and gives its id, the lowest that is free. Without
    /// a start it sits as low as it can.
    ///
    /// # Errors
    /// `NotFound` for the GPU instance, `NotSupported` for a profile that it does not have,
    /// `InvalidArgument` for a start, `InsufficientResources` when none fits.
    pub fn create_compute_instance(
        &mut self,
        gpu: usize,
        gi: u32,
        profile: u32,
        start: Option<u32>,
    ) -> Result<u32, Refusal> {
        let without_profile = self.names_without_profile;
        let gpu = self.divided(gpu)?;
        let there = gpu.instance_mut(gi)?;
        let size = there.profile.compute_size(profile).ok_or(Refusal::NotSupported)?;
        let row = there.profile;
        if start.is_some_and(|start| row.compute_places(size).all(|place| place.start != start)) {
            return Err(Refusal::InvalidArgument);
        }
        let full = Refusal::InsufficientResources;
        let wished = |place: &Placement| start.is_none_or(|start| start == place.start);
        let place = there.free_places(size).find(wished).ok_or(full)?;
        let taken = |id: &u32| there.compute.iter().any(|ci| ci.id == *id);
        let id = (0..MAX_COMPUTE).find(|id| !taken(id)).ok_or(full)?;
        there.compute.push(Compute::unnamed(row, id, place));
        there.compute.sort_by_key(|ci| ci.id);
        gpu.name(without_profile);
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
        let gpu = self.divided(gpu)?;
        let runs = gpu.processes.iter().any(|p| (p.gi, p.ci) == (Some(gi), Some(ci)));
        let there = gpu.instance_mut(gi)?;
        let found = there.compute.iter().position(|there| there.id == ci);
        let found = found.ok_or(Refusal::NotFound)?;
        if runs {
            return Err(Refusal::InUse);
        }
        there.compute.remove(found);
        Ok(())
    }

    /// Turns MIG mode on or off. `false` when it is pending: Ampere needs a reset, which is done at
    /// once when nobody has the GPU open (nvml.h at `nvmlDeviceSetMigMode`).
    ///
    /// # Errors
    /// `NotSupported` on a GPU that cannot be divided; `InUse` when instances would be left behind,
    /// and when processes run on a GPU that changes without a reset.
    pub fn set_mig_mode(&mut self, gpu: usize, on: bool) -> Result<bool, Refusal> {
        if self.there(gpu)?.model.profiles.is_empty() {
            return Err(Refusal::NotSupported);
        }
        let gpu = &mut self.gpus[gpu];
        if gpu.mig == on {
            gpu.mig_pending = on;
            return Ok(true);
        }
        if !gpu.instances.is_empty() {
            return Err(Refusal::InUse);
        }
        let busy = !gpu.processes.is_empty();
        match gpu.model.is_resetless() {
            true if busy => return Err(Refusal::InUse),
            false if busy || gpu.held => gpu.mig_pending = on,
            _ => (gpu.mig, gpu.mig_pending) = (on, on),
        }
        Ok(gpu.mig == on)
    }

    /// How many more GPU instances of a profile fit.
    ///
    /// # Errors
    /// `NotSupported` when MIG is off or the GPU does not have the profile.
    pub fn remaining(&self, gpu: usize, profile_id: u32) -> Result<u32, Refusal> {
        let gpu = self.there(gpu)?;
        let row = gpu.model.profile_by_id(profile_id).filter(|_| gpu.mig);
        let row = row.ok_or(Refusal::NotSupported)?;
        let mut rows = gpu.rows();
        // Places of one profile do not overlap, so the engines and maxima say how many of them.
        let fits = |_: &u32| {
            rows.push(row);
            check_counts(gpu.model, &rows).is_ok()
        };
        Ok(gpu.free_starts(row).take_while(fits).map(|_| 1).sum())
    }

    /// Where GPU instances of a profile may sit, whatever is there now and whether MIG is on.
    ///
    /// # Errors
    /// `NotSupported` when the GPU does not have the profile.
    pub fn possible(&self, gpu: usize, profile_id: u32) -> Result<Vec<Placement>, Refusal> {
        let gpu = self.there(gpu)?;
        let row = gpu.model.profile_by_id(profile_id).ok_or(Refusal::NotSupported)?;
        Ok(row.starts.iter().map(|&start| Placement { start, size: row.size }).collect())
    }

    /// How many more compute instances of a profile fit in a GPU instance.
    ///
    /// # Errors
    /// `NotFound` for the GPU instance, `NotSupported` for the profile.
    pub fn remaining_compute(&self, gpu: usize, gi: u32, profile: u32) -> Result<u32, Refusal> {
        let there = self.there(gpu)?.instance(gi)?;
        let size = there.profile.compute_size(profile).ok_or(Refusal::NotSupported)?;
        let (mut end, mut count) = (0, 0);
        for place in there.free_places(size) {
            if place.start >= end {
                (end, count) = (place.start + size, count + 1);
            }
        }
        Ok(count)
    }

    /// Where compute instances of a profile may sit in a GPU instance, whatever is there now.
    ///
    /// # Errors
    /// As [`Node::remaining_compute`].
    pub fn possible_compute(
        &self,
        gpu: usize,
        gi: u32,
        profile: u32,
    ) -> Result<Vec<Placement>, Refusal> {
        let there = self.there(gpu)?.instance(gi)?;
        let size = there.profile.compute_size(profile).ok_or(Refusal::NotSupported)?;
        Ok(there.profile.compute_places(size).collect())
    }
}

impl Gpu {
    /// The rows of what is there.
    fn rows(&self) -> Vec<&'static ProfileRow> {
        self.instances.iter().map(|gi| gi.profile).collect()
    }

    /// The starts of a profile at which nothing sits.
    fn free_starts(&self, row: &'static ProfileRow) -> impl Iterator<Item = u32> + use<> {
        let taken = self.instances.iter().map(|gi| mask(gi.placement.start, gi.placement.size));
        let taken = taken.fold(0, |all, mask| all | mask);
        row.starts.iter().copied().filter(move |start| taken & mask(*start, row.size) == 0)
    }

    /// A client of the whole GPU keeps every instance from being made or destroyed (`IN_USE`;
    /// open-gpu-kernel-modules `kernel_mig_manager.c` l.5627-5635, 6168-6189).
    fn has_whole_gpu_process(&self) -> bool {
        self.processes.iter().any(|process| process.gi.is_none())
    }

    fn instance(&self, gi: u32) -> Result<&Instance, Refusal> {
        self.instances.iter().find(|there| there.id == gi).ok_or(Refusal::NotFound)
    }

    fn instance_mut(&mut self, gi: u32) -> Result<&mut Instance, Refusal> {
        self.instances.iter_mut().find(|there| there.id == gi).ok_or(Refusal::NotFound)
    }
}

impl Instance {
    /// The places of compute instances of `size` slices at which nothing sits, lowest first.
    fn free_places(&self, size: u32) -> impl Iterator<Item = Placement> + use<> {
        let taken = self.compute.iter().map(|ci| mask(ci.placement.start, ci.placement.size));
        let taken = taken.fold(0, |all, mask| all | mask);
        let places = self.profile.compute_places(size);
        places.filter(move |place| taken & mask(place.start, size) == 0)
    }
}
