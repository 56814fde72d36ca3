//! One file per mode of the hook, and what they share.

mod create_runtime;
mod ldcache;
mod precreate;
mod runtime;
mod verify;

use crate::{
    Error, HookExit, Result,
    cli::{HookCommand, HookOptions},
    plan::InjectionPlan,
};
use mig_cdi_config::Settings;
use mig_cdi_sys::{Log, LogLevel, read_regular};
use serde::Serialize;
use std::path::{Component, Path, PathBuf};

/// Runs a mode. Returns the text for standard output.
pub(crate) fn run(command: HookCommand) -> Result<String> {
    match command {
        HookCommand::Print(text) => Ok(text),
        HookCommand::Precreate(options) => precreate::run(&options),
        HookCommand::CreateRuntime(options) => create_runtime::run(&options),
        HookCommand::Runtime { options, args } => runtime::run(&options, args),
        HookCommand::Verify(options) => verify::run(&options),
        HookCommand::Ldcache(options) => ldcache::run(&options),
    }
}

/// Reads the settings of the machine; the defaults apply where it has none.
fn settings(options: &HookOptions) -> Result<Settings> {
    const LIMIT: usize = 1 << 20;
    let path = options.config.as_deref().unwrap_or(Path::new(mig_cdi_config::PATH));
    let wrong = |cause: &dyn std::fmt::Display| Error::usage("read", path.display(), cause);
    let text = match read_regular(path, LIMIT) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| wrong(&"not valid utf-8"))?,
        Err(error) if options.config.is_none() && error.is_absent() => String::new(),
        Err(error) => return Err(Error { exit: HookExit::Usage, ..Error::from(error) }),
    };
    Settings::parse(&text).map_err(|cause| wrong(&cause))
}

/// Does the work of a mode for a container, and logs a refusal for the administrator: of the runtimes only runc shows
/// what a hook writes, and only when it fails.
fn logged<T>(log: &Log, mode: &str, id: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    work().inspect_err(|error| log_refusal(log, mode, id, error))
}

fn log_refusal(log: &Log, mode: &str, id: &str, error: &Error) {
    log.line(LogLevel::Error, &format!("{mode}: container {id:?} is refused: {error}"));
}

fn log_injection(log: &Log, mode: &str, id: &str, plan: &InjectionPlan, more: &str) {
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

/// Path of the container's root file system. It comes from the configuration, absolute or below the bundle: runc's
/// state does not hold it, and crun's repeats what the configuration says.
fn container_root(bundle: &Path, root: &str) -> Result<PathBuf> {
    let path = bundle.join(root);
    let is_plain =
        path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // "/" is the host's root, and no container's.
    match is_plain && !root.is_empty() && path.parent().is_some() {
        true => Ok(path),
        false => {
            let cause = format!("root.path {root:?} is not the path of a container's root");
            Err(Error::refused("read the oci configuration", "", cause))
        }
    }
}

/// Output of `--dry-run` in the modes that inject.
fn dry_run_output(mode: &'static str, plan: Option<&InjectionPlan>) -> Result<String> {
    #[derive(Serialize)]
    struct DryRun<'p> {
        #[serde(rename = "door")]
        mode: &'static str,
        plan: Option<&'p InjectionPlan>,
    }
    to_json(&DryRun { mode, plan })
}

fn to_json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|cause| Error::refused("print the plan", "", cause))
}
