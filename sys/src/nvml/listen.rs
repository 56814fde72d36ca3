//! Waiting for `nvmlEventMigConfigChange`, for as long as this process lives: it is one of its own.

use super::{CallError, Failure, Heard, divide::is_resetless, failed, library};
use crate::DriverRoot;
use nvml_wrapper::{Device, EventSet, Nvml, bitmasks::event::EventTypes, error::NvmlError};

/// So long waits NVML at most; then it waits again.
const WAIT_MS: u32 = 3_600_000;

/// Says what is heard until `say` is false. NVML is closed at once when no GPU can be listened to.
///
/// # Errors
/// When NVML cannot be started, or no longer answers: a GPU is lost.
pub fn listen(root: &DriverRoot, mut say: impl FnMut(Heard) -> bool) -> Result<(), Failure> {
    let (nvml, _) = library::start(root)?;
    let Some((set, all)) = register(&nvml).map_err(Failure::Call)? else {
        drop(nvml);
        say(Heard::Nothing);
        return Ok(());
    };
    if !say(Heard::Listening { all }) {
        return Ok(());
    }
    loop {
        match set.wait(WAIT_MS) {
            Ok(_) => {
                if !say(Heard::Change) {
                    return Ok(());
                }
            }
            // An interrupt is one too (nvml.h, nvmlEventSetWait_v2).
            Err(NvmlError::Timeout) => {}
            Err(error) => return Err(Failure::Call(failed("nvmlEventSetWait_v2", &error))),
        }
    }
}

/// The event of every GPU that it can be had from without harm, and whether those are all that can be
/// divided.
fn register(nvml: &Nvml) -> Result<Option<(EventSet<'_>, bool)>, CallError> {
    let ask = |call, error: NvmlError| failed(call, &error);
    let count = nvml.device_count().map_err(|e| ask("nvmlDeviceGetCount_v2", e))?;
    let (mut set, mut all) = (None, true);
    for index in 0..count {
        // One that is lost may come back.
        let Ok(device) = nvml.device_by_index(index) else {
            all = false;
            continue;
        };
        match device.mig_mode() {
            Ok(mode) if mode.current == 1 && tells(&device) => {
                let old = match set.take() {
                    Some(set) => set,
                    None => nvml.create_event_set().map_err(|e| ask("nvmlEventSetCreate", e))?,
                };
                let new = device.register_events(EventTypes::MIG_CONFIG_CHANGE, old);
                set = Some(new.map_err(|e| ask("nvmlDeviceRegisterEvents", e.error))?);
            }
            Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => {}
            _ => all = false,
        }
    }
    Ok(set.map(|set| (set, all)))
}

/// A GPU that is reset for a change of MIG mode, as Ampere's are, is not reset while a client has it open:
/// the change would be pending for as long as we listen.
fn tells(device: &Device<'_>) -> bool {
    let supported = || device.supported_event_types();
    is_resetless(device)
        && supported().is_ok_and(|types| types.contains(EventTypes::MIG_CONFIG_CHANGE))
}
