//! `create-runtime`: an OCI hook that injects slices after the runtime has read the configuration.

use super::{
    output::{dry_run_plan, log_given, log_ignored, log_injection, run_logged},
    settings,
};
use crate::{
    cli::HookOptions,
    error::Result,
    inject,
    oci_config::{LIMIT, OciConfig},
    resolve::{Resolution, resolve},
    state::ContainerState,
    unit_rules::unit_rules,
};
use mig_cdi_config::Settings;
use mig_cdi_sys::{Bundle, KeepCaps, Log, isolate};
use std::{io, path::Path};

const MODE: &str = "create-runtime";

pub(super) fn run(options: &HookOptions) -> Result<String> {
    // First of all: a hook inherits three descriptors of runc 1.1.5, and a hook without `env` in its entry an
    // environment that may be the image's (docs/attacks.md, S2 and S12).
    isolate(KeepCaps::Inject)?;
    let settings = settings::read(options)?;
    let log = Log::open(settings.hook.log.as_deref());
    let state = run_logged(&log, MODE, "", || ContainerState::read(io::stdin().lock()))?;
    run_logged(&log, MODE, &state.id, || inject_slices(&state, &settings, &log, options.dry_run))
}

fn inject_slices(
    state: &ContainerState,
    settings: &Settings,
    log: &Log,
    dry_run: bool,
) -> Result<String> {
    let bundle = Path::new(&state.bundle);
    let bytes = Bundle::open(bundle)?.read(LIMIT)?;
    let config = OciConfig::parse(&bytes)?;
    let resolution = resolve(&config, settings, Some(state.pid))?;
    if dry_run {
        return dry_run_plan(MODE, &resolution);
    }
    match resolution {
        Resolution::NoRequest => {}
        Resolution::Ignored(line) => log_ignored(log, MODE, &state.id, &line),
        Resolution::Given(devices) => log_given(log, MODE, &state.id, &devices),
        Resolution::Plan(plan) => {
            let unit_rules = unit_rules(&config, &plan.nodes)?;
            let root = config.root_path(bundle)?;
            inject::inject(&plan, state.pid, &root, config.user, unit_rules.as_deref())?;
            let more = format!("; its variables are in {}", inject::ENVIRONMENT);
            log_injection(log, MODE, &state.id, &plan, &more);
        }
    }
    Ok(String::new())
}
