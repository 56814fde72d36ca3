//! Output of the modes besides an OCI configuration: lines of the log, and the JSON of `--dry-run`.

use crate::{
    error::{Error, Result},
    plan::InjectionPlan,
    resolve::Resolution,
};
use mig_cdi_model::printable_json;
use mig_cdi_sys::{Log, LogLevel};
use serde::Serialize;

/// Does the work of a mode for a container, and logs a refusal for the administrator: of the runtimes only runc shows
/// what a hook writes, and only when it fails.
pub(super) fn run_logged<T>(
    log: &Log,
    mode: &str,
    id: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    work().inspect_err(|error| log_refusal(log, mode, id, error))
}

pub(super) fn log_refusal(log: &Log, mode: &str, id: &str, error: &Error) {
    log.line(LogLevel::Error, &format!("{mode}: container {id:?} is refused: {error}"));
}

pub(super) fn log_injection(log: &Log, mode: &str, id: &str, plan: &InjectionPlan, more: &str) {
    let InjectionPlan { devices, nodes, mounts, .. } = plan;
    log.line(
        LogLevel::Info,
        &format!(
            "{mode}: container {id:?} gets {}: {} device nodes, {} files{more}",
            devices.join(","),
            nodes.len(),
            mounts.len()
        ),
    );
}

/// Logs that a container starts without what its variables or annotations name.
pub(super) fn log_ignored(log: &Log, mode: &str, id: &str, line: &str) {
    log.line(LogLevel::Info, &format!("{mode}: container {id:?} starts without a slice: {line}"));
}

/// Logs that a container has what it requests already.
pub(super) fn log_given(log: &Log, mode: &str, id: &str, devices: &str) {
    log.line(
        LogLevel::Info,
        &format!("{mode}: container {id:?} has {devices} already: nothing is added"),
    );
}

/// Output of `--dry-run`: the mode, then the fields of `content`.
pub(super) fn dry_run(mode: &'static str, content: impl Serialize) -> Result<String> {
    #[derive(Serialize)]
    struct DryRun<T> {
        // Public (docs/stability.md): the key is older than the word "mode" for its value.
        #[serde(rename = "door")]
        mode: &'static str,
        #[serde(flatten)]
        content: T,
    }
    let text = serde_json::to_string_pretty(&DryRun { mode, content });
    text.map(|text| printable_json(&text) + "\n")
        .map_err(|cause| Error::refused("print the plan", "", cause))
}

/// Output of `--dry-run` in the modes that inject.
pub(super) fn dry_run_plan(mode: &'static str, resolution: &Resolution) -> Result<String> {
    #[derive(Serialize)]
    struct Content<'p> {
        plan: Option<&'p InjectionPlan>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ignored: Option<&'p str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        given: Option<&'p str>,
    }
    let mut content = Content { plan: None, ignored: None, given: None };
    match resolution {
        Resolution::NoRequest => {}
        Resolution::Ignored(line) => content.ignored = Some(line),
        Resolution::Given(devices) => content.given = Some(devices),
        Resolution::Plan(plan) => content.plan = Some(plan),
    }
    dry_run(mode, content)
}
