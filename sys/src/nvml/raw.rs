//! The NVML calls that nvml-wrapper 0.13 has no safe form of. `unsafe` is here and in the file below it.
//!
//! Common to all: the function pointer comes from the library that `Nvml` keeps loaded for as long
//! as the `Device` lives, its type is that of nvml.h in nvml-wrapper-sys, and every pointer passed
//! is to a local that outlives the call.
#![allow(unsafe_code)]

pub(super) mod instances;

use nvml_wrapper::{
    Device, EventSet, Nvml,
    bitmasks::event::EventTypes,
    error::{NvmlError as WrapperError, nvml_sym, nvml_try},
};
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlMemory_t, nvmlProcessInfo_t};

/// Names of the functions that this file and the one below it bind. A library without one of them counts as one
/// that does not support it.
pub const SYMBOLS: [&str; 28] = [
    "nvmlSystemGetCudaDriverVersion",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetComputeInstanceId",
    "nvmlDeviceGetGpuInstanceById",
    "nvmlGpuInstanceGetInfo",
    "nvmlGpuInstanceGetComputeInstanceById",
    "nvmlComputeInstanceGetInfo_v2",
    "nvmlDeviceGetGpuInstanceProfileInfo",
    "nvmlDeviceGetGpuInstanceProfileInfoV",
    "nvmlDeviceGetGpuInstancePossiblePlacements_v2",
    "nvmlDeviceGetGpuInstanceRemainingCapacity",
    "nvmlDeviceGetGpuInstances",
    "nvmlGpuInstanceGetComputeInstanceProfileInfo",
    "nvmlGpuInstanceGetComputeInstancePossiblePlacements",
    "nvmlGpuInstanceGetComputeInstances",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceCreateComputeInstanceWithPlacement",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlGpuInstanceDestroy",
    "nvmlComputeInstanceDestroy",
    "nvmlEventSetWait_v2",
];

type Answer<T> = Result<T, WrapperError>;

/// Version of CUDA as one number, 12080 for 12.8. This call, unlike its successor, falls back on the version that
/// NVML was built for when it finds no libcuda (nvml.h).
pub(super) fn cuda_version(nvml: &Nvml) -> Answer<i32> {
    let call = nvml_sym(nvml.lib().nvmlSystemGetCudaDriverVersion.as_ref())?;
    let mut version = 0;
    // SAFETY: see the head of this file; `version` is a valid integer.
    nvml_try(unsafe { call(&raw mut version) })?;
    Ok(version)
}

/// Id of the GPU instance of a MIG device.
pub(super) fn gpu_instance_id(nvml: &Nvml, mig: &Device<'_>) -> Answer<u32> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: see the head of this file; `mig` is a live handle of `nvml`, `id` a valid u32.
    nvml_try(unsafe { call(mig.handle(), &mut id) })?;
    Ok(id)
}

/// Id of the compute instance of a MIG device.
pub(super) fn compute_instance_id(nvml: &Nvml, mig: &Device<'_>) -> Answer<u32> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: as for the GPU instance.
    nvml_try(unsafe { call(mig.handle(), &mut id) })?;
    Ok(id)
}

/// Total memory of a GPU in bytes, by the call that every driver has. nvml-wrapper knows its successor of driver 510 alone.
pub(super) fn memory_total(nvml: &Nvml, gpu: &Device<'_>) -> Answer<u64> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: see the head of this file; `memory` is a valid structure, which has no version.
    nvml_try(unsafe { call(gpu.handle(), &raw mut memory) })?;
    Ok(memory.total)
}

/// Kind of the processes that a call lists.
#[derive(Clone, Copy)]
pub(super) enum ProcessKind {
    Compute,
    Graphics,
    Mps,
}

/// Lists the processes that use a GPU: process, GPU instance and compute instance of each, where a process has no instance the greatest
/// number. Drivers before 510 lack the calls of version 3, whose structure is that of version 2 (nvml.h of CUDA 11.4 and 11.6).
pub(super) fn processes(
    nvml: &Nvml,
    gpu: &Device<'_>,
    kind: ProcessKind,
) -> Answer<Vec<nvmlProcessInfo_t>> {
    let lib = nvml.lib();
    let (newest, older) = match kind {
        ProcessKind::Compute => (
            &lib.nvmlDeviceGetComputeRunningProcesses_v3,
            &lib.nvmlDeviceGetComputeRunningProcesses_v2,
        ),
        ProcessKind::Graphics => (
            &lib.nvmlDeviceGetGraphicsRunningProcesses_v3,
            &lib.nvmlDeviceGetGraphicsRunningProcesses_v2,
        ),
        ProcessKind::Mps => (
            &lib.nvmlDeviceGetMPSComputeRunningProcesses_v3,
            &lib.nvmlDeviceGetMPSComputeRunningProcesses_v2,
        ),
    };
    let call = nvml_sym(newest.as_ref()).or_else(|_| nvml_sym(older.as_ref()))?;
    let none = nvmlProcessInfo_t {
        pid: 0,
        usedGpuMemory: 0,
        gpuInstanceId: u32::MAX,
        computeInstanceId: u32::MAX,
    };
    let mut array = vec![none; 16];
    loop {
        let room = u32::try_from(array.len()).unwrap_or(u32::MAX);
        let mut count = room;
        // SAFETY: see the head of this file; `array` holds `count` elements.
        match nvml_try(unsafe { call(gpu.handle(), &raw mut count, array.as_mut_ptr()) }) {
            Ok(()) => {
                array.truncate(count as usize);
                return Ok(array);
            }
            // `count` is the number that is needed, by now: others may start meanwhile.
            Err(WrapperError::InsufficientSize(_)) if room < MOST_PROCESSES => {
                let size = count.max(room).saturating_mul(2).min(MOST_PROCESSES);
                array.resize(size as usize, none);
            }
            Err(error) => return Err(error),
        }
    }
}

/// More than the number of processes on any GPU: those of a node are limited to four millions (`PID_MAX_LIMIT` of Linux).
const MOST_PROCESSES: u32 = 1 << 22;

/// An event. nvml-wrapper's own type lacks the instances.
pub(super) struct Event<'a> {
    pub device: Device<'a>,
    pub types: EventTypes,
    /// XID of a critical error; of no meaning in other events.
    pub data: u64,
    pub gi: Option<u32>,
    pub ci: Option<u32>,
}

/// Waits for an event, at most `limit` milliseconds.
pub(super) fn wait<'a>(nvml: &'a Nvml, set: &EventSet<'a>, limit: u32) -> Answer<Event<'a>> {
    let call = nvml_sym(nvml.lib().nvmlEventSetWait_v2.as_ref())?;
    let mut data = nvmlEventData_t {
        device: std::ptr::null_mut(),
        eventType: 0,
        eventData: 0,
        gpuInstanceId: u32::MAX,
        computeInstanceId: u32::MAX,
    };
    // SAFETY: see the head of this file; `set` is a live handle of `nvml`, `data` a valid structure.
    nvml_try(unsafe { call(set.handle(), &mut data, limit) })?;
    // Events of a whole GPU have this number (nvml.h, nvmlEventData_t).
    let instance = |id: u32| (id != u32::MAX).then_some(id);
    Ok(Event {
        // SAFETY: NVML has just returned this handle, which lives as long as `nvml` does.
        device: unsafe { Device::new(data.device, nvml) },
        types: EventTypes::from_bits_truncate(data.eventType),
        data: data.eventData,
        gi: instance(data.gpuInstanceId),
        ci: instance(data.computeInstanceId),
    })
}
