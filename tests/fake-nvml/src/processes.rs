//! Running processes of a GPU or a MIG device.

use crate::{
    c_abi::{Code, INSUFFICIENT_SIZE, INVALID_ARGUMENT, privileged, put_list},
    faults::call,
    handles::device,
    state::read,
};
use mig_cdi_sim::ProcessKind;
use nvml_wrapper_sys::bindings::{NVML_VALUE_NOT_AVAILABLE, nvmlDevice_t, nvmlProcessInfo_t};
use std::ffi::{c_uint, c_ulonglong};

/// Instance id of a process without an instance (nvml.h at `nvmlProcessInfo_v2_t`).
const NO_INSTANCE: c_uint = 0xffff_ffff;

/// nvml.h: the number of entries is an input and an output; for a buffer that is too small it is the required one.
fn processes(
    kind: ProcessKind,
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    infos: *mut nvmlProcessInfo_t,
) -> Result<(), Code> {
    read(|node| {
        let (gpu, mig) = device(node, handle)?;
        let count = count.ok_or(INVALID_ARGUMENT)?;
        if gpu.is_mig_enabled && mig.is_none() {
            privileged()?;
        }
        let here = mig.map(|(gi, ci)| (Some(gi.id), Some(ci.id)));
        let found = gpu.processes.iter().filter(|process| process.kind == kind);
        let found = found.filter(|process| here.is_none_or(|ids| ids == (process.gi, process.ci)));
        let info = |process: &mig_cdi_sim::ProcessDescription| nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: NVML_VALUE_NOT_AVAILABLE as c_ulonglong,
            gpuInstanceId: process.gi.unwrap_or(NO_INSTANCE),
            computeInstanceId: process.ci.unwrap_or(NO_INSTANCE),
        };
        let found: Vec<_> = found.map(info).collect();
        let room = std::mem::replace(count, found.len() as c_uint);
        match found.len() {
            0 => Ok(()),
            needed if needed > room as usize => Err(INSUFFICIENT_SIZE),
            _ => put_list(infos, &found),
        }
    })
}

/// Exports the calls for one kind of processes: those of version 2, which drivers before 510 have alone, and of version 3. Both fill the
/// same structure (nvml.h of CUDA 11.4 and 11.6).
macro_rules! export {
    ($($name:ident: $kind:expr),*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(
            handle: nvmlDevice_t,
            count: Option<&mut c_uint>,
            infos: *mut nvmlProcessInfo_t,
        ) -> Code {
            call(stringify!($name), || processes($kind, handle, count, infos))
        }
    )*};
}

export! {
    nvmlDeviceGetComputeRunningProcesses_v2: ProcessKind::Compute,
    nvmlDeviceGetComputeRunningProcesses_v3: ProcessKind::Compute,
    nvmlDeviceGetGraphicsRunningProcesses_v2: ProcessKind::Graphics,
    nvmlDeviceGetGraphicsRunningProcesses_v3: ProcessKind::Graphics,
    nvmlDeviceGetMPSComputeRunningProcesses_v2: ProcessKind::Mps,
    nvmlDeviceGetMPSComputeRunningProcesses_v3: ProcessKind::Mps
}
