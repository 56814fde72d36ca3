//! Waiting for events of the driver, in a process that does nothing else and lives for it.
//!
//! Changes come as `nvmlEventMigConfigChange`, requested of GPUs on which an open NVML client does no harm. Changes
//! of MIG mode, resets and driver unloads raise no event. Errors, on request, come as
//! `nvmlEventTypeXidCriticalError` of every GPU, which keeps every GPU open.

use super::{
    CallError, NvmlError,
    driver_event::{DriverEvent, EventCoverage, Xid},
    error::failed,
    library, raw,
    session::is_resetless,
};
use crate::DriverRoot;
use nvml_wrapper::{
    Device, EventSet, Nvml, bitmasks::event::EventTypes, error::NvmlError as WrapperError,
};
use std::collections::BTreeSet;

/// Longest wait in NVML, in milliseconds; then it waits again.
const WAIT_MS: u32 = 3_600_000;
/// Wait while a GPU is open that others may want to reset: after each, it is checked whether they do.
const CHECK_RESET_MS: u32 = 1_000;

/// Passes events to `on_event` until that returns false. NVML is closed at once when no GPU can send events, and
/// when an open GPU is to be reset for another MIG mode; a new call then skips that GPU.
///
/// # Errors
/// When NVML cannot be started, or no longer answers: a GPU is lost.
pub fn listen(
    root: &DriverRoot,
    errors: bool,
    mut on_event: impl FnMut(DriverEvent) -> bool,
) -> Result<(), NvmlError> {
    let (mut nvml, _) = library::start(root)?;
    let skipped = if errors { pending(&nvml).map_err(NvmlError::Call)? } else { BTreeSet::new() };
    if !skipped.is_empty() {
        // The search has opened them, and NVML closes a GPU only when it is shut down.
        drop(nvml);
        (nvml, _) = library::start(root)?;
    }
    let last = wait_for_events(&nvml, errors, &skipped, &mut on_event)?;
    drop(nvml);
    if let Some(last) = last {
        on_event(last);
    }
    Ok(())
}

/// Returns the event to pass on once NVML is closed.
fn wait_for_events(
    nvml: &Nvml,
    errors: bool,
    skipped: &BTreeSet<u32>,
    on_event: &mut impl FnMut(DriverEvent) -> bool,
) -> Result<Option<DriverEvent>, NvmlError> {
    let skips_gpus = !skipped.is_empty();
    let registered = register(nvml, errors, skipped).map_err(NvmlError::Call)?;
    let Some(Registered { set, changes, errors, blocks_reset }) = registered else {
        return Ok(Some(DriverEvent::NoEvents { skips_gpus }));
    };
    if !on_event(DriverEvent::Listening { changes, errors, skips_gpus }) {
        return Ok(None);
    }
    let limit = if blocks_reset.is_empty() { WAIT_MS } else { CHECK_RESET_MS };
    loop {
        match raw::wait(nvml, &set, limit) {
            Ok(event) => {
                if !on_event(translate(&event)?) {
                    return Ok(None);
                }
            }
            // An interrupt is reported as a timeout too (nvml.h, nvmlEventSetWait_v2).
            Err(WrapperError::Timeout) => {}
            Err(error) => return Err(NvmlError::Call(failed("nvmlEventSetWait_v2", error))),
        }
        if blocks_reset.iter().any(is_pending) {
            return Ok(Some(DriverEvent::MigModePending));
        }
    }
}

fn translate(event: &raw::Event<'_>) -> Result<DriverEvent, NvmlError> {
    if !event.types.contains(EventTypes::CRITICAL_XID_ERROR) {
        return Ok(DriverEvent::MigConfigChange);
    }
    let gpu = event.device.uuid();
    let gpu = gpu.map_err(|e| NvmlError::Call(failed("nvmlDeviceGetUUID", e)))?;
    Ok(DriverEvent::Xid(Xid { gpu, gi: event.gi, ci: event.ci, xid: event.data }))
}

/// The registered events and the GPUs that they cover.
struct Registered<'a> {
    set: EventSet<'a>,
    changes: EventCoverage,
    errors: EventCoverage,
    /// GPUs that are open and that a change of MIG mode resets: an open GPU is not reset.
    blocks_reset: Vec<Device<'a>>,
}

/// Registers the events of every GPU that supports them, except those that are skipped.
fn register<'a>(
    nvml: &'a Nvml,
    errors: bool,
    skipped: &BTreeSet<u32>,
) -> Result<Option<Registered<'a>>, CallError> {
    let count = nvml.device_count().map_err(|e| failed("nvmlDeviceGetCount_v2", e))?;
    let (mut set, mut blocks_reset) = (None, Vec::new());
    let (mut reporting_changes, mut all, mut reporting_errors) = (0, true, 0);
    for index in 0..count {
        // A lost GPU fails here and may come back. This call opens a GPU, and none before it does (nvml.h).
        let device = if skipped.contains(&index) { None } else { nvml.device_by_index(index).ok() };
        let Some(device) = device else {
            all = false;
            continue;
        };
        let (mut types, mode) = (EventTypes::empty(), device.mig_mode());
        match &mode {
            Ok(mode) if mode.current == 1 && can_report_changes(&device) => {
                types |= EventTypes::MIG_CONFIG_CHANGE;
                reporting_changes += 1;
            }
            Err(WrapperError::NotSupported | WrapperError::FailedToLoadSymbol(_)) => {}
            _ => all = false,
        }
        if errors && supports(&device, EventTypes::CRITICAL_XID_ERROR) {
            types |= EventTypes::CRITICAL_XID_ERROR;
            reporting_errors += 1;
        }
        if types.is_empty() {
            continue;
        }
        let old = match set.take() {
            Some(set) => set,
            None => nvml.create_event_set().map_err(|e| failed("nvmlEventSetCreate", e))?,
        };
        let new = device.register_events(types, old);
        set = Some(new.map_err(|e| failed("nvmlDeviceRegisterEvents", e.error))?);
        if errors && mode.is_ok() && !is_resetless(&device) {
            blocks_reset.push(device);
        }
    }
    let changes = coverage(reporting_changes, all);
    let errors = coverage(reporting_errors, reporting_errors == count);
    Ok(set.map(|set| Registered { set, changes, errors, blocks_reset }))
}

fn coverage(reporting: u32, all: bool) -> EventCoverage {
    match reporting {
        0 => EventCoverage::None,
        _ if all => EventCoverage::All,
        _ => EventCoverage::Some,
    }
}

/// Indices of the GPUs that are to be reset for another MIG mode.
fn pending(nvml: &Nvml) -> Result<BTreeSet<u32>, CallError> {
    let count = nvml.device_count().map_err(|e| failed("nvmlDeviceGetCount_v2", e))?;
    let is_waiting = |index: &u32| {
        let device = nvml.device_by_index(*index);
        device.is_ok_and(|device| is_pending(&device) && !is_resetless(&device))
    };
    Ok((0..count).filter(is_waiting).collect())
}

fn is_pending(device: &Device<'_>) -> bool {
    device.mig_mode().is_ok_and(|mode| mode.current != mode.pending)
}

/// True for a GPU whose MIG mode changes without a reset. One that is reset for it, as Ampere's are, is not reset
/// while a client has it open: the change would stay pending for as long as we wait for events.
fn can_report_changes(device: &Device<'_>) -> bool {
    is_resetless(device) && supports(device, EventTypes::MIG_CONFIG_CHANGE)
}

fn supports(device: &Device<'_>, event: EventTypes) -> bool {
    device.supported_event_types().is_ok_and(|types| types.contains(event))
}
