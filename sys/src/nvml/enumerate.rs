//! Asking NVML, call by call.

use super::{CallError, Failure, Gpu, MigDevice, Report, Sizes, failed, library, raw};
use crate::DriverRoot;
use mig_cdi_model::{Attributes, Release};
use nvml_wrapper::{Device, Nvml, error::NvmlError};

/// Loads NVML of the driver below `root`, enumerates and shuts it down. `cuda` asks for the version of CUDA as
/// well.
pub(crate) fn report(root: &DriverRoot, cuda: bool) -> Result<Report, Failure> {
    let (nvml, path) = library::start(root)?;
    let version = nvml.sys_driver_version();
    let count = nvml.device_count();
    let fatal = |call, e: &NvmlError| Failure::Call(failed(call, e));
    Ok(Report {
        library: path,
        driver_version: version.map_err(|e| fatal("nvmlSystemGetDriverVersion", &e))?,
        cuda_version: cuda.then(|| cuda_version(&nvml)).flatten(),
        gpus: (0..count.map_err(|e| fatal("nvmlDeviceGetCount_v2", &e))?)
            .map(|index| gpu(&nvml, index))
            .collect(),
    })
}

/// NVML opens libcuda for this, or says what it was built for.
fn cuda_version(nvml: &Nvml) -> Option<Release> {
    let version = u32::try_from(raw::cuda_version(nvml).ok()?).ok()?;
    // nvml.h, `NVML_CUDA_DRIVER_VERSION_MAJOR` and `_MINOR`.
    (version >= 1000).then_some(Release { major: version / 1000, minor: version % 1000 / 10 })
}

fn gpu(nvml: &Nvml, index: u32) -> Result<Gpu, CallError> {
    let device = ask("nvmlDeviceGetHandleByIndex_v2", nvml.device_by_index(index))?;
    let (mig, mig_pending) = modes(&device)?;
    Ok(Gpu {
        pci: ask("nvmlDeviceGetPciInfo_v3", device.pci_info())?.bus_id,
        uuid: ask("nvmlDeviceGetUUID", device.uuid())?,
        minor: ask("nvmlDeviceGetMinorNumber", device.minor_number())?,
        model: ask("nvmlDeviceGetName", device.name())?,
        memory_bytes: device.memory_info().ok().map(|memory| memory.total),
        compute_capability: compute_capability(&device),
        mig,
        mig_pending,
        devices: if mig == Some(true) { mig_devices(nvml, &device)? } else { Vec::new() },
    })
}

/// For people and schedulers, as all that may be missing.
fn compute_capability(gpu: &Device<'_>) -> Option<Release> {
    let told = gpu.cuda_compute_capability().ok()?;
    let (major, minor) = (told.major.try_into().ok()?, told.minor.try_into().ok()?);
    (major > 0).then_some(Release { major, minor })
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
    Ok(MigDevice {
        gi,
        ci,
        uuid: ask("nvmlDeviceGetUUID", mig.uuid())?,
        name: ask("nvmlDeviceGetName", mig.name())?,
        sizes: sizes(mig),
        gi_placement,
        ci_placement,
    })
}

/// Sizes are for people; a driver that does not tell them loses no device.
fn sizes(mig: &Device<'_>) -> Option<Sizes> {
    let told = mig.attributes().ok()?;
    let some = |count: u32| (count > 0).then_some(count);
    Some(Sizes {
        memory_mib: told.memory_size_mb,
        attributes: Attributes {
            multiprocessors: some(told.multiprocessor_count),
            gpu_slices: told.gpu_instance_slice_count,
            compute_slices: told.compute_instance_slice_count,
            copy_engines: some(told.shared_copy_engine_count),
            decoders: told.shared_decoder_count,
            encoders: told.shared_encoder_count,
            jpeg_engines: told.shared_jpeg_count,
            ofa_engines: told.shared_ofa_count,
        },
    })
}
