//! Queries of GPUs and MIG devices, and MIG mode.

use crate::{
    c_abi::{
        Code, IN_USE, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, OK, Out, get_text, privileged,
        put, put_text, text_field,
    },
    events::is_listening,
    faults::{call, injected},
    handles::{Handle, device, gpu_at, mig_device, visible, whole_gpu},
    state::{change, fresh, read},
};
use mig_cdi_sim::SimulatedNode;
use nvml_wrapper_sys::bindings::{
    NVML_DEVICE_MIG_DISABLE, NVML_DEVICE_MIG_ENABLE, nvmlDevice_t, nvmlDeviceAttributes_t,
    nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t,
};
use std::ffi::{c_char, c_int, c_uint};

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: Out<'_, c_uint>) -> Code {
    call("nvmlDeviceGetCount_v2", || read(|node| put(count, node.nvml_gpus().count() as c_uint)))
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    handle: Out<'_, nvmlDevice_t>,
) -> Code {
    call("nvmlDeviceGetHandleByIndex_v2", || {
        read(|node| {
            let (gpu, _) = node.nvml_gpus().nth(index as usize).ok_or(INVALID_ARGUMENT)?;
            gpu_at(node, gpu).and_then(|_| put(handle, Handle::Gpu(gpu).encode()))
        })
    })
}

/// Finds a whole GPU only: the product looks up no other device by UUID.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: *const c_char,
    handle: Out<'_, nvmlDevice_t>,
) -> Code {
    call("nvmlDeviceGetHandleByUUID", || {
        let uuid = get_text(uuid)?;
        read(|node| {
            let mut visible = node.nvml_gpus();
            let (gpu, _) =
                visible.find(|(_, gpu)| gpu.uuid.to_string() == uuid).ok_or(NOT_FOUND)?;
            gpu_at(node, gpu).and_then(|_| put(handle, Handle::Gpu(gpu).encode()))
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetIndex(handle: nvmlDevice_t, index: Out<'_, c_uint>) -> Code {
    call("nvmlDeviceGetIndex", || {
        read(|node| {
            let (gpu, _) = whole_gpu(node, handle)?;
            let rank = node.nvml_gpus().position(|(position, _)| position == gpu);
            put(index, rank.ok_or(INVALID_ARGUMENT)? as c_uint)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPciInfo_v3(
    handle: nvmlDevice_t,
    info: Out<'_, nvmlPciInfo_t>,
) -> Code {
    call("nvmlDeviceGetPciInfo_v3", || {
        read(|node| {
            let (gpu, _) = device(node, handle)?;
            let address = gpu.pci.to_string();
            let mut numbers = address.split([':', '.']).map(|hex| u32::from_str_radix(hex, 16));
            let mut number = || numbers.next().and_then(Result::ok).unwrap_or_default();
            let pci = nvmlPciInfo_t {
                domain: number(),
                bus: number(),
                device: number(),
                pciDeviceId: gpu.model.pci_device,
                pciSubSystemId: gpu.model.pci_subsystem,
                busIdLegacy: text_field(&address),
                busId: text_field(&format!("0000{address}")),
            };
            put(info, pci)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(
    handle: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> Code {
    call("nvmlDeviceGetUUID", || {
        read(|node| {
            let (gpu, mig) = device(node, handle)?;
            let uuid = mig.map_or_else(|| gpu.uuid.to_string(), |(_, ci)| ci.uuid.to_string());
            put_text(text, length, &uuid)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(
    handle: nvmlDevice_t,
    text: *mut c_char,
    length: c_uint,
) -> Code {
    call("nvmlDeviceGetName", || {
        read(|node| {
            let (gpu, mig) = device(node, handle)?;
            put_text(text, length, mig.map_or(gpu.model.product, |(_, ci)| &ci.name))
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMinorNumber(handle: nvmlDevice_t, minor: Out<'_, c_uint>) -> Code {
    call("nvmlDeviceGetMinorNumber", || {
        read(|node| device(node, handle).and_then(|(gpu, _)| put(minor, gpu.minor)))
    })
}

/// Total memory in bytes.
fn memory(node: &SimulatedNode, handle: nvmlDevice_t) -> Result<u64, Code> {
    let (gpu, mig) = device(node, handle)?;
    // nvml.h: for a GPU in MIG mode this needs privileges.
    if gpu.is_mig_enabled && mig.is_none() {
        privileged()?;
    }
    let mib = mig.map_or(gpu.model.memory_mib, |(gi, _)| gi.profile.memory_mib);
    Ok(mib << 20)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo(
    handle: nvmlDevice_t,
    info: Out<'_, nvmlMemory_t>,
) -> Code {
    call("nvmlDeviceGetMemoryInfo", || {
        read(|node| {
            let total = memory(node, handle)?;
            put(info, nvmlMemory_t { total, free: total, used: 0 })
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    handle: nvmlDevice_t,
    info: Out<'_, nvmlMemory_v2_t>,
) -> Code {
    call("nvmlDeviceGetMemoryInfo_v2", || {
        read(|node| {
            let total = memory(node, handle)?;
            put(info, nvmlMemory_v2_t { version: 0, total, reserved: 0, free: total, used: 0 })
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCudaComputeCapability(
    handle: nvmlDevice_t,
    major: Out<'_, c_int>,
    minor: Out<'_, c_int>,
) -> Code {
    call("nvmlDeviceGetCudaComputeCapability", || {
        read(|node| {
            let capability = device(node, handle)?.0.model.compute_capability();
            let capability = capability.ok_or(NOT_SUPPORTED)?;
            put(major, capability.major as c_int)?;
            put(minor, capability.minor as c_int)
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(
    handle: nvmlDevice_t,
    current: Out<'_, c_uint>,
    pending: Out<'_, c_uint>,
) -> Code {
    let answer = |node: &SimulatedNode| {
        let (gpu, _) = device(node, handle)?;
        if gpu.model.profiles.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        put(current, c_uint::from(gpu.is_mig_enabled))?;
        put(pending, c_uint::from(gpu.is_mig_enabled_after_reset))
    };
    // A process that waits for events lives long, and others change the mode meanwhile.
    call("nvmlDeviceGetMigMode", || match is_listening() {
        true => fresh().and_then(|node| answer(&node)),
        false => read(answer),
    })
}

/// nvml.h: the mode is set, and `activation` says why it is not yet in force. If it is refused, the call fails with
/// the same code.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceSetMigMode(
    handle: nvmlDevice_t,
    mode: c_uint,
    activation: Out<'_, nvmlReturn_t>,
) -> Code {
    call("nvmlDeviceSetMigMode", || {
        let (gpu, _) = read(|node| whole_gpu(node, handle).map(|(index, gpu)| (index, gpu.minor)))?;
        privileged()?;
        let on = match mode {
            NVML_DEVICE_MIG_DISABLE => false,
            NVML_DEVICE_MIG_ENABLE => true,
            _ => return Err(INVALID_ARGUMENT),
        };
        let activation = activation.ok_or(INVALID_ARGUMENT)?;
        if let Some(code) = injected("activationStatus") {
            change(|node| {
                node.gpus[gpu].is_mig_enabled_after_reset = on;
                Ok(())
            })?;
            activation.write(code);
            return Ok(());
        }
        let answer = change(|node| node.set_mig_mode(gpu, on));
        activation.write(match answer {
            Ok(true) => OK,
            Ok(false) => IN_USE,
            Err(code) => code,
        });
        answer.map(drop)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    handle: nvmlDevice_t,
    count: Out<'_, c_uint>,
) -> Code {
    call("nvmlDeviceGetMaxMigDeviceCount", || {
        read(|node| device(node, handle).and_then(|(gpu, _)| put(count, gpu.model.compute_slices)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    handle: nvmlDevice_t,
    index: c_uint,
    mig: Out<'_, nvmlDevice_t>,
) -> Code {
    call("nvmlDeviceGetMigDeviceHandleByIndex", || {
        read(|node| {
            let (position, gpu) = whole_gpu(node, handle)?;
            if index >= gpu.model.compute_slices {
                return Err(INVALID_ARGUMENT);
            }
            let (gi, ci) = visible(gpu).nth(index as usize).ok_or(NOT_FOUND)?;
            put(mig, Handle::Mig(position, gi.id, ci.id).encode())
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetGpuInstanceId(handle: nvmlDevice_t, id: Out<'_, c_uint>) -> Code {
    call("nvmlDeviceGetGpuInstanceId", || {
        read(|node| mig_device(node, handle).and_then(|(gi, _)| put(id, gi.id)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetComputeInstanceId(
    handle: nvmlDevice_t,
    id: Out<'_, c_uint>,
) -> Code {
    call("nvmlDeviceGetComputeInstanceId", || {
        read(|node| mig_device(node, handle).and_then(|(_, ci)| put(id, ci.id)))
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetAttributes_v2(
    handle: nvmlDevice_t,
    attributes: Out<'_, nvmlDeviceAttributes_t>,
) -> Code {
    call("nvmlDeviceGetAttributes_v2", || {
        read(|node| {
            let (gpu, mig) = device(node, handle)?;
            let (gi, ci) = mig.ok_or(INVALID_ARGUMENT)?;
            let has = gpu.attributes(gi, ci);
            let answer = nvmlDeviceAttributes_t {
                multiprocessorCount: has.multiprocessors.unwrap_or(0),
                sharedCopyEngineCount: has.copy_engines.unwrap_or(0),
                sharedDecoderCount: has.decoders,
                sharedEncoderCount: has.encoders,
                sharedJpegCount: has.jpeg_engines,
                sharedOfaCount: has.ofa_engines,
                gpuInstanceSliceCount: has.gpu_slices,
                computeInstanceSliceCount: has.compute_slices,
                memorySizeMB: gi.profile.memory_mib,
            };
            put(attributes, answer)
        })
    })
}
