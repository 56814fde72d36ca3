//! Partitioning of a simulated node by the same calls as NVML's, with the same refusals.

use crate::{NvmlFault, ProfileRow, Refusal, SimulatedGpu, SimulatedInstance, SimulatedNode};
use mig_cdi_model::Placement;
use mig_cdi_sys::nvml::{
    CallError, ComputeProfile, GpuPartitioning, GpuProcess, GpuProfile, ModeChange,
    NvmlComputeInstance, NvmlError, NvmlGpuInstance, Partitioner,
};
use std::cell::RefCell;

/// A simulated node that can be partitioned. Its changes end with it.
#[derive(Debug)]
// A cell, since NVML's state is the driver's and its calls borrow nothing mutably.
pub(crate) struct SimulatedPartitioner(RefCell<SimulatedNode>);

impl SimulatedPartitioner {
    /// Starts NVML on a node.
    pub(crate) fn start(node: SimulatedNode) -> Result<SimulatedPartitioner, NvmlError> {
        let path = "libnvidia-ml.so.1 of the simulated node".to_owned();
        match node.nvml_fault {
            Some(NvmlFault::DriverNotLoaded) => Err(NvmlError::NotLoaded { path }),
            Some(NvmlFault::VersionMismatch) => Err(NvmlError::VersionMismatch { path }),
            None => Ok(SimulatedPartitioner(RefCell::new(node))),
        }
    }

    /// Makes a call for the GPU with this UUID.
    fn call<T>(
        &self,
        call: &'static str,
        uuid: &str,
        change: impl FnOnce(&mut SimulatedNode, usize) -> Result<T, Refusal>,
    ) -> Result<T, CallError> {
        let mut node = self.0.borrow_mut();
        // By UUID: to set the mode may unbind the GPU and change its minor number (nvml.h, `nvmlDeviceSetMigMode`).
        let mut visible = node.nvml_gpus();
        let found = visible.find(|(_, gpu)| gpu.uuid.to_string() == uuid);
        let position = found.map(|(position, _)| position);
        drop(visible);
        let done = position.ok_or(Refusal::InvalidArgument).and_then(|gpu| change(&mut node, gpu));
        done.map_err(|refusal| match refusal {
            Refusal::GpuLost => CallError::gpu_lost(call),
            refusal => CallError::new(call, refusal.to_string()),
        })
    }
}

impl Partitioner for SimulatedPartitioner {
    fn gpus(&self) -> Result<Vec<Result<GpuPartitioning, CallError>>, NvmlError> {
        let node = self.0.borrow();
        Ok(node.nvml_gpus().map(|(gpu, _)| partitioning(&node, gpu)).collect())
    }

    fn gpu(&self, uuid: &str) -> Result<GpuPartitioning, CallError> {
        let gpu = self.call("nvmlDeviceGetHandleByUUID", uuid, |_, gpu| Ok(gpu))?;
        partitioning(&self.0.borrow(), gpu)
    }

    fn set_mode(&self, uuid: &str, mig: bool) -> Result<ModeChange, CallError> {
        const CALL: &str = "nvmlDeviceSetMigMode";
        let done = self.call(CALL, uuid, |node, gpu| node.set_mig_mode(gpu, mig));
        let pending = || ModeChange::Pending(CallError::new(CALL, "something has the gpu open"));
        done.map(|now| if now { ModeChange::Done } else { pending() })
    }

    fn create_gpu_instance(
        &self,
        uuid: &str,
        profile: u32,
        at: Placement,
    ) -> Result<u32, CallError> {
        self.call("nvmlDeviceCreateGpuInstanceWithPlacement", uuid, |node, gpu| {
            node.create_gpu_instance(gpu, profile, Some(at.start))
        })
    }

    fn destroy_gpu_instance(&self, uuid: &str, gi: u32) -> Result<(), CallError> {
        self.call("nvmlGpuInstanceDestroy", uuid, |node, gpu| node.destroy_gpu_instance(gpu, gi))
    }

    fn create_compute_instance(&self, uuid: &str, gi: u32, at: Placement) -> Result<(), CallError> {
        self.call("nvmlGpuInstanceCreateComputeInstanceWithPlacement", uuid, |node, gpu| {
            let instances = &node.gpus[gpu].instances;
            let parent = instances.iter().find(|instance| instance.id == gi);
            let parent = parent.ok_or(Refusal::NotFound)?;
            let profile = parent.profile.compute_id(at.size);
            node.create_compute_instance(gpu, gi, profile, Some(at.start)).map(drop)
        })
    }

    fn destroy_compute_instance(&self, uuid: &str, gi: u32, ci: u32) -> Result<(), CallError> {
        self.call("nvmlComputeInstanceDestroy", uuid, |node, gpu| {
            node.destroy_compute_instance(gpu, gi, ci)
        })
    }
}

/// Returns the GPU at a position of the description as NVML reports it.
fn partitioning(node: &SimulatedNode, position: usize) -> Result<GpuPartitioning, CallError> {
    let gpu = &node.gpus[position];
    if gpu.is_lost {
        return Err(CallError::gpu_lost("nvmlDeviceGetHandleByIndex_v2"));
    }
    let model = gpu.model;
    let has_mig = !model.profiles.is_empty();
    let rows = model.profiles.iter();
    let mut profiles: Vec<_> = rows.map(|row| profile(node, position, row)).collect();
    profiles.sort_by_key(|profile| profile.id);
    let process = |process: &crate::ProcessDescription| GpuProcess {
        pid: process.pid,
        gi: process.gi,
        ci: process.ci,
    };
    Ok(GpuPartitioning {
        index: (0..)
            .zip(node.nvml_gpus())
            .find(|(_, (at, _))| *at == position)
            .map_or(0, |(index, _)| index),
        uuid: gpu.uuid.to_string(),
        pci: format!("0000{}", gpu.pci),
        device_id: model.pci_device,
        subsystem_id: model.pci_subsystem,
        minor: gpu.minor,
        model: model.product.to_owned(),
        mig: has_mig.then_some(gpu.is_mig_enabled),
        pending_mode: gpu.pending_mode(),
        resetless: model.is_resetless(),
        profiles,
        instances: instances(gpu),
        processes: gpu.processes.iter().map(process).collect(),
    })
}

/// Returns a profile as NVML reports it, with 0 for what the tables do not have.
fn profile(node: &SimulatedNode, gpu: usize, row: &ProfileRow) -> GpuProfile {
    let placements = row.starts.iter().map(|&start| Placement { start, size: row.size });
    GpuProfile {
        id: row.id,
        name: row.name.parse().ok(),
        max: row.max,
        remaining: node.remaining_capacity(gpu, row.id).ok(),
        slices: row.slices,
        memory_mib: row.memory_mib,
        multiprocessors: row.multiprocessors.unwrap_or(0),
        copy_engines: row.copy_engines.unwrap_or(0),
        decoders: row.decoders,
        encoders: row.encoders,
        jpeg: row.jpeg,
        ofa: row.ofa,
        placements: placements.collect(),
    }
}

fn instances(gpu: &SimulatedGpu) -> Vec<NvmlGpuInstance> {
    let instance = |existing: &SimulatedInstance| {
        let row = existing.profile;
        let compute_profiles = row.compute_sizes().iter().map(|&slices| ComputeProfile {
            id: row.compute_id(slices),
            slices,
            max: row.slices / slices,
            placements: row.compute_placements(slices).collect(),
        });
        let compute = existing.compute.iter().map(|ci| NvmlComputeInstance {
            id: ci.id,
            profile: row.compute_id(ci.placement.size),
            placement: ci.placement,
        });
        NvmlGpuInstance {
            id: existing.id,
            profile: row.id,
            placement: existing.placement,
            compute_profiles: compute_profiles.collect(),
            compute: compute.collect(),
        }
    };
    gpu.instances.iter().map(instance).collect()
}
