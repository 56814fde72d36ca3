//! Calls functions of an NVML library for tests: `nvml-call LIBRARY`, then a line for each call on standard input. The
//! answer is a line: the return code, then the output. GPUs are indices, instances are ids. A handle is fetched when it is
//! first needed and kept, so that a test can use one after its instance was destroyed.
#![allow(unsafe_code, non_upper_case_globals)]

use libloading::Library;
use nvml_wrapper_sys::bindings::*;
use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_uint},
    io::{BufRead, Write, stdin, stdout},
    mem::zeroed,
    ptr::null_mut,
};

type Code = nvmlReturn_t;
type Answer = Result<String, Code>;

struct Caller {
    nvml: NvmlLib,
    plain: Library,
    gpu_instances: HashMap<(u32, u32), nvmlGpuInstance_t>,
    compute_instances: HashMap<(u32, u32, u32), nvmlComputeInstance_t>,
}

/// Calls a function with its out parameters at the end, and turns its return code into a result.
macro_rules! call_nvml {
    ($self:ident.$function:ident($($argument:expr),*)) => {
        // SAFETY: the function is of the library, of the type that nvml.h gives it; handles are those that it
        // has returned, or null, and the out parameters are large enough for what nvml.h says it stores.
        match unsafe { $self.nvml.$function($($argument),*) } {
            0 => Ok(()),
            code => Err(code),
        }
    };
}

/// Returns an empty structure of integers and pointers for the library to fill.
macro_rules! empty {
    // SAFETY: all zeroes is a value of each of them.
    () => {
        unsafe { zeroed() }
    };
}

mod compute;

fn main() {
    let library = std::env::args_os().nth(1).expect("nvml-call LIBRARY");
    // SAFETY: a library that a test has built; its initialisers are those of Rust's runtime.
    let (nvml, plain) = unsafe { (NvmlLib::new(&library), Library::new(&library)) };
    let mut caller = Caller {
        nvml: nvml.expect("the library loads"),
        plain: plain.expect("the library loads"),
        gpu_instances: HashMap::new(),
        compute_instances: HashMap::new(),
    };
    for line in stdin().lock().lines() {
        let line = line.expect("a line of UTF-8");
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let words: Vec<_> = words.collect();
        let result = match name {
            "every" => caller.every(&words),
            _ => {
                let numbers: Vec<_> = words.iter().map(|word| word.parse()).collect();
                let numbers: Result<Vec<u32>, _> = numbers.into_iter().collect();
                caller.call(name, &numbers.expect("numbers"))
            }
        };
        let (code, value) = result.map_or_else(|code| (code, String::new()), |value| (0, value));
        let mut out = stdout().lock();
        writeln!(out, "{code} {value}")
            .and_then(|()| out.flush())
            .expect("standard output is read");
    }
}

impl Caller {
    fn call(&mut self, name: &str, n: &[u32]) -> Answer {
        match (name, n) {
            ("init", []) => call_nvml!(self.nvmlInit_v2()).map(|()| String::new()),
            ("shutdown", []) => call_nvml!(self.nvmlShutdown()).map(|()| String::new()),
            ("mode", [gpu]) => self.mode(*gpu),
            ("set-mode", [gpu, mode]) => self.set_mode(*gpu, *mode),
            ("pci", [gpu]) => self.pci(*gpu),
            ("mig", [gpu, index]) => self.mig(*gpu, *index),
            ("processes", [gpu, kind, room]) => {
                let device = self.device(*gpu)?;
                self.processes(device, *kind, *room)
            }
            ("mig-processes", [gpu, index, kind, room]) => {
                let mut mig = null_mut();
                let device = self.device(*gpu)?;
                call_nvml!(self.nvmlDeviceGetMigDeviceHandleByIndex(device, *index, &mut mig))?;
                self.processes(mig, *kind, *room)
            }
            ("profile", [gpu, kind]) => self.profile(*gpu, *kind),
            ("profile", [gpu, kind, version]) => self.profile_version(*gpu, *kind, *version),
            ("places", [gpu, profile]) => self.places(*gpu, *profile),
            ("remaining", [gpu, profile]) => {
                let (device, mut count) = (self.device(*gpu)?, 0);
                call_nvml!(
                    self.nvmlDeviceGetGpuInstanceRemainingCapacity(device, *profile, &mut count)
                )?;
                Ok(count.to_string())
            }
            ("list", [gpu, profile]) => self.list(*gpu, *profile),
            ("info", [gpu, gi]) => self.info(*gpu, *gi),
            ("create", [gpu, profile, place @ ..]) => self.create(*gpu, *profile, place),
            ("destroy", [gpu, gi]) => {
                let instance = self.gpu_instance(*gpu, *gi)?;
                call_nvml!(self.nvmlGpuInstanceDestroy(instance)).map(|()| String::new())
            }
            (name, [gpu, gi, rest @ ..]) => self.call_compute(name, (*gpu, *gi), rest),
            _ => panic!("{name} {n:?} is no call"),
        }
    }

    /// Calls each of these functions with null pointers and zeroes only, and returns their codes.
    fn every(&self, names: &[&str]) -> Answer {
        type Any = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> Code;
        let codes = names.iter().map(|name| {
            // SAFETY: an NVML function takes six arguments at most, each an integer or a pointer; in
            // the calling conventions of x86-64 and AArch64 more than it takes do no harm. An NVML
            // function has to accept null pointers.
            let code = unsafe {
                let function = self.plain.get::<Any>(name.as_bytes()).expect("it is exported");
                function(0, 0, 0, 0, 0, 0)
            };
            code.to_string()
        });
        Ok(codes.collect::<Vec<_>>().join(" "))
    }

    fn device(&self, gpu: u32) -> Result<nvmlDevice_t, Code> {
        let mut device = null_mut();
        call_nvml!(self.nvmlDeviceGetHandleByIndex_v2(gpu, &mut device))?;
        Ok(device)
    }

    fn gpu_instance(&mut self, gpu: u32, gi: u32) -> Result<nvmlGpuInstance_t, Code> {
        if let Some(known) = self.gpu_instances.get(&(gpu, gi)) {
            return Ok(*known);
        }
        let (device, mut instance) = (self.device(gpu)?, null_mut());
        call_nvml!(self.nvmlDeviceGetGpuInstanceById(device, gi, &mut instance))?;
        self.gpu_instances.insert((gpu, gi), instance);
        Ok(instance)
    }

    fn mode(&self, gpu: u32) -> Answer {
        let (device, mut current, mut pending) = (self.device(gpu)?, 0, 0);
        call_nvml!(self.nvmlDeviceGetMigMode(device, &mut current, &mut pending))?;
        Ok(format!("{current} {pending}"))
    }

    fn set_mode(&self, gpu: u32, mode: u32) -> Answer {
        let (device, mut activation) = (self.device(gpu)?, 0);
        call_nvml!(self.nvmlDeviceSetMigMode(device, mode, &mut activation))?;
        Ok(activation.to_string())
    }

    fn pci(&self, gpu: u32) -> Answer {
        let (device, mut info): (_, nvmlPciInfo_t) = (self.device(gpu)?, empty!());
        call_nvml!(self.nvmlDeviceGetPciInfo_v3(device, &mut info))?;
        let (bus_id, subsystem) = (text(&info.busId), info.pciSubSystemId);
        Ok(format!("{:#010X} {subsystem:#010X} {} {bus_id}", info.pciDeviceId, info.bus))
    }

    fn mig(&self, gpu: u32, index: u32) -> Answer {
        let (device, mut mig) = (self.device(gpu)?, null_mut());
        call_nvml!(self.nvmlDeviceGetMigDeviceHandleByIndex(device, index, &mut mig))?;
        let (mut gi, mut ci, mut uuid) = (0, 0, [0; 96]);
        call_nvml!(self.nvmlDeviceGetGpuInstanceId(mig, &mut gi))?;
        call_nvml!(self.nvmlDeviceGetComputeInstanceId(mig, &mut ci))?;
        call_nvml!(self.nvmlDeviceGetUUID(mig, uuid.as_mut_ptr(), 96))?;
        Ok(format!("{gi} {ci} {}", text(&uuid)))
    }

    fn processes(&self, device: nvmlDevice_t, kind: u32, room: u32) -> Answer {
        let mut infos: Vec<nvmlProcessInfo_t> = (0..room).map(|_| empty!()).collect();
        let at = if room == 0 { null_mut() } else { infos.as_mut_ptr() };
        let mut count = room;
        match kind {
            0 => call_nvml!(self.nvmlDeviceGetComputeRunningProcesses_v3(device, &mut count, at)),
            1 => call_nvml!(self.nvmlDeviceGetGraphicsRunningProcesses_v3(device, &mut count, at)),
            _ => {
                call_nvml!(self.nvmlDeviceGetMPSComputeRunningProcesses_v3(device, &mut count, at))
            }
        }
        // nvml.h: with a buffer that is too small, `count` is the required size.
        .or_else(|code| match code {
            nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE if count > room => Ok(()),
            code => Err(code),
        })?;
        if count > room {
            return Ok(format!("{count} needed"));
        }
        let infos = infos.iter().take(count as usize);
        let values = infos.map(|p| {
            format!("{}:{}:{}", p.pid, p.gpuInstanceId as i32, p.computeInstanceId as i32)
        });
        Ok(values.collect::<Vec<_>>().join(" "))
    }

    fn profile(&self, gpu: u32, kind: u32) -> Answer {
        let mut info: nvmlGpuInstanceProfileInfo_t = empty!();
        let device = self.device(gpu)?;
        call_nvml!(self.nvmlDeviceGetGpuInstanceProfileInfo(device, kind, &mut info))?;
        let (id, slices, max) = (info.id, info.sliceCount, info.instanceCount);
        Ok(format!("{id} {slices} {max} {}", info.memorySizeMB))
    }

    fn profile_version(&self, gpu: u32, kind: u32, version: u32) -> Answer {
        let device = self.device(gpu)?;
        let mut info: nvmlGpuInstanceProfileInfo_v3_t = empty!();
        let size = match version {
            2 => size_of::<nvmlGpuInstanceProfileInfo_v2_t>(),
            _ => size_of::<nvmlGpuInstanceProfileInfo_v3_t>(),
        };
        info.version = version << 24 | size as c_uint;
        let at: *mut nvmlGpuInstanceProfileInfo_v3_t = &mut info;
        call_nvml!(self.nvmlDeviceGetGpuInstanceProfileInfoV(device, kind, at.cast()))?;
        if version == 2 {
            // SAFETY: version 3 has the size of version 2 and more, and both are integers only.
            let info = unsafe { &*at.cast::<nvmlGpuInstanceProfileInfo_v2_t>() };
            return Ok(format!("{} {} {}", info.id, info.instanceCount, text(&info.name)));
        }
        let (id, max, name) = (info.id, info.instanceCount, text(&info.name));
        Ok(format!("{id} {max} {name} {}", info.capabilities))
    }

    fn places(&self, gpu: u32, profile: u32) -> Answer {
        let (device, mut count) = (self.device(gpu)?, 0);
        call_nvml!(self.nvmlDeviceGetGpuInstancePossiblePlacements_v2(
            device,
            profile,
            null_mut(),
            &mut count
        ))?;
        let mut places: Vec<nvmlGpuInstancePlacement_t> = (0..count).map(|_| empty!()).collect();
        let at = places.as_mut_ptr();
        call_nvml!(
            self.nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, at, &mut count)
        )?;
        Ok(places.iter().map(|p| format!("{}:{} ", p.start, p.size)).collect())
    }

    fn list(&self, gpu: u32, profile: u32) -> Answer {
        let (device, mut count, mut found) = (self.device(gpu)?, 0, [null_mut(); 16]);
        let at = found.as_mut_ptr();
        call_nvml!(self.nvmlDeviceGetGpuInstances(device, profile, at, &mut count))?;
        let id = |instance: &nvmlGpuInstance_t| {
            let mut info: nvmlGpuInstanceInfo_t = empty!();
            call_nvml!(self.nvmlGpuInstanceGetInfo(*instance, &mut info))
                .map(|()| format!("{} ", info.id))
        };
        found.iter().take(count as usize).map(id).collect()
    }

    fn info(&mut self, gpu: u32, gi: u32) -> Answer {
        let mut info: nvmlGpuInstanceInfo_t = empty!();
        let instance = self.gpu_instance(gpu, gi)?;
        call_nvml!(self.nvmlGpuInstanceGetInfo(instance, &mut info))?;
        let (id, profile, place) = (info.id, info.profileId, info.placement);
        Ok(format!("{id} {profile} {}:{}", place.start, place.size))
    }

    fn create(&mut self, gpu: u32, profile: u32, place: &[u32]) -> Answer {
        let (device, mut instance) = (self.device(gpu)?, null_mut());
        match *place {
            [start, size] => {
                let place = nvmlGpuInstancePlacement_t { start, size };
                call_nvml!(self.nvmlDeviceCreateGpuInstanceWithPlacement(
                    device,
                    profile,
                    &place,
                    &mut instance
                ))?;
            }
            _ => call_nvml!(self.nvmlDeviceCreateGpuInstance(device, profile, &mut instance))?,
        }
        let mut info: nvmlGpuInstanceInfo_t = empty!();
        call_nvml!(self.nvmlGpuInstanceGetInfo(instance, &mut info))?;
        self.gpu_instances.insert((gpu, info.id), instance);
        Ok(info.id.to_string())
    }
}

fn text(bytes: &[c_char]) -> String {
    // SAFETY: the bytes are not none, and NVML ends its texts with a zero within the field.
    unsafe { CStr::from_ptr(bytes.as_ptr()) }.to_string_lossy().into_owned()
}
