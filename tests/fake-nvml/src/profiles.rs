//! Profiles of GPU and compute instances, possible placements, and remaining capacity.

use crate::{
    c_abi::{
        Code, INVALID_ARGUMENT, NOT_SUPPORTED, Out, privileged, put, put_list, put_version,
        refused, struct_version, text_field, version_of,
    },
    faults::{call, call_for},
    handles::{gpu_instance, whole_gpu},
    release::Release,
    state::read,
};
use mig_cdi_model::Placement;
use mig_cdi_sim::{Model, ProfileRow, SimulatedInstance};
use nvml_wrapper_sys::bindings::*;
use std::ffi::c_uint;

/// nvml.h: a profile that NVML does not know is an invalid argument, one that this GPU does not have is not
/// supported.
fn numbered(release: &Release, model: &Model, number: c_uint) -> Result<&'static ProfileRow, Code> {
    release.expect_gpu_profile(number)?;
    model.profiles.iter().find(|row| release.number(row) == number).ok_or(NOT_SUPPORTED)
}

/// nvml.h: this version requires a device that supports MIG; the next one, that MIG mode is on.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceProfileInfo(
    handle: nvmlDevice_t,
    number: c_uint,
    info: Out<'_, nvmlGpuInstanceProfileInfo_t>,
) -> Code {
    call_for("nvmlDeviceGetGpuInstanceProfileInfo", Some(number), || {
        read(|node| {
            let (_, gpu) = whole_gpu(node, handle)?;
            let row = numbered(&Release::of(node), gpu.model, number)?;
            let answer = nvmlGpuInstanceProfileInfo_t {
                id: row.id,
                isP2pSupported: 0,
                sliceCount: row.slices,
                instanceCount: row.max,
                multiprocessorCount: row.multiprocessors.unwrap_or(0),
                copyEngineCount: row.copy_engines.unwrap_or(0),
                decoderCount: row.decoders,
                encoderCount: row.encoders,
                jpegCount: row.jpeg,
                ofaCount: row.ofa,
                memorySizeMB: row.memory_mib,
            };
            put(info, answer)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceProfileInfoV(
    handle: nvmlDevice_t,
    number: c_uint,
    info: *mut nvmlGpuInstanceProfileInfo_v2_t,
) -> Code {
    const V2: c_uint = struct_version::<nvmlGpuInstanceProfileInfo_v2_t>(2);
    const V3: c_uint = struct_version::<nvmlGpuInstanceProfileInfo_v3_t>(3);
    call_for("nvmlDeviceGetGpuInstanceProfileInfoV", Some(number), || {
        read(|node| {
            let (_, gpu) = whole_gpu(node, handle)?;
            let version = version_of(info)?;
            if !gpu.is_mig_enabled {
                return Err(NOT_SUPPORTED);
            }
            let release = Release::of(node);
            let row = numbered(&release, gpu.model, number)?;
            match version {
                V2 => put_version(info, info_v2(row, V2)),
                V3 if release.has_version_3() => put_version(info, info_v3(row, V3)),
                _ => Err(release.version_mismatch()),
            }
        })
    })
}

fn info_v2(row: &ProfileRow, version: c_uint) -> nvmlGpuInstanceProfileInfo_v2_t {
    nvmlGpuInstanceProfileInfo_v2_t {
        version,
        id: row.id,
        isP2pSupported: 0,
        sliceCount: row.slices,
        instanceCount: row.max,
        multiprocessorCount: row.multiprocessors.unwrap_or(0),
        copyEngineCount: row.copy_engines.unwrap_or(0),
        decoderCount: row.decoders,
        encoderCount: row.encoders,
        jpegCount: row.jpeg,
        ofaCount: row.ofa,
        memorySizeMB: row.memory_mib,
        name: text_field(&format!("MIG {}", row.name)),
    }
}

fn info_v3(row: &ProfileRow, version: c_uint) -> nvmlGpuInstanceProfileInfo_v3_t {
    let graphics = row.name.ends_with("+gfx");
    nvmlGpuInstanceProfileInfo_v3_t {
        version,
        id: row.id,
        sliceCount: row.slices,
        instanceCount: row.max,
        multiprocessorCount: row.multiprocessors.unwrap_or(0),
        copyEngineCount: row.copy_engines.unwrap_or(0),
        decoderCount: row.decoders,
        encoderCount: row.encoders,
        jpegCount: row.jpeg,
        ofaCount: row.ofa,
        memorySizeMB: row.memory_mib,
        name: text_field(&format!("MIG {}", row.name)),
        capabilities: if graphics { NVML_GPU_INSTANCE_PROFILE_CAPS_GFX } else { 0 },
    }
}

/// nvml.h: all possible placements, whichever are taken and whether or not MIG mode is on. Without a buffer, only
/// their number.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
    handle: nvmlDevice_t,
    profile: c_uint,
    placements: *mut nvmlGpuInstancePlacement_t,
    count: Out<'_, c_uint>,
) -> Code {
    call("nvmlDeviceGetGpuInstancePossiblePlacements_v2", || {
        read(|node| {
            let (gpu, _) = whole_gpu(node, handle)?;
            privileged()?;
            let possible = node.possible_placements(gpu, profile).map_err(refused)?.into_iter();
            let place = |Placement { start, size }| nvmlGpuInstancePlacement_t { start, size };
            let possible: Vec<_> = possible.map(place).collect();
            put(count, possible.len() as c_uint)?;
            if placements.is_null() { Ok(()) } else { put_list(placements, &possible) }
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceRemainingCapacity(
    handle: nvmlDevice_t,
    profile: c_uint,
    count: Out<'_, c_uint>,
) -> Code {
    call("nvmlDeviceGetGpuInstanceRemainingCapacity", || {
        read(|node| {
            let (gpu, _) = whole_gpu(node, handle)?;
            privileged()?;
            put(count, node.remaining_capacity(gpu, profile).map_err(refused)?)
        })
    })
}

/// Returns the slices of a compute instance profile. The only engine profile is the shared one.
fn of_compute_kind(
    release: &Release,
    gi: &SimulatedInstance,
    kind: c_uint,
    engines: c_uint,
) -> Result<u32, Code> {
    if kind >= release.compute_profiles() || engines != NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
    {
        return Err(INVALID_ARGUMENT);
    }
    gi.profile.compute_size(kind).ok_or(NOT_SUPPORTED)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetComputeInstanceProfileInfo(
    handle: nvmlGpuInstance_t,
    kind: c_uint,
    engines: c_uint,
    info: Out<'_, nvmlComputeInstanceProfileInfo_t>,
) -> Code {
    call_for("nvmlGpuInstanceGetComputeInstanceProfileInfo", Some(kind), || {
        read(|node| {
            let row = gpu_instance(node, handle)?.gi.profile;
            let gi = gpu_instance(node, handle)?.gi;
            let size = of_compute_kind(&Release::of(node), gi, kind, engines)?;
            let answer = nvmlComputeInstanceProfileInfo_t {
                id: kind,
                sliceCount: size,
                instanceCount: row.slices / size,
                multiprocessorCount: row.compute_multiprocessors(size).unwrap_or(0),
                sharedCopyEngineCount: row.copy_engines.unwrap_or(0),
                sharedDecoderCount: row.decoders,
                sharedEncoderCount: row.encoders,
                sharedJpegCount: row.jpeg,
                sharedOfaCount: row.ofa,
            };
            put(info, answer)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(
    handle: nvmlGpuInstance_t,
    kind: c_uint,
    engines: c_uint,
    info: *mut nvmlComputeInstanceProfileInfo_v2_t,
) -> Code {
    const V2: c_uint = struct_version::<nvmlComputeInstanceProfileInfo_v2_t>(2);
    const V3: c_uint = struct_version::<nvmlComputeInstanceProfileInfo_v3_t>(3);
    call("nvmlGpuInstanceGetComputeInstanceProfileInfoV", || {
        read(|node| {
            let gi = gpu_instance(node, handle)?.gi;
            let version = version_of(info)?;
            let release = Release::of(node);
            let size = of_compute_kind(&release, gi, kind, engines)?;
            match version {
                V2 => put_version(info, compute_v2(gi.profile, kind, size, V2)),
                V3 if release.has_version_3() => {
                    put_version(info, compute_v3(gi.profile, kind, size, V3))
                }
                _ => Err(release.version_mismatch()),
            }
        })
    })
}

fn compute_v2(
    row: &ProfileRow,
    id: c_uint,
    size: u32,
    version: c_uint,
) -> nvmlComputeInstanceProfileInfo_v2_t {
    nvmlComputeInstanceProfileInfo_v2_t {
        version,
        id,
        sliceCount: size,
        instanceCount: row.slices / size,
        multiprocessorCount: row.compute_multiprocessors(size).unwrap_or(0),
        sharedCopyEngineCount: row.copy_engines.unwrap_or(0),
        sharedDecoderCount: row.decoders,
        sharedEncoderCount: row.encoders,
        sharedJpegCount: row.jpeg,
        sharedOfaCount: row.ofa,
        name: text_field(&format!("MIG {}", row.compute_name(size))),
    }
}

fn compute_v3(
    row: &ProfileRow,
    id: c_uint,
    size: u32,
    version: c_uint,
) -> nvmlComputeInstanceProfileInfo_v3_t {
    let graphics = row.name.ends_with("+gfx");
    nvmlComputeInstanceProfileInfo_v3_t {
        version,
        id,
        sliceCount: size,
        instanceCount: row.slices / size,
        multiprocessorCount: row.compute_multiprocessors(size).unwrap_or(0),
        sharedCopyEngineCount: row.copy_engines.unwrap_or(0),
        sharedDecoderCount: row.decoders,
        sharedEncoderCount: row.encoders,
        sharedJpegCount: row.jpeg,
        sharedOfaCount: row.ofa,
        name: text_field(&format!("MIG {}", row.compute_name(size))),
        capabilities: if graphics { NVML_COMPUTE_INSTANCE_PROFILE_CAPS_GFX } else { 0 },
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(
    handle: nvmlGpuInstance_t,
    profile: c_uint,
    placements: *mut nvmlComputeInstancePlacement_t,
    count: Out<'_, c_uint>,
) -> Code {
    call("nvmlGpuInstanceGetComputeInstancePossiblePlacements", || {
        read(|node| {
            let found = gpu_instance(node, handle)?;
            privileged()?;
            let possible = node.possible_compute_placements(found.gpu, found.gi.id, profile);
            let possible = possible.map_err(refused)?.into_iter();
            let place = |Placement { start, size }| nvmlComputeInstancePlacement_t { start, size };
            let possible: Vec<_> = possible.map(place).collect();
            put(count, possible.len() as c_uint)?;
            if placements.is_null() { Ok(()) } else { put_list(placements, &possible) }
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetComputeInstanceRemainingCapacity(
    handle: nvmlGpuInstance_t,
    profile: c_uint,
    count: Out<'_, c_uint>,
) -> Code {
    call("nvmlGpuInstanceGetComputeInstanceRemainingCapacity", || {
        read(|node| {
            let found = gpu_instance(node, handle)?;
            privileged()?;
            let left = node.remaining_compute_capacity(found.gpu, found.gi.id, profile);
            put(count, left.map_err(refused)?)
        })
    })
}
