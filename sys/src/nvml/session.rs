//! Partitioning GPUs through NVML, which stays open until the [`Session`] is dropped.

use super::{
    CallError, NvmlError,
    error::failed,
    library,
    partitioning::{
        ComputeProfile, GpuPartitioning, GpuProcess, GpuProfile, ModeChange, NvmlComputeInstance,
        NvmlGpuInstance, Partitioner,
    },
    raw::instances as raw,
    snapshot::{MigModes, checked, modes},
};
use crate::DriverRoot;
use mig_cdi_model::{Placement, Profile};
use nvml_wrapper::{
    Device, Nvml,
    error::{NvmlError as WrapperError, nvml_try},
    struct_wrappers::device::ProcessInfo,
    structs::device::FieldId,
    sys_exports::field_id::NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED,
};

/// Suffixes of profile names by the number of the profile in nvml.h's enumeration
/// (`NVML_GPU_INSTANCE_PROFILE_*`). All numbers are tried, and the driver reports those that a GPU has;
/// 17 (`3_SLICE_GFX`) is newer than nvml-wrapper's count.
const GPU_PROFILES: [&str; 18] = [
    "", "", "", "", "", "", "", "+me", "+me", "", "+gfx", "+gfx", "+gfx", "-me", "-me", "+me.all",
    "+me.all", "+gfx",
];
/// Number of profiles of compute instances in nvml.h: `1_SLICE` to `7_SLICE_NVL`.
const COMPUTE_PROFILES: u32 = 9;

/// A started NVML.
pub struct Session(Nvml);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl Session {
    /// Loads NVML of the driver below a root and starts it; it is shut down when this is dropped.
    pub(crate) fn open(root: &DriverRoot) -> Result<Session, NvmlError> {
        library::start(root).map(|(nvml, _)| Session(nvml))
    }

    fn device(&self, uuid: &str) -> Result<Device<'_>, CallError> {
        checked("nvmlDeviceGetHandleByUUID", self.0.device_by_uuid(uuid))
    }

    fn read(&self, gpu: &Device<'_>) -> Result<GpuPartitioning, CallError> {
        let MigModes { current: mig, pending: mig_pending } = modes(gpu)?;
        let pci = checked("nvmlDeviceGetPciInfo_v3", gpu.pci_info())?;
        let profiles = if mig.is_some() { self.profiles(gpu)? } else { Vec::new() };
        let mut instances = Vec::new();
        for profile in profiles.iter().filter(|_| mig == Some(true)) {
            let found = raw::gpu_instances(&self.0, gpu, profile.id);
            for handle in checked("nvmlDeviceGetGpuInstances", found)? {
                instances.push(self.instance(handle)?);
            }
        }
        instances.sort_by_key(|instance| instance.id);
        Ok(GpuPartitioning {
            index: checked("nvmlDeviceGetIndex", gpu.index())?,
            uuid: checked("nvmlDeviceGetUUID", gpu.uuid())?,
            pci: pci.bus_id,
            device_id: pci.pci_device_id,
            subsystem_id: pci.pci_sub_system_id.unwrap_or(0),
            minor: checked("nvmlDeviceGetMinorNumber", gpu.minor_number())?,
            model: checked("nvmlDeviceGetName", gpu.name())?,
            mig,
            mig_pending,
            resetless: is_resetless(gpu),
            profiles,
            instances,
            processes: processes(gpu)?,
        })
    }

    /// Reads the profiles of GPU instances that a GPU has.
    fn profiles(&self, gpu: &Device<'_>) -> Result<Vec<GpuProfile>, CallError> {
        let mut profiles = Vec::new();
        for number in 0..GPU_PROFILES.len() as u32 {
            let info = match raw::gpu_profile(&self.0, gpu, number) {
                Ok(info) => info,
                // NOT_SUPPORTED: a profile of other GPUs. INVALID_ARGUMENT: one that is newer than the driver.
                Err(WrapperError::InvalidArg | WrapperError::NotSupported) => continue,
                Err(e) => return Err(failed("nvmlDeviceGetGpuInstanceProfileInfo", e)),
            };
            let mut placements = match raw::gpu_placements(&self.0, gpu, info.id) {
                Err(WrapperError::NotSupported) => continue,
                placements => checked("nvmlDeviceGetGpuInstancePossiblePlacements_v2", placements)?,
            };
            placements.sort_unstable();
            let (slices, memory_mib) = (info.sliceCount, info.memorySizeMB);
            profiles.push(GpuProfile {
                id: info.id,
                name: self.profile_name(gpu, number, slices, memory_mib),
                max: info.instanceCount,
                remaining: raw::remaining(&self.0, gpu, info.id).ok(),
                slices,
                memory_mib,
                multiprocessors: info.multiprocessorCount,
                copy_engines: info.copyEngineCount,
                decoders: info.decoderCount,
                encoders: info.encoderCount,
                jpeg: info.jpegCount,
                ofa: info.ofaCount,
                placements,
            });
        }
        profiles.sort_by_key(|profile| profile.id);
        Ok(profiles)
    }

    /// Name of a profile: the driver's, or one that is computed. The driver's comes first: boards with one PCI id have
    /// had different names for a profile (GB200, early and production).
    fn profile_name(
        &self,
        gpu: &Device<'_>,
        number: u32,
        slices: u32,
        memory_mib: u64,
    ) -> Option<Profile> {
        let name = raw::gpu_profile_name(&self.0, gpu, number).ok();
        let name = name.and_then(|name| name.trim_start_matches("MIG ").parse().ok());
        name.or_else(|| {
            let gpu_bytes = gpu.memory_info().map_or(0, |memory| memory.total);
            let plain = Profile::from_sizes(slices, slices, memory_mib, gpu_bytes)?;
            let suffix = GPU_PROFILES.get(number as usize)?;
            format!("{plain}{suffix}").parse().ok()
        })
    }

    fn instance(&self, handle: raw::GpuHandle) -> Result<NvmlGpuInstance, CallError> {
        let info = raw::gpu_instance_info(&self.0, handle);
        let raw::InstanceInfo { id, profile, placement } = checked("nvmlGpuInstanceGetInfo", info)?;
        let compute_profiles = self.compute_profiles(handle)?;
        let mut compute = Vec::new();
        for profile in &compute_profiles {
            let instances = raw::compute_instances(&self.0, handle, profile.id);
            for instance in checked("nvmlGpuInstanceGetComputeInstances", instances)? {
                let info = raw::compute_instance_info(&self.0, instance);
                let raw::InstanceInfo { id, profile, placement } =
                    checked("nvmlComputeInstanceGetInfo_v2", info)?;
                compute.push(NvmlComputeInstance { id, profile, placement });
            }
        }
        compute.sort_by_key(|instance| instance.id);
        Ok(NvmlGpuInstance { id, profile, placement, compute_profiles, compute })
    }

    fn compute_profiles(&self, handle: raw::GpuHandle) -> Result<Vec<ComputeProfile>, CallError> {
        let mut profiles: Vec<ComputeProfile> = Vec::new();
        for number in 0..COMPUTE_PROFILES {
            let info = match raw::compute_profile(&self.0, handle, number) {
                Ok(info) => info,
                Err(WrapperError::InvalidArg | WrapperError::NotSupported) => continue,
                Err(e) => return Err(failed("nvmlGpuInstanceGetComputeInstanceProfileInfo", e)),
            };
            // The call is newer than MIG: older drivers do not have it.
            let placements = raw::compute_placements(&self.0, handle, info.id).unwrap_or_default();
            let (id, slices, max) = (info.id, info.sliceCount, info.instanceCount);
            profiles.push(ComputeProfile { id, slices, max, placements });
        }
        Ok(profiles)
    }
}

/// True when a change of MIG mode does not reset the GPU. Ampere does reset; drivers without the field are older
/// than every GPU that does not.
pub(super) fn is_resetless(gpu: &Device<'_>) -> bool {
    let fields = gpu.field_values_for(&[FieldId(NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED)]);
    let value = fields.ok().and_then(|fields| fields.into_iter().next()?.ok()?.value.ok());
    use nvml_wrapper::enums::device::SampleValue;
    matches!(value, Some(SampleValue::U32(1) | SampleValue::U64(1)))
}

/// Processes that use a GPU, one entry for each instance that a process uses.
fn processes(gpu: &Device<'_>) -> Result<Vec<GpuProcess>, CallError> {
    let lists = [
        ("nvmlDeviceGetComputeRunningProcesses_v3", gpu.running_compute_processes()),
        ("nvmlDeviceGetGraphicsRunningProcesses_v3", gpu.running_graphics_processes()),
        ("nvmlDeviceGetMPSComputeRunningProcesses_v3", gpu.mps_running_compute_processes()),
    ];
    let mut processes = Vec::new();
    for (call, answer) in lists {
        let found: Vec<ProcessInfo> = match answer {
            Err(WrapperError::NotSupported | WrapperError::FailedToLoadSymbol(_)) => continue,
            answer => checked(call, answer)?,
        };
        processes.extend(found.iter().map(|process| GpuProcess {
            pid: process.pid,
            gi: process.gpu_instance_id,
            ci: process.compute_instance_id,
        }));
    }
    processes.sort_unstable();
    processes.dedup();
    Ok(processes)
}

/// Checks that a new instance has the requested profile and placement.
fn check_created(
    call: &'static str,
    created: &raw::InstanceInfo,
    profile: u32,
    at: Placement,
) -> Result<(), CallError> {
    if created.profile == profile && created.placement == at {
        return Ok(());
    }
    let raw::InstanceInfo { profile: made, placement, .. } = created;
    let cause =
        format!("the driver made profile {made} at {placement} in the place of {profile} at {at}");
    Err(CallError::new(call, cause))
}

/// Checks that NVML no longer finds a destroyed instance.
fn check_destroyed<T>(call: &'static str, found: Result<T, WrapperError>) -> Result<(), CallError> {
    match found {
        Err(WrapperError::NotFound) => Ok(()),
        Err(error) => Err(failed(call, error)),
        Ok(_) => Err(CallError::new(call, "it is still there")),
    }
}

impl Partitioner for Session {
    fn gpus(&self) -> Result<Vec<Result<GpuPartitioning, CallError>>, NvmlError> {
        let count =
            checked("nvmlDeviceGetCount_v2", self.0.device_count()).map_err(NvmlError::Call)?;
        let read = |index| {
            let gpu = checked("nvmlDeviceGetHandleByIndex_v2", self.0.device_by_index(index))?;
            self.read(&gpu)
        };
        Ok((0..count).map(read).collect())
    }

    fn gpu(&self, uuid: &str) -> Result<GpuPartitioning, CallError> {
        self.read(&self.device(uuid)?)
    }

    fn set_mode(&self, uuid: &str, mig: bool) -> Result<ModeChange, CallError> {
        // nvml.h: the call succeeds, and `activationStatus` holds the reason why the mode is not active yet.
        let status = checked("nvmlDeviceSetMigMode", self.device(uuid)?.set_mig_mode(mig))?;
        Ok(match nvml_try(status) {
            Ok(()) => ModeChange::Done,
            Err(error) => ModeChange::Pending(failed("nvmlDeviceSetMigMode", error)),
        })
    }

    fn create_gpu_instance(
        &self,
        uuid: &str,
        profile: u32,
        at: Placement,
    ) -> Result<u32, CallError> {
        let made = raw::create_gpu_instance(&self.0, &self.device(uuid)?, profile, at);
        let handle = checked("nvmlDeviceCreateGpuInstanceWithPlacement", made)?;
        let info = checked("nvmlGpuInstanceGetInfo", raw::gpu_instance_info(&self.0, handle))?;
        check_created("nvmlDeviceCreateGpuInstanceWithPlacement", &info, profile, at)?;
        Ok(info.id)
    }

    fn destroy_gpu_instance(&self, uuid: &str, gi: u32) -> Result<(), CallError> {
        let handle = raw::gpu_instance(&self.0, &self.device(uuid)?, gi);
        let handle = checked("nvmlDeviceGetGpuInstanceById", handle)?;
        checked("nvmlGpuInstanceDestroy", raw::destroy_gpu_instance(&self.0, handle))?;
        let instance = raw::gpu_instance(&self.0, &self.device(uuid)?, gi);
        check_destroyed("nvmlGpuInstanceDestroy", instance)
    }

    fn create_compute_instance(&self, uuid: &str, gi: u32, at: Placement) -> Result<(), CallError> {
        let handle = raw::gpu_instance(&self.0, &self.device(uuid)?, gi);
        let handle = checked("nvmlDeviceGetGpuInstanceById", handle)?;
        let profiles = self.compute_profiles(handle)?;
        let profile = profiles.iter().find(|profile| profile.slices == at.size);
        let profile = profile.ok_or_else(|| {
            let sizes: Vec<_> = profiles.iter().map(|p| format!("{}c", p.slices)).collect();
            let cause = format!(
                "this gpu instance has no compute instance of {} slices; it has {}",
                at.size,
                sizes.join(", ")
            );
            CallError::new("nvmlGpuInstanceGetComputeInstanceProfileInfo", cause)
        })?;
        let made = raw::create_compute_instance(&self.0, handle, profile.id, at);
        let made = checked("nvmlGpuInstanceCreateComputeInstanceWithPlacement", made)?;
        let info = raw::compute_instance_info(&self.0, made);
        let info = checked("nvmlComputeInstanceGetInfo_v2", info)?;
        check_created("nvmlGpuInstanceCreateComputeInstanceWithPlacement", &info, profile.id, at)
    }

    fn destroy_compute_instance(&self, uuid: &str, gi: u32, ci: u32) -> Result<(), CallError> {
        let handle = raw::gpu_instance(&self.0, &self.device(uuid)?, gi);
        let handle = checked("nvmlDeviceGetGpuInstanceById", handle)?;
        let compute = raw::compute_instance(&self.0, handle, ci);
        let compute = checked("nvmlGpuInstanceGetComputeInstanceById", compute)?;
        checked("nvmlComputeInstanceDestroy", raw::destroy_compute_instance(&self.0, compute))?;
        let instance = raw::compute_instance(&self.0, handle, ci);
        check_destroyed("nvmlComputeInstanceDestroy", instance)
    }
}
