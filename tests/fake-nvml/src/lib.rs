//! A `libnvidia-ml.so.1` for tests: the C ABI of nvml.h, answered from the node description that the
//! environment variable `FAKE_NVML_NODE` names. It returns the codes that nvml.h documents.
//!
//! `unsafe` is what a C ABI is made of: callers hand over pointers that must be valid, as nvml.h
//! demands. Handles are numbers in pointer clothing and are never followed.
#![allow(unsafe_code, non_snake_case, clippy::missing_safety_doc)]

use mig_cdi_sim::{Compute, Gpu, Instance, Node, NvmlFault};
use nvml_wrapper_sys::bindings::*;
use std::{
    ffi::{c_char, c_uint},
    ptr,
    sync::OnceLock,
};

type Code = nvmlReturn_t;
const OK: Code = nvmlReturn_enum_NVML_SUCCESS;
const INVALID_ARGUMENT: Code = nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const NOT_FOUND: Code = nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
const NOT_SUPPORTED: Code = nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;

static NODE: OnceLock<Result<Node, Code>> = OnceLock::new();

fn load() -> Result<Node, Code> {
    let path = std::env::var_os("FAKE_NVML_NODE").ok_or(nvmlReturn_enum_NVML_ERROR_UNKNOWN)?;
    let text = std::fs::read_to_string(path).map_err(|_| nvmlReturn_enum_NVML_ERROR_UNKNOWN)?;
    let node = Node::parse(&text).map_err(|_| nvmlReturn_enum_NVML_ERROR_UNKNOWN)?;
    match node.nvml_fault {
        Some(NvmlFault::DriverNotLoaded) => Err(nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED),
        Some(NvmlFault::VersionMismatch) => Err(nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH),
        None => Ok(node),
    }
}

fn node() -> Result<&'static Node, Code> {
    match NODE.get() {
        Some(Ok(node)) => Ok(node),
        Some(Err(code)) => Err(*code),
        None => Err(nvmlReturn_enum_NVML_ERROR_UNINITIALIZED),
    }
}

/// What a handle stands for: GPU, then MIG device, GPU instance or compute instance by position.
#[derive(Clone, Copy)]
enum Handle {
    Gpu(usize),
    Mig(usize, usize),
    GpuInstance(usize, usize),
    ComputeInstance(usize, usize, usize),
}

impl Handle {
    fn encode(self) -> usize {
        let (kind, a, b, c) = match self {
            Handle::Gpu(a) => (1, a, 0, 0),
            Handle::Mig(a, b) => (2, a, b, 0),
            Handle::GpuInstance(a, b) => (3, a, b, 0),
            Handle::ComputeInstance(a, b, c) => (4, a, b, c),
        };
        kind << 24 | a << 16 | b << 8 | c
    }

    fn decode(code: usize) -> Option<Handle> {
        let (a, b, c) = (code >> 16 & 0xff, code >> 8 & 0xff, code & 0xff);
        match code >> 24 {
            1 => Some(Handle::Gpu(a)),
            2 => Some(Handle::Mig(a, b)),
            3 => Some(Handle::GpuInstance(a, b)),
            4 => Some(Handle::ComputeInstance(a, b, c)),
            _ => None,
        }
    }
}

fn gpu_at(index: usize) -> Result<&'static Gpu, Code> {
    let gpu = node()?.gpus.get(index).ok_or(INVALID_ARGUMENT)?;
    if gpu.lost { Err(nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST) } else { Ok(gpu) }
}

type Mig = (&'static Instance, &'static Compute);

/// The GPU of a device handle, and the MIG device when it is one.
fn device(handle: nvmlDevice_t) -> Result<(&'static Gpu, Option<Mig>), Code> {
    match Handle::decode(handle as usize).ok_or(INVALID_ARGUMENT)? {
        Handle::Gpu(gpu) => Ok((gpu_at(gpu)?, None)),
        Handle::Mig(index, mig) => {
            let gpu = gpu_at(index)?;
            Ok((gpu, Some(visible(gpu).nth(mig).ok_or(INVALID_ARGUMENT)?)))
        }
        _ => Err(INVALID_ARGUMENT),
    }
}

fn mig_device(
    handle: nvmlDevice_t,
) -> Result<(&'static Gpu, &'static Instance, &'static Compute), Code> {
    let (gpu, mig) = device(handle)?;
    mig.map(|(gi, ci)| (gpu, gi, ci)).ok_or(INVALID_ARGUMENT)
}

fn visible(gpu: &'static Gpu) -> impl Iterator<Item = (&'static Instance, &'static Compute)> {
    let instances = gpu.instances.iter();
    instances.flat_map(|gi| gi.compute.iter().map(move |ci| (gi, ci))).filter(|(_, ci)| !ci.hidden)
}

fn code(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(OK)
}

/// Stores an answer where the caller wants it.
///
/// # Safety
/// `at` is null or valid for a write.
unsafe fn put<T>(at: *mut T, value: T) -> Result<(), Code> {
    if at.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { ptr::write(at, value) };
    Ok(())
}

/// Stores a C string.
///
/// # Safety
/// `at` is null or valid for `length` bytes.
unsafe fn put_text(at: *mut c_char, length: c_uint, text: &str) -> Result<(), Code> {
    if at.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE);
    }
    // SAFETY: the text and its end fit, as just checked.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), at, text.len());
        ptr::write(at.add(text.len()), 0);
    }
    Ok(())
}

/// nvml.h: "Requires privileged user".
fn privileged() -> Result<(), Code> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(nvmlReturn_enum_NVML_ERROR_NO_PERMISSION),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> Code {
    match NODE.get_or_init(load) {
        Ok(_) => OK,
        Err(code) => *code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> Code {
    code(node().map(drop))
}

// SAFETY, for every function below: callers pass pointers that nvml.h asks for; `put` and `put_text`
// refuse null.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Code {
    code(node().and_then(|node| unsafe { put_text(version, length, &node.driver) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> Code {
    code(node().and_then(|node| unsafe { put(count, node.gpus.len() as c_uint) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    handle: *mut nvmlDevice_t,
) -> Code {
    let index = index as usize;
    code(
        gpu_at(index)
            .and_then(|_| unsafe { put(handle, Handle::Gpu(index).encode() as nvmlDevice_t) }),
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    handle: nvmlDevice_t,
    info: *mut nvmlPciInfo_t,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        // SAFETY: a structure of integers and byte arrays.
        let mut pci: nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        let text = format!("0000{}", gpu.pci);
        for (to, from) in pci.busId.iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
        unsafe { put(info, pci) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    handle: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> Code {
    code(device(handle).and_then(|(gpu, mig)| {
        let uuid = mig.map_or_else(|| gpu.uuid.to_string(), |(_, ci)| ci.uuid.to_string());
        unsafe { put_text(text, length, &uuid) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    handle: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> Code {
    code(device(handle).and_then(|(gpu, mig)| {
        let name = mig.map_or(gpu.model.product, |(_, ci)| &ci.name);
        unsafe { put_text(text, length, name) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMinorNumber(
    handle: nvmlDevice_t,
    minor: *mut c_uint,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| unsafe { put(minor, gpu.minor) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    handle: nvmlDevice_t,
    memory: *mut nvmlMemory_v2_t,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        // SAFETY: a structure of integers.
        let mut answer: nvmlMemory_v2_t = unsafe { std::mem::zeroed() };
        answer.total = gpu.model.memory_mib << 20;
        answer.free = answer.total;
        unsafe { put(memory, answer) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    handle: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        if gpu.model.profiles.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        let mode = c_uint::from(gpu.mig);
        unsafe { put(current, mode).and_then(|()| put(pending, mode)) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    handle: nvmlDevice_t,
    count: *mut c_uint,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| unsafe { put(count, gpu.model.compute_slices) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    handle: nvmlDevice_t,
    index: c_uint,
    mig: *mut nvmlDevice_t,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        let Some(Handle::Gpu(position)) = Handle::decode(handle as usize) else {
            return Err(INVALID_ARGUMENT);
        };
        if index >= gpu.model.compute_slices {
            return Err(INVALID_ARGUMENT);
        }
        visible(gpu).nth(index as usize).ok_or(NOT_FOUND)?;
        let found = Handle::Mig(position, index as usize).encode();
        unsafe { put(mig, found as nvmlDevice_t) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(handle: nvmlDevice_t, id: *mut c_uint) -> Code {
    code(mig_device(handle).and_then(|(_, gi, _)| unsafe { put(id, gi.id) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(
    handle: nvmlDevice_t,
    id: *mut c_uint,
) -> Code {
    code(mig_device(handle).and_then(|(_, _, ci)| unsafe { put(id, ci.id) }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetAttributes_v2(
    handle: nvmlDevice_t,
    attributes: *mut nvmlDeviceAttributes_t,
) -> Code {
    code(mig_device(handle).and_then(|(_, gi, ci)| {
        // SAFETY: a structure of integers.
        let mut answer: nvmlDeviceAttributes_t = unsafe { std::mem::zeroed() };
        answer.gpuInstanceSliceCount = gi.profile.slices;
        answer.computeInstanceSliceCount = ci.placement.size;
        answer.memorySizeMB = gi.profile.memory_mib;
        unsafe { put(attributes, answer) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGpuInstanceById(
    handle: nvmlDevice_t,
    id: c_uint,
    instance: *mut nvmlGpuInstance_t,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        privileged()?;
        let Some(Handle::Gpu(position)) = Handle::decode(handle as usize) else {
            return Err(INVALID_ARGUMENT);
        };
        let found = gpu.instances.iter().position(|gi| gi.id == id).ok_or(NOT_FOUND)?;
        unsafe { put(instance, Handle::GpuInstance(position, found).encode() as nvmlGpuInstance_t) }
    }))
}

fn gpu_instance(handle: nvmlGpuInstance_t) -> Result<(usize, usize, &'static Instance), Code> {
    match Handle::decode(handle as usize) {
        Some(Handle::GpuInstance(gpu, gi)) => {
            let instance = gpu_at(gpu)?.instances.get(gi).ok_or(INVALID_ARGUMENT)?;
            Ok((gpu, gi, instance))
        }
        _ => Err(INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceGetInfo(
    handle: nvmlGpuInstance_t,
    info: *mut nvmlGpuInstanceInfo_t,
) -> Code {
    code(gpu_instance(handle).and_then(|(gpu, _, gi)| {
        privileged()?;
        let placement =
            nvmlGpuInstancePlacement_t { start: gi.placement.start, size: gi.placement.size };
        let device = Handle::Gpu(gpu).encode() as nvmlDevice_t;
        unsafe {
            put(
                info,
                nvmlGpuInstanceInfo_t { device, id: gi.id, profileId: gi.profile.id, placement },
            )
        }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpuInstanceGetComputeInstanceById(
    handle: nvmlGpuInstance_t,
    id: c_uint,
    instance: *mut nvmlComputeInstance_t,
) -> Code {
    code(gpu_instance(handle).and_then(|(gpu, position, gi)| {
        privileged()?;
        let found = gi.compute.iter().position(|ci| ci.id == id).ok_or(NOT_FOUND)?;
        let handle = Handle::ComputeInstance(gpu, position, found).encode();
        unsafe { put(instance, handle as nvmlComputeInstance_t) }
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlComputeInstanceGetInfo_v2(
    handle: nvmlComputeInstance_t,
    info: *mut nvmlComputeInstanceInfo_t,
) -> Code {
    let answer = || {
        let Some(Handle::ComputeInstance(gpu, gi, ci)) = Handle::decode(handle as usize) else {
            return Err(INVALID_ARGUMENT);
        };
        privileged()?;
        let instance = gpu_at(gpu)?.instances.get(gi).ok_or(INVALID_ARGUMENT)?;
        let compute = instance.compute.get(ci).ok_or(INVALID_ARGUMENT)?;
        let placement = nvmlComputeInstancePlacement_t {
            start: compute.placement.start,
            size: compute.placement.size,
        };
        let device = Handle::Gpu(gpu).encode() as nvmlDevice_t;
        let gpuInstance = Handle::GpuInstance(gpu, gi).encode() as nvmlGpuInstance_t;
        let answer = nvmlComputeInstanceInfo_t {
            device,
            gpuInstance,
            id: compute.id,
            profileId: 0,
            placement,
        };
        unsafe { put(info, answer) }
    };
    code(answer())
}
