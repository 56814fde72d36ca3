//! The NVML calls that nvml-wrapper 0.13 has no safe form of. `unsafe` is here and in the file below it.
//!
//! Common to all: the function pointer comes from the library that `Nvml` keeps loaded for as long
//! as the `Device` lives, its type is that of nvml.h in nvml-wrapper-sys, and every pointer passed
//! is to a local that outlives the call.
#![allow(unsafe_code)]

pub(super) mod instances;

use super::{CallError, error::failed};
use mig_cdi_model::Placement;
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

/// Ids of the GPU instance and the compute instance of a MIG device.
pub(super) fn instance_ids(nvml: &Nvml, mig: &Device<'_>) -> Result<(u32, u32), CallError> {
    let gi = || -> Answer<u32> {
        let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
        let mut id = 0;
        // SAFETY: see the head of this file; `mig` is a live handle of `nvml`, `id` a valid u32.
        nvml_try(unsafe { call(mig.handle(), &mut id) })?;
        Ok(id)
    };
    let ci = || -> Answer<u32> {
        let call = nvml_sym(nvml.lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
        let mut id = 0;
        // SAFETY: as above.
        nvml_try(unsafe { call(mig.handle(), &mut id) })?;
        Ok(id)
    };
    Ok((
        gi().map_err(|e| failed("nvmlDeviceGetGpuInstanceId", e))?,
        ci().map_err(|e| failed("nvmlDeviceGetComputeInstanceId", e))?,
    ))
}

/// Placements of a GPU instance and of one of its compute instances; `None` when NVML reports them to root
/// only (nvml.h: "Requires privileged user").
pub(super) fn placements(
    nvml: &Nvml,
    gpu: &Device<'_>,
    gi: u32,
    ci: u32,
) -> Result<(Option<Placement>, Option<Placement>), CallError> {
    let gpu_instance = instances::gpu_instance(nvml, gpu, gi)
        .and_then(|handle| Ok((handle, instances::gpu_instance_info(nvml, handle)?.placement)));
    let Some((handle, place)) = permitted("nvmlGpuInstanceGetInfo", gpu_instance)? else {
        return Ok((None, None));
    };
    let gi_placement = Placement { start: place.start, size: place.size };
    let compute_instance = instances::compute_instance(nvml, handle, ci)
        .and_then(|handle| Ok(instances::compute_instance_info(nvml, handle)?.placement));
    let place = permitted("nvmlComputeInstanceGetInfo_v2", compute_instance)?;
    let ci_placement = place.map(|place| Placement { start: place.start, size: place.size });
    Ok((Some(gi_placement), ci_placement))
}

/// Turns errors into `None` that say that this caller, this driver or this GPU gets no answer.
fn permitted<T>(call: &'static str, answer: Answer<T>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            WrapperError::NoPermission
            | WrapperError::NotSupported
            | WrapperError::FailedToLoadSymbol(_)
            | WrapperError::FunctionNotFound,
        ) => Ok(None),
        Err(error) => Err(failed(call, error)),
    }
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
