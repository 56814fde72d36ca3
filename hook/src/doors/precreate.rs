//! podman's filter: a configuration in, the same or one with slices out.

use super::{logged, plan, printed, say_given, settings};
use crate::{
    Failure,
    cli::Options,
    config::{Config, LIMIT},
};
use mig_cdi_sys::{KeepCaps, Log, isolate, read_named};
use std::path::Path;

const DOOR: &str = "precreate";

pub(super) fn run(options: &Options) -> Result<String, Failure> {
    isolate(KeepCaps::None)?;
    let settings = settings(options)?;
    let log = Log::open(settings.hook.log.as_deref());
    logged(&log, DOOR, "", || {
        let bytes = read_named(Path::new("-"), LIMIT)?;
        let config = Config::parse(&bytes)?;
        let plan = plan(&config, &settings)?;
        if options.dry_run {
            return printed(DOOR, plan.as_ref());
        }
        let Some(plan) = plan else {
            return String::from_utf8(bytes)
                .map_err(|_| Failure::refused("read the oci configuration: not valid utf-8"));
        };
        let name = config.variable("HOSTNAME").unwrap_or_default().to_owned();
        let text = config.with(&plan)?;
        say_given(&log, DOOR, &name, &plan, "");
        Ok(text)
    })
}
