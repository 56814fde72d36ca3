//! One file per door, and what they share.

mod create_runtime;
mod ldcache;
mod precreate;
mod runtime;
mod verify;

use crate::{
    Failure,
    cli::{Command, Options},
    config::Config,
    plan::Plan,
    resolve,
};
use mig_cdi_config::Settings;
use mig_cdi_sys::{Log, LogLevel, read_regular};
use serde::Serialize;
use std::path::{Component, Path, PathBuf};

/// Does what the command line asks. Gives what is for standard output.
pub(crate) fn run(command: Command) -> Result<String, Failure> {
    match command {
        Command::Print(text) => Ok(text),
        Command::Precreate(options) => precreate::run(&options),
        Command::CreateRuntime(options) => create_runtime::run(&options),
        Command::Runtime { options, args } => runtime::run(&options, args),
        Command::Verify(options) => verify::run(&options),
        Command::Ldcache(options) => ldcache::run(&options),
    }
}

/// The settings of the machine.
fn settings(options: &Options) -> Result<Settings, Failure> {
    const LIMIT: usize = 1 << 20;
    let path = options.config.as_deref().unwrap_or(Path::new(mig_cdi_config::PATH));
    let text = match read_regular(path, LIMIT) {
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|_| Failure::usage(format!("read {}: not valid utf-8", path.display())))?,
        Err(error) if options.config.is_none() && error.is_absent() => String::new(),
        Err(error) => return Err(Failure::usage(error.to_string())),
    };
    Settings::parse(&text).map_err(|e| Failure::usage(format!("read {}: {e}", path.display())))
}

/// Does something for a container, and keeps a line of what came of it for the administrator: of the
/// runtimes only runc shows what a hook says, and only when it fails.
fn logged<T>(
    log: &Log,
    door: &str,
    id: &str,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let done = work();
    if let Err(failure) = &done {
        log.line(LogLevel::Error, &format!("{door}: container {id:?} is refused: {failure}"));
    }
    done
}

fn say_given(log: &Log, door: &str, id: &str, plan: &Plan, more: &str) {
    let Plan { devices, nodes, mounts, .. } = plan;
    log.line(
        LogLevel::Info,
        &format!(
            "{door}: container {id:?} is given {}: {} device nodes, {} files{more}",
            devices.join(","),
            nodes.len(),
            mounts.len()
        ),
    );
}

/// The plan for a container of this configuration, if it asks for something.
fn plan(config: &Config<'_>, settings: &Settings) -> Result<Option<Plan>, Failure> {
    resolve::plan(config, settings)
}

/// The root of the container: absolute, or below the bundle. The state of runc does not say it, that of
/// crun as the configuration does.
fn root(bundle: &Path, root: &str) -> Result<PathBuf, Failure> {
    let path = bundle.join(root);
    let plain =
        path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    match plain && !root.is_empty() && path.parent().is_some() {
        true => Ok(path),
        false => Err(Failure::refused(format!(
            "read the oci configuration: root.path {root:?} is no path of a container's root"
        ))),
    }
}

/// What `--dry-run` prints.
fn printed(door: &str, plan: Option<&Plan>) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Print<'p> {
        door: &'p str,
        plan: Option<&'p Plan>,
    }
    json(&Print { door, plan })
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    text.map(|text| text + "\n").map_err(|e| Failure::refused(format!("print the plan: {e}")))
}
