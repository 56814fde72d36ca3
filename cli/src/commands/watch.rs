//! `mig-cdi watch`: keeps the spec current until SIGTERM.

use crate::{command_output::CommandOutput, console::Console};
use mig_cdi_args::{NodeArgs, WatchArgs, read_settings};
use mig_cdi_gen::{Error, watch::run_watch};
use std::path::Path;

pub(super) fn run(
    node: &NodeArgs,
    args: &WatchArgs,
    config: Option<&Path>,
    console: &Console,
) -> Result<CommandOutput, Error> {
    // Read again at each reload (SIGHUP), so that the file is not read here once and for all.
    let read_setup = || args.setup(node, &read_settings(config, false)?, config);
    run_watch(&args.options(), &read_setup, console, &mut |_| ())?;
    Ok(CommandOutput::success(String::new()))
}
