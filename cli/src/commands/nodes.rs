//! `mig-cdi nodes`: creates and repairs the device nodes of the host.

use crate::{
    cli::NodesArgs,
    command_output::{CommandOutput, to_json},
    console::Console,
};
use mig_cdi_gen::{
    Error, MessageSink, NodeSource,
    device_nodes::{self, NodesMode},
};

pub(super) fn run(
    node: &NodeSource,
    args: &NodesArgs,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let mode = NodesMode { prune: args.prune, dry_run: args.dry_run };
    let changes = device_nodes::apply(node, mode, console).map_err(offer_dry_run)?;
    if changes.changes.is_empty() && changes.problems.is_empty() {
        console.status("nothing to change: all device nodes are correct");
    }
    let stdout = match args.json {
        true => to_json(&changes)?,
        false => {
            let would = if args.dry_run { "would " } else { "" };
            changes.changes.iter().map(|change| format!("{would}{change}\n")).collect()
        }
    };
    Ok(CommandOutput { stdout, exit: changes.exit })
}

/// Adds the flag that needs no root, which is of this command alone, to the cure.
fn offer_dry_run(error: Error) -> Error {
    match error.cure.as_deref() {
        Some("run it as root") => error.with_cure("run it as root, or with --dry-run"),
        _ => error,
    }
}
