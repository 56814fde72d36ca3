//! The calls about profiles, placements and instances: each function is one call of nvml.h with its errors.
//!
//! nvml-wrapper's `possible_placements` returns an empty list in every version up to 0.13, and it has no calls
//! for instances.

use super::{Answer, Device, Nvml, nvml_sym, nvml_try};
use mig_cdi_model::Placement;
use nvml_wrapper::error::NvmlError as WrapperError;
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t,
    nvmlComputeInstanceProfileInfo_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t,
    nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t, nvmlGpuInstanceProfileInfo_v2_t,
    nvmlGpuInstanceProfileInfo_v3_t,
};
use std::{
    ffi::{CStr, c_char},
    mem::MaybeUninit,
    ptr,
};

/// Handle of a GPU instance, until that is destroyed. NVML answers an error to a handle that it no longer knows.
#[derive(Clone, Copy)]
pub(in crate::nvml) struct GpuHandle(nvmlGpuInstance_t);

/// Handle of a compute instance, likewise.
#[derive(Clone, Copy)]
pub(in crate::nvml) struct ComputeHandle(nvmlComputeInstance_t);

/// Id, profile and placement of an instance.
pub(in crate::nvml) struct InstanceInfo {
    pub id: u32,
    /// Profile id within the device.
    pub profile: u32,
    pub placement: Placement,
}

/// More than the number of placements of any profile, and of instances of any GPU.
const MOST: u32 = 64;

/// Reads a profile of GPU instances by its number in nvml.h's enumeration, without its name.
pub(in crate::nvml) fn gpu_profile(
    nvml: &Nvml,
    gpu: &Device<'_>,
    number: u32,
) -> Answer<nvmlGpuInstanceProfileInfo_t> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceProfileInfo.as_ref())?;
    let mut info = MaybeUninit::zeroed();
    // SAFETY: see the head of raw.rs; this structure has no version.
    nvml_try(unsafe { call(gpu.handle(), number, info.as_mut_ptr()) })?;
    // SAFETY: all zeroes is a value of this structure of integers, and NVML has filled it.
    Ok(unsafe { info.assume_init() })
}

/// Reads the name of a profile of GPU instances, `MIG 1g.10gb`, from the newest structure that the driver knows.
pub(in crate::nvml) fn gpu_profile_name(
    nvml: &Nvml,
    gpu: &Device<'_>,
    number: u32,
) -> Answer<String> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceProfileInfoV.as_ref())?;
    // SAFETY: all zeroes is a value of this structure of integers.
    let mut info: nvmlGpuInstanceProfileInfo_v3_t = unsafe { MaybeUninit::zeroed().assume_init() };
    info.version = version::<nvmlGpuInstanceProfileInfo_v3_t>(3);
    // SAFETY: see the head of raw.rs; the version is that of the structure, of which nvml.h has two for
    // this call; its parameter is declared with the older one.
    if nvml_try(unsafe { call(gpu.handle(), number, (&raw mut info).cast()) }).is_ok() {
        return text(&info.name);
    }
    // SAFETY: as above.
    let mut info: nvmlGpuInstanceProfileInfo_v2_t = unsafe { MaybeUninit::zeroed().assume_init() };
    info.version = version::<nvmlGpuInstanceProfileInfo_v2_t>(2);
    // SAFETY: as above, with version 2.
    nvml_try(unsafe { call(gpu.handle(), number, &raw mut info) })?;
    text(&info.name)
}

/// Computes `NVML_STRUCT_VERSION` of nvml.h: the size, with the version in the highest byte.
fn version<T>(number: u32) -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(0) | number << 24
}

/// Reads a string that ends before its array does.
fn text(bytes: &[c_char]) -> Answer<String> {
    let bytes: Vec<u8> = bytes.iter().flat_map(|byte| byte.to_ne_bytes()).collect();
    let text = CStr::from_bytes_until_nul(&bytes).map_err(|_| WrapperError::Unknown)?;
    Ok(text.to_str()?.to_owned())
}

/// Possible placements of a profile on an empty GPU, by the id within the device.
pub(in crate::nvml) fn gpu_placements(
    nvml: &Nvml,
    gpu: &Device<'_>,
    profile: u32,
) -> Answer<Vec<Placement>> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstancePossiblePlacements_v2.as_ref())?;
    let none = nvmlGpuInstancePlacement_t { start: 0, size: 0 };
    let found = list(none, |array, count| {
        // SAFETY: see the head of raw.rs; `array` holds `count` elements.
        nvml_try(unsafe { call(gpu.handle(), profile, array, count) })
    })?;
    Ok(found.iter().map(|p| Placement { start: p.start, size: p.size }).collect())
}

/// Number of further instances of a profile that fit now.
pub(in crate::nvml) fn remaining(nvml: &Nvml, gpu: &Device<'_>, profile: u32) -> Answer<u32> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceRemainingCapacity.as_ref())?;
    let mut count = 0;
    // SAFETY: see the head of raw.rs.
    nvml_try(unsafe { call(gpu.handle(), profile, &raw mut count) })?;
    Ok(count)
}

/// GPU instances of a profile.
pub(in crate::nvml) fn gpu_instances(
    nvml: &Nvml,
    gpu: &Device<'_>,
    profile: u32,
) -> Answer<Vec<GpuHandle>> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstances.as_ref())?;
    let found = list(ptr::null_mut(), |array, count| {
        // SAFETY: see the head of raw.rs; `array` holds more elements than a GPU has instances.
        nvml_try(unsafe { call(gpu.handle(), profile, array, count) })
    })?;
    Ok(found.into_iter().map(GpuHandle).collect())
}

/// Finds the GPU instance with an id.
pub(in crate::nvml) fn gpu_instance(nvml: &Nvml, gpu: &Device<'_>, id: u32) -> Answer<GpuHandle> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceById.as_ref())?;
    let mut handle = ptr::null_mut();
    // SAFETY: see the head of raw.rs.
    nvml_try(unsafe { call(gpu.handle(), id, &raw mut handle) })?;
    Ok(GpuHandle(handle))
}

/// Reads the id, the profile and the placement of a GPU instance.
pub(in crate::nvml) fn gpu_instance_info(nvml: &Nvml, instance: GpuHandle) -> Answer<InstanceInfo> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetInfo.as_ref())?;
    let mut info = MaybeUninit::<nvmlGpuInstanceInfo_t>::zeroed();
    // SAFETY: NVML has returned `instance`; this structure has no version.
    nvml_try(unsafe { call(instance.0, info.as_mut_ptr()) })?;
    // SAFETY: all zeroes is a value of this structure of integers and pointers, and NVML has filled it.
    let info = unsafe { info.assume_init() };
    let placement = Placement { start: info.placement.start, size: info.placement.size };
    Ok(InstanceInfo { id: info.id, profile: info.profileId, placement })
}

/// Reads a profile of compute instances by its number in nvml.h's enumeration, with shared engines: the only
/// kind that nvml.h has.
pub(in crate::nvml) fn compute_profile(
    nvml: &Nvml,
    instance: GpuHandle,
    number: u32,
) -> Answer<nvmlComputeInstanceProfileInfo_t> {
    const SHARED: u32 = 0;
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetComputeInstanceProfileInfo.as_ref())?;
    let mut info = MaybeUninit::zeroed();
    // SAFETY: NVML has returned `instance`; this structure has no version.
    nvml_try(unsafe { call(instance.0, number, SHARED, info.as_mut_ptr()) })?;
    // SAFETY: all zeroes is a value of this structure of integers, and NVML has filled it.
    Ok(unsafe { info.assume_init() })
}

/// Possible placements of a profile of compute instances in an empty GPU instance.
pub(in crate::nvml) fn compute_placements(
    nvml: &Nvml,
    instance: GpuHandle,
    profile: u32,
) -> Answer<Vec<Placement>> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetComputeInstancePossiblePlacements.as_ref())?;
    let none = nvmlComputeInstancePlacement_t { start: 0, size: 0 };
    let found = list(none, |array, count| {
        // SAFETY: NVML has returned `instance`; `array` holds `count` elements.
        nvml_try(unsafe { call(instance.0, profile, array, count) })
    })?;
    Ok(found.iter().map(|p| Placement { start: p.start, size: p.size }).collect())
}

/// Compute instances of a profile.
pub(in crate::nvml) fn compute_instances(
    nvml: &Nvml,
    instance: GpuHandle,
    profile: u32,
) -> Answer<Vec<ComputeHandle>> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetComputeInstances.as_ref())?;
    let found = list(ptr::null_mut(), |array, count| {
        // SAFETY: NVML has returned `instance`; `array` holds more elements than a GPU has instances.
        nvml_try(unsafe { call(instance.0, profile, array, count) })
    })?;
    Ok(found.into_iter().map(ComputeHandle).collect())
}

/// Finds the compute instance with an id.
pub(in crate::nvml) fn compute_instance(
    nvml: &Nvml,
    instance: GpuHandle,
    id: u32,
) -> Answer<ComputeHandle> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetComputeInstanceById.as_ref())?;
    let mut handle = ptr::null_mut();
    // SAFETY: NVML has returned `instance`.
    nvml_try(unsafe { call(instance.0, id, &raw mut handle) })?;
    Ok(ComputeHandle(handle))
}

/// Reads the id, the profile and the placement of a compute instance.
pub(in crate::nvml) fn compute_instance_info(
    nvml: &Nvml,
    instance: ComputeHandle,
) -> Answer<InstanceInfo> {
    let call = nvml_sym(nvml.lib().nvmlComputeInstanceGetInfo_v2.as_ref())?;
    let mut info = MaybeUninit::<nvmlComputeInstanceInfo_t>::zeroed();
    // SAFETY: NVML has returned `instance`; `info` has the size of version 2, which has no version field.
    nvml_try(unsafe { call(instance.0, info.as_mut_ptr()) })?;
    // SAFETY: all zeroes is a value of this structure of integers and pointers, and NVML has filled it.
    let info = unsafe { info.assume_init() };
    let placement = Placement { start: info.placement.start, size: info.placement.size };
    Ok(InstanceInfo { id: info.id, profile: info.profileId, placement })
}

/// Creates a GPU instance at a placement.
pub(in crate::nvml) fn create_gpu_instance(
    nvml: &Nvml,
    gpu: &Device<'_>,
    profile: u32,
    at: Placement,
) -> Answer<GpuHandle> {
    let call = nvml_sym(nvml.lib().nvmlDeviceCreateGpuInstanceWithPlacement.as_ref())?;
    let placement = nvmlGpuInstancePlacement_t { start: at.start, size: at.size };
    let mut handle = ptr::null_mut();
    // SAFETY: see the head of raw.rs.
    nvml_try(unsafe { call(gpu.handle(), profile, &raw const placement, &raw mut handle) })?;
    Ok(GpuHandle(handle))
}

/// Creates a compute instance at a placement; with the first drivers with MIG, which lack that call, where the
/// driver chooses.
pub(in crate::nvml) fn create_compute_instance(
    nvml: &Nvml,
    instance: GpuHandle,
    profile: u32,
    at: Placement,
) -> Answer<ComputeHandle> {
    let mut handle = ptr::null_mut();
    let placement = nvmlComputeInstancePlacement_t { start: at.start, size: at.size };
    if let Ok(call) = &nvml.lib().nvmlGpuInstanceCreateComputeInstanceWithPlacement {
        // SAFETY: NVML has returned `instance`; see the head of raw.rs.
        nvml_try(unsafe { call(instance.0, profile, &raw const placement, &raw mut handle) })?;
    } else {
        let call = nvml_sym(nvml.lib().nvmlGpuInstanceCreateComputeInstance.as_ref())?;
        // SAFETY: NVML has returned `instance`.
        nvml_try(unsafe { call(instance.0, profile, &raw mut handle) })?;
    }
    Ok(ComputeHandle(handle))
}

/// Destroys a GPU instance.
pub(in crate::nvml) fn destroy_gpu_instance(nvml: &Nvml, instance: GpuHandle) -> Answer<()> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceDestroy.as_ref())?;
    // SAFETY: NVML has returned `instance`, and the caller drops it.
    nvml_try(unsafe { call(instance.0) })
}

/// Destroys a compute instance.
pub(in crate::nvml) fn destroy_compute_instance(
    nvml: &Nvml,
    instance: ComputeHandle,
) -> Answer<()> {
    let call = nvml_sym(nvml.lib().nvmlComputeInstanceDestroy.as_ref())?;
    // SAFETY: NVML has returned `instance`, and the caller drops it.
    nvml_try(unsafe { call(instance.0) })
}

/// Calls a function that fills an array, with its capacity in `count` and the number of elements there
/// afterwards.
fn list<T: Copy>(none: T, call: impl Fn(*mut T, *mut u32) -> Answer<()>) -> Answer<Vec<T>> {
    let (mut array, mut count) = (vec![none; MOST as usize], MOST);
    call(array.as_mut_ptr(), &raw mut count)?;
    array.truncate(count.min(MOST) as usize);
    Ok(array)
}
