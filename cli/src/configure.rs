//! Changes to the configuration of an engine, so that it reads our CDI specs. Each engine has a module that knows
//! its files. All changes are drafted before anything is written, so that a bad file is found before the first
//! write. Starts, stops and restarts no engine.

mod apply;
mod config_edit;
mod config_format;
mod containerd;
mod crio;
mod distributions;
mod docker;
mod draft;
mod in_effect;
mod json;
mod podman;
mod request;
mod running;
mod runtime;
mod toml;

pub(crate) use apply::{Record, UndoPreview, lock, record_path, write};
pub(crate) use config_edit::EditError;
pub(crate) use config_format::{ConfigFormat, parse};
pub(crate) use draft::{ConfigPlan, Draft, EngineDaemon, LIMIT};
pub(crate) use request::ConfigureRequest;
pub(crate) use running::{
    DaemonState, RunningDaemons, UnclearDaemon, daemon_state, find_engine, is_running,
    running_daemons,
};

use crate::cli::EngineArg;
use mig_cdi_gen::Error;

/// Drafts the files of an engine.
///
/// # Errors
/// When a file cannot be read, does not parse or cannot be edited, and when the engine has no CDI and only that was requested.
pub(crate) fn plan(request: &ConfigureRequest<'_>) -> Result<ConfigPlan, Error> {
    let mut plan = match request.engine_kind {
        EngineArg::Podman => podman::plan(request),
        EngineArg::Containerd => containerd::plan(request),
        EngineArg::Crio => crio::plan(request),
        EngineArg::Docker => docker::plan(request),
    }?;
    if !request.engine.has_cdi {
        plan.notes.push(format!(
            "{} has no cdi support: containers get slices from mig-cdi-runtime or mig-cdi-hook, not by --device",
            request.engine.label()
        ));
    }
    if request.engine.has_cdi {
        plan.warnings.extend(request.hidden_dirs());
        plan.notes.extend(request.late_dirs());
    }
    if let Some(major) = request.engine.untested_major() {
        plan.warnings.push(format!(
            "{} {major} is newer than any tested version: it is configured as the newest known one",
            request.engine.name
        ));
    }
    Ok(plan)
}
