//! `mig-cdi generate`: writes the spec, or removes it.

use crate::{command_output::CommandOutput, console::Console, first_layout};
use mig_cdi_gen::{
    Error, MessageSink, NodeSource,
    generate::{GenerateOptions, GeneratedSpecs, Generator, OnConflict},
};

pub(super) fn run(
    node: &NodeSource,
    options: &GenerateOptions,
    remove: bool,
    console: &Console,
) -> Result<CommandOutput, Error> {
    let generator = Generator::new(node, options, console);
    if remove {
        generator.remove()?;
        return Ok(CommandOutput::success(String::new()));
    }
    // The user is there to resolve a conflict with another tool's file. `watch` has to go on without one.
    let GeneratedSpecs { stdout, plan } = generator.generate(OnConflict::Refuse, || ())?;
    // With --gpus a node without slices is no mistake.
    let has_slices = plan.topology.mig_devices().next().is_some();
    if plan.is_complete() && !has_slices && !options.whole_gpus {
        console.status(&first_layout::advice(node));
    }
    Ok(CommandOutput::complete_if(plan.is_complete(), stdout))
}
