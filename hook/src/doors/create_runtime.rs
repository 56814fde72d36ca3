//! An OCI hook that gives a container its slices after the runtime has read its configuration.

use super::{logged, plan, printed, root, say_given, settings};
use crate::{
    Failure,
    cli::Options,
    config::{Config, LIMIT},
    inject,
    state::State,
};
use mig_cdi_config::Settings;
use mig_cdi_sys::{Bundle, KeepCaps, Log, isolate};
use std::{io, path::Path};

const DOOR: &str = "create-runtime";

pub(super) fn run(options: &Options) -> Result<String, Failure> {
    isolate(KeepCaps::Inject)?;
    let settings = settings(options)?;
    let log = Log::open(settings.hook.log.as_deref());
    let state = logged(&log, DOOR, "", || State::read(io::stdin().lock()))?;
    logged(&log, DOOR, &state.id, || work(&state, &settings, &log, options.dry_run))
}

fn work(state: &State, settings: &Settings, log: &Log, dry_run: bool) -> Result<String, Failure> {
    let bundle = Path::new(&state.bundle);
    let bytes = Bundle::open(bundle)?.read(LIMIT)?;
    let config = Config::parse(&bytes)?;
    let plan = plan(&config, settings)?;
    if dry_run {
        return printed(DOOR, plan.as_ref());
    }
    if let Some(plan) = plan {
        inject::inject(&plan, state.pid, &root(bundle, &config.root)?, config.user)?;
        say_given(
            log,
            DOOR,
            &state.id,
            &plan,
            &format!("; its variables are in {}", inject::ENVIRONMENT),
        );
    }
    Ok(String::new())
}
