//! The NVML calls that nvml-wrapper 0.13 has no safe form of. This file is the only one with
//! `unsafe` in the product.
//!
//! Common to all: the function pointer comes from the library that `Nvml` keeps loaded for as long
//! as the `Device` lives, its type is that of nvml.h in nvml-wrapper-sys, and every pointer passed
//! is to a local that outlives the call.
#![allow(unsafe_code)]

use super::{CallError, failed};
use mig_cdi_model::Placement;
use nvml_wrapper::{
    Device, Nvml,
    error::{NvmlError, nvml_sym, nvml_try},
};
use std::{mem::MaybeUninit, ptr};

/// What this file binds by name; a library without one of them is answered as "not supported".
pub const SYMBOLS: [&str; 6] = [
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetComputeInstanceId",
    "nvmlDeviceGetGpuInstanceById",
    "nvmlGpuInstanceGetInfo",
    "nvmlGpuInstanceGetComputeInstanceById",
    "nvmlComputeInstanceGetInfo_v2",
];

type Answer<T> = Result<T, NvmlError>;

/// Ids of the GPU instance and the compute instance behind a MIG device.
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
        gi().map_err(|e| failed("nvmlDeviceGetGpuInstanceId", &e))?,
        ci().map_err(|e| failed("nvmlDeviceGetComputeInstanceId", &e))?,
    ))
}

/// Placements of a GPU instance and of one of its compute instances; `None` when NVML keeps them
/// for root.
pub(super) fn placements(
    nvml: &Nvml,
    gpu: &Device<'_>,
    gi: u32,
    ci: u32,
) -> Result<(Option<Placement>, Option<Placement>), CallError> {
    let lib = nvml.lib();
    let gpu_instance = || -> Answer<_> {
        let by_id = nvml_sym(lib.nvmlDeviceGetGpuInstanceById.as_ref())?;
        let get_info = nvml_sym(lib.nvmlGpuInstanceGetInfo.as_ref())?;
        let mut handle = ptr::null_mut();
        // SAFETY: see the head of this file; `gpu` is a live handle of `nvml`.
        nvml_try(unsafe { by_id(gpu.handle(), gi, &mut handle) })?;
        let mut info = MaybeUninit::zeroed();
        // SAFETY: `handle` was just given by NVML; `info` is large enough for the v1 structure,
        // which has no version field.
        nvml_try(unsafe { get_info(handle, info.as_mut_ptr()) })?;
        // SAFETY: all zeroes is a value of this structure of integers and pointers, and NVML has
        // filled it.
        let placement = unsafe { info.assume_init() }.placement;
        Ok((handle, Placement { start: placement.start, size: placement.size }))
    };
    let Some((handle, gi_placement)) = permitted("nvmlGpuInstanceGetInfo", gpu_instance())? else {
        return Ok((None, None));
    };
    let compute_instance = || -> Answer<_> {
        let by_id = nvml_sym(lib.nvmlGpuInstanceGetComputeInstanceById.as_ref())?;
        let get_info = nvml_sym(lib.nvmlComputeInstanceGetInfo_v2.as_ref())?;
        let mut instance = ptr::null_mut();
        // SAFETY: `handle` is the live GPU instance from above.
        nvml_try(unsafe { by_id(handle, ci, &mut instance) })?;
        let mut info = MaybeUninit::zeroed();
        // SAFETY: `instance` was just given by NVML; `info` has the size of the v2 structure, which
        // has no version field.
        nvml_try(unsafe { get_info(instance, info.as_mut_ptr()) })?;
        // SAFETY: as for the GPU instance.
        let placement = unsafe { info.assume_init() }.placement;
        Ok(Placement { start: placement.start, size: placement.size })
    };
    let ci_placement = permitted("nvmlComputeInstanceGetInfo_v2", compute_instance())?;
    Ok((Some(gi_placement), ci_placement))
}

/// `None` for an answer that this caller, this driver or this kind of GPU does not give.
fn permitted<T>(call: &'static str, answer: Answer<T>) -> Result<Option<T>, CallError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(
            NvmlError::NoPermission
            | NvmlError::NotSupported
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::FunctionNotFound,
        ) => Ok(None),
        Err(error) => Err(failed(call, &error)),
    }
}
