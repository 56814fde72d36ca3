//! `mig-cdi watch`.

use super::Done;
use crate::console::Console;
use mig_cdi_args::{NodeArgs, WatchArgs, read_settings};
use mig_cdi_gen::{Error, Exit, watch::run_watch};
use std::path::Path;

pub(super) fn run(
    node: &NodeArgs,
    args: &WatchArgs,
    config: Option<&Path>,
    console: &Console,
) -> Result<Done, Error> {
    let read_setup = || args.setup(node, &read_settings(config, false)?, config);
    run_watch(&args.options(), &read_setup, console, &mut |_| ())?;
    Ok(Done { stdout: String::new(), exit: Exit::Success })
}
