//! Asking NVML, call by call.

use super::{CallError, Failure, Gpu, MigDevice, Report, Sizes, failed, library, raw};
use crate::DriverRoot;
use nvml_wrapper::{Device, Nvml, error::NvmlError};

/// Loads NVML of the driver below `root`, enumerates and shuts it down.
pub(crate) fn report(root: &DriverRoot) -> Result<Report, Failure> {
    let (nvml, path) = library::start(root)?;
    let version = nvml.sys_driver_version();
    let count = nvml.device_count();
    let fatal = |call, e: &NvmlError| Failure::Call(failed(call, e));
    Ok(Report {
        library: path,
        driver_version: version.map_err(|e| fatal("nvmlSystemGetDriverVersion", &e))?,
        gpus: (0..count.map_err(|e| fatal("nvmlDeviceGetCount_v2", &e))?)
            .map(|index| gpu(&nvml, index))
            .collect(),
    })
}

fn gpu(nvml: &Nvml, index: u32) -> Result<Gpu, CallError> {
    let device = ask("nvmlDeviceGetHandleByIndex_v2", nvml.device_by_index(index))?;
    let (mig, mig_pending) = modes(&device)?;
    Ok(Gpu {
        pci: ask("nvmlDeviceGetPciInfo_v3", device.pci_info())?.bus_id,
        uuid: ask("nvmlDeviceGetUUID", device.uuid())?,
        minor: ask("nvmlDeviceGetMinorNumber", device.minor_number())?,
        model: ask("nvmlDeviceGetName", device.name())?,
        mig,
        mig_pending,
        devices: if mig == Some(true) { mig_devices(nvml, &device)? } else { Vec::new() },
    })
}

/// Whether a GPU is divided, and whether it will be after its next reset; `None` when it cannot be.
pub(super) fn modes(gpu: &Device<'_>) -> Result<(Option<bool>, Option<bool>), CallError> {
    match gpu.mig_mode() {
        Ok(mode) => Ok((Some(mode.current == 1), Some(mode.pending == 1))),
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => Ok((None, None)),
        Err(error) => Err(failed("nvmlDeviceGetMigMode", &error)),
    }
}

pub(super) fn ask<T>(call: &'static str, answer: Result<T, NvmlError>) -> Result<T, CallError> {
    answer.map_err(|error| failed(call, &error))
}

/// A MIG index and what is there.
type Entry = (u32, Result<MigDevice, CallError>);

/// MIG devices sit at any index below the maximum, with holes.
fn mig_devices(nvml: &Nvml, gpu: &Device<'_>) -> Result<Vec<Entry>, CallError> {
    let mut devices = Vec::new();
    for index in 0..ask("nvmlDeviceGetMaxMigDeviceCount", gpu.mig_device_count())? {
        match gpu.mig_device_by_index(index) {
            Ok(mig) => devices.push((index, mig_device(nvml, gpu, &mig))),
            Err(NvmlError::NotFound) => {}
            Err(error) => {
                devices.push((index, Err(failed("nvmlDeviceGetMigDeviceHandleByIndex", &error))));
            }
        }
    }
    Ok(devices)
}

fn mig_device(nvml: &Nvml, gpu: &Device<'_>, mig: &Device<'_>) -> Result<MigDevice, CallError> {
    let (gi, ci) = raw::instance_ids(nvml, mig)?;
    let (gi_placement, ci_placement) = raw::placements(nvml, gpu, gi, ci)?;
    let name = ask("nvmlDeviceGetName", mig.name())?;
    Ok(MigDevice {
        gi,
        ci,
        uuid: ask("nvmlDeviceGetUUID", mig.uuid())?,
        sizes: sizes(gpu, mig, name.contains(" MIG ")),
        name,
        gi_placement,
        ci_placement,
    })
}

/// Sizes are for people; a driver that does not tell them loses no device.
fn sizes(gpu: &Device<'_>, mig: &Device<'_>, named: bool) -> Option<Sizes> {
    let attributes = mig.attributes().ok()?;
    Some(Sizes {
        gpu_slices: attributes.gpu_instance_slice_count,
        compute_slices: attributes.compute_instance_slice_count,
        memory_mib: attributes.memory_size_mb,
        gpu_bytes: if named { None } else { gpu.memory_info().ok().map(|memory| memory.total) },
    })
}
