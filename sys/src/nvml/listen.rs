//! Waiting for what the driver tells by itself, for as long as this process lives: it is one of its own.
//!
//! Of changes, `nvmlEventMigConfigChange`, where that does no harm. Of errors, when they are asked for,
//! `nvmlEventTypeXidCriticalError` of every GPU: to hear them is to have the GPU open.

use super::{CallError, Failure, Heard, Share, Xid, divide::is_resetless, failed, library, raw};
use crate::DriverRoot;
use nvml_wrapper::{Device, EventSet, Nvml, bitmasks::event::EventTypes, error::NvmlError};
use std::collections::BTreeSet;

/// So long waits NVML at most; then it waits again.
const WAIT_MS: u32 = 3_600_000;
/// While a GPU is open that others may want to reset: so often it is seen whether they do.
const LOOK_MS: u32 = 1_000;

/// Says what is heard until `say` is false. NVML is closed at once when no GPU can be listened to, and when
/// one that we have open is to be reset for another MIG mode: to listen again is to leave that GPU alone.
///
/// # Errors
/// When NVML cannot be started, or no longer answers: a GPU is lost.
pub fn listen(
    root: &DriverRoot,
    errors: bool,
    mut say: impl FnMut(Heard) -> bool,
) -> Result<(), Failure> {
    let (mut nvml, _) = library::start(root)?;
    let spared = if errors { pending(&nvml).map_err(Failure::Call)? } else { BTreeSet::new() };
    if !spared.is_empty() {
        // To have looked at them is to have them open.
        drop(nvml);
        (nvml, _) = library::start(root)?;
    }
    let last = hear(&nvml, errors, &spared, &mut say)?;
    drop(nvml);
    if let Some(last) = last {
        say(last);
    }
    Ok(())
}

/// Gives what is to be said once NVML is closed.
fn hear(
    nvml: &Nvml,
    errors: bool,
    spared: &BTreeSet<u32>,
    say: &mut impl FnMut(Heard) -> bool,
) -> Result<Option<Heard>, Failure> {
    let spares = !spared.is_empty();
    let registered = register(nvml, errors, spared).map_err(Failure::Call)?;
    let Some(Registered { set, changes, errors, in_the_way }) = registered else {
        return Ok(Some(Heard::Nothing { spares }));
    };
    if !say(Heard::Listening { changes, errors, spares }) {
        return Ok(None);
    }
    let limit = if in_the_way.is_empty() { WAIT_MS } else { LOOK_MS };
    loop {
        match raw::wait(nvml, &set, limit) {
            Ok(event) => {
                if !say(heard(&event)?) {
                    return Ok(None);
                }
            }
            // An interrupt is one too (nvml.h, nvmlEventSetWait_v2).
            Err(NvmlError::Timeout) => {}
            Err(error) => return Err(Failure::Call(failed("nvmlEventSetWait_v2", &error))),
        }
        if in_the_way.iter().any(is_pending) {
            return Ok(Some(Heard::Pending));
        }
    }
}

fn heard(event: &raw::Event<'_>) -> Result<Heard, Failure> {
    if !event.types.contains(EventTypes::CRITICAL_XID_ERROR) {
        return Ok(Heard::Change);
    }
    let gpu = event.device.uuid();
    let gpu = gpu.map_err(|e| Failure::Call(failed("nvmlDeviceGetUUID", &e)))?;
    Ok(Heard::Xid(Xid { gpu, gi: event.gi, ci: event.ci, xid: event.data }))
}

/// What is listened to.
struct Registered<'a> {
    set: EventSet<'a>,
    changes: Share,
    errors: Share,
    /// GPUs that are open, and that a change of MIG mode resets.
    in_the_way: Vec<Device<'a>>,
}

/// The events of every GPU that they can be had from, but for those that are spared.
fn register<'a>(
    nvml: &'a Nvml,
    errors: bool,
    spared: &BTreeSet<u32>,
) -> Result<Option<Registered<'a>>, CallError> {
    let ask = |call, error: NvmlError| failed(call, &error);
    let count = nvml.device_count().map_err(|e| ask("nvmlDeviceGetCount_v2", e))?;
    let (mut set, mut in_the_way) = (None, Vec::new());
    let (mut told, mut all, mut erring) = (0, true, 0);
    for index in 0..count {
        // One that is lost may come back. A GPU is opened by this call, and by none before it (nvml.h).
        let device = if spared.contains(&index) { None } else { nvml.device_by_index(index).ok() };
        let Some(device) = device else {
            all = false;
            continue;
        };
        let (mut types, mode) = (EventTypes::empty(), device.mig_mode());
        match &mode {
            Ok(mode) if mode.current == 1 && tells(&device) => {
                types |= EventTypes::MIG_CONFIG_CHANGE;
                told += 1;
            }
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => {}
            _ => all = false,
        }
        if errors && supports(&device, EventTypes::CRITICAL_XID_ERROR) {
            types |= EventTypes::CRITICAL_XID_ERROR;
            erring += 1;
        }
        if types.is_empty() {
            continue;
        }
        let old = match set.take() {
            Some(set) => set,
            None => nvml.create_event_set().map_err(|e| ask("nvmlEventSetCreate", e))?,
        };
        let new = device.register_events(types, old);
        set = Some(new.map_err(|e| ask("nvmlDeviceRegisterEvents", e.error))?);
        if errors && mode.is_ok() && !is_resetless(&device) {
            in_the_way.push(device);
        }
    }
    let share = |some: u32, all: bool| match some {
        0 => Share::None,
        _ if all => Share::All,
        _ => Share::Some,
    };
    let (changes, errors) = (share(told, all), share(erring, erring == count));
    Ok(set.map(|set| Registered { set, changes, errors, in_the_way }))
}

/// GPUs, by index, that are to be reset for another MIG mode.
fn pending(nvml: &Nvml) -> Result<BTreeSet<u32>, CallError> {
    let count = nvml.device_count().map_err(|e| failed("nvmlDeviceGetCount_v2", &e))?;
    let pends = |index: &u32| {
        let device = nvml.device_by_index(*index);
        device.is_ok_and(|device| is_pending(&device) && !is_resetless(&device))
    };
    Ok((0..count).filter(pends).collect())
}

fn is_pending(device: &Device<'_>) -> bool {
    device.mig_mode().is_ok_and(|mode| mode.current != mode.pending)
}

/// A GPU that is reset for a change of MIG mode, as Ampere's are, is not reset while a client has it open:
/// the change would be pending for as long as we listen.
fn tells(device: &Device<'_>) -> bool {
    is_resetless(device) && supports(device, EventTypes::MIG_CONFIG_CHANGE)
}

fn supports(device: &Device<'_>, event: EventTypes) -> bool {
    device.supported_event_types().is_ok_and(|types| types.contains(event))
}
