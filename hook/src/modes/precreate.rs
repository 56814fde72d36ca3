//! `precreate`: podman's filter, an OCI configuration in and the same with slices out. podman runs it after it has applied
//! CDI (`generateSpec` of libpod), so the output is what the runtime reads.

use super::{
    output::{dry_run_plan, log_given, log_ignored, log_injection, run_logged},
    settings,
};
use crate::{
    cli::HookOptions,
    error::{Error, Result},
    oci_config::{LIMIT, OciConfig},
    resolve::{Resolution, resolve},
};
use mig_cdi_sys::{KeepCaps, Log, isolate, read_named};
use std::path::Path;

const MODE: &str = "precreate";

pub(super) fn run(options: &HookOptions) -> Result<String> {
    isolate(KeepCaps::Search)?;
    let settings = settings::read(options)?;
    let log = Log::open(settings.hook.log.as_deref());
    let read = || read_named(Path::new("-"), LIMIT).map_err(Error::from);
    let bytes = run_logged(&log, MODE, "", read)?;
    let config = run_logged(&log, MODE, "", || OciConfig::parse(&bytes))?;
    // The configuration does not hold the container's name; podman sets HOSTNAME to the start of its id, and an image may set it
    // too.
    let name = config.variable("HOSTNAME").unwrap_or_default().to_owned();
    let edited = run_logged(&log, MODE, &name, || {
        let resolution = resolve(&config, &settings, None)?;
        if options.dry_run {
            return dry_run_plan(MODE, &resolution).map(Some);
        }
        let plan = match resolution {
            Resolution::Plan(plan) => plan,
            Resolution::NoRequest => return Ok(None),
            Resolution::Ignored(line) => {
                log_ignored(&log, MODE, &name, &line);
                return Ok(None);
            }
            Resolution::Given(devices) => {
                log_given(&log, MODE, &name, &devices);
                return Ok(None);
            }
        };
        let text = config.with(&plan)?;
        log_injection(&log, MODE, &name, &plan, "");
        // The process ends next, and the kernel frees its memory in one piece. Otherwise thousands of strings are freed one by
        // one, and musl's allocator unmaps a page in 20 of the 190 system calls.
        std::mem::forget(plan);
        Ok(Some(text))
    })?;
    // Unchanged, and not an empty output, which podman reads as broken JSON.
    edited
        .map_or_else(|| String::from_utf8(bytes), Ok)
        .map_err(|_| Error::refused("read the oci configuration", "", "not valid utf-8"))
}
