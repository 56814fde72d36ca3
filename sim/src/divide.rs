//! A simulated node that is divided: the same calls as NVML's, with the same refusals.

use crate::{Gpu, Instance, Node, NvmlFault, ProfileRow, Refusal};
use mig_cdi_model::Placement;
use mig_cdi_sys::nvml::{
    CallError, ComputeProfile, GpuPartitioning, GpuProcess, GpuProfile, ModeChange,
    NvmlComputeInstance, NvmlError, NvmlGpuInstance, Partitioner,
};
use std::cell::RefCell;

/// A node that changes. What is changed is forgotten with it.
#[derive(Debug)]
pub(crate) struct Simulated(RefCell<Node>);

impl Simulated {
    /// Starts NVML on a node.
    pub(crate) fn start(node: Node) -> Result<Simulated, NvmlError> {
        let path = "libnvidia-ml.so.1 of the simulated node".to_owned();
        match node.nvml_fault {
            Some(NvmlFault::DriverNotLoaded) => Err(NvmlError::NotLoaded { path }),
            Some(NvmlFault::VersionMismatch) => Err(NvmlError::VersionMismatch { path }),
            None => Ok(Simulated(RefCell::new(node))),
        }
    }

    /// One call about a GPU.
    fn call<T>(
        &self,
        call: &'static str,
        uuid: &str,
        change: impl FnOnce(&mut Node, usize) -> Result<T, Refusal>,
    ) -> Result<T, CallError> {
        let mut node = self.0.borrow_mut();
        let found = node.gpus.iter().position(|gpu| gpu.uuid.to_string() == uuid);
        let done = found.ok_or(Refusal::InvalidArgument).and_then(|gpu| change(&mut node, gpu));
        done.map_err(|refusal| match refusal {
            Refusal::GpuLost => CallError::gpu_lost(call),
            refusal => CallError::new(call, refusal.to_string()),
        })
    }
}

impl Partitioner for Simulated {
    fn gpus(&self) -> Result<Vec<Result<GpuPartitioning, CallError>>, NvmlError> {
        let node = self.0.borrow();
        Ok((0..node.gpus.len()).map(|gpu| division(&node, gpu)).collect())
    }

    fn gpu(&self, uuid: &str) -> Result<GpuPartitioning, CallError> {
        let gpu = self.call("nvmlDeviceGetHandleByUUID", uuid, |_, gpu| Ok(gpu))?;
        division(&self.0.borrow(), gpu)
    }

    fn set_mode(&self, uuid: &str, mig: bool) -> Result<ModeChange, CallError> {
        let done = self.call("nvmlDeviceSetMigMode", uuid, |node, gpu| node.set_mig_mode(gpu, mig));
        let pending = || ModeChange::Pending("something has the gpu open".to_owned());
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
            let there = instances.iter().find(|there| there.id == gi).ok_or(Refusal::NotFound)?;
            let profile = there.profile.compute_id(at.size);
            node.create_compute_instance(gpu, gi, profile, Some(at.start)).map(drop)
        })
    }

    fn destroy_compute_instance(&self, uuid: &str, gi: u32, ci: u32) -> Result<(), CallError> {
        self.call("nvmlComputeInstanceDestroy", uuid, |node, gpu| {
            node.destroy_compute_instance(gpu, gi, ci)
        })
    }
}

fn division(node: &Node, index: usize) -> Result<GpuPartitioning, CallError> {
    let gpu = &node.gpus[index];
    if gpu.lost {
        return Err(CallError::gpu_lost("nvmlDeviceGetHandleByIndex_v2"));
    }
    let model = gpu.model;
    let can = !model.profiles.is_empty();
    let rows = model.profiles.iter();
    let mut profiles: Vec<_> = rows.map(|row| profile(node, index, row)).collect();
    profiles.sort_by_key(|profile| profile.id);
    let process =
        |process: &crate::Process| GpuProcess { pid: process.pid, gi: process.gi, ci: process.ci };
    Ok(GpuPartitioning {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        uuid: gpu.uuid.to_string(),
        pci: format!("0000{}", gpu.pci),
        device_id: model.pci_device,
        subsystem_id: model.pci_subsystem,
        minor: gpu.minor,
        model: model.product.to_owned(),
        mig: can.then_some(gpu.mig),
        mig_pending: can.then_some(gpu.mig_pending),
        resetless: model.is_resetless(),
        profiles,
        instances: instances(gpu),
        processes: gpu.processes.iter().map(process).collect(),
    })
}

/// What the tables do not say is 0.
fn profile(node: &Node, gpu: usize, row: &ProfileRow) -> GpuProfile {
    let placements = row.starts.iter().map(|&start| Placement { start, size: row.size });
    GpuProfile {
        id: row.id,
        name: row.name.parse().ok(),
        max: row.max,
        remaining: node.remaining(gpu, row.id).ok(),
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

fn instances(gpu: &Gpu) -> Vec<NvmlGpuInstance> {
    let of = |there: &Instance| {
        let row = there.profile;
        let number = |size| row.compute_id(size);
        let compute_profiles = row.compute_sizes().iter().map(|&slices| ComputeProfile {
            id: number(slices),
            slices,
            max: row.slices / slices,
            placements: row.compute_places(slices).collect(),
        });
        let compute = there.compute.iter().map(|ci| NvmlComputeInstance {
            id: ci.id,
            profile: number(ci.placement.size),
            placement: ci.placement,
        });
        NvmlGpuInstance {
            id: there.id,
            profile: row.id,
            placement: there.placement,
            compute_profiles: compute_profiles.collect(),
            compute: compute.collect(),
        }
    };
    gpu.instances.iter().map(of).collect()
}
