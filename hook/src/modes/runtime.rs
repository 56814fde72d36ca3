//! `runtime`: an OCI runtime that edits the configuration of a new container and becomes the real runtime.
//!
//! Environment, descriptors, working directory, umask and privileges belong to the real runtime and reach it unchanged, so
//! this mode does not isolate itself. It runs nothing before, and reads no path that the environment names.

use super::{
    output::{dry_run_plan, log_given, log_ignored, log_injection, run_logged},
    settings,
};
use crate::{
    cli::HookOptions,
    error::{Error, ROOT_ONLY, Result},
    oci_config::{LIMIT, OciConfig},
    resolve::{Resolution, resolve},
    runtime_args::{self, EngineLog, RuntimeCommand},
};
use mig_cdi_config::Settings;
use mig_cdi_sys::{Bundle, Log, LogLevel, Root, append_line, exec_program, is_executable};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

const MODE: &str = "runtime";

pub(super) fn run(options: &HookOptions, args: Vec<OsString>) -> Result<String> {
    let log = runtime_args::log(&args);
    let done = run_command(options, args);
    if let (Err(error), Some(log)) = (&done, log) {
        report_to_engine(error, &log);
    }
    done
}

/// Writes the error where the engine reads it: containerd and Docker show the last line of their runtime's log, and
/// nothing of its standard error.
fn report_to_engine(error: &Error, log: &EngineLog) {
    let line = match log.is_json {
        // containerd's shim takes the last object with this level (getLastRuntimeError).
        true => serde_json::json!({"level": "error", "msg": error.to_string()}).to_string(),
        false => error.to_string(),
    };
    append_line(&log.path, &line);
}

fn run_command(options: &HookOptions, args: Vec<OsString>) -> Result<String> {
    let settings = settings::read(options)?;
    let command = runtime_args::parse(&args)?;
    // Before the bundle is edited: a container that cannot start keeps its configuration.
    let RealRuntime { path, skipped } = real_runtime(&settings)?;
    if let RuntimeCommand::NewContainer { bundle, id } = command {
        // As runc and crun have it: without --bundle it is the working directory.
        let bundle = bundle.unwrap_or_else(|| PathBuf::from("."));
        // They refuse a command line without an id.
        let id = id.unwrap_or_default();
        let log = Log::open(settings.hook.log.as_deref());
        let resolution =
            run_logged(&log, MODE, &id, || edit_bundle(&bundle, &settings, options.dry_run))?;
        if options.dry_run {
            return dry_run_plan(MODE, &resolution);
        }
        for other in skipped {
            log.line(LogLevel::Info, &format!("{MODE}: container {id:?} is not run by {other}"));
        }
        match resolution {
            Resolution::NoRequest => {}
            Resolution::Ignored(line) => log_ignored(&log, MODE, &id, &line),
            Resolution::Given(devices) => log_given(&log, MODE, &id, &devices),
            Resolution::Plan(plan) => {
                log_injection(&log, MODE, &id, &plan, "");
                // The runtime replaces this program next, and the kernel frees its memory in one piece.
                std::mem::forget(plan);
            }
        }
    }
    if options.dry_run {
        return dry_run_plan(MODE, &Resolution::NoRequest);
    }
    Err(exec_program(path, args).into())
}

/// Writes the plan into the bundle. The configuration of a container that requests nothing is not touched.
fn edit_bundle(bundle: &Path, settings: &Settings, dry_run: bool) -> Result<Resolution> {
    let bundle = Bundle::open(bundle)?;
    let bytes = bundle.read(LIMIT)?;
    let config = OciConfig::parse(&bytes)?;
    let resolution = resolve(&config, settings, None)?;
    if let (Resolution::Plan(plan), false) = (&resolution, dry_run) {
        bundle.replace(config.with(plan)?.as_bytes())?;
    }
    Ok(resolution)
}

/// The runtime to become.
struct RealRuntime<'s> {
    path: &'s Path,
    /// Programs in front of it in the list that others could exchange, each with the reason.
    skipped: Vec<String>,
}

/// Returns the first configured runtime that exists and that no other user could exchange: engines run it as root. Never
/// searches `PATH`, which an engine's user may set.
fn real_runtime(settings: &Settings) -> Result<RealRuntime<'_>> {
    let runtimes = &settings.hook.runtimes;
    let host = Root::open(Path::new("/"))?;
    let mut skipped = Vec::new();
    for path in runtimes.iter().filter(|path| is_executable(path)) {
        match host.untrusted_program(path) {
            None => return Ok(RealRuntime { path, skipped }),
            // Not an error yet: a user who can write to /usr/local/sbin, as Debian's group staff (Debian Policy, 9.1.2), could
            // stop every container by putting a runc there.
            Some(reason) => skipped.push(format!("{}: {reason}", path.display())),
        }
    }
    const OPERATION: &str = "find the real runtime";
    if skipped.is_empty() {
        let paths: Vec<_> = runtimes.iter().map(|path| path.display().to_string()).collect();
        let cause = format!("none of {} is a program", paths.join(", "));
        let cure = format!("list its path in hook.runtimes of {}", settings.file.display());
        return Err(Error::usage(OPERATION, "", cause).with_cure(cure));
    }
    let cause = format!("another user could exchange {}", skipped.join(", and "));
    Err(Error::refused(OPERATION, "", cause).with_cure(ROOT_ONLY))
}
