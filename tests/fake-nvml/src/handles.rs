//! Handles: kind and ids in a number, so that they stay distinct after an instance is destroyed.

use crate::c_abi::{Code, GPU_IS_LOST, INVALID_ARGUMENT, NOT_FOUND};
use mig_cdi_sim::{SimulatedComputeInstance, SimulatedGpu, SimulatedInstance, SimulatedNode};
use nvml_wrapper_sys::bindings::{nvmlComputeInstance_t, nvmlDevice_t, nvmlGpuInstance_t};

/// Object of a handle: the index of a GPU, then ids.
#[derive(Clone, Copy)]
pub(crate) enum Handle {
    Gpu(usize),
    Mig(usize, u32, u32),
    GpuInstance(usize, u32),
    ComputeInstance(usize, u32, u32),
}

impl Handle {
    pub(crate) fn encode<T>(self) -> *mut T {
        let (kind, gpu, gi, ci) = match self {
            Handle::Gpu(gpu) => (1, gpu, 0, 0),
            Handle::Mig(gpu, gi, ci) => (2, gpu, gi, ci),
            Handle::GpuInstance(gpu, gi) => (3, gpu, gi, 0),
            Handle::ComputeInstance(gpu, gi, ci) => (4, gpu, gi, ci),
        };
        // A byte each: the driver supports 32 GPUs, with instance ids below 16.
        (kind << 24 | gpu << 16 | (gi as usize) << 8 | ci as usize) as *mut T
    }

    fn decode<T>(handle: *mut T) -> Option<Handle> {
        let code = handle as usize;
        let (gpu, gi, ci) = (code >> 16 & 0xff, (code >> 8 & 0xff) as u32, (code & 0xff) as u32);
        match code >> 24 {
            1 => Some(Handle::Gpu(gpu)),
            2 => Some(Handle::Mig(gpu, gi, ci)),
            3 => Some(Handle::GpuInstance(gpu, gi)),
            4 => Some(Handle::ComputeInstance(gpu, gi, ci)),
            _ => None,
        }
    }
}

/// GPU instance of a handle.
pub(crate) struct FoundGpuInstance<'a> {
    pub gpu: usize,
    pub gi: &'a SimulatedInstance,
}

/// Compute instance of a handle.
pub(crate) struct FoundComputeInstance<'a> {
    pub gpu: usize,
    pub gi: &'a SimulatedInstance,
    pub ci: &'a SimulatedComputeInstance,
}

pub(crate) fn gpu_at(node: &SimulatedNode, index: usize) -> Result<&SimulatedGpu, Code> {
    let gpu = node.gpus.get(index).ok_or(INVALID_ARGUMENT)?;
    if gpu.is_lost { Err(GPU_IS_LOST) } else { Ok(gpu) }
}

/// MIG device: a compute instance and its GPU instance.
type Mig<'a> = (&'a SimulatedInstance, &'a SimulatedComputeInstance);

/// Returns the GPU of a device handle, and the MIG device if it is one.
pub(crate) fn device(
    node: &SimulatedNode,
    handle: nvmlDevice_t,
) -> Result<(&SimulatedGpu, Option<Mig<'_>>), Code> {
    match Handle::decode(handle).ok_or(INVALID_ARGUMENT)? {
        Handle::Gpu(gpu) => Ok((gpu_at(node, gpu)?, None)),
        Handle::Mig(index, gi, ci) => {
            let gpu = gpu_at(node, index)?;
            let mut visible = visible(gpu);
            let found = visible.find(|mig| (mig.0.id, mig.1.id) == (gi, ci));
            Ok((gpu, Some(found.ok_or(INVALID_ARGUMENT)?)))
        }
        _ => Err(INVALID_ARGUMENT),
    }
}

/// Returns index and GPU of a device handle that is no MIG device.
pub(crate) fn whole_gpu(
    node: &SimulatedNode,
    handle: nvmlDevice_t,
) -> Result<(usize, &SimulatedGpu), Code> {
    match Handle::decode(handle) {
        Some(Handle::Gpu(index)) => Ok((index, gpu_at(node, index)?)),
        _ => Err(INVALID_ARGUMENT),
    }
}

pub(crate) fn mig_device(node: &SimulatedNode, handle: nvmlDevice_t) -> Result<Mig<'_>, Code> {
    device(node, handle)?.1.ok_or(INVALID_ARGUMENT)
}

pub(crate) fn visible(gpu: &SimulatedGpu) -> impl Iterator<Item = Mig<'_>> {
    let instances = gpu.instances.iter();
    instances
        .flat_map(|gi| gi.compute.iter().map(move |ci| (gi, ci)))
        .filter(|(_, ci)| !ci.is_hidden)
}

pub(crate) fn gpu_instance(
    node: &SimulatedNode,
    handle: nvmlGpuInstance_t,
) -> Result<FoundGpuInstance<'_>, Code> {
    let Some(Handle::GpuInstance(gpu, gi)) = Handle::decode(handle) else {
        return Err(INVALID_ARGUMENT);
    };
    let found = gpu_at(node, gpu)?.instances.iter().find(|there| there.id == gi);
    Ok(FoundGpuInstance { gpu, gi: found.ok_or(INVALID_ARGUMENT)? })
}

pub(crate) fn compute_instance(
    node: &SimulatedNode,
    handle: nvmlComputeInstance_t,
) -> Result<FoundComputeInstance<'_>, Code> {
    let Some(Handle::ComputeInstance(gpu, gi, ci)) = Handle::decode(handle) else {
        return Err(INVALID_ARGUMENT);
    };
    let found = gpu_at(node, gpu)?.instances.iter().find(|there| there.id == gi);
    let gi = found.ok_or(INVALID_ARGUMENT)?;
    let ci = gi.compute.iter().find(|there| there.id == ci).ok_or(INVALID_ARGUMENT)?;
    Ok(FoundComputeInstance { gpu, gi, ci })
}

/// Returns the code for a handle whose instance another process has destroyed.
pub(crate) fn gone(code: Code) -> Code {
    if code == NOT_FOUND { INVALID_ARGUMENT } else { code }
}
