//! A `libnvidia-ml.so.1` for tests: the C ABI of nvml.h, answered from the node description that the
//! environment variable `FAKE_NVML_NODE` names, or that stands beside the library with `.toml` after its
//! name. It returns the codes that nvml.h documents.
//!
//! Out parameters are `Option<&mut MaybeUninit<T>>`, which is C's pointer that may be null. Handles are
//! numbers in pointer clothing and are never followed. What is left of `unsafe` is the export of the
//! names (sound because this library takes NVML's place and is never linked with it), and the one place
//! where a caller's buffer and its length meet.
#![allow(unsafe_code, non_snake_case)]

use mig_cdi_sim::{Compute, Gpu, Instance, Node, NvmlFault};
use nvml_wrapper_sys::bindings::*;
use std::{
    ffi::{c_char, c_uint},
    mem::MaybeUninit,
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
    let named = std::env::var_os("FAKE_NVML_NODE");
    let path = named.or_else(beside).ok_or(nvmlReturn_enum_NVML_ERROR_UNKNOWN)?;
    let text = std::fs::read_to_string(path).map_err(|_| nvmlReturn_enum_NVML_ERROR_UNKNOWN)?;
    let node = Node::parse(&text).map_err(|_| nvmlReturn_enum_NVML_ERROR_UNKNOWN)?;
    match node.nvml_fault {
        Some(NvmlFault::DriverNotLoaded) => Err(nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED),
        Some(NvmlFault::VersionMismatch) => Err(nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH),
        None => Ok(node),
    }
}

/// For a program that runs with an empty environment.
fn beside() -> Option<std::ffi::OsString> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let library = maps.split_ascii_whitespace().find(|word| word.contains("/libnvidia-ml.so"))?;
    Some(format!("{library}.toml").into())
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

/// Where the caller wants an answer.
type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// Stores an answer.
fn put<T>(at: Out<'_, T>, value: T) -> Result<(), Code> {
    at.ok_or(INVALID_ARGUMENT)?.write(value);
    Ok(())
}

/// Stores a C string in a buffer of `length` bytes.
fn put_text(at: *mut c_char, length: c_uint, text: &str) -> Result<(), Code> {
    if at.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE);
    }
    // SAFETY: nvml.h obliges the caller to give a buffer of `length` bytes, and the text and its end
    // fit, as just checked.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), at, text.len());
        ptr::write(at.add(text.len()), 0);
    }
    Ok(())
}

/// nvml.h: "Requires privileged user".
fn privileged() -> Result<(), Code> {
    // Asked once, so that a count of system calls is that of the caller.
    static ROOT: OnceLock<bool> = OnceLock::new();
    match ROOT.get_or_init(|| nix::unistd::geteuid().is_root()) {
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

#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> Code {
    code(node().and_then(|node| put_text(version, length, &node.driver)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: Out<'_, c_uint>) -> Code {
    code(node().and_then(|node| put(count, node.gpus.len() as c_uint)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    handle: Out<'_, nvmlDevice_t>,
) -> Code {
    let index = index as usize;
    code(gpu_at(index).and_then(|_| put(handle, Handle::Gpu(index).encode() as nvmlDevice_t)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(
    handle: nvmlDevice_t,
    info: Out<'_, nvmlPciInfo_t>,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        let text = format!("0000{}\0", gpu.pci);
        let mut text = text.bytes().map(|byte| byte as c_char);
        let pci = nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: std::array::from_fn(|_| text.next().unwrap_or_default()),
        };
        put(info, pci)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(
    handle: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> Code {
    code(device(handle).and_then(|(gpu, mig)| {
        let uuid = mig.map_or_else(|| gpu.uuid.to_string(), |(_, ci)| ci.uuid.to_string());
        put_text(text, length, &uuid)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(
    handle: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> Code {
    code(device(handle).and_then(|(gpu, mig)| {
        let name = mig.map_or(gpu.model.product, |(_, ci)| &ci.name);
        put_text(text, length, name)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMinorNumber(handle: nvmlDevice_t, minor: Out<'_, c_uint>) -> Code {
    code(device(handle).and_then(|(gpu, _)| put(minor, gpu.minor)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    handle: nvmlDevice_t,
    memory: Out<'_, nvmlMemory_v2_t>,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        let total = gpu.model.memory_mib << 20;
        let answer = nvmlMemory_v2_t { version: 0, total, reserved: 0, free: total, used: 0 };
        put(memory, answer)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(
    handle: nvmlDevice_t,
    current: Out<'_, c_uint>,
    pending: Out<'_, c_uint>,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        if gpu.model.profiles.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        put(current, c_uint::from(gpu.mig))?;
        put(pending, c_uint::from(gpu.mig_pending))
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    handle: nvmlDevice_t,
    count: Out<'_, c_uint>,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| put(count, gpu.model.compute_slices)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    handle: nvmlDevice_t,
    index: c_uint,
    mig: Out<'_, nvmlDevice_t>,
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
        put(mig, found as nvmlDevice_t)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceId(handle: nvmlDevice_t, id: Out<'_, c_uint>) -> Code {
    code(mig_device(handle).and_then(|(_, gi, _)| put(id, gi.id)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetComputeInstanceId(
    handle: nvmlDevice_t,
    id: Out<'_, c_uint>,
) -> Code {
    code(mig_device(handle).and_then(|(_, _, ci)| put(id, ci.id)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetAttributes_v2(
    handle: nvmlDevice_t,
    attributes: Out<'_, nvmlDeviceAttributes_t>,
) -> Code {
    code(mig_device(handle).and_then(|(_, gi, ci)| {
        let answer = nvmlDeviceAttributes_t {
            multiprocessorCount: 0,
            sharedCopyEngineCount: 0,
            sharedDecoderCount: gi.profile.decoders,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: gi.profile.ofa,
            gpuInstanceSliceCount: gi.profile.slices,
            computeInstanceSliceCount: ci.placement.size,
            memorySizeMB: gi.profile.memory_mib,
        };
        put(attributes, answer)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceById(
    handle: nvmlDevice_t,
    id: c_uint,
    instance: Out<'_, nvmlGpuInstance_t>,
) -> Code {
    code(device(handle).and_then(|(gpu, _)| {
        privileged()?;
        let Some(Handle::Gpu(position)) = Handle::decode(handle as usize) else {
            return Err(INVALID_ARGUMENT);
        };
        let found = gpu.instances.iter().position(|gi| gi.id == id).ok_or(NOT_FOUND)?;
        put(instance, Handle::GpuInstance(position, found).encode() as nvmlGpuInstance_t)
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
pub extern "C" fn nvmlGpuInstanceGetInfo(
    handle: nvmlGpuInstance_t,
    info: Out<'_, nvmlGpuInstanceInfo_t>,
) -> Code {
    code(gpu_instance(handle).and_then(|(gpu, _, gi)| {
        privileged()?;
        let placement =
            nvmlGpuInstancePlacement_t { start: gi.placement.start, size: gi.placement.size };
        let device = Handle::Gpu(gpu).encode() as nvmlDevice_t;
        put(info, nvmlGpuInstanceInfo_t { device, id: gi.id, profileId: gi.profile.id, placement })
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpuInstanceGetComputeInstanceById(
    handle: nvmlGpuInstance_t,
    id: c_uint,
    instance: Out<'_, nvmlComputeInstance_t>,
) -> Code {
    code(gpu_instance(handle).and_then(|(gpu, position, gi)| {
        privileged()?;
        let found = gi.compute.iter().position(|ci| ci.id == id).ok_or(NOT_FOUND)?;
        let handle = Handle::ComputeInstance(gpu, position, found).encode();
        put(instance, handle as nvmlComputeInstance_t)
    }))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlComputeInstanceGetInfo_v2(
    handle: nvmlComputeInstance_t,
    info: Out<'_, nvmlComputeInstanceInfo_t>,
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
        put(info, answer)
    };
    code(answer())
}
