//! Compute instances: create, list, destroy.

use crate::{
    c_abi::{Code, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, Out, privileged, put, put_list},
    faults::call,
    handles::{Handle, compute_instance, gone, gpu_instance},
    state::{change, read},
};
use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t,
    nvmlGpuInstance_t,
};
use std::ffi::c_uint;

fn create(
    handle: nvmlGpuInstance_t,
    profile: c_uint,
    placement: Option<&nvmlComputeInstancePlacement_t>,
    instance: Out<'_, nvmlComputeInstance_t>,
) -> Result<(), Code> {
    let (gpu, gi) = read(|node| {
        let found = gpu_instance(node, handle)?;
        privileged()?;
        let size = found.gi.profile.compute_size(profile).ok_or(NOT_SUPPORTED)?;
        if placement.is_some_and(|place| place.size != size) {
            return Err(INVALID_ARGUMENT);
        }
        Ok((found.gpu, found.gi.id))
    })?;
    let instance = instance.ok_or(INVALID_ARGUMENT)?;
    let start = placement.map(|place| place.start);
    let id = change(|node| node.create_compute_instance(gpu, gi, profile, start)).map_err(gone)?;
    instance.write(Handle::ComputeInstance(gpu, gi, id).encode());
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceCreateComputeInstance(
    handle: nvmlGpuInstance_t,
    profile: c_uint,
    instance: Out<'_, nvmlComputeInstance_t>,
) -> Code {
    call("nvmlGpuInstanceCreateComputeInstance", || create(handle, profile, None, instance))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
    handle: nvmlGpuInstance_t,
    profile: c_uint,
    placement: Option<&nvmlComputeInstancePlacement_t>,
    instance: Out<'_, nvmlComputeInstance_t>,
) -> Code {
    call("nvmlGpuInstanceCreateComputeInstanceWithPlacement", || {
        read(|node| gpu_instance(node, handle).map(drop))?;
        create(handle, profile, Some(placement.ok_or(INVALID_ARGUMENT)?), instance)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlComputeInstanceDestroy(handle: nvmlComputeInstance_t) -> Code {
    call("nvmlComputeInstanceDestroy", || {
        let (gpu, gi, ci) = read(|node| {
            compute_instance(node, handle).map(|found| (found.gpu, found.gi.id, found.ci.id))
        })?;
        privileged()?;
        change(|node| node.destroy_compute_instance(gpu, gi, ci)).map_err(gone)
    })
}

/// nvml.h: the buffer has room for the maximum number of instances of the profile; `count` is an output only.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetComputeInstances(
    handle: nvmlGpuInstance_t,
    profile: c_uint,
    instances: *mut nvmlComputeInstance_t,
    count: Out<'_, c_uint>,
) -> Code {
    call("nvmlGpuInstanceGetComputeInstances", || {
        read(|node| {
            let found = gpu_instance(node, handle)?;
            privileged()?;
            let (gpu, gi) = (found.gpu, found.gi);
            let size = gi.profile.compute_size(profile).ok_or(NOT_SUPPORTED)?;
            let count = count.ok_or(INVALID_ARGUMENT)?;
            let found = gi.compute.iter().filter(|ci| ci.placement.size == size);
            let handle = |id| Handle::ComputeInstance(gpu, gi.id, id).encode();
            let found: Vec<_> = found.map(|ci| handle(ci.id)).collect();
            put_list(instances, &found)?;
            count.write(found.len() as c_uint);
            Ok(())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetComputeInstanceById(
    handle: nvmlGpuInstance_t,
    id: c_uint,
    instance: Out<'_, nvmlComputeInstance_t>,
) -> Code {
    call("nvmlGpuInstanceGetComputeInstanceById", || {
        read(|node| {
            let found = gpu_instance(node, handle)?;
            privileged()?;
            found.gi.compute.iter().find(|ci| ci.id == id).ok_or(NOT_FOUND)?;
            put(instance, Handle::ComputeInstance(found.gpu, found.gi.id, id).encode())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlComputeInstanceGetInfo_v2(
    handle: nvmlComputeInstance_t,
    info: Out<'_, nvmlComputeInstanceInfo_t>,
) -> Code {
    call("nvmlComputeInstanceGetInfo_v2", || {
        read(|node| {
            let found = compute_instance(node, handle)?;
            privileged()?;
            let (gpu, gi, ci) = (found.gpu, found.gi, found.ci);
            let (start, size) = (ci.placement.start, ci.placement.size);
            let answer = nvmlComputeInstanceInfo_t {
                device: Handle::Gpu(gpu).encode(),
                gpuInstance: Handle::GpuInstance(gpu, gi.id).encode(),
                id: ci.id,
                profileId: gi.profile.compute_id(size),
                placement: nvmlComputeInstancePlacement_t { start, size },
            };
            put(info, answer)
        })
    })
}
