//! Event sets of the fake driver: `nvmlEventMigConfigChange` for a GPU whose instances have changed in the node
//! description. Like the driver, it sends none for a change of MIG mode, and only to privileged clients.
//! `nvmlEventTypeXidCriticalError` for errors in the file beside the description that ends in `.xids`: a line for
//! each, with the index of the GPU, the number, and the GPU and compute instance or `-`.

use crate::{
    c_abi::{
        Code, GPU_IS_LOST, INVALID_ARGUMENT, NOT_SUPPORTED, OK, Out, UNKNOWN, privileged, put,
    },
    faults::call,
    handles::{Handle, whole_gpu},
    state::{description, fresh},
};
use mig_cdi_sim::{SimulatedGpu, SimulatedInstance};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use nvml_wrapper_sys::bindings::{field_id::NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED, *};
use std::{
    ffi::{c_int, c_uint, c_ulonglong},
    os::fd::AsFd,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

const MIG_CONFIG_CHANGE: c_ulonglong = nvmlEventMigConfigChange as c_ulonglong;
const XID: c_ulonglong = nvmlEventTypeXidCriticalError as c_ulonglong;

/// Event set: registered events, and the last reported state.
struct EventSet {
    inotify: Inotify,
    /// GPUs by index, with their last reported state and the registered event types.
    gpus: Vec<(usize, GpuMigState, c_ulonglong)>,
    /// Number of errors that were reported, or happened before the registration.
    xids: usize,
}

/// Event of a GPU.
struct Event {
    gpu: usize,
    types: c_ulonglong,
    data: c_ulonglong,
    gi: c_uint,
    ci: c_uint,
}

/// MIG mode and instances of a GPU.
type GpuMigState = (bool, Vec<(u32, u32, Vec<(u32, u32)>)>);

fn mig_state(gpu: &SimulatedGpu) -> GpuMigState {
    let compute =
        |gi: &SimulatedInstance| gi.compute.iter().map(|ci| (ci.id, ci.placement.start)).collect();
    let instances = gpu.instances.iter().map(|gi| (gi.id, gi.placement.start, compute(gi)));
    (gpu.is_mig_enabled, instances.collect())
}

/// Event sets by handle, from 1. A freed one leaves its place empty.
static SETS: Mutex<Vec<Option<EventSet>>> = Mutex::new(Vec::new());

/// Returns whether this process has an event set.
pub(crate) fn is_listening() -> bool {
    SETS.lock().is_ok_and(|sets| sets.iter().any(Option::is_some))
}

fn with_set<T>(
    handle: nvmlEventSet_t,
    act: impl FnOnce(&mut EventSet) -> Result<T, Code>,
) -> Result<T, Code> {
    let mut sets = SETS.lock().map_err(|_| UNKNOWN)?;
    let index = (handle as usize).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
    act(sets.get_mut(index).and_then(Option::as_mut).ok_or(INVALID_ARGUMENT)?)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetCreate(set: Out<'_, nvmlEventSet_t>) -> Code {
    let create = || {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        let inotify = inotify.map_err(|_| UNKNOWN)?;
        // The file is replaced by a rename, possibly behind a symlink.
        let path = description()?;
        let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_CLOSE_WRITE;
        let dir = path.parent().unwrap_or(Path::new("/"));
        inotify.add_watch(dir, flags).map_err(|_| UNKNOWN)?;
        let mut sets = SETS.lock().map_err(|_| UNKNOWN)?;
        sets.push(Some(EventSet { inotify, gpus: Vec::new(), xids: xids()?.len() }));
        put(set, sets.len() as nvmlEventSet_t)
    };
    call("nvmlEventSetCreate", create)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> Code {
    let free = || {
        let mut sets = SETS.lock().map_err(|_| UNKNOWN)?;
        let index = (set as usize).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        sets.get_mut(index).and_then(Option::take).map(drop).ok_or(INVALID_ARGUMENT)
    };
    call("nvmlEventSetFree", free)
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetSupportedEventTypes(
    handle: nvmlDevice_t,
    types: Out<'_, c_ulonglong>,
) -> Code {
    call("nvmlDeviceGetSupportedEventTypes", || {
        fresh().and_then(|node| {
            let (_, gpu) = whole_gpu(&node, handle)?;
            put(types, supported(gpu))
        })
    })
}

fn supported(gpu: &SimulatedGpu) -> c_ulonglong {
    XID | if gpu.model.profiles.is_empty() { 0 } else { MIG_CONFIG_CHANGE }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    handle: nvmlDevice_t,
    types: c_ulonglong,
    set: nvmlEventSet_t,
) -> Code {
    call("nvmlDeviceRegisterEvents", || {
        fresh().and_then(|node| {
            let (index, gpu) = whole_gpu(&node, handle)?;
            if types == 0 || types & !supported(gpu) != 0 {
                return Err(NOT_SUPPORTED);
            }
            with_set(set, |set| {
                set.gpus.push((index, mig_state(gpu), types));
                Ok(())
            })
        })
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    data: Out<'_, nvmlEventData_t>,
    timeout: c_uint,
) -> Code {
    let end = Instant::now() + Duration::from_millis(timeout.into());
    let next = || {
        let Event { gpu, types, data: eventData, gi, ci } = with_set(set, |set| {
            loop {
                let event = next_event(set)?;
                let left = end.saturating_duration_since(Instant::now());
                match event {
                    Some(event) => return Ok(event),
                    None if left.is_zero() => return Err(nvmlReturn_enum_NVML_ERROR_TIMEOUT),
                    None => wait(&set.inotify, left)?,
                }
            }
        })?;
        let device = Handle::Gpu(gpu).encode();
        let (eventType, gpuInstanceId, computeInstanceId) = (types, gi, ci);
        put(
            data,
            nvmlEventData_t { device, eventType, eventData, gpuInstanceId, computeInstanceId },
        )
    };
    call("nvmlEventSetWait_v2", next)
}

/// Returns the first GPU whose instances have changed, or that has an error. While the description cannot be read,
/// nothing has changed.
fn next_event(set: &mut EventSet) -> Result<Option<Event>, Code> {
    let Ok(node) = fresh() else { return Ok(None) };
    for (index, old, types) in &mut set.gpus {
        let Some(gpu) = node.gpus.get(*index) else { continue };
        if gpu.is_lost {
            return Err(GPU_IS_LOST);
        }
        let new = mig_state(gpu);
        let has_event = new.1 != old.1 && new.0 == old.0 && privileged().is_ok();
        *old = new;
        if has_event && *types & MIG_CONFIG_CHANGE != 0 {
            let none = c_uint::MAX;
            let types = MIG_CONFIG_CHANGE;
            return Ok(Some(Event { gpu: *index, types, data: 0, gi: none, ci: none }));
        }
    }
    for event in xids()?.into_iter().skip(set.xids) {
        set.xids += 1;
        if set.gpus.iter().any(|(index, _, types)| *index == event.gpu && types & XID != 0) {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// Returns all errors so far.
fn xids() -> Result<Vec<Event>, Code> {
    let mut path = description()?.into_os_string();
    path.push(".xids");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // A line without an end is still being written.
    let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
    let event = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let mut number = || match words.next() {
            Some("-") => Some(u64::from(c_uint::MAX)),
            word => word?.parse::<u64>().ok(),
        };
        let (gpu, data) = (number()? as usize, number()?);
        Some(Event { gpu, types: XID, data, gi: number()? as c_uint, ci: number()? as c_uint })
    };
    whole.lines().map(|line| event(line).ok_or(UNKNOWN)).collect()
}

/// Waits until a file beside the description is written.
fn wait(inotify: &Inotify, limit: Duration) -> Result<(), Code> {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(inotify.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(_) => return Err(UNKNOWN),
    }
    // The state it has is already reported: wait again.
    while inotify.read_events().is_ok() {}
    Ok(())
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetFieldValues(
    handle: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> Code {
    call("nvmlDeviceGetFieldValues", || {
        fresh().and_then(|node| {
            let (_, gpu) = whole_gpu(&node, handle)?;
            let count = usize::try_from(count).map_err(|_| INVALID_ARGUMENT)?;
            if values.is_null() || count == 0 {
                return Err(INVALID_ARGUMENT);
            }
            // SAFETY: nvml.h obliges the caller to give `count` of them, set up, and nobody else has them
            // during the call.
            let values = unsafe { std::slice::from_raw_parts_mut(values, count) };
            for value in values {
                value.valueType = nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT;
                value.nvmlReturn = match value.fieldId {
                    NVML_FI_DEV_IS_RESETLESS_MIG_SUPPORTED => {
                        value.value.uiVal = c_uint::from(gpu.model.is_resetless());
                        OK
                    }
                    _ => NOT_SUPPORTED,
                };
            }
            Ok(())
        })
    })
}
