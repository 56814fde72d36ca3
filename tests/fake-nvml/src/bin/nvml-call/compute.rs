//! The calls about compute instances.

use super::{Answer, Caller, Code, text};
use nvml_wrapper_sys::bindings::*;
use std::{ffi::c_uint, mem::zeroed, ptr::null_mut};

impl Caller {
    pub(crate) fn call_compute(&mut self, verb: &str, at: (u32, u32), n: &[u32]) -> Answer {
        match (verb, n) {
            ("ci-profile", [kind, engines]) => self.compute_profile(at, *kind, *engines),
            ("ci-profile", [kind, engines, version]) => {
                self.compute_profile_version(at, *kind, *engines, *version)
            }
            ("ci-places", [profile]) => self.compute_places(at, *profile),
            ("ci-remaining", [profile]) => {
                let (instance, mut count) = (self.gpu_instance(at.0, at.1)?, 0);
                call_nvml!(self.nvmlGpuInstanceGetComputeInstanceRemainingCapacity(
                    instance, *profile, &mut count
                ))?;
                Ok(count.to_string())
            }
            ("ci-list", [profile]) => self.compute_list(at, *profile),
            ("ci-info", [ci]) => self.compute_info(at, *ci),
            ("ci-create", [profile, place @ ..]) => self.create_compute(at, *profile, place),
            ("ci-destroy", [ci]) => {
                let instance = self.compute_instance(at, *ci)?;
                call_nvml!(self.nvmlComputeInstanceDestroy(instance)).map(|()| String::new())
            }
            _ => panic!("{verb} {n:?} is no call"),
        }
    }

    fn compute_instance(&mut self, at: (u32, u32), ci: u32) -> Result<nvmlComputeInstance_t, Code> {
        if let Some(known) = self.compute_instances.get(&(at.0, at.1, ci)) {
            return Ok(*known);
        }
        let (gpu_instance, mut instance) = (self.gpu_instance(at.0, at.1)?, null_mut());
        call_nvml!(self.nvmlGpuInstanceGetComputeInstanceById(gpu_instance, ci, &mut instance))?;
        self.compute_instances.insert((at.0, at.1, ci), instance);
        Ok(instance)
    }

    fn compute_profile(&mut self, at: (u32, u32), kind: u32, engines: u32) -> Answer {
        let mut info: nvmlComputeInstanceProfileInfo_t = empty!();
        let instance = self.gpu_instance(at.0, at.1)?;
        call_nvml!(
            self.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, kind, engines, &mut info)
        )?;
        Ok(format!("{} {} {}", info.id, info.sliceCount, info.instanceCount))
    }

    fn compute_profile_version(
        &mut self,
        at: (u32, u32),
        kind: u32,
        engines: u32,
        version: u32,
    ) -> Answer {
        let instance = self.gpu_instance(at.0, at.1)?;
        let mut info: nvmlComputeInstanceProfileInfo_v3_t = empty!();
        let size = match version {
            2 => size_of::<nvmlComputeInstanceProfileInfo_v2_t>(),
            _ => size_of::<nvmlComputeInstanceProfileInfo_v3_t>(),
        };
        info.version = version << 24 | size as c_uint;
        let into: *mut nvmlComputeInstanceProfileInfo_v3_t = &mut info;
        call_nvml!(self.nvmlGpuInstanceGetComputeInstanceProfileInfoV(
            instance,
            kind,
            engines,
            into.cast()
        ))?;
        // Version 3 is version 2 with one field more at the end.
        Ok(format!("{} {} {}", info.id, info.sliceCount, text(&info.name)))
    }

    fn compute_places(&mut self, at: (u32, u32), profile: u32) -> Answer {
        let (instance, mut count) = (self.gpu_instance(at.0, at.1)?, 0);
        call_nvml!(self.nvmlGpuInstanceGetComputeInstancePossiblePlacements(
            instance,
            profile,
            null_mut(),
            &mut count
        ))?;
        let mut places: Vec<nvmlComputeInstancePlacement_t> =
            (0..count).map(|_| empty!()).collect();
        let into = places.as_mut_ptr();
        call_nvml!(self.nvmlGpuInstanceGetComputeInstancePossiblePlacements(
            instance, profile, into, &mut count
        ))?;
        Ok(places.iter().map(|p| format!("{}:{} ", p.start, p.size)).collect())
    }

    fn compute_list(&mut self, at: (u32, u32), profile: u32) -> Answer {
        let mut found = [null_mut(); 16];
        let (instance, mut count, into) = (self.gpu_instance(at.0, at.1)?, 0, found.as_mut_ptr());
        call_nvml!(self.nvmlGpuInstanceGetComputeInstances(instance, profile, into, &mut count))?;
        let id = |instance: &nvmlComputeInstance_t| {
            let mut info: nvmlComputeInstanceInfo_t = empty!();
            let asked = call_nvml!(self.nvmlComputeInstanceGetInfo_v2(*instance, &mut info));
            asked.map(|()| format!("{} ", info.id))
        };
        found.iter().take(count as usize).map(id).collect()
    }

    fn compute_info(&mut self, at: (u32, u32), ci: u32) -> Answer {
        let mut info: nvmlComputeInstanceInfo_t = empty!();
        let instance = self.compute_instance(at, ci)?;
        call_nvml!(self.nvmlComputeInstanceGetInfo_v2(instance, &mut info))?;
        let (id, profile, place) = (info.id, info.profileId, info.placement);
        Ok(format!("{id} {profile} {}:{}", place.start, place.size))
    }

    fn create_compute(&mut self, at: (u32, u32), profile: u32, place: &[u32]) -> Answer {
        let (gi, mut instance) = (self.gpu_instance(at.0, at.1)?, null_mut());
        match *place {
            [start, size] => {
                let place = nvmlComputeInstancePlacement_t { start, size };
                call_nvml!(self.nvmlGpuInstanceCreateComputeInstanceWithPlacement(
                    gi,
                    profile,
                    &place,
                    &mut instance
                ))?;
            }
            _ => call_nvml!(self.nvmlGpuInstanceCreateComputeInstance(gi, profile, &mut instance))?,
        }
        let mut info: nvmlComputeInstanceInfo_t = empty!();
        call_nvml!(self.nvmlComputeInstanceGetInfo_v2(instance, &mut info))?;
        self.compute_instances.insert((at.0, at.1, info.id), instance);
        Ok(info.id.to_string())
    }
}
