//! Partitioning GPUs through NVML, which stays open until the [`Session`] is dropped.

use super::{
    CallError, NvmlError,
    error::failed,
    library,
    partitioning::{
        ComputeProfile, GpuPartitioning, GpuProcess, GpuProfile, ModeChange, NvmlComputeInstance,
        NvmlGpuInstance, Partitioner,
    },
    raw::{self as calls, ProcessKind, instances as raw},
    snapshot::{MigModes, checked, each_mig_device, instance_ids, is_without, memory_bytes, modes},
};
use crate::DriverRoot;
use mig_cdi_model::{PendingMode, Placement, Profile};
use nvml_wrapper::{
    Device, Nvml,
    error::{NvmlError as WrapperError, nvml_try},
    structs::device::FieldId,
    sys_exports::field_id::NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED,
};
use nvml_wrapper_sys::bindings::nvmlComputeInstanceProfileInfo_t;
use std::collections::BTreeSet;

/// Suffixes of profile names by the number of the profile in nvml.h's enumeration (`NVML_GPU_INSTANCE_PROFILE_*`), for drivers that
/// do not report names. Those are older than the numbers from 10 on, and than any that will follow.
const PROFILE_SUFFIXES: [&str; 18] = [
    "", "", "", "", "", "", "", "+me", "+me", "", "+gfx", "+gfx", "+gfx", "-me", "-me", "+me.all",
    "+me.all", "+gfx",
];
/// Count of the profiles of GPU instances, and of compute instances, in nvml.h of CUDA 13.3: a driver may know fewer, and more.
const GPU_PROFILES: u32 = 18;
const COMPUTE_PROFILES: u32 = 9;
/// Number of readings of the instances of a GPU while other programs change them.
const READINGS: usize = 4;
/// Numbers of profiles that are asked for in any case, also where a driver never says that there are no more.
const MOST_PROFILES: u32 = 256;

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
        let MigModes { current: mig, pending } = modes(gpu)?;
        let resetless = is_resetless(gpu);
        let pci = checked("nvmlDeviceGetPciInfo_v3", gpu.pci_info())?;
        let profiles = if mig.is_some() { self.profiles(gpu)? } else { Vec::new() };
        let instances = match mig {
            Some(true) => self.all_instances(gpu, &profiles)?,
            Some(false) | None => Vec::new(),
        };
        Ok(GpuPartitioning {
            index: checked("nvmlDeviceGetIndex", gpu.index())?,
            uuid: checked("nvmlDeviceGetUUID", gpu.uuid())?,
            pci: pci.bus_id,
            device_id: pci.pci_device_id,
            subsystem_id: pci.pci_sub_system_id.unwrap_or(0),
            minor: checked("nvmlDeviceGetMinorNumber", gpu.minor_number())?,
            model: checked("nvmlDeviceGetName", gpu.name())?,
            mig,
            pending_mode: PendingMode::new(mig, pending, || resetless),
            resetless,
            profiles,
            instances,
            processes: self.processes(gpu)?,
        })
    }

    /// Reads the instances of a GPU. NVML lists them by profile, and so does not list one whose profile it does not describe: each MIG
    /// device has to be among them. Other programs create and destroy instances meanwhile: one is missing that was there before they
    /// were listed, and after.
    fn all_instances(
        &self,
        gpu: &Device<'_>,
        profiles: &[GpuProfile],
    ) -> Result<Vec<NvmlGpuInstance>, CallError> {
        let mut unlisted_before = BTreeSet::new();
        let mut last = None;
        for _ in 0..READINGS {
            let listed = self.instances(gpu, profiles);
            let read = listed.and_then(|listed| Ok((self.unlisted(gpu, &listed)?, listed)));
            let (unlisted, listed) = match read {
                // The handle of one that is gone by now.
                Err(error) if error.is_about_handle() => {
                    last = Some(error);
                    continue;
                }
                read => read?,
            };
            if unlisted.is_empty() {
                return Ok(listed);
            }
            if let Some((gi, ci)) = unlisted.intersection(&unlisted_before).next() {
                let cause = format!(
                    "there is a mig device of gpu instance {gi}, compute instance {ci}, which nvml lists by none of the profiles that it describes"
                );
                return Err(CallError::new("nvmlDeviceGetGpuInstances", cause));
            }
            unlisted_before = unlisted;
        }
        let changing = || CallError::new("nvmlDeviceGetGpuInstances", "they change all the time");
        Err(last.unwrap_or_else(changing))
    }

    fn instances(
        &self,
        gpu: &Device<'_>,
        profiles: &[GpuProfile],
    ) -> Result<Vec<NvmlGpuInstance>, CallError> {
        let mut instances = Vec::new();
        for profile in profiles {
            let found = raw::gpu_instances(&self.0, gpu, profile.id);
            for handle in checked("nvmlDeviceGetGpuInstances", found)? {
                instances.push(self.instance(handle)?);
            }
        }
        instances.sort_by_key(|instance| instance.id);
        Ok(instances)
    }

    /// Returns the ids of the MIG devices whose instances are not listed.
    fn unlisted(
        &self,
        gpu: &Device<'_>,
        instances: &[NvmlGpuInstance],
    ) -> Result<BTreeSet<(u32, u32)>, CallError> {
        let is_listed = |ids: &(u32, u32)| {
            let gi = instances.iter().find(|instance| instance.id == ids.0);
            gi.is_some_and(|gi| gi.compute.iter().any(|ci| ci.id == ids.1))
        };
        let mut unlisted = BTreeSet::new();
        for (_, device) in each_mig_device(gpu)? {
            unlisted.extend(Some(instance_ids(&self.0, &device?)?).filter(|ids| !is_listed(ids)));
        }
        Ok(unlisted)
    }

    /// Reads the profiles of GPU instances that a GPU has.
    fn profiles(&self, gpu: &Device<'_>) -> Result<Vec<GpuProfile>, CallError> {
        let asked = each_profile(GPU_PROFILES, |number| raw::gpu_profile(&self.0, gpu, number));
        let mut profiles = Vec::new();
        for (number, info) in checked("nvmlDeviceGetGpuInstanceProfileInfo", asked)? {
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
            let gpu_bytes = memory_bytes(&self.0, gpu).unwrap_or(0);
            let plain = Profile::from_sizes(slices, slices, memory_mib, gpu_bytes)?;
            let suffix = PROFILE_SUFFIXES.get(number as usize)?;
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
        let asked =
            each_profile(COMPUTE_PROFILES, |number| raw::compute_profile(&self.0, handle, number));
        let asked = checked("nvmlGpuInstanceGetComputeInstanceProfileInfo", asked)?;
        let profile = |(_, info): &(u32, nvmlComputeInstanceProfileInfo_t)| ComputeProfile {
            id: info.id,
            slices: info.sliceCount,
            max: info.instanceCount,
            // The call is newer than MIG: drivers before 525 do not have it (nvml.h of CUDA 11.8).
            placements: raw::compute_placements(&self.0, handle, info.id).unwrap_or_default(),
        };
        Ok(asked.iter().map(profile).collect())
    }

    /// Processes that use a GPU, one entry for each instance that a process uses.
    fn processes(&self, gpu: &Device<'_>) -> Result<Vec<GpuProcess>, CallError> {
        let kinds = [
            ("nvmlDeviceGetComputeRunningProcesses_v3", ProcessKind::Compute),
            ("nvmlDeviceGetGraphicsRunningProcesses_v3", ProcessKind::Graphics),
            ("nvmlDeviceGetMPSComputeRunningProcesses_v3", ProcessKind::Mps),
        ];
        let mut processes = Vec::new();
        for (call, kind) in kinds {
            let found = match calls::processes(&self.0, gpu, kind) {
                // Drivers before 470 have no call for MPS (nvml.h of CUDA 11.3).
                Err(error) if is_without(&error) && matches!(kind, ProcessKind::Mps) => continue,
                Err(WrapperError::NotSupported) => continue,
                answer => checked(call, answer)?,
            };
            // nvml.h, nvmlProcessInfo_v2_t: the greatest number where a process has no instance.
            let instance = |id: u32| (id != u32::MAX).then_some(id);
            processes.extend(found.iter().map(|process| GpuProcess {
                pid: process.pid,
                gi: instance(process.gpuInstanceId),
                ci: instance(process.computeInstanceId),
            }));
        }
        processes.sort_unstable();
        processes.dedup();
        Ok(processes)
    }
}

/// Asks for the profile of each number, until the driver says that there are no more. Returns those that the GPU has, with their numbers.
///
/// `NOT_SUPPORTED` is the answer for a profile of other GPUs, `INVALID_ARGUMENT` for a number that the driver does not know. It may know
/// more than the `known` ones.
fn each_profile<T>(
    known: u32,
    ask: impl Fn(u32) -> Result<T, WrapperError>,
) -> Result<Vec<(u32, T)>, WrapperError> {
    let mut profiles = Vec::new();
    for number in 0..MOST_PROFILES {
        match ask(number) {
            Ok(profile) => profiles.push((number, profile)),
            Err(WrapperError::InvalidArg) if number >= known => break,
            Err(WrapperError::InvalidArg | WrapperError::NotSupported) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(profiles)
}

/// True when a change of MIG mode does not reset the GPU. Ampere does reset; drivers without the field are older
/// than every GPU that does not.
pub(super) fn is_resetless(gpu: &Device<'_>) -> bool {
    let fields = gpu.field_values_for(&[FieldId(NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED)]);
    let value = fields.ok().and_then(|fields| fields.into_iter().next()?.ok()?.value.ok());
    use nvml_wrapper::enums::device::SampleValue;
    matches!(value, Some(SampleValue::U32(1) | SampleValue::U64(1)))
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
