//! Reading the state of all GPUs from NVML, call by call. It changes nothing and keeps nothing open.

use super::{
    CallError, NvmlError,
    error::failed,
    gpu_state::{IndexedMigDevice, NvmlGpu, NvmlMigDevice, NvmlSnapshot, Sizes},
    library,
    raw::{self, instances},
    session::is_resetless,
};
use crate::DriverRoot;
use mig_cdi_model::{Attributes, MajorMinor, PendingMode, Placement};
use nvml_wrapper::{Device, Nvml, error::NvmlError as WrapperError};

/// Loads NVML of the driver below `root`, enumerates all devices, and shuts it down. With
/// `cuda` it reads the version of CUDA as well.
pub(crate) fn snapshot(root: &DriverRoot, cuda: bool) -> Result<NvmlSnapshot, NvmlError> {
    let (nvml, path) = library::start(root)?;
    let version = nvml.sys_driver_version();
    let count = nvml.device_count();
    let fatal = |call, e: WrapperError| NvmlError::Call(failed(call, e));
    Ok(NvmlSnapshot {
        library: path,
        driver_version: version.map_err(|e| fatal("nvmlSystemGetDriverVersion", e))?,
        cuda_version: cuda.then(|| cuda_version(&nvml)).flatten(),
        gpus: (0..count.map_err(|e| fatal("nvmlDeviceGetCount_v2", e))?)
            .map(|index| gpu(&nvml, index))
            .collect(),
    })
}

/// Version of CUDA. NVML opens libcuda for it, or answers the version that it was built for.
fn cuda_version(nvml: &Nvml) -> Option<MajorMinor> {
    let version = u32::try_from(raw::cuda_version(nvml).ok()?).ok()?;
    // nvml.h, `NVML_CUDA_DRIVER_VERSION_MAJOR` and `_MINOR`.
    (version >= 1000).then_some(MajorMinor { major: version / 1000, minor: version % 1000 / 10 })
}

fn gpu(nvml: &Nvml, index: u32) -> Result<NvmlGpu, CallError> {
    let device = checked("nvmlDeviceGetHandleByIndex_v2", nvml.device_by_index(index))?;
    let MigModes { current: mig, pending } = modes(&device)?;
    Ok(NvmlGpu {
        pci: checked("nvmlDeviceGetPciInfo_v3", device.pci_info())?.bus_id,
        uuid: checked("nvmlDeviceGetUUID", device.uuid())?,
        minor: checked("nvmlDeviceGetMinorNumber", device.minor_number())?,
        model: checked("nvmlDeviceGetName", device.name())?,
        memory_bytes: memory_bytes(nvml, &device),
        compute_capability: compute_capability(&device),
        mig,
        pending_mode: PendingMode::new(mig, pending, || is_resetless(&device)),
        devices: if mig == Some(true) { mig_devices(nvml, &device)? } else { Vec::new() },
    })
}

/// Total memory of a GPU; with MIG on, NVML reports it to root only.
pub(super) fn memory_bytes(nvml: &Nvml, gpu: &Device<'_>) -> Option<u64> {
    let newest = gpu.memory_info().map(|memory| memory.total);
    newest.or_else(|_| raw::memory_total(nvml, gpu)).ok()
}

/// CUDA compute capability. Nothing depends on it but labels, so a failure is ignored.
fn compute_capability(gpu: &Device<'_>) -> Option<MajorMinor> {
    let answer = gpu.cuda_compute_capability().ok()?;
    let (major, minor) = (answer.major.try_into().ok()?, answer.minor.try_into().ok()?);
    (major > 0).then_some(MajorMinor { major, minor })
}

/// The MIG modes of a GPU: true for on, `None` on a GPU, or with a driver, without MIG.
#[derive(Default)]
pub(super) struct MigModes {
    pub current: Option<bool>,
    /// Mode after the next reset of the GPU.
    pub pending: Option<bool>,
}

/// Reads the MIG modes of a GPU.
pub(super) fn modes(gpu: &Device<'_>) -> Result<MigModes, CallError> {
    match gpu.mig_mode() {
        Ok(mode) => {
            Ok(MigModes { current: Some(mode.current == 1), pending: Some(mode.pending == 1) })
        }
        Err(error) if is_without(&error) => Ok(MigModes::default()),
        Err(error) => Err(failed("nvmlDeviceGetMigMode", error)),
    }
}

/// Reports whether a GPU has no such thing, or the driver not the call for it.
pub(super) fn is_without(error: &WrapperError) -> bool {
    matches!(
        error,
        WrapperError::NotSupported
            | WrapperError::FailedToLoadSymbol(_)
            | WrapperError::FunctionNotFound
    )
}

/// Names the call that an error of nvml-wrapper is from.
pub(super) fn checked<T>(
    call: &'static str,
    answer: Result<T, WrapperError>,
) -> Result<T, CallError> {
    answer.map_err(|error| failed(call, error))
}

/// Reads the MIG devices of a GPU.
fn mig_devices(nvml: &Nvml, gpu: &Device<'_>) -> Result<Vec<IndexedMigDevice>, CallError> {
    let read = |(index, device): (u32, Result<Device<'_>, CallError>)| {
        let device = device.and_then(|mig| mig_device(nvml, gpu, &mig));
        IndexedMigDevice { index, device }
    };
    Ok(each_mig_device(gpu)?.map(read).collect())
}

/// Handles of the MIG devices of a GPU. Indices run up to the maximum and have holes; they shift when instances are created or destroyed.
pub(super) fn each_mig_device<'a>(
    gpu: &'a Device<'a>,
) -> Result<impl Iterator<Item = (u32, Result<Device<'a>, CallError>)>, CallError> {
    let count = checked("nvmlDeviceGetMaxMigDeviceCount", gpu.mig_device_count())?;
    Ok((0..count).filter_map(|index| match gpu.mig_device_by_index(index) {
        Err(WrapperError::NotFound) => None,
        answer => Some((index, checked("nvmlDeviceGetMigDeviceHandleByIndex", answer))),
    }))
}

/// Ids of the GPU instance and the compute instance of a MIG device.
pub(super) fn instance_ids(nvml: &Nvml, mig: &Device<'_>) -> Result<(u32, u32), CallError> {
    let gi = checked("nvmlDeviceGetGpuInstanceId", raw::gpu_instance_id(nvml, mig))?;
    let ci = checked("nvmlDeviceGetComputeInstanceId", raw::compute_instance_id(nvml, mig))?;
    Ok((gi, ci))
}

fn mig_device(nvml: &Nvml, gpu: &Device<'_>, mig: &Device<'_>) -> Result<NvmlMigDevice, CallError> {
    let (gi, ci) = instance_ids(nvml, mig)?;
    let instance = instances::gpu_instance(nvml, gpu, gi)
        .and_then(|handle| Ok((handle, instances::gpu_instance_info(nvml, handle)?.placement)));
    let instance = permitted("nvmlGpuInstanceGetInfo", instance)?;
    let ci_placement = match instance {
        Some((handle, _)) => compute_placement(nvml, handle, ci)?,
        None => None,
    };
    Ok(NvmlMigDevice {
        gi,
        ci,
        uuid: checked("nvmlDeviceGetUUID", mig.uuid())?,
        name: checked("nvmlDeviceGetName", mig.name())?,
        sizes: sizes(mig),
        gi_placement: instance.map(|(_, placement)| placement),
        ci_placement,
    })
}

fn compute_placement(
    nvml: &Nvml,
    instance: instances::GpuHandle,
    ci: u32,
) -> Result<Option<Placement>, CallError> {
    let placement = instances::compute_instance(nvml, instance, ci)
        .and_then(|handle| Ok(instances::compute_instance_info(nvml, handle)?.placement));
    permitted("nvmlComputeInstanceGetInfo_v2", placement)
}

/// Turns into `None` the errors of a caller without privileges (nvml.h has "Requires privileged user" at the calls
/// for instances), of a driver without the call, and of a GPU without the feature.
fn permitted<T>(
    call: &'static str,
    answer: Result<T, WrapperError>,
) -> Result<Option<T>, CallError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(WrapperError::NoPermission) => Ok(None),
        Err(error) if is_without(&error) => Ok(None),
        Err(error) => Err(failed(call, error)),
    }
}

/// Sizes of a MIG device. They are for people, so a driver that does not report them loses no device.
fn sizes(mig: &Device<'_>) -> Option<Sizes> {
    let attributes = mig.attributes().ok()?;
    let some = |count: u32| (count > 0).then_some(count);
    Some(Sizes {
        memory_mib: attributes.memory_size_mb,
        attributes: Attributes {
            multiprocessors: some(attributes.multiprocessor_count),
            gpu_slices: attributes.gpu_instance_slice_count,
            compute_slices: attributes.compute_instance_slice_count,
            copy_engines: some(attributes.shared_copy_engine_count),
            decoders: attributes.shared_decoder_count,
            encoders: attributes.shared_encoder_count,
            jpeg_engines: attributes.shared_jpeg_count,
            ofa_engines: attributes.shared_ofa_count,
        },
    })
}
