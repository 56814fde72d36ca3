//! GPU instances: create, list, destroy.

use crate::{
    c_abi::{Code, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Out, privileged, put, put_list},
    faults::call,
    handles::{Handle, gone, gpu_instance, whole_gpu},
    state::{change, read},
};
use mig_cdi_sim::{SimulatedGpu, SimulatedNode};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
};
use std::ffi::c_uint;

/// Returns a GPU whose instances the caller may manage.
fn mig_gpu(node: &SimulatedNode, handle: nvmlDevice_t) -> Result<(usize, &SimulatedGpu), Code> {
    let (index, gpu) = whole_gpu(node, handle)?;
    privileged()?;
    if gpu.is_mig_enabled { Ok((index, gpu)) } else { Err(NOT_SUPPORTED) }
}

fn create(
    handle: nvmlDevice_t,
    profile: c_uint,
    start: Option<u32>,
    instance: Out<'_, nvmlGpuInstance_t>,
) -> Result<(), Code> {
    let gpu = read(|node| mig_gpu(node, handle).map(|(index, _)| index))?;
    let instance = instance.ok_or(INVALID_ARGUMENT)?;
    let id = change(|node| node.create_gpu_instance(gpu, profile, start))?;
    instance.write(Handle::GpuInstance(gpu, id).encode());
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceCreateGpuInstance(
    handle: nvmlDevice_t,
    profile: c_uint,
    instance: Out<'_, nvmlGpuInstance_t>,
) -> Code {
    call("nvmlDeviceCreateGpuInstance", || create(handle, profile, None, instance))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceCreateGpuInstanceWithPlacement(
    handle: nvmlDevice_t,
    profile: c_uint,
    placement: Option<&nvmlGpuInstancePlacement_t>,
    instance: Out<'_, nvmlGpuInstance_t>,
) -> Code {
    call("nvmlDeviceCreateGpuInstanceWithPlacement", || {
        let (index, model) =
            read(|node| mig_gpu(node, handle).map(|(index, gpu)| (index, gpu.model)))?;
        let placement = placement.ok_or(INVALID_ARGUMENT)?;
        let row = model.profile_by_id(profile).filter(|row| row.size == placement.size);
        row.ok_or(INVALID_ARGUMENT)?;
        create(Handle::Gpu(index).encode(), profile, Some(placement.start), instance)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceDestroy(handle: nvmlGpuInstance_t) -> Code {
    call("nvmlGpuInstanceDestroy", || {
        let (gpu, gi) =
            read(|node| gpu_instance(node, handle).map(|found| (found.gpu, found.gi.id)))?;
        privileged()?;
        change(|node| node.destroy_gpu_instance(gpu, gi)).map_err(gone)
    })
}

/// nvml.h: the buffer has room for the maximum number of instances of the profile; `count` is an output only.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstances(
    handle: nvmlDevice_t,
    profile: c_uint,
    instances: *mut nvmlGpuInstance_t,
    count: Out<'_, c_uint>,
) -> Code {
    call("nvmlDeviceGetGpuInstances", || {
        read(|node| {
            let (index, gpu) = mig_gpu(node, handle)?;
            let row = gpu.model.profile_by_id(profile).ok_or(INVALID_ARGUMENT)?;
            let count = count.ok_or(INVALID_ARGUMENT)?;
            let found = gpu.instances.iter().filter(|gi| gi.profile.id == row.id);
            let found: Vec<_> =
                found.map(|gi| Handle::GpuInstance(index, gi.id).encode()).collect();
            put_list(instances, &found)?;
            count.write(found.len() as c_uint);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceById(
    handle: nvmlDevice_t,
    id: c_uint,
    instance: Out<'_, nvmlGpuInstance_t>,
) -> Code {
    call("nvmlDeviceGetGpuInstanceById", || {
        read(|node| {
            let (index, gpu) = mig_gpu(node, handle)?;
            gpu.instances.iter().find(|gi| gi.id == id).ok_or(NOT_FOUND)?;
            put(instance, Handle::GpuInstance(index, id).encode())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetInfo(
    handle: nvmlGpuInstance_t,
    info: Out<'_, nvmlGpuInstanceInfo_t>,
) -> Code {
    call("nvmlGpuInstanceGetInfo", || {
        read(|node| {
            let found = gpu_instance(node, handle)?;
            privileged()?;
            let (device, gi) = (Handle::Gpu(found.gpu).encode(), found.gi);
            let placement =
                nvmlGpuInstancePlacement_t { start: gi.placement.start, size: gi.placement.size };
            let (id, profileId) = (gi.id, gi.profile.id);
            put(info, nvmlGpuInstanceInfo_t { device, id, profileId, placement })
        })
    })
}
