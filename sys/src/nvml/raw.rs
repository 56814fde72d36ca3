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
use nvml_wrapper_sys::bindings::nvmlEventData_t;

/// Names of the functions that this file and the one below it bind. A library without one of them counts as one
/// that does not support it.
pub const SYMBOLS: [&str; 21] = [
    "nvmlSystemGetCudaDriverVersion",
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
