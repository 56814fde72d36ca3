//! An OCI runtime that is the real one but for the configuration of new containers.
//!
//! What it hands over must arrive as it came: environment, descriptors, working directory, umask and
//! privileges are the real runtime's, so this door does not clean itself. It runs nothing before, and
//! reads nothing that the environment names.

use super::{logged, plan, printed, say_given, settings};
use crate::{
    Failure,
    cli::Options,
    config::{Config, LIMIT},
    plan::Plan,
    runtime_args::{self, Asked, EngineLog},
};
use mig_cdi_config::Settings;
use mig_cdi_sys::{Bundle, Log, append_line, exec_program, is_executable};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

const DOOR: &str = "runtime";

pub(super) fn run(options: &Options, args: Vec<OsString>) -> Result<String, Failure> {
    let log = runtime_args::log(&args);
    let done = work(options, args);
    if let (Err(failure), Some(log)) = (&done, log) {
        tell_engine(failure, &log);
    }
    done
}

/// containerd and Docker show what a runtime writes there, and nothing of its standard error.
fn tell_engine(failure: &Failure, log: &EngineLog) {
    let line = match log.json {
        true => serde_json::json!({"level": "error", "msg": failure.to_string()}).to_string(),
        false => failure.to_string(),
    };
    append_line(&log.path, &line);
}

fn work(options: &Options, args: Vec<OsString>) -> Result<String, Failure> {
    let settings = settings(options)?;
    let asked = runtime_args::parse(&args).map_err(Failure::usage)?;
    let runtime = real(&settings.hook.runtimes)?;
    if let Asked::NewContainer(bundle) = asked {
        let bundle = bundle.unwrap_or_else(|| PathBuf::from("."));
        let log = Log::open(settings.hook.log.as_deref());
        let plan = logged(&log, DOOR, &bundle.display().to_string(), || {
            change(&bundle, &settings, options.dry_run)
        })?;
        if options.dry_run {
            return printed(DOOR, plan.as_ref());
        }
        if let Some(plan) = plan {
            say_given(&log, DOOR, &bundle.display().to_string(), &plan, "");
        }
    }
    if options.dry_run {
        return printed(DOOR, None);
    }
    Err(exec_program(runtime, args).into())
}

/// Writes the plan into the bundle. A container that asks for nothing has its configuration as it was.
fn change(bundle: &Path, settings: &Settings, dry_run: bool) -> Result<Option<Plan>, Failure> {
    let bundle = Bundle::open(bundle)?;
    let bytes = bundle.read(LIMIT)?;
    let config = Config::parse(&bytes)?;
    let Some(plan) = plan(&config, settings)? else { return Ok(None) };
    if !dry_run {
        bundle.replace(config.with(&plan)?.as_bytes())?;
    }
    Ok(Some(plan))
}

/// By configuration alone: the first that is there.
fn real(runtimes: &[PathBuf]) -> Result<&Path, Failure> {
    let found = runtimes.iter().find(|path| is_executable(path));
    found.map(PathBuf::as_path).ok_or_else(|| {
        let paths: Vec<_> = runtimes.iter().map(|path| path.display().to_string()).collect();
        Failure::usage(format!(
            "find the real runtime: none of {} is a program; name it in hook.runtimes of {}",
            paths.join(", "),
            mig_cdi_config::PATH
        ))
    })
}
